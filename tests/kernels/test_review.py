"""What verdicts measure, against enumeration, simulation and worked examples."""

from fractions import Fraction
from itertools import combinations, product
from math import comb, inf, sqrt

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import binomtest, hypergeom
from sklearn.metrics import cohen_kappa_score

from byrote.kernels import review
from byrote.kernels.review import Stratum
from byrote.kernels.stats import clopper_pearson

LEVELS = (0.949, 0.883, 0.5077)
"""Levels whose halves of the error no hypergeometric chance of a small stratum hits, so that rounding decides none."""


@st.composite
def strata(draw, most=25):
    size = draw(st.integers(0, most))
    drawn = draw(st.integers(0, size))
    yes = draw(st.integers(0, drawn))
    return Stratum(size, drawn, yes, draw(st.integers(0, drawn - yes)))


def chances(size, drawn, copies):
    """Return P(X = 0), P(X = 1), … for X copies among `drawn` of `size`, exactly."""
    every = comb(size, drawn)
    return [Fraction(comb(copies, x) * comb(size - copies, drawn - x), every) for x in range(drawn + 1)]


def brute(s, level):
    """Try every number of copies that the stratum may hold."""
    tail = Fraction((1 - level) / 2)
    kept = [k for k in range(s.size + 1) for p in [chances(s.size, s.drawn, k)] if sum(p[s.yes :]) > tail]
    many = [k for k in range(s.size + 1) for p in [chances(s.size, s.drawn, k)] if sum(p[: s.yes + s.open + 1]) > tail]
    return min(kept), max(many)


@given(strata(), st.sampled_from(LEVELS))
def test_the_interval_of_a_stratum_is_that_of_trying_every_number_of_copies(s, level):
    expected = brute(s, level) if s.known else (0, s.size)
    assert review.finite_interval(s, level) == expected


@pytest.mark.parametrize("level", [0.8, 0.95])
@pytest.mark.parametrize(("size", "drawn"), [(1, 1), (9, 4), (12, 11), (30, 6)])
def test_the_interval_of_a_stratum_covers_every_truth_at_its_level(size, drawn, level):
    ends = [review.finite_interval(Stratum(size, drawn, x), level) for x in range(drawn + 1)]
    for copies in range(size + 1):
        p = hypergeom.pmf(np.arange(drawn + 1), size, copies, drawn)
        assert sum(p[x] for x, (low, high) in enumerate(ends) if low <= copies <= high) >= level - 1e-12


@given(strata(), st.sampled_from(LEVELS))
def test_open_pairs_widen_the_interval_to_hold_whatever_they_are(s, level):
    low, high = review.finite_interval(s, level)
    for copies in range(s.open + 1):
        one = review.finite_interval(Stratum(s.size, s.drawn, s.yes + copies), level)
        assert low <= one[0] <= one[1] <= high


def test_a_stratum_that_was_judged_whole_has_no_interval_and_one_that_was_not_judged_has_all():
    assert review.finite_interval(Stratum(50, 50, 7)) == (7, 7)
    assert review.finite_interval(Stratum(50, 50, 7, 3)) == (7, 10)
    assert review.finite_interval(Stratum(50, 0, 0)) == review.finite_interval(Stratum(50, 9, 0, 9)) == (0, 50)


def test_a_stratum_of_a_million_pairs_takes_no_longer():
    """In steps of 40 or so; trying every number would take minutes."""
    low, high = review.finite_interval(Stratum(10**6, 200, 0))
    assert low == 0
    assert high / 10**6 == pytest.approx(clopper_pearson(0, 200)[1], rel=1e-3)


def test_the_exact_interval_is_inside_the_binomial_one():
    """Why precision is hypergeometric: half of a stratum was judged, and Clopper-Pearson does not know it."""
    low, high = (end / 100 for end in review.finite_interval(Stratum(100, 50, 40)))
    wide = clopper_pearson(40, 50)
    assert wide[0] < low < high < wide[1]
    assert high - low < 0.75 * (wide[1] - wide[0])


@pytest.mark.parametrize("wrong", [(3, 4, 0), (5, 3, 4), (5, 3, 2, 2), (5, 3, -1), (5, 3, 1, -1)])
def test_counts_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match="does not hold"):
        Stratum(*wrong)


POPULATION = ([1, 1, 0, 1, 0], [0, 1, 0, 0, 0, 0, 0], [0, 0, 0])
DRAWN = (3, 3, 2)


def samples():
    """Yield the strata of every sample that may be drawn from the population; all are equally likely."""
    for chosen in product(*(combinations(of, n) for of, n in zip(POPULATION, DRAWN, strict=True))):
        yield [Stratum(len(of), len(c), sum(c)) for of, c in zip(POPULATION, chosen, strict=True)]


def test_the_estimated_total_is_right_in_the_mean_of_all_samples_and_so_is_its_variance():
    found = [review.horvitz_thompson(sample) for sample in samples()]
    totals = np.array([f.total for f in found])
    assert totals.mean() == pytest.approx(4)
    assert np.mean([f.error**2 for f in found]) == pytest.approx(totals.var())


@pytest.mark.parametrize("level", [0.5, 0.8, 0.95])
def test_the_interval_of_the_total_covers_in_the_share_of_all_samples_that_it_promises(level):
    found = [review.horvitz_thompson(sample, level) for sample in samples()]
    assert np.mean([f.low <= 4 <= f.high for f in found]) >= level


@given(st.lists(strata(), max_size=4), st.sampled_from(LEVELS))
def test_the_total_is_within_its_interval(found, level):
    told = review.horvitz_thompson(found, level)
    unknown = sum(s.size for s in found if not s.known)
    assert 0 <= told.low <= told.high <= sum(s.size for s in found)
    assert told.low <= told.total + unknown
    assert told.total <= told.high + 1e-9


def test_a_census_has_no_error_and_spends_none_of_the_level():
    told = review.horvitz_thompson([Stratum(5, 5, 2), Stratum(100, 10, 3)])
    low, high = review.finite_interval(Stratum(100, 10, 3))
    assert (told.low, told.high) == (2 + low, 2 + high)
    assert review.horvitz_thompson([Stratum(5, 5, 2)]).error == 0
    assert review.horvitz_thompson([Stratum(5, 1, 1)]).error == inf


def covered(chance, rng, runs=400, n=300):
    """Count the runs in which the band holds the mean chance at all ranks. `chance` may look at what came before."""
    held = 0
    for _ in range(runs):
        verdicts, p = np.zeros(n, bool), np.zeros(n)
        u = rng.random(n)
        for k in range(n):
            p[k] = chance(k / n, verdicts[:k])
            verdicts[k] = u[k] < p[k]
        mean = np.cumsum(p) / np.arange(1, n + 1)
        band = review.precision_band(verdicts)
        held += bool(((band[:, 0] <= mean + 1e-12) & (mean <= band[:, 1] + 1e-12)).all())
    return held


@pytest.mark.parametrize(
    "chance",
    [
        lambda _, __: 0.5,
        lambda at, _: 1 - at,
        lambda at, _: float(at < 0.3) * 0.98 + 0.01,
        lambda at, _: 0.5 + 0.5 * np.sin(20 * at),
        lambda _, before: 0.9 if before.size > 0 and before.mean() > 0.5 else 0.3,
    ],
    ids=["constant", "falling", "a cliff", "waves", "looking back"],
)
def test_the_band_holds_at_all_ranks_at_once_whatever_the_drift(chance):
    held = covered(chance, np.random.default_rng(4))
    assert binomtest(held, 400, 0.95, alternative="less").pvalue > 0.01


def test_intervals_made_for_one_rank_do_not_hold_at_all_of_them():
    """The planted defect that the band is there for: who stops where it looks best is wrong far too often."""
    rng = np.random.default_rng(5)
    ends = {(k, n): clopper_pearson(k, n) for n in range(1, 301) for k in range(n + 1)}
    held = 0
    for _ in range(200):
        so_far = np.cumsum(rng.random(300) < 0.5).tolist()
        held += all(ends[k, n][0] <= 0.5 <= ends[k, n][1] for n, k in enumerate(so_far, 1))
    assert held < 0.85 * 200


@given(st.lists(st.booleans(), max_size=60), st.sampled_from([0.5, 0.9, 0.95]))
def test_the_band_holds_the_mean_and_mirrors_with_the_verdicts(flags, level):
    verdicts = np.array(flags, np.bool_)
    band = review.precision_band(verdicts, level)
    mean = np.cumsum(verdicts) / np.arange(1, len(flags) + 1)
    assert band.shape == (len(flags), 2)
    assert ((band[:, 0] <= mean) & (mean <= band[:, 1])).all()
    assert np.allclose(review.precision_band(~verdicts, level), 1 - band[:, ::-1])


def test_a_hundred_verdicts_are_worth_a_band_of_fifteen_points():
    """The docstring's numbers. A single interval of 50 of 100 is .10 to either side."""
    half = np.arange(250) % 2 == 0
    band = review.precision_band(half)
    assert (band[99, 1] - band[99, 0]) / 2 == pytest.approx(0.152, abs=0.001)
    assert (band[249, 1] - band[249, 0]) / 2 == pytest.approx(0.0975, abs=0.001)
    assert review.precision_band(np.ones(100, bool))[99, 0] > 0.84


def test_the_band_is_narrowest_where_it_is_tuned_for():
    half = np.arange(400) % 2 == 0
    widths = {t: np.ptp(review.precision_band(half, tuned_for=t)[199]) for t in (20, 100, 199, 200, 201, 300, 2000)}
    assert min(widths, key=widths.get) == 200


words = st.integers(0, 4)


@given(st.lists(st.tuples(words, words), min_size=2, max_size=40))
def test_cohens_kappa_is_that_of_scikit_learn(pairs):
    a, b = (np.array(each, np.int64) for each in zip(*pairs, strict=True))
    found = review.cohen_kappa(a, b)
    if found is None:
        assert set(a) == set(b)
        assert len(set(a)) == 1
    else:
        assert found.kappa == pytest.approx(cohen_kappa_score(a, b))
        swapped = review.cohen_kappa(b, a)
        assert (swapped.kappa, swapped.error) == pytest.approx((found.kappa, found.error), abs=1e-9)


def kappa_of(shares):
    observed, chance = np.trace(shares), shares.sum(1) @ shares.sum(0)
    return (observed - chance) / (1 - chance)


@pytest.mark.parametrize("seed", range(5))
def test_the_error_of_cohens_kappa_is_that_of_the_delta_method(seed):
    """By the gradient of kappa in the nine shares, taken numerically: sqrt(g' (diag p - p p') g / n)."""
    rng = np.random.default_rng(seed)
    n, side = 200, 3
    cells = rng.choice(side * side, n, p=rng.dirichlet(np.ones(side * side)))
    a, b = cells // side, cells % side
    p = np.bincount(cells, minlength=side * side) / n
    step = 1e-6 * np.eye(side * side)
    g = np.array([(kappa_of((p + s).reshape(3, 3)) - kappa_of((p - s).reshape(3, 3))) / 2e-6 for s in step])
    expected = sqrt((g**2 * p).sum() - (g @ p) ** 2) / sqrt(n)
    assert review.cohen_kappa(a, b).error == pytest.approx(expected, rel=1e-5)


def test_the_error_of_cohens_kappa_is_its_spread_over_samples():
    rng = np.random.default_rng(6)
    shares = np.array([0.4, 0.1, 0.05, 0.45])
    drawn = rng.choice(4, (800, 150), p=shares)
    found = [review.cohen_kappa(row // 2, row % 2) for row in drawn]
    assert np.mean([f.error for f in found]) == pytest.approx(np.std([f.kappa for f in found]), rel=0.1)


WIKIPEDIA = np.array(
    [
        [0, 0, 0, 0, 14],
        [0, 2, 6, 4, 2],
        [0, 0, 3, 5, 6],
        [0, 3, 9, 2, 0],
        [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0],
        [3, 2, 6, 3, 0],
        [2, 5, 3, 2, 2],
        [6, 5, 2, 1, 0],
        [0, 2, 2, 3, 7],
    ]
)
"""The worked example of https://en.wikipedia.org/wiki/Fleiss%27_kappa: 14 reviewers, ten subjects, kappa .210."""


def test_fleiss_kappa_gives_the_worked_example():
    found = review.fleiss_kappa(WIKIPEDIA)
    assert round(found.kappa, 3) == 0.210
    p = np.array([20, 28, 39, 21, 32]) / 140
    pq = (p * (1 - p)).sum()
    by_hand = sqrt(2) / (pq * sqrt(10 * 14 * 13)) * sqrt(pq**2 - (p * (1 - p) * ((1 - p) - p)).sum())
    assert found.error == pytest.approx(by_hand)


def test_the_error_of_fleiss_kappa_is_its_spread_where_reviewers_guess():
    rng = np.random.default_rng(7)
    said = rng.choice(3, (800, 80, 4), p=[0.5, 0.3, 0.2])
    found = [review.fleiss_kappa((each[..., None] == np.arange(3)).sum(1)) for each in said]
    assert np.mean([f.kappa for f in found]) == pytest.approx(0, abs=0.01)
    assert np.mean([f.error for f in found]) == pytest.approx(np.std([f.kappa for f in found]), rel=0.1)


@given(st.lists(st.tuples(words, words), min_size=1, max_size=30))
def test_fleiss_kappa_of_two_is_scotts_pi(pairs):
    counts = np.array([np.bincount(pair, minlength=5) for pair in pairs])
    pooled = counts.sum(0) / counts.sum()
    assume((pooled < 1).all())
    agree, chance = np.mean([a == b for a, b in pairs]), (pooled**2).sum()
    assert review.fleiss_kappa(counts).kappa == pytest.approx((agree - chance) / (1 - chance))


def test_kappas_of_nothing_are_none():
    none = np.zeros(0, np.int64)
    assert review.cohen_kappa(none, none) is None
    assert review.cohen_kappa(np.zeros(5, np.int64), np.zeros(5, np.int64)) is None
    assert review.fleiss_kappa(np.zeros((0, 5), np.int64)) is None
    assert review.fleiss_kappa(np.array([[1, 0], [0, 1]])) is None
    assert review.fleiss_kappa(np.array([[3, 0], [3, 0]])) is None


def test_fleiss_kappa_wants_as_many_verdicts_of_every_pair():
    with pytest.raises(ValueError, match="as many"):
        review.fleiss_kappa(np.array([[3, 0], [1, 1]]))
