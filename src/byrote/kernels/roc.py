"""How well a score tells members from others: TPR at an FPR, AUC, and a threshold carried over to pictures not seen.

A score is larger for what is likelier a member; -inf says that nothing was found, +inf is allowed. `members` were
trained on, `others` were not: controls of the same kind, or the figures speak of the kind and not of the training
(CopyMark, github.com/caradryanl/CopyMark; `matching.separation` is the blind baseline). A picture is called a member
where its score is *above* the threshold, so that all scores alike call nobody. Intervals are two-sided, exact unless
the docstring says "approximate". Shares and levels lie in (0, 1) and are read as the decimal they print as. NaN and an
empty side raise ValueError.
"""

from dataclasses import dataclass
from fractions import Fraction
from math import ceil, exp, floor, log, sqrt

import numpy as np
from jaxtyping import Float64
from numpy.typing import NDArray
from scipy import optimize, special
from scipy import stats as distributions

from byrote.kernels.stats import clopper_pearson

Reals = NDArray[np.float64]
Members = Float64[Reals, "m"]
Others = Float64[Reals, "n"]
ENOUGH = 10
"""So many others called at least; ours, from .1 % wanting 10,000 of them: the ends are then within 4 of each other."""


@dataclass(frozen=True, slots=True)
class Point:
    """What one threshold does: `hits` of `members` are called and `false_alarms` of `others`, each with its interval.

    `fpr` is what was realised, never what was asked for. `coarse`: fewer than ten others were called, so that the ends
    of the FPR are more than about 4 apart as a ratio.
    """

    threshold: float
    hits: int
    members: int
    tpr_low: float
    tpr_high: float
    false_alarms: int
    others: int
    fpr_low: float
    fpr_high: float
    level: float

    @property
    def tpr(self) -> float:
        """Return the share of members that are called."""
        return self.hits / self.members

    @property
    def fpr(self) -> float:
        """Return the share of others that are called."""
        return self.false_alarms / self.others

    @property
    def coarse(self) -> bool:
        """Tell whether too few others were called for the FPR to be known well."""
        return self.false_alarms < ENOUGH


@dataclass(frozen=True, slots=True)
class Area:
    """The chance that a member scores higher than one of the others, ties a half; its interval; how many of each."""

    auc: float
    low: float
    high: float
    members: int
    others: int
    level: float


def tpr_at_fpr(members: Members, others: Others, fpr: float, level: float = 0.95) -> Point | None:
    """Take the loosest threshold at which at most a share `fpr` of the others is called; None below 1 / fpr of them.

    Below that the threshold would be the largest of the others, and nothing seen says how often it is passed. Never the
    closest point of the ROC curve, which published code takes and which may exceed the target; ties are called
    together or not at all. What holds is the share of *these* others: of all others such a threshold calls
    (1 + false_alarms) / (1 + others) on average, without ties, and the interval says how many it may be, although the
    threshold was set on them. The interval of the TPR is that of this threshold, not of one with an FPR of exactly
    `fpr`, and holds only where the score was not chosen on these members: see `frozen`.
    """
    _refuse(members, others)
    allowed = floor(_decimal(fpr) * len(others))
    threshold = float(np.sort(others)[-1 - allowed])
    return frozen(threshold, members, others, level) if allowed else None


def frozen(threshold: float, members: Members, others: Others, level: float = 0.95) -> Point:
    """Apply a threshold from elsewhere and report the TPR and the FPR that it realises here, with exact intervals.

    The protocol of CopyMark (threshold from one set, TPR and realised FPR on a disjoint one): nothing may be tuned or
    chosen on what it is reported on. Clopper and Pearson 1934, doi:10.1093/biomet/26.4.404.
    """
    if np.isnan(threshold):
        raise ValueError("the threshold is NaN")
    _refuse(members, others)
    hits, alarms = int((members > threshold).sum()), int((others > threshold).sum())
    tpr, fpr = clopper_pearson(hits, len(members), level), clopper_pearson(alarms, len(others), level)
    return Point(threshold, hits, len(members), *tpr, alarms, len(others), *fpr, level)


def others_needed(fpr: float, called: int = ENOUGH) -> int:
    """Count the fewest others of which a share `fpr` is `called` at least: .1 % takes 10,000 of them for ten."""
    return ceil(called / _decimal(fpr))


def auc(members: Members, others: Others, level: float = 0.95) -> Area:
    """Return the Mann-Whitney AUC, ties a half, and an interval. Approximate.

    DeLong, DeLong and Clarke-Pearson 1988, "Comparing the areas under two or more correlated receiver operating
    characteristic curves", doi:10.2307/2531595, from ranks as Sun and Xu 2014, doi:10.1109/LSP.2014.2337313.
    Departs from it: on the logit scale, because the plain one leaves [0, 1] and covers less near its ends; and where
    DeLong's variance is 0 or not defined (all of one side above the other, all scores alike, a side of one) by
    Hoeffding 1963, doi:10.1080/01621459.1963.10500830, sections 2 and 5, exact: disjoint pairs are min(m, n).
    """
    _refuse(members, others)
    area, variance = _delong(members, others)
    tail = float(1 - _decimal(level)) / 2
    ends = _logit_ends(area, variance, tail) if variance > 0 else _hoeffding(area, min(len(members), len(others)), tail)
    return Area(area, *ends, len(members), len(others), level)


def robust_scale(values: Float64[Reals, "k *d"], reference: Float64[Reals, "r *d"]) -> Float64[Reals, "k *d"]:
    """Return (value - median) / interquartile range, both of the reference alone, each column by itself.

    As CLiD scales scores (Zhai et al. 2024; the centre is written as mean there). The reference is what thresholds are
    tuned on: published code scales the audited pictures with their own statistics, and then a score depends on the
    company it is in. A reference that does not vary raises ValueError.
    """
    if not len(reference):
        raise ValueError("the reference must hold at least one row")
    if np.isnan(values).any() or np.isnan(reference).any():
        raise ValueError("a score is NaN")
    low, centre, high = np.quantile(reference, [0.25, 0.5, 0.75], axis=0)
    if not np.all(high > low):
        raise ValueError("the reference must vary: its interquartile range is 0")
    return np.asarray((values - centre) / (high - low), np.float64)


def _delong(members: Reals, others: Reals) -> tuple[float, float]:
    """Return the AUC and DeLong's variance of it; 0 where a side of one has none."""
    m, n = len(members), len(others)
    pooled = distributions.rankdata(np.concatenate([members, others]))
    passed = (pooled[:m] - distributions.rankdata(members)) / n
    passing = 1 - (pooled[m:] - distributions.rankdata(others)) / m
    if min(m, n) < 2:
        return float(passed.mean()), 0.0
    return float(passed.mean()), float(passed.var(ddof=1) / m + passing.var(ddof=1) / n)


def _logit_ends(area: float, variance: float, tail: float) -> tuple[float, float]:
    centre, reach = log(area / (1 - area)), -float(special.ndtri(tail)) * sqrt(variance) / (area * (1 - area))
    return float(special.expit(centre - reach)), float(special.expit(centre + reach))


def _hoeffding(area: float, pairs: int, tail: float) -> tuple[float, float]:
    """Return the truths on both sides of `area` that a mean of so many pairs strays from by as much at most `tail`."""
    return _least_truth(area, pairs, tail), 1 - _least_truth(1 - area, pairs, tail)


def _least_truth(area: float, pairs: int, tail: float) -> float:
    def spare(truth: float) -> float:
        apart = float(special.rel_entr(area, truth) + special.rel_entr(1 - area, 1 - truth))
        return exp(-pairs * apart) - tail

    return float(optimize.brentq(spare, 1e-300, area)) if area > 0 else 0.0


def _decimal(share: float) -> Fraction:
    """Return the decimal that a share prints as, so that .29 of 100 is 29."""
    if not 0 < share < 1:
        raise ValueError(f"a share must lie between 0 and 1, not {share}")
    return Fraction(repr(float(share)))


def _refuse(members: Reals, others: Reals) -> None:
    if not len(members) or not len(others):
        raise ValueError("both sides must hold at least one score")
    if np.isnan(members).any() or np.isnan(others).any():
        raise ValueError("a score is NaN")
