"""Models under audit: one protocol, a file for each kind, opened by URI (`diffusers:PATH_OR_HUB_ID`, `parrot:FILE`)."""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast, runtime_checkable
from urllib.parse import parse_qsl

import numpy as np

from byrote.domain import RGB
from byrote.errors import ModelError, did_you_mean

Made = TypeVar("Made")
KINDS = {
    "diffusers": "byrote.models.diffusers:Diffusers",
    "extrapolated": "byrote.models.extrapolated:Extrapolated",
    "surrogate": "byrote.models.surrogate:Surrogate",
    "torchscript": "byrote.models.torchscript:TorchScript",
    "onnx": "byrote.models.onnx:Onnx",
    "stylegan": "byrote.models.stylegan:StyleGan",
    "function": "byrote.models.function:Function",
    "recorded": "byrote.models.recorded:Recorded",
    "openai": "byrote.models.openai:OpenAI",
    "a1111": "byrote.models.a1111:Automatic1111",
    "comfyui": "byrote.models.comfyui:ComfyUI",
    "parrot": "byrote.models.parrot:Parrot",
}


@dataclass(frozen=True, slots=True)
class How:
    """What `byrote models` says of a kind, the attribute `how` of its class: what it is, a URI, what it needs.

    `settings` are those of `?key=value`, with what each takes. `extra` is what `pip install 'byrote[EXTRA]'` brings,
    `needs` the modules that show whether it is there.
    """

    what: str
    example: str
    settings: Mapping[str, str] = field(default_factory=dict)
    extra: str = ""
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """One image asked for: a prompt (None for no text at all) and the seed of its starting noise (0 to 2**63 - 1)."""

    prompt: str | None
    seed: int


@dataclass(frozen=True, slots=True)
class Options:
    """How a model is run; None leaves the model's own choice. `guidance` 1 or less asks without guidance.

    `lora` (`FILE` or `FILE@WEIGHT`) and `embeddings` (`FILE` or `FILE@TOKEN`) are laid over a model. What an adapter
    cannot follow it refuses in one line.
    """

    dtype: str = "float32"
    device: str = "cpu"
    steps: int | None = None
    guidance: float | None = None
    sampler: str | None = None
    width: int | None = None
    height: int | None = None
    threads: int = 1
    negative: str = ""
    lora: tuple[str, ...] = ()
    embeddings: tuple[str, ...] = ()
    revision: str = ""
    variant: str = ""
    offload: str = ""
    slicing: bool = False
    compile: bool = False
    trust: bool = False


@runtime_checkable
class Model(Protocol):
    """Images on demand.

    `name` says kind and architecture, `digest` ("sha256:...") changes whenever its images would for the same options,
    so it covers the weights. Attributes are cheap to read; weights may load at the first call.
    """

    name: str
    digest: str
    tolerance: int  # levels of 255 by which a sample may differ alone and in a batch
    evaluations_per_sample: int  # denoiser evaluations, guidance counted
    takes_text: bool

    def generate(self, requests: Sequence[Request]) -> list[RGB]:
        """Return one image for each request, in their order; each depends on its own prompt and seed only."""
        ...

    def round_trip(self, images: Sequence[RGB]) -> list[RGB] | None:
        """Return the images after the model's autoencoder, at the size that it makes, or None where it has none."""
        ...


@runtime_checkable
class HoldsSamples(Protocol):
    """A model that cannot be asked for anything, but only for the samples that it holds.

    `held` are the seeds of every prompt, in the order in which they are asked for; `skipped` tells what was passed over
    when the samples were listed: a reason, and of how many.
    """

    held: Mapping[str | None, Sequence[int]]
    skipped: Mapping[str, int]


@runtime_checkable
class Stepped(Protocol):
    """A model that draws in as many sampler steps as it is told."""

    def stepped(self, steps: int) -> Model:
        """Return the same model, its weights held once, with another number of steps."""
        ...


@runtime_checkable
class KeepsAnswers(Protocol):
    """A model, behind HTTP for one, that keeps what it was answered, and whose answer may be no."""

    def refused(self, requests: Sequence[Request]) -> list[bool]:
        """Tell of each request whether the answer was no; `generate` gave noise of its seed then."""
        ...

    def forget(self, requests: Sequence[Request]) -> None:
        """Remove answers: an image that a list of hashes hits is kept nowhere."""
        ...


def open(uri: str, options: Options, *, relative_to: Path | None = None) -> Model:
    """Open the model that `uri` names. Raises ModelError."""
    kind, separator, rest = uri.partition(":")
    if not separator or not rest:
        raise ModelError(f"model {uri!r} is no URI: write KIND:PATH, with KIND one of {', '.join(kinds())}")
    if kind not in kinds():
        known = ", ".join(kinds())
        raise ModelError(f"model {uri!r}: unknown kind {kind!r}{did_you_mean(kind, kinds())}: one of {known}")
    model: Model = adapter(kind)(rest, options, relative_to or Path.cwd())
    return model


def adapter(kind: str) -> Any:
    """Import the class behind a kind. Raises ImportError where its package is broken."""
    module, _, name = kinds()[kind].partition(":")
    return getattr(import_module(module), name)


def kinds() -> dict[str, str]:
    """Return the known kinds of models, those of other packages included (entry-point group `byrote.models`)."""
    return KINDS | {point.name: point.value for point in entry_points(group="byrote.models")}


def restepped(model: Made, steps: int) -> Made:
    """Return a copy of a model that draws in another number of steps; nothing that was loaded is loaded again."""
    other: Any = copy(model)
    other._options = replace(other._options, steps=steps)
    other.__dict__.pop("evaluations_per_sample", None)  # counted of the other number
    return cast(Made, other)


def held(model: Model) -> Mapping[str | None, Sequence[int]] | None:
    """Return the seeds of every prompt that a model can be asked, or None where it can be asked for anything."""
    return model.held if isinstance(model, HoldsSamples) else None


def refuse(options: Options, kind: str, *names: str) -> None:
    """Refuse the knobs `names` where they are set, since a model of this kind cannot follow them. Raises ModelError."""
    defaults = Options()
    for name in names:
        value = getattr(options, name)
        if value != getattr(defaults, name):
            raise ModelError(f"a {kind} model cannot follow {name} {value!r}: leave {name} out of the plan")


def encodable(prompt: str) -> str:
    """Replace halves of surrogate pairs, which no tokenizer and no server takes, by question marks."""
    return prompt.encode("utf-8", "replace").decode("utf-8")


def noise(seed: int, height: int, width: int) -> RGB:
    """Return what stands for an image that is not to be had: uniform noise of a seed, near nothing, not even itself."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def settings(rest: str, known: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """Split `PLACE?key=value&key=value` into the place and its settings. Raises ModelError for an unknown key.

    `known` says of each key what it takes, for the message.
    """
    place, _, query = rest.partition("?")
    try:
        given = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError as error:
        raise ModelError(f"model {rest!r}: what follows the ? is no key=value&key=value") from error
    for key, _ in given:
        if key not in known:
            told = ", ".join(f"{name} ({says})" for name, says in known.items()) or "none"
            raise ModelError(f"model {rest!r}: unknown setting {key!r}{did_you_mean(key, known)}; known: {told}")
    return place, dict(given)
