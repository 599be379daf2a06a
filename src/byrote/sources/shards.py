"""Tar shards as img2dataset writes them and webdataset reads them: `00000.tar`, perhaps with `00000.parquet` beside.

A sample is the members with one key, which is the name up to the first dot of its last part; a picture is a member with
a known suffix. Its captions are those of the first of these that has any: KEY.txt, `caption` (or `text`) in KEY.json,
that column in the row of the parquet file whose `key` is KEY. Nothing is ever unpacked: a member's name is a label,
never a path. A member's place is SHARD/MEMBER; a second one of the same name is SHARD/MEMBER#2.

The headers are read by `tarfile.TarInfo.frombuf`; the walk over them is here, because tarfile takes a header's word for
how much memory an extended header needs.
"""

import re
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from io import BytesIO
from typing import BinaryIO

from byrote.errors import CorpusError
from byrote.sources import Listed, Note, files, texts
from byrote.sources.files import MAX_FILE, shown
from byrote.sources.tree import MAX_SIDECAR, SUFFIXES, suffix

BLOCK = tarfile.BLOCKSIZE
MAX_CAPTIONS = 2**28  # characters in one shard, which are held in memory
MAX_EXTENDED = 2**20  # bytes of an extended header: names, above all
PACKED = ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst"
PARSED: dict[str, texts.Parse] = {"txt": texts.of_text, "json": texts.of_json}  # in the order in which they count
_KEYED = re.compile(r"((?:.*/)?[^./][^./]*)\.([^/]*)", re.DOTALL)  # webdataset's base_plus_ext


@dataclass(frozen=True, slots=True)
class _Member:
    """Where a member's bytes are, or why they cannot be read."""

    offset: int
    size: int
    reason: str | None = None


@dataclass(slots=True)
class _Shard:
    """The members of a shard: pictures by their places in it, captions by their keys."""

    pictures: dict[str, tuple[str, _Member]] = field(default_factory=dict)  # place -> key, member
    said: dict[tuple[str, str], texts.Said] = field(default_factory=dict)  # (key, txt or json) -> captions
    trouble: str | None = None
    modified: int = 0


class Shards:
    """The pictures of one tar file, of those in a folder, or of a pattern. Raises CorpusError."""

    def __init__(self, text: str) -> None:
        self.uri = f"tar:{files.canonical(text)}"
        self.notes: list[Note] = []
        self._root, found = files.chosen(files.canonical(text), ".tar")
        packed = files.chosen(self._root, "")[1] if not found else []
        if not found:
            some = next((name for name in packed if name.lower().endswith(PACKED)), None)
            way = f"{some!r} is packed: unpack it to a .tar" if some else "name a folder that holds .tar files"
            raise CorpusError(f"{text!r} has no tar shards: {way}")
        self._names = sorted(map(shown, found), key=lambda name: name + "/")
        self._known = frozenset(self._names)
        self._stream: tuple[str, BinaryIO] | None = None
        self._latest: tuple[str, _Shard] | None = None

    def list(self) -> Iterator[Listed]:
        """List the members that are pictures, sorted by `where`; a shard that cannot be read is a row, SHARD/."""
        self.notes, self._latest = [], None
        any_picture = False
        for name in self._names:
            try:
                shard = self._shard(name)
            except OSError as error:
                self._note(name, f"a shard that cannot be read: {error}")
                yield Listed(f"{name}/", (), -1, 0)
                any_picture = True
                continue
            any_picture = any_picture or bool(shard.pictures)
            yield from self._listed(name, shard)
        if not any_picture:
            raise CorpusError(f"{self.uri!r} has no pictures: members that end in {' '.join(sorted(SUFFIXES))}")

    def read(self, where: str) -> bytes:
        """Return a member's bytes. Raises OSError, whose text is the reason in one line."""
        name, place = self._split(where)
        _, member = self._shard(name).pictures.get(place, ("", None))
        if member is None:
            raise FileNotFoundError("no such member")
        return _bytes(self._opened(name), member, MAX_FILE)

    def _listed(self, name: str, shard: _Shard) -> Iterator[Listed]:
        if shard.trouble:
            self._note(name, shard.trouble)
        rows = self._rows(name)
        for place, (key, member) in sorted(shard.pictures.items()):
            yield Listed(f"{name}/{place}", self._captions(name, shard, key, rows), member.size, shard.modified)

    def _captions(self, name: str, shard: _Shard, key: str, rows: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
        for kind in PARSED:
            said = shard.said.get((key, kind), texts.Said())
            if said.trouble:
                self._note(f"{name}/{key}.{kind}", said.trouble)
            if said.texts:
                return said.texts
        return rows.get(key.rpartition("/")[2], ())

    def _rows(self, name: str) -> Mapping[str, tuple[str, ...]]:
        """Return the captions of the parquet file beside a shard, by their keys."""
        from byrote.sources import parquet

        beside = name.removesuffix(".tar") + ".parquet"
        place = files.under(self._root, beside)
        try:
            return parquet.keyed(place) if files.exists(place) else {}
        except OSError as error:
            self._note(beside, f"captions that cannot be read: {error}")
            return {}

    def _opened(self, name: str) -> BinaryIO:
        """Return the shard as a stream; the latest one stays open."""
        if self._stream is None or self._stream[0] != name:
            if self._stream:
                self._stream[1].close()
            self._stream = name, files.opened(files.under(self._root, name))
        return self._stream[1]

    def _shard(self, name: str) -> _Shard:
        if name not in self._known:
            raise FileNotFoundError("no such shard")
        if self._latest is None or self._latest[0] != name:
            place = files.under(self._root, name)
            self._latest = name, _indexed(place, *files.measured(place))
        return self._latest[1]

    def _split(self, where: str) -> tuple[str, str]:
        """Return the shard and the place in it."""
        for found in re.finditer("/", where):
            if where[: found.start()] in self._known:
                return where[: found.start()], where[found.end() :]
        raise FileNotFoundError("no such shard")

    def _note(self, where: str, reason: str) -> None:
        self.notes.append(Note(shown(where), reason))


class Members:
    """The members of one tar file as files (see `tree.Files`), for whoever reads more of it than pictures."""

    kind = "tar file"

    def __init__(self, place: str) -> None:
        self.place = files.canonical(place)
        self._stream: BinaryIO | None = None
        self._members: dict[str, _Member] = {}

    def walk(self, note: Callable[[str, str], None]) -> set[str]:
        """Return the names of all members that are no folders; of several with one name the first counts."""
        shard = _Shard()
        self._members = {}
        try:
            self._stream = files.opened(self.place)
            for name, member in _members(self._stream, files.measured(self.place)[0], shard):
                self._members.setdefault(name.removeprefix("./"), member)
        except OSError as error:
            raise CorpusError(f"tar file {self.place!r} cannot be read: {error}") from error
        if shard.trouble:
            note("", shard.trouble)
        return set(self._members)

    def open(self, name: str) -> BinaryIO:
        """Open a member. Raises OSError."""
        return BytesIO(self.read(name, MAX_FILE))

    def read(self, name: str, most: int) -> bytes:
        """Return a member's bytes. Raises OSError where they are more than `most`."""
        if self._stream is None or name not in self._members:
            raise FileNotFoundError("no such member")
        return _bytes(self._stream, self._members[name], most)

    def measured(self, name: str) -> tuple[int, int]:
        """Return the size that the header tells."""
        return (self._members[name].size, 0) if name in self._members else (-1, 0)

    def named(self, where: str) -> str:
        """Return the name as it is."""
        return where


@lru_cache(maxsize=4)
def _indexed(place: str, size: int, modified: int) -> _Shard:
    """Read the headers and the captions of a shard. Raises OSError.

    The latest few are kept for the whole process, as the parts of a shard are read one after the other. Size and time
    of change are asked for so that a shard that changed is read again.
    """
    shard = _Shard(modified=modified)
    times: dict[str, int] = {}
    left = MAX_CAPTIONS
    with files.opened(place) as stream:
        for name, member in _members(stream, size, shard):
            kind, found = suffix(name), _KEYED.fullmatch(name)
            if kind in SUFFIXES:
                key = found[1] if found else name
                times[name] = times.get(name, 0) + 1
                seen = name if times[name] == 1 else f"{name}#{times[name]}"
                shard.pictures.setdefault(seen, (key, member))
            elif found and found[2].lower() in PARSED:
                left -= _take(shard, (found[1], found[2].lower()), stream, member, left)
    return shard


def _take(shard: _Shard, key: tuple[str, str], stream: BinaryIO, member: _Member, left: int) -> int:
    """Read the captions of a member while its bytes are at hand, unless there are some; return their characters."""
    if key in shard.said:
        return 0
    try:
        said = PARSED[key[1]](_bytes(stream, member, MAX_SIDECAR))
    except OSError as error:
        said = texts.Said((), f"a caption that cannot be read: {error}")
    size = sum(map(len, said.texts))
    shard.said[key] = said if size <= left else texts.Said((), f"captions after {MAX_CAPTIONS} characters are left out")
    return size if size <= left else 0


def _bytes(stream: BinaryIO, member: _Member, most: int) -> bytes:
    if member.reason:
        raise OSError(member.reason)
    if member.size > most:
        raise OSError(f"larger than {most} bytes")
    stream.seek(member.offset)
    data = stream.read(member.size)
    if len(data) < member.size:
        raise OSError("truncated")
    return data


def _members(stream: BinaryIO, size: int, shard: _Shard) -> Iterator[tuple[str, _Member]]:
    """Yield the members of a tar file up to its end, or to where it is broken, which is told in `trouble`."""
    offset, extended = 0, _Extended()
    while True:
        stream.seek(offset)
        block = stream.read(BLOCK)
        if len(block) < BLOCK or not block.strip(b"\0"):
            shard.trouble = "the shard ends too early: it is truncated" if len(block) < BLOCK else None
            break
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except (tarfile.HeaderError, ValueError) as error:
            shard.trouble = f"broken after {offset} bytes ({error}): what follows is not read"
            break
        data = _data(stream, info, block, offset)
        length = info.size if extended.size is None else extended.size
        if info.size < 0 or length < 0:
            shard.trouble = f"broken after {offset} bytes (a negative size): what follows is not read"
            break
        if info.type in _EXTENDED:
            extended.take(info, stream, data, size)
            length = info.size
        else:
            if not info.isdir():
                yield shown(extended.name or info.name), _member(info, extended, data, length, size)
            length = length if info.isreg() or info.type not in tarfile.SUPPORTED_TYPES else 0
            extended = _Extended()
        offset = data + -(-length // BLOCK) * BLOCK
        if offset > size:
            shard.trouble = "the shard ends too early: it is truncated"
            break
    if offset == 0 and shard.trouble:
        raise OSError("not a tar file" if size >= BLOCK else shard.trouble)


_EXTENDED = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)


def _data(stream: BinaryIO, info: tarfile.TarInfo, block: bytes, offset: int) -> int:
    """Return where a member's bytes begin: after its header, and after the maps of an old GNU sparse member."""
    more = info.type == tarfile.GNUTYPE_SPARSE and block[482]
    while more:
        offset += BLOCK
        stream.seek(offset)
        block = stream.read(BLOCK)
        more = len(block) == BLOCK and block[504]
    return offset + BLOCK


def _member(info: tarfile.TarInfo, extended: "_Extended", offset: int, length: int, size: int) -> _Member:
    reason = None
    if info.issym() or info.islnk():
        reason = "a link, not a file"
    elif info.type == tarfile.GNUTYPE_SPARSE or extended.sparse:
        reason = "a sparse member"
    elif not info.isreg():
        reason = "not a regular file"
    elif offset + length > size:
        reason = "truncated"
    elif extended.trouble:
        reason = extended.trouble
    return _Member(offset, length if info.isreg() else -1, reason)


@dataclass(slots=True)
class _Extended:
    """What headers before a member's own say of it: its long name, its size, and whether it is sparse."""

    name: str | None = None
    size: int | None = None
    sparse: bool = False
    trouble: str | None = None

    def take(self, info: tarfile.TarInfo, stream: BinaryIO, offset: int, size: int) -> None:
        """Read an extended header at an offset."""
        if info.size > MAX_EXTENDED or offset + info.size > size:
            self.trouble = f"an extended header of {info.size} bytes"
            return
        stream.seek(offset)
        data = stream.read(info.size)
        if info.type == tarfile.GNUTYPE_LONGNAME:
            self.name = _text(data.partition(b"\0")[0])
        elif info.type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE):
            self._records(dict(_records(data)))

    def _records(self, records: Mapping[str, bytes]) -> None:
        if "path" in records:
            self.name = _text(records["path"])
        if "size" in records:
            digits = records["size"]
            self.size = int(digits) if re.fullmatch(rb"\d{1,18}", digits) else -1
        self.sparse = any(key.startswith("GNU.sparse.") for key in records)


def _records(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the records `LENGTH KEY=VALUE\\n` of a pax header; what is broken ends them."""
    start = 0
    while found := re.compile(rb"(\d{1,7}) ([^=]{1,256})=").match(data, start):
        end = start + int(found[1])
        if end <= found.end() or end > len(data):
            return
        yield found[2].decode("utf-8", "replace"), data[found.end() : end - 1]
        start = end


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape").rstrip("/")
