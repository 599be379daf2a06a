"""How a picture lies in another: crops that were cut are found again, and copies stand out from strangers."""

import numpy as np
import pytest
from corpora.shots import COPIES, compressed, cropped, field, mirrored
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from byrote.demo.portraits import draw, meet
from byrote.descriptors.whole import SIDE, Whole
from byrote.kernels import register as kernel
from byrote.kernels.register import NOTHING, register
from byrote.kernels.waves import turn_pixels

WHOLE = (0.0, 0.0, 1.0, 1.0)


def small(pictures):
    return Whole().describe(pictures).reshape(-1, SIDE, SIDE, 3)


def weighed(holders, shown, windows=WHOLE):
    windows = np.broadcast_to(np.array(windows, np.float32), (len(holders), 4)).copy()
    return register(small(holders), small(shown), windows)


FIELDS = [field(seed, 96, 96) for seed in range(12)]
FACES = [draw(meet("register", index)) for index in range(12)]


@pytest.mark.parametrize(
    ("window", "start"),
    [
        ((0.0, 0.0, 0.8125, 0.8125), (0, 0, 0.8, 0.8)),
        ((0.125, 0.0625, 0.84375, 0.84375), (0.1, 0.1, 0.8, 0.8)),
        ((0.0625, 0.0625, 0.875, 0.875), (0.06, 0.06, 0.88, 0.88)),
        ((0.03125, 0.0, 0.9375, 0.9375), (0.05, 0, 0.95, 0.95)),
    ],
)
def test_a_crop_is_found_where_it_was_cut(window, start):
    left, top, share, _ = window
    cut = [cropped(picture, share, left, top) for picture in FIELDS]
    found = weighed(FIELDS, cut, start)
    assert np.abs(found.windows - np.array(window)).max() < 0.03
    assert found.evidence.min() > 3


def test_a_crop_of_a_portrait_is_found_where_it_was_cut():
    cut = [cropped(face, 0.875, 0.0625, 0.0625) for face in FACES]
    found = weighed(FACES, cut, (0.06, 0.06, 0.88, 0.88))
    off = np.abs(found.windows - np.array([0.0625, 0.0625, 0.875, 0.875])).max(1)
    assert np.median(off) < 0.03
    assert np.median(found.evidence) > 3


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_has_far_more_evidence_than_any_stranger(name):
    copies = [COPIES[name](picture) for picture in FIELDS]
    turn = {"mirrored": 1, "quarter": 5}.get(name, 0)
    start = (0.1, 0.0, 0.88, 0.88) if name == "cropped" else WHOLE
    shown = turn_pixels(small(copies), turn)
    windows = np.tile(np.array(start, np.float32), (len(FIELDS), 1))
    own = register(small(FIELDS), shown, windows).evidence
    strangers = np.concatenate(
        [register(small(FIELDS), np.roll(shown, shift, 0), windows).evidence for shift in range(1, len(FIELDS))]
    )
    assert own.min() > 3
    assert own.min() > strangers.max() + 4


def test_a_portrait_mirrored_and_compressed_stands_out_among_portraits():
    copies = [compressed(mirrored(face), 60) for face in FACES]
    shown = turn_pixels(small(copies), 1)
    windows = np.tile(np.array(WHOLE, np.float32), (len(FACES), 1))
    own = register(small(FACES), shown, windows).evidence
    strangers = register(small(FACES), np.roll(shown, 1, 0), windows).evidence
    assert own.min() > strangers.max() + 3


def test_pictures_that_do_not_agree_when_coarse_are_given_up():
    found = weighed(FIELDS, FIELDS[1:] + FIELDS[:1])
    assert (found.evidence == NOTHING).all()


def test_pairs_are_taken_some_at_a_time_without_a_difference(monkeypatch):
    shown = [cropped(picture, 0.9, 0.05, 0.05) if k % 2 else FIELDS[k - 1] for k, picture in enumerate(FIELDS)]
    at_once = weighed(FIELDS, shown)
    monkeypatch.setattr(kernel, "_ROWS", 5)
    again = weighed(FIELDS, shown)
    assert np.allclose(again.windows, at_once.windows, atol=1e-4)
    assert np.allclose(again.evidence, at_once.evidence, atol=1e-3)
    assert (at_once.evidence == NOTHING).any()
    assert (at_once.evidence > 0).any()


def test_no_pairs_have_no_evidence():
    none = np.zeros((0, SIDE, SIDE, 3), np.uint8)
    found = register(none, none, np.zeros((0, 4), np.float32))
    assert found.evidence.shape == (0,)
    assert found.windows.shape == (0, 4)


few = st.sampled_from([0, 1, 128, 255])
hostile = arrays(np.uint8, (2, 2, 8, 8, 3), elements=few, fill=few)


@settings(max_examples=60)
@given(hostile, st.sampled_from([WHOLE, (0.2, 0.2, 0.8, 0.8), (0.0, 0.1, 0.88, 0.88)]))
def test_any_pixels_have_finite_evidence_and_windows_near_the_picture(pixels, start):
    holders, shown = (np.ascontiguousarray(some.repeat(4, 1).repeat(4, 2)) for some in pixels)
    found = register(holders, shown, np.tile(np.array(start, np.float32), (2, 1)))
    assert np.isfinite(found.evidence).all()
    assert np.isfinite(found.windows).all()
    left, top, width, height = found.windows.T
    assert min(left.min(), top.min()) >= -0.0201
    assert max((left + width).max(), (top + height).max()) <= 1.0201
    assert min(width.min(), height.min()) >= 0.49


@pytest.mark.parametrize("levels", [(0, 0), (10, 240), (128, 130)])
def test_flat_pictures_are_no_copies_of_each_other(levels):
    one, other = (np.full((1, SIDE, SIDE, 3), level, np.uint8) for level in levels)
    assert register(one, other, np.array([WHOLE], np.float32)).evidence[0] < 3
