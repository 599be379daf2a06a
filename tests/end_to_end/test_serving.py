"""A real audit is judged on its page, blind and exploring, and only blind verdicts are measured."""

import http.client
import json
import subprocess
import sys
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest

from byrote import images
from byrote.cli import main
from byrote.review import draw, verdicts

from .studio import Studio, portraits


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    studio = Studio(tmp_path_factory.mktemp("serving"))
    faces = portraits("train", 8)
    studio.shoot(faces, portraits("held-out", 20)).teach({face.caption: face.data for face in faces[:4]}, repeats=1.0)
    studio.write_plan(cliques={"least": 1}, generate={"seeds": 2}).index()
    studio.run()
    assert main(["review", "draw", str(studio.audit), "--n", "8"]) == 0
    return studio


@contextmanager
def served(audit, *options):
    """Serve an audit by the command itself, and give what it told."""
    command = [sys.executable, "-m", "byrote", "review", "serve", str(audit), "--json", "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        try:
            yield json.loads(server.stdout.readline())
        finally:
            server.terminate()


def ask(address, path="", body=None):
    place = urlsplit(address)
    connection = http.client.HTTPConnection(place.hostname, place.port, timeout=30)
    method, data = ("GET", None) if body is None else ("POST", json.dumps(body))
    connection.request(method, place.path + path, data)
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    assert answer.status == 200, data
    return json.loads(data) if data[:1] == b"{" else data


def judge_all(address, verdict):
    for turn in ask(address, "api/turns?from=0&count=100")["turns"]:
        ask(address, "api/verdicts", {"id": turn["id"], "verdict": verdict, "note": "", "key": turn["id"]})


def test_what_is_judged_on_the_page_is_measured_and_what_is_explored_is_not(audited, capsys):
    with served(audited.audit, "--reviewer", "ann", "--reviewer", "bob") as told:
        assert told["pairs"] == len(draw.read(audited.audit / "review").pairs)
        for name, address in told["reviewers"].items():
            session = ask(address, "api/session")
            assert (session["name"], session["mode"], session["count"]) == (name, "measure", told["pairs"])
            for turn in ask(address, "api/turns?from=0&count=100")["turns"]:
                shapes = {images.decode(ask(address, f"images/{turn['id']}/{w}")).shape for w in ("sample", "picture")}
                assert shapes == {(32, 32, 3)}
                ask(address, "api/verdicts", {"id": turn["id"], "verdict": "no", "note": "", "key": turn["id"]})
        progress = ask(told["progress"], "api/progress")
        blind = told["reviewers"]["ann"]
    assert [row[2] for row in progress["reviewers"]] == [str(told["pairs"])] * 2
    assert any("are within tau" in line or "copies among" in line for line in progress["words"])
    capsys.readouterr()
    assert main(["review", "measure", str(audited.audit), "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert measured["undecided"] == 0
    assert measured["copies"][0] == 0
    with served(audited.audit, "--reviewer", "ann", "--explore") as told:
        assert told["progress"] is None
        address = told["reviewers"]["ann"]
        assert urlsplit(address).path != urlsplit(blind).path
        first, *_ = ask(address, "api/turns?from=0&count=1")["turns"]
        assert "near enough to count (within tau, 0.15)" in first["facts"]["T"]
        assert first["facts"]["controls"].startswith("nearer than every one of the ")
        assert "of 255 levels apart on the whole (RMS 0.0" in first["facts"]["distances"]
        groups = ask(address, f"api/pairs/{first['id']}/more")["groups"]
        assert groups[0]["items"]
        assert images.decode(ask(address, groups[0]["items"][0]["src"])).shape == (32, 32, 3)
        ask(address, "api/verdicts", {"id": first["id"], "verdict": "copy", "note": "seen", "key": "x"})
    assert list(verdicts.latest(audited.audit / "review" / "explored.sqlite").values()) == ["copy"]
    main(["review", "measure", str(audited.audit), "--json"])
    assert json.loads(capsys.readouterr().out) == measured


def test_who_has_judged_all_is_told_what_each_pair_was_as_the_key_has_it(audited):
    kinds = {"candidate": "picture of the training set", "control": "control, never trained on", "planted": "planted"}
    with served(audited.audit, "--reviewer", "cas") as told:
        address = told["reviewers"]["cas"]
        assert all(turn["facts"] == {} for turn in ask(address, "api/turns?from=0&count=100")["turns"])
        judge_all(address, "unsure")
        assert ask(address, "api/told", {}) == {"stored": True}
        turns = {turn["id"]: turn for turn in ask(address, "api/turns?from=0&count=100")["turns"]}
    pairs = draw.read(audited.audit / "review").pairs
    assert turns.keys() == {pair.id for pair in pairs}
    for pair in pairs:
        facts = turns[pair.id]["facts"]
        assert facts["picture"].startswith(kinds[pair.kind])
        assert ("T" in facts) is (pair.kind != "planted")
        assert pair.statistic is None or facts["T"].startswith(f"{pair.statistic:.4f}")


def test_printed_addresses_are_those_that_reviewers_call(audited):
    with served(audited.audit, "--reviewer", "eve", "--public", "https://Pairs.example:443/") as told:
        assert told["reviewers"]["eve"].startswith("https://pairs.example/")
        assert told["progress"].startswith("https://pairs.example/")


def test_verdicts_outlive_a_changed_plan_because_they_hang_on_what_is_shown(audited, capsys):
    """Other distances are measured anew; the drawn pairs and what was said of them stay what they are."""
    with served(audited.audit, "--reviewer", "dan") as told:
        judge_all(told["reviewers"]["dan"], "part")
    before, plan = verdicts.latest(audited.audit / verdicts.FILE), audited.audit / "audit.toml"
    main(["review", "measure", str(audited.audit), "--json"])
    measured, text = json.loads(capsys.readouterr().out.splitlines()[-1]), plan.read_text()
    try:
        plan.write_text(f"{text}[match]\nshift = 0\nflip = false\ncrop = 1.0\n")
        audited.run()
        with served(audited.audit, "--reviewer", "dan") as told:
            turns = ask(told["reviewers"]["dan"], "api/turns?from=0&count=100")["turns"]
            assert {turn["verdict"] for turn in turns} == {"part"}
            assert len(ask(told["reviewers"]["dan"], f"images/{turns[0]['id']}/aligned")) > 100
        assert verdicts.latest(audited.audit / verdicts.FILE) == before
        report = json.loads((audited.audit / "report" / "report.json").read_text())
        assert report["review"] == measured
    finally:
        plan.write_text(text)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--reviewer", "ann", "--reviewer", " ann"], "a name of their own"),
        (["--reviewer", "a\nb"], "is no name of a reviewer"),
        (["--host", "0.0.0.0"], "name one address"),
        (["--host", "192.0.2.1"], "cannot listen there"),
        (["--port", "99999999"], "cannot listen there"),
        (["--public", "pairs.example"], "give http or https, a host"),
        (["--overlap", "2"], "is no share from 0 to 1"),
    ],
)
def test_what_cannot_be_served_is_told_in_one_line(audited, options, says, capsys):
    assert main(["review", "serve", str(audited.audit), *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line


def test_serving_before_a_draw_says_what_to_do(tmp_path, capsys):
    studio = Studio(tmp_path)
    faces = portraits("train", 2)
    studio.shoot(faces, portraits("held-out", 2)).teach({faces[0].caption: faces[0].data}).write_plan().index()
    assert main(["review", "serve", str(studio.audit)]) == 3
    assert "byrote review draw" in capsys.readouterr().err
