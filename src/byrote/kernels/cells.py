"""Pairs of unit vectors with a large product, through an inverted file: near ones mostly share a cell.

Cells are the nearest of a few hundred to a few thousand centres (spherical k-means, Dhillon and Modha 2001,
doi:10.1023/A:1007612920971; inverted file: Sivic and Zisserman 2003, doi:10.1109/ICCV.2003.1238663). A vector lies in
one cell, a query visits its nearest ones, and there every product is taken. What lies in a cell that was not visited
is missed: `benchmarks/duplicates.py` measures how much.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64
from numpy import ndarray

_ROUNDS = 8
_SAMPLE = 40  # vectors a centre that it is learned from
_MOST = 8192
_BLOCK = 2**22  # products taken at once


@dataclass(frozen=True, slots=True)
class Cells:
    """The centres: unit vectors, float32 [c, d]."""

    centres: Float32[ndarray, "c d"]

    @classmethod
    def learn(cls, vectors: Float32[ndarray, "n d"], count: int, seed: int = 0) -> "Cells":
        """Learn at most `count` centres from some of the vectors, by seed."""
        dice = np.random.default_rng(seed)
        count = max(1, min(count, _MOST, len(vectors)))
        some = vectors[np.sort(dice.choice(len(vectors), min(len(vectors), _SAMPLE * count), replace=False))]
        centres = some[np.sort(dice.choice(len(some), count, replace=False))].copy()
        for _ in range(_ROUNDS if count > 1 else 0):
            own = cls(centres).nearest(some, 1)[:, 0]
            order = np.argsort(own, kind="stable")
            cells, first = np.unique(own[order], return_index=True)
            sums = np.add.reduceat(some[order], first)
            lengths = np.linalg.norm(sums, axis=1)
            centres[cells[lengths > 0]] = (sums / np.maximum(lengths, 1e-12)[:, None])[lengths > 0]
        return cls(centres)

    def nearest(self, vectors: Float32[ndarray, "n d"], visits: int) -> Int64[ndarray, "n visits"]:
        """Return the nearest cells of each vector, in no order."""
        visits = min(visits, len(self.centres))
        out = np.empty((len(vectors), visits), np.int64)
        step = max(1, _BLOCK // len(self.centres))
        for i in range(0, len(vectors), step):
            products = vectors[i : i + step] @ self.centres.T
            if visits == 1:
                out[i : i + step, 0] = products.argmax(1)
            else:
                out[i : i + step] = np.argpartition(products, -visits, axis=1)[:, -visits:]
        return out


@dataclass(frozen=True, slots=True)
class Filed:
    """Vectors sorted by cell: `order` are their ids, `starts` where each cell begins (one more than cells)."""

    vectors: Float32[ndarray, "n d"]
    order: Int64[ndarray, " n"]
    starts: Int64[ndarray, " c1"]

    @classmethod
    def of(cls, vectors: Float32[ndarray, "n d"], own: Int64[ndarray, " n"], cells: int) -> "Filed":
        """File the vectors under their cells."""
        order = np.argsort(own, kind="stable")
        return cls(vectors[order], order, np.searchsorted(own[order], np.arange(cells + 1)))


def above(
    filed: Filed, queries: Float32[ndarray, "q d"], visited: Int64[ndarray, "q v"], least: float
) -> Iterator[tuple[Int64[ndarray, " p"], Int64[ndarray, " p"], Float32[ndarray, " p"]]]:
    """Yield query, id and product of the pairs of at least `least` in the cells that the queries visit."""
    cells = visited.ravel()
    order = np.argsort(cells, kind="stable")
    starts = np.searchsorted(cells[order], np.arange(len(filed.starts)))
    asking = order // visited.shape[1]
    for cell in np.flatnonzero(np.diff(starts)):
        rows = asking[starts[cell] : starts[cell + 1]]
        own = slice(filed.starts[cell], filed.starts[cell + 1])
        step = max(1, _BLOCK // max(1, own.stop - own.start))
        for i in range(0, len(rows), step):
            products = queries[rows[i : i + step]] @ filed.vectors[own].T
            q, k = np.nonzero(products >= least)
            if len(q):
                yield rows[i : i + step][q], filed.order[own][k], products[q, k]
