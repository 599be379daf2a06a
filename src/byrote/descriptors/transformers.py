"""CLIP and DINOv2 through Hugging Face transformers, from a folder or a hub id.

They see what a picture shows rather than whether it is a copy, and nobody published a threshold for copies. A folder
comes from strangers: only safetensors are read, and no code of its own runs.
"""

import json
import re
from collections.abc import Sequence
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from byrote.descriptors import Metric, Threshold
from byrote.descriptors.batches import filled
from byrote.descriptors.weights import hashed, loading, normal, unit
from byrote.domain import RGB
from byrote.errors import DescriptorError

TOGETHER = 16  # images in a batch
CONFIG, PREPROCESSING = "config.json", "preprocessor_config.json"


class Preparation(NamedTuple):
    """What a folder's preprocessor_config.json asks for, in this order; sizes are (height, width).

    The shorter edge to `short` or the whole to `size`, the centre cut out, levels times `scale`, mean and deviation.
    """

    short: int | None
    size: tuple[int, int] | None
    resample: int
    crop: tuple[int, int] | None
    scale: float
    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    def __str__(self) -> str:
        resized = f"short{self.short}" if self.short else "x".join(map(str, self.size or ("as", "is")))
        return resized + ("-crop" + "x".join(map(str, self.crop)) if self.crop else "")

    def apply(self, image: RGB) -> NDArray[np.float32]:
        """Return the pixels [3, h, w] as the network wants them."""
        pixels = np.asarray(self._resized(Image.fromarray(image)))
        if self.crop:
            top, left = ((old - new) // 2 for old, new in zip(pixels.shape, self.crop, strict=False))
            pixels = pixels[top : top + self.crop[0], left : left + self.crop[1]]
        scaled = pixels.astype(np.float32) * np.float32(self.scale)
        return normal(scaled, self.mean, self.deviation)

    def _resized(self, image: Image.Image) -> Image.Image:
        if self.short:
            width, height = (max(1, int(self.short * side / min(image.size))) for side in image.size)
        elif self.size:
            height, width = self.size
        else:
            return image
        return image.resize((width, height), Image.Resampling(self.resample))


class _Transformer:
    """A vision model of transformers. Subclasses say which, and what of its output is the vector."""

    kind = ""
    model_types: tuple[str, ...] = ()
    example = ""
    library_class = ""
    metric: Metric = "cosine"
    threshold: Threshold | None = None

    def __init__(self, rest: str, device: str = "cpu", relative_to: Path | None = None) -> None:
        self._uri, self._device = f"{self.kind}:{rest}", device
        self._folder = self._find(rest, relative_to or Path.cwd())
        self._check_type()
        self._preparation = _preparation(self._uri, self._json(PREPROCESSING))
        files = [self._folder / CONFIG, *self._weights()]
        self.name = f"{self.kind}-{hashed(files, repr(tuple(self._preparation)))}-{self._preparation}-v1"

    @cached_property
    def dimensions(self) -> int:
        """Count the numbers of a row, by describing a blank."""
        return len(self._rows([np.zeros((64, 64, 3), np.uint8)])[0])

    def describe(self, images: Sequence[RGB]) -> NDArray[np.float32]:
        """Return one row for each image. Raises DescriptorError."""
        return filled(images, TOGETHER, np.empty((len(images), self.dimensions), np.float32), self._rows)

    def vectors(self, output: Any) -> Any:
        """Take the vectors [n, d] from what the model returns."""
        raise NotImplementedError

    def _rows(self, images: list[RGB]) -> NDArray[np.float32]:
        model = self._model
        import torch

        pixels = torch.from_numpy(np.stack([self._preparation.apply(image) for image in images]))
        with torch.inference_mode(), loading(self._uri):
            found = self.vectors(model(pixel_values=pixels.to(self._device))).float().cpu().numpy()
        return unit(self._uri, found)

    @cached_property
    def _model(self) -> Any:
        with loading(self._uri):
            library = import_module("transformers")
            talk = import_module("transformers.utils.logging")
            talk.set_verbosity_error()
            talk.disable_progress_bar()
            kind = getattr(library, self.library_class)
            model, told = kind.from_pretrained(
                self._folder, local_files_only=True, use_safetensors=True, output_loading_info=True
            )
            if told["missing_keys"]:
                raise ValueError(f"its weights lack {min(told['missing_keys'])}")
            return model.float().eval().to(self._device)

    def _find(self, rest: str, relative_to: Path) -> Path:
        local = relative_to / Path(rest).expanduser()
        if rest and local.is_dir():
            return local
        get = f"download https://huggingface.co/{self.example} to a folder and write {self.kind}:FOLDER"
        if not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", rest):
            raise DescriptorError(f"descriptor {self._uri!r}: the folder is not there: {get}")
        with loading(self._uri):
            hub = import_module("huggingface_hub")
        try:
            wanted = [CONFIG, PREPROCESSING, "*.safetensors", "*.safetensors.index.json"]
            return Path(hub.snapshot_download(rest, allow_patterns=wanted))
        except (OSError, ValueError) as error:
            told = f"descriptor {self._uri!r}: no such folder, and not to be had from the hub: {get}"
            raise DescriptorError(told) from error

    def _check_type(self) -> None:
        found = self._json(CONFIG).get("model_type")
        if found not in self.model_types:
            wanted = " or ".join(self.model_types)
            raise DescriptorError(f"descriptor {self._uri!r}: {CONFIG} says model_type {found!r}, wanted is {wanted}")

    def _weights(self) -> list[Path]:
        files = sorted(self._folder.glob("*.safetensors"))
        if not files:
            raise DescriptorError(
                f"descriptor {self._uri!r}: the folder has no .safetensors file: download {self.example}"
            )
        return files

    def _json(self, name: str) -> dict[str, Any]:
        try:
            read = json.loads((self._folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DescriptorError(
                f"descriptor {self._uri!r}: {name} is not there or broken: download it again"
            ) from error
        if not isinstance(read, dict):
            raise DescriptorError(f"descriptor {self._uri!r}: {name} is no table: download it again")
        return read


class Clip(_Transformer):
    """CLIP's image vectors after the projection (Radford et al. 2021, arXiv:2103.00020), at length 1."""

    kind = "clip"
    model_types = ("clip", "clip_vision_model")
    example = "openai/clip-vit-base-patch32"
    library_class = "CLIPVisionModelWithProjection"

    def vectors(self, output: Any) -> Any:
        """Take the projected vectors."""
        return output.image_embeds


class Dinov2(_Transformer):
    """DINOv2's class token after the last norm (Oquab et al. 2023, arXiv:2304.07193), at length 1."""

    kind = "dinov2"
    model_types = ("dinov2", "dinov2_with_registers")
    example = "facebook/dinov2-base"
    library_class = "AutoModel"

    def vectors(self, output: Any) -> Any:
        """Take the class token."""
        return output.last_hidden_state[:, 0]


def _preparation(uri: str, told: dict[str, Any]) -> Preparation:
    """Read what transformers writes, old forms (whole numbers for sizes) included. Raises DescriptorError."""
    try:
        resize, crop = told.get("do_resize", True), told.get("do_center_crop", False)
        short = _short(told["size"]) if resize else None
        made = Preparation(
            short,
            _sides(told["size"]) if resize and short is None else None,
            int(told.get("resample", Image.Resampling.BICUBIC)),
            _sides(told["crop_size"]) if crop else None,
            float(told.get("rescale_factor", 1 / 255)) if told.get("do_rescale", True) else 1.0,
            tuple(map(float, told["image_mean"])) if told.get("do_normalize", True) else (0.0,) * 3,
            tuple(map(float, told["image_std"])) if told.get("do_normalize", True) else (1.0,) * 3,
        )
        Image.Resampling(made.resample)
    except (LookupError, TypeError, ValueError) as error:
        raise DescriptorError(f"descriptor {uri!r}: {PREPROCESSING} is not understood ({error})") from error
    least = (short, short) if short else made.size
    if (
        least is None
        or (made.crop is None and short)
        or any(a < b for a, b in zip(least, made.crop or (), strict=False))
    ):
        raise DescriptorError(f"descriptor {uri!r}: {PREPROCESSING} does not lead to images of one size")
    return made


def _short(size: Any) -> int | None:
    """Return the length of the shorter edge, where that is what `size` says."""
    if isinstance(size, int):
        return size
    return int(size["shortest_edge"]) if "shortest_edge" in size else None


def _sides(size: Any) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (int(size["height"]), int(size["width"]))
