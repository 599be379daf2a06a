"""The weightless descriptor: the picture itself, very small."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from byrote.descriptors import Metric, Threshold
from byrote.domain import RGB
from byrote.errors import DescriptorError
from byrote.images import fit


class Thumbnail:
    """RGB thumbnails of `side` x `side`, rows of uint8 in the order of height, width, channel.

    A picture is cropped to its central square, not squashed: square samples come from models that were trained on
    square crops, so that a squashed picture would meet no sample of itself. One trained off-centre may be missed.
    """

    metric: Metric = "rms"
    threshold: Threshold | None = None

    def __init__(self, side: int = 32) -> None:
        if side < 1:
            raise ValueError(f"a thumbnail has a side of at least 1, not {side}")
        self.side = side
        self.name = f"thumbnail{side}-v1"
        self.dimensions = side * side * 3

    def describe(self, images: Sequence[RGB]) -> NDArray[np.uint8]:
        """Return area means over the central squares; smaller pictures grow by bicubic interpolation."""
        vectors = np.empty((len(images), self.dimensions), np.uint8)
        for row, image in zip(vectors, images, strict=True):
            row[:] = fit(image, self.side, self.side).reshape(-1)
        return vectors


def opened(rest: str, device: str, relative_to: Path) -> Thumbnail:
    """Return thumbnails of the side that follows the kind, or of 32. Raises DescriptorError."""
    if not rest:
        return Thumbnail()
    if not (rest.isascii() and rest.isdigit() and 1 <= int(rest) <= 256):
        raise DescriptorError(f"descriptor 'thumbnail:{rest}': the side is a whole number from 1 to 256")
    return Thumbnail(int(rest))
