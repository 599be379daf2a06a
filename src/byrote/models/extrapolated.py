"""A fine-tune drawn further than it was tuned: from its base through it, `extrapolated:TUNED?base=BASE&weight=3`.

Wu, Zhang and Wu 2025, "Leveraging Model Guidance to Extract Training Data from Personalized Diffusion Models"
(FineXtract, ICML 2025, arXiv:2410.03039): fine-tuning moves a model towards its few pictures, so what lies further in
that direction is nearer to them. With the eps of the tuned model for the prompt, and of the base without it,

    eps = base + weight (tuned - base) + correction base

TUNED and BASE are paths or names of the hub (`diffusers:` is meant), or whole URIs, in which ? is written %3F and
& %26. `[model] lora` and `embeddings` lie over TUNED alone, so a LoRA is audited as `extrapolated:BASE?base=BASE`.

    weight=3              1 is the tuned model by itself; the authors' code takes 3 for DreamBooth and 5 for LoRAs
    correction=0          of the caption's own pull, which is in the difference too; theirs are -.02 and 0
    asked=nothing         what the base hears: nothing, as above, or the prompt, where the model hears it
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from math import ceil
from pathlib import Path
from urllib.parse import unquote

import numpy as np

from byrote.domain import RGB
from byrote.errors import ModelError
from byrote.kernels import predictions
from byrote.kernels.screening import LEAST_ALPHA
from byrote.models import How, Model, Options, Request, encodable, inner, restepped, settings
from byrote.models.denoiser import Denoiser, Floats, Level, Prediction, guided
from byrote.models.digests import together
from byrote.models.memory import short

SETTINGS = {
    "base": "the model that was tuned: a path, a name of the hub, or a URI with %3F for ? and %26 for &",
    "weight": "how far: 1 is the tuned model by itself (default 3)",
    "correction": "how much of the base's own prediction is added (default 0)",
    "asked": "what the base hears: nothing (default) or prompt",
}
WEIGHT = "3"
FURTHEST = 100
APART = 0.01
"""Relative RMS by which two encodings of a picture may differ that are of one space; ours."""


class Extrapolated:
    """The model that two make; one call of `generate` is one batch.

    Each is asked with the guidance of the plan, and without any where the plan has none: the weight is guidance
    already. Drawn by DDIM; with weight 1 samples are those of the tuned model by that sampler. Raises ModelError, in
    the constructor for what can be told without weights, else where the two do not fit.
    """

    how = How(
        "a fine-tune, drawn further from its base (FineXtract)",
        "extrapolated:path/to/tuned?base=path/to/base&weight=3",
        SETTINGS,
        "diffusers",
        ("torch", "diffusers", "transformers"),
    )

    def __init__(self, path: str, options: Options, relative_to: Path) -> None:
        place, given = settings(path, SETTINGS)
        self._uri, self._options, self._relative_to = f"extrapolated:{path}", options, relative_to
        inner.check(self._uri, options)
        if not place or not given.get("base"):
            raise ModelError(f"model {self._uri!r}: write extrapolated:TUNED?base=BASE")
        self._weight = inner.number(self._uri, "weight", given.get("weight", WEIGHT), 1, FURTHEST)
        self._correction = inner.number(self._uri, "correction", given.get("correction", "0"), -1, 1)
        self._tuned_uri = inner.named(unquote(place))
        bare = replace(options, lora=(), embeddings=())
        tuned = inner.opened(self._tuned_uri, options, relative_to)
        base = inner.opened(inner.named(given["base"]), bare, relative_to)
        if tuned.takes_text != base.takes_text:
            raise ModelError(f"model {self._uri!r}: only one of the two takes text: name the base that was tuned")
        self._pair = _Pair(self._uri, tuned, base)
        self.name = f"{tuned.name}, extrapolated"
        self.takes_text = tuned.takes_text
        self.takes_labels = bool(getattr(tuned, "takes_labels", False))
        self._asked = _asked(self._uri, given.get("asked", "nothing")) or self.takes_labels
        self.tolerance = min(255, ceil(tuned.tolerance * (2 * self._weight - 1)))  # what both are off by is scaled

    @property
    def weights(self) -> list[Path]:
        """Return the files with the weights of both."""
        return [file for model in (self._pair.tuned, self._pair.base) for file in getattr(model, "weights", ())]

    @property
    def digest(self) -> str:
        """Digest both models, what lies over the tuned one, and how they are put together."""
        how = {"weight": repr(self._weight), "correction": repr(self._correction), "asked": str(self._asked)}
        return together({"tuned": self._pair.tuned.digest, "base": self._pair.base.digest} | how)

    @cached_property
    def evaluations_per_sample(self) -> int:
        """Count the denoisers' evaluations: those of the tuned model, guided or not, and of the base."""
        steps, each = inner.calls(self._tuned_uri, self._options, self._relative_to, self._pair.tuned)
        return steps * (each + (each if self._asked else 1))

    def generate(self, requests: Sequence[Request]) -> list[RGB]:
        """Return one image for each request, as one batch."""
        if not requests:
            return []
        if not self.takes_text and any(request.prompt is not None for request in requests):
            raise ModelError(f"model {self._uri!r} takes no prompt: ask it for samples without one")
        tuned, base = self._pair.denoisers
        scale = 1.0 if self._options.guidance is None else tuned.guidance
        prompts = [None if request.prompt is None else encodable(request.prompt) for request in requests]
        nothing = [None] * len(prompts)

        def told(x: Floats, level: Level) -> Prediction:
            end = guided(tuned, x, level, prompts, scale)
            start = guided(base, x, level, prompts, scale) if self._asked else base.predict(x, level, nothing)
            return extrapolated(start, end, level, self._weight, self._correction)

        with short(self._uri, len(requests)):
            levels = tuned.levels(self._options.steps)
            return tuned.decode(inner.drawn(tuned, levels, [request.seed for request in requests], told))

    def round_trip(self, images: Sequence[RGB]) -> list[RGB] | None:
        """Return the images after the tuned model's autoencoder, or None where it has none."""
        return self._pair.tuned.round_trip(images)

    def stepped(self, steps: int) -> "Extrapolated":
        """Return the same two, their weights held once, drawn in another number of steps."""
        return restepped(self, steps)


def extrapolated(
    base: Prediction, tuned: Prediction, level: Level, weight: float, correction: float = 0.0
) -> Prediction:
    """Return the prediction that lies beyond the tuned one, seen from the base.

    No correction where alpha is below `LEAST_ALPHA`: an eps tells nothing of x0 there.
    """
    eps, x0 = (predictions.guided(a, b, weight) for a, b in zip(base, tuned, strict=True))
    if not correction or level.alpha < LEAST_ALPHA:
        return Prediction(eps, x0)
    return Prediction(*predictions.nudged(eps, x0, np.float32(correction) * base.eps, level.alpha, level.sigma))


class _Pair:
    """The two models, whose denoisers are opened once, when they are first asked."""

    def __init__(self, uri: str, tuned: Model, base: Model) -> None:
        self._uri, self.tuned, self.base = uri, tuned, base

    @cached_property
    def denoisers(self) -> tuple[Denoiser, Denoiser]:
        """Return the denoisers of the tuned model and of the base. Raises ModelError where they do not fit."""
        tuned, base = inner.denoiser(self._uri, self.tuned), inner.denoiser(self._uri, self.base)
        for what, a, b in (
            ("states", tuned.shape, base.shape),
            ("images", tuned.size, base.size),
            ("noise levels", _rounded(tuned), _rounded(base)),
        ):
            if a != b:
                raise ModelError(f"model {self._uri!r}: the two differ in their {what}: name the base that was tuned")
        picture = _slope(*tuned.size)
        ours, theirs = tuned.encode([picture]), base.encode([picture])
        if not np.linalg.norm(ours - theirs) <= APART * np.linalg.norm(ours):
            raise ModelError(f"model {self._uri!r}: the two have other latents: name the base that was tuned")
        return tuned, base


def _rounded(denoiser: Denoiser) -> list[tuple[float, float]]:
    return [(round(level.alpha, 4), round(level.sigma, 4)) for level in denoiser.levels()]


def _slope(height: int, width: int) -> RGB:
    """Return a picture that has all levels of each colour: red across, green down, blue against both."""
    down, across = np.mgrid[0:height, 0:width] * 255 // max(1, height - 1, width - 1)
    return np.stack([across, down, 255 - (across + down) // 2], axis=2).astype(np.uint8)


def _asked(uri: str, said: str) -> bool:
    if said not in ("nothing", "prompt"):
        raise ModelError(f"model {uri!r}: asked is {said!r}: write nothing or prompt")
    return said == "prompt"
