"""Picture files with captions beside them, wherever they lie: in a folder, behind a URL, in an archive.

Pictures are the files with a known suffix (SUFFIXES, in any case), in all subfolders, and whatever a metadata file
names. Names that begin with a dot are skipped. A caption comes from the sidecar (`a.txt` beside `a.png`) where there is
one, even an empty or broken one, else from `metadata.csv` or `metadata.jsonl` in any folder: `file_name` is relative to
the metadata file. Several rows of one picture give it several captions.
"""

import posixpath
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import BinaryIO, Protocol

from byrote.errors import CorpusError
from byrote.sources import Listed, Note, texts
from byrote.sources.files import MAX_FILE, shown

_KNOWN = ".png .apng .jpg .jpeg .jpe .jfif .mpo .webp .gif .bmp .tif .tiff .ppm .pgm .pbm .pnm .avif"
SUFFIXES = frozenset(_KNOWN.split(" "))
METADATA = ("metadata.csv", "metadata.jsonl")
MAX_SIDECAR = 2**20


class Files(Protocol):
    """Files by their names, with slashes. What is wrong with one is an OSError of one line, free of paths."""

    place: str
    kind: str

    def walk(self, note: Callable[[str, str], None]) -> set[str]:
        """Return the names of all files, and note what is passed over. Raises CorpusError where all is lost."""
        ...

    def open(self, name: str) -> BinaryIO:
        """Open a file. Raises OSError."""
        ...

    def read(self, name: str, most: int) -> bytes:
        """Return a file's bytes. Raises OSError where they are more than `most`."""
        ...

    def measured(self, name: str) -> tuple[int, int]:
        """Return size and time of change, -1 and 0 where the file is not there."""
        ...

    def named(self, where: str) -> str:
        """Return the name that is listed as `where`."""
        ...


class Tree:
    """The pictures among some files. `notes` tells of the latest `list()`."""

    def __init__(self, uri: str, files: Files) -> None:
        self.uri = uri
        self.notes: list[Note] = []
        self._files = files

    def list(self) -> Iterator[Listed]:
        """List the pictures, sorted by `where`, with the captions of this moment. Raises CorpusError.

        A file that metadata names and that is not there is listed with size -1; reading it raises FileNotFoundError.
        """
        self.notes = []
        files = self._files.walk(self._note)
        captions = self._captions(sorted(file for file in files if posixpath.basename(file) in METADATA))
        pictures = {file for file in files if suffix(file) in SUFFIXES} | captions.keys()
        if not pictures:
            raise CorpusError(f"{self._files.kind} {self._files.place!r} has no pictures: files that end in {_KNOWN}")
        sidecars = {_stem(file): file for file in sorted(file for file in files if suffix(file) == ".txt")}
        told = {file: sidecars.get(_stem(file)) for file in pictures} if sidecars else {}
        listed = (self._listed(file, told.get(file), captions.get(file, ())) for file in sorted(pictures))
        return iter(sorted(listed, key=lambda one: one.where))

    def read(self, where: str) -> bytes:
        """Return a file's bytes. Raises OSError, whose text is the reason in one line, free of paths."""
        return self._bytes(self._files.named(where), MAX_FILE)

    def _listed(self, file: str, sidecar: str | None, captions: tuple[str, ...]) -> Listed:
        size, modified = self._files.measured(file)
        return Listed(shown(file), self._sidecar(sidecar) if sidecar else captions, size, modified)

    def _sidecar(self, file: str) -> tuple[str, ...]:
        try:
            said = texts.of_text(self._bytes(file, MAX_SIDECAR))
        except OSError as error:
            said = texts.Said((), f"a caption that cannot be read: {error}")
        if said.trouble:
            self._note(file, said.trouble)
        return said.texts

    def _captions(self, metadata: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
        """Return the captions of all files that metadata names, those of its rows one after the other."""
        captions: dict[str, tuple[str, ...]] = {}
        for file in metadata:
            told = False
            for row in self._rows(file):
                named = posixpath.normpath(posixpath.join(posixpath.dirname(file), row.file_name))
                told = told or bool(row.said.texts)
                captions[named] = texts.once((*captions.get(named, ()), *row.said.texts))
                if row.said.trouble:
                    self._note(f"{shown(file)}, line {row.number}", row.said.trouble)
            if not told:
                self._note(file, "no captions: neither 'text' nor 'caption' is filled in")
        return captions

    def _rows(self, file: str) -> Iterator[texts.Row]:
        place = posixpath.join(self._files.place, shown(file))
        try:
            stream = self._files.open(file)
        except OSError as error:
            raise CorpusError(f"{place} cannot be read: {error}") from error
        with stream:
            yield from texts.rows(stream, place, tabular=file.endswith(".csv"))

    def _bytes(self, file: str, most: int) -> bytes:
        try:
            return self._files.read(file, most)
        except texts.PACKED as error:
            raise OSError(f"broken: {' '.join(str(error).split())[:120] or type(error).__name__}") from error

    def _note(self, where: str, reason: str) -> None:
        self.notes.append(Note(shown(where), reason))


def suffix(file: str) -> str:
    """Return what a name ends in, in small letters, with its dot."""
    dot = file.rfind(".")
    return file[dot:].lower() if dot > file.rfind("/") + 1 else ""


def _stem(file: str) -> str:
    return file[: len(file) - len(suffix(file))]
