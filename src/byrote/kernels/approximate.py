"""Approximate nearest neighbours of vectors that exceed memory, by faiss, and exact distances of what it finds.

Lists of vectors round centres, of which a query visits the nearest few; 4-bit product codes choose within them, 8-bit
codes choose again (Jégou, Douze and Schmid 2011, doi:10.1109/TPAMI.2010.57; André, Kermarrec and Le Scouarnec 2015,
doi:10.14778/2856318.2856324, for the 4-bit codes). Long vectors are first turned onto their leading principal axes.
The exact distances are then taken of a few times as many vectors as are asked for. All distances are squared.

faiss is imported where it is used: without it, ModuleNotFoundError. An index that was built on one thread is the same
for the same vectors and seed; on more, the sums that train it may differ in their last digits.
"""

import math
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, Shaped
from numpy import ndarray

from byrote.kernels import distance
from byrote.kernels.search import principal

Rows = Callable[[Int64[ndarray, " m"]], Shaped[ndarray, "m d"]]
"""What returns the vectors of some ids."""

_WIDE = 512  # values; longer vectors are turned onto fewer axes
_AXES = 128  # how many
_CODES = 64  # product codes at most: what did best for 512 values, kept
_WORDS = 16  # of a 4-bit code
_EACH = 40  # vectors a list to train on; faiss warns below 39
_SAMPLE = 2**29  # values of the training sample at most
_LEARN = 1536  # vectors of it that the axes are learned from
_REFINED = 4  # times as many vectors are chosen again by the 8-bit codes
_BLOCK = 8192  # rows that are turned into float32 at once


@dataclass(frozen=True, slots=True)
class Design:
    """How an index is laid out: principal axes (0: none), lists and product codes."""

    axes: int
    lists: int
    codes: int

    @classmethod
    def of(cls, n: int, d: int) -> "Design":
        """Choose for n vectors of d values: 4 sqrt(n) lists where there are enough vectors to train them."""
        axes = _AXES if d > _WIDE else 0
        width = axes or d
        codes = next(m for m in range(min(_CODES, width), 0, -1) if width % m == 0)
        return cls(axes, max(1, min(round(4 * math.sqrt(n)), n // _EACH)), codes)

    @property
    def name(self) -> str:
        """Return the name that faiss's factory would give it."""
        inner = f"IVF{self.lists},PQ{self.codes}x4fs,Refine(SQ8)"
        return f"PCAR{self.axes},[{inner}]" if self.axes else inner


def build(blocks: Iterable[Shaped[ndarray, "m d"]], n: int, d: int, path: Path, seed: int) -> Design:
    """Index n vectors of d values that come in blocks, uint8 or float32, and write one file whole or not at all.

    The blocks are gone through twice: for a sample to train on, and to add them one at a time. Raises ValueError where
    they do not hold n vectors of d values both times, OSError where the file cannot be written.
    """
    design = Design.of(n, d)
    index = _trained(design, _sample(blocks, design, n, d, seed), seed)
    added = 0
    for block in _checked(blocks, d):
        index.add(_float(block))
        added += len(block)
    _count(added, n)
    _write(index, path)
    return design


class Approximate:
    """An index on disk, mapped into memory but for the 4-bit codes and the ids, which faiss reads."""

    def __init__(self, index: Any) -> None:
        self._index = index
        self.count: int = index.ntotal
        self.values: int = index.d

    @classmethod
    def open(cls, path: Path) -> "Approximate":
        """Map the file into memory. Raises OSError where it is not there, ValueError where it is damaged."""
        faiss = _faiss()
        path.open("rb").close()
        try:
            return cls(faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC | faiss.IO_FLAG_READ_ONLY))
        except RuntimeError as error:
            raise ValueError(f"{path} is no index that faiss can read") from error

    def search(self, queries: Shaped[ndarray, "q d"], k: int, effort: int) -> Int64[ndarray, "q k"]:
        """Return about the k nearest ids, visiting `effort` lists a query; -1 where these hold fewer."""
        faiss = _faiss()
        found = np.empty((len(queries), k), np.int64)
        inner = faiss.IndexRefineSearchParameters(
            k_factor=float(_REFINED), base_index_params=faiss.SearchParametersIVF(nprobe=effort)
        )
        outer = isinstance(self._index, faiss.IndexPreTransform)
        params = faiss.SearchParametersPreTransform(index_params=inner) if outer else inner
        for i in range(0, len(queries), _BLOCK):
            found[i : i + _BLOCK] = self._index.search(_float(queries[i : i + _BLOCK]), k, params=params)[1]
        return found

    def nearest(
        self, queries: Shaped[ndarray, "q d"], k: int, effort: int, rows: Rows, factor: int = 4
    ) -> tuple[Float64[ndarray, "q k"], Int64[ndarray, "q k"]]:
        """Search `factor` times as many and return the k nearest of them by exact distance, ties by id.

        Distances of uint8 are whole numbers. Where fewer were found, infinity and -1.
        """
        candidates = self.search(queries, min(k * factor, self.count), effort)
        sums = np.full((len(queries), k), np.inf)
        ids = np.full((len(queries), k), -1, np.int64)
        for i, query in enumerate(queries):
            some = np.sort(candidates[i][candidates[i] >= 0])
            own = squares(query[None], rows(some))[0] if len(some) else np.zeros(0)
            order = np.argsort(own, kind="stable")[:k]
            sums[i, : len(order)], ids[i, : len(order)] = own[order], some[order]
        return sums, ids


def exact(
    blocks: Iterable[Shaped[ndarray, "m d"]], queries: Shaped[ndarray, "q d"], k: int
) -> tuple[Float64[ndarray, "q k"], Int64[ndarray, "q k"]]:
    """Return the k nearest by comparing every query with every vector, block by block, ties by id.

    The truth that `recall` is taken against. There are fewer columns where there are fewer vectors.
    """
    sums, ids = np.empty((len(queries), 0)), np.empty((len(queries), 0), np.int64)
    start = 0
    for block in _checked(blocks, queries.shape[1]):
        own = squares(queries, block)
        sums = np.concatenate([sums, own], 1)
        ids = np.concatenate([ids, np.broadcast_to(np.arange(start, start + len(block)), own.shape)], 1)
        sums, ids = _first(sums, ids, k)
        start += len(block)
    return sums, ids


def recall(found: Float64[ndarray, "q a"], truth: Float64[ndarray, "q b"], k: int) -> float:
    """Return the share of the k nearest that were found, by distance, so that a tie counts for its twin.

    Distances within a part in 10^9 of each other are taken for equal: float64 sums may differ with the shape of a
    product. Raises ValueError where there are fewer than k columns.
    """
    if min(found.shape[1], truth.shape[1]) < k:
        raise ValueError(f"recall at {k} needs {k} columns")
    near: Bool[ndarray, "q k"] = found[:, :k] <= truth[:, k - 1 : k] * (1 + 1e-9)
    return float(near.mean())


def squares(a: Shaped[ndarray, "n d"], b: Shaped[ndarray, "m d"]) -> Float64[ndarray, "n m"]:
    """Return squared distances: exact for uint8, by float64 products for others."""
    if a.dtype == np.uint8 and b.dtype == np.uint8:
        whole: ndarray = distance.squares(a, b).astype(np.float64)
        return whole
    x, y = a.astype(np.float64), b.astype(np.float64)
    sums: ndarray = np.vecdot(x, x)[:, None] + np.vecdot(y, y) - 2 * (x @ y.T)
    sums[sums < 0] = 0
    return sums


def _first(sums: ndarray, ids: ndarray, k: int) -> tuple[ndarray, ndarray]:
    """Return the k smallest of each row with their ids, ties by id."""
    if sums.shape[1] <= 4 * k:
        return _sorted(sums, ids, k)
    bars = np.partition(sums, k - 1, axis=1)[:, k - 1 : k]
    kept = [_sorted(s[None, s <= b], i[None, s <= b], k) for s, i, b in zip(sums, ids, bars, strict=True)]
    return np.concatenate([s for s, _ in kept]), np.concatenate([i for _, i in kept])


def _sorted(sums: ndarray, ids: ndarray, k: int) -> tuple[ndarray, ndarray]:
    order = np.lexsort((ids, sums))[:, :k]
    return np.take_along_axis(sums, order, 1), np.take_along_axis(ids, order, 1)


def _faiss() -> Any:
    return import_module("faiss")


def _sample(blocks: Iterable[ndarray], design: Design, n: int, d: int, seed: int) -> ndarray:
    """Draw the vectors to train on, in their order."""
    size = min(n, _EACH * design.lists, max(1, _SAMPLE // d))
    chosen = np.sort(np.random.default_rng(seed).choice(n, size, replace=False))
    parts, start = [], 0
    for block in _checked(blocks, d):
        low, high = np.searchsorted(chosen, [start, start + len(block)])
        parts.append(block[chosen[low:high] - start])
        start += len(block)
    _count(start, n)
    return np.concatenate(parts)


def _trained(design: Design, sample: ndarray, seed: int) -> Any:
    """Return an empty index that is ready to be added to."""
    faiss = _faiss()
    turn = _turn(design.axes, sample, seed) if design.axes else None
    turned = np.concatenate([_turned(turn, part) for part in _cut(sample)])
    points = np.resize(turned, (max(len(turned), _WORDS), turned.shape[1]))  # over and over where there are too few
    index = faiss.index_factory(points.shape[1], f"IVF{design.lists},PQ{design.codes}x4fs,Refine(SQ8)")
    lists = faiss.downcast_index(index.base_index)
    for clustering in (lists.cp, lists.pq.cp):
        clustering.seed, clustering.min_points_per_centroid = seed, 1
    index.train(points)
    return index if turn is None else faiss.IndexPreTransform(turn, index)


def _turn(axes: int, sample: ndarray, seed: int) -> Any:
    """Learn the leading principal axes, turned at random so that every code has about as much to tell."""
    faiss = _faiss()
    some = _float(sample[np.linspace(0, len(sample) - 1, min(_LEARN, len(sample))).astype(np.int64)])
    mean = some.mean(0)
    leading = principal((some - mean).astype(np.float64), axes)
    turned, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((axes, axes)))
    matrix = np.ascontiguousarray(turned @ leading, np.float32)
    turn = faiss.LinearTransform(sample.shape[1], axes, True)
    faiss.copy_array_to_vector(matrix.ravel(), turn.A)
    faiss.copy_array_to_vector(-(matrix @ mean), turn.b)
    turn.is_trained = True
    return turn


def _turned(turn: Any, block: ndarray) -> Float32[ndarray, "m k"]:
    turned: ndarray = _float(block) if turn is None else turn.apply(_float(block))
    return turned


def _write(index: Any, path: Path) -> None:
    """Write beside, sync, and rename into place."""
    faiss = _faiss()
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        try:
            faiss.write_index(index, str(beside))
        except RuntimeError as error:
            raise OSError(f"{path}: cannot write the index") from error
        _sync(beside)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    _sync(path.parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _checked(blocks: Iterable[ndarray], d: int) -> Iterator[ndarray]:
    """Return the vectors in blocks of one size, for the last digits of a product depend on its shape.

    Raises ValueError where the vectors have another length.
    """
    held: list[ndarray] = []
    for block in blocks:
        if block.ndim != 2 or block.shape[1] != d:
            raise ValueError(f"a block of vectors has shape {block.shape}, not (rows, {d})")
        for part in _cut(block):
            held.append(part)
            if sum(map(len, held)) >= _BLOCK:
                whole = np.concatenate(held)
                held = [whole[_BLOCK:]]
                yield whole[:_BLOCK]
    if sum(map(len, held)):
        yield np.concatenate(held)


def _cut(block: ndarray) -> Iterator[ndarray]:
    for i in range(0, len(block), _BLOCK):
        yield block[i : i + _BLOCK]


def _count(seen: int, n: int) -> None:
    if seen != n:
        raise ValueError(f"the blocks hold {seen} vectors, not {n}; they must be there each time they are gone through")


def _float(block: ndarray) -> Float32[ndarray, "m d"]:
    return np.ascontiguousarray(block, np.float32)
