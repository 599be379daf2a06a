"""PDQ, the perceptual hash of 256 bits: pictures that look alike have hashes that differ in few bits.

Meta 2019, "The TMK+PDQF video-hashing algorithm and the PDQ image-hashing algorithm" (hashing.pdf of the ThreatExchange
repository). Luma, two passes of a box filter, 64 x 64 points, 16 x 16 frequencies, a bit where a frequency is above
their median. All of that up to the bits is linear, and the same along rows and along columns: so one matrix takes the
columns with the luma (RGB rows to 64 points), one the rows, and one the frequencies, and no filtered picture is made.

A hash is uint8 [32]; its hexadecimal digits are those that Meta's tools write. Quality is 0 to 100: Meta advises to
discard hashes below 50, which flat pictures have, and to call two pictures alike up to a distance of 31 bits.

Measured against Meta's own code (pdqhash 0.2.8): every bit, every quality and all eight hashes are equal for 1,000
photographs of 288 pixels and for 200 of them at each of 32, 64, 96, 128, 200, 256, 512 and 640 pixels. The sums are the
same numbers added in another order, so only a frequency within their rounding of the median can differ: seen where
frequencies are equal or 0 in truth, which leaves their bits to rounding in Meta's code as here. That is so with a side
of exactly 8 or 16 pixels (up to 32 bits), seldom 6 or 12, and for pictures that are their own mirror image (4 of 3,545
emoji, about 60 bits each). Of 1,500 photographs and noises of 5 to 400 pixels, one with none of these had other bits (4
in eight hashes) and one another quality (by one).

Pictures are hashed at the size they have, as Meta's Python package does; its C++ tool first squashes what is larger
than 512 pixels to 512 x 512.
"""

from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise

import numpy as np
from jaxtyping import Float32, Int64, UInt8, UInt16
from numpy import ndarray
from scipy.sparse import csr_array

BYTES = 32
MATCH = 31  # bits: Meta's README of PDQ, "Distance Threshold"
GOOD = 50  # quality: the same, "Quality Threshold where we recommend discarding hashes: <=49"
LEAST = 5  # pixels: narrower pictures have no hash, by Meta's code
_POINTS, _WAVES = 64, 16
_LUMA = (0.299, 0.587, 0.114)
_STEEP = 90  # percent of brightness that steps add up to for one point of quality: Meta's code
_NUDGE = 2.0**-13  # percent; more than rounding takes from a step before it is cut to a whole number
_VALUES = 2**17  # of pictures that are worked on at once: what a core's cache holds as floats
_LARGE = 2**21  # values of a picture whose rows are filtered in parts, which bounds memory
_BLOCK = 8  # points of a block, which looks at its own pixels only
_PAIRS, _SIDE = 2**17, 64  # of hashes that are compared at once, and rows of them
_SHORTS = 16  # words of 16 bits in a hash
_MANY, _MANY_ROWS = 2**13, 2**10  # hashes that are worth a table of their words, and rows to look up: measured


def hashes(images: UInt8[ndarray, "n h w 3"]) -> tuple[UInt8[ndarray, "n 32"], UInt8[ndarray, " n"]]:
    """Return the hashes and their qualities. A picture below 5 pixels of height or width has 0 for both."""
    found, quality = np.zeros((len(images), BYTES), np.uint8), np.zeros(len(images), np.uint8)
    for some in _chunks(images):
        waves, quality[some] = _waves(images[some])
        found[some] = _bits(waves, _medians(waves))
    return found, quality


def dihedral(images: UInt8[ndarray, "n h w 3"]) -> tuple[UInt8[ndarray, "n 8 32"], UInt8[ndarray, " n"]]:
    """Return eight hashes of each picture, of its turns and mirrors, and the quality that they share.

    In Meta's order: as it is; turned by 90 (counterclockwise), 180 and 270 degrees; mirrored top to bottom, left to
    right, about the main diagonal, about the other. They are made of the picture's own frequencies. A hash of the moved
    picture itself differs in a few bits: where 64 does not divide a side, or the window of the filter is even, the
    points do not lie in the middle.
    """
    found, quality = np.zeros((len(images), 8, BYTES), np.uint8), np.zeros(len(images), np.uint8)
    for some in _chunks(images):
        waves, quality[some] = _waves(images[some])
        found[some] = _eight(waves)
    return found, quality


def hamming(a: UInt8[ndarray, "n 32"], b: UInt8[ndarray, "m 32"]) -> UInt16[ndarray, "n m"]:
    """Return the number of bits in which every hash of `a` differs from every one of `b`."""
    own, other, out = _words(a), _words(b), np.empty((len(a), len(b)), np.uint16)
    step = max(1, _PAIRS // max(1, len(b)))
    for i in range(0, len(a), step):
        out[i : i + step] = _counted(own[:, i : i + step], other, np.uint16)
    return out


def near(a: UInt8[ndarray, "n 32"], b: UInt8[ndarray, "m 32"], radius: int) -> Int64[ndarray, "p 2"]:
    """Return the pairs (row of `a`, row of `b`) that differ in at most `radius` bits, sorted.

    Exact. Hashes that differ in at most 31 of 256 bits differ in at most one bit of some of their 16 words of 16 bits
    (Norouzi et al. 2014, arXiv:1307.2982, section 3): many hashes are looked up by their words, few are all compared.
    """
    if radius < 2 * _SHORTS and len(a) >= _MANY_ROWS and len(b) >= _MANY:
        return _looked_up(a, b, radius, above=False)
    return _near(_words(a), _words(b), radius, above=False)


def within(hashes: UInt8[ndarray, "n 32"], radius: int) -> Int64[ndarray, "p 2"]:
    """Return the pairs i < j of hashes that differ in at most `radius` bits, sorted. Exact, as `near` is."""
    if radius < 2 * _SHORTS and len(hashes) >= _MANY:
        return _looked_up(hashes, hashes, radius, above=True)
    words = _words(hashes)
    return _near(words, words, radius, above=True)


def _chunks(images: ndarray) -> list[slice]:
    """Return the pictures that are worked on at once; none at all where they are too small for a hash."""
    n, h, w, _ = images.shape
    if min(h, w) < LEAST:
        return []
    step = max(1, _VALUES // (3 * w * min(h, _POINTS)))
    return [slice(i, i + step) for i in range(0, n, step)]


def _waves(images: ndarray) -> tuple[Float32[ndarray, "n 16 16"], UInt8[ndarray, " n"]]:
    """Return the low frequencies of each picture, without the mean of a row or column, and its quality."""
    _, h, w, _ = images.shape
    points = _points(images)
    return _cosines(h) @ (points @ _cosines(w).T), _quality(points, _times(h), _times(w))


def _points(images: ndarray) -> Float32[ndarray, "n r c"]:
    """Return the luma of the points that differ, filtered, in percent of white; `_times` says how often each counts."""
    n, _, w, _ = images.shape
    thin = _thin_rows(images.reshape(n, -1, 3 * w))
    out = np.empty((*thin.shape[:2], min(w, _POINTS)), np.float32)
    wide, narrow = thin.reshape(-1, 3 * w), out.reshape(-1, out.shape[2])
    for k, (first, last, weights) in enumerate(_columns(w)):
        np.matmul(wide[:, first:last], weights, out=narrow[:, k * _BLOCK : (k + 1) * _BLOCK])
    return out


def _thin_rows(rows: UInt8[ndarray, "n h v"]) -> Float32[ndarray, "n r v"]:
    """Return the rows of the points: all, some, or filtered ones."""
    n, h, values = rows.shape
    if h <= 2 * _POINTS:
        return (rows[:, _centres(h)] if h > _POINTS else rows).astype(np.float32)
    out = np.empty((n, _POINTS, values), np.float32)
    parts = 1 if h * values <= _LARGE else _POINTS // _BLOCK
    for thin, picture in zip(out, rows, strict=True):
        for part, (first, last, weights) in zip(np.split(thin, parts), _filters(h, parts), strict=True):
            part[:] = weights @ picture[first:last].astype(np.float32)
    return out


@lru_cache(64)
def _filters(side: int, parts: int) -> list[tuple[int, int, csr_array]]:
    """Return for every part of the points the first and last of the rows that it sees, and their weights."""
    blocks = np.split(_thinned(side).astype(np.float32), parts)
    return [(first, last, csr_array(seen)) for first, last, seen in map(_seen, blocks)]


@lru_cache(64)
def _columns(side: int) -> list[tuple[int, int, ndarray]]:
    """Return the same for blocks of points along an RGB row. Its weights hold the luma and the scale to percent."""
    luma = np.array(_LUMA) * 100 / 255
    weights = (_thinned(side)[:, :, None] * luma).reshape(-1, 3 * side).astype(np.float32)
    blocks = [weights[i : i + _BLOCK] for i in range(0, len(weights), _BLOCK)]
    return [(first, last, np.ascontiguousarray(seen.T)) for first, last, seen in map(_seen, blocks)]


def _seen(weights: ndarray) -> tuple[int, int, ndarray]:
    """Cut off the values at both ends that no point sees."""
    seen = np.flatnonzero(weights.any(0))
    first, last = int(seen[0]), int(seen[-1]) + 1
    return first, last, weights[:, first:last]


def _times(side: int) -> Float32[ndarray, " p"]:
    """Return how often the points lie on each pixel of a line of up to 64: longer ones have 64 points, each once."""
    times: ndarray = np.bincount(_centres(side)) if side < _POINTS else np.ones(_POINTS)
    return times.astype(np.float32)


def _thinned(side: int) -> ndarray:
    """Return the weight of every pixel of a line in each of its points: filtered twice, then every so many taken."""
    if side <= _POINTS:
        return np.eye(side)
    only = np.zeros((_POINTS, side))
    only[np.arange(_POINTS), _centres(side)] = 1
    return _spread(_spread(only))


def _centres(side: int) -> ndarray:
    """Return the pixels that the points lie on."""
    centres: ndarray = (np.arange(_POINTS) * 2 + 1) * side // (2 * _POINTS)
    return centres


def _spread(weights: ndarray) -> ndarray:
    """Hand every weight out evenly to the window about its pixel, which is smaller at the ends of the line.

    The window has a 128th of the line's pixels, rounded up; an even one reaches further forward.
    """
    side = weights.shape[1]
    window = -(-side // (2 * _POINTS))
    ahead = window // 2 + 1
    place = np.arange(side)
    first, last = np.maximum(place + ahead - window, 0), np.minimum(place + ahead, side)
    out = np.zeros_like(weights)
    for row, centre in zip(*np.nonzero(weights), strict=True):
        out[row, first[centre] : last[centre]] += weights[row, centre] / (last[centre] - first[centre])
    return out


@lru_cache(64)
def _cosines(side: int) -> Float32[ndarray, "16 p"]:
    """Return the rows 1 to 16 of the discrete cosine transform (Zauner 2010) of 64 points; 0, the mean, is left out."""
    wave, place = np.arange(1, _WAVES + 1)[:, None], np.arange(_POINTS)
    table: ndarray = np.sqrt(2 / _POINTS) * np.cos(np.pi / (2 * _POINTS) * wave * (2 * place + 1))
    if side < _POINTS:  # points on one pixel are one point
        table = np.add.reduceat(table, np.searchsorted(_centres(side), np.arange(side)), axis=1)
    return table.astype(np.float32)


def _quality(points: Float32[ndarray, "n r c"], down: Float32[ndarray, " r"], across: ndarray) -> UInt8[ndarray, " n"]:
    """Return what the steps between neighbouring points add up to, each cut to whole percent.

    Points on one pixel have no step between them; `down` and `across` say how often a row or a column counts.
    """
    total = (_whole(points[:, 1:] - points[:, :-1]) @ across).sum(1)
    total += (down @ _whole(points[:, :, 1:] - points[:, :, :-1])).sum(1)
    quality: ndarray = np.minimum(total // _STEEP, 100).astype(np.uint8)
    return quality


def _whole(steps: Float32[ndarray, "n r c"]) -> Float32[ndarray, "n r c"]:
    np.abs(steps, out=steps)
    steps += np.float32(_NUDGE)
    np.floor(steps, out=steps)
    return steps


def _medians(waves: Float32[ndarray, "... 16 16"]) -> Float32[ndarray, " ..."]:
    """Return the lower median: the 128th of 256, so that at most half of the bits are set."""
    flat = waves.reshape(*waves.shape[:-2], -1)
    middle: ndarray = np.partition(flat, _WAVES**2 // 2 - 1, axis=-1)[..., _WAVES**2 // 2 - 1]
    return middle


def _bits(waves: Float32[ndarray, "... 16 16"], medians: Float32[ndarray, " ..."]) -> UInt8[ndarray, "... 32"]:
    """Return the hashes; the highest frequency is the first bit."""
    above = waves > medians[..., None, None]
    return np.packbits(above.reshape(*above.shape[:-2], -1)[..., ::-1], axis=-1)


def _eight(waves: Float32[ndarray, "n 16 16"]) -> UInt8[ndarray, "n 8 32"]:
    """Mirror the picture by the signs of its odd frequencies, turn it by swapping rows and columns."""
    own = waves[:, None] * _signs()
    medians = _medians(own)
    still, swapped = _bits(own, medians), _bits(own.swapaxes(-1, -2), medians)
    as_is, down, across, half = range(4)
    order = [still[:, as_is], swapped[:, across], still[:, half], swapped[:, down]]
    order += [still[:, down], still[:, across], swapped[:, as_is], swapped[:, half]]
    return np.stack(order, 1)


@lru_cache(1)
def _signs() -> Float32[ndarray, "4 16 16"]:
    """Return what mirroring does to the frequencies: nothing, top to bottom, left to right, both."""
    odd = np.where(np.arange(_WAVES) % 2, 1, -1).astype(np.float32)
    down, across = np.repeat(odd[:, None], _WAVES, 1), np.repeat(odd[None], _WAVES, 0)
    return np.stack([np.ones_like(down), down, across, down * across])


def _words(hashes: ndarray) -> ndarray:
    """Return the hashes as four words each, uint64 [4, n]."""
    return np.ascontiguousarray(np.ascontiguousarray(hashes).view(np.uint64).T)


def _near(a: ndarray, b: ndarray, radius: int, *, above: bool) -> ndarray:
    """Return the pairs block by block, sorted; only those of the upper triangle where `above`."""
    found = [np.zeros((0, 2), np.int64)]
    for i in range(0, a.shape[1], _SIDE):
        for j in range(i if above else 0, b.shape[1], _PAIRS // _SIDE):
            pairs = _close(a[:, i : i + _SIDE], b[:, j : j + _PAIRS // _SIDE], radius) + np.array([i, j])
            found.append(pairs[pairs[:, 0] < pairs[:, 1]] if above else pairs)
    return _ordered(found)


def _close(a: ndarray, b: ndarray, radius: int) -> ndarray:
    """Return the pairs within the radius; half of the bits rule out most of the others."""
    maybe = np.flatnonzero(_counted(a[:2], b[:2], np.uint8) <= radius)
    pairs = np.stack(np.divmod(maybe, b.shape[1]), 1)
    apart = np.bitwise_count(a[:, pairs[:, 0]] ^ b[:, pairs[:, 1]]).sum(0, dtype=np.int64)
    close: ndarray = pairs[apart <= radius]
    return close


def _counted(a: ndarray, b: ndarray, kind: type) -> ndarray:
    """Return the bits that differ in the given words: in all, or in the first few."""
    out: ndarray = np.zeros((a.shape[1], b.shape[1]), kind)
    for own, other in zip(a, b, strict=True):
        out += np.bitwise_count(own[:, None] ^ other)
    return out


def _looked_up(a: ndarray, b: ndarray, radius: int, *, above: bool) -> ndarray:
    """Return the same pairs by looking the words of `a` up among those of `b`, each as it is and with a bit flipped."""
    own, other = (np.ascontiguousarray(hashes).view(np.uint16) for hashes in (a, b))
    found = [np.zeros((0, 2), np.int64)]
    for place in range(_SHORTS):
        # in the order of their words, so that what is compared lies side by side
        mine, theirs = (np.argsort(hashes[:, place], kind="stable") for hashes in (own, other))
        pairs = _by_word(own[mine], other[theirs], place, radius, above=above)
        found.append(np.stack([mine[pairs[:, 0]], theirs[pairs[:, 1]]], 1))
    return _ordered(found, above=above)


def _by_word(own: ndarray, other: ndarray, place: int, radius: int, *, above: bool) -> ndarray:
    """Return the pairs within the radius, of hashes sorted by the word at `place`, that no earlier word finds."""
    starts = np.concatenate([[0], np.cumsum(np.bincount(other[:, place], minlength=2**16))])
    found = [np.zeros((0, 2), np.int64)]
    for flip in [0, *(1 << bit for bit in range(16))] if radius >= _SHORTS else [0]:
        rows = np.flatnonzero(own[:, place] & flip == 0) if above else np.arange(len(own))
        wanted = (own[rows, place] ^ flip).astype(np.int64)
        for pairs in _spans(rows, starts[wanted], starts[wanted + 1]):
            some = pairs[pairs[:, 0] < pairs[:, 1]] if above and not flip else pairs
            found.append(_settled(own, other, some, radius, place))
    return np.concatenate(found)


def _spans(rows: ndarray, first: ndarray, last: ndarray) -> Iterator[ndarray]:
    """Yield each row with all columns from its first to before its last, some rows at a time."""
    ends = np.cumsum(last - first)
    cuts = np.searchsorted(ends, np.arange(0, ends[-1] if len(ends) else 0, _PAIRS), side="right")
    for start, stop in pairwise([*cuts, len(rows)]):
        many = (last - first)[start:stop]
        offset = np.repeat(first[start:stop] - (np.cumsum(many) - many), many)
        yield np.stack([np.repeat(rows[start:stop], many), np.arange(len(offset)) + offset], 1)


def _settled(own: ndarray, other: ndarray, pairs: ndarray, radius: int, place: int) -> ndarray:
    """Return the pairs within the radius that no earlier word has found."""
    bits = np.bitwise_count(own.view(np.uint64)[pairs[:, 0]] ^ other.view(np.uint64)[pairs[:, 1]])
    close = pairs[bits[:, 0].astype(np.uint16) + bits[:, 1] + bits[:, 2] + bits[:, 3] <= radius]
    near = np.bitwise_count(own[close[:, 0]] ^ other[close[:, 1]]) <= radius // _SHORTS
    settled: ndarray = close[near.argmax(1) == place]
    return settled


def _ordered(found: list[ndarray], *, above: bool = False) -> ndarray:
    """Return all pairs sorted; where `above`, the smaller of each first."""
    pairs = np.concatenate(found)
    if above:
        pairs.sort(axis=1)
    ordered: ndarray = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    return ordered
