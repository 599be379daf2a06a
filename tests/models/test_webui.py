"""Prompts and seeds in the files of web UIs: written here as these write them, read back, and broken in many ways."""

import json
import struct
import zlib
from io import BytesIO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from byrote.models import webui
from byrote.models.webui import Told, of_fields, of_graph, of_parameters, seed_of

LINE = (
    "Steps: 20, Sampler: Euler a, Schedule type: Karras, CFG scale: 7.5, Seed: 3871235, Size: 64x64, Model hash: ab12"
)


def png(packed=False, international=False, **texts):
    info, file = PngInfo(), BytesIO()
    for key, text in texts.items():
        (info.add_itxt if international else info.add_text)(key, text, zip=packed)
    Image.new("RGB", (4, 4)).save(file, "PNG", pnginfo=info)
    return BytesIO(file.getvalue())


def with_comment(kind, comment, tag=0x9286):
    image, file = Image.new("RGB", (4, 4)), BytesIO()
    exif = image.getexif()
    if tag == 0x9286:
        exif.get_ifd(0x8769)[tag] = comment
    else:
        exif[tag] = comment
    image.save(file, kind, exif=exif.tobytes())
    return BytesIO(file.getvalue())


def graph(*, text="a red hat", seed=7, **more):
    sampler = {
        "seed": seed,
        "steps": 20,
        "cfg": 7.0,
        "sampler_name": "euler",
        "positive": ["6", 0],
        "negative": ["7", 0],
    }
    return {
        "3": {"class_type": "KSampler", "inputs": sampler | {"model": ["4", 0], "latent_image": ["5", 0]}},
        "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd.safetensors"}},
        "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64}},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": text, "clip": ["4", 1]}},
        "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "blurry", "clip": ["4", 1]}},
        **more,
    }


@pytest.mark.parametrize(
    "options", [{}, {"packed": True}, {"international": True}, {"packed": True, "international": True}]
)
def test_parameters_of_automatic1111_are_read_from_every_kind_of_chunk(options):
    told = webui.told(png(parameters=f"a red hat,\nné\nNegative prompt: blurry\nbad\n{LINE}", **options))
    assert (told.prompt, told.seed) == ("a red hat,\nné", 3871235)
    assert dict(told.settings) == {
        **{"steps": "20", "sampler": "Euler a", "scheduler": "Karras", "guidance": "7.5", "size": "64x64"},
        **{"model": "ab12", "negative": "blurry\nbad"},
    }


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "PNG"])
@pytest.mark.parametrize("code", ["utf-16-be", "utf-16-le", "ascii"])
def test_parameters_are_read_from_the_user_comment(kind, code):
    start = b"ASCII\0\0\0" if code == "ascii" else b"UNICODE\0"
    told = webui.told(with_comment(kind, start + f"a red hat\n{LINE}".encode(code)))
    assert (told.prompt, told.seed) == ("a red hat", 3871235)


def test_a_prompt_without_a_line_of_settings_is_a_prompt():
    assert of_parameters("a red hat\nwith Steps: none") == Told("a red hat\nwith Steps: none")
    assert of_parameters("  \n ") == Told()


def test_settings_in_quotes_may_hold_commas():
    told = of_parameters(f'a\nLora hashes: "x: 1, y: 2", {LINE}')
    assert (told.prompt, told.seed, dict(told.settings)["sampler"]) == ("a", 3871235, "Euler a")


def test_graphs_of_comfyui_are_followed_to_the_text_of_their_sampler():
    told = webui.told(png(prompt=json.dumps(graph()), workflow="{}"))
    assert (told.prompt, told.seed) == ("a red hat", 7)
    assert dict(told.settings)["model"] == "sd.safetensors"
    assert dict(told.settings)["negative"] == "blurry"
    webp = with_comment("WEBP", f"prompt:{json.dumps(graph())}", tag=0x0110)
    assert webui.told(webp) == told


def test_a_text_may_come_from_a_node_of_its_own_and_pass_through_others():
    nodes = graph(text=["9", 0])
    nodes["3"]["inputs"]["positive"] = ["8", 0]
    nodes |= {"8": {"class_type": "FluxGuidance", "inputs": {"conditioning": ["6", 0], "guidance": 3.5}}}
    nodes |= {"9": {"class_type": "PrimitiveString", "inputs": {"value": " a blue hat "}}}
    assert of_graph(nodes).prompt == "a blue hat"


def test_the_advanced_sampler_has_its_seed_and_its_text_elsewhere():
    nodes = graph()
    links = {"noise": ["10", 0], "guider": ["11", 0], "latent_image": ["5", 0]}
    nodes["3"] = {"class_type": "SamplerCustomAdvanced", "inputs": links}
    nodes["10"] = {"class_type": "RandomNoise", "inputs": {"noise_seed": 99}}
    nodes["11"] = {"class_type": "BasicGuider", "inputs": {"conditioning": ["6", 0], "model": ["4", 0]}}
    told = of_graph(nodes)
    assert (told.prompt, told.seed) == ("a red hat", 99)


def test_a_second_sampler_that_goes_on_from_the_first_does_not_count():
    second = {"seed": 8, "positive": ["7", 0], "latent_image": ["3", 0]}
    told = of_graph(graph(again={"class_type": "KSampler", "inputs": second}))
    assert (told.prompt, told.seed) == ("a red hat", 7)


def test_what_may_be_meant_in_two_ways_is_not_told():
    other = {"seed": 8, "positive": ["7", 0], "latent_image": ["5", 0]}
    told = of_graph(graph(again={"class_type": "KSampler", "inputs": other}))
    assert (told.prompt, told.seed) == (None, None)
    nodes = graph()
    nodes["3"]["inputs"]["positive"] = ["8", 0]
    both = {"conditioning_1": ["6", 0], "conditioning_2": ["7", 0]}
    nodes["8"] = {"class_type": "ConditioningCombine", "inputs": both}
    assert of_graph(nodes).prompt is None


def test_a_workflow_as_the_page_saves_it_is_read_too():
    page = {
        "nodes": [
            {"id": 3, "type": "KSampler", "widgets_values": [7, "randomize", 20, 7.0, "euler", "normal", 1.0],
             "inputs": [{"name": "positive", "link": 1}, {"name": "negative", "link": 2}]},
            {"id": 6, "type": "CLIPTextEncode", "widgets_values": ["a red hat"], "inputs": []},
            {"id": 7, "type": "CLIPTextEncode", "widgets_values": ["blurry"]},
        ],
        "links": [[1, 6, 0, 3, 1, "CONDITIONING"], [2, 7, 0, 3, 2, "CONDITIONING"]],
    }  # fmt: skip
    told = webui.told(png(workflow=json.dumps(page)))
    assert (told.prompt, told.seed, dict(told.settings)["steps"]) == ("a red hat", 7, "20")


def test_a_graph_that_turns_in_a_circle_ends():
    nodes = graph(text=["8", 0])
    nodes["8"] = {"class_type": "Reroute", "inputs": {"text": ["6", 0]}}
    assert of_graph(nodes).prompt is None


@pytest.mark.parametrize(
    "texts",
    [
        {"invokeai_metadata": json.dumps({"positive_prompt": "a red hat", "seed": 7, "steps": 20, "cfg_scale": 7})},
        {
            "Description": "a red hat",
            "Software": "NovelAI",
            "Comment": json.dumps({"seed": 7, "steps": 20, "scale": 7}),
        },
        {"parameters": json.dumps({"prompt": "a red hat", "seed": "7", "steps": 20, "guidance_scale": 7})},
        {
            "parameters": json.dumps(
                {"sui_image_params": {"prompt": "a red hat", "seed": 7, "steps": 20, "cfgscale": 7}}
            )
        },
        {"prompt": "a red hat", "seed": "7"},
    ],
)
def test_other_web_uis_are_read(texts):
    told = webui.told(png(**texts))
    assert (told.prompt, told.seed) == ("a red hat", 7)


@pytest.mark.parametrize(
    ("value", "seed"),
    [
        *[(7, 7), ("7", 7), (" 7 ", 7), (7.0, 7), (0, 0), (2**63 - 1, 2**63 - 1), (2**64 - 1, 2**63 - 1)],
        *[(-1, None), ("-1", None), (True, None), (None, None), (2**64, None), (1e300, None), (float("nan"), None)],
        *[("7a", None), ("", None), ("9" * 21, None), ([7], None), ("\u0667", None)],
    ],
)
def test_a_seed_is_a_whole_number_of_63_bits(value, seed):
    assert seed_of(value) == seed


def test_samples_of_one_setting_agree_and_of_two_do_not():
    one, other = (of_parameters(f"a\nSteps: {n}, Seed: 1, CFG scale: 7").settings for n in (20, 30))
    assert webui.same([one, (), one]) is None
    assert webui.same([one, other]) == ("steps '20'", "'30'")


def chunk(kind, data, size=None):
    return (
        struct.pack(">I", len(data) if size is None else size)
        + kind
        + data
        + struct.pack(">I", zlib.crc32(kind + data))
    )


def hostile(*chunks):
    return BytesIO(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


def test_a_bomb_in_a_chunk_is_cut():
    bomb = zlib.compress(b"a" * 50_000_000)
    told = webui.told(hostile(chunk(b"zTXt", b"parameters\0\0" + bomb)))
    assert len(told.prompt) == webui.MAX_CHUNK


def test_chunks_that_lie_about_their_size_or_are_too_large_are_passed_over():
    good = chunk(b"tEXt", b"parameters\0a red hat")
    assert webui.told(hostile(chunk(b"tEXt", b"parameters\0" + b"x" * 2_000_000), good)).prompt == "a red hat"
    assert webui.told(hostile(chunk(b"tEXt", b"parameters\0x", size=2**31 - 1), good)).prompt is None
    assert webui.told(hostile(*[chunk(b"tEXt", b"parameters\0x")] * 20_000)).prompt == "x"


def test_json_that_is_too_deep_is_no_json():
    assert webui.told(png(prompt='{"a":' * 100_000, parameters="{" * 500_000)).seed is None


def test_a_hostile_line_of_settings_takes_no_time():
    of_parameters("a\n" + 'Steps: "' * 100_000)
    of_parameters("a\n" + "a" * 1_000_000)


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    st.sampled_from([png(parameters=f"a\n{LINE}"), png(prompt=json.dumps(graph())),
                     *(with_comment(kind, b"UNICODE\0\0a") for kind in ("JPEG", "WEBP"))]),
    st.lists(st.tuples(st.integers(0, 2000), st.binary(min_size=1, max_size=8)), max_size=6),
    st.integers(0, 2000),
)  # fmt: skip
def test_broken_files_tell_nothing_or_something_but_never_fail(stream, edits, end):
    data = bytearray(stream.getvalue())
    for at, new in edits:
        data[at : at + len(new)] = new
    told = webui.told(BytesIO(bytes(data[: len(data) - end])))
    assert told.prompt is None or told.prompt.strip() == told.prompt != ""


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["1", "2", "text"]),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from(["inputs", "class_type", "nodes", "links", "positive", "seed", "text", "1", "2", "noise", "id",
                         "type", "link", "name", "guider", "latent_image", "prompt", "metadata", "widgets_values"]),
        inner, max_size=5),
    max_leaves=30,
)  # fmt: skip


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.dictionaries(st.sampled_from(["1", "2", "nodes", "links", "inputs", "prompt", "seed"]), JSON, max_size=5))
def test_any_json_is_read_without_failing(value):
    for read in (of_fields, of_graph):
        told = read(value)
        assert told.seed is None or 0 <= told.seed < 2**63
