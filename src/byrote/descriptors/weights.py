"""What descriptors with weights share: files that may be missing, hashes of files, errors of libraries in one line."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from byrote.errors import DescriptorError

HASHED = 12  # hexadecimal digits of the SHA-256 that a name carries


def hashed(files: Sequence[Path], settings: str = "") -> str:
    """Return the first digits of the SHA-256 over settings and the files: name, size and content, in their order."""
    whole = sha256(settings.encode())
    for file in files:
        whole.update(f"{file.name}\n{file.stat().st_size}\n".encode())
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                whole.update(block)
    return whole.hexdigest()[:HASHED]


@contextmanager
def loading(uri: str) -> Iterator[None]:
    """Tell what goes wrong in torch and transformers as one line. Raises DescriptorError."""
    try:
        yield
    except ImportError as error:
        told = f"descriptor {uri!r} wants a library ({_first_line(error)}): install byrote[diffusers]"
        raise DescriptorError(told) from error
    except _broken() as error:
        raise DescriptorError(f"descriptor {uri!r} cannot be loaded: {_first_line(error)}") from error


def normal(values: NDArray[np.float32], mean: Sequence[float], deviation: Sequence[float]) -> NDArray[np.float32]:
    """Return values [h, w, 3] as [3, h, w], less their mean and over their deviation."""
    moved: NDArray[np.float32] = np.subtract(values, np.array(mean, np.float32), dtype=np.float32)
    moved /= np.array(deviation, np.float32)
    return moved.transpose(2, 0, 1)


def unit(uri: str, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the rows at length 1. Raises DescriptorError where one is no direction."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not (np.isfinite(lengths).all() and (lengths > 0).all()):
        raise DescriptorError(f"descriptor {uri!r} gave a vector that is zero or not finite: its weights are broken")
    rows: NDArray[np.float32] = (vectors / lengths).astype(np.float32)
    return rows


def _broken() -> tuple[type[Exception], ...]:
    """Return what the libraries raise; safetensors has an error of its own, which exists where it was imported."""
    own = getattr(sys.modules.get("safetensors"), "SafetensorError", OSError)
    return (OSError, ValueError, TypeError, RuntimeError, LookupError, AttributeError, EOFError, own)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
