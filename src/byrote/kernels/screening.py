"""How likely a prompt is to bring a picture back, from a few first steps of a denoiser or a few images.

Scores are float64, larger is likelier. They speak of prompts: a high one says that the prompt collapses, not which
picture comes (docs/methods.md). States, and what a denoiser says of them, are float32 [rows, channels, height, width],
in the convention of `byrote.kernels.predictions`; images are uint8. What is compared must come from one model, one
noise level and one number of seeds: units differ between models.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Float64, UInt8
from numpy import ndarray
from numpy.typing import NDArray
from scipy import ndimage, stats

from byrote.kernels.distance import LEVELS

Reals = NDArray[np.float64]
EDGE = 1.5
"""Sobel magnitude, summed over channels in [0, 1], above which a pixel is an edge: Webster's code."""
CONSENSUS = 0.5
"""Share of the images of a prompt above which a pixel's edge is one that they share: Webster's code."""
EDGE_SIZE = 256
"""Pixels of an edge of the images that both were chosen for."""
COSINE, NORM = 2.0, 1.0
"""Weights of the two halves of `anisotropy`: Asthana's code for Stable Diffusion 1.4, fitted there on 20 prompts."""
LEAST_ALPHA = 0.01
"""Below it a prompt's eps says nothing, and its x0 is compared; ours: the first level is .068 or more, or near 0."""


class Correlation(NamedTuple):
    """A rank correlation of `n` pairs with its interval."""

    value: float
    low: float
    high: float
    n: int


def conditional_norm(difference: Float32[ndarray, "n *d"]) -> Float64[Reals, "n"]:
    """Return the l2 norm of what a prompt changes: eps with the prompt less eps without it.

    Wen et al. 2024, "Detecting, Explaining, and Mitigating Memorization in Diffusion Models", arXiv:2407.21720. Departs
    from it: of x0 where alpha is below `LEAST_ALPHA` (flows, schedules that end in noise alone). At one level both are
    in the ratio sigma / alpha, so ranks are the same.
    """
    found: Reals = np.sqrt(_squares(difference))
    return found


def displacement(noise: Float32[ndarray, "n *d"], x0: Float32[ndarray, "n *d"]) -> Float64[Reals, "n"]:
    """Return how far one step to the end moves a state: mean (noise - x0)^2, less the noise's own mean square.

    Webster 2023, "A Reproducible Extraction of Training Images from Diffusion Models", arXiv:2305.08694: the denoising
    confidence score of its code, one step from the highest sigma to 0. Departs from it: the state has variance 1
    instead of sigma^2, which is infinite in flows; and the noise's own part is taken off: it is the same for all
    prompts of a seed, so nothing changes in its ranks, which are of one seed, and other seeds can be compared.
    """
    found: Reals = _means(np.square(noise - x0)) - _means(np.square(noise))
    return found


def agreement(rows: Float32[ndarray, "p s *d"]) -> Float64[Reals, "p"]:
    """Return minus the mean RMS distance of two of the `s` rows of each prompt.

    The order in which Carlini et al. 2023 rank cliques (arXiv:2301.13188, section 4.2), over all samples. ValueError
    for fewer than two rows.
    """
    return np.asarray(-_pairs(rows).mean(1), np.float64)


def closest(rows: Float32[ndarray, "p s *d"]) -> Float64[Reals, "p"]:
    """Return minus the RMS distance of the two of the `s` rows of each prompt that are nearest to each other.

    Ours: a clique of two. A picture that comes in one sample of three shows here, and not in the mean.
    """
    return np.asarray(-_pairs(rows).min(1), np.float64)


def edges(image: UInt8[ndarray, "h w c"], least: float = EDGE) -> Bool[ndarray, "h w"]:
    """Tell which pixels are edges: Sobel magnitude, summed over channels, above `least`.

    Webster 2023, arXiv:2305.08694, by its code (onestep-extraction, utils/processing_utils.py), for images of
    `EDGE_SIZE` pixels. There the operator smooths over neighbouring channels too (weights 1, 2, 1, the ends mirrored),
    which makes magnitudes four times as large; `EDGE` is a threshold on those.
    """
    shares = image.astype(np.float32) / np.float32(LEVELS)
    down, across = ndimage.sobel(shares, axis=0), ndimage.sobel(shares, axis=1)
    found: ndarray = np.hypot(down, across).sum(2) > least
    return found


def edge_agreement(maps: Bool[ndarray, "s h w"], consensus: float = CONSENSUS) -> float:
    """Return the share of pixels that are edges in more than `consensus` of the images of a prompt.

    Webster 2023, as `edges`: the black-box score.
    """
    return float((maps.mean(0) > consensus).mean())


def directions(difference: Float32[ndarray, "n *d"], length: float) -> Float32[ndarray, "n *d"]:
    """Scale each row to this RMS; a row of zeros stays."""
    size = np.sqrt(_means(np.square(difference)))
    scale = np.divide(length, size, out=np.zeros_like(size), where=size > 0)
    return (difference * scale.reshape(-1, *[1] * (difference.ndim - 1))).astype(np.float32)


def sharpness(
    difference: Float32[ndarray, "n *d"], moved: Float32[ndarray, "n *d"], length: float
) -> Float64[Reals, "n"]:
    """Return |H d|^2, the curvature along what a prompt changes: d at a state, and where it was `moved`.

    d is the difference of scores with and without the prompt up to a factor that a noise level has, H its Jacobian, by
    the finite difference along `directions(d, length)`. Jeon, Kim and No 2025, "Understanding and Mitigating
    Memorization in Generative Models via Sharpness of Probability Landscapes", arXiv:2412.04140: |H_delta s_delta|^2.
    """
    along = _squares(moved - difference) / (length**2 * difference[0].size)
    return np.asarray(along * _squares(difference), np.float64)


def anisotropy(
    late: Float32[ndarray, "n *d"],
    unconditional: Float32[ndarray, "n *d"],
    early: Float32[ndarray, "n *d"],
    cosine: float = COSINE,
    norm: float = NORM,
) -> Float64[Reals, "n"]:
    """Return cosine cos(what a prompt changes, eps without it) at little noise + norm |what it changes| at most noise.

    Asthana et al. 2026, arXiv:2601.20642: both with pure noise as the state. The weights are of one model and its
    units: elsewhere they are a guess.
    """
    return np.asarray(cosine * alignment(late, unconditional) + norm * conditional_norm(early), np.float64)


def alignment(a: Float32[ndarray, "n *d"], b: Float32[ndarray, "n *d"]) -> Float64[Reals, "n"]:
    """Return the cosine of each row of `a` with that of `b`, 0 where either is 0."""
    across = (_flat(a) * _flat(b)).sum(1)
    size = np.sqrt(_squares(a) * _squares(b))
    return np.asarray(np.divide(across, size, out=np.zeros_like(across), where=size > 0), np.float64)


def bright_ending(
    differences: Float32[ndarray, "t n c h w"], attention: Float32[ndarray, "n h w"]
) -> Float64[Reals, "n"]:
    """Return the mean over steps of |what a prompt changes, masked|, divided by the mean of the mask.

    Chen, Liu, Shah and Xu 2025, "Exploring Local Memorization in Diffusion Models via Bright Ending Attention", ICLR.
    The mask is what each place attends to in the end token at the last step. 0 where nothing attends to it.
    """
    masked = np.stack([conditional_norm(step * attention[:, None]) for step in differences]).mean(0)
    mean = _means(attention)
    return np.asarray(np.divide(masked, mean, out=np.zeros_like(mean), where=mean > 0), np.float64)


def rank_correlation(a: Float64[Reals, "n"], b: Float64[Reals, "n"], level: float = 0.99) -> Correlation:
    """Return Spearman's rank correlation and an interval. Approximate; 0 of -1 to 1 where either does not vary.

    Interval of Bonett and Wright 2000, doi:10.1007/BF02294183: Fisher's z with variance (1 + r^2 / 2) / (n - 3).
    Departs from it: about 1 - 1 / n at most, since at 1 it has no width. ValueError for fewer than 5 pairs or NaN.
    """
    if len(a) < 5 or np.isnan(a).any() or np.isnan(b).any():
        raise ValueError(f"a rank correlation wants 5 pairs of numbers or more, not {len(a)}, and none of them NaN")
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return Correlation(0.0, -1.0, 1.0, len(a))
    value = float(np.clip(stats.spearmanr(a, b).statistic, -1, 1))
    centre = np.arctanh(np.clip(value, 1 / len(a) - 1, 1 - 1 / len(a)))
    reach = stats.norm.ppf((1 + level) / 2) * np.sqrt((1 + value**2 / 2) / (len(a) - 3))
    low, high = np.tanh(centre - reach), np.tanh(centre + reach)
    return Correlation(value, min(value, float(low)), max(value, float(high)), len(a))


def _pairs(rows: Float32[ndarray, "p s *d"]) -> Reals:
    """Return the RMS distances of all pairs of rows of each prompt, [p, pairs]."""
    count = rows.shape[1]
    if count < 2:
        raise ValueError(f"agreement is of two rows or more, not of {count}")
    first, second = np.triu_indices(count, 1)
    apart = [np.sqrt(_means(np.square(each[first] - each[second]))) for each in rows]
    return np.stack(apart)


def _flat(rows: ndarray) -> Reals:
    return np.asarray(rows.reshape(len(rows), -1), np.float64)


def _squares(rows: ndarray) -> Reals:
    """Return the sum of squares of each row."""
    found: Reals = np.square(_flat(rows)).sum(1)
    return found


def _means(rows: ndarray) -> Reals:
    """Return the mean of each row."""
    return np.asarray(_flat(rows).mean(1), np.float64)
