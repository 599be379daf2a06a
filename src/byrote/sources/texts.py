"""Captions, and the files that list pictures with them: metadata.csv and metadata.jsonl, lists.

A caption is a text that is not empty once the white space around it is gone. A row's captions are those of the first
column of COLUMNS (in any case) that has one; a list gives several.
"""

import csv
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

from byrote.errors import CorpusError

COLUMNS = ("text", "caption", "texts", "captions")
FILE_NAMES = ("file_name",)
MAX_TEXT = 2**20  # characters
MAX_SEVERAL = 1000  # captions of one picture
MAX_LINE = 16 * 2**20
NO_TEXT = "a caption that is no text"
TOO_MANY = f"captions after the first {MAX_SEVERAL} are left out"
TOO_LONG = f"a caption of more than {MAX_TEXT} characters"
# What a packed stream may raise besides OSError when its bytes are broken; EOFError where they end too early.
PACKED = (zlib.error, zipfile.BadZipFile, struct.error, EOFError, ValueError, RuntimeError, MemoryError)


@dataclass(frozen=True, slots=True)
class Said:
    """The captions of one place, each once, and what was wrong with others."""

    texts: tuple[str, ...] = ()
    trouble: str | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a metadata file or of a list: the file that it names, its captions, and all its fields."""

    number: int
    file_name: str
    said: Said
    fields: Mapping[str, object] = field(default_factory=dict)


Parse = Callable[[bytes], Said]


def said(value: object) -> Said:
    """Read the captions out of a value: a text, or a list of texts."""
    values = list(value) if isinstance(value, list | tuple) else [] if value is None else [value]
    texts = [one for one in values if isinstance(one, str)]
    fitting = [one for one in texts if len(one) <= MAX_TEXT]
    strange = len(texts) < sum(one is not None for one in values)
    trouble = NO_TEXT if strange else TOO_LONG if len(fitting) < len(texts) else None
    trouble = TOO_MANY if len(fitting) > MAX_SEVERAL else trouble
    return Said(once(text for text in map(plain, fitting[:MAX_SEVERAL]) if text), trouble)


def of_row(fields: Mapping[str, object]) -> Said:
    """Read the captions of a row: those of the first column that has any."""
    all_said = [said(fields[name]) for name in caption_columns(fields)]
    trouble = next((one.trouble for one in all_said if one.trouble), None)
    return Said(next((one.texts for one in all_said if one.texts), ()), trouble)


def caption_columns(names: Iterable[str]) -> Sequence[str]:
    """Return the names that hold captions, in the order in which they are asked."""
    known = [name for name in names if name.lower() in COLUMNS]
    return sorted(known, key=lambda name: (COLUMNS.index(name.lower()), name))


def of_json(data: bytes) -> Said:
    """Read the captions out of a JSON object beside a picture."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return Said((), "a caption file that is broken JSON")
    return of_row(value) if isinstance(value, dict) else Said((), "a caption file that is no JSON object")


def of_text(data: bytes) -> Said:
    """Read the caption out of a text file beside a picture."""
    try:
        return said(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return Said((), "a caption that is no UTF-8")


def rows(stream: BinaryIO, place: str, *, tabular: bool, names: Sequence[str] = FILE_NAMES) -> Iterator[Row]:
    """Yield the rows of a CSV file with a header, or of a file of one JSON object a line. Raises CorpusError."""

    def check(header: Sequence[str]) -> None:
        if not set(names) & set(header):
            wanted = " or ".join(map(repr, names))
            raise CorpusError(f"{place}, line 1 has no column {wanted}: its columns are {header[:10]}")

    for line in objects(lines(stream, place), place, check if tabular else None):
        yield _row(line, names)


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a table: its number, the place for messages, and its fields by column."""

    number: int
    at: str
    fields: Mapping[str, object]


def objects(text: Iterator[str], place: str, check: Callable[[Sequence[str]], object] | None) -> Iterator[Line]:
    """Yield the lines of a CSV file, whose header `check` looks at, or without it of one JSON object a line.

    Raises CorpusError.
    """
    return _json_lines(text, place) if check is None else _csv_lines(text, place, check)


def lines(stream: BinaryIO, place: str) -> Iterator[str]:
    """Yield the lines of a file with their ends, none longer than MAX_LINE bytes. Raises CorpusError."""
    number = 0
    try:
        while line := stream.readline(MAX_LINE):
            number += 1
            if len(line) == MAX_LINE:
                raise CorpusError(f"{place}, line {number} is longer than {MAX_LINE} bytes: it must be broken")
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise CorpusError(f"{place}, line {number} is no UTF-8: save the file as UTF-8") from error
    except (OSError, *PACKED) as error:
        raise CorpusError(f"{place} cannot be read: {' '.join(str(error).split())[:200]}") from error


def plain(text: str) -> str:
    """Return a text without the white space around it."""
    return whole(text).strip()


def whole(text: str) -> str:
    """Replace lone surrogates, which JSON may hold and which no UTF-8 file can."""
    return re.sub(r"[\ud800-\udfff]", "\ufffd", text)


def once(texts: Iterable[str]) -> tuple[str, ...]:
    """Return the texts in their order, each once."""
    return tuple(dict.fromkeys(texts))


def _csv_lines(text: Iterator[str], place: str, check: Callable[[Sequence[str]], object]) -> Iterator[Line]:
    reader = csv.reader(text, strict=True)
    try:
        header = next(reader, [])
        check(header)
        for fields in reader:
            if fields:
                at = f"{place}, line {reader.line_num}"
                yield Line(reader.line_num, at, _paired(header, fields, at))
    except csv.Error as error:
        raise CorpusError(f"{place}, line {reader.line_num} is broken CSV: {error}") from error


def _paired(header: list[str], fields: list[str], at: str) -> Mapping[str, object]:
    if len(fields) != len(header):
        raise CorpusError(
            f"{at} has {len(fields)} fields, the header has {len(header)}: put texts that hold commas in quotes"
        )
    return dict(zip(header, fields, strict=True))


def _json_lines(text: Iterator[str], place: str) -> Iterator[Line]:
    for number, line in enumerate(text, 1):
        if line.strip():
            at = f"{place}, line {number}"
            yield Line(number, at, _json(line, at))


def _json(line: str, at: str) -> Mapping[str, object]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise CorpusError(f"{at} is broken JSON: {' '.join(str(error).split())[:120]}") from error
    if not isinstance(value, dict):
        raise CorpusError(f"{at} is no JSON object: write one object a line")
    return value


def _row(line: Line, names: Sequence[str]) -> Row:
    found = map(line.fields.get, names)
    name = next((value for value in found if isinstance(value, str) and value.strip()), None)
    if name is None:
        raise CorpusError(f"{line.at} has no {names[0]!r}")
    return Row(line.number, whole(name), of_row(line.fields), line.fields)
