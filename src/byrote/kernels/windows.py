"""Where in a picture a sample may lie: cropped or moved at any place, mirrored or not, found without trying every move.

A picture is held as the cosine waves (`waves`) of windows all over it, so that one product with the waves of a sample
tells how alike they are and which window shows it; `register.refined` then brings the window to a part of a pixel. The
density of the windows is ours: of planted copies among 1,000 photographs every one stood among the first five
(`benchmarks/crops.py`).
"""

from collections.abc import Sequence
from math import ceil
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float16, Float32, Int64, UInt8
from numpy import ndarray

from byrote.kernels.waves import DIMENSIONS, WHOLE, Window, luma, turned, waves

_STEP = 0.1  # of a window's edge between windows, and between their edges
_MIRROR = 1  # the turn of `waves.turned` that mirrors left to right
_PRODUCTS, _SAMPLES = 2**24, 64  # taken at once


class Likely(NamedTuple):
    """For each sample the pictures that show it likeliest, in order: correlation, window, and whether mirrored."""

    pictures: Int64[ndarray, "q k"]
    alike: Float32[ndarray, "q k"]
    windows: Int64[ndarray, "q k"]
    mirrored: Bool[ndarray, "q k"]


def listed(reach: float, least: float) -> tuple[Window, ...]:
    """List the whole, wholes moved by up to a share `reach` of the edges, and windows down to a share `least` of both.

    Windows of one size lie evenly and stay in the picture; wholes that moved leave it.
    """
    found = [WHOLE]
    found += [window for window in _grid(1.0, -reach, reach) if window != WHOLE] if reach else []
    share = 1.0
    while share > least + 1e-9:
        share = max(least, share * (1 - _STEP))
        found += _grid(share, 0.0, 1 - share)
    return tuple(found)


def held(thumbnails: UInt8[ndarray, "n s s 3"], looked: Sequence[Window]) -> Float16[ndarray, "w n d"]:
    """Return the waves of every window of some pictures, to search them by: 70 bytes a window."""
    grey, out = luma(thumbnails), np.empty((len(looked), len(thumbnails), DIMENSIONS), np.float16)
    for k, window in enumerate(looked):
        out[k] = waves(grey, window)
    return out


def likely(
    held: Float16[ndarray, "w n d"], samples: UInt8[ndarray, "q s s 3"], count: int, flip: bool = True
) -> Likely:
    """Return the `count` pictures with the window most like each sample, every picture once; equals in their order."""
    parts = [_likely(held, samples[k : k + _SAMPLES], count, flip) for k in range(0, len(samples), _SAMPLES)]
    return Likely(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _likely(held: ndarray, samples: ndarray, count: int, flip: bool) -> Likely:
    many, n, _ = held.shape
    asked = waves(luma(samples))
    views = np.stack([asked, turned(asked, _MIRROR)] if flip else [asked])
    alike, which = np.empty((len(samples), n), np.float32), np.empty((len(samples), n), np.int64)
    step = max(1, _PRODUCTS // max(1, many * len(views) * len(samples)))
    for start in range(0, n, step):
        some = held[:, start : start + step].astype(np.float32)
        products = np.matmul(some[None], views.swapaxes(1, 2)[:, None]).reshape(len(views) * many, -1, len(samples))
        which[:, start : start + step] = products.argmax(0).T
        alike[:, start : start + step] = products.max(0).T
    order = np.argsort(-alike, axis=1, kind="stable")[:, :count]
    picked, best = (np.take_along_axis(values, order, 1) for values in (which, alike))
    return Likely(order, best, picked % many, picked >= many)


def _grid(share: float, low: float, high: float) -> list[Window]:
    """List windows of one size whose corners lie evenly from `low` to `high` both ways, low and high among them."""
    steps = 2 * ceil((high - low) / 2 / (_STEP * share) - 1e-9)
    at = [(low + (high - low) * k / steps) if steps else low for k in range(steps + 1)]
    return [Window(left, top, share, share) for top in at for left in at]
