"""Where pictures come from: one protocol, one file for each kind."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Listed:
    """A file that may be a picture: its place in the source, caption, size in bytes and time of change (ns)."""

    where: str
    caption: str | None
    size: int
    modified: int


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
