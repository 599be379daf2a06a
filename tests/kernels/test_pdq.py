"""PDQ against Meta's own code (pdqhash) and against a slow oracle that filters pixel by pixel."""

import numpy as np
import pdqhash
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from byrote.kernels import pdq

SIZES = [(32, 32), (64, 64), (96, 96), (128, 128), (129, 200), (256, 256), (300, 211), (512, 512), (33, 640), (70, 40)]


def clouds(seed, height, width, count=1):
    """Draw pictures of a few random waves and some noise, uint8 [count, height, width, 3]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / [[[height]], [[width]]]
    pictures = np.zeros((count, height, width, 3))
    for k in range(count):
        for _ in range(30):
            down, across, phase = rng.uniform(-45, 45), rng.uniform(-45, 45), rng.uniform(0, 7)
            pictures[k] += rng.normal(size=3) * np.cos(down * y + across * x + phase)[..., None]
    return np.clip(128 + 15 * pictures, 0, 255).astype(np.uint8)


def reference(picture):
    bits, quality = pdqhash.compute(picture)
    return np.packbits(bits.astype(np.uint8)), quality


def filtered(line):
    """Filter one line by the window of PDQ, value by value."""
    window = -(-len(line) // 128)
    ahead = window // 2
    behind = window - ahead - 1
    parts = [line[max(0, k - behind) : k + ahead + 1] for k in range(len(line))]
    return np.array([part.sum() / len(part) for part in parts])


def oracle(picture):
    """Return the frequencies [16, 16] and the 64 x 64 points, in levels, from the description."""
    luma = picture.astype(float) @ [0.299, 0.587, 0.114]
    for _ in range(2):
        luma = np.apply_along_axis(filtered, 1, luma)
        luma = np.apply_along_axis(filtered, 0, luma)
    rows, columns = (((np.arange(64) + 0.5) * side / 64).astype(int) for side in luma.shape)
    points = luma[np.ix_(rows, columns)]
    table = [[np.cos(np.pi / 128 * wave * (2 * place + 1)) for place in range(64)] for wave in range(1, 17)]
    return np.array(table) @ points @ np.array(table).T / 32, points


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_a_hash_is_that_of_metas_code_to_the_bit_and_the_quality_within_one(height, width):
    pictures = clouds(height * width, height, width, 4)
    found, quality = pdq.hashes(pictures)
    for picture, own, good in zip(pictures, found, quality, strict=True):
        bits, theirs = reference(picture)
        assert own.tobytes() == bits.tobytes()
        assert abs(int(good) - theirs) <= 1


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_all_eight_hashes_are_those_of_metas_code_to_the_bit(height, width):
    pictures = clouds(height + width, height, width, 2)
    found, quality = pdq.dihedral(pictures)
    for picture, own, good in zip(pictures, found, quality, strict=True):
        bits, theirs = pdqhash.compute_dihedral(picture)
        assert own.tobytes() == np.packbits(np.array(bits, np.uint8), axis=1).tobytes()
        assert abs(int(good) - theirs) <= 1


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(5, 200), st.integers(5, 200))
def test_bits_differ_from_metas_code_only_where_a_frequency_is_the_median_but_for_rounding(seed, height, width):
    picture = clouds(seed, height, width)
    (own,), (quality,) = pdq.hashes(picture)
    bits, theirs = reference(picture[0])
    waves, _ = oracle(picture[0])
    gap = np.abs(waves - np.sort(waves, axis=None)[127])
    differ = np.unpackbits(own ^ bits)[::-1].reshape(16, 16).astype(bool)
    assert abs(int(quality) - theirs) <= 1
    assert (gap[differ] < 1e-2).all()


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.integers(5, 150), st.integers(5, 300))
def test_the_frequencies_and_the_quality_are_those_of_a_slow_filter(seed, height, width):
    picture = clouds(seed, height, width)
    truth, points = oracle(picture[0])
    waves, (quality,) = pdq._waves(picture)
    np.testing.assert_allclose(waves[0] * 2.55, truth, atol=2e-3)
    steps = [np.floor(np.abs(np.diff(points, axis=axis)) * 100 / 255 + 1e-6).sum() for axis in (0, 1)]
    assert abs(int(quality) - min(100, int(sum(steps)) // 90)) <= 1


def test_the_eight_hashes_are_those_of_the_moved_pictures_where_points_lie_in_the_middle():
    (picture,) = clouds(3, 320, 320)
    moved = [
        picture,
        np.rot90(picture, 1),
        np.rot90(picture, 2),
        np.rot90(picture, 3),
        picture[::-1],
        picture[:, ::-1],
        picture.swapaxes(0, 1),
        picture[::-1, ::-1].swapaxes(0, 1),
    ]
    (eight,), _ = pdq.dihedral(picture[None])
    for own, other in zip(eight, moved, strict=True):
        (direct,), _ = pdq.hashes(np.ascontiguousarray(other)[None])
        near = int(pdq.hamming(own[None], direct[None])[0, 0])
        others = np.sort(pdq.hamming(direct[None], eight)[0])
        assert near == others[0]
        assert near <= 2
        assert others[1] > 60


def test_a_hash_does_not_depend_on_the_pictures_beside_it():
    for side in (32, 70, 150):
        pictures = clouds(side, side, side, 50)
        together, quality = pdq.hashes(pictures)
        for k in (0, 17, 49):
            alone, good = pdq.hashes(pictures[k : k + 1])
            assert (alone[0] == together[k]).all()
            assert good[0] == quality[k]


def test_a_picture_whose_rows_are_filtered_in_parts_has_the_same_hash(monkeypatch):
    pictures = clouds(1, 400, 300)
    whole, _ = pdq.hashes(pictures)
    monkeypatch.setattr(pdq, "_LARGE", 1000)
    parts, _ = pdq.hashes(pictures)
    assert (whole == parts).all()


def test_the_same_picture_smaller_and_noisier_stays_within_the_radius_and_another_does_not():
    large = clouds(5, 256, 256, 2)
    small = large.reshape(2, 128, 2, 128, 2, 3).mean((2, 4))
    noisy = np.clip(small + np.random.default_rng(0).normal(size=small.shape) * 8, 0, 255).astype(np.uint8)
    distances = pdq.hamming(pdq.hashes(large)[0], pdq.hashes(noisy)[0])
    assert distances.diagonal().max() <= pdq.MATCH
    assert distances[0, 1] > 80


def test_a_flat_picture_has_no_quality_and_noise_has_all():
    flat = np.full((1, 100, 100, 3), 77, np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), np.uint8)
    assert pdq.hashes(flat)[1][0] == 0
    assert pdq.hashes(noise)[1][0] == 100


@pytest.mark.parametrize("shape", [(2, 4, 50, 3), (2, 50, 4, 3), (2, 1, 1, 3), (0, 64, 64, 3)])
def test_pictures_below_five_pixels_and_no_pictures_have_empty_hashes(shape):
    pictures = np.full(shape, 9, np.uint8)
    found, quality = pdq.hashes(pictures)
    eight, same = pdq.dihedral(pictures)
    assert found.shape == (shape[0], 32)
    assert eight.shape == (shape[0], 8, 32)
    assert not found.any()
    assert not eight.any()
    assert not quality.any()
    assert not same.any()


@given(arrays(np.uint8, (3, 32)), arrays(np.uint8, (5, 32)))
def test_the_distance_is_the_number_of_bits_that_differ(a, b):
    truth = [[sum((int(x) ^ int(y)).bit_count() for x, y in zip(p, q, strict=True)) for q in b] for p in a]
    assert pdq.hamming(a, b).tolist() == truth


def test_a_hash_and_its_opposite_differ_in_all_256_bits():
    hashes = np.stack([np.zeros(32, np.uint8), np.full(32, 255, np.uint8)])
    assert pdq.hamming(hashes, hashes).tolist() == [[0, 256], [256, 0]]


def scattered(count, seed):
    """Draw hashes, half of them near an earlier one by up to 40 flipped bits."""
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 256, (count, 32), np.uint8)
    for k in range(count // 2, count):
        bits = np.unpackbits(hashes[rng.integers(count // 2)])
        bits[rng.choice(256, rng.integers(41), replace=False)] ^= 1
        hashes[k] = np.packbits(bits)
    return hashes


@pytest.mark.parametrize("radius", [0, 10, 15, 16, 31, 32, 120])
@pytest.mark.parametrize("many", [0, 10**9])
def test_pairs_within_a_radius_are_those_of_the_whole_table_in_order(radius, many, monkeypatch):
    monkeypatch.setattr(pdq, "_MANY", many)  # looked up by their words, or all compared
    monkeypatch.setattr(pdq, "_MANY_ROWS", many)
    hashes = scattered(2500, radius)
    table = pdq.hamming(hashes, hashes) <= radius
    assert np.array_equal(pdq.within(hashes, radius), np.argwhere(np.triu(table, 1)))
    assert np.array_equal(pdq.near(hashes[::17], hashes, radius), np.argwhere(table[::17]))
    assert len(pdq.within(hashes, 31)) > 500


def test_many_equal_hashes_are_all_pairs_once():
    hashes = np.repeat(np.random.default_rng(0).integers(0, 256, (1, 32), np.uint8), pdq._MANY, 0)
    hashes[1000:] = np.random.default_rng(1).integers(0, 256, (len(hashes) - 1000, 32), np.uint8)
    assert np.array_equal(pdq.within(hashes, 31), np.argwhere(np.triu(np.ones((1000, 1000)), 1)))


def test_no_hashes_have_no_pairs():
    none, two = np.zeros((0, 32), np.uint8), np.zeros((2, 32), np.uint8)
    assert pdq.within(none, 31).shape == pdq.near(none, two, 31).shape == pdq.near(two, none, 31).shape == (0, 2)
    assert pdq.hamming(none, two).shape == (0, 2)
