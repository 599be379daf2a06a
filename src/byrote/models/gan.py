"""What generators from latents share, whatever file holds them: settings, latents, class labels and levels.

A latent is drawn on the CPU by numpy's PCG64 from the request's seed alone, in float32, so that it is the same alone
and in a batch, on every device and for every kind of file. Raises ModelError of one line everywhere.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path

import numpy as np
from numpy.random import PCG64, Generator
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from byrote.domain import RGB
from byrote.errors import ModelError, did_you_mean
from byrote.models import Options, Request, refuse
from byrote.models.digests import of_files
from byrote.models.memory import short

SETTINGS = {
    "z": "numbers of a latent, like 128 or 100x1x1",
    "distribution": "normal, or uniform from -1 to 1",
    "truncation": "largest size of a number of a normal latent, like 2",
    "classes": "how many classes, or a file with their names, one a line",
    "labels": "index or onehot",
    "range": "-1..1, 0..1 or 0..255: black and white of a float output",
    "layout": "nchw or nhwc",
}
RANGES = {"-1..1": (-1.0, 1.0), "0..1": (0.0, 1.0), "0..255": (0.0, 255.0)}
UNFOLLOWED = (
    *("dtype", "steps", "guidance", "sampler", "width", "height", "negative", "lora", "embeddings", "revision"),
    *("variant", "offload", "slicing", "compile"),
)
TOLERANCE = 2  # levels of 255; nobody published it: tests on a CPU hold it, a GPU was not measured
LARGEST_LATENT = 1 << 24
MOST_CLASSES = 1_000_000
LONGEST_NAMES = 1 << 22  # bytes of a file of class names


@dataclass(frozen=True, slots=True)
class Latents:
    """How latents are drawn: `shape` without the batch; `truncation` None leaves the normal distribution whole.

    Brock et al. 2019, arXiv:1809.11096, section 3.1: numbers beyond the truncation are drawn anew.
    """

    shape: tuple[int, ...]
    distribution: str = "normal"
    truncation: float | None = None

    def draw(self, random: Generator) -> NDArray[np.float32]:
        """Return one latent."""
        if self.distribution == "uniform":
            return random.uniform(-1, 1, self.shape).astype(np.float32)
        if self.truncation is None:
            return random.standard_normal(self.shape, np.float32)
        low = ndtr(-self.truncation)  # drawing anew until it fits is drawing from the middle of the distribution
        cut: NDArray[np.float64] = ndtri(low + (1 - 2 * low) * random.random(self.shape))
        return cut.astype(np.float32)


@dataclass(frozen=True)
class Classes:
    """The classes of a conditional generator: how many, and their names where they are known."""

    count: int
    names: tuple[str, ...] = ()

    @cached_property
    def _numbers(self) -> dict[str, list[int]]:
        numbers: dict[str, list[int]] = {}
        for number, name in enumerate(self.names):
            numbers.setdefault(name.casefold(), []).append(number)
        return numbers

    def number(self, uri: str, prompt: str) -> int:
        """Return the class that a prompt means: its name, else its number from 0. Raises ModelError."""
        said = prompt.strip()
        named = self._numbers.get(said.casefold(), [])
        if len(named) > 1:
            told = " and ".join(map(str, named))
            raise ModelError(f"model {uri!r}: class {said!r} is {told}: ask by the number, or make the names differ")
        if named:
            return named[0]
        if re.fullmatch(r"[0-9]{1,9}", said) and int(said) < self.count:
            return int(said)
        hint = did_you_mean(said.casefold(), self._numbers)
        ways = "or a name of its classes file" if self.names else "or name them in a file, classes=FILE"
        raise ModelError(f"model {uri!r}: no class {said[:80]!r}{hint}: ask by a number below {self.count}, {ways}")


@dataclass(frozen=True, slots=True)
class Ask:
    """What requests become: latents [n, *shape] and classes [n], None for a generator without classes.

    No prompt asks a conditional generator for a class that is drawn, evenly, from the same seed after the latent.
    """

    uri: str
    latents: Latents
    classes: Classes | None

    def of(self, requests: Sequence[Request]) -> tuple[NDArray[np.float32], NDArray[np.int64] | None]:
        """Return the inputs of the generator. Raises ModelError for a prompt that is no class."""
        drawn = [self._one(request) for request in requests]
        z = np.stack([latent for latent, _ in drawn])
        return z, np.array([label for _, label in drawn], np.int64) if self.classes else None

    def _one(self, request: Request) -> tuple[NDArray[np.float32], int]:
        random = Generator(PCG64(request.seed))
        latent = self.latents.draw(random)
        if self.classes is None:
            if request.prompt is not None:
                raise ModelError(f"model {self.uri!r} takes no prompt: ask it for samples without one")
            return latent, 0
        if request.prompt is None:
            return latent, int(random.integers(self.classes.count))
        return latent, self.classes.number(self.uri, request.prompt)


def onehot(labels: NDArray[np.int64], count: int) -> NDArray[np.float32]:
    """Return rows [n, count] with a 1 at the label."""
    return np.eye(count, dtype=np.float32)[labels]


def found(uri: str, place: str, relative_to: Path) -> Path:
    """Return the file that a URI names. Raises ModelError."""
    file = relative_to / Path(place).expanduser()
    if not file.is_file():
        raise ModelError(f"model {uri!r}: file {file} is not there")
    return file


def check_options(options: Options, kind: str) -> None:
    """Refuse what no generator from latents can follow. Raises ModelError."""
    refuse(options, kind, *UNFOLLOWED)
    if not re.fullmatch(r"cpu|cuda(:\d{1,3})?", options.device):
        hint = did_you_mean(options.device, ("cpu", "cuda"))
        raise ModelError(f"a {kind} model cannot run on device {options.device!r}{hint}: one of cpu, cuda, cuda:1")


def latents(uri: str, given: Mapping[str, str], shape: tuple[int, ...]) -> Latents:
    """Return how latents of `shape` are drawn by the settings. Raises ModelError."""
    distribution = choice(uri, given, "distribution", ("normal", "uniform"), "normal")
    truncation = positive(uri, given, "truncation")
    if truncation is not None and distribution == "uniform":
        raise ModelError(f"model {uri!r}: truncation is for normal latents: leave it or distribution=uniform out")
    return Latents(shape, distribution, truncation)


def size(uri: str, given: Mapping[str, str]) -> tuple[int, ...] | None:
    """Return the shape of a latent that the setting `z` gives, without the batch; None where it is left out."""
    said = given.get("z")
    if said is None:
        return None
    if not re.fullmatch(r"[1-9]\d{0,7}(x[1-9]\d{0,7}){0,3}", said):
        raise ModelError(f"model {uri!r}: z={said} is no size: write z=128, or z=100x1x1")
    shape = tuple(int(side) for side in said.split("x"))
    if prod(shape) > LARGEST_LATENT:
        raise ModelError(f"model {uri!r}: z={said} is too large: {LARGEST_LATENT:,} numbers at most")
    return shape


def classes(uri: str, given: Mapping[str, str], relative_to: Path) -> Classes | None:
    """Return the classes that the setting gives, by their number or a file of names. Raises ModelError."""
    said = given.get("classes")
    if said is None:
        return None
    if re.fullmatch(r"\d{1,7}", said):
        if not 0 < int(said) <= MOST_CLASSES:
            raise ModelError(f"model {uri!r}: classes={said} is no number from 1 to {MOST_CLASSES:,}")
        return Classes(int(said))
    names = _names(uri, relative_to / Path(said).expanduser())
    return Classes(len(names), names)


def choice(uri: str, given: Mapping[str, str], key: str, known: Iterable[str], default: str) -> str:
    """Return the value of a setting that is one of `known`. Raises ModelError."""
    said = given.get(key, default)
    if said not in known:
        raise ModelError(f"model {uri!r}: {key}={said}{did_you_mean(said, known)}: one of {', '.join(known)}")
    return said


def positive(uri: str, given: Mapping[str, str], key: str) -> float | None:
    """Return the value of a setting that is a number above 0; None where it is left out. Raises ModelError."""
    said = given.get(key)
    if said is None:
        return None
    if not re.fullmatch(r"\d{1,6}(\.\d{1,9})?", said) or float(said) == 0:
        raise ModelError(f"model {uri!r}: {key}={said} is no number above 0: write {key}=0.7")
    return float(said)


def layout(uri: str, given: Mapping[str, str]) -> str:
    """Return `nchw`, `nhwc`, or nothing where the images' shape is to tell. Raises ModelError."""
    return choice(uri, given, "layout", ("nchw", "nhwc"), "nchw") if "layout" in given else ""


def span(uri: str, given: Mapping[str, str]) -> tuple[float, float]:
    """Return black and white of a float output. Raises ModelError."""
    return RANGES[choice(uri, given, "range", RANGES, "-1..1")]


def levels(uri: str, made: NDArray[np.generic], order: str, ends: tuple[float, float]) -> list[RGB]:
    """Turn what a generator gave to images: uint8 as it is, floats from `ends` to 0 and 255, grey to three channels.

    `made` is [n, c, h, w], [n, h, w, c] or [n, h, w], with 1 or 3 channels. Raises ModelError.
    """
    pixels = _last_channel(uri, made, order)
    if np.issubdtype(pixels.dtype, np.floating):
        pixels = _scaled(uri, pixels.astype(np.float32), ends)
    elif pixels.dtype != np.uint8:
        raise ModelError(f"model {uri!r} gave images of {pixels.dtype}: only floats and uint8 are read")
    three = np.broadcast_to(pixels, (*pixels.shape[:3], 3)).astype(np.uint8)
    return [np.ascontiguousarray(image) for image in three]


def digest(files: Mapping[str, Path], told: Mapping[str, str], names: Classes | None) -> str:
    """Digest the settings, the classes and the files: name, size and content, sorted by name."""
    kept = {key: value for key, value in told.items() if key not in ("classes", "code")}  # places, which may change
    about = repr((sorted(kept.items()), (names.count, names.names) if names else None))
    return of_files(sorted(files.items()), about)


@contextmanager
def running(uri: str, extra: str, size: int) -> Iterator[None]:
    """Tell what goes wrong in a library with a batch of `size` as one line. Raises ModelError, OutOfMemory."""
    try:
        with short(uri, size):
            yield
    except ImportError as error:
        told = f"model {uri!r} wants a library ({first_line(error)}): pip install 'byrote[{extra}]'"
        raise ModelError(told) from error
    except (OSError, ValueError, TypeError, RuntimeError, LookupError, AttributeError, AssertionError) as error:
        raise ModelError(f"model {uri!r} cannot be run: {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    """Return the first line of an error that says something, at most 200 characters."""
    text = str(error).strip()
    inner = re.search(r"^\w*Error: (.+)$", text, re.MULTILINE)  # TorchScript puts its traceback before it
    return (inner[1] if inner else next(iter(text.splitlines()), type(error).__name__))[:200]


def _names(uri: str, file: Path) -> tuple[str, ...]:
    try:
        if file.stat().st_size > LONGEST_NAMES:
            raise ModelError(f"model {uri!r}: classes file {file} is too long: {LONGEST_NAMES:,} bytes at most")
        names = tuple(line.strip() for line in file.read_text("utf-8").rstrip().splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(
            f"model {uri!r}: classes file {file} cannot be read ({first_line(error)}): write a number, or a text file"
        ) from error
    if not all(names):
        raise ModelError(f"model {uri!r}: classes file {file} has an empty line: one name a line, from class 0 on")
    return names


def _last_channel(uri: str, made: NDArray[np.generic], order: str) -> NDArray[np.generic]:
    """Return [n, h, w, c]. Raises ModelError where the shape does not tell which axis has the channels."""
    if made.ndim == 3:
        return made[..., None]
    if made.ndim != 4:
        raise ModelError(f"model {uri!r} gave {list(made.shape)}: images are [n, c, h, w] or [n, h, w, c]")
    able = [name for name, axis in (("nchw", 1), ("nhwc", 3)) if made.shape[axis] in (1, 3)]
    if order not in able and (order or len(able) != 1):
        told = f"as {order} " if order else ""
        raise ModelError(
            f"model {uri!r} gave {list(made.shape)}, which {told}has no one axis of 1 or 3 channels: "
            "write layout=nchw or layout=nhwc"
        )
    return made.transpose(0, 2, 3, 1) if (order or able[0]) == "nchw" else made


def _scaled(uri: str, pixels: NDArray[np.float32], ends: tuple[float, float]) -> NDArray[np.uint8]:
    low, high = ends
    if not np.isfinite(pixels).all():
        raise ModelError(f"model {uri!r} gave images that are not numbers: its weights are broken, or z is wrong")
    middles = np.median(pixels.reshape(len(pixels), -1), axis=1)
    below = low - (high - low) / 4 if low == 0 else 4 * low  # far beyond what a generator without a bound overshoots
    if (middles < below).any() or (middles > 4 * high).any():
        said = f"{float(middles.min()):.3g} to {float(middles.max()):.3g}"
        raise ModelError(f"model {uri!r} gave images whose median is {said}: set range, one of {', '.join(RANGES)}")
    scaled = (pixels - np.float32(low)) * np.float32(255 / (high - low))
    return scaled.round().clip(0, 255).astype(np.uint8)
