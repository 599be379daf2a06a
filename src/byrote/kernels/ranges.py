"""All pairs of vectors of levels (uint8) within a radius, exactly.

Three bounds before the exact sum of integers, each by a few principal coordinates and the residual norm (see `search`):
boxes around leaves of vectors that lie together, a few coordinates of every pair of what is left, more of those few.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64, UInt8
from numpy import ndarray

from byrote.kernels import distance
from byrote.kernels.search import Axes, Level

_FEW = 4096  # vectors that are compared outright
_COARSE, _FINE = 30, 126  # coordinates of the two levels: measured
_LEAF = 512
_COLUMNS = 2**15  # vectors that a leaf is held against at once
_EXACT = 2**22  # levels that are compared at once


def within(
    vectors: UInt8[ndarray, "n d"], radius_rms: float, *, part: int = 0, parts: int = 1
) -> Int64[ndarray, "p 2"]:
    """Return the pairs i < j whose RMS distance (levels / 255) is at most `radius_rms`, sorted.

    Exact. Of several `parts` one can be had alone; together they are all pairs, each once.
    """
    n, d = vectors.shape
    limit = distance.largest_sum(radius_rms, d)
    if limit < 0 or n == 0:
        return np.zeros((0, 2), np.int64)
    found = [np.zeros((0, 2), np.int64)]
    if n < _FEW or d < _COARSE:
        found += list(_outright(vectors, limit)) if part == 0 else []
    else:
        found += list(_Leaves.of(vectors).pairs(limit, part, parts))
    pairs = np.sort(np.concatenate(found), axis=1)
    ordered: ndarray = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    return ordered


def similar(vectors: Float32[ndarray, "n d"], least: float) -> Int64[ndarray, "p 2"]:
    """Return the pairs i < j whose product is at least `least`, sorted: of unit vectors the cosine, in float32."""
    found = [np.zeros((0, 2), np.int64)]
    for i in range(0, len(vectors), _LEAF):
        rows, columns = np.nonzero(vectors[i : i + _LEAF] @ vectors[i:].T >= least)
        found.append(np.stack([rows, columns], 1)[columns > rows] + i)
    return np.concatenate(found)


def _outright(vectors: ndarray, limit: int) -> Iterator[ndarray]:
    for i in range(0, len(vectors), 512):
        rows, columns = np.nonzero(distance.squares(vectors[i : i + 512], vectors[i:]) <= limit)
        pairs = np.stack([rows, columns], 1)[columns > rows] + i
        yield pairs


@dataclass(frozen=True, slots=True)
class _Leaves:
    """The vectors in an order in which near ones lie together: leaf k holds `starts[k]` to `starts[k + 1]` of it."""

    vectors: UInt8[ndarray, "n d"]
    order: Int64[ndarray, " n"]
    starts: Int64[ndarray, " k"]
    coarse: Level
    fine: Level

    @classmethod
    def of(cls, vectors: ndarray) -> "_Leaves":
        """Find the axes, and split the vectors along those in which they spread most."""
        axes = Axes.learn(vectors, _FINE)
        coarse, fine, _ = axes.levels(vectors, min(_COARSE, len(axes.rows)))
        order, starts = _split(coarse.points[:, :-1])
        return cls(vectors, order, starts, Level.of(coarse.points[order]), Level.of(fine.points[order]))

    def pairs(self, limit: int, part: int, parts: int) -> Iterator[ndarray]:
        """Yield the pairs of every `parts`-th leaf with itself and those after it."""
        low, high = (edge.reduceat(self.coarse.points[:, :-1], self.starts[:-1]) for edge in (np.minimum, np.maximum))
        reach = self.coarse.reach(limit)
        for leaf in range(part, len(self.starts) - 1, parts):
            gaps = np.maximum(low[leaf:] - high[leaf], low[leaf] - high[leaf:]).clip(0).astype(np.float64)
            near = leaf + np.flatnonzero(np.vecdot(gaps, gaps) <= reach**2)
            rows = slice(self.starts[leaf], self.starts[leaf + 1])
            for columns in self._columns(near):
                yield self._measured(rows, columns, limit)

    def _columns(self, leaves: ndarray) -> Iterator[ndarray]:
        """Yield the places of some leaves' vectors, not too many at once."""
        step = max(1, _COLUMNS // _LEAF)
        for k in range(0, len(leaves), step):
            spans = [np.arange(self.starts[leaf], self.starts[leaf + 1]) for leaf in leaves[k : k + step]]
            yield np.concatenate(spans)

    def _measured(self, rows: slice, columns: ndarray, limit: int) -> ndarray:
        """Return the pairs of a leaf with some places, as ids of the vectors."""
        bar = np.asarray(self.coarse.ceiling(float(limit), self.coarse.norms[rows]), np.float32)
        asked = self.coarse.asking(rows)
        i, j = np.nonzero(asked @ self.coarse.points[columns].T <= bar[:, None])
        a, b = i + rows.start, columns[j]
        a, b = a[b > a], b[b > a]
        step = max(1, _EXACT // self.vectors.shape[1])
        kept = [np.zeros((0, 2), np.int64)]
        for k in range(0, len(a), 16 * step):
            some = self._finer(a[k : k + 16 * step], b[k : k + 16 * step], limit)
            for m in range(0, len(some), step):
                ids = self.order[some[m : m + step]]
                sums = distance.paired_squares(
                    self.vectors[ids[:, 0]][:, None, :, None], self.vectors[ids[:, 1]][:, None, :, None], tiles=1
                )[:, 0]
                kept.append(ids[sums <= limit])
        return np.concatenate(kept)

    def _finer(self, a: ndarray, b: ndarray, limit: int) -> ndarray:
        """Return the pairs of places that more coordinates do not tell apart either."""
        points = self.fine.points
        apart = points[a, :-1].astype(np.float64) - points[b, :-1]
        near = np.vecdot(apart, apart) <= self.fine.reach(limit) ** 2
        return np.stack([a[near], b[near]], 1)


def _split(points: Float32[ndarray, "n k"]) -> tuple[Int64[ndarray, " n"], Int64[ndarray, " leaves"]]:
    """Halve the points along the coordinate of most spread until leaves are small; return their order and starts."""
    order, leaves, waiting = np.arange(len(points)), [], [(0, len(points))]
    while waiting:
        start, end = waiting.pop()
        if end - start <= _LEAF:
            leaves.append(start)
            continue
        own = order[start:end]
        some = points[own[:: max(1, len(own) // 4096)]]
        middle = (end - start) // 2
        halves = np.argpartition(points[own, np.var(some, axis=0).argmax()], middle)
        order[start:end] = own[halves]
        waiting += [(start, start + middle), (start + middle, end)]
    return order, np.array([*sorted(leaves), len(points)], np.int64)
