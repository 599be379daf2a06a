"""SSCD, Meta's descriptor of copies, from a local file.

Pizzi et al. 2022, arXiv:2202.10261. Three kinds of file: TorchScript (`sscd_disc_mixup.torchscript.pt`), weights of
torch (`sscd_disc_mixup.torchvision.pt`) and safetensors with the same names. A TorchScript file brings its own program,
which runs with your rights: take it from Meta or from nobody. The other two are numbers, read by `resnet.py`.
"""

import warnings
import zipfile
from collections.abc import Callable, Sequence
from functools import cached_property
from importlib import import_module
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from byrote.descriptors import Metric, Threshold
from byrote.descriptors.batches import filled
from byrote.descriptors.weights import hashed, loading, normal, unit
from byrote.domain import RGB
from byrote.errors import DescriptorError

if TYPE_CHECKING:
    from torch import Tensor

URL = "https://dl.fbaipublicfiles.com/sscd-copy-detection/sscd_disc_mixup.torchscript.pt"
SHORT = 288  # pixels of the shorter edge: "small_288" of SSCD's README
LONGEST = 8 * SHORT  # of the longer edge; ours, so that a strip cannot fill the memory
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's
TOGETHER = 8  # images of one shape in a batch
PUBLISHED = Threshold(
    0.75,
    "SSCD's README: 90 % precision on the pairs of DISC at a cosine above .75, for sscd_disc_mixup; "
    "among other pictures the precision is another",
)


class Sscd:
    """Rows of float32 at length 1 (512 numbers for the files of ResNet-50); compare them by their cosine.

    Preprocessing as published: the shorter edge to 288 (bilinear, antialiased), levels / 255, mean and deviation of
    ImageNet. Departs from it: a longer edge of more than 2,304 is squashed to that. The published threshold is given to
    a file only whose name says `disc_mixup`. Alone and in a batch a row may differ by 1e-5 in a number.
    """

    metric: Metric = "cosine"

    def __init__(self, path: Path, device: str = "cpu") -> None:
        self._path, self._device, self._uri = path, device, f"sscd:{path}"
        if not path.is_file():
            raise DescriptorError(f"descriptor {self._uri!r}: the file is not there: download {URL} to it")
        self.name = f"sscd-{hashed([path])}-short{SHORT}-v1"
        self.threshold = PUBLISHED if "disc_mixup" in path.name else None

    @cached_property
    def dimensions(self) -> int:
        """Count the numbers of a row, by describing a blank."""
        return len(self._rows([np.zeros((64, 64, 3), np.uint8)])[0])

    def describe(self, images: Sequence[RGB]) -> NDArray[np.float32]:
        """Return one row for each image. Raises DescriptorError."""
        return filled(images, TOGETHER, np.empty((len(images), self.dimensions), np.float32), self._rows)

    def _rows(self, images: list[RGB]) -> NDArray[np.float32]:
        network = self._network
        import torch

        pixels = np.stack([_prepared(image) for image in images])
        with torch.inference_mode(), loading(self._uri):
            vectors = network(torch.from_numpy(pixels).to(self._device)).float().cpu().numpy()
        return unit(self._uri, vectors)

    @cached_property
    def _network(self) -> "Callable[[Tensor], Tensor]":
        with loading(self._uri):
            return _scripted(self._path, self._device) if _is_script(self._path) else _plain(self._path, self._device)


def opened(rest: str, device: str, relative_to: Path) -> Sscd:
    """Return the descriptor of a file. Raises DescriptorError."""
    if not rest:
        raise DescriptorError(f"descriptor 'sscd' wants a file: write sscd:FILE, with FILE from {URL}")
    return Sscd(relative_to / Path(rest).expanduser(), device)


def _is_script(path: Path) -> bool:
    """Say whether the file is a TorchScript archive: a zip with constants beside the code."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _scripted(path: Path, device: str) -> Any:
    warnings.warn(f"{path.name} is TorchScript: the program in it runs with your rights", stacklevel=2)
    load: Any = import_module("torch.jit").load
    return load(str(path), map_location=device).eval()


def _plain(path: Path, device: str) -> "Callable[[Tensor], Tensor]":
    from byrote.descriptors import resnet

    weights = resnet.cast(_state(path), device)
    return lambda images: resnet.described(weights, images)


def _state(path: Path) -> "dict[str, Tensor]":
    """Read numbers only: no pickle that would call anything. Raises ValueError."""
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return dict(load_file(path))
    import torch

    try:
        state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:  # its own text advises to load the file unsafely
        raise ValueError(f"{path.name} is neither TorchScript nor plain weights: use the file from {URL}") from error
    return state


def _prepared(image: RGB) -> NDArray[np.float32]:
    """Return the pixels [3, h, w] as the network wants them."""
    height, width = image.shape[:2]
    size = [min(LONGEST, int(SHORT * side / min(height, width))) for side in (width, height)]
    resized = np.asarray(Image.fromarray(image).resize((size[0], size[1]), Image.Resampling.BILINEAR), np.float32)
    return normal(resized / np.float32(255), MEAN, DEVIATION)
