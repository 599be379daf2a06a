"""The indexed pictures: a folder made by `byrote index`, reusable over many audits.

ledger.jsonl                     a line for every source that was named or removed, and for every part
removed.jsonl                    what was taken out, as digests of digests, so that it does not come back
pictures/RECIPE/00000.parquet    a row a picture file; beside it .unreadable.parquet, .thumbnail.npy and .whole.npy
likely/, pairs/, groups/         near-duplicates: candidates, measured pairs, groups
vectors/RECIPE/00000.parquet     a descriptor's vectors of the pictures of part 00000, beside it .vectors.npy
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from byrote import images, sources
from byrote.descriptors.thumbnail import Thumbnail
from byrote.descriptors.whole import Whole
from byrote.domain import RGB, Picture, Side, Unreadable
from byrote.errors import CorpusError
from byrote.store import Recipe, Store, schema

THUMBNAIL, WHOLE, SCREENED = "thumbnail", "whole", "screened"
_KEY = ["side", "source", "where"]


@dataclass(frozen=True, slots=True)
class Named:
    """A source that somebody named, and the side that its pictures are on."""

    side: Side
    uri: str


@lru_cache(maxsize=1)
def _opened(root: Path, state: tuple[object, ...]) -> "Corpus":
    return Corpus(root)


class Corpus:
    """The rows and vectors of a corpus folder, read once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = Store(root)
        self.recipe = Recipe.of("pictures", {"descriptors": [Thumbnail().name, Whole().name]})

    @classmethod
    def at(cls, root: Path) -> "Corpus":
        """Open a corpus that is there. Raises CorpusError."""
        corpus = cls(root)
        if not corpus.named() and not corpus.store.parts(corpus.recipe):
            raise CorpusError(f"{root}: no corpus here; `byrote index SOURCE --corpus {root}` makes one")
        return corpus

    @classmethod
    def now(cls, root: Path) -> "Corpus":
        """Return a corpus as it is now, the same object as long as nothing changed: what the parts of a stage share."""
        fresh = cls(root)
        there = (*sorted(fresh.store.folder(fresh.recipe).glob("*.parquet")), *root.glob("removed.jsonl"))
        state = [(path, status.st_mtime_ns, status.st_size) for path in there for status in [path.stat()]]
        return _opened(root, (*state, *fresh.named()))

    def named(self) -> list[Named]:
        """List the sources that were named and not removed since, once each."""
        there: dict[Named, None] = {}
        for line in self.store.ledger():
            if line.get("event") == "source":
                there[Named(line["side"], line["uri"])] = None
            elif line.get("event") == "source removed":
                there = {one: None for one in there if line["uri"] not in (one.uri, blind(one.uri))}
        return list(there)

    @cached_property
    def removed(self) -> frozenset[str]:
        """Return what was removed: `blind` digests of pictures, and of the files that held them (`as_file`)."""
        return frozenset(line["blind"] for line in self._requests)

    @property
    def pictures_removed(self) -> frozenset[str]:
        """Return the `blind` digests of the pictures that were removed by themselves, not with their source."""
        return frozenset(line["blind"] for line in self._requests if line["what"] == "picture")

    @cached_property
    def _requests(self) -> list[dict[str, str]]:
        path = self.root / "removed.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("}")]

    @cached_property
    def table(self) -> pa.Table:
        """Return the rows of all pictures, both sides, sorted; columns of Picture, and `part` and `row` (int64).

        Of a file that changed, its last state; of what was removed, nothing.
        """
        return self._tables[0]

    @cached_property
    def _tables(self) -> tuple[pa.Table, pa.Table]:
        parts = self.store.parts(self.recipe)
        seen = pa.concat_tables([self._numbered(Picture, part, part) for part in parts]) if parts else _empty(Picture)
        lost = [self._numbered(Unreadable, f"{part}.unreadable", part) for part in parts]
        broken = pa.concat_tables(lost) if lost else _empty(Unreadable)
        last = _last(seen, broken)
        return self._kept(seen.filter(last[: len(seen)])), self._kept(broken.filter(last[len(seen) :]))

    def _kept(self, rows: pa.Table) -> pa.Table:
        """Leave out what was removed, and sort."""
        if self.removed and "digest" in rows.column_names:
            stays = [blind(one) not in self.removed for one in rows["digest"].to_pylist()]
            rows = rows.filter(pa.array(stays, pa.bool_()))
        gone = {line["uri"] for line in self.store.ledger() if line.get("event") == "source removed"}
        if gone:
            named = {one.uri for one in self.named()}
            there = {uri: uri in named or blind(uri) not in gone for uri in rows["source"].unique().to_pylist()}
            rows = rows.filter(pa.array([there[uri] for uri in rows["source"].to_pylist()], pa.bool_()))
        return rows.sort_by([(name, "ascending") for name in _KEY])

    def _numbered(self, kind: type, name: str, part: str) -> pa.Table:
        rows = self.store.table(kind, self.recipe, name)
        rows = rows.append_column("part", pa.array(np.full(len(rows), int(part), np.int64)))
        return rows.append_column("row", pa.array(np.arange(len(rows), dtype=np.int64)))

    @cached_property
    def pictures(self) -> list[Picture]:
        """Return the rows of all pictures as records; for large corpora use `table`."""
        return _records(Picture, self.table)

    def rows(self, digests: Iterable[str]) -> list[Picture]:
        """Return the rows of some pictures."""
        return _records(
            Picture, self.table.filter(pc.is_in(self.table["digest"], pa.array(list(digests), pa.string())))
        )

    @cached_property
    def unreadable(self) -> list[Unreadable]:
        """Return the files that could not be read, with their reasons."""
        return _records(Unreadable, self.unreadable_table)

    @property
    def unreadable_table(self) -> pa.Table:
        """Return the rows of the files that could not be read: columns of Unreadable, and `part` and `row`."""
        return self._tables[1]

    @cached_property
    def quick(self) -> bool:
        """Say whether pictures were indexed quickly: named by their files, not by their pixels."""
        return bool(pc.any(pc.starts_with(self.table["digest"], images.FILE)).as_py())

    @cached_property
    def screened(self) -> int:
        """Return how many files the list of hashes hit: by what stands for them (`as_file`), so each counts once."""
        parts = [path.name.split(".")[0] for path in self.store.folder(self.recipe).glob(f"*.{SCREENED}.npy")]
        return len({row.tobytes() for part in parts for row in self.store.array(self.recipe, part, SCREENED)})

    def known(self, named: Named) -> dict[str, tuple[int, int, tuple[str, ...]]]:
        """Return size, time of change and captions of what the corpus holds of a source, by `where`."""
        found: dict[str, tuple[int, int, tuple[str, ...]]] = {}
        for rows in self._tables:
            own = rows.filter((pc.field("side") == named.side) & (pc.field("source") == named.uri))
            columns = (own[name].to_pylist() for name in ("where", "size", "modified", "captions"))
            found |= {where: (size, time, tuple(said)) for where, size, time, said in zip(*columns, strict=True)}
        return found

    def digests(self, side: Side) -> set[str]:
        """Return the digests of one side."""
        return set(self.table.filter(pc.field("side") == side)["digest"].to_pylist())

    @cached_property
    def digest(self) -> str:
        """Return the digest of what the corpus holds: side, pixels, name and captions of each picture.

        Where the sources lie is not in it, so that a corpus that is made again elsewhere has the same.
        """
        columns = (self.table[name].to_pylist() for name in ("side", "digest", "where", "captions"))
        encode = json.JSONEncoder(check_circular=False).encode
        rows = sorted(map(encode, zip(*columns, strict=True)))
        return "sha256:" + hashlib.sha256(json.dumps(rows).encode()).hexdigest()

    @cached_property
    def distinct(self) -> list[str]:
        """Return the distinct digests in the order in which their vectors lie: the order of near-duplicates' ids."""
        return sorted(self._places, key=self._places.__getitem__)

    @cached_property
    def order(self) -> str:
        """Return the digest of `distinct`: tables of ids hold for one order only."""
        return "sha256:" + hashlib.sha256("".join(self.distinct).encode()).hexdigest()

    @cached_property
    def _places(self) -> dict[str, tuple[int, int]]:
        """Return part and row of one row for each distinct picture: the first in the order of the rows."""
        columns = (self.table[name].to_numpy().tolist() for name in ("digest", "part", "row"))
        return {digest: (part, row) for digest, part, row in reversed(list(zip(*columns, strict=True)))}

    @cached_property
    def places(self) -> dict[str, str]:
        """Return where one file of each distinct picture lies, the same as `by_digest` tells of."""
        columns = (self.table[name].to_pylist() for name in ("digest", "where"))
        return dict(reversed(list(zip(*columns, strict=True))))

    @cached_property
    def by_digest(self) -> dict[str, Picture]:
        """Return one row for each distinct picture."""
        return {row.digest: row for row in reversed(self.pictures)}

    def vectors(self, digests: Iterable[str], name: str = THUMBNAIL) -> NDArray[np.uint8]:
        """Return an array's rows for some pictures: uint8 [n, 3072], of `thumbnail` or of `whole`."""
        places = np.array([self._places[digest] for digest in digests], np.int64).reshape(-1, 2)
        out = np.empty((len(places), Thumbnail().dimensions), np.uint8)
        order = np.argsort(places[:, 0], kind="stable")
        parts, first = np.unique(places[order, 0], return_index=True)
        for part, rows in zip(parts, np.split(order, first)[1:], strict=True):
            held = self.store.array(self.recipe, f"{part:05d}", name).view(np.ndarray)
            if rows[-1] - rows[0] == len(rows) - 1:  # as they lie: no copy in between
                np.take(held, places[rows, 1], axis=0, out=out[rows[0] : rows[-1] + 1], mode="clip")
            else:
                out[rows] = held[places[rows, 1]]
        return out

    def blocks(self, name: str, size: int = 8192) -> Iterator[tuple[slice, NDArray[np.uint8]]]:
        """Yield the distinct pictures' rows of an array, in the order of `distinct`, some at a time."""
        for start in range(0, len(self.distinct), size):
            some = slice(start, min(start + size, len(self.distinct)))
            yield some, self.vectors(self.distinct[some], name)

    def pixels(self, digest: str) -> RGB | None:
        """Decode a picture again from its source, or return None where it is gone or has changed."""
        row = self.by_digest[digest]
        try:
            return images.decode_as(self._source(row.source).read(row.where), digest)
        except (OSError, images.Undecodable, CorpusError):
            return None

    def _source(self, uri: str) -> sources.Source:
        if uri not in self._opened:
            self._opened[uri] = sources.open(uri)
        return self._opened[uri]

    @cached_property
    def _opened(self) -> dict[str, sources.Source]:
        return {}


def as_file(uri: str, where: str, size: int, modified: int) -> str:
    """Return what stands for one state of a file that is not to be read again."""
    return blind(json.dumps([uri, where, size, modified]))


def blind(text: str) -> str:
    """Return a digest of what was removed, from which it cannot be had back without having it."""
    return hashlib.sha256(f"byrote removed {text}".encode()).hexdigest()


def _last(seen: pa.Table, broken: pa.Table) -> NDArray[np.bool_]:
    """Mark the rows that no later part says otherwise of: those of `seen`, then those of `broken`."""
    columns = [*_KEY, "part"]
    both = pa.concat_tables([seen.select(columns), broken.select(columns)])
    both = both.append_column("at", pa.array(np.arange(len(both), dtype=np.int64)))
    ordered = both.sort_by([("part", "ascending"), ("at", "ascending")])
    ordered = ordered.append_column("order", pa.array(np.arange(len(both), dtype=np.int64)))
    last = ordered.group_by(_KEY).aggregate([("order", "max")])["order_max"].to_numpy()
    keep = np.zeros(len(both), np.bool_)
    keep[ordered["at"].to_numpy()[last]] = True
    return keep


def _empty(kind: type) -> pa.Table:
    rows = schema(kind).empty_table()
    for name in ("part", "row"):
        rows = rows.append_column(name, pa.array([], pa.int64()))
    return rows


def _records(kind: type, rows: pa.Table) -> list[Any]:
    names = [field.name for field in fields(kind)]
    columns = [rows[name].to_pylist() for name in names]
    place = names.index("captions")
    columns[place] = [tuple(said) for said in columns[place]]
    return [kind(*row) for row in zip(*columns, strict=True)]
