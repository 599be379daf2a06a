"""Descriptors: vectors that find near pictures fast, before pixels are compared. One file for each kind, opened by URI.

`thumbnail`, `thumbnail:SIDE`, `pdq`, `sscd:FILE`, `clip:FOLDER_OR_HUB_ID`, `dinov2:FOLDER_OR_HUB_ID`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from math import isfinite
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from byrote.domain import RGB
from byrote.errors import DescriptorError, did_you_mean

Metric = Literal["rms", "hamming", "cosine"]
KINDS = {
    "thumbnail": "byrote.descriptors.thumbnail:opened",
    "pdq": "byrote.descriptors.pdq:opened",
    "sscd": "byrote.descriptors.sscd:opened",
    "clip": "byrote.descriptors.transformers:Clip",
    "dinov2": "byrote.descriptors.transformers:Dinov2",
}


@dataclass(frozen=True, slots=True)
class Threshold:
    """The point at which a descriptor calls two images alike, in the unit of its metric, and where that comes from.

    Alike are images at most `value` apart (rms, hamming), or at least `value` similar (cosine).
    """

    value: float
    says: str

    def __post_init__(self) -> None:
        if not isfinite(self.value) or not self.says:
            raise ValueError(f"a threshold is a number with its origin, not {self.value} ({self.says!r})")


@runtime_checkable
class Descriptor(Protocol):
    """A vector for an image.

    `name` changes whenever its vectors would: it carries the weights' hash and the preprocessing. `metric` says how
    rows compare: "rms" by the RMS of levels / 255, "hamming" by the bits that differ in the first 32 bytes (the 33rd is
    the quality, 0 to 100), "cosine" by the product of rows, which have length 1. `threshold` is None where nobody
    published one. Weights may load when `dimensions` is first read or the first image described.
    """

    name: str
    dimensions: int
    metric: Metric
    threshold: Threshold | None

    def describe(self, images: Sequence[RGB]) -> NDArray[np.uint8] | NDArray[np.float32]:
        """Return one row of `dimensions` for each image, in their order; each depends on its own image only."""
        ...


def open(uri: str, *, device: str = "cpu", relative_to: Path | None = None) -> Descriptor:
    """Open the descriptor that `uri` names; networks run on `device`. Raises DescriptorError."""
    kind, _, rest = uri.partition(":")
    known = kinds()
    if kind not in known:
        hint = did_you_mean(kind, known)
        raise DescriptorError(f"descriptor {uri!r}: unknown kind {kind!r}{hint}: one of {', '.join(known)}")
    module, _, name = known[kind].partition(":")
    descriptor: Descriptor = getattr(import_module(module), name)(rest, device, relative_to or Path.cwd())
    return descriptor


def kinds() -> dict[str, str]:
    """Return the known kinds, those of other packages included (entry-point group `byrote.descriptors`).

    Each is "module:callable", called with what follows the kind in the URI, the device and the folder that paths are
    relative to.
    """
    return KINDS | {point.name: point.value for point in entry_points(group="byrote.descriptors")}
