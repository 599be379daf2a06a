"""Samples that were made elsewhere: where each lies, and what stands beside it, in it or in its name.

What is told comes, first to last, from: a pattern of the plan over the name; a sidecar (`a.json`, `a.png.json`, `a.txt`
beside `a.png`), the row of a `metadata.csv` or `metadata.jsonl` or of a parquet file; the image itself (see `webui`);
for the seed, also the name as AUTOMATIC1111 writes it (`00012-3871235.png`). Where no prompt is told for any sample,
the usual names are looked at: `3871235-PROMPT`, `00012-3871235-PROMPT`, `PROMPT_00012`.
"""

import json
import posixpath
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from io import BytesIO
from typing import BinaryIO, Protocol

from byrote.errors import CorpusError, ModelError
from byrote.models import webui
from byrote.models.webui import NOTHING, Told
from byrote.sources import files, parquet, recognised, texts
from byrote.sources.files import MAX_FILE, shown
from byrote.sources.folder import inside
from byrote.sources.shards import Members
from byrote.sources.tables import place
from byrote.sources.tree import MAX_SIDECAR, METADATA, SUFFIXES, Files, suffix

PROMPTS = ("prompt", "caption", "text")
SEEDS = ("seed",)
NAMES = tuple(
    re.compile(pattern, re.DOTALL)
    for pattern in (
        r"\d{4,6}-(?P<seed>\d{1,20})(?:-(?P<prompt>.+))?",
        r"(?:seed[-_ ]?)?(?P<seed>\d{1,20})[-_ ](?P<prompt>.*\D.*)",
        r"(?P<prompt>.*\D)[-_ ](?:\d{2,})_?",
    )
)
"""The usual names, without what they end in; the first that fits counts."""
_GRID = re.compile(r"grid-\d+.*")
_SLOT = re.compile(r"\{(prompt|seed|number|any)\}")
_SLOTS = {"prompt": "(?P<prompt>.+?)", "seed": r"(?P<seed>\d{1,20})", "number": r"\d+", "any": ".*?"}


class Recording(Protocol):
    """Samples in a fixed order, the bytes of each, and the digests of all that counts.

    `passed` counts what was passed over on the way, by its reason.
    """

    passed: Counter[str]

    def list(self) -> Iterator[tuple[str, Told]]:
        """Yield the place of each sample with what stands beside it. Raises ModelError."""
        ...

    def read(self, where: str) -> bytes:
        """Return the bytes of a sample. Raises OSError."""
        ...

    def look(self, where: str) -> BinaryIO:
        """Open a sample, to look at its beginning. Raises OSError."""
        ...

    def digests(self) -> Iterator[tuple[str, str]]:
        """Yield name and digest of every file that counts, in order. Raises OSError."""
        ...


def opened(where: str) -> Recording:
    """Open a folder, a tar file, a parquet file or a folder of those. Raises ModelError."""
    with telling(where):
        kind = recognised.kind(where)
        if kind == "parquet":
            return Tabled(where)
        if kind == "tar" and not files.is_folder(files.canonical(where)):
            return Filed(Members(where))
        if kind == "folder":
            return Filed(inside(files.canonical(where)))
    raise ModelError(f"recorded:{where}: a source of kind {kind!r}: name a folder, a tar file or parquet files")


@contextmanager
def telling(where: str) -> Iterator[None]:
    """Turn what sources raise into a ModelError of one line."""
    try:
        yield
    except (CorpusError, OSError) as error:
        raise ModelError(f"recorded:{where}: {error}") from error


class Filed:
    """Files with what stands beside them."""

    def __init__(self, tree: Files) -> None:
        self._files = tree
        self.passed: Counter[str] = Counter()
        found = tree.walk(self._note)
        self._names = sorted(name for name in found if not any(part.startswith(".") for part in name.split("/")))
        self._known = frozenset(self._names)

    def list(self) -> Iterator[tuple[str, Told]]:
        """Yield the pictures, by their names; one that metadata names and that is not there is an error."""
        with telling(self._files.place):
            rows = self._rows()
            for name in sorted(rows.keys() - self._known):
                raise OSError(
                    f"{shown(name)!r} stands in a metadata file and is not there: add it, or take the row out"
                )
            for name in self._names:
                if suffix(name) in SUFFIXES:
                    yield shown(name), self._sidecar(name).then(rows.get(name, NOTHING))

    def read(self, where: str) -> bytes:
        """Return the bytes of a file. Raises OSError."""
        return self._files.read(self._files.named(where), MAX_FILE)

    def look(self, where: str) -> BinaryIO:
        """Open a file. Raises OSError."""
        return self._files.open(self._files.named(where))

    def digests(self) -> Iterator[tuple[str, str]]:
        """Yield the digest of every picture, sidecar and metadata file."""
        for name in self._names:
            if suffix(name) in {*SUFFIXES, ".txt", ".json"} or posixpath.basename(name) in METADATA:
                yield shown(name), sha256(self._files.read(name, MAX_FILE)).hexdigest()

    def _note(self, where: str, reason: str) -> None:
        if not where:  # all of it is broken: a part of the samples might favour a side
            raise OSError(reason)
        self.passed[reason] += 1

    def _rows(self) -> dict[str, Told]:
        found: dict[str, Told] = {}
        for file in self._names:
            if posixpath.basename(file) in METADATA:
                with self._files.open(file) as stream:
                    for row in texts.rows(stream, shown(file), tabular=suffix(file) == ".csv"):
                        name = posixpath.normpath(posixpath.join(posixpath.dirname(file), row.file_name))
                        found.setdefault(name, webui.of_fields(row.fields))
        return found

    def _sidecar(self, name: str) -> Told:
        """Read the sidecars of a file; an infotext of a web UI may be one."""
        found, stem = NOTHING, name.removesuffix(name[len(name) - len(suffix(name)) :])
        for beside, of in ((f"{stem}.json", _of_json), (f"{name}.json", _of_json), (f"{stem}.txt", _of_text)):
            if beside in self._known:
                found = found.then(of(self._beside(beside)))
        return found

    def _beside(self, name: str) -> bytes:
        try:
            return self._files.read(name, MAX_SIDECAR)
        except OSError as error:
            raise OSError(f"{shown(name)!r} cannot be read: {error}") from error


class Tabled:
    """The rows of parquet files: a column of pictures, one of prompts (`PROMPTS`) and one of seeds (`SEEDS`)."""

    def __init__(self, where: str) -> None:
        self._where = where
        self.passed: Counter[str] = Counter()
        self._root, names = files.chosen(files.canonical(where), ".parquet")
        self._names = sorted(names)
        self._latest: tuple[str, parquet.ParquetRows] | None = None

    def list(self) -> Iterator[tuple[str, Told]]:
        """Yield the rows, file by file."""
        with telling(self._where):
            for name in self._names:
                at = files.under(self._root, name)
                columns = parquet.plain_columns(at, (*PROMPTS, *SEEDS))
                known = {name.lower(): name for name in columns}
                rows = parquet.fields(at, columns) if columns else ({} for _ in range(parquet.ParquetRows(at).count))
                for number, row in enumerate(rows):
                    prompts = [row[known[key]] for key in PROMPTS if key in known]
                    prompt = next((texts.plain(said) for said in prompts if isinstance(said, str)), None)
                    seed = webui.seed_of(row.get(known.get("seed", "")))
                    yield place(shown(name), number), Told(prompt or None, seed)

    def read(self, where: str) -> bytes:
        """Return the picture of a row. Raises OSError where it is a path: its bytes must be in the file."""
        name, _, row = where.rpartition("#")
        if self._latest is None or self._latest[0] != name:
            self._latest = name, parquet.ParquetRows(files.under(self._root, name))
        value = self._latest[1].value(int(row))
        data = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(data, bytes) or not data:
            raise OSError("no bytes of a picture in this row: paths are not followed")
        return data

    def look(self, where: str) -> BinaryIO:
        """Open the picture of a row. Raises OSError."""
        return BytesIO(self.read(where))

    def digests(self) -> Iterator[tuple[str, str]]:
        """Yield the digest of every file."""
        for name in self._names:
            with files.opened(files.under(self._root, name)) as stream:
                state = sha256()
                while chunk := stream.read(2**20):
                    state.update(chunk)
            yield shown(name), state.hexdigest()


def pattern(text: str) -> re.Pattern[str]:
    """Read a pattern of names: `{prompt}_{seed}` with the slots prompt, seed, number and any, or a regular expression.

    It is held against the whole path of a sample, without what it ends in; one without a slash against its last name
    alone. Raises ModelError.
    """
    regular = "(?P<" in text
    parts = [re.escape(part) if k % 2 == 0 else _SLOTS[part] for k, part in enumerate(_SLOT.split(text))]
    try:
        found = re.compile(text if regular else "".join(parts), re.DOTALL)
    except (re.error, OverflowError, RecursionError) as error:
        raise ModelError(f"name {text!r} is no pattern ({error}): write one like {{prompt}}_{{seed}}") from error
    if not {"prompt", "seed"} & found.groupindex.keys():
        raise ModelError(f"name {text!r} holds neither {{prompt}} nor {{seed}}: write one like {{prompt}}_{{seed}}")
    return found


def by_name(where: str, patterns: tuple[re.Pattern[str], ...]) -> Told:
    """Read what a name tells; in a prompt without any space underscores are spaces."""
    whole = where.removesuffix(suffix(where)) if suffix(where) in SUFFIXES else where[: len(where) - len(suffix(where))]
    last = posixpath.basename(whole)
    for each in patterns:
        found = each.fullmatch(whole if "/" in each.pattern else last)
        if found:
            told = found.groupdict()
            prompt = texts.plain(told.get("prompt") or "")
            return Told(
                (prompt if " " in prompt else prompt.replace("_", " ")) or None, webui.seed_of(told.get("seed"))
            )
    return NOTHING


def is_grid(where: str) -> bool:
    """Tell the contact sheets that AUTOMATIC1111 puts beside samples, with the prompt and the seed of the first."""
    return bool(_GRID.fullmatch(posixpath.basename(where)))


def _of_json(data: bytes) -> Told:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return NOTHING
    return webui.of_fields(value) if isinstance(value, dict) else NOTHING


def _of_text(data: bytes) -> Told:
    return webui.of_parameters(data.decode("utf-8-sig", "replace"))
