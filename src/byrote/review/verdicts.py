"""Verdicts as append-only events: SQLite in WAL mode, synchronous=FULL, each event with the hash of the one before."""

import csv
import hashlib
import io
import json
import os
import sqlite3
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, sleep
from uuid import uuid4

from byrote.errors import ByroteError, StoreError, did_you_mean
from byrote.review import VERDICTS
from byrote.review.sheets import COLUMNS

Place = tuple[str, str, str]
Words = tuple[str | None, str, int | None]
"""Verdict, note and level."""
FILE = "verdicts.sqlite"
FIRST = "0" * 64
PATIENCE = 30.0
"""Seconds to wait for other writers."""
LONGEST_NAME, LONGEST_NOTE = 100, 2000
"""In characters; the rest of a longer note is not kept."""
TOLD = "told"
"""Stands in the place of a verdict, on no pair: from then on what the reviewer had judged stays as it was."""
LEVELS = range(6)
"""How much of the picture is repeated, 0 to 5: six levels, as of D-Rep (Wang et al., NeurIPS 2024)."""
_COLUMNS = "number, at, reviewer, picture, sample, verdict, note, key, level, previous, hash"
_TABLE = """CREATE TABLE IF NOT EXISTS events (
    number INTEGER PRIMARY KEY, at TEXT NOT NULL, reviewer TEXT NOT NULL, picture TEXT NOT NULL, sample TEXT NOT NULL,
    verdict TEXT, note TEXT NOT NULL, key TEXT NOT NULL UNIQUE, previous TEXT NOT NULL, hash TEXT NOT NULL,
    level INTEGER)"""
_INDEX = "CREATE INDEX IF NOT EXISTS places ON events (reviewer, picture, sample, number)"


@dataclass(frozen=True, slots=True)
class Said:
    """What a reviewer said of a pair (digests of picture and sample); a verdict of None takes the last one back.

    `key` names the event: one that is there already is not added again, so that a sender may try again. `level` is of
    `LEVELS`, or None where none was given.
    """

    reviewer: str
    picture: str
    sample: str
    verdict: str | None
    note: str
    key: str
    level: int | None = None


@dataclass(frozen=True, slots=True)
class Listed(Said):
    """What a table says, which has no levels and may have no note: without one it keeps those of the last event."""

    def after(self, known: Words) -> "Listed":
        """Return it with what the reviewer's last event on the pair adds to it."""
        return replace(self, note=self.note or known[1], level=known[2])


@dataclass(frozen=True, slots=True)
class Event:
    """An event as it is exported; `last` tells whether it is the reviewer's last word on the pair that counts."""

    number: int
    at: str
    reviewer: str
    picture: str
    sample: str
    verdict: str | None
    level: int | None
    note: str
    last: bool


def add(path: Path, said: Sequence[Said]) -> int:
    """Append events, all of them or none, and return how many were new. Raises StoreError.

    What only repeats the last event of the same reviewer on the same pair, verdict and note, is not new.
    """
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    with _open(path) as store:
        store.execute("BEGIN IMMEDIATE")
        new = _news(store, said)
        number, previous = store.execute("SELECT COALESCE(MAX(number), 0) FROM events").fetchone()[0], _head(store)
        for each in new:
            number += 1
            digest = _hash(number, at, each, previous)
            store.execute(
                f"INSERT INTO events ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (number, at, *astuple(each), previous, digest),
            )
            previous = digest
        store.execute("COMMIT")
    return len(new)


def held(path: Path) -> sqlite3.Connection:
    """Return a connection to keep open: SQLite folds its log into the database whenever the last one is closed.

    That costs several times what a verdict does. Raises StoreError.
    """
    try:
        store = sqlite3.connect(path, isolation_level=None, timeout=PATIENCE, check_same_thread=False)
        store.execute("SELECT number FROM events LIMIT 1").fetchall()  # before a first read it does not count as open
        return store
    except sqlite3.Error as error:
        raise StoreError(f"{path}: verdicts cannot be read or written: {error}") from error


def latest(path: Path) -> dict[Place, str]:
    """Return the last blind verdict of each reviewer on each (picture, sample): (reviewer, picture, sample) to verdict.

    What somebody says of a pair that they had judged when they were told of it does not count.
    """
    if not path.exists():
        return {}
    with _open(path) as store:
        rows = store.execute("SELECT number, reviewer, picture, sample, verdict FROM events ORDER BY number")
        found = _blind(rows)
    return {place: verdict for place, (_, verdict) in found.items() if verdict is not None}


def since(path: Path, number: int) -> tuple[int, list[Said]]:
    """Return the events after event `number` (0: all of them) in order, and the number of the last one."""
    if not path.exists():
        return number, []
    with _open(path) as store:
        columns = "reviewer, picture, sample, verdict, note, key, level, number"
        rows = store.execute(f"SELECT {columns} FROM events WHERE number > ? ORDER BY number", (number,)).fetchall()
    return (rows[-1][-1] if rows else number), [Said(*row[:-1]) for row in rows]


def events(path: Path) -> list[Event]:
    """Return every event in order. Raises StoreError."""
    if not path.exists():
        return []
    with _open(path) as store:
        columns = "number, at, reviewer, picture, sample, verdict, level, note"
        rows = store.execute(f"SELECT {columns} FROM events ORDER BY number").fetchall()
    last = {number for number, _ in _blind((row[0], *row[2:6]) for row in rows).values()}
    return [Event(*(*row, row[0] in last)) for row in rows]


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
            rows = store.execute(f"SELECT {_COLUMNS} FROM events ORDER BY number").fetchall()
    except StoreError as error:
        return [str(error)]
    for number, at, reviewer, picture, sample, verdict, note, key, level, before, digest in rows:
        said = Said(reviewer, picture, sample, verdict, note, key, level)
        if number != expected or before != previous:
            problems.append(f"{path.name}: event {number} does not follow event {expected - 1}: some are missing")
        elif digest != _hash(number, at, said, before):
            problems.append(f"{path.name}: event {number} ({reviewer}) was changed after it was written")
        previous, expected = digest, number + 1
    return problems


def name_of(reviewer: str) -> str:
    """Return a reviewer's name without outer spaces, in one Unicode form. Raises ByroteError for what is no name."""
    name = unicodedata.normalize("NFC", reviewer).strip()
    if not name.isprintable() or not 0 < len(name) <= LONGEST_NAME:
        raise ByroteError(f"{reviewer[:80]!r} is no name of a reviewer: 1 to {LONGEST_NAME} printable characters")
    return name


def read_table(path: Path, reviewer: str, pairs: dict[str, tuple[str, str]]) -> list[Said]:
    """Read a filled verdicts.csv. Lines without a verdict are left out. Raises ByroteError for the first bad one."""
    name = name_of(reviewer)
    try:
        rows = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline=""))
    except (OSError, UnicodeDecodeError) as error:
        raise ByroteError(f"{path}: cannot be read as UTF-8: {error}; nothing of it was taken") from error
    try:
        return _every(path, rows, name, pairs)
    except csv.Error as error:
        told = f"no CSV: {error}; nothing of this file was taken"
        raise ByroteError(f"{path}: line {rows.line_num + 1}: {told}") from error


def _every(path: Path, rows: "csv.DictReader[str]", reviewer: str, pairs: dict[str, tuple[str, str]]) -> list[Said]:
    if rows.fieldnames is None or not {"id", "verdict"} <= set(rows.fieldnames):
        columns = f"{rows.fieldnames}"[:200]
        raise ByroteError(f"{path}: its columns are {columns}; keep {','.join(COLUMNS)} in the first line")
    lines: dict[str, int] = {}
    said = []
    for row in rows:
        if not (row["verdict"] or "").strip():
            continue
        pair = (row["id"] or "").strip()
        said.append(_said(path, rows.line_num, row, reviewer, pairs))
        if pair in lines:
            told = f"pair {pair!r} was judged in line {lines[pair]} already; nothing of this file was taken"
            raise ByroteError(f"{path}: line {rows.line_num}: {told}")
        lines[pair] = rows.line_num
    return said


def _said(path: Path, line: int, row: dict[str, str | None], reviewer: str, pairs: dict[str, tuple[str, str]]) -> Said:
    name, verdict = (row["id"] or "").strip(), (row["verdict"] or "").strip().lower()
    if name not in pairs:
        raise ByroteError(f"{path}: line {line}: no pair {name[:80]!r} was drawn; nothing of this file was taken")
    if verdict not in VERDICTS:
        told = f"unknown verdict {verdict[:80]!r}{did_you_mean(verdict[:80], VERDICTS)}"
        raise ByroteError(f"{path}: line {line}: {told}: one of {', '.join(VERDICTS)}; nothing of this file was taken")
    note = (row.get("note") or "").strip()[:LONGEST_NOTE]
    return Listed(reviewer, *pairs[name], verdict, note, uuid4().hex)


def _hash(number: int, at: str, said: Said, previous: str) -> str:
    """Digest an event; a value that is no text, as only tampering leaves one, digests as its repr.

    Without a level it is the digest of before there were levels.
    """
    told = astuple(said) if said.level is not None else astuple(said)[:-1]
    return hashlib.sha256(json.dumps([number, at, *told, previous], default=repr).encode()).hexdigest()


def _news(store: sqlite3.Connection, said: Sequence[Said]) -> list[Said]:
    new: list[Said] = []
    keys: set[str] = set()
    last: dict[Place, Words] = {}
    for said_now in said:
        place = said_now.reviewer, said_now.picture, said_now.sample
        known = last[place] if place in last else _last_of(store, place)
        each = said_now.after(known) if isinstance(said_now, Listed) else said_now
        now = each.verdict, each.note, each.level
        if each.key in keys or _is_known(store, each.key) or known == now:
            continue
        new.append(each)
        keys.add(each.key)
        last[place] = now
    return new


def _is_known(store: sqlite3.Connection, key: str) -> bool:
    return store.execute("SELECT 1 FROM events WHERE key = ?", (key,)).fetchone() is not None


def _last_of(store: sqlite3.Connection, place: Place) -> Words:
    where = "reviewer = ? AND picture = ? AND sample = ?"
    row = store.execute(f"SELECT verdict, note, level FROM events WHERE {where} ORDER BY number DESC LIMIT 1", place)
    found: Words | None = row.fetchone()
    return found or (None, "", None)


def _blind(rows: Iterable[tuple[int, str, str, str, str | None]]) -> dict[Place, tuple[int, str | None]]:
    """Return number and verdict of each reviewer's last word on each pair that counts."""
    last: dict[Place, tuple[int, str | None]] = {}
    settled: set[Place] = set()
    for number, reviewer, picture, sample, verdict in rows:
        place = reviewer, picture, sample
        if verdict == TOLD:
            settled |= {each for each, (_, said) in last.items() if each[0] == reviewer and said is not None}
        elif place not in settled:
            last[place] = number, verdict
    return last


def _head(store: sqlite3.Connection) -> str:
    row = store.execute("SELECT hash FROM events ORDER BY number DESC LIMIT 1").fetchone()
    return FIRST if row is None else str(row[0])


def _with_levels(store: sqlite3.Connection) -> None:
    """Add the column to a database that was made before there was one."""
    if not any(row[1] == "level" for row in store.execute("PRAGMA table_info(events)")):
        try:
            store.execute("ALTER TABLE events ADD COLUMN level INTEGER")
        except sqlite3.OperationalError as error:  # another process was first
            if "duplicate column" not in str(error):
                raise


def _into_wal(store: sqlite3.Connection) -> None:
    """Switch to WAL, again and again while others do: SQLite gives up at once here, whatever its timeout."""
    until = monotonic() + PATIENCE
    while True:
        try:
            store.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or monotonic() > until:
                raise
            sleep(0.01)


@contextmanager
def _open(path: Path) -> Iterator[sqlite3.Connection]:
    still = path.exists() and not os.access(path.parent, os.W_OK)  # a copy on a disc that cannot be written
    place = f"{path.absolute().as_uri()}?immutable=1" if still and not _log(path).exists() else str(path)
    try:
        store = sqlite3.connect(place, isolation_level=None, timeout=PATIENCE, uri=place != str(path))
        try:
            if place == str(path):
                _into_wal(store)
                store.execute("PRAGMA synchronous=FULL")
                store.execute(_TABLE)
                _with_levels(store)
                store.execute(_INDEX)
            yield store
        finally:
            store.close()
    except sqlite3.Error as error:
        raise StoreError(f"{path}: verdicts cannot be read or written: {error}") from error


def _log(path: Path) -> Path:
    """Return where SQLite keeps what it has not moved into the database yet."""
    return path.with_name(f"{path.name}-wal")
