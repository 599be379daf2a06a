"""Judge claims on single pictures: a q of a list says nothing of one entry, a p-value named beforehand does.

A picture that was named before sampling uses its own p, and Holm over all that were named. One that was named after
sampling was searched for among everything: Holm over its whole family.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from byrote.domain import Family, Finding
from byrote.kernels.exact import holm
from byrote.stages.certify import counted

LEAST_CONTROLS = 19
"""Below so many controls no p-value reaches .05."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What can be said of one claimed picture. `adjusted` is Holm's p; null, with a `reason`, where it was not tested.

    `digest` is the picture's in the corpus. `certified` is excess at that adjusted p and reproduction within tau.
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
        )
        for claim, finding, p in zip(claims, found, adjusted, strict=True)
    ]


def _adjusted(
    claims: Sequence[Named], found: Sequence[Finding | None], findings: Sequence[Finding]
) -> list[float | None]:
    named = {f.group: f.p_value for c, f in zip(claims, found, strict=True) if c.named and f and f.p_value is not None}
    own = _holm(named)
    families: dict[Family, dict[str, float]] = {}
    for f in findings:
        if f.side == "picture" and f.p_value is not None:
            families.setdefault(f.family, {})[f.group] = f.p_value
    searched = {family: _holm(pool) for family, pool in families.items()}
    return [
        None if f is None else own.get(f.group) if claim.named else searched.get(f.family, {}).get(f.group)
        for claim, f in zip(claims, found, strict=True)
    ]


def _holm(pool: dict[str, float]) -> dict[str, float]:
    adjusted = holm(np.array(list(pool.values()), np.float64))
    return dict(zip(pool, (float(p) for p in adjusted), strict=True))


def _judged(
    claim: Named, f: Finding | None, adjusted: float | None, *, alpha: float, valid: bool, near: bool
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
        reason=_reason(f, adjusted, named=claim.named, enough=enough, near=near, valid=valid),
    )


def _reason(f: Finding | None, adjusted: float | None, *, named: bool, enough: bool, near: bool, valid: bool) -> str:
    if f is None:
        return "not tested: its group touches both sides, or is no longer in the corpus"
    if adjusted is None:
        return f"uncalibrated: no controls; at least {LEAST_CONTROLS} are needed for p to reach .05"
    if not valid:
        return "the plan was changed after sampling"
    if not near:
        return "no sample is within tau" if f.twin is None else "no sample is within tau, or the twin gives it too"
    if enough:
        return "excess and reproduction"
    return "controls come as near too often" if named else "named after sampling: Holm over everything searched"
