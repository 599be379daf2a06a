"""The statistics against slow oracles, and audits of models that copied nothing."""

import time
from fractions import Fraction
from math import comb, inf, nan

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from byrote.kernels import stats

ALPHA = 0.05
AUDITS = 400
distance = st.sampled_from([0.0, 0.1, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0, inf])  # few values: ties are the hard case
distances = st.lists(distance, max_size=12).map(lambda d: np.array(d, np.float64))
some_controls = st.lists(distance, min_size=1, max_size=60).map(lambda d: np.array(d, np.float64))
cuts = st.sampled_from([0.0, 0.1, 0.25, 0.5, inf])
alphas = st.sampled_from([0.01, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5])


def p_oracle(t, controls):
    return Fraction(1 + sum(c <= t for c in controls), 1 + len(controls))


def q_oracle(statistics, controls, closest=inf):
    """Adjusted p of every picture, by trying every list in fractions; T = +inf beyond `closest` for those within."""

    def adjusted(values):
        p = [p_oracle(t, controls) for t in values]
        return [min(len(p) * b / sum(a <= b for a in p) for b in p if b >= own) for own in p]

    cut = adjusted([t if t <= closest else inf for t in statistics])
    return [near if t <= closest else far for t, near, far in zip(statistics, cut, adjusted(statistics), strict=True)]


def added_oracle(statistics, controls, alpha, closest):
    """Move each control over in turn and test again."""
    moved = []
    for i, h in enumerate(controls):
        left = [*controls[:i], *controls[i + 1 :]]
        q = q_oracle([*statistics, h], left, closest)[-1]
        moved.append(q <= Fraction(repr(alpha)) and h <= closest)
    return moved


@given(distances, distances)
def test_conformal_p_counts_one_control_after_another(statistics, controls):
    expected = [float(p_oracle(t, controls)) for t in statistics]
    assert stats.conformal_p(statistics, controls).tolist() == expected


@given(some_controls)
def test_a_picture_that_nothing_came_near_has_p_of_exactly_one(controls):
    assert stats.conformal_p(np.array([inf]), controls).tolist() == [1.0]


def test_without_controls_every_p_and_q_is_one():
    none = np.zeros(0)
    assert stats.conformal_p(np.array([0.0, inf]), none).tolist() == [1.0, 1.0]
    assert stats.conformal_q(np.array([0.0, inf]), none, 0.1).tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    "call",
    [
        stats.conformal_p,
        stats.conformal_q,
        stats.decoy_precision,
        lambda t, c: stats.sensitivities(t, c, alpha=ALPHA),
        lambda t, c: stats.certified_if_added(t, c, alpha=ALPHA, closest=1.0),
    ],
)
def test_a_nan_on_either_side_is_refused(call):
    for t, c in [([nan], [0.1]), ([0.1], [nan])]:
        with pytest.raises(ValueError, match="NaN"):
            call(np.array(t), np.array(c))


@given(st.lists(st.integers(1, 40), max_size=15))
def test_benjamini_hochberg_is_the_smallest_rate_at_which_the_step_up_test_rejects(numerators):
    p = np.array(numerators) / 40
    q = stats.benjamini_hochberg(p)
    for alpha in np.arange(1, 60) / 61:
        passing = [k for k in range(1, len(p) + 1) if sorted(p)[k - 1] <= alpha * k / len(p)]
        limit = sorted(p)[max(passing) - 1] if passing else -1
        assert (q <= alpha).tolist() == (p <= limit).tolist()
    assert np.all(np.diff(q[np.argsort(p)]) >= 0)
    assert np.all(q <= 1)
    assert np.all(q >= p)


@given(distances, some_controls)
def test_conformal_q_without_a_cut_is_benjamini_hochberg_of_conformal_p(statistics, controls):
    plain = stats.benjamini_hochberg(stats.conformal_p(statistics, controls))
    assert np.allclose(stats.conformal_q(statistics, controls), plain, rtol=1e-14, atol=0)


@given(distances, distances, cuts)
def test_conformal_q_equals_the_fractions_of_every_list_tried(statistics, controls, closest):
    expected = [float(q) for q in q_oracle(list(statistics), list(controls), closest)]
    assert stats.conformal_q(statistics, controls, closest).tolist() == expected


@given(distances, some_controls, cuts)
def test_a_cut_never_makes_a_picture_surer(statistics, controls, closest):
    assert np.all(stats.conformal_q(statistics, controls, closest) >= stats.conformal_q(statistics, controls))


@given(st.integers(1, 300), st.integers(0, 6000), st.integers(0, 5), alphas)
def test_findings_needed_is_where_the_list_begins_to_be_certified(m, n, c, alpha):
    assume(c <= n)
    k = stats.findings_needed(m, n, c, alpha)
    controls = np.r_[np.zeros(c), np.ones(n - c)]
    for near in {k - 1, k} & set(range(1, m + 1)):
        q = stats.conformal_q(np.r_[np.zeros(near), np.full(m - near, inf)], controls, 0.5)
        assert (q[0] <= alpha) == (near == k)


def test_the_published_examples_of_the_power_rule_hold():
    assert [stats.findings_needed(m, m, 0, 0.05) for m in (100, 1000, 10**6)] == [20, 20, 20]
    assert stats.findings_needed(1, 19, 0, 0.05) == 1
    assert stats.findings_needed(1, 18, 0, 0.05) == 2
    assert stats.findings_needed(3, 9, 0, 0.3) == 1, "the float .3 is below three tenths"
    assert stats.controls_needed(1, 1, 0, 0.05) == 19
    assert stats.controls_needed(1000, 1, 0, 0.05) == 19_999


@given(st.integers(1, 500), st.integers(1, 50), st.integers(0, 9), alphas)
def test_controls_needed_is_the_fewest_that_will_do(m, k, c, alpha):
    n = stats.controls_needed(m, k, c, alpha)
    assert stats.findings_needed(m, n, c, alpha) <= k
    assert n == c or stats.findings_needed(m, n - 1, c, alpha) > k


@given(st.integers(0, 30), st.integers(0, 300), st.floats(0.001, 0.9))
def test_at_the_sensitivity_the_claim_stands_by_a_hair(c, more, limit):
    n = c + more
    gamma = stats.sensitivity(c, n, limit)

    def p(g):
        return g * (1 + c) / (g * (1 + c) + n - c)

    if n > c:
        assert p(gamma) == pytest.approx(limit)
        assert p(gamma * 1.01) > limit
    else:
        assert gamma == 0


@given(distances, some_controls, cuts, alphas)
def test_joint_sensitivity_is_the_gamma_at_which_the_adjusted_p_reaches_alpha(statistics, controls, closest, alpha):
    gammas = stats.sensitivities(statistics, controls, alpha=alpha, closest=closest)
    n = len(controls)

    def q(t, gamma):
        inflated = np.where(statistics <= closest, statistics, inf) if t <= closest else statistics
        below = np.array([np.sum(controls <= s) for s in inflated])
        p = gamma * (1 + below) / (gamma * (1 + below) + n - below)
        return min(len(p) * b / np.sum(inflated <= s) for s, b in zip(inflated, p, strict=True) if s >= t)

    for t, gamma in zip(statistics, gammas, strict=True):
        if gamma > 0:
            assert q(t, gamma * (1 - 1e-9)) <= alpha < q(t, gamma * (1 + 1e-9))
        else:
            assert q(t, 1e-9) > alpha


@given(distances, distances, alphas, cuts)
@settings(max_examples=200)
def test_certified_if_added_equals_moving_each_control_over(statistics, controls, alpha, closest):
    fast = stats.certified_if_added(statistics, controls, alpha=alpha, closest=closest)
    assert fast.tolist() == added_oracle(list(statistics), list(controls), alpha, closest)


def test_certified_if_added_finds_some_and_not_all():
    """A hundred controls and four copies: a control joins them where it is as near, and nowhere else."""
    controls = np.arange(100) / 100
    added = stats.certified_if_added(np.full(4, -1.0), controls, alpha=0.05, closest=0.5)
    assert added.tolist() == added_oracle([-1.0] * 4, list(controls), 0.05, 0.5)
    assert np.flatnonzero(added).tolist() == [0, 1, 2, 3, 4]


def test_a_control_added_is_not_carried_by_pictures_beyond_tau():
    """Twenty moved pictures at .2 would bring q from 31 / 100 to 31 / (100 * 21) if they counted within .1."""
    pictures, controls = np.r_[np.full(20, 0.2), np.ones(10)], np.r_[0.05, np.ones(99)]
    assert not stats.certified_if_added(pictures, controls, alpha=0.05, closest=0.1).any()
    assert stats.certified_if_added(pictures, controls, alpha=0.05, closest=0.2).tolist() == [True] + [False] * 99


def test_certified_if_added_takes_under_a_second_for_a_thousand_pictures_and_twenty_thousand_controls():
    rng = np.random.default_rng(0)
    start = time.process_time()
    stats.certified_if_added(rng.random(1_000), rng.random(20_000), alpha=0.05, closest=0.5)
    assert time.process_time() - start < 1


@pytest.mark.parametrize("p", [0.0, 0.02, 0.3, 1.0])
@pytest.mark.parametrize(("samples", "least"), [(8, 0), (8, 1), (8, 3), (8, 8), (50, 10)])
def test_binomial_recall_sums_the_tail(p, samples, least):
    tail = sum(comb(samples, k) * p**k * (1 - p) ** (samples - k) for k in range(least, samples + 1))
    assert stats.binomial_recall(np.array([p]), samples, least)[0] == pytest.approx(tail, abs=1e-12)


def test_a_clique_of_10_in_500_is_caught_at_the_published_chances():
    """methods: 50 % at p = .019 and 95 % at p = .031."""
    assert stats.binomial_recall(np.array([0.0193, 0.0312]), 500, 10) == pytest.approx([0.5, 0.95], abs=0.01)


@pytest.mark.parametrize("n", [1, 7, 40])
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_clopper_pearson_ends_where_either_tail_is_spent(n, level):
    def at_least(k, p):
        return sum(comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k, n + 1))

    for k in range(n + 1):
        low, high = stats.clopper_pearson(k, n, level)
        assert low == 0 if k == 0 else at_least(k, low) == pytest.approx((1 - level) / 2)
        assert high == 1 if k == n else 1 - at_least(k + 1, high) == pytest.approx((1 - level) / 2)


def test_clopper_pearson_gives_the_interval_of_94_in_350000():
    low, high = stats.clopper_pearson(94, 350_000)
    assert (round(low, 5), round(high, 5)) == (0.00022, 0.00033)
    assert stats.clopper_pearson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(
    "call",
    [
        lambda: stats.clopper_pearson(3, 2),
        lambda: stats.clopper_pearson(1, 2, 95.0),
        lambda: stats.binomial_recall(np.array([0.5]), 4, 5),
        lambda: stats.findings_needed(10, 10, 0, 5.0),
        lambda: stats.controls_needed(10, 0, 0, 0.05),
    ],
)
def test_impossible_counts_and_levels_are_refused(call):
    with pytest.raises(ValueError, match="must"):
        call()


@given(distances, distances)
def test_decoy_precision_follows_the_counts(statistics, controls):
    m, n = len(statistics), len(controls)
    expected = [1 - min(1, m / (n + 1) * (1 + sum(controls <= t)) / sum(statistics <= t)) for t in statistics.tolist()]
    assert stats.decoy_precision(statistics, controls) == pytest.approx(expected)


def test_decoy_precision_is_near_the_truth_where_a_fifth_was_copied():
    """It leans low by the fifth that it takes for untrained."""
    rng = np.random.default_rng(5)
    copies, others = rng.normal(0.1, 0.05, 4_000), rng.normal(0.4, 0.1, 16_000)
    pictures = np.r_[copies, others]
    ranks = np.argsort(pictures)[1_000:15_000:100]
    false = np.array([np.sum(others <= t) / np.sum(pictures <= t) for t in pictures[ranks]])
    estimate = stats.decoy_precision(pictures, rng.normal(0.4, 0.1, 40_000))[ranks]
    assert estimate == pytest.approx(1 - false * 20_000 / 16_000, abs=0.03)
    assert false[0] < 0.01
    assert false[-1] > 0.6


# Audits of models that copied nothing: pictures and controls are exchangeable, so any certified picture is false.


def refutes(false_audits, audits=AUDITS, alpha=ALPHA):
    """Say whether so many audits with a false finding refute, at 1 %, that at most `alpha` of them have one."""
    return binomtest(false_audits, audits, alpha, alternative="greater").pvalue < 0.01


def bench(draw, rule, seed):
    """Count the audits in which `rule` certifies anything among the (pictures, controls) of `draw`."""
    rng = np.random.default_rng(seed)
    return sum(bool(rule(*draw(rng)).any()) for _ in range(AUDITS))


def certified(pictures, controls, closest=inf):
    return (stats.conformal_q(pictures, controls, closest) <= ALPHA) & (pictures <= closest)


def fair(rng, m=10):
    return rng.normal(size=m), rng.normal(size=20 * m)


def filtered(rng, m=10, passing=0.1):
    """Only some of either side pass the filter; what does not is +inf."""
    both = np.where(rng.random(21 * m) < passing, rng.normal(size=21 * m), inf)
    return both[:m], both[m:]


def tied(rng, m=10):
    return rng.integers(0, 40, m) / 40, rng.integers(0, 40, 20 * m) / 40


def best_of_five(rng, m=10):
    """The planted defect: five members for a picture's one chance, and one for a control's."""
    return rng.normal(size=(m, 5)).min(axis=1), rng.normal(size=20 * m)


def influenced(rng):
    """Training moved half of the pictures, none of them to within .01; the others are as the controls."""
    return np.r_[rng.uniform(0.01, 0.02, 20), rng.random(20)], rng.random(800)


@pytest.mark.parametrize("draw", [fair, filtered, tied])
def test_a_model_that_copied_nothing_is_accused_no_more_often_than_alpha(draw):
    assert not refutes(bench(draw, certified, seed=11))


def test_the_bench_is_not_idle_on_fair_audits():
    """It does accuse at times, and would not refute much more of it: the numbers are of the size the rule promises."""
    assert 4 <= bench(fair, certified, seed=11) <= 40


def test_the_bench_flags_best_of_five_members_for_pictures_only():
    assert refutes(bench(best_of_five, certified, seed=12))


def test_the_bench_flags_a_filter_that_shrinks_the_family_but_not_the_controls():
    def shrunk(pictures, controls):
        return certified(pictures[pictures < inf], np.where(controls < inf, controls, 9.0))

    def shrunk_and_forgiving(pictures, controls):
        return certified(pictures[pictures < inf], controls)

    assert refutes(bench(filtered, shrunk, seed=13))
    assert refutes(bench(filtered, shrunk_and_forgiving, seed=13))


def test_controls_dropped_by_the_filter_cost_power_not_truth():
    """Two copies among ten pictures: the rule finds them, a test among what passed has too few controls to."""

    def with_copies(rng):
        pictures, controls = filtered(rng)
        return np.r_[pictures[:8], -9.0, -9.0], controls

    def among_what_passed(pictures, controls):
        return certified(pictures, controls[controls < inf])

    assert bench(with_copies, certified, seed=14) == AUDITS
    assert bench(with_copies, among_what_passed, seed=14) < AUDITS / 4
    assert not refutes(bench(filtered, among_what_passed, seed=14))


def test_pictures_that_training_merely_moved_lend_no_certainty_to_chance():
    assert not refutes(bench(influenced, lambda t, c: certified(t, c, 0.01), seed=15))


def test_the_bench_flags_the_plain_q_cut_at_tau():
    """The planted defect: q over all pictures, then T <= tau. All that it certifies within tau is chance."""

    def plain(pictures, controls):
        return (stats.conformal_q(pictures, controls) <= ALPHA) & (pictures <= 0.01)

    assert refutes(bench(influenced, plain, seed=15))


def test_the_share_of_false_findings_among_real_ones_is_at_most_alpha():
    """Mean false share over audits with thirty copies of a hundred; its standard error is taken from the audits."""
    rng = np.random.default_rng(16)
    shares = []
    for _ in range(AUDITS):
        t, null = np.r_[rng.normal(-2, 1, 30), rng.normal(size=70)], rng.normal(size=300)
        found = certified(t, null)
        shares.append(found[30:].sum() / max(found.sum(), 1))
    mean, error = np.mean(shares), np.std(shares) / np.sqrt(AUDITS)
    assert 0 < mean <= ALPHA + 2.33 * error


def test_controls_are_certified_if_added_as_rarely_as_chance_allows():
    """Under exchangeability a control moved over is one of m + 1 null pictures: at most alpha of audits accuse any."""
    rng = np.random.default_rng(17)
    shares = [stats.certified_if_added(*fair(rng), alpha=ALPHA, closest=inf).mean() for _ in range(AUDITS)]
    assert 0 < np.mean(shares) <= ALPHA
