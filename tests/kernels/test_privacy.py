"""Exposure against ranks counted one by one; the bound on epsilon against trainings whose epsilon is known."""

from functools import cache
from math import exp, inf, log, log2, nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from byrote.kernels import privacy
from byrote.kernels.rates import lower_bound

RUNS = 2000
scores = st.sampled_from([0.0, 0.1, 0.2, 0.2, 0.3, inf])  # few values: ties are the hard case


@given(st.lists(scores, max_size=8), st.lists(scores, min_size=1, max_size=20))
def test_exposure_counts_the_references_at_or_before_a_canary(inserted, reference):
    expected = [log2(len(reference)) - log2(1 + sum(r <= own for r in reference)) for own in inserted]
    found = privacy.exposure(np.array(inserted, np.float64), np.array(reference, np.float64))
    assert found.tolist() == pytest.approx(expected)


def test_exposure_gives_the_figures_of_tensorflow_privacy():
    """Its own test: references 1 to 16; before all of them, behind all of them, and on rank 4."""
    found = privacy.exposure(np.array([0, 0.1, 20, 3.5]), np.arange(1.0, 17.0))
    assert found.tolist() == pytest.approx([4, 4, log2(16 / 17), 2])


def test_a_canary_that_ties_with_the_nearest_reference_is_second():
    assert privacy.exposure(np.array([1.0]), np.array([1.0, 2.0])).tolist() == [0.0]


def test_an_exposure_of_ten_takes_1024_references():
    assert privacy.greatest_exposure(1024) == 10
    assert privacy.exposure(np.zeros(1), np.ones(1024)).tolist() == [10.0]


@given(st.integers(0, 60), st.integers(0, 60), st.sampled_from([0.8, 0.95, 0.99]))
def test_with_no_delta_epsilon_is_the_logit_of_the_exact_lower_bound(correct, wrong, level):
    guesses = correct + wrong
    p = lower_bound(correct, guesses, level)
    expected = max(0.0, log(p / (1 - p))) if p > 0 else 0.0
    assert privacy.epsilon(correct, guesses, total=guesses + 5, level=level) == pytest.approx(expected, abs=1e-6)


def p_oracle(total, guesses, correct, eps, delta):
    """Appendix D of arXiv:2305.08846, in loops: beta, and alpha as the steepest mean of the sums below."""
    right = 1 / (1 + exp(-eps))
    beta = sum(binom.pmf(k, guesses, right) for k in range(correct, guesses + 1))
    alpha = max(sum(binom.pmf(correct - k, guesses, right) for k in range(1, i + 1)) / i for i in range(1, correct + 1))
    return min(1, beta + alpha * delta * 2 * total)


@pytest.mark.parametrize("case", [(100, 40, 38, 1e-5), (100, 100, 90, 1e-4), (1000, 30, 30, 1e-6), (50, 50, 38, 1e-3)])
def test_with_delta_epsilon_is_where_the_p_value_of_the_paper_reaches_its_level(case):
    total, guesses, correct, delta = case
    found = privacy.epsilon(correct, guesses, total=total, delta=delta)
    assert found > 0
    assert p_oracle(total, guesses, correct, found, delta) == pytest.approx(0.05, abs=1e-6)


def test_delta_loosens_the_bound_and_more_so_with_more_canaries():
    bounds = [privacy.epsilon(95, 100, total=m, delta=d) for m, d in [(100, 0), (100, 1e-4), (1000, 1e-4), (100, 1)]]
    assert bounds == sorted(bounds, reverse=True)
    assert bounds[2] < bounds[1] < bounds[0]
    assert bounds[3] == 0


@cache
def bound(correct, guesses, total, delta=0.0):
    return privacy.epsilon(correct, guesses, total=total, delta=delta)


def audits(eps, canaries, guessed, seed, revealed=0.0):
    """Bound the epsilon of randomised response, RUNS times: it tells each coin rightly with e^eps / (1 + e^eps).

    A share `guessed` of the coins is guessed. With chance `revealed` a coin is shown as it is: that is delta.
    """
    rng = np.random.default_rng(seed)
    guesses = round(guessed * canaries)
    right = revealed + (1 - revealed) / (1 + exp(-eps))
    return np.array([bound(v, guesses, canaries, revealed) for v in rng.binomial(guesses, right, RUNS).tolist()])


def refutes(bounds, eps):
    """Say whether, at 1 %, more than one run in twenty claims more than the truth."""
    return binomtest(int((bounds > eps).sum()), RUNS, 0.05, alternative="greater").pvalue < 0.01


@pytest.mark.parametrize("eps", [0.0, 0.5, 1.0, 3.0])
@pytest.mark.parametrize(("canaries", "guessed"), [(30, 1.0), (400, 0.25), (2000, 1.0)])
def test_the_bound_exceeds_the_true_epsilon_in_one_run_of_twenty_at_most(eps, canaries, guessed):
    assert not refutes(audits(eps, canaries, guessed, seed=1), eps)


def test_the_bound_holds_where_delta_shows_some_coins_as_they_are():
    assert not refutes(audits(1.0, 500, 1.0, seed=2, revealed=0.001), 1.0)


def test_the_bench_flags_the_plain_estimate():
    """The planted defect: the logit of the share that was right, without the bound."""
    rng = np.random.default_rng(3)
    shares = rng.binomial(400, 1 / (1 + exp(-1.0)), RUNS) / 400
    assert refutes(np.log(shares / (1 - shares)), 1.0)


def test_the_bound_nears_the_truth_as_canaries_grow():
    gaps = [2.0 - audits(2.0, n, 1.0, seed=4).mean() for n in (50, 500, 5000, 50_000)]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[0] > 0.5
    assert 0 < gaps[-1] < 0.04


def test_what_can_be_shown_at_most_is_the_bound_of_guesses_that_are_all_right():
    for guesses in (0, 1, 4, 5, 16, 100, 1024):
        assert privacy.most_epsilon(guesses) == pytest.approx(bound(guesses, guesses, guesses), abs=1e-6)
    assert privacy.most_epsilon(4) == 0 < privacy.most_epsilon(5)


def test_a_bound_on_eight_copies_is_eight_times_that_on_one():
    assert privacy.per_copy(4.0, 8) == 0.5


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: privacy.exposure(np.zeros(1), np.zeros(0)), "reference"),
        (lambda: privacy.exposure(np.array([nan]), np.zeros(1)), "NaN"),
        (lambda: privacy.exposure(np.zeros(1), np.array([nan])), "NaN"),
        (lambda: privacy.epsilon(3, 2, total=9), "must hold"),
        (lambda: privacy.epsilon(1, 3, total=2), "must hold"),
        (lambda: privacy.epsilon(1, 2, total=2, level=95.0), "level"),
        (lambda: privacy.epsilon(1, 2, total=2, delta=-0.1), "delta"),
        (lambda: privacy.per_copy(1.0, 0), "copies"),
    ],
)
def test_what_cannot_be_is_refused(call, says):
    with pytest.raises(ValueError, match=says):
        call()
