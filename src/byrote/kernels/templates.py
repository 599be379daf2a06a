"""Templates: a fixed layout with a part that is another one in each sample. Whole-image distances do not see them.

Images are uint8 [n, h, w, 3]; masks are True where the layout is fixed; distances and contrasts are RMS in [0, 1].
"""

import numpy as np
from jaxtyping import Bool, Float32, Float64, UInt8
from numpy import ndarray
from numpy.typing import NDArray
from scipy import ndimage

from byrote.kernels.distance import LEVELS

WEBSTER = 0.03
"""Largest difference, summed over channels, of a pixel that is fixed: Webster's code, of near-duplicate pictures."""
WEBSTER_WITHIN = 2.5e3 / (256 * 256 * 3)
"""Largest mean square over the mask of what he calls a template verbatim: RMS .113."""
VARIES = 0.05
"""RMS about the mean at which a pixel of a clique's samples varies; ours: samples carry noise that pictures do not."""
PLAIN = 0.1
"""Least contrast of what is fixed; ours: any two blank walls agree."""
_ERODE, _DILATE = 3, 6


def agreeing(means: Float32[ndarray, "n b b c"], *, tiles: int, within: float, share: float) -> Bool[ndarray, "n n"]:
    """Tell which samples are alike, by their block means, in a `share` of the tiles or more.

    The distance of two tiles' block means is at most that of their pixels, so that no pair is missed. Ours: the tiled
    distance of Carlini et al. 2023, with all tiles but some instead of all of them.
    """
    n, blocks, _, channels = means.shape
    step = blocks // tiles
    cut = means.reshape(n, tiles, step, tiles, step, channels).transpose(1, 3, 0, 2, 4, 5).reshape(tiles**2, n, -1)
    near = np.zeros((n, n), np.int64)
    for rows in cut.astype(np.float64):
        norms = np.square(rows).sum(1)
        squares = np.maximum(norms[:, None] + norms[None] - 2 * rows @ rows.T, 0)
        near += squares <= within**2 * rows.shape[1] + 1e-9
    alike: ndarray = near >= share * tiles**2
    np.fill_diagonal(alike, False)
    return alike


def fixed(samples: UInt8[ndarray, "n h w c"], varies: float = VARIES) -> Bool[ndarray, "h w"]:
    """Return where samples stay as they are: after 3 x 3 means, RMS about their mean, of all channels, below `varies`.

    What is left is eroded by 3 x 3 and grown by 6 x 6 pixels, as Webster 2023 does (arXiv:2305.08694, its code).
    Departs from it: of the samples of a clique, not of near-duplicates among the pictures, which there need not be.
    """
    levels = samples.astype(np.float32) / np.float32(LEVELS)
    smooth = ndimage.uniform_filter(levels, size=(1, 3, 3, 1), mode="nearest")
    spread = np.sqrt(np.square(smooth - smooth.mean(0)).mean((0, 3)))
    return _opened(spread < varies)


def fixed_of_pair(
    a: UInt8[ndarray, "h w c"], b: UInt8[ndarray, "h w c"], most: float = WEBSTER
) -> Bool[ndarray, "h w"]:
    """Return where two near-duplicate pictures agree: Webster's own rule, by his code."""
    apart = np.abs(a.astype(np.float32).sum(2) - b.astype(np.float32).sum(2)) / LEVELS
    return _opened(apart < most)


def contrast(image: UInt8[ndarray, "h w c"], mask: Bool[ndarray, "h w"]) -> float:
    """Return how much there is to see in a mask: the RMS of its pixels about their mean; 0 of an empty one."""
    if not mask.any():
        return 0.0
    return float(np.sqrt(image[mask].astype(np.float64).var(0).mean())) / LEVELS


def masked(
    a: UInt8[ndarray, "n h w c"], b: UInt8[ndarray, "n h w c"], mask: Bool[ndarray, "h w"]
) -> Float64[NDArray[np.float64], "n"]:
    """Return the RMS over a mask of each image of `a` to the image of `b` in its place; inf of an empty mask.

    Webster 2023: masked sum of squares over the mean of the mask, which is that, squared, times the values of an image.
    """
    if not mask.any():
        return np.full(len(a), np.inf)
    apart = a[:, mask].astype(np.int64) - b[:, mask]
    found: NDArray[np.float64] = np.sqrt(np.square(apart).mean((1, 2))) / LEVELS
    return found


def nearest(
    image: UInt8[ndarray, "h w c"], others: UInt8[ndarray, "m d"], mask: Bool[ndarray, "h w"], count: int
) -> ndarray:
    """Return the places of the `count` flat images that are nearest over a mask, the nearest first; exact."""
    weight = np.repeat(mask.reshape(-1), image.shape[2])
    own = image.reshape(-1)[weight].astype(np.float64)
    far = np.concatenate(
        [np.square(others[k : k + 4096][:, weight] - own).sum(1) for k in range(0, len(others), 4096)] or [np.empty(0)]
    )
    order: ndarray = np.lexsort((np.arange(len(far)), far))[:count]
    return order


def _opened(mask: Bool[ndarray, "h w"]) -> Bool[ndarray, "h w"]:
    eroded = ndimage.binary_erosion(mask, np.ones((_ERODE, _ERODE), np.bool_), border_value=1)
    grown: ndarray = ndimage.binary_dilation(eroded, np.ones((_DILATE, _DILATE), np.bool_))
    return grown
