"""Canaries: drawn pictures that a coin puts into a training set or keeps back, so that what the training did is known.

    OUT/publish/      those that go into the training set, each in its number of copies, with metadata.csv
    OUT/keep/         those that stay out, once each, with metadata.csv: references, and controls of the audit
    OUT/canaries.json the coins; who sees it knows the answer

Two kinds. Uniform noise, as in Carlini et al. 2023, arXiv:2301.13188, section 7: nothing but memory brings it back; it
is drawn on a grid of at most 32 x 32, so that two of them are unlike in a thumbnail too. Scenes: shapes on a smooth
ground, which a training takes for ordinary pictures.
"""

import csv
import io
import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from math import inf
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

import numpy as np
from numpy.random import PCG64, Generator, SeedSequence

from byrote import images
from byrote.domain import RGB
from byrote.errors import CorpusError
from byrote.kernels import privacy
from byrote.store import replace_file

FORMAT = 1
RECORD = "canaries.json"
Kind = Literal["noise", "scene"]
KINDS: tuple[Kind, ...] = get_args(Kind)
TIERS = (1, 2, 4, 8, 16, 32, 64)
"""The paper inserts each canary 1, 2, 3, 4, 8, 16, 32 or 64 times."""
GRID = 32
LEVEL = 0.95
EXPOSURE_SOURCE = "exposure of T, after Carlini et al. 2019, arXiv:1802.08232"
EPSILON_SOURCE = "one-run bound of Steinke, Nasr and Jagielski 2023, arXiv:2305.08846, theorem 5.2, delta 0"
_ONSETS, _VOWELS, _CODAS = tuple("bdfgklmnprstvz"), tuple("aeiou"), ("", "l", "n", "r", "s")


@dataclass(frozen=True, slots=True)
class Canary:
    """One canary: the digest of its pixels, its caption, its copies if it is published, and what the coin said."""

    digest: str
    caption: str
    kind: Kind
    copies: int
    published: bool
    file: str


@dataclass(frozen=True, slots=True)
class Draw:
    """What canaries are to be drawn: `each` of every kind and number of copies, of `size` x `size` pixels."""

    size: int = 64
    tiers: tuple[int, ...] = TIERS
    each: int = 32
    kinds: tuple[Kind, ...] = KINDS
    seed: int | None = None


def make(out: Path, wanted: Draw) -> list[Canary]:
    """Draw canaries, toss a coin for each, and write both folders; the record comes last. Raises CorpusError."""
    if out.exists() and any(out.iterdir()):
        raise CorpusError(f"{out} is not empty; name a new folder, for canaries are drawn once")
    seed = secrets.randbits(63) if wanted.seed is None else wanted.seed
    made = []
    for number, (kind, copies) in enumerate(_slots(wanted)):
        dice = Generator(PCG64(SeedSequence([seed, number])))
        image = draw(kind, wanted.size, dice)
        published = bool(dice.integers(2))
        folder = "publish" if published else "keep"
        made.append((Canary(images.digest(image), _caption(dice, number), kind, copies, published, folder), image))
    try:
        rows = [_written(out, number, canary, image) for number, (canary, image) in enumerate(made)]
        _write_metadata(out, rows)
        record = {"format": FORMAT, "seed": seed, "size": wanted.size, "canaries": [asdict(row) for row in rows]}
        replace_file(out / RECORD, (json.dumps(record, indent=1) + "\n").encode())
    except OSError as error:
        raise CorpusError(f"{out}: canaries cannot be written: {error.strerror or error}") from error
    return rows


def read(path: Path) -> list[Canary]:
    """Read the record of canaries. Raises CorpusError where it is missing, damaged or of another format."""
    path = path / RECORD if path.is_dir() else path
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CorpusError(f"{path}: no record of canaries: {error}; `byrote canaries make` writes one") from error
    if not isinstance(told, dict) or told.get("format") != FORMAT or not isinstance(told.get("canaries"), list):
        raise CorpusError(f"{path}: no record of canaries of format {FORMAT}; `byrote canaries make` writes one")
    rows = [_row(path, number, row) for number, row in enumerate(told["canaries"])]
    twice = len(rows) - len({row.digest for row in rows})
    if twice:
        raise CorpusError(f"{path}: {twice} canaries are named twice; take the record as it was written")
    return rows


@dataclass(frozen=True, slots=True)
class Tier:
    """What came of the canaries of one kind and number of copies.

    Exposures are of the published ones, against `references` kept ones of the kind: at most `greatest`. `guesses` of
    them came within tau and were guessed to be published, `correct` were. `epsilon` bounds the training for a change of
    all copies of a picture, `epsilon_a_copy` for one copy (by group privacy); `most` is the most that so many canaries
    could show.
    """

    kind: str
    copies: int
    published: int
    kept: int
    references: int
    exposures: tuple[float, ...]
    median: float | None
    greatest: float | None
    guesses: int
    correct: int
    epsilon: float
    epsilon_a_copy: float
    most: float


@dataclass(frozen=True, slots=True)
class CanaryReport:
    """All tiers, the bound over all canaries together, and where the figures come from."""

    tiers: tuple[Tier, ...]
    canaries: int
    guesses: int
    correct: int
    epsilon: float
    level: float
    exposure_source: str = EXPOSURE_SOURCE
    epsilon_source: str = EPSILON_SOURCE


def report(canaries: Sequence[Canary], statistic: Mapping[str, float], *, tau: float) -> CanaryReport:
    """Hold T of every canary (by digest; missing where nothing came near) against its coin.

    The guess is fixed beforehand: published where T <= tau, no guess elsewhere. All tiers together bound the epsilon of
    a change of as many copies as the largest tier has.
    """
    keys = sorted({(canary.kind, canary.copies) for canary in canaries})
    guessed = [canary for canary in canaries if statistic.get(canary.digest, inf) <= tau]
    correct = sum(canary.published for canary in guessed)
    return CanaryReport(
        tiers=tuple(_tier(kind, copies, canaries, statistic, tau) for kind, copies in keys),
        canaries=len(canaries),
        guesses=len(guessed),
        correct=correct,
        epsilon=privacy.epsilon(correct, len(guessed), total=len(canaries), level=LEVEL),
        level=LEVEL,
    )


def _tier(kind: str, copies: int, canaries: Sequence[Canary], statistic: Mapping[str, float], tau: float) -> Tier:
    mine = [canary for canary in canaries if (canary.kind, canary.copies) == (kind, copies)]
    of_kind = [c for c in canaries if c.kind == kind and not c.published]
    inserted = np.array([statistic.get(c.digest, inf) for c in mine if c.published], np.float64)
    reference = np.array([statistic.get(c.digest, inf) for c in of_kind], np.float64)
    exposures = privacy.exposure(inserted, reference) if len(reference) else np.zeros(0)
    guessed = [canary for canary in mine if statistic.get(canary.digest, inf) <= tau]
    correct = sum(canary.published for canary in guessed)
    bound = privacy.epsilon(correct, len(guessed), total=len(mine), level=LEVEL)
    return Tier(
        kind=kind,
        copies=copies,
        published=len(inserted),
        kept=len(mine) - len(inserted),
        references=len(reference),
        exposures=tuple(round(float(value), 4) for value in exposures),
        median=float(np.median(exposures)) if len(exposures) else None,
        greatest=privacy.greatest_exposure(len(reference)) if len(reference) else None,
        guesses=len(guessed),
        correct=correct,
        epsilon=bound,
        epsilon_a_copy=bound / copies,
        most=privacy.most_epsilon(len(inserted), LEVEL),
    )


def draw(kind: Kind, size: int, dice: Generator) -> RGB:
    """Draw one picture: uint8 [size, size, 3]."""
    image: RGB = _noise(size, dice) if kind == "noise" else _scene(size, dice)
    return image


def _noise(size: int, dice: Generator) -> RGB:
    grid = min(size, GRID)
    cells = dice.integers(0, 256, (grid, grid, 3), np.uint8)
    at = np.arange(size) * grid // size
    return cells[at][:, at].copy()


def _scene(size: int, dice: Generator) -> RGB:
    """Draw a ground that runs from one colour to another, with discs, bars and boxes on it."""
    y, x = np.mgrid[:size, :size] / max(size - 1, 1)
    angle = dice.uniform(0, 2 * np.pi)
    ramp = (np.cos(angle) * (x - 0.5) + np.sin(angle) * (y - 0.5) + 0.7) / 1.4
    ground, other = dice.integers(0, 256, (2, 3))
    canvas = ground + (other - ground) * np.clip(ramp, 0, 1)[..., None]
    for _ in range(int(dice.integers(4, 9))):
        canvas[_shape(x, y, dice)] = dice.integers(0, 256, 3)
    pixels: RGB = np.clip(np.rint(canvas), 0, 255).astype(np.uint8)
    return pixels


def _shape(x: np.ndarray, y: np.ndarray, dice: Generator) -> np.ndarray:
    cx, cy, angle = dice.uniform(0.1, 0.9), dice.uniform(0.1, 0.9), dice.uniform(0, np.pi)
    across, along = dice.uniform(0.08, 0.28, 2)
    u = np.cos(angle) * (x - cx) + np.sin(angle) * (y - cy)
    v = np.cos(angle) * (y - cy) - np.sin(angle) * (x - cx)
    shapes = (
        (u / across) ** 2 + (v / along) ** 2 < 1,
        np.maximum(np.abs(u) / across, np.abs(v) / along) < 1,
        np.abs(u) < across / 3,
    )
    return np.asarray(shapes[int(dice.integers(3))], np.bool_)


def _slots(wanted: Draw) -> Iterator[tuple[Kind, int]]:
    return ((kind, copies) for kind in wanted.kinds for copies in wanted.tiers for _ in range(wanted.each))


def _caption(dice: Generator, number: int) -> str:
    """Invent a name that no caption has: two words of syllables, and a number in words of the same kind."""
    words = [_word(dice) for _ in range(2)] + [_word(Generator(PCG64(SeedSequence([number, 7]))))]
    return f"a canary named {words[0].title()} {words[1].title()} of {words[2].title()}"


def _word(dice: Generator) -> str:
    return "".join(part[int(dice.integers(len(part)))] for _ in range(3) for part in (_ONSETS, _VOWELS, _CODAS))


def _written(out: Path, number: int, canary: Canary, image: RGB) -> Canary:
    folder = out / canary.file
    folder.mkdir(parents=True, exist_ok=True)
    data = images.encode_png(image)
    copies = canary.copies if canary.published else 1
    names = [f"{number:05d}-{copy:03d}.png" for copy in range(copies)]
    for name in names:
        (folder / name).write_bytes(data)
    return Canary(
        canary.digest, canary.caption, canary.kind, canary.copies, canary.published, f"{canary.file}/{names[0]}"
    )


def _write_metadata(out: Path, rows: Sequence[Canary]) -> None:
    for folder in ("publish", "keep"):
        sink = io.StringIO()
        table = csv.writer(sink, lineterminator="\n")
        table.writerow(["file_name", "text"])
        for row in rows:
            if row.file.startswith(f"{folder}/"):
                stem = Path(row.file).name[:-8]
                copies = row.copies if row.published else 1
                table.writerows([f"{stem}-{copy:03d}.png", row.caption] for copy in range(copies))
        (out / folder).mkdir(parents=True, exist_ok=True)
        replace_file(out / folder / "metadata.csv", sink.getvalue().encode())


def _row(path: Path, number: int, row: Any) -> Canary:
    hints = get_type_hints(Canary)
    names = [field.name for field in fields(Canary)]
    if not isinstance(row, dict) or sorted(row) != sorted(names):
        raise CorpusError(f"{path}: canary {number} has not the keys {', '.join(names)}; take the record as written")
    for name in names:
        hint = hints[name]
        fine = row[name] in get_args(hint) if get_args(hint) else type(row[name]) is hint
        if not fine:
            raise CorpusError(f"{path}: canary {number}: {name} is {row[name]!r}; take the record as it was written")
    return Canary(**row)
