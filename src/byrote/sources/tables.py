"""Tables with a picture a row: parquet files, and the Arrow files that Hugging Face datasets are saved as.

The picture column is found by what it holds: a struct with `bytes` (and `path`), bytes, or the paths of files, which
lie in the folder of the table or below it. Of several, the first of PICTURES or PATHS is taken. A row's place is
FILE#ROW, counted from 0 through the file.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from byrote.errors import CorpusError
from byrote.sources import Listed, Note, files, texts
from byrote.sources.files import MAX_FILE, limited, shown
from byrote.sources.folder import inside

_IMAGE = ("image", "img", "picture", "photo")
PICTURES = (*_IMAGE, "jpg", "jpeg", "png", "webp", "image_bytes", "img_bytes", "bytes", "content", "data")
PATHS = (*_IMAGE, "file_name", "filename", "image_path", "img_path", "path", "file_path", "file")


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns that count: of pictures, and of captions in the order in which they are asked."""

    picture: str
    captions: tuple[str, ...]
    strange: tuple[str, ...]  # named like captions, but no texts


class Rows(Protocol):
    """The rows of one file, in order."""

    count: int
    modified: int
    columns: Columns

    def captions(self) -> Iterator[texts.Said]:
        """Yield the captions of each row. Raises OSError at the first row that cannot be read."""
        ...

    def value(self, row: int) -> object:
        """Return the value of the picture column: bytes, a path, {"bytes": …, "path": …}, None. Raises OSError."""
        ...


class Tables:
    """The pictures of some tables of one kind, below one folder."""

    def __init__(self, uri: str, root: str, names: Sequence[str], opened: Callable[[str], Rows]) -> None:
        self.uri = uri
        self.notes: list[Note] = []
        self._root = root
        self._names = sorted(map(shown, names), key=lambda name: name + "#")
        self._known = frozenset(self._names)
        self._opened = opened
        self._latest: tuple[str, Rows] | None = None

    def list(self) -> Iterator[Listed]:
        """List the rows, sorted by `where`; a table that cannot be read is one row, FILE#. Raises CorpusError."""
        self.notes, self._latest = [], None
        total = 0
        for name in self._names:
            try:
                rows = self._rows(name)
            except OSError as error:
                self._note(name, f"a table that cannot be read: {error}")
                yield Listed(f"{name}#", (), -1, 0)
                total += 1
                continue
            total += rows.count
            yield from self._listed(name, rows)
        if not total:
            raise CorpusError(f"{self.uri!r} has no rows, so no pictures: name another table")

    def read(self, where: str) -> bytes:
        """Return the bytes of a row's picture. Raises OSError, whose text is the reason in one line."""
        name, _, digits = where.rpartition("#")
        if name not in self._known:
            raise FileNotFoundError("no such table")
        rows = self._rows(name)
        if not (digits.isascii() and digits.isdigit()) or int(digits) >= rows.count:
            raise FileNotFoundError("no such row")
        return self._picture(name, rows.value(int(digits)))

    def _listed(self, name: str, rows: Rows) -> Iterator[Listed]:
        for column in rows.columns.strange:
            self._note(f"{name}: {column}", "a column that is named like captions and holds no texts")
        row = 0
        try:
            for said in rows.captions():
                if said.trouble:
                    self._note(place(name, row), said.trouble)
                yield Listed(place(name, row), said.texts, -1, rows.modified)
                row += 1
        except OSError as error:
            self._note(place(name, row), f"captions that cannot be read, from here on: {error}")
        for later in range(row, rows.count):
            yield Listed(place(name, later), (), -1, rows.modified)

    def _picture(self, name: str, value: object) -> bytes:
        if isinstance(value, Mapping):
            value = value.get("bytes") or value.get("path")
        if isinstance(value, str) and value:
            folder = files.split(files.under(self._root, name))[0]
            with inside(folder).open(value) as stream:
                return limited(stream, MAX_FILE)
        if not isinstance(value, bytes) or not value:
            raise OSError("no picture in this row")
        if len(value) > MAX_FILE:
            raise OSError(f"larger than {MAX_FILE} bytes")
        return value

    def _rows(self, name: str) -> Rows:
        """Return the rows of a table; the latest one stays open."""
        if self._latest is None or self._latest[0] != name:
            self._latest = None
            self._latest = name, self._opened(files.under(self._root, name))
        return self._latest[1]

    def _note(self, where: str, reason: str) -> None:
        self.notes.append(Note(where, reason))


def place(name: str, row: int) -> str:
    """Return the place of a row, with zeros, so that rows sort."""
    return f"{name}#{row:09d}"


def columns(schema: pa.Schema) -> Columns:
    """Find the columns that count. Raises OSError where no column can hold pictures."""
    plain = {field.name: _plain(field.type) for field in schema}
    packed = [name for name, kind in plain.items() if _holds_bytes(kind)]
    paths = [name for name, kind in plain.items() if _is_text(kind) and name.lower() in PATHS]
    found = sorted(packed, key=lambda name: _rank(name, PICTURES)) or sorted(paths, key=lambda one: _rank(one, PATHS))
    if not found:
        raise OSError(f"no column of pictures or of their paths among {list(plain)[:12]}")
    named = [name for name in texts.caption_columns(plain) if name != found[0]]
    said = tuple(name for name in named if _is_said(plain[name]))
    return Columns(found[0], said, tuple(name for name in named if name not in said))


def batch_captions(batch: pa.RecordBatch, names: Sequence[str]) -> Iterator[texts.Said]:
    """Yield the captions of each row of a batch. Raises what pyarrow raises on broken values."""
    columns = [(name, batch.column(name)) for name in names]
    for row in range(batch.num_rows):
        yield texts.of_row({name: _value(column[row]) for name, column in columns})


@contextmanager
def reading() -> Iterator[None]:
    """Turn what pyarrow raises on broken files into an OSError of one line."""
    try:
        yield
    except OSError as error:
        raise type(error)(_line(error)) from error
    except (pa.ArrowException, ValueError, TypeError, LookupError, MemoryError, RuntimeError) as error:
        raise OSError(f"broken: {_line(error)}") from error


def which(starts: Sequence[int], row: int) -> int:
    """Return the stretch that holds a row, of stretches that start at `starts`."""
    return bisect_right(starts, row) - 1


def _value(scalar: Any) -> object:
    """Return a scalar as Python has it; of a list, no more than a row may say."""
    values = getattr(scalar, "values", None)
    return scalar.as_py() if values is None else values.slice(0, texts.MAX_SEVERAL + 1).to_pylist()


def _plain(kind: Any) -> Any:
    kind = getattr(kind, "storage_type", kind)
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _holds_bytes(kind: Any) -> bool:
    if pa.types.is_struct(kind):
        at = kind.get_field_index("bytes")
        return at >= 0 and _is_bytes(kind.field(at).type)
    return _is_bytes(kind)


def _is_bytes(kind: Any) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def _is_text(kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_said(kind: Any) -> bool:
    several = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return _is_text(_plain(kind.value_type) if several else kind)


def _rank(name: str, order: Sequence[str]) -> tuple[int, str]:
    small = name.lower()
    return (order.index(small) if small in order else len(order)), name


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
