"""Fill `likely` and `pairs`: every two distinct pictures that may be near-duplicates, with how near they are.

Two ways lead to a pair. As they stand: all pairs of thumbnails within a radius, exactly (`kernels/ranges`), then the
RMS of the pixels. Moved: the cosine waves of each picture in all eight turns against those of windows of every other
(`kernels/waves`, `kernels/cells`), then the window refined and the evidence weighed (`kernels/register`). What is
written does not depend on the thresholds of groups, so groups are drawn anew without measuring again.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import log
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from byrote.corpus import WHOLE, Corpus
from byrote.descriptors.whole import SIDE
from byrote.domain import Pair
from byrote.engine import Part
from byrote.errors import StoreError
from byrote.kernels.cells import Cells, Filed, above
from byrote.kernels.distance import paired_rms
from byrote.kernels.ranges import within
from byrote.kernels.register import register
from byrote.kernels.waves import DIMENSIONS, Window, corners, leaning, led_back, luma, turn_each, turned, waves, windows
from byrote.kernels.waves import WHOLE as ALL
from byrote.plan import CorpusPlan
from byrote.stages import Desk, Failed
from byrote.store import Recipe, Store

RADIUS = 0.06
"""RMS of thumbnails of whole pictures up to which pairs are kept as they stand."""
MEASURED = {"waves": DIMENSIONS, "radius": RADIUS, "version": 1}
"""What the pairs of a corpus depend on besides its pictures and the plan."""
KEPT = -4.0
"""Evidence from which pairs are kept."""
_FEW, _MANY = 50_000, 1_000_000  # pictures; the more there are, the more chance resemblances, so the less is looked at
_LEAST = (0.85, 0.92)  # correlation of waves from which a pair is looked at, for few and for many pictures
_LEAST_QUICK = (0.9, 0.95)
_VISITS, _VISITS_QUICK = 12, 4  # cells
_CELLS, _CELLS_QUICK = 4, 1  # times the root of the number of pictures
_SLACK = 0.05  # of what leans: more found no more of the planted copies
_ROWS = 2**21  # vectors filed at once
_STILL = 250_000  # pictures a part that compares thumbnails as they stand
_PAIRS = 2**15  # of a part
_CHUNK = 1024
_BLOCK = 4096
_HIT = np.dtype(
    [
        ("holder", np.int32),
        ("shown", np.int32),
        ("window", np.uint8),
        ("turn", np.uint8),
        ("still", np.bool_),
        ("alike", "f4"),
    ]
)
HITS = "hits"


@dataclass(frozen=True, slots=True)
class Look:
    """What is looked for: `least` is the smallest share of an edge that a cropped copy keeps, 1 for no crops.

    A quick look leaves out crops and the comparison of thumbnails as they stand.
    """

    corpus: Path
    order: str
    least: float
    quick: bool = False

    @classmethod
    def of(cls, corpus: Corpus, plan: CorpusPlan) -> "Look":
        """Return what a plan looks for in a corpus."""
        return cls(corpus.root, corpus.order, 1.0 if plan.quick else plan.crop, plan.quick)

    @property
    def likely(self) -> Recipe:
        """Return the recipe of the candidates."""
        about = {"order": self.order, "least": self.least, "quick": self.quick}
        return Recipe.of("likely", about | {"waves": DIMENSIONS, "visits": self.visits, "cells": self.cells})

    @property
    def thumbnails(self) -> Path:
        """Return where the thumbnails lie one after the other."""
        return self.corpus / "likely" / f"{self.order.removeprefix('sha256:')[:16]}.npy"

    @property
    def names(self) -> Path:
        """Return where the digests lie one after the other."""
        return self.thumbnails.with_suffix(".names.npy")

    @property
    def pairs(self) -> Recipe:
        """Return the recipe of the measured pairs."""
        return Recipe.of("pairs", {"likely": self.likely.digest, "radius": RADIUS, "kept": KEPT})

    @property
    def visits(self) -> int:
        """Return how many cells a picture is looked for in."""
        return _VISITS_QUICK if self.quick else _VISITS

    @property
    def cells(self) -> int:
        """Return how many cells there are, times the root of the number of pictures."""
        return _CELLS_QUICK if self.quick else _CELLS

    def alike(self, n: int) -> float:
        """Return the correlation from which a pair is looked at, by the logarithm of the number of pictures."""
        few, many = _LEAST_QUICK if self.quick else _LEAST
        return few + (many - few) * min(1.0, log(max(n, _FEW) / _FEW) / log(_MANY / _FEW))


def run(desk: Desk, corpus: Corpus, plan: CorpusPlan) -> list[Failed]:
    """Find the candidates and measure them."""
    look, n = Look.of(corpus, plan), len(corpus.distinct)
    if not desk.store.parts(look.pairs):
        gather(corpus, look)
    failed = desk.fill(look.likely, Likely(look), searches(n, windows(look.least)), "comparisons")
    return failed or desk.fill(look.pairs, Measure(look), list(measures(desk.store, look, n)), "pairs")


def searches(n: int, looked: Sequence[Window]) -> list[Part]:
    """Return the parts that compare thumbnails as they stand, and those that compare some windows in all turns."""
    step, some, first = max(1, _ROWS // max(1, n)), len(looked) if n > 1 else 0, stills(n)
    batches = [range(k, min(k + step, some)) for k in range(0, some, step)]
    parts = [Part(f"{k:05d}", (k, first), n // first) for k in range(first)]
    return parts + [Part(f"{k:05d}", batch, n * len(batch)) for k, batch in enumerate(batches, first)]


def stills(n: int) -> int:
    """Return how many parts compare thumbnails as they stand: the first ones."""
    return 1 + n // _STILL


def gather(corpus: Corpus, look: Look) -> None:
    """Write thumbnails of whole pictures one after the other, and digests: workers map them and need no corpus."""
    path = look.thumbnails
    if path.exists():
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for old in path.parent.glob("*.npy"):
            old.unlink()
        _write(corpus, look)
    except OSError as error:
        raise StoreError(f"{path}: cannot be written: {error.strerror or error}") from error


def _write(corpus: Corpus, look: Look) -> None:
    """Write both files whole or not at all. Raises OSError."""
    path, shape = look.thumbnails, (len(corpus.distinct), SIDE * SIDE * 3)
    beside, names = (path.with_name(f".{what}.{os.getpid()}.tmp") for what in ("thumbnails", "names"))
    try:
        with names.open("wb") as file:
            np.save(file, np.array(corpus.distinct, "S"))
        names.replace(look.names)
        with beside.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
            for _, block in corpus.blocks(WHOLE):
                file.write(block.data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
        names.unlink(missing_ok=True)


@lru_cache(maxsize=2)
def _mapped(path: Path) -> NDArray[Any]:
    """Map the thumbnails, uint8 [n, 3072], or the digests into memory, in the order of `Corpus.distinct`."""
    mapped: NDArray[Any] = np.load(path, mmap_mode="r").view(np.ndarray)
    return mapped


@dataclass(frozen=True, slots=True)
class Likely:
    """Find candidates: array `hits` of ids in the order of `Corpus.distinct`, an unordered pair once a part."""

    look: Look

    def __call__(self, part: Part) -> None:
        """Do one part: windows in all turns, or some of the thumbnails as they stand."""
        find = _moved if isinstance(part.payload, range) else _still
        hits = find(self.look, part.payload)
        Store(self.look.corpus).write(self.look.likely, part.name, [], Pair, {HITS: hits})


def _still(look: Look, part: tuple[int, int]) -> NDArray[np.void]:
    """Return a part of the pairs whose thumbnails are near as they stand, exactly; none in a quick look."""
    found = np.zeros((0, 2), np.int64)
    if not look.quick:
        found = within(_mapped(look.thumbnails), RADIUS, part=part[0], parts=part[1])
    hits = np.zeros(len(found), _HIT)
    hits["holder"], hits["shown"], hits["still"] = *found.T, True
    return hits


def _moved(look: Look, which: range) -> NDArray[np.void]:
    """Return the best hit of every pair whose waves are alike in one of these windows, in any turn.

    Windows are filed upright, and asked for upright: a picture that has no clear lean is asked for in a few turns.
    """
    n, (asked, held) = len(_mapped(look.thumbnails)), _described(look, [windows(look.least)[k] for k in which])
    held, filed_turns = _upright(held)
    cells = Cells.learn(held, round(look.cells * n**0.5))
    filed = Filed.of(held, cells.nearest(held, 1)[:, 0], len(cells.centres))
    found, back = [np.zeros(0, _HIT)], led_back()
    for turn, rows in enumerate(leaning(asked, _SLACK)):
        queries = turned(asked[rows], turn)
        for query, place, alike in above(filed, queries, cells.nearest(queries, look.visits), look.alike(n)):
            hits = np.zeros(len(query), _HIT)
            hits["holder"], hits["shown"], hits["alike"] = place % n, rows[query], alike
            hits["turn"], hits["window"] = back[filed_turns[place], turn], which.start + place // n
            found.append(hits[hits["holder"] != hits["shown"]])
    return _best(np.concatenate(found), n)


def _described(look: Look, looked: Sequence[Window]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the waves of all pictures, and of their windows, one window after the other."""
    pictures = _mapped(look.thumbnails)
    n = len(pictures)
    asked, held = np.empty((n, DIMENSIONS), np.float32), np.empty((len(looked), n, DIMENSIONS), np.float32)
    for start in range(0, n, _BLOCK):
        some = slice(start, start + _BLOCK)
        grey = luma(pictures[some].reshape(-1, SIDE, SIDE, 3))
        asked[some] = waves(grey)
        for k, window in enumerate(looked):
            held[k, some] = asked[some] if window == ALL else waves(grey, window)
    return asked, held.reshape(-1, DIMENSIONS)


def _upright(vectors: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the vectors set upright, and the turns that did it."""
    turns, out = np.zeros(len(vectors), np.int64), np.empty_like(vectors)
    for turn, rows in enumerate(leaning(vectors)):
        turns[rows] = turn
    for turn in range(8):
        out[turns == turn] = turned(vectors[turns == turn], turn)
    return out, turns


def _keys(hits: NDArray[np.void], n: int) -> NDArray[np.int64]:
    low, high = np.minimum(hits["holder"], hits["shown"]), np.maximum(hits["holder"], hits["shown"])
    keys: NDArray[np.int64] = low.astype(np.int64) * n + high
    return keys


def _best(hits: NDArray[np.void], n: int) -> NDArray[np.void]:
    """Return the hit of each unordered pair that is most alike, in the order of the pairs."""
    keys = _keys(hits, n)
    order = np.lexsort((hits["turn"], hits["window"], hits["holder"], -hits["alike"], keys))
    first = np.ones(len(order), np.bool_)
    first[1:] = keys[order][1:] != keys[order][:-1]
    return hits[order[first]]


def measures(store: Store, look: Look, n: int) -> Iterator[Part]:
    """Bring the hits of all parts together: a row a pair, with whether it is near as it stands."""
    hits = np.concatenate([store.array(look.likely, part, HITS) for part in store.parts(look.likely)])
    still, moved = hits[hits["still"]], _best(hits[~hits["still"]], n)
    both = np.concatenate([moved, still[~np.isin(_keys(still, n), _keys(moved, n))]])
    both = both[np.argsort(_keys(both, n))]
    near = np.isin(_keys(both, n), _keys(still, n))
    step = max(_PAIRS, len(both) // 64)
    for k, start in enumerate(range(0, max(1, len(both)), step)):
        some = slice(start, start + step)
        yield Part(f"{k:05d}", (both[some], near[some]), len(both[some]))


@dataclass(frozen=True, slots=True)
class Measure:
    """Measure candidates; those that nothing speaks for are not kept."""

    look: Look

    def __call__(self, part: Part) -> None:
        """Do one part."""
        hits, near = part.payload
        evidence, found = _weighed(self.look, hits)
        apart = np.full(len(hits), np.nan)
        apart[near] = _apart(_mapped(self.look.thumbnails), hits[near])
        kept = np.flatnonzero((evidence >= KEPT) | (apart <= RADIUS))
        names = _mapped(self.look.names)
        rows = [
            Pair(
                names[hits["holder"][k]].decode(),
                names[hits["shown"][k]].decode(),
                float(apart[k]) if apart[k] <= RADIUS else None,
                float(evidence[k]) if evidence[k] >= KEPT else None,
                int(hits["turn"][k]),
                *(float(share) for share in found[k]),
            )
            for k in kept
        ]
        Store(self.look.corpus).write(self.look.pairs, part.name, rows, Pair)


def _weighed(look: Look, hits: NDArray[np.void]) -> tuple[np.ndarray, np.ndarray]:
    """Return the evidence of each hit and the window that it came to."""
    evidence, pictures = np.empty(len(hits), np.float32), _mapped(look.thumbnails)
    found = corners(windows(look.least))[hits["window"]]
    for start in range(0, len(hits), _CHUNK):
        some = slice(start, start + _CHUNK)
        holders, shown = (pictures[hits[end][some]].reshape(-1, SIDE, SIDE, 3) for end in ("holder", "shown"))
        got = register(holders, turn_each(shown, hits["turn"][some]), found[some])
        evidence[some], found[some] = got.evidence, got.windows
    return evidence, found


def _apart(pictures: NDArray[np.uint8], hits: NDArray[np.void]) -> NDArray[np.float64]:
    """Return the RMS of the thumbnails of each pair."""
    out = np.empty(len(hits))
    for start in range(0, len(hits), _CHUNK):
        some = slice(start, start + _CHUNK)
        a, b = (pictures[hits[end][some]].reshape(-1, SIDE, SIDE, 3) for end in ("holder", "shown"))
        out[some] = paired_rms(a, b)
    return out
