"""Verdicts as append-only events: SQLite in WAL mode, synchronous=FULL, each event with the hash of the one before."""

import csv
import hashlib
import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from datetime import UTC, datetime
from pathlib import Path

from byrote.errors import ByroteError, StoreError, did_you_mean
from byrote.review import VERDICTS
from byrote.review.sheets import COLUMNS

FILE = "verdicts.sqlite"
FIRST = "0" * 64
LONGEST_NOTE = 2000
_TABLE = """CREATE TABLE IF NOT EXISTS events (
    number INTEGER PRIMARY KEY, at TEXT NOT NULL, reviewer TEXT NOT NULL, picture TEXT NOT NULL, sample TEXT NOT NULL,
    verdict TEXT, note TEXT NOT NULL, key TEXT NOT NULL UNIQUE, previous TEXT NOT NULL, hash TEXT NOT NULL)"""


@dataclass(frozen=True, slots=True)
class Said:
    """What a reviewer said of a pair (digests of picture and sample); a verdict of None takes the last one back.

    `key` is said once: an event with a key that is there already is not added again.
    """

    reviewer: str
    picture: str
    sample: str
    verdict: str | None
    note: str
    key: str


def add(path: Path, said: Sequence[Said]) -> int:
    """Append events, all of them or none, and return how many were new. Raises StoreError."""
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    with _open(path) as store:
        store.execute("BEGIN IMMEDIATE")
        known = {key for (key,) in store.execute("SELECT key FROM events")}
        new = [each for each in said if each.key not in known]
        number, previous = store.execute("SELECT COALESCE(MAX(number), 0) FROM events").fetchone()[0], _head(store)
        for each in new:
            number += 1
            digest = _hash(number, at, each, previous)
            store.execute(
                "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (number, at, *astuple(each), previous, digest),
            )
            previous = digest
        store.execute("COMMIT")
    return len(new)


def latest(path: Path) -> dict[tuple[str, str, str], str]:
    """Return the last verdict of each reviewer on each (picture, sample): (reviewer, picture, sample) to verdict."""
    if not path.exists():
        return {}
    found: dict[tuple[str, str, str], str | None] = {}
    with _open(path) as store:
        for reviewer, picture, sample, verdict in store.execute(
            "SELECT reviewer, picture, sample, verdict FROM events ORDER BY number"
        ):
            found[reviewer, picture, sample] = verdict
    return {place: verdict for place, verdict in found.items() if verdict is not None}


def head(path: Path) -> str:
    """Return the hash of the last event, which stands for all of them."""
    with _open(path) as store:
        return _head(store)


def holds(path: Path, digest: str) -> bool:
    """Tell whether some event has this hash: whether events were only added since it was the last."""
    with _open(path) as store:
        found = store.execute("SELECT 1 FROM events WHERE hash = ?", (digest,)).fetchone()
    return found is not None or digest == FIRST


def check(path: Path) -> list[str]:
    """Name every event that is not what was written, or that is missing."""
    problems, previous, expected = [], FIRST, 1
    try:
        with _open(path) as store:
            rows = store.execute("SELECT * FROM events ORDER BY number").fetchall()
    except StoreError as error:
        return [str(error)]
    for number, at, reviewer, picture, sample, verdict, note, key, before, digest in rows:
        said = Said(reviewer, picture, sample, verdict, note, key)
        if number != expected or before != previous:
            problems.append(f"{path.name}: event {number} does not follow event {expected - 1}: some are missing")
        elif digest != _hash(number, at, said, before):
            problems.append(f"{path.name}: event {number} ({reviewer}) was changed after it was written")
        previous, expected = digest, number + 1
    return problems


def read_table(path: Path, reviewer: str, pairs: dict[str, tuple[str, str]]) -> list[Said]:
    """Read a filled verdicts.csv. Lines without a verdict are left out. Raises ByroteError for the first bad one."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ByroteError(f"{path}: cannot be read: {error}") from error
    rows = csv.DictReader(lines)
    if rows.fieldnames is None or not {"id", "verdict"} <= set(rows.fieldnames):
        raise ByroteError(f"{path}: its columns are {rows.fieldnames}; keep {','.join(COLUMNS)} in the first line")
    return [_said(path, rows.line_num, row, reviewer, pairs) for row in rows if (row["verdict"] or "").strip()]


def _said(path: Path, line: int, row: dict[str, str | None], reviewer: str, pairs: dict[str, tuple[str, str]]) -> Said:
    name, verdict = (row["id"] or "").strip(), (row["verdict"] or "").strip().lower()
    if name not in pairs:
        raise ByroteError(f"{path}: line {line}: no pair {name!r} was drawn; nothing of this file was taken")
    if verdict not in VERDICTS:
        told = f"unknown verdict {verdict!r}{did_you_mean(verdict, VERDICTS)}"
        raise ByroteError(f"{path}: line {line}: {told}: one of {', '.join(VERDICTS)}; nothing of this file was taken")
    note = (row.get("note") or "").strip()[:LONGEST_NOTE]
    about = json.dumps([reviewer, name, verdict, note, *pairs[name]])
    return Said(reviewer, *pairs[name], verdict, note, hashlib.sha256(about.encode()).hexdigest())


def _hash(number: int, at: str, said: Said, previous: str) -> str:
    return hashlib.sha256(json.dumps([number, at, *astuple(said), previous]).encode()).hexdigest()


def _head(store: sqlite3.Connection) -> str:
    row = store.execute("SELECT hash FROM events ORDER BY number DESC LIMIT 1").fetchone()
    return FIRST if row is None else str(row[0])


@contextmanager
def _open(path: Path) -> Iterator[sqlite3.Connection]:
    try:
        store = sqlite3.connect(path, isolation_level=None, timeout=30)
        try:
            store.execute("PRAGMA journal_mode=WAL")
            store.execute("PRAGMA synchronous=FULL")
            store.execute(_TABLE)
            yield store
        finally:
            store.close()
    except sqlite3.Error as error:
        raise StoreError(f"{path}: verdicts cannot be read or written: {error}") from error
