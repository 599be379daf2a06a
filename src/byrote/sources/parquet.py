"""Parquet files with a picture a row (see `tables`): one file, a folder of them, or a pattern.

Row groups are decoded a few rows at a time, so that a huge one costs its time but not its size in memory.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, islice
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from byrote.errors import CorpusError
from byrote.sources import files, texts
from byrote.sources.tables import Columns, Tables, batch_captions, columns, reading, which

PICTURES_AT_ONCE = 2
CAPTIONS_AT_ONCE = 1024
LISTS_AT_ONCE = 16
_KEY = "key"


class Parquet(Tables):
    """The pictures of parquet files. Raises CorpusError where there are none."""

    def __init__(self, text: str) -> None:
        place = files.canonical(text)
        root, names = files.chosen(place, ".parquet")
        if not names:
            raise CorpusError(f"{text!r} has no parquet files: name a folder that holds some")
        super().__init__(f"parquet:{place}", root, names, ParquetRows)


class ParquetRows:
    """The rows of one parquet file. Raises OSError."""

    def __init__(self, place: str) -> None:
        size, self.modified = files.measured(place)
        self._place = place
        with reading():
            self._file = _opened(place)
            self.count = self._file.metadata.num_rows
            groups = [self._file.metadata.row_group(k).num_rows for k in range(self._file.num_row_groups)]
            self.columns: Columns = columns(self._file.schema_arrow)
        if self.count != sum(groups) or min(groups, default=0) < 0 or self.count > size:
            raise OSError(f"broken: it claims {self.count} rows in {size} bytes")
        self._starts = [0, *accumulate(groups)]
        self._at = -1  # the row group that is being decoded
        self._batches: Iterator[pa.RecordBatch] = iter(())
        self._batch: pa.RecordBatch | None = None
        self._start = 0

    def captions(self) -> Iterator[texts.Said]:
        """Yield the captions of each row, none where no column holds any."""
        names = list(self.columns.captions)
        if not names:
            yield from (texts.Said() for _ in range(self.count))
            return
        yield from islice(_captions(self._place, names), self.count)

    def value(self, row: int) -> object:
        """Return the value of the picture column; rows that follow one another are decoded once."""
        group = which(self._starts, row)
        if group != self._at or row < self._start:
            self._begin(group)
        with reading():
            while self._batch is None or row >= self._start + self._batch.num_rows:
                self._next()
            return self._batch.column(0)[row - self._start].as_py()

    def _begin(self, group: int) -> None:
        self._at, self._start, self._batch = group, self._starts[group], None
        with reading():
            self._batches = self._file.iter_batches(
                PICTURES_AT_ONCE, row_groups=[group], columns=[self.columns.picture], use_threads=False
            )

    def _next(self) -> None:
        if self._batch is not None:
            self._start += self._batch.num_rows
        self._batch = next(self._batches, None)
        if self._batch is None:
            self._at = -1
            raise OSError("fewer rows than the file claims")


def keyed(place: str) -> Mapping[str, tuple[str, ...]]:
    """Return the captions of a parquet file by its column `key`, as img2dataset writes one. Raises OSError."""
    with reading():
        schema = _opened(place).schema_arrow
        names = list(texts.caption_columns(schema.names))
    if _KEY not in schema.names or not names:
        return {}
    found: dict[str, tuple[str, ...]] = {}
    with reading():
        for batch in _batches(place, [_KEY, *names]):
            keys = batch.column(_KEY)
            for row, said in enumerate(batch_captions(batch, names)):
                found.setdefault(str(keys[row].as_py()), said.texts)
    return found


def plain_columns(place: str, known: Sequence[str]) -> list[str]:
    """Return the columns of texts or whole numbers whose names, in small letters, are known. Raises OSError."""
    with reading():
        schema = _opened(place).schema_arrow
    return [one.name for one in schema if one.name.lower() in known and _is_plain(one.type)]


def fields(place: str, names: Sequence[str]) -> Iterator[Mapping[str, object]]:
    """Yield plain columns of each row; a text of more than `texts.MAX_TEXT` characters is cut. Raises OSError."""
    with reading():
        for batch in _batches(place, list(names)):
            columns = [batch.column(name) for name in names]
            for row in range(batch.num_rows):
                yield {name: _cut(column[row].as_py()) for name, column in zip(names, columns, strict=True)}


def _is_plain(kind: Any) -> bool:
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    return bool(text or pa.types.is_integer(kind))


def _cut(value: object) -> object:
    return value[: texts.MAX_TEXT] if isinstance(value, str) else value


def _captions(place: str, names: list[str]) -> Iterator[texts.Said]:
    batches = _batches(place, names)
    while True:
        with reading():
            batch = next(batches, None)
            said = [] if batch is None else list(batch_captions(batch, names))
        if batch is None:
            return
        yield from said


def _batches(place: str, names: list[str]) -> Iterator[pa.RecordBatch]:
    """Yield columns of texts, a few rows at a time.

    A text that many rows share is kept once (a dictionary), however long it is; pyarrow cannot do so within lists.
    """
    with reading():
        kinds = _opened(place).schema_arrow
        flat = [name for name in names if not pa.types.is_nested(kinds.field(name).type)]
        at_once = CAPTIONS_AT_ONCE if flat == names else LISTS_AT_ONCE
        file = _opened(place, read_dictionary=flat)
        yield from file.iter_batches(at_once, columns=names, use_threads=False)


def _opened(place: str, **options: Any) -> pq.ParquetFile:
    """Open a file that is read through a small buffer, not a column of a row group at once."""
    return pq.ParquetFile(files.opened(place), buffer_size=2**18, pre_buffer=False, **options)
