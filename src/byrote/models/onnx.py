"""Generators that were saved as ONNX: `onnx:G.onnx`, run by ONNX Runtime (`pip install 'byrote[onnx]'`).

An ONNX file is a graph of operators that are known, not a program of its sender, so it needs no trust; what would reach
beyond that is refused before the runtime sees it (`onnx_graph.py`). What the graph's inputs and outputs tell is taken
from there; the rest stands in the URI, and wins:

    z=128                 numbers of a latent, where the graph leaves them free
    latent=NAME           which input takes the latents; left out: the first of floats
    label=NAME            which input takes the classes; left out: the other one
    labels=index          the class as a whole number, or as onehot; left out: the input's type tells
    classes=10            how many classes, or a file with their names, one a line; a one-hot input may tell the number
    output=NAME           which output is the image; left out: the first
    distribution, truncation, range, layout   as for TorchScript
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from importlib import import_module
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from byrote.domain import RGB
from byrote.errors import ModelError, did_you_mean
from byrote.models import How, Options, Request, gan, settings
from byrote.models.onnx_graph import Graph, Port, inspected

EXTRA = "onnx"
LARGEST_BATCH = 4096
SETTINGS = gan.SETTINGS | {
    "latent": "the input that takes the latents",
    "label": "the input that takes the classes",
    "output": "the output with the images",
}
FLOATS: dict[int, type[np.generic]] = {1: np.float32, 10: np.float16, 11: np.float64}
WHOLES: dict[int, type[np.generic]] = {6: np.int32, 7: np.int64}


class Onnx:
    """A generator that ONNX Runtime runs; one call of `generate` is one batch, cut where the graph fixes its size.

    Raises ModelError, in the constructor for what the file and the URI tell without running anything.
    """

    name = "ONNX"
    how = How("a generator as ONNX, run by ONNX Runtime", "onnx:G.onnx", SETTINGS, EXTRA, ("onnxruntime",))
    tolerance = gan.TOLERANCE
    evaluations_per_sample = 1

    def __init__(self, path: str, options: Options, relative_to: Path) -> None:
        gan.check_options(options, "onnx")
        self._uri, self._options = path, options
        place, given = settings(path, SETTINGS)
        self._file, self._given = gan.found(path, place, relative_to), given
        self._graph = inspected(self._file)
        self._latent, self._label = _ports(path, self._graph, given)
        self._output = _named(path, self._graph.outputs, "output", given) or _first(path, self._graph.outputs)
        self._labels = _manner(path, self._label, given)
        self._classes = _classes(path, self._label, self._labels, gan.classes(path, given, relative_to))
        self._ask = gan.Ask(path, gan.latents(path, given, _size(path, self._latent, given)), self._classes)
        self._layout, self._span = gan.layout(path, given), gan.span(path, given)
        self.takes_text = self.takes_labels = self._classes is not None

    @property
    def digest(self) -> str:
        """Digest the file, the files with weights that it names, the settings and the names of the classes."""
        return gan.digest(self._files, self._given, self._classes)

    @property
    def weights(self) -> list[Path]:
        """Return the files with weights."""
        return list(self._files.values())

    def generate(self, requests: Sequence[Request]) -> list[RGB]:
        """Return one image for each request, as one batch."""
        if not requests:
            return []
        z, labels = self._ask.of(requests)
        batch = _batch(self._latent) or len(requests)
        with gan.running(self._uri, EXTRA, len(requests)), self._speaking():
            chunks = [
                self._run(z[k : k + batch], None if labels is None else labels[k : k + batch], batch)
                for k in range(0, len(requests), batch)
            ]
        return [image for chunk in chunks for image in gan.levels(self._uri, chunk, self._layout, self._span)]

    def round_trip(self, images: Sequence[RGB]) -> None:
        """Return None: there is no autoencoder."""

    @property
    def _files(self) -> dict[str, Path]:
        return {"": self._file} | {where: self._file.parent / where for where in self._graph.files}

    def _run(self, z: NDArray[np.float32], labels: NDArray[np.int64] | None, batch: int) -> NDArray[np.generic]:
        """Run one batch, filled up with its last row where the graph wants more."""
        filled = np.minimum(np.arange(batch), len(z) - 1)
        inputs = {self._latent.name: z[filled].astype(FLOATS[self._latent.kind])}
        if self._label is not None and labels is not None:
            inputs[self._label.name] = self._told(self._label, labels[filled])
        made: NDArray[np.generic] = self._session.run([self._output.name], inputs)[0]
        if len(made) != batch:
            raise ValueError(f"{list(made.shape)} came out for {batch} latents")
        return made[: len(z)]

    def _told(self, port: Port, labels: NDArray[np.int64]) -> NDArray[np.generic]:
        kind = (FLOATS | WHOLES)[port.kind]
        if self._labels == "onehot" and self._classes is not None:
            return gan.onehot(labels, self._classes.count).astype(kind)
        return labels.reshape(-1, *([1] * (len(port.shape) - 1))).astype(kind)

    @cached_property
    def _session(self) -> Any:
        runtime = import_module("onnxruntime")
        told = runtime.SessionOptions()
        told.intra_op_num_threads, told.inter_op_num_threads = self._options.threads, 1
        told.use_deterministic_compute = True
        told.log_severity_level = 4  # what goes wrong is raised too
        told.add_session_config_entry("session.load_model_format", "ONNX")  # the one that was checked
        return runtime.InferenceSession(str(self._file), told, providers=_providers(runtime, self._options.device))

    @contextmanager
    def _speaking(self) -> Iterator[None]:
        """Raise what ONNX Runtime raises as a RuntimeError, which its own errors are not."""
        try:
            state = import_module("onnxruntime.capi.onnxruntime_pybind11_state")
        except ImportError as error:
            raise ImportError("onnxruntime is not installed") from error
        own = (state.Fail, state.InvalidArgument, state.NoSuchFile, state.NoModel, state.RuntimeException)
        try:
            yield
        except (*own, state.InvalidProtobuf, state.NotImplemented, state.InvalidGraph, state.EPFail) as error:
            raise RuntimeError(str(error)) from error


def _ports(uri: str, graph: Graph, given: Mapping[str, str]) -> tuple[Port, Port | None]:
    """Return the inputs that take the latents and the classes, by the settings or else by their types."""
    latent, label = (_named(uri, graph.inputs, key, given) for key in ("latent", "label"))
    floats = [port for port in graph.inputs if port.kind in FLOATS and port != label]
    latent = latent or next(iter(floats), None)
    others = [port for port in graph.inputs if port != latent]
    if latent is None or latent.kind not in FLOATS or len(others) > 1:
        told = ", ".join(port.name for port in graph.inputs) or "none"
        raise ModelError(f"model {uri!r}: its inputs are {told}: export it with latents and, at most, classes")
    label = label or next(iter(others), None)
    if label is not None and label.kind not in FLOATS | WHOLES:
        raise ModelError(f"model {uri!r}: input {label.name!r} takes neither floats nor int32 or int64: export it so")
    return latent, label


def _named(uri: str, ports: Sequence[Port], key: str, given: Mapping[str, str]) -> Port | None:
    name = given.get(key)
    if name is None:
        return None
    names = [port.name for port in ports]
    if name not in names:
        hint = did_you_mean(name, names)
        raise ModelError(f"model {uri!r}: {key}={name} is not there{hint}: one of {', '.join(names) or 'none'}")
    return ports[names.index(name)]


def _first(uri: str, outputs: Sequence[Port]) -> Port:
    if not outputs:
        raise ModelError(f"model {uri!r}: its graph has no output: export it again")
    return outputs[0]


def _manner(uri: str, label: Port | None, given: Mapping[str, str]) -> str:
    """Say how a class is told: whole numbers by their index, floats one-hot, unless the URI says else."""
    if label is None:
        for key in ("classes", "labels"):
            if key in given:
                raise ModelError(f"model {uri!r}: its graph has no input for classes: leave {key} out")
        return ""
    return gan.choice(uri, given, "labels", ("index", "onehot"), "index" if label.kind in WHOLES else "onehot")


def _classes(uri: str, label: Port | None, manner: str, told: gan.Classes | None) -> gan.Classes | None:
    """Return the classes that the URI tells, else as many as a one-hot input is wide."""
    if label is None:
        return None
    width = label.shape[-1] if manner == "onehot" and len(label.shape) > 1 else None
    if told is None and not width:
        raise ModelError(f"model {uri!r}: input {label.name!r} takes classes: write how many, classes=10, or a file")
    known = told or gan.Classes(width or 0)
    if known.count > gan.MOST_CLASSES or (width and known.count != width):
        raise ModelError(f"model {uri!r}: {known.count} classes, but input {label.name!r} takes {width or 'fewer'}")
    return known


def _size(uri: str, port: Port, given: Mapping[str, str]) -> tuple[int, ...]:
    """Return the shape of a latent, from the graph and the URI, which must agree. Raises ModelError."""
    said, edges = gan.size(uri, given), port.shape[1:]
    if (_batch(port) or 1) > LARGEST_BATCH:
        raise ModelError(f"model {uri!r}: its batch is {_batch(port):,}: {LARGEST_BATCH} at most")
    if said is None:
        if not edges or not all(edges):
            raise ModelError(f"model {uri!r}: its graph leaves the size of latents free: write z=128, or z=100x1x1")
        said = tuple(edge or 0 for edge in edges)
    fits = len(said) == len(edges) and all(not edge or side == edge for side, edge in zip(said, edges, strict=True))
    if edges and not fits:
        told = "x".join(str(edge or "?") for edge in edges)
        raise ModelError(f"model {uri!r}: z={given['z']}, but input {port.name!r} takes {told}")
    if prod(said) > gan.LARGEST_LATENT:
        raise ModelError(f"model {uri!r}: a latent has {prod(said):,} numbers: {gan.LARGEST_LATENT:,} at most")
    return said


def _batch(port: Port) -> int | None:
    """Return the batch that the graph fixes, else None."""
    return (port.shape[0] or None) if port.shape else None


def _providers(runtime: Any, device: str) -> list[Any]:
    """Return what runs the graph. Raises ModelError where this build of the runtime knows no CUDA."""
    if device == "cpu":
        return ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" not in runtime.get_available_providers():
        raise ModelError(f"device {device!r} is not in this onnxruntime: install onnxruntime-gpu, or use cpu")
    number = int(device.partition(":")[2] or 0)
    return [("CUDAExecutionProvider", {"device_id": number}), "CPUExecutionProvider"]
