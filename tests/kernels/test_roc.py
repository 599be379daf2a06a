"""Thresholds, areas and scales against slow oracles, scikit-learn and simulation."""

from fractions import Fraction
from math import comb, inf, nan, sqrt

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, norm
from sklearn.metrics import roc_auc_score

from byrote.kernels import roc
from byrote.kernels.stats import clopper_pearson

score = st.sampled_from([-inf, -1.0, 0.0, 0.0, 0.5, 1.0, 2.0, 3.0, inf])  # few values: ties are the hard case
scores = st.lists(score, min_size=1, max_size=25).map(lambda s: np.array(s, np.float64))
targets = st.sampled_from([0.01, 0.05, 0.07, 0.1, 0.2, 0.29, 0.5, 0.9])


def reals(*values):
    return np.array(values, np.float64)


def loosest(members, others, fpr):
    """Try a threshold below, at and above every score; return the most members that are called within the target."""
    seen = sorted({*members, *others, -inf})
    limit = Fraction(repr(fpr))
    allowed = [t for t in seen if Fraction(sum(o > t for o in others), len(others)) <= limit]
    return max(sum(m > t for m in members) for t in allowed), max(sum(o > t for o in others) for t in allowed)


@given(scores, scores, targets)
def test_the_threshold_is_the_loosest_within_the_target(members, others, fpr):
    point = roc.tpr_at_fpr(members, others, fpr)
    if point is None:
        assert Fraction(repr(fpr)) * len(others) < 1
        return
    assert (point.hits, point.false_alarms) == loosest(members, others, fpr)
    assert point.fpr <= fpr
    assert (point.members, point.others) == (len(members), len(others))


@given(scores, scores, targets)
def test_both_shares_carry_their_exact_intervals(members, others, fpr):
    point = roc.tpr_at_fpr(members, others, fpr, 0.9)
    assume(point)
    assert (point.tpr_low, point.tpr_high) == clopper_pearson(point.hits, len(members), 0.9)
    assert (point.fpr_low, point.fpr_high) == clopper_pearson(point.false_alarms, len(others), 0.9)
    assert point == roc.frozen(point.threshold, members, others, 0.9)


def test_a_target_below_one_of_the_others_is_no_target():
    members = reals(1, 2, 3)
    assert roc.tpr_at_fpr(members, np.arange(99.0), 0.01) is None
    assert roc.tpr_at_fpr(members, np.arange(100.0), 0.01).false_alarms == 1


@pytest.mark.parametrize(("fpr", "allowed"), [(0.29, 29), (0.07, 7), (0.57, 57), (0.01, 1)])
def test_a_target_is_read_as_the_decimal_it_prints_as(fpr, allowed):
    """.29 x 100 is 28.999999999999996 in floating point, .07 x 100 a little above 7."""
    assert roc.tpr_at_fpr(reals(1), np.arange(100.0), fpr).false_alarms == allowed
    assert roc.tpr_at_fpr(reals(1), np.arange(100.0), np.float64(fpr)).false_alarms == allowed


def test_scores_that_are_all_alike_call_nobody():
    point = roc.tpr_at_fpr(np.ones(50), np.ones(50), 0.1)
    assert (point.hits, point.false_alarms) == (0, 0)


def test_what_was_not_found_at_all_is_never_called():
    point = roc.tpr_at_fpr(reals(-inf, 2), np.full(50, -inf), 0.1)
    assert (point.hits, point.false_alarms) == (1, 0)


@given(scores, scores, targets, st.sampled_from([np.exp, np.arctan, lambda x: 3 * x - 1]))
def test_only_the_order_of_scores_matters(members, others, fpr, stretch):
    before, after = (roc.tpr_at_fpr(*sides, fpr) for sides in ((members, others), (stretch(members), stretch(others))))
    assert (before is None) == (after is None)
    if before is not None:
        assert (before.hits, before.false_alarms) == (after.hits, after.false_alarms)
    areas = [roc.auc(*sides) for sides in ((members, others), (stretch(members), stretch(others)))]
    assert areas[0] == areas[1]


@pytest.mark.parametrize("tied", [False, True])
def test_the_interval_of_the_fpr_holds_for_a_threshold_set_on_the_same_others(tied):
    """The truth is the share of all others above the threshold; 2,000 draws, asked for 95 %."""
    rng, held = np.random.default_rng(1), 0
    for _ in range(2000):
        others = rng.normal(size=100)
        others = np.round(2 * others) / 2 if tied else others
        point = roc.tpr_at_fpr(reals(0), others, 0.05)
        truth = norm.sf(point.threshold + (0.25 if tied else 0))
        held += point.fpr_low <= truth <= point.fpr_high
    assert binomtest(held, 2000, 0.95, alternative="less").pvalue > 0.01


def test_of_all_others_a_threshold_calls_one_more_in_one_more_than_of_those_it_was_set_on():
    """The target is met on the 100 at hand, 5 %; the truth is 6 of 101 on average, and the docstring says so."""
    rng = np.random.default_rng(5)
    truth = [norm.sf(roc.tpr_at_fpr(reals(0), rng.normal(size=100), 0.05).threshold) for _ in range(4000)]
    assert np.mean(truth) == pytest.approx(6 / 101, abs=4 * np.std(truth) / sqrt(4000))


def test_a_point_is_coarse_until_ten_of_the_others_are_called():
    calls = [roc.frozen(0.5, reals(1), np.repeat([1.0, 0.0], [k, 1000 - k])) for k in (0, 9, 10)]
    assert [point.coarse for point in calls] == [True, True, False]
    assert calls[2].fpr_high / calls[2].fpr_low < 4


def test_a_tenth_of_a_percent_takes_ten_thousand_others():
    """methods 6.3."""
    assert roc.others_needed(0.001) == 10_000
    assert roc.others_needed(0.001, 1) == 1000
    assert roc.others_needed(0.03) == 334


@given(scores, scores, st.sampled_from([-inf, 0.0, 0.25, 1.0, inf]))
def test_a_frozen_threshold_counts_what_is_above_it(members, others, threshold):
    point = roc.frozen(threshold, members, others)
    assert point.hits == sum(m > threshold for m in members)
    assert point.false_alarms == sum(o > threshold for o in others)
    assert (point.tpr, point.fpr) == (point.hits / len(members), point.false_alarms / len(others))


@given(scores, scores)
def test_the_area_is_the_share_of_pairs_in_order_ties_a_half(members, others):
    wins = sum(Fraction(int(m > o) * 2 + int(m == o), 2) for m in members for o in others)
    assert roc.auc(members, others).auc == pytest.approx(float(wins / (len(members) * len(others))))


def test_the_area_is_that_of_scikit_learn():
    rng = np.random.default_rng(2)
    for decimals in (0, 1, 9):
        x, y = rng.normal(0.7, 1, 130).round(decimals), rng.normal(0, 1, 170).round(decimals)
        expected = roc_auc_score(np.repeat([1, 0], [130, 170]), np.concatenate([x, y]))
        assert roc.auc(x, y).auc == pytest.approx(expected, abs=1e-12)


@settings(max_examples=50)
@given(scores, scores)
def test_the_variance_is_that_of_the_structural_components(members, others):
    """DeLong et al. 1988, equations 3 to 5: the mean over the other side for each score, and the spread of these."""
    assume(min(len(members), len(others)) > 1)
    pairs = (members[:, None] > others) + 0.5 * (members[:, None] == others)
    by_member, by_other = pairs.mean(1), pairs.mean(0)
    variance = by_member.var(ddof=1) / len(members) + by_other.var(ddof=1) / len(others)
    assume(variance > 1e-12)
    found = roc.auc(members, others)
    logit = np.log(found.auc / (1 - found.auc))
    reach = 1.959963984540054 * sqrt(variance) / (found.auc * (1 - found.auc))
    assert np.log(found.low / (1 - found.low)) == pytest.approx(logit - reach)
    assert np.log(found.high / (1 - found.high)) == pytest.approx(logit + reach)


@given(scores, scores)
def test_the_interval_of_the_area_holds_it_and_mirrors(members, others):
    there, back = roc.auc(members, others), roc.auc(others, members)
    assert 0 <= there.low <= there.auc <= there.high <= 1
    assert there.low < there.high
    assert (1 - back.auc, 1 - back.high, 1 - back.low) == pytest.approx((there.auc, there.low, there.high))


@pytest.mark.parametrize("n", [1, 2, 10, 300])
def test_sides_that_do_not_overlap_are_as_sure_as_their_disjoint_pairs(n):
    """All of min(m, n) independent pairs are in order: the exact lower bound of n of n."""
    found = roc.auc(np.arange(n) + 1e6, np.arange(n + 3.0))
    assert (found.low, found.high) == (pytest.approx(clopper_pearson(n, n)[0]), 1)


def test_scores_that_are_all_alike_say_little_of_the_area():
    found = roc.auc(np.ones(20), np.ones(20))
    assert found.auc == 0.5
    assert found.low < 0.25
    assert found.high > 0.75


COVERAGE = [(20, 20, 0, 0.95), (20, 20, 2, 0.94), (50, 50, 3, 0.91), (200, 200, 1, 0.94), (20, 200, 3, 0.88)]


@pytest.mark.parametrize(("m", "n", "shift", "promised"), COVERAGE)
def test_the_interval_of_the_area_covers_about_its_level(m, n, shift, promised):
    """Asked for .95: it holds from 20 a side in the middle, and covers .89 where 20 members have an AUC of .98."""
    rng, truth, held = np.random.default_rng(3), norm.cdf(shift / sqrt(2)), 0
    for _ in range(1000):
        found = roc.auc(rng.normal(shift, 1, m), rng.normal(size=n))
        held += found.low <= truth <= found.high
    assert binomtest(held, 1000, promised, alternative="less").pvalue > 0.01


def test_the_area_under_every_order_of_a_few_is_even():
    """All C(7, 3) ways to deal seven ranks: the mean is a half."""
    ranks = np.arange(7.0)
    picks = [np.isin(np.arange(7), [i, j, k]) for i in range(7) for j in range(i) for k in range(j)]
    assert len(picks) == comb(7, 3)
    assert np.mean([roc.auc(ranks[p], ranks[~p]).auc for p in picks]) == pytest.approx(0.5)


def test_a_scale_is_that_of_the_reference_alone():
    reference = reals(0, 1, 2, 3, 4)
    assert roc.robust_scale(reals(2, 4, 100), reference).tolist() == [0, 1, 49]
    assert roc.robust_scale(reference[:, None], 2 * reference[:, None])[:, 0].tolist() == [-1, -0.75, -0.5, -0.25, 0]


def test_columns_are_scaled_each_by_itself():
    rng = np.random.default_rng(4)
    values, reference = rng.normal(size=(6, 3)), rng.normal(size=(40, 3)) * [1, 10, 100]
    whole = roc.robust_scale(values, reference)
    for k in range(3):
        assert whole[:, k].tolist() == roc.robust_scale(values[:, k].copy(), reference[:, k].copy()).tolist()


@pytest.mark.parametrize(
    "call",
    [
        lambda a, b: roc.tpr_at_fpr(a, b, 0.01),
        lambda a, b: roc.tpr_at_fpr(a, b, 0.5),
        lambda a, b: roc.frozen(0.5, a, b),
        roc.auc,
        roc.robust_scale,
    ],
)
def test_a_nan_and_an_empty_side_are_refused(call):
    for a, b in [([nan, 1], [0, 1]), ([0, 1], [nan, 1])]:
        with pytest.raises(ValueError, match="NaN"):
            call(reals(*a), reals(*b))
    with pytest.raises(ValueError, match="must hold at least one"):
        call(reals(0.1), reals())


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: roc.tpr_at_fpr(reals(), reals(1), 0.5), "at least one"),
        (lambda: roc.tpr_at_fpr(reals(1), reals(1), 1.0), "between 0 and 1"),
        (lambda: roc.tpr_at_fpr(reals(1), reals(1), 0.0), "between 0 and 1"),
        (lambda: roc.frozen(nan, reals(1), reals(1)), "NaN"),
        (lambda: roc.auc(reals(1), reals(1), 95.0), "between 0 and 1"),
        (lambda: roc.robust_scale(reals(1), reals(2, 2, 2)), "vary"),
    ],
)
def test_what_cannot_be_is_refused(call, said):
    with pytest.raises(ValueError, match=said):
        call()
