"""A Stable Diffusion checkpoint in one file, in the layout in which versions 1, 2 and XL were published.

The file holds weights and nothing else; what shape the model has, its vocabulary and its noise schedule come from a
diffusers folder, whose own weights are not wanted. Every tensor of the model must be in the file, and every tensor of
the file in the model: another folder than the right one is found out. No network, no code, no pickle.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from byrote.errors import ModelError
from byrote.models import layouts
from byrote.models.digests import together
from byrote.models.folders import (
    PICKLES,
    Folder,
    Part,
    Shape,
    digest_of,
    first_line,
    inspected,
    read_json,
    shapes,
)

if TYPE_CHECKING:
    from torch import Tensor

UNET = "model.diffusion_model."
PREFIXES = {
    "unet": (UNET,),
    "vae": ("first_stage_model.",),
    "text_encoder": (
        "cond_stage_model.transformer.",
        "cond_stage_model.model.",
        "conditioner.embedders.0.transformer.",
    ),
    "text_encoder_2": ("conditioner.embedders.1.model.",),
}
PUBLISHED = {
    768: "stable-diffusion-v1-5/stable-diffusion-v1-5",
    1024: "stabilityai/stable-diffusion-2-1",
    2048: "stabilityai/stable-diffusion-xl-base-1.0",
}
"""Where diffusers 0.42 takes configurations from, by the width of the text that the denoiser reads."""
SPARE = re.compile(
    r"model_ema\..+|denoiser\.sigmas|betas|logvar|lvlb_weights|posterior_\w+|\w*alphas_cumprod\w*"
    r"|.+\.(position_ids|logit_scale)|cond_stage_model\.model\.(text_projection|transformer\.resblocks\.\d+\..+)"
)
"""What published files hold beside the model: averages, noise schedules, counters, and the last layers of OpenCLIP,
which Stable Diffusion 2 does not ask."""
PREDICTS = {"v_pred": ("prediction_type", "v_prediction"), "ztsnr": ("rescale_betas_zero_snr", True)}


class Single(NamedTuple):
    """A checkpoint whose header was read, the parts of a pipeline that it holds, and the shapes of its tensors."""

    file: Path
    parts: tuple[str, ...]
    shapes: dict[str, Shape]


class Source(NamedTuple):
    """A tensor of the file, and which third of it (q, k or v) or whether it is turned."""

    key: str
    third: int | None = None
    turned: bool = False


def opened(file: Path) -> Single:
    """Read the header of a checkpoint. Raises ModelError where it is none of Stable Diffusion 1, 2 or XL."""
    if file.suffix in PICKLES:
        raise ModelError(
            f"model {file} is a pickle, which can run code: refused; get it as safetensors, or where you trust it, "
            "convert it: StableDiffusionPipeline.from_single_file(OLD).save_pretrained(NEW) writes a folder"
        )
    if file.suffix != ".safetensors":
        raise ModelError(f"model {file} is no folder and no .safetensors file: name either")
    held = shapes(file.parent, Path(file.name))
    parts = tuple(part for part, starts in PREFIXES.items() if any(key.startswith(starts) for key in held))
    if "unet" not in parts:
        raise ModelError(
            f"model {file}: a single file is read of Stable Diffusion 1, 2 or XL only ({_guess(held)}): "
            "other kinds are opened as folders: PIPELINE.from_single_file(OLD).save_pretrained(NEW)"
        )
    return Single(file, parts, held)


def inspected_with(single: Single, config: str | None, relative_to: Path) -> Folder:
    """Inspect the folder that configures a checkpoint. Raises ModelError where it is not named or not the right one."""
    if config is None:
        raise _needs_config(single)
    path = relative_to / Path(config).expanduser()
    if not path.is_dir():
        raise ModelError(f"model {single.file}: config {path} is no folder")
    index = read_json(path, Path("model_index.json"))
    for part in [part for part in PREFIXES if part in index and part not in single.parts]:
        if not any((path / part).glob("*.safetensors")):
            raise ModelError(f"model {single.file} has no {part}, and config {path} wants one: is it of another model?")
    folder = inspected(path, elsewhere=single.parts)
    _check(single, folder)
    return folder


def digest(base: str, single: Single) -> str:
    """Digest the file together with its configuration, whose digest is `base`."""
    return together({"config": base, "file": digest_of(single.file.parent, [Path(single.file.name)])})


def modules(single: Single, folder: Folder, dtype: str) -> dict[str, Any]:
    """Load the parts of the pipeline that the file holds, in a dtype of torch. Raises ModelError."""
    import torch
    from safetensors import SafetensorError, safe_open

    empty = {part.name: _empty(folder, part) for part in folder.parts if part.name in single.parts}
    sources = {name: _sources(single, name, module.state_dict()) for name, module in empty.items()}
    _check_used(single, folder, {source.key for own in sources.values() for source in own.values()})
    try:
        with safe_open(single.file, "pt") as file:
            for name, module in empty.items():
                wanted = {key: tuple(tensor.shape) for key, tensor in module.state_dict().items()}
                tensors = {key: _read(single, file, sources[name][key], wanted[key]) for key in wanted}
                module.load_state_dict(tensors)
                module.to(getattr(torch, dtype)).eval()
    except (SafetensorError, OSError) as error:
        raise ModelError(f"model {single.file} cannot be read ({first_line(error)}): get the file again") from error
    return empty


def _needs_config(single: Single) -> ModelError:
    """Return what to tell where no configuration is named."""
    width = next((shape[-1] for key, shape in single.shapes.items() if key.endswith("attn2.to_k.weight")), 0)
    known = f" (like {PUBLISHED[width]})" if width in PUBLISHED else ""
    return ModelError(
        f"model {single.file} is weights only: add ?config=FOLDER, a diffusers folder of its architecture{known}; its "
        "JSON and vocabulary are enough (hf download NAME --include '*.json' --include '*.txt' --local-dir FOLDER)"
    )


def _check(single: Single, folder: Folder) -> None:
    """Raise ModelError where the folder is not one to configure this file by, as far as can be told without loading."""
    names = [part.name for part in folder.parts]
    for part in single.parts:
        if part not in names:
            raise ModelError(f"model {single.file} holds a {part}, and {folder.path} is a {folder.kind} without one")
    scheduler = read_json(folder.path, Path("scheduler/scheduler_config.json"))
    for mark, (name, value) in PREDICTS.items():
        if mark in single.shapes and scheduler.get(name) != value:
            raise ModelError(f"model {single.file} is marked {mark}: its folder's scheduler wants {name} {value!r}")


def _guess(held: Iterable[str]) -> str:
    names = list(held)
    if any("lora_" in name for name in names):
        return "it is a LoRA: name it in lora, over a model"
    if any("double_blocks." in name for name in names):
        return "it looks like Flux"
    if any("joint_blocks." in name for name in names):
        return "it looks like SD 3"
    return f"its first tensor is {names[0]!r}" if names else "it holds no tensors"


def _empty(folder: Folder, part: Part) -> Any:
    """Make a part as its configuration says."""
    import diffusers
    import transformers

    if part.library == "diffusers":
        kind = getattr(diffusers, part.kind)
        return kind.from_config(read_json(folder.path, Path(part.name) / "config.json"))
    kind = getattr(transformers, part.kind)
    return kind(kind.config_class.from_pretrained(folder.path / part.name, local_files_only=True))


def _sources(single: Single, part: str, wanted: Mapping[str, "Tensor"]) -> dict[str, Source]:
    """Return for each tensor of a part where it is in the file. Raises ModelError where it is not."""
    start = next(start for start in PREFIXES[part] if any(key.startswith(start) for key in single.shapes))
    sources = _named(part, start, wanted)
    for name, source in sources.items():
        if source.key not in single.shapes:
            raise ModelError(
                f"model {single.file} lacks {source.key} ({part}.{name}): get another config, or the file again"
            )
    return sources


def _named(part: str, start: str, wanted: Iterable[str]) -> dict[str, Source]:
    if part in ("unet", "vae"):
        names = layouts.unet(wanted) if part == "unet" else layouts.vae(wanted)
        return {name: Source(start + key) for name, key in names.items()}
    if start.endswith(".transformer."):
        bare = ("text_model.", "text_projection.")
        return {name: Source(start + ("" if name.startswith(bare) else "text_model.") + name) for name in wanted}
    found = {name: layouts.open_clip(name) for name in wanted}
    return {name: Source(start + key, third, key == "text_projection") for name, (key, third) in found.items()}


def _check_used(single: Single, folder: Folder, used: set[str]) -> None:
    left = [key for key in single.shapes if key not in used and key not in PREDICTS and not SPARE.fullmatch(key)]
    if left:
        raise ModelError(
            f"model {single.file} holds {len(left)} tensors that the model of {folder.path} has not, as {left[0]!r}: "
            "that is a config of another architecture"
        )


def _read(single: Single, file: Any, source: Source, shape: Shape) -> "Tensor":
    tensor: Tensor = file.get_tensor(source.key)
    if source.third is not None:
        tensor = tensor.chunk(3)[source.third]
    if source.turned:
        tensor = tensor.T
    if tuple(tensor.shape) != shape and tuple(tensor.shape) != (*shape, 1, 1):
        raise ModelError(
            f"model {single.file}: {source.key} is {list(tensor.shape)}, and the config wants {list(shape)}: "
            "that is a config of another architecture"
        )
    return tensor.reshape(shape)
