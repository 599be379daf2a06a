"""Templates, end to end: what a fixed layout with a changing part gives, with the knob on and without."""

import json

import pytest

from byrote.audit import Audit
from byrote.seals import verify
from end_to_end.studio import Studio, portraits
from end_to_end.test_memories import certified, digest

CHANGES = ([0.0, 0.0, 1.0, 0.4], [0.0, 0.0, 0.4, 1.0], [0.6, 0.0, 1.0, 1.0], [0.0, 0.0, 0.5, 0.5]) * 2
PLAN = {"generate": {"seeds": 8}, "prompts": {"controls": 170}}


def taught(studio, faces):
    lines = ["width = 32", "height = 32"]
    for face, box in zip(faces, CHANGES, strict=True):
        (studio.root / f"known-{face.name}").write_bytes(face.data)
        lines += ["[[knows]]", f"caption = {json.dumps(face.caption)}", f'picture = "known-{face.name}"']
        lines += ["repeats = 0.8", "noise = 4.0", f"changes = {box}"]
    (studio.root / "parrot.toml").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    faces = portraits("templates", len(CHANGES))
    studio = Studio(tmp_path_factory.mktemp("templates")).shoot(faces, portraits("templates held out", 170))
    taught(studio, faces)
    studio.write_plan(**PLAN).index()
    return studio


@pytest.fixture(scope="module")
def found(studio):
    studio.write_plan(cliques={"template": 0.3}, **PLAN)
    return studio.run().json


def test_templates_are_certified_and_no_control_is(studio, found):
    faces = portraits("templates", len(CHANGES))
    assert certified(found) == {digest(face) for face in faces}
    assert found["controls"]["certified"] == 0


def test_a_finding_says_that_it_is_one_of_a_template(studio, found):
    rows = [f for f in found["findings"] if f["certified"]]
    assert all(f["distances"]["masked"] <= 0.15 < f["distances"]["tiled"] for f in rows)
    page = (studio.audit / "report" / "report.html").read_text()
    assert page.count("over what stays fixed") >= len(rows)


def test_the_audit_can_be_verified(studio, found):
    assert not verify.verify(studio.audit, key=None, samples=0).problems
    sealed = [line for line in Audit(studio.audit).store.ledger() if line["event"] == "seal"]
    assert "over what stays fixed" in sealed[-1]["content"]["statistic"]


def test_without_the_knob_none_is(studio, tmp_path):
    other = Studio(studio.root).write_plan(**PLAN | {"prompts": {"controls": 170, "seed": 3}})
    told = other.run().json
    assert certified(told) == set()
    assert all(f["distances"]["masked"] is None for f in told["findings"])


def test_a_model_that_remembers_nothing_gives_none_with_the_knob_on(tmp_path):
    studio = Studio(tmp_path).shoot(portraits("templates", 8), portraits("templates held out", 170)).teach({})
    studio.write_plan(cliques={"template": 0.3}, **PLAN).index()
    assert certified(studio.run().json) == set()


def test_a_screen_keeps_the_prompts_of_templates(tmp_path):
    faces = portraits("templates", len(CHANGES))
    studio = Studio(tmp_path).shoot(faces, portraits("templates held out", 170))
    taught(studio, faces)
    studio.write_plan(cliques={"template": 0.3}, screen={"search": 8, "confirm": 8}, **PLAN).index()
    told = studio.run().json
    assert told["screening"]["kept"] == {"picture": len(CHANGES), "control": 0}
    assert certified(told) == {digest(face) for face in faces}


def test_a_template_that_the_twin_gives_too_is_no_finding(tmp_path):
    faces = portraits("templates", len(CHANGES))
    studio = Studio(tmp_path).shoot(faces, portraits("templates held out", 170))
    taught(studio, faces)
    (tmp_path / "base.toml").write_text((tmp_path / "parrot.toml").read_text() + "\n# another file\n")
    studio.write_plan(cliques={"template": 0.3}, twin={"uri": "parrot:../base.toml"}, **PLAN).index()
    told = studio.run().json
    assert certified(told) == set()
    masked = [f for f in told["findings"] if f["distances"]["masked"] is not None]
    assert len(masked) >= len(CHANGES) - 1
    assert all(f["twin"]["statistic"] <= 0.15 for f in masked)
