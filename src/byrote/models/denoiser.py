"""A denoiser from the inside: one convention for all that predict noise, velocities or clean images.

A state is x = alpha x0 + sigma eps at a noise level, float32 [rows, channels, height, width]: latents where the model
works on latents, else pixels in [-1, 1], scaled as the network sees them. What the network says is translated into the
eps and the x0 that it believes in (`byrote.kernels.predictions`). A prompt of None stands for what guidance starts
from: the negative prompt, no label, or, where the model cannot be guided, the empty text; "" is a text like others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from byrote.domain import RGB
from byrote.kernels import predictions

Floats = NDArray[np.float32]
Prompts = Sequence[str | None]


@dataclass(frozen=True, slots=True)
class Level:
    """How much of a state is noise. `timestep` is the sampler's word for it, larger for more noise."""

    timestep: float
    alpha: float
    sigma: float


class Prediction(NamedTuple):
    """What the denoiser believes a state to be made of: alpha x0 + sigma eps is the state again.

    eps tells nothing where alpha is 0, as at the first level of flows (it is the state itself), and little near it;
    there x0 does. Near sigma 0 it is the other way round.
    """

    eps: Floats
    x0: Floats


class Gradients(NamedTuple):
    """The gradients of a loss with respect to the states and to the text embeddings (None without such)."""

    x: Floats
    text: Floats | None


class Pull(Protocol):
    """Gradients of any loss, by the chain rule."""

    def __call__(self, *, eps: Floats | None = None, x0: Floats | None = None) -> Gradients:
        """Return the loss's gradients, given those with respect to the predicted eps and x0; None stands for zero."""
        ...


@runtime_checkable
class Denoiser(Protocol):
    """A network of noise levels. Rows do not know of each other; the same call gives the same numbers.

    `shape` is that of a state (channels, height, width), `size` that of its image (height, width). `guidance` is the
    scale that samples are drawn with, 1 where the network is asked once a step. `tolerance` is the relative RMS error
    by which a prediction may differ alone and in a batch.
    """

    shape: tuple[int, int, int]
    size: tuple[int, int]
    takes_text: bool
    guidance: float
    tolerance: float

    def levels(self, steps: int | None = None) -> list[Level]:
        """Return the levels at which the sampler asks, most noise first, for its own or another number of steps."""
        ...

    def level(self, timestep: float) -> Level:
        """Return the level of any training timestep. Raises ValueError for one out of range."""
        ...

    def start(self, seeds: Sequence[int]) -> Floats:
        """Return the states that samples of these seeds start from: at `levels()[0]`."""
        ...

    def encode(self, images: Sequence[RGB]) -> Floats:
        """Return images of `size` as clean states x0: the mode of the encoding."""
        ...

    def decode(self, clean: Floats) -> list[RGB]:
        """Return clean states as images."""
        ...

    def text(self, prompts: Prompts) -> Floats | None:
        """Return the text embeddings [rows, tokens, width] that the network attends to, or None where it does not."""
        ...

    def predict(self, x: Floats, level: Level, prompts: Prompts, *, text: Floats | None = None) -> Prediction:
        """Return the prediction for each state with its prompt; `text` stands in for the prompts' embeddings."""
        ...

    def pullback(
        self, x: Floats, level: Level, prompts: Prompts, *, text: Floats | None = None
    ) -> tuple[Prediction, Pull]:
        """Return the prediction and its vector-Jacobian product, good for any number of calls.

        All rows are one batch, whose activations stay in memory as long as the second is kept.
        """
        ...

    def attention(self, x: Floats, level: Level, prompts: Prompts) -> Mapping[str, Floats]:
        """Return by layer what each place of a state attends to in the text: [rows, places, tokens], a mean of heads.

        Rows of places add up to 1. Empty where text and places attend to each other in one (SD3, Flux), or no text is
        attended to.
        """
        ...


@runtime_checkable
class WhiteBox(Protocol):
    """A model that can be looked into."""

    def white_box(self) -> Denoiser | None:
        """Return its denoiser, or None where it has none that could be called. Raises ModelError."""
        ...


def opened(model: object) -> Denoiser | None:
    """Return the denoiser of a model, or None for one that cannot be looked into. Raises ModelError."""
    return model.white_box() if isinstance(model, WhiteBox) else None


def guided(denoiser: Denoiser, x: Floats, level: Level, prompts: Prompts, scale: float | None = None) -> Prediction:
    """Predict with guidance of a scale, the denoiser's own unless told, as its sampler does."""
    scale = denoiser.guidance if scale is None else scale
    conditional = denoiser.predict(x, level, prompts)
    if scale == 1:
        return conditional
    unconditional = denoiser.predict(x, level, [None] * len(prompts))
    return Prediction(*(predictions.guided(a, b, scale) for a, b in zip(unconditional, conditional, strict=True)))
