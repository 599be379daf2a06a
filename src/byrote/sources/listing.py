"""A list of picture files: `.txt` (a path a line), `.csv` with a header, or `.jsonl` (an object a line).

The column of paths is the first of NAMES; captions are those of `texts`. A path is relative to the list's folder. A
list on this machine is trusted to name any paths: relative ones with `..`, absolute ones, and URLs; so look into one
that came with a download. A list behind a URL may name what lies in its own folder or below, and URLs of its scheme.
"""

import os
import posixpath
from collections.abc import Iterator, Mapping

from byrote.errors import CorpusError
from byrote.sources import Listed, Note, files, texts
from byrote.sources.files import MAX_FILE, shown
from byrote.sources.tree import suffix

NAMES = ("file_name", "filename", "path", "image", "image_path", "file_path", "file")
MAX_SIZE = 2**31  # bytes of a list


class Listing:
    """The pictures that a list names, those named twice once. Raises CorpusError."""

    def __init__(self, text: str) -> None:
        self._place = files.canonical(text)
        self.uri = f"list:{self._place}"
        self.notes: list[Note] = []

    def list(self) -> Iterator[Listed]:
        """List what is named, sorted, there or not; a URL is not asked for its size. Raises CorpusError."""
        self.notes = []
        captions = self._named()
        if not captions:
            raise CorpusError(f"list {self._place!r} names no files: write a path a line")
        for where, said in sorted(captions.items()):
            size, modified = self._measured(where)
            yield Listed(where, said, size, modified)

    def read(self, where: str) -> bytes:
        """Return a file's bytes. Raises OSError, whose text is the reason in one line."""
        return files.whole(self._target(where), MAX_FILE)

    def _named(self) -> Mapping[str, tuple[str, ...]]:
        found: dict[str, tuple[str, ...]] = {}
        for row in self._rows():
            where = _tidy(row.file_name)
            found[where] = texts.once((*found.get(where, ()), *row.said.texts))
            if row.said.trouble:
                self.notes.append(Note(f"line {row.number}", row.said.trouble))
        return found

    def _rows(self) -> Iterator[texts.Row]:
        try:
            if files.measured(self._place)[0] > MAX_SIZE:
                raise CorpusError(f"list {self._place!r} is larger than {MAX_SIZE} bytes: break it into several")
            stream = files.opened(self._place)
        except OSError as error:
            raise CorpusError(f"list {self._place!r} cannot be read: {error}") from error
        with stream:
            if suffix(self._place) in (".csv", ".jsonl"):
                tabular = suffix(self._place) == ".csv"
                yield from texts.rows(stream, self._place, tabular=tabular, names=NAMES)
                return
            for number, line in enumerate(texts.lines(stream, self._place), 1):
                if line.strip():
                    yield texts.Row(number, line.strip(), texts.Said())

    def _measured(self, where: str) -> tuple[int, int]:
        try:
            target = self._target(where)
            return (-1, 0) if files.is_remote(target) else files.measured(target)
        except OSError:
            return -1, 0

    def _target(self, where: str) -> str:
        """Return the place of a file that is listed. Raises OSError where the list may not name it."""
        if "\0" in where:
            raise OSError("no file has such a name")
        if files.is_remote(where):
            if "::" in where or (files.is_remote(self._place) and _scheme(where) != _scheme(self._place)):
                raise OSError("a list behind a URL may name URLs of its own kind only")
            return where
        folder = files.split(self._place)[0]
        if not files.is_remote(self._place):
            return os.path.join(folder, where)
        if posixpath.isabs(where) or where.split("/", maxsplit=1)[0] == "..":
            raise OSError("a list behind a URL may name files in its folder only")
        return files.under(folder, where)


def _tidy(name: str) -> str:
    plain = name.strip()
    return shown(plain) if files.is_remote(plain) else shown(posixpath.normpath(plain))


def _scheme(url: str) -> str:
    return url.partition("://")[0].lower()
