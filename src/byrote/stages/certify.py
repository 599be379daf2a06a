"""Certify: which pictures are reproduced, and how sure that is. A pure function over what the matches left.

Certified is a picture with both of: *excess*, q <= `fdr` against controls, and *reproduction*, T <= `closest`. T is
the aligned tiled distance (RMS in [0, 1]) of the best match. Groups whose caption was asked are tested against the
controls whose caption was asked, unasked groups against unasked controls.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import inf, isinf
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from byrote.domain import Family, Finding, Match, Rate, Side
from byrote.kernels import stats

LEVEL = 0.95
FAMILIES: tuple[Family, ...] = ("asked", "unasked")
TIERS: tuple[tuple[int, float], ...] = ((1, 1), (2, 3), (4, 7), (8, 15), (16, 31), (32, 63), (64, inf))

Reals = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Tested:
    """One group of either side, with the match of smallest statistic.

    `best` is None where no sample that passed the filters came near: T = +inf, and the group still counts.
    """

    group: str
    digest: str
    side: Side
    copies: int
    family: Family
    best: Match | None


@dataclass(frozen=True, slots=True)
class Test:
    """What a family's test could have shown: an entry of `tests` in report.json.

    After sampling, `controls_at_cut` counts the controls with T <= closest, and `k_needed` is a promise that this
    keeps: if so many of the `m` pictures are within `closest`, all of them are certified. It depends on the controls
    and the plan alone, not on what was found, so it can be asked of an audit that found nothing. Fewer can be
    certified where they are nearer than those controls, never fewer than with `controls_at_cut` at 0. Before sampling
    it is taken as 0, the best that can come. `k_needed` is null where nothing can be certified: no pictures, or no
    controls; above `m` says the same.
    """

    m: int
    n_controls: int
    controls_at_cut: int
    smallest_p: float | None
    k_needed: int | None


@dataclass(frozen=True, slots=True)
class Certified:
    """Every tested group of both sides, nearest first, with the tests of both families.

    `controls_certified` counts, of all `controls_n`, those that would be certified were each in turn one more
    picture. `sensitivity` gives, per certified group, the largest Gamma at which it stays certified
    (`stats.sensitivities`).
    """

    findings: list[Finding]
    tests: dict[Family, Test]
    controls_n: int
    controls_certified: int
    sensitivity: dict[str, float]


def statistic(match: Match) -> float:
    """Return T: the tiled distance to the picture or to its own way through the autoencoder, whichever is smaller."""
    return match.tiled if match.round_trip is None else min(match.tiled, match.round_trip)


def test_of(m: int, n_controls: int, controls_at_cut: int, *, fdr: float) -> Test:
    """Weigh the power of a test; with `controls_at_cut` 0 before the first sample."""
    able = m > 0 and n_controls > 0
    return Test(
        m=m,
        n_controls=n_controls,
        controls_at_cut=controls_at_cut,
        smallest_p=1 / (n_controls + 1) if n_controls else None,
        k_needed=stats.findings_needed(m, n_controls, controls_at_cut, fdr) if able else None,
    )


def certify(tested: Sequence[Tested], *, fdr: float, closest: float, exact: bool = True) -> Certified:
    """Certify the groups that were tested, family by family.

    q is `stats.conformal_q`: within `closest`, that of the list of reproductions. Without controls p and q are null
    and nothing is certified. A finding's basis is "exact" where its group has one copy and, if certified, would be so
    in a test of the one-copy groups alone: a list that is long because of copied pictures, for which controls of one
    copy stand on an assumption, is no exact ground for a single one. `exact` False, where the split was not drawn at
    random, makes every basis "assumption-based". Raises ValueError where a group is tested twice (best-of-members
    inflates p).
    """
    _refuse_twice(tested)
    parts = [_family([t for t in tested if t.family == family], fdr, closest, exact) for family in FAMILIES]
    findings = [finding for part in parts for finding in part.findings]
    return Certified(
        findings=sorted(findings, key=lambda finding: (_t(finding), finding.group)),
        tests=dict(zip(FAMILIES, (part.test for part in parts), strict=True)),
        controls_n=sum(part.test.n_controls for part in parts),
        controls_certified=sum(part.controls_certified for part in parts),
        sensitivity={group: gamma for part in parts for group, gamma in part.sensitivity.items()},
    )


def rates(findings: Sequence[Finding], *, fdr: float, closest: float) -> list[Rate]:
    """Return the shares of groups certified and within `closest`, with exact intervals and control twins.

    Asked groups per tier of copies ("1", "2-3", ... "64+") and together (tier null), unasked groups together; tiers
    without groups are left out. The twin of "within tau" is the family's controls within `closest`, that of
    "certified" its controls that would be certified were each one more picture; null without controls. The interval
    speaks of the captions that were drawn: of a tier whose captions were chosen (the most copied) it says nothing
    about the others.
    """
    return [rate for family in FAMILIES for rate in _rates(family, findings, fdr, closest)]


@dataclass(frozen=True, slots=True)
class _Part:
    findings: list[Finding]
    test: Test
    controls_certified: int
    sensitivity: dict[str, float]


def _family(tested: Sequence[Tested], fdr: float, closest: float, exact: bool) -> _Part:
    pictures, controls = _side(tested, "picture"), _side(tested, "control")
    t, null = _distances(pictures), _distances(controls)
    judged = _judged(pictures, null, fdr, closest, exact)
    gammas = stats.sensitivities(t, null, alpha=fdr, closest=closest)
    return _Part(
        findings=judged + [_finding(control, exact=exact) for control in controls],
        test=test_of(len(t), len(null), int((null <= closest).sum()), fdr=fdr),
        controls_certified=int(stats.certified_if_added(t, null, alpha=fdr, closest=closest).sum()),
        sensitivity={f.group: float(gamma) for f, gamma in zip(judged, gammas, strict=True) if f.certified},
    )


def _judged(pictures: Sequence[Tested], null: Reals, fdr: float, closest: float, exact: bool) -> list[Finding]:
    if not len(null):
        return [_finding(picture, exact=exact) for picture in pictures]
    t = _distances(pictures)
    p, q = stats.conformal_p(t, null), stats.conformal_q(t, null, closest)
    certified = (q <= fdr) & (t <= closest)
    alone = _stands_alone(pictures, null, fdr, closest)
    return [
        _finding(picture, float(p[i]), float(q[i]), bool(certified[i]), exact and (alone[i] or not certified[i]))
        for i, picture in enumerate(pictures)
    ]


def _stands_alone(pictures: Sequence[Tested], null: Reals, fdr: float, closest: float) -> NDArray[np.bool_]:
    """Tell which pictures have one copy and q <= `fdr` in a test of the one-copy groups alone."""
    stands = np.array([picture.copies == 1 for picture in pictures], np.bool_)
    stands[stands] = stats.conformal_q(_distances(pictures)[stands], null, closest) <= fdr
    return stands


def _finding(
    tested: Tested, p: float | None = None, q: float | None = None, certified: bool = False, exact: bool = True
) -> Finding:
    best = tested.best
    return Finding(
        family=tested.family,
        group=tested.group,
        digest=tested.digest,
        side=tested.side,
        copies=tested.copies,
        prompt=best.prompt if best else None,
        sample=best.sample if best else None,
        statistic=statistic(best) if best else None,
        rms=best.rms if best else None,
        tiled=best.tiled if best else None,
        round_trip=best.round_trip if best else None,
        ratio=best.ratio if best else None,
        p_value=p,
        q_value=q,
        certified=certified,
        basis="exact" if exact and tested.copies == 1 else "assumption-based",
    )


def _rates(family: Family, findings: Sequence[Finding], fdr: float, closest: float) -> Iterator[Rate]:
    pictures = [f for f in findings if f.family == family and f.side == "picture"]
    null = np.array([_t(f) for f in findings if f.family == family and f.side == "control"], np.float64)
    t = np.array([_t(f) for f in pictures], np.float64)
    added = stats.certified_if_added(t, null, alpha=fdr, closest=closest)
    for tier, of_tier in _tiers(family, pictures):
        certified = [f.certified for f in of_tier]
        yield _rate(f"{family} groups certified", tier, certified, [bool(c) for c in added])
        within = [_t(f) <= closest for f in of_tier]
        yield _rate(f"{family} groups within tau", tier, within, [bool(c) for c in null <= closest])


def _tiers(family: Family, pictures: Sequence[Finding]) -> Iterator[tuple[str | None, list[Finding]]]:
    for least, most in TIERS if family == "asked" else ():
        of_tier = [f for f in pictures if least <= f.copies <= most]
        if of_tier:
            yield _tier_name(least, most), of_tier
    if pictures:
        yield None, list(pictures)


def _tier_name(least: int, most: float) -> str:
    if isinf(most):
        return f"{least}+"
    return f"{least}" if least == most else f"{least}-{most}"


def _rate(name: str, tier: str | None, hits: Sequence[bool], twin: Sequence[bool]) -> Rate:
    low, high = stats.clopper_pearson(sum(hits), len(hits), LEVEL)
    return Rate(
        name=name,
        tier=tier,
        k=sum(hits),
        n=len(hits),
        low=low,
        high=high,
        level=LEVEL,
        method="Clopper-Pearson",
        controls_k=sum(twin) if twin else None,
        controls_n=len(twin) if twin else None,
    )


def _side(tested: Iterable[Tested], side: Literal["picture", "control"]) -> list[Tested]:
    return [t for t in tested if t.side == side]


def _distances(tested: Sequence[Tested]) -> Reals:
    return np.array([statistic(t.best) if t.best else inf for t in tested], np.float64)


def _t(finding: Finding) -> float:
    return inf if finding.statistic is None else finding.statistic


def _refuse_twice(tested: Sequence[Tested]) -> None:
    seen: set[str] = set()
    for t in tested:
        if t.group in seen:
            raise ValueError(f"group {t.group} is tested twice: one member and one caption a group")
        seen.add(t.group)
