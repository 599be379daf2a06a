"""The indexed pictures: a folder made by `byrote index`, reusable over many audits.

ledger.jsonl                     a line for every source that was named
pictures/RECIPE/00000.parquet    a row a picture file; beside it .unreadable.parquet and .thumbnail.npy
groups/RECIPE/00000.parquet      near-duplicates
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from byrote import images, sources
from byrote.descriptors.thumbnail import Thumbnail
from byrote.domain import RGB, Picture, Side, Unreadable
from byrote.errors import CorpusError
from byrote.store import Recipe, Store

THUMBNAIL = "thumbnail"


@dataclass(frozen=True, slots=True)
class Named:
    """A source that somebody named, and the side that its pictures are on."""

    side: Side
    uri: str


class Corpus:
    """The rows and vectors of a corpus folder, read once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = Store(root)
        self.recipe = Recipe.of("pictures", {"descriptor": Thumbnail().name})

    @classmethod
    def at(cls, root: Path) -> "Corpus":
        """Open a corpus that is there. Raises CorpusError."""
        corpus = cls(root)
        if not corpus.named():
            raise CorpusError(f"{root}: no corpus here; `byrote index SOURCE --corpus {root}` makes one")
        return corpus

    def named(self) -> list[Named]:
        """List the sources that were named, once each."""
        lines = [line for line in self.store.ledger() if line.get("event") == "source"]
        return list(dict.fromkeys(Named(line["side"], line["uri"]) for line in lines))

    @cached_property
    def _rows(self) -> tuple[list[Picture], list[Unreadable], dict[str, NDArray[np.uint8]]]:
        latest: dict[tuple[str, str, str], Picture | Unreadable] = {}
        vectors: dict[str, NDArray[np.uint8]] = {}
        for part in self.store.parts(self.recipe):
            pictures = self.store.read(Picture, self.recipe, part)
            lost = self.store.read(Unreadable, self.recipe, f"{part}.unreadable")
            array = self.store.array(self.recipe, part, THUMBNAIL)
            vectors |= {picture.digest: array[k] for k, picture in enumerate(pictures)}
            rows: list[Picture | Unreadable] = [*pictures, *lost]
            latest |= {(row.side, row.source, row.where): row for row in rows}
        last = [row for _, row in sorted(latest.items())]
        return (
            [row for row in last if isinstance(row, Picture)],
            [row for row in last if isinstance(row, Unreadable)],
            vectors,
        )

    @property
    def pictures(self) -> list[Picture]:
        """Return the rows of all pictures, both sides, sorted; of a file that changed, its last state."""
        return self._rows[0]

    def digests(self, side: Side) -> set[str]:
        """Return the digests of one side."""
        return {row.digest for row in self.pictures if row.side == side}

    @property
    def unreadable(self) -> list[Unreadable]:
        """Return the files that could not be read, with their reasons."""
        return self._rows[1]

    @cached_property
    def digest(self) -> str:
        """Return the digest of what the corpus holds: side, pixels, name and caption of each picture.

        Where the sources lie is not in it, so that a corpus that is made again elsewhere has the same.
        """
        rows = sorted(json.dumps([p.side, p.digest, p.where, p.captions]) for p in self.pictures)
        return "sha256:" + hashlib.sha256(json.dumps(rows).encode()).hexdigest()

    @cached_property
    def by_digest(self) -> dict[str, Picture]:
        """Return one row for each distinct picture."""
        return {row.digest: row for row in reversed(self.pictures)}

    def vectors(self, digests: Iterable[str]) -> NDArray[np.uint8]:
        """Return the thumbnail vectors of some pictures: uint8 [n, 3072]."""
        found = [self._rows[2][digest] for digest in digests]
        return np.stack(found) if found else np.zeros((0, Thumbnail().dimensions), np.uint8)

    def pixels(self, digest: str) -> RGB | None:
        """Decode a picture again from its source, or return None where it is gone or has changed."""
        row = self.by_digest[digest]
        try:
            image = images.decode(sources.open(row.source).read(row.where))
        except (OSError, images.Undecodable, CorpusError):
            return None
        return image if images.digest(image) == digest else None
