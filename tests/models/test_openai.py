"""OpenAI's images API, against a server that draws every image anew."""

import json
from base64 import b64encode
from pathlib import Path

import numpy as np
import pytest
from end_to_end.studio import Studio, portraits

from byrote import images, models
from byrote.audit import Audit
from byrote.errors import ModelError
from byrote.kernels import pdq
from byrote.models import KeepsAnswers, Options, Request, http
from byrote.models.openai import OpenAI
from byrote.models.remote import noise
from byrote.stages import generate
from byrote.status import status as status_of
from byrote.testing import check_model
from models.servers import Images, says, serving, status, tls_of

FAST = "&timeout=5&tries=3&wait=0.005"


@pytest.fixture
def server():
    with serving(Images, refuses=("a forbidden hat",)) as (url, state):
        yield url, state


def opened(url: str, folder: Path, more: str = "", **options: object) -> OpenAI:
    return OpenAI(f"{url}/v1?model=m&size=16x16&answers=answers{FAST}{more}", Options(**options), folder)


def asking(n: int, prompt: str = "a red hat") -> list[Request]:
    return [Request(prompt, seed) for seed in range(n)]


def bodies(state) -> list[dict]:
    return [one.body for one in state.posts]


def test_a_server_that_draws_at_random_keeps_the_contract_of_models_by_its_journal(server, tmp_path):
    url, state = server
    model = models.open(f"openai:{url}/v1?model=m&size=16x16&answers=a{FAST}", Options(), relative_to=tmp_path)
    check_model(model, ["a red hat", "a blue hat", "\udc00 né"])
    assert len(state.posts) == 9, "each (prompt, seed) was asked once"
    assert not model.reproducible
    assert isinstance(model, KeepsAnswers)


def test_what_is_asked_is_what_the_api_documents(server, tmp_path):
    url, state = server
    opened(url, tmp_path, "&quality=low&output_format=png").generate(asking(1))
    (asked,) = state.posts
    assert asked.path == "/v1/images/generations"
    expected = {"model": "m", "prompt": "a red hat", "n": 1, "size": "16x16", "quality": "low", "output_format": "png"}
    assert asked.body == expected


def test_several_images_of_a_prompt_come_in_one_call(server, tmp_path):
    url, state = server
    mixed = [*asking(7), *asking(2, "a blue hat")]
    made = opened(url, tmp_path, "&n=4&parallel=1&price=1&budget=9").generate(mixed)
    assert sorted((body["prompt"], body["n"]) for body in bodies(state)) == [
        ("a blue hat", 2),
        ("a red hat", 3),
        ("a red hat", 4),
    ]
    assert len({image.tobytes() for image in made}) == 9


def test_a_call_that_gives_fewer_images_than_asked_is_asked_for_the_rest(server, tmp_path):
    url, state = server
    with serving(Images) as (other, _):
        (one,) = opened(other, tmp_path / "other").generate(asking(1))
    state.faults.append(says({"data": [{"b64_json": b64encode(images.encode_png(one)).decode()}]}))
    made = opened(url, tmp_path, "&n=3").generate(asking(3))
    assert np.array_equal(made[0], one)
    assert [body["n"] for body in bodies(state)] == [3, 2]


def test_a_seed_is_sent_where_the_server_takes_one(server, tmp_path):
    url, state = server
    model = opened(url, tmp_path, "&seeds=true")
    model.generate([Request("a red hat", 5), Request("a red hat", 2**63 - 1)])
    assert sorted(body["seed"] for body in bodies(state)) == [5, 2**32 - 1]
    assert model.reproducible
    with pytest.raises(ModelError, match="n and seeds exclude each other"):
        opened(url, tmp_path, "&seeds=true&n=2")


def test_a_refusal_is_noise_of_its_seed_counted_and_not_asked_again(server, tmp_path):
    url, state = server
    mixed = [*asking(2), *asking(2, "a forbidden hat")]
    made = opened(url, tmp_path, "&price=1&budget=9").generate(mixed)
    assert np.array_equal(made[3], noise(1, 16, 16))
    assert not np.array_equal(made[2], made[3])
    again = opened(url, tmp_path)
    assert again.refused(mixed) == [False, False, True, True]
    assert all(np.array_equal(a, b) for a, b in zip(made, again.generate(mixed), strict=True))
    assert len(state.posts) == 4
    said = [path.read_text() for path in (tmp_path / "answers").rglob("*.refused")]
    assert said == ["Your request was rejected. (safety)"] * 2


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (status(401, "invalid_api_key", "wrong key"), "HTTP 401: wrong key"),
        (status(404, "model_not_found", "no model m"), "HTTP 404: no model m"),
        (status(400, "invalid_value", "no size 16x16"), "HTTP 400: no size 16x16"),
        (status(429, "insufficient_quota", "no money left"), "HTTP 429: no money left"),
        (status(429, "billing_hard_limit_reached", "no more"), "HTTP 429: no more"),
    ],
    ids=["key", "model", "value", "quota", "billing"],
)
def test_what_another_try_does_not_mend_ends_the_run_at_once_and_costs_nothing(server, tmp_path, fault, says):
    url, state = server
    state.faults.append(fault)
    with pytest.raises(ModelError, match=says):
        opened(url, tmp_path, "&price=1&budget=1").generate(asking(1))
    assert len(state.posts) == 1
    opened(url, tmp_path, "&price=1&budget=1").generate(asking(1))


def test_an_image_may_come_by_a_url_of_the_same_server(tmp_path, monkeypatch):
    monkeypatch.setenv("BYROTE_HTTP_KEY", "sk-very-secret")
    with serving(Images, by_url="HERE/files/1.png") as (url, state):
        (made,) = opened(url, tmp_path).generate(asking(1))
        assert made.shape == (16, 16, 3)
        assert [one.method for one in state.asked] == ["POST", "GET"]
        assert all("Authorization" in one.headers for one in state.asked)


@pytest.mark.parametrize(
    "where",
    ["file:///etc/passwd", "http://169.254.169.254/latest", "https://192.168.0.1/", "https://nas/", "//x", "h["],
)
def test_a_url_that_leads_into_this_network_or_to_no_host_is_refused(tmp_path, where):
    with serving(Images, by_url=where) as (url, _), pytest.raises(ModelError, match=r"names an image at .*: refused"):
        opened(url, tmp_path).generate(asking(1))


def test_a_url_of_another_server_gets_no_key(tmp_path, monkeypatch):
    monkeypatch.setenv("BYROTE_HTTP_KEY", "sk-very-secret")
    context = tls_of(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "tls.pem"))
    monkeypatch.setattr(http, "_near", lambda host: host != "localhost")  # stands for a host far away
    with serving(Images, tls=context) as (other, elsewhere):
        by_url = other.replace("127.0.0.1", "localhost") + "/1.png"
        with serving(Images, by_url=by_url) as (url, _):
            assert len(opened(url, tmp_path).generate(asking(1))) == 1
        (fetched,) = elsewhere.asked
        assert fetched.path == "/1.png"
        assert "Authorization" not in fetched.headers


def test_an_image_of_another_size_than_asked_is_named(server, tmp_path):
    url, state = server
    state.side = 24
    with pytest.raises(ModelError, match="answered with 24x24: write size=24x24"):
        opened(url, tmp_path).generate(asking(1))


def test_the_size_may_stand_in_the_plan(server, tmp_path):
    url, state = server
    state.side = 24
    model = OpenAI(f"{url}?model=m&answers=a", Options(width=24, height=24), tmp_path)
    assert model.generate(asking(1))[0].shape == (24, 24, 3)
    with pytest.raises(ModelError, match="write one of them"):
        opened(url, tmp_path, width=24, height=24)
    with pytest.raises(ModelError, match="write both or neither"):
        opened(url, tmp_path, width=16)
    with pytest.raises(ModelError, match="WIDTHxHEIGHT"):
        OpenAI(f"{url}?model=m&size=auto", Options(), tmp_path)


@pytest.mark.parametrize(
    ("knob", "value"),
    [
        ("steps", 20),
        ("guidance", 7.0),
        ("negative", "ugly"),
        ("sampler", "ddim"),
        ("lora", ("a",)),
        ("dtype", "float16"),
    ],
)
def test_a_knob_that_the_api_does_not_know_is_refused(tmp_path, knob, value):
    with pytest.raises(ModelError, match=f"cannot follow {knob}"):
        OpenAI("http://localhost?model=m", Options(**{knob: value}), tmp_path)


def test_without_a_prompt_nothing_is_sent(server, tmp_path):
    url, state = server
    with pytest.raises(ModelError, match="leave 'none' out"):
        opened(url, tmp_path).generate([Request("a red hat", 0), Request(None, 1)])
    assert state.asked == []


def test_the_official_server_wants_a_price_a_limit_and_a_key_of_its_own(tmp_path, monkeypatch):
    official = "https://api.openai.com/v1?model=gpt-image-1&answers=a"
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("BYROTE_HTTP_KEY", "of-another-server")
    with pytest.raises(ModelError, match="is paid: add &price="):
        OpenAI(official, Options(), tmp_path)
    model = OpenAI(f"{official}&price=0.04&budget=1", Options(), tmp_path)
    with pytest.raises(ModelError, match="set OPENAI_API_KEY"):
        model.generate(asking(1))
    assert list(tmp_path.iterdir()) == []


def test_another_server_is_never_shown_the_key_of_openai(server, tmp_path, monkeypatch):
    url, state = server
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-openai")
    opened(url, tmp_path).generate(asking(1))
    assert "Authorization" not in state.posts[0].headers


def test_the_digest_follows_what_changes_images_and_nothing_else(tmp_path):
    def digest(uri: str, **options: object) -> str:
        return OpenAI(uri, Options(**options), tmp_path).digest

    base = "http://localhost/v1?model=m"
    one = digest(base)
    for same in ("&price=1&budget=2", "&rate=5", "&tries=2", "&answers=b", "&parallel=9", "&n=4", "&size=1024x1024"):
        assert digest(base + same) == one
    others = [digest(base + more) for more in ("&size=512x512", "&quality=low", "&seeds=true", "2")]
    assert len({one, *others, digest("http://other/v1?model=m"), digest(base, width=64, height=64)}) == 7


def test_an_audit_finds_copies_counts_refusals_and_forgets_what_a_list_of_hashes_hits(tmp_path):
    faces = portraits("train", 6)
    refused, listed, copied, *_ = faces
    shows = {face.caption: face.data for face in (listed, copied)}
    with serving(Images, refuses=(refused.caption,), shows=shows, side=64) as (url, state):
        studio = Studio(tmp_path).shoot(faces, portraits("held-out", 6))
        studio.index()
        (tmp_path / "list.txt").write_text(pdq.hashes(images.decode(listed.data)[None])[0][0].tobytes().hex() + "\n")
        uri = f"openai:{url}/v1?model=m&size=64x64&answers=../answers{FAST}"
        sections = {"model": {"uri": uri}, "prompts": {"top": 6, "random": 0, "controls": 6}}
        studio.write_plan(**sections, generate={"seeds": 2, "batch": 8, "hashes": "../list.txt"})
        studio.run()
        audit = Audit(studio.audit)
        made = audit.recipes.samples
        assert (generate.refused(audit.store, made), generate.screened(audit.store, made)) == (2, 2)
        assert {row["stage"]: row.get("refused") for row in status_of(studio.audit)}["generate"] == 2
        report = json.loads((studio.audit / "report" / "report.json").read_text())
        assert [row["n"] for row in report["skipped"] if "refused to draw" in row["reason"]] == [2]
        near = {row["picture"]["digest"] for row in report["findings"] if row["distances"]["rms"] == 0}
        assert near == {images.digest(images.decode(copied.data))}
        kept = [images.decode(path.read_bytes()) for path in (tmp_path / "answers").rglob("*.png")]
        assert len(kept) == 24 - 2 - 2
        assert not any(np.array_equal(image, images.decode(listed.data)) for image in kept)
        assert len(state.posts) == 24
        studio.run()
        assert len(state.posts) == 24


def test_what_is_forgotten_is_in_no_file(server, tmp_path):
    url, state = server
    model = opened(url, tmp_path)
    model.generate(asking(3))
    model.forget(asking(1))
    assert len(list((tmp_path / "answers").rglob("*.png"))) == 2
    model.generate(asking(3))
    assert len(state.posts) == 4
