"""A function of yours as a model: `function:package.module:callable`, called as `f(prompt, seeds)`.

It gets one prompt (a text, or None for no text at all) and a sequence of seeds, and returns one image for each seed, in
their order: uint8 arrays, float arrays from 0 to 1 (both [height, width, 3], or [height, width] for grey) or Pillow
images. What an image shows may depend on the prompt and its own seed only.

The module is imported from where Python looks, and from the folder of the plan: importing it runs it, as does any call,
so name your own only.
"""

import sys
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from importlib import import_module, invalidate_caches, reload
from io import BytesIO
from itertools import groupby
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image

from byrote import images
from byrote.domain import RGB
from byrote.errors import ModelError, did_you_mean
from byrote.models import How, Options, Request, refuse, settings

SETTINGS = {
    "text": "true or false: whether it takes prompts",
    "evaluations": "calls of the network that a sample costs",
    "version": "a word of yours that stands for the weights",
    "tolerance": "levels of 255 by which a sample may differ alone and in a batch",
}
OWN = ("dtype", "device", "steps", "guidance", "sampler", "width", "height", "negative", "lora", "embeddings")
LOADED = ("revision", "variant", "offload", "slicing", "compile")
MODES = ("RGB", "RGBA", "L", "LA", "P", "1")
"""Pillow's modes that are taken; what is transparent lies over white."""
_HALF = 1 / 510
"""Half a level: what rounding may add to a float at either end of the scale."""
_imported: dict[str, str] = {}
"""The digests of the files of the modules that were imported here, as they were then."""


class Function:
    """The model that a callable is. Raises ModelError, in the constructor for what is no such callable.

    `digest` covers the bytes of the file of its module (and of that which the callable comes from), its settings, and
    the attribute `digest` of the callable, a text, where it has one. Whatever else the callable reads, weights above
    all, is not seen: let `digest` tell it, or change `version` with it.
    """

    how = How("a function of yours", "function:package.module:callable", SETTINGS)

    def __init__(self, path: str, options: Options, relative_to: Path) -> None:
        place, given = settings(path, SETTINGS)
        refuse(options, "function", *OWN, *LOADED)
        module, colon, self._attribute = place.partition(":")
        if not colon or not all(part.isidentifier() for part in [*module.split("."), *self._attribute.split(".")]):
            raise ModelError(f"model 'function:{path}': write function:package.module:callable")
        self.name = place
        self.takes_text = _truth(path, given.get("text", "true"))
        self.evaluations_per_sample = _whole(path, given, "evaluations", 1, 10**6)
        self.tolerance = _whole(path, given, "tolerance", 0, 255)
        self._module = _found(module, relative_to.resolve())
        self._call = _callable(self._module, self._attribute)
        self.digest = _digest(self._module, self._call, place, given)
        self._size: tuple[int, ...] | None = None

    def generate(self, requests: Sequence[Request]) -> list[RGB]:
        """Return one image for each request: the function is called once for each prompt, with all seeds of it."""
        made: dict[int, RGB] = {}
        order = sorted(range(len(requests)), key=lambda k: _rank(requests[k].prompt))
        for prompt, grouped in groupby(order, key=lambda k: requests[k].prompt):
            places = list(grouped)
            made |= zip(places, self._asked(prompt, [requests[k].seed for k in places]), strict=True)
        return [made[k] for k in range(len(requests))]

    def round_trip(self, images: Sequence[RGB]) -> None:
        """Return None: an autoencoder is not known of."""

    def _asked(self, prompt: str | None, seeds: list[int]) -> list[RGB]:
        given = self._call(prompt, seeds)
        if not isinstance(given, Iterable):
            raise ModelError(f"function {self.name} returned {_kind(given)}: return one image for each seed")
        found = list(given)
        if len(found) != len(seeds):
            raise ModelError(f"function {self.name} returned {len(found)} images for {len(seeds)} seeds: one for each")
        made = [_rgb(self.name, image) for image in found]
        self._size = self._size or made[0].shape
        for image in made:
            if image.shape != self._size:
                sizes = f"{_size(self._size)} and {_size(image.shape)}"
                raise ModelError(f"function {self.name} returned images of {sizes}: let all have one size")
        return made


def _found(name: str, folder: Path) -> ModuleType:
    """Import a module, again where its file has changed since this process did."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    invalidate_caches()
    try:
        module = sys.modules.get(name) or import_module(name)
        if _imported.setdefault(name, _of_file(module)) != _of_file(module):
            module = reload(module)
            _imported[name] = _of_file(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise ModelError(f"module {name!r} needs {error.name!r}, which is not installed") from error
        raise ModelError(f"module {name!r} is neither installed nor in {folder}: name one that is") from error
    except Exception as error:
        told = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise ModelError(f"module {name!r} fails when it is imported: {told}") from error
    return _the_one(module, name, folder)


def _the_one(module: ModuleType, name: str, folder: Path) -> ModuleType:
    """Refuse a module of the same name from elsewhere: it would be audited in the place of that beside the plan."""
    below = folder.joinpath(*name.split("."))
    beside = [path for path in (below.with_suffix(".py"), below / "__init__.py") if path.exists()]
    if beside and _file(module) != beside[0]:
        raise ModelError(f"module {name!r} is {_file(module)}, not {beside[0]}: give yours another name")
    return module


def _callable(module: ModuleType, attribute: str) -> Callable[..., Any]:
    found: Any = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            told = did_you_mean(part, [name for name in dir(found) if not name.startswith("_")])
            raise ModelError(f"module {module.__name__!r} has no {attribute!r}{told}")
        found = getattr(found, part)
    if not callable(found):
        raise ModelError(f"{attribute!r} of module {module.__name__!r} is {_kind(found)}: name a callable")
    call: Callable[..., Any] = found
    return call


def _digest(module: ModuleType, call: Callable[..., Any], place: str, given: dict[str, str]) -> str:
    own = getattr(call, "digest", "")
    if not isinstance(own, str):
        raise ModelError(f"function {place}: its attribute digest is {_kind(own)}: make it a text like 'sha256:…'")
    home = sys.modules.get(getattr(call, "__module__", None) or type(call).__module__, module)
    told = [place, own, *sorted(f"{key}={value}" for key, value in given.items())]
    whole = sha256("\0".join(told).encode("utf-8", "surrogatepass"))
    for each in dict.fromkeys((module, home)):
        whole.update(_of_file(each).encode())
    return f"sha256:{whole.hexdigest()}"


def _of_file(module: ModuleType) -> str:
    file = _file(module)
    return sha256(file.read_bytes()).hexdigest() if file is not None and file.is_file() else ""


def _file(module: ModuleType) -> Path | None:
    place = getattr(module, "__file__", None)
    return Path(place).resolve() if place else None


def _rgb(name: str, image: object) -> RGB:
    """Return an image as uint8 [height, width, 3]. Raises ModelError for anything that might be meant otherwise."""
    if isinstance(image, Image.Image):
        return _pillow(name, image)
    ways = "uint8 arrays, float arrays from 0 to 1 and Pillow images are taken"
    if not isinstance(image, np.ndarray):
        raise ModelError(f"function {name} returned {_kind(image)} for an image: {ways}")
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3)) or not image.size:
        raise ModelError(f"function {name} returned {_kind(image)} for an image: write [height, width, 3]")
    if image.dtype.kind == "f":
        image = _levels(name, image)
    if image.dtype != np.uint8:
        raise ModelError(f"function {name} returned {_kind(image)} for an image: {ways}")
    deep = image[..., None] if image.ndim == 2 else image
    return np.repeat(deep, 3, axis=2) if deep.shape[2] == 1 else np.array(deep)


def _levels(name: str, image: Any) -> RGB:
    low, high = float(image.min()), float(image.max())
    if not (low >= -_HALF and high <= 1 + _HALF):  # so that NaN is refused too
        raise ModelError(
            f"function {name} returned {_kind(image)} from {low:.3g} to {high:.3g}: bring floats to 0 to 1"
        )
    levels: RGB = np.rint(np.clip(image.astype(np.float64), 0, 1) * 255).astype(np.uint8)
    return levels


def _pillow(name: str, image: Image.Image) -> RGB:
    if image.mode not in MODES or 0 in image.size:
        width, height = image.size
        raise ModelError(f"function {name} returned a Pillow image of {width}x{height}, mode {image.mode}: write RGB")
    if image.mode == "RGB":
        return np.array(image)
    file = BytesIO()
    image.save(file, "PNG")
    return images.decode(file.getvalue())


def _rank(prompt: str | None) -> tuple[bool, str]:
    return prompt is not None, prompt or ""


def _truth(path: str, word: str) -> bool:
    if word not in ("true", "false"):
        raise ModelError(f"model 'function:{path}': text is {word!r}: write true or false")
    return word == "true"


def _whole(path: str, given: dict[str, str], key: str, low: int, high: int) -> int:
    word = given.get(key, str(low))
    if not (word.isascii() and word.isdigit() and len(word) < 10 and low <= int(word) <= high):
        raise ModelError(f"model 'function:{path}': {key} is {word!r}: write a whole number from {low} to {high}")
    return int(word)


def _size(shape: Sequence[int]) -> str:
    return f"{shape[1]}x{shape[0]}"


def _kind(thing: object) -> str:
    if isinstance(thing, np.ndarray):
        return f"an array of {thing.dtype} {list(thing.shape)}"
    return f"a {type(thing).__module__}.{type(thing).__qualname__}".replace("a builtins.", "a ")
