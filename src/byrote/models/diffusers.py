"""Image pipelines of Hugging Face diffusers, from a folder, a file or the hub: of a text, a class or nothing.

A model folder comes from strangers. Before a library is imported, its index may name nothing but known libraries, it
may hold no code and no pickle, and every part must be there and whole. Opening reads no weights; the first image does.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from byrote.domain import RGB
from byrote.errors import ModelError, did_you_mean
from byrote.models import How, Options, Request, additions, encodable, holding, refuse, restepped, settings, single_file
from byrote.models.denoiser import Denoiser
from byrote.models.digests import together
from byrote.models.drawing import Batch, Drawn, floats, own_noise
from byrote.models.families import FIXED, LABEL, NOTHING, TEXT, family_of
from byrote.models.folders import (
    Folder,
    digest_of,
    find,
    first_line,
    inspected,
    loading,
    read_json,
    shapes_of,
)
from byrote.models.labels import labels_of
from byrote.models.memory import short
from byrote.models.pipelines import hushed, loaded, parameters, pipeline_class
from byrote.models.samplers import SAMPLERS, fitting, scheduler, steps_of
from byrote.models.single_file import Single

# Levels of 255. Nobody published them: with float32 tests hold 2; half precision is a wide guess.
TOLERANCES = {"float32": 2, "float16": 16, "bfloat16": 64}
AUTOENCODERS = ("AutoencoderKL", "AutoencoderTiny", "AutoencoderDC", "VQModel")
ROUND_TRIP_BATCH = 32
SETTINGS = {
    "config": "of a single file: a diffusers folder of the same architecture, for what the file does not hold",
    "prior": "the folder of a Kandinsky decoder's prior",
    "prior_steps": "denoising steps of the prior",
    "upscaler": "the folder of the stage that enlarges what DeepFloyd IF draws",
    "upscaler_steps": "denoising steps of the upscaler",
}


class Diffusers:
    """A diffusers pipeline; one call of `generate` is one batch.

    The noise of a sample, of ancestral samplers too, comes from a generator of its own on the CPU. The tolerance holds
    on one machine; half precision widens it. A model of the hub is fetched when it is opened. Steps, guidance and
    sampler of the plan are those of the stage that draws: a prior and an upscaler keep their own. An inpainting
    pipeline fills a mask over the whole of a grey picture. Captions are given as they are, without the cleaning that
    some pipelines do. With `takes_labels` a prompt is a class: its name or its number. `left_out` names the parts of
    the folder that are not loaded: safety checkers and watermarkers, what they need, and what a second folder has
    twice. Raises ModelError, in the constructor for anything missing from the folder.
    """

    how = How(
        "a pipeline of Hugging Face diffusers: a folder, or a model of its hub",
        "diffusers:path/to/model",
        SETTINGS,
        "diffusers",
        ("torch", "diffusers", "transformers"),
    )

    def __init__(self, path: str, options: Options, relative_to: Path) -> None:
        _check_options(options)
        place, self._settings = settings(path, SETTINGS)
        self._uri = path
        self._options = options
        self._lender: Diffusers | None = None
        self._single, self._folder = self._found(place, relative_to)
        self.name = self._folder.kind
        self._family = family_of(place, self.name)
        self._joined = self._second(relative_to)
        self._labels = None if self._family.takes == TEXT else labels_of(self._folder)
        self.takes_labels = self._labels is not None
        self.takes_text = self._family.takes != NOTHING or self.takes_labels
        self.left_out: tuple[str, ...] = (*self._folder.skipped, *(self._joined.skipped if self._joined else ()))
        self.tolerance = TOLERANCES[options.dtype]
        self._over = additions.opened(options.lora, options.embeddings, relative_to)
        self._check_fit()
        self._check_held()

    @property
    def weights(self) -> list[Path]:
        """Return the files with the weights that are loaded."""
        folders = [folder for folder in (self._folder, self._joined) if folder]
        files = [folder.path / file for folder in folders for file in folder.files if file.suffix == ".safetensors"]
        return [*files, self._single.file] if self._single else files

    @property
    def digest(self) -> str:
        """Digest the weights, configurations and tokenizers: path in the folder, size and content, sorted by path."""
        own = digest_of(self._folder.path, self._folder.files)
        own = single_file.digest(own, self._single) if self._single else own
        more = {key: value for key, value in self._settings.items() if key.endswith("_steps")}
        if self._joined is not None:
            more |= {"second": digest_of(self._joined.path, self._joined.files)}
        return additions.digest(together({"first": own} | more) if more else own, self._over)

    @cached_property
    def evaluations_per_sample(self) -> int:
        """Count the denoisers' evaluations; the first reading imports diffusers, but no weights."""
        with loading(self._uri):
            return steps_of(self._scheduler(), self._steps) * self._evaluations_per_step + self._evaluations_of_second()

    def generate(self, requests: Sequence[Request]) -> list[RGB]:
        """Return one image for each request, as one batch."""
        if not requests:
            return []
        if not self.takes_text and any(request.prompt is not None for request in requests):
            raise ModelError(f"model {self._uri!r}: a {self.name} takes no prompt: ask it for samples without one")
        import torch

        pipeline = self._pipeline  # loaded here: weights that are born in inference mode can never leave it
        together = [[request] for request in requests] if self._family.alone else [requests]
        with short(self._uri, len(requests)), torch.inference_mode():
            return [image for some in together for image in self._drawn(pipeline, self._batch(some))]

    def round_trip(self, images: Sequence[RGB]) -> list[RGB] | None:
        """Return the images, all of one size, decoded from the mode of their encoding; None without an autoencoder."""
        name, decoding = self._family.autoencoder, self._family.decoding
        if not any(part.name == name and part.kind in AUTOENCODERS for part in self._folder.parts):
            return None
        if not images:  # asked by the driver, which holds no model of its own
            return []
        import torch

        device = self._pipeline._execution_device  # where an autoencoder that waits in main memory is brought to
        batches = [images[k : k + ROUND_TRIP_BATCH] for k in range(0, len(images), ROUND_TRIP_BATCH)]
        at_once = min(len(images), ROUND_TRIP_BATCH)
        with short(self._uri, at_once), _in_range(getattr(self._pipeline, name)) as vae, torch.inference_mode():
            return [image for batch in batches for image in _pixels(_through(vae, device, np.stack(batch), decoding))]

    def stepped(self, steps: int) -> "Diffusers":
        """Return the same pipeline, its weights held once, that draws in another number of steps."""
        other = restepped(self, steps)
        other._lender = self
        return other

    def white_box(self) -> Denoiser | None:
        """Return its denoiser, None for a consistency model. Raises ModelError where it cannot be called alone."""
        from byrote.models.whitebox import DiffusersDenoiser, denoising

        def draw(requests: Sequence[Request], options: Options) -> None:
            twin = copy(self)  # the same pipeline, otherwise asked
            twin._options = options
            twin.generate(requests)

        pipeline = self._pipeline
        if not denoising(pipeline):
            return None
        none = None if self._labels is None or self._labels.none is not None else "0"
        return DiffusersDenoiser(self._uri, pipeline, self._options, draw, none)

    def _batch(self, requests: Sequence[Request]) -> Batch:
        import torch

        return Batch(
            texts=[encodable(request.prompt or "") for request in requests],
            labels=self._numbers(requests),
            generators=[torch.Generator().manual_seed(request.seed) for request in requests],
            given=self._given() | self._negative(len(requests)),
            steps=self._steps,
            guidance=self._guidance or 0.0,
            joined=self._upscaler,
            joined_given=self._steps_of_second("num_inference_steps"),
        )

    def _numbers(self, requests: Sequence[Request]) -> list[int] | None:
        if self._labels is None:
            return None
        return [self._labels.number(request.prompt, request.seed) for request in requests]

    def _given(self) -> dict[str, Any]:
        """Return the arguments of the pipeline's call that are not left to itself."""
        wanted = {
            "guidance_scale": self._options.guidance,
            "num_inference_steps": self._options.steps,
            "width": self._options.width,
            "height": self._options.height,
        }
        known = parameters(self._called)
        fixed = {key: value for key, value in FIXED.items() if key in known}
        first = self._steps_of_second("prior_num_inference_steps") if self._upscaled is None else {}
        return {key: value for key, value in wanted.items() if value is not None} | fixed | first

    def _negative(self, n: int) -> dict[str, list[str]]:
        return {"negative_prompt": [encodable(self._options.negative)] * n} if self._options.negative else {}

    def _drawn(self, pipeline: Any, batch: Batch) -> list[RGB]:
        try:
            with hushed(), own_noise(pipeline.scheduler, batch.generators):
                images = self._family.draw(pipeline, batch)
        except (ValueError, TypeError, AssertionError) as error:
            raise ModelError(f"model {self._uri!r} refused to draw: {first_line(error)}") from error
        if not bool(np.isfinite(images).all()):
            raise ModelError(
                f"model {self._uri!r} gave images that are not numbers in {self._options.dtype}: try dtype float32"
            )
        return _pixels(images)

    @cached_property
    def _pipeline(self) -> Any:
        if self._lender is not None:
            return self._lender._pipeline
        own = {"scheduler": self._scheduler()} if self._options.sampler is not None else {}
        if self._single is not None:
            with loading(self._uri):
                own |= single_file.modules(self._single, self._folder, self._options.dtype)
        first = loaded(self._uri, self._folder, self._kind, self._options, self._over, **own)
        if not self._family.whole or self._joined is None:
            return first
        second = loaded(self._uri, self._joined, self._second_kind, self._options)
        prior = {f"prior_{name}": part for name, part in second.components.items()}
        whole = self._called(**first.components, **prior)
        whole.set_progress_bar_config(disable=True)
        return whole

    @cached_property
    def _upscaler(self) -> Any:
        """Return the second pipeline where it does not make one with the first."""
        if self._lender is not None:
            return self._lender._upscaler
        return self._upscaled and loaded(self._uri, self._upscaled, self._second_kind, self._options)

    @cached_property
    def _kind(self) -> Any:
        return pipeline_class(self._uri, self.name)

    @cached_property
    def _called(self) -> Any:
        """Return the class that is asked to draw. Raises ModelError where it cannot draw from a prompt alone."""
        kind = pipeline_class(self._uri, self._family.whole or self.name)
        wanted = [key for key, value in parameters(kind).items() if value.default is value.empty and value.kind < 2]
        if self._family.takes == TEXT and ("prompt" not in parameters(kind) or set(wanted) - {"self", "prompt"}):
            raise ModelError(f"model {self._uri!r}: a {self.name} does not draw from a prompt alone")
        return kind

    @property
    def _upscaled(self) -> Folder | None:
        """Return the second folder where it does not make one pipeline with the first."""
        return None if self._family.whole else self._joined

    @property
    def _second_kind(self) -> Any:
        return pipeline_class(self._uri, self._joined.kind) if self._joined else None

    def _found(self, place: str, relative_to: Path) -> tuple[Single | None, Folder]:
        """Inspect the model: a single file with the folder that configures it, or a folder alone."""
        options, config = self._options, self._settings.pop("config", None)
        file = relative_to / Path(place).expanduser()
        if file.is_file():
            refuse(options, "single-file", "revision", "variant")
            single = single_file.opened(file)
            return single, single_file.inspected_with(single, config, relative_to)
        if config is not None:
            raise ModelError(f"model {self._uri!r}: config is for a single file, and this is none: leave it out")
        path = find(place, relative_to, revision=options.revision, variant=options.variant)
        return None, inspected(path, variant=options.variant)

    def _second(self, relative_to: Path) -> Folder | None:
        """Inspect the folder that is joined, and refuse settings that the first has no use for."""
        join = self._family.join
        role = join.role if join else self._family.inner
        for key in self._settings:
            if key.removesuffix("_steps") != role or (key == role and not join):
                raise ModelError(f"model {self._uri!r}: a {self.name} has no use for {key!r}: leave it out")
        if join is None:
            return None
        if role not in self._settings:
            if join.needed or self._settings:
                raise ModelError(f"model {self._uri!r} is half a model: write ?{role}=FOLDER, that of its {join.kind}")
            return None
        path = find(self._settings[role], relative_to, variant=self._options.variant)
        folder = inspected(path, keeps=join.keeps, without=join.without, variant=self._options.variant)
        if folder.kind != join.kind:
            raise ModelError(f"model {self._uri!r}: {role} is a {folder.kind}: name the folder of a {join.kind}")
        return folder

    def _steps_of_second(self, name: str) -> dict[str, int]:
        """Return the steps that the URI gives to the other stage, under a name, or nothing."""
        for key, value in self._settings.items():
            if key.endswith("_steps"):
                if not value.isdecimal() or int(value) < 1:
                    raise ModelError(f"model {self._uri!r}: {key} is {value!r}: write 1 or more")
                return {name: int(value)}
        return {}

    def _check_fit(self) -> None:
        """Refuse what this pipeline cannot follow."""
        self._steps_of_second("")
        self._check_sampler()
        refuse(self._options, self.name, *self._family.refuses)
        if self._family.takes == LABEL and self._labels is None:
            raise ModelError(f"model {self._uri!r}: its denoiser was trained with no classes, as a {self.name} wants")
        sized = self._family.takes == TEXT and self._upscaled is None
        if not sized and (self._options.width or self._options.height):
            raise ModelError(f"model {self._uri!r} draws at its own size: leave width and height out")
        if (self._options.width is None) != (self._options.height is None):  # pipelines drop one alone without a word
            raise ModelError(f"model {self._uri!r}: width and height go together: write both or neither")

    def _check_held(self) -> None:
        """Refuse what cannot be held so, negative prompts that nothing would read, and additions to another model."""
        holding.check(self._uri, self._options)
        if self._family.takes != TEXT or self._joined:
            refuse(self._options, self.name, "offload")
        if self._family.takes != TEXT:
            refuse(self._options, self.name, "negative", "embeddings")
        if self._options.negative and (
            "negative_prompt" not in parameters(self._called) or self._evaluations_per_step == 1
        ):
            raise ModelError(
                f"model {self._uri!r} would not read the negative prompt {self._options.negative!r}: a {self.name} "
                "reads one with guidance above 1 or not at all"
            )
        if self._over != additions.NOTHING and self._single is None:
            additions.check(self._over, shapes_of(self._folder))

    def _check_sampler(self) -> None:
        wanted, fit = self._options.sampler, self._family.samplers
        if wanted is not None and fit is not None and wanted not in fit:
            told = f"one of {_listed(fit)}, or leave it out" if fit else "leave it out"
            raise ModelError(f"model {self._uri!r}: a {self.name} cannot be drawn with sampler {wanted!r}: {told}")
        fitting(self._own, self._own_config(), wanted)

    @property
    def _own(self) -> str:
        return next(part.kind for part in self._folder.parts if part.name == "scheduler")

    def _own_config(self) -> dict[str, Any]:
        return read_json(self._folder.path, Path("scheduler/scheduler_config.json"))

    def _scheduler(self) -> Any:
        return scheduler(self._own, self._own_config(), self._options.sampler, self._family.foreign)

    @property
    def _steps(self) -> int:
        default: int = parameters(self._called)["num_inference_steps"].default
        return self._options.steps or default

    @property
    def _guidance(self) -> float | None:
        known = parameters(self._called)
        default: float | None = known["guidance_scale"].default if "guidance_scale" in known else None
        return default if self._options.guidance is None else self._options.guidance

    @property
    def _evaluations_per_step(self) -> int:
        """Count two where the pipeline guides by asking twice; a denoiser that learnt its guidance is asked once."""
        known = parameters(self._called)
        if "guidance_scale" not in known or "true_cfg_scale" in known or self._distilled:
            return 1
        return _calls(self._guidance)

    @property
    def _distilled(self) -> bool:
        config = Path("unet/config.json")
        there = (self._folder.path / config).is_file()
        return there and read_json(self._folder.path, config).get("time_cond_proj_dim") is not None

    def _evaluations_of_second(self) -> int:
        """Count those of the prior or the upscaler, with steps of the URI, else its own, and its own guidance."""
        prefix = f"{self._family.inner}_" if self._family.inner else ""
        if not prefix and self._joined is None:
            return 0
        folder = self._joined or self._folder
        known = parameters(self._second_kind or self._called)
        config = read_json(folder.path, Path(f"{prefix}scheduler/scheduler_config.json"))
        own = next(part.kind for part in folder.parts if part.name == f"{prefix}scheduler")
        steps = self._steps_of_second("steps").get("steps", known[f"{prefix}num_inference_steps"].default)
        return steps_of(scheduler(own, config, None, {}), steps) * _calls(known[f"{prefix}guidance_scale"].default)


def _calls(guidance: float | None) -> int:
    return 1 if guidance is None or guidance <= 1 else 2


def _check_options(options: Options) -> None:
    if options.dtype not in TOLERANCES:
        raise ModelError(
            f"unknown dtype {options.dtype!r}{did_you_mean(options.dtype, TOLERANCES)}: one of {_listed(TOLERANCES)}"
        )
    if options.sampler is not None and options.sampler not in SAMPLERS:
        hint = did_you_mean(options.sampler, SAMPLERS)
        raise ModelError(f"unknown sampler {options.sampler!r}{hint}: one of {_listed(SAMPLERS)}")
    if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", options.device):
        hint = did_you_mean(options.device, ("cpu", "cuda", "mps"))
        raise ModelError(f"unknown device {options.device!r}{hint}: one of cpu, cuda, cuda:1, mps")
    for name in ("steps", "width", "height"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ModelError(f"{name} {value} is too small: 1 or more")


@contextmanager
def _in_range(vae: Any) -> Iterator[Any]:
    """Hold an autoencoder that overflows in float16 in float32, as its pipeline does before it decodes."""
    kept = vae.dtype
    upcast = kept == import_module("torch").float16 and getattr(vae.config, "force_upcast", False)
    try:
        yield vae.float() if upcast else vae
    finally:
        vae.to(kept)


def _through(vae: Any, device: Any, images: RGB, decoding: Mapping[str, object]) -> Drawn:
    import torch

    x = torch.from_numpy(images).permute(0, 3, 1, 2).to(device, torch.float32) / 127.5 - 1
    encoded = vae.encode(x.to(vae.dtype))
    latents = encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded[0]
    return floats(vae.decode(latents, **decoding).sample)


def _pixels(images: Drawn) -> list[RGB]:
    """Turn [n, h, w, channels] in [0, 1] to levels; a grey image gets three equal channels."""
    levels = np.clip(images * 255, 0, 255).round().astype(np.uint8)
    return list(np.ascontiguousarray(np.broadcast_to(levels, (*levels.shape[:3], 3))))


def _listed(words: Iterable[str]) -> str:
    return ", ".join(words)
