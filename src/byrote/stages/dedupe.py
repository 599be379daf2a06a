"""Fill `groups`: exact and near-duplicates as connected components of one graph over pictures and controls together."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from byrote import images
from byrote.corpus import Corpus
from byrote.domain import RGB, Group, Side
from byrote.engine import Part
from byrote.kernels.components import components
from byrote.kernels.distance import paired_rms
from byrote.kernels.search import within
from byrote.plan import CorpusPlan
from byrote.stages import Desk, Failed
from byrote.store import Recipe

SIDE = 64
_CHUNK = 1024


def recipe(corpus: Corpus, plan: CorpusPlan) -> Recipe:
    """Return the recipe of the groups."""
    return Recipe.of("groups", {"corpus": corpus.digest, "near": plan.near, "side": SIDE})


def run(desk: Desk, corpus: Corpus, plan: CorpusPlan) -> list[Failed]:
    """Group all pictures of the corpus, both sides, in its own folder."""
    items = len(corpus.by_digest)
    return desk.fill(recipe(corpus, plan), Dedupe(corpus.root, plan), [Part("00000", items=items)], "pictures")


@dataclass(frozen=True, slots=True)
class Dedupe:
    """Compare every two distinct pictures, and write a row for each."""

    root: Path
    plan: CorpusPlan

    def __call__(self, part: Part) -> None:
        """Do the one part."""
        corpus = Corpus(self.root)
        digests = sorted(corpus.by_digest)
        pairs = _near(corpus, digests, self.plan.near)
        labels = components(len(digests), pairs)
        rows = list(grouped(digests, [int(label) for label in labels], _rows_of_a_side(corpus)))
        corpus.store.write(recipe(corpus, self.plan), part.name, rows, Group)


def grouped(digests: Sequence[str], labels: Sequence[int], rows: Mapping[tuple[Side, str], int]) -> Sequence[Group]:
    """Name the components, count their copies on each side, and set aside what touches both."""
    members: dict[int, list[str]] = {}
    for digest, label in zip(digests, labels, strict=True):
        members.setdefault(label, []).append(digest)
    sides: tuple[Literal["picture"], Literal["control"]] = ("picture", "control")
    out = []
    for group in members.values():
        copies = {side: sum(rows.get((side, digest), 0) for digest in group) for side in sides}
        both = all(copies.values())
        out += [
            Group(min(group), digest, side, copies[side], both)
            for digest in group
            for side in sides
            if (side, digest) in rows
        ]
    return sorted(out, key=lambda row: (row.group, row.digest, row.side))


def _rows_of_a_side(corpus: Corpus) -> Counter[tuple[Side, str]]:
    return Counter((row.side, row.digest) for row in corpus.pictures)


def _near(corpus: Corpus, digests: Sequence[str], near: float) -> np.ndarray:
    """Return the pairs whose thumbnails are near and whose pixels are too: int64 [p, 2]."""
    candidates = within(corpus.vectors(digests), near)
    seen: dict[int, RGB | None] = {}

    def pixels(k: int) -> RGB | None:
        if k not in seen:
            image = corpus.pixels(digests[k])
            seen[k] = None if image is None else images.fit(image, SIDE, SIDE)
        return seen[k]

    kept: list[tuple[int, int]] = []
    for k in range(0, len(candidates), _CHUNK):
        chunk = [(int(i), int(j)) for i, j in candidates[k : k + _CHUNK]]
        both = [(pair, pixels(pair[0]), pixels(pair[1])) for pair in chunk]
        there = [(pair, a, b) for pair, a, b in both if a is not None and b is not None]
        if there:
            distances = paired_rms(np.stack([a for _, a, _ in there]), np.stack([b for *_, b in there]))
            kept += [pair for (pair, _, _), d in zip(there, distances, strict=True) if d <= near]
    return np.array(kept, np.int64).reshape(-1, 2)
