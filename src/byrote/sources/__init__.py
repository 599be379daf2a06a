"""Where pictures come from: one protocol, one file for each kind."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Listed:
    """A file that may be a picture: its place in the source, its captions, size in bytes and time of change (ns).

    `size` is -1 where it is not known without reading all (a row of a table), or where the file is not there.
    """

    where: str
    captions: tuple[str, ...]
    size: int
    modified: int

    @property
    def caption(self) -> str | None:
        """Return the first caption, or None."""
        return next(iter(self.captions), None)


@dataclass(frozen=True, slots=True)
class Note:
    """Something of a listing that was passed over: no picture is lost by it, but perhaps a caption. A folder may be."""

    where: str
    reason: str


class Source(Protocol):
    """Files in a fixed order, and the bytes of each. `notes` tells of the latest `list()`, once it is exhausted."""

    uri: str
    notes: list[Note]

    def list(self) -> Iterator[Listed]:
        """List the files, sorted by `where`. Raises CorpusError."""
        ...

    def read(self, where: str) -> bytes:
        """Return a file's bytes. Raises OSError."""
        ...


def open(uri: str) -> Source:
    """Open the source that `uri` names (a folder, for now). Raises CorpusError."""
    from byrote.sources.folder import Folder

    return Folder(Path(uri))
