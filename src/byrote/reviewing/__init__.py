"""Review of one audit: draw its pairs, take verdicts, measure them."""

import hashlib
from pathlib import Path

from byrote import images
from byrote.audit import Audit
from byrote.corpora import export as tables
from byrote.domain import RGB
from byrote.errors import Incomplete, StoreError
from byrote.review import REVIEW, draw, sheets, verdicts
from byrote.review.draw import Key
from byrote.review.measure import Measurement, measure

EXPLORED = f"{REVIEW}/explored.sqlite"
"""Verdicts of the mode "explore": a file of their own, because who sees distances and sides is not blind."""


def draw_pairs(root: Path, out: Path, *, count: int, seed: int) -> tuple[Key, int]:
    """Draw the pairs of an audit, once, and write the sheets; return the key and how many could not be shown.

    The digest of the key goes into the ledger. Raises Incomplete before the audit is certified, or where pairs were
    drawn already with other settings: drawing again until the result pleases is no measurement. StoreError where
    the sheets cannot be written.
    """
    audit = _certified(root)
    key = _drawn(audit, count, seed)
    with audit.store.locked():
        if (root / REVIEW / "key.json").exists() and draw.read(root / REVIEW) != key:
            raise Incomplete(
                f"{root / REVIEW}: other pairs were drawn before; judge those, or take another audit folder"
            )
        data = draw.write(root / REVIEW, key)
        audit.store.log("review", {"key": hashlib.sha256(data).hexdigest(), "pairs": len(key.pairs), "seed": seed})
    found = audit.samples({pair.sample for pair in key.pairs})

    def sample(digest: str) -> RGB | None:
        return images.decode(found[digest]) if digest in found else None

    try:
        return key, sheets.write(out, key, audit.corpus.pixels, sample)
    except OSError as error:
        raise StoreError(f"{out}: the sheets cannot be written: {error.strerror or error}") from error


def take_verdicts(root: Path, file: Path, reviewer: str) -> tuple[int, int]:
    """Take a filled table; return how many verdicts are new, of how many. Raises ByroteError."""
    key = draw.read(root / REVIEW)
    pairs = {pair.id: (pair.picture, pair.sample) for pair in key.pairs}
    said = verdicts.read_table(file, reviewer, pairs)
    return verdicts.add(root / verdicts.FILE, said), len(said)


def export(root: Path, out: Path, *, explored: bool) -> int:
    """Write every event of the verdicts as CSV or Parquet, by the suffix; return how many. Raises ByroteError.

    `explored` are those of the mode "explore", which enter no rate.
    """
    file = root / (EXPLORED if explored else verdicts.FILE)
    if not file.exists():
        raise Incomplete(f"{file}: no verdicts yet; `byrote review serve {root}` takes them")
    rows = verdicts.events(file)
    tables.write(out, rows, verdicts.Event)
    return len(rows)


def measured(root: Path) -> Measurement:
    """Measure what was said so far. Raises Incomplete."""
    key = draw.read(root / REVIEW)
    said = verdicts.latest(root / verdicts.FILE)
    if not said:
        raise Incomplete(f"{root}: no verdicts yet; `byrote review import {root} FILE --reviewer NAME` takes them")
    return measure(key, said)


def words(told: Measurement) -> str:
    """Say a measurement in lines for a person."""
    lines = [f"{told.drawn} candidate pairs drawn of {told.population:,}; {told.undecided} undecided"]
    if told.undecided:
        lines.append("intervals hold whatever the undecided pairs are; the numbers before them leave those out")
    if told.copies is not None:
        total, low, high = told.copies
        lines.append(f"copies among all {told.population:,} candidate pairs: {total:,.0f}, {low:,} to {high:,}")
    if told.precision is not None:
        p = told.precision
        told_tau = f"within tau ({told.tau:g}) {p.k} of {p.n} decided pairs are copies"
        lines.append(f"{told_tau}; of all candidate pairs there {p.low:.1%} to {p.high:.1%}")
    if told.recall is not None:
        lines.append(
            f"of all copies among the candidate pairs {told.recall[0]:.1%} to {told.recall[1]:.1%} are within tau"
        )
    for each in (*told.reviewers, told.majority):
        for rate, unsure in ((each.sensitivity, each.unsure_planted), (each.false_positives, each.unsure_controls)):
            more = f"; {unsure} more undecided" if unsure else ""
            if rate is not None:
                lines.append(f"{each.name}: {rate.name}: {rate.k} of {rate.n}, {rate.low:.1%} to {rate.high:.1%}{more}")
    lines += [
        f"{a.method}'s kappa of {' and '.join(a.reviewers)}, {a.pairs} pairs: {a.kappa:.2f} (+- {a.error:.2f})"
        for a in told.agreement
    ]
    return "\n".join(lines)


def _drawn(audit: Audit, count: int, seed: int) -> Key:
    best, tau = audit.best(), audit.plan.certify.closest
    others = {row.group: (row.digest, row.side) for row in audit.groups if row.group not in best and not row.set_aside}
    reach = audit.recipes.look.reach
    return draw.draw(best.values(), tau=tau, reach=reach, count=count, seed=seed, others=sorted(others.values()))


def _certified(root: Path) -> Audit:
    audit = Audit(root)
    audit.plan, audit.corpus  # noqa: B018 - their errors come first
    if not audit.store.parts(audit.recipes.certified):
        raise Incomplete(f"{root}: nothing certified yet; `byrote run {root}` goes on to it")
    return audit
