"""Hold an audit against what was signed of it."""

from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from byrote.audit import Audit
from byrote.review import verdicts
from byrote.seals import envelope
from byrote.seals.notes import Notes
from byrote.seals.statement import (
    ALWAYS,
    ATTESTATION,
    PREDICATE,
    STATEMENT,
    VERDICTS,
    digest_of,
    predicate,
    read_report,
    subjects,
)


def attestation(audit: Audit, key: Ed25519PublicKey | None, notes: Notes) -> None:
    """Check the signature, every digest that was signed, and what the statement says of the audit."""
    path = audit.root / "report" / ATTESTATION
    if not path.exists():
        said = f"{path.name}: there is none; `byrote attest {audit.root} --key KEY` writes it"
        (notes.open if key is None else notes.wrong)(said)
        return
    try:
        statement, wrong = envelope.opened(envelope.read(path), key)
        wanted = _wanted(statement)
    except ValueError as error:
        notes.wrong(f"{path.name}: {error}")
        return
    if key is None:
        notes.open(f"{path.name}: its signature, for no --key was given")
    else:
        notes.check(f"{path.name}: signature", None, wrong)
    for name, digest in wanted.items():
        notes.attempt(name, _subject, audit, name, digest, notes)
    notes.attempt(path.name, _silent, audit, set(wanted), notes)
    notes.attempt(path.name, _said, audit, statement, notes)


def _wanted(statement: dict[str, Any]) -> dict[str, str]:
    """Return the digests that were signed, by name. Raises ValueError where it is no statement of an audit."""
    kinds = statement.get("_type"), statement.get("predicateType")
    if kinds != (STATEMENT, PREDICATE):
        raise ValueError(f"no statement of an audit, but {str(kinds)[:80]}")
    try:
        wanted = {each["name"]: each["digest"]["sha256"] for each in statement["subject"]}
    except (KeyError, TypeError) as error:
        raise ValueError(f"no statement of an audit: {type(error).__name__}: {error}") from error
    if not all(isinstance(each, str) for pair in wanted.items() for each in pair):
        raise ValueError("no statement of an audit: names and digests of its subjects are no texts")
    return wanted


def _subject(audit: Audit, name: str, digest: str, notes: Notes) -> None:
    try:
        there = digest_of(audit, name)
    except ValueError as error:
        notes.wrong(f"{ATTESTATION}: {error}")
        return
    path = audit.root / verdicts.FILE
    if name == VERDICTS and path.exists() and verdicts.holds(path, digest):
        there = digest  # events were added since
    notes.check(f"{name.partition('#')[0]}: as it was signed", digest, there)


def _silent(audit: Audit, wanted: set[str], notes: Notes) -> None:
    """Name what the statement leaves out: a file that it must be about, or one that came later."""
    told = {name.partition("#")[0] for name in wanted}
    for name in {name.partition("#")[0] for name in subjects(audit)} - told:
        if name in ALWAYS:
            notes.wrong(f"{ATTESTATION}: it says nothing of {name}")
        else:
            notes.open(f"{name}: it came after the attestation")


def _said(audit: Audit, statement: dict[str, Any], notes: Notes) -> None:
    told, fresh = statement.get("predicate"), predicate(audit, read_report(audit.root))
    if isinstance(told, dict):
        fresh["byrote"] = told.get("byrote")
    notes.compare(f"{ATTESTATION}: predicate", fresh, told)
