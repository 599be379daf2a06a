"""Holm against its own definition; the permutation test against every relabelling there is."""

from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from byrote.kernels.exact import holm, permutation_p


def by_definition(p):
    """Adjust each p to the smallest level at which the step-down procedure rejects it."""
    order = sorted(range(len(p)), key=lambda k: p[k])
    adjusted, worst = [0.0] * len(p), 0.0
    for step, k in enumerate(order):
        worst = max(worst, min(1.0, p[k] * (len(p) - step)))
        adjusted[k] = worst
    return adjusted


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_is_the_step_down_procedure(p):
    assert holm(np.array(p, np.float64)).tolist() == pytest.approx(by_definition(p))


def test_holm_holds_the_familywise_error():
    dice = np.random.default_rng(0)
    wrong = sum(bool((holm(dice.random(7)) <= 0.05).any()) for _ in range(3000))
    assert wrong / 3000 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 3000)
    with pytest.raises(ValueError, match="NaN"):
        holm(np.array([np.nan]))


def enumerated(within, picture, strata):
    """Relabel in every way within strata and count how often as many pictures are within tau."""
    places = [[k for k in range(len(strata)) if strata[k] == s] for s in sorted(set(strata))]
    ways = [list(combinations(at, sum(picture[k] for k in at))) for at in places]
    observed = sum(w and p for w, p in zip(within, picture, strict=True))
    counts = [sum(within[k] for chosen in way for k in chosen) for way in product(*ways)]
    return sum(count >= observed for count in counts) / len(counts)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 2)), min_size=1, max_size=9))
def test_the_permutation_p_counts_every_relabelling_within_strata(rows):
    within, picture, strata = (list(column) for column in zip(*rows, strict=True))
    found = permutation_p(np.array(within), np.array(picture), np.array(strata))
    assert found == pytest.approx(enumerated(within, picture, strata))


def test_a_stratum_of_one_side_says_nothing():
    within = np.array([True, True, False, False])
    picture = np.array([True, True, True, False])
    assert permutation_p(within, picture, np.array([5, 5, 1, 1])) == 1.0


def test_many_copies_and_no_control_leave_hardly_a_chance():
    within = np.repeat([True, False], [30, 400])
    picture = np.repeat([True, False], [100, 330])
    assert 0 < permutation_p(within, picture, np.zeros(430, np.int64)) < 1e-19
