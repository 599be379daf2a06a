"""Scores of prompts against slow oracles."""

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from byrote.kernels import screening as s

seeds = st.integers(0, 2**32 - 1)
few = st.integers(1, 4)


def drawn(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def rms(a: np.ndarray, b: np.ndarray) -> float:
    pairs = list(zip(a.ravel().tolist(), b.ravel().tolist(), strict=True))
    return math.sqrt(math.fsum((x - y) ** 2 for x, y in pairs) / len(pairs))


@settings(deadline=None)
@given(seeds, few)
def test_the_norm_is_the_root_of_the_summed_squares(seed, n):
    rows = drawn(seed, n, 2, 3)
    slow = [math.sqrt(math.fsum(v**2 for v in row.ravel().tolist())) for row in rows]
    np.testing.assert_allclose(s.conditional_norm(rows), slow, rtol=1e-12)


@settings(deadline=None)
@given(seeds, few)
def test_the_displacement_is_that_of_webster_less_what_the_noise_alone_gives(seed, n):
    noise, x0 = drawn(seed, n, 2, 3), drawn(seed + 1, n, 2, 3)
    slow = [rms(a, b) ** 2 - rms(a, np.zeros_like(a)) ** 2 for a, b in zip(noise, x0, strict=True)]
    np.testing.assert_allclose(s.displacement(noise, x0), slow, atol=1e-5)


def test_with_one_noise_for_all_prompts_the_displacement_ranks_as_webster_does():
    noise, x0 = np.repeat(drawn(0, 1, 8), 5, axis=0), drawn(1, 5, 8)
    assert np.array_equal(np.argsort(s.displacement(noise, x0)), np.argsort(np.square(noise - x0).mean(1)))


@settings(deadline=None)
@given(seeds, few, st.integers(2, 5))
def test_agreement_is_over_all_pairs_and_the_closest_pair_is_one_of_them(seed, prompts, count):
    rows = drawn(seed, prompts, count, 2, 3)
    apart = [[rms(a, b) for a, b in combinations(each, 2)] for each in rows]
    np.testing.assert_allclose(s.agreement(rows), [-math.fsum(each) / len(each) for each in apart], rtol=1e-5)
    np.testing.assert_allclose(s.closest(rows), [-min(each) for each in apart], rtol=1e-5)


def test_rows_that_are_one_agree_wholly_and_one_alone_cannot():
    assert s.agreement(np.ones((1, 3, 2), np.float32)) == [0.0]
    with pytest.raises(ValueError, match="two rows"):
        s.agreement(np.ones((1, 1, 2), np.float32))


def slow_edges(image: np.ndarray, least: float) -> np.ndarray:
    """Webster's operator, written out: borders mirrored, every axis but the one of the difference smoothed."""
    shares = np.pad(image.astype(np.float64) / 255, 1, mode="symmetric")
    smooth, slope = (1, 2, 1), (-1, 0, 1)
    found = np.zeros(image.shape[:2], bool)
    for y, x in np.ndindex(*found.shape):
        total = 0.0
        for c in range(image.shape[2]):
            box = shares[y : y + 3, x : x + 3, c : c + 3]
            down = sum(box[i, j, k] * slope[i] * smooth[j] * smooth[k] for i, j, k in np.ndindex(3, 3, 3))
            across = sum(box[i, j, k] * smooth[i] * slope[j] * smooth[k] for i, j, k in np.ndindex(3, 3, 3))
            total += math.hypot(down, across)
        found[y, x] = total > least
    return found


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_edges_are_those_of_the_operator_written_out(seed):
    dice = np.random.default_rng(seed)
    image = (dice.integers(0, 40, (6, 7, 3)) + dice.integers(0, 200)).astype(np.uint8)
    least = dice.uniform(0.3, 4)
    assert np.array_equal(s.edges(image, least), slow_edges(image, least))


def test_the_operator_smooths_over_channels_so_a_step_of_all_three_weighs_four_times_as_much():
    step = np.zeros((8, 8, 3), np.uint8)
    step[:, 4:] = 30  # .118: times 4 (rows), 4 (channels), 3 channels, half of it on either side of the step
    assert s.edges(step).any()
    step[:, 4:] = 7  # 7 / 255 * 48 = 1.32
    assert not s.edges(step).any()


@settings(deadline=None)
@given(seeds, st.integers(1, 5))
def test_an_edge_counts_where_more_than_half_of_the_images_have_it(seed, count):
    maps = np.random.default_rng(seed).random((count, 4, 5)) < 0.5
    slow = sum(sum(bool(m[y, x]) for m in maps) * 2 > count for y, x in np.ndindex(4, 5)) / 20
    assert s.edge_agreement(maps) == pytest.approx(slow, abs=1e-12)


@settings(deadline=None)
@given(seeds, few)
def test_sharpness_is_the_curvature_along_the_change_where_it_is_linear(seed, n):
    """d(x) = A x + b: H is A, whatever the length of the step."""
    matrix, shift, x = drawn(seed, 5, 5).astype(np.float64), drawn(seed + 1, 5), drawn(seed + 2, n, 5)
    change = (x @ matrix.T + shift).astype(np.float32)
    moved = (x + s.directions(change, 0.1)) @ matrix.T + shift
    slow = [float(np.sum((matrix @ row.astype(np.float64)) ** 2)) for row in change]
    np.testing.assert_allclose(s.sharpness(change, moved.astype(np.float32), 0.1), slow, rtol=5e-3, atol=1e-3)


@settings(deadline=None)
@given(seeds, few, st.floats(0.01, 10))
def test_directions_have_the_length_that_is_asked_for_and_nothing_stays_nothing(seed, n, length):
    rows = drawn(seed, n, 2, 3)
    rows[0] = 0
    sizes = [rms(row, np.zeros_like(row)) for row in s.directions(rows, length)]
    np.testing.assert_allclose(sizes, [0.0] + [length] * (n - 1), rtol=1e-5)


@settings(deadline=None)
@given(seeds, few)
def test_anisotropy_is_a_cosine_and_a_norm(seed, n):
    late, without, early = (drawn(seed + k, n, 4) for k in range(3))
    slow = [
        2 * float(a @ b) / math.sqrt(float(a @ a) * float(b @ b)) + math.sqrt(float(c @ c))
        for a, b, c in zip(*(each.astype(np.float64) for each in (late, without, early)), strict=True)
    ]
    np.testing.assert_allclose(s.anisotropy(late, without, early), slow, rtol=1e-9)
    assert np.array_equal(s.alignment(np.zeros((1, 3), np.float32), np.ones((1, 3), np.float32)), [0.0])


@settings(deadline=None)
@given(seeds, few, few)
def test_the_bright_ending_masks_every_channel_and_divides_by_the_mean_of_the_mask(seed, steps, n):
    differences, mask = drawn(seed, steps, n, 2, 3, 4), np.abs(drawn(seed + 1, n, 3, 4))
    slow = []
    for row in range(n):
        norms = [
            math.sqrt(sum((float(step[row, c, y, x]) * float(mask[row, y, x])) ** 2 for c, y, x in np.ndindex(2, 3, 4)))
            for step in differences
        ]
        slow.append(sum(norms) / steps / (sum(mask[row].ravel().tolist()) / 12))
    np.testing.assert_allclose(s.bright_ending(differences, mask), slow, rtol=1e-5)
    assert np.array_equal(s.bright_ending(differences, np.zeros_like(mask)), np.zeros(n))


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=5, max_size=30))
def test_the_rank_correlation_is_that_of_middle_ranks(pairs):
    a, b = (np.array(side, np.float64) for side in zip(*pairs, strict=True))

    def ranks(values):
        return [sum(v < x for v in values) + (sum(v == x for v in values) + 1) / 2 for x in values]

    told = s.rank_correlation(a, b)
    if len(set(a)) == 1 or len(set(b)) == 1:
        assert told == (0.0, -1.0, 1.0, len(a))
        return
    assert told.value == pytest.approx(np.corrcoef(ranks(a), ranks(b))[0, 1], abs=1e-9)
    assert -1 <= told.low <= told.value <= told.high <= 1


def test_its_interval_holds_the_truth_about_as_often_as_it_says():
    dice, truth, held = np.random.default_rng(5), 0.5, 0
    rank_truth = 6 / math.pi * math.asin(truth / 2)  # Spearman's of a normal pair
    for _ in range(600):
        a = dice.standard_normal(40)
        b = truth * a + math.sqrt(1 - truth**2) * dice.standard_normal(40)
        told = s.rank_correlation(a, b, 0.9)
        held += told.low <= rank_truth <= told.high
    assert 0.86 <= held / 600 <= 0.94


def test_too_few_pairs_and_nan_are_refused():
    with pytest.raises(ValueError, match="5 pairs"):
        s.rank_correlation(np.arange(4.0), np.arange(4.0))
    with pytest.raises(ValueError, match="NaN"):
        s.rank_correlation(np.array([1, 2, 3, 4, math.nan]), np.arange(5.0))
