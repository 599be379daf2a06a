"""Distances against sums of Python-sized integers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from byrote.kernels import distance


def images(n, h, w):
    return arrays(np.uint8, (n, h, w, 3))


def oracle(a, b, tiles):
    """Measure one pair, value by value, in int64."""
    h, w, c = a.shape
    height, width = h // tiles, w // tiles
    worst = 0
    for y in range(tiles):
        for x in range(tiles):
            part = np.s_[y * height : (y + 1) * height, x * width : (x + 1) * width]
            worst = max(worst, int(((a[part].astype(np.int64) - b[part]) ** 2).sum()))
    return np.sqrt(worst / (height * width * c)) / 255


@given(
    st.sampled_from([(4, 4), (8, 4), (6, 12)]).flatmap(lambda s: st.tuples(images(3, *s), images(2, *s))), st.booleans()
)
def test_every_distance_is_that_of_the_slow_sum(pair, split):
    a, b = pair
    tiles = 2 if split else 1
    truth = np.array([[oracle(x, y, tiles) for y in b] for x in a])
    assert (distance.tiled(a, b, tiles=tiles) == truth).all()
    assert (distance.paired_tiled(a[:2], b, tiles=tiles) == truth.diagonal()).all()
    if tiles == 1:
        assert (distance.rms(a, b) == truth).all()
        assert (distance.paired_rms(a[:2], b) == truth.diagonal()).all()


@pytest.mark.parametrize(("side", "tiles"), [(120, 1), (128, 2), (362, 1), (346, 2), (97, 1)])
def test_one_level_of_difference_survives_in_large_bright_images(side, tiles):
    a = np.full((2, side, side, 3), 255, np.uint8)
    a[1, 5, 7, 1] = 254
    truth = np.sqrt(1 / ((side // tiles) ** 2 * 3)) / 255
    assert distance.tiled(a, a.copy(), tiles=tiles)[0, 1] == truth
    assert distance.tiled(a, a, tiles=tiles)[1, 0] == truth
    assert distance.paired_tiled(a[:1], a[1:], tiles=tiles)[0] == truth
    assert distance.tiled(a, a, tiles=tiles)[1, 1] == 0


@pytest.mark.parametrize(("side", "tiles"), [(64, 4), (130, 1), (346, 2), (344, 4)])
def test_black_to_white_is_one_and_noise_agrees_with_the_slow_sum(side, tiles):
    rng = np.random.default_rng(side)
    a, b = rng.integers(0, 256, (2, 3, side, side, 3), np.uint8)
    truth = [oracle(x, y, tiles) for x, y in zip(a, b, strict=True)]
    assert distance.paired_tiled(a, b, tiles=tiles).tolist() == truth
    assert distance.tiled(a, b, tiles=tiles).diagonal().tolist() == truth
    black, white = np.zeros_like(a), np.full_like(a, 255)
    assert (distance.paired_tiled(black, white, tiles=tiles) == 1).all()
    assert (distance.rms(black, white) == 1).all()


def test_tiles_that_do_not_divide_the_image_are_refused():
    a = np.zeros((1, 8, 8, 3), np.uint8)
    for call in (distance.tiled, distance.paired_tiled):
        with pytest.raises(ValueError, match="3 x 3 tiles do not divide"):
            call(a, a, tiles=3)
    with pytest.raises(ValueError, match="3 x 3 tiles"):
        distance.block_means(a, 3)


def test_images_of_another_size_are_refused():
    with pytest.raises((ValueError, TypeError)):
        distance.rms(np.zeros((1, 8, 8, 3), np.uint8), np.zeros((1, 4, 8, 3), np.uint8))


@given(images(2, 12, 8), st.sampled_from([1, 2, 4]))
def test_block_means_are_the_means_of_blocks(a, blocks):
    truth = a.reshape(2, blocks, 12 // blocks, blocks, 8 // blocks, 3).astype(float).mean(axis=(2, 4)) / 255
    means = distance.block_means(a, blocks)
    assert means.dtype == np.float32
    assert np.allclose(means, truth, rtol=1.2e-7, atol=0)


def test_block_means_hold_where_a_column_of_levels_outgrows_sixteen_bits():
    a = np.full((1, 300, 2, 3), 255, np.uint8)
    assert (distance.block_means(a, 1) == 1).all()


@given(st.floats(0, 1), st.integers(1, 50_000))
def test_the_largest_sum_within_a_distance_is_within_and_the_next_is_not(limit, count):
    best = distance.largest_sum(limit, count)
    assert distance.root(np.array([best]), count)[0] <= limit
    if best < 255**2 * count:
        assert distance.root(np.array([best + 1]), count)[0] > limit


def test_no_sum_is_within_a_negative_distance():
    assert distance.largest_sum(-0.1, 12) == -1


def test_no_images_have_no_distances():
    none, two = np.zeros((0, 8, 8, 3), np.uint8), np.zeros((2, 8, 8, 3), np.uint8)
    assert distance.rms(none, two).shape == (0, 2)
    assert distance.tiled(two, none, tiles=2).shape == (2, 0)
    assert distance.paired_rms(none, none).shape == distance.paired_tiled(none, none, tiles=2).shape == (0,)
    assert distance.block_means(none, 2).shape == (0, 2, 2, 3)
