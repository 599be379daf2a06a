"""Waves of pictures against integrals over their windows, summed up point by point."""

from itertools import pairwise

import numpy as np
import pytest
from corpora.shots import field
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from byrote.kernels import waves as kernel
from byrote.kernels.waves import (
    DIMENSIONS,
    WHOLE,
    Window,
    basis,
    leaning,
    led_back,
    luma,
    turn_pixels,
    turned,
    waves,
    windows,
)

ORDERS = [(v, u) for v in range(8) for u in range(8) if 0 < u + v <= 7]
POINTS = 20_000


def along(side, start, share):
    """Sum each wave over the points of an edge, pixel by pixel: [8, side]."""
    points = (np.arange(POINTS) + 0.5) / POINTS
    under = ((start + share * points) * side).astype(int).clip(0, side - 1)
    sums = np.zeros((8, side))
    for order in range(8):
        wave = np.cos(np.pi * order * points) * (np.sqrt(2) if order else 1)
        np.add.at(sums[order], under, wave / POINTS)
    return sums


def truth(picture, window):
    """Integrate over the window, the pixel under each point taken as it is."""
    down = along(picture.shape[0], window.top, window.height)
    right = along(picture.shape[1], window.left, window.width)
    found = [np.hypot(v, u) * (picture * np.outer(down[v], right[u])).sum() for v, u in ORDERS]
    return np.array(found) / np.linalg.norm(found)


pictures = st.tuples(st.integers(3, 9), st.integers(3, 9)).flatmap(
    lambda sides: arrays(np.float32, (2, *sides), elements=st.sampled_from([0, 1, 40, 128, 254, 255]))
)


def with_waves(grey):
    """Leave out what is flat, or so nearly that rounding is all that its waves are."""
    grey = grey.astype(np.float64)
    right = np.abs(grey.mean(1) @ np.cos(np.pi * (np.arange(grey.shape[2]) + 0.5) / grey.shape[2]))
    down = np.abs(grey.mean(2) @ np.cos(np.pi * (np.arange(grey.shape[1]) + 0.5) / grey.shape[1]))
    return bool((right + down > 0.5).all())


@pytest.mark.parametrize(
    "window",
    [WHOLE, Window(0.1, 0.2, 0.8, 0.8), Window(0.0, 0.07, 0.93, 0.93), Window(0.25, 0.05, 0.5, 0.9)],
)
@pytest.mark.parametrize(("height", "width"), [(12, 12), (7, 10)])
def test_waves_of_a_window_are_integrals_over_it(window, height, width):
    grey = luma(np.stack([field(seed, height, width) for seed in (1, 2)]))
    expected = np.stack([truth(picture, window) for picture in grey])
    assert np.abs(waves(grey, window) - expected).max() < 5e-4


def test_a_window_on_whole_pixels_has_the_waves_of_the_pixels_cut_out():
    grey = luma(np.stack([field(seed, 40, 60) for seed in range(5)]))
    cut = np.ascontiguousarray(grey[:, 10:30, 6:54])
    assert np.allclose(waves(grey, Window(0.1, 0.25, 0.8, 0.5)), waves(cut), atol=1e-4)


@given(pictures)
def test_to_turn_waves_is_to_turn_pixels(grey):
    assume(with_waves(grey))
    own = waves(grey)
    for turn in range(8):
        moved = np.ascontiguousarray(turn_pixels(grey, turn))
        assert np.allclose(turned(own, turn), waves(moved), atol=2e-3)


def test_the_eight_turns_are_all_different_and_keep_every_pixel():
    square = np.arange(9).reshape(1, 3, 3)
    moved = {turn_pixels(square, turn).tobytes() for turn in range(8)}
    assert len(moved) == 8
    assert all(sorted(np.frombuffer(one, square.dtype)) == list(range(9)) for one in moved)
    expected = {0: square[0], 1: np.fliplr(square[0]), 2: np.flipud(square[0]), 3: np.rot90(square[0], 2)}
    expected |= {4: square[0].T, 5: np.rot90(square[0], -1), 6: np.rot90(square[0])}
    for turn, wanted in expected.items():
        assert (turn_pixels(square, turn)[0] == wanted).all()


def test_the_words_for_turns_say_what_is_done_to_the_pixels():
    square = np.arange(9).reshape(3, 3)
    meant = {
        "as it is": square,
        "mirrored": np.fliplr(square),
        "upside down and mirrored": np.flipud(square),
        "turned by 180 degrees": np.rot90(square, 2),
        "mirrored along its diagonal": square.T,
        "turned by 90 degrees clockwise": np.rot90(square, -1),
        "turned by 90 degrees anticlockwise": np.rot90(square),
        "mirrored along its other diagonal": np.rot90(square, 2).T,
    }
    assert len(kernel.TURNS) == len(meant)
    for turn, words in enumerate(kernel.TURNS):
        assert (turn_pixels(square[None], turn)[0] == meant[words]).all(), words


def upright(vectors):
    """Return the vectors set upright, and by which turns."""
    turns = np.full(len(vectors), -1)
    for turn, rows in enumerate(leaning(vectors)):
        turns[rows] = turn
    return np.concatenate([turned(vectors[[k]], turn) for k, turn in enumerate(turns)]), turns


def test_a_picture_and_its_turns_are_set_upright_alike():
    grey = luma(np.stack([field(seed, 32, 32) for seed in range(30)]))
    own, _ = upright(waves(grey))
    for turn in range(8):
        moved, turns = upright(waves(np.ascontiguousarray(turn_pixels(grey, turn))))
        assert np.allclose(moved, own, atol=1e-4)
        assert (turns >= 0).all()


def test_without_slack_a_picture_is_upright_in_one_turn_and_with_it_in_a_few():
    vectors = waves(luma(np.stack([field(seed, 32, 32) for seed in range(200)])))
    strict, lax = (np.concatenate(leaning(vectors, slack)) for slack in (0.0, 0.05))
    assert sorted(strict) == list(range(200))
    assert set(lax) == set(range(200))
    assert 200 < len(lax) < 4 * 200


def test_the_turn_that_leads_back_makes_the_second_picture_the_first():
    first = np.arange(9).reshape(1, 3, 3)
    for a in range(8):
        for b in range(8):
            upright = turn_pixels(first, a)
            second = next(
                one for one in (turn_pixels(first, k) for k in range(8)) if (turn_pixels(one, b) == upright).all()
            )
            assert (turn_pixels(second, int(led_back()[a, b])) == first).all()


@given(pictures, st.floats(0.2, 3), st.floats(-200, 200))
def test_gain_and_offset_drop_out(grey, gain, offset):
    assume(with_waves(grey))
    assert np.allclose(waves(grey), waves((grey * np.float32(gain) + np.float32(offset)).astype(np.float32)), atol=5e-3)


@given(pictures)
def test_vectors_have_length_one(grey):
    assume(with_waves(grey))
    assert np.allclose(np.linalg.norm(waves(grey), axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("level", [0, 1, 127, 255])
def test_a_flat_picture_has_no_waves(level):
    flat = np.full((3, 32, 32), level, np.float32)
    for window in windows():
        assert (waves(flat, window) == 0).all()


def test_no_pictures_have_no_waves():
    assert waves(np.zeros((0, 32, 32), np.float32)).shape == (0, DIMENSIONS)


def test_pictures_are_taken_some_at_a_time_without_a_difference(monkeypatch):
    grey = luma(np.stack([field(seed, 32, 32) for seed in range(11)]))
    at_once = waves(grey)
    monkeypatch.setattr(kernel, "_ROWS", 4)
    assert np.allclose(waves(grey), at_once, atol=1e-6)


def test_windows_lie_in_the_picture_and_the_whole_comes_first():
    assert windows()[0] == WHOLE
    assert windows(1.0) == (WHOLE,)
    assert len(set(windows())) == len(windows()) == 1 + 4 + 9 + 9
    assert {round(window.width, 2) for window in windows(0.88)} == {1.0, 0.95, 0.88}
    for window in windows():
        assert window.left >= 0 <= window.top
        assert window.left + window.width <= 1 + 1e-9 >= window.top + window.height
        assert window.width == window.height


def test_every_crop_that_keeps_four_fifths_is_near_a_window():
    """Between two places, and between two sizes, an edge is off by at most a twentieth of the picture."""
    for low, high in pairwise(sorted({window.width for window in windows()})):
        assert high - low < 0.1
    for share in {window.width for window in windows()}:
        places = sorted({window.left for window in windows() if window.width == share})
        assert places[0] == 0
        assert places[-1] == pytest.approx(1 - share)
        assert all(b - a <= 0.1 + 1e-9 for a, b in pairwise(places))


@given(st.integers(2, 40), st.floats(0, 0.4), st.floats(0.5, 0.6))
def test_a_basis_weighs_each_pixel_by_how_much_of_it_is_in_the_window(side, start, share):
    mean = basis(side, 4, start, share)[0]
    inside = [max(0.0, min((k + 1) / side, start + share) - max(k / side, start)) for k in range(side)]
    assert np.allclose(mean, np.array(inside) / share, atol=1e-6)
    assert np.allclose(basis(side, 4, start, share)[1:].sum(1), 0, atol=1e-5)
