"""Known files and pictures, as hashes: what is on the list is never shown, stored or reported, only counted.

A list is a text or CSV file: a line has an MD5 of a file's bytes (32 hexadecimal digits), a PDQ hash of a picture (64)
or both. Nothing here ever writes a hash, or says which one was hit. See docs/howto/hash-lists.md.
"""

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import md5, sha256
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from byrote.domain import RGB
from byrote.errors import DescriptorError
from byrote.kernels import pdq
from byrote.kernels.shapes import alike

_HASH = re.compile(r"[0-9a-fA-F]{32}(?:[0-9a-fA-F]{32})?")
_DIGITS = re.compile(r"[0-9a-fA-F]{8,}")  # what a heading has not
_NAMED = re.compile("md5|pdq", re.IGNORECASE)
_MD5 = 32  # digits
_TOGETHER = 64  # images of one shape that are hashed at once


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class HashList:
    """The hashes of a list: MD5 as lower-case digits, PDQ as uint8 [n, 32]. `digest` stands for them in a recipe."""

    md5: frozenset[str]
    pdq: NDArray[np.uint8]
    digest: str

    @classmethod
    def open(cls, path: Path) -> "HashList":
        """Read a list. Raises DescriptorError, which names the line but never a hash."""
        try:
            with path.open(encoding="utf-8-sig", newline="") as stream:
                return cls.of(_read(path, stream))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise DescriptorError(f"list of hashes {path} cannot be read: give a text or CSV file in UTF-8") from error

    @classmethod
    def of(cls, hashes: Sequence[str]) -> "HashList":
        """Make a list of hashes that are well-formed; one that stands twice counts once."""
        known = sorted({digits.lower() for digits in hashes})
        pictures = bytes.fromhex("".join(digits for digits in known if len(digits) > _MD5))
        return cls(
            frozenset(digits for digits in known if len(digits) == _MD5),
            np.frombuffer(pictures, np.uint8).reshape(-1, pdq.BYTES),
            "sha256:" + sha256("\n".join(known).encode()).hexdigest(),
        )

    def __len__(self) -> int:
        return len(self.md5) + len(self.pdq)

    def __repr__(self) -> str:
        return f"HashList({len(self.md5)} MD5, {len(self.pdq)} PDQ)"

    def hits(self, image: RGB, data: bytes | None = None) -> bool:
        """Say whether the file's bytes are on the list, or the picture or one of its turns and mirrors.

        A picture is on it within 31 bits of a listed PDQ hash, where its own quality is 50 or more (Meta's README of
        PDQ). A picture that is its own mirror image has no stable PDQ hash and may be missed, with Meta's tools too.
        """
        return bool(self.screen([image], [data])[0])

    def screen(self, images: Sequence[RGB], datas: Sequence[bytes | None]) -> NDArray[np.bool_]:
        """Return the same for many images with their bytes, bool [n]. Images of one size are hashed together."""
        if len(images) != len(datas):
            raise ValueError(f"{len(images)} images have {len(datas)} byte strings")
        hit = np.array([data is not None and self.has_file(data) for data in datas], np.bool_)
        return hit | self._has_pictures(images)

    def has_file(self, data: bytes) -> bool:
        """Say whether the MD5 of a file's bytes is on the list; also for a file that is no picture."""
        return bool(self.md5) and md5(data, usedforsecurity=False).hexdigest() in self.md5

    def _has_pictures(self, images: Sequence[RGB]) -> NDArray[np.bool_]:
        hit = np.zeros(len(images), np.bool_)
        if not len(self.pdq):
            return hit
        for places in alike(images, _TOGETHER):
            hashes, quality = pdq.dihedral(np.stack([images[place] for place in places]))
            good = np.flatnonzero(quality >= pdq.GOOD)
            pairs = pdq.near(hashes[good].reshape(-1, pdq.BYTES), self.pdq, pdq.MATCH)
            hit[np.array(places)[good[pairs[:, 0] // 8]]] = True
        return hit


def _read(path: Path, stream: TextIO) -> list[str]:
    """Return the hashes of every row. Columns that a heading names as MD5 or PDQ are the only ones that count."""
    found: list[str] = []
    columns: list[int] = []
    for first, line, cells in _rows(stream):
        if first and not any(_DIGITS.fullmatch(cell) for cell in cells):
            columns = [place for place, cell in enumerate(cells) if _NAMED.search(cell)]
            continue
        taken = [cells[k] for k in columns if k < len(cells)] if columns else cells
        hashes = [cell for cell in taken if _HASH.fullmatch(cell)]
        if not hashes:
            told = "no MD5 (32 hexadecimal digits) or PDQ hash (64)"
            raise DescriptorError(f"list of hashes {path}, line {line}: {told}: mend the line or take it out")
        found += hashes
    if not found:
        told = "write an MD5 (32 hexadecimal digits) or a PDQ hash (64) a line"
        raise DescriptorError(f"list of hashes {path} holds none: {told}")
    return found


def _rows(stream: TextIO) -> Iterator[tuple[bool, int, list[str]]]:
    """Yield the rows that are neither empty nor a comment: whether it is the first, its line, its cells."""
    rows, first = csv.reader(stream), True
    for row in rows:
        cells = [cell.strip() for cell in row]
        if any(cells) and not cells[0].startswith("#"):
            yield first, rows.line_num, cells
            first = False
