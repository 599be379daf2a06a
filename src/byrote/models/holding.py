"""How a loaded pipeline is held: on which device, what waits in main memory, in slices, compiled."""

import os
import shutil
from importlib.util import find_spec
from typing import Any

from byrote.errors import ModelError, did_you_mean
from byrote.models import Options

OFFLOADS = ("model", "sequential")
COMPILERS = ("g++", "clang++", "c++")


def check(uri: str, options: Options) -> None:
    """Refuse a way to hold a pipeline that this machine has not the means for. Raises ModelError."""
    if options.offload and options.offload not in OFFLOADS:
        hint = did_you_mean(options.offload, OFFLOADS)
        raise ModelError(f"unknown offload {options.offload!r}{hint}: one of {', '.join(OFFLOADS)}")
    if options.offload and options.device == "cpu":
        raise ModelError(
            f"model {uri!r}: offload {options.offload!r} brings parts from main memory to an accelerator, and device "
            "'cpu' is none: leave offload out, or name a device"
        )
    if options.offload and find_spec("accelerate") is None:
        raise ModelError(f"model {uri!r}: offload {options.offload!r} wants a library: pip install accelerate")
    if options.compile and not _compiler(options.device):
        raise ModelError(
            f"model {uri!r}: compile wants a C++ compiler (g++, or the one that CXX names) on a cpu, and triton on a "
            f"GPU; there is none for {options.device!r}: leave compile out"
        )


def held(uri: str, pipeline: Any, options: Options) -> Any:
    """Bring a pipeline to where and how it is to be held. Raises ModelError where it cannot be held so.

    Slices make the largest batch of attention and of decoding smaller; sums may differ in their last bits.
    """
    denoisers = [part for name in ("unet", "transformer") if (part := getattr(pipeline, name, None)) is not None]
    if options.slicing:
        _slice(uri, pipeline, denoisers)
    if options.offload == "model":
        pipeline.enable_model_cpu_offload(device=options.device)
    elif options.offload == "sequential":
        pipeline.enable_sequential_cpu_offload(device=options.device)
    else:
        pipeline.to(options.device)
    for denoiser in denoisers if options.compile else ():
        denoiser.compile()
    return pipeline


def _slice(uri: str, pipeline: Any, denoisers: list[Any]) -> None:
    attentive = [part for part in denoisers if hasattr(part, "set_attention_slice")]
    decoders = [part for part in pipeline.components.values() if hasattr(part, "enable_slicing")]
    if not attentive and not decoders:
        raise ModelError(f"model {uri!r}: a {type(pipeline).__name__} has nothing to slice: leave slicing out")
    for part in attentive:
        part.set_attention_slice("auto")
    for part in decoders:
        part.enable_slicing()


def _compiler(device: str) -> bool:
    if device != "cpu":
        return find_spec("triton") is not None
    return any(shutil.which(name) for name in (os.environ.get("CXX", ""), *COMPILERS) if name)
