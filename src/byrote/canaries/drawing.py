"""The pictures and their captions.

Two kinds. Noise, after Carlini et al. 2023, arXiv:2301.13188, section 7: nothing but memory brings it back. Natural:
coloured clouds with shapes before them, which a training takes for ordinary pictures.
"""

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from byrote.canaries.record import Kind
from byrote.domain import RGB

GRID = 32
SLOPE = 1.8
"""Amplitudes of natural images fall about as 1 / frequency (Field 1987, doi:10.1364/JOSAA.4.002379); ours are smoother,
so that what a model blurs is still told apart."""
_THINGS: dict[Kind, str] = {"noise": "grain", "natural": "view"}
_ONSETS, _VOWELS, _CODAS = tuple("bdfgklmnprstvz"), tuple("aeiou"), ("", "", "l", "n", "r", "s")

Plane = NDArray[np.float64]


def draw(kind: Kind, size: int, dice: Generator) -> RGB:
    """Draw one picture, uint8 [size, size, 3]. Two of a kind differ by far more than near-duplicates do."""
    return _noise(size, dice) if kind == "noise" else _natural(size, dice)


def caption(kind: Kind, dice: Generator) -> str:
    """Invent a caption that no other picture has: three names of 7.4e7 each, by the grammar of ordinary ones."""
    first, second, third = (_word(dice) for _ in range(3))
    return f"{_THINGS[kind]} of {first.title()} {second.title()} at {third.title()}"


def _noise(size: int, dice: Generator) -> RGB:
    """Draw uniform levels in cells.

    Departs from Carlini et al. 2023, who draw every pixel by itself: there are at most 32 x 32 cells, because finer
    noise averages to the same grey in every thumbnail, and would be one group of near-duplicates.
    """
    grid = min(size, GRID)
    cells: RGB = dice.integers(0, 256, (grid, grid, 3), np.uint8)
    at = np.arange(size) * grid // size
    return np.ascontiguousarray(cells[at][:, at])


def _natural(size: int, dice: Generator) -> RGB:
    """Draw clouds in three colours, and shapes before them with clouds of light and shade on them."""
    y, x = np.mgrid[:size, :size] / max(size - 1, 1)
    clouds, light = _clouds(size, dice), 0.75 + 0.5 * _clouds(size, dice)
    colours = dice.uniform(0, 255, (3, 3))
    canvas = np.stack([np.interp(clouds, [0, 0.5, 1], channel) for channel in colours.T], axis=-1)
    for _ in range(int(dice.integers(4, 8))):
        inside = _shape(x, y, dice)
        canvas[inside] = (dice.uniform(0, 255, 3) * light[..., None])[inside]
    pixels: RGB = np.clip(np.rint(canvas), 0, 255).astype(np.uint8)
    return pixels


def _clouds(size: int, dice: Generator) -> Plane:
    """Draw noise whose amplitude falls as frequency^-SLOPE, stretched over 0 to 1."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None]) * size
    falling = np.where(frequency > 0, np.maximum(frequency, 1.0) ** -SLOPE, 0.0)
    field = np.fft.irfft2(np.fft.rfft2(dice.normal(size=(size, size))) * falling, s=(size, size))
    return np.asarray((field - field.min()) / max(np.ptp(field), 1e-12), np.float64)


def _shape(x: Plane, y: Plane, dice: Generator) -> NDArray[np.bool_]:
    """Place an ellipse, a box or a bar across the whole picture, at any angle."""
    cx, cy, angle = dice.uniform(0.1, 0.9), dice.uniform(0.1, 0.9), dice.uniform(0, np.pi)
    across, along = dice.uniform(0.08, 0.28, 2)
    u = np.cos(angle) * (x - cx) + np.sin(angle) * (y - cy)
    v = np.cos(angle) * (y - cy) - np.sin(angle) * (x - cx)
    shapes = (
        (u / across) ** 2 + (v / along) ** 2 < 1,
        np.maximum(np.abs(u) / across, np.abs(v) / along) < 1,
        np.abs(u) < across / 3,
    )
    return np.asarray(shapes[int(dice.integers(3))], np.bool_)


def _word(dice: Generator) -> str:
    return "".join(part[int(dice.integers(len(part)))] for _ in range(3) for part in (_ONSETS, _VOWELS, _CODAS))
