"""The best move against a trial of every move."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from byrote.kernels import align
from byrote.kernels.align import Alignment
from byrote.kernels.distance import paired_rms, paired_tiled


def oracle(sample, picture, moves, tiles, cutoff):
    """Try every move; the identity stands where none is within the cutoff."""
    tried = [paired_tiled(sample[None], align.move(picture, to)[None], tiles=tiles)[0] for to in moves]
    place = int(np.argmin(tried))
    place = place if tried[place] <= cutoff else 0
    return tried[place], paired_rms(sample[None], align.move(picture, moves[place])[None])[0], place


def agree(samples, pictures, moves, tiles, cutoff):
    found = align.best_of_pairs(samples, pictures, moves=moves, tiles=tiles, cutoff=cutoff)
    cutoffs = np.broadcast_to(cutoff, len(samples))
    for i, (sample, picture) in enumerate(zip(samples, pictures, strict=True)):
        assert (found.tiled[i], found.rms[i], found.moves[i]) == oracle(sample, picture, moves, tiles, cutoffs[i])


def smooth(rng, n, h, w):
    """Draw images with large and small shapes."""
    f = np.hypot(np.fft.fftfreq(h)[:, None], np.fft.fftfreq(w)[None]) + 0.02
    waves = np.fft.ifft2(np.fft.fft2(rng.standard_normal((n, 3, h, w))) / f**1.3).real
    waves *= 50 / waves.std(axis=(1, 2, 3), keepdims=True)
    return np.clip(waves + 128, 0, 255).astype(np.uint8).transpose(0, 2, 3, 1)


pairs = st.sampled_from([(4, 4), (8, 4), (4, 12)]).flatmap(
    lambda s: st.tuples(*[arrays(np.uint8, (3, *s, 3), elements=st.sampled_from([0, 1, 90, 255]))] * 2)
)


@given(
    pairs, st.integers(0, 2), st.booleans(), st.sampled_from([1.0, 0.9, 0.73]), st.sampled_from([0.0, 0.2, 0.5, 2.0])
)
def test_the_best_move_is_the_first_best_of_all(pair, shift, flip, crop, cutoff):
    agree(*pair, align.alignments(shift, flip, crop), 2, cutoff)


@given(pairs, st.lists(st.sampled_from(align.alignments(2, True, 0.8)), max_size=5), st.floats(0, 1))
def test_any_list_of_moves_will_do_repeats_too(pair, moves, cutoff):
    agree(*pair, (align.IDENTITY, *moves), 1, cutoff)


@pytest.mark.parametrize("cutoff", [0.05, 0.15, 0.3, np.inf])
@pytest.mark.parametrize(("h", "w", "tiles"), [(32, 32, 4), (24, 40, 2), (36, 12, 3)])
def test_moved_copies_and_strangers_are_measured_as_by_trial(h, w, tiles, cutoff):
    rng = np.random.default_rng(5)
    moves = align.alignments(2, True, 0.85)
    pictures = smooth(rng, 12, h, w)
    samples = np.stack([align.move(p, moves[int(rng.integers(len(moves)))]) for p in pictures])
    noisy = np.clip(samples + rng.normal(0, 8, samples.shape), 0, 255).astype(np.uint8)
    strangers = smooth(rng, 12, h, w)
    agree(np.concatenate([samples, noisy, strangers]), np.concatenate([pictures] * 3), moves, tiles, cutoff)


def test_each_pair_may_have_a_cutoff_of_its_own():
    rng = np.random.default_rng(6)
    a, b = smooth(rng, 20, 16, 16), smooth(rng, 20, 16, 16)
    agree(a, b, align.alignments(1, True, 0.9), 2, rng.uniform(0, 0.6, 20))


def test_chunks_do_not_change_the_answer(monkeypatch):
    rng = np.random.default_rng(7)
    samples, pictures = smooth(rng, 30, 16, 16), smooth(rng, 6, 16, 16)[rng.integers(0, 6, 30)]
    for name, value in {"_PAIRS": 4, "_PICTURES": 2, "_ENTRIES": 7}.items():
        monkeypatch.setattr(align, name, value)
    agree(samples, pictures, align.alignments(2, True, 0.9), 4, 0.5)


def test_a_shift_moves_right_and_down_and_repeats_the_edge():
    picture = np.arange(9, dtype=np.uint8).reshape(3, 3, 1).repeat(3, 2)
    assert align.move(picture, Alignment(False, 1.0, 1, 0))[..., 0].tolist() == [[0, 0, 1], [3, 3, 4], [6, 6, 7]]
    assert align.move(picture, Alignment(False, 1.0, 0, -1))[..., 0].tolist() == [[3, 4, 5], [6, 7, 8], [6, 7, 8]]
    assert align.move(picture, Alignment(True, 1.0, 1, 0))[..., 0].tolist() == [[1, 0, 0], [4, 3, 3], [7, 6, 6]]


def test_a_crop_shows_its_window_and_keeps_a_flat_picture_flat():
    ramp = np.linspace(0, 250, 40).astype(np.uint8)
    picture = np.broadcast_to(ramp[None, :, None], (40, 40, 3)).copy()
    left, right = (align.move(picture, Alignment(False, 0.8, dx, 0))[20, :, 0] for dx in (-1, 1))
    assert left[0] == 0
    assert right[-1] == 250
    assert abs(int(left[-1]) - 200) <= 3
    assert abs(int(right[0]) - 50) <= 3
    flat = np.full((8, 8, 3), 201, np.uint8)
    assert (align.move(flat, Alignment(True, 0.6, 1, -1)) == 201).all()


def test_moves_start_with_the_identity_and_count_as_documented():
    moves = align.alignments(2, True, 0.9)
    assert moves[0] == align.IDENTITY
    assert len(moves) == len(set(moves)) == 2 * (25 + 2 * 5)
    assert align.alignments(0, False, 1.0) == (align.IDENTITY,)
    assert {m.crop for m in align.alignments(0, False, 0.88)} == {1.0, 0.95, 0.9, 0.88}


def test_one_pair_beyond_the_cutoff_is_none():
    black, white = np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 255, np.uint8)
    moves = align.alignments(1, True, 1.0)
    assert align.best(black, white, moves, tiles=2, cutoff=0.9) is None
    assert align.best(black, white, moves, tiles=2, cutoff=1.0) == (1.0, 1.0, align.IDENTITY)


def test_bad_moves_are_refused():
    a = np.zeros((1, 8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match="identity"):
        align.best_of_pairs(a, a, moves=align.alignments(1, True, 1.0)[1:], tiles=2, cutoff=1.0)
    with pytest.raises(ValueError, match="shift -1"):
        align.alignments(-1, True, 1.0)
    with pytest.raises(ValueError, match=r"crop 0\.0"):
        align.alignments(1, True, 0.0)
    with pytest.raises((ValueError, TypeError)):
        align.best_of_pairs(a, a[:0], moves=(align.IDENTITY,), tiles=2, cutoff=1.0)


def test_no_pairs_have_no_best():
    a = np.zeros((0, 8, 8, 3), np.uint8)
    assert len(align.best_of_pairs(a, a, moves=align.alignments(1, True, 0.9), tiles=2, cutoff=1.0).tiled) == 0
