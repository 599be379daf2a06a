"""Turn verdicts into measurements: how many copies there are, how precise tau is, and how good the reviewers are."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from byrote.domain import Rate
from byrote.kernels import review
from byrote.kernels.stats import clopper_pearson
from byrote.review import VERDICTS
from byrote.review.draw import STRATA, Key, Pair

LEVEL = 0.95
By = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Reviewer:
    """How one reviewer did on planted copies (`sensitivity`) and on controls (`false_positives`)."""

    name: str
    judged: int
    sensitivity: Rate | None
    false_positives: Rate | None


@dataclass(frozen=True, slots=True)
class Agreement:
    """Kappa with its standard error, over `pairs` that all of `reviewers` judged."""

    method: str
    reviewers: tuple[str, ...]
    pairs: int
    kappa: float
    error: float


@dataclass(frozen=True, slots=True)
class Measurement:
    """What the verdicts say. Intervals cover at least 95 %; populations are the candidate pairs of the audit.

    `copies` is the Horvitz-Thompson total of pairs that a majority calls a copy, `recall` the share of them within
    tau, `precision` the share of pairs within tau that are copies. `band` follows precision along the rank of the drawn
    pairs within tau: (T, precision, low, high), valid wherever one stops. `undecided` drawn pairs have no majority.
    """

    drawn: int
    undecided: int
    population: int
    copies: tuple[float, int, int] | None
    precision: Rate | None
    recall: tuple[float, float] | None
    band: tuple[tuple[float, float, float, float], ...]
    reviewers: tuple[Reviewer, ...]
    agreement: tuple[Agreement, ...]
    level: float = LEVEL


def measure(key: Key, latest: Mapping[tuple[str, str, str], str]) -> Measurement:
    """Measure from the last verdict of every reviewer on every drawn pair."""
    by = _by_reviewer(key, latest)
    decided = majority(key, by)
    candidates = [pair for pair in key.pairs if pair.kind == "candidate"]
    strata = {name: _counted(name, key, candidates, decided) for name in STRATA}
    total = review.horvitz_thompson(list(strata.values()), LEVEL) if any(s.drawn for s in strata.values()) else None
    within = sorted(
        (p for p in candidates if p.stratum == STRATA[0] and p.id in decided), key=lambda p: p.statistic or 0
    )
    flags = np.array([decided[pair.id] == "copy" for pair in within], np.bool_)
    return Measurement(
        drawn=len(candidates),
        undecided=sum(pair.id not in decided for pair in candidates),
        population=sum(key.sizes.values()),
        copies=None if total is None else (total.total, total.low, total.high),
        precision=_rate("pairs within tau that are copies", flags),
        recall=_recall(strata),
        band=_band(within, flags),
        reviewers=tuple(_reviewer(name, key, said) for name, said in sorted(by.items())),
        agreement=tuple(_agreements(by)),
    )


def majority(key: Key, by: By) -> dict[str, str]:
    """Return the verdict that more than half of the reviewers of a pair gave, by its id; ties decide nothing."""
    out = {}
    for pair in key.pairs:
        said = Counter(verdicts[pair.id] for verdicts in by.values() if pair.id in verdicts)
        if said and said.most_common(1)[0][1] * 2 > said.total():
            out[pair.id] = said.most_common(1)[0][0]
    return out


def _by_reviewer(key: Key, latest: Mapping[tuple[str, str, str], str]) -> dict[str, dict[str, str]]:
    ids = {(pair.picture, pair.sample): pair.id for pair in key.pairs}
    by: dict[str, dict[str, str]] = defaultdict(dict)
    for (reviewer, picture, sample), verdict in latest.items():
        if (picture, sample) in ids:
            by[reviewer][ids[picture, sample]] = verdict
    return by


def _counted(name: str, key: Key, candidates: Sequence[Pair], decided: Mapping[str, str]) -> review.Stratum:
    judged = [pair.id for pair in candidates if pair.stratum == name and pair.id in decided]
    return review.Stratum(key.sizes[name], len(judged), sum(decided[each] == "copy" for each in judged))


def _recall(strata: Mapping[str, review.Stratum]) -> tuple[float, float] | None:
    """Bound the share of all copies that are within tau, from exact bounds on either side of it."""
    inside, outside = [strata[STRATA[0]]], [strata[name] for name in STRATA[1:]]
    if not all(s.drawn or not s.size for s in (*inside, *outside)):
        return None
    half = (1 + LEVEL) / 2
    a, b = (review.horvitz_thompson(part, half) for part in (inside, outside))
    return a.low / max(1, a.low + b.high), (a.high / (a.high + b.low) if a.high + b.low else 1.0)


def _band(within: Sequence[Pair], flags: NDArray[np.bool_]) -> tuple[tuple[float, float, float, float], ...]:
    if not len(flags):
        return ()
    means, band = np.cumsum(flags) / np.arange(1, len(flags) + 1), review.precision_band(flags, LEVEL)
    rows = zip(within, means, band, strict=True)
    return tuple((pair.statistic or 0.0, float(mean), float(low), float(high)) for pair, mean, (low, high) in rows)


def _reviewer(name: str, key: Key, said: Mapping[str, str]) -> Reviewer:
    planted, controls = (
        np.array([said[p.id] == "copy" for p in key.pairs if p.kind == kind and p.id in said], np.bool_)
        for kind in ("planted", "control")
    )
    return Reviewer(
        name,
        len(said),
        _rate("planted copies that were called a copy", planted),
        _rate("controls that were called a copy", controls),
    )


def _rate(name: str, flags: NDArray[np.bool_]) -> Rate | None:
    if not len(flags):
        return None
    k, n = int(flags.sum()), len(flags)
    return Rate(name, None, k, n, *clopper_pearson(k, n, LEVEL), LEVEL, "Clopper-Pearson", None, None)


def _agreements(by: By) -> list[Agreement]:
    found = []
    for a, b in combinations(sorted(by), 2):
        both = sorted(set(by[a]) & set(by[b]))
        kappa = review.cohen_kappa(*(np.array([VERDICTS.index(by[r][p]) for p in both], np.int64) for r in (a, b)))
        if kappa is not None:
            found.append(Agreement("Cohen", (a, b), len(both), kappa.kappa, kappa.error))
    if len(by) > 2:
        every = sorted(set.intersection(*(set(said) for said in by.values())))
        counts = [[sum(by[r][p] == word for r in by) for word in VERDICTS] for p in every]
        kappa = review.fleiss_kappa(np.array(counts, np.int64).reshape(-1, len(VERDICTS)))
        if kappa is not None:
            found.append(Agreement("Fleiss", tuple(sorted(by)), len(every), kappa.kappa, kappa.error))
    return found
