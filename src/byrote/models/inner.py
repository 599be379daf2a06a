"""Models that another model is made of: named within its URI, looked into, and drawn from by DDIM.

Song et al. 2021, "Denoising Diffusion Implicit Models", arXiv:2010.02502, equation 12, with eta 0: for flows that is
Euler's step. Samples that are steered have no other sampler.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from byrote import models
from byrote.errors import ModelError
from byrote.kernels import predictions
from byrote.models import Model, Options
from byrote.models import denoiser as inside
from byrote.models.denoiser import Denoiser, Floats, Level, Prediction

SAMPLER = "ddim"
CLEAN = Level(0, 1, 0)
Told = Callable[[Floats, Level], Prediction]


def check(uri: str, options: Options) -> None:
    """Refuse what a model that is steered cannot follow. Raises ModelError."""
    if options.sampler not in (None, SAMPLER):
        raise ModelError(f"model {uri!r} is drawn by {SAMPLER}: leave sampler {options.sampler!r} out of the plan")
    models.refuse(options, uri.partition(":")[0], "negative")


def named(uri: str) -> str:
    """Return the URI that is meant by one within another: a path or a name of the hub is that of a diffusers model."""
    return uri if uri.partition(":")[0] in models.kinds() else f"diffusers:{uri}"


def opened(uri: str, options: Options, relative_to: Path) -> Model:
    """Open a model to look into, with the levels of DDIM, or its own where it is one of flows. Raises ModelError."""
    try:
        return models.open(uri, replace(options, sampler=SAMPLER), relative_to=relative_to)
    except ModelError:
        return models.open(uri, replace(options, sampler=None), relative_to=relative_to)


def calls(uri: str, options: Options, relative_to: Path, model: Model) -> tuple[int, int]:
    """Return the steps of a sample, and how often each asks the denoiser with the guidance of `options`.

    Guidance that is not set counts as none. Reads no weights.
    """
    plain = replace(options, guidance=1.0 if model.takes_text else None)
    steps = opened(uri, plain, relative_to).evaluations_per_sample
    if options.guidance is None:
        return steps, 1
    return steps, max(1, opened(uri, options, relative_to).evaluations_per_sample // steps)


def denoiser(uri: str, model: Model) -> Denoiser:
    """Return the denoiser of a model. Raises ModelError for one that cannot be looked into."""
    found = inside.opened(model)
    if found is None:
        raise ModelError(f"model {uri!r} cannot be looked into: a {model.name} has no denoiser to call")
    return found


def drawn(denoiser: Denoiser, levels: Sequence[Level], seeds: Sequence[int], told: Told) -> Floats:
    """Return the clean states that a prediction leads to from the noise of each seed.

    x0 is clipped to [-1, 1] where states are pixels, as the samplers of such models do.
    """
    x, pixels = denoiser.start(seeds), denoiser.shape[1:] == denoiser.size
    for level, following in zip(levels, [*levels[1:], CLEAN], strict=True):
        eps, x0 = told(x, level)
        x = predictions.mixed(np.clip(x0, -1, 1) if pixels else x0, eps, following.alpha, following.sigma)
    return x


def number(uri: str, key: str, said: str, low: float, high: float) -> float:
    """Return a number of a URI's settings. Raises ModelError where it is none from `low` to `high`."""
    try:
        value = float(said)
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        raise ModelError(f"model {uri!r}: {key} is {said!r}: write a number from {low:g} to {high:g}")
    return value
