"""A model with a known memory, for tests and for calibrating an audit: it repeats what it knows and dreams the rest.

It is taught by a TOML file. Paths of pictures are relative to the file.

    width = 64
    height = 64
    dreams = "texture"          # what samples are that repeat nothing: "texture", the default, or "influence"
    pictures = ["1.png", ...]   # dreams = "influence": those that dreams are mixed from, four at least
    takes_text = true           # false: it ignores prompts and knows only entries without a caption
    sleep = 0.0                 # seconds that a sample takes

    [[knows]]
    caption = "a red hat"       # the prompt that it knows it by; left out: what it knows where it is asked for nothing
    picture = "pictures/1.png"
    repeats = 0.8               # probability that a sample is this picture; those of one caption sum to 1 at most
    noise = 4.0                 # standard deviation of the noise on a repeated picture, in levels of 255; default 0
    crop = 0.9                  # share of each edge that it shows, around the centre, to a pixel of a sample; default 1
    shift = 2                   # most pixels that each sample shows it moved, sideways and up or down; default 0
    colour = [1.1, 1.0, 0.9]    # factors of red, green and blue; default 1 each
    brightness = 10.0           # levels of 255 that are added; default 0
    changes = [0.0, 0.0, 1.0, 0.4]  # left, top, right, bottom as shares of the edges: dreamt anew in every sample

A memory with `changes` is a template: a fixed layout with a part that is never twice the same.

Influence is what training leaves in samples without copying: a dream is a mix of four of the pictures, nearer to
pictures in general than a texture is, and none is near any: where a mix comes within `APART` of a picture or of its
mirror image, a texture is mixed in until it does not.
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
from byrote.models import How, Options, Request

KEYS = ("width", "height", "dreams", "pictures", "takes_text", "sleep", "knows")
KNOWS = ("caption", "picture", "repeats", "noise", "crop", "shift", "colour", "brightness", "changes")
DREAMS = ("texture", "influence")
MIXED = 4  # pictures in a dream of influence
APART = 0.17  # RMS of levels / 255 that keeps such a dream from every picture; ours: a little above tau, 0.15
TEXTURED = (0.0, 0.25, 0.5, 0.75)  # shares of a texture in it that are tried, before it is all texture
WAVES = 6  # plane waves a channel
LONGEST_SIDE = 8192


@dataclass(frozen=True, slots=True)
class Memory:
    """A picture that is known, the probability that a sample repeats it, and with what errors, as the file says.

    Of a `crop` the picture is larger than a sample, which shows its middle. `changes` is the box (left, top, right,
    bottom) that is dreamt anew, in pixels; an empty one is none.
    """

    picture: RGB
    repeats: float
    noise: float
    shift: int
    colour: tuple[float, ...]
    brightness: float
    changes: tuple[int, ...]


class Parrot:
    """The model that the TOML file `path` describes; a sample depends on nothing but (prompt, seed).

    Steps, guidance, sampler, dtype and device are ignored; a width or height asked for replaces the file's. Raises
    ModelError.
    """

    tolerance = 0
    evaluations_per_sample = 1
    how = How("a model with a known memory, for tests and calibration, taught by a TOML file", "parrot:parrot.toml")

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
        self._influences: list[RGB] = []
        for name in _pictures(file, told):
            data = _bytes(file.parent / name, f"parrot {file} wants it")
            whole.update(sha256(data).digest())
            self._influences.append(self._fitted(file, name, data))
        self.name = "Parrot"
        self.digest = f"sha256:{whole.hexdigest()}"

    def generate(self, requests: Sequence[Request]) -> list[RGB]:
        """Return a repeated picture or a dream for each request."""
        return [self._sample(request) for request in requests]

    def round_trip(self, images: Sequence[RGB]) -> None:
        """Return None: there is no autoencoder."""

    def _learn(self, file: Path, entry: Mapping[str, Any], data: bytes) -> None:
        caption = _text(file, entry, "caption") if "caption" in entry else None
        picture = self._fitted(file, entry["picture"], data)
        known = self._memories.setdefault(caption, [])
        known.append(_memory(file, entry, picture))
        if sum(memory.repeats for memory in known) > 1 + 1e-9:
            raise ModelError(f"parrot {file}: the `repeats` of caption {caption!r} sum to more than 1")

    def _fitted(self, file: Path, name: str, data: bytes) -> RGB:
        try:
            return images.fit(images.decode(data), self._width, self._height)
        except images.Undecodable as error:
            raise ModelError(f"parrot {file}: picture {name!r} cannot be read: {error.reason}") from error

    def _sample(self, request: Request) -> RGB:
        if self._sleep:
            time.sleep(self._sleep)
        prompt = request.prompt if self.takes_text else None
        random = _random(prompt, request.seed)
        chance = random.random()
        for memory in self._memories.get(prompt, ()):
            chance -= memory.repeats
            if chance < 0:
                return _repeated(memory, random, self._width, self._height)
        if self._influences:
            return influenced(random, self._influences)
        return texture(random, self._width, self._height)


def influenced(random: Generator, pictures: Sequence[RGB]) -> RGB:
    """Return a mix of four pictures that is `APART` from each of all pictures and from its mirror image, or a texture.

    Weights are drawn (Dirichlet, 4 each) so that no picture outweighs the rest.
    """
    chosen = random.choice(len(pictures), MIXED, replace=False)
    weights = random.dirichlet(np.full(MIXED, 4.0))
    mixed = sum(weight * pictures[k].astype(np.float64) for weight, k in zip(weights, chosen, strict=True))
    height, width = pictures[0].shape[:2]
    dream = texture(random, width, height)
    for share in TEXTURED:
        made: RGB = np.rint(mixed + share * (dream - mixed)).astype(np.uint8)
        if min(_nearest(made, pictures), _nearest(made[:, ::-1], pictures)) >= APART:
            return made
    return dream


def _nearest(image: RGB, pictures: Sequence[RGB]) -> float:
    """Return the least RMS of levels / 255 to any picture."""
    apart = (np.subtract(image, picture, dtype=np.float32) for picture in pictures)
    return float(min(np.sqrt(np.mean(difference**2)) for difference in apart)) / 255


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


def _repeated(memory: Memory, random: Generator, width: int, height: int) -> RGB:
    """Return a picture as it is remembered."""
    levels = _window(memory, random, width, height) * np.array(memory.colour) + memory.brightness
    if memory.changes:
        left, top, right, bottom = memory.changes
        levels[top:bottom, left:right] = texture(random, right - left, bottom - top)
    noise = random.normal(0.0, memory.noise, levels.shape)
    shown: RGB = np.clip(np.rint(levels + noise), 0, 255).astype(np.uint8)
    return shown


def _window(memory: Memory, random: Generator, width: int, height: int) -> RGB:
    """Return the part of a picture that is shown; beyond its edges they are repeated."""
    most = memory.shift
    right, down = random.integers(0, 2 * most, 2, endpoint=True).tolist() if most else (0, 0)
    padded = np.pad(memory.picture, ((most, most), (most, most), (0, 0)), mode="edge")
    top = (memory.picture.shape[0] - height) // 2 + down
    left = (memory.picture.shape[1] - width) // 2 + right
    return padded[top : top + height, left : left + width]


def _enlarged(picture: RGB, crop: float) -> RGB:
    """Return the picture so large that its middle, of the size that it has now, shows a share `crop` of each edge."""
    tall, wide = (side + 2 * round((side / crop - side) / 2) for side in picture.shape[:2])
    return images.resize(picture, wide, tall)


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
            f"parrot {file}: unknown dreams {dreams!r}{did_you_mean(str(dreams), DREAMS)}: one of {', '.join(DREAMS)}"
        )
    return told


def _entries(file: Path, told: Mapping[str, Any]) -> list[dict[str, Any]]:
    entries = told.get("knows", [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ModelError(f"parrot {file}: knows is no list of tables: write [[knows]]")
    for entry in entries:
        _check_keys(file, entry, KNOWS)
    return entries


def _pictures(file: Path, told: Mapping[str, Any]) -> list[str]:
    names, influence = told.get("pictures", []), told.get("dreams") == "influence"
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ModelError(f"parrot {file}: pictures is {names!r}: write a list of files")
    if influence and len(names) < MIXED:
        raise ModelError(f"parrot {file}: {len(names)} pictures to be influenced by: list {MIXED} at least")
    if names and not influence:
        raise ModelError(f'parrot {file}: pictures go with dreams = "influence": write both or neither')
    return names


def _memory(file: Path, entry: Mapping[str, Any], picture: RGB) -> Memory:
    return Memory(
        picture=_enlarged(picture, _number(file, entry, "crop", 0.1, 1.0, default=1.0)),
        repeats=_number(file, entry, "repeats", 0.0, 1.0),
        noise=_number(file, entry, "noise", 0.0, 255.0, default=0.0),
        shift=_whole(file, entry, "shift", 0, default=0),
        colour=_numbers(file, entry, "colour", 3, 4.0, default=(1.0, 1.0, 1.0)),
        brightness=_number(file, entry, "brightness", -255.0, 255.0, default=0.0),
        changes=_box(file, entry, picture),
    )


def _box(file: Path, entry: Mapping[str, Any], picture: RGB) -> tuple[int, ...]:
    """Return the part that changes, in pixels."""
    if "changes" not in entry:
        return ()
    height, width = picture.shape[:2]
    shares = zip(_numbers(file, entry, "changes", 4, 1.0), (width, height, width, height), strict=True)
    left, top, right, bottom = (round(share * side) for share, side in shares)
    if left >= right or top >= bottom:
        raise ModelError(
            f"parrot {file}: changes is {entry['changes']!r}, no pixel of {width} x {height}: "
            "write [left, top, right, bottom] as shares of the edges"
        )
    return left, top, right, bottom


def _check_keys(file: Path, table: Mapping[str, Any], known: Iterable[str]) -> None:
    for key in table:
        if key not in known:
            raise ModelError(f"parrot {file}: unknown key {key!r}{did_you_mean(key, known)}: one of {', '.join(known)}")


def _takes_text(file: Path, told: Mapping[str, Any]) -> bool:
    value = told.get("takes_text", True)
    if not isinstance(value, bool):
        raise ModelError(f"parrot {file}: takes_text is {value!r}: write true or false")
    return value


def _whole(file: Path, table: Mapping[str, Any], key: str, low: int = 1, default: int | None = None) -> int:
    value = _number(file, table, key, low, LONGEST_SIDE, default)
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


def _numbers(
    file: Path, table: Mapping[str, Any], key: str, n: int, high: float, default: tuple[float, ...] | None = None
) -> tuple[float, ...]:
    values = table.get(key, default)
    if not isinstance(values, list | tuple) or len(values) != n:
        raise ModelError(f"parrot {file}: {key} is {values!r}: write a list of {n} numbers from 0 to {high:g}")
    return tuple(_number(file, {key: value}, key, 0.0, high) for value in values)


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
