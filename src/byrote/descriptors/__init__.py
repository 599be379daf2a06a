"""Descriptors: vectors that find near pictures fast, before pixels are compared. One file for each kind."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from byrote.domain import RGB


@runtime_checkable
class Descriptor(Protocol):
    """A vector for an image. `name` changes whenever its vectors would."""

    name: str
    dimensions: int

    def describe(self, images: Sequence[RGB]) -> NDArray[np.uint8] | NDArray[np.float32]:
        """Return one row of `dimensions` for each image, in their order; each depends on its own image only."""
        ...
