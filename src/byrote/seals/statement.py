"""An in-toto statement of an audit: which files, of which model and corpus, say what."""

import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from byrote.audit import Audit
from byrote.errors import Incomplete
from byrote.review import verdicts
from byrote.seals.envelope import sign
from byrote.store import replace_file

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://byrote.dev/audit/v1"
"""A name for what the predicate holds; nothing need be found there."""
ATTESTATION = "attestation.json"
LEDGER = "ledger.jsonl"
"""The ledger only grows, so a statement is about its first bytes: `ledger.jsonl#BYTES`."""
VERDICTS = "verdicts.sqlite#head"
Json = dict[str, Any]


def attest(root: Path, key: Ed25519PrivateKey) -> Path:
    """Sign the audit as it lies there and return the envelope's place. Raises Incomplete before there is a report."""
    audit = Audit(root)
    audit.plan, audit.corpus  # noqa: B018 - their errors come first
    if not (root / "report" / "report.json").exists():
        raise Incomplete(f"{root}: no report yet; `byrote run {root}` goes on to it")
    path = root / "report" / ATTESTATION
    with audit.store.locked():
        envelope = sign(statement(audit), key)
        replace_file(path, (json.dumps(envelope, indent=1) + "\n").encode())
    return path


def statement(audit: Audit) -> Json:
    """Return the statement of an audit whose report is written."""
    report = json.loads((audit.root / "report" / "report.json").read_text(encoding="utf-8"))
    return {
        "_type": STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": digest}} for name, digest in subjects(audit.root).items()],
        "predicateType": PREDICATE,
        "predicate": {
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
        },
    }


def subjects(root: Path) -> dict[str, str]:
    """Return the SHA-256 of every file that the statement is about, and the head of the verdicts."""
    names = ["audit.toml", "report/report.json", "report/report.html"]
    names += sorted(path.name for path in root.glob("plan-*.json"))
    names += ["review/key.json"] if (root / "review" / "key.json").exists() else []
    found = {name: hashlib.sha256((root / name).read_bytes()).hexdigest() for name in names}
    ledger = (root / LEDGER).read_bytes()
    found[f"{LEDGER}#{len(ledger)}"] = hashlib.sha256(ledger).hexdigest()
    if (root / verdicts.FILE).exists():
        found[VERDICTS] = verdicts.head(root / verdicts.FILE)
    return found


def _bare(digest: str) -> Json:
    kind, _, value = digest.partition(":")
    return {kind: value}
