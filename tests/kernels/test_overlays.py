"""Overlays against a slow oracle, pixel by pixel, and what they promise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from byrote.kernels import overlays

IMAGES = st.tuples(st.integers(3, 9), st.integers(3, 9)).flatmap(lambda s: arrays(np.uint8, (2, *s, 3)))


def slow_edges(image):
    height, width, _ = image.shape
    luma = [[sum(w * int(c) for w, c in zip(overlays.LUMA, p, strict=True)) for p in row] for row in image]
    strength = np.zeros((height, width))
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            around = [[luma[y + v][x + h] for h in (-1, 0, 1)] for v in (-1, 0, 1)]
            across = sum(w * (row[2] - row[0]) for w, row in zip((1, 2, 1), around, strict=True))
            along = sum(w * (c - a) for w, a, c in zip((1, 2, 1), around[0], around[2], strict=True))
            strength[y, x] = (across**2 + along**2) ** 0.5 / 4
    limit = max(24.0, sorted(strength.ravel())[int(height * width * 0.9)])
    return strength, limit


@given(IMAGES)
def test_edges_are_those_of_the_slow_oracle(pair):
    strength, limit = slow_edges(pair[0])
    found = overlays.edges(pair[0])
    sure = np.abs(strength - limit) > 1e-9
    assert np.array_equal(found[sure], (strength >= limit)[sure])


@given(IMAGES)
def test_outlines_have_a_colour_for_each_case(pair):
    a, b = pair
    told = overlays.outlines(a, b)
    for mine, other, colour in (
        (0, 0, overlays.NEITHER),
        (1, 0, overlays.FIRST),
        (0, 1, overlays.SECOND),
        (1, 1, overlays.BOTH),
    ):
        where = (overlays.edges(a) == mine) & (overlays.edges(b) == other)
        assert (told[where] == colour).all()


@given(IMAGES)
def test_differences_grow_lighter_and_equal_pixels_are_black(pair):
    a, b = pair
    told = overlays.difference(a, b).astype(int).sum(axis=2)
    off = np.abs(a.astype(int) - b).sum(axis=2)
    assert (told[off == 0] == 4).all()
    assert (told[off >= 3 * overlays.BRIGHTEST] == sum(overlays.HEAT[-1])).all()
    order = np.argsort(off, axis=None)
    assert (np.diff(told.ravel()[order]) >= -2).all()  # rounded channel by channel


def test_each_stop_of_the_map_is_met():
    b = np.zeros((1, 5, 3), np.uint8)
    a = np.repeat(np.array([0, 32, 64, 96, 128], np.uint8)[None, :, None], 3, axis=2)
    assert [tuple(p) for p in overlays.difference(a, b)[0]] == list(overlays.HEAT)


def test_images_of_two_shapes_are_refused():
    a, b = np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5, 3), np.uint8)
    for does in (overlays.difference, overlays.outlines):
        with pytest.raises(ValueError, match="shapes differ"):
            does(a, b)
