"""Matched controls against a slow count; the classifier holds its level and finds what is there."""

import numpy as np
import pytest
from scipy import stats

from byrote.kernels import matching
from byrote.kernels.matching import balance, matched_p, nearest_controls, separation
from byrote.kernels.stats import conformal_p


def slow(pictures, controls, count):
    """Rank both sides together, whiten by their covariance, and sort the controls for each picture."""
    ranks = np.apply_along_axis(stats.rankdata, 0, np.concatenate([pictures, controls]))
    inverse = np.linalg.pinv(np.atleast_2d(np.cov(ranks.T)))
    x, y = ranks[: len(pictures)], ranks[len(pictures) :]
    return [sorted(range(len(y)), key=lambda k: (round((a - y[k]) @ inverse @ (a - y[k]), 9), k))[:count] for a in x]


def test_the_nearest_controls_are_those_of_the_rank_based_mahalanobis_distance():
    dice = np.random.default_rng(0)
    pictures, controls = dice.normal(0, 1, (6, 3)), dice.normal(0, 1, (25, 3))
    assert nearest_controls(pictures, controls, 5).tolist() == slow(pictures, controls, 5)


def test_ranks_make_units_and_outliers_irrelevant():
    dice = np.random.default_rng(1)
    pictures, controls = dice.normal(0, 1, (4, 2)), dice.normal(0, 1, (20, 2))
    plain = nearest_controls(pictures, controls, 7)
    assert (nearest_controls(np.exp(3 * pictures), np.exp(3 * controls), 7) == plain).all()


def test_a_covariate_that_never_varies_is_no_obstacle():
    constant = np.zeros((5, 2))
    assert nearest_controls(constant[:2], constant, 3).tolist() == [[0, 1, 2], [0, 1, 2]]
    with pytest.raises(ValueError, match="within 1 and 5"):
        nearest_controls(constant, constant, 6)


def test_the_matched_p_counts_the_matched_controls_only():
    controls = np.array([0.1, 0.2, 0.9, np.inf])
    nearest = np.array([[0, 1], [2, 3]])
    assert matched_p(np.array([0.15, 0.15]), controls, nearest).tolist() == [2 / 3, 1 / 3]
    assert matched_p(np.array([np.inf, np.inf]), controls, nearest).tolist() == [1, 1]


def test_matching_mends_what_a_covariate_does_to_plain_p():
    """T falls with a covariate that pictures have less of and nothing is memorised: plain p is too small."""
    dice = np.random.default_rng(2)
    plain, matched = [], []
    for _ in range(150):
        x, y = dice.normal(-0.8, 1, (20, 1)), dice.normal(0, 1, (300, 1))
        t, null = x[:, 0] + dice.normal(0, 0.5, 20), y[:, 0] + dice.normal(0, 0.5, 300)
        plain.append((conformal_p(t, null) <= 0.05).mean())
        matched.append((matched_p(t, null, nearest_controls(x, y, 39)) <= 0.05).mean())
    assert np.mean(plain) > 0.1
    assert np.mean(matched) < 0.075 < np.mean(plain)


def test_the_balance_shrinks_where_matching_can_help():
    dice = np.random.default_rng(3)
    x, y = dice.normal(0.7, 1, (50, 1)), dice.normal(0, 1, (500, 1))
    [[before, after]] = balance(x, y, nearest_controls(x, y, 20))
    assert before > 0.5
    assert abs(after) < 0.2


def sides(dice, shift, m=60, n=60, spread=1.0):
    x = np.concatenate([dice.normal(shift, spread, (m, 5)), dice.normal(0, 1, (n, 5))])
    return x, np.repeat([True, False], [m, n]), np.zeros(m + n, np.int64)


def test_the_classifier_holds_its_level_where_sides_are_alike():
    dice = np.random.default_rng(4)
    found = [separation(*sides(dice, 0.0, 40, 40), seed=k, draws=99).p_value for k in range(120)]
    assert stats.binomtest(sum(p <= 0.05 for p in found), 120, 0.05, alternative="greater").pvalue > 0.01


def test_the_classifier_finds_a_shift_and_a_change_of_spread():
    dice = np.random.default_rng(5)
    assert separation(*sides(dice, 0.7), seed=0).p_value <= 0.01
    assert separation(*sides(dice, 0.0, spread=2.2), seed=0).p_value <= 0.01


def test_the_smallest_auc_shrinks_with_the_numbers_and_strata_of_one_side_are_left_out():
    dice = np.random.default_rng(6)
    few, many = (separation(*sides(dice, 0.0, m, m), seed=0, draws=19) for m in (30, 120))
    assert 0.5 < many.detectable < few.detectable < 0.75
    x, picture, strata = sides(dice, 0.0)
    strata[:30] = 9
    assert separation(x, picture, strata, seed=0, draws=19).pictures == 30
    strata[:50] = 9
    assert separation(x, picture, strata, seed=0) is None


def test_the_smallest_auc_that_is_found_is_found_with_four_chances_in_five_over_strata_too():
    """A score of its own in unequal strata: the standard deviation of its null is what `_spread` says."""
    dice = np.random.default_rng(4)
    strata = np.repeat([0, 1], [450, 52])
    picture = np.concatenate([np.arange(450) < 50, np.arange(52) < 50])
    null = [matching._auc(dice.normal(size=502), picture, strata) for _ in range(2_000)]
    assert np.std(null) == pytest.approx(matching._spread(picture, strata), rel=0.06)
    pooled = np.sqrt(503 / (12 * 100 * 402))
    assert pooled < 0.85 * matching._spread(picture, strata)
