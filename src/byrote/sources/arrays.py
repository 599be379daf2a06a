"""Pictures that are rows of arrays: `.npz` and `.npy` of uint8, and the binary files of CIFAR-10 and CIFAR-100.

An array of pictures is [n, height, width, 3], [n, 3, height, width], or the same with 1 channel or none for greys. An
`.npz` gives the pictures of all such arrays in it. Labels are no captions. A row's bytes are those of a PPM file (PGM
for greys), which holds its pixels as they are. Nothing is unpickled. A row's place is ARRAY#ROW or FILE#ROW.

CIFAR: Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images"; the format as its page tells it: 1 byte
of label (2 for CIFAR-100), then 32 x 32 of red, of green and of blue. A folder stands for its training files.
"""

import re
import tokenize
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Protocol

import numpy as np

from byrote.errors import CorpusError
from byrote.sources import Listed, Note, archive, files, texts
from byrote.sources.files import MAX_FILE, shown

_HEADER = 10_000  # characters that a header may have: numpy's own limit
_BROKEN = (ValueError, SyntaxError, TypeError, LookupError, RecursionError, tokenize.TokenError, OSError, *texts.PACKED)
_SIDE = 32
_LABELS = (1, 2)  # bytes before the pixels in CIFAR-10 and CIFAR-100
_TRAINING = re.compile(r"(data_batch_\d+|train)\.bin")
_TEST = re.compile(r"test(_batch)?\.bin")


@dataclass(frozen=True, slots=True)
class Block:
    """Rows of one array one after the other: where they begin, and how a row is to be read."""

    offset: int
    stride: int  # bytes from row to row
    skip: int  # bytes of a row that are no pixels
    count: int
    height: int
    width: int
    channels: int
    planar: bool

    def picture(self, data: bytes) -> bytes:
        """Return a row as the bytes of a PPM or PGM file."""
        pixels = data[self.skip :]
        if self.planar:
            planes = np.frombuffer(pixels, np.uint8).reshape(self.channels, self.height, self.width)
            pixels = planes.transpose(1, 2, 0).tobytes()
        return self.header() + pixels

    def header(self) -> bytes:
        """Return the head of its files."""
        return b"P%d %d %d 255\n" % (6 if self.channels == 3 else 5, self.width, self.height)

    def size(self) -> int:
        """Return the bytes of its files."""
        return len(self.header()) + self.stride - self.skip


class _Held(Protocol):
    """What holds the blocks."""

    place: str
    notes: list[Note]

    def blocks(self) -> Mapping[str, tuple[Block, int]]:
        """Return the blocks by their names, and the time of change of each. Raises CorpusError."""
        ...

    def opened(self, name: str) -> BinaryIO:
        """Open the file that holds a block. Raises OSError."""
        ...


class Rows:
    """The pictures of some blocks. `notes` tells of the latest `list()`."""

    def __init__(self, uri: str, held: _Held) -> None:
        self.uri = uri
        self.notes: list[Note] = []
        self._held = held
        self._blocks: Mapping[str, tuple[Block, int]] | None = None
        self._stream: tuple[str, BinaryIO] | None = None

    def list(self) -> Iterator[Listed]:
        """List the rows, sorted by `where`. Raises CorpusError."""
        self._blocks = self._held.blocks()
        self.notes = list(self._held.notes)
        for name, (block, modified) in sorted(self._blocks.items(), key=lambda item: item[0] + "#"):
            for row in range(block.count):
                yield Listed(f"{name}#{row:09d}", (), block.size(), modified)

    def read(self, where: str) -> bytes:
        """Return a row as a PPM or PGM file. Raises OSError, whose text is the reason in one line."""
        if self._blocks is None:
            self._blocks = self._again()
        name, _, digits = where.rpartition("#")
        block, _ = self._blocks.get(name, (None, 0))
        if block is None or not (digits.isascii() and digits.isdigit()) or int(digits) >= block.count:
            raise FileNotFoundError("no such row")
        return block.picture(self._row(name, block, int(digits)))

    def _again(self) -> Mapping[str, tuple[Block, int]]:
        try:
            return self._held.blocks()
        except CorpusError as error:
            raise OSError("the arrays that were listed are not there any more") from error

    def _row(self, name: str, block: Block, row: int) -> bytes:
        try:
            stream = self._opened(name)
            stream.seek(block.offset + row * block.stride)
            data = stream.read(block.stride)
        except texts.PACKED as error:
            raise OSError(f"broken: {' '.join(str(error).split())[:120] or type(error).__name__}") from error
        if len(data) < block.stride:
            raise OSError("truncated")
        return data

    def _opened(self, name: str) -> BinaryIO:
        """Return the file of a block; the latest one stays open, so that a packed one is unpacked once."""
        if self._stream is None or self._stream[0] != name:
            if self._stream:
                self._stream[1].close()
            self._stream = None
            self._stream = name, self._held.opened(name)
        return self._stream[1]


class Arrays(Rows):
    """The pictures of an `.npz` or `.npy` file. Raises CorpusError."""

    def __init__(self, text: str) -> None:
        place = files.canonical(text)
        super().__init__(f"npz:{place}", _Npy(place) if place.lower().endswith(".npy") else _Npz(place))


class Cifar(Rows):
    """The pictures of CIFAR's binary files: one, or the training files of a folder. Raises CorpusError."""

    def __init__(self, text: str) -> None:
        place = files.canonical(text)
        super().__init__(f"cifar:{place}", _Binary(place))


class _Npz:
    """The arrays of pictures in an `.npz` file."""

    def __init__(self, place: str) -> None:
        self.place = place
        self.notes: list[Note] = []
        self._held: zipfile.ZipFile | None = None

    def blocks(self) -> Mapping[str, tuple[Block, int]]:
        """Read the headers of all arrays. Raises CorpusError where none holds pictures."""
        self.notes = []
        try:
            size, modified = files.measured(self.place)
            self._held = archive.directory(self.place)
        except OSError as error:
            raise CorpusError(f"{self.place!r} cannot be read: {error}") from error
        found: dict[str, tuple[Block, int]] = {}
        for name in sorted(set(self._held.namelist())):
            try:
                with archive.member(self._held, name) as stream:
                    found[_key(name)] = _block(stream, self._held.getinfo(name).file_size, size), modified
            except _BROKEN as error:
                self.notes.append(Note(shown(name), f"an array that is passed over: {_line(error)}"))
        if not found:
            told = "; ".join(f"{note.where}: {note.reason}" for note in self.notes[:4])
            raise CorpusError(f"{self.place!r} has no array of pictures, uint8 [n, height, width, 3] ({told})")
        return found

    def opened(self, name: str) -> BinaryIO:
        """Open the member that holds an array."""
        return archive.member(self._held or archive.directory(self.place), f"{name}.npy")


class _Npy:
    """The one array of an `.npy` file."""

    def __init__(self, place: str) -> None:
        self.place = place
        self.notes: list[Note] = []

    def blocks(self) -> Mapping[str, tuple[Block, int]]:
        """Read the header. Raises CorpusError where the array holds no pictures."""
        try:
            size, modified = files.measured(self.place)
            with files.opened(self.place) as stream:
                return {shown(files.split(self.place)[1]): (_block(stream, size, size), modified)}
        except _BROKEN as error:
            raise CorpusError(f"{self.place!r} is no array of pictures: {_line(error)}") from error

    def opened(self, name: str) -> BinaryIO:
        """Open the file."""
        return files.opened(self.place)


class _Binary:
    """CIFAR's binary files."""

    def __init__(self, place: str) -> None:
        self.place = place
        self.notes: list[Note] = []

    def blocks(self) -> Mapping[str, tuple[Block, int]]:
        """Measure the files. Raises CorpusError where one is not of CIFAR's sizes."""
        try:
            return {name: _cifar(files.under(self._root(), name), name) for name in self._names()}
        except OSError as error:
            raise CorpusError(f"{self.place!r} cannot be read: {error}") from error

    def opened(self, name: str) -> BinaryIO:
        """Open a file."""
        return files.opened(files.under(self._root(), name))

    def _root(self) -> str:
        return self.place if files.is_folder(self.place) else files.split(self.place)[0]

    def _names(self) -> Sequence[str]:
        self.notes = []
        if not files.is_folder(self.place):
            return [files.split(self.place)[1]]
        there = sorted(files.names(self.place))
        self.notes = [
            Note(name, "test pictures are passed over: name the file itself") for name in there if _TEST.fullmatch(name)
        ]
        training = [name for name in there if _TRAINING.fullmatch(name)]
        if not training:
            raise CorpusError(f"{self.place!r} has no data_batch_1.bin or train.bin: is it CIFAR's binary version?")
        return training


def _cifar(place: str, name: str) -> tuple[Block, int]:
    size, modified = files.measured(place)
    pixels = _SIDE * _SIDE * 3
    labels = [count for count in _LABELS if size and size % (count + pixels) == 0]
    if not labels:
        way = "get the binary version: the Python version is a pickle, which could run code"
        raise CorpusError(f"{place!r} has {size} bytes, no whole number of CIFAR's records: {way}")
    count = labels[-1] if name in ("train.bin", "test.bin") else labels[0]
    return Block(0, count + pixels, count, size // (count + pixels), _SIDE, _SIDE, 3, True), modified


def _block(stream: BinaryIO, size: int, packed: int) -> Block:
    """Read the header of an array of `size` bytes, which take `packed` bytes at most. Raises what _BROKEN holds."""
    version = np.lib.format.read_magic(stream)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"a header of version {version}")
    shape, fortran, dtype = read(stream, max_header_size=_HEADER)
    if dtype != np.uint8 or fortran:
        raise ValueError(f"{dtype} in {'columns' if fortran else 'rows'}: save it as uint8 in rows")
    return _shaped(shape, stream.tell(), size, packed)


def _shaped(shape: tuple[int, ...], offset: int, size: int, packed: int) -> Block:
    count, height, width, channels, planar = _sides(shape)
    stride = height * width * channels
    if min(count, stride) < 1 or stride > MAX_FILE:
        raise ValueError(f"no pictures in {list(shape)}")
    if offset + count * stride > size or count > packed:
        raise ValueError(f"it claims {list(shape)} and has {size} bytes: broken or truncated")
    return Block(offset, stride, 0, count, height, width, channels, planar)


def _sides(shape: tuple[int, ...]) -> tuple[int, int, int, int, bool]:
    if not all(type(side) is int and side > 0 for side in shape):
        raise ValueError(f"no pictures in {list(shape)[:8]}")
    match shape:
        case (n, h, w, (1 | 3) as c):
            return n, h, w, c, False
        case (n, (1 | 3) as c, h, w):
            return n, h, w, c, True
        case (n, h, w):
            return n, h, w, 1, False
    raise ValueError(f"no pictures in {list(shape)[:8]}")


def _key(name: str) -> str:
    """Return the name of an array as numpy tells it. Raises ValueError where the member is none."""
    if not name.endswith(".npy"):
        raise ValueError("no .npy file")
    return name.removesuffix(".npy")


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
