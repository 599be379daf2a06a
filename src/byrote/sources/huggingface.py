"""Hugging Face datasets: a folder that `save_to_disk` wrote, or a dataset of the hub, read as it streams.

    hf:PATH                                  a folder with state.json and dataset_info.json, or dataset_dict.json
    hf:ID[@REVISION][/CONFIG][:SPLIT]        the hub; ID is OWNER/NAME; all splits where none is named

A saved folder is read by pyarrow alone. The hub needs the extra `[datasets]`; pictures stay encoded. The place of a
row there is SPLIT/SHARD#ROW, a shard being one of the files that the dataset lies in, so that a row is found without
reading the shards before it. Name a revision (a commit), or the dataset may change between two audits.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any

import pyarrow as pa

from byrote.errors import CorpusError
from byrote.sources import Listed, Note, Source, files, texts
from byrote.sources.files import MAX_FILE, limited
from byrote.sources.tables import Columns, Tables, batch_captions, columns, place, reading, which

MAX_STATE = 16 * 2**20
STATE, DICT = "state.json", "dataset_dict.json"
_HUB = re.compile(
    r"(?P<id>\w[\w.-]*(?:/\w[\w.-]*)?)(?:@(?P<revision>[\w.-]+))?(?:/(?P<config>[\w.-]+))?(?::(?P<split>[\w.-]+))?"
)


def at(text: str) -> Source:
    """Open a saved folder or a dataset of the hub. Raises CorpusError."""
    if files.is_remote(text) or not _HUB.fullmatch(text) or is_saved(files.canonical(text)):
        return Saved(text)
    return Hub(text)


def is_saved(folder: str) -> bool:
    """Tell whether a folder is one of `save_to_disk`."""
    return any(files.exists(files.under(folder, name)) for name in (STATE, DICT))


class Saved(Tables):
    """The pictures of a folder that `save_to_disk` wrote, all its splits. Raises CorpusError."""

    def __init__(self, text: str) -> None:
        folder = files.canonical(text)
        super().__init__(f"hf:{folder}", folder, _data_files(folder), ArrowRows)


class ArrowRows:
    """The rows of one Arrow file (the streaming format). Raises OSError."""

    def __init__(self, place: str) -> None:
        size, self.modified = files.measured(place)
        self._batches = _batches(place, size)
        self._starts = [0, *accumulate(batch.num_rows for batch in self._batches)]
        self.count = self._starts[-1]
        if not self._batches:
            raise OSError("no rows")
        if self.count > size:
            raise OSError(f"broken: it claims {self.count} rows in {size} bytes")
        with reading():
            self.columns: Columns = columns(self._batches[0].schema)
        self._checked = -1

    def captions(self) -> Iterator[texts.Said]:
        """Yield the captions of each row."""
        names = list(self.columns.captions)
        for batch in self._batches:
            with reading():
                part = batch.select(names)
                part.validate(full=True)
                said = list(batch_captions(part, names)) if names else [texts.Said()] * batch.num_rows
            yield from said

    def value(self, row: int) -> object:
        """Return the value of the picture column."""
        at = which(self._starts, row)
        with reading():
            column = self._batches[at].column(self.columns.picture)
            if at != self._checked:
                column.validate(full=True)
                self._checked = at
            return column[row - self._starts[at]].as_py()


def _batches(place: str, size: int) -> Sequence[pa.RecordBatch]:
    """Return the batches of an Arrow file, mapped where it is local. Raises OSError."""
    with reading():
        if files.is_remote(place):
            source: Any = pa.PythonFile(files.opened(place))
        else:
            files.opened(place).close()  # a regular file, or an error
            source = pa.memory_map(place)
        with pa.ipc.open_stream(source) as stream:
            return list(_fitting(stream, 4 * size + 2**20))


def _fitting(stream: Any, most: int) -> Iterator[pa.RecordBatch]:
    """Yield the batches of a stream as long as they are not many times what is stored: packed ones may be bombs."""
    total = 0
    for batch in stream:
        total += batch.get_total_buffer_size()  # `nbytes` would trust the offsets, which are not checked yet
        if total > most:
            raise OSError(f"broken: unpacked, it is larger than {most} bytes")
        yield batch


def _data_files(folder: str) -> Sequence[str]:
    """Return the names of the Arrow files of a saved dataset, in its subfolders for those with splits."""
    try:
        there = files.names(folder)
        if DICT not in there:
            return _state_files(folder, "")
        splits = _read(folder, DICT).get("splits")
    except OSError as error:
        raise CorpusError(f"{folder!r} is no folder of save_to_disk: {error}") from error
    if not isinstance(splits, list) or not all(isinstance(name, str) and _is_name(name) for name in splits):
        raise CorpusError(f"{folder!r}: {DICT} names no splits")
    return [name for split in splits for name in _state_files(folder, f"{split}/")]


def _state_files(folder: str, inner: str) -> Sequence[str]:
    try:
        state = _read(folder, f"{inner}{STATE}")
    except OSError as error:
        raise CorpusError(f"{folder!r} is no folder of save_to_disk: {inner}{STATE}: {error}") from error
    listed = state.get("_data_files")
    names = (
        [one.get("filename") if isinstance(one, dict) else None for one in listed] if isinstance(listed, list) else []
    )
    if not names or not all(isinstance(name, str) and _is_name(name) for name in names):
        raise CorpusError(f"{folder!r}: {inner}{STATE} names no files of data")
    if state.get("_indices_data_files"):
        raise CorpusError(f"{folder!r} holds a selection by indices: save it again with a newer `datasets`")
    return [f"{inner}{name}" for name in dict.fromkeys(names)]


def _read(folder: str, name: str) -> Mapping[str, Any]:
    with files.opened(files.under(folder, name)) as stream:
        data = limited(stream, MAX_STATE)
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise OSError("broken JSON") from error
    if not isinstance(value, dict):
        raise OSError("no JSON object")
    return value


def _is_name(name: str) -> bool:
    return bool(re.fullmatch(r"[\w.-][\w. -]*", name)) and name not in (".", "..")


class Hub:
    """The pictures of a dataset of the hub, streamed by `datasets`; asked for by the first `list` or `read`."""

    def __init__(self, text: str) -> None:
        found = _HUB.fullmatch(text)
        if found is None:
            raise CorpusError(f"hf:{text} is no name of a dataset: write hf:OWNER/NAME[@REVISION][/CONFIG][:SPLIT]")
        self.uri = f"hf:{text}"
        self.notes: list[Note] = []
        self._asked = (found["id"], found["revision"], found["config"], found["split"])
        self._stream: tuple[str, int, Iterator[Mapping[str, Any]]] | None = None

    def list(self) -> Iterator[Listed]:
        """List the rows of all shards, sorted by `where`; their captions stream by. Raises CorpusError."""
        self.notes = []
        total = 0
        for name, shard in _shards(*self._asked).items():
            for row, fields in enumerate(self._told(shard)):
                said = texts.of_row(fields)
                if said.trouble:
                    self.notes.append(Note(place(name, row), said.trouble))
                yield Listed(place(name, row), said.texts, -1, 0)
                total += 1
        if not total:
            raise CorpusError(f"{self.uri!r} has no rows, so no pictures")

    def read(self, where: str) -> bytes:
        """Return the bytes of a row's picture. Raises OSError, whose text is the reason in one line."""
        name, _, digits = where.rpartition("#")
        shards = _shards(*self._asked)
        if name not in shards or not (digits.isascii() and digits.isdigit()):
            raise FileNotFoundError("no such row")
        value = self._row(name, int(digits), shards[name])[shards[name].columns.picture]
        if isinstance(value, Mapping):
            value = value.get("bytes") or self._pointed(value.get("path"))
        if not isinstance(value, bytes) or not value:
            raise OSError("no picture in this row")
        return value

    def _told(self, shard: "_Shard") -> Iterator[Mapping[str, Any]]:
        """Yield the captions of all rows, or some other column where there are none, so that the rows are counted."""
        names = list(shard.columns.captions)
        others = [name for name in shard.rows.column_names if name != shard.columns.picture]
        rows = iter(shard.rows.select_columns(names or others[:1] or [shard.columns.picture]))
        while True:
            try:
                with files.telling():
                    fields = next(rows, None)
            except OSError as error:
                raise CorpusError(f"{self.uri!r} cannot be read to its end: {error}") from error
            if fields is None:
                return
            yield {name: fields[name] for name in names}

    def _row(self, name: str, row: int, shard: "_Shard") -> Mapping[str, Any]:
        """Return a row; rows that follow one another stream by once."""
        with files.telling():
            if self._stream is None or self._stream[0] != name or self._stream[1] > row:
                self._stream = name, row, iter(shard.rows.skip(row))
            _, at, rows = self._stream
            self._stream = None
            for fields in rows:
                if at == row:
                    self._stream = name, row + 1, rows
                    return dict(fields)
                at += 1
        raise FileNotFoundError("no such row")

    def _pointed(self, path: object) -> bytes | None:
        """Return the bytes of a file of the same dataset that a row points to; a row may point nowhere else."""
        if not isinstance(path, str) or not path:
            return None
        own = rf"hf://datasets/{re.escape(self._asked[0])}[@/][^:]*"
        if not re.fullmatch(rf"(zip://[^:]*::)?{own}", path):
            raise OSError("a path outside the dataset")
        import fsspec

        with files.telling(), fsspec.open(path, "rb") as stream:
            return limited(stream, MAX_FILE)


@dataclass(frozen=True, slots=True)
class _Shard:
    """One of the files that a split lies in: a dataset that streams, and its columns that count."""

    rows: Any
    columns: Columns


@lru_cache(maxsize=2)
def _shards(name: str, revision: str | None, config: str | None, split: str | None) -> Mapping[str, _Shard]:
    """Return the shards of a dataset by SPLIT/SHARD, sorted; asked once in a process. Raises CorpusError."""
    try:
        import datasets
    except ImportError as error:
        raise CorpusError(f"hf:{name}: datasets of the hub need `pip install 'byrote[datasets]'`") from error
    try:
        with files.telling():
            found = datasets.load_dataset(name, config, split=split, revision=revision, streaming=True)
            splits = found if isinstance(found, dict) else {split: found}
            return {
                f"{one}/{k:05d}": _shard(rows, k, datasets.Image)
                for one, rows in sorted(splits.items(), key=lambda item: f"{item[0]}/")
                for k in range(rows.num_shards)
            }
    except OSError as error:
        raise CorpusError(f"hf:{name} cannot be opened: {error}") from error


def _shard(rows: Any, k: int, image: Any) -> _Shard:
    """Take one shard, its pictures left encoded."""
    known = rows if rows.features is not None else rows._resolve_features()
    found = columns(known.features.arrow_schema)
    if isinstance(known.features[found.picture], image):
        known = known.cast_column(found.picture, image(decode=False))
    return _Shard(known.shard(num_shards=known.num_shards, index=k), found)
