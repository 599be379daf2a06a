"""What a denoiser says, translated: against equations solved by hand, and there and back."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from byrote.kernels import predictions as p

KINDS = ["eps", "x0", "v", "flow", "edm"]
shares = st.floats(0.02, 1.0)
seeds = st.integers(0, 2**32 - 1)


def drawn(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def said(kind: str, x0: np.ndarray, eps: np.ndarray, alpha: float, sigma: float, data: float) -> np.ndarray:
    """What a perfect denoiser of a kind says, as its paper writes it."""
    if kind == "edm":  # Karras et al. 2022, table 1: D = c_skip y + c_out F, and a perfect D is x0
        ratio = sigma / alpha
        y = x0 + ratio * eps
        skip = data**2 / (ratio**2 + data**2)
        out = ratio * data / math.sqrt(ratio**2 + data**2)
        return (x0 - skip * y) / out
    return {"eps": eps, "x0": x0, "v": alpha * eps - sigma * x0, "flow": eps - x0}[kind]


@pytest.mark.parametrize("kind", KINDS)
@given(seed=seeds, alpha=shares, sigma=shares, data=st.floats(0.3, 2.0))
def test_what_a_perfect_denoiser_says_is_led_back_to_noise_and_image(kind, seed, alpha, sigma, data):
    if kind == "edm":  # its inputs have variance 1
        alpha, sigma = p.preserving(sigma / alpha, data=data)
    x0, eps = drawn(seed, 2, 3, 4), drawn(seed + 1, 2, 3, 4)
    state = p.mixed(x0, eps, alpha, sigma)
    says = said(kind, x0, eps, alpha, sigma, data).astype(np.float32)
    of_eps, of_x0 = p.shares(p.mixture(kind, alpha, sigma, data=data), alpha, sigma)
    np.testing.assert_allclose(p.shared(state, says, of_eps), eps, rtol=0, atol=2e-3)
    np.testing.assert_allclose(p.shared(state, says, of_x0), x0, rtol=0, atol=2e-3)


@pytest.mark.parametrize("kind", KINDS)
@given(seed=seeds, ratio=st.floats(0.05, 20.0))
def test_whatever_a_denoiser_says_its_noise_and_image_make_the_state_again(kind, seed, ratio):
    alpha, sigma = p.preserving(ratio)
    state, says = drawn(seed, 2, 5), drawn(seed + 1, 2, 5)
    eps, x0 = (p.shared(state, says, of) for of in p.shares(p.mixture(kind, alpha, sigma, data=1.0), alpha, sigma))
    np.testing.assert_allclose(p.mixed(x0, eps, alpha, sigma), state, rtol=0, atol=1e-4)
    told = p.mixture(kind, alpha, sigma, data=1.0)
    np.testing.assert_allclose(told.clean * x0 + told.noise * eps, says, rtol=0, atol=1e-3)


def test_with_data_of_deviation_one_a_preconditioned_network_says_v_with_its_sign_turned():
    clean, noise = p.mixture("edm", 0.6, 0.8, data=1.0)
    assert p.mixture("v", 0.6, 0.8) == (-clean, -noise)


@pytest.mark.parametrize("kind", ["v", "flow", "x0"])
def test_at_noise_alone_eps_is_the_state_or_follows_from_it_and_the_image_is_still_told(kind):
    state, says = drawn(0, 3), drawn(1, 3)
    eps, x0 = (p.shared(state, says, of) for of in p.shares(p.mixture(kind, 0.0, 1.0), 0.0, 1.0))
    assert np.array_equal(eps, state)
    assert np.allclose(x0, {"v": -says, "flow": state - says, "x0": says}[kind])


@pytest.mark.parametrize(("kind", "alpha", "sigma"), [("eps", 0.0, 1.0), ("x0", 1.0, 0.0)])
def test_what_does_not_follow_is_refused(kind, alpha, sigma):
    with pytest.raises(ValueError, match="do not follow"):
        p.shares(p.mixture(kind, alpha, sigma), alpha, sigma)


def test_guidance_goes_from_one_prediction_to_the_other_and_beyond():
    without, asked = drawn(0, 4), drawn(1, 4)
    assert np.array_equal(p.guided(without, asked, 0), without)
    assert np.allclose(p.guided(without, asked, 1), asked, atol=1e-6)
    assert np.allclose(p.guided(without, asked, 7.5), without + 7.5 * (asked - without), atol=1e-5)


@given(seed=seeds, sigma=st.floats(0.1, 1.0))
def test_the_score_of_gaussian_data_is_its_gradient(seed, sigma):
    alpha, mean = math.sqrt(1 - 0.9 * sigma**2), drawn(seed, 3)
    state = drawn(seed + 1, 3)

    def log_density(x: np.ndarray) -> float:  # of data that is `mean` alone
        return float(-((x.astype(np.float64) - alpha * mean) ** 2).sum() / (2 * sigma**2))

    eps = (state - np.float32(alpha) * mean) / np.float32(sigma)  # what a perfect denoiser says
    steps = 1e-4 * np.eye(3)
    slope = [(log_density(state + step) - log_density(state - step)) / 2e-4 for step in steps]
    np.testing.assert_allclose(p.score(eps, sigma), slope, rtol=1e-3, atol=1e-3)


@given(ratio=st.floats(1e-3, 1e3), data=st.floats(0.1, 2.0))
def test_preserving_levels_keep_the_ratio_and_the_variance(ratio, data):
    alpha, sigma = p.preserving(ratio, data=data)
    assert sigma / alpha == pytest.approx(ratio)
    assert (data * alpha) ** 2 + sigma**2 == pytest.approx(1)
    assert p.preserving(math.inf, data=data) == (0, 1)


def test_levels_of_training_timesteps_are_those_of_the_schedule_and_between_them_by_ratio():
    betas = np.linspace(0.1, 0.5, 5)
    kept = np.cumprod(1 - betas).tolist()
    ratios = [math.sqrt((1 - share) / share) for share in kept]
    for t in range(5):
        alpha, sigma = p.at(t, kept)
        assert (alpha, sigma) == pytest.approx((math.sqrt(kept[t]), math.sqrt(1 - kept[t])))
    alpha, sigma = p.at(2.25, kept)
    assert sigma / alpha == pytest.approx(0.75 * ratios[2] + 0.25 * ratios[3])
    assert alpha**2 + sigma**2 == pytest.approx(1)
    for t in (-1, 4.5, 5):
        with pytest.raises(ValueError, match="none of 0 to 4"):
            p.at(t, kept)


def test_a_token_holds_two_by_two_places_of_all_channels():
    states = drawn(0, 2, 3, 4, 6)
    tokens = p.packed(states)
    assert tokens.shape == (2, 6, 12)
    for token in range(6):
        row, column = divmod(token, 3)
        square = states[1, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        assert np.array_equal(tokens[1, token], square.reshape(-1))


@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.integers(1, 4))
def test_unpacking_undoes_packing(n, c, h, w):
    states = drawn(n, n, c, 2 * h, 2 * w)
    assert np.array_equal(p.unpacked(p.packed(states), 2 * h, 2 * w), states)
