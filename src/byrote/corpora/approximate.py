"""The approximate index over a corpus's thumbnails, for what exceeds memory: made once, told of in the summary."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from byrote import nearby
from byrote.corpus import WHOLE, Corpus
from byrote.descriptors.whole import Whole
from byrote.domain import RGB
from byrote.errors import CorpusError
from byrote.kernels.waves import turn_pixels, windows
from byrote.plan import CorpusPlan

LOOKED = 16
"""Neighbours of each turn of each window that are looked at."""


class Thumbnails:
    """The thumbnails of the distinct pictures, in the order of their ids."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus

    @property
    def shape(self) -> tuple[int, int]:
        """Return the number and the length of the vectors."""
        return len(self._corpus.distinct), Whole.dimensions

    def blocks(self) -> Iterator[NDArray[Any]]:
        """Return them in order, some at a time."""
        return (block for _, block in self._corpus.blocks(WHOLE))

    def rows(self, ids: NDArray[np.int64]) -> NDArray[Any]:
        """Return those with these ids."""
        return self._corpus.vectors((self._corpus.distinct[k] for k in ids), WHOLE)


def make(corpus: Corpus) -> nearby.Summary:
    """Make the index anew. Raises CorpusError where faiss is missing."""
    if not corpus.distinct:
        raise CorpusError(f"{corpus.root}: no pictures to index; `byrote index SOURCE --corpus` adds some")
    made = nearby.make(Thumbnails(corpus), _folder(corpus))
    (_folder(corpus) / "order.json").write_text(json.dumps({"order": corpus.order}) + "\n", encoding="utf-8")
    return made


def opened(corpus: Corpus) -> nearby.Nearby:
    """Open the index. Raises CorpusError where it is missing, or made before the corpus changed."""
    if not is_current(corpus):
        raise CorpusError(f"{corpus.root}: no index of these pictures; `byrote approximate --corpus` makes one")
    return nearby.Nearby.open(_folder(corpus), Thumbnails(corpus))


def around(corpus: Corpus, queries: Sequence[RGB], plan: CorpusPlan) -> set[str]:
    """Return the digests that the index finds near any query, or near a window of it, in all eight turns."""
    index, sides = opened(corpus), corpus.digests("picture")
    asked = [turn_pixels(cut[None], turn)[0] for query in queries for cut in _cuts(query, plan) for turn in range(8)]
    _, ids = index.search(Whole().describe(asked), LOOKED)
    return {corpus.distinct[k] for k in np.unique(ids[ids >= 0])} & sides


def _cuts(query: RGB, plan: CorpusPlan) -> Iterator[RGB]:
    height, width = query.shape[:2]
    for window in windows(plan.crop):
        top, left = round(window.top * height), round(window.left * width)
        down, right = max(1, round(window.height * height)), max(1, round(window.width * width))
        yield np.ascontiguousarray(query[top : top + down, left : left + right])


def is_current(corpus: Corpus) -> bool:
    """Say whether there is an index, made of the pictures that the corpus holds now."""
    path = _folder(corpus) / "order.json"
    try:
        return bool(json.loads(path.read_text(encoding="utf-8"))["order"] == corpus.order)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def summary(corpus: Corpus) -> str | None:
    """Return what the index says of itself, if there is a current one."""
    return opened(corpus).summary.line() if is_current(corpus) else None


def _folder(corpus: Corpus) -> Path:
    return corpus.root / "nearby"
