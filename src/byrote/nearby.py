"""An approximate index beside a corpus that is too large to search whole: made, measured, reopened.

A folder holds `index.faiss` and `index.json`: what was indexed, how, and what share of the true nearest it finds.
"""

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from byrote.errors import CorpusError
from byrote.kernels import approximate
from byrote.kernels.approximate import Approximate
from byrote.store import replace_file

INDEX, SUMMARY = "index.faiss", "index.json"
EFFORTS = (8, 16, 32, 64, 128, 256, 512, 1024, 2048)
"""Lists visited a query: the least that reaches `TARGET` is taken. Ours."""
TARGET = 0.95
"""Recall at 10 that is aimed for. Ours."""
DEPTHS = (1, 10, 50)
QUERIES = 256
"""Perturbed rows that recall is measured on; as many others choose the effort."""
NOISE = 8.0
"""Levels by which they are perturbed; vectors of other kinds by as large a share of their spread as 8 is of 64."""
_BLOCK = 8192
_MISSING = "faiss is missing: pip install 'byrote[search]'"


class Vectors(Protocol):
    """Vectors that can be gone through again and again, uint8 or float32 [n, d]."""

    @property
    def shape(self) -> tuple[int, int]:
        """Return n and d."""

    def blocks(self) -> Iterator[NDArray[Any]]:
        """Return them in order, some at a time."""

    def rows(self, ids: NDArray[np.int64]) -> NDArray[Any]:
        """Return those with these ids, which are in ascending order."""


class Parts:
    """Arrays that lie one after another, such as the mapped `.npy` files of a corpus."""

    def __init__(self, arrays: Sequence[NDArray[Any]]) -> None:
        if len({array.shape[1:] for array in arrays}) != 1 or len({array.dtype for array in arrays}) != 1:
            raise ValueError("the arrays must be of one length of vector and one type, and at least one")
        self._arrays = arrays
        self._ends = np.cumsum([len(array) for array in arrays])

    @property
    def shape(self) -> tuple[int, int]:
        """Return the number and the length of the vectors."""
        return int(self._ends[-1]), int(self._arrays[0].shape[1])

    def blocks(self) -> Iterator[NDArray[Any]]:
        """Return them in order, a few thousand at a time."""
        for array in self._arrays:
            for i in range(0, len(array), _BLOCK):
                yield array[i : i + _BLOCK]

    def rows(self, ids: NDArray[np.int64]) -> NDArray[Any]:
        """Return those with these ids, which are in ascending order."""
        cuts = np.searchsorted(ids, [0, *self._ends])
        starts = [0, *self._ends[:-1]]
        found = [
            array[ids[low:high] - start]
            for array, start, low, high in zip(self._arrays, starts, cuts[:-1], cuts[1:], strict=True)
            if low < high
        ]
        return np.concatenate(found) if found else self._arrays[0][:0]


@dataclass(frozen=True, slots=True)
class Summary:
    """What an index holds and how well it finds.

    `recall` is the share of the true nearest among those returned, at each depth, on `queries` perturbed rows that did
    not choose the effort. `seconds` is the making, without its measuring. `digest` is the SHA-256 of the vectors.
    """

    n: int
    d: int
    factory: str
    seed: int
    effort: int
    recall: dict[str, float]
    queries: int
    bytes: int
    seconds: float
    digest: str

    def line(self) -> str:
        """Return it for a person."""
        found = ", ".join(f"{share:.1%} of the nearest {depth}" for depth, share in self.recall.items())
        return (
            f"approximate index of {self.n:,} vectors, {self.bytes / 2**20:,.0f} MiB ({self.factory}): visiting "
            f"{self.effort} lists it finds {found} ({self.queries} perturbed pictures against exact search)"
        )


class Nearby:
    """An index with the vectors that it was made from."""

    def __init__(self, index: Approximate, summary: Summary, vectors: Vectors) -> None:
        self.summary = summary
        self._index = index
        self._vectors = vectors

    @classmethod
    def open(cls, folder: Path, vectors: Vectors) -> "Nearby":
        """Map an index into memory. Raises CorpusError where it is missing, damaged or of other vectors."""
        summary = _read(folder / SUMMARY)
        try:
            index = Approximate.open(folder / INDEX)
        except ModuleNotFoundError as error:
            raise CorpusError(_MISSING) from error
        except (OSError, ValueError) as error:
            raise CorpusError(f"{folder / INDEX}: damaged or missing; delete {folder} and index again") from error
        for shape in ((summary.n, summary.d), (index.count, index.values)):
            if shape != vectors.shape:
                raise CorpusError(
                    f"{folder}: an index of {shape[0]:,} vectors of {shape[1]:,} values, but the corpus has "
                    f"{vectors.shape[0]:,} of {vectors.shape[1]:,}; delete it and index again"
                )
        return cls(index, summary, vectors)

    def search(self, queries: NDArray[Any], k: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return about the k nearest: exact squared distances and ids, infinity and -1 where fewer were found."""
        return self._index.nearest(queries, k, self.summary.effort, self._vectors.rows)


def make(vectors: Vectors, folder: Path, seed: int = 0) -> Summary:
    """Index the vectors into a folder, measure it against exact search, and return the summary that is written there.

    Raises CorpusError where faiss is missing or the folder refuses.
    """
    n, d = vectors.shape
    started = time.monotonic()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / SUMMARY).unlink(missing_ok=True)
        design = approximate.build(_Again(vectors), n, d, folder / INDEX, seed)
        seconds = time.monotonic() - started
        effort, recall = _measure(Approximate.open(folder / INDEX), vectors, seed)
        summary = Summary(
            n=n,
            d=d,
            factory=design.name,
            seed=seed,
            effort=effort,
            recall=recall,
            queries=min(n, QUERIES),
            bytes=(folder / INDEX).stat().st_size,
            seconds=round(seconds, 1),
            digest=digest(vectors),
        )
        replace_file(folder / SUMMARY, (json.dumps(asdict(summary), indent=1) + "\n").encode())
    except ModuleNotFoundError as error:
        raise CorpusError(_MISSING) from error
    except OSError as error:
        raise CorpusError(f"{folder}: cannot write the index: {error.strerror or error}") from error
    return summary


def digest(vectors: Vectors) -> str:
    """Return the SHA-256 of the vectors, whatever blocks they come in."""
    sha = hashlib.sha256()
    for k, block in enumerate(vectors.blocks()):
        if k == 0:
            sha.update(f"{vectors.shape} {block.dtype.str}\n".encode())
        sha.update(np.ascontiguousarray(block).data)
    return sha.hexdigest()


class _Again:
    """The blocks, from the start each time they are gone through."""

    def __init__(self, vectors: Vectors) -> None:
        self._vectors = vectors

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return self._vectors.blocks()


def _measure(index: Approximate, vectors: Vectors, seed: int) -> tuple[int, dict[str, float]]:
    """Choose the effort on some perturbed rows and return it with the recall on others."""
    n = vectors.shape[0]
    dice = np.random.default_rng([seed, 1])
    ids = dice.permutation(n)[: 2 * QUERIES] if n >= 2 * QUERIES else dice.integers(0, n, 2 * min(n, QUERIES))
    half = len(ids) // 2
    queries = np.concatenate([_perturbed(vectors.rows(np.sort(part)), dice) for part in (ids[:half], ids[half:])])
    truth, _ = approximate.exact(vectors.blocks(), queries, max(DEPTHS))
    depths = [depth for depth in DEPTHS if depth <= truth.shape[1]]

    def found(rows: slice, effort: int) -> dict[str, float]:
        sums, _ = index.nearest(queries[rows], depths[-1], effort, vectors.rows)
        return {str(depth): round(approximate.recall(sums, truth[rows], depth), 4) for depth in depths}

    middle = str(10 if 10 in depths else depths[-1])
    effort = next((e for e in EFFORTS if found(slice(half), e)[middle] >= TARGET), EFFORTS[-1])
    return effort, found(slice(half, None), effort)


def _perturbed(rows: NDArray[Any], dice: np.random.Generator) -> NDArray[Any]:
    """Add noise, so that the queries are like held-out pictures that come close, not copies."""
    noise = dice.standard_normal(rows.shape, np.float32)
    if rows.dtype == np.uint8:
        levels: NDArray[Any] = np.clip(np.rint(rows + np.float32(NOISE) * noise), 0, 255).astype(np.uint8)
        return levels
    spread = rows.astype(np.float32).std(0)
    moved: NDArray[Any] = (rows + np.float32(NOISE / 64) * spread * noise).astype(np.float32)
    return moved


def _read(path: Path) -> Summary:
    """Read a summary. Raises CorpusError where it is missing or damaged."""
    try:
        return Summary(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise CorpusError(f"{path}: damaged or missing; delete {path.parent} and index again") from error
