"""Check an audit: every digest, the plan against its seal, the report against the tables, and some samples again."""

import hashlib
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from byrote import images
from byrote.audit import Audit
from byrote.domain import Sample
from byrote.errors import ByroteError
from byrote.evidence import gather
from byrote.models import Request
from byrote.review import verdicts
from byrote.seals.envelope import opened
from byrote.seals.statement import ATTESTATION, LEDGER, VERDICTS, subjects
from byrote.stages import generate, report
from byrote.store import Recipe, Store

ELSEWHERE = ("byrote", "cost")
"""What report.json says of the machine and the run: another machine says something else."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was found wrong, what could not be checked, and how much was right."""

    problems: tuple[str, ...]
    unchecked: tuple[str, ...]
    checked: int


class _Notes:
    def __init__(self) -> None:
        self.problems: list[str] = []
        self.unchecked: list[str] = []
        self.checked = 0

    def check(self, name: str, expected: object, found: object) -> None:
        self.checked += 1
        if expected != found:
            self.problems.append(f"{name}: expected {_short(expected)}, found {_short(found)}")


def verify(root: Path, *, key: Ed25519PublicKey | None, samples: int, seed: int = 0) -> Outcome:
    """Check all that can be checked. Raises ByroteError only where there is no audit at all."""
    audit, notes = Audit(root), _Notes()
    if not (root / "audit.toml").exists():
        audit.plan  # noqa: B018 - says what is missing
    steps: tuple[Callable[[Audit, _Notes], None], ...] = (
        lambda a, n: _attestation(a.root, key, n),
        _plan,
        _parts,
        _samples,
        _report,
        _verdicts,
        lambda a, n: _again(a, n, samples, seed),
    )
    for step in steps:
        try:
            step(audit, notes)
        except (ByroteError, OSError) as error:
            notes.problems.append(" ".join(str(error).split()))
    return Outcome(tuple(dict.fromkeys(notes.problems)), tuple(notes.unchecked), notes.checked)


def _attestation(root: Path, key: Ed25519PublicKey | None, notes: _Notes) -> None:
    path = root / "report" / ATTESTATION
    if not path.exists():
        notes.unchecked.append(f"{path.name}: there is none; `byrote attest {root} --key KEY` writes it")
        return
    try:
        statement, wrong = opened(json.loads(path.read_bytes()), key)
        wanted = {each["name"]: each["digest"]["sha256"] for each in statement["subject"]}
    except (ValueError, KeyError, TypeError) as error:
        notes.problems.append(f"{path.name}: {error}")
        return
    if key is None:
        notes.unchecked.append(f"{path.name}: its signature, for no --key was given")
    else:
        notes.check(f"{path.name}: signature", None, wrong)
    _subjects(root, wanted, notes)


def _subjects(root: Path, wanted: dict[str, str], notes: _Notes) -> None:
    there = subjects(root)
    for name, digest in wanted.items():
        file, _, part = name.partition("#")
        if file == LEDGER and part.isdigit():
            begun = (root / LEDGER).read_bytes()[: int(part)]
            notes.check(LEDGER, digest, hashlib.sha256(begun).hexdigest())
        elif name == VERDICTS and name in there:
            known = there[name] == digest or verdicts.holds(root / verdicts.FILE, digest)
            notes.check(verdicts.FILE, True, known)
        else:
            notes.check(name, digest, there.get(name, "nothing"))


def _plan(audit: Audit, notes: _Notes) -> None:
    """Hold audit.toml against the seals of the ledger and the resolved plans beside it."""
    for path in sorted(audit.root.glob("plan-*.json")):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
        notes.check(path.name, path.stem.removeprefix("plan-"), digest)
    seal = audit.seal
    notes.check("audit.toml: sealed as it stands", True, seal is not None)
    for line in (line for line in audit.store.ledger() if line["event"] == "seal"):
        content = json.dumps(line["content"], sort_keys=True).encode()
        notes.check(f"{LEDGER}: seal {line['at']}", line["digest"], f"sha256:{hashlib.sha256(content).hexdigest()}")


def _parts(audit: Audit, notes: _Notes) -> None:
    """Hold every file of every table against the digest that the ledger has of it."""
    recipes = audit.recipes
    for store, tables in (
        (audit.corpus.store, [audit.corpus.recipe, recipes.groups]),
        (audit.store, recipes.every()[1:]),
    ):
        known = {(line["recipe"], line["part"]): line.get("files") for line in _done(store)}
        for recipe in tables:
            _folder(store, recipe, notes)
            for part in store.parts(recipe):
                _part(store, recipe, part, known.get((recipe.digest, part)), notes)
            for digest, part in known:
                if digest == recipe.digest and part not in store.parts(recipe):
                    notes.problems.append(f"{recipe.table}/{digest}/{part}.parquet: gone")


def _part(store: Store, recipe: Recipe, part: str, files: dict[str, str] | None, notes: _Notes) -> None:
    place = f"{recipe.table}/{recipe.digest}"
    if files is None:
        notes.unchecked.append(f"{place}/{part}: the ledger has no digest of it")
        return
    there = store.digests(recipe, part)
    for name in sorted(files.keys() | there.keys()):
        notes.check(f"{place}/{name}", files.get(name, "nothing"), there.get(name, "nothing"))


def _folder(store: Store, recipe: Recipe, notes: _Notes) -> None:
    path = store.folder(recipe) / "recipe.json"
    if path.exists():
        notes.check(f"{recipe.table}/{recipe.digest}/recipe.json", recipe.content + "\n", path.read_text())


def _samples(audit: Audit, notes: _Notes) -> None:
    """Hold each sample's digest against its pixels, and the arrays beside it against them."""
    store = audit.store
    for made in [m.samples for m in (audit.recipes.own, audit.recipes.twin) if m]:
        for part in store.parts(made):
            rows = store.read(Sample, made, part)
            kept = generate.read(store, made, part)[1] if rows else np.zeros(0)
            for row, pixels in zip(rows, kept, strict=True):
                name = f"samples/{made.digest}/{part}: prompt {row.prompt}, sample {row.index}"
                image = _decoded(row.image)
                notes.check(name, row.digest, "no image" if image is None else images.digest(image))
                notes.check(f"{name}: pixels beside it", row.digest, images.digest(pixels))


def _report(audit: Audit, notes: _Notes) -> None:
    """Hold report.json against a fresh one from the tables, all but what the machine says."""
    path = audit.root / "report" / "report.json"
    written: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    fresh = json.loads(json.dumps(report.told(gather(audit))))
    for name in sorted(written.keys() | fresh.keys()):
        if name not in ELSEWHERE:
            notes.check(f"report/report.json: {name}", fresh.get(name), written.get(name))


def _verdicts(audit: Audit, notes: _Notes) -> None:
    path = audit.root / verdicts.FILE
    if not path.exists():
        notes.unchecked.append(f"{path.name}: nobody has judged anything")
        return
    notes.problems += verdicts.check(path)
    notes.checked += 1
    key = audit.root / "review" / "key.json"
    drawn = [line["key"] for line in audit.store.ledger() if line["event"] == "review"]
    if drawn and key.exists():
        notes.check("review/key.json", drawn[-1], hashlib.sha256(key.read_bytes()).hexdigest())


def _again(audit: Audit, notes: _Notes, count: int, seed: int) -> None:
    """Make some samples again, chosen by a seed, and compare them within the model's tolerance."""
    store, made = audit.store, audit.recipes.samples
    rows = [row for part in store.parts(made) for row in store.read(Sample, made, part)]
    chosen = random.Random(f"byrote verify {seed}").sample(rows, min(count, len(rows)))
    texts = {prompt.number: prompt.text for prompt in audit.prompts}
    for row in chosen:
        then = _decoded(row.image)
        now = audit.model.generate([Request(texts[row.prompt], row.seed)])[0]
        apart = 255 if then is None or then.shape != now.shape else int(np.abs(then.astype(int) - now).max())
        name = f"samples/{made.digest}: prompt {row.prompt}, sample {row.index}, made again"
        notes.check(f"{name}: within {audit.model.tolerance} levels", True, apart <= audit.model.tolerance)


def _done(store: Store) -> Iterator[dict[str, Any]]:
    return (line for line in store.ledger() if line["event"] == "done")


def _decoded(data: bytes) -> Any:
    try:
        return images.decode(data)
    except images.Undecodable:
        return None


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= 80 else f"{text[:77]}..."
