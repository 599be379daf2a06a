"""PDQ hashes as a descriptor: no weights, robust to compression and scaling, blind to crops."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from byrote.descriptors import Metric, Threshold
from byrote.descriptors.batches import filled
from byrote.domain import RGB
from byrote.errors import DescriptorError
from byrote.kernels import pdq

_TOGETHER = 64  # images of one shape that are stacked


class Pdq:
    """Rows of uint8 [33]: the 32 bytes of the hash, then its quality, 0 to 100. See `kernels/pdq.py`."""

    name = "pdq-v1"
    dimensions = pdq.BYTES + 1
    metric: Metric = "hamming"
    threshold: Threshold | None = Threshold(
        pdq.MATCH,
        f"Meta's README of PDQ: alike up to {pdq.MATCH} of 256 bits, where both have a quality of {pdq.GOOD} or more",
    )

    def describe(self, images: Sequence[RGB]) -> NDArray[np.uint8]:
        """Return the hashes of the images at their own sizes."""
        return filled(images, _TOGETHER, np.empty((len(images), self.dimensions), np.uint8), _rows)


def opened(rest: str, device: str, relative_to: Path) -> Pdq:
    """Return the descriptor. Raises DescriptorError for anything after the kind."""
    if rest:
        raise DescriptorError(f"descriptor 'pdq:{rest}': PDQ has no settings: write pdq")
    return Pdq()


def _rows(images: list[RGB]) -> NDArray[np.uint8]:
    hashes, quality = pdq.hashes(np.stack(images))
    return np.concatenate([hashes, quality[:, None]], 1)
