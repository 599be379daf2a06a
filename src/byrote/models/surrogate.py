"""A model that takes no prompt, steered towards clusters of its own samples: `surrogate:FILE?model=MODEL&scale=1`.

Chen et al. 2024, "Extracting Training Data from Unconditional Diffusion Models" (SIDE), arXiv:2410.02467: what a model
remembers is likelier under a condition, and where it takes none a classifier of its own samples can be one. FILE is
what `byrote surrogate MODEL --out FILE` wrote. The seed of a sample chooses its cluster, each as likely as another, and

    eps = eps - scale sigma grad log p(cluster | state)

MODEL is a path (`diffusers:` is meant), or a whole URI, in which & is written %26.
"""

from collections.abc import Sequence
from functools import cached_property
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from byrote.domain import RGB
from byrote.errors import ModelError
from byrote.kernels import predictions
from byrote.kernels.screening import LEAST_ALPHA
from byrote.models import How, Model, Options, Request, inner, restepped, settings
from byrote.models.denoiser import Denoiser, Floats, Level, Prediction
from byrote.models.digests import of_files, together
from byrote.models.memory import short

if TYPE_CHECKING:
    from byrote.models.classifier import Card, Classifier

SETTINGS = {
    "model": "what it was made from: a path, a name of the hub, or a URI with %26 for &",
    "scale": "how strongly it steers (default 1)",
}
SCALE = "1"
STRONGEST = 100
CLUSTER = 1
"""Stands beside a seed where its cluster is drawn, so that this is no other draw of that seed."""


class Surrogate:
    """A model under a surrogate condition; one call of `generate` is one batch.

    Drawn by DDIM; the classifier runs in float32 and counts as no evaluation of the denoiser. Raises ModelError, in the
    constructor for a surrogate of other weights.
    """

    takes_text = False
    how = How(
        "a model without prompts, steered by clusters of its samples (SIDE)",
        "surrogate:FILE?model=path/to/model&scale=1",
        SETTINGS,
        "diffusers",
        ("torch", "diffusers", "transformers", "safetensors"),
    )

    def __init__(self, path: str, options: Options, relative_to: Path) -> None:
        place, given = settings(path, SETTINGS)
        self._uri, self._options, self._relative_to = f"surrogate:{path}", options, relative_to
        inner.check(self._uri, options)
        if not place or not given.get("model"):
            raise ModelError(f"model {self._uri!r}: write surrogate:FILE?model=MODEL")
        self._scale = inner.number(self._uri, "scale", given.get("scale", SCALE), 0, STRONGEST)
        self._file = relative_to / Path(place).expanduser()
        self._model_uri = inner.named(given["model"])
        self._held = _Held(self._uri, inner.opened(self._model_uri, options, relative_to), self._file, options.device)
        if self._held.card.model != self._held.model.digest:
            raise ModelError(f"model {self._uri!r}: the surrogate was made from other weights: make it anew")
        self.name = f"{self._held.model.name}, steered"
        self.tolerance = min(255, ceil(self._held.model.tolerance * (1 + self._scale)))

    @property
    def weights(self) -> list[Path]:
        """Return the files with the weights of the model and of the surrogate."""
        return [*getattr(self._held.model, "weights", ()), self._file]

    @property
    def digest(self) -> str:
        """Digest the model, the surrogate and the scale."""
        own = of_files([("surrogate", self._file)])
        return together({"model": self._held.model.digest, "surrogate": own, "scale": repr(self._scale)})

    @cached_property
    def evaluations_per_sample(self) -> int:
        """Count the denoiser's evaluations, one a step; the samples that the surrogate was made from come on top."""
        return inner.calls(self._model_uri, self._options, self._relative_to, self._held.model)[0]

    def generate(self, requests: Sequence[Request]) -> list[RGB]:
        """Return one image for each request, as one batch."""
        if not requests:
            return []
        if any(request.prompt is not None for request in requests):
            raise ModelError(f"model {self._uri!r} takes no prompt: ask it for samples without one")
        from byrote.models.classifier import pull

        denoiser, classifier = self._held.denoiser, self._held.classifier
        seeds, nothing = [request.seed for request in requests], [None] * len(requests)
        clusters = [cluster_of(seed, self._held.card.clusters) for seed in seeds]

        def told(x: Floats, level: Level) -> Prediction:
            own = denoiser.predict(x, level, nothing)
            if level.alpha < LEAST_ALPHA:  # noise alone: there is nothing to tell clusters by
                return own
            return steered(own, pull(classifier, x, level, clusters), level, self._scale)

        with short(self._uri, len(requests)):
            return denoiser.decode(inner.drawn(denoiser, denoiser.levels(self._options.steps), seeds, told))

    def round_trip(self, images: Sequence[RGB]) -> list[RGB] | None:
        """Return the images after the model's autoencoder, or None where it has none."""
        return self._held.model.round_trip(images)

    def stepped(self, steps: int) -> "Surrogate":
        """Return the same model, its weights held once, drawn in another number of steps."""
        return restepped(self, steps)


def cluster_of(seed: int, clusters: int) -> int:
    """Return the cluster of a seed, each as likely as another."""
    return int(np.random.default_rng([seed, CLUSTER]).integers(clusters))


def steered(own: Prediction, gradient: Floats, level: Level, scale: float) -> Prediction:
    """Return a prediction under a condition, by the gradient of the condition's log-probability.

    The score of a state is -eps / sigma, and that of both is the sum of the two.
    """
    by = np.float32(-scale * level.sigma) * gradient
    return Prediction(*predictions.nudged(own.eps, own.x0, by, level.alpha, level.sigma))


class _Held:
    """The model and its classifier, which are loaded once, when they are first asked."""

    def __init__(self, uri: str, model: Model, file: Path, device: str) -> None:
        self._uri, self.model, self._file, self._device = uri, model, file, device

    @cached_property
    def card(self) -> "Card":
        """Return what the surrogate's file says of itself."""
        from byrote.models.classifier import read_card

        return read_card(self._file)

    @cached_property
    def classifier(self) -> "Classifier":
        """Return the surrogate."""
        from byrote.models.classifier import read

        return read(self._file, self.card).to(self._device)

    @cached_property
    def denoiser(self) -> Denoiser:
        """Return the model's denoiser. Raises ModelError where the surrogate is of other states."""
        found = inner.denoiser(self._uri, self.model)
        if found.shape != self.card.shape:
            raise ModelError(f"model {self._uri!r}: the surrogate is of states {list(self.card.shape)}: make it anew")
        return found
