"""Images as clean states, and back: pixels, or the latents of an autoencoder as the network learnt them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from byrote.domain import RGB
from byrote.models.denoiser import Floats

if TYPE_CHECKING:
    from torch import Tensor

AUTOENCODERS = ("vae", "vqvae", "movq")
ROWS = 16


class Coder:
    """The autoencoder of a pipeline, or pixels as they are where there is none; `channels` are those of a state."""

    def __init__(self, pipeline: Any, channels: int) -> None:
        found = {name: part for name in AUTOENCODERS if (part := getattr(pipeline, name, None)) is not None}
        self._pipeline, self._channels = pipeline, channels
        self._autoencoder = next(iter(found.values()), None)
        self._bare = "movq" in found  # Kandinsky's: neither scaled nor quantised

    @property
    def shrinks(self) -> int:
        """Return by how much images are larger than states."""
        if self._autoencoder is None:
            return 1
        config = self._autoencoder.config
        blocks = config.get("block_out_channels") or config.get("encoder_block_out_channels")
        return int(2 ** (len(blocks) - 1))

    def encode(self, images: Sequence[RGB]) -> Floats:
        """Return images, one at least and all of one size, as clean states: the mode of the encoding."""
        pixels = np.stack(images).transpose(0, 3, 1, 2).astype(np.float32) / np.float32(127.5) - 1
        if self._autoencoder is None:
            return pixels if self._channels == 3 else pixels.mean(1, keepdims=True)
        return np.concatenate([self._encoded(pixels[k : k + ROWS]) for k in range(0, len(pixels), ROWS)])

    def decode(self, clean: Floats) -> list[RGB]:
        """Return clean states as images."""
        decode = np.asarray if self._autoencoder is None else self._decoded
        return [image for k in range(0, len(clean), ROWS) for image in _levels(decode(clean[k : k + ROWS]))]

    def _scaling(self) -> tuple[Any, Any]:
        """Return what is taken from the autoencoder's latents, and by what the rest is multiplied; by channels."""
        if self._bare or self._autoencoder is None:
            return 0.0, 1.0
        config = self._autoencoder.config
        factor, shift = config.get("scaling_factor") or 1.0, config.get("shift_factor") or 0.0
        means, deviations = config.get("latents_mean"), config.get("latents_std")
        if means is None or deviations is None:
            return shift, factor
        mean, deviation = (self._tensor(np.array(values, np.float32)[:, None, None]) for values in (means, deviations))
        return mean, factor / deviation

    def _encoded(self, pixels: Floats) -> Floats:
        shift, factor = self._scaling()
        with _in_range(self._autoencoder) as vae, import_module("torch").no_grad():
            encoded = vae.encode(self._tensor(pixels).to(vae.dtype))
            latents = encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded[0]
            return numbers((latents - shift) * factor)

    def _decoded(self, clean: Floats) -> Floats:
        shift, factor = self._scaling()
        quantised = {"force_not_quantize": True} if self._bare else {}
        with _in_range(self._autoencoder) as vae, import_module("torch").no_grad():
            latents = self._tensor(clean) / factor + shift
            return numbers(vae.decode(latents.to(vae.dtype), **quantised).sample)

    def _tensor(self, array: Floats) -> "Tensor":
        made: Tensor = import_module("torch").from_numpy(np.ascontiguousarray(array))
        return made.to(self._pipeline._execution_device)


def numbers(tensor: "Tensor") -> Floats:
    """Return a tensor as float32."""
    found: Floats = tensor.detach().float().cpu().numpy()
    return found


@contextmanager
def _in_range(vae: Any) -> Iterator[Any]:
    """Hold an autoencoder that overflows in float16 in float32, as its pipeline does before it decodes."""
    kept = vae.dtype
    upcast = kept == import_module("torch").float16 and vae.config.get("force_upcast", False)
    try:
        yield vae.float() if upcast else vae
    finally:
        vae.to(kept)


def _levels(pixels: Floats) -> list[RGB]:
    """Turn [n, channels, h, w] in [-1, 1] to images; a grey one gets three equal channels."""
    shares = np.clip(pixels / 2 + np.float32(0.5), 0, 1)
    levels = np.round(shares * 255).astype(np.uint8).transpose(0, 2, 3, 1)
    return list(np.ascontiguousarray(np.broadcast_to(levels, (*levels.shape[:3], 3))))
