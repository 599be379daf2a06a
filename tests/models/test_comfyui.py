"""ComfyUI, against a server that does of a workflow only what changed."""

import json
from pathlib import Path

import numpy as np
import pytest

from byrote import models
from byrote.errors import ModelError
from byrote.models import Options, Request
from byrote.models.comfyui import ComfyUI
from byrote.testing import check_model
from models.servers import Comfy, says, serving

FAST = "answers=answers&timeout=5&tries=3&wait=0.005"


def workflow() -> dict:
    """Return the first workflow that the web page offers, in API format."""
    sampler = {"seed": 1, "steps": 20, "cfg": 8, "sampler_name": "euler", "scheduler": "normal", "denoise": 1}
    sampler |= {"model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["5", 0]}
    return {
        "3": {"class_type": "KSampler", "inputs": sampler},
        "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd15.safetensors"}},
        "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 512, "height": 512, "batch_size": 4}},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a glass bottle", "clip": ["4", 1]}},
        "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "watermark", "clip": ["4", 1]}},
        "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
        "9": {"class_type": "SaveImage", "inputs": {"filename_prefix": "ComfyUI", "images": ["8", 0]}},
    }


@pytest.fixture
def server():
    with serving(Comfy) as (url, state):
        yield url, state


def opened(url: str, folder: Path, nodes: object, more: str = "", **options: object) -> ComfyUI:
    folder.mkdir(exist_ok=True)
    (folder / "flow.json").write_text(nodes if isinstance(nodes, str) else json.dumps(nodes))
    return ComfyUI(f"{url}?workflow=flow.json&{FAST}{more}", Options(**options), folder)


def asked(state) -> dict:
    return state.posts[-1].body["prompt"]


def test_it_keeps_the_contract_of_models(server, tmp_path):
    url, _ = server
    (tmp_path / "flow.json").write_text(json.dumps(workflow()))
    model = models.open(f"comfyui:{url}?workflow=flow.json&{FAST}", Options(), relative_to=tmp_path)
    check_model(model, ["a red hat", None, "\udc00 né"])


def test_prompt_seed_and_knobs_go_where_the_classes_of_nodes_say(server, tmp_path):
    url, state = server
    knobs = {"steps": 5, "guidance": 3.0, "sampler": "heun", "width": 64, "height": 32, "negative": "ugly"}
    model = opened(url, tmp_path, workflow(), **knobs)
    model.generate([Request("a red hat", 2**63 - 1)])
    nodes = asked(state)
    sampler = nodes["3"]["inputs"]
    assert (sampler["seed"], sampler["steps"], sampler["cfg"], sampler["sampler_name"]) == (2**63 - 1, 5, 3.0, "heun")
    assert nodes["5"]["inputs"] == {"width": 64, "height": 32, "batch_size": 1}
    assert (nodes["6"]["inputs"]["text"], nodes["7"]["inputs"]["text"]) == ("a red hat", "ugly")
    assert nodes["4"] == workflow()["4"]
    assert model.evaluations_per_sample == 10


def test_what_the_plan_does_not_say_stays_as_the_workflow_has_it(server, tmp_path):
    url, state = server
    opened(url, tmp_path, workflow()).generate([Request("a red hat", 1)])
    nodes = asked(state)
    assert (nodes["3"]["inputs"]["steps"], nodes["5"]["inputs"]["width"]) == (20, 512)
    assert nodes["7"]["inputs"]["text"] == "watermark"


def test_marks_come_before_classes(server, tmp_path):
    url, state = server
    nodes = workflow()
    nodes["1"] = {
        "class_type": "Mine",
        "inputs": {"words": "photo of %prompt%, sharp", "noise": "%seed%", "n": "%steps%"},
    }
    opened(url, tmp_path, nodes, steps=7).generate([Request("a red hat", 5)])
    got = asked(state)
    assert got["1"]["inputs"] == {"words": "photo of a red hat, sharp", "noise": 5, "n": 7}
    assert (got["6"]["inputs"]["text"], got["3"]["inputs"]["seed"]) == ("a glass bottle", 1)


def test_a_prompt_that_looks_like_a_mark_is_left_alone(server, tmp_path):
    url, state = server
    opened(url, tmp_path, workflow()).generate([Request("100 %seed% of %prompt%", 5)])
    assert asked(state)["6"]["inputs"]["text"] == "100 %seed% of %prompt%"


def test_the_positive_text_is_found_through_nodes_that_change_it(server, tmp_path):
    url, state = server
    nodes = workflow()
    nodes["3"]["inputs"]["positive"] = ["11", 0]
    nodes["11"] = {"class_type": "ControlNetApplyAdvanced", "inputs": {"positive": ["12", 0], "negative": ["7", 0]}}
    nodes["12"] = {"class_type": "ConditioningConcat", "inputs": {"conditioning_to": ["6", 0]}}
    opened(url, tmp_path, nodes).generate([Request("a red hat", 5)])
    assert asked(state)["6"]["inputs"]["text"] == "a red hat"
    assert asked(state)["7"]["inputs"]["text"] == "watermark"


def test_a_workflow_that_goes_round_in_circles_is_told(server, tmp_path):
    nodes = workflow()
    nodes["3"]["inputs"]["positive"] = ["11", 0]
    nodes["11"] = {"class_type": "X", "inputs": {"conditioning": ["11", 0]}}
    with pytest.raises(ModelError, match=r"where does the prompt go\? Write %prompt% there"):
        opened(server[0], tmp_path, nodes)


def without(*keys: str) -> dict:
    nodes = workflow()
    for key in keys:
        del nodes[key]
    return nodes


def linked(node: str, name: str) -> dict:
    nodes = workflow()
    nodes[node]["inputs"][name] = ["20", 0]
    return nodes


def marked() -> dict:
    nodes = workflow()
    nodes["3"]["inputs"]["steps"] = "%steps%"
    return nodes


@pytest.mark.parametrize(
    ("nodes", "options", "says"),
    [
        (without("3"), {}, "where does the seed go"),
        (without("6"), {}, "where does the prompt go"),
        (without("5"), {"width": 64, "height": 64}, "where does width go"),
        (without("7"), {"negative": "ugly"}, "where does the negative prompt go"),
        (linked("3", "seed"), {}, "node 3 takes seed from another node: write %seed% there"),
        (marked(), {}, r"has %steps%: set steps in \[generate\]"),
        ({"nodes": [], "links": []}, {}, r"save it in API format \(Workflow > Export \(API\)\)"),
        ({"1": {"inputs": {}}}, {}, "is no ComfyUI workflow"),
        ([], {}, "is no ComfyUI workflow"),
        ("{", {}, "is no JSON"),
        ("[" * 100_000, {}, "is no JSON"),
    ],
    ids=["seed", "prompt", "size", "negative", "link", "mark", "page", "class", "list", "cut", "deep"],
)
def test_a_workflow_that_cannot_be_asked_is_told_when_it_is_opened(server, tmp_path, nodes, options, says):
    with pytest.raises(ModelError, match=says):
        opened(server[0], tmp_path, nodes, **options)


def test_a_workflow_that_is_not_there_or_not_named_is_told(server, tmp_path):
    with pytest.raises(ModelError, match=r"workflow .*none.json cannot be read: No such file"):
        ComfyUI(f"{server[0]}?workflow=none.json", Options(), tmp_path)
    with pytest.raises(ModelError, match=r"names no workflow: add \?workflow=FILE"):
        ComfyUI(server[0], Options(), tmp_path)


def test_of_several_outputs_one_is_named(server, tmp_path):
    url, _ = server
    nodes = workflow() | {"10": {"class_type": "PreviewImage", "inputs": {"images": ["8", 0]}}}
    with pytest.raises(ModelError, match="2 nodes give images: add &output=NODE"):
        opened(url, tmp_path / "a", nodes).generate([Request("a red hat", 1)])
    assert len(opened(url, tmp_path / "b", nodes, "&output=9").generate([Request("a red hat", 1)])) == 1
    with pytest.raises(ModelError, match="0 nodes give images"):
        opened(url, tmp_path / "c", nodes, "&output=8").generate([Request("a red hat", 1)])


def test_an_image_that_the_server_made_before_is_made_again_for_an_empty_journal(server, tmp_path):
    url, state = server
    names = []
    for folder in ("a", "b"):
        opened(url, tmp_path / folder, workflow()).generate([Request("a red hat", 1)])
        names.append(asked(state)["9"]["inputs"]["filename_prefix"])
    assert names[0] != names[1], "with the same name the server would have nothing to do, and give nothing"


def test_a_failure_on_the_server_and_a_workflow_that_it_refuses_are_told_in_its_words(server, tmp_path):
    url, _ = server
    with pytest.raises(ModelError, match=r"failed on http.*: CUDA out of memory\.$"):
        opened(url, tmp_path, workflow()).generate([Request("too much", 1)])
    nodes = workflow() | {"30": {"class_type": "Unknown", "inputs": {}}}
    with pytest.raises(ModelError, match="HTTP 400: node type Unknown"):
        opened(url, tmp_path, nodes).generate([Request("a red hat", 1)])


def test_an_image_that_never_comes_is_told(server, tmp_path):
    url, state = server
    model = opened(url, tmp_path, workflow(), "&timeout=0.2")
    state.faults.append(says({"prompt_id": "id-1"}))
    state.done["id-1"] = (float("inf"), {})
    with pytest.raises(ModelError, match=r"no image within 0.2 s: raise timeout"):
        model.generate([Request("a red hat", 1)])


@pytest.mark.parametrize("answer", [{}, {"prompt_id": 5}, [], b"nothing"])
def test_a_broken_answer_is_asked_for_again(server, tmp_path, answer):
    url, state = server
    state.faults.append(says(answer))
    opened(url, tmp_path, workflow()).generate([Request("a red hat", 1)])
    assert len(state.posts) == 2


def test_another_server_is_told_in_a_line(tmp_path):
    from models.servers import WebUi

    with serving(WebUi) as (url, _), pytest.raises(ModelError, match="HTTP 404: Not Found"):
        opened(url, tmp_path, workflow())
    with pytest.raises(ModelError, match="it cannot be reached"):
        opened("http://127.0.0.1:9", tmp_path, workflow())


def test_the_digest_follows_the_workflow_but_not_the_journal(server, tmp_path):
    url, _ = server
    one = opened(url, tmp_path, workflow()).digest
    assert opened(url, tmp_path, workflow(), "&rate=60").digest == one
    assert opened(url, tmp_path, workflow(), steps=5).digest != one
    other = workflow()
    other["4"]["inputs"]["ckpt_name"] = "other.safetensors"
    assert opened(url, tmp_path, other).digest != one


def test_images_differ_by_seed_and_nothing_is_asked_twice(server, tmp_path):
    url, state = server
    model = opened(url, tmp_path, workflow())
    made = model.generate([Request("a red hat", seed) for seed in range(3)])
    assert len({image.tobytes() for image in made}) == 3
    again = opened(url, tmp_path, workflow()).generate([Request("a red hat", seed) for seed in range(3)])
    assert all(np.array_equal(a, b) for a, b in zip(made, again, strict=True))
    assert len(state.posts) == 3
