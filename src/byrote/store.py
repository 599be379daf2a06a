"""A folder of tables: recipes name them, parts fill them, and a part that is there is whole.

A table lies in TABLE/RECIPE/, where RECIPE is a digest of everything that its rows depend on. A part is one Parquet
file with arrays (`.npy`) beside it; the Parquet file is renamed into place last, so its presence means the part is
complete. `ledger.jsonl` gets a line when a part is begun and when it is done.
"""

import fcntl
import hashlib
import io
import json
import os
import platform
import types
import typing
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from byrote.errors import Busy, StoreError

FORMAT = 1
ROW_GROUP = 64
_ARROW = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_(), bytes: pa.binary()}

Record = TypeVar("Record")
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a table was made from: its name and the canonical JSON of its stage, plan, inputs and format."""

    table: str
    content: str

    @classmethod
    def of(cls, table: str, content: Json) -> "Recipe":
        """Make the recipe of `table` from anything that JSON can hold."""
        return cls(table, json.dumps(content | {"format": FORMAT}, sort_keys=True, ensure_ascii=True))

    @property
    def digest(self) -> str:
        """Return the 16 hexadecimal digits that name the table's folder."""
        return hashlib.sha256(f"{self.table}\n{self.content}".encode()).hexdigest()[:16]


class Store:
    """The tables below one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, recipe: Recipe) -> Path:
        """Return where the parts of a table lie."""
        return self.root / recipe.table / recipe.digest

    def parts(self, recipe: Recipe) -> list[str]:
        """List the parts that are there, in order."""
        return sorted(path.name.split(".")[0] for path in self.folder(recipe).glob("*.parquet") if path.stem.isdigit())

    def write(
        self,
        recipe: Recipe,
        part: str,
        records: Sequence[Any],
        kind: type,
        arrays: Mapping[str, NDArray[Any]] | None = None,
    ) -> None:
        """Write a part whole or not at all. Raises StoreError where the folder or the disk refuses."""
        self.write_table(recipe, part, _table(records, kind), arrays)

    def write_table(
        self, recipe: Recipe, part: str, rows: pa.Table, arrays: Mapping[str, NDArray[Any]] | None = None
    ) -> None:
        """Do the same with rows that are columns already."""
        folder = self.folder(recipe)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not (folder / "recipe.json").exists():
                replace_file(folder / "recipe.json", (recipe.content + "\n").encode())
            for name, array in (arrays or {}).items():
                replace_file(folder / f"{part}.{name}.npy", *_npy(array))
            replace_file(folder / f"{part}.parquet", _parquet(rows))
        except OSError as error:
            raise StoreError(f"{folder}: cannot write part {part}: {error.strerror or error}") from error

    def read(self, kind: type[Record], recipe: Recipe, part: str) -> list[Record]:
        """Read the rows of one part. Raises StoreError where it is damaged or missing."""
        return [_record(kind, row) for row in self.table(kind, recipe, part).to_pylist()]

    def table(self, kind: type, recipe: Recipe, part: str) -> pa.Table:
        """Read the rows of one part as columns. Raises StoreError where it is damaged or missing."""
        with self._reading(recipe, part) as path:
            return pq.read_table(path, schema=schema(cast(Hashable, kind)), memory_map=True)

    def column(self, kind: type, recipe: Recipe, part: str, name: str) -> list[Any]:
        """Read one column of a part. Raises StoreError where it is damaged or missing."""
        with self._reading(recipe, part) as path:
            rows = pq.read_table(path, columns=[name], schema=schema(cast(Hashable, kind)), memory_map=True)
        found: list[Any] = rows[name].to_pylist()
        return found

    def row(self, kind: type[Record], recipe: Recipe, part: str, number: int) -> Record:
        """Read one row of a part that holds images, and no more than its group. Raises StoreError."""
        with self._reading(recipe, part) as path, pq.ParquetFile(path, memory_map=True) as file:
            group = file.read_row_group(number // ROW_GROUP)
        return _record(kind, group.slice(number % ROW_GROUP, 1).to_pylist()[0])

    def rows(self, recipe: Recipe, part: str) -> int:
        """Return how many rows a part has. Raises StoreError where it is damaged or missing."""
        with self._reading(recipe, part) as path:
            return int(pq.read_metadata(path).num_rows)

    @contextmanager
    def _reading(self, recipe: Recipe, part: str) -> Iterator[Path]:
        """Give the file with a part's rows, and tell in a line what is wrong with it."""
        path = self.folder(recipe) / f"{part}.parquet"
        try:
            yield path
        except (OSError, pa.ArrowException) as error:
            raise StoreError(f"{path}: damaged or missing ({_first_line(error)}); delete it and run again") from error

    def read_all(self, kind: type[Record], recipe: Recipe) -> list[Record]:
        """Read the rows of all parts, in order."""
        return [row for part in self.parts(recipe) for row in self.read(kind, recipe, part)]

    def array(self, recipe: Recipe, part: str, name: str) -> NDArray[Any]:
        """Map an array of a part into memory. Raises StoreError where it is damaged or missing."""
        path = self.folder(recipe) / f"{part}.{name}.npy"
        try:
            mapped: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise StoreError(
                f"{path}: damaged or missing ({_first_line(error)}); delete its part and run again"
            ) from error
        return mapped

    def digests(self, recipe: Recipe, part: str) -> dict[str, str]:
        """Return the SHA-256 of every file of a part. Raises StoreError."""
        files = sorted(self.folder(recipe).glob(f"{part}.*"))
        try:
            return {path.name: _sha256(path) for path in files}
        except OSError as error:
            raise StoreError(f"{self.folder(recipe)}: part {part} cannot be read: {error.strerror or error}") from error

    def log(self, event: str, details: Json) -> None:
        """Append a line to the ledger and make sure that it is on the disk."""
        line = {"event": event, "at": datetime.now(UTC).isoformat(timespec="milliseconds")} | details
        append(self.root / "ledger.jsonl", json.dumps(line, sort_keys=True) + "\n")

    def ledger(self) -> list[Json]:
        """Read the ledger; a line that a crash tore is left out."""
        path = self.root / "ledger.jsonl"
        if not path.exists():
            return []
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        return [line for line in map(_json_or_none, lines) if line is not None]

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for this process alone. Raises Busy where another holds it, StoreError where it can't."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            handle = (self.root / ".lock").open("a")
        except OSError as error:
            raise StoreError(f"{self.root}: cannot write here: {error.strerror or error}") from error
        with handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise Busy(f"{self.root}: another byrote is at work here; wait for it or stop it") from error
            yield


def append(path: Path, lines: str) -> None:
    """Append lines to a file and make sure that they are on the disk; one that a crash tore before stays by itself.

    Raises StoreError.
    """
    try:
        handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            torn = (size := os.fstat(handle).st_size) > 0 and os.pread(handle, 1, size - 1) != b"\n"
            os.write(handle, ("\n" * torn + lines).encode())
            os.fdatasync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise StoreError(f"{path}: cannot write: {error.strerror or error}") from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def replace_file(path: Path, *data: bytes | memoryview) -> None:
    """Write `data` beside `path`, sync it and rename it into place. Raises OSError and leaves nothing behind."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with beside.open("wb") as file:
            file.writelines(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def sweep(root: Path) -> None:
    """Remove what a killed process left half-written. Call it only while the folder is locked."""
    for path in (*root.glob("*/.*.tmp"), *root.glob("*/*/.*.tmp")):
        path.unlink(missing_ok=True)


@cache
def versions() -> dict[str, str]:
    """Return the versions of byrote and of what it computes with, and the machine."""
    names = ("byrote", "numpy", "scipy", "pillow", "pyarrow")
    return {name: version(name) for name in names} | {
        "python": platform.python_version(),
        "machine": platform.machine(),
    }


@cache
def schema(kind: Hashable) -> pa.Schema:
    """Return the columns of a record's table."""
    hints = typing.get_type_hints(kind)
    return pa.schema([_field(field.name, hints[field.name]) for field in fields(cast(Any, kind))])


def _field(name: str, hint: Any) -> pa.Field:
    nullable = typing.get_origin(hint) in (types.UnionType, typing.Union)
    if nullable:
        hint = next(part for part in typing.get_args(hint) if part is not type(None))
    if typing.get_origin(hint) is Literal:
        hint = str
    if typing.get_origin(hint) is tuple:
        return pa.field(name, pa.list_(_ARROW[typing.get_args(hint)[0]]), nullable=nullable)
    return pa.field(name, _ARROW[hint], nullable=nullable)


def _record(kind: type[Record], row: Json) -> Record:
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in row.items()})


def _table(records: Sequence[Any], kind: type) -> pa.Table:
    names = schema(kind)
    columns = [pa.array([getattr(r, name) for r in records], names.field(name).type) for name in names.names]
    return pa.Table.from_arrays(columns, schema=names)


def _parquet(rows: pa.Table) -> bytes:
    """Pack rows: those that hold images in small groups, so that a few can be read without the others."""
    sink = io.BytesIO()
    small = any(pa.types.is_binary(column.type) for column in rows.schema)
    pq.write_table(rows, sink, compression="zstd", row_group_size=ROW_GROUP if small else None)
    return sink.getvalue()


def _npy(array: NDArray[Any]) -> tuple[bytes, memoryview]:
    """Return the header of an .npy file, and the array's own bytes."""
    array = np.ascontiguousarray(array)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(array))
    return header.getvalue(), array.reshape(-1).view(np.uint8).data


def _json_or_none(line: str) -> Json | None:
    try:
        read = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return read if isinstance(read, dict) else None


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
