"""Hide half of a picture, let a model fill it many times, and see how near its best guesses come to what was there.

Carlini et al. 2023, arXiv:2301.13188, section 5.3, with the fillings of RePaint (`byrote.kernels.repaint`). A model of
latents would see across the border: the encoding of what is shown knows what is hidden. So the hidden half is replaced
by the mean colour of the other one before anything is encoded, and nothing of it reaches the model.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from byrote import images
from byrote.domain import RGB
from byrote.kernels import repaint
from byrote.kernels.predictions import mixed
from byrote.models.denoiser import Denoiser, Floats, Level, guided
from byrote.plan import ExtractPlan
from byrote.rungs import Half

Reals = NDArray[np.float64]
RATIO = 0.34226
"""sigma / alpha at t = 100 of 1,000 of the linear schedule of Ho et al. 2020, where the paper takes the loss."""
FINE = 50
"""Steps of the sampler among whose levels that noise is looked for."""
NOISES = 4
"""Of which a loss is the mean, the same for every filling of a picture; ours, the paper does not say."""


@dataclass(frozen=True, slots=True)
class Filled:
    """The fillings of a hidden half, uint8 [n, h, w, 3]; outside of it each is the picture itself.

    `rms` [n] is the error of each in the hidden half, `likeliest` the places of those that the judges choose, the best
    first.
    """

    images: NDArray[np.uint8]
    rms: Reals
    likeliest: NDArray[np.int64]

    @property
    def kept(self) -> NDArray[np.uint8]:
        """Return the likeliest fillings."""
        found: NDArray[np.uint8] = self.images[self.likeliest]
        return found

    @property
    def statistic(self) -> float:
        """Return the mean RMS of the likeliest, the paper's measure."""
        return float(self.rms[self.likeliest].mean())


@dataclass(frozen=True, slots=True)
class Attack:
    """How halves are filled: by which model, and how often along which way down; `judges` tell which fillings count.

    The judges are the model under audit and, where there is one, its twin: losses of the first over the second decide.
    `prompt` None fills without text.
    """

    filler: Denoiser
    judges: Sequence[Denoiser]
    half: Half
    plan: ExtractPlan

    @property
    def evaluations(self) -> int:
        """Count the denoisers' evaluations that a picture costs, guidance counted."""
        told, levels = self.plan, len(self.filler.levels(self.plan.steps))
        asked = repaint.evaluations(levels, told.jump, told.times) * (1 if self.filler.guidance == 1 else 2)
        return told.reconstructions * (asked + NOISES * len(self.judges))

    def fill(self, picture: RGB, prompt: str | None, seeds: Sequence[int]) -> Filled:
        """Fill half of a picture, at the filler's size, once for each seed. Raises ModelError."""
        height, width = self.filler.size
        picture = images.fit(picture, width, height)
        unknown = repaint.hidden(self.half, *picture.shape[:2])
        made = np.stack(self._filled(picture, unknown, prompt, seeds))
        made[:, ~unknown] = picture[~unknown]
        losses = [_losses(judge, made, prompt, seeds[0]) for judge in self.judges]
        apart = (made[:, unknown].astype(np.float64) - picture[unknown]) / 255
        return Filled(made, np.sqrt((apart**2).mean((1, 2))), repaint.likeliest(*losses))

    def _filled(self, picture: RGB, unknown: NDArray[np.bool_], prompt: str | None, seeds: Sequence[int]) -> list[RGB]:
        told, model = self.plan, self.filler
        levels, prompts = model.levels(told.steps), _asked(model, prompt, len(seeds))
        states = repaint.fill(
            model.encode([covered(picture, unknown)])[0],
            repaint.hidden(self.half, *model.shape[1:]),
            [(level.alpha, level.sigma) for level in levels],
            lambda x, place: guided(model, x, levels[place], prompts),
            [np.random.default_rng(seed) for seed in seeds],
            jump=told.jump,
            times=told.times,
        )
        return model.decode(states)


def covered(picture: RGB, unknown: NDArray[np.bool_]) -> RGB:
    """Return a picture whose hidden part is the mean colour of the rest."""
    found = picture.copy()
    found[unknown] = picture[~unknown].mean(0).round().astype(np.uint8)
    return found


def level_of_loss(denoiser: Denoiser) -> Level:
    """Return the level, of a fine walk of the sampler, whose share of noise is nearest to that of the paper."""

    def apart(level: Level) -> float:
        ratio = level.sigma / level.alpha if level.alpha else math.inf
        return abs(math.log(ratio / RATIO)) if 0 < ratio < math.inf else math.inf

    return min(denoiser.levels(FINE), key=apart)


def _losses(denoiser: Denoiser, made: NDArray[np.uint8], prompt: str | None, seed: int) -> Reals:
    """Return the loss of each image, at one level and with the same noises for all."""
    height, width = denoiser.size
    clean, level = denoiser.encode([images.fit(image, width, height) for image in made]), level_of_loss(denoiser)
    dice, prompts = np.random.default_rng([seed, FINE]), _asked(denoiser, prompt, len(clean))
    found = np.zeros(len(clean))
    for _ in range(NOISES):
        eps: Floats = np.repeat(dice.standard_normal((1, *clean.shape[1:]), np.float32), len(clean), 0)
        told = denoiser.predict(mixed(clean, eps, level.alpha, level.sigma), level, prompts)
        found += repaint.loss(eps, told.eps) / NOISES
    return found


def _asked(denoiser: Denoiser, prompt: str | None, count: int) -> list[str | None]:
    return [prompt if denoiser.takes_text else None] * count
