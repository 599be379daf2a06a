"""Who may judge: a token for each reviewer, kept so that an address holds after the server starts again."""

import json
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path

from byrote.errors import StoreError

FILE = "tokens.json"
PROGRESS = ""
"""The name in whose stead the page of progress has a token: no reviewer is called so."""
EXPLORES = "\nexplores"
"""What follows a reviewer's name where their token to explore is kept: names hold no line feed."""


def tokens(folder: Path, names: Sequence[str]) -> dict[str, str]:
    """Return a token for each name, those of earlier runs again; the file can be read by its owner alone.

    Raises StoreError. Delete the file to make all addresses void.
    """
    path = folder / FILE
    known = _read(path)
    found = {name: known.get(name) or secrets.token_urlsafe(24) for name in names}
    if found.items() <= known.items():
        return found
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write(path, known | found)
    except OSError as error:
        raise StoreError(f"{path}: cannot be written: {error.strerror or error}") from error
    return found


def whose(token: str, known: Mapping[str, str]) -> str | None:
    """Return whose token it is, in a time that tells nothing of the others, or None."""
    given = token.encode("utf-8", "surrogateescape")
    hits = [name for name, own in known.items() if secrets.compare_digest(given, own.encode())]
    return hits[0] if hits else None


def _read(path: Path) -> dict[str, str]:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: no tokens; delete it, and new ones are made: {error}") from error
    if not isinstance(told, dict) or not all(isinstance(token, str) and len(token) >= 32 for token in told.values()):
        raise StoreError(f"{path}: no tokens; delete it, and new ones are made")
    return told


def _write(path: Path, told: Mapping[str, str]) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(json.dumps(told, indent=1) + "\n")
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
