"""Certify: which pictures are reproduced, and how sure that is. A pure function over what the matches left.

Certified is a picture with both of: *excess*, q <= `fdr` against controls, and *reproduction*, T <= `closest`. T is
the aligned tiled distance (RMS in [0, 1]) of the best match. Groups whose caption was asked are tested against the
controls whose caption was asked, unasked groups against unasked controls, published canaries against those kept back.

Where there is a twin, a model that was not trained on the pictures, T counts as +inf for whatever the twin brings
within `closest` too, picture or control: what a model without it gives is no copy of it.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf, isinf
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from byrote.domain import SIDES, Family, Finding, Match, Rate, Side
from byrote.kernels import exact as exactly
from byrote.kernels import matching, stats
from byrote.stages.likeness import NAMES

LEVEL = 0.95
FAMILIES: tuple[Family, ...] = ("asked", "unasked", "canary")
SUSPECT = 0.01
"""At a p-value so small of what must not be, a warning stands at the top and no finding is exact."""
FURTHEST = 1.0
"""No RMS distance is larger."""
TIERS: tuple[tuple[int, float], ...] = ((1, 1), (2, 3), (4, 7), (8, 15), (16, 31), (32, 63), (64, inf))

Reals = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Tested:
    """One group of either side, with the match of smallest statistic.

    `best` is None where no sample that passed the filters came near: T = +inf, and the group still counts. `twin` is
    T of the twin, None where there is no twin. `covariates` move T without memory; None where they are not known.
    `claimed` groups are asked only because somebody named them: no draw, so no control is their like for certain.
    """

    group: str
    digest: str
    side: Side
    copies: int
    family: Family
    best: Match | None
    twin: float | None = None
    covariates: tuple[float, ...] | None = None
    claimed: bool = False

    @property
    def statistic(self) -> float:
        """Return T, +inf where nothing came near."""
        return statistic(self.best) if self.best else inf

    def counted(self, closest: float) -> float:
        """Return T as it is tested: +inf where the twin reproduces the picture too."""
        return inf if self.twin is not None and self.twin <= closest else self.statistic


@dataclass(frozen=True, slots=True)
class _Rule:
    fdr: float
    closest: float
    matched: int
    exact: bool
    reach: float


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
class AtAll:
    """Does this model copy at all? Exact one-sided permutation p of the number of pictures within tau.

    `p_value` permutes labels within strata of equal copies, and so speaks of `comparable` pictures only, those whose
    number of copies some control shares; `p_pooled` permutes all labels, which assumes that copied pictures are like
    the others. Null without controls.
    """

    pictures: int
    pictures_within: int
    controls: int
    controls_within: int
    comparable: int
    p_value: float | None
    p_pooled: float | None


@dataclass(frozen=True, slots=True)
class Balance:
    """How unlike pictures and controls are in a covariate: standardised mean differences, all and matched controls."""

    covariate: str
    before: float
    after: float


@dataclass(frozen=True, slots=True)
class Certified:
    """Every tested group of both sides, nearest first, with the tests of all families.

    `controls_certified` counts, of all `controls_n`, those that would be certified were each in turn one more
    picture. `at_all` speaks of the asked family without claimed groups, or
    where nobody was asked of the unasked one, and `balance` of its covariates. `twin_leans` is
    `twin_leans(tested)`.
    """

    findings: list[Finding]
    tests: dict[Family, Test]
    controls_n: int
    controls_certified: int
    at_all: AtAll
    balance: list[Balance]
    twin_leans: float | None = None


def statistic(match: Match) -> float:
    """Return T: the tiled distance to the picture or to its own way through the autoencoder, whichever is smaller.

    Of a template it is the distance over what stays fixed, where that is smaller still.
    """
    return min(known for known in (match.tiled, match.round_trip, match.masked) if known is not None)


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


def certify(
    tested: Sequence[Tested],
    *,
    fdr: float,
    closest: float,
    matched: int = 99,
    exact: bool = True,
    reach: float = FURTHEST,
) -> Certified:
    """Certify the groups that were tested, family by family.

    q is `stats.conformal_q`: within `closest`, that of the list of reproductions. Without controls p and q are null and
    nothing is certified. A finding's basis is "exact" where its group has one copy and was drawn, or is a canary, and,
    if certified, would be so in a test of the one-copy groups alone: a list that is long because of copied pictures,
    for which controls of one copy stand on an assumption, is no exact ground for a single one. `exact` False, where the
    split was not drawn at random, makes every basis "assumption-based". `matched` controls give the matched p. The
    difference to the twin takes no T for more than `reach`, beyond which a distance says nothing of copying. Raises
    ValueError where a group is tested twice (best-of-members inflates p).
    """
    _refuse_twice(tested)
    leaning = twin_leans(tested, closest)
    rule = _Rule(fdr, closest, matched, exact and (leaning is None or leaning > SUSPECT), reach)
    parts = [_family([t for t in tested if t.family == family], rule) for family in FAMILIES]
    findings = [finding for part in parts for finding in part.findings]
    asked = [t for t in tested if t.family == "asked" and not t.claimed]
    spoken = asked or [t for t in tested if t.family == "unasked"]
    return Certified(
        findings=sorted(findings, key=lambda finding: (_t(finding), finding.group)),
        tests=dict(zip(FAMILIES, (part.test for part in parts), strict=True)),
        controls_n=sum(part.test.n_controls for part in parts),
        controls_certified=sum(part.controls_certified for part in parts),
        at_all=at_all(spoken, rule.closest),
        balance=_balance(spoken, rule.matched),
        twin_leans=leaning,
    )


def at_all(tested: Sequence[Tested], closest: float) -> AtAll:
    """Count who is within `closest` on both sides, and weigh it by permuting the labels."""
    within = np.array([t.counted(closest) <= closest for t in tested], np.bool_)
    picture = np.array([t.side == "picture" for t in tested], np.bool_)
    copies = np.array([t.copies for t in tested], np.int64)
    both = np.isin(copies, np.intersect1d(copies[picture], copies[~picture]))
    able = bool(picture.any() and (~picture).any())
    return AtAll(
        pictures=int(picture.sum()),
        pictures_within=int(within[picture].sum()),
        controls=int((~picture).sum()),
        controls_within=int(within[~picture].sum()),
        comparable=int((picture & both).sum()),
        p_value=exactly.permutation_p(within, picture, copies) if able else None,
        p_pooled=exactly.permutation_p(within, picture, np.zeros_like(copies)) if able else None,
    )


def twin_leans(tested: Sequence[Tested], closest: float) -> float | None:
    """Return the exact permutation p of how many more controls than pictures the twin brings within `closest`.

    A twin that was trained on controls takes the near ones out of the null, and with them what bounds chance: small
    here, it is none that evidence can rest on. None without a twin.
    """
    if not tested or any(t.twin is None for t in tested):
        return None
    within = np.array([t.twin is not None and t.twin <= closest for t in tested], np.bool_)
    control = np.array([t.side == "control" for t in tested], np.bool_)
    return exactly.permutation_p(within, control, np.zeros(len(tested), np.int64))


def rates(findings: Sequence[Finding], *, fdr: float, closest: float) -> list[Rate]:
    """Return the shares of groups certified and within `closest`, with exact intervals and control twins.

    Asked groups per tier of copies ("1", "2-3", ... "64+") and together (tier null), unasked groups together, or like
    asked ones where nobody was asked; tiers without groups are left out. The twin of "within tau" is the family's
    controls within `closest`, that of "certified" its controls that would be certified were each one more picture; null
    without controls. The interval speaks of the captions that were drawn, so groups that were asked only because
    somebody named them are in none: of a tier whose captions were chosen (the most copied) it says nothing about the
    others.
    """
    return [rate for family in FAMILIES for rate in _rates(family, findings, fdr, closest)]


@dataclass(frozen=True, slots=True)
class _Part:
    findings: list[Finding]
    test: Test
    controls_certified: int


def _family(tested: Sequence[Tested], rule: _Rule) -> _Part:
    pictures, controls = _side(tested, "picture"), _side(tested, "control")
    t, null = _distances(pictures, rule.closest), _distances(controls, rule.closest)
    judged = _judged(pictures, controls, rule) if controls else [_finding(picture, rule) for picture in pictures]
    return _Part(
        findings=judged + [_finding(control, rule) for control in controls],
        test=test_of(len(t), len(null), int((null <= rule.closest).sum()), fdr=rule.fdr),
        controls_certified=int(stats.certified_if_added(t, null, alpha=rule.fdr, closest=rule.closest).sum()),
    )


def _judged(pictures: Sequence[Tested], controls: Sequence[Tested], rule: _Rule) -> list[Finding]:
    t, null = _distances(pictures, rule.closest), _distances(controls, rule.closest)
    p, q = stats.conformal_p(t, null), stats.conformal_q(t, null, rule.closest)
    certified = (q <= rule.fdr) & (t <= rule.closest)
    gammas = stats.sensitivities(t, null, alpha=rule.fdr, closest=rule.closest)
    exact = rule.exact & (_stands_alone(pictures, null, rule) | ~certified)
    matched, twins = _matched(pictures, controls, rule), _twin_p(pictures, controls, rule.reach)
    return [
        replace(
            _finding(picture, rule),
            p_value=float(p[k]),
            q_value=float(q[k]),
            certified=bool(certified[k]),
            basis="exact" if exact[k] and _single(picture) else "assumption-based",
            sensitivity=float(gammas[k]) if certified[k] else None,
            matched_p=matched[k],
            twin_p=twins[k],
        )
        for k, picture in enumerate(pictures)
    ]


def _stands_alone(pictures: Sequence[Tested], null: Reals, rule: _Rule) -> NDArray[np.bool_]:
    """Tell which pictures have one copy and q <= `fdr` in a test of the one-copy groups alone."""
    stands = np.array([_single(picture) for picture in pictures], np.bool_)
    t = _distances(pictures, rule.closest)[stands]
    stands[stands] = stats.conformal_q(t, null, rule.closest) <= rule.fdr
    return stands


def _single(tested: Tested) -> bool:
    """Tell whether controls are like this in everything but training: a draw and one copy, or a coin decided."""
    return (tested.copies == 1 and not tested.claimed) or tested.family == "canary"


def _matched(pictures: Sequence[Tested], controls: Sequence[Tested], rule: _Rule) -> list[float | None]:
    """Rank each picture among the controls most like it; None where the covariates are not known, or no control is."""
    known, null = _known(pictures), [c for c in controls if c.covariates is not None]
    if not known or not null:
        return [None] * len(pictures)
    x, y = _covariates([pictures[k] for k in known]), _covariates(null)
    nearest = matching.nearest_controls(x, y, min(rule.matched, len(null)))
    t = _distances([pictures[k] for k in known], rule.closest)
    ranked, there = matching.matched_p(t, _distances(null, rule.closest), nearest), matching.supported(x, y)
    found = {k: float(p) for k, p, like in zip(known, ranked, there, strict=True) if like}
    return [found.get(k) for k in range(len(pictures))]


def _balance(tested: Sequence[Tested], matched: int) -> list[Balance]:
    pictures = [t for t in _side(tested, "picture") if t.covariates is not None]
    controls = [t for t in _side(tested, "control") if t.covariates is not None]
    if not pictures or not controls:
        return []
    x, y = _covariates(pictures), _covariates(controls)
    differences = matching.balance(x, y, matching.nearest_controls(x, y, min(matched, len(y))))
    return [Balance(name, float(a), float(b)) for name, (a, b) in zip(NAMES, differences, strict=True)]


def _known(tested: Sequence[Tested]) -> list[int]:
    return [k for k, t in enumerate(tested) if t.covariates is not None]


def _covariates(tested: Sequence[Tested]) -> Reals:
    return np.array([t.covariates for t in tested], np.float64)


def _twin_p(pictures: Sequence[Tested], controls: Sequence[Tested], reach: float) -> list[float | None]:
    """Rank how much nearer the model comes than its twin among the same of the controls."""
    if any(t.twin is None for t in (*pictures, *controls)):
        return [None] * len(pictures)
    nearer, null = ([_behind_twin(t, reach) for t in side] for side in (pictures, controls))
    return [float(p) for p in stats.conformal_p(np.array(nearer, np.float64), np.array(null, np.float64))]


def _behind_twin(tested: Tested, reach: float) -> float:
    """Return T - T_twin, the smaller the stronger: 0 where both are beyond reach."""
    return min(tested.statistic, reach) - min(inf if tested.twin is None else tested.twin, reach)


def _finding(tested: Tested, rule: _Rule) -> Finding:
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
        p_value=None,
        q_value=None,
        certified=False,
        basis="exact" if rule.exact and _single(tested) else "assumption-based",
        twin=None if tested.twin is None or isinf(tested.twin) else tested.twin,
        claimed=tested.claimed,
        masked=best.masked if best else None,
    )


def _rates(family: Family, findings: Sequence[Finding], fdr: float, closest: float) -> Iterator[Rate]:
    pictures, controls = ([f for f in findings if f.family == family and f.side == side] for side in SIDES)
    t, null = (np.array([counted(f, closest) for f in side], np.float64) for side in (pictures, controls))
    tiered = family == "asked" or (family == "unasked" and all(f.family != "asked" for f in findings))
    added = stats.certified_if_added(t, null, alpha=fdr, closest=closest)
    for tier, of_tier in _tiers([f for f in pictures if not f.claimed], tiered=tiered):
        certified = [f.certified for f in of_tier]
        yield _rate(f"{family} groups certified", tier, certified, [bool(c) for c in added])
        within = [counted(f, closest) <= closest for f in of_tier]
        yield _rate(f"{family} groups within tau", tier, within, [bool(c) for c in null <= closest])


def _tiers(pictures: Sequence[Finding], *, tiered: bool) -> Iterator[tuple[str | None, list[Finding]]]:
    for least, most in TIERS if tiered else ():
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


def _distances(tested: Sequence[Tested], closest: float) -> Reals:
    return np.array([t.counted(closest) for t in tested], np.float64)


def _t(finding: Finding) -> float:
    return inf if finding.statistic is None else finding.statistic


def counted(finding: Finding, closest: float) -> float:
    """Return T of a finding as it is tested: +inf where the twin reproduces the picture too."""
    return inf if finding.twin is not None and finding.twin <= closest else _t(finding)


def _refuse_twice(tested: Sequence[Tested]) -> None:
    seen: set[str] = set()
    for t in tested:
        if t.group in seen:
            raise ValueError(f"group {t.group} is tested twice: one member and one caption a group")
        seen.add(t.group)
