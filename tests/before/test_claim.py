"""Naming pictures: which file finds which, what cannot be named, and what naming in time or too late is worth."""

import json
from io import BytesIO

import numpy as np
import pytest
from end_to_end.studio import File, Studio, portraits
from PIL import Image

from byrote import images
from byrote.api import silent
from byrote.audit import Audit
from byrote.before.claim import claim
from byrote.cli import main
from byrote.errors import CorpusError

PICTURES, CONTROLS = 12, 39
PROMPTS = {"top": 0, "random": 4, "controls": CONTROLS}


def near(file, name, caption):
    """Return a file that is nearly the same picture."""
    brighter = np.minimum(images.decode(file.data).astype(int) + 3, 255).astype(np.uint8)
    return File(name, images.encode_png(brighter), caption)


def digest(data):
    return images.digest(images.decode(data))


def studio(root, *, taught=(), pictures=None, controls=None, prompts=PROMPTS, seeds=5):
    faces = portraits("train", PICTURES) if pictures is None else pictures
    held_out = portraits("held-out", CONTROLS) if controls is None else controls
    made = Studio(root)
    made.shoot(faces, held_out).teach({file.caption: file.data for file in taught})
    made.write_plan(prompts=prompts, generate={"seeds": seeds}).index()
    return made


def name(made, *files):
    return claim(made.audit, files, silent)


def undrawn(made, faces):
    """Return the pictures that the draw passes over."""
    made.run(until="prompts")
    drawn = {prompt.digest for prompt in Audit(made.audit).prompts}
    return [file for file in faces if digest(file.data) not in drawn]


def written(made):
    return [line["digest"] for line in Audit(made.audit).store.ledger() if line["event"] == "claim"]


@pytest.fixture(scope="module")
def still(tmp_path_factory):
    """Set up a corpus with one group on both sides; nothing is sampled."""
    faces, held_out = portraits("train", PICTURES), portraits("held-out", CONTROLS)
    root = tmp_path_factory.mktemp("claims")
    made = studio(root, controls=[*held_out, near(faces[5], "both.png", "on both sides")])
    return made, faces, held_out


def test_the_file_itself_a_jpeg_of_it_and_a_smaller_one_find_their_picture(still, tmp_path):
    made, faces, _ = still
    picture = Image.open(BytesIO(faces[3].data)).convert("RGB")
    picture.save(tmp_path / "again.jpg", quality=70)
    picture.resize((48, 48), Image.Resampling.LANCZOS).save(tmp_path / "small.png")
    exact = made.root / "pictures" / faces[3].name
    found = name(made, exact, tmp_path / "again.jpg", tmp_path / "small.png")
    assert {each.digest for each in found} == {digest(faces[3].data)}
    assert found[0].distance == 0
    assert all(0 < each.distance <= 0.05 for each in found[1:])
    assert all(each.before_sampling and each.asked and not each.note for each in found)
    assert written(made).count(digest(faces[3].data)) == 1


def wrong(kind, still, folder):
    """Return a file that cannot be named, and what the line says."""
    _, faces, held_out = still
    path = folder / f"{kind}.png"
    if kind == "missing":
        return path, "No such file"
    reencoded = BytesIO()
    Image.open(BytesIO(held_out[2].data)).convert("RGB").save(reencoded, "JPEG", quality=80)
    data, says = {
        "unrelated": (images.encode_png(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)), "away"),
        "control": (held_out[2].data, "a control"),
        "a control again": (reencoded.getvalue(), "a control"),
        "unreadable": (b"not a picture", "not an image"),
        "set aside": (faces[5].data, "neither side"),
        "set aside, held out": (near(faces[5], "", None).data, "neither side"),
    }[kind]
    path.write_bytes(data)
    return path, says


@pytest.mark.parametrize(
    "kind", ["unrelated", "control", "a control again", "unreadable", "missing", "set aside", "set aside, held out"]
)
def test_what_cannot_be_named_is_one_line_and_nothing_of_it_is_written(still, tmp_path, kind, capsys):
    made, faces, _ = still
    before = written(made)
    path, says = wrong(kind, still, tmp_path)
    good = made.root / "pictures" / faces[7].name
    assert main(["claim", str(made.audit), str(good), str(path)]) == 2
    *_, line = capsys.readouterr().err.strip().splitlines()  # progress comes before
    assert str(path) in line
    assert says in line
    assert ";" in line
    assert written(made) == before


def test_an_image_that_is_a_folder_is_one_line(still, tmp_path):
    with pytest.raises(CorpusError, match="cannot be read as a picture: Is a directory"):
        name(still[0], tmp_path)


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    """Name one picture that the draw passed over, and that the model knows; run the audit."""
    faces = portraits("train", PICTURES)
    root = tmp_path_factory.mktemp("named")
    made = studio(root)
    mine, other = undrawn(made, faces)[:2]
    made.teach({mine.caption: mine.data, other.caption: other.data})
    [named] = name(made, root / "pictures" / mine.name)
    return made, mine, other, named, made.run().json


def test_a_picture_that_was_named_in_time_is_asked_and_judged_by_its_own_p(audited):
    made, mine, _, named, report = audited
    assert (named.before_sampling, named.asked) == (True, True)
    [prompt] = [p for p in Audit(made.audit).prompts if p.stratum == "claim"]
    assert (prompt.digest, prompt.rung, prompt.text) == (digest(mine.data), "caption", mine.caption)
    [judged] = report["claims"]
    assert (judged["digest"], judged["named"], judged["family"]) == (digest(mine.data), True, "asked")
    assert judged["p_value"] == judged["adjusted"] == pytest.approx(1 / (CONTROLS + 1))
    assert judged["certified"]
    assert report["tests"]["asked"]["m"] == 5
    assert not any(found["certified"] for found in report["findings"])  # one of five is too few for the list


def test_naming_again_changes_nothing(audited):
    made, mine, _, _, report = audited
    ledger = (made.audit / "ledger.jsonl").read_bytes()
    [again] = name(made, made.root / "pictures" / mine.name)
    assert again.before_sampling
    assert (made.audit / "ledger.jsonl").read_bytes() == ledger
    assert made.run().json == report


def test_a_picture_that_is_named_too_late_was_searched_for_and_the_audit_stands(audited):
    made, _, other, _, report = audited
    begun = [line for line in Audit(made.audit).store.ledger() if line["event"] in ("begun", "seal")]
    recipes = [recipe.digest for recipe in Audit(made.audit).recipes.every()]
    [late] = name(made, made.root / "pictures" / other.name)
    assert (late.before_sampling, late.asked) == (False, False)
    assert "not asked" in late.note
    after = made.run().json
    assert [line for line in Audit(made.audit).store.ledger() if line["event"] in ("begun", "seal")] == begun
    assert [recipe.digest for recipe in Audit(made.audit).recipes.every()] == recipes
    assert after | {"claims": 0, "sentences": 0} == report | {"claims": 0, "sentences": 0}
    assert after["sealed"]["before_sampling"]
    first, second = after["claims"]
    assert [first] == report["claims"]
    assert (second["digest"], second["named"], second["family"]) == (digest(other.data), False, "unasked")
    assert not second["certified"]
    assert "not asked" in second["reason"]
    assert any("named after sampling, so counted as searched for" in said for said in after["sentences"])


def test_two_named_pictures_share_the_error_and_a_late_one_shares_it_with_everything(tmp_path):
    faces = portraits("train", PICTURES)
    made = studio(tmp_path)
    a, b, c, *_ = undrawn(made, faces)
    drawn = next(f for f in faces if digest(f.data) in {p.digest for p in Audit(made.audit).prompts})
    made.teach({file.caption: file.data for file in (a, b, drawn)})
    name(made, *(made.root / "pictures" / file.name for file in (a, b, c)))
    made.run()
    name(made, made.root / "pictures" / drawn.name)
    judged = {row["digest"]: row for row in made.run().json["claims"]}
    p = 1 / (CONTROLS + 1)
    assert judged[digest(a.data)]["adjusted"] == judged[digest(b.data)]["adjusted"] == pytest.approx(3 * p)
    assert judged[digest(c.data)]["adjusted"] == pytest.approx(1.0)
    late = judged[digest(drawn.data)]
    assert (late["named"], late["family"]) == (False, "asked")
    assert late["adjusted"] == pytest.approx(7 * p)  # four were drawn and three named
    assert [row["certified"] for row in judged.values()] == [False] * 4  # 3 / 40 is more than .05
    assert "too few" in judged[digest(a.data)]["reason"]


def test_19_controls_are_enough_for_one_named_picture_and_18_are_not(tmp_path):
    faces = portraits("train", PICTURES)
    for controls, enough in ((19, True), (18, False)):
        root = tmp_path / str(controls)
        root.mkdir()
        made = studio(root, taught=[faces[2]], prompts={"top": 0, "random": 0, "controls": controls})
        name(made, root / "pictures" / faces[2].name)
        [judged] = made.run().json["claims"]
        assert judged["certified"] is enough
        assert judged["adjusted"] == pytest.approx(1 / (controls + 1))
        assert ("18 controls are too few" in judged["reason"]) is not enough


def test_a_name_holds_for_the_next_seed_and_one_that_came_late_stays_late(tmp_path):
    """What was picked out by a model's samples is no fresh guess of the same model from other noise."""
    faces = portraits("train", PICTURES)
    made = studio(tmp_path, taught=faces[:2])
    name(made, made.root / "pictures" / faces[0].name)
    made.run()
    name(made, made.root / "pictures" / faces[1].name)
    for seed in (7, 0):
        made.write_plan(prompts=PROMPTS | {"seed": seed}, generate={"seeds": 5})
        report = made.run().json
        assert [(row["digest"], row["named"]) for row in report["claims"]] == [
            (digest(faces[0].data), True),
            (digest(faces[1].data), False),
        ]
        assert digest(faces[0].data) in {prompt.digest for prompt in Audit(made.audit).prompts}
        assert report["sealed"]["before_sampling"]


def test_the_member_that_was_named_is_asked_where_its_group_was_drawn_by_another(tmp_path):
    faces = portraits("train", PICTURES)
    pair = near(faces[0], "pair.png", "another caption of the same")
    made = studio(tmp_path, pictures=[*faces, pair], prompts=PROMPTS | {"top": 1})
    made.run(until="prompts")
    [drawn] = [p for p in Audit(made.audit).prompts if p.stratum == "top"]
    mine = pair if drawn.digest == digest(faces[0].data) else faces[0]
    name(made, made.root / "pictures" / mine.name)
    made.teach({mine.caption: mine.data})
    report = made.run().json
    [prompt] = [p for p in Audit(made.audit).prompts if p.stratum == "top"]
    assert (prompt.digest, prompt.text) == (digest(mine.data), mine.caption)
    [judged] = report["claims"]
    assert judged["certified"]
    assert report["findings"][0]["picture"]["caption"] == mine.caption


def test_a_picture_without_a_caption_cannot_be_asked_and_that_is_said(tmp_path, capsys):
    faces = portraits("train", PICTURES)
    silenced = File(faces[4].name, faces[4].data, None)
    made = studio(tmp_path, pictures=[*faces[:4], silenced, *faces[5:]])
    place = made.root / "pictures" / silenced.name
    assert main(["claim", str(made.audit), str(place)]) == 0
    assert "no caption to ask by: it is only searched for" in capsys.readouterr().out
    assert main(["claim", str(made.audit), str(place), "--json"]) == 0
    [told] = json.loads(capsys.readouterr().out)["claims"]
    assert (told["asked"], told["before_sampling"]) == (False, True)
    [judged] = made.run().json["claims"]
    assert (judged["family"], judged["certified"]) == ("unasked", False)
    assert "not asked for by a caption of its own" in judged["reason"]


def test_a_model_without_text_is_asked_for_nobody_and_that_is_said(tmp_path):
    made = studio(tmp_path)
    (tmp_path / "parrot.toml").write_text("width = 32\nheight = 32\ntakes_text = false\n")
    [named] = name(made, made.root / "pictures" / portraits("train", 1)[0].name)
    assert not named.asked
    assert "takes no text" in named.note
