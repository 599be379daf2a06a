"""Compare two audits: before and after a mitigation, or one model with another.

Where both asked for the same groups of the same corpus the shares are paired, prompt for prompt; else they are two
independent shares, and then they speak of whoever was asked in each.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from byrote.audit import Audit
from byrote.domain import Finding, Side
from byrote.errors import Incomplete
from byrote.kernels.rates import difference, mcnemar, paired_difference
from byrote.stages.certify import LEVEL, counted

SAME = ("generate", "cliques", "match", "certify", "ladder")


@dataclass(frozen=True, slots=True)
class Change:
    """A share of the asked pictures in both audits, and the exact interval of the difference (second less first).

    `only_first` and `only_second` count the discordant pairs, and `p_value` is McNemar's; null where not paired.
    """

    name: str
    first: tuple[int, int]
    second: tuple[int, int]
    difference: float
    low: float
    high: float
    level: float
    paired: bool
    only_first: int | None
    only_second: int | None
    p_value: float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two audits side by side. `caveats` say what else differs; without any the model is all that does."""

    models: tuple[str, str]
    changes: tuple[Change, ...]
    caveats: tuple[str, ...]


def compare(first: Path, second: Path) -> Comparison:
    """Compare the shares of asked pictures within tau and certified. Raises Incomplete where an audit is not done."""
    a, b = _done(first), _done(second)
    rows = _by_group(a), _by_group(b)
    paired = _asked_alike(a, b) and rows[0].keys() == rows[1].keys()
    changes = []
    for name in ("within tau", "certified"):
        hits = [_hits(audit, found, name) for audit, found in zip((a, b), rows, strict=True)]
        changes.append(_paired(name, *hits) if paired else _independent(name, *hits))
    return Comparison((a.model.digest, b.model.digest), tuple(changes), tuple(_caveats(a, b, paired)))


def words(told: Comparison) -> str:
    """Say it in lines for a person."""
    lines = list(told.caveats)
    for c in told.changes:
        (k1, n1), (k2, n2) = c.first, c.second
        how = "the same pictures in both" if c.paired else "two independent draws"
        lines.append(
            f"{c.name}: {k1} of {n1} in the first, {k2} of {n2} in the second; difference {c.difference:+.1%}, "
            f"{c.low:+.1%} to {c.high:+.1%} ({c.level:.0%}, exact, {how})"
            + (f"; McNemar p {c.p_value:.3g}" if c.p_value is not None else "")
        )
    return "\n".join(lines)


def _done(root: Path) -> Audit:
    audit = Audit(root)
    audit.plan, audit.corpus  # noqa: B018 - their errors come first
    if not audit.store.parts(audit.recipes.certified):
        raise Incomplete(f"{root}: not certified yet; `byrote run {root}` goes on to it")
    return audit


def _by_group(audit: Audit) -> dict[str, Finding]:
    """Return those of pictures that were asked for, or where nobody was, that were searched for."""
    pictures = [f for f in audit.certified.findings if f.side == "picture"]
    asked = [f for f in pictures if f.family == "asked"]
    return {f.group: f for f in asked or pictures if f.family != "canary"}


def _hits(audit: Audit, rows: Mapping[str, Finding], name: str) -> dict[str, bool]:
    closest = audit.plan.certify.closest
    return {g: f.certified if name == "certified" else counted(f, closest) <= closest for g, f in rows.items()}


def _paired(name: str, first: Mapping[str, bool], second: Mapping[str, bool]) -> Change:
    n = len(first)
    one = sum(first[g] and not second[g] for g in first)
    other = sum(second[g] and not first[g] for g in first)
    ends = paired_difference(other, one, n, LEVEL) if n else (-1.0, 1.0)
    return _change(name, first, second, ends, (one, other, mcnemar(one, other)))


def _independent(name: str, first: Mapping[str, bool], second: Mapping[str, bool]) -> Change:
    (k1, n1), (k2, n2) = _count(first), _count(second)
    return _change(name, first, second, difference(k2, n2, k1, n1, LEVEL) if n1 and n2 else (-1.0, 1.0), None)


def _change(
    name: str,
    first: Mapping[str, bool],
    second: Mapping[str, bool],
    ends: tuple[float, float],
    pairs: tuple[int, int, float] | None,
) -> Change:
    (k1, n1), (k2, n2) = _count(first), _count(second)
    gap = (k2 / n2 if n2 else 0.0) - (k1 / n1 if n1 else 0.0)
    return Change(name, (k1, n1), (k2, n2), gap, *ends, LEVEL, pairs is not None, *(pairs or (None, None, None)))


def _count(hits: Mapping[str, bool]) -> tuple[int, int]:
    return sum(hits.values()), len(hits)


def _asked_alike(a: Audit, b: Audit) -> bool:
    """Tell whether both audits asked for the same members under the same captions."""
    return _asked(a, "picture") == _asked(b, "picture")


def _asked(audit: Audit, side: Side) -> set[tuple[str, str, str | None]]:
    own = [p for p in audit.prompts if p.rung == "caption" and p.side == side and p.stratum not in ("canary", "free")]
    return {(p.group, p.digest, p.text) for p in own}


def _fixed(section: Mapping[str, Any]) -> dict[str, Any]:
    """Return a section without the places of its files, which are told from each audit's own folder."""
    return {knob: value for knob, value in section.items() if knob not in ("users", "texts")}


def _caveats(a: Audit, b: Audit, paired: bool) -> list[str]:
    said = []
    if a.model.digest == b.model.digest:
        said.append("Both audits are of the same model.")
    if a.corpus.digest != b.corpus.digest:
        said.append("The corpora differ.")
    if not paired:
        said.append("Not the same pictures were asked: the shares are compared as two draws.")
    if _asked(a, "control") != _asked(b, "control"):
        said.append("Not the same controls were asked: what is certified may differ for that alone.")
    if a.plan.prompts.seed != b.plan.prompts.seed:
        said.append("The seeds differ, and so does the starting noise.")
    twins = [None if x.twin is None else x.twin.digest for x in (a, b)]
    if twins[0] != twins[1]:
        said.append("The twins differ: what a twin gives too counts as no copy.")
    plans = a.plan.as_dict(), b.plan.as_dict()
    differ = [name for name in SAME if _fixed(plans[0][name]) != _fixed(plans[1][name])]
    if differ:
        said.append(
            f"The plans differ in {', '.join(f'[{name}]' for name in differ)}: the model is not all that changed."
        )
    for number, audit in enumerate((a, b), 1):
        if not audit.sealed_before_sampling:
            said.append(f"Audit {number} was changed after sampling: it certifies nothing.")
    return said
