"""Bring another corpus's pictures into one, with their vectors, without reading a source again."""

import numpy as np
import pyarrow as pa

from byrote.corpora import parts, remove
from byrote.corpus import Corpus
from byrote.domain import Picture
from byrote.errors import CorpusError
from byrote.stages import Progress


def merge(target: Corpus, other: Corpus, progress: Progress) -> int:
    """Copy what `target` does not hold, part by part; return the number of rows. It may be run again after a kill.

    What a person had removed from either stays away from both. Raises CorpusError for a corpus merged into itself.
    """
    if target.root.resolve() == other.root.resolve():
        raise CorpusError(f"{other.root}: a corpus cannot be merged into itself; name another")
    for named in other.named():
        if named not in target.named():
            target.store.log("source", {"side": named.side, "uri": named.uri})
    remove.remember(target, "picture", other.pictures_removed - target.removed)
    added, there = 0, other.store.parts(other.recipe)
    target = Corpus(target.root)
    held = _held(target.table), _held(target.unreadable_table)
    current = _held(other.table), _held(other.unreadable_table)
    for done, part in enumerate(there, 1):
        rows = other.store.table(Picture, other.recipe, part)
        keep = np.array([key in current[0] and key not in held[0] for key in _keys(rows)], np.bool_)
        lost = parts.unreadable(other, part)
        new = [key in current[1] and key not in held[1] for key in _keys(lost)]
        if keep.any() or any(new):
            number = parts.next_number(target)
            parts.copy(other, part, keep, lost.filter(pa.array(new, pa.bool_())), target, number)
            added += int(keep.sum()) + sum(new)
        progress("merge", done, len(there), "parts")
    remove.clean(Corpus(target.root))
    return added


def _keys(rows: pa.Table) -> list[tuple[object, ...]]:
    names = [n for n in ("side", "source", "where", "digest", "reason", "size", "modified") if n in rows.column_names]
    columns = [rows[name].to_pylist() for name in names]
    captions = [tuple(said) for said in rows["captions"].to_pylist()]
    return list(zip(*columns, captions, strict=True))


def _held(rows: pa.Table) -> set[tuple[object, ...]]:
    return set(_keys(rows))
