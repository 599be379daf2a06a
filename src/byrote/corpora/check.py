"""Is this picture in the corpus? Its nearest pictures as it stands, and moved, turned or cropped either way."""

from collections import defaultdict
from collections.abc import Sequence, Set
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from byrote import images
from byrote.corpus import WHOLE, Corpus
from byrote.descriptors.whole import SIDE, Whole
from byrote.domain import RGB, Pair, Picture
from byrote.errors import CorpusError
from byrote.kernels.distance import paired_rms
from byrote.kernels.register import register
from byrote.kernels.stats import clopper_pearson
from byrote.kernels.waves import TURNS, corners, luma, turn_each, turned, waves, windows
from byrote.plan import CorpusPlan
from byrote.stages import Progress
from byrote.stages.dedupe import alike, measured
from byrote.stages.near import KEPT

Answer = Literal["in it", "near-duplicate", "not found"]
LOOKED = 64
"""Pictures of each kind (as they stand, holding, held) that are measured for a query: the most alike."""
STILL = 10
"""Nearest as they stand."""
_BLOCK = 8192


@dataclass(frozen=True, slots=True)
class Near:
    """A picture of the corpus beside the query. `shows` says which of them shows a part of the other.

    That one, turned by `turn`, is the window (left, top, width, height, in shares of the edges) of the other.
    """

    digest: str
    side: str
    where: tuple[str, ...]
    captions: tuple[str, ...]
    copies: int
    rms: float | None
    evidence: float | None
    shows: Literal["query", "corpus"]
    turn: str
    window: tuple[float, float, float, float]

    def calls(self, plan: CorpusPlan) -> bool:
        """Say whether a plan calls it a near-duplicate of the query."""
        return alike(self.rms, self.evidence, plan)


@dataclass(frozen=True, slots=True)
class Alarms:
    """How often a picture that was never in it would be called so:

    `k` of `n` controls, and what it is at most (95 %).
    """

    k: int
    n: int
    high: float


@dataclass(frozen=True, slots=True)
class Checked:
    """The answer for one image, its nearest pictures (nearest first), and false alarms where calibrated."""

    image: str
    digest: str
    answer: Answer
    nearest: tuple[Near, ...]
    alarms: Alarms | None
    note: str


def check(
    corpus: Corpus,
    files: Sequence[Path],
    plan: CorpusPlan,
    progress: Progress,
    *,
    show: int = 5,
    among: Set[str] | None = None,
) -> list[Checked]:
    """Look for each image among the pictures of the training set, or `among` some digests of either side.

    Raises CorpusError where one cannot be read.
    """
    queries = [read(path) for path in files]
    own = [
        images.file_digest(path.read_bytes()) if corpus.quick else images.digest(image)
        for path, image in zip(files, queries, strict=True)
    ]
    hits = _Search(corpus, queries, own, plan, progress, corpus.digests("picture") if among is None else among).run()
    controls = _Controls(corpus, plan)
    rows: dict[str, list[Picture]] = defaultdict(list)
    wanted = {digest for found in hits for digest in found}
    for row in corpus.rows(wanted):
        rows[row.digest].append(row)
    return [
        _answer(str(path), digest, found, rows, plan, controls, show)
        for path, digest, found in zip(files, own, hits, strict=True)
    ]


def read(path: Path) -> RGB:
    """Decode an image file. Raises CorpusError."""
    try:
        return images.decode(path.read_bytes())
    except OSError as error:
        raise CorpusError(f"{path}: cannot be read: {error.strerror or error}") from error
    except images.Undecodable as error:
        raise CorpusError(f"{path}: no picture that can be read: {error.reason}") from error


def _answer(
    name: str,
    digest: str,
    found: dict[str, Pair],
    rows: dict[str, list[Picture]],
    plan: CorpusPlan,
    controls: "_Controls",
    show: int,
) -> Checked:
    ordered = sorted(found.items(), key=lambda item: (item[0] != digest, *_rank(item[1], plan)))
    near = tuple(_near(other, pair, rows[other]) for other, pair in ordered[:show])
    best = ordered[0][1] if ordered else None
    called = best is not None and alike(best.rms, best.evidence, plan)
    answer: Answer = "not found"
    if digest in found:
        answer = "in it"
    elif called:
        answer = "near-duplicate"
    alarms = controls.alarms(best) if best is not None and called else None  # pairs that are farther are not all kept
    return Checked(name, digest, answer, near, alarms, controls.note)


def _rank(pair: Pair, plan: CorpusPlan) -> tuple[bool, float, float]:
    """Order near-duplicates first, then by evidence for a copy, where pixels agree as they stand first of all."""
    evidence, rms = KEPT if pair.evidence is None else pair.evidence, inf if pair.rms is None else pair.rms
    return not alike(pair.rms, pair.evidence, plan), -max(evidence, 30.0 if rms <= 0.02 else KEPT), rms


def _near(digest: str, pair: Pair, rows: Sequence[Picture]) -> Near:
    return Near(
        digest=digest,
        side=rows[0].side,
        where=tuple(row.where for row in rows),
        captions=tuple(dict.fromkeys(caption for row in rows for caption in row.captions)),
        copies=len(rows),
        rms=pair.rms,
        evidence=pair.evidence,
        shows="corpus" if pair.b == digest else "query",
        turn=TURNS[pair.turn],
        window=(pair.left, pair.top, pair.width, pair.height),
    )


class _Controls:
    """What controls come to: the nearest picture of each, by the pairs that were measured over the whole corpus."""

    def __init__(self, corpus: Corpus, plan: CorpusPlan) -> None:
        sides = {side: corpus.digests(side) for side in ("picture", "control")}
        self._n = len(sides["control"])
        self._pairs: dict[str, list[Pair]] = defaultdict(list)
        self._alike = plan.alike
        pairs = measured(corpus, plan)
        self.note = ""
        if not self._n:
            self.note = "uncalibrated: the corpus holds no controls; `byrote index --held-out` adds some"
        elif not pairs:
            self.note = "uncalibrated: `byrote duplicates` has not measured the controls of this corpus yet"
        for pair in pairs:
            for own, other in ((pair.a, pair.b), (pair.b, pair.a)):
                if own in sides["control"] and other in sides["picture"]:
                    self._pairs[own].append(pair)

    def alarms(self, best: Pair) -> Alarms | None:
        """Count the controls that come as near to a picture as the query does, in the way in which it is nearest."""
        if self.note:
            return None
        k = sum(any(_as_near(pair, best, self._alike) for pair in pairs) for pairs in self._pairs.values())
        return Alarms(k, self._n, clopper_pearson(k, self._n, 0.95)[1])


def _as_near(pair: Pair, best: Pair, alike: float) -> bool:
    """Compare by evidence where that is what speaks for the query, else by the distance as they stand."""
    if best.evidence is not None and best.evidence >= alike and (best.rms is None or best.rms > 0):
        return pair.evidence is not None and pair.evidence >= best.evidence
    return best.rms is not None and pair.rms is not None and pair.rms <= best.rms


class _Search:
    """Holds queries against every picture of some, a block at a time."""

    def __init__(
        self,
        corpus: Corpus,
        queries: Sequence[RGB],
        own: Sequence[str],
        plan: CorpusPlan,
        progress: Progress,
        among: Set[str],
    ) -> None:
        self._corpus, self._queries, self._own, self._progress = corpus, queries, own, progress
        self._windows = windows(plan.crop)
        self._corners = corners(self._windows)
        self._whole = Whole().describe(queries).reshape(-1, SIDE, SIDE, 3)
        grey = luma(self._whole)
        self._shown = np.stack([turned(waves(grey), turn) for turn in range(8)])  # the query as what is shown
        self._held = np.stack([waves(grey, window) for window in self._windows])  # the query as what holds
        self._digests = [digest for digest in corpus.distinct if digest in among]

    def run(self) -> list[dict[str, Pair]]:
        """Return for each query the pictures near it, by digest."""
        tops = [_Top() for _ in range(3 * len(self._queries))]
        for start in range(0, len(self._digests), _BLOCK):
            some = self._digests[start : start + _BLOCK]
            self._look(start, some, tops)
            self._progress("check", min(start + _BLOCK, len(self._digests)), len(self._digests), "pictures")
        found = [self._measured(q, *tops[3 * q : 3 * q + 3]) for q in range(len(self._queries))]
        for digest, near in zip(self._own, found, strict=True):
            self._exact(digest, near)
        return found

    def _look(self, start: int, some: Sequence[str], tops: "Sequence[_Top]") -> None:
        seen = self._corpus.vectors(some, WHOLE).reshape(-1, SIDE, SIDE, 3)
        grey = luma(seen)
        asked = waves(grey)
        for k, window in enumerate(self._windows):
            held = waves(grey, window)
            for turn in range(8):
                for q, found in enumerate(self._shown[turn] @ held.T):
                    tops[3 * q].add(found, start, k, turn)
                for q, found in enumerate(self._held[k] @ turned(asked, turn).T):
                    tops[3 * q + 1].add(found, start, k, turn)
        for q, own in enumerate(self._whole):
            tops[3 * q + 2].add(-paired_rms(seen, np.broadcast_to(own, seen.shape)), start, 0, 0)

    def _measured(self, q: int, holds: "_Top", held: "_Top", still: "_Top") -> dict[str, Pair]:
        """Measure the most alike of a query, and keep what is nearest for each picture."""
        found: dict[str, Pair] = {}
        for pair in (*self._moved(q, holds, True), *self._moved(q, held, False), *self._still(still)):
            other = pair.b if pair.a == "" else pair.a
            before = found.get(other)
            found[other] = pair if before is None else _joined(before, pair)
        return found

    def _moved(self, q: int, top: "_Top", corpus_holds: bool) -> list[Pair]:
        places, ks, turns = top.best(LOOKED)
        names = [self._digests[place] for place in places]
        others = self._corpus.vectors(names, WHOLE).reshape(-1, SIDE, SIDE, 3)
        query = np.broadcast_to(self._whole[q], others.shape)
        holders, shown = (others, query) if corpus_holds else (query, others)
        got = register(np.ascontiguousarray(holders), turn_each(shown, turns), self._corners[ks])
        return [
            Pair(
                name if corpus_holds else "",
                "" if corpus_holds else name,
                None,
                float(e),
                int(turn),
                *(float(share) for share in window),
            )
            for name, e, turn, window in zip(names, got.evidence, turns, got.windows, strict=True)
            if e >= KEPT
        ]

    def _still(self, top: "_Top") -> list[Pair]:
        """Return the pictures that are nearest as they stand."""
        places, apart = top.best(STILL)[0], top.scores(STILL)
        names = [self._digests[place] for place in places]
        return [
            Pair(name, "", float(-rms), None, 0, 0.0, 0.0, 1.0, 1.0) for name, rms in zip(names, apart, strict=True)
        ]

    def _exact(self, digest: str, found: dict[str, Pair]) -> None:
        if digest in set(self._digests):
            before = found.get(digest)
            found[digest] = Pair(digest, "", 0.0, before.evidence if before else None, 0, 0.0, 0.0, 1.0, 1.0)


class _Top:
    """The most alike so far: a place once, with its best window and turn."""

    def __init__(self) -> None:
        self._rows: list[NDArray[np.float64]] = []

    def add(self, alike: NDArray[np.floating[Any]], start: int, window: int, turn: int) -> None:
        """Take note of the best of a block."""
        best = np.argpartition(-alike, min(LOOKED, len(alike)) - 1)[:LOOKED]
        own = np.column_stack([alike[best], best + start, np.full(len(best), window), np.full(len(best), turn)])
        self._rows.append(own.astype(np.float64))
        if len(self._rows) > 256:
            self._rows = [self._sorted(LOOKED)]

    def best(self, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Return places, windows and turns, the most alike first."""
        rows = self._sorted(count)
        places, ks, turns = rows[:, 1:].astype(np.int64).T
        return places, ks, turns

    def scores(self, count: int) -> NDArray[np.float64]:
        """Return how alike these are."""
        return self._sorted(count)[:, 0]

    def _sorted(self, count: int) -> NDArray[np.float64]:
        rows = np.concatenate([np.zeros((0, 4)), *self._rows])
        rows = rows[np.argsort(-rows[:, 0], kind="stable")]
        _, first = np.unique(rows[:, 1], return_index=True)
        return rows[np.sort(first)][:count]


def _joined(a: Pair, b: Pair) -> Pair:
    """Return the pair with more evidence, with the distance of either."""
    best = max(a, b, key=lambda pair: -inf if pair.evidence is None else pair.evidence)
    rms = a.rms if b.rms is None else b.rms
    return Pair(best.a, best.b, rms, best.evidence, best.turn, best.left, best.top, best.width, best.height)
