"""What moves T without memory: how much there is to get right in a picture, and how crowded it is where it lies."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from byrote import images
from byrote.domain import RGB
from byrote.kernels.search import Nearest

NEIGHBOURS = 10
_LUMA = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True, slots=True)
class Covariates:
    """Of one picture at the size of the samples: `compressed` bits a pixel as PNG, `gradient` energy (mean squared
    difference of neighbouring luma in [0, 1]), `isolation` (mean RMS distance of its thumbnail to the 10 nearest of
    pictures and controls together; the inverse of the descriptor's density), and `words` of its caption.
    """

    compressed: float
    gradient: float
    isolation: float
    words: float


def covariates(
    asked: Sequence[tuple[str, str | None]],
    pool: Sequence[str],
    vectors: NDArray[np.uint8],
    pixels: Callable[[str], RGB | None],
    size: tuple[int, int],
) -> list[Covariates | None]:
    """Weigh each (digest, caption); None where the picture is gone. `vectors` are the thumbnails of `pool`, row by row.

    Blind to the side: pictures and controls are one pool. `size` is (width, height).
    """
    place = {digest: row for row, digest in enumerate(pool)}
    alone = _isolation(vectors, [place[digest] for digest, _ in asked])
    return [_of(pixels(digest), caption, float(far), size) for (digest, caption), far in zip(asked, alone, strict=True)]


def _of(image: RGB | None, caption: str | None, isolation: float, size: tuple[int, int]) -> Covariates | None:
    if image is None:
        return None
    seen = images.fit(image, *size)
    bits = 8 * len(images.encode_png(seen)) / (size[0] * size[1])
    return Covariates(bits, gradient(seen), isolation, float(len((caption or "").split())))


def gradient(image: RGB) -> float:
    """Return the mean squared difference of neighbouring luma, across and down."""
    luma = image @ _LUMA / 255
    return float((np.diff(luma, axis=0) ** 2).mean() + (np.diff(luma, axis=1) ** 2).mean())


def _isolation(vectors: NDArray[np.uint8], rows: Iterable[int]) -> NDArray[np.float64]:
    wanted = list(rows)
    count = min(NEIGHBOURS + 1, len(vectors))
    if count < 2 or not wanted:
        return np.zeros(len(wanted))
    squared, _ = Nearest(vectors).search(vectors[wanted], count)
    return np.asarray(np.sqrt(squared[:, 1:] / vectors.shape[1]).mean(1) / 255, np.float64)
