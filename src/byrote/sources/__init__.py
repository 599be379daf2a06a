"""Where pictures come from: one protocol, a file for each kind, opened by URI (`tar:PATH`, `hf:ID`) or by content."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol

from byrote.errors import CorpusError, did_you_mean

KINDS = {
    "folder": "byrote.sources.folder:at",
    "tar": "byrote.sources.shards:Shards",
    "parquet": "byrote.sources.parquet:Parquet",
    "hf": "byrote.sources.huggingface:at",
    "zip": "byrote.sources.archive:Archive",
    "npz": "byrote.sources.arrays:Arrays",
    "cifar": "byrote.sources.arrays:Cifar",
    "list": "byrote.sources.listing:Listing",
}


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
    """Open the source that `uri` names: KIND:PLACE, or a path or URL whose kind is told by its content.

    Raises CorpusError.
    """
    kind, separator, rest = uri.partition(":")
    known = kinds()
    if not separator or rest.startswith("//") or (kind not in known and Path(uri).exists()):
        from byrote.sources import recognised

        return recognised.opened(uri)
    if kind not in known:
        told = f"unknown kind {kind!r}{did_you_mean(kind, known)}"
        raise CorpusError(f"source {uri!r}: {told}, and no such path: one of {', '.join(known)}, or a path or URL")
    if not rest:
        raise CorpusError(f"source {uri!r} names no place: write {kind}:PLACE")
    module, _, name = known[kind].partition(":")
    source: Source = getattr(import_module(module), name)(rest)
    return source


def kinds() -> dict[str, str]:
    """Return the known kinds of sources, those of other packages included (entry-point group `byrote.sources`)."""
    return KINDS | {point.name: point.value for point in entry_points(group="byrote.sources")}
