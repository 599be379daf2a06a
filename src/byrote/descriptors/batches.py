"""Images of one shape side by side, as kernels and networks want them."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from byrote.domain import RGB
from byrote.kernels.shapes import alike

Kind = TypeVar("Kind", np.uint8, np.float32)


def filled(
    images: Sequence[RGB], most: int, out: NDArray[Kind], rows: Callable[[list[RGB]], NDArray[Kind]]
) -> NDArray[Kind]:
    """Fill `out` with the rows of every image, at most `most` images of one shape at a time, and return it."""
    for batch in alike(images, most):
        out[batch] = rows([images[k] for k in batch])
    return out
