"""Check an audit: every digest, the plan against its seal, the report against the tables, and some samples again."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from byrote.audit import SEALED, Audit, as_sealed, sampling
from byrote.evidence import gather
from byrote.review import verdicts
from byrote.seals import tables
from byrote.seals.attested import attestation
from byrote.seals.notes import NOTHING, Notes, Outcome
from byrote.seals.statement import CORPUS_LEDGER, KEY, LEDGER, REPORT, read_report
from byrote.stages import generate, report
from byrote.stages.report.redact import KEY as PSEUDONYMS
from byrote.stages.report.redact import key_of, redacted
from byrote.store import versions

MACHINE = "byrote"
"""What report.json says of the versions and the machine: another machine says something else."""
Json = dict[str, Any]


def verify(root: Path, *, key: Ed25519PublicKey | None, samples: int, seed: int = 0) -> Outcome:
    """Check all that can be checked. Raises ByroteError only where there is no audit at all."""
    generate.open_model.cache_clear()  # its files may have changed since this process opened it
    audit, notes = Audit(root), Notes()
    if not (root / "audit.toml").exists():
        audit.plan  # noqa: B018 - says what is missing
    steps: tuple[tuple[str, Callable[..., None], *tuple[Any, ...]], ...] = (
        ("attestation.json", attestation, audit, key, notes),
        (LEDGER, _ledgers, audit, notes),
        ("plan", _plan, audit, notes),
        ("seal", _seal, audit, notes),
        ("tables", tables.files, audit, notes),
        ("parts", tables.complete, audit, notes),
        ("screened", tables.screened, audit, notes),
        ("samples", tables.samples, audit, notes),
        ("matches", tables.matches, audit, notes),
        ("certified", tables.findings, audit, notes),
        (REPORT, _report, audit, notes),
        (verdicts.FILE, _verdicts, audit, notes),
        (KEY, _key, audit, notes),
        ("samples made again", tables.again, audit, notes, samples, seed),
    )
    for name, step, *about in steps:
        notes.attempt(name, step, *about)
    return notes.outcome()


def _ledgers(audit: Audit, notes: Notes) -> None:
    """Say which lines of the ledgers were torn, or are none."""
    for name, store in ((LEDGER, audit.store), (CORPUS_LEDGER, audit.corpus.store)):
        lines = (store.root / LEDGER).read_text(encoding="utf-8", errors="replace").splitlines()
        torn = len(lines) - len(store.ledger())
        if torn:
            notes.open(f"{name}: {torn} lines that cannot be read; a crash tears one")
        if not all(isinstance(line.get("event"), str) for line in store.ledger()):
            notes.wrong(f"{name}: a line of no event")


def _plan(audit: Audit, notes: Notes) -> None:
    """Hold the resolved plans that were saved against their names, and look for that of audit.toml."""
    for path in sorted(audit.root.glob("plan-*.json")):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
        notes.check(f"{path.name}: digest", path.stem.removeprefix("plan-"), digest)
    text = json.dumps(audit.plan.as_dict(), indent=2, sort_keys=True) + "\n"
    name = f"plan-{hashlib.sha256(text.encode()).hexdigest()[:12]}.json"
    notes.check(f"{name}: the plan of audit.toml, resolved, is there", True, (audit.root / name).exists())


def _seal(audit: Audit, notes: Notes) -> None:
    """Hold the seals of the ledger against what they sealed, against their place in it, and against the audit."""
    begun: set[str] = set()
    last: Json | None = None
    for line in audit.store.ledger():
        if line["event"] == "begun":
            begun.add(line["recipe"])
        if line["event"] == "seal":
            last = line["content"]
            name = f"{LEDGER}: seal of {line['at']}"
            notes.check(f"{name}: digest", line["digest"], _digest(last))
            notes.check(f"{name}: before sampling", not begun & sampling(last), line["before_sampling"])
    if last is None:
        notes.wrong(f"{LEDGER}: no seal: it cannot be told what was fixed before the first sample")
    elif audit.seal is None:
        _unsealed(audit, last, notes)


def _unsealed(audit: Audit, sealed: Json, notes: Notes) -> None:
    """Name what is not as it was sealed last."""
    plan, twin = audit.plan.as_dict(), audit.twin
    now = {
        "model": audit.model.digest,
        "twin": twin.digest if twin else None,
        "corpus": audit.corpus.digest,
        "claims": [claim.digest for claim in audit.claims() if claim.named],
        "canaries": sorted(canary.digest for canary in audit.canaries),
    }
    sections = sealed["plan"].keys() | set(SEALED)
    notes.compare("audit.toml: not as sealed", sealed["plan"], as_sealed(plan, sorted(sections)))
    for name, value in now.items():
        notes.compare(f"{name}: not as sealed", sealed[name], value)
    notes.wrong("audit.toml, the model, the corpus, the prompts or the claims are not as they were sealed")


def _report(audit: Audit, notes: Notes) -> None:
    """Hold the report against a fresh one from the tables, all but what it says of the machine."""
    written, evidence = read_report(audit.root), gather(audit)
    _hold(REPORT, report.told(evidence), written, notes)
    made = written[MACHINE]
    if any(made.get(name) != known for name, known in versions().items() if name != "machine"):
        notes.open("report/report.html: it was written with other versions, which may draw otherwise")
        return
    architecture = {"machine": made["machine"].partition(",")[0]}
    then = replace(evidence, versions=made | architecture, machine=made["machine"])
    _page(audit, "report.html", then, notes)
    if any((audit.root / "report" / f"redacted.{kind}").exists() for kind in ("json", "html")):
        _redacted(audit, then, notes)


def _redacted(audit: Audit, evidence: report.Evidence, notes: Notes) -> None:
    """Hold the redacted report against a fresh one, where the key of its pseudonyms is there."""
    if not (audit.root / PSEUDONYMS).exists():
        notes.open(f"report/redacted.json: {PSEUDONYMS} is gone, under which its pseudonyms were made")
        return
    hidden = redacted(evidence, key_of(audit.root))
    _page(audit, "redacted.html", hidden, notes)
    _hold("report/redacted.json", report.told(hidden), read_report(audit.root, "report/redacted.json"), notes)


def _hold(name: str, fresh: Json, written: Json, notes: Notes) -> None:
    for key in sorted((written.keys() | fresh.keys()) - {MACHINE}):
        notes.compare(f"{name}: {key}", fresh.get(key, NOTHING), written.get(key, NOTHING))


def _page(audit: Audit, name: str, evidence: report.Evidence, notes: Notes) -> None:
    """Hold a page against one drawn anew."""
    path = audit.root / "report" / name
    there = path.read_bytes().splitlines() if path.exists() else []
    fresh = report.as_html(evidence, reveal=False).encode().splitlines()
    at = next((k for k, pair in enumerate(zip_longest(there, fresh), 1) if pair[0] != pair[1]), None)
    notes.check(f"report/{name}: first line that the tables do not give", None, at)


def _verdicts(audit: Audit, notes: Notes) -> None:
    path = audit.root / verdicts.FILE
    if not path.exists():
        notes.open(f"{path.name}: nobody has judged anything")
        return
    for problem in verdicts.check(path):
        notes.wrong(problem)


def _key(audit: Audit, notes: Notes) -> None:
    """Hold the key of the review against the digest that the ledger has of it since it was drawn."""
    drawn = [line["key"] for line in audit.store.ledger() if line["event"] == "review"]
    path = audit.root / KEY
    there = hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else NOTHING
    for digest in drawn or [NOTHING]:
        notes.check(f"{KEY}: as it was drawn", digest, there)


def _digest(content: Any) -> str:
    return "sha256:" + hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
