import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from byrote.kernels import templates
from byrote.kernels.distance import block_means, tiled


def noisy(random, picture, n, changes=None, noise=4.0):
    rows = []
    for _ in range(n):
        image = picture.astype(float)
        if changes:
            left, top, right, bottom = changes
            image[top:bottom, left:right] = random.integers(0, 256, (bottom - top, right - left, 3))
        rows.append(np.clip(np.rint(image + random.normal(0, noise, image.shape)), 0, 255).astype(np.uint8))
    return np.stack(rows)


def smooth(random, side=32):
    coarse = random.integers(0, 256, (8, 8, 3)).astype(np.uint8)
    return coarse.repeat(side // 8, 0).repeat(side // 8, 1)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.25, 0.5, 1.0]), st.sampled_from([0.05, 0.2, 0.4]))
def test_samples_agree_as_a_loop_over_tiles_says(seed, share, within):
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (5, 16, 16, 3)).astype(np.uint8)
    images[1] = images[0]
    images[2, :8] = images[0, :8]
    means = block_means(images, 8)
    found = templates.agreeing(means, tiles=4, within=within, share=share)
    for a in range(5):
        for b in range(5):
            tile = [
                np.sqrt(((means[a] - means[b])[2 * y : 2 * y + 2, 2 * x : 2 * x + 2].astype(float) ** 2).mean())
                for y in range(4)
                for x in range(4)
            ]
            expected = a != b and sum(each <= within + 1e-7 for each in tile) >= share * 16
            assert found[a, b] == expected


def test_no_pair_that_agrees_in_all_tiles_of_pixels_is_missed():
    random = np.random.default_rng(0)
    images = noisy(random, smooth(random), 6, noise=20.0)
    near = tiled(images, images, tiles=4) <= 0.12
    np.fill_diagonal(near, False)
    assert near.any()
    assert not (near & ~templates.agreeing(block_means(images, 16), tiles=4, within=0.12, share=1.0)).any()


def test_what_changes_is_left_out_and_what_is_fixed_stays():
    random = np.random.default_rng(1)
    mask = templates.fixed(noisy(random, smooth(random), 6, (0, 0, 16, 32)))
    assert mask[:, 20:].all()
    assert not mask[:, :12].any()


def test_one_sample_alone_is_fixed_all_over():
    random = np.random.default_rng(2)
    assert templates.fixed(noisy(random, smooth(random), 1)).all()


def test_the_rule_of_webster_finds_where_two_pictures_agree():
    random = np.random.default_rng(3)
    a = smooth(random)
    b = a.copy()
    b[:, :12] //= 2
    mask = templates.fixed_of_pair(a, b)
    assert mask[:, 16:].all()
    assert mask[:, :8].mean() < 0.3


def test_masked_distance_is_the_rms_over_the_mask():
    random = np.random.default_rng(4)
    a, b = random.integers(0, 256, (2, 3, 8, 8, 3)).astype(np.uint8)
    mask = random.random((8, 8)) < 0.4
    expected = [np.sqrt((((x.astype(float) - y) / 255) ** 2)[mask].mean()) for x, y in zip(a, b, strict=True)]
    assert templates.masked(a, b, mask) == pytest.approx(expected)
    assert np.isinf(templates.masked(a, b, np.zeros((8, 8), bool))).all()


def test_websters_bound_is_an_rms_of_a_ninth():
    assert np.sqrt(templates.WEBSTER_WITHIN) == pytest.approx(0.113, abs=5e-4)


def test_the_nearest_over_a_mask_are_those_of_a_loop():
    random = np.random.default_rng(5)
    image, others = (
        random.integers(0, 256, (8, 8, 3)).astype(np.uint8),
        random.integers(0, 256, (50, 192)).astype(np.uint8),
    )
    mask = random.random((8, 8)) < 0.5
    far = [((o.reshape(8, 8, 3).astype(float) - image)[mask] ** 2).sum() for o in others]
    assert templates.nearest(image, others, mask, 7).tolist() == np.argsort(far, kind="stable")[:7].tolist()
    assert templates.nearest(image, others[:0], mask, 7).tolist() == []


def test_a_plain_background_has_no_contrast():
    image = np.full((8, 8, 3), 200, np.uint8)
    mask = np.ones((8, 8), bool)
    assert templates.contrast(image, mask) == 0
    image[:4] = 0
    assert templates.contrast(image, mask) == pytest.approx(100 / 255)
    assert templates.contrast(image, ~mask) == 0
