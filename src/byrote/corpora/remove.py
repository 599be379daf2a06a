"""Take pictures, or a whole source, out of a corpus so that nothing of them is left.

First what is to go is written down (as a digest of its digest), which every reader obeys from then on; then the parts
are written anew without it, and everything that was computed from it goes. A kill in between loses nothing: the next
`byrote index` or `byrote remove` goes on.
"""

import json
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from byrote.corpora import parts
from byrote.corpus import Corpus, as_file, blind
from byrote.domain import Picture
from byrote.errors import CorpusError
from byrote.plan import CorpusPlan
from byrote.stages import silent
from byrote.store import append, sweep

if TYPE_CHECKING:
    from byrote.corpora.check import Checked

DERIVED = ("page", "nearby", "groups", "pairs", "likely")
"""Folders of what is made from the pictures, and made again when asked for; what is made of another comes first."""


@dataclass(frozen=True, slots=True)
class Removed:
    """How many files went, how many parts were written anew, and which derived folders were emptied."""

    files: int
    parts: int
    derived: tuple[str, ...]


def named(corpus: Corpus, files: Sequence[Path], *, alike: bool) -> list[str]:
    """Return the digests of the pictures in image files, and of near-duplicates on either side where `alike`.

    Raises CorpusError where a file's picture is not in the corpus: nothing would be removed for it.
    """
    digests: list[str] = []
    for answer, near in _near(corpus, files, frozenset()):
        own = [answer.digest] if _known(corpus, answer.digest) else []
        if not own and not (alike and near):
            told = "its near-duplicates too: `--alike`" if near else "nothing to remove"
            raise CorpusError(f"{answer.image}: this very picture is not in {corpus.root} ({answer.answer}); {told}")
        digests += own + (near if alike else [])
    more = digests
    while alike and more:  # a look tells the nearest ones only
        again = _near(corpus, files, frozenset(digests))
        more = [digest for _, near in again for digest in near]
        digests += more
    return list(dict.fromkeys(digests))


def _near(corpus: Corpus, files: Sequence[Path], besides: frozenset[str]) -> "list[tuple[Checked, list[str]]]":
    """Look for image files among all pictures but some; return the answers, and the near-duplicates of each."""
    from byrote.corpora.check import check

    plan, among = CorpusPlan(), set(corpus.distinct) - besides
    found = check(corpus, files, plan, silent, show=len(among), among=among) if files else []
    return [(one, [near.digest for near in one.nearest if near.calls(plan)]) for one in found]


def pictures(corpus: Corpus, digests: Iterable[str]) -> Removed:
    """Remove pictures by their digests. Raises CorpusError where the corpus does not hold one and never did.

    One that was removed before is no mistake, so that a removal that was killed can be asked for again.
    """
    wanted = list(dict.fromkeys(digests))
    for digest in wanted:
        if not _known(corpus, digest):
            raise CorpusError(f"{corpus.root} holds no picture {digest!r}: `byrote check IMAGE` tells a digest")
    remember(corpus, "picture", {blind(digest) for digest in wanted} - corpus.removed)
    return clean(Corpus(corpus.root))


def _known(corpus: Corpus, digest: str) -> bool:
    """Say whether a picture is in the corpus, was removed before, or is what a file was before it changed."""
    if digest in corpus.by_digest or blind(digest) in corpus.removed:
        return True
    return any(digest in _rows(corpus, part)[0]["digest"].to_pylist() for part in _stale(corpus))


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
    if lines:
        append(corpus.root / "removed.jsonl", lines)


def clean(corpus: Corpus) -> Removed:
    """Write every part anew that holds what was removed, or a state of a file that no longer counts. Runs at any time.

    What was made from what was removed goes first: once no part holds it, nothing tells of it.
    """
    sweep(corpus.root)
    parts.sweep_orphans(corpus)
    gone, stale = _gone_sources(corpus), _stale(corpus)
    files = sum(_going(corpus, gone, part) for part in stale)
    derived = _drop(corpus) if files else ()
    for part in stale:
        _rewrite(corpus, gone, part)
    for uri in gone:
        parts.rewrite(corpus.root / "ledger.jsonl", json.dumps(uri), json.dumps(blind(uri)))
    return Removed(files, len(stale), derived)


def _stale(corpus: Corpus) -> list[str]:
    """List the parts of which not every row counts."""
    count = Counter(corpus.table["part"].to_pylist()) + Counter(corpus.unreadable_table["part"].to_pylist())
    store, made = corpus.store, corpus.recipe
    rows = {part: store.rows(made, part) + store.rows(made, f"{part}.unreadable") for part in store.parts(made)}
    return [part for part, n in rows.items() if n > count[int(part)]]


def _rows(corpus: Corpus, part: str) -> tuple[pa.Table, pa.Table]:
    return corpus.store.table(Picture, corpus.recipe, part), parts.unreadable(corpus, part)


def _going(corpus: Corpus, gone: set[str], part: str) -> int:
    """Count the files of a part that go, not those that only changed."""
    return sum(_goes(corpus, gone, row) for some in _rows(corpus, part) for row in _names(some))


def _rewrite(corpus: Corpus, gone: set[str], part: str) -> None:
    """Write a part under a new number with the rows that count, and with its count of what was held back.

    After a kill in between the new part is there beside the old one, of which no row counts any more.
    """
    rows, lost = _rows(corpus, part)
    goes = np.array([_goes(corpus, gone, row) for row in _names(rows)], np.bool_)
    remember(corpus, "file", _files(rows.filter(pa.array(goes & _asked(corpus, rows)))) - corpus.removed)
    keep, stays = (
        np.isin(np.arange(len(some)), held.filter(pc.field("part") == int(part))["row"].to_numpy())
        for some, held in ((rows, corpus.table), (lost, corpus.unreadable_table))
    )
    counts = parts.counts(corpus, part) and not any(uri in gone for some in (rows, lost) for uri, _ in _names(some))
    if keep.any() or stays.any() or counts:
        parts.copy(corpus, part, keep, lost.filter(pa.array(stays)), corpus, parts.next_number(corpus))
    parts.unlink(corpus, part)


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
