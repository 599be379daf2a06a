"""Samples that show a part of a picture, or a picture that moved: found among others, and where in it they lie."""

import numpy as np
import pytest
from corpora.shots import field
from PIL import Image

from byrote.kernels import align, register, windows
from byrote.kernels.distance import paired_tiled
from byrote.kernels.waves import WHOLE, Window, corners, luma, turned, waves

SIDE = 64
POOL = np.stack([field(seed, SIDE, SIDE) for seed in range(60)])


def small(pictures, side=32):
    return np.stack([np.asarray(Image.fromarray(p).resize((side, side), Image.Resampling.BOX)) for p in pictures])


def cut(picture, left, top, kept):
    box = left, top, left + kept, top + kept
    return np.asarray(Image.fromarray(picture).crop(box).resize((SIDE, SIDE), Image.Resampling.BICUBIC))


@pytest.mark.parametrize(("reach", "least"), [(0.0, 1.0), (0.0, 0.9), (0.125, 1.0), (0.1, 0.7), (0.25, 0.5)])
def test_a_window_lies_near_every_one_that_is_looked_for(reach, least):
    looked = windows.listed(reach, least)
    assert looked[0] == WHOLE
    assert len(set(looked)) == len(looked)
    assert min(w.width for w in looked) == pytest.approx(least)
    assert all(w.width == w.height for w in looked)
    assert all(-1e-9 <= w.left <= 1 - w.width + 1e-9 for w in looked if w.width < 1)
    dice, rows = np.random.default_rng(0), corners(looked)
    for _ in range(300):
        share = dice.uniform(least, 1)
        left, top = dice.uniform(0, 1 - share, 2)
        off = np.abs(rows[:, :2] + rows[:, 2:] / 2 - (left + share / 2, top + share / 2)).max(1) / share
        # half a step to the next place, half of one to the next size, and what the other size leaves no room for
        assert ((off <= 0.1) & (np.abs(np.log(rows[:, 2] / share)) <= 0.06)).any()
        moved = dice.uniform(-reach, reach, 2)
        assert (np.abs(rows[rows[:, 2] == 1][:, :2] - moved).max(1) <= 0.051).any()


@pytest.mark.parametrize("flip", [True, False])
def test_the_likeliest_are_those_of_a_trial_of_every_window(flip, monkeypatch):
    looked = windows.listed(0.1, 0.85)
    thumbnails, samples = small(POOL), small([p[::-1, ::-1] for p in POOL[:7]] + [POOL[3, :, ::-1]])
    held = windows.held(thumbnails, looked)
    monkeypatch.setattr(windows, "_PRODUCTS", 5000)
    monkeypatch.setattr(windows, "_SAMPLES", 3)
    found = windows.likely(held, samples, 4, flip)
    own = waves(luma(samples))
    views = [own, turned(own, 1)] if flip else [own]
    every = np.stack([[v @ held[w].astype(np.float32).T for w in range(len(looked))] for v in views])
    best = every.max((0, 1))
    assert np.allclose(found.alike, -np.sort(-best, axis=1)[:, :4], atol=1e-5)
    for row in range(len(samples)):
        assert len(set(found.pictures[row])) == 4
        for rank in range(4):
            at = int(found.mirrored[row, rank]), found.windows[row, rank], row, found.pictures[row, rank]
            assert every[at] == pytest.approx(found.alike[row, rank], abs=1e-5)
    assert bool(found.mirrored[7, 0]) is flip
    assert found.pictures[7, 0] == 3 or not flip


def test_the_waves_of_a_window_that_leaves_the_picture_are_those_of_the_picture_moved():
    moved = align.move(POOL[0], align.Alignment(False, 1.0, 8, -4))
    window = Window(-8 / SIDE, 4 / SIDE, 1.0, 1.0)
    assert np.allclose(waves(luma(POOL[:1]), window), waves(luma(moved[None])), atol=1e-4)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("side", [32, 64])
@pytest.mark.parametrize("kind", ["crop", "shift"])
def test_copies_are_found_and_brought_onto_their_pictures(kind, side, flip):
    dice, looked, who = np.random.default_rng(1), windows.listed(0.125, 0.7), np.arange(12)
    if kind == "crop":
        made = [cut(POOL[k], *dice.integers(0, 13, 2), int(dice.integers(45, 52))) for k in who]
    else:
        made = [align.move(POOL[k], align.Alignment(False, 1.0, *dice.integers(-8, 9, 2).tolist())) for k in who]
    samples = np.stack([picture[:, ::-1] if flip else picture for picture in made])
    found = windows.likely(windows.held(small(POOL), looked), small(samples), 1)
    assert (found.pictures[:, 0] == who).all()
    assert (found.mirrored[:, 0] == flip).all()
    starts = corners([looked[k] for k in found.windows[:, 0]])
    refined, apart = register.refined(small(POOL[who], side), small(made, side), starts, 0.125)
    assert apart.max() < 0.07
    away = []
    for k in who:
        moves = align.at_window(*refined[k].tolist(), flip, SIDE, SIDE)
        moved = np.stack([align.move(POOL[k], to) for to in moves])
        away.append(paired_tiled(np.broadcast_to(samples[k], moved.shape).copy(), moved, tiles=4).min())
    assert max(away) < 0.1


def test_a_window_becomes_the_moves_around_it():
    (first, *others) = align.at_window(0.1, 0.3, 0.6, 0.6, False, 100, 100)
    assert (first.crop, first.flip) == (0.6, False)
    assert first.at == pytest.approx((-0.5, 0.5), abs=0.01)
    assert {to.crop for to in others} == {0.6, 0.59, 0.61}
    assert all(max(map(abs, to.at)) <= 1 for to in others)
    (first, *others) = align.at_window(-0.05, 0.02, 1.0, 1.0, True, 100, 100)
    assert first == align.Alignment(True, 1.0, 5, -2)
    assert len(others) == 8


def test_a_window_of_the_central_square_lies_there_in_a_wide_picture():
    picture = field(3, 40, 80)
    window = Image.fromarray(picture).crop((12, 6, 72, 36))  # .75 of both edges, off the centre
    sample = np.asarray(window.resize((80, 40), Image.Resampling.BILINEAR))
    square = (42 - 15 - 20) / 40, 6 / 40, 0.75, 0.75
    moves = align.at_window(*square, False, 40, 80)
    assert paired_tiled(sample[None], align.move(picture, moves[0])[None], tiles=4)[0] < 0.05
