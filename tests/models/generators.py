"""Tiny generators with random weights: a DCGAN as a module of torch, and the same network as ONNX, node by node."""

import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

Z, CLASSES, SIDE = 8, 5, 16


class Generator(nn.Module):
    """Latents [n, 8] (and classes, where there are some) to images [n, channels, 16, 16] in -1..1."""

    def __init__(self, channels: int = 3, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            self.embed = nn.Linear(CLASSES, Z)
            self.first = nn.ConvTranspose2d(Z, 12, 4)
            self.norm = nn.BatchNorm2d(12)
            self.norm.running_mean.normal_(0, 0.1)
            self.second = nn.ConvTranspose2d(12, channels, 4, stride=4)
            for weight in (self.first.weight, self.second.weight):
                nn.init.normal_(weight, 0, 0.35)

    def forward(self, z: Tensor) -> Tensor:
        x = z.reshape(-1, Z, 1, 1)
        x = torch.relu(self.norm(self.first(x)))
        return torch.tanh(self.second(x))


class ByIndex(Generator):
    """A conditional generator that is told the class by its number, and gives a tuple."""

    def forward(self, z: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        told = torch.nn.functional.one_hot(label, 5).to(z.dtype)
        made = super().forward(z + 2 * self.embed(told))
        return made, z


class ByOneHot(Generator):
    """A conditional generator that is told the class one-hot."""

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        return super().forward(z + 2 * self.embed(label))


class Noisy(Generator):
    """A generator that draws noise of its own in every call."""

    def forward(self, z: Tensor) -> Tensor:
        made = super().forward(z)
        return made + 0.3 * torch.randn_like(made)


class Levels(Generator):
    """A generator that gives uint8, channels last."""

    def forward(self, z: Tensor) -> Tensor:
        made = super().forward(z).permute(0, 2, 3, 1)
        return ((made + 1) * 127.5).round().to(torch.uint8)


def scripted(module: nn.Module, file: Path, *, labels: Tensor | None = None) -> Path:
    """Trace a module and save it."""
    z = torch.zeros(2, Z)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(module.eval(), (z,) if labels is None else (z, labels), check_trace=False)
        torch.jit.save(traced, str(file))
    return file


def exported(
    module: Generator,
    file: Path,
    *,
    batch: int | str = "n",
    labels: str = "",
    z: int | str = Z,
    kind: int = TensorProto.FLOAT,
    last: bool = False,
) -> Path:
    """Write the network as ONNX; `labels` "index" or "onehot" adds an input `label` for the class."""
    onnx.save(graph(module, batch=batch, labels=labels, z=z, kind=kind, last=last), file)
    return file


def graph(
    module: Generator,
    *,
    batch: int | str = "n",
    labels: str = "",
    z: int | str = Z,
    kind: int = TensorProto.FLOAT,
    last: bool = False,
) -> onnx.ModelProto:
    """Return the network as an ONNX model."""
    module = module.eval()
    state = {name.replace(".", "_"): value.numpy() for name, value in module.state_dict().items()}
    tensors = [numpy_helper.from_array(value, name) for name, value in state.items() if value.dtype == np.float32]
    tensors += [
        numpy_helper.from_array(np.array([-1, Z, 1, 1], np.int64), "shape"),
        numpy_helper.from_array(np.array(CLASSES, np.int64), "classes"),
        numpy_helper.from_array(np.array([0, 1], np.float32), "off_on"),
        numpy_helper.from_array(np.array(2, np.float32), "two"),
    ]
    nodes = [helper.make_node("Cast", ["z"], ["z32"], to=TensorProto.FLOAT)]
    inputs = [helper.make_tensor_value_info("z", kind, [batch, z])]
    latent = "z32"
    if labels:
        index = labels == "index"
        told = TensorProto.INT64 if index else TensorProto.FLOAT
        inputs.append(helper.make_tensor_value_info("label", told, [batch] if index else [batch, CLASSES]))
        if index:
            nodes.append(helper.make_node("OneHot", ["label", "classes", "off_on"], ["hot"]))
        nodes += [
            helper.make_node("Gemm", ["hot" if index else "label", "embed_weight", "embed_bias"], ["e"], transB=1),
            helper.make_node("Mul", ["e", "two"], ["e2"]),
            helper.make_node("Add", ["z32", "e2"], ["told"]),
        ]
        latent = "told"
    norm = ["norm_weight", "norm_bias", "norm_running_mean", "norm_running_var"]
    nodes += [
        helper.make_node("Reshape", [latent, "shape"], ["x0"]),
        helper.make_node("ConvTranspose", ["x0", "first_weight", "first_bias"], ["x1"]),
        helper.make_node("BatchNormalization", ["x1", *norm], ["x2"]),
        helper.make_node("Relu", ["x2"], ["x3"]),
        helper.make_node("ConvTranspose", ["x3", "second_weight", "second_bias"], ["x4"], strides=[4, 4]),
        helper.make_node("Tanh", ["x4"], ["image0" if last else "image"]),
    ]
    if last:
        nodes.append(helper.make_node("Transpose", ["image0"], ["image"], perm=[0, 2, 3, 1]))
    made = helper.make_tensor_value_info("image", TensorProto.FLOAT, None)
    return model(helper.make_graph(nodes, "generator", inputs, [made], tensors))


def model(graph: onnx.GraphProto, *domains: str) -> onnx.ModelProto:
    """Return a model of a graph, with operators of ONNX 17 and of further domains."""
    opsets = [helper.make_opsetid("", 17), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)
