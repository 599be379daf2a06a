"""Exact nearest neighbours among vectors of levels (uint8), by the integer sum of squared differences.

A cascade: lower bounds from a few coordinates, tighter ones from more, exact integers for what is left. For an
orthonormal P and residual norms r(x) = sqrt(|x|^2 - |Px|^2), |x-y|^2 >= |Px-Py|^2 + (r(x)-r(y))^2 (Cauchy-Schwarz on
the part that P drops). P holds the leading principal axes of some of the vectors; any P is valid, a good one drops
more.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int64, UInt8
from numpy import ndarray

from byrote.kernels import distance

_COARSE, _FINE = 96, 256  # coordinates of the two levels; measured, not published
_PLAIN_ROWS = 16384  # fewer vectors than this are compared outright: measured
_PLAIN_VALUES = 384  # so are shorter ones
_LONGEST = 2**16  # values for which the rounding slack is derived
_LEARN = 768  # vectors that the axes are learned from
_WORTH = 8  # measuring one vector in this many by itself costs about what a product over all does: measured
_BLOCK = 2**22  # numbers of a block of the matrix of bounds
_UNIT = 2.0**-24  # rounding of float32


@dataclass(frozen=True, slots=True)
class _Level:
    """Vectors seen through a few coordinates.

    `points` are float32 [n, k+1]: k coordinates and the residual norm. `norms` are their squared norms.
    """

    points: ndarray
    norms: ndarray

    def estimates(self, rows: ndarray | slice, other: "_Level", columns: ndarray | slice) -> ndarray:
        """Return the squared distance of every row to every column of `other`, float32; see `ceiling`."""
        out: ndarray = self.points[rows] @ other.points[columns].T
        out *= -2
        out += self.norms[rows, None]
        out += other.norms[None, columns]
        return out

    def ceiling(self, limit: float, other: "_Level") -> float:
        """Return what no estimate exceeds whose true squared distance is at most `limit`.

        With u = 2^-24, m the sum of the largest norms of both sides and K = k + 1 terms:
        the float32 product and norms err by at most K u m^2 together and the sums by 3 u m^2 (Higham 2002, section
        3.1), doubled here for the terms in u^2. The stored points are off from the exact ones: coordinates by at most
        (2^-24 + 2^-32) |x|, for float64 products of at most 2^16 values with axes that Householder QR made orthonormal
        to 2^-33, rounded to float32; so the squared residual by at most 2^-30 |x|^2, and the residual, since
        |a - b| <= sqrt |a^2 - b^2|, by at most 2^-15 |x|. Both ends together move a distance by at most 2^-14 m.
        """
        most = float(np.sqrt(self.norms.max(initial=0)) + np.sqrt(other.norms.max(initial=0))) * 1.001
        terms = self.points.shape[1]
        return float((np.sqrt(limit) + 2.0**-14 * most) ** 2 + 2 * (terms + 4) * _UNIT * most**2)


class Nearest:
    """The vectors, ready to be searched."""

    def __init__(self, vectors: UInt8[ndarray, "n d"]) -> None:
        self.vectors = vectors
        n, d = vectors.shape
        self._axes = _Axes.learn(vectors) if _pays(n, d) else None
        if self._axes:
            self._levels = self._axes.levels(vectors)

    def search(self, queries: UInt8[ndarray, "q d"], k: int) -> tuple[Int64[ndarray, "q k"], Int64[ndarray, "q k"]]:
        """Return the k nearest of each query: squared distances of levels and ids, nearest first, ties by id.

        Exact. There are as many columns as vectors where those are fewer than k.
        """
        k = min(k, len(self.vectors))
        if not self._axes or not 0 < k <= _LEARN:
            return _plain(self.vectors, queries, k)
        found = np.empty((2, len(queries), k), np.int64)
        step = max(1, _BLOCK // len(self.vectors))
        for i in range(0, len(queries), step):
            found[:, i : i + step] = self._cascade(queries[i : i + step], self._axes, k)
        return found[0], found[1]

    def _cascade(self, queries: ndarray, axes: "_Axes", k: int) -> ndarray:
        """Search a block of queries; those that the bounds leave too much for are compared outright."""
        levels = axes.levels(queries)
        estimates = levels[0].estimates(slice(None), self._levels[0], slice(None))
        found = np.empty((2, len(queries), k), np.int64)
        many = []
        for i, query in enumerate(queries):
            near = self._survivors(query, estimates[i], levels, i, k)
            if near is None:
                many.append(i)
            else:
                found[:, i] = _first(_exact(self.vectors, near, query), near, k)
        found[:, many] = _plain(self.vectors, queries[many], k)
        return found

    def _survivors(
        self, query: ndarray, estimates: ndarray, levels: "tuple[_Level, _Level]", place: int, k: int
    ) -> ndarray | None:
        """Return the ids that may be among the k nearest, or None where they are too many to be worth it."""
        most = k + len(self.vectors) // _WORTH
        coarse, fine = self._levels
        reach = float(_exact(self.vectors, np.argpartition(estimates, k - 1)[:k], query).max())
        near = np.flatnonzero(estimates <= levels[0].ceiling(reach, coarse))
        if len(near) > 4 * most:
            return None
        own = slice(place, place + 1)
        near = near[levels[1].estimates(own, fine, near)[0] <= levels[1].ceiling(reach, fine)]
        return near if len(near) <= most else None


def within(vectors: UInt8[ndarray, "n d"], radius_rms: float) -> Int64[ndarray, "p 2"]:
    """Return the pairs i < j whose RMS distance (levels / 255) is at most `radius_rms`, sorted.

    Exact. The work space is bounded; the pairs themselves are as many as there are.
    """
    n, d = vectors.shape
    limit = distance.largest_sum(radius_rms, d)
    levels = _Axes.learn(vectors).levels(vectors) if _pays(n, d) else None
    found = [np.zeros((0, 2), np.int64)]
    step = 1024
    for i in range(0, n, step):
        for j in range(i, n, step):
            found.append(_block(vectors, levels, slice(i, i + step), slice(j, j + step), limit))
    pairs = np.concatenate(found)
    pairs = pairs[pairs[:, 0] < pairs[:, 1]]
    ordered: ndarray = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    return ordered


@dataclass(frozen=True, slots=True)
class _Axes:
    """Orthonormal rows (float64 [k, d]) and the whole-numbered centre that vectors are taken from."""

    rows: Float64[ndarray, "k d"]
    centre: Float64[ndarray, " d"]

    @classmethod
    def learn(cls, vectors: ndarray) -> "_Axes":
        """Take the leading principal axes of evenly spaced vectors, made orthonormal."""
        some = vectors[np.linspace(0, len(vectors) - 1, min(_LEARN, len(vectors))).astype(np.int64)].astype(np.float64)
        centre = np.rint(some.mean(0))
        some -= centre
        _, parts = np.linalg.eigh(some @ some.T)
        keep = min(_FINE, some.shape[1], len(some))
        axes, _ = np.linalg.qr(some.T @ parts[:, ::-1][:, :keep])
        return cls(np.ascontiguousarray(axes.T), centre)

    def levels(self, vectors: ndarray) -> tuple[_Level, _Level]:
        """Return the coarse and the fine view of the vectors."""
        n, k = len(vectors), len(self.rows)
        coarse, fine = np.empty((n, min(_COARSE, k) + 1), np.float32), np.empty((n, k + 1), np.float32)
        for i in range(0, n, 512):
            x = vectors[i : i + 512] - self.centre
            points, norms = x @ self.rows.T, np.vecdot(x, x)
            for out in (coarse, fine):
                part = points[:, : out.shape[1] - 1]
                out[i : i + 512, :-1] = part
                out[i : i + 512, -1] = np.sqrt(np.maximum(norms - np.vecdot(part, part), 0))
        return _Level(coarse, _norms(coarse)), _Level(fine, _norms(fine))


def _pays(n: int, d: int) -> bool:
    """Say whether bounds cost less than what they save."""
    return n >= _PLAIN_ROWS and _PLAIN_VALUES <= d <= _LONGEST


def _norms(points: Float32[ndarray, "n k"]) -> Float32[ndarray, " n"]:
    norms: ndarray = np.vecdot(points, points)
    return norms


def _block(vectors: ndarray, levels: tuple[_Level, _Level] | None, rows: slice, columns: slice, limit: int) -> ndarray:
    """Return the pairs of a block within the limit; many survivors are measured by a product, few one by one."""
    if levels is None or limit < 0:
        return _pairs(distance.squares(vectors[rows], vectors[columns]) <= limit, rows, columns)
    coarse = levels[0]
    maybe = coarse.estimates(rows, coarse, columns) <= coarse.ceiling(float(limit), coarse)
    if rows == columns:
        maybe = np.triu(maybe, 1)
    if np.count_nonzero(maybe) > maybe.size // 16:
        return _pairs(distance.squares(vectors[rows], vectors[columns]) <= limit, rows, columns)
    pairs = _pairs(maybe, rows, columns)
    step = max(1, 2**22 // vectors.shape[1])
    kept = [pairs[:0]]
    for i in range(0, len(pairs), step):
        some = pairs[i : i + step]
        kept.append(some[_paired(vectors[some[:, 0]], vectors[some[:, 1]]) <= limit])
    return np.concatenate(kept)


def _pairs(mask: ndarray, rows: slice, columns: slice) -> ndarray:
    pairs: ndarray = np.argwhere(mask) + np.array([rows.start, columns.start])
    return pairs


def _paired(a: ndarray, b: ndarray) -> ndarray:
    sums: ndarray = distance.paired_squares(a[:, None, :, None], b[:, None, :, None], tiles=1)[:, 0]
    return sums


def _exact(vectors: ndarray, ids: ndarray, query: ndarray) -> ndarray:
    """Return the exact squared distances of a query to some of the vectors."""
    sums: ndarray = distance.squares(vectors[ids], query[None])[:, 0]
    return sums


def _first(sums: ndarray, ids: ndarray, k: int) -> ndarray:
    """Return the k smallest sums with their ids, ties by id."""
    if len(sums) > 4 * k:
        keep = sums <= np.partition(sums, k - 1)[k - 1]
        sums, ids = sums[keep], ids[keep]
    order = np.lexsort((ids, sums))[:k]
    return np.stack([sums[order], ids[order]])


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
