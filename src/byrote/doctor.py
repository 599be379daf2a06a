"""What is installed, what is missing, what can be opened, and how to get the rest."""

import json
import math
import os
import platform
import re
import shutil
import struct
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil

from byrote import descriptors, models, sources
from byrote.corpus import Corpus
from byrote.errors import ByroteError, DescriptorError, ModelError, did_you_mean
from byrote.models import How, Model, Options, devices
from byrote.plan import Plan, load

_NEEDED = ("byrote", "numpy", "scipy", "pillow", "pyarrow", "jinja2")
_DIFFUSERS = ("torch", "diffusers", "transformers", "safetensors")
_OF_DESCRIPTORS = {"sscd": ("torch",), "clip": ("torch", "transformers"), "dinov2": ("torch", "transformers")}
_WEIGHTS = (".safetensors", ".pt", ".pth", ".onnx", ".pkl")
_OF_HUB = {"diffusers": "model_index.json", "clip": "config.json", "dinov2": "config.json"}
_SIZES = {"float32": 4, "float16": 2, "bfloat16": 2}  # bytes of a number
_LONGEST_HEADER = 100_000_000


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: whether it is well, what was seen, and the way out where it is not."""

    what: str
    well: bool
    says: str
    cure: str = ""


def examine() -> dict[str, Any]:
    """Return a line for each thing that an audit may need."""
    told: dict[str, Any] = {"python": platform.python_version(), "machine": platform.machine()}
    told["cores"] = os.cpu_count()
    told["memory"] = f"{psutil.virtual_memory().total / 2**30:.0f} GiB"
    told["free disk"] = f"{shutil.disk_usage('.').free / 2**30:.0f} GiB here"
    told |= {name: _version(name, "pip install byrote") for name in _NEEDED}
    told |= {name: _version(name, _install("diffusers")) for name in _DIFFUSERS}
    told["accelerator"] = _accelerator()
    return told | {"models": ", ".join(models.kinds())}


def kinds() -> list[dict[str, Any]]:
    """Return a row for every kind of model that can be named: what it is, a URI, its settings, what it still lacks."""
    return [{"kind": kind, **_described(kind)} for kind in models.kinds()]


def look(what: str, options: Options, relative_to: Path) -> list[Check]:
    """Look whether what a person named could be opened: the URI of a model, source or descriptor, or an audit's folder.

    A model of the hub that is not on this machine is not fetched for it, and no weights of a model are loaded.
    """
    if (relative_to / what / "audit.toml").is_file():
        return list(_audit(relative_to / what / "audit.toml"))
    kind, colon, _ = what.partition(":")
    if colon and kind in models.kinds():
        return list(_model(what, options, relative_to))
    if kind in descriptors.kinds():
        return list(_descriptor(what, options.device, relative_to))
    if colon and kind not in sources.kinds() and "/" not in kind and not _path(what, relative_to):
        return [_unknown(kind)]
    return [_source(what, relative_to)]


def _audit(path: Path) -> Iterator[Check]:
    """Look at the model of a plan and its twin as the plan holds them, and at its descriptor."""
    try:
        plan = load(path)
    except ByroteError as error:
        yield Check("plan", False, str(error))
        return
    yield Check("plan", True, f"{path} can be read")
    yield _corpus((plan.base / plan.corpus.path).resolve())
    for uri in filter(None, (plan.model.uri, plan.twin.uri)):
        yield from _model(uri, _options(plan, bare=uri != plan.model.uri), plan.base)
    if plan.corpus.descriptor:
        yield from _descriptor(plan.corpus.descriptor, plan.model.device, plan.base)


def _corpus(root: Path) -> Check:
    try:
        corpus = Corpus.at(root)
    except ByroteError as error:
        return Check("corpus", False, str(error), f"byrote index SOURCE --held-out SOURCE --corpus {root}")
    return Check("corpus", True, f"{root} holds {len(corpus.pictures):,} pictures and controls")


def _options(plan: Plan, *, bare: bool) -> Options:
    """Return how the plan runs its model; `bare` without what is laid over it."""
    told = asdict(plan.model) | asdict(plan.generate) | ({"lora": (), "embeddings": ()} if bare else {})
    return Options(**{knob.name: told[knob.name] for knob in fields(Options)})


def _model(uri: str, options: Options, relative_to: Path) -> Iterator[Check]:
    kind, _, rest = uri.partition(":")
    how = _described(kind)
    yield _extra(kind, how["extra"], how["missing"])
    yield _device(options.device)
    if _afar(uri, options.revision, relative_to):
        yield _fetch("model", uri, options.revision)
        return
    try:
        model = models.open(uri, options, relative_to=relative_to)
    except ByroteError as error:
        yield Check("model", False, str(error), how["cure"])
        return
    except ImportError as error:
        yield Check("model", False, f"{uri!r}: its module cannot be imported: {error}", _install(how["extra"]))
        return
    yield Check("model", True, f"{uri} opens as {model.name}")
    files = list(_files(model, relative_to / Path(rest.partition("?")[0]).expanduser()))
    if files:
        yield _memory(files, options)


def _extra(kind: str, extra: str, missing: Iterable[str]) -> Check:
    lacks = ", ".join(missing)
    if lacks:
        return Check("packages", False, f"{kind} wants {lacks}", _install(extra))
    return Check("packages", True, f"all that {kind} wants are installed")


def _device(device: str) -> Check:
    if device == "cpu":
        return Check("device", True, "cpu")
    try:
        devices.check(device)
    except ModelError as error:
        return Check("device", False, str(error), 'set [model] device = "cpu"')
    seen = len(devices.turns(device))
    return Check("device", True, f"{device} is there" + (f", {seen} of them: as many workers" if seen > 1 else ""))


def _memory(files: list[Path], options: Options) -> Check:
    """Hold the weights, at the width of the dtype, against the memory that is free where they go."""
    wanted = sum(_held(file, _SIZES.get(options.dtype, 4)) for file in files)
    free = _free(options.device)
    says = f"the weights take about {_gib(wanted)}, {_gib(free)} are free; a batch of images comes on top"
    if wanted < free:
        return Check("memory", True, says)
    return Check("memory", False, says, 'set [model] dtype = "float16", or offload = "model" on a GPU')


def _held(file: Path, width: int) -> int:
    """Return the bytes that a file's numbers take in memory: by its header where it has one, else its size."""
    if file.suffix != ".safetensors":
        return file.stat().st_size
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(min(length, _LONGEST_HEADER)))
        shapes = (tensor["shape"] for name, tensor in header.items() if name != "__metadata__")
        return sum(math.prod(shape) * width for shape in shapes)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, struct.error):
        return file.stat().st_size


def _files(model: Model, place: Path) -> Iterable[Path]:
    """Return the files with weights: those that the model names (`weights`), else those at its place."""
    own: Iterable[Path] | None = getattr(model, "weights", None)
    if own is not None:
        return own
    found = [place] if place.is_file() else sorted(place.rglob("*")) if place.is_dir() else []
    return [file for file in found if file.suffix in _WEIGHTS]


def _free(device: str) -> int:
    try:
        devices.check(device)
        free = devices.free(device)
    except ModelError:
        free = None
    return int(psutil.virtual_memory().available) if free is None else free


def _descriptor(uri: str, device: str, relative_to: Path) -> Iterator[Check]:
    kind = uri.partition(":")[0]
    yield _extra(kind, "diffusers", _absent(_OF_DESCRIPTORS.get(kind, ())))
    if _afar(uri, "", relative_to):
        yield _fetch("descriptor", uri, "")
        return
    try:
        opened = descriptors.open(uri, device=device, relative_to=relative_to)
        yield Check("descriptor", True, f"{uri} opens as {opened.name}: {opened.dimensions} numbers a picture")
    except DescriptorError as error:
        yield Check("descriptor", False, str(error))


def _source(uri: str, relative_to: Path) -> Check:
    place = str(relative_to / uri) if (relative_to / uri).exists() else uri
    try:
        source = sources.open(place)
        first = next(iter(source.list()), None)
    except ByroteError as error:
        return Check("source", False, str(error))
    if first is None:
        return Check("source", False, f"{uri} opens, and holds no pictures", "name another folder, file or URL")
    return Check("source", True, f"{uri} opens as {source.uri}; the first picture is {first.where!r}")


def _unknown(kind: str) -> Check:
    known = [*models.kinds(), *sources.kinds(), *descriptors.kinds()]
    return Check("kind", False, f"unknown kind {kind!r}{did_you_mean(kind, known)}", f"one of {', '.join(known)}")


def _path(what: str, relative_to: Path) -> bool:
    return "://" in what or (relative_to / what).exists()


def _described(kind: str) -> dict[str, Any]:
    """Return what the class behind a kind says of itself; of one that says nothing the first line of its docstring."""
    try:
        found = models.adapter(kind)
    except (ImportError, AttributeError) as error:
        return _row(How(f"cannot be imported: {error}", f"{kind}:…"), [kind])
    how = getattr(found, "how", None)
    if not isinstance(how, How):
        how = How((found.__doc__ or kind).strip().splitlines()[0], f"{kind}:…")
    return _row(how, _absent(how.needs))


def _row(how: How, missing: list[str]) -> dict[str, Any]:
    told = {"what": how.what, "example": how.example, "settings": dict(how.settings), "extra": how.extra}
    return told | {"missing": missing, "cure": _install(how.extra) if missing else ""}


def _absent(modules: Iterable[str]) -> list[str]:
    return [module for module in modules if find_spec(module) is None]


def _install(extra: str) -> str:
    return f"pip install 'byrote[{extra}]'" if extra else "pip install byrote"


def _afar(uri: str, revision: str, relative_to: Path) -> bool:
    """Tell whether a URI names something of the hub that is not on this machine yet."""
    kind, _, name = uri.partition(":")
    if kind not in _OF_HUB or not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", name):
        return False
    if (relative_to / name).exists() or find_spec("huggingface_hub") is None:
        return False
    from huggingface_hub import try_to_load_from_cache

    return not isinstance(try_to_load_from_cache(name, _OF_HUB[kind], revision=revision or None), str)


def _fetch(what: str, uri: str, revision: str) -> Check:
    name = uri.partition(":")[2]
    more = f" --revision {revision}" if revision else ""
    says = f"{name} is no path here and not among what was fetched from the hub; the first use fetches it, or do it now"
    return Check(what, False, says, f"hf download {name}{more}")


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"


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
        more = torch.cuda.device_count() - 1
        return f"cuda: {torch.cuda.get_device_name(0)}" + (f" and {more} more" if more else "")
    return "mps" if torch.backends.mps.is_available() else "none: the CPU is used"
