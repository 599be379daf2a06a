"""The ONNX adapter, on tiny graphs that are written here node by node, some of them hostile."""

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from byrote import models
from byrote.errors import ModelError, OutOfMemory
from byrote.models import Options, Request, onnx_graph
from byrote.models.onnx import Onnx
from byrote.testing import check_model

from .generators import CLASSES, SIDE, ByOneHot, Generator, exported, graph, model, scripted
from .test_torchscript import refuses

PLAIN = [Request(None, seed) for seed in (0, 5, 2**63 - 1)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("graphs")
    exported(Generator(), place / "g.onnx")
    exported(Generator(channels=1), place / "grey.onnx")
    exported(Generator(), place / "one.onnx", batch=1)
    exported(Generator(), place / "two.onnx", batch=2)
    exported(Generator(), place / "free.onnx", z="z")
    exported(Generator(), place / "last.onnx", last=True)
    exported(Generator(), place / "half.onnx", kind=TensorProto.FLOAT16)
    exported(Generator(), place / "index.onnx", labels="index")
    exported(Generator(), place / "onehot.onnx", labels="onehot")
    (place / "names.txt").write_text("airplane\nbird\ncrane\ndog\nelk\n")
    return place


def opened(folder: Path, rest: str, **options: object) -> Onnx:
    return Onnx(rest, Options(**options), folder)


@pytest.mark.parametrize("rest", ["g.onnx", "grey.onnx", "one.onnx", "two.onnx", "last.onnx", "free.onnx?z=8"])
def test_a_graph_without_classes_keeps_the_contract(folder, rest):
    made = opened(folder, rest)
    check_model(made, [None])
    assert (made.takes_text, made.evaluations_per_sample, made.round_trip([])) == (False, 1, None)


@pytest.mark.parametrize("rest", ["index.onnx?classes=5", "onehot.onnx", "onehot.onnx?classes=names.txt"])
def test_a_graph_with_classes_keeps_the_contract(folder, rest):
    made = opened(folder, rest, threads=2)
    check_model(made, ["0", "1", None])
    assert made.takes_text


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_samples_are_those_of_the_same_network_as_torchscript(folder, tmp_path):
    scripted(Generator(), tmp_path / "g.pt")
    other = models.open("torchscript:g.pt?z=8", Options(trust=True), relative_to=tmp_path).generate(PLAIN)
    for rest in ("g.onnx", "one.onnx", "two.onnx", "last.onnx", "free.onnx?z=8"):
        made = opened(folder, rest).generate(PLAIN)
        assert np.abs(np.stack(made).astype(int) - np.stack(other)).max() <= 1
    half = opened(folder, "half.onnx").generate(PLAIN)
    assert np.abs(np.stack(half).astype(int) - np.stack(other)).max() <= 4
    assert made[0].shape == (SIDE, SIDE, 3)


@pytest.mark.parametrize("rest", ["index.onnx?classes=names.txt", "onehot.onnx?classes=names.txt"])
def test_a_prompt_is_the_class_by_number_or_by_name(folder, rest):
    bird, one, dog = opened(folder, rest).generate([Request(p, 3) for p in ("Bird", "1", "dog")])
    assert np.array_equal(bird, one)
    assert not np.array_equal(bird, dog)
    z, _ = opened(folder, rest)._ask.of([Request("1", 3)])
    with torch.inference_mode():
        bare = ByOneHot().eval()(torch.from_numpy(z), torch.eye(CLASSES)[1:2])[0]
    assert np.abs(bird.astype(int) - ((bare.permute(1, 2, 0).numpy() + 1) * 127.5).round()).max() <= 1


def test_inputs_and_outputs_can_be_named(folder, tmp_path):
    swapped = graph(Generator(), labels="onehot")
    first, second = list(swapped.graph.input)
    del swapped.graph.input[:]
    swapped.graph.input.extend([second, first])
    swapped.graph.output.insert(0, helper.make_tensor_value_info("x3", TensorProto.FLOAT, None))
    onnx.save(swapped, tmp_path / "s.onnx")
    named = opened(tmp_path, "s.onnx?latent=z&output=image").generate([Request("1", 3)])
    also = opened(tmp_path, "s.onnx?label=label&output=image").generate([Request("1", 3)])
    plain = opened(folder, "onehot.onnx").generate([Request("1", 3)])
    assert np.array_equal(named, plain)
    assert np.array_equal(also, plain)
    refuses("did you mean 'image'", lambda: opened(tmp_path, "s.onnx?output=imag"))


def test_weights_in_a_file_beside_count_in_the_digest(tmp_path):
    outside(tmp_path)
    made = opened(tmp_path, "e.onnx")
    check_model(made, [None])
    before = made.digest
    data = bytearray((tmp_path / "weights/w.bin").read_bytes())
    data[3] ^= 1
    (tmp_path / "weights/w.bin").write_bytes(data)
    assert made.digest != before
    assert opened(tmp_path, "e.onnx?range=0..1").digest != made.digest


def test_opening_imports_no_runtime(folder):
    import subprocess

    code = (
        "import sys; from byrote import models; from pathlib import Path; "
        f"m = models.open('onnx:g.onnx', models.Options(), relative_to=Path({str(folder)!r})); "
        "print(m.name, m.digest[:7], m.takes_text, 'onnxruntime' in sys.modules, 'onnx' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told == "ONNX sha256: False False False\n"


@pytest.mark.parametrize(
    ("rest", "says"),
    [
        ("none.onnx", "is not there"),
        ("free.onnx", "leaves the size of latents free"),
        ("g.onnx?z=9", "takes 8"),
        ("g.onnx?classes=5", "no input for classes"),
        ("g.onnx?latent=zed", "latent=zed is not there"),
        ("index.onnx", "classes=10, or a file"),
        ("index.onnx?classes=2000000", "from 1 to"),
        ("onehot.onnx?classes=4", "takes 5"),
        ("index.onnx?classes=5&latent=label", "its inputs are z, label"),
        ("g.onnx?zz=1", "unknown setting"),
    ],
)
def test_a_uri_that_cannot_be_followed_is_told_in_one_line(folder, rest, says):
    refuses(says, lambda: opened(folder, rest))


@pytest.mark.parametrize("options", [{"steps": 3}, {"dtype": "float16"}, {"device": "tpu"}, {"lora": ("a",)}])
def test_an_option_that_it_cannot_follow_is_refused_by_its_name(folder, options):
    refuses(next(iter(options)), lambda: opened(folder, "g.onnx", **options))


def test_a_device_that_the_runtime_does_not_have_is_told(folder):
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this runtime has CUDA")
    refuses("onnxruntime-gpu", lambda: opened(folder, "g.onnx", device="cuda").generate(PLAIN))


def test_a_class_beyond_the_graphs_own_is_told_by_the_runtime_or_before(folder):
    refuses("below 5", lambda: opened(folder, "onehot.onnx").generate([Request("5", 0)]))


@pytest.mark.parametrize(
    "where", ["../secret.bin", "/etc/passwd", "weights/../../secret.bin", "*/_ORT_MEM_ADDR_/*", ".."]
)
def test_weights_outside_the_models_folder_are_refused(tmp_path, where):
    (tmp_path / "secret.bin").write_bytes(bytes(4096))
    folder = tmp_path / "model"
    folder.mkdir()
    outside(folder, where=where)
    refuses("outside its folder", lambda: opened(folder, "e.onnx"))


def test_a_link_that_leads_outside_the_models_folder_is_refused(tmp_path):
    (tmp_path / "secret.bin").write_bytes(bytes(4096))
    folder = tmp_path / "model"
    folder.mkdir()
    outside(folder, where="link.bin")
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    refuses("outside its folder", lambda: opened(folder, "e.onnx"))


def test_weights_outside_are_found_wherever_they_hide(tmp_path):
    """In attributes, in graphs within nodes and in functions."""
    hostile = external("../secret.bin")
    constant = helper.make_node("Constant", [], ["c"], value=hostile)
    inner = helper.make_graph([constant], "inner", [], [helper.make_tensor_value_info("c", TensorProto.FLOAT, None)])
    branch = helper.make_node("If", ["yes"], ["d"], then_branch=inner, else_branch=inner)
    filled = helper.make_graph([], "filled", [], [], [hostile])
    function = helper.make_function("own", "f", [], ["c"], [constant], [helper.make_opsetid("", 17)])
    for number, harm in enumerate([constant, branch, helper.make_node("Loop", [], ["d"], body=filled), function]):
        held = graph(Generator())
        (held.functions if harm is function else held.graph.node).append(harm)
        (tmp_path / f"{number}.onnx").write_bytes(held.SerializeToString())
        refuses("outside its folder", lambda number=number: opened(tmp_path, f"{number}.onnx"))


@pytest.mark.parametrize(
    ("node", "says"),
    [
        (helper.make_node("Evil", ["z"], ["e"], domain="my.ops"), "'Evil' is of 'my.ops'"),
        (helper.make_node("EPContext", ["z"], ["e"], domain="com.microsoft"), "compiled program"),
        (helper.make_node("RandomNormal", [], ["e"], shape=[1]), "draws random numbers"),
    ],
)
def test_an_operator_that_is_not_to_be_run_is_refused(tmp_path, node, says):
    held = graph(Generator())
    held.graph.node.append(node)
    onnx.save(held, tmp_path / "o.onnx")
    refuses(says, lambda: opened(tmp_path, "o.onnx"))


def test_functions_that_the_file_brings_along_are_run(tmp_path):
    body = [helper.make_node("Mul", ["x", "x"], ["y"])]
    squared = helper.make_function("own", "Squared", ["x"], ["y"], body, [helper.make_opsetid("", 17)])
    nodes = [helper.make_node("Squared", ["z"], ["image"], domain="own")]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3, 4, 4]) for name in ("z", "image")]
    held = model(helper.make_graph(nodes, "g", ports[:1], ports[1:]), "own")
    held.functions.append(squared)
    onnx.save(held, tmp_path / "f.onnx")
    made = opened(tmp_path, "f.onnx?distribution=uniform&range=0..1")
    z, _ = made._ask.of(PLAIN)
    expected = (np.square(z).transpose(0, 2, 3, 1) * 255).round()
    assert np.abs(np.stack(made.generate(PLAIN)) - expected).max() <= 1


def test_sparse_and_lying_tensors_are_refused(tmp_path):
    lying = numpy_helper.from_array(np.zeros(4, np.float32), "w")
    lying.dims[:] = [1 << 40]
    values = numpy_helper.from_array(np.ones(1, np.float32), "s")
    sparse = helper.make_sparse_tensor(values, numpy_helper.from_array(np.zeros(1, np.int64)), [1 << 40])
    one, two, three = graph(Generator()), graph(Generator()), graph(Generator())
    one.graph.initializer.append(lying)
    two.graph.sparse_initializer.append(sparse)
    three.graph.node.append(helper.make_node("Constant", [], ["c"], sparse_value=sparse))
    for name, held, says in [("one", one, "stands on"), ("two", two, "sparse"), ("three", three, "sparse")]:
        (tmp_path / f"{name}.onnx").write_bytes(held.SerializeToString())
        refuses(says, lambda name=name: opened(tmp_path, f"{name}.onnx"))


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ({"location": "w.bin", "offset": "4096", "length": "8"}, "too short"),
        ({"location": "w.bin", "offset": "-8"}, "too short"),
        ({"location": "w.bin", "length": "4"}, "stands on"),
        ({"location": "w.bin", "length": "x"}, "damaged"),
        ({"location": "absent.bin"}, "not there"),
        ({"offset": "0"}, "does not say which"),
    ],
)
def test_weights_beside_that_are_not_as_told_are_refused(tmp_path, entries, says):
    (tmp_path / "w.bin").write_bytes(bytes(4096))
    held = graph(Generator())
    held.graph.initializer.append(external(**entries))
    (tmp_path / "b.onnx").write_bytes(held.SerializeToString())
    refuses(says, lambda: opened(tmp_path, "b.onnx"))


def test_graphs_that_lie_too_deep_in_each_other_are_refused(tmp_path):
    inner = helper.make_graph([], "g", [], [])
    for _ in range(20):
        inner = helper.make_graph([helper.make_node("Loop", [], [], body=inner)], "g", [], [])
    (tmp_path / "d.onnx").write_bytes(model(inner).SerializeToString())
    refuses("too deep", lambda: opened(tmp_path, "d.onnx"))


def test_a_truncated_file_is_refused_when_it_is_opened(folder, tmp_path):
    data = (folder / "g.onnx").read_bytes()
    for size in (0, 1, 10, len(data) // 2, len(data) - 1):
        (tmp_path / "t.onnx").write_bytes(data[:size])
        refuses("truncated, damaged or no ONNX", lambda: opened(tmp_path, "t.onnx"))
    (tmp_path / "t.onnx").write_bytes(b"PK\x03\x04 not at all")
    refuses("no ONNX", lambda: opened(tmp_path, "t.onnx"))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_bytes_that_were_changed_are_read_or_refused_in_one_line_and_never_crash(folder, tmp_path, data):
    content = bytearray((folder / "onehot.onnx").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "c.onnx").write_bytes(content)
    said = ""
    try:
        opened(tmp_path, "c.onnx")
    except ModelError as error:
        said = str(error)
    assert "\n" not in said


def test_the_reader_finds_what_the_library_wrote(folder, tmp_path):
    """Against the parser of the package onnx."""
    for name in ("g", "index", "onehot", "two", "free"):
        told = onnx.load(folder / f"{name}.onnx").graph
        found = onnx_graph.inspected(folder / f"{name}.onnx")
        for port, value in zip(found.inputs, told.input, strict=True):
            edges = value.type.tensor_type.shape.dim
            sizes = tuple(edge.dim_value if edge.HasField("dim_value") else None for edge in edges)
            assert port == (value.name, value.type.tensor_type.elem_type, sizes)
        assert [port.name for port in found.outputs] == [value.name for value in told.output]
    old = graph(Generator())  # files of old have their weights among the inputs too
    old.graph.input.append(helper.make_tensor_value_info("two", TensorProto.FLOAT, []))
    onnx.save(old, tmp_path / "old.onnx")
    assert [port.name for port in onnx_graph.inspected(tmp_path / "old.onnx").inputs] == ["z"]


def test_what_the_runtime_refuses_is_told_in_one_line(tmp_path):
    held = graph(Generator())
    held.graph.node[1].op_type = "NoSuchOperator"
    onnx.save(held, tmp_path / "n.onnx")
    refuses("cannot be run", lambda: opened(tmp_path, "n.onnx").generate(PLAIN))


def test_memory_that_does_not_suffice_is_told_as_such(tmp_path):
    shape = numpy_helper.from_array(np.array([2, 3, 1 << 24, 1 << 24], np.int64), "shape")
    held = graph(Generator())
    held.graph.initializer[[t.name for t in held.graph.initializer].index("shape")].CopyFrom(shape)
    del held.graph.node[2:]
    held.graph.node[1].CopyFrom(helper.make_node("ConstantOfShape", ["shape"], ["image"]))
    onnx.save(held, tmp_path / "huge.onnx")
    with pytest.raises(OutOfMemory, match="2 images at once"):
        opened(tmp_path, "huge.onnx").generate(PLAIN[:2])


def external(location: str = "", **more: str) -> onnx.TensorProto:
    """Return a tensor of 16 floats that lies in another file."""
    tensor = onnx.TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[16], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **more}.items():
        if value:
            tensor.external_data.add(key=key, value=value)
    return tensor


def outside(folder: Path, where: str = "weights/w.bin") -> None:
    """Save the generator as `e.onnx` with one tensor in another file."""
    held = graph(Generator())
    tensor = next(t for t in held.graph.initializer if t.name == "second_weight")
    (folder / "weights").mkdir(exist_ok=True)
    (folder / "weights/w.bin").write_bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=where)
    (folder / "e.onnx").write_bytes(held.SerializeToString())
