"""How a batch of samples is drawn from a loaded pipeline of diffusers: a function for each way, all of one shape.

Each takes the pipeline and a `Batch` and returns float32 [n, height, width, channels] in [0, 1]. The noise of a sample
comes from its own generator on the CPU; `own_noise` sees to it where a pipeline forgets to hand it to its scheduler.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial, wraps
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Generator, Tensor

Drawn = NDArray[np.float32]
Denoise = Callable[["Tensor", "Tensor"], "Tensor"]


@dataclass(frozen=True, slots=True)
class Batch:
    """What is asked at once. `given` are the arguments of the pipeline's call that are not left to itself.

    `joined` is a second pipeline where there is one, and `joined_given` the arguments of its call.
    """

    texts: list[str]
    labels: list[int] | None
    generators: "list[Generator]"
    given: dict[str, Any]
    steps: int
    guidance: float
    joined: Any = None
    joined_given: dict[str, Any] = field(default_factory=dict)


Draw = Callable[[Any, Batch], Drawn]


def from_text(pipeline: Any, batch: Batch) -> Drawn:
    """Ask a pipeline for its texts."""
    made = pipeline(prompt=batch.texts, generator=batch.generators, output_type="np", **batch.given)
    return _float32(made.images)


def over_grey(pipeline: Any, batch: Batch) -> Drawn:
    """Ask an inpainting pipeline to fill the whole of a grey picture, so that the text alone decides."""
    import torch

    side = getattr(pipeline, "default_sample_size", 0) or pipeline.unet.config.sample_size
    side *= pipeline.vae_scale_factor
    size = (batch.given.get("height", side), batch.given.get("width", side))
    n = len(batch.texts)
    grey, mask = torch.full((n, 3, *size), 0.5), torch.ones((n, 1, *size))
    sized = {"height": size[0], "width": size[1], "strength": 1.0, "image": grey, "mask_image": mask}
    return from_text(pipeline, replace(batch, given=batch.given | sized))


def in_cascade(pipeline: Any, batch: Batch) -> Drawn:
    """Draw small images, and have them enlarged by a second pipeline where one is joined.

    Saharia et al. 2022, "Photorealistic Text-to-Image Diffusion Models with Deep Language Understanding",
    arXiv:2205.11487, section 2.3. The text is encoded once, by the first.
    """
    negative = batch.given.get("negative_prompt")
    texts, empty = pipeline.encode_prompt(batch.texts, negative_prompt=negative)
    encoded = {"prompt_embeds": texts, "negative_prompt_embeds": empty, "generator": batch.generators}
    given = {key: value for key, value in batch.given.items() if key != "negative_prompt"}
    if batch.joined is None:
        return _float32(pipeline(**encoded, **given, output_type="np").images)
    small = pipeline(**encoded, **given, output_type="pt").images
    return _float32(batch.joined(image=small, **encoded, **batch.joined_given, output_type="np").images)


def from_noise(pipeline: Any, batch: Batch) -> Drawn:
    """Denoise as DDPMPipeline, DDIMPipeline and ConsistencyModelPipeline do, but with any sampler."""
    return floats(_denoised(pipeline, _unet(pipeline, batch), batch))


def from_latent_noise(pipeline: Any, batch: Batch) -> Drawn:
    """Denoise as LDMPipeline does, but with any sampler, and decode."""
    latents = _denoised(pipeline, _unet(pipeline, batch), batch)
    return floats(pipeline.vqvae.decode(latents / pipeline.vqvae.config.scaling_factor).sample)


def from_label(pipeline: Any, batch: Batch) -> Drawn:
    """Denoise as DiTPipeline does, but with any sampler, and decode.

    Departs from it: the class of no label is the model's own, not always 1000, and the noise is scaled as the sampler
    wants.
    """
    latents = _denoised(pipeline, _guided(pipeline.transformer, batch), batch)
    return floats(pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor).sample)


@contextmanager
def own_noise(scheduler: Any, generators: "list[Generator]") -> Iterator[None]:
    """Have a scheduler draw each sample's noise from its own generator, whether its pipeline says so or not.

    One that draws none gets none, even where its pipeline hands it some.
    """
    step = scheduler.step
    drawing = "generator" in inspect.signature(step).parameters
    scheduler.step = partial(step, generator=generators) if drawing else _without_noise(step)
    try:
        yield
    finally:
        del scheduler.step


def _without_noise(step: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(step)
    def quiet(*given: Any, generator: object = None, **named: Any) -> Any:
        return step(*given, **named)

    return quiet


def _denoised(pipeline: Any, predict: Denoise, batch: Batch) -> "Tensor":
    import torch

    scheduler, denoiser = pipeline.scheduler, getattr(pipeline, "unet", None) or pipeline.transformer
    size = denoiser.config.sample_size
    shape = (1, denoiser.config.in_channels, *((size, size) if isinstance(size, int) else size))
    scheduler.set_timesteps(batch.steps)
    noise = [torch.randn(shape, generator=generator, dtype=denoiser.dtype) for generator in batch.generators]
    x: Tensor = torch.cat(noise).to(denoiser.device) * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        x = scheduler.step(predict(scheduler.scale_model_input(x, t), t), t, x).prev_sample
    return x


def _unet(pipeline: Any, batch: Batch) -> Denoise:
    import torch

    if batch.labels is None:
        return lambda x, t: pipeline.unet(x, t).sample
    labels = torch.tensor(batch.labels, device=pipeline.unet.device)
    return lambda x, t: pipeline.unet(x, t, class_labels=labels).sample


def _guided(transformer: Any, batch: Batch) -> Denoise:
    """Ho and Salimans 2022, "Classifier-Free Diffusion Guidance", arXiv:2207.12598, equation 6, in one call."""
    import torch

    channels, empty = transformer.config.in_channels, transformer.config.num_embeds_ada_norm
    twice = batch.guidance > 1
    labels = [*(batch.labels or ()), *([empty] * len(batch.generators) if twice else ())]
    classes = torch.tensor(labels, device=transformer.device)

    def predict(x: "Tensor", t: "Tensor") -> "Tensor":
        both = torch.cat([x, x]) if twice else x
        made: Tensor = transformer(both, timestep=t.to(x.device).expand(len(both)), class_labels=classes).sample
        made = made[:, :channels]  # what follows is the variance, where it was learnt
        if not twice:
            return made
        asked, unasked = made.chunk(2)
        return unasked + batch.guidance * (asked - unasked)

    return predict


def floats(images: "Tensor") -> Drawn:
    """Turn [n, channels, h, w] in [-1, 1] to [n, h, w, channels] in [0, 1]."""
    return _float32((images / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).float().cpu().numpy())


def _float32(images: Any) -> Drawn:
    return np.asarray(images, np.float32)
