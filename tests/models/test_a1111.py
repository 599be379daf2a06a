"""The AUTOMATIC1111 API, against a server whose images depend on what it is asked."""

from base64 import b64decode, b64encode
from pathlib import Path

import numpy as np
import pytest

from byrote import models
from byrote.errors import ModelError
from byrote.models import Options, Request
from byrote.models.a1111 import Automatic1111
from byrote.testing import check_model
from models.servers import WebUi, drawn, hang, says, serving, status

FAST = "answers=answers&timeout=5&tries=3&wait=0.005"
PNG = b64encode(drawn("any")).decode()


@pytest.fixture
def server():
    with serving(WebUi) as (url, state):
        yield url, state


def opened(url: str, folder: Path, more: str = "", **options: object) -> Automatic1111:
    return Automatic1111(f"{url}?{FAST}{more}", Options(**options), folder)


def test_it_keeps_the_contract_of_models(server, tmp_path):
    url, _ = server
    check_model(models.open(f"a1111:{url}?{FAST}", Options(), relative_to=tmp_path), ["a red hat", None, "\udc00 né"])


def test_a_sample_is_the_same_from_an_empty_journal(server, tmp_path):
    url, state = server
    requests = [Request("a red hat", seed) for seed in (0, 7, 2**63 - 1)]
    first = opened(url, tmp_path / "a").generate(requests)
    again = opened(url, tmp_path / "b").generate(requests)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert sorted(one.body["seed"] for one in state.posts) == [0, 0, 7, 7, 2**32 - 1, 2**32 - 1]


def test_every_call_pins_the_checkpoint_and_says_what_the_plan_says(server, tmp_path):
    url, state = server
    knobs = {"steps": 20, "guidance": 5.0, "sampler": "Euler a", "width": 16, "height": 16, "negative": "ugly"}
    model = opened(url, tmp_path, "&scheduler=Karras", **knobs)
    model.generate([Request("a red hat", 3)])
    assert state.posts[0].body == {
        "prompt": "a red hat",
        "negative_prompt": "ugly",
        "seed": 3,
        "steps": 20,
        "cfg_scale": 5.0,
        "sampler_name": "Euler a",
        "scheduler": "Karras",
        "width": 16,
        "height": 16,
        "batch_size": 1,
        "n_iter": 1,
        "save_images": False,
        "send_images": True,
        "override_settings": {"sd_model_checkpoint": "sd15.safetensors [6ce0161689]"},
        "override_settings_restore_afterwards": False,
    }
    assert model.evaluations_per_sample == 40
    assert opened(url, tmp_path, guidance=1.0).evaluations_per_sample == 50


def test_opening_asks_for_the_checkpoint_only(server, tmp_path):
    url, state = server
    opened(url, tmp_path)
    assert [one.path for one in state.asked] == ["/sdapi/v1/options"]
    assert list(tmp_path.iterdir()) == []


def test_the_digest_follows_the_checkpoint_and_the_plan(server, tmp_path):
    url, state = server
    one = opened(url, tmp_path).digest
    assert opened(url, tmp_path, "&rate=100").digest == one
    assert opened(url, tmp_path, steps=20).digest != one
    state.checkpoint = (state.checkpoint[0], "ff" * 32)
    assert opened(url, tmp_path).digest != one


def test_a_checkpoint_is_found_by_its_name(server, tmp_path):
    url, _ = server
    assert opened(url, tmp_path, "&checkpoint=sd15").name == "AUTOMATIC1111: sd15.safetensors [6ce0161689]"
    with pytest.raises(ModelError, match=r"has no checkpoint 'sd51' \(did you mean 'sd15'\?\)"):
        opened(url, tmp_path, "&checkpoint=sd51")
    with pytest.raises(ModelError, match=r"does not know the hash of checkpoint 'new.safetensors' yet"):
        opened(url, tmp_path, "&checkpoint=new")


def test_an_answer_of_another_checkpoint_or_seed_ends_the_run(server, tmp_path):
    url, state = server
    model = opened(url, tmp_path)
    for info, says_ in (('{"sd_model_hash": "0123456789"}', "another checkpoint"), ('{"seed": 9}', "another seed")):
        state.faults.append(says({"images": [PNG], "info": info}))
        with pytest.raises(ModelError, match=says_):
            model.generate([Request("a red hat", 1)])
    for info in ("{", "[]", 5, None):
        state.faults.append(says({"images": [f"data:image/png;base64,{PNG}"], "info": info}))
    made = model.generate([Request("a red hat", seed) for seed in range(4)])
    assert len(made) == 4, "a server that says nothing of itself is believed"


@pytest.mark.parametrize(
    "fault",
    [says({"images": []}), says({"images": [5]}), says({"images": ["%"]}), says([]), says(b64decode(PNG)), status(500)],
    ids=["none", "no text", "no base64", "no object", "no json", "500"],
)
def test_a_broken_answer_is_asked_for_again(server, tmp_path, fault):
    url, state = server
    state.faults.append(fault)
    opened(url, tmp_path).generate([Request("a red hat", 1)])
    assert len(state.posts) == 2


def test_a_server_that_hangs_is_told_in_a_line(server, tmp_path):
    url, state = server
    model = Automatic1111(f"{url}?answers=a&timeout=0.1&tries=2&wait=0.005", Options(), tmp_path)
    state.faults.extend([hang(0.2)] * 2)
    with pytest.raises(ModelError, match=r"no answer within 0.1 s \(2 tries\)"):
        model.generate([Request("a red hat", 1)])


def test_a_web_ui_without_its_api_and_no_server_at_all_are_told_in_a_line(server, tmp_path):
    url, _ = server
    with pytest.raises(ModelError, match="start the web UI with --api"):
        opened(f"{url}/elsewhere", tmp_path)
    with pytest.raises(ModelError, match="it cannot be reached"):
        opened("http://127.0.0.1:9", tmp_path)


def test_user_and_password_come_from_the_environment(server, tmp_path, monkeypatch):
    url, state = server
    monkeypatch.setenv("BYROTE_HTTP_KEY", "me:secret")
    opened(url, tmp_path)
    assert state.asked[0].headers["Authorization"] == "Basic " + b64encode(b"me:secret").decode()


@pytest.mark.parametrize(("knob", "value"), [("lora", ("a",)), ("device", "cuda"), ("compile", True), ("trust", True)])
def test_a_knob_that_the_api_does_not_know_is_refused(tmp_path, knob, value):
    with pytest.raises(ModelError, match=f"cannot follow {knob}"):
        Automatic1111("http://127.0.0.1:9", Options(**{knob: value}), tmp_path)
