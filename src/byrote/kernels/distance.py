"""RMS pixel errors, whole and by tile.

Distances are float64 in [0, 1]. The sum of squared differences of levels behind each is an exact integer; the division
and the root that follow are within 2 ulp. Equal sums give equal distances, whichever function computed them.
"""

import numpy as np
from jaxtyping import Float32, Float64, Int64, Shaped, UInt8
from numpy import ndarray

LEVELS = 255
_EXACT = 2**24  # float32 holds every integer up to here
_CENTRE = 128
_CHUNK = _EXACT // _CENTRE**2  # products of centred levels that float32 sums exactly, in any order
_STRIP = _EXACT // LEVELS**2  # squared differences of levels that float32 sums exactly


def rms(a: UInt8[ndarray, "n h w c"], b: UInt8[ndarray, "m h w c"]) -> Float64[ndarray, "n m"]:
    """Return the RMS error of every image of `a` to every image of `b`."""
    _same_shape(a.shape[1:], b.shape[1:])
    flat = _flat(a)
    return root(squares(flat, flat if a is b else _flat(b)), flat.shape[1])


def tiled(a: UInt8[ndarray, "n h w c"], b: UInt8[ndarray, "m h w c"], *, tiles: int) -> Float64[ndarray, "n m"]:
    """Take the worst of `tiles` x `tiles` tiles, so that a shared blank background is no match.

    Carlini et al. 2023, "Extracting Training Data from Diffusion Models", arXiv:2301.13188, section 4.2:
    16 tiles of 128 x 128 for images of 512 x 512. Raises ValueError where the tiles do not divide the image.
    """
    _same_shape(a.shape[1:], b.shape[1:])
    count = tile_values(a.shape, tiles)
    worst = np.zeros((len(a), len(b)), np.int64)
    for y in range(tiles):
        band = _band(a, y, tiles)
        np.maximum(worst, _worst(band, band if a is b else _band(b, y, tiles)), out=worst)
    return root(worst, count)


def paired_rms(a: UInt8[ndarray, "n h w c"], b: UInt8[ndarray, "n h w c"]) -> Float64[ndarray, " n"]:
    """Return the RMS error of each image of `a` to the image of `b` in its place."""
    return root(paired_squares(a, b, tiles=1)[:, 0], int(np.prod(a.shape[1:])))


def paired_tiled(a: UInt8[ndarray, "n h w c"], b: UInt8[ndarray, "n h w c"], *, tiles: int) -> Float64[ndarray, " n"]:
    """Return the tiled distance of each image of `a` to the image of `b` in its place; see `tiled`."""
    return root(paired_squares(a, b, tiles=tiles).max(1), tile_values(a.shape, tiles))


def block_means(images: UInt8[ndarray, "n h w c"], blocks: int) -> Float32[ndarray, "n blocks blocks c"]:
    """Return the mean of `blocks` x `blocks` blocks, in [0, 1], within 1 ulp of float32.

    Raises ValueError where the blocks do not divide the image.
    """
    n, h, w, c = images.shape
    values = tile_values(images.shape, blocks) // c
    out = np.empty((n, blocks, blocks, c), np.float32)
    step = max(1, 2**20 // max(1, h * w * c))  # what the cache holds
    for i in range(0, n, step):
        out[i : i + step] = block_sums(images[i : i + step], blocks) / (values * LEVELS)
    return out


def block_sums(images: UInt8[ndarray, "n h w c"], blocks: int) -> Int64[ndarray, "n blocks blocks c"]:
    """Return the sum of levels of `blocks` x `blocks` blocks. Raises ValueError where they do not divide the image."""
    n, h, w, c = images.shape
    tile_values(images.shape, blocks)
    height, width = h // blocks, w // blocks
    narrow = np.uint16 if height * LEVELS < 2**16 else np.uint32
    rows = np.add.reduce(images.reshape(n, blocks, height, w * c), axis=2, dtype=narrow)
    wide = np.uint32 if height * width * LEVELS < 2**32 else np.uint64
    sums = box_sums(rows.astype(wide), width, 2, c)
    starts = (np.arange(blocks) * width * c)[:, None] + np.arange(c)
    return sums[:, :, starts].astype(np.int64)


def squares(a: UInt8[ndarray, "*t n d"], b: UInt8[ndarray, "*t m d"]) -> Int64[ndarray, "*t n m"]:
    """Return the exact sum of squared differences of levels of every row of `a` to every row of `b`.

    Matrix products in float32 over chunks so short that every partial sum is an integer which float32 holds.
    """
    _same_shape(a.shape[-1:], b.shape[-1:])
    out = np.zeros((*a.shape[:-1], b.shape[-2]))
    own, other = np.zeros(a.shape[:-1]), np.zeros(b.shape[:-1])
    for i in range(0, a.shape[-1], _CHUNK):
        x = _centred(a[..., i : i + _CHUNK])
        y = x if a is b else _centred(b[..., i : i + _CHUNK])
        out += np.matmul(x, y.swapaxes(-1, -2))
        own += np.vecdot(x, x)
        other += np.vecdot(y, y)
    out *= -2
    out += own[..., :, None]
    out += other[..., None, :]
    return out.astype(np.int64)


def paired_squares(a: UInt8[ndarray, "n h w c"], b: UInt8[ndarray, "n h w c"], *, tiles: int) -> Int64[ndarray, "n t"]:
    """Return the exact sum of squared differences of levels by tile. Raises ValueError where tiles do not divide."""
    _same_shape(a.shape, b.shape)
    n, h, w, c = a.shape
    tile_values(a.shape, tiles)
    out = np.empty((n, tiles * tiles), np.int64)
    step = max(1, 2**20 // max(1, h * w * c))
    for i in range(0, n, step):
        difference = a[i : i + step].astype(np.float32)
        difference -= b[i : i + step]
        strips = difference.reshape(-1, tiles, h // tiles, tiles, w // tiles * c)
        out[i : i + step] = _sums(strips).reshape(-1, tiles * tiles)
    return out


def root(sums: Int64[ndarray, "*s"], count: int) -> Float64[ndarray, "*s"]:
    """Return the RMS in [0, 1] for sums of `count` squared differences of levels."""
    distance: ndarray = np.sqrt(sums / count) / LEVELS
    return distance


def largest_sum(distance: float, count: int) -> int:
    """Return the largest sum of `count` squared differences whose `root` is at most `distance`; -1 where none is."""
    if distance < 0:
        return -1
    guess = int(min(distance, 1.0) ** 2 * LEVELS**2 * count)
    while root(np.array([guess + 1]), count).item() <= distance and guess < LEVELS**2 * count:
        guess += 1
    while guess >= 0 and root(np.array([guess]), count).item() > distance:
        guess -= 1
    return guess


def box_sums(values: Shaped[ndarray, "..."], width: int, axis: int, step: int = 1) -> Shaped[ndarray, "..."]:
    """Return the sums of `width` values that lie `step` apart along an axis, from each value on, by doubling."""
    spans = {1: values}
    while 2 * max(spans) <= width:
        k = max(spans)
        spans[2 * k] = _sum_apart(spans[k], spans[k], k * step, axis)
    k = max(spans)
    total = spans[k]
    for span in sorted(spans, reverse=True):
        if k + span <= width:
            total, k = _sum_apart(total, spans[span], k * step, axis), k + span
    return total


def tile_values(shape: tuple[int, ...], tiles: int) -> int:
    """Return how many values a tile holds. Raises ValueError where `tiles` x `tiles` tiles do not divide the image."""
    _, h, w, c = shape
    if tiles < 1 or h % tiles or w % tiles:
        raise ValueError(f"{tiles} x {tiles} tiles do not divide an image of {w} x {h}")
    return (h // tiles) * (w // tiles) * c


def _band(images: ndarray, y: int, tiles: int) -> ndarray:
    """Return the tiles of the y-th row of tiles, uint8 [tiles, n, values]."""
    n, h, w, c = images.shape
    height = h // tiles
    band = images[:, y * height : (y + 1) * height].reshape(n, height, tiles, w // tiles * c)
    return band.transpose(2, 0, 1, 3).reshape(tiles, n, height * (w // tiles) * c)


def _worst(a: ndarray, b: ndarray) -> ndarray:
    """Return the largest sum over the tiles of a band; all tiles in one product where they are small."""
    if a.size <= 2**22 and len(a) * a.shape[1] * b.shape[1] <= 2**20:
        worst: ndarray = squares(a, b).max(0)
        return worst
    worst = np.zeros((a.shape[1], b.shape[1]), np.int64)
    for tile, other in zip(a, b, strict=True):
        np.maximum(worst, squares(tile, tile if a is b else other), out=worst)
    return worst


def _sums(strips: ndarray) -> ndarray:
    """Return the sum of squares by tile for float32 [n, tiles, rows, tiles, values]."""
    n, tiles, rows, _, values = strips.shape
    strip = next(s for s in range(min(values, _STRIP), 0, -1) if values % s == 0)
    if strip < min(values, 32):
        wide = strips.astype(np.float64)
        exact: ndarray = np.einsum("ytrxk,ytrxk->ytx", wide, wide)
        return exact
    short = strips.reshape(n, tiles, rows, tiles, values // strip, strip)
    sums: ndarray = np.einsum("ytrxsk,ytrxsk->ytrxs", short, short).sum(axis=(2, 4), dtype=np.float64)
    return sums


def _centred(levels: ndarray) -> ndarray:
    values: ndarray = levels.astype(np.float32)
    values -= _CENTRE
    return values


def _sum_apart(a: ndarray, b: ndarray, apart: int, axis: int) -> ndarray:
    """Return a[i] + b[i + apart] along an axis, as far as both go."""
    length = min(a.shape[axis], b.shape[axis] - apart)
    before = (slice(None),) * axis
    total: ndarray = a[(*before, slice(length))] + b[(*before, slice(apart, apart + length))]
    return total


def _flat(images: ndarray) -> ndarray:
    return images.reshape(len(images), int(np.prod(images.shape[1:])))


def _same_shape(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    if a != b:
        raise ValueError(f"shapes differ: {a} and {b}")
