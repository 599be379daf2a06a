"""Judge claims on single pictures: a q of a list says nothing of one entry, a p-value named beforehand does.

A picture that was named before sampling uses its own p, and Holm over all that were named. One that was named after
sampling was searched for among everything: Holm over all that was tested. Both kinds are judged each by itself at
alpha.

Whoever names a picture chooses it, and no control was chosen like it: but for canaries, which a coin placed, a claim
stands on the assumption that the picture is like the controls, and says how strong a difference it withstands (Gamma).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from byrote.domain import Family, Finding
from byrote.kernels.exact import holm
from byrote.kernels.stats import sensitivity
from byrote.stages.certify import counted

Basis = Literal["exact", "assumption-based"]
LEAST_CONTROLS = 19
"""Below so many controls no p-value reaches .05."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What can be said of one claimed picture. `adjusted` is Holm's p; null, with a `reason`, where it was not tested.

    `digest` is the picture's in the corpus. `certified` is excess at that adjusted p and reproduction within tau, and
    `sensitivity` then the largest Gamma at which it stands.
    """

    digest: str
    at: str
    named: bool
    family: Family | None
    statistic: float | None
    p_value: float | None
    matched_p: float | None
    adjusted: float | None
    certified: bool
    reason: str
    copies: int | None = None
    basis: Basis = "assumption-based"
    sensitivity: float | None = None


@dataclass(frozen=True, slots=True)
class Named:
    """A claimed picture: its digest, when it was claimed, whether that was before sampling, and the group it is in."""

    digest: str
    at: str
    named: bool
    group: str | None


def judge(
    claims: Sequence[Named], findings: Sequence[Finding], *, alpha: float, closest: float, valid: bool
) -> list[Judged]:
    """Judge every claim. `valid` False (a plan changed after sampling) certifies none."""
    tested = {f.group: f for f in findings if f.side == "picture"}
    controls = Counter(f.family for f in findings if f.side == "control")
    found = [tested.get(claim.group or "") for claim in claims]
    adjusted = _adjusted(claims, found, findings)
    return [
        _judged(
            claim,
            finding,
            p,
            alpha=alpha,
            valid=valid,
            near=finding is not None and counted(finding, closest) <= closest,
            controls=controls[finding.family] if finding else 0,
        )
        for claim, finding, p in zip(claims, found, adjusted, strict=True)
    ]


def _adjusted(
    claims: Sequence[Named], found: Sequence[Finding | None], findings: Sequence[Finding]
) -> list[float | None]:
    named = {f.group: f.p_value for c, f in zip(claims, found, strict=True) if c.named and f and f.p_value is not None}
    own = _holm(named)
    searched = _holm({f.group: f.p_value for f in findings if f.side == "picture" and f.p_value is not None})
    return [
        None if f is None else (own if claim.named else searched).get(f.group)
        for claim, f in zip(claims, found, strict=True)
    ]


def _holm(pool: dict[str, float]) -> dict[str, float]:
    adjusted = holm(np.array(list(pool.values()), np.float64))
    return dict(zip(pool, (float(p) for p in adjusted), strict=True))


def _judged(
    claim: Named, f: Finding | None, adjusted: float | None, *, alpha: float, valid: bool, near: bool, controls: int
) -> Judged:
    enough = adjusted is not None and adjusted <= alpha
    return Judged(
        digest=claim.digest,
        at=claim.at,
        named=claim.named,
        family=f.family if f else None,
        statistic=f.statistic if f else None,
        p_value=f.p_value if f else None,
        matched_p=f.matched_p if f else None,
        adjusted=adjusted,
        certified=valid and enough and near,
        copies=f.copies if f else None,
        basis="exact" if f is not None and f.family == "canary" else "assumption-based",
        sensitivity=_gamma(f, adjusted, alpha, controls) if valid and enough and near else None,
        reason=_reason(f, adjusted, named=claim.named, near=near, valid=valid, alpha=alpha, controls=controls)
        + _unasked(f),
    )


def _gamma(f: Finding | None, adjusted: float | None, alpha: float, controls: int) -> float | None:
    """Return the largest Gamma at which p stays within the step of Holm that it was held to."""
    if f is None or f.p_value is None or adjusted is None:
        return None
    at_cut = round(f.p_value * (controls + 1)) - 1
    return sensitivity(at_cut, controls, alpha * f.p_value / adjusted)


def _unasked(f: Finding | None) -> str:
    return "; it was not asked for by a caption of its own" if f is not None and f.family == "unasked" else ""


def _reason(
    f: Finding | None, adjusted: float | None, *, named: bool, near: bool, valid: bool, alpha: float, controls: int
) -> str:
    if f is None:
        return "not tested: its group touches both sides, or is no longer in the corpus"
    if not valid:
        return "the plan was changed after sampling"
    if adjusted is None or f.p_value is None:
        return f"uncalibrated: no controls; at least {LEAST_CONTROLS} are needed for p to reach .05"
    if not near:
        return "no sample is within tau" if f.twin is None else "no sample is within tau, or the twin gives it too"
    if adjusted <= alpha:
        return "excess and reproduction"
    late = "" if named else "named after sampling: Holm over everything searched"
    if f.p_value * (controls + 1) < 1.5:  # the smallest p that so many controls allow
        few = f"no control comes as near, but {controls:,} controls are too few to show it"
        return f"{late}; {few}" if late else few
    return late or "controls come as near too often"
