"""The whole picture, very small and squeezed to a square: what near-duplicates are found by."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from byrote.descriptors import Threshold
from byrote.domain import RGB
from byrote.images import resize

SIDE = 32


class Whole:
    """RGB thumbnails of SIDE x SIDE of the whole picture, its aspect lost; uint8 by height, width, channel."""

    name = f"whole{SIDE}-v1"
    dimensions = SIDE * SIDE * 3
    metric = "rms"
    threshold: Threshold | None = None

    def describe(self, images: Sequence[RGB]) -> NDArray[np.uint8]:
        """Return area means; pictures that are smaller grow by bicubic interpolation."""
        vectors = np.empty((len(images), self.dimensions), np.uint8)
        for row, image in zip(vectors, images, strict=True):
            row[:] = resize(image, SIDE, SIDE).reshape(-1)
        return vectors
