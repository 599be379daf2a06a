"""Shares, curves and extrapolations against enumeration and simulation."""

from fractions import Fraction
from itertools import product
from math import comb, exp, inf, log, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from byrote.kernels import rates
from byrote.kernels.stats import clopper_pearson

levels = st.sampled_from([0.3, 0.5, 0.8, 0.95, 0.99])


def ints(*values):
    return np.array(values, np.int64)


@pytest.mark.parametrize("n", [1, 7, 500, 10_000])
def test_nothing_of_n_is_bounded_by_the_nth_root(n):
    assert rates.upper_bound(0, n) == pytest.approx(1 - 0.05 ** (1 / n), rel=1e-9)


def test_the_published_bounds_of_nothing_seen_hold():
    """methods: 0 of 500 leaves .60 %, 0 of 10,000 leaves .030 %."""
    assert [round(rates.upper_bound(0, n), 5) for n in (500, 10_000)] == [0.00597, 0.0003]


@given(st.integers(0, 30), st.integers(0, 30), levels)
def test_a_one_sided_bound_spends_all_of_its_error_in_one_tail(k, more, level):
    n = k + more
    upper, lower = rates.upper_bound(k, n, level), rates.lower_bound(k, n, level)
    assert upper == 1 if k == n else binom.cdf(k, n, upper) == pytest.approx(1 - level)
    assert lower == 0 if k == 0 else binom.sf(k - 1, n, lower) == pytest.approx(1 - level)
    assert lower == pytest.approx(1 - rates.upper_bound(more, n, level))


@given(st.integers(1, 20).flatmap(lambda n: st.tuples(st.just(n), st.lists(st.integers(0, n), min_size=1, max_size=8))))
def test_discovered_counts_the_subsets_that_hold_a_copy(case):
    n, copies = case
    expected = [
        float(sum(1 - Fraction(comb(n - k, j), comb(n, j)) for k in copies) / len(copies)) for j in range(1, n + 1)
    ]
    assert rates.discovered(ints(*copies), n, np.arange(1, n + 1)) == pytest.approx(expected, abs=1e-14)


def test_discovered_keeps_the_digits_of_a_chance_of_one_in_a_million():
    assert rates.discovered(ints(1), 10**6, ints(1, 2))[:2] == pytest.approx([1e-6, 2e-6], rel=1e-12)


def test_discovered_is_unbiased_where_the_plain_power_is_not():
    """All outcomes of 6 samples with p = .3, weighted: the mean is the chance itself."""
    p, n, j = 0.3, 6, 4
    chances = binom.pmf(np.arange(n + 1), n, p)
    curve = [rates.discovered(ints(k), n, ints(j))[0] for k in range(n + 1)]
    plain = [1 - (1 - k / n) ** j for k in range(n + 1)]
    assert chances @ curve == pytest.approx(1 - (1 - p) ** j)
    assert chances @ plain < 1 - (1 - p) ** j - 0.01


@given(st.lists(st.integers(0, 8), min_size=1, max_size=9), st.integers(1, 40), st.sampled_from([0.1, 0.5, 0.9, 1.0]))
def test_discoverable_counts_the_prompts_whose_chance_suffices(copies, n, probability):
    shares = rates.discoverable(ints(*copies), 8, ints(n), probability)[0]
    expected = np.mean([1 - (1 - k / 8) ** n >= probability - 1e-12 for k in copies])
    assert shares[0] == expected
    assert shares[1] <= shares[0] <= shares[2]


def test_discoverable_extrapolates_beyond_the_samples_and_its_ends_by_the_interval_of_each_prompt():
    """k = 1 of 10: p = .1 in (.0025, .445), so half a chance takes 7 samples, 274 at the lower end, 2 at the upper."""
    curve = rates.discoverable(ints(1), 10, ints(1, 2, 6, 7, 273, 274), 0.5)
    assert curve[:, 0].tolist() == [0, 0, 0, 1, 1, 1]
    assert curve[:, 1].tolist() == [0, 0, 0, 0, 0, 1]
    assert curve[:, 2].tolist() == [0, 1, 1, 1, 1, 1]


def test_the_first_copy_is_expected_after_one_by_p_samples():
    """The exact interval of 4 of 100 is .0110 to .0993."""
    low, high = rates.seen_interval(4, 100)
    assert rates.samples_to_first(4, 100) == pytest.approx((25, 1 / high, 1 / low))
    assert rates.samples_to_first(0, 100)[::2] == (inf, inf)
    assert rates.samples_to_first(0, 100)[1] == pytest.approx(1 / (1 - 0.025**0.01))
    assert rates.samples_to_first(5, 5)[:2] == (1, 1)


@pytest.mark.parametrize("n", [1, 4, 10, 40])
def test_the_chance_of_what_is_told_only_because_it_was_seen_is_covered_among_what_was_seen(n):
    """Every p on a grid, by summing the binomial over the k whose interval holds it, given k >= 1."""
    ends = np.array([rates.seen_interval(k, n) for k in range(1, n + 1)])
    for p in np.concatenate([[1e-6, 1e-3], np.linspace(0.01, 0.99, 50)]):
        chances = binom.pmf(np.arange(1, n + 1), n, p) / binom.sf(0, n, p)
        assert chances[(ends[:, 0] <= p) & (p <= ends[:, 1])].sum() >= 0.95 - 1e-9


def test_one_sight_of_ten_has_no_lower_end_and_plain_intervals_would_not_cover():
    assert rates.seen_interval(1, 10)[0] == 0
    assert rates.samples_to_first(1, 10)[2] == inf
    plain = [clopper_pearson(k, 10) for k in range(1, 11)]
    told = binom.pmf(np.arange(1, 11), 10, 1e-4) / binom.sf(0, 10, 1e-4)
    assert sum(c for c, (low, high) in zip(told, plain, strict=True) if low <= 1e-4 <= high) < 0.01
    with pytest.raises(ValueError, match="at least 1"):
        rates.seen_interval(0, 10)


def test_good_turing_is_the_share_of_copies_seen_once():
    assert rates.good_turing(ints(1, 1, 2, 6)) == 0.2
    assert rates.good_turing(ints()) == rates.good_turing(ints(0, 0)) == 1.0


def test_good_turing_predicts_the_next_copy():
    """Over many audits of the same pictures the estimate and the truth agree in the mean."""
    rng = np.random.default_rng(1)
    chances = rng.dirichlet(np.full(200, 0.5))
    hits = rng.multinomial(150, chances, 400)
    truth = [chances[row == 0].sum() for row in hits]
    assert np.mean([rates.good_turing(row) for row in hits]) == pytest.approx(np.mean(truth), abs=0.01)


def test_chao1_gives_the_figures_of_its_formulas():
    found = rates.chao1(ints(*[1] * 10, *[2] * 5, *[7] * 5, 0))
    variance = 5 * (2**2 / 2 + 2**3 + 2**4 / 4)
    width = exp(1.959964 * sqrt(log(1 + variance / 100)))
    assert (found.seen, found.estimate) == (20, 30)
    assert (found.low, found.high) == pytest.approx((20 + 10 / width, 20 + 10 * width), rel=1e-6)


def test_chao1_is_bias_corrected_where_nothing_was_seen_twice():
    found = rates.chao1(ints(1, 1, 1, 5))
    variance = 3 + 3 * 25 / 4 - 81 / (4 * 7)
    width = exp(1.959964 * sqrt(log(1 + variance / 9)))
    assert found.estimate == 4 + 3
    assert (found.low, found.high) == pytest.approx((4 + 3 / width, 4 + 3 * width), rel=1e-6)


@pytest.mark.parametrize("hits", [(3, 4, 9), (1,), (1, 3, 3), (2, 2)])
def test_chao1_without_unseen_pictures_still_has_an_interval(hits):
    found = rates.chao1(ints(*hits))
    assert found.seen == found.estimate == len(hits)
    assert found.low >= found.seen
    assert len(hits) < found.high < 10 * len(hits)


def test_chao1_is_sure_of_pictures_that_all_came_back_often():
    found = rates.chao1(ints(50, 60))
    assert (found.low, found.high) == pytest.approx((2, 2))


def test_chao1_holds_the_number_of_equally_likely_pictures():
    """Approximate: 95 % is asked for, and nine in ten is what this test holds it to."""
    rng = np.random.default_rng(2)
    found = [rates.chao1(row) for row in rng.multinomial(150, np.full(100, 0.01), 400)]
    assert np.mean([f.estimate for f in found]) == pytest.approx(100, rel=0.05)
    assert np.mean([f.low <= 100 <= f.high for f in found]) > 0.9


def coverage(pairs, chances, truth):
    """Return the chance that an interval holds the truth, by enumeration."""
    return sum(chance for (low, high), chance in zip(pairs, chances, strict=True) if low <= truth <= high)


@pytest.mark.parametrize(("p1", "p2"), [(0.0, 0.0), (0.02, 0.3), (0.5, 0.5), (0.9, 0.2), (1.0, 0.99)])
def test_a_difference_is_covered_at_least_as_often_as_promised(p1, p2):
    n1, n2 = 12, 7
    seen = list(product(range(n1 + 1), range(n2 + 1)))
    pairs = [rates.difference(k1, n1, k2, n2, 0.9) for k1, k2 in seen]
    chances = [binom.pmf(k1, n1, p1) * binom.pmf(k2, n2, p2) for k1, k2 in seen]
    assert coverage(pairs, chances, p1 - p2) >= 0.9


@pytest.mark.parametrize("cells", [(0.5, 0.1, 0.1, 0.3), (0.0, 0.6, 0.1, 0.3), (0.9, 0.0, 0.05, 0.05)])
def test_a_paired_difference_is_covered_at_least_as_often_as_promised(cells):
    rng = np.random.default_rng(3)
    held = 0
    for _, only_first, only_second, _ in rng.multinomial(25, cells, 1000).tolist():
        low, high = rates.paired_difference(only_first, only_second, 25, 0.9)
        held += low <= cells[1] - cells[2] <= high
    assert binomtest(held, 1000, 0.9, alternative="less").pvalue > 0.01


def test_pairs_that_agree_narrow_a_paired_difference():
    paired, independent = rates.paired_difference(5, 0, 100), rates.difference(50, 100, 45, 100)
    assert paired[0] > independent[0]
    assert paired[1] < independent[1]


def test_a_difference_points_from_the_second_to_the_first():
    assert rates.difference(90, 100, 10, 100)[0] > 0.5
    assert rates.paired_difference(90, 10, 100)[0] > 0.5


@given(st.integers(0, 20), st.integers(0, 20))
def test_mcnemar_sums_the_outcomes_that_are_no_likelier(a, b):
    n = a + b
    p = sum(comb(n, i) for i in range(n + 1) if comb(n, i) <= comb(n, a)) / 2**n
    assert rates.mcnemar(a, b) == pytest.approx(p)
    assert rates.mcnemar(a, b) == pytest.approx(rates.mcnemar(b, a))


def test_mcnemar_gives_the_published_p_of_seven_against_none():
    """methods 8.2: preferences 7 against 0 of 24 generators, p = .016."""
    assert round(rates.mcnemar(7, 0), 3) == 0.016


def test_the_cluster_bootstrap_wants_twenty_prompts_with_a_copy():
    assert rates.cluster_bootstrap(ints(*[4] * 19, *[0] * 100), 8, seed=1) is None
    assert rates.cluster_bootstrap(ints(*[4] * 20, *[0] * 100), 8, seed=1) is not None


def test_the_cluster_bootstrap_redraws_prompts_and_not_samples():
    """Half of the prompts always, half never: the error is that of 100 prompts, not of 800 samples."""
    low, high = rates.cluster_bootstrap(ints(*[8] * 50, *[0] * 50), 8, seed=1, draws=1000)
    assert (low, high) == pytest.approx((0.5 - 0.098, 0.5 + 0.098), abs=0.015)
    assert rates.cluster_bootstrap(ints(*[8] * 50, *[0] * 50), 8, seed=1, draws=1000) == (low, high)


def test_the_cluster_bootstrap_covers_about_its_level():
    rng = np.random.default_rng(4)
    held = 0
    for seed in range(200):
        copies = rng.binomial(8, rng.beta(0.5, 1.5, 120))
        found = rates.cluster_bootstrap(copies, 8, seed=seed, draws=300)
        held += found is not None and found[0] <= 0.25 <= found[1]
    assert 0.88 < held / 200 <= 0.99


@pytest.mark.parametrize(
    "call",
    [
        lambda: rates.upper_bound(3, 2),
        lambda: rates.lower_bound(-1, 2),
        lambda: rates.upper_bound(1, 2, 95.0),
        lambda: rates.paired_difference(2, 2, 3),
        lambda: rates.discovered(ints(3), 2, ints(1)),
        lambda: rates.discovered(ints(), 2, ints(1)),
        lambda: rates.discovered(ints(1), 2, ints(3)),
        lambda: rates.discovered(ints(1), 2, ints(0)),
        lambda: rates.discoverable(ints(1), 2, ints(0), 0.5),
        lambda: rates.discoverable(ints(1), 2, ints(1), 0.0),
        lambda: rates.chao1(ints(0)),
        lambda: rates.chao1(ints(-1, 2)),
        lambda: rates.good_turing(ints(-1)),
        lambda: rates.cluster_bootstrap(ints(9), 8, seed=1),
    ],
)
def test_counts_that_cannot_be_are_refused(call):
    with pytest.raises(ValueError, match="must"):
        call()
