"""What a denoiser does around one picture: how far its basin reaches, and what a caption changes there.

States are float32 [n, channels, height, width] as the network sees clean ones; results are float64 [n]. A noise scale
is sigma / alpha of a level: that of noise beside a picture of the network's own units.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float32, Float64
from numpy import ndarray
from numpy.typing import NDArray
from scipy import ndimage

Reals = NDArray[np.float64]
Floats = NDArray[np.float32]
Rows = NDArray[np.int64]
Denoise = Callable[[Floats, int, Rows], Floats]
"""Returns what is expected behind states, taken for noisy ones of the level in this place; which rows they are of."""
WINDOW = 13 / 512
"""Share of an edge over which a heat map is averaged: 13 pixels of 512, the paper's."""


def critical_scale(
    denoise: Denoise, x: Float32[ndarray, "n *d"], scales: Sequence[float], *, times: int, radius: float
) -> Float64[Reals, "n"]:
    """Return the largest of some noise scales, in any order, at which a picture holds itself: 0 where it does at none.

    x <- D(x): at a scale the clean picture, no noise put on it, is taken for a noisy one and replaced by what the
    denoiser expects behind it, `times` over. It holds where it never is further than `radius` times its norm from
    where it began. "From Modes to Memories" 2026, as our notes of it say. Departs from it, perhaps, in how the scale is
    found: by bisection, which takes for granted that what holds at a scale holds at smaller ones; else it finds one at
    which it holds while it does not at the next.
    """
    order = np.argsort(scales, kind="stable")
    holds, fails = np.full(len(x), -1), np.full(len(x), len(order))
    while (unsure := fails - holds > 1).any():
        middle = (holds + fails) // 2
        for place in np.unique(middle[unsure]):
            rows = np.flatnonzero(unsure & (middle == place))
            held = _held(denoise, x, int(order[place]), rows, times, radius)
            holds[held], fails[np.setdiff1d(rows, held)] = place, place
    found: Reals = np.concatenate([np.asarray(scales, np.float64)[order], [0.0]])[holds]
    return found


def gap(asked: Float64[Reals, "n"], without: Float64[Reals, "n"], least: float) -> Float64[Reals, "n"]:
    """Return by how much a caption widens the basin: the difference of the logarithms of both critical scales.

    A scale of 0, where none of those tried holds, counts as `least`, the smallest of them.
    """
    return np.asarray(np.log(np.maximum(asked, least)) - np.log(np.maximum(without, least)), np.float64)


def heat(
    change: Float32[ndarray, "s c h w"], height: int, width: int, window: float = WINDOW
) -> Float64[ndarray, "height width"]:
    """Return where a caption changes what is expected: squares over noises and channels, averaged, at a picture's size.

    (s_c - s_0)^2 of "Curvature difference" 2026, as our notes of it say: a cheap map of what is remembered. In the
    units of the network, up to a factor that a level has.
    """
    squares = np.square(change.astype(np.float64)).mean((0, 1))
    rows, columns = squares.shape
    smooth = ndimage.uniform_filter(squares, max(1, round(window * max(rows, columns))), mode="nearest")
    grown = ndimage.zoom(smooth, (height / rows, width / columns), order=1, mode="nearest", grid_mode=True)
    return np.maximum(np.asarray(grown, np.float64), 0)


def _held(denoise: Denoise, x: Floats, place: int, rows: Rows, times: int, radius: float) -> Rows:
    """Return which of some rows hold themselves at a scale; one that does not is asked no more."""
    state = x[rows]
    for _ in range(times):
        if not len(rows):
            break
        state = denoise(state, place, rows)
        near = np.sqrt(_squares(state - x[rows])) <= radius * np.sqrt(_squares(x[rows]))
        state, rows = state[near], rows[near]
    return rows


def _squares(rows: ndarray) -> Reals:
    return np.asarray(np.square(rows.reshape(len(rows), -1).astype(np.float64)).sum(1), np.float64)
