"""Bring another corpus's pictures into one, with their vectors, without reading a source again."""

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from byrote.corpora import parts, remove
from byrote.corpus import Corpus, blind
from byrote.errors import CorpusError
from byrote.stages import Progress


def merge(target: Corpus, other: Corpus, progress: Progress) -> int:
    """Copy what `target` does not hold, part by part; return the number of rows. It may be run again after a kill.

    What a person had removed from either stays away from both. Of a file that both hold, the state that changed last
    counts, and a picture before a file that could not be read. Raises CorpusError for a corpus merged into itself, for
    one that was not screened where `target` is, and for a quick one with one that is not.
    """
    if target.root.resolve() == other.root.resolve():
        raise CorpusError(f"{other.root}: a corpus cannot be merged into itself; name another")
    if not set(_screens(target)[-1:]) <= set(_screens(other)):
        raise CorpusError(
            f"{other.root} was not screened by the list of hashes of {target.root}: index its sources instead"
        )
    if len(target.table) and len(other.table) and target.quick != other.quick:
        quick = target if target.quick else other
        raise CorpusError(f"{quick.root} was indexed quickly: it cannot be merged with one that was indexed in full")
    parts.sweep_orphans(target)
    for named in other.named():
        if named not in target.named():
            target.store.log("source", {"side": named.side, "uri": named.uri})
    remove.remember(target, "picture", other.pictures_removed - target.removed)
    added, there = 0, other.store.parts(other.recipe)
    wanted = _wanted(Corpus(target.root), other)
    for done, part in enumerate(there, 1):
        lost = parts.unreadable(other, part)
        keep, new = (
            np.isin(np.arange(n), some[int(part)])
            for n, some in zip((other.store.rows(other.recipe, part), len(lost)), wanted, strict=True)
        )
        if keep.any() or new.any():
            parts.copy(other, part, keep, lost.filter(pa.array(new)), target, parts.next_number(target))
            added += int(keep.sum()) + int(new.sum())
        progress("merge", done, len(there), "parts")
    remove.clean(Corpus(target.root))
    return added


def _screens(corpus: Corpus) -> list[str]:
    """Return the digests of the lists of hashes that a corpus was screened by, the last that holds at the end."""
    return [line["digest"] for line in corpus.store.ledger() if line.get("event") == "hash list"]


def _wanted(target: Corpus, other: Corpus) -> tuple[dict[int, list[int]], dict[int, list[int]]]:
    """Return the rows of the pictures, and of the unreadable files, of `other` that are to be copied, by part."""
    seen, lost = _states(target.table), _states(target.unreadable_table)
    pictures, unreadable = defaultdict[int, list[int]](list), defaultdict[int, list[int]](list)
    for state in _states(other.table).values():
        before = seen.get(state.file)
        newer = before is None or (before != state and before.modified <= state.modified)
        if newer and blind(state.digest) not in target.removed:
            pictures[state.part].append(state.row)
    for state in _states(other.unreadable_table).values():
        before = seen.get(state.file) or lost.get(state.file)
        if before is None or before.modified < state.modified:
            unreadable[state.part].append(state.row)
    return pictures, unreadable


@dataclass(frozen=True, slots=True)
class _State:
    """What a corpus holds of a file. Two are equal wherever their rows lie."""

    file: tuple[str, str, str]
    digest: str
    modified: int
    size: int
    captions: tuple[str, ...]
    part: int = field(compare=False)
    row: int = field(compare=False)


def _states(rows: pa.Table) -> dict[tuple[str, str, str], _State]:
    found = {}
    for one in rows.to_pylist():
        file = (one["side"], one["source"], one["where"])
        about = (one.get("digest", ""), one["modified"], one["size"], tuple(one["captions"]))
        found[file] = _State(file, *about, one["part"], one["row"])
    return found
