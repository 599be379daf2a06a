"""Fillings of a hidden half: against the exact conditional of a mixture, and the walk against the paper's schedule."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from byrote.kernels import repaint
from byrote.rungs import HALVES

MEANS = np.array([[-1.0, -0.8], [1.0, 0.9]])  # of pictures of two pixels
SPREAD = 0.15
STEPS = 40
ANGLES = np.linspace(np.pi / 2, 0.02, STEPS)
LEVELS = [(float(np.cos(a)), float(np.sin(a))) for a in ANGLES]


def best(x, alpha, sigma):
    """Return the mean of x0 given a state, of an even mixture of normal pictures about `MEANS`."""
    variance = (alpha * SPREAD) ** 2 + sigma**2
    logs = -((x[:, None] - alpha * MEANS) ** 2).sum(-1) / (2 * variance)
    shares = np.exp(logs - logs.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    gain = alpha * SPREAD**2 / variance
    return (shares[..., None] * (MEANS + gain * (x[:, None] - alpha * MEANS))).sum(1)


def told(x, place):
    alpha, sigma = LEVELS[place]
    flat = x.reshape(len(x), 2).astype(np.float64)
    x0 = best(flat, alpha, sigma)
    return [each.reshape(x.shape).astype(np.float32) for each in ((flat - alpha * x0) / sigma, x0)]


def filled(shown, *, count=600, times=8, seed=0):
    known = np.array([[[0.0, shown]]], np.float32)
    dice = [np.random.default_rng([seed, k]) for k in range(count)]
    return repaint.fill(known, repaint.hidden("left", 1, 2), LEVELS, told, dice, times=times)


@pytest.mark.parametrize(("shown", "hidden"), [(-0.8, -1.0), (0.9, 1.0)])
def test_what_is_hidden_follows_from_what_is_shown(shown, hidden):
    made = filled(shown)
    assert (made[:, 0, 0, 1] == np.float32(shown)).all()
    drawn = made[:, 0, 0, 0]
    assert abs(drawn.mean() - hidden) < 0.05
    assert 0.5 * SPREAD < drawn.std() < 2 * SPREAD
    assert (np.sign(drawn) == np.sign(hidden)).mean() > 0.98


def test_without_going_back_the_halves_fit_less_often():
    once, often = ((filled(0.9, times=times)[:, 0, 0, 0] < 0).mean() for times in (1, 8))
    assert once > 0.02
    assert often < once / 3


def test_a_row_is_the_same_alone_and_among_others_and_again():
    many, few = filled(0.9, count=5, times=2), filled(0.9, count=3, times=2)
    assert np.array_equal(many[:3], few)
    assert not np.array_equal(filled(0.9, count=3, times=2, seed=1), few)


@given(st.floats(0, 0.999), st.floats(0.02, 1), st.integers(0, 99))
def test_a_step_down_from_a_step_up_keeps_the_share_of_noise(alpha, ratio, seed):
    """A known picture's state, made noisier and drawn back by the posterior, is distributed as it was."""
    more = (alpha, float(np.sqrt(1 - alpha**2)))
    after = alpha + (1 - alpha) * ratio * 0.99
    less = (after, float(np.sqrt(1 - after**2)))
    dice = np.random.default_rng(seed)
    eps, up, down = (dice.standard_normal(20_000).astype(np.float32) for _ in range(3))
    x0 = np.full_like(eps, 0.7)
    x = np.float32(less[0]) * x0 + np.float32(less[1]) * eps
    high = repaint.noisier(x, up, less, more)
    assert abs(high.mean() - more[0] * 0.7) < 0.04
    assert high.std() == pytest.approx(more[1], abs=0.03)
    believed = (high - np.float32(more[0]) * x0) / np.float32(more[1])
    back = repaint.ancestral(x0, believed, down, more, less)
    assert abs(back.mean() - less[0] * 0.7) < 0.04
    assert back.std() == pytest.approx(less[1], abs=0.03)


def schedule(levels, jump, times):
    """Return the paper's schedule, one place at a time: t counts from the last level, 0, to the noisiest; -1 is clean.

    Lugmayr et al. 2022, appendix: jumps = {t: times - 1 for t in range(0, levels - jump, jump)}.
    """
    jumps = dict.fromkeys(range(0, levels - jump, jump), times - 1)
    t, seen = levels, []
    while t >= 1:
        t -= 1
        seen.append(t)
        if jumps.get(t, 0) > 0:
            jumps[t] -= 1
            for _ in range(jump):
                t += 1
                seen.append(t)
    return [*seen, -1]


@given(st.integers(1, 40), st.integers(1, 6), st.integers(1, 5))
def test_the_walk_is_the_papers_with_each_jump_at_once(levels, jump, times):
    walk = list(repaint.walk(levels, jump, times))
    steps = [walk[0]]
    for place in walk[1:]:
        steps += range(steps[-1] - 1, place - 1, -1) if place < steps[-1] else [place]
    assert [levels - 1 - place for place in steps] == schedule(levels, jump, times)
    assert repaint.evaluations(levels, jump, times) == sum(b < a for a, b in zip(steps[1:], steps, strict=False))


def test_the_papers_own_numbers_make_its_own_length():
    assert len(schedule(250, 10, 10)) == 4571  # 4,570 steps
    assert repaint.evaluations(250, 10, 10) == 250 + 24 * 9 * 10


@pytest.mark.parametrize("wrong", [(0, 1, 1), (5, 0, 1), (5, 1, 0)])
def test_a_walk_of_nothing_is_refused(wrong):
    with pytest.raises(ValueError, match="1 or more"):
        list(repaint.walk(*wrong))


@pytest.mark.parametrize("half", HALVES)
@given(height=st.integers(1, 9), width=st.integers(1, 9))
def test_a_half_and_the_one_across_hide_everything_and_share_the_middle_alone(half, height, width):
    across = {"left": "right", "right": "left", "top": "bottom", "bottom": "top"}[half]
    one, other = repaint.hidden(half, height, width), repaint.hidden(across, height, width)
    assert (one | other).all()
    side, rest = (width, height) if half in ("left", "right") else (height, width)
    assert (one & other).sum() == (rest if side % 2 else 0)
    assert repaint.hidden("left", 4, 4)[:, 0].all()
    assert repaint.hidden("bottom", 4, 4)[-1].all()


def test_the_likeliest_are_those_of_least_loss_over_the_shadows():
    target, shadow = np.arange(1.0, 41.0), np.linspace(4, 0.1, 40)
    assert repaint.likeliest(target).tolist() == [0, 1, 2, 3]
    assert repaint.likeliest(target, shadow).tolist() == sorted(range(40), key=lambda k: target[k] / shadow[k])[:4]
    assert len(repaint.likeliest(np.ones(3))) == 1
    assert len(repaint.likeliest(np.ones(5000))) == 10


def test_a_loss_is_the_mean_square_of_what_is_missed():
    a, b = (np.random.default_rng(k).standard_normal((3, 2, 4, 4)).astype(np.float32) for k in (1, 2))
    assert repaint.loss(a, b) == pytest.approx([((x - y) ** 2).mean() for x, y in zip(a, b, strict=True)], rel=1e-6)
