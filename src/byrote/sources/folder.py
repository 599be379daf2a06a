"""A folder of picture files on this machine or behind a URL, with captions beside them (see `tree`).

All of it is untrusted: nothing outside the folder is ever read.
"""

import os
import posixpath
import re
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

from byrote.errors import CorpusError
from byrote.sources import Note, files
from byrote.sources.files import MAX_FILE, Linked, regular, shown, telling, told, whole_regular
from byrote.sources.tree import MAX_SIDECAR, Files, Tree

__all__ = ["MAX_FILE", "MAX_SIDECAR", "Folder", "Note", "RemoteFolder", "at", "inside"]


def at(text: str) -> Tree:
    """Open the folder that a path or a URL names. Raises CorpusError."""
    if files.is_remote(text):
        return RemoteFolder(text)
    folder = Folder(Path(text))
    folder.uri = folder.uri if _is_plain(folder.uri) else f"folder:{folder.uri}"
    return folder


def inside(place: str) -> Files:
    """Return the files below a folder or a URL, none of which leads out of it."""
    return _Behind(place) if files.is_remote(place) else _Local(place)


class Folder(Tree):
    """The pictures under a folder. Raises CorpusError where it is missing. `notes` tells of the latest `list()`."""

    def __init__(self, path: Path) -> None:
        place = os.path.abspath(path)
        seen = shown(str(path))
        if seen != str(path):
            raise CorpusError(f"folder {seen!r}: its name is no UTF-8; rename it")
        if "\0" in place or not os.path.lexists(place):
            raise CorpusError(f"folder {seen!r} is not there: name a folder that holds pictures")
        if not os.path.isdir(place):
            raise CorpusError(f"{seen!r} is not a folder: name the folder that holds the pictures")
        super().__init__(place, _Local(place))


class RemoteFolder(Tree):
    """The pictures whose names begin with a URL. Nothing is asked of the store before the first `list` or `read`."""

    def __init__(self, url: str) -> None:
        place = files.canonical(url)
        super().__init__(f"folder:{place}", _Behind(place))


class _Local:
    """The files of a folder on this machine; what leads out of it is not followed."""

    kind = "folder"

    def __init__(self, place: str) -> None:
        self.place = place
        self._root = os.path.realpath(place)
        self._folders: dict[str, str] = {}

    def walk(self, note: Callable[[str, str], None]) -> set[str]:
        """Return all files, by their paths with slashes, and note the folders that were passed over."""
        found: set[str] = set()
        folders = [""]
        while folders:
            folder = folders.pop()
            for entry in self._entries(folder, note):
                name = posixpath.join(folder, entry.name)
                if entry.is_dir(follow_symlinks=False):
                    folders.append(name)
                elif entry.is_symlink() and os.path.isdir(entry.path):  # unlike entry.is_dir(), it bears circles
                    note(name, "a link to a folder is not followed")
                else:
                    found.add(name)
        return found

    def open(self, name: str) -> BinaryIO:
        """Open a regular file inside the folder. Raises OSError."""
        place = self._plain(name)
        return os.fdopen(regular(self._inside(name) if os.path.islink(place) else place), "rb")

    def read(self, name: str, most: int) -> bytes:
        """Return a file's bytes. Raises OSError where they are more than `most`."""
        try:
            return whole_regular(self._plain(name), most, follow=False)
        except Linked:
            return whole_regular(self._inside(name), most)

    def measured(self, name: str) -> tuple[int, int]:
        """Return size and time of change of what would be read, or of the link itself where it may not be followed."""
        try:
            status = os.lstat(self._plain(name))
            if stat.S_ISLNK(status.st_mode):
                status = os.stat(self._inside(name))
        except OSError:
            return self._measured_link(name)
        return status.st_size, status.st_mtime_ns

    def named(self, where: str) -> str:
        """Return the file's own name again, undoing `shown`."""
        if "\\x" not in where or os.path.lexists(os.path.join(self._root, where)):
            return where
        escape = re.compile(rb"\\x([89a-f][0-9a-f])")
        return os.fsdecode(escape.sub(lambda found: bytes.fromhex(found[1].decode()), os.fsencode(where)))

    def _entries(self, folder: str, note: Callable[[str, str], None]) -> Sequence[os.DirEntry[str]]:
        try:
            with os.scandir(os.path.join(self._root, folder)) as entries:
                return [entry for entry in entries if not entry.name.startswith(".")]
        except OSError as error:
            if not folder:
                raise CorpusError(f"folder {self.place!r} cannot be read: {told(error)}") from error
            note(folder, f"a folder that cannot be read: {told(error)}")
            return []

    def _measured_link(self, file: str) -> tuple[int, int]:
        if _leaves(file):
            return -1, 0
        try:
            status = os.lstat(os.path.join(self._root, file))
        except OSError:
            return -1, 0
        return status.st_size, status.st_mtime_ns

    def _plain(self, name: str) -> str:
        """Return the path of a file in the real path of its folder, which is asked for once. Raises OSError."""
        folder, _, own = name.rpartition("/")
        if folder not in self._folders:
            self._folders[folder] = self._inside(folder) if folder else self._root
        if own in ("", ".", "..") or "\0" in own or (os.sep != "/" and _leaves(own)):
            raise OSError("outside the folder")
        return f"{self._folders[folder]}{os.sep}{own}"

    def _inside(self, file: str) -> str:
        """Return the real path of a file. Raises OSError where that is outside the folder."""
        if _leaves(file):
            raise OSError("outside the folder")
        with telling():
            real = os.path.realpath(os.path.join(self._root, file))
        if not os.path.join(real, "").startswith(os.path.join(self._root, "")):
            raise OSError("a link that leaves the folder")
        return real


class _Behind:
    """The files below a URL."""

    kind = "folder"

    def __init__(self, place: str) -> None:
        self.place = place
        self._sizes: dict[str, tuple[int, int]] = {}

    def walk(self, note: Callable[[str, str], None]) -> set[str]:
        """Ask the store for all names once."""
        try:
            self._sizes = files.walked(self.place)
        except OSError as error:
            raise CorpusError(f"folder {self.place!r} cannot be read: {error}") from error
        if not self._sizes:
            raise CorpusError(f"folder {self.place!r} is not there, or empty: name a folder that holds pictures")
        return set(self._sizes)

    def open(self, name: str) -> BinaryIO:
        """Open an object below the URL. Raises OSError."""
        if _leaves(name):
            raise OSError("outside the folder")
        return files.opened(files.under(self.place, name))

    def read(self, name: str, most: int) -> bytes:
        """Return an object's bytes. Raises OSError where they are more than `most`."""
        with self.open(name) as stream:
            return files.limited(stream, most)

    def measured(self, name: str) -> tuple[int, int]:
        """Return what the latest walk told."""
        return self._sizes.get(name, (-1, 0))

    def named(self, where: str) -> str:
        """Return the name as it is."""
        return where


def _is_plain(place: str) -> bool:
    """Tell whether a path alone would be taken for a folder of pictures, so that no kind need stand before it."""
    from byrote.sources import recognised

    try:
        return recognised.kind(place) == "folder"
    except CorpusError:
        return False


def _leaves(file: str) -> bool:
    plain = posixpath.normpath(file.replace("\\", "/") if os.sep == "\\" else file)
    return "\0" in file or os.path.isabs(file) or plain.split("/")[0] == ".."
