"""What can be opened is listed, and what cannot is told with the way out."""

import json

import pytest
from end_to_end.studio import Studio, portraits

from byrote import models
from byrote.cli import main
from byrote.demo import MODEL
from byrote.doctor import look
from byrote.models import How, Options


@pytest.fixture
def studio(tmp_path):
    faces = portraits("train", 2)
    return Studio(tmp_path).shoot(faces, portraits("held-out", 2)).teach({faces[0].caption: faces[0].data})


def told(capsys, *arguments):
    """Return the exit code and what a command says as JSON."""
    code = main([*arguments, "--json"])
    return code, json.loads(capsys.readouterr().out)


def wrong(answer):
    return {check["what"]: check for check in answer["checks"] if not check["well"]}


def test_every_kind_of_model_is_listed_with_a_uri_and_what_it_is(capsys):
    code, answer = told(capsys, "models")
    assert code == 0
    assert [row["kind"] for row in answer["models"]] == list(models.kinds())
    assert main(["models"]) == 0
    text = capsys.readouterr().out
    for row in answer["models"]:
        assert row["what"] in text
        assert set(row) == {"kind", "what", "example", "settings", "extra", "missing", "cure"}


@pytest.mark.parametrize("kind", models.KINDS)
def test_every_kind_of_our_own_says_how_it_is_opened(kind):
    how = models.adapter(kind).how
    assert isinstance(how, How)
    assert how.example.startswith(f"{kind}:")
    assert "\n" not in how.what


def test_a_kind_that_lacks_a_package_says_which_and_how_to_get_it(capsys, monkeypatch):
    monkeypatch.setitem(models.KINDS, "wanting", "wanting:Wanting")
    code, answer = told(capsys, "models")
    row = next(row for row in answer["models"] if row["kind"] == "wanting")
    assert (code, row["missing"], row["cure"]) == (0, ["no_such_package"], "pip install 'byrote[onnx]'")
    assert row["settings"] == {"scale": "a number"}
    assert main(["models"]) == 0
    assert "missing: no_such_package: pip install 'byrote[onnx]'" in capsys.readouterr().out
    code, answer = told(capsys, "doctor", "wanting:x")
    assert (code, wrong(answer)["packages"]["cure"]) == (2, "pip install 'byrote[onnx]'")


def test_a_kind_whose_module_is_broken_is_listed_all_the_same(capsys, monkeypatch):
    monkeypatch.setitem(models.KINDS, "broken", "no_such_module_at_all:Broken")
    _, answer = told(capsys, "models")
    assert "cannot be imported" in answer["models"][-1]["what"]
    code, answer = told(capsys, "doctor", "broken:x")
    assert (code, answer["opens"]) == (2, False)


def test_a_model_that_opens_exits_with_0(studio, capsys):
    code, answer = told(capsys, "doctor", f"parrot:{studio.root / 'parrot.toml'}")
    assert (code, answer["opens"], wrong(answer)) == (0, True, {})
    assert main(["doctor", f"parrot:{studio.root / 'parrot.toml'}"]) == 0
    assert "opens as Parrot" in capsys.readouterr().out


def test_a_file_that_is_missing_is_named(tmp_path, capsys):
    code, answer = told(capsys, "doctor", f"parrot:{tmp_path / 'parrot.toml'}")
    assert (code, answer["opens"]) == (2, False)
    assert "parrot.toml is not there" in wrong(answer)["model"]["says"]


def test_the_weights_are_weighed_by_their_numbers_against_the_memory_that_is_free(tmp_path):
    (memory,) = [check for check in look(f"diffusers:{MODEL}", Options(), tmp_path) if check.what == "memory"]
    assert memory.well
    assert "0.02 GiB" in memory.says  # 6.4 million numbers of four bytes


def test_weights_that_fit_nowhere_are_told_with_a_way_out(tmp_path, monkeypatch):
    monkeypatch.setitem(models.KINDS, "huge", "wanting:Huge")
    (tmp_path / "huge.safetensors").write_bytes(header({"w": [1 << 40]}))
    (memory,) = [check for check in look("huge:huge.safetensors", Options(), tmp_path) if check.what == "memory"]
    assert not memory.well
    assert "4096.00 GiB" in memory.says
    assert "float16" in memory.cure
    (half,) = [c for c in look("huge:huge.safetensors", Options(dtype="float16"), tmp_path) if c.what == "memory"]
    assert "2048.00 GiB" in half.says


def header(shapes):
    """Return the head of a safetensors file alone."""
    told = {name: {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]} for name, shape in shapes.items()}
    text = json.dumps(told | {"__metadata__": {"format": "pt"}}).encode()
    return len(text).to_bytes(8, "little") + text


def test_a_device_that_is_not_there_is_told(studio, capsys):
    uri = f"parrot:{studio.root / 'parrot.toml'}"
    code, answer = told(capsys, "doctor", uri, "--device", "cuda:99")
    assert code == 2
    assert "cuda:99" in wrong(answer)["device"]["says"]
    assert "cpu" in wrong(answer)["device"]["cure"]


def test_what_is_only_in_the_hub_is_not_fetched_but_the_command_told(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for uri in ("diffusers:nobody/nothing", "clip:nobody/nothing"):
        code, answer = told(capsys, "doctor", uri)
        (check,) = wrong(answer).values()
        assert (code, check["cure"]) == (2, "hf download nobody/nothing")


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("diffuser:x", "did you mean 'diffusers'"),
        ("nowhere", "is not there"),
        ("tar:nowhere.tar", "nowhere.tar"),
        ("sscd:none.pt", "the file is not there"),
        ("pdq:", ""),
    ],
)
def test_a_mistake_is_told_with_what_is_known(tmp_path, monkeypatch, capsys, what, words):
    monkeypatch.chdir(tmp_path)
    code, answer = told(capsys, "doctor", what)
    assert code == (2 if words else 0)
    assert not words or any(words in check["says"] for check in wrong(answer).values())


def test_sources_and_descriptors_that_open_exit_with_0(studio, capsys):
    for what in (str(studio.root / "pictures"), f"folder:{studio.root / 'pictures'}", "thumbnail", "pdq"):
        assert main(["doctor", what]) == 0, what
    assert "the first picture is '0000.png'" in capsys.readouterr().out


def test_an_empty_folder_of_pictures_does_not_open(tmp_path):
    assert main(["doctor", str(tmp_path)]) == 2


def test_an_audit_is_looked_at_as_its_plan_holds_it(studio, capsys):
    studio.write_plan()
    assert main(["doctor", str(studio.audit)]) == 2
    assert "byrote index" in capsys.readouterr().out
    studio.index()
    studio.write_plan(model={"uri": "parrot:../parrot.toml"}, twin={"uri": "parrot:../twin.toml"})
    code, answer = told(capsys, "doctor", str(studio.audit))
    assert code == 2
    assert "twin.toml is not there" in wrong(answer)["model"]["says"]
    studio.write_plan()
    assert main(["doctor", str(studio.audit)]) == 0
    (studio.audit / "audit.toml").write_text("format = 7\n")
    assert main(["doctor", str(studio.audit)]) == 2
