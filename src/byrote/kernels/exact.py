"""Exact tests: Holm's step-down for several claims, and the permutation of labels for a whole audit."""

import numpy as np
from jaxtyping import Bool, Float64, Int64
from numpy.typing import NDArray
from scipy import stats

Reals = NDArray[np.float64]
Flags = NDArray[np.bool_]


def holm(p: Float64[Reals, "m"]) -> Float64[Reals, "m"]:
    """Adjust p-values so that those at most alpha hold together with an error of at most alpha, whatever ties them.

    Holm 1979, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6:65-70.
    NaN raises ValueError.
    """
    if np.isnan(p).any():
        raise ValueError("a p-value is NaN")
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p))))
    adjusted = np.empty_like(p, np.float64)
    adjusted[order] = np.minimum(steps, 1.0)
    return adjusted


def permutation_p(within: Bool[Flags, "n"], picture: Bool[Flags, "n"], strata: Int64[NDArray[np.int64], "n"]) -> float:
    """Return the exact one-sided p-value of the number of pictures within tau when labels are permuted within strata.

    `within` says who is within tau, `picture` who is a picture and not a control. In a stratum of N with K within tau
    and m pictures the count is hypergeometric; strata are independent, so their counts convolve. No relabelling is
    drawn. Fisher 1935, "The Design of Experiments", section 21; for train and held-out halves Majhi and Bagchi 2026,
    arXiv:2610.00251. A stratum of one side only says nothing. 1 where nothing is within tau.
    """
    chances = np.ones(1)
    for stratum in np.unique(strata):
        at = strata == stratum
        total, near, drawn = int(at.sum()), int((at & within).sum()), int((at & picture).sum())
        counts = np.arange(min(near, drawn) + 1)
        chances = np.convolve(chances, stats.hypergeom.pmf(counts, total, near, drawn))
    observed = int((within & picture).sum())
    return float(min(1.0, chances[observed:].sum()))
