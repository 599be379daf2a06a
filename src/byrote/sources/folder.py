"""A folder of picture files, with captions beside them.

Pictures are the files with a known suffix (SUFFIXES, in any case), in all subfolders, and whatever a metadata file
names. Names that begin with a dot are skipped. A caption comes from the sidecar (`a.txt` beside `a.png`) where there is
one, even an empty or broken one, else from `metadata.csv` or `metadata.jsonl` in any folder: `file_name` is relative to
the metadata file, the caption is the first of `text` and `caption` that is not empty; white space around it goes.
All of it is untrusted: nothing outside the folder is ever read.
"""

import csv
import errno
import json
import os
import posixpath
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from byrote.errors import CorpusError
from byrote.sources import Listed, Note

_KNOWN = ".png .apng .jpg .jpeg .jpe .jfif .mpo .webp .gif .bmp .tif .tiff .ppm .pgm .pbm .pnm .avif"
SUFFIXES = frozenset(_KNOWN.split(" "))
METADATA = ("metadata.csv", "metadata.jsonl")
MAX_FILE = 512 * 2**20  # bytes; images.MAX_PIXELS samples of 16 bits, unpacked, take three quarters of it
MAX_SIDECAR = 2**20
MAX_LINE = 16 * 2**20


@dataclass(frozen=True, slots=True)
class _Row:
    file_name: str
    texts: tuple[object, ...]


class Folder:
    """The pictures under a folder. Raises CorpusError where it is missing. `notes` tells of the latest `list()`."""

    def __init__(self, path: Path) -> None:
        self.uri = os.path.abspath(path)
        self.notes: list[Note] = []
        shown = _shown(str(path))
        if shown != str(path):
            raise CorpusError(f"folder {shown!r}: its name is no UTF-8; rename it")
        if "\0" in self.uri or not os.path.lexists(self.uri):
            raise CorpusError(f"folder {shown!r} is not there: name a folder that holds pictures")
        if not os.path.isdir(self.uri):
            raise CorpusError(f"{shown!r} is not a folder: name the folder that holds the pictures")
        self._root = os.path.realpath(self.uri)

    def list(self) -> Iterator[Listed]:
        """List the pictures, sorted by `where`, with the captions of this moment. Raises CorpusError.

        A file that metadata names and that is not there is listed with size -1; reading it raises FileNotFoundError.
        """
        self.notes = []
        files = self._walk()
        captions = self._captions(sorted(file for file in files if posixpath.basename(file) in METADATA))
        pictures = {file for file in files if _suffix(file) in SUFFIXES} | captions.keys()
        if not pictures:
            raise CorpusError(f"folder {self.uri!r} has no pictures: files that end in {_KNOWN}")
        sidecars = {_stem(file): file for file in sorted(file for file in files if _suffix(file) == ".txt")}
        listed = (self._listed(file, sidecars.get(_stem(file)), captions.get(file)) for file in sorted(pictures))
        return iter(sorted(listed, key=lambda one: one.where))

    def read(self, where: str) -> bytes:
        """Return a file's bytes. Raises OSError, whose text is the reason in one line, free of paths."""
        return self._bytes(self._named(where), MAX_FILE)

    def _walk(self) -> set[str]:
        """Return all files, by their paths with slashes, and note the folders that were passed over."""
        files: set[str] = set()
        folders = [""]
        while folders:
            folder = folders.pop()
            for entry in self._entries(folder):
                name = posixpath.join(folder, entry.name)
                if entry.is_dir(follow_symlinks=False):
                    folders.append(name)
                elif os.path.isdir(entry.path):  # unlike entry.is_dir(), it bears links that turn in a circle
                    self._note(name, "a link to a folder is not followed")
                else:
                    files.add(name)
        return files

    def _entries(self, folder: str) -> Sequence[os.DirEntry[str]]:
        try:
            with os.scandir(os.path.join(self._root, folder)) as entries:
                return [entry for entry in entries if not entry.name.startswith(".")]
        except OSError as error:
            if not folder:
                raise CorpusError(f"folder {self.uri!r} cannot be read: {_told(error)}") from error
            self._note(folder, f"a folder that cannot be read: {_told(error)}")
            return []

    def _listed(self, file: str, sidecar: str | None, caption: str | None) -> Listed:
        size, modified = self._measured(file)
        said = self._sidecar(sidecar) if sidecar else caption
        return Listed(_shown(file), () if said is None else (said,), size, modified)

    def _measured(self, file: str) -> tuple[int, int]:
        """Return size and time of change of what would be read, or of the link itself where it may not be followed."""
        try:
            status = os.stat(self._inside(file))
        except OSError:
            return self._measured_link(file)
        return status.st_size, status.st_mtime_ns

    def _measured_link(self, file: str) -> tuple[int, int]:
        if _leaves(file):
            return -1, 0
        try:
            status = os.lstat(os.path.join(self._root, file))
        except OSError:
            return -1, 0
        return status.st_size, status.st_mtime_ns

    def _sidecar(self, file: str) -> str | None:
        try:
            return _caption(self._bytes(file, MAX_SIDECAR).decode("utf-8-sig"))
        except UnicodeDecodeError:
            self._note(file, "a caption that is no UTF-8")
        except OSError as error:
            self._note(file, f"a caption that cannot be read: {error}")
        return None

    def _captions(self, metadata: Sequence[str]) -> dict[str, str | None]:
        """Return the captions of all files that metadata names; where two rows disagree, the first holds."""
        captions: dict[str, str | None] = {}
        for file in metadata:
            told = False
            for number, row in self._rows(file):
                place = f"{_shown(file)}, line {number}"
                named = posixpath.normpath(posixpath.join(posixpath.dirname(file), row.file_name))
                caption = self._row_caption(row, place)
                told = told or caption is not None
                if captions.setdefault(named, caption) != caption:
                    self._note(f"{place}: {named!r}", "a second caption of one picture is left out")
            if not told:
                self._note(file, "no captions: neither 'text' nor 'caption' is filled in")
        return captions

    def _row_caption(self, row: _Row, place: str) -> str | None:
        texts = [_caption(text) for text in row.texts if isinstance(text, str)]
        if any(text is not None and not isinstance(text, str) for text in row.texts):
            self._note(place, "a caption that is no text")
        return next((text for text in texts if text), None)

    def _rows(self, file: str) -> Iterator[tuple[int, _Row]]:
        place = os.path.join(self.uri, _shown(file))
        lines = self._lines(file, place)
        return _csv_rows(lines, place) if file.endswith(".csv") else _jsonl_rows(lines, place)

    def _lines(self, file: str, place: str) -> Iterator[str]:
        number = 0
        try:
            with os.fdopen(_opened(self._inside(file)), "rb") as stream:
                while line := stream.readline(MAX_LINE):
                    number += 1
                    if len(line) == MAX_LINE:
                        raise CorpusError(f"{place}, line {number} is longer than {MAX_LINE} bytes: it must be broken")
                    yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise CorpusError(f"{place}, line {number} is no UTF-8: save the file as UTF-8") from error
        except OSError as error:
            raise CorpusError(f"{place} cannot be read: {_told(error)}") from error

    def _bytes(self, file: str, most: int) -> bytes:
        try:
            with os.fdopen(_opened(self._inside(file)), "rb") as stream:
                fits = os.fstat(stream.fileno()).st_size <= most
                data = stream.read(most + 1) if fits else b""
        except OSError as error:
            raise type(error)(_told(error)) from error
        if not fits or len(data) > most:
            raise OSError(f"larger than {most} bytes")
        return data

    def _inside(self, file: str) -> str:
        """Return the real path of a file. Raises OSError where that is outside the folder."""
        if _leaves(file):
            raise OSError("outside the folder")
        path = os.path.join(self._root, file)
        real = os.path.realpath(path)
        if not os.path.join(real, "").startswith(os.path.join(self._root, "")):
            raise OSError("a link that leaves the folder")
        return real

    def _named(self, where: str) -> str:
        """Return the file's own name again, undoing `_shown`."""
        if "\\x" not in where or os.path.lexists(os.path.join(self._root, where)):
            return where
        escape = re.compile(rb"\\x([89a-f][0-9a-f])")
        return os.fsdecode(escape.sub(lambda found: bytes.fromhex(found[1].decode()), os.fsencode(where)))

    def _note(self, where: str, reason: str) -> None:
        self.notes.append(Note(_shown(where), reason))


def _csv_rows(lines: Iterator[str], place: str) -> Iterator[tuple[int, _Row]]:
    reader = csv.reader(lines, strict=True)
    try:
        header = next(reader, [])
        if "file_name" not in header:
            raise CorpusError(f"{place}, line 1 has no column 'file_name': its columns are {header[:10]}")
        for fields in reader:
            if fields:
                yield reader.line_num, _csv_row(header, fields, f"{place}, line {reader.line_num}")
    except csv.Error as error:
        raise CorpusError(f"{place}, line {reader.line_num} is broken CSV: {error}") from error


def _csv_row(header: list[str], fields: list[str], place: str) -> _Row:
    if len(fields) != len(header):
        raise CorpusError(
            f"{place} has {len(fields)} fields, the header has {len(header)}: put texts that hold commas in quotes"
        )
    return _row(dict(zip(header, fields, strict=True)), place)


def _jsonl_rows(lines: Iterator[str], place: str) -> Iterator[tuple[int, _Row]]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield number, _row(_json(line, f"{place}, line {number}"), f"{place}, line {number}")


def _json(line: str, place: str) -> Mapping[str, object]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise CorpusError(f"{place} is broken JSON: {' '.join(str(error).split())[:120]}") from error
    if not isinstance(value, dict):
        raise CorpusError(f"{place} is no JSON object: write one object a line")
    return value


def _row(fields: Mapping[str, object], place: str) -> _Row:
    name = fields.get("file_name")
    if not isinstance(name, str) or not name.strip():
        raise CorpusError(f"{place} has no 'file_name'")
    return _Row(_whole(name), (fields.get("text"), fields.get("caption")))


def _opened(path: str) -> int:
    """Open a regular file only: a pipe or a device of that name would block or never end."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return descriptor
    os.close(descriptor)
    raise OSError("a folder, not a file" if stat.S_ISDIR(mode) else "not a regular file")


def _told(error: OSError) -> str:
    if error.errno == errno.ENOENT:
        return "no such file"
    return error.strerror.lower() if error.strerror else str(error)


def _leaves(file: str) -> bool:
    plain = posixpath.normpath(file.replace("\\", "/") if os.sep == "\\" else file)
    return "\0" in file or os.path.isabs(file) or plain.split("/")[0] == ".."


def _suffix(file: str) -> str:
    return posixpath.splitext(file)[1].lower()


def _stem(file: str) -> str:
    return posixpath.splitext(file)[0]


def _caption(text: str) -> str | None:
    return _whole(text).strip() or None


def _whole(text: str) -> str:
    """Replace lone surrogates, which JSON may hold and which no UTF-8 file can."""
    return re.sub(r"[\ud800-\udfff]", "\ufffd", text)


def _shown(file: str) -> str:
    r"""Write the bytes of a file name that are no UTF-8 as `\xff`, so that any table can hold it."""
    return os.fsencode(file).decode("utf-8", "backslashreplace")
