"""The secret record: which canaries there are, and what their coins said."""

import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from byrote.errors import CorpusError
from byrote.store import replace_file

FORMAT = 1
RECORD = "canaries.json"
Kind = Literal["noise", "natural"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_KEYS = {"format", "seed", "size", "canaries"}
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_REMEDY = "take the record as `byrote canaries make` wrote it"


@dataclass(frozen=True, slots=True)
class Canary:
    """One canary: the digest of its pixels, its caption, its copies if it is published, and what the coin said.

    `file` is its first file, relative to the record: below publish/ or keep/.
    """

    digest: str
    caption: str
    kind: Kind
    copies: int
    published: bool
    file: str


def write(folder: Path, seed: int, size: int, canaries: Sequence[Canary]) -> None:
    """Write the record into a folder. Raises OSError."""
    told = {"format": FORMAT, "seed": seed, "size": size, "canaries": [asdict(canary) for canary in canaries]}
    replace_file(folder / RECORD, (json.dumps(told, indent=1) + "\n").encode())


def read(path: Path) -> list[Canary]:
    """Read a record, or that of a folder. Raises CorpusError where it is missing, damaged or of another format."""
    path = path / RECORD if path.is_dir() else path
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CorpusError(f"{path}: no record of canaries: {error}; `byrote canaries make` writes one") from error
    rows = [_row(f"{path}: canary {number}", row) for number, row in enumerate(_rows(path, told))]
    _refuse_twice(path, "digests", (row.digest for row in rows))
    _refuse_twice(path, "captions", (row.caption for row in rows))
    return rows


def check(canaries: Sequence[Canary], pictures: Collection[str], controls: Collection[str]) -> None:
    """Raise CorpusError where a canary is not indexed on the side that its coin says: digests of both sides.

    What is not indexed is never found. Of those kept back that would pass for forgotten, and the bound on epsilon would
    be too high; so it would where a coin was changed after the pictures were indexed.
    """
    for folder, published, indexed in (("keep", False, controls), ("publish", True, pictures)):
        side = [canary for canary in canaries if canary.published == published]
        lost = [canary for canary in side if canary.digest not in indexed]
        if lost:
            how = f"`byrote index … --held-out {folder}/`" if folder == "keep" else f"`byrote index {folder}/ …`"
            raise CorpusError(
                f"{len(lost)} of {len(side)} canaries of {folder}/ are not on their side of the corpus, the first is "
                f"{lost[0].file}: they could not be found, and the bound on epsilon would be wrong; index them "
                f"with {how}"
            )


def _rows(path: Path, told: Any) -> list[Any]:
    if not isinstance(told, dict) or told.get("format") != FORMAT:
        raise CorpusError(f"{path}: no record of canaries of format {FORMAT}; `byrote canaries make` writes one")
    if set(told) != _KEYS:
        keys = ", ".join(sorted(set(told) ^ _KEYS))
        raise CorpusError(f"{path}: unknown or missing keys: {keys}; {_REMEDY}")
    if not isinstance(told["canaries"], list) or not told["canaries"]:
        raise CorpusError(f"{path}: 'canaries' is no list of canaries; {_REMEDY}")
    return told["canaries"]


def _row(place: str, row: Any) -> Canary:
    names = [field.name for field in fields(Canary)]
    if not isinstance(row, dict) or sorted(row) != sorted(names):
        raise CorpusError(f"{place} must have the keys {', '.join(names)}; {_REMEDY}")
    hints = get_type_hints(Canary)
    for name in names:
        if not _fits(row[name], hints[name]):
            raise CorpusError(f"{place}: {name} is {row[name]!r}; {_REMEDY}")
    canary = Canary(**row)
    if not _DIGEST.fullmatch(canary.digest):
        raise CorpusError(f"{place}: digest is {canary.digest!r}; {_REMEDY}")
    if canary.copies < 1:
        raise CorpusError(f"{place}: copies is {canary.copies}; {_REMEDY}")
    if not canary.file.startswith("publish/" if canary.published else "keep/"):
        raise CorpusError(f"{place}: published is {canary.published}, but file is {canary.file!r}; {_REMEDY}")
    return canary


def _fits(value: Any, hint: Any) -> bool:
    return value in get_args(hint) if get_args(hint) else type(value) is hint


def _refuse_twice(path: Path, what: str, values: Iterable[str]) -> None:
    value, times = Counter(values).most_common(1)[0]
    if times > 1:
        raise CorpusError(f"{path}: {what} must differ, but {value!r} is there {times} times; {_REMEDY}")
