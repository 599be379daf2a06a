"""The accelerators of this machine: which there are, and which of them each worker gets."""

import os
from collections.abc import Mapping
from importlib import import_module

from byrote.errors import ModelError

VISIBLE = "CUDA_VISIBLE_DEVICES"
Environment = Mapping[str, str]


def turns(device: str) -> tuple[Environment, ...]:
    """Return what the environments of workers are to say, one after the other, so that each sees one device alone.

    For "cuda" one for every device of this machine, or of those that CUDA_VISIBLE_DEVICES leaves; a device that is
    named by its number ("cuda:1"), any other and none leave the environment as it is.
    """
    names = visible() if device == "cuda" else ()
    return tuple({VISIBLE: name} for name in names) or ({},)


def visible() -> tuple[str, ...]:
    """Return the names of the CUDA devices as CUDA_VISIBLE_DEVICES has them: numbers, or identifiers of the driver.

    As CUDA itself does, what follows an empty name or -1 is left out. Without the variable torch counts them.
    """
    said = os.environ.get(VISIBLE)
    if said is None:
        return tuple(map(str, range(_count())))
    names = [name.strip() for name in said.split(",")]
    ends = [k for k, name in enumerate(names) if not name or name.startswith("-")]
    return tuple(names[: ends[0]] if ends else names)


def check(device: str) -> None:
    """Raise ModelError where `device` (cpu, mps, cuda, cuda:1) is not there."""
    kind, _, number = device.partition(":")
    there = {"cpu": 1, "mps": _apple(), "cuda": _count()}.get(kind, 0)
    if int(number or 0) >= there:
        raise ModelError(f"device {device!r} is not there: {_count()} CUDA devices here; cpu always works")


def ready(device: str, threads: int) -> None:
    """Get torch ready to run on a device: on the CPU with so many threads. Raises ModelError where it is not there."""
    check(device)
    if device == "cpu":
        import_module("torch").set_num_threads(threads)


def free(device: str) -> int | None:
    """Return how many bytes are free on a CUDA device that is there, or None for another."""
    if not device.startswith("cuda"):
        return None
    bytes_free: int = import_module("torch").cuda.mem_get_info(device)[0]
    return bytes_free


def _count() -> int:
    """Count the CUDA devices that torch sees; none without torch. The driver answers; no device is opened for it."""
    try:
        torch = import_module("torch")
    except ImportError:
        return 0
    count: int = torch.cuda.device_count()
    return count


def _apple() -> int:
    try:
        torch = import_module("torch")
    except ImportError:
        return 0
    return int(torch.backends.mps.is_available())
