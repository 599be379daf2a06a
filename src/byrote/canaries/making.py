"""Draw the canaries, toss the coins, write both folders and the record."""

import csv
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from numpy.random import PCG64, Generator, SeedSequence

from byrote import images
from byrote.canaries import record
from byrote.canaries.drawing import caption, draw
from byrote.canaries.record import KINDS, Canary, Kind
from byrote.domain import RGB
from byrote.errors import CorpusError

TIERS = (1, 2, 4, 8, 16, 32, 64)
"""Carlini et al. 2023, arXiv:2301.13188, section 7: 1, 2, 3, 4, 8, 16, 32, 64 copies."""
SMALLEST = 16
_FOLDERS = ("publish", "keep")


@dataclass(frozen=True, slots=True)
class Draw:
    """What canaries are to be drawn: `each` of every kind and number of copies, of `size` x `size` pixels.

    The seed gives pictures and coins away; without one it is taken from the system.
    """

    size: int = 64
    tiers: tuple[int, ...] = TIERS
    each: int = 32
    kinds: tuple[Kind, ...] = KINDS
    seed: int = field(default_factory=lambda: secrets.randbits(63))


@dataclass(frozen=True, slots=True)
class _Streams:
    """The generators of one canary, independent of each other: the coin owes nothing to the picture."""

    picture: Generator
    caption: Generator
    coin: Generator

    @classmethod
    def of(cls, seed: int, number: int) -> "_Streams":
        return cls(*(Generator(PCG64(one)) for one in SeedSequence([seed, number]).spawn(3)))


def make(out: Path, wanted: Draw) -> list[Canary]:
    """Draw canaries, toss a fair coin for each, and write them, all or nothing. Raises CorpusError.

    `out` must be new or empty. It is filled under another name beside it, record last, and renamed.
    """
    if wanted.size < SMALLEST:
        raise CorpusError(f"canaries of {wanted.size} pixels are too much alike; make them {SMALLEST} or larger")
    out = Path(os.path.abspath(out))
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        _refuse_used(out)
        return _fill(part, out, wanted)
    except OSError as error:
        raise CorpusError(f"{out}: canaries cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _refuse_used(out: Path) -> None:
    if out.exists() and any(out.iterdir()):
        raise CorpusError(f"{out} is not empty; name a new folder, for canaries are drawn once")


def _fill(part: Path, out: Path, wanted: Draw) -> list[Canary]:
    for folder in _FOLDERS:
        (part / folder).mkdir(parents=True)
    rows = []
    for canary, image in _drawn(wanted):
        data = images.encode_png(image)
        for name in _files(canary):
            (part / name).write_bytes(data)
        rows.append(canary)
    for folder in _FOLDERS:
        _write_metadata(part / folder, [row for row in rows if row.file.startswith(f"{folder}/")])
    record.write(part, wanted.seed, wanted.size, rows)
    part.replace(out)
    return rows


def _drawn(wanted: Draw) -> Iterator[tuple[Canary, RGB]]:
    taken: set[str] = set()
    slots = ((kind, copies) for kind in wanted.kinds for copies in wanted.tiers for _ in range(wanted.each))
    for number, (kind, copies) in enumerate(slots):
        streams = _Streams.of(wanted.seed, number)
        image = draw(kind, wanted.size, streams.picture)
        text = _new(kind, streams.caption, taken)
        published = bool(streams.coin.integers(2))
        file = f"{'publish' if published else 'keep'}/{number:05d}-000.png"
        yield Canary(images.digest(image), text, kind, copies, published, file), image


def _new(kind: Kind, dice: Generator, taken: set[str]) -> str:
    text = caption(kind, dice)
    while text in taken:
        text = caption(kind, dice)
    taken.add(text)
    return text


def _files(canary: Canary) -> list[str]:
    """Return where the canary goes: as often as it is published, or once where it is kept."""
    stem = canary.file.removesuffix("000.png")
    return [f"{stem}{copy:03d}.png" for copy in range(canary.copies if canary.published else 1)]


def _write_metadata(folder: Path, rows: Sequence[Canary]) -> None:
    with (folder / "metadata.csv").open("w", encoding="utf-8", newline="") as sink:
        table = csv.writer(sink, lineterminator="\n")
        table.writerow(["file_name", "text"])
        table.writerows([Path(name).name, row.caption] for row in rows for name in _files(row))
