"""Two images of one shape laid over each other for a person to look at: their difference, their outlines.

Images are uint8 [h, w, 3]. The page of review draws the same in the browser (review/static/looking.js).
"""

import numpy as np
from jaxtyping import Bool, Float, UInt8
from numpy import ndarray
from scipy import ndimage

HEAT = ((0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164))
"""Five stops of the colour map "inferno" (Smith and van der Walt 2015), whose lightness grows throughout."""
BRIGHTEST = 128
"""The difference, in levels, from which on a pixel has the last colour (ours)."""
SHARE, LEAST = 0.1, 24.0
"""Outlines are the tenth of the pixels with the largest gradient, but none below 24 levels a pixel (ours)."""
NEITHER, FIRST, SECOND, BOTH = (24, 25, 28), (255, 150, 60), (86, 170, 255), (255, 255, 255)
"""Colours of no outline, of one of the first image, of the second, of both: told apart without red and green."""
LUMA = (0.299, 0.587, 0.114)
"""ITU-R BT.601."""


def difference(a: UInt8[ndarray, "h w 3"], b: UInt8[ndarray, "h w 3"]) -> UInt8[ndarray, "h w 3"]:
    """Colour each pixel by the mean absolute difference of its channels, black where the images are equal.

    Raises ValueError where the shapes differ.
    """
    _check(a, b)
    off = np.abs(a.astype(np.float64) - b).mean(axis=2)
    return _coloured(np.minimum(off / BRIGHTEST, 1))


def heated(image: UInt8[ndarray, "h w 3"], map: Float[ndarray, "h w"]) -> UInt8[ndarray, "h w 3"]:
    """Lay a map over the luma of an image: the colour of `HEAT`, the hottest place last, as strong as it is hot."""
    hot = map / map.max() if map.max() > 0 else np.zeros_like(map)
    grey = np.repeat((image @ np.array(LUMA))[..., None], 3, axis=2)
    laid: ndarray = np.rint(grey * (1 - 0.7 * hot[..., None]) + 0.7 * hot[..., None] * _coloured(hot)).astype(np.uint8)
    return laid


def _coloured(shares: Float[ndarray, "h w"]) -> UInt8[ndarray, "h w 3"]:
    """Give each share of 0 to 1 its colour."""
    at = shares * (len(HEAT) - 1)
    stops = np.arange(len(HEAT))
    channels = [np.interp(at, stops, channel) for channel in np.array(HEAT, np.float64).T]
    coloured: ndarray = np.rint(np.stack(channels, axis=2)).astype(np.uint8)
    return coloured


def outlines(a: UInt8[ndarray, "h w 3"], b: UInt8[ndarray, "h w 3"]) -> UInt8[ndarray, "h w 3"]:
    """Lay the outlines of both over each other: `FIRST` where only `a` has one, `SECOND` where only `b`, else `BOTH`.

    Raises ValueError where the shapes differ.
    """
    _check(a, b)
    colours = np.array([NEITHER, FIRST, SECOND, BOTH], np.uint8)
    laid: ndarray = colours[edges(a) + 2 * edges(b)]
    return laid


def edges(image: UInt8[ndarray, "h w 3"]) -> Bool[ndarray, "h w"]:
    """Mark the pixels where luma changes most, by Sobel's gradient (a quarter of its weights, in levels a pixel).

    Pixels of the border have none.
    """
    luma = image @ np.array(LUMA)
    strength = np.hypot(*(ndimage.sobel(luma, axis) for axis in (0, 1))) / 4
    inner = np.zeros(strength.shape, np.bool_)
    inner[1:-1, 1:-1] = True
    strength = np.where(inner, strength, 0)
    ordered = np.sort(strength, axis=None)
    limit = max(LEAST, float(ordered[int(len(ordered) * (1 - SHARE))]))
    found: ndarray = strength >= limit
    return found


def _check(a: ndarray, b: ndarray) -> None:
    if a.shape != b.shape:
        raise ValueError(f"shapes differ: {a.shape} and {b.shape}")
