"""Lists of prompts: a text file with one a line, or a table (CSV, JSON lines, parquet) with a column of them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from byrote.errors import CorpusError
from byrote.sources import tables, texts

COLUMNS = ("prompt", "caption", "text")
"""The columns that hold prompts, in any case; of several the first of these."""


def read(path: Path) -> list[str]:
    """Return the prompts of a file in their order, each once, white space around them gone, empty ones left out.

    A file ends in .csv, .jsonl or .parquet, or else is text. Raises CorpusError.
    """
    readers = {".csv": _csv, ".jsonl": _jsonl, ".parquet": _parquet}
    found = readers.get(path.suffix.lower(), _lines)(path)
    prompts = texts.once(texts.plain(prompt) for prompt in found if texts.plain(prompt))
    if not prompts:
        raise CorpusError(f"{path}: holds no prompt; write one a line, or a column {' or '.join(map(repr, COLUMNS))}")
    return list(prompts)


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open("rb") as stream:
            yield from texts.lines(stream, str(path))
    except OSError as error:
        raise CorpusError(f"{path}: cannot be read: {error.strerror or error}") from error


def _csv(path: Path) -> Iterator[str]:
    return _of_objects(path, lambda header: _known(path, header))


def _jsonl(path: Path) -> Iterator[str]:
    return _of_objects(path, None)


def _of_objects(path: Path, check: Callable[[Sequence[str]], object] | None) -> Iterator[str]:
    for line in texts.objects(_lines(path), str(path), check):
        value = line.fields[_known(path, line.fields)]
        if not isinstance(value, str | None):
            raise CorpusError(f"{line.at}: the prompt is {value!r}, no text")
        yield value or ""


def _parquet(path: Path) -> Iterator[str]:
    import pyarrow.parquet as pq

    try:
        with tables.reading(), pq.ParquetFile(path) as file:
            column = _known(path, file.schema_arrow.names)
            for batch in file.iter_batches(columns=[column]):
                yield from _told(path, column, batch.column(0).to_pylist())
    except OSError as error:
        raise CorpusError(f"{path}: cannot be read: {error}") from error


def _told(path: Path, column: str, values: Sequence[object]) -> Iterator[str]:
    for value in values:
        if not isinstance(value, str | None):
            raise CorpusError(f"{path}: column {column!r} holds {value!r}, no text")
        yield value or ""


def _known(path: Path, names: Iterable[str]) -> str:
    names = list(names)
    known = [name for wanted in COLUMNS for name in names if name.lower() == wanted]
    if not known:
        raise CorpusError(f"{path}: no column {' or '.join(map(repr, COLUMNS))} among {names[:12]}")
    return known[0]
