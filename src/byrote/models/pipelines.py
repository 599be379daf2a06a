"""How a pipeline of diffusers is loaded from a folder that was inspected."""

import inspect
import warnings
from collections.abc import Container, Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib import import_module
from typing import Any

from byrote.errors import ModelError
from byrote.models import Options, devices
from byrote.models.additions import NOTHING as NOTHING_OVER
from byrote.models.additions import Additions, lay_over
from byrote.models.folders import Folder, loading, tensors, weights
from byrote.models.holding import held

OFF: dict[str, object] = {"requires_safety_checker": False, "add_watermarker": False}


def pipeline_class(uri: str, name: str) -> Any:
    """Return a pipeline's class, which loads nothing but what is in its folder. Raises ModelError."""
    with loading(uri):
        diffusers = library()
    kind: Any = getattr(diffusers, name, None)
    if not is_a(kind, diffusers.DiffusionPipeline):
        raise ModelError(f"model {uri!r}: diffusers {diffusers.__version__} has no pipeline {name!r}")
    return type(name, (kind,), {"_load_connected_pipes": False}) if kind._load_connected_pipes else kind


def is_a(kind: object, family: type) -> bool:
    """Say whether something is a class of a family."""
    return inspect.isclass(kind) and issubclass(kind, family)


def parameters(kind: Any) -> dict[str, inspect.Parameter]:
    """Return what the call of a pipeline takes."""
    return dict(inspect.signature(kind.__call__).parameters)


def loaded(uri: str, folder: Folder, kind: Any, options: Options, over: Additions = NOTHING_OVER, **parts: Any) -> Any:
    """Load a pipeline with the weights of its folder, and `parts` in the place of its own. Raises ModelError.

    `over` is laid over it.
    """
    _check_pieces(uri, folder)
    with loading(uri), hushed():
        torch = import_module("torch")
        devices.ready(options.device, options.threads)
        settings = inspect.signature(kind.__init__).parameters
        pipeline = kind.from_pretrained(
            folder.path,
            torch_dtype=getattr(torch, options.dtype),
            use_safetensors=True,
            local_files_only=True,
            variant=folder.variant,
            **dict.fromkeys(folder.skipped),
            **{key: off for key, off in OFF.items() if key in settings},
            **parts,
        )
        _in_one_precision(pipeline, getattr(torch, options.dtype))
        _check_whole(uri, folder, pipeline, parts)
        pipeline.set_progress_bar_config(disable=True)
        lay_over(pipeline, over)
        return held(uri, pipeline, options)


def _in_one_precision(pipeline: Any, dtype: Any) -> None:
    """Bring modules of diffusers to the precision asked for: 0.42 leaves that of Stable Diffusion 3 in float32."""
    for module in pipeline.components.values():
        if isinstance(module, library().ModelMixin) and module.dtype != dtype:
            module.to(dtype)


@contextmanager
def hushed() -> Iterator[None]:
    """Drop what diffusers has to say of its own future and of old schedulers, which it mends by itself."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning, module="diffusers")
        yield


@lru_cache
def library() -> Any:
    """Import diffusers and transformers without their talk of things that byrote does not use."""
    for name in ("transformers", "diffusers"):
        talk = import_module(f"{name}.utils.logging")
        talk.set_verbosity_error()
        talk.disable_progress_bar()
    return import_module("diffusers")


def _check_pieces(uri: str, folder: Folder) -> None:
    """Refuse a SentencePiece vocabulary where nothing reads it: transformers would ask for another library."""
    for part in folder.parts:
        files = {file.name for file in folder.files if file.parent.name == part.name}
        if "Tokenizer" in part.kind and not files & {"tokenizer.json", "vocab.json"}:
            try:
                import_module("sentencepiece")
            except ImportError as error:
                raise ModelError(
                    f"model {uri!r}: {part.name} is a SentencePiece vocabulary: pip install sentencepiece, "
                    "which byrote[diffusers] brings"
                ) from error


def _check_whole(uri: str, folder: Folder, pipeline: Any, given: Container[str]) -> None:
    """Refuse weights that lack tensors: diffusers would fill them with noise and say so in a log only."""
    for part in folder.parts:
        module = getattr(pipeline, part.name)
        if part.weightless or part.name in given or not hasattr(module, "state_dict"):
            continue
        files = [file for file in weights(folder.path, part, folder.variant) if file.suffix == ".safetensors"]
        there = sum(len(tensors(folder.path, file)) for file in files)
        wanted = len({tensor.data_ptr() for tensor in module.state_dict().values()})
        if there < wanted:
            raise ModelError(f"model {uri!r}: the weights of {part.name} hold {there} tensors of {wanted}")
