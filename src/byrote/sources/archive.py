"""Zip archives of picture files: `dataset.zip` of StyleGAN and EDM, or any other, with captions beside them.

What is a picture and what its caption is as in a folder (see `tree`); `dataset.json` holds labels, which are none.
Nothing is unpacked to a disk; a member's name is a label, never a path. Members may be stored or deflated, as zip tools
write them; what else the format allows (LZMA, which may claim gigabytes of memory) is not read.
"""

import posixpath
import zipfile
from collections.abc import Callable
from functools import lru_cache
from typing import BinaryIO, cast

from byrote.errors import CorpusError
from byrote.sources import files
from byrote.sources.files import MAX_FILE, limited
from byrote.sources.texts import PACKED
from byrote.sources.tree import Tree

_ENCRYPTED = 0x1
_READ = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


class Archive(Tree):
    """The pictures of a zip file. Raises CorpusError where it is not there."""

    def __init__(self, text: str) -> None:
        place = files.canonical(text)
        super().__init__(f"zip:{place}", _Zipped(place))


class _Zipped:
    """The members of a zip file; of several with one name the last one, as every zip tool has it."""

    kind = "archive"

    def __init__(self, place: str) -> None:
        self.place = place
        self._held: zipfile.ZipFile | None = None
        self._modified = 0

    def walk(self, note: Callable[[str, str], None]) -> set[str]:
        """Return the names of all members that are files."""
        try:
            self._modified = files.measured(self.place)[1]
            self._held = archive = directory(self.place)
        except OSError as error:
            raise CorpusError(f"archive {self.place!r} cannot be read: {error}") from error
        named = [info.filename for info in archive.infolist()]
        found = {name for name in named if name and not name.endswith("/")}
        if len(set(named)) < len(named):
            note("", "of members with one name the last is taken")
        return {name for name in found if not _is_hidden(name)}

    def open(self, name: str) -> BinaryIO:
        """Open a member. Raises OSError."""
        return member(self._archive(), name)

    def read(self, name: str, most: int) -> bytes:
        """Return a member's bytes. Raises OSError where they are more than `most`."""
        with self.open(name) as stream:
            return limited(stream, most)

    def measured(self, name: str) -> tuple[int, int]:
        """Return the size that the archive tells, and the time of change of the archive."""
        try:
            return self._archive().getinfo(name).file_size, self._modified
        except (KeyError, OSError):
            return -1, 0

    def named(self, where: str) -> str:
        """Return the name as it is."""
        return where

    def _archive(self) -> zipfile.ZipFile:
        """Return the archive of the latest walk: a store is not asked again for every member."""
        self._held = self._held or directory(self.place)
        return self._held


def directory(place: str) -> zipfile.ZipFile:
    """Open a zip file; the latest few stay open for the whole process, as parts follow one another. Raises OSError."""
    return _directory(place, *files.measured(place))


def member(archive: zipfile.ZipFile, name: str) -> BinaryIO:
    """Open a member that is stored or deflated. Raises OSError."""
    try:
        info = archive.getinfo(name)
    except KeyError:
        raise FileNotFoundError("no such file") from None
    if info.flag_bits & _ENCRYPTED:
        raise OSError("encrypted")
    if info.compress_type not in _READ:
        raise OSError(f"packed by method {info.compress_type}: only stored and deflated members are read")
    if info.file_size > MAX_FILE:
        raise OSError(f"larger than {MAX_FILE} bytes")
    try:
        return cast(BinaryIO, archive.open(info))
    except PACKED as error:
        raise OSError(f"broken: {' '.join(str(error).split())[:120]}") from error


@lru_cache(maxsize=4)
def _directory(place: str, size: int, modified: int) -> zipfile.ZipFile:
    stream = files.opened(place)
    try:
        return zipfile.ZipFile(stream)
    except PACKED as error:
        stream.close()
        raise OSError(f"broken: {' '.join(str(error).split())[:120] or type(error).__name__}") from error


def _is_hidden(name: str) -> bool:
    parts = posixpath.normpath(name).split("/")
    return parts[0] == "__MACOSX" or any(part.startswith(".") and part != ".." for part in parts)
