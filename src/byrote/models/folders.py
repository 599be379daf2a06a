"""What a diffusers model folder says of itself, read before any library is imported.

A model folder comes from strangers: its index may name nothing but known libraries, it may hold no code and no pickle,
and every part must be there and whole. Raises ModelError of one line everywhere.
"""

import json
import math
import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

from byrote.errors import ModelError
from byrote.models.digests import of_files

VOCABULARIES = (("tokenizer.json",), ("vocab.json", "merges.txt"), ("spiece.model",), ("tokenizer.model",))
LIBRARIES = ("diffusers", "transformers")
OWN_LIBRARIES = ("stable_diffusion", "deepfloyd_if")
"""Parts of diffusers' own pipelines that are left out: their names are allowed, they are never loaded."""
UNUSED = ("safety_checker", "feature_extractor", "image_encoder", "watermarker")
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl", ".pickle")
VARIANTS = (None, "fp16", "bf16")
LONGEST_HEADER = 100_000_000
BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "I64": 8, "I32": 4, "U8": 1, "BOOL": 1}
Shape = tuple[int, ...]


class Part(NamedTuple):
    """A component of a pipeline as its index names it."""

    name: str
    library: str
    kind: str

    @property
    def weightless(self) -> bool:
        """Say whether it is a tokenizer, a scheduler or a processor: a thing without weights."""
        return bool(re.search(r"Tokenizer|Scheduler|Processor|FeatureExtractor", self.kind))


class Folder(NamedTuple):
    """A model folder that was found whole, with the files that matter to its images."""

    path: Path
    kind: str
    parts: tuple[Part, ...]
    skipped: tuple[str, ...]
    variant: str | None
    files: tuple[Path, ...]


def inspected(
    path: Path,
    *,
    keeps: Iterable[str] = (),
    without: Iterable[str] = (),
    elsewhere: Iterable[str] = (),
    variant: str = "",
) -> Folder:
    """Read what a model folder says of itself and check that every part is there, whole and without code.

    `keeps` are parts that would be left out, `without` those that are left out beside the usual ones, `elsewhere`
    those whose weights are not in the folder, `variant` the weights that are wanted, "" for plain ones.
    """
    index = read_json(path, Path("model_index.json"))
    kind = _kind(path, index)
    named = list(_parts(path, index))
    unused = {*UNUSED, *without} - {*keeps}
    parts = tuple(part for part in named if part.name not in unused)
    if not any(part.name == "scheduler" for part in parts):
        raise ModelError(f"model {path}: model_index.json names no scheduler")
    for part in parts:
        _check_part(path, part)
    here = {part for part in parts if not part.weightless and part.name not in {*elsewhere}}
    found = _variant(path, [part for part in parts if part in here], variant)
    files = {Path("model_index.json")}.union(*(_files(path, part, found, part in here) for part in parts))
    skipped = tuple(part.name for part in named if part.name in unused)
    return Folder(path, kind, parts, skipped, found, tuple(sorted(files, key=Path.as_posix)))


def _kind(path: Path, index: dict[str, Any]) -> str:
    kind = index.get("_class_name")
    if not isinstance(kind, str) or not kind.isidentifier():
        raise ModelError(
            f"model {path}: model_index.json wants a pipeline of its own ({kind!r}): refused, it would run its code"
        )
    return kind


def find(path: str, relative_to: Path, *, revision: str = "", variant: str = "") -> Path:
    """Return the folder of a model, fetched from the hub where it is no folder here but an ORG/NAME."""
    local = relative_to / Path(path).expanduser()
    if local.is_dir():
        if revision:
            raise ModelError(f"model {local} is a folder, and revision {revision!r} is of the hub: leave revision out")
        if not (local / "model_index.json").is_file():
            raise ModelError(f"model {local}: model_index.json is not there, so it is no diffusers pipeline")
        return local
    if local.is_file():
        raise ModelError(f"model {local} is a file: name the folder of a diffusers pipeline")
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", path):
        raise ModelError(f"model folder {local} is not there (a model of the hub is written ORG/NAME)")
    return _from_hub(path, local, revision, variant)


def _from_hub(name: str, local: Path, revision: str, variant: str) -> Path:
    with loading(name):
        hub = import_module("huggingface_hub")
        others = ["safety_checker/*", "*flax*", "*openvino*", *(() if variant else ("*.fp16[.-]*", "*non_ema*"))]
        try:
            found = hub.snapshot_download(
                name,
                revision=revision or None,
                allow_patterns=["model_index.json", "*/*.json", "*/*.txt", "*/*.model", "*/*.safetensors"],
                ignore_patterns=others,
            )
        except (OSError, ValueError) as error:
            reason = first_line(error)
            raise ModelError(f"model {name!r}: no folder {local}, and not to be had from the hub ({reason})") from error
    return Path(found)


def _parts(path: Path, index: dict[str, Any]) -> Iterator[Part]:
    """Yield the components that the index names. Raises ModelError where one would run code from elsewhere."""
    for name, value in index.items():
        if name.startswith("_") or not isinstance(value, list) or value == [None, None]:
            continue
        if len(value) != 2 or not all(isinstance(word, str) and word.isidentifier() for word in (name, *value)):
            raise ModelError(
                f"model {path}: model_index.json names no known component for {name!r}: {value!r}, refused"
            )
        part = Part(name, *value)
        known = part.library in LIBRARIES or (name in UNUSED and part.library in OWN_LIBRARIES)
        if not known or part.kind.startswith("_") or re.match("Auto[A-Z]", part.kind):
            raise ModelError(
                f"model {path}: {name!r} is {part.library}.{part.kind}: refused, "
                "only classes of diffusers and transformers are loaded"
            )
        yield part


def _check_part(path: Path, part: Part) -> None:
    folder = path / part.name
    if not folder.is_dir():
        raise ModelError(f"model {path}: folder {part.name} is not there ({part.kind})")
    for code in folder.rglob("*.py"):
        raise ModelError(f"model {path}: {code.relative_to(path)} is code: refused, delete it if you trust the weights")
    if "Tokenizer" not in part.kind:
        read_json(path, Path(part.name) / _config(part))
    elif not any(all((folder / file).is_file() for file in files) for files in VOCABULARIES):
        raise ModelError(f"model {path}: {part.name} has no vocabulary (tokenizer.json, or vocab.json with merges.txt)")
    for file in folder.glob("*.json"):
        read_json(path, file.relative_to(path))


def _config(part: Part) -> str:
    if "Scheduler" in part.kind:
        return "scheduler_config.json"
    return "preprocessor_config.json" if part.weightless else "config.json"


def _variant(path: Path, models: Sequence[Part], wanted: str) -> str | None:
    """Return the first variant for which every part has whole weights; of `wanted`, one part at least."""
    for variant in (wanted,) if wanted else VARIANTS:
        if all(weights(path, part, variant) for part in models):
            files = {file for part in models for file in weights(path, part, variant) if file.suffix == ".safetensors"}
            if wanted and not any(f".{wanted}." in file.name for file in files):
                raise ModelError(f"model {path} has no weights of variant {wanted!r} (*.{wanted}.safetensors)")
            for file in files:
                tensors(path, file)
            return variant
    raise _no_weights(path, next(part for part in models if not weights(path, part, None)))


def weights(path: Path, part: Part, variant: str | None) -> list[Path]:
    """Return the weight files of a part for a variant, else the plain ones, else none."""
    stem = "diffusion_pytorch_model" if part.library == "diffusers" else "model"
    dotted = f".{variant}" if variant else ""
    single = Path(part.name) / f"{stem}{dotted}.safetensors"
    index = Path(part.name) / f"{stem}.safetensors.index{dotted}.json"
    if (path / single).is_file():
        return [single]
    if (path / index).is_file():
        return [index, *_shards(path, index)]
    return weights(path, part, None) if variant else []


def _shards(path: Path, index: Path) -> list[Path]:
    where = read_json(path, index).get("weight_map")
    if not isinstance(where, dict) or not all(
        isinstance(name, str) and Path(name).name == name for name in where.values()
    ):
        raise ModelError(f"model {path}: {index} has no weight_map of files beside it")
    return [index.with_name(name) for name in sorted(set(where.values()))]


def _no_weights(path: Path, part: Part) -> ModelError:
    pickles = sorted(file for file in (path / part.name).iterdir() if file.suffix in PICKLES)
    if not pickles:
        return ModelError(f"model {path}: {part.name} has no weights (*.safetensors)")
    return ModelError(
        f"model {path}: {part.name}/{pickles[0].name} is a pickle, which can run code: refused; "
        "where you trust it, convert it: DiffusionPipeline.from_pretrained(OLD).save_pretrained(NEW) writes safetensors"
    )


def _files(path: Path, part: Part, variant: str | None, weighty: bool) -> set[Path]:
    small = {
        file.relative_to(path) for file in (path / part.name).iterdir() if file.suffix in (".json", ".txt", ".model")
    }
    return small.union(weights(path, part, variant)) if weighty else small


def tensors(path: Path, file: Path) -> dict[str, Any]:
    """Return the header of a safetensors file. Raises ModelError where the file is not as long as its header says."""
    try:
        with (path / file).open("rb") as stream:
            size = (path / file).stat().st_size
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > min(size, LONGEST_HEADER):
                raise ValueError("its header does not end in the file")
            header = json.loads(stream.read(length))
            header.pop("__metadata__", None)
            if size != 8 + length + max((tensor["data_offsets"][1] for tensor in header.values()), default=0):
                raise ValueError("its length is not what its header says")
    except FileNotFoundError:
        raise ModelError(f"model {path}: {file} is not there") from None
    except (OSError, ValueError, RecursionError, TypeError, LookupError, AttributeError, struct.error) as error:
        raise ModelError(
            f"model {path}: {file} is truncated or damaged ({first_line(error)}): copy it again"
        ) from error
    return dict(header)


def shapes(path: Path, file: Path) -> dict[str, Shape]:
    """Return the shape of each tensor of a safetensors file. Raises ModelError where its header lies."""
    return {name: _shape(f"model {path}: {name!r} of {file}", tensor) for name, tensor in tensors(path, file).items()}


def _shape(what: str, tensor: dict[str, Any]) -> Shape:
    shape: Any = tensor.get("shape")
    dtype, offsets = tensor.get("dtype"), tensor["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BYTES:
        raise ModelError(f"{what} is {dtype!r}, and only {', '.join(BYTES)} are read: copy it again, or convert it")
    if not _naturals(shape) or not _naturals(offsets) or len(offsets) != 2:
        raise ModelError(f"{what} has the shape {shape!r} at {offsets!r}: copy it again")
    if offsets[1] - offsets[0] != math.prod(shape) * BYTES[dtype]:
        raise ModelError(f"{what}, of shape {shape}, has {offsets[1] - offsets[0]} bytes: copy it again")
    return tuple(shape)


def _naturals(given: Any) -> TypeGuard[list[int]]:
    return isinstance(given, list) and all(type(number) is int and number >= 0 for number in given)


def shapes_of(folder: Folder) -> dict[str, dict[str, Shape]]:
    """Return the shape of each tensor of each part whose weights are in the folder."""
    held = {part.name: weights(folder.path, part, folder.variant) for part in folder.parts if not part.weightless}
    plain = {name: [file for file in files if file.suffix == ".safetensors"] for name, files in held.items()}
    return {
        name: {key: shape for file in files for key, shape in shapes(folder.path, file).items()}
        for name, files in plain.items()
    }


def read_json(path: Path, file: Path) -> dict[str, Any]:
    """Read a JSON object of a model folder. Raises ModelError where there is none."""
    try:
        content = json.loads((path / file).read_bytes())
    except FileNotFoundError:
        raise ModelError(f"model {path}: {file} is not there") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"model {path}: {file} cannot be read as JSON ({first_line(error)}): copy it again") from error
    if not isinstance(content, dict):
        raise ModelError(f"model {path}: {file} holds no JSON object: copy it again")
    return content


def digest_of(path: Path, files: Iterable[Path]) -> str:
    """Digest path in the folder, size and content of each file, in this order; "sha256:..."."""
    return of_files((file.as_posix(), path / file) for file in files)


@contextmanager
def loading(uri: str) -> Iterator[None]:
    """Tell what goes wrong in the libraries as one line."""
    try:
        yield
    except ImportError as error:
        raise ModelError(f"model {uri!r} wants a library ({first_line(error)}): install byrote[diffusers]") from error
    except (OSError, ValueError, TypeError, RuntimeError, LookupError, AttributeError, AssertionError) as error:
        raise ModelError(f"model {uri!r} cannot be loaded: {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, at most 200 letters of it."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]
