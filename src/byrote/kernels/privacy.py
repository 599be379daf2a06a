"""What canaries tell of a training: exposure, and a lower bound on epsilon from one run.

A canary's score is a distance: the smaller the stronger; +inf says that nothing of it came back.
"""

from math import exp, log, log2

import numpy as np
from jaxtyping import Float64
from numpy.typing import NDArray
from scipy import stats

Reals = NDArray[np.float64]
LARGEST = 50.0


def exposure(inserted: Float64[Reals, "m"], reference: Float64[Reals, "n"]) -> Float64[Reals, "m"]:
    """Return log2 n - log2 rank of each inserted canary among the n references, at most log2 n and at least 0.

    Carlini et al. 2019, "The Secret Sharer", arXiv:1802.08232, section 4; of images Carlini et al. 2023,
    arXiv:2301.13188, section 7. The rank is 1 + the references at or below, so that ties count for the references (as
    in TensorFlow Privacy), but at most n.
    Departs from it: the score is the distance of extraction, not the loss, so what is learnt but does not come out has
    no exposure here.
    """
    if not len(reference):
        raise ValueError("exposure wants at least one reference canary")
    below = np.searchsorted(np.sort(reference), inserted, "right")
    ranks = np.minimum(1 + below, len(reference))
    return np.asarray(np.log2(len(reference)) - np.log2(ranks), np.float64)


def greatest_exposure(references: int) -> float:
    """Return the most that so many references can show."""
    return log2(references)


def epsilon(correct: int, guesses: int, *, total: int, delta: float = 0.0, level: float = 0.95) -> float:
    """Return the largest epsilon that one run refutes: a training that is (epsilon, delta)-DP leaks at least this much.

    Steinke, Nasr and Jagielski 2023, "Privacy auditing with one (1) training run", arXiv:2305.08846, theorem 5.2:
    `total` canaries went in each by its own fair coin, `guesses` of the coins were guessed from the model and
    `correct` guesses were right. Guesses may depend on the model in any way, not on the coins. 0 where nothing is
    refuted.
    """
    if not 0 <= correct <= guesses <= total:
        raise ValueError(f"0 <= correct <= guesses <= total does not hold: {correct}, {guesses}, {total}")
    low, high = 0.0, LARGEST
    if _chance(correct, guesses, total, low, delta) > 1 - level:
        return 0.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (middle, high) if _chance(correct, guesses, total, middle, delta) <= 1 - level else (low, middle)
    return low


def _chance(correct: int, guesses: int, total: int, eps: float, delta: float) -> float:
    """Bound the chance of so many right guesses under (eps, delta)-DP."""
    right = 1 / (1 + exp(-eps))
    tail = float(stats.binom.sf(correct - 1, guesses, right))
    if delta == 0 or correct == 0:
        return tail
    sums = np.cumsum(stats.binom.pmf(correct - np.arange(1, correct + 1), guesses, right))
    steepest = float((sums / np.arange(1, correct + 1)).max())
    return min(1.0, tail + steepest * 2 * total * delta)


def most_epsilon(guesses: int, level: float = 0.95) -> float:
    """Return the bound that so many guesses give where all are right: the most that an audit can show (delta 0)."""
    right = (1 - level) ** (1 / guesses) if guesses else 0.5
    return max(0.0, log(right / (1 - right)))
