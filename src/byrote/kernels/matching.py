"""Controls that are like a picture in what moves T without memory; and whether the sides can be told apart at all."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64
from numpy.typing import NDArray
from scipy import spatial, stats

Reals = NDArray[np.float64]
FEWEST = 20
LEVEL, POWER = 0.05, 0.8


def nearest_controls(
    pictures: Float64[Reals, "m f"], controls: Float64[Reals, "n f"], count: int
) -> Int64[NDArray[np.int64], "m count"]:
    """Return for each picture the `count` controls that are most like it in its covariates, nearest first.

    Rank-based Mahalanobis distance: Rosenbaum 2010, "Design of Observational Studies", section 8.3. Ranks and their
    covariance are those of both sides pooled, so nothing here knows the side. Ties go to the earlier control. A
    control may serve many pictures. More than n: ValueError.
    """
    if not 1 <= count <= len(controls):
        raise ValueError(f"count must be within 1 and {len(controls)}, not {count}")
    ranks = _ranks(np.concatenate([pictures, controls]))
    spread = np.linalg.pinv(np.atleast_2d(np.cov(ranks, rowvar=False)), hermitian=True)
    x, y = ranks[: len(pictures)], ranks[len(pictures) :]
    return np.argsort(_form(x, y, spread), axis=1, kind="stable")[:, :count]


def supported(
    pictures: Float64[Reals, "m f"], controls: Float64[Reals, "n f"], outside: float = 0.01
) -> Bool[NDArray[np.bool_], "m"]:
    """Tell which pictures lie where controls are: in no covariate beyond all but a share `outside` of them.

    Beyond, the nearest controls are all on one side of the picture, and a rank among them is no p-value: a null picture
    further out than 99 % of the controls has p <= .05 in .10 to .36 of cases (tests/test_traps.py). The share is ours.
    """
    low, high = np.quantile(controls, [outside, 1 - outside], axis=0)
    return np.asarray(((low <= pictures) & (pictures <= high)).all(1), np.bool_)


def matched_p(
    statistics: Float64[Reals, "m"], controls: Float64[Reals, "n"], nearest: Int64[NDArray[np.int64], "m count"]
) -> Float64[Reals, "m"]:
    """Rank each statistic among its own matched controls: (1 + those at or below) / (1 + count).

    Exact where, given the covariates, a picture is exchangeable with the controls that are like it. Too small where
    controls run out: pictures flatter than 99 % of 4,000 controls, nearer for that alone, had p <= .05 in .10 to .36
    with 99 matched. All of 400 pictures, one deviation flatter on average: .06 there, .10 with 400 controls.
    """
    below = (controls[nearest] <= statistics[:, None]).sum(1)
    return np.asarray((1 + below) / (1 + nearest.shape[1]), np.float64)


def balance(
    pictures: Float64[Reals, "m f"], controls: Float64[Reals, "n f"], nearest: Int64[NDArray[np.int64], "m count"]
) -> Float64[Reals, "f 2"]:
    """Return the standardised mean difference of each covariate, against all controls and against the matched ones.

    Austin 2009, doi:10.1002/sim.3697, who calls .1 the least that matters. Both are over the pooled deviation before.
    """
    spread = np.sqrt((pictures.var(0) + controls.var(0)) / 2)
    spread[spread == 0] = 1.0
    all_controls, matched = controls.mean(0), controls[nearest].mean((0, 1))
    return np.stack([(pictures.mean(0) - mean) / spread for mean in (all_controls, matched)], axis=1)


@dataclass(frozen=True, slots=True)
class Separation:
    """How well pictures are told from controls without the model: `auc` (.5 is chance), its one-sided p-value, the
    smallest AUC that would have been found at level .05 with power .8, and how many of each side it rests on.
    """

    auc: float
    p_value: float
    detectable: float
    pictures: int
    controls: int


def separation(
    features: Float64[Reals, "n d"],
    picture: Bool[NDArray[np.bool_], "n"],
    strata: Int64[NDArray[np.int64], "n"],
    *,
    seed: int,
    folds: int = 5,
    draws: int = 999,
) -> Separation | None:
    """Try to tell pictures from controls by a cross-validated classifier, within strata only.

    Logistic regression on at most 32 principal components and their squares (a shift of spread shows there), each row
    scored by folds that did not hold it. The AUC counts pairs of one stratum. Its p-value permutes the out-of-fold
    scores within strata `draws` times (Ojala and Garriga 2010, JMLR 11:1833-1863, test 1, of the scores and not of the
    training: quicker, and checked by simulation to hold its level). `detectable` is from the variance of the
    Mann-Whitney statistics of the strata under the null, sum of m n (m + n + 1) / 12 over (sum of m n)^2. None where
    the strata that hold both sides have fewer than 20 of either.
    """
    kept = _both_sides(picture, strata)
    x, y, at = features[kept], picture[kept], strata[kept]
    m, n = int(y.sum()), int((~y).sum())
    if min(m, n) < FEWEST:
        return None
    scores = _out_of_fold(x, y, seed=seed, folds=folds)
    dice = np.random.default_rng(seed)
    auc = _auc(scores, y, at)
    null = np.array([_auc(scores, _shuffled(y, at, dice), at) for _ in range(draws)])
    p = (1 + int((null >= auc - 1e-12).sum())) / (1 + draws)
    z = float(stats.norm.ppf(1 - LEVEL) + stats.norm.ppf(POWER))
    return Separation(auc, p, min(1.0, 0.5 + z * _spread(y, at)), m, n)


def _form(x: Reals, y: Reals, spread: Reals) -> Reals:
    """Return (x - y)' S (x - y) of all pairs."""
    root = np.linalg.svd(spread, hermitian=True)
    half = root.U * np.sqrt(np.maximum(root.S, 0))
    return spatial.distance.cdist(x @ half, y @ half, "sqeuclidean")


def _ranks(values: Reals) -> Reals:
    return np.asarray(stats.rankdata(values, axis=0), np.float64)


def _both_sides(picture: NDArray[np.bool_], strata: NDArray[np.int64]) -> NDArray[np.bool_]:
    return np.isin(strata, np.intersect1d(strata[picture], strata[~picture]))


def _out_of_fold(x: Reals, y: NDArray[np.bool_], *, seed: int, folds: int) -> Reals:
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    components = min(32, x.shape[1], len(x) * (folds - 1) // folds - 1)
    both = FunctionTransformer(_with_squares)
    regression = LogisticRegression(C=0.1, max_iter=1_000)  # squares have long tails: 100 do not always suffice
    model = make_pipeline(StandardScaler(), PCA(components, random_state=seed), StandardScaler(), both, regression)
    splits = StratifiedKFold(folds, shuffle=True, random_state=seed)
    predicted: Reals = cross_val_predict(model, x, y, cv=splits, method="decision_function")
    return predicted


def _with_squares(x: Reals) -> Reals:
    return np.concatenate([x, x**2], axis=1)


def _auc(scores: Reals, picture: NDArray[np.bool_], strata: NDArray[np.int64]) -> float:
    """Return the share of pairs of one stratum whose picture scores higher, ties a half."""
    wins = pairs = 0.0
    for stratum in np.unique(strata):
        at = strata == stratum
        side = picture[at]
        m, n = int(side.sum()), int((~side).sum())
        ranks = stats.rankdata(scores[at])
        wins += float(ranks[side].sum()) - m * (m + 1) / 2
        pairs += m * n
    return wins / pairs


def _spread(picture: NDArray[np.bool_], strata: NDArray[np.int64]) -> float:
    """Return the standard deviation of the AUC over pairs of one stratum, where the sides are alike."""
    variance = pairs = 0.0
    for stratum in np.unique(strata):
        side = picture[strata == stratum]
        m, n = int(side.sum()), int((~side).sum())
        variance += m * n * (m + n + 1) / 12
        pairs += m * n
    return float(np.sqrt(variance) / pairs)


def _shuffled(picture: NDArray[np.bool_], strata: NDArray[np.int64], dice: np.random.Generator) -> NDArray[np.bool_]:
    out = picture.copy()
    for stratum in np.unique(strata):
        at = np.flatnonzero(strata == stratum)
        out[at] = dice.permutation(picture[at])
    return out
