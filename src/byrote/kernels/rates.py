"""Shares and what follows from them: one-sided bounds, differences, how many samples it takes, what is still unseen.

`k` of `n` were seen; `copies` counts, prompt by prompt, how many of its `samples` were copies; `hits` counts, picture
by picture, how many samples brought it back. Levels are shares in (0, 1). Intervals are exact (they cover at least
their level) unless the docstring says "approximate". Prompts are the sampling unit everywhere, samples only within one
prompt. Counts that cannot be raise ValueError.
"""

from dataclasses import dataclass
from math import exp, inf, log1p, sqrt

import numpy as np
from jaxtyping import Float64, Int64
from numpy.typing import NDArray
from scipy import optimize, special
from scipy import stats as distributions

from byrote.kernels.stats import clopper_pearson

Reals = NDArray[np.float64]
Counts = Int64[NDArray[np.int64], "m"]
Steps = Int64[NDArray[np.int64], "j"]
LEAST_POSITIVE = 20
TINY = 1e-12
ROUNDING = 1e-12  # so that a chance of exactly `probability` counts as reaching it


def upper_bound(k: int, n: int, level: float = 0.95) -> float:
    """Return the exact one-sided upper bound of a share; 0 of n gives 1 - (1 - level)^(1/n), and n = 0 gives 1.

    Clopper and Pearson 1934, doi:10.1093/biomet/26.4.404, with all of the error on one side.
    """
    _refuse_share(k, n, level)
    return float(special.betaincinv(k + 1, n - k, level)) if k < n else 1.0


def lower_bound(k: int, n: int, level: float = 0.95) -> float:
    """Return the exact one-sided lower bound of a share, the mirror image of `upper_bound`."""
    _refuse_share(k, n, level)
    return float(special.betaincinv(k, n - k + 1, 1 - level)) if k else 0.0


def discovered(copies: Counts, samples: int, at: Steps) -> Float64[Reals, "j"]:
    """Return, for each number of samples in `at`, the mean chance that at least one of them is a copy.

    The mean over prompts of 1 - C(n - k, j) / C(n, j), the unbiased estimate of Chen et al. 2021, "Evaluating Large
    Language Models Trained on Code", arXiv:2107.03374, section 2.1 (pass@k), from sums of log(1 - j / i) so that small
    chances keep their digits. `at` is within 1 and `samples`: nothing is extrapolated.
    """
    _refuse_counts(copies, samples)
    if at.size and not 1 <= at.min() <= at.max() <= samples:
        raise ValueError(f"at must be within 1 and {samples}, not {at.min()} to {at.max()}")
    return np.array([_any_of(int(j), samples)[copies].mean() for j in at], np.float64)


def discoverable(
    copies: Counts, samples: int, at: Steps, probability: float, level: float = 0.95
) -> Float64[Reals, "j 3"]:
    """Return the share of prompts that give a copy in `at` samples with at least `probability`, and its two ends.

    (n, p)-discoverable extraction, Hayes et al. 2024, "Measuring memorization in language models via probabilistic
    extraction", arXiv:2410.19482: 1 - (1 - p_z)^n >= p, with p_z = k / N here. The ends put every p_z at its own
    Clopper-Pearson end: a band for a figure, not an interval of the share. An extrapolation beyond `samples`: it takes
    the samples of a prompt for independent, with one chance.
    """
    _refuse_counts(copies, samples)
    if at.size and at.min() < 1:
        raise ValueError(f"at must be at least 1, not {at.min()}")
    if not 0 < probability <= 1:
        raise ValueError(f"probability must be a share above 0 and at most 1, not {probability}")
    seen, each = np.unique(copies, return_inverse=True)
    rates = np.array([(k / samples, *clopper_pearson(k, samples, level)) for k in seen.tolist()])[each]
    with np.errstate(divide="ignore"):  # a chance of 1 misses with log 0
        chances = -np.expm1(at[:, None, None] * np.log1p(-rates[None]))
    return np.asarray((chances >= probability - ROUNDING).mean(1), np.float64)


def samples_to_first(k: int, n: int, level: float = 0.95) -> tuple[float, float, float]:
    """Return the expected number of samples to the first copy, 1 / p, and its ends.

    The ends are those of `seen_interval`: a rung is named because it gave a copy, so its k is never 0. At k = 0 the
    first is inf. It takes the samples of a prompt for independent, with one chance.
    """
    if k == 0:
        return inf, 1 / clopper_pearson(k, n, level)[1], inf
    low, high = seen_interval(k, n, level)
    return n / k, 1 / high, 1 / low if low else inf


def seen_interval(k: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Return the exact interval of a chance of which k >= 1 of n came true, given that it is told only because k >= 1.

    Ours: Clopper and Pearson's tails, both under the condition X >= 1, so that it covers among those that are told. One
    of n says nothing against a chance near 0 then, and the lower end is 0.
    """
    _refuse_share(k, n, level)
    if k < 1:
        raise ValueError("k must be at least 1: nothing is told of what never came true")
    tail = (1 - level) / 2

    def above(p: float) -> float:
        return float(special.betainc(k, n - k + 1, p) / _any(p, n)) - tail

    def below(p: float) -> float:
        return 1 - float(special.betainc(k + 1, n - k, p) / _any(p, n)) - tail

    low = 0.0 if k == 1 else float(optimize.brentq(above, TINY, 1.0))
    return low, 1.0 if k == n else float(optimize.brentq(below, TINY, 1.0))


def good_turing(hits: Int64[NDArray[np.int64], "r"]) -> float:
    """Return the estimated share of further copies that would be of pictures not seen yet, f1 / n. Approximate.

    Good 1953, "The population frequencies of species", doi:10.1093/biomet/40.3-4.237; 1 less this is the sample
    coverage. n copies in all, f1 of them of pictures that came back once; 1 where there are none.
    """
    _refuse_negative(hits)
    total = int(hits.sum())
    return int((hits == 1).sum()) / total if total else 1.0


@dataclass(frozen=True, slots=True)
class Species:
    """How many pictures were seen, how many there seem to be, and the ends of its interval."""

    seen: int
    estimate: float
    low: float
    high: float


def chao1(hits: Int64[NDArray[np.int64], "r"], level: float = 0.95) -> Species:
    """Extrapolate how many pictures would come back in the end: seen + f1^2 / (2 f2). Approximate, and it leans low.

    Chao 1984, "Nonparametric estimation of the number of classes in a population", Scandinavian Journal of Statistics
    11:265-270, bias-corrected to f1 (f1 - 1) / 2 where f2 = 0; variance and log-normal interval of Chao 1987,
    doi:10.2307/2531532. Where nothing unseen is left (f1 = 0, or f1 = 1 and f2 = 0), the upper end is that of the R
    package SpadeR (Chao et al. 2016), which has hits for Poisson, and the lower end the number seen. It takes copies
    for independent draws, which samples of chosen captions are not. At least one hit.
    """
    _refuse_negative(hits)
    hits = hits[hits > 0]
    if not hits.size:
        raise ValueError("hits must hold at least one picture that came back")
    unseen, variance = _unseen(len(hits), int((hits == 1).sum()), int((hits == 2).sum()))
    z = float(special.ndtri((1 + level) / 2))
    if unseen == 0:
        return _all_seen(hits, z)
    width = exp(z * sqrt(log1p(variance / unseen**2)))
    seen = len(hits)
    return Species(seen, seen + unseen, seen + unseen / width, seen + unseen * width)


def difference(k1: int, n1: int, k2: int, n2: int, level: float = 0.95) -> tuple[float, float]:
    """Return an interval of the difference of two independent shares, p1 - p2.

    Conservative: from two exact intervals of half the error each (Bonferroni), so it covers at least `level` and is
    wider than it need be. Ours, because the shorter ones in use are approximate.
    """
    half = (1 + level) / 2
    (low1, high1), (low2, high2) = clopper_pearson(k1, n1, half), clopper_pearson(k2, n2, half)
    return low1 - high2, high1 - low2


def paired_difference(only_first: int, only_second: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Return an interval of the difference p1 - p2 of two shares of the same n things, from those where they differ.

    Exact intervals of both discordant shares at half the error each (Bonferroni): conservative, as `difference`.
    """
    if only_first + only_second > n:
        raise ValueError(f"only_first + only_second must be at most n, not {only_first} + {only_second} of {n}")
    return difference(only_first, n, only_second, n, level)


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the exact two-sided p-value that both shares of a pair are alike; 1 where no pair differs.

    McNemar 1947, doi:10.1007/BF02295996, by the binomial distribution of the discordant pairs.
    """
    differ = only_first + only_second
    return float(distributions.binomtest(only_first, differ, 0.5).pvalue) if differ else 1.0


def cluster_bootstrap(
    copies: Counts, samples: int, *, seed: int, draws: int = 2000, level: float = 0.95
) -> tuple[float, float] | None:
    """Return a percentile interval of the share of samples that are copies, prompts redrawn whole. Approximate.

    Efron and Tibshirani 1993, "An Introduction to the Bootstrap", section 13.3. None below 20 prompts with a copy:
    with one it covers .54 of the time.
    """
    _refuse_counts(copies, samples)
    if (copies > 0).sum() < LEAST_POSITIVE:
        return None
    dice = np.random.default_rng(seed)
    m = len(copies)
    means = [copies[dice.integers(0, m, m)].mean() / samples for _ in range(draws)]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _any(p: float, n: int) -> float:
    """Return the chance that at least one of n comes true."""
    return float(-np.expm1(n * np.log1p(-p))) if p < 1 else 1.0


def _any_of(j: int, samples: int) -> Reals:
    """Return, for k = 0 to `samples`, the chance that j samples out of all hold one of the k copies."""
    i = np.arange(samples, 0, -1)
    with np.errstate(divide="ignore"):  # log 0 where there are fewer others than j
        missed = np.where(i > j, np.log1p(-np.minimum(j / i, 1.0)), -inf)
    return np.asarray(-np.expm1(np.concatenate([[0.0], np.cumsum(missed)])), np.float64)


def _unseen(seen: int, once: int, twice: int) -> tuple[float, float]:
    """Return how many pictures are still unseen, and the variance of that."""
    if twice:
        r = once / twice
        return once * r / 2, twice * (r**2 / 2 + r**3 + r**4 / 4)
    unseen = once * (once - 1) / 2
    return unseen, unseen + once * (2 * once - 1) ** 2 / 4 - once**4 / (4 * (seen + unseen))


def _all_seen(hits: Counts, z: float) -> Species:
    """Put an interval around the number seen, by the chance exp(-hits) that a picture so frequent was missed."""
    seen, missed = len(hits), np.exp(-hits.astype(np.float64))
    variance = (missed - missed**2).sum() - (hits * missed).sum() ** 2 / hits.sum()
    found = 1 - missed.mean()
    centre, reach = seen / found, z * sqrt(max(0.0, float(variance))) / found
    return Species(seen, float(seen), float(seen), float(centre + reach))


def _refuse_share(k: int, n: int, level: float) -> None:
    if not 0 <= k <= n:
        raise ValueError(f"k must be within 0 and n, not {k} of {n}")
    if not 0 < level < 1:
        raise ValueError(f"level must be a share in (0, 1), not {level}")


def _refuse_counts(copies: Counts, samples: int) -> None:
    if not copies.size:
        raise ValueError("copies must hold at least one prompt")
    if not 0 <= copies.min() <= copies.max() <= samples:
        raise ValueError(f"copies must be within 0 and {samples}, not {copies.min()} to {copies.max()}")


def _refuse_negative(hits: Counts) -> None:
    if hits.size and hits.min() < 0:
        raise ValueError(f"hits must be 0 or more, not {hits.min()}")
