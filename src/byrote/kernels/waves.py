"""A picture in its lowest cosine waves: what is left of it after resizing, re-encoding and a change of brightness.

For a window with its left edge at x0 and share s of the width, the coefficient of u waves to the right and v down is
the mean over the window of 2 I(x, y) cos(pi u (x - x0) / s) cos(pi v (y - y0) / t), the pixels taken as constant
squares. It is the discrete cosine transform of Ahmed, Natarajan and Rao 1974 (doi:10.1109/T-C.1974.223784) but for
windows that need not fall on pixels; that PDQ and other perceptual hashes keep its signs is where the idea comes
from. Coefficients with 0 < u + v <= `_WAVES` are kept, weighted by sqrt(u^2 + v^2) since the spectrum of photographs
falls as one over the frequency (Field 1987, doi:10.1364/JOSAA.4.002379), and scaled to length 1: gain and offset drop
out, and the product of two vectors is a correlation. Not published: the number of waves and the windows, chosen on
planted copies.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
from jaxtyping import Float32, Int64, UInt8
from numpy import ndarray

_WAVES = 7  # the highest u + v
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
_FLOOR = 1e-3  # length (levels) below which a picture has no waves: it is flat
_PLACES = {1.0: 1, 0.95: 2, 0.88: 3, 0.8: 3}  # share of both edges that a window keeps: places along an edge
_ROWS = 4096
_BLOCK = 256

_ORDERS = [(v, u) for v in range(_WAVES + 1) for u in range(_WAVES + 1) if 0 < u + v <= _WAVES]
DIMENSIONS = len(_ORDERS)
TURNS = (
    "as it is",
    "mirrored",
    "upside down and mirrored",
    "turned by 180 degrees",
    "mirrored along its diagonal",
    "turned by 90 degrees clockwise",
    "turned by 90 degrees anticlockwise",
    "mirrored along its other diagonal",
)
"""The eight turns of `turn_pixels` in words."""


@dataclass(frozen=True, slots=True)
class Window:
    """A part of a picture, in shares of its edges."""

    left: float
    top: float
    width: float
    height: float


WHOLE = Window(0.0, 0.0, 1.0, 1.0)


def windows(least: float = 0.8) -> tuple[Window, ...]:
    """List the whole and the windows that keep a share of both edges, at least `least`, evenly placed."""
    listed = []
    for share, places in _PLACES.items():
        if share >= least:
            at = [(1 - share) * k / max(1, places - 1) for k in range(places)]
            listed += [Window(left, top, share, share) for top, left in product(at, at)]
    return tuple(listed)


def corners(listed: Sequence[Window]) -> Float32[ndarray, "n 4"]:
    """Return the windows as rows: left, top, width, height."""
    return np.array([[w.left, w.top, w.width, w.height] for w in listed], np.float32)


def luma(pictures: UInt8[ndarray, "n h w 3"]) -> Float32[ndarray, "n h w"]:
    """Return the luma in levels (ITU-R BT.601)."""
    grey = np.empty(pictures.shape[:-1], np.float32)
    for i in range(0, len(pictures), _BLOCK):  # so that what is in between stays near the processor
        some = pictures[i : i + _BLOCK].astype(np.float32)
        np.matmul(some, _LUMA, out=grey[i : i + _BLOCK])
    return grey


def waves(grey: Float32[ndarray, "n h w"], window: Window = WHOLE) -> Float32[ndarray, "n {DIMENSIONS}"]:
    """Return the vectors of one window of each picture, of length 1; of a flat picture zeros."""
    n, height, width = grey.shape
    down, right = (
        basis(side, _WAVES + 1, start, share)
        for side, start, share in ((height, window.top, window.height), (width, window.left, window.width))
    )
    rows, columns = np.array(_ORDERS).T
    weights = np.hypot(rows, columns).astype(np.float32)
    out = np.empty((n, DIMENSIONS), np.float32)
    for i in range(0, n, _ROWS):
        part = np.matmul(np.matmul(down, grey[i : i + _ROWS]), right.T)
        out[i : i + _ROWS] = part[:, rows, columns] * weights
    lengths = np.linalg.norm(out, axis=1, keepdims=True)
    out /= np.maximum(lengths, _FLOOR)
    out[lengths[:, 0] < _FLOOR] = 0
    return out


def turned(vectors: Float32[ndarray, "n {DIMENSIONS}"], turn: int) -> Float32[ndarray, "n {DIMENSIONS}"]:
    """Return the vectors of the pictures after `turn` (0 to 7); see `turn_pixels`."""
    order, signs = _turns()
    moved: ndarray = vectors[:, order[turn]] * signs[turn]
    return moved


def turn_pixels(pictures: ndarray, turn: int) -> ndarray:
    """Return pictures [n, h, w, ...] after one of the eight turns of a square.

    Turn 4 t + 2 d + r: rows and columns change places where t, then upside down where d, then left to right where r.
    """
    moved = pictures.swapaxes(1, 2) if turn & 4 else pictures
    moved = moved[:, ::-1] if turn & 2 else moved
    return moved[:, :, ::-1] if turn & 1 else moved


def turn_each(pictures: UInt8[ndarray, "n s s 3"], turns: ndarray) -> UInt8[ndarray, "n s s 3"]:
    """Return square pictures, each after a turn of its own."""
    out = np.empty_like(pictures)
    for turn in np.unique(turns):
        out[turns == turn] = turn_pixels(pictures[turns == turn], int(turn))
    return out


def leaning(vectors: Float32[ndarray, "n {DIMENSIONS}"], slack: float = 0.0) -> list[Int64[ndarray, " k"]]:
    """Return for each of the eight turns which pictures it sets upright: one a picture, but for ties, without `slack`.

    Upright is a picture that is brighter at its left and at its top, and more so at its left. Two pictures that match
    are both set upright by turns that match, unless they are nearly even: with `slack`, a turn counts that misses each
    of these by no more than that, so that a picture has a few.
    """
    found = []
    for turn in range(8):
        order, signs = _turns()
        right, down = (
            vectors[:, order[turn][place]] * signs[turn][place]
            for place in (_ORDERS.index((0, 1)), _ORDERS.index((1, 0)))
        )
        found.append(np.flatnonzero((right >= -slack) & (down >= -slack) & (right - down >= -slack)))
    return found


@cache
def led_back() -> Int64[ndarray, "8 8"]:
    """Return the turn that leads from the second to the first picture, where turns [a, b] make them alike."""
    square = np.arange(9).reshape(1, 3, 3)
    names = {turn_pixels(square, turn).tobytes(): turn for turn in range(8)}
    table = np.empty((8, 8), np.int64)
    for first in range(8):
        back = next(turn for turn in range(8) if (turn_pixels(turn_pixels(square, first), turn) == square).all())
        for second in range(8):
            table[first, second] = names[turn_pixels(turn_pixels(square, second), back).tobytes()]
    return table


@cache
def _turns() -> tuple[Int64[ndarray, "8 {DIMENSIONS}"], Float32[ndarray, "8 {DIMENSIONS}"]]:
    place = {order: k for k, order in enumerate(_ORDERS)}
    orders, signs = [], []
    for turn in range(8):
        orders.append([place[u, v] if turn & 4 else place[v, u] for v, u in _ORDERS])
        signs.append([(-1.0) ** (v * (turn >> 1 & 1) + u * (turn & 1)) for v, u in _ORDERS])
    return np.array(orders, np.int64), np.array(signs, np.float32)


@cache
def basis(side: int, count: int, start: float = 0.0, share: float = 1.0) -> Float32[ndarray, "count side"]:
    """Return the weights of the pixels of an edge for 0 to `count` - 1 waves in a window: integrals over each pixel.

    Where a window reaches out of the picture, its edge pixels fill what opens.
    """
    at = (np.clip(np.arange(side + 1) / side, start, start + share) - start) / share
    if start < 0:
        at[0] = 0
    if start + share > 1 + 1e-9:  # not by rounding
        at[-1] = 1
    orders = np.arange(1, count)[:, None]
    integrals = np.concatenate([at[None], np.sqrt(2) * np.sin(np.pi * orders * at) / (np.pi * orders)])
    return np.diff(integrals, axis=1).astype(np.float32)
