"""The nearest of a picture's small moves to a sample: shifted, cropped, mirrored. Exact, by bounds from block sums.

(sum of a - sum of b)^2 / pixels of a block is at most its sum of squared differences (Cauchy-Schwarz), so block sums
bound the tiled distance from below. Moves are dropped by bounds from coarse to fine, then by their worst tile alone,
and only the rest is measured whole.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64, UInt8
from numpy import ndarray
from numpy.lib.stride_tricks import sliding_window_view

from byrote.kernels.distance import block_sums, box_sums, largest_sum, paired_squares, root, tile_values

_LADDER = 0.05  # step of the shares that a crop keeps; not published
_PLACES = ((0, 0), (-1, -1), (1, -1), (-1, 1), (1, 1))
_NINE = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1), (-1, -1), (1, -1), (-1, 1), (1, 1))
_FINE = 256  # places from the centre of a picture to its edge, of windows at any place
_BLOCKS = (1, 2, 4)  # blocks to a tile's edge, coarse to fine
_UNIT = 2.0**-24
_PAIRS, _PICTURES, _ENTRIES = 512, 48, 2048  # of a chunk; they bound memory


@dataclass(frozen=True, slots=True)
class Alignment:
    """A move of a picture: cropped or shifted, then mirrored left to right where `flip`.

    With `crop` 1 the picture moves `dx` pixels to the right and `dy` down, and its edge pixels fill what opens. With
    `crop` below 1 a window with that share of each edge is blown up to the whole size (bilinear), and `dx`, `dy` say
    where it lies: 0 is the centre, -`places` left or top, `places` right or bottom.
    """

    flip: bool
    crop: float
    dx: int
    dy: int
    places: int = 1

    @property
    def at(self) -> tuple[float, float]:
        """Return where it lies: pixels of a shift, and of a crop shares of the way from the centre to the edge."""
        return (self.dx, self.dy) if self.places == 1 else (self.dx / self.places, self.dy / self.places)


IDENTITY = Alignment(False, 1.0, 0, 0)


@dataclass(frozen=True, slots=True)
class Best:
    """For each pair the tiled distance and the RMS at its best move, and the move's place in the list."""

    tiled: Float64[ndarray, " n"]
    rms: Float64[ndarray, " n"]
    moves: Int64[ndarray, " n"]


def alignments(shift: int, flip: bool, crop: float) -> tuple[Alignment, ...]:
    """List the moves: all shifts up to `shift` pixels, the smallest first, crops down to `crop`, then all mirrored.

    A crop keeps 0.95, 0.9, ... of each edge and lies in the centre or in a corner. Raises ValueError for a negative
    shift or a crop outside (0, 1].
    """
    if shift < 0 or not 0 < crop <= 1:
        raise ValueError(f"shift {shift} must be 0 or more, crop {crop} above 0 and at most 1")
    reach = range(-shift, shift + 1)
    shifts = sorted(((dx, dy) for dx in reach for dy in reach), key=lambda m: (abs(m[0]) + abs(m[1]), m))
    still = [Alignment(False, 1.0, dx, dy) for dx, dy in shifts]
    still += [Alignment(False, share, dx, dy) for share in _shares(crop) for dx, dy in _PLACES]
    return (*still, *(Alignment(True, m.crop, m.dx, m.dy) for m in still if flip))


def at_window(
    left: float, top: float, wide: float, tall: float, flip: bool, height: int, width: int
) -> tuple[Alignment, ...]:
    """List the moves at and around a window of the central square: the nearest, and those half a pixel and one beside.

    The window is given in shares of the square's edges; `height` and `width` are those of the whole picture, in pixels.
    Windows of nearly the whole are shifts.
    """
    share, square, edge = (wide + tall) / 2, min(height, width), 1 / max(height, width)
    across, down = (left + (wide - 1) / 2) * square, (top + (tall - 1) / 2) * square
    sizes = [round(min(share, 1.0) + k * edge, 4) for k in (0, -1, 1)]
    found = [_crop(size, across, down, flip, height, width) for size in sizes if size < 1] if share < 1 else []
    if share > 1 - 2 * edge:
        found.append([Alignment(flip, 1.0, round(-across) + dx, round(-down) + dy) for dx, dy in _NINE])
    return tuple(dict.fromkeys(each for some in found for each in some))


def move(picture: UInt8[ndarray, "h w c"], to: Alignment) -> UInt8[ndarray, "h w c"]:
    """Return the picture after the move."""
    moved = _view(picture[None], to.crop, *to.at)[0]
    return np.ascontiguousarray(moved[:, ::-1] if to.flip else moved)


def best(
    sample: UInt8[ndarray, "h w c"],
    picture: UInt8[ndarray, "h w c"],
    moves: Sequence[Alignment],
    *,
    tiles: int,
    cutoff: float,
) -> tuple[float, float, Alignment] | None:
    """Return the least tiled distance over the moves, the RMS there and the move; None where none is in `cutoff`."""
    found = best_of_pairs(sample[None], picture[None], moves=moves, tiles=tiles, cutoff=cutoff)
    if found.tiled[0] > cutoff:
        return None
    return float(found.tiled[0]), float(found.rms[0]), moves[int(found.moves[0])]


def best_of_pairs(
    samples: UInt8[ndarray, "n h w c"],
    pictures: UInt8[ndarray, "n h w c"],
    *,
    moves: Sequence[Alignment],
    tiles: int,
    cutoff: float | Float64[ndarray, " n"],
) -> Best:
    """Return the best move of each picture to the sample in its place: least tiled distance, first of equals.

    Exact for every pair with a move within `cutoff`; a pair with none is measured where it stands (move 0). Equal
    pictures share their work. Raises ValueError where `moves` does not start with the identity, or tiles do not divide.
    """
    if samples.shape != pictures.shape:
        raise ValueError(f"shapes differ: {samples.shape} and {pictures.shape}")
    if not moves or moves[0] != IDENTITY:
        raise ValueError("the first move must be the identity")
    values = tile_values(samples.shape, tiles)
    identity = paired_squares(samples, pictures, tiles=tiles)
    sums, totals, places = identity.max(1), identity.sum(1), np.zeros(len(samples), np.int64)
    limits = np.minimum(sums - 1, _largest_sums(cutoff, len(samples), values))
    views = _Moves.of(moves)
    for rows, some, which in _chunks(pictures) if len(moves) > 1 else ():
        search = _Search(samples[rows], _Views(some, views), which, tiles)
        found = search.run(limits[rows])
        better = found[2] >= 0
        sums[rows[better]], totals[rows[better]], places[rows[better]] = (part[better] for part in found)
    return Best(root(sums, values), root(totals, int(np.prod(samples.shape[1:]))), places)


@dataclass(frozen=True, slots=True)
class _Moves:
    """The moves as distinct views (crop, dx, dy), each seen as it is or mirrored: `view` and `flip` of every move."""

    views: tuple[tuple[float, float, float], ...]
    view: Int64[ndarray, " m"]
    flip: Int64[ndarray, " m"]

    @classmethod
    def of(cls, moves: Sequence[Alignment]) -> "_Moves":
        keys = [(m.crop, *m.at) for m in moves]
        views = tuple(dict.fromkeys(keys))
        return cls(views, np.array([views.index(key) for key in keys]), np.array([int(m.flip) for m in moves]))


class _Views:
    """Pictures under every view of the moves. Mirroring is left to the sample: the tiles lie alike in the mirror."""

    def __init__(self, pictures: ndarray, moves: _Moves) -> None:
        self.moves = moves
        self._reach = int(max((max(abs(dx), abs(dy)) for crop, dx, dy in moves.views if crop == 1), default=0))
        edge = (self._reach, self._reach)
        self._padded = np.pad(pictures, ((0, 0), edge, edge, (0, 0)), mode="edge")
        self._crops = _crops(pictures, moves.views)
        self._shifts = [v for v, view in enumerate(moves.views) if view[0] == 1]
        self._table = np.array(moves.views).T
        self._shape = pictures.shape

    def sums(self, blocks: int) -> ndarray:
        """Return the block sums, float32 [pictures, views, blocks, blocks, c]."""
        n, _, _, c = self._shape
        out = np.empty((n, len(self.moves.views), blocks, blocks, c), np.float32)
        _, dx, dy = np.array([self.moves.views[v] for v in self._shifts], np.int64).reshape(-1, 3).T
        out[:, self._shifts] = self._shifted_sums(blocks)[:, self._reach - dy, self._reach - dx]
        for v, pixels in self._crops.items():
            out[:, v] = block_sums(pixels, blocks)
        return out

    def _shifted_sums(self, blocks: int) -> ndarray:
        """Return the block sums at every offset (down, right) in the padded picture."""
        _, h, w, _ = self._shape
        box = box_sums(box_sums(self._padded.astype(np.int32), h // blocks, 1), w // blocks, 2)
        offsets = np.arange(2 * self._reach + 1)[:, None]
        rows, columns = (offsets + np.arange(blocks) * (side // blocks) for side in (h, w))
        found: ndarray = box[:, rows[:, None, :, None], columns[None, :, None, :]]
        return found

    def pixels(self, which: ndarray, view: ndarray, top: ndarray, left: ndarray, size: tuple[int, int]) -> ndarray:
        """Return windows of the views, uint8 [entries, *size, c]: picture, view, top and left are given for each."""
        out = np.empty((len(which), *size, self._shape[3]), np.uint8)
        crop, dx, dy = self._table[:, view]
        shifted = crop == 1
        y, x = top + self._reach - dy.astype(np.int64), left + self._reach - dx.astype(np.int64)
        out[shifted] = _windows(self._padded, size)[which[shifted], y[shifted], x[shifted]]
        for v in np.unique(view[~shifted]):
            here = view == v
            out[here] = _windows(self._crops[v], size)[which[here], top[here], left[here]]
        return out


class _Search:
    """One chunk of pairs. An entry is a pair with a move (`pair`, `to`) that may still be its best."""

    def __init__(self, samples: ndarray, views: _Views, which: ndarray, tiles: int) -> None:
        self._samples = np.stack([samples, samples[:, :, ::-1]])
        self._views, self._which, self._tiles = views, which, tiles
        _, h, w, _ = samples.shape
        self._size = h, w
        self._tile = h // tiles, w // tiles
        self._levels = _levels(*self._tile)
        finest = tiles * self._levels[-1]
        whole = block_sums(samples, finest).astype(np.float32)
        self._sums = np.stack([whole, whole[:, :, ::-1]]), views.sums(finest)

    def run(self, limits: ndarray) -> tuple[ndarray, ndarray, ndarray]:
        """Return worst tile sum, whole sum and move of each pair; move -1 where none has a sum within its limit."""
        pair, to = (index.ravel() for index in np.indices((len(limits), len(self._views.moves.view))))
        pair, to = pair[limits[pair] >= 0], to[limits[pair] >= 0]
        bound, tile = np.zeros(len(pair)), np.zeros(len(pair), np.int64)
        for blocks in self._levels:
            bound, tile = self._bounds(blocks, pair, to)
            pair, to, bound, tile = _kept(bound <= limits[pair], pair, to, bound, tile)
        bound = _in_turns(self._worst_tile, pair, to, tile).astype(np.float64)
        return self._settle(limits, *_kept(bound <= limits[pair], pair, to, bound))

    def _bounds(self, blocks: int, pair: ndarray, to: ndarray) -> tuple[ndarray, ndarray]:
        """Return lower bounds of the worst tile sums, and the tile that gave each.

        The differences of sums are exact; K squares and their sum err by at most (K + 1) 2^-24 of it, taken off twice.
        """
        own, other = (self._by_tile(_merged(sums, self._tiles * blocks)) for sums in self._sums)
        area = self._tile[0] * self._tile[1] / blocks**2
        scale = (1 - 2 * (own.shape[-1] + 1) * _UNIT) / area

        def some(pair: ndarray, to: ndarray) -> ndarray:
            difference = own[self._views.moves.flip[to], pair]
            difference -= other[self._which[pair], self._views.moves.view[to]]
            sums: ndarray = np.vecdot(difference, difference)
            return np.stack([sums.max(1), sums.argmax(1)], 1).astype(np.float64)

        found = _in_turns(some, pair, to).reshape(-1, 2)
        return found[:, 0] * scale, found[:, 1].astype(np.int64)

    def _by_tile(self, sums: ndarray) -> ndarray:
        """Put the blocks of a tile side by side: [a, b, tiles * tiles, values]."""
        a, b, blocks, _, c = sums.shape
        t, k = self._tiles, blocks // self._tiles
        ordered = sums.reshape(a, b, t, k, t, k, c).transpose(0, 1, 2, 4, 3, 5, 6)
        return ordered.reshape(a, b, t * t, k * k * c)

    def _worst_tile(self, pair: ndarray, to: ndarray, tile: ndarray) -> ndarray:
        """Return the exact sum of the given tile of each entry."""
        moves, (height, width) = self._views.moves, self._tile
        top, left = tile // self._tiles * height, tile % self._tiles * width
        b = self._views.pixels(self._which[pair], moves.view[to], top, left, self._tile)
        a = _windows(self._samples.reshape(-1, *self._samples.shape[2:]), self._tile)[
            moves.flip[to] * self._samples.shape[1] + pair, top, left
        ]
        sums: ndarray = paired_squares(a, b, tiles=1)[:, 0]
        return sums

    def _whole(self, pair: ndarray, to: ndarray) -> ndarray:
        """Return the exact worst tile sum and whole sum of each entry."""
        moves, zero = self._views.moves, np.zeros_like(pair)
        b = self._views.pixels(self._which[pair], moves.view[to], zero, zero, self._size)
        sums = paired_squares(self._samples[moves.flip[to], pair], b, tiles=self._tiles)
        return np.stack([sums.max(1), sums.sum(1)], 1)

    def _settle(self, limits: ndarray, pair: ndarray, to: ndarray, bound: ndarray) -> tuple[ndarray, ndarray, ndarray]:
        """Measure the most promising entry of every pair, drop what it beats, and so on until none is left."""
        limit, total, place = limits.copy(), np.zeros_like(limits), np.full_like(limits, -1)
        order = np.lexsort((to, bound, pair))
        pair, to, bound = pair[order], to[order], bound[order]
        while len(pair):
            _, first = np.unique(pair, return_index=True)
            p, m = pair[first], to[first]
            worst, whole = _in_turns(self._whole, p, m).reshape(-1, 2).T
            wins = (worst < limit[p]) | ((worst == limit[p]) & ((place[p] < 0) | (m < place[p])))
            limit[p[wins]], total[p[wins]], place[p[wins]] = worst[wins], whole[wins], m[wins]
            open_ = (bound < limit[pair]) | ((bound == limit[pair]) & ((place[pair] < 0) | (to < place[pair])))
            open_[first] = False
            pair, to, bound = _kept(open_, pair, to, bound)
        return limit, total, place


def _levels(height: int, width: int) -> list[int]:
    """Return the blocks to a tile's edge of every level whose sums are exact in float32.

    Larger tiles than 256 x 256 start with smaller blocks.
    """
    fits = [
        k for k in range(1, max(height, width) + 1) if height % k == width % k == 0 and height * width <= 2**16 * k * k
    ]
    return [k for k in fits if k in _BLOCKS] or fits[:1]


def _merged(sums: ndarray, blocks: int) -> ndarray:
    """Add block sums up to fewer blocks."""
    k = sums.shape[2] // blocks
    merged = sums[:, :, ::k, ::k].copy()
    for y in range(k):
        for x in range(k):
            if y or x:
                merged += sums[:, :, y::k, x::k]
    return merged


def _chunks(pictures: ndarray) -> Iterator[tuple[ndarray, ndarray, ndarray]]:
    """Yield rows of pairs, their distinct pictures and which of these each has; equal pictures come together."""
    ids: dict[bytes, int] = {}
    which = np.array([ids.setdefault(picture.tobytes(), len(ids)) for picture in pictures], np.int64)
    order = np.argsort(which, kind="stable")
    start = 0
    while start < len(order):
        rows = order[start : start + _PAIRS]
        rows = rows[which[rows] < which[rows[0]] + _PICTURES]
        _, first, local = np.unique(which[rows], return_index=True, return_inverse=True)
        yield rows, pictures[rows[first]], local
        start += len(rows)


def _windows(images: ndarray, size: tuple[int, int]) -> ndarray:
    """Return every window of a size as a view, [n, top, left, *size, c]."""
    windows: ndarray = np.moveaxis(sliding_window_view(images, size, axis=(1, 2)), 3, -1)
    return windows


def _in_turns(measure: Callable[..., ndarray], *entries: ndarray) -> ndarray:
    """Measure entries in chunks that bound the memory."""
    parts = [measure(*(e[i : i + _ENTRIES] for e in entries)) for i in range(0, len(entries[0]), _ENTRIES)]
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def _kept(mask: ndarray, *entries: ndarray) -> tuple[ndarray, ...]:
    return tuple(e[mask] for e in entries)


def _largest_sums(cutoff: float | ndarray, n: int, values: int) -> ndarray:
    if isinstance(cutoff, np.ndarray):
        return np.array([largest_sum(float(one), values) for one in cutoff], np.int64)
    return np.full(n, largest_sum(cutoff, values), np.int64)


def _crop(share: float, across: float, down: float, flip: bool, height: int, width: int) -> list[Alignment]:
    """List the crops of a share whose centre lies so many pixels off that of the picture, or half a pixel beside."""
    found = []
    for dx, dy in _NINE:
        x, y = (
            round((off + by / 2) / (side * (1 - share) / 2) * _FINE)
            for off, by, side in ((across, dx, width), (down, dy, height))
        )
        found.append(Alignment(flip, share, max(-_FINE, min(x, _FINE)), max(-_FINE, min(y, _FINE)), _FINE))
    return found


def _shares(crop: float) -> list[float]:
    """Return the shares of the ladder above `crop`, then `crop` itself, without 1."""
    steps = [round(1 - _LADDER * i, 2) for i in range(1, int(1 / _LADDER))]
    return [share for share in steps if share > crop] + ([crop] if crop < 1 else [])


def _view(pictures: ndarray, crop: float, dx: float, dy: float) -> ndarray:
    """Return pictures cropped or shifted; see `Alignment`."""
    _, h, w, _ = pictures.shape
    if crop == 1:
        rows, columns = (np.clip(np.arange(n) - int(by), 0, n - 1) for n, by in ((h, dy), (w, dx)))
        moved: ndarray = pictures[:, rows][:, :, columns]
        return moved
    return _wide(_tall(pictures, crop, dy), crop, dx)


def _tall(pictures: ndarray, crop: float, place: float) -> ndarray:
    """Return the rows of a window blown up, in units of 1/256: whole numbers that float32 holds."""
    rows = pictures.reshape(*pictures.shape[:2], -1).astype(np.float32)
    tall: ndarray = np.matmul(_weights(pictures.shape[1], crop, place), rows).reshape(pictures.shape)
    return tall


def _wide(tall: ndarray, crop: float, place: float) -> ndarray:
    """Blow up the columns too and round to levels; sums stay below 256 * 256 * 255 < 2**24, so float32 holds them."""
    sums: ndarray = np.matmul(_weights(tall.shape[2], crop, place), tall).astype(np.int32)
    sums += 2**15
    sums >>= 16
    levels: ndarray = sums.astype(np.uint8)
    return levels


def _crops(pictures: ndarray, views: tuple[tuple[float, float, float], ...]) -> dict[int, ndarray]:
    """Return the pictures under each view that is a crop, by its number; views of the same rows share them."""
    rows = {key: _tall(pictures, *key) for key in {(crop, dy) for crop, _, dy in views if crop < 1}}
    return {v: _wide(rows[crop, dy], crop, dx) for v, (crop, dx, dy) in enumerate(views) if crop < 1}


def _weights(side: int, crop: float, place: float) -> ndarray:
    """Return the bilinear weights, in units of 1/256, that blow a window of an edge up to the whole edge."""
    start = (1 + place) / 2 * side * (1 - crop)
    at = np.clip(start + (np.arange(side) + 0.5) * crop - 0.5, 0, side - 1)
    low = np.minimum(at.astype(np.int64), side - 1)
    share = np.rint((at - low) * 256).astype(np.float32)
    out = np.zeros((side, side), np.float32)
    np.add.at(out, (np.arange(side), low), 256 - share)
    np.add.at(out, (np.arange(side), np.minimum(low + 1, side - 1)), share)
    return out
