"""Weigh distances against controls: p-values, false discovery rates, power, exact intervals.

A statistic is a distance, so the smaller the stronger; +inf says that nothing came near, or that a filter let nothing
pass. `controls` are the same statistic of pictures that the model never saw, `m` counts the pictures tested and `n`
the controls. NaN raises ValueError. Levels (`alpha`, `level`) are shares inside (0, 1) and are read as the decimal
they print as, so that .05 is a twentieth.
"""

from fractions import Fraction
from math import ceil, inf

import numpy as np
from jaxtyping import Bool, Float64, Int64
from numpy.typing import NDArray
from scipy import special

Reals = NDArray[np.float64]
Vector = Float64[Reals, "m"]


def conformal_p(statistics: Vector, controls: Float64[Reals, "n"]) -> Vector:
    """Rank every statistic among the controls: (1 + controls at or below) / (1 + n).

    Bates et al. 2023, "Testing for outliers with conformal p-values", arXiv:2104.08279. Ties count against the
    picture. +inf has p = 1 exactly, and a control of +inf stays in n: a filter is part of the statistic, never a
    smaller pool. Without controls every p is 1.
    """
    return (1 + _at_or_below(statistics, controls)) / (1 + len(controls))


def benjamini_hochberg(p: Vector) -> Vector:
    """Adjust p-values to q-values: the false discovery rate of the shortest list that holds the picture.

    Benjamini and Hochberg 1995, "Controlling the false discovery rate", doi:10.1111/j.2517-6161.1995.tb02031.x,
    in its adjusted form: min over longer lists of m p / length, at most 1.
    """
    _refuse_nan(p)
    order = np.argsort(p, kind="stable")
    lists = np.minimum(p[order] * (len(p) / np.arange(1, len(p) + 1)), 1.0)
    return _unsort(_best_from_here_on(lists, len(lists)), order)


def conformal_q(statistics: Vector, controls: Float64[Reals, "n"], closest: float = inf) -> Vector:
    """Adjust conformal p-values to q-values, those of the reproductions (T <= `closest`) in a list of their own.

    `benjamini_hochberg(conformal_p(...))`, shown to hold its rate by Bates et al. 2023, arXiv:2104.08279, here from
    whole counts with one rounding, so that q <= alpha holds exactly where `findings_needed` says. With `closest` at
    +inf it is nothing else.
    Departs from it: within `closest` only reproductions lengthen a list, as if T were +inf beyond. Pictures that
    training merely moved would otherwise fill the list and lend their certainty to an untrained picture that is
    within `closest` by chance, and the part of the list that is within `closest` could be false altogether; the same
    trap is known from proteomics (Sticker et al. 2017, doi:10.1038/nmeth.4338). Beyond `closest` the plain q is
    given, so q can fall from the last reproduction to the next picture.
    """
    order, below, length, cut = _lists(statistics, controls, closest)
    shares = len(order) * (1 + below) / (length * (len(controls) + 1))
    return _unsort(_best_from_here_on(np.minimum(shares, 1.0), cut), order)


def findings_needed(m: int, n_controls: int, controls_at_cut: int, alpha: float) -> int:
    """Count how many pictures of `m` must be as near as the cut for Benjamini-Hochberg to certify them all.

    ceil(m (1 + C) / (alpha (n + 1))) with C of n controls at or below the cut, in fractions. More than m: it cannot
    happen.
    """
    return ceil(Fraction(m * (1 + controls_at_cut), n_controls + 1) / _decimal(alpha))


def controls_needed(m: int, k: int, c: int, alpha: float) -> int:
    """Count the fewest controls with which k pictures of `m` are certified where c of the controls are as near.

    The inverse of `findings_needed`. One single finding (k = 1, c = 0) at alpha = .05 takes 20 m - 1.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    return max(c, ceil(Fraction(m * (1 + c), k) / _decimal(alpha)) - 1)


def sensitivity(c: int, n: int, p_limit: float) -> float:
    """Return the largest Gamma at which p_Gamma = G(1 + C) / (G(1 + C) + n - C) is still at most `p_limit`.

    Gamma bounds the odds by which an untrained copy of the picture could be nearer than a control for reasons other
    than training. Below 1 the claim does not stand at all. Modelled on Rosenbaum 2002, "Observational Studies",
    chapter 4.
    Departs from it: the bound is put on the rank of one picture among controls, because no pairs are matched.
    """
    limit = _share(p_limit)
    return limit * (n - c) / ((1 - limit) * (1 + c))


def sensitivities(statistics: Vector, controls: Float64[Reals, "n"], *, alpha: float, closest: float = inf) -> Vector:
    """Return for each picture the largest Gamma at which q <= alpha with every p of the family replaced by its p_Gamma.

    At least 1 exactly where `conformal_q` is at most alpha (up to the last bit). Joint: as Gamma grows the list
    shrinks too, so no picture borrows from one that would have left already.
    """
    order, below, length, cut = _lists(statistics, controls, closest)
    limit = _share(alpha) * length / max(len(order), 1)
    gammas = limit * (len(controls) - below) / ((1 - limit) * (1 + below))
    return _unsort(-_best_from_here_on(-gammas, cut), order)


def certified_if_added(
    statistics: Vector, controls: Float64[Reals, "n"], *, alpha: float, closest: float
) -> Bool[NDArray[np.bool_], "n"]:
    """Tell for each control whether it would be certified, were it one more picture instead of a control.

    By the rule of `conformal_q`: m + 1 pictures against the n - 1 controls left, q <= alpha and T <= closest. A list
    that holds the control gains one picture and loses one control whichever control it is, so all share one table of
    lists: O((m + n) log(m + n)).
    """
    _refuse_nan(controls)
    if len(controls) == 0:
        return np.zeros(0, np.bool_)
    cuts = np.sort(statistics[statistics <= closest])
    longer = np.append(_best_from_here_on(_share_if_added(cuts, statistics, controls), len(cuts)), inf)
    q = np.minimum(_share_if_added(controls, statistics, controls), longer[np.searchsorted(cuts, controls)])
    return np.asarray((q <= alpha) & (controls <= closest), np.bool_)


def decoy_precision(statistics: Vector, controls: Float64[Reals, "n"]) -> Vector:
    """Estimate, for each picture, the share of the pictures at least as near that owe it to training.

    1 - min(1, m (1 + C) / ((n + 1) k)) for k pictures and C controls as near as the picture. Elias and Gygi 2007,
    "Target-decoy search strategy", doi:10.1038/nmeth1019, with the + 1 of Barber and Candes 2015, arXiv:1404.5609.
    An estimate, not a bound, and not monotone along the rank; it takes all m for untrained, so it
    leans low.
    """
    order, below, length, _ = _lists(statistics, controls, inf)
    return _unsort(1 - np.minimum(1.0, len(order) * (1 + below) / (length * (len(controls) + 1))), order)


def clopper_pearson(k: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Return the exact interval of a share of which k of n were seen; (0, 1) for n = 0.

    Clopper and Pearson 1934, doi:10.1093/biomet/26.4.404. Covers at least `level`, with (1 - level) / 2 on either
    side; 0 of n therefore ends at 1 - .025^(1/n), not at the one-sided 1 - .05^(1/n).
    """
    if not 0 <= k <= n:
        raise ValueError(f"k must be within 0 and n, not {k} of {n}")
    tail = (1 - _share(level)) / 2
    low = float(special.betaincinv(k, n - k + 1, tail)) if k > 0 else 0.0
    high = float(special.betaincinv(k + 1, n - k, 1 - tail)) if k < n else 1.0
    return low, high


def binomial_recall(p: Vector, samples: int, least: int) -> Vector:
    """Return the chance P(Bin(samples, p) >= least) that a picture back in a share p of samples makes a clique.

    Carlini et al. 2023, arXiv:2301.13188, section 4.2, ask for 10 of 500; the chance itself is plain binomial.
    """
    if not 0 <= least <= samples:
        raise ValueError(f"least must be within 0 and samples, not {least} of {samples}")
    _refuse_nan(p)
    return np.asarray(special.betainc(least, samples - least + 1, p) if least else np.ones_like(p), np.float64)


def _lists(
    statistics: Vector, controls: Float64[Reals, "n"], closest: float
) -> tuple[Int64[NDArray[np.int64], "m"], Int64[NDArray[np.int64], "m"], Int64[NDArray[np.int64], "m"], int]:
    """Return the order, and along it the controls at or below, the length of the list, and where `closest` cuts."""
    order = np.argsort(statistics, kind="stable")
    nearest = statistics[order]
    cut = int(np.searchsorted(nearest, closest, "right"))
    return order, _at_or_below(nearest, controls), _at_or_below(nearest, nearest), cut


def _share_if_added(at: Reals, statistics: Reals, controls: Reals) -> Reals:
    """Return (m + 1) C / (n (k + 1)) for lists that end at `at` and hold a control more and one control less."""
    seen = (len(statistics) + 1) * _at_or_below(at, controls)
    return np.asarray(seen / (len(controls) * (_at_or_below(at, statistics) + 1)), np.float64)


def _at_or_below(values: Reals, pool: Reals) -> NDArray[np.int64]:
    _refuse_nan(values)
    _refuse_nan(pool)
    return np.searchsorted(np.sort(pool), values, "right").astype(np.int64)


def _best_from_here_on(lists: Reals, cut: int) -> Reals:
    """Return the least value from each place on, for the first `cut` places no further than the cut."""
    halves = [np.minimum.accumulate(half[::-1])[::-1] for half in (lists[:cut], lists[cut:])]
    return np.concatenate(halves)


def _unsort(values: Reals, order: NDArray[np.int64]) -> Reals:
    back = np.empty_like(values)
    back[order] = values
    return back


def _decimal(share: float) -> Fraction:
    """Return the decimal that a share prints as: .05 is 1/20, not the float a little above it."""
    return Fraction(repr(_share(share)))


def _share(value: float) -> float:
    if not 0 < value < 1:
        raise ValueError(f"a level must lie between 0 and 1, not {value}")
    return float(value)


def _refuse_nan(values: Reals) -> None:
    if np.isnan(values).any():
        raise ValueError("a statistic is NaN")
