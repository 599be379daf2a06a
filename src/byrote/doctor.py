"""What is installed, what is missing, and how to get it."""

import os
import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import psutil

from byrote.models import kinds

_NEEDED = ("byrote", "numpy", "scipy", "pillow", "pyarrow", "jinja2")
_DIFFUSERS = ("torch", "diffusers", "transformers", "safetensors")


def examine() -> dict[str, Any]:
    """Return a line for each thing that an audit may need."""
    told: dict[str, Any] = {"python": platform.python_version(), "machine": platform.machine()}
    told["cores"] = os.cpu_count()
    told["memory"] = f"{psutil.virtual_memory().total / 2**30:.0f} GiB"
    told["free disk"] = f"{shutil.disk_usage('.').free / 2**30:.0f} GiB here"
    told |= {name: _version(name, "pip install byrote") for name in _NEEDED}
    told |= {name: _version(name, "pip install 'byrote[diffusers]'") for name in _DIFFUSERS}
    told["accelerator"] = _accelerator()
    return told | {"models": ", ".join(kinds())}


def _version(name: str, cure: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return f"missing: {cure}"


def _accelerator() -> str:
    try:
        import torch
    except ImportError:
        return "unknown without torch"
    if torch.cuda.is_available():
        return f"cuda: {torch.cuda.get_device_name(0)}"
    return "mps" if torch.backends.mps.is_available() else "none: the CPU is used"
