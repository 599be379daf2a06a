"""Fill the hidden part of a picture by a denoiser, and tell which of many fillings it knows best.

RePaint: Lugmayr et al. 2022, arXiv:2201.09865, algorithm 1. The attack: Carlini et al. 2023, arXiv:2301.13188, section
5.3. A state is x = alpha x0 + sigma eps, float32 [rows, channels, height, width]; a level is (alpha, sigma), the first
of a list the noisiest, and a place is a level's index in it. One place more, after the last, is the clean state.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64
from numpy import ndarray

from byrote.kernels.predictions import mixed
from byrote.rungs import Half

Levels = Sequence[tuple[float, float]]
Told = Callable[[ndarray, int], tuple[ndarray, ndarray]]
MOST = 10
"""Fillings that are kept: the paper's number."""
SHARE = 10
"""But no more than one of so many: ours, for fewer fillings than the paper's 5,000."""


def hidden(half: Half, height: int, width: int) -> Bool[ndarray, "height width"]:
    """Return what lies in a half; a middle row or column does."""
    rows, columns = np.indices((height, width))
    inside = {
        "left": columns < (width + 1) // 2,
        "right": columns >= width // 2,
        "top": rows < (height + 1) // 2,
        "bottom": rows >= height // 2,
    }
    found: ndarray = inside[half]
    return found


def walk(levels: int, jump: int, times: int) -> Iterator[int]:
    """Yield the places of a walk from noise to the clean state, which goes down `times` wherever it may jump back.

    It jumps back by `jump` places from the last level and from every `jump`-th before it. The paper: 250 levels, 10
    places, 10 times. A jump is one step here: noise upon noise is noise.
    """
    if levels < 1 or jump < 1 or times < 1:
        raise ValueError(f"levels {levels}, jump {jump} and times {times} must be 1 or more")
    left = dict.fromkeys(range(levels - 1, jump - 1, -jump), times - 1)
    place = 0
    yield place
    while place < levels:
        place += 1
        yield place
        if left.get(place, 0):
            left[place] -= 1
            place -= jump
            yield place


def evaluations(levels: int, jump: int, times: int) -> int:
    """Count how often a walk asks the denoiser."""
    return sum(after > before for before, after in pairwise(walk(levels, jump, times)))


def fill(
    known: Float32[ndarray, "c h w"],
    unknown: Bool[ndarray, "h w"],
    levels: Levels,
    told: Told,
    dice: Sequence[np.random.Generator],
    *,
    jump: int = 1,
    times: int = 1,
) -> Float32[ndarray, "n c h w"]:
    """Return a clean state for each of the dice: `known` where it is not `unknown`, the denoiser's filling elsewhere.

    `told` predicts (eps, x0) of states at a place. Rows do not know of each other: each has its own dice.
    Departs from the paper: levels are those of any sampler, few or many, alpha and sigma of any schedule; the known
    part is pasted into the first state too.
    """
    clean = [*levels, (1.0, 0.0)]

    def noise() -> ndarray:
        return np.stack([each.standard_normal(known.shape, np.float32) for each in dice])

    def pasted(x: ndarray, place: int) -> ndarray:
        there = mixed(np.broadcast_to(known, x.shape), noise(), *clean[place])
        found: ndarray = np.where(unknown, x, there)
        return found

    x = pasted(np.float32(clean[0][1]) * noise(), 0)
    for before, after in pairwise(walk(len(levels), jump, times)):
        if after < before:
            x = noisier(x, noise(), clean[before], clean[after])
        else:
            eps, x0 = told(x, before)
            x = pasted(ancestral(x0, eps, noise(), clean[before], clean[after]), after)
    return x


def ancestral(
    x0: Float32[ndarray, "*n"],
    eps: Float32[ndarray, "*n"],
    noise: Float32[ndarray, "*n"],
    before: tuple[float, float],
    after: tuple[float, float],
) -> Float32[ndarray, "*n"]:
    """Draw the state of a level with less noise from what is believed at one with more.

    Ho et al. 2020, arXiv:2006.11239, equation 7: the posterior of a step, for whichever two levels. Of the noise after
    it a share q = alpha sigma' / (alpha' sigma) is the old one.
    """
    share = before[0] * after[1] / (after[0] * before[1])
    kept = mixed(x0, eps, after[0], after[1] * share)
    return mixed(kept, noise, 1.0, after[1] * np.sqrt(1 - share**2))


def noisier(
    x: Float32[ndarray, "*n"], noise: Float32[ndarray, "*n"], before: tuple[float, float], after: tuple[float, float]
) -> Float32[ndarray, "*n"]:
    """Draw the state of a level with more noise from one with less."""
    share = after[0] / before[0]
    return mixed(x, noise, share, float(np.sqrt(max(0.0, after[1] ** 2 - (share * before[1]) ** 2))))


def loss(eps: Float32[ndarray, "n *s"], told: Float32[ndarray, "n *s"]) -> Float64[ndarray, " n"]:
    """Return the mean squared error of a predicted noise, a row a state."""
    apart = (eps - told).reshape(len(eps), -1).astype(np.float64)
    found: ndarray = (apart**2).mean(1)
    return found


def likeliest(target: Float64[ndarray, " n"], shadow: Float64[ndarray, " n"] | None = None) -> Int64[ndarray, " k"]:
    """Return the places of the fillings that a model knows best, the best first.

    Carlini et al. 2023, section 5.3: least loss of the model over that of one that was not trained on the picture, the
    best 10 of 5,000. Departs from it: of fewer than 100 a tenth is kept, one at least; without such a model the loss
    alone decides, which also favours what is plain.
    """
    scores = target if shadow is None else target / shadow
    order: ndarray = np.argsort(scores, kind="stable")
    return order[: max(1, min(MOST, len(target) // SHARE))]
