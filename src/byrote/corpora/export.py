"""Duplicates as tables to train from: every file with its group and whether to keep it, and every near pair."""

import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from byrote.corpus import Corpus
from byrote.domain import Group, Pair, Picture
from byrote.errors import ByroteError, StoreError
from byrote.kernels.waves import TURNS
from byrote.store import replace_file, schema

FORMATS = (".csv", ".parquet")


@dataclass(frozen=True, slots=True)
class Row:
    """A file of the corpus. `keep` marks one of each group: of the most pixels, then bytes, then the first by place."""

    group: str
    keep: bool
    files: int
    side: str
    source: str
    where: str
    caption: str | None
    digest: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Near:
    """A pair that is near enough: `where_b` shows a window of `where_a`, in shares of its edges, after a turn."""

    where_a: str
    where_b: str
    rms: float | None
    evidence: float | None
    turn: str
    left: float
    top: float
    width: float
    height: float
    digest_a: str
    digest_b: str


def rows(corpus: Corpus, groups: Sequence[Group]) -> list[Row]:
    """Return a row a file of either side, the largest groups first. Groups that touch both sides keep the picture."""
    of = {row.digest: row.group for row in groups}
    members: dict[str, list[Picture]] = {}
    for picture in corpus.pictures:
        members.setdefault(of[picture.digest], []).append(picture)
    out = []
    for group, files in sorted(members.items(), key=lambda item: (-len(item[1]), item[0])):
        best = max(files, key=lambda p: (p.side == "picture", p.width * p.height, p.size))
        out += [
            Row(group, p is best, len(files), p.side, p.source, p.where, p.caption, p.digest, p.width, p.height)
            for p in files
        ]
    return out


def near(corpus: Corpus, pairs: Sequence[Pair]) -> list[Near]:
    """Return the near pairs with their places, those of most evidence first."""
    ordered = sorted(pairs, key=lambda p: (-(p.evidence if p.evidence is not None else -99), p.rms or 0, p.a, p.b))
    places = corpus.places
    return [
        Near(places[p.a], places[p.b], p.rms, p.evidence, TURNS[p.turn], p.left, p.top, p.width, p.height, p.a, p.b)
        for p in ordered
    ]


def suffix(path: Path) -> str:
    """Return the suffix of a table. Raises ByroteError for one that is not written."""
    if path.suffix not in FORMATS:
        raise ByroteError(f"{path}: a table is written as {' or '.join(FORMATS)}; give it such a name")
    return path.suffix


def write(path: Path, records: Sequence[Any], kind: type) -> None:
    """Write records of one kind as CSV or Parquet, by its suffix. Raises ByroteError for another; StoreError."""
    suffix(path)
    table = pa.Table.from_pylist([asdict(record) for record in records], schema=schema(kind))
    sink = io.BytesIO()
    if suffix(path) == ".csv":
        pacsv.write_csv(table, sink)
    else:
        pq.write_table(table, sink, compression="zstd")
    try:
        replace_file(path, sink.getvalue())
    except OSError as error:
        raise StoreError(f"{path}: cannot be written: {error.strerror or error}") from error
