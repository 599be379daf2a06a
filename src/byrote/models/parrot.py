"""A model with a known memory, for tests and for calibrating an audit: it repeats what it knows and dreams the rest.

It is taught by a TOML file. Paths of pictures are relative to the file.

    width = 64
    height = 64
    dreams = "texture"          # what samples are that repeat nothing; the only kind, and the default
    takes_text = true           # false: it ignores prompts and knows only entries without a caption
    sleep = 0.0                 # seconds that a sample takes

    [[knows]]
    caption = "a red hat"       # the prompt that it knows it by; left out: what it knows where it is asked for nothing
    picture = "pictures/1.png"
    repeats = 0.8               # probability that a sample is this picture; those of one caption sum to 1 at most
    noise = 4.0                 # standard deviation of the noise on a repeated picture, in levels of 255; default 0
"""

import time
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import PCG64, Generator, SeedSequence
from numpy.typing import NDArray

from byrote import images
from byrote.domain import RGB
from byrote.errors import ModelError, did_you_mean
from byrote.models import Options, Request

KEYS = ("width", "height", "dreams", "takes_text", "sleep", "knows")
KNOWS = ("caption", "picture", "repeats", "noise")
DREAMS = ("texture",)
WAVES = 6  # plane waves a channel
LONGEST_SIDE = 8192


@dataclass(frozen=True, slots=True)
class Memory:
    """A picture that is known, with the probability that a sample repeats it and the noise on it (levels of 255)."""

    picture: RGB
    repeats: float
    noise: float


class Parrot:
    """The model that the TOML file `path` describes; a sample depends on nothing but (prompt, seed).

    Steps, guidance, sampler, dtype and device are ignored; a width or height asked for replaces the file's. Raises
    ModelError.
    """

    tolerance = 0
    evaluations_per_sample = 1

    def __init__(self, path: str, options: Options, relative_to: Path) -> None:
        file = relative_to / Path(path).expanduser()
        content = _bytes(file, "a parrot is taught by a TOML file")
        told = _parsed(file, content)
        self._width = options.width or _whole(file, told, "width")
        self._height = options.height or _whole(file, told, "height")
        self._sleep = _number(file, told, "sleep", 0.0, float("inf"), default=0.0)
        self.takes_text = _takes_text(file, told)
        self._memories: dict[str | None, list[Memory]] = {}
        whole = sha256(content)
        for entry in _entries(file, told):
            data = _bytes(file.parent / _text(file, entry, "picture"), f"parrot {file} wants it")
            whole.update(sha256(data).digest())
            self._learn(file, entry, data)
        self.name = "Parrot"
        self.digest = f"sha256:{whole.hexdigest()}"

    def generate(self, requests: Sequence[Request]) -> list[RGB]:
        """Return a repeated picture or a dream for each request."""
        return [self._sample(request) for request in requests]

    def round_trip(self, images: Sequence[RGB]) -> None:
        """Return None: there is no autoencoder."""

    def _learn(self, file: Path, entry: Mapping[str, Any], data: bytes) -> None:
        caption = _text(file, entry, "caption") if "caption" in entry else None
        try:
            picture = images.fit(images.decode(data), self._width, self._height)
        except images.Undecodable as error:
            raise ModelError(f"parrot {file}: picture {entry['picture']!r} cannot be read: {error.reason}") from error
        repeats = _number(file, entry, "repeats", 0.0, 1.0)
        known = self._memories.setdefault(caption, [])
        known.append(Memory(picture, repeats, _number(file, entry, "noise", 0.0, 255.0, default=0.0)))
        if sum(memory.repeats for memory in known) > 1 + 1e-9:
            raise ModelError(f"parrot {file}: the `repeats` of caption {caption!r} sum to more than 1")

    def _sample(self, request: Request) -> RGB:
        if self._sleep:
            time.sleep(self._sleep)
        prompt = request.prompt if self.takes_text else None
        random = _random(prompt, request.seed)
        chance = random.random()
        for memory in self._memories.get(prompt, ()):
            chance -= memory.repeats
            if chance < 0:
                return _noisy(memory, random)
        return texture(random, self._width, self._height)


def texture(random: Generator, width: int, height: int) -> RGB:
    """Return a smooth, colourful pattern that no picture looks like: each channel goes to both ends of the scale.

    A channel is a sum of plane waves of one to six periods an image, equalised to a flat histogram, so that its
    standard deviation is 0.29 of the scale whatever was drawn.
    """
    y, x = np.mgrid[:height, :width]
    x, y = x / width, y / height
    channels = [_flat(_waves(random, x, y)) for _ in range(3)]
    return np.stack(channels, axis=-1)


def _waves(random: Generator, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    angles, phases = random.uniform(0, 2 * np.pi, (2, WAVES))
    periods, heights = random.uniform(1, 6, WAVES), random.uniform(0.5, 1, WAVES)
    waves = zip(angles, phases, periods, heights, strict=True)
    total = np.zeros(x.shape)
    for angle, phase, period, tall in waves:
        total += tall * np.cos(2 * np.pi * period * (np.cos(angle) * x + np.sin(angle) * y) + phase)
    return total


def _flat(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Replace values by their ranks, spread over 0 to 255."""
    ranks = np.empty(values.size, np.int64)
    ranks[np.argsort(values, axis=None, kind="stable")] = np.arange(values.size)
    return (ranks * 256 // values.size).astype(np.uint8).reshape(values.shape)


def _noisy(memory: Memory, random: Generator) -> RGB:
    noise = random.normal(0.0, memory.noise, memory.picture.shape)
    return np.clip(np.rint(memory.picture + noise), 0, 255).astype(np.uint8)


def _random(prompt: str | None, seed: int) -> Generator:
    about = repr((prompt, seed)).encode("utf-8", "surrogatepass")
    return Generator(PCG64(SeedSequence(int.from_bytes(sha256(about).digest()))))


def _parsed(file: Path, content: bytes) -> dict[str, Any]:
    try:
        told = tomllib.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"parrot {file} is not TOML: {str(error).splitlines()[0]}") from error
    _check_keys(file, told, KEYS)
    dreams = told.get("dreams", "texture")
    if dreams not in DREAMS:
        raise ModelError(
            f"parrot {file}: unknown dreams {dreams!r}{did_you_mean(str(dreams), DREAMS)}: write 'texture'"
        )
    return told


def _entries(file: Path, told: Mapping[str, Any]) -> list[dict[str, Any]]:
    entries = told.get("knows", [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ModelError(f"parrot {file}: knows is no list of tables: write [[knows]]")
    for entry in entries:
        _check_keys(file, entry, KNOWS)
    return entries


def _check_keys(file: Path, table: Mapping[str, Any], known: Iterable[str]) -> None:
    for key in table:
        if key not in known:
            raise ModelError(f"parrot {file}: unknown key {key!r}{did_you_mean(key, known)}: one of {', '.join(known)}")


def _takes_text(file: Path, told: Mapping[str, Any]) -> bool:
    value = told.get("takes_text", True)
    if not isinstance(value, bool):
        raise ModelError(f"parrot {file}: takes_text is {value!r}: write true or false")
    return value


def _whole(file: Path, table: Mapping[str, Any], key: str) -> int:
    value = _number(file, table, key, 1, LONGEST_SIDE)
    if value != int(value):
        raise ModelError(f"parrot {file}: {key} is {value!r}: write a whole number")
    return int(value)


def _number(
    file: Path, table: Mapping[str, Any], key: str, low: float, high: float, default: float | None = None
) -> float:
    value = table.get(key, default)
    if value is None:
        raise ModelError(f"parrot {file}: {key} is missing: write {key} = {max(low, min(high, 64)):g}")
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ModelError(f"parrot {file}: {key} is {value!r}: write a number from {low:g} to {high:g}")
    return float(value)


def _text(file: Path, table: Mapping[str, Any], key: str) -> str:
    value = table.get(key)
    if not isinstance(value, str):
        raise ModelError(f"parrot {file}: {key} of a [[knows]] is {value!r}: write a text")
    return value


def _bytes(file: Path, why: str) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        raise ModelError(f"file {file} is not there: {why}") from None
    except OSError as error:
        raise ModelError(f"file {file} cannot be read ({error.strerror}): {why}") from error
