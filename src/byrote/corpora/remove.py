"""Take pictures, or a whole source, out of a corpus so that nothing of them is left.

First what is to go is written down (as a digest of its digest), which every reader obeys from then on; then the parts
are written anew without it, and everything that was computed from it goes. A kill in between loses nothing: the next
`byrote index` or `byrote remove` goes on.
"""

import json
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from byrote.corpora import parts
from byrote.corpus import Corpus, as_file, blind
from byrote.domain import Picture
from byrote.errors import CorpusError
from byrote.plan import CorpusPlan
from byrote.store import sweep

DERIVED = ("page", "nearby", "groups", "pairs", "likely")
"""Folders of what is made from the pictures, and made again when asked for; what is made of another comes first."""


@dataclass(frozen=True, slots=True)
class Removed:
    """How many files went, how many parts were written anew, and which derived folders were emptied."""

    files: int
    parts: int
    derived: tuple[str, ...]


def named(corpus: Corpus, files: Sequence[Path], *, alike: bool) -> list[str]:
    """Return the digests of the pictures in image files, and of near-duplicates where `alike`.

    Raises CorpusError where a file's picture is not in the corpus: nothing would be removed for it.
    """
    from byrote.corpora.check import check

    digests = []
    for found in check(corpus, files, CorpusPlan(), _nobody, show=10_000) if files else ():
        near = [one.digest for one in found.nearest if alike and one.calls(CorpusPlan())]
        if found.digest in corpus.by_digest or blind(found.digest) in corpus.removed:
            near.insert(0, found.digest)
        if not near:
            told = "its near-duplicates too: `--alike`" if found.answer == "near-duplicate" else "nothing to remove"
            raise CorpusError(f"{found.image}: this very picture is not in {corpus.root} ({found.answer}); {told}")
        digests += near
    return digests


def pictures(corpus: Corpus, digests: Iterable[str]) -> Removed:
    """Remove pictures by their digests. Raises CorpusError where the corpus does not hold one and never did.

    One that was removed before is no mistake, so that a removal that was killed can be asked for again.
    """
    wanted = list(dict.fromkeys(digests))
    for digest in wanted:
        if digest not in corpus.by_digest and blind(digest) not in corpus.removed:
            raise CorpusError(f"{corpus.root} holds no picture {digest!r}: `byrote check IMAGE` tells a digest")
    remember(corpus, "picture", {blind(digest) for digest in wanted} - corpus.removed)
    return clean(Corpus(corpus.root))


def source(corpus: Corpus, uri: str) -> Removed:
    """Remove a source and all its pictures, once. Raises CorpusError where it was never named."""
    if holds(corpus, uri):
        corpus.store.log("source removed", {"uri": blind(uri)})
    return clean(Corpus(corpus.root))


def holds(corpus: Corpus, uri: str) -> bool:
    """Say whether a source is there, or was removed before. Raises CorpusError where it was never named."""
    known = [named.uri for named in corpus.named()]
    if uri not in known and blind(uri) not in _removed_sources(corpus):
        raise CorpusError(f"{corpus.root} has no source {uri!r}; it has {', '.join(map(repr, known)) or 'none'}")
    return uri in known


def remember(corpus: Corpus, what: Literal["picture", "file"], blinded: Iterable[str]) -> None:
    """Write down what must not come back, and make sure that it is on the disk."""
    at = datetime.now(UTC).date().isoformat()
    lines = "".join(json.dumps({"at": at, "what": what, "blind": one}) + "\n" for one in sorted(blinded))
    if not lines:
        return
    path = corpus.root / "removed.jsonl"
    handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        size = os.fstat(handle).st_size
        torn = size > 0 and os.pread(handle, 1, size - 1) != b"\n"
        os.write(handle, ("\n" * torn + lines).encode())
        os.fsync(handle)
    finally:
        os.close(handle)


def clean(corpus: Corpus) -> Removed:
    """Drop what was made from what was removed, and write every part anew that still holds it. Runs at any time."""
    sweep(corpus.root)
    parts.sweep_orphans(corpus)
    gone = _gone_sources(corpus)
    stale = [one for part in corpus.store.parts(corpus.recipe) if (one := _weighed(corpus, gone, part)).files]
    derived = _drop(corpus) if stale else ()  # first: once no part is stale, nothing tells that these are
    for one in stale:
        _rewrite(corpus, one)
    for uri in gone:
        parts.rewrite(corpus.root / "ledger.jsonl", json.dumps(uri), json.dumps(blind(uri)))
    return Removed(sum(one.files for one in stale), len(stale), derived)


@dataclass(frozen=True, slots=True)
class _Weighed:
    """A part, which of its pictures and of its unreadable files stay, and whether its source does."""

    part: str
    keep: NDArray[np.bool_]
    stays: NDArray[np.bool_]
    named: bool

    @property
    def files(self) -> int:
        """Return how many files go."""
        return int((~self.keep).sum()) + int((~self.stays).sum())


def _weighed(corpus: Corpus, gone: set[str], part: str) -> _Weighed:
    rows, lost = corpus.store.table(Picture, corpus.recipe, part), parts.unreadable(corpus, part)
    keep, stays = (np.array([not _goes(corpus, gone, row) for row in _names(some)], np.bool_) for some in (rows, lost))
    return _Weighed(part, keep, stays, not any(uri in gone for some in (rows, lost) for uri, _ in _names(some)))


def _rewrite(corpus: Corpus, one: _Weighed) -> None:
    """Write a part under a new number without what goes; its count of files that were held back stays."""
    rows, lost = corpus.store.table(Picture, corpus.recipe, one.part), parts.unreadable(corpus, one.part)
    remember(corpus, "file", _files(rows.filter(pa.array(~one.keep & _asked(corpus, rows)))) - corpus.removed)
    if one.keep.any() or one.stays.any() or (one.named and parts.counts(corpus, one.part)):
        parts.copy(corpus, one.part, one.keep, lost.filter(pa.array(one.stays)), corpus, parts.next_number(corpus))
    parts.unlink(corpus, one.part)


def _files(rows: pa.Table) -> set[str]:
    """Return what stands for the files of some rows, so that the next `byrote index` need not read them again."""
    columns = (rows[name].to_pylist() for name in ("source", "where", "size", "modified"))
    return {as_file(*row) for row in zip(*columns, strict=True)}


def _asked(corpus: Corpus, rows: pa.Table) -> np.ndarray:
    """Mark the rows whose very picture somebody had removed, not only its source."""
    return np.array([blind(digest) in corpus.removed for digest in rows["digest"].to_pylist()], np.bool_)


def _names(rows: pa.Table) -> list[tuple[str, str | None]]:
    digests = rows["digest"].to_pylist() if "digest" in rows.column_names else [None] * len(rows)
    return list(zip(rows["source"].to_pylist(), digests, strict=True))


def _goes(corpus: Corpus, gone: set[str], row: tuple[str, str | None]) -> bool:
    uri, digest = row
    return uri in gone or (bool(corpus.removed) and digest is not None and blind(digest) in corpus.removed)


def _gone_sources(corpus: Corpus) -> set[str]:
    """Return the sources that were named once and removed since."""
    named = {line["uri"] for line in corpus.store.ledger() if line.get("event") == "source"}
    removed = _removed_sources(corpus)
    return {uri for uri in named - {one.uri for one in corpus.named()} if blind(uri) in removed}


def _removed_sources(corpus: Corpus) -> set[str]:
    return {line["uri"] for line in corpus.store.ledger() if line.get("event") == "source removed"}


def _drop(corpus: Corpus) -> tuple[str, ...]:
    there = tuple(name for name in DERIVED if (corpus.root / name).exists())
    for name in there:
        shutil.rmtree(corpus.root / name)
    return there


def _nobody(stage: str, done: int, total: int, unit: str) -> None:
    """Tell nobody."""
