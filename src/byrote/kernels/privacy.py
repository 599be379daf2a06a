"""What canaries tell of a training: exposure, and a lower bound on epsilon from one run.

A canary's score is a distance: the smaller the stronger; +inf says that nothing of it came back. NaN raises
ValueError, as do counts that cannot be. epsilon is in nats.
"""

from math import exp, log, log2

import numpy as np
from jaxtyping import Float64
from numpy.typing import NDArray
from scipy import stats

Reals = NDArray[np.float64]
LARGEST = 50.0  # beyond it a right guess is certain in double precision
TOLERANCE = 1e-9


def exposure(inserted: Float64[Reals, "m"], reference: Float64[Reals, "n"]) -> Float64[Reals, "m"]:
    """Return log2 n - log2 rank of each inserted canary among the n references: at most log2 n.

    Carlini et al. 2019, "The Secret Sharer", arXiv:1802.08232, section 4; of images Carlini et al. 2023,
    arXiv:2301.13188, section 7. As TensorFlow Privacy computes it (secret_sharer/exposures.py), the rank is 1 + the
    references at or below, so that ties count for the references, and a canary behind all of them has -log2(1 + 1 / n).
    Departs from the paper: the score is a distance of extraction, not the loss, so what is learnt but does not come out
    has no exposure here, and figures are lower.
    """
    if not len(reference):
        raise ValueError("exposure wants at least one reference canary")
    if np.isnan(inserted).any() or np.isnan(reference).any():
        raise ValueError("a canary's score is NaN")
    ranks = 1 + np.searchsorted(np.sort(reference), inserted, "right")
    return np.asarray(log2(len(reference)) - np.log2(ranks), np.float64)


def greatest_exposure(references: int) -> float:
    """Return the most that so many references can show: 10 takes 1,024 of them."""
    return log2(references)


def epsilon(correct: int, guesses: int, *, total: int, delta: float = 0.0, level: float = 0.95) -> float:
    """Return a lower bound, at confidence `level`, on the epsilon of one training; 0 where nothing is refuted.

    Steinke, Nasr and Jagielski 2023, "Privacy Auditing with One (1) Training Run", arXiv:2305.08846, theorem 5.2 and
    appendix D: `total` canaries went in each by its own fair coin, `guesses` of the coins were guessed from the model,
    the others not, and `correct` guesses were right. No (epsilon, delta)-DP training below the bound lets so many be
    right with a chance above 1 - level. Guesses may depend on the model in any way, not on the coins.
    Where a canary has several copies, the bound is on the group of them: see `per_copy`.
    """
    if not 0 <= correct <= guesses <= total:
        raise ValueError(f"0 <= correct <= guesses <= total must hold, not {correct}, {guesses}, {total}")
    if not (0 < level < 1 and 0 <= delta <= 1):
        raise ValueError(f"level must be in (0, 1) and delta in [0, 1], not {level} and {delta}")
    low, high = 0.0, LARGEST
    if _chance(correct, guesses, total, low, delta) > 1 - level:
        return 0.0
    while high - low > TOLERANCE:
        middle = (low + high) / 2
        low, high = (middle, high) if _chance(correct, guesses, total, middle, delta) <= 1 - level else (low, middle)
    return low


def per_copy(bound: float, copies: int) -> float:
    """Return the bound on the epsilon of one copy, from that of a canary with so many copies and delta = 0.

    Group privacy: a training that is epsilon-DP for one picture is (copies epsilon)-DP for so many. With delta above 0
    the group's delta grows too, and this does not hold.
    """
    if copies < 1:
        raise ValueError(f"copies must be at least 1, not {copies}")
    return bound / copies


def most_epsilon(guesses: int, level: float = 0.95) -> float:
    """Return the bound that so many guesses give where all are right: the most that an audit can show (delta 0).

    The logit of (1 - level)^(1 / guesses); 0 up to four guesses at .95.
    """
    right = (1 - level) ** (1 / guesses) if guesses else 0.5
    return max(0.0, log(right / (1 - right)))


def _chance(correct: int, guesses: int, total: int, eps: float, delta: float) -> float:
    """Bound the chance of so many right guesses under (eps, delta)-DP: the p-value of appendix D."""
    right = 1 / (1 + exp(-eps))
    tail = float(stats.binom.sf(correct - 1, guesses, right))
    if delta == 0 or correct == 0:
        return tail
    steps = np.arange(1, correct + 1)
    steepest = float((np.cumsum(stats.binom.pmf(correct - steps, guesses, right)) / steps).max())
    return min(1.0, tail + steepest * 2 * total * delta)
