"""Files of this machine or behind a URL (through fsspec), opened so that odd names and odd files do no harm.

A place is a text: an absolute path, or SCHEME://…. Whatever goes wrong with a file is an OSError whose text is one line
that holds no path, so that it can stand in a table and is alike on every machine.
"""

import errno
import io
import os
import posixpath
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any, BinaryIO

from byrote.errors import CorpusError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

MAX_FILE = 512 * 2**20  # bytes; images.MAX_PIXELS samples of 16 bits, unpacked, take three quarters of it
_FIRST = 2**16  # bytes that are asked for at first
MAX_NAMES = 2**20  # that one pattern may stand for
EXTRAS = {"s3": "s3", "s3a": "s3", "hf": "datasets"}
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d{1,12})\.\.(\d{1,12})")


def is_remote(text: str) -> bool:
    """Tell a URL from a path."""
    return bool(_SCHEME.match(text))


def canonical(text: str) -> str:
    """Return the absolute path, or the URL without slashes at its end. Raises CorpusError."""
    if "\0" in text:
        raise CorpusError(f"{text!r} holds a null byte: no file has such a name")
    if not is_remote(text):
        return os.path.abspath(text)
    if "::" in text:
        raise CorpusError(f"{text!r} is a chain of URLs: name one place, and unpack what is packed")
    return text.rstrip("/")


def under(root: str, name: str) -> str:
    """Return the place of a name with slashes below a root."""
    return posixpath.join(root, name) if is_remote(root) else os.path.join(root, *name.split("/"))


def split(place: str) -> tuple[str, str]:
    """Return the folder of a place and its last name."""
    return posixpath.split(place) if is_remote(place) else os.path.split(place)


def opened(place: str) -> BinaryIO:
    """Open a regular file to be read, at any offset. Raises OSError."""
    if not is_remote(place):
        return os.fdopen(regular(place), "rb")
    with telling():
        system, path = _located(place)
        return io.BufferedReader(_Remote(system.open(path, "rb")), 2**16)


def whole(place: str, most: int) -> bytes:
    """Return all bytes of a file of at most so many. Raises OSError."""
    with opened(place) as stream:
        return limited(stream, most)


def limited(stream: BinaryIO, most: int) -> bytes:
    """Return what is left in a stream. Raises OSError where that is more than `most` bytes."""
    data = stream.read(min(most, _FIRST) + 1)
    if len(data) > _FIRST:  # asking for much at once reserves as much, for every small file too
        data += stream.read(most + 1 - len(data))
    if len(data) > most:
        raise OSError(f"larger than {most} bytes")
    return data


def whole_regular(path: str, most: int, *, follow: bool = True) -> bytes:
    """Return all bytes of a regular file of this machine. Raises OSError where they are more than `most`; Linked."""
    descriptor, size = _regular(path, follow)
    try:
        if size > most:
            raise OSError(f"larger than {most} bytes")
        data = os.read(descriptor, size + 1)
        while len(data) < size and (more := os.read(descriptor, size + 1 - len(data))):
            data += more
    finally:
        os.close(descriptor)
    if len(data) > size:
        raise OSError("it grew while it was read")
    return data


def measured(place: str) -> tuple[int, int]:
    """Return the size in bytes and the time of change in ns, 0 where a store does not tell. Raises OSError."""
    if not is_remote(place):
        with telling():
            status = os.stat(place)
        return status.st_size, status.st_mtime_ns
    with telling():
        system, path = _located(place)
        return _told_of(system.info(path))


def is_folder(place: str) -> bool:
    """Tell whether a place is a folder (in an object store: whether anything lies below it). Raises OSError."""
    if not is_remote(place):
        return os.path.isdir(place)
    with telling():
        system, path = _located(place)
        return bool(system.isdir(path))


def exists(place: str) -> bool:
    """Tell whether anything is there. Raises OSError where that cannot be told."""
    if not is_remote(place):
        return os.path.lexists(place)
    with telling():
        system, path = _located(place)
        return bool(system.exists(path))


def names(folder: str) -> dict[str, bool]:
    """Return the names in a folder that do not begin with a dot, and whether each is a folder. Raises OSError."""
    if not is_remote(folder):
        with telling(), os.scandir(folder) as entries:
            return {entry.name: _is_inner(entry) for entry in entries if not entry.name.startswith(".")}
    with telling():
        system, path = _located(folder)
        listed = system.ls(path, detail=True)
    found = {posixpath.basename(one["name"].rstrip("/")): one["type"] == "directory" for one in listed}
    return {name: inner for name, inner in found.items() if name and not name.startswith(".")}


def _is_inner(entry: os.DirEntry[str]) -> bool:
    """Tell a folder, or a link to one; unlike entry.is_dir(), os.path.isdir bears links that turn in a circle."""
    return entry.is_dir(follow_symlinks=False) or (entry.is_symlink() and os.path.isdir(entry.path))


def walked(folder: str) -> dict[str, tuple[int, int]]:
    """Return size and time of change of all files below a folder of a URL, by their names. Raises OSError."""
    with telling():
        system, path = _located(folder)
        found = system.find(path, detail=True)
    start = path.rstrip("/") + "/"
    below = {name.removeprefix(start): _told_of(one) for name, one in found.items() if name.startswith(start)}
    return {name: told for name, told in below.items() if not any(part.startswith(".") for part in name.split("/"))}


def chosen(text: str, suffix: str) -> tuple[str, Sequence[str]]:
    """Return a root and the names below it that a file, a folder or a pattern stands for, sorted.

    A folder stands for the files in it and in its subfolders that end in `suffix`; `{00..31}` and `{a,b}` for each of
    their names, there or not; `*`, `?` and `[…]` for the files that are there. Raises CorpusError.
    """
    place = canonical(text)
    try:
        if exists(place):
            return (place, sorted(_ending(place, suffix))) if is_folder(place) else _one(place)
        if not re.search(r"[{*?\[]", place):
            raise CorpusError(f"{text!r} is not there: name a file, a folder or a pattern such as {{00000..00031}}")
        return _matched(place)
    except OSError as error:
        raise CorpusError(f"{text!r} cannot be read: {error}") from error


def _one(place: str) -> tuple[str, Sequence[str]]:
    root, name = split(place)
    return root, [name]


def _ending(folder: str, suffix: str) -> Iterator[str]:
    if is_remote(folder):
        yield from (name for name in walked(folder) if name.lower().endswith(suffix))
        return
    waiting = [""]
    while waiting:
        inner = waiting.pop()
        for name, is_inner in names(os.path.join(folder, inner)).items():
            path = posixpath.join(inner, name)
            if not is_inner and name.lower().endswith(suffix):
                yield path
            elif is_inner and not os.path.islink(os.path.join(folder, path)):
                waiting.append(path)


def _matched(pattern: str) -> tuple[str, Sequence[str]]:
    root = split(re.split(r"[{*?\[]", pattern)[0] + "x")[0]
    found: set[str] = set()
    for one in _braced(pattern):
        found.update(_globbed(one) if re.search(r"[*?\[]", one) else [one])
        if len(found) > MAX_NAMES:
            raise CorpusError(f"{pattern!r} stands for more than {MAX_NAMES} files: name their folder")
    if not found:
        raise CorpusError(f"{pattern!r}: no file has such a name")
    start = root if root.endswith("/") else root + "/"
    return root, sorted(place.replace(os.sep, "/").removeprefix(start.replace(os.sep, "/")) for place in found)


def _globbed(pattern: str) -> Sequence[str]:
    if not is_remote(pattern):
        from glob import glob

        return glob(pattern, recursive=True)
    with telling():
        system, path = _located(pattern)
        return [str(system.unstrip_protocol(name)) for name in system.glob(path)]


def _braced(pattern: str) -> Iterator[str]:
    """Yield each name that `{00..31}` and `{a,b}` stand for; a range keeps its zeros."""
    found = _BRACES.search(pattern)
    if found is None:
        yield pattern
        return
    numbers = _RANGE.fullmatch(found[1])
    if numbers and int(numbers[2]) - int(numbers[1]) >= MAX_NAMES:
        raise CorpusError(f"{pattern!r} stands for more than {MAX_NAMES} files: name their folder")
    inner: Iterator[str] = iter(found[1].split(","))
    if numbers:
        width = len(numbers[1])
        inner = (f"{k:0{width}d}" for k in range(int(numbers[1]), int(numbers[2]) + 1))
    for one in inner:
        yield from _braced(pattern[: found.start()] + one + pattern[found.end() :])


def regular(path: str) -> int:
    """Open a regular file only: a pipe or a device of that name would block or never end. Raises OSError."""
    return _regular(path, True)[0]


class Linked(OSError):
    """A link that was not to be followed."""


def _regular(path: str, follow: bool) -> tuple[int, int]:
    """Open a regular file and return its descriptor and its size."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW))
    except OSError as error:
        kind = Linked if error.errno == errno.ELOOP and not follow else type(error)
        raise kind(told(error)) from error
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode):
        return descriptor, status.st_size
    os.close(descriptor)
    raise OSError("a folder, not a file" if stat.S_ISDIR(status.st_mode) else "not a regular file")


@contextmanager
def telling() -> Iterator[None]:
    """Turn whatever a file system raises into an OSError of one line, without paths.

    A store behind a URL raises what its library likes (botocore, aiohttp, …), none of which can be imported here.
    """
    try:
        yield
    except CorpusError:
        raise
    except OSError as error:
        raise type(error)(told(error)) from error
    except Exception as error:
        raise OSError(f"the store fails: {type(error).__name__}: {' '.join(str(error).split())[:120]}") from error


def told(error: OSError) -> str:
    """Tell an error in one line without its path."""
    if isinstance(error, FileNotFoundError) or error.errno == errno.ENOENT:
        return "no such file"
    if isinstance(error, PermissionError):
        return "permission denied"
    if error.strerror and error.errno:
        return " ".join(error.strerror.lower().split())
    return " ".join(str(error).split())[:200] or type(error).__name__


def shown(name: str) -> str:
    r"""Write the bytes of a file name that are no UTF-8 as `\xff`, so that any table can hold it."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


@lru_cache(maxsize=1024)
def _located(url: str) -> tuple["AbstractFileSystem", str]:
    """Return the file system of a URL, one for all URLs of a store, and the path in it. Raises CorpusError."""
    import fsspec

    scheme = url.partition("://")[0]
    try:
        system, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        extra = EXTRAS.get(scheme)
        way = f"pip install 'byrote[{extra}]'" if extra else " ".join(str(error).split())
        raise CorpusError(f"{url!r}: {scheme}:// needs another package: {way}") from error
    except ValueError as error:
        raise CorpusError(f"{url!r} cannot be opened: {' '.join(str(error).split())[:200]}") from error
    return system, str(path)


def _told_of(info: dict[str, Any]) -> tuple[int, int]:
    changed = info.get("mtime") or info.get("LastModified") or info.get("last_modified") or info.get("created") or 0
    seconds = changed.timestamp() if hasattr(changed, "timestamp") else changed
    size = info.get("size")
    return (-1 if size is None else int(size)), round(float(seconds) * 10**9) if _is_number(seconds) else 0


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


class _Remote(io.RawIOBase):
    """A file of a store, whose errors are OSErrors."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with telling():
            data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        with telling():
            return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def close(self) -> None:
        if not self.closed:
            with telling():
                self._file.close()
        super().close()
