"""`byrote extract`: what comes out and what does not, of parrots, and beside a twin."""

import json
import shutil

import pytest

from byrote import api, images
from byrote.audit import Audit
from byrote.cli import main
from byrote.errors import ByroteError, PlanError
from byrote.extraction import EVENT, extracted, search
from byrote.seals import verify
from byrote.stages.attempts import Attempt
from end_to_end.studio import File, Studio, portraits

PICTURES, CONTROLS, TRIED = 12, 85, 80
EXTRACT = {"ways": ["none", "caption", "left"], "samples": 6, "controls": TRIED}
FEW = {"top": 2, "random": 0, "controls": 5}
MATCH = {"shift": 1, "flip": False, "crop": 1.0}


def studio(root, faces, taught, held_out=None, **sections):
    made = Studio(root)
    made.shoot(faces, portraits("held-out", CONTROLS) if held_out is None else held_out)
    made.teach({file.caption: file.data for file in taught})
    made.write_plan(**{"extract": EXTRACT, "match": MATCH, "prompts": FEW, "generate": {"seeds": 2}} | sections).index()
    return made


def claimed(made, *files):
    assert main(["claim", str(made.audit), *(str(made.root / "pictures" / file.name) for file in files)]) == 0


def digest(file):
    return images.digest(images.decode(file.data))


def lines(made, event):
    return [line for line in Audit(made.audit).store.ledger() if line["event"] == event]


def written(made):
    """Return the bytes of every part."""
    return {path.relative_to(made.audit): path.read_bytes() for path in made.audit.glob("attempts/*/*.parquet")}


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """Claim a picture that the parrot gives and one that it does not, and search by the command line."""
    faces = portraits("train", PICTURES)
    made = studio(tmp_path_factory.mktemp("searched"), faces, [faces[3]])
    claimed(made, faces[3], faces[5])
    return made, faces, api.extract(made.audit)


def test_what_the_parrot_knows_comes_out_by_its_caption_and_nothing_else_does(searched):
    _, faces, told = searched
    known, other = told.pictures
    assert (known.digest, known.named, known.out) == (digest(faces[3]), True, True)
    assert known.says.startswith("came out by its caption: ")
    assert known.says.endswith("; none of 80 controls came so near")
    [by] = [each for each in known.outcomes if each.out]
    assert (by.way, by.text, by.controls, by.as_near) == ("caption", faces[3].caption, TRIED, 0)
    assert by.p_value == pytest.approx(1 / 81)
    assert by.adjusted == pytest.approx(4 / 81)  # two ways of two pictures share the error
    assert not other.out
    assert other.says.startswith("did not come out in 12 tries: the nearest, ")


def test_one_claim_alone_is_surer_than_two(searched, tmp_path):
    faces = searched[1]
    made = studio(tmp_path, faces, [faces[3]])
    claimed(made, faces[3])
    [known] = api.extract(made.audit).pictures
    assert [each.adjusted for each in known.outcomes if each.out] == [pytest.approx(2 / 81)]


def test_a_model_that_cannot_be_looked_into_says_why_it_fills_no_half(searched):
    _, _, told = searched
    assert all(set(each.left_out) == {"left"} for each in told.pictures)
    assert told.pictures[0].left_out["left"] == "a Parrot cannot be looked into, so it fills no half"


def test_pictures_and_controls_are_tried_alike(searched):
    made = searched[0]
    audit = Audit(made.audit)
    rows = [
        row
        for folder in sorted(made.audit.glob("attempts/*"))
        for part in sorted(folder.glob("*.parquet"))
        for row in _read(audit, folder, part)
    ]
    controls = {row.digest for row in rows if row.side == "control"}
    assert {digest(file) for file in portraits("held-out", CONTROLS)} >= controls
    assert len(controls) == TRIED
    for way in ("none", "caption"):
        some = [row for row in rows if row.way == way]
        assert len(some) == TRIED + 2
        assert {row.samples for row in some} == {6}
    blank = [row for row in rows if row.way == "none"]
    assert sum(row.evaluations for row in blank) == 3 * 6  # shared by the controls
    assert sum(row.evaluations for row in rows) == 3 * 6 + (TRIED + 2) * 6


def _read(audit, folder, part):
    import pyarrow.parquet as pq

    assert folder.parent.parent == audit.store.root
    return [Attempt(**row) for row in pq.read_table(part).to_pylist()]


def test_the_search_is_sealed_before_its_first_try_and_a_claim_after_it_is_late(searched):
    made, faces, told = searched
    events = [line["event"] for line in Audit(made.audit).store.ledger()]
    assert told.sealed == lines(made, EVENT)[0]["digest"]
    assert events.index(EVENT) < next(
        k for k, line in enumerate(Audit(made.audit).store.ledger()) if line.get("table") == "attempts"
    )
    copy = shutil.copytree(made.root, made.root.with_name("late"))
    late = Studio(copy)
    claimed(late, faces[7])
    third = api.extract(late.audit)
    assert third.searches == 2
    assert [each.named for each in third.pictures] == [True, True, False]
    assert third.pictures[0].outcomes == told.pictures[0].outcomes
    p = min(each.p_value for each in third.pictures[2].outcomes)
    assert min(each.adjusted for each in third.pictures[2].outcomes) == min(1, 2 * p * PICTURES)


def test_a_part_that_is_gone_is_made_again_to_the_byte_and_two_workers_make_the_same(searched, tmp_path):
    made = searched[0]
    before = written(made)
    assert len(before) > 4
    copy = Studio(shutil.copytree(made.root, tmp_path / "again"))
    gone = sorted(copy.audit.glob("attempts/*/*.parquet"))
    gone[-1].unlink()
    gone[0].unlink()
    api.extract(copy.audit)
    assert written(copy) == before
    shutil.rmtree(copy.audit / "attempts")
    api.extract(copy.audit, jobs=2)
    assert written(copy) == before
    assert len(lines(copy, EVENT)) == 1


def test_the_command_says_it_and_the_report_shows_it(searched, capsys):
    made, faces, told = searched
    assert main(["extract", str(made.audit), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == json.loads(json.dumps(told.as_json()))
    assert main(["extract", str(made.audit)]) == 0
    shown = capsys.readouterr().out
    assert f"{told.pictures[0].digest[:19]}, claimed before sampling: came out by its caption" in shown
    assert "left out: a Parrot" in shown
    made.run()
    assert main(["report", str(made.audit), "--reveal"]) == 0
    assert main(["report", str(made.audit), "--redact"]) == 0
    folder = made.audit / "report"
    assert json.loads((folder / "report.json").read_text())["extraction"] == said
    page, hidden = ((folder / name).read_text() for name in ("report.html", "redacted.html"))
    assert "What was tried to make claimed pictures come out" in page
    assert "Came out by its caption" in page
    assert faces[3].caption not in page
    for text in (hidden, (folder / "redacted.json").read_text()):
        assert "ame out by its caption" in text
        assert faces[3].caption not in text
        assert all(str(each.seed) not in text for each in told.pictures[0].outcomes)
        assert told.pictures[0].digest not in text
    assert not verify.verify(made.audit, key=None, samples=0).problems


def test_a_changed_plan_is_another_search_and_the_report_drops_the_old_one(searched, tmp_path):
    made, _, told = searched
    copy = Studio(shutil.copytree(made.root, tmp_path / "changed"))
    copy.write_plan(extract=EXTRACT | {"samples": 2}, match=MATCH, prompts=FEW, generate={"seeds": 2})
    assert extracted(Audit(copy.audit)) is None
    other = api.extract(copy.audit)
    assert other.sealed != told.sealed
    assert other.searches == 2


def test_what_the_twin_gives_too_did_not_come_out(tmp_path):
    faces = portraits("train", PICTURES)
    made = studio(tmp_path, faces, [faces[3]], twin={"uri": "parrot:../twin.toml"})
    knows = (tmp_path / "parrot.toml").read_text()
    (tmp_path / "twin.toml").write_text(knows.replace("repeats = 0.8", "repeats = 0.9"))
    claimed(made, faces[3])
    [known] = api.extract(made.audit).pictures
    assert not known.out
    assert known.says.endswith("but the twin, which was not trained on it, brings it too")
    assert all(each.twin_p is not None for each in known.outcomes)


def test_without_controls_it_is_uncalibrated(tmp_path):
    faces = portraits("train", 4)
    made = studio(tmp_path, faces, [faces[0]], held_out=[])
    claimed(made, faces[0], faces[1])
    known, other = api.extract(made.audit).pictures
    assert "came near by its caption" in known.says
    assert known.says.endswith("uncalibrated, no controls")
    assert "uncalibrated: no controls" in other.says
    assert all(each.p_value is None for each in known.outcomes)


HOSTILE = '<script>alert("x")</script>\u202e\r\n\x1b[31m, ' + "long " * 400


def test_hostile_captions_missing_ones_and_pictures_that_are_gone_are_told(tmp_path, capsys):
    faces = portraits("train", 5)
    odd = File(faces[0].name, faces[0].data, HOSTILE)
    silent = File(faces[1].name, faces[1].data, None)
    made = studio(
        tmp_path, [odd, silent, *faces[2:]], [faces[2]], extract=EXTRACT | {"ways": ["none", "truncated", "caption"]}
    )
    claimed(made, odd, silent, faces[2])
    audit = Audit(made.audit)
    assert audit.groups
    (made.root / "pictures" / faces[2].name).write_bytes(b"gone")
    with api._at_work(audit.store.root, audit.store, 1, None) as desk:
        first, mute, lost = search(desk, audit).pictures
    assert {each.way for each in first.outcomes} == {"none", "truncated", "caption"}
    assert {each.way for each in mute.outcomes} == {"none"}
    assert set(mute.left_out.values()) == {"it has no caption"}
    assert lost.says == "nothing could be tried: the picture is gone, or has changed since it was indexed"
    capsys.readouterr()
    lost = api.extract(made.audit).pictures[2]
    assert lost.says == "nothing could be tried: its group touches both sides, or is no longer in the corpus"
    assert main(["extract", str(made.audit)]) == 0
    assert "\x1b" not in capsys.readouterr().out
    made.run()
    assert main(["report", str(made.audit), "--reveal"]) == 0
    assert "<script>alert" not in (made.audit / "report" / "revealed.html").read_text()


def test_nothing_claimed_a_recording_and_an_unknown_way_are_one_line_each(tmp_path):
    faces = portraits("train", 4)
    made = studio(tmp_path, faces, [])
    with pytest.raises(ByroteError, match=r"no picture was claimed; `byrote claim"):
        api.extract(made.audit)
    made.write_plan(extract={"ways": ["users"]})
    with pytest.raises(PlanError, match=r"\[extract\] ways holds 'users'"):
        api.extract(made.audit)
    made.write_plan(extract=EXTRACT, model={"uri": "recorded:../pictures"})
    claimed(made, faces[0])
    with pytest.raises(PlanError, match="holds its samples"):
        api.extract(made.audit)
