"""Text-to-image and unconditional pipelines of Hugging Face diffusers, from a folder or a hub id.

A model folder comes from strangers. Before a library is imported, its index may name nothing but known libraries, it
may hold no code and no pickle, and every part must be there and whole. Opening reads no weights; the first image does.
"""

import inspect
import json
import re
import struct
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, lru_cache
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from byrote.domain import RGB
from byrote.errors import ModelError, did_you_mean
from byrote.models import Options, Request

if TYPE_CHECKING:
    from torch import Generator, Tensor

SAMPLERS: dict[str, tuple[str, dict[str, object]]] = {
    "ddim": ("DDIMScheduler", {}),
    "ddpm": ("DDPMScheduler", {}),
    "pndm": ("PNDMScheduler", {"skip_prk_steps": True}),
    "dpm++2m": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "solver_order": 2}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler-a": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "unipc": ("UniPCMultistepScheduler", {}),
    "lms": ("LMSDiscreteScheduler", {}),
}
# Levels of 255. Nobody published them: with float32 tests hold 2; half precision is a wide guess.
TOLERANCES = {"float32": 2, "float16": 16, "bfloat16": 64}
VOCABULARIES = (("tokenizer.json",), ("vocab.json", "merges.txt"), ("spiece.model",), ("tokenizer.model",))
UNCONDITIONAL = ("DDPMPipeline", "DDIMPipeline")
LIBRARIES = ("diffusers", "transformers")
UNUSED = ("safety_checker", "feature_extractor", "image_encoder")
AUTOENCODERS = ("AutoencoderKL", "AutoencoderTiny", "AutoencoderDC", "VQModel")
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl", ".pickle")
VARIANTS = (None, "fp16", "bf16")
ROUND_TRIP_BATCH = 32
LONGEST_HEADER = 100_000_000


class Part(NamedTuple):
    """A component of a pipeline as its index names it."""

    name: str
    library: str
    kind: str

    @property
    def weightless(self) -> bool:
        """Say whether it is a tokenizer, a scheduler or a processor: a thing without weights."""
        return bool(re.search(r"Tokenizer|Scheduler|Processor|FeatureExtractor", self.kind))


class Folder(NamedTuple):
    """A model folder that was found whole, with the files that matter to its images."""

    path: Path
    kind: str
    parts: tuple[Part, ...]
    skipped: tuple[str, ...]
    variant: str | None
    files: tuple[Path, ...]


class Diffusers:
    """A diffusers pipeline; one call of `generate` is one batch.

    The noise of a sample, of ancestral samplers too, comes from a generator of its own on the CPU. The tolerance holds
    on one machine; half precision widens it. A model of the hub is fetched when it is opened. Raises ModelError, in the
    constructor for anything missing from the folder.
    """

    def __init__(self, path: str, options: Options, relative_to: Path) -> None:
        _check_options(options)
        self._uri = path
        self._options = options
        self._folder = inspected(_find(path, relative_to))
        self.name = self._folder.kind
        self.takes_text = self.name not in UNCONDITIONAL
        self.tolerance = TOLERANCES[options.dtype]
        if not self.takes_text and (options.width or options.height):
            raise ModelError(f"model {path!r}: a {self.name} draws at its own size: leave width and height out")
        if (options.width is None) != (options.height is None):  # pipelines drop one that comes alone without a word
            raise ModelError(f"model {path!r}: width and height go together: write both or neither")

    @property
    def digest(self) -> str:
        """Digest the weights, configurations and tokenizers: path in the folder, size and content, sorted by path."""
        found = [(file.as_posix(), (self._folder.path / file).stat()) for file in self._folder.files]
        return _digest(self._folder.path, tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in found))

    @cached_property
    def evaluations_per_sample(self) -> int:
        """Count the denoiser's evaluations; the first reading imports diffusers, but no weights."""
        with _loading(self._uri):
            scheduler = self._sampler(self._own_config())
        if type(scheduler).__name__ == "FlowMatchEulerDiscreteScheduler":  # its timesteps want the image's size
            return self._steps * self._evaluations_per_step
        scheduler.set_timesteps(self._steps)
        return len(scheduler.timesteps) * self._evaluations_per_step

    def generate(self, requests: Sequence[Request]) -> list[RGB]:
        """Return one image for each request, as one batch."""
        if not requests:
            return []
        if not self.takes_text and any(request.prompt is not None for request in requests):
            raise ModelError(f"model {self._uri!r}: a {self.name} takes no prompt: ask it for samples without one")
        import torch

        pipeline = self._pipeline  # loaded here: weights that are born in inference mode can never leave it
        generators = [torch.Generator().manual_seed(request.seed) for request in requests]
        with torch.inference_mode():
            images = (
                self._asked(pipeline, requests, generators) if self.takes_text else self._unasked(pipeline, generators)
            )
            if not bool(torch.isfinite(images).all()):
                raise ModelError(
                    f"model {self._uri!r} gave images that are not numbers in {self._options.dtype}: try dtype float32"
                )
            return _pixels(images)

    def round_trip(self, images: Sequence[RGB]) -> list[RGB] | None:
        """Return the images, all of one size, decoded from the mode of their encoding; None without an autoencoder."""
        if not any(part.name == "vae" and part.kind in AUTOENCODERS for part in self._folder.parts):
            return None
        import torch

        batches = [images[k : k + ROUND_TRIP_BATCH] for k in range(0, len(images), ROUND_TRIP_BATCH)]
        with _in_range(self._pipeline.vae) as vae, torch.inference_mode():
            return [image for batch in batches for image in _pixels(_through(vae, np.stack(batch)))]

    def _asked(self, pipeline: Any, requests: Sequence[Request], generators: "list[Generator]") -> "Tensor":
        wanted = {
            "guidance_scale": self._options.guidance,
            "num_inference_steps": self._options.steps,
            "width": self._options.width,
            "height": self._options.height,
        }
        prompts = [_encodable(request.prompt or "") for request in requests]
        given = {key: value for key, value in wanted.items() if value is not None}
        try:
            made = pipeline(prompt=prompts, generator=generators, output_type="pt", **given)
        except ValueError as error:
            raise ModelError(f"model {self._uri!r} refused to draw: {_first_line(error)}") from error
        images: Tensor = made.images
        return images

    def _unasked(self, pipeline: Any, generators: "list[Generator]") -> "Tensor":
        """Denoise as DDPMPipeline and DDIMPipeline do, but with any sampler, which theirs do not allow."""
        import torch

        unet, scheduler = pipeline.unet, pipeline.scheduler
        size = unet.config.sample_size
        shape = (1, unet.config.in_channels, *((size, size) if isinstance(size, int) else size))
        scheduler.set_timesteps(self._steps)
        noise = torch.cat([torch.randn(shape, generator=generator, dtype=unet.dtype) for generator in generators])
        x: Tensor = noise.to(unet.device) * scheduler.init_noise_sigma
        own = {"generator": generators} if "generator" in inspect.signature(scheduler.step).parameters else {}
        for t in scheduler.timesteps:
            x = scheduler.step(unet(scheduler.scale_model_input(x, t), t).sample, t, x, **own).prev_sample
        return (x / 2 + 0.5).clamp(0, 1)

    @cached_property
    def _pipeline(self) -> Any:
        with _loading(self._uri), _hushed():
            torch = import_module("torch")
            device = _device(self._options.device)
            if device == "cpu":
                torch.set_num_threads(self._options.threads)
            pipeline = self._kind.from_pretrained(
                self._folder.path,
                torch_dtype=getattr(torch, self._options.dtype),
                use_safetensors=True,
                local_files_only=True,
                variant=self._folder.variant,
                **self._left_out(),
            )
            if self._options.sampler is not None:
                pipeline.scheduler = self._sampler(dict(pipeline.scheduler.config))
            _check_whole(self._uri, self._folder, pipeline)
            pipeline.set_progress_bar_config(disable=True)
            return pipeline.to(device)

    def _left_out(self) -> dict[str, object]:
        settings = inspect.signature(self._kind.__init__).parameters
        switches = {"requires_safety_checker": False, "add_watermarker": False}
        return dict.fromkeys(self._folder.skipped) | {key: off for key, off in switches.items() if key in settings}

    @cached_property
    def _kind(self) -> Any:
        """Return the pipeline's class. Raises ModelError where it cannot draw from a prompt alone."""
        library = _library()
        kind: Any = getattr(library, self.name, None)
        if not _is_a(kind, library.DiffusionPipeline):
            raise ModelError(f"model {self._uri!r}: diffusers {library.__version__} has no pipeline {self.name!r}")
        if kind._load_connected_pipes or (self.takes_text and "prompt" not in _parameters(kind)):
            raise ModelError(f"model {self._uri!r}: a {self.name} does not draw from a prompt alone")
        return kind

    def _own_config(self) -> dict[str, Any]:
        return _read_json(self._folder.path, Path("scheduler/scheduler_config.json"))

    def _sampler(self, config: dict[str, Any]) -> Any:
        """Return the sampler that is asked for, else the folder's own, with the noise schedule of `config`."""
        own = next(part.kind for part in self._folder.parts if part.name == "scheduler")
        if self._options.sampler is None:
            return getattr(_library(), own).from_config(config)
        if own.startswith("FlowMatch"):
            raise ModelError(f"model {self._uri!r} matches flows: leave sampler {self._options.sampler!r} out")
        name, settings = SAMPLERS[self._options.sampler]
        return getattr(_library(), name).from_config(config, **settings)

    @property
    def _steps(self) -> int:
        default: int = _parameters(self._kind)["num_inference_steps"].default
        return self._options.steps or default

    @property
    def _evaluations_per_step(self) -> int:
        """Count two where the pipeline guides by asking twice; a denoiser that learnt its guidance is asked once."""
        parameters = _parameters(self._kind)
        if "guidance_scale" not in parameters or "true_cfg_scale" in parameters:
            return 1
        default = parameters["guidance_scale"].default
        guidance = self._options.guidance if self._options.guidance is not None else default
        denoiser = self._folder.path / "unet" / "config.json"
        distilled = denoiser.exists() and json.loads(denoiser.read_bytes()).get("time_cond_proj_dim") is not None
        return 1 if distilled or guidance is None or guidance <= 1 else 2


def inspected(path: Path) -> Folder:
    """Read what a model folder says of itself and check that every part is there, whole and without code."""
    index = _read_json(path, Path("model_index.json"))
    kind = index.get("_class_name")
    if not isinstance(kind, str) or not kind.isidentifier():
        raise ModelError(
            f"model {path}: model_index.json wants a pipeline of its own ({kind!r}): refused, it would run its code"
        )
    _refuse_other_kinds(path, kind)
    named = list(_parts(path, index))
    parts = tuple(part for part in named if part.name not in UNUSED)
    if not any(part.name == "scheduler" for part in parts):
        raise ModelError(f"model {path}: model_index.json names no scheduler")
    for part in parts:
        _check_part(path, part)
    variant = _variant(path, parts)
    files = {Path("model_index.json")}.union(*(_files(path, part, variant) for part in parts))
    skipped = tuple(part.name for part in named if part.name in UNUSED)
    return Folder(path, kind, parts, skipped, variant, tuple(sorted(files, key=Path.as_posix)))


def _find(path: str, relative_to: Path) -> Path:
    local = relative_to / Path(path).expanduser()
    if local.is_dir():
        if not (local / "model_index.json").is_file():
            raise ModelError(f"model {local}: model_index.json is not there, so it is no diffusers pipeline")
        return local
    if local.is_file():
        raise ModelError(
            f"model {local} is a single file: convert it to a diffusers folder (from_single_file, save_pretrained)"
        )
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", path):
        raise ModelError(f"model folder {local} is not there (a model of the hub is written ORG/NAME)")
    return _from_hub(path, local)


def _from_hub(name: str, local: Path) -> Path:
    with _loading(name):
        hub = import_module("huggingface_hub")
        try:
            found = hub.snapshot_download(
                name,
                allow_patterns=["model_index.json", "*/*.json", "*/*.txt", "*/*.model", "*/*.safetensors"],
                ignore_patterns=["safety_checker/*", "*.fp16[.-]*", "*non_ema*", "*flax*", "*openvino*"],
            )
        except (OSError, ValueError) as error:
            reason = _first_line(error)
            raise ModelError(f"model {name!r}: no folder {local}, and not to be had from the hub ({reason})") from error
    return Path(found)


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


def _refuse_other_kinds(path: Path, kind: str) -> None:
    other = re.search(r"Img2Img|Inpaint|ControlNet|Upscale|Depth2Img|Pix2Pix|Variation|Combined|Video|Onnx|Flax", kind)
    if other:
        raise ModelError(
            f"model {path}: a {kind} does not draw from a prompt alone: name the folder's text-to-image pipeline"
        )


def _parts(path: Path, index: dict[str, Any]) -> Iterator[Part]:
    """Yield the components that the index names. Raises ModelError where one would run code from elsewhere."""
    for name, value in index.items():
        if name.startswith("_") or not isinstance(value, list) or value == [None, None]:
            continue
        if len(value) != 2 or not all(isinstance(word, str) and word.isidentifier() for word in (name, *value)):
            raise ModelError(
                f"model {path}: model_index.json names no known component for {name!r}: {value!r}, refused"
            )
        part = Part(name, *value)
        known = part.library in LIBRARIES or (name == "safety_checker" and part.library == "stable_diffusion")
        if not known or part.kind.startswith("_") or re.match("Auto[A-Z]", part.kind):
            raise ModelError(
                f"model {path}: {name!r} is {part.library}.{part.kind}: refused, "
                "only classes of diffusers and transformers are loaded"
            )
        yield part


def _check_part(path: Path, part: Part) -> None:
    folder = path / part.name
    if not folder.is_dir():
        raise ModelError(f"model {path}: folder {part.name} is not there ({part.kind})")
    for code in folder.rglob("*.py"):
        raise ModelError(f"model {path}: {code.relative_to(path)} is code: refused, delete it if you trust the weights")
    if "Tokenizer" not in part.kind:
        _read_json(path, Path(part.name) / _config(part))
    elif not any(all((folder / file).is_file() for file in files) for files in VOCABULARIES):
        raise ModelError(f"model {path}: {part.name} has no vocabulary (tokenizer.json, or vocab.json with merges.txt)")
    for file in folder.glob("*.json"):
        _read_json(path, file.relative_to(path))


def _config(part: Part) -> str:
    if "Scheduler" in part.kind:
        return "scheduler_config.json"
    return "preprocessor_config.json" if part.weightless else "config.json"


def _variant(path: Path, parts: Iterable[Part]) -> str | None:
    """Return the first variant for which every part has whole weights."""
    models = [part for part in parts if not part.weightless]
    for variant in VARIANTS:
        if all(_weights(path, part, variant) for part in models):
            for file in {
                file for part in models for file in _weights(path, part, variant) if file.suffix == ".safetensors"
            }:
                tensors(path, file)
            return variant
    raise _no_weights(path, next(part for part in models if not _weights(path, part, None)))


def _weights(path: Path, part: Part, variant: str | None) -> list[Path]:
    """Return the weight files of a part for a variant, else the plain ones, else none."""
    stem = "diffusion_pytorch_model" if part.library == "diffusers" else "model"
    dotted = f".{variant}" if variant else ""
    single = Path(part.name) / f"{stem}{dotted}.safetensors"
    index = Path(part.name) / f"{stem}.safetensors.index{dotted}.json"
    if (path / single).is_file():
        return [single]
    if (path / index).is_file():
        return [index, *_shards(path, index)]
    return _weights(path, part, None) if variant else []


def _shards(path: Path, index: Path) -> list[Path]:
    where = _read_json(path, index).get("weight_map")
    if not isinstance(where, dict) or not all(
        isinstance(name, str) and Path(name).name == name for name in where.values()
    ):
        raise ModelError(f"model {path}: {index} has no weight_map of files beside it")
    return [index.with_name(name) for name in sorted(set(where.values()))]


def _no_weights(path: Path, part: Part) -> ModelError:
    pickles = sorted(file for file in (path / part.name).iterdir() if file.suffix in PICKLES)
    if not pickles:
        return ModelError(f"model {path}: {part.name} has no weights (*.safetensors)")
    return ModelError(
        f"model {path}: {part.name}/{pickles[0].name} is a pickle, which can run code: refused; "
        "where you trust it, convert it: DiffusionPipeline.from_pretrained(OLD).save_pretrained(NEW) writes safetensors"
    )


def _files(path: Path, part: Part, variant: str | None) -> set[Path]:
    small = {
        file.relative_to(path) for file in (path / part.name).iterdir() if file.suffix in (".json", ".txt", ".model")
    }
    return small if part.weightless else small.union(_weights(path, part, variant))


def tensors(path: Path, file: Path) -> dict[str, Any]:
    """Return the header of a safetensors file. Raises ModelError where the file is not as long as its header says."""
    try:
        with (path / file).open("rb") as stream:
            size = (path / file).stat().st_size
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > min(size, LONGEST_HEADER):
                raise ValueError("its header does not end in the file")
            header = json.loads(stream.read(length))
            header.pop("__metadata__", None)
            if size != 8 + length + max((tensor["data_offsets"][1] for tensor in header.values()), default=0):
                raise ValueError("its length is not what its header says")
    except FileNotFoundError:
        raise ModelError(f"model {path}: {file} is not there") from None
    except (OSError, ValueError, RecursionError, TypeError, LookupError, AttributeError, struct.error) as error:
        raise ModelError(
            f"model {path}: {file} is truncated or damaged ({_first_line(error)}): copy it again"
        ) from error
    return dict(header)


def _read_json(path: Path, file: Path) -> dict[str, Any]:
    try:
        content = json.loads((path / file).read_bytes())
    except FileNotFoundError:
        raise ModelError(f"model {path}: {file} is not there") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(
            f"model {path}: {file} cannot be read as JSON ({_first_line(error)}): copy it again"
        ) from error
    if not isinstance(content, dict):
        raise ModelError(f"model {path}: {file} holds no JSON object: copy it again")
    return content


@lru_cache
def _digest(path: Path, stamps: tuple[tuple[str, int, int], ...]) -> str:
    """Hash the files; their sizes and times stand in the key, so that a changed file is read again."""
    whole = sha256()
    for name, size, _ in stamps:
        whole.update(f"{name}\n{size}\n".encode())
        with (path / name).open("rb") as stream:
            while block := stream.read(1 << 20):
                whole.update(block)
    return f"sha256:{whole.hexdigest()}"


@contextmanager
def _loading(uri: str) -> Iterator[None]:
    """Tell what goes wrong in the libraries as one line."""
    try:
        yield
    except ImportError as error:
        raise ModelError(f"model {uri!r} wants a library ({_first_line(error)}): install byrote[diffusers]") from error
    except (OSError, ValueError, TypeError, RuntimeError, LookupError, AttributeError, AssertionError) as error:
        raise ModelError(f"model {uri!r} cannot be loaded: {_first_line(error)}") from error


@contextmanager
def _hushed() -> Iterator[None]:
    """Drop what diffusers has to say of its own future and of old schedulers, which it mends by itself."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning, module="diffusers")
        yield


@lru_cache
def _library() -> Any:
    """Import diffusers and transformers without their talk of things that byrote does not use."""
    for name in ("transformers", "diffusers"):
        talk = import_module(f"{name}.utils.logging")
        talk.set_verbosity_error()
        talk.disable_progress_bar()
    return import_module("diffusers")


def _is_a(kind: object, family: type) -> bool:
    return inspect.isclass(kind) and issubclass(kind, family)


def _parameters(kind: Any) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(kind.__call__).parameters)


def _device(name: str) -> str:
    import torch

    there = {"cpu": 1, "mps": int(torch.backends.mps.is_available()), "cuda": torch.cuda.device_count()}
    kind, _, number = name.partition(":")
    if int(number or 0) >= there[kind]:
        raise ModelError(
            f"device {name!r} is not there: {there['cuda']} CUDA devices on this machine; cpu always works"
        )
    return name


def _check_whole(uri: str, folder: Folder, pipeline: Any) -> None:
    """Refuse weights that lack tensors: diffusers would fill them with noise and say so in a log only."""
    for part in folder.parts:
        module = getattr(pipeline, part.name)
        if part.weightless or not hasattr(module, "state_dict"):
            continue
        files = [file for file in _weights(folder.path, part, folder.variant) if file.suffix == ".safetensors"]
        there = sum(len(tensors(folder.path, file)) for file in files)
        wanted = len({tensor.data_ptr() for tensor in module.state_dict().values()})
        if there < wanted:
            raise ModelError(f"model {uri!r}: the weights of {part.name} hold {there} tensors of {wanted}")


@contextmanager
def _in_range(vae: Any) -> Iterator[Any]:
    """Hold an autoencoder that overflows in float16 in float32, as its pipeline does before it decodes."""
    kept = vae.dtype
    upcast = kept == import_module("torch").float16 and getattr(vae.config, "force_upcast", False)
    try:
        yield vae.float() if upcast else vae
    finally:
        vae.to(kept)


def _through(vae: Any, images: RGB) -> "Tensor":
    import torch

    x = torch.from_numpy(images).permute(0, 3, 1, 2).to(vae.device, torch.float32) / 127.5 - 1
    encoded = vae.encode(x.to(vae.dtype))
    latents = encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded[0]
    decoded: Tensor = vae.decode(latents).sample
    return (decoded / 2 + 0.5).clamp(0, 1)


def _encodable(prompt: str) -> str:
    """Replace halves of surrogate pairs, which no tokenizer takes, by question marks."""
    return prompt.encode("utf-8", "replace").decode("utf-8")


def _pixels(images: "Tensor") -> list[RGB]:
    """Turn [n, channels, h, w] in [0, 1] to levels; a grey image gets three equal channels."""
    levels = images.float().mul(255).round().byte().expand(-1, 3, -1, -1).permute(0, 2, 3, 1).contiguous()
    return list(levels.cpu().numpy())


def _listed(words: Iterable[str]) -> str:
    return ", ".join(words)


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]
