"""What a denoiser says, in one convention.

A state is x = alpha x0 + sigma eps: x0 an image or its latents, eps white noise of variance 1, alpha and sigma of the
noise level. A denoiser was taught to say a fixed mixture of the two, o = clean x0 + noise eps; with x these are two
equations, linear in x and o, for the x0 and the eps that it believes in. Arrays are float32 [rows, ...] of any shape.

What the mixtures are: eps (Ho et al. 2020, arXiv:2006.11239), x0, v = alpha eps - sigma x0 (Salimans and Ho 2022,
arXiv:2202.00512, section 4), flow = eps - x0 (Lipman et al. 2023, arXiv:2210.02747, with time running from data to
noise as in Esser et al. 2024, arXiv:2403.03206), and the preconditioned network F of Karras et al. 2022
(arXiv:2206.00364, equation 7), for whose inputs, of variance 1 where the data's deviation is as told, it is
sigma / data x0 - data alpha eps.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

Kind = Literal["eps", "x0", "v", "flow", "edm"]


class Mixture(NamedTuple):
    """The mixture of x0 and eps that a denoiser says at one level."""

    clean: float
    noise: float


class Shares(NamedTuple):
    """How much of the state and of what the denoiser says there is in a prediction: it is linear in both."""

    state: float
    said: float


def mixture(kind: Kind, alpha: float, sigma: float, *, data: float = 0.5) -> Mixture:
    """Return what a denoiser of this kind says at a level; `data` is the data's deviation, for "edm" alone."""
    mixtures = {
        "eps": Mixture(0, 1),
        "x0": Mixture(1, 0),
        "v": Mixture(-sigma, alpha),
        "flow": Mixture(-1, 1),
        "edm": Mixture(sigma / data, -data * alpha),
    }
    return mixtures[kind]


def shares(said: Mixture, alpha: float, sigma: float) -> tuple[Shares, Shares]:
    """Return the shares in eps and those in x0.

    Raises ValueError where the two equations are one: a denoiser of eps cannot tell x0 at alpha 0, nor one of x0 the
    eps at sigma 0.
    """
    both = alpha * said.noise - said.clean * sigma
    if both == 0:
        raise ValueError(f"eps and x0 do not follow from {said} at alpha {alpha}, sigma {sigma}")
    eps = Shares(-said.clean / both, alpha / both) if said.clean else Shares(0, 1 / said.noise)
    x0 = Shares(said.noise / both, -sigma / both) if said.noise else Shares(0, 1 / said.clean)
    return eps, x0


def shared(state: Float32[ndarray, "*n"], said: Float32[ndarray, "*n"], of: Shares) -> Float32[ndarray, "*n"]:
    """Return the prediction that has these shares."""
    out: ndarray = np.float32(of.state) * state + np.float32(of.said) * said
    return out


def mixed(
    x0: Float32[ndarray, "*n"], eps: Float32[ndarray, "*n"], alpha: float, sigma: float
) -> Float32[ndarray, "*n"]:
    """Return the state of a level: x0 with noise on it.

    From a prediction's own x0 and eps it is the step to the next level that DDIM makes with eta 0 (Song et al. 2021,
    arXiv:2010.02502, equation 12); Euler's of Karras et al. and of flows are the same.
    """
    out: ndarray = np.float32(alpha) * x0 + np.float32(sigma) * eps
    return out


def guided(
    unconditional: Float32[ndarray, "*n"], conditional: Float32[ndarray, "*n"], scale: float
) -> Float32[ndarray, "*n"]:
    """Return unconditional + scale (conditional - unconditional): 1 is the conditional one, 0 the other.

    Ho and Salimans 2022, arXiv:2207.12598, equation 6, whose w is scale - 1.
    """
    out: ndarray = unconditional + np.float32(scale) * (conditional - unconditional)
    return out


def nudged(
    eps: Float32[ndarray, "*n"], x0: Float32[ndarray, "*n"], by: Float32[ndarray, "*n"], alpha: float, sigma: float
) -> tuple[Float32[ndarray, "*n"], Float32[ndarray, "*n"]]:
    """Return the eps with something added to it, and the x0 that keeps the state what it is. alpha must not be 0."""
    return eps + by, x0 - np.float32(sigma / alpha) * by


def score(eps: Float32[ndarray, "*n"], sigma: float) -> Float32[ndarray, "*n"]:
    """Return the gradient of the state's log-density, -eps / sigma (Song et al. 2021, arXiv:2011.13456)."""
    out: ndarray = eps / np.float32(-sigma)
    return out


def preserving(ratio: float, *, data: float = 1.0) -> tuple[float, float]:
    """Return alpha and sigma where sigma / alpha is `ratio` and (data alpha)^2 + sigma^2 = 1, as networks like inputs.

    An infinite ratio is noise alone.
    """
    if np.isinf(ratio):
        return 0.0, 1.0
    alpha = float(1 / np.hypot(ratio, data))
    return alpha, ratio * alpha


def at(timestep: float, kept: Sequence[float]) -> tuple[float, float]:
    """Return alpha and sigma at a training timestep.

    `kept` are the shares of variance left at each timestep, the running product of 1 - beta. Between two timesteps
    sigma / alpha is interpolated linearly. Raises ValueError for a timestep out of range.
    """
    if not 0 <= timestep <= len(kept) - 1:
        raise ValueError(f"timestep {timestep} is none of 0 to {len(kept) - 1}")
    low = int(timestep)
    if low == timestep:
        return float(np.sqrt(kept[low])), float(np.sqrt(1 - kept[low]))
    before, after = (np.sqrt((1 - kept[k]) / kept[k]) for k in (low, low + 1))
    return preserving(float(before + (timestep - low) * (after - before)))


def packed(states: Float32[ndarray, "n c h w"]) -> Float32[ndarray, "n tokens values"]:
    """Lay 2 x 2 places of all channels into one token, channel by channel, tokens row by row, as Flux takes them.

    Raises ValueError where height or width is odd.
    """
    n, c, h, w = states.shape
    split = states.reshape(n, c, h // 2, 2, w // 2, 2)
    return split.transpose(0, 2, 4, 1, 3, 5).reshape(n, h * w // 4, 4 * c)


def unpacked(tokens: Float32[ndarray, "n tokens values"], height: int, width: int) -> Float32[ndarray, "n c h w"]:
    """Undo `packed` for states of this height and width."""
    n, _, values = tokens.shape
    split = tokens.reshape(n, height // 2, width // 2, values // 4, 2, 2)
    return split.transpose(0, 3, 1, 4, 2, 5).reshape(n, values // 4, height, width)
