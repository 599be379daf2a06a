"""Samples made elsewhere as a model that can be asked only for what it holds: `recorded:PLACE`.

Which prompts and seeds it holds is told by names, by what lies beside the samples or by what is in them (see
`recording`). A sample whose seed is not told has its running number among the samples of its prompt, in the order of
their names, or the next number that is free.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from hashlib import sha256
from pathlib import Path

from byrote import images
from byrote.domain import RGB
from byrote.errors import ModelError
from byrote.models import How, Options, Request, refuse, settings, webui
from byrote.models.recording import NAMES, by_name, is_grid, opened, pattern
from byrote.models.webui import NOTHING, Told
from byrote.sources import files

SETTINGS = {
    "name": "a pattern of the names, like {prompt}_{seed}, or a regular expression with the groups prompt and seed",
    "text": "true or false: false where the samples were asked for with no text",
    "size": "512 or 512x768: the size to which all samples are brought",
    "mixed": "true or false: true where samples may differ in steps, guidance and the like",
}
OWN = ("dtype", "device", "steps", "guidance", "sampler", "width", "height", "negative", "lora", "embeddings")
LOADED = ("revision", "variant", "offload", "slicing", "compile")
NO_PROMPT = "samples of which no prompt is told"
GRIDS = "contact sheets"
COPIES = "copies of a sample: the same prompt, seed and bytes"
UNREADABLE = "samples that cannot be read, of which nothing else tells"
LONGEST_SIDE = 8192


class Recorded:
    """The samples below a place. Raises ModelError, in the constructor where no sample can be asked for.

    `held` are the seeds of each prompt in the order of the recording, `skipped` what was passed over, with its number.
    """

    name = "Recording"
    tolerance = 0
    evaluations_per_sample = 1
    how = How("samples made elsewhere: a folder, a tar file, parquet files", "recorded:FOLDER", SETTINGS)

    def __init__(self, path: str, options: Options, relative_to: Path) -> None:
        place, self._given = settings(path, SETTINGS)
        refuse(options, "recorded", *OWN, *LOADED)
        self._uri = f"recorded:{path}"
        self._size = _size(self._uri, self._given.get("size"))
        self.takes_text = _truth(self._uri, "text", self._given.get("text", "true"))
        mixed = _truth(self._uri, "mixed", self._given.get("mixed", "false"))
        names = (pattern(self._given["name"]),) if "name" in self._given else ()
        where = place if files.is_remote(place) else str(relative_to / Path(place).expanduser())
        self._recording = opened(where)
        self._passed = self._recording.passed
        self.skipped: Mapping[str, int] = self._passed
        told = list(self._told(names))
        if not mixed:
            self._check_alike(told)
        self._places = self._named(told)
        self.held: Mapping[str | None, Sequence[int]] = {text: tuple(seeds) for text, seeds in self._places.items()}

    @cached_property
    def digest(self) -> str:
        """Digest the settings, and the names and bytes of all samples and of what stands beside them."""
        whole = sha256(repr(sorted(self._given.items())).encode("utf-8", "surrogatepass"))
        try:
            for name, content in self._recording.digests():
                whole.update(f"{name}\0{content}\n".encode("utf-8", "surrogatepass"))
        except OSError as error:
            raise ModelError(f"{self._uri} cannot be read: {error}") from error
        return f"sha256:{whole.hexdigest()}"

    def generate(self, requests: Sequence[Request]) -> list[RGB]:
        """Return the sample that stands for each request. Raises ModelError for one that is not held."""
        return [self._sample(request) for request in requests]

    def round_trip(self, images: Sequence[RGB]) -> None:
        """Return None: the autoencoder is not at hand."""

    def _sample(self, request: Request) -> RGB:
        where = self._places.get(request.prompt if self.takes_text else None, {}).get(request.seed)
        if where is None:
            raise ModelError(f"{self._uri} holds no sample of prompt {request.prompt!r} with seed {request.seed}")
        image = self._decoded(where)
        height, width = image.shape[:2]
        if self._size is not None:
            return images.fit(image, *self._size)
        first, size = self._first
        if (width, height) != size:
            raise ModelError(
                f"{self._uri}: {first!r} has {size[0]}x{size[1]} pixels, {where!r} {width}x{height}: "
                f"make them of one size, or let ?size={size[0]}x{size[1]} bring them to it"
            )
        return image

    @cached_property
    def _first(self) -> tuple[str, tuple[int, int]]:
        """Return the first sample and its width and height, which all must have."""
        where = next(iter(next(iter(self._places.values())).values()))
        height, width = self._decoded(where).shape[:2]
        return where, (width, height)

    def _decoded(self, where: str) -> RGB:
        try:
            return images.decode(self._recording.read(where))
        except (OSError, images.Undecodable) as error:
            raise ModelError(f"{self._uri}: {where!r} cannot be read: {error}; make it again, or remove it") from error

    def _told(self, names: tuple[re.Pattern[str], ...]) -> Iterator[tuple[str, Told]]:
        """Yield every sample with all that is told of it."""
        found = [(where, by_name(where, names).then(beside)) for where, beside in self._recording.list()]
        found = [(where, told if _full(told) else told.then(self._inner(where))) for where, told in found]
        usual = NAMES if not any(told.prompt for _, told in found) else NAMES[:1]
        for where, told in found:
            if is_grid(where):
                self._passed[GRIDS] += 1
            else:
                by = by_name(where, () if names else usual)
                yield where, told.then(Told(by.prompt if usual is NAMES else None, by.seed))

    def _inner(self, where: str) -> Told:
        try:
            with self._recording.look(where) as stream:
                return webui.told(stream)
        except OSError:
            self._passed[UNREADABLE] += 1
            return NOTHING

    def _check_alike(self, told: Iterable[tuple[str, Told]]) -> None:
        """Refuse samples made with different settings: pictures and controls must have been asked alike."""
        differ = webui.same([each.settings for _, each in told])
        if differ:
            raise ModelError(
                f"{self._uri}: some samples were made with {differ[0]}, others with {differ[1]}: pictures and "
                "controls must be asked alike; keep one kind, or write ?mixed=true where that is no matter"
            )

    def _named(self, told: Sequence[tuple[str, Told]]) -> dict[str | None, dict[int, str]]:
        """Return the places of the samples by prompt and seed, in the order of the recording."""
        by_prompt: dict[str | None, list[tuple[str, int | None]]] = {}
        for where, each in told:
            if self.takes_text and each.prompt is None:
                self._passed[NO_PROMPT] += 1
            else:
                by_prompt.setdefault(each.prompt if self.takes_text else None, []).append((where, each.seed))
        if not by_prompt:
            what = f"no prompt is told of any of {len(told):,} samples" if told else "there are no samples"
            raise ModelError(
                f"{self._uri}: {what}: write a metadata.csv with file_name, prompt and seed, name them by "
                "?name={prompt}_{seed}, or write ?text=false for a model that takes no text"
            )
        return {prompt: self._seeded(samples) for prompt, samples in by_prompt.items()}

    def _seeded(self, samples: Sequence[tuple[str, int | None]]) -> dict[int, str]:
        """Give each sample of a prompt a seed of its own; a copy of one with the same seed is left out."""
        first: dict[int, str] = {}
        for where, seed in samples:
            if seed is not None:
                first.setdefault(seed, where)
        found: dict[int, str] = {}
        free = 0
        for where, seed in samples:
            if seed is not None and first[seed] == where:
                found[seed] = where
                continue
            if seed is not None and self._bytes(where) == self._bytes(first[seed]):
                self._passed[COPIES] += 1
                continue
            free = max(free, len(found))
            while free in first or free in found:
                free += 1
            found[free] = where
        return found

    def _bytes(self, where: str) -> bytes:
        try:
            return sha256(self._recording.read(where)).digest()
        except OSError as error:
            raise ModelError(f"{self._uri}: {where!r} cannot be read: {error}; make it again, or remove it") from error


def _full(told: Told) -> bool:
    return told.prompt is not None and told.seed is not None


def _truth(uri: str, key: str, word: str) -> bool:
    if word not in ("true", "false"):
        raise ModelError(f"{uri}: {key} is {word!r}: write true or false")
    return word == "true"


def _size(uri: str, text: str | None) -> tuple[int, int] | None:
    """Read `512` or `512x768`: width and height."""
    if text is None:
        return None
    found = re.fullmatch(r"([1-9][0-9]{0,3})(?:x([1-9][0-9]{0,3}))?", text)
    if not found or max(sides := (int(found[1]), int(found[2] or found[1]))) > LONGEST_SIDE:
        raise ModelError(f"{uri}: size is {text!r}: write 512, or 512x768 for width and height")
    return sides
