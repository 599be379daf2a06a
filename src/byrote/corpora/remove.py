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

from byrote.corpora import parts
from byrote.corpora.check import check
from byrote.corpus import Corpus, as_file, blind
from byrote.domain import Picture
from byrote.errors import CorpusError
from byrote.plan import CorpusPlan

DERIVED = ("likely", "pairs", "groups", "nearby", "page")
"""Folders of what is made from the pictures, and made again when it is asked for."""


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
    digests = []
    for found in check(corpus, files, CorpusPlan(), _nobody, show=10_000) if files else ():
        near = [
            one.digest for one in found.nearest if one.digest == found.digest or (alike and one.calls(CorpusPlan()))
        ]
        if not near:
            told = "its near-duplicates too: `--alike`" if found.answer == "near-duplicate" else "nothing to remove"
            raise CorpusError(f"{found.image}: this very picture is not in {corpus.root} ({found.answer}); {told}")
        digests += near
    return digests


def pictures(corpus: Corpus, digests: Iterable[str]) -> Removed:
    """Remove pictures by their digests. Raises CorpusError where the corpus does not hold one."""
    wanted = list(dict.fromkeys(digests))
    for digest in wanted:
        if digest not in corpus.by_digest:
            raise CorpusError(f"{corpus.root} holds no picture {digest!r}: `byrote check IMAGE` tells a digest")
    remember(corpus, "picture", {blind(digest) for digest in wanted} - corpus.removed)
    return clean(Corpus(corpus.root))


def source(corpus: Corpus, uri: str) -> Removed:
    """Remove a source and all its pictures. Raises CorpusError where it was not named."""
    known = [named.uri for named in corpus.named()]
    if uri not in known:
        raise CorpusError(f"{corpus.root} has no source {uri!r}; it has {', '.join(map(repr, known)) or 'none'}")
    corpus.store.log("source removed", {"uri": blind(uri)})
    return clean(Corpus(corpus.root))


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
    """Write every part anew that still holds what was removed, and drop what was made from it. Runs at any time."""
    gone = _gone_sources(corpus)
    files = rewritten = 0
    for part in corpus.store.parts(corpus.recipe):
        rows, lost = corpus.store.table(Picture, corpus.recipe, part), parts.unreadable(corpus, part)
        keep = np.array([not _goes(corpus, gone, row) for row in _names(rows)], np.bool_)
        stays = np.array([not _goes(corpus, gone, row) for row in _names(lost)], np.bool_)
        if keep.all() and stays.all():
            continue
        remember(corpus, "file", _files(rows.filter(pa.array(~keep & _asked(corpus, rows)))) - corpus.removed)
        if keep.any() or stays.any():
            parts.copy(corpus, part, keep, lost.filter(pa.array(stays)), corpus, parts.next_number(corpus))
        parts.unlink(corpus, part)
        files += int((~keep).sum()) + int((~stays).sum())
        rewritten += 1
    parts.sweep_orphans(corpus)
    for uri in gone:
        parts.rewrite(corpus.root / "ledger.jsonl", json.dumps(uri), json.dumps(blind(uri)))
    derived = _drop(corpus) if files else ()
    return Removed(files, rewritten, derived)


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
    ledger = corpus.store.ledger()
    named = {line["uri"] for line in ledger if line.get("event") == "source"}
    removed = {line["uri"] for line in ledger if line.get("event") == "source removed"}
    return {uri for uri in named - {one.uri for one in corpus.named()} if blind(uri) in removed}


def _drop(corpus: Corpus) -> tuple[str, ...]:
    there = tuple(name for name in DERIVED if (corpus.root / name).exists())
    for name in there:
        shutil.rmtree(corpus.root / name)
    return there


def _nobody(stage: str, done: int, total: int, unit: str) -> None:
    """Tell nobody."""
