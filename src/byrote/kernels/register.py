"""How a picture lies in another, and how much speaks for it being a copy.

Thumbnails are uint8 [n, s, s, 3] of whole pictures, squeezed to squares. The window (left, top, width, height, in
shares of the edges) of the one that the other shows is refined by Gauss-Newton steps with a free gain and offset
(Lucas and Kanade 1981, IJCAI, section 4; gain and offset: Hager and Belhumeur 1998, doi:10.1109/34.722606), first on
thumbnails of half the side, then on the whole ones.

What is left is weighed in bands of the cosine waves of the luma. With s the power of both in a band and d that of
their difference, log(s / d) is twice the log-likelihood ratio, a wave, of "one is the other plus noise" against "they
have nothing to do with each other", both with unknown variance. A picture of two flat halves meets many others in its
lowest bands and says nothing in the others; a copy agrees in all of them. Colour and brightness come beside.
`evidence` is the log-odds of a logistic regression of these features, fitted on planted copies by
`benchmarks/fitting.py`; it is not published elsewhere. 0 means as likely a copy as not among candidates of such a
search, so it holds for a search only.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float32, UInt8
from numpy import ndarray

from byrote.kernels.waves import basis, luma

_STEPS = (3, 2)  # on thumbnails of half the side, then of the whole
_SLACK = 0.02  # how far a window may leave the picture
_LEAST = 0.5  # smallest share of an edge
_STRIDE = 0.06  # longest step
_COARSE = 0.8  # correlation of the half-size thumbnails below which nothing more is done
_SMALLEST = 16  # side from which `refined` starts
_ROWS = 1024
_WAVES = 20
_BANDS = (0.5, 2.3, 4.3, 7.0, 11.5, 19.0)  # waves across, the root of the sum of squares in both directions
_CHROMA_WAVES = 6
_FLOOR = 0.02  # power (levels squared a wave) that rounding leaves in any band
_CHROMA_FLOOR = 5.0

_Colours = tuple[ndarray, ndarray, ndarray]

NOTHING = -30.0
"""The evidence of pairs that were given up when coarse."""

_WEIGHTS = np.array([0.302, 0.182, 0.149, 0.474, 0.941, 1.022, -1.598, -1.521, -2.511], np.float32)
_CONSTANT = -4.404


@dataclass(frozen=True, slots=True)
class Registered:
    """For each pair the evidence (log-odds) and the window (left, top, width, height) of the holder that is shown."""

    evidence: Float32[ndarray, " n"]
    windows: Float32[ndarray, "n 4"]


def register(
    holders: UInt8[ndarray, "n s s 3"], shown: UInt8[ndarray, "n s s 3"], windows: Float32[ndarray, "n 4"]
) -> Registered:
    """Refine the windows, and weigh. Pairs that do not agree when coarse have the evidence `NOTHING`."""
    seen, found, rows = features(holders, shown, windows)
    evidence = np.full(len(holders), NOTHING, np.float32)
    evidence[rows] = seen @ _WEIGHTS + _CONSTANT
    return Registered(evidence, found)


def features(
    holders: UInt8[ndarray, "n s s 3"], shown: UInt8[ndarray, "n s s 3"], windows: Float32[ndarray, "n 4"]
) -> tuple[Float32[ndarray, "m k"], Float32[ndarray, "n 4"], ndarray]:
    """Return the features of the pairs that agree when coarse, all refined windows, and which pairs these are."""
    found = windows.astype(np.float32)
    parts, kept = [np.zeros((0, len(_WEIGHTS)), np.float32)], [np.zeros(0, np.int64)]
    for i in range(0, len(holders), _ROWS):
        rows = slice(i, i + _ROWS)
        grey = luma(holders[rows]), luma(shown[rows])
        halves = _halved(grey[0]), _halved(grey[1])
        found[rows] = _refined(*halves, found[rows], _STEPS[0])
        good = np.flatnonzero(_correlation(_cut(halves[0], found[rows]), halves[1]) >= _COARSE)
        if len(good):
            refined = _refined(grey[0][good], grey[1][good], found[rows][good], _STEPS[1])
            found[i + good] = refined
            ours, theirs = (_colours(grey[k][good], (holders, shown)[k][rows][good]) for k in (0, 1))
            parts.append(_weighed(ours, theirs, refined))
            kept.append(i + good)
    return np.concatenate(parts), found, np.concatenate(kept)


def refined(
    holders: UInt8[ndarray, "n s s 3"], shown: UInt8[ndarray, "n s s 3"], windows: Float32[ndarray, "n 4"], reach: float
) -> tuple[Float32[ndarray, "n 4"], Float32[ndarray, " n"]]:
    """Refine windows that may leave the picture by a share `reach` of its edges, and tell how far off they are left.

    From 16 x 16 pixels on to twice as many along an edge each time, so `s` is 16 times a power of two. The distance is
    the RMS of the lumas, without any gain, in [0, 1].
    """
    grey, found = (luma(holders), luma(shown)), windows.astype(np.float32)
    levels = [grey]
    while levels[0][0].shape[1] > _SMALLEST:
        levels.insert(0, (_halved(levels[0][0]), _halved(levels[0][1])))
    for k, (holder, target) in enumerate(levels):
        found = _refined(holder, target, found, _STEPS[min(k, 1)], max(reach, _SLACK))
    apart: ndarray = np.sqrt(np.square(_cut(grey[0], found) - grey[1]).mean((1, 2))) / np.float32(255)
    return found, apart


def _colours(grey: ndarray, pictures: ndarray) -> _Colours:
    """Return luma, and blue and red less luma, in levels (ITU-R BT.601)."""
    blue, red = (pictures[..., 2] - grey) * np.float32(0.564), (pictures[..., 0] - grey) * np.float32(0.713)
    return grey, blue, red


def _weighed(holders: _Colours, shown: _Colours, windows: ndarray) -> ndarray:
    """Return the log-ratio of each band of the luma and of the chroma, then what moved: hue, contrast, brightness."""
    ours, theirs = _waves(holders[0], windows, _WAVES), _waves(shown[0], None, _WAVES)
    gain = _gain(ours, theirs)
    together, apart = _powers(ours * gain) + _powers(theirs), _powers(ours * gain - theirs)
    bands = np.log((together + _FLOOR) / (apart + _FLOOR))
    level = np.clip(theirs[:, 0, 0] / np.maximum(ours[:, 0, 0], 1), 0.4, 2.5)
    hue, total, rest = np.zeros(len(level)), np.full(len(level), _CHROMA_FLOOR), np.full(len(level), _CHROMA_FLOOR)
    for ours, theirs in zip(holders[1:], shown[1:], strict=True):
        one, other = _waves(ours, windows, _CHROMA_WAVES) * level[:, None, None], _waves(theirs, None, _CHROMA_WAVES)
        hue += (one - other)[:, 0, 0] ** 2
        rest += _rest(one - other)
        total += _rest(one) + _rest(other)
    moved = [np.log(total / rest), np.log1p(np.sqrt(hue)), np.abs(np.log(gain[:, 0, 0] / level)), np.abs(np.log(level))]
    return np.concatenate([bands, np.stack(moved, 1)], 1).astype(np.float32)


def _rest(waves: ndarray) -> ndarray:
    """Return the power of all waves but the mean."""
    power: ndarray = (waves**2).sum((1, 2)) - waves[:, 0, 0] ** 2
    return power


def _waves(grey: ndarray, windows: ndarray | None, count: int) -> ndarray:
    """Return the cosine waves of pictures [n, s, s], or of windows of them: [n, count, count]."""
    weights = basis(grey.shape[1], count)
    found: ndarray = weights @ (grey if windows is None else _cut(grey, windows)) @ weights.T
    return found


def _gain(ours: ndarray, theirs: ndarray) -> ndarray:
    """Return the gain that brings our low waves nearest to theirs, [n, 1, 1]."""
    low = _bands()[0] | _bands()[1]
    cross, own = (ours * theirs)[:, low].sum(1), (ours * ours)[:, low].sum(1)
    gain: ndarray = np.clip(cross / np.maximum(own, 1e-6), 0.5, 2)[:, None, None]
    return gain


def _powers(waves: ndarray) -> ndarray:
    """Return the mean power of each band, [n, bands]."""
    return np.stack([(waves[:, band] ** 2).mean(1) for band in _bands()], 1)


def _bands() -> list[ndarray]:
    orders = np.arange(_WAVES)
    lengths = np.hypot(orders[:, None], orders)
    return [(lengths >= low) & (lengths < high) for low, high in pairwise(_BANDS)]


def _correlation(a: ndarray, b: ndarray) -> ndarray:
    a, b = (one - one.mean((1, 2), keepdims=True) for one in (a, b))
    lengths = np.sqrt((a * a).sum((1, 2)) * (b * b).sum((1, 2)))
    found: ndarray = (a * b).sum((1, 2)) / np.maximum(lengths, 1e-3)
    return found


def _refined(holder: ndarray, shown: ndarray, windows: ndarray, steps: int, slack: float = _SLACK) -> ndarray:
    n, side = len(holder), holder.shape[1]
    at = ((np.arange(side) + 0.5) / side).astype(np.float32)
    target = shown.reshape(n, -1, 1)
    system = np.empty((n, 6, side, side), np.float32)
    for _ in range(steps):
        seen = _cut(holder, windows)
        right, down = (_slopes(seen, 2 - k) * (side / windows[:, 2 + k, None, None]) for k in (0, 1))
        system[:, 0], system[:, 1] = right, down
        system[:, 2], system[:, 3] = right * at, down * at[:, None]
        system[:, 4], system[:, 5] = seen, 1
        rows = system.reshape(n, 6, -1)
        normal = rows @ rows.transpose(0, 2, 1)
        normal[:, range(6), range(6)] *= 1.001
        normal[:, range(6), range(6)] += 1e-3
        moved = np.linalg.solve(normal, rows @ target)[:, :, 0]
        windows = _inside(windows, np.clip(moved[:, :4] / np.clip(moved[:, 4:5], 0.25, 4), -_STRIDE, _STRIDE), slack)
    return windows


def _inside(windows: ndarray, moved: ndarray, slack: float) -> ndarray:
    """Add a step to the windows and keep them in the picture, but for some slack."""
    size = np.clip(windows[:, 2:] + moved[:, 2:], _LEAST, 1 + 2 * _SLACK)
    corner = np.clip(windows[:, :2] + moved[:, :2], -slack, 1 + slack - size)
    return np.concatenate([corner, size], 1).astype(np.float32)


def _slopes(pictures: ndarray, axis: int) -> ndarray:
    """Return the slope of [n, s, s] a pixel, down (axis 1) or to the right (axis 2)."""
    out = np.empty_like(pictures)
    a, b = (pictures.swapaxes(1, 2), out.swapaxes(1, 2)) if axis == 2 else (pictures, out)
    b[:, 1:-1] = (a[:, 2:] - a[:, :-2]) / 2
    b[:, 0], b[:, -1] = a[:, 1] - a[:, 0], a[:, -1] - a[:, -2]
    return out


def _cut(pictures: ndarray, windows: ndarray) -> ndarray:
    """Return windows of pictures [n, s, s], blown up to s x s (bilinear)."""
    side = pictures.shape[1]
    pixels = np.arange(side, dtype=np.float32)
    right, down = (
        np.maximum(
            0,
            1 - np.abs(np.clip((start + share * (pixels + 0.5) / side) * side - 0.5, 0, side - 1)[:, :, None] - pixels),
        )
        for start, share in ((windows[:, [k]], windows[:, [2 + k]]) for k in (0, 1))
    )
    seen: ndarray = down @ pictures @ right.transpose(0, 2, 1)
    return seen


def _halved(grey: Float32[ndarray, "n s s"]) -> Float32[ndarray, "n t t"]:
    n, side, _ = grey.shape
    halved: ndarray = grey.reshape(n, side // 2, 2, side // 2, 2).mean((2, 4))
    return halved
