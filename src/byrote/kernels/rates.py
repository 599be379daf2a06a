"""Shares and what follows from them: one-sided bounds, differences, how many samples it takes, what is still unseen.

`k` of `n` were seen; levels are shares in (0, 1). Intervals are exact (they cover at least their level) unless the
docstring says "approximate". Prompts are the sampling unit everywhere, samples only within one prompt.
"""

from dataclasses import dataclass
from math import exp, inf, log, sqrt

import numpy as np
from jaxtyping import Float64, Int64
from numpy.typing import NDArray
from scipy import special
from scipy import stats as distributions

from byrote.kernels.stats import clopper_pearson

Reals = NDArray[np.float64]
Counts = Int64[NDArray[np.int64], "m"]
LEAST_POSITIVE = 20


def upper_bound(k: int, n: int, level: float = 0.95) -> float:
    """Return the exact one-sided upper bound of a share; 0 of n gives 1 - (1 - level)^(1/n).

    Clopper and Pearson 1934, doi:10.1093/biomet/26.4.404, all of the error on one side.
    """
    return clopper_pearson(k, n, 2 * level - 1)[1] if n else 1.0


def lower_bound(k: int, n: int, level: float = 0.95) -> float:
    """Return the exact one-sided lower bound of a share."""
    return clopper_pearson(k, n, 2 * level - 1)[0] if n else 0.0


def discovered(copies: Counts, samples: int, at: Int64[NDArray[np.int64], "j"]) -> Float64[Reals, "j"]:
    """Return, for each number of samples in `at`, the mean chance that at least one of them is a copy.

    `copies` of the `samples` of each prompt were copies; 1 - C(n - k, j) / C(n, j) is the unbiased estimate of Chen et
    al. 2021, arXiv:2107.03374, section 2.1 ("pass@k"). `at` may not exceed `samples`: ValueError.
    """
    _refuse_counts(copies, samples)
    if len(at) and (at.min() < 1 or at.max() > samples):
        raise ValueError(f"at must be within 1 and {samples}, not {at.min()} to {at.max()}")
    if not len(copies):
        return np.zeros(len(at))
    k, j = copies[:, None].astype(np.float64), at[None].astype(np.float64)
    rest = samples - k - j
    with np.errstate(invalid="ignore"):
        none = special.gammaln(samples - k + 1) + special.gammaln(samples - j + 1)
        none = none - special.gammaln(np.maximum(rest, 0) + 1) - special.gammaln(samples + 1)
    missed = np.where(rest < 0, 0.0, np.exp(none))
    return np.asarray(np.clip(1 - missed, 0, 1).mean(0), np.float64)


def discoverable(
    copies: Counts, samples: int, at: Int64[NDArray[np.int64], "j"], probability: float, level: float = 0.95
) -> Float64[Reals, "j 3"]:
    """Return the share of prompts that give a copy in `at` samples with at least `probability`, and its two ends.

    (n, p)-discoverable extraction, Hayes et al. 2024, arXiv:2410.19482: 1 - (1 - p_z)^n >= p with p_z = k / N. The ends
    put each p_z at its own Clopper-Pearson end, so they are those of each prompt, not a joint interval of the share.
    Beyond `samples` this extrapolates: it takes the samples of a prompt for independent with one chance.
    """
    _refuse_counts(copies, samples)
    if not len(copies):
        return np.zeros((len(at), 3))
    ends = np.array([clopper_pearson(int(k), samples, level) for k in range(samples + 1)])
    rates = np.stack([copies / samples, ends[copies, 0], ends[copies, 1]])
    with np.errstate(divide="ignore"):
        enough = -np.expm1(at[:, None, None] * np.log1p(-rates[None])) >= probability - 1e-12
    return np.asarray(enough.mean(2), np.float64)


def samples_to_first(k: int, n: int, level: float = 0.95) -> tuple[float, float, float]:
    """Return the expected number of samples to the first copy, 1 / p, with the ends that the interval of p gives."""
    low, high = clopper_pearson(k, n, level)
    return (n / k if k else inf), (1 / high if high else inf), (1 / low if low else inf)


def good_turing(hits: Int64[NDArray[np.int64], "r"]) -> float:
    """Return the estimated share of future copies that are of pictures not seen yet: f1 / n. Approximate.

    Good 1953, "The population frequencies of species", doi:10.1093/biomet/40.3-4.237. `hits` counts the copies of each
    picture that was seen.
    """
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
    """Extrapolate how many pictures would ever come back. Approximate, and a lower bound on average.

    Chao 1984, "Nonparametric estimation of the number of classes", Scandinavian Journal of Statistics 11:265-270, in
    the bias-corrected form f1 (f1 - 1) / (2 (f2 + 1)); variance and log-normal interval of Chao 1987,
    doi:10.2307/2531532. It takes copies for independent draws, which samples of chosen captions are not.
    """
    seen, once, twice = (int(n) for n in ((hits > 0).sum(), (hits == 1).sum(), (hits == 2).sum()))
    unseen = once * (once - 1) / (2 * (twice + 1))
    if unseen == 0:
        return Species(seen, float(seen), float(seen), float(seen))
    variance = unseen + once * (2 * once - 1) ** 2 / (4 * (twice + 1) ** 2)
    variance += once**2 * twice * (once - 1) ** 2 / (4 * (twice + 1) ** 4)
    z = float(distributions.norm.ppf((1 + level) / 2))
    width = exp(z * sqrt(log(1 + variance / unseen**2)))
    return Species(seen, seen + unseen, seen + unseen / width, seen + unseen * width)


def difference(k1: int, n1: int, k2: int, n2: int, level: float = 0.95) -> tuple[float, float]:
    """Return an interval of the difference of two independent shares, p1 - p2.

    From two exact intervals of half the error each (Bonferroni): it covers at least `level` and is wider than it need
    be; ours, because every shorter one in use is approximate.
    """
    half = (1 + level) / 2
    (low1, high1), (low2, high2) = clopper_pearson(k1, n1, half), clopper_pearson(k2, n2, half)
    return low1 - high2, high1 - low2


def paired_difference(only_first: int, only_second: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Return an interval of the difference of two shares of the same n, from those where they differ.

    Exact intervals of both discordant shares at half the error each (Bonferroni): conservative, as `difference`.
    """
    half = (1 + level) / 2
    (low1, high1), (low2, high2) = clopper_pearson(only_first, n, half), clopper_pearson(only_second, n, half)
    return low1 - high2, high1 - low2


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the exact two-sided p-value that both shares of a pair are alike.

    McNemar 1947, doi:10.1007/BF02295996, by the binomial distribution of the discordant pairs.
    """
    if only_first + only_second == 0:
        return 1.0
    return float(distributions.binomtest(only_first, only_first + only_second, 0.5).pvalue)


def cluster_bootstrap(
    copies: Counts, samples: int, *, seed: int, draws: int = 2000, level: float = 0.95
) -> tuple[float, float] | None:
    """Return a percentile interval of the share of samples that are copies, prompts redrawn whole. Approximate.

    Efron and Tibshirani 1993, "An Introduction to the Bootstrap", section 13.3. None below 20 prompts with a copy:
    with one it covers .54 of the time.
    """
    _refuse_counts(copies, samples)
    if int((copies > 0).sum()) < LEAST_POSITIVE:
        return None
    dice = np.random.default_rng(seed)
    means = copies[dice.integers(0, len(copies), (draws, len(copies)))].mean(1) / samples
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _refuse_counts(copies: Counts, samples: int) -> None:
    if len(copies) and not (copies.min() >= 0 and copies.max() <= samples):
        raise ValueError(f"copies must be within 0 and {samples}, not {copies.min()} to {copies.max()}")
