"""Models under audit: one protocol, a file for each kind, opened by URI (`diffusers:PATH_OR_HUB_ID`, `parrot:FILE`)."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol, runtime_checkable

from byrote.domain import RGB
from byrote.errors import ModelError, did_you_mean

KINDS = {
    "diffusers": "byrote.models.diffusers:Diffusers",
    "parrot": "byrote.models.parrot:Parrot",
}


@dataclass(frozen=True, slots=True)
class Request:
    """One image asked for: a prompt (None for no text at all) and the seed of its starting noise (0 to 2**63 - 1)."""

    prompt: str | None
    seed: int


@dataclass(frozen=True, slots=True)
class Options:
    """How a model is run; None leaves the model's own choice. `guidance` 1 or less asks without guidance."""

    dtype: str = "float32"
    device: str = "cpu"
    steps: int | None = None
    guidance: float | None = None
    sampler: str | None = None
    width: int | None = None
    height: int | None = None
    threads: int = 1


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


def open(uri: str, options: Options, *, relative_to: Path | None = None) -> Model:
    """Open the model that `uri` names. Raises ModelError."""
    kind, separator, rest = uri.partition(":")
    if not separator or not rest:
        raise ModelError(f"model {uri!r} is no URI: write KIND:PATH, with KIND one of {', '.join(kinds())}")
    if kind not in kinds():
        known = ", ".join(kinds())
        raise ModelError(f"model {uri!r}: unknown kind {kind!r}{did_you_mean(kind, kinds())}: one of {known}")
    module, _, name = kinds()[kind].partition(":")
    model: Model = getattr(import_module(module), name)(rest, options, relative_to or Path.cwd())
    return model


def kinds() -> dict[str, str]:
    """Return the known kinds of models, those of other packages included (entry-point group `byrote.models`)."""
    return KINDS | {point.name: point.value for point in entry_points(group="byrote.models")}
