"""The left image of every pair, and planted copies in particular: spoilt until they keep as much detail as samples do.

The detail that an image keeps is told by how many bytes its JPEG takes, against that of the picture beside it.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy import ndarray
from scipy import ndimage

from byrote import images
from byrote.domain import RGB

Look = Callable[[str], RGB | None]
Size = tuple[int, int]
QUALITY = 90
"""Of the JPEG that every left image goes through, so that its traces tell no planted copy from a sample."""
WEIGHED = 95
"""Quality of the JPEG whose bytes tell the detail."""
CONTRAST, BRIGHTNESS = (0.9, 1.1), (-8.0, 8.0)
"""What else spoils a planted copy, drawn anew for each: contrast as a factor, brightness in levels (ours)."""
NOISE, BLUR, BLUR_SHARE = 25.0, 1.5, 1 / 160
"""What a strength of 1 is, in levels, and of -1, in pixels or as a share of the longer side if that is more (ours)."""
MILD = (0.08, 0.4)
"""Strengths where no real pair tells another."""
STEPS = 8
REAL = 32
"""Real pairs of which a planted copy takes the detail at most."""


class Lefts:
    """Gives the left image of a pair: its sample, or a planted copy of its picture, both packed alike.

    `size` is (height, width) of the samples, at which planted copies are made. `real` are pairs of (picture, sample):
    each planted copy keeps as much of its picture's detail as the sample of one of them, measured when it is needed.
    """

    def __init__(self, picture: Look, sample: Look, size: Size | None, real: Iterable[tuple[str, str]] = ()) -> None:
        self._picture, self._sample, self._size = picture, sample, size
        self._real = [pair for pair in real if pair[1]][:REAL]
        self._ratios: dict[int, float | None] = {}

    def of(self, digest: str, sample: str, picture: RGB) -> RGB | None:
        """Return the left image beside a picture, given by its digest and its pixels; None where it is gone."""
        left = self._sample(sample) if sample else self._planted(digest, picture)
        return None if left is None else packed(left)

    def _planted(self, digest: str, picture: RGB) -> RGB:
        seed = list(digest.encode())
        return replant(picture, digest, self._size or picture.shape[:2], self._wanted(seed))

    def _wanted(self, seed: Sequence[int]) -> float | None:
        """Return the detail of one of the real pairs that are still there, drawn by lot."""
        order = np.random.default_rng([*seed, 1]).permutation(len(self._real))
        return next((ratio for ratio in map(self._ratio, order.tolist()) if ratio is not None), None)

    def _ratio(self, place: int) -> float | None:
        if place not in self._ratios:
            digest, sample = self._real[place]
            left, right = self._sample(sample), self._picture(digest)
            self._ratios[place] = None if left is None or right is None else detail(packed(left), right, self._size)
        return self._ratios[place]


def replant(picture: RGB, about: str, size: Size, wanted: float | None = None) -> RGB:
    """Return a copy that nobody should miss, at the (height, width) of `size`: spoilt a little, as memories are.

    It keeps the share `wanted` of the picture's detail, as nearly as blur up to `BLUR` and noise up to `NOISE` can.
    """
    rng = np.random.default_rng(list(about.encode()))
    small = images.fit(picture, size[1], size[0])
    pale = (small.astype(np.float32) - 128) * rng.uniform(*CONTRAST) + 128 + rng.uniform(*BRIGHTNESS)
    mild, noise = float(rng.uniform(*MILD)), rng.standard_normal(small.shape, np.float32) * NOISE
    if wanted is None:
        return _spoilt(pale, noise, mild)
    low, high, aim = -1.0, 1.0, wanted * _weight(small)
    for _ in range(STEPS):
        middle = (low + high) / 2
        less = _weight(packed(_spoilt(pale, noise, middle))) < aim
        low, high = (middle, high) if less else (low, middle)
    return _spoilt(pale, noise, (low + high) / 2)


def detail(left: RGB, right: RGB, size: Size | None = None) -> float:
    """Return the bytes of the left image as JPEG over those of the right one, both at one size."""
    height, width = size or left.shape[:2]
    a, b = (_weight(images.fit(image, width, height)) for image in (left, right))
    return a / b


def packed(image: RGB) -> RGB:
    """Return the image as it comes out of a JPEG."""
    return images.decode(images.encode_jpeg(image, QUALITY))


def size_of(samples: Iterable[str], look: Look) -> Size | None:
    """Return (height, width) of the first sample that is still there."""
    found = (look(digest) for digest in samples if digest)
    return next(((image.shape[0], image.shape[1]) for image in found if image is not None), None)


def _weight(image: RGB) -> int:
    return len(images.encode_jpeg(image, WEIGHED))


def _spoilt(pale: ndarray, noise: ndarray, strength: float) -> RGB:
    """Blur for a negative strength, add noise for a positive one."""
    sigma = max(BLUR, BLUR_SHARE * max(pale.shape)) * -strength
    blurred = ndimage.gaussian_filter(pale, (sigma, sigma, 0), mode="nearest") if strength < 0 else pale
    return np.clip(np.rint(blurred + noise * max(0.0, strength)), 0, 255).astype(np.uint8)
