"""Exact nearest neighbours among vectors of levels (uint8), by the integer sum of squared differences.

A cascade: lower bounds from a few coordinates, tighter ones from more, exact integers for what is left. For an
orthonormal P and residual norms r(x) = sqrt(|x|^2 - |Px|^2), |x-y|^2 >= |Px-Py|^2 + (r(x)-r(y))^2 (Cauchy-Schwarz on
the part that P drops). P holds the leading principal axes of some of the vectors; any P is valid, a good one drops
more. How far a query has to look is told by the k vectors that are nearest by the tighter bounds: their exact distances
bound the k-th from above, and whatever has a larger lower bound is dropped.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float32, Float64, Int64, UInt8
from numpy import ndarray

from byrote.kernels import distance

_COARSE, _FINE = 126, 382  # coordinates of the two levels; measured, not published
_PLAIN_ROWS = 16384  # fewer vectors than this are compared outright: measured
_PLAIN_VALUES = 384  # so are shorter ones
_LONGEST = 2**16  # values for which the rounding slack is derived
_LEARN = 4  # vectors an axis that the axes are learned from: measured
_DEEPEST = 768  # neighbours; more are not worth the bounds
_SEEDS = 3  # times k vectors are seen by the fine level to pick the k that tell how far to look: measured
_WORTH = 8  # times all vectors measured one by one cost what a product over all of them does: measured
_BLOCK = 2**22  # numbers of a block of the matrix of exact sums
_HELD = 2**24  # estimates that are held at once: measured
_TOGETHER = 64  # queries at least, whatever that holds: fewer would read the points from memory too often
_CACHED = 2**18  # values that are measured one by one at once: what the cache holds
_POINTS = 512  # points that are compared at once: measured
_CENTRE = 128
_CHUNK = 2**24 // (255 * _CENTRE) // 64 * 64  # products of a level and a centred one that float32 sums exactly
_UNIT = 2.0**-24  # rounding of float32


@dataclass(frozen=True, slots=True)
class Level:
    """Vectors seen through a few coordinates.

    `points` are float32 [n, k+2]: k coordinates, the residual norm, and the squared norm of these k+1. `largest` is
    the largest norm (not squared).
    """

    points: ndarray
    largest: float

    @classmethod
    def of(cls, points: ndarray) -> "Level":
        """Take the points and their largest norm."""
        return cls(points, math.sqrt(points[:, -1].max(initial=0)))

    @property
    def norms(self) -> Float64[ndarray, " n"]:
        """Return the squared norms."""
        return self.points[:, -1].astype(np.float64)

    def asking(self, rows: slice) -> Float32[ndarray, "q k2"]:
        """Return some of the vectors as the other side of `estimates`: -2 p and 1."""
        asked: ndarray = self.points[rows] * np.float32(-2)
        asked[:, -1] = 1
        return asked

    def estimates(
        self, asked: Float32[ndarray, "q k2"], some: slice, out: Float32[ndarray, "q m"] | None = None
    ) -> Float32[ndarray, "q m"]:
        """Return the squared distances of some vectors to askers, less the askers' squared norms; see `ceiling`."""
        estimates: ndarray = np.matmul(asked, self.points[some].T, out=out)
        return estimates

    def ceiling(self, limit: float, own: Float64[ndarray, "*q"] | float) -> Float64[ndarray, "*q"] | float:
        """Return what no estimate exceeds whose true squared distance is at most `limit`, for squared norms of askers.

        With u = 2^-24, m the sum of the norms |p| of the asker and |q| of the longest vector, and K = k + 2 terms: the
        float32 product errs by at most K u (2 |p| |q| + |q|^2), both squared norms, summed in float64 and rounded, by
        u (|p|^2 + |q|^2), the rounding of what is returned to float32 by u m^2 (Higham 2002, section 3.1): together
        less than (K + 2) u m^2, doubled here for the terms in u^2. The stored points are off from the exact ones of a
        centred vector x: coordinates by at most (2^-24 + 2^-32) |x|, for float64 products of at most 2^16 values with
        axes that Householder QR made orthonormal to 2^-33, rounded to float32; so the squared residual by at most
        2^-30 |x|^2, and the residual, since |a - b| <= sqrt |a^2 - b^2|, by at most 2^-15 |x|. Both ends together move
        a distance by at most 2^-14 m.
        """
        most = (own**0.5 + self.largest) * 1.001
        reach = (limit**0.5 + 2.0**-14 * most) ** 2
        ceiling: ndarray | float = reach + 2 * (self.points.shape[1] + 2) * _UNIT * most**2 - own
        return ceiling

    def reach(self, limit: float) -> float:
        """Return how far apart two stored points are at most whose true squared distance is at most `limit`."""
        return float(limit**0.5 + 2.0**-14 * 2 * self.largest * 1.001)


@dataclass(frozen=True, slots=True)
class _Seen:
    """Vectors beside what is known of them: both levels, and their exact squared norms (centred)."""

    vectors: UInt8[ndarray, "n d"]
    coarse: Level
    fine: Level
    squares: Float64[ndarray, " n"]


class Nearest:
    """The vectors, ready to be searched."""

    def __init__(self, vectors: UInt8[ndarray, "n d"]) -> None:
        self.vectors = vectors
        n, d = vectors.shape
        self._axes = Axes.learn(vectors, _FINE) if _pays(n, d) else None
        if self._axes:
            self._seen = self._axes.see(vectors)

    def search(self, queries: UInt8[ndarray, "q d"], k: int) -> tuple[Int64[ndarray, "q k"], Int64[ndarray, "q k"]]:
        """Return the k nearest of each query: squared distances of levels and ids, nearest first, ties by id.

        Exact. There are as many columns as vectors where those are fewer than k.
        """
        k = min(k, len(self.vectors))
        if not self._axes or not 0 < k <= _DEEPEST:
            return _plain(self.vectors, queries, k)
        found = np.empty((2, len(queries), k), np.int64)
        step = min(len(queries), max(_TOGETHER, _HELD // len(self.vectors)))
        held = np.empty((step, len(self.vectors)), np.float32)
        for i in range(0, len(queries), max(1, step)):
            some = queries[i : i + step]
            found[:, i : i + step] = self._cascade(some, self._axes, held[: len(some)], k)
        return found[0], found[1]

    def _cascade(self, queries: ndarray, axes: "Axes", held: ndarray, k: int) -> ndarray:
        """Search a block of queries; those that the bounds leave too much for are compared outright.

        The estimates go into `held`: one space for all blocks, for new space costs time.
        """
        found = np.empty((2, len(queries), k), np.int64)
        asked = axes.see(queries)
        estimates = self._seen.coarse.estimates(asked.coarse.asking(slice(None)), slice(None), held)
        bars = _bars(estimates, _SEEDS * k)
        room = _Room(self._seen)
        budget, many = _WORTH * len(self.vectors), []
        for i, query in enumerate(_queries(asked)):
            seeds, sums, left = self._survivors(query, room, estimates[i], bars[i], k)
            budget -= len(left)
            if budget < 0:
                many.append(i)
            else:
                sums = np.concatenate([sums, room.sums(query, left)])
                found[:, i] = _first(sums, np.concatenate([seeds, left]), k)
        if many:
            found[:, many] = _plain(self.vectors, queries[many], k)
        return found

    def _survivors(
        self, query: "_Query", room: "_Room", estimates: ndarray, bar: float, k: int
    ) -> tuple[ndarray, ndarray, ndarray]:
        """Return k near ids, their exact sums, and whichever other ids may be among the k nearest.

        Writes over the estimates of what the fine level has seen, so that it is seen once.
        """
        coarse, fine = self._seen.coarse, self._seen.fine
        first = (estimates <= bar).nonzero()[0][: 2 * _SEEDS * k]
        bounds, guesses = room.estimates(query, first)
        best = np.argpartition(guesses, k - 1)[:k]
        seeds = first[best]
        sums = room.sums(query, seeds)
        reach = float(sums.max())
        bounds[best] = estimates[first] = np.inf
        more = (estimates <= coarse.ceiling(reach, query.coarse_norm)).nonzero()[0]
        bounds = np.concatenate([bounds, room.estimates(query, more)[0]])
        left = np.concatenate([first, more])[bounds <= fine.ceiling(reach, query.fine_norm)]
        return seeds, sums, left


@dataclass(frozen=True, slots=True)
class _Query:
    """One query y as the levels and the exact sums want it: its points, and its centred values y - c, with c = 128.

    `offset` is what its exact sums have in common: |y-c|^2 + 2 c sum(y-c).
    """

    coarse_norm: float
    fine_norm: float
    fine: Float32[ndarray, " k2"]
    centred: Float32[ndarray, " d"]
    offset: float


def _queries(seen: _Seen) -> Iterator[_Query]:
    """Return each of the vectors, ready to ask with."""
    centred = seen.vectors.astype(np.float32) - _CENTRE
    offsets = seen.squares + 2 * _CENTRE * centred.sum(1, dtype=np.float64)
    norms = seen.coarse.norms.tolist(), seen.fine.norms.tolist()
    return map(_Query, *norms, seen.fine.asking(slice(None)), centred, offsets.tolist())


class _Room:
    """What measures a few vectors at a time, in space that is filled again and again: new space costs more than it."""

    def __init__(self, seen: _Seen) -> None:
        self._seen = seen
        d = seen.vectors.shape[1]
        self._levels = np.empty((max(1, _CACHED // d), d), np.uint8)
        self._wide = np.empty(self._levels.shape, np.float32)
        self._points = np.empty((_POINTS, seen.fine.points.shape[1]), np.float32)

    def sums(self, query: _Query, ids: Int64[ndarray, " m"]) -> Int64[ndarray, " m"]:
        """Return the exact squared distances to some of the vectors: |x-c|^2 + |y-c|^2 - 2 x (y-c) + 2 c sum(y-c)."""
        products = np.empty(len(ids))
        for part, some in _parts(ids, len(self._levels)):
            levels, wide = self._levels[: len(some)], self._wide[: len(some)]
            np.copyto(wide, self._seen.vectors.take(some, 0, out=levels, mode="clip"))
            products[part] = _products(wide, query.centred)
        exact: ndarray = (self._seen.squares[ids] - 2 * products + query.offset).astype(np.int64)
        return exact

    def estimates(self, query: _Query, ids: Int64[ndarray, " m"]) -> tuple[ndarray, ndarray]:
        """Return the fine estimates of some vectors, and guesses that take the residuals for orthogonal."""
        estimates, residuals = np.empty((2, len(ids)), np.float32)
        for part, some in _parts(ids, _POINTS):
            points = self._seen.fine.points.take(some, 0, out=self._points[: len(some)], mode="clip")
            np.matmul(points, query.fine, out=estimates[part])
            residuals[part] = points[:, -2]
        return estimates, estimates - query.fine[-2] * residuals


def _parts(ids: Int64[ndarray, " m"], size: int) -> Iterator[tuple[slice, ndarray]]:
    """Cut into parts of a size, with where each lies."""
    for i in range(0, len(ids), size):
        yield slice(i, i + size), ids[i : i + size]


def _products(levels: Float32[ndarray, "m d"], centred: Float32[ndarray, " d"]) -> Float64[ndarray, " m"]:
    """Return the exact inner products of levels and centred levels, by sums that float32 holds."""
    m, d = levels.shape
    cut = d - d % _CHUNK
    chunks = levels[:, :cut].reshape(m, -1, _CHUNK).swapaxes(0, 1) @ centred[:cut].reshape(-1, _CHUNK, 1)
    products: ndarray = chunks[:, :, 0].sum(0, dtype=np.float64)
    if cut < d:
        products += np.vecdot(levels[:, cut:], centred[cut:])
    return products


def _bars(estimates: Float32[ndarray, "q n"], seeds: int) -> Float32[ndarray, " q"]:
    """Return for each query a value that at least so many estimates do not exceed, and not many more do not.

    It is a partial sort of the minima of groups, which costs much less than one of all.
    """
    q, n = estimates.shape
    each = max(1, n // (4 * seeds))
    groups = n // each
    minima = estimates[:, : each * groups].reshape(q, each, groups).min(1)
    place = min(seeds, groups) - 1
    bars: ndarray = np.partition(minima, place, axis=1)[:, place]
    return bars


def principal(vectors: Float64[ndarray, "n d"], count: int) -> Float64[ndarray, "count d"]:
    """Return orthonormal rows that span the leading principal axes, and any others where the vectors have fewer.

    The vectors are taken as they are: subtract their mean where that is wanted. By the smaller of both Gram matrices.
    """
    if vectors.shape[0] < vectors.shape[1]:
        spanned = vectors.T @ np.linalg.eigh(vectors @ vectors.T)[1][:, ::-1][:, :count]
    else:
        spanned = np.linalg.eigh(vectors.T @ vectors)[1][:, ::-1][:, :count]
    rows, _ = np.linalg.qr(np.pad(spanned, ((0, 0), (0, count - spanned.shape[1]))))
    return np.ascontiguousarray(rows.T)


@dataclass(frozen=True, slots=True)
class Axes:
    """Orthonormal rows (float64 [k, d])."""

    rows: Float64[ndarray, "k d"]

    @classmethod
    def learn(cls, vectors: UInt8[ndarray, "n d"], count: int) -> "Axes":
        """Take the leading principal axes of evenly spaced vectors, at most `count`."""
        n, d = vectors.shape
        some = vectors[np.linspace(0, n - 1, min(_LEARN * count, n)).astype(np.int64)]
        return cls(principal(_centred(some), min(count, d, len(some))))

    def see(self, vectors: UInt8[ndarray, "n d"]) -> _Seen:
        """Return the vectors with both of their views."""
        coarse, fine, squares = self.levels(vectors, min(_COARSE, len(self.rows)), "F")  # the fastest for the product
        return _Seen(vectors, coarse, fine, squares)

    def levels(
        self, vectors: UInt8[ndarray, "n d"], few: int, order: Literal["C", "F"] = "C"
    ) -> tuple[Level, Level, Float64[ndarray, " n"]]:
        """Return the vectors by a few coordinates and by all, and their exact squared norms (centred)."""
        n, k = len(vectors), len(self.rows)
        coarse, fine = np.empty((n, few + 2), np.float32, order), np.empty((n, k + 2), np.float32)
        squares = np.empty(n)
        for i in range(0, n, 512):
            x = _centred(vectors[i : i + 512])
            squares[i : i + 512] = np.vecdot(x, x)
            coordinates = x @ self.rows.T
            for out in (coarse, fine):
                _fill(out[i : i + 512], coordinates, squares[i : i + 512])
        return Level.of(coarse), Level.of(fine), squares


def _pays(n: int, d: int) -> bool:
    """Say whether bounds cost less than what they save."""
    return n >= _PLAIN_ROWS and _PLAIN_VALUES <= d <= _LONGEST


def _centred(vectors: UInt8[ndarray, "n d"]) -> Float64[ndarray, "n d"]:
    centred: ndarray = vectors.astype(np.float64)
    centred -= _CENTRE
    return centred


def _fill(points: ndarray, coordinates: ndarray, squares: ndarray) -> None:
    """Write the leading coordinates, the residual norm and the squared norm of both."""
    exact = coordinates[:, : points.shape[1] - 2]
    points[:, :-2] = exact
    points[:, -2] = np.sqrt(np.maximum(squares - np.vecdot(exact, exact), 0))
    wide = points[:, :-1].astype(np.float64)
    points[:, -1] = np.vecdot(wide, wide)


def _first(sums: ndarray, ids: ndarray, k: int) -> ndarray:
    """Return the k smallest sums with their ids, ties by id."""
    if len(sums) > 4 * k:
        keep = sums <= np.partition(sums, k - 1)[k - 1]
        sums, ids = sums[keep], ids[keep]
    order = np.lexsort((ids, sums))[:k]
    return np.array([sums[order], ids[order]])


def _plain(vectors: ndarray, queries: ndarray, k: int) -> tuple[ndarray, ndarray]:
    """Compare every query with every vector, in exact integers."""
    found = np.empty((2, len(queries), k), np.int64)
    ids = np.arange(len(vectors))
    step = max(1, _BLOCK // max(1, len(vectors)))
    for i in range(0, len(queries), step):
        for place, sums in enumerate(distance.squares(queries[i : i + step], vectors), i):
            if k:
                found[:, place] = _first(sums, ids, k)
    return found[0], found[1]
