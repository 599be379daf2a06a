"""ResNet-50 with GeM pooling: SSCD's network, over a dictionary of tensors named as torchvision names them.

He et al. 2016, arXiv:1512.03385, with the stride in the 3 x 3 convolution, as torchvision has it; GeM: Radenovic et al.
2018, arXiv:1711.02512, equation 3; SSCD: Pizzi et al. 2022, arXiv:2202.10261. Widths are those of the tensors.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor
from torch.nn import functional

BLOCKS = (3, 4, 6, 3)
GEM = 3.0
_LEAST = 1e-6  # what pooling takes a value below for: SSCD's code
_NORM = ("weight", "bias", "running_mean", "running_var")


def described(weights: Mapping[str, Tensor], images: Tensor) -> Tensor:
    """Return the vectors [n, d], at length 1, of images [n, 3, h, w] that are normalised already."""
    x = functional.relu(_normed(weights, "bn1", functional.conv2d(images, weights["conv1.weight"], None, 2, 3)))
    x = functional.max_pool2d(x, 3, 2, 1)
    for place, stride in _places():
        x = _bottleneck(weights, place, x, stride)
    pooled = x.flatten(2).clamp(min=_LEAST).pow(GEM).mean(2).pow(1 / GEM)
    return functional.normalize(functional.linear(pooled, weights["fc.weight"], weights["fc.bias"]))


def named(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors without the `backbone.` that SSCD's files put before them. Raises ValueError for one missing.

    Counters of batches are left out.
    """
    bare = {name.removeprefix("backbone."): tensor for name, tensor in state.items()}
    missing = [name for name in expected() if name not in bare]
    if missing:
        told = f"{missing[0]!r} and {len(missing) - 1} more tensors are not there"
        raise ValueError(f"{told}: wanted are torchvision's names of a ResNet-50, as in sscd_disc_mixup.torchvision.pt")
    return {name: bare[name] for name in expected()}


def expected() -> list[str]:
    """List the names of all tensors."""
    names = ["conv1.weight", *_norm("bn1")]
    for place, _ in _places():
        names += [name for k in (1, 2, 3) for name in (f"{place}.conv{k}.weight", *_norm(f"{place}.bn{k}"))]
        if place.endswith(".0"):
            names += [f"{place}.downsample.0.weight", *_norm(f"{place}.downsample.1")]
    return [*names, "fc.weight", "fc.bias"]


def _places() -> Iterator[tuple[str, int]]:
    """Yield the bottlenecks with their strides."""
    for layer, blocks in enumerate(BLOCKS, 1):
        for block in range(blocks):
            yield f"layer{layer}.{block}", 2 if layer > 1 and block == 0 else 1


def _bottleneck(weights: Mapping[str, Tensor], place: str, x: Tensor, stride: int) -> Tensor:
    y = x
    for k, step, margin in ((1, 1, 0), (2, stride, 1), (3, 1, 0)):
        y = functional.conv2d(y, weights[f"{place}.conv{k}.weight"], None, step, margin)
        y = _normed(weights, f"{place}.bn{k}", y)
        y = functional.relu(y) if k < 3 else y
    if f"{place}.downsample.0.weight" in weights:
        x = functional.conv2d(x, weights[f"{place}.downsample.0.weight"], None, stride)
        x = _normed(weights, f"{place}.downsample.1", x)
    return functional.relu(x + y)


def _normed(weights: Mapping[str, Tensor], place: str, x: Tensor) -> Tensor:
    scale, shift, mean, variance = (weights[name] for name in _norm(place))
    return functional.batch_norm(x, mean, variance, scale, shift)


def _norm(place: str) -> list[str]:
    return [f"{place}.{part}" for part in _NORM]


def cast(state: Mapping[str, Tensor], device: str) -> dict[str, Tensor]:
    """Return the network's tensors as float32 on the device."""
    return {name: tensor.to(device, torch.float32) for name, tensor in named(state).items()}
