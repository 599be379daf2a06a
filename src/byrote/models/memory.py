"""What adapters and stages share of memory that does not suffice: the error, and batches that are halved for it."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from byrote.errors import OutOfMemory

Thing = TypeVar("Thing")
Made = TypeVar("Made")

SAID = re.compile(
    r"out of memory|can't allocate memory|failed to allocate memory|ALLOC_FAILED|bad.?alloc|"
    r"could not create a (primitive$|memory)",
    re.IGNORECASE,
)
"""What CUDA, MPS, torch's allocator of main memory, ONNX Runtime, cuBLAS and cuDNN, C++, and oneDNN say."""


@contextmanager
def short(uri: str, size: int, *kinds: type[Exception]) -> Iterator[None]:
    """Tell that the memory does not suffice for a batch of `size` as OutOfMemory; let all other errors pass.

    torch says so by a RuntimeError, numpy by a MemoryError; `kinds` are those of other libraries.
    """
    said: tuple[type[Exception], ...] = (RuntimeError, MemoryError, *kinds)
    try:
        yield
    except said as error:
        if not isinstance(error, MemoryError) and not SAID.search(str(error)):
            raise
        raise OutOfMemory(f"model {uri!r}: out of memory with {_told(size)}") from error


def halving(
    call: Callable[[Sequence[Thing]], list[Made]], things: Sequence[Thing], batch: int
) -> tuple[list[Made], int]:
    """Call with batches, in order, halving them for good whenever OutOfMemory is raised; return the last size too.

    Raises OutOfMemory where one alone is too much.
    """
    made: list[Made] = []
    while len(made) < len(things):
        asked = things[len(made) : len(made) + batch]
        some = _tried(call, asked)
        if some is None:
            batch = len(asked) // 2
        else:
            made += some
    return made, batch


def _tried(call: Callable[[Sequence[Thing]], list[Made]], asked: Sequence[Thing]) -> list[Made] | None:
    """Return None where the memory did not suffice; on return the error is gone, and what its frames held with it."""
    try:
        return call(asked)
    except OutOfMemory:
        if len(asked) == 1:
            raise
    return None


def _told(size: int) -> str:
    if size > 1:
        return f"{size} images at once: set [generate] batch lower"
    return (
        "one image alone: set [generate] width and height lower, [model] dtype to float16, slicing to true, offload "
        "to model, or take a device with more"
    )
