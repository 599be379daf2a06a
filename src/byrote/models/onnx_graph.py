"""What an ONNX file says of itself, read from its bytes without any library: a file of strangers is checked first.

The file is a protocol buffer (onnx/onnx.proto3, ONNX 1.23; the numbers below are its field numbers). Weights are
skipped over, not read. Refused: operators that are not of ONNX or ONNX Runtime, tensors in files outside the model's
folder, tensors larger than the bytes they stand on, operators that draw random numbers. Raises ModelError.
"""

import mmap
import re
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import NamedTuple

from byrote.errors import ModelError

DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")
"""Operators that onnxruntime brings itself: ONNX's, and Microsoft's own, which its optimiser writes into files."""
RANDOM = ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli")
COMPILED = ("EPContext",)  # a program for an accelerator, in a file of its own
DEEPEST = 16  # graphs in graphs
PLAIN = re.compile(r"[\w][\w.\- ]*(/[\w][\w.\- ]*)*")
BITS = {1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 14: 64, 15: 128, 16: 16}
FEWEST = 2  # bits of a number of the kinds that are not in BITS

MODEL_GRAPH, MODEL_FUNCTION = 7, 25
GRAPH_NODE, GRAPH_TENSOR, GRAPH_INPUT, GRAPH_OUTPUT, GRAPH_SPARSE = 1, 5, 11, 12, 15
NODE_OPERATOR, NODE_ATTRIBUTE, NODE_DOMAIN = 4, 5, 7
ATTRIBUTE_TENSORS, ATTRIBUTE_GRAPHS, ATTRIBUTE_SPARSE = (5, 10), (6, 11), (22, 23)
FUNCTION_NAME, FUNCTION_NODE, FUNCTION_DOMAIN, FUNCTION_ATTRIBUTE = 1, 7, 10, 11
TENSOR_DIMENSION, TENSOR_KIND, TENSOR_NAME, TENSOR_EXTERNAL, TENSOR_LOCATION = 1, 2, 8, 13, 14


class Port(NamedTuple):
    """An input or output of the graph: ONNX's number for its type, and its shape, None where an edge is free."""

    name: str
    kind: int
    shape: tuple[int | None, ...]


class Graph(NamedTuple):
    """A graph that was found harmless, with the names of the files beside it that hold its tensors."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    files: tuple[str, ...]


class Broken(ValueError):
    """Bytes that are no protocol buffer, or none that ONNX would write."""


def inspected(file: Path) -> Graph:
    """Read and check what an ONNX file says. Raises ModelError."""
    try:
        with file.open("rb") as stream:
            view = memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
        return _Inspection(file.parent.resolve()).of(view)
    except (Broken, OSError, UnicodeDecodeError, ValueError) as error:
        raise ModelError(f"model {file}: truncated, damaged or no ONNX file ({error}): copy it again") from error
    except _Refused as error:
        raise ModelError(f"model {file}: refused, {error}") from error


class _Refused(Exception):
    """What is well-formed, and not to be run."""


class _Inspection:
    """One reading of one file; gathers the functions that it defines and the files that it names."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: set[str] = set()
        self._functions: set[tuple[str, str]] = set()

    def of(self, model: memoryview) -> Graph:
        graphs, functions = _parts(model, MODEL_GRAPH), _parts(model, MODEL_FUNCTION)
        if len(graphs) != 1:
            raise Broken(f"{len(graphs)} graphs in it")
        self._functions = {(_text(f, FUNCTION_DOMAIN), _text(f, FUNCTION_NAME)) for f in functions}
        for function in functions:
            self._nodes(_parts(function, FUNCTION_NODE), 0)
            self._attributes(_parts(function, FUNCTION_ATTRIBUTE), 0)
        self._graph(graphs[0], 0)
        filled = {_text(tensor, TENSOR_NAME) for tensor in _parts(graphs[0], GRAPH_TENSOR)}
        inputs = tuple(port for port in map(_port, _parts(graphs[0], GRAPH_INPUT)) if port.name not in filled)
        return Graph(inputs, tuple(map(_port, _parts(graphs[0], GRAPH_OUTPUT))), tuple(sorted(self._files)))

    def _graph(self, graph: memoryview, depth: int) -> None:
        if depth > DEEPEST:
            raise Broken("its graphs lie too deep in each other")
        if _parts(graph, GRAPH_SPARSE):
            raise _Refused("it has sparse tensors, which may be of any size: store them dense")
        for tensor in _parts(graph, GRAPH_TENSOR):
            self._tensor(tensor)
        self._nodes(_parts(graph, GRAPH_NODE), depth)

    def _nodes(self, nodes: list[memoryview], depth: int) -> None:
        for node in nodes:
            self._operator(_text(node, NODE_DOMAIN), _text(node, NODE_OPERATOR))
            self._attributes(_parts(node, NODE_ATTRIBUTE), depth)

    def _operator(self, domain: str, operator: str) -> None:
        if domain not in DOMAINS:
            if (domain, operator) in self._functions:
                return
            raise _Refused(f"operator {operator!r} is of {domain!r}, not of ONNX: export it with ONNX's own operators")
        if operator in COMPILED:
            raise _Refused(f"operator {operator!r} is a compiled program: export the model before compilation")
        if operator in RANDOM:
            raise _Refused(
                f"operator {operator!r} draws random numbers that no seed reaches: export it with the noise fixed"
            )

    def _attributes(self, attributes: list[memoryview], depth: int) -> None:
        for attribute in attributes:
            if any(_parts(attribute, number) for number in ATTRIBUTE_SPARSE):
                raise _Refused("it has sparse tensors, which may be of any size: store them dense")
            for number in ATTRIBUTE_TENSORS:
                for tensor in _parts(attribute, number):
                    self._tensor(tensor)
            for number in ATTRIBUTE_GRAPHS:
                for graph in _parts(attribute, number):
                    self._graph(graph, depth + 1)

    def _tensor(self, tensor: memoryview) -> None:
        entries = [(_text(entry, 1), _text(entry, 2)) for entry in _parts(tensor, TENSOR_EXTERNAL)]
        outside = bool(entries) or any(_numbers(tensor, TENSOR_LOCATION))
        held = self._external(entries) if outside else len(tensor)
        elements = prod(_numbers(tensor, TENSOR_DIMENSION))
        kind = (_numbers(tensor, TENSOR_KIND) or [0])[-1]
        if elements * (BITS.get(kind, FEWEST) if outside else FEWEST) > 8 * held:
            name = _text(tensor, TENSOR_NAME)
            raise Broken(f"tensor {name[:80]!r} of {elements:,} numbers stands on {held:,} bytes")

    def _external(self, entries: list[tuple[str, str]]) -> int:
        """Return the bytes that a tensor has in another file, which must lie in the model's folder."""
        told = dict(entries)
        if len(told) != len(entries) or "location" not in told:
            raise Broken("a tensor in another file does not say which, or says it twice")
        where = told["location"]
        path = (self._folder / where).resolve() if PLAIN.fullmatch(where) else None
        if path is None or not path.is_relative_to(self._folder):
            raise _Refused(f"it reads {where[:80]!r}, outside its folder: put the file with the weights beside it")
        if not path.is_file():
            raise Broken(f"file {where!r} with its weights is not there")
        offset, size = int(told.get("offset") or 0), path.stat().st_size
        length = int(told.get("length") or size - offset)
        if offset < 0 or length < 0 or offset + length > size:
            raise Broken(f"file {where!r} with its weights is too short")
        self._files.add(where)
        return length


def _port(info: memoryview) -> Port:
    """Read a ValueInfoProto: name 1, type 2; of the type the tensor 1, of that its kind 1 and shape 2, its edges 1."""
    tensors = [tensor for kind in _parts(info, 2) for tensor in _parts(kind, 1)]
    kinds = [kind for tensor in tensors for kind in _numbers(tensor, 1)]
    edges = [edge for tensor in tensors for shape in _parts(tensor, 2) for edge in _parts(shape, 1)]
    sizes = [_numbers(edge, 1) for edge in edges]
    return Port(_text(info, 1), kinds[-1] if kinds else 0, tuple(size[-1] if size else None for size in sizes))


def _parts(message: memoryview, number: int) -> list[memoryview]:
    """Return the messages, texts or bytes of a field."""
    values = [value for found, value in _fields(message) if found == number]
    parts = [value for value in values if isinstance(value, memoryview)]
    if len(parts) != len(values):
        raise Broken(f"field {number} is a number where a message belongs")
    return parts


def _text(message: memoryview, number: int) -> str:
    """Return a field's text, the last where it is given twice, as the format wants it."""
    parts = _parts(message, number)
    return bytes(parts[-1]).decode() if parts else ""


def _numbers(message: memoryview, number: int) -> list[int]:
    """Return the whole numbers of a field, one by one or packed."""
    numbers: list[int] = []
    for found, value in _fields(message):
        if found == number:
            numbers += [value] if isinstance(value, int) else _packed(value)
    return numbers


def _packed(view: memoryview) -> list[int]:
    numbers, at = [], 0
    while at < len(view):
        number, at = _varint(view, at)
        numbers.append(number)
    return numbers


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield the fields of a message in their order: their numbers, and a number or the bytes."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(message, at)
            yield tag >> 3, value
            continue
        if kind == 2:
            length, at = _varint(message, at)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise Broken(f"no field has the wire type {kind}")
        if at + length > len(message):
            raise Broken("it ends too early")
        yield tag >> 3, message[at : at + length]
        at += length


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    """Return a number of base 128, the lowest digits first, and where it ends."""
    number = 0
    for k in range(10):
        if at + k >= len(view):
            raise Broken("it ends too early")
        number |= (view[at + k] & 127) << (7 * k)
        if view[at + k] < 128:
            return number, at + k + 1
    raise Broken("a number has more than ten digits")
