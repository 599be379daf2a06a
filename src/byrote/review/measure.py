"""Turn verdicts into measurements: how many copies there are, how precise tau is, and how good the reviewers are."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from byrote.domain import Rate
from byrote.kernels import review
from byrote.kernels.stats import clopper_pearson
from byrote.review import VERDICTS
from byrote.review.draw import STRATA, Key, Pair

LEVEL = 0.95
WIDTH = 0.1
"""Width of the interval of precision at which the question is settled; ours."""
LEAST = 10
"""Pairs that reviewers must have in common for a kappa; ours."""
By = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Reviewer:
    """How one reviewer, or the majority, did on planted copies (`sensitivity`) and on controls (`false_positives`).

    Pairs that a reviewer was unsure of, or that the majority does not decide, are in neither rate: `unsure_planted` and
    `unsure_controls` count them. The majority's intervals hold whatever they are.
    """

    name: str
    judged: int
    sensitivity: Rate | None
    false_positives: Rate | None
    unsure_planted: int = 0
    unsure_controls: int = 0


@dataclass(frozen=True, slots=True)
class Agreement:
    """Kappa of the five verdicts with its standard error, over the `pairs` candidates that all `reviewers` judged."""

    method: str
    reviewers: tuple[str, ...]
    pairs: int
    kappa: float
    error: float


@dataclass(frozen=True, slots=True)
class Measurement:
    """What the verdicts say. Intervals cover at least 95 %; the `population` are the candidate pairs of the audit.

    `copies` is the Horvitz-Thompson total of pairs that a majority calls a copy, `recall` bounds the share of them
    within `tau`, `precision` is the share of all candidate pairs within tau that are copies. `band` follows the drawn
    pairs within tau, and those alone, from the nearest on: (T, share of copies so far, low, high); it holds at all of
    them at once, so that one may stop at any.

    `undecided` drawn pairs have no majority, or nobody judged them, or could not be shown. Every interval holds
    whatever they are: its low end takes them for none, its high end for copies. Point estimates leave them out.
    `copies` is None while a stratum has no decided pair. `majority` is how all reviewers together did.
    """

    drawn: int
    undecided: int
    population: int
    tau: float
    copies: tuple[float, int, int] | None
    precision: Rate | None
    recall: tuple[float, float] | None
    band: tuple[tuple[float, float, float, float], ...]
    reviewers: tuple[Reviewer, ...]
    majority: Reviewer
    agreement: tuple[Agreement, ...]
    level: float = LEVEL


def measure(key: Key, latest: Mapping[tuple[str, str, str], str]) -> Measurement:
    """Measure from the last verdict of every reviewer on every drawn pair."""
    by = _by_reviewer(key, latest)
    decided = decisions(key, by)
    candidates = [pair for pair in key.pairs if pair.kind == "candidate"]
    strata = {name: _counted(name, key, candidates, decided) for name in STRATA}
    total = review.horvitz_thompson(list(strata.values()), LEVEL)
    known = all(s.known or not s.size for s in strata.values())
    within = sorted((p for p in candidates if p.stratum == STRATA[0]), key=lambda p: p.statistic or 0.0)
    return Measurement(
        drawn=len(candidates),
        undecided=sum(pair.id not in decided for pair in candidates),
        population=sum(key.sizes.values()),
        tau=key.tau,
        copies=(total.total, total.low, total.high) if known else None,
        precision=_precision(strata[STRATA[0]]),
        recall=_recall(strata),
        band=_band(within, decided),
        reviewers=tuple(_reviewer(name, key, _copies(said)) for name, said in sorted(by.items())),
        majority=_reviewer("majority", key, {p: decided.get(p) for said in by.values() for p in said}, widened=True),
        agreement=tuple(_agreements(by, frozenset(pair.id for pair in candidates))),
    )


def outlook(key: Key, latest: Mapping[tuple[str, str, str], str]) -> list[str]:
    """Say what is left to judge, and what more verdicts would bring if undecided pairs within tau fall like the others.

    A guess for planning and no measurement: undecided pairs need not be like those that were easy to decide.
    """
    decided = decisions(key, _by_reviewer(key, latest))
    candidates = [pair for pair in key.pairs if pair.kind == "candidate"]
    told = [f"{sum(pair.id not in decided for pair in candidates):,} of {len(candidates):,} candidate pairs undecided"]
    now = _counted(STRATA[0], key, candidates, decided)
    if not now.known:
        return [*told, "no pair within tau is decided yet, so nothing can be said of precision"]
    then = review.Stratum(now.size, now.drawn, round(now.drawn * now.yes / now.known))
    ends = [[end / now.size for end in review.finite_interval(one, LEVEL)] for one in (now, then)]
    (low, high), (lowest, highest) = ends
    told.append(f"precision within tau now {low:.1%} to {high:.1%}, with {now.open:,} drawn pairs there undecided")
    if now.open:
        told.append(f"once those are decided, if like the others: {lowest:.1%} to {highest:.1%}")
    return [*told, _settles(now)]


def _settles(now: review.Stratum) -> str:
    """Say how many pairs must be decided, like those so far, until the interval is narrow: of those drawn, or more."""
    share, points = now.yes / now.known, f"{100 * WIDTH:.0f} points"

    def narrow(one: review.Stratum) -> bool:
        low, high = review.finite_interval(one, LEVEL)
        return high - low <= WIDTH * one.size

    def decided(n: int) -> bool:
        return narrow(replace(now, yes=now.yes + round(n * share), open=now.open - n))

    def drawn(n: int) -> bool:
        return narrow(review.Stratum(now.size, n, round(n * share)))

    if decided(0):
        return f"settled: that is no wider than {points}"
    if decided(now.open):
        more = bisect_left(range(now.open + 1), True, key=decided)
        return f"settled to {points} once {more:,} more of them are decided"
    wanted = bisect_left(range(now.size + 1), True, lo=now.drawn, key=drawn)
    too_few = f"these {now.drawn:,} drawn pairs cannot settle it to {points}"
    return f"{too_few}; about {wanted:,} of the {now.size:,} there would"


def decisions(key: Key, by: By) -> dict[str, bool]:
    """Tell by its id whether a pair is a copy, where more than half of its reviewers say so or say that it is none.

    "part", "alike" and "no" all say that it is none, "unsure" says neither; ties and unsure majorities decide nothing.
    """
    out = {}
    for pair in key.pairs:
        said = [verdicts[pair.id] for verdicts in by.values() if pair.id in verdicts]
        copies, unsure = said.count("copy"), said.count("unsure")
        if 2 * max(copies, len(said) - copies - unsure) > len(said):
            out[pair.id] = 2 * copies > len(said)
    return out


def _by_reviewer(key: Key, latest: Mapping[tuple[str, str, str], str]) -> dict[str, dict[str, str]]:
    ids = {(pair.picture, pair.sample): pair.id for pair in key.pairs}
    by: dict[str, dict[str, str]] = defaultdict(dict)
    for (reviewer, picture, sample), verdict in latest.items():
        if (picture, sample) in ids:
            by[reviewer][ids[picture, sample]] = verdict
    return by


def _counted(name: str, key: Key, candidates: Sequence[Pair], decided: Mapping[str, bool]) -> review.Stratum:
    drawn = [pair.id for pair in candidates if pair.stratum == name]
    known = [decided[each] for each in drawn if each in decided]
    return review.Stratum(key.sizes[name], len(drawn), sum(known), len(drawn) - len(known))


def _precision(within: review.Stratum) -> Rate | None:
    """Return the share of copies in a stratum as `yes` of the decided pairs, with the exact ends for all of it."""
    if not within.known:
        return None
    low, high = (end / within.size for end in review.finite_interval(within, LEVEL))
    name = "candidate pairs within tau that are copies"
    return Rate(name, None, within.yes, within.known, low, high, LEVEL, "hypergeometric", None, None)


def _recall(strata: Mapping[str, review.Stratum]) -> tuple[float, float] | None:
    """Bound the share of all copies that are within tau, from exact bounds on either side of it."""
    inside, outside = [strata[STRATA[0]]], [strata[name] for name in STRATA[1:]]
    half = (1 + LEVEL) / 2
    a, b = (review.horvitz_thompson(part, half) for part in (inside, outside))
    if not a.high + b.high or not any(s.known for s in strata.values()):
        return None
    return a.low / max(1, a.low + b.high), a.high / (a.high + b.low) if a.high else 0.0


def _band(within: Sequence[Pair], decided: Mapping[str, bool]) -> tuple[tuple[float, float, float, float], ...]:
    """Follow the drawn pairs; the low side takes those that are not decided for none, the high side for copies."""
    if not any(pair.id in decided for pair in within):
        return ()
    none, copies = (np.array([decided.get(pair.id, open_) for pair in within], np.bool_) for open_ in (False, True))
    known = np.cumsum([pair.id in decided for pair in within])
    low, high = review.precision_band(none, LEVEL)[:, 0], review.precision_band(copies, LEVEL)[:, 1]
    means = np.cumsum(none) / np.maximum(1, known)
    rows = zip(within, means, low, high, strict=True)
    return tuple((p.statistic or 0.0, float(m), float(a), float(b)) for p, m, a, b in rows if p.id in decided)


def _copies(said: Mapping[str, str]) -> dict[str, bool | None]:
    return {pair: None if verdict == "unsure" else verdict == "copy" for pair, verdict in said.items()}


def _reviewer(name: str, key: Key, said: Mapping[str, bool | None], *, widened: bool = False) -> Reviewer:
    planted, controls = (
        [said[p.id] for p in key.pairs if p.kind == kind and p.id in said] for kind in ("planted", "control")
    )
    return Reviewer(
        name,
        len(said),
        _rate("planted copies that were called a copy", planted, widened),
        _rate("controls that were called a copy", controls, widened),
        planted.count(None),
        controls.count(None),
    )


def _rate(name: str, said: Sequence[bool | None], widened: bool) -> Rate | None:
    """Return the share of copies among the decided; `widened`, the ends hold whatever the others are."""
    k, n = said.count(True), len(said) - said.count(None)
    if not n:
        return None
    other = said.count(None) if widened else 0
    low, high = clopper_pearson(k, n + other, LEVEL)[0], clopper_pearson(k + other, n + other, LEVEL)[1]
    return Rate(name, None, k, n, low, high, LEVEL, "Clopper-Pearson", None, None)


def _agreements(by: By, candidates: frozenset[str]) -> list[Agreement]:
    """Return Cohen's kappa of every two reviewers and Fleiss' of all, over candidates: planted copies are too easy.

    Left out where fewer than `LEAST` are common.
    """
    found = []
    for a, b in combinations(sorted(by), 2):
        both = sorted(candidates & by[a].keys() & by[b].keys())
        kappa = review.cohen_kappa(*(np.array([VERDICTS.index(by[r][p]) for p in both], np.int64) for r in (a, b)))
        if kappa is not None and len(both) >= LEAST:
            found.append(Agreement("Cohen", (a, b), len(both), kappa.kappa, kappa.error))
    if len(by) > 2:
        every = sorted(candidates.intersection(*by.values()))
        counts = [[sum(by[r][p] == word for r in by) for word in VERDICTS] for p in every]
        kappa = review.fleiss_kappa(np.array(counts, np.int64).reshape(-1, len(VERDICTS)))
        if kappa is not None and len(every) >= LEAST:
            found.append(Agreement("Fleiss", tuple(sorted(by)), len(every), kappa.kappa, kappa.error))
    return found
