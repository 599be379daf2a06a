"""What an audit makes of memories with errors, of templates and of influence; of many devices and of little memory."""

import json
from hashlib import sha256

import numpy as np
import pytest

from byrote import images, models
from byrote.audit import Audit
from byrote.cli import main
from byrote.models import Options, Request

from .studio import Studio, portraits

FOUND = (
    ("crop = 0.95",),
    ("crop = 0.9",),
    ("colour = [1.15, 1.0, 0.85]",),
    ("brightness = 20.0",),
)
TOO_FAR = (("crop = 0.8",), ("colour = [1.6, 1.0, 0.5]",), ("brightness = 60.0",))
NO_CLIQUE = (("shift = 4",), ("changes = [0.0, 0.0, 0.2, 0.2]",), ("changes = [0.0, 0.0, 1.0, 0.4]",))
"""At 32 x 32, noise of 4 levels, and the defaults of [match]: shift 2, crop 0.9."""


def digest(file):
    return images.digest(images.decode(file.data))


def certified(report):
    return {found["picture"]["digest"] for found in report["findings"] if found["certified"]}


def teach_errors(studio, faces, errors):
    lines = ["width = 32", "height = 32"]
    for face, wrong in zip(faces, errors, strict=True):
        (studio.root / f"known-{face.name}").write_bytes(face.data)
        lines += ["[[knows]]", f"caption = {json.dumps(face.caption)}", f'picture = "known-{face.name}"']
        lines += ["repeats = 0.8", "noise = 4.0", *wrong]
    (studio.root / "parrot.toml").write_text("\n".join(lines) + "\n")


def test_crops_and_errors_of_colour_are_certified_as_far_as_matching_reaches_and_templates_are_not(tmp_path):
    errors = FOUND + TOO_FAR + NO_CLIQUE
    faces = portraits("train", len(errors))
    studio = Studio(tmp_path).shoot(faces, portraits("held-out", 110))
    teach_errors(studio, faces, errors)
    studio.write_plan(generate={"seeds": 6}).index()
    report = studio.run().json
    wrong = {digest(face): each for face, each in zip(faces, errors, strict=True)}
    assert {wrong[found] for found in certified(report)} == set(FOUND)
    assert report["controls"]["certified"] == 0
    agreed = cliques_of(studio)
    assert {each for found, each in wrong.items() if not agreed[found]} == set(NO_CLIQUE)


def cliques_of(studio):
    """Return whether the samples of a picture's caption agree, by the picture's digest."""
    audit = Audit(studio.audit)
    found = {row.prompt: row.found for row in audit.cliques()}
    return {prompt.digest: found[prompt.number] for prompt in audit.prompts if prompt.side == "picture"}


def test_influence_alone_certifies_nothing_even_where_no_clique_is_wanted(tmp_path):
    faces = portraits("train", 12)
    studio = Studio(tmp_path).shoot(faces, portraits("held-out", 60))
    names = ", ".join(f'"pictures/{face.name}"' for face in faces)
    head = f'width = 32\nheight = 32\ndreams = "influence"\npictures = [{names}]\n'
    (studio.root / "parrot.toml").write_text(head)
    studio.write_plan(generate={"seeds": 6}, cliques={"least": 1}).index()
    report = studio.run().json
    assert (certified(report), report["controls"]["certified"], report["calibrated"]) == (set(), 0, True)
    distances = [found["distances"]["tiled"] for found in report["findings"]]
    assert min((each for each in distances if each is not None), default=1.0) > 0.17
    parrot = models.open("parrot:parrot.toml", Options(), relative_to=studio.root)
    made = np.stack(parrot.generate([Request("a person", seed) for seed in range(100)])).astype(float) / 255
    known, others = (
        np.stack([images.fit(images.decode(face.data), 32, 32) for face in portraits(name, 12)]) / 255
        for name in ("train", "held-out")
    )
    nearest = [np.sqrt(((made[:, None] - of[None]) ** 2).mean((2, 3, 4))).min(1).mean() for of in (known, others)]
    assert nearest[0] < nearest[1] - 0.005


def many(tmp_path, **sections):
    """Set up an audit whose samples fill three parts."""
    faces = portraits("train", 6)
    studio = Studio(tmp_path).shoot(faces, portraits("held-out", 60))
    return studio.teach({faces[2].caption: faces[2].data}).write_plan(**sections)


def files(studio, table):
    found = sorted((studio.audit / table).glob("*/0*"))
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in found}


def test_on_two_devices_two_workers_make_the_same_parts_and_go_on_with_those_of_another_device(tmp_path, monkeypatch):
    studio = many(tmp_path, model={"uri": "parrot:../parrot.toml", "device": "cuda"})
    studio.index()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "9")
    studio.run(until="generate", jobs=None)
    before = files(studio, "samples")
    assert len([name for name in before if name.endswith(".parquet")]) == 3
    for path in (studio.audit / "samples").glob("*/0000[02]*"):
        path.unlink()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    report = studio.run(jobs=None).json
    assert files(studio, "samples") == before
    assert len(list((studio.audit / "samples").iterdir())) == 1
    assert report["findings"][0]["picture"]["digest"] == digest(portraits("train", 6)[2])


@pytest.fixture
def greedy(monkeypatch):
    monkeypatch.setitem(models.KINDS, "greedy", "greedy:Greedy")


def test_where_memory_does_not_suffice_batches_are_halved_and_ledger_status_and_report_say_so(tmp_path, greedy, capsys):
    studio = many(tmp_path, model={"uri": "greedy:../parrot.toml?most=5"})
    studio.index()
    told = []
    report = studio.run(tell=told.append).json
    assert told[-1] == "out of memory: 3 parts were made with as few as 4 at once instead of 16"
    lines = [line for line in Audit(studio.audit).store.ledger() if line["event"] == "halved"]
    assert [(line["part"], line["batch"], line["to"]) for line in lines] == [(f"0000{k}", 16, 4) for k in range(3)]
    assert main(["status", str(studio.audit)]) == 0
    assert "generate   3 of 3 parts, 3 in smaller batches: out of memory" in capsys.readouterr().out
    (said,) = [line for line in report["warnings"] if "Memory" in line]
    assert "16 samples at once: 3 parts" in said
    assert said.split("warnings")[0] in (studio.audit / "report" / "report.html").read_text().replace("&#39;", "'")
    whole = many(tmp_path / "whole")
    whole.index()
    other = whole.run().json
    assert report["findings"][0]["p_value"] == other["findings"][0]["p_value"]
    assert not [line for line in other["warnings"] if "Memory" in line]
    assert '"halved": 0' in status_of(whole, capsys)


def status_of(studio, capsys):
    capsys.readouterr()
    main(["status", str(studio.audit), "--json"])
    return capsys.readouterr().out


def test_a_part_that_is_made_anew_with_whole_batches_is_no_longer_called_halved(tmp_path, greedy, capsys):
    studio = many(tmp_path, model={"uri": "greedy:../parrot.toml?most=5"})
    studio.index()
    studio.run(until="generate")
    for path in (studio.audit / "samples").glob("*/00001*"):
        path.unlink()
    models.KINDS["greedy"] = "byrote.models.parrot:Parrot"
    (tmp_path / "parrot.toml?most=5").write_text((tmp_path / "parrot.toml").read_text())
    studio.run(until="generate")
    assert '"halved": 2' in status_of(studio, capsys)


def test_one_image_that_is_too_much_ends_the_run_with_the_ways_out(tmp_path, greedy, capsys):
    studio = many(tmp_path, model={"uri": "greedy:../parrot.toml?most=0"})
    studio.index()
    assert main(["run", str(studio.audit)]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert all(word in line for word in ("out of memory", "width", "height", "dtype", "offload"))
