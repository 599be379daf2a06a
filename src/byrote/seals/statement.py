"""An in-toto statement of an audit: which files, of which model and corpus, say what."""

import hashlib
import json
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from byrote.audit import Audit
from byrote.errors import Incomplete, StoreError
from byrote.review import verdicts
from byrote.seals.envelope import sign
from byrote.seals.notes import NOTHING
from byrote.stages import generate
from byrote.store import replace_file

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://byrote.dev/audit/v1"
"""A name for what the predicate holds; nothing need be found there."""
ATTESTATION = "attestation.json"
REPORT = "report/report.json"
LEDGER = "ledger.jsonl"
CORPUS_LEDGER = f"corpus/{LEDGER}"
"""Ledgers only grow, so a statement is about their first bytes: `ledger.jsonl#BYTES`."""
VERDICTS = f"{verdicts.FILE}#head"
KEY = "review/key.json"
ALWAYS = ("audit.toml", REPORT, "report/report.html", LEDGER, CORPUS_LEDGER)
"""What a statement must be about."""
WHERE_THERE = ("report/redacted.json", "report/redacted.html", KEY)
Json = dict[str, Any]


def attest(root: Path, key: Ed25519PrivateKey) -> Path:
    """Sign the audit as it lies there and return the envelope's place.

    Raises Incomplete before there is a report, or where it is of another plan, corpus or model.
    """
    generate.open_model.cache_clear()  # its files may have changed since this process opened it
    audit = Audit(root)
    audit.plan, audit.corpus  # noqa: B018 - their errors come first
    if not (root / REPORT).exists():
        raise Incomplete(f"{root}: no report yet; `byrote run {root}` goes on to it")
    path = root / "report" / ATTESTATION
    with audit.store.locked():
        envelope = sign(statement(audit), key)
        try:
            replace_file(path, (json.dumps(envelope, indent=1) + "\n").encode())
        except OSError as error:
            raise StoreError(f"{path}: cannot be written: {error.strerror or error}") from error
    return path


def statement(audit: Audit) -> Json:
    """Return the statement of an audit whose report is written. Raises Incomplete; StoreError where it is damaged."""
    try:
        told = predicate(audit, read_report(audit.root))
        digests = subjects(audit)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{audit.root}: the report or the ledger is damaged; `byrote verify` says where") from error
    except OSError as error:
        raise StoreError(f"{error.filename}: cannot be read: {error.strerror}") from error
    if told["seal"] is None or audit.seal is None or told["seal"]["digest"] != audit.seal.digest:
        raise Incomplete(f"{audit.root}: the report is of another plan, corpus or model; `byrote run` writes it anew")
    return {
        "_type": STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": digest}} for name, digest in digests.items()],
        "predicateType": PREDICATE,
        "predicate": told,
    }


def predicate(audit: Audit, report: Json) -> Json:
    """Return what the statement says of its files, from the audit and its report."""
    return {
        "byrote": version("byrote"),
        "model": {"name": audit.model.name, "digest": _bare(audit.model.digest)},
        "corpus": {"digest": _bare(audit.corpus.digest)},
        "seal": report["sealed"],
        "audits": report["audits"],
        "calibrated": report["calibrated"],
        "tests": report["tests"],
        "certified": sum(finding["certified"] for finding in report["findings"]),
        "controls": report["controls"],
        "rule": report["plan"]["certify"],
        "tables": {recipe.table: recipe.digest for recipe in audit.recipes.every()},
    }


def read_report(root: Path, name: str = REPORT) -> Json:
    """Read report.json, or its redacted twin. Raises Incomplete where there is none, StoreError where it is damaged."""
    path = root / name
    try:
        read = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise Incomplete(f"{path}: no report; `byrote run {root}` writes it") from error
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{path}: damaged: {error}") from error
    if not isinstance(read, dict):
        raise StoreError(f"{path}: damaged: no JSON object")
    return read


def subjects(audit: Audit) -> dict[str, str]:
    """Return the SHA-256 of every file that the statement is about, and the head of the verdicts. Raises OSError."""
    root = audit.root
    names = [name for name in ALWAYS if name not in (LEDGER, CORPUS_LEDGER)]
    names += sorted(path.name for path in root.glob("plan-*.json"))
    names += [name for name in WHERE_THERE if (root / name).exists()]
    names += [f"{name}#{_ledger(audit, name).stat().st_size}" for name in (LEDGER, CORPUS_LEDGER)]
    names += [VERDICTS] if (root / verdicts.FILE).exists() else []
    return {name: digest_of(audit, name) for name in names}


def digest_of(audit: Audit, name: str) -> str:
    """Return the digest that a subject has now, or "nothing" where it is gone.

    Raises ValueError for a name that no subject of ours has: an envelope may come from anybody.
    """
    file, _, part = name.partition("#")
    if name == VERDICTS:
        path = audit.root / verdicts.FILE
        return verdicts.head(path) if path.exists() else NOTHING
    if file in (LEDGER, CORPUS_LEDGER) and re.fullmatch("[0-9]{1,15}", part):
        return _digest(_ledger(audit, file), int(part))
    if name in (*ALWAYS, *WHERE_THERE) or re.fullmatch(r"plan-[0-9a-f]{12}\.json", name):
        return _digest(audit.root / name)
    raise ValueError(f"a statement about {name[:80]!r}, which is no file of an audit")


def _ledger(audit: Audit, name: str) -> Path:
    return (audit.corpus.root if name == CORPUS_LEDGER else audit.root) / LEDGER


def _digest(path: Path, size: int = -1) -> str:
    if not path.exists():
        return NOTHING
    with path.open("rb") as file:
        return hashlib.sha256(file.read(size)).hexdigest()


def _bare(digest: str) -> Json:
    kind, _, value = digest.partition(":")
    return {kind: value}
