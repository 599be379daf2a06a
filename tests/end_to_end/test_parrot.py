"""A model with a known memory is audited: what it was taught is found, and nothing else."""

import json

import numpy as np
import pytest

from byrote import images
from byrote.cli import main
from byrote.domain import Clique, Prompt

from .studio import File, Studio, portraits

TAUGHT = 10


def setup(root, *, pictures=40, controls=100, taught=(), **sections):
    studio = Studio(root)
    faces, held_out = portraits("train", pictures), portraits("held-out", controls)
    studio.root.mkdir(exist_ok=True)
    studio.shoot(faces, held_out).teach({faces[k].caption: faces[k].data for k in taught}).write_plan(**sections)
    studio.index()
    return studio


def digest(file):
    return images.digest(images.decode(file.data))


def certified(report):
    return {found["picture"]["digest"] for found in report["findings"] if found["certified"]}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_ten_taught_captions_are_certified_and_nothing_else(tmp_path, seed):
    taught = np.random.default_rng(seed).choice(40, TAUGHT, replace=False).tolist()
    studio = setup(tmp_path / "a", taught=taught, prompts={"seed": seed})
    report = studio.run().json
    assert certified(report) == {digest(portraits("train", 40)[k]) for k in taught}
    assert report["controls"] == {"n": 100, "certified": 0}
    assert report["tests"]["asked"]["m"] == 40
    assert report["tests"]["asked"]["k_needed"] == 8  # ceil(40 / (0.05 * 101))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_parrot_that_was_taught_nothing_has_no_finding(tmp_path, seed):
    report = setup(tmp_path / "a", prompts={"seed": seed}).run().json
    assert certified(report) == set()
    assert report["calibrated"] is True
    assert report["controls"]["certified"] == 0


def test_too_few_memories_for_the_controls_are_shown_but_not_certified(tmp_path):
    report = setup(tmp_path / "a", taught=[3, 5]).run().json
    assert certified(report) == set()
    nearest = {found["picture"]["digest"] for found in report["findings"][:2]}
    assert nearest == {digest(portraits("train", 40)[k]) for k in (3, 5)}
    assert all(found["distances"]["tiled"] < 0.15 for found in report["findings"][:2])


def test_the_report_has_every_key_of_its_schema(tmp_path):
    report = setup(tmp_path / "a", taught=range(TAUGHT)).run().json
    assert set(report) >= {
        *("schema_version", "calibrated", "model", "corpus", "plan", "tests", "findings", "controls", "rates"),
        *("cost", "skipped"),
    }
    assert set(report["model"]) >= {"uri", "digest"}
    assert set(report["corpus"]) >= {"digest", "pictures", "groups", "unreadable", "controls", "controls_set_aside"}
    for family in ("asked", "unasked"):
        assert set(report["tests"][family]) == {"m", "n_controls", "controls_at_cut", "smallest_p", "k_needed"}
    assert set(report["controls"]) == {"n", "certified"}
    assert set(report["cost"]) == {"denoiser_evaluations", "samples", "seconds"}
    found = report["findings"][0]
    keys = {"picture", "prompt", "samples", "distances", "p_value", "q_value", "certified", "basis"}
    assert set(found) == keys | {"family", "group", "matched_p", "sensitivity", "twin", "way"}
    assert set(found["picture"]) == {"digest", "where", "caption", "copies"}
    assert set(found["distances"]) == {"rms", "tiled", "ratio", "round_trip", "masked"}
    assert set(found["samples"][0]) == {"seed", "digest"}
    assert found["basis"] == "exact"
    for rate in report["rates"]:
        names = ("name", "tier", "k", "n", "low", "high", "level", "method", "controls_k", "controls_n", "population")
        assert set(rate) == set(names)
        assert rate["low"] <= rate["k"] / rate["n"] <= rate["high"]
    assert report["cost"]["samples"] == (40 + 100) * 10
    assert {digest(face) for face in portraits("train", TAUGHT)} == certified(report)


def test_the_gate_exits_1_where_something_is_certified(tmp_path, capsys):
    studio = setup(tmp_path / "a", taught=range(TAUGHT))
    assert main(["run", str(studio.audit), "--gate", "--json"]) == 1
    out, _ = capsys.readouterr()
    assert len(certified(json.loads(out))) == TAUGHT
    assert main(["run", str(studio.audit)]) == 0


def test_the_gate_exits_3_and_says_how_many_controls_are_missing(tmp_path, capsys):
    studio = setup(tmp_path / "a", pictures=10, controls=30)
    assert main(["run", str(studio.audit), "--gate"]) == 3
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("byrote:")]
    assert "169 controls are missing" in line  # 20 for each of 10 pictures, less 1, less the 30 that are there


def test_the_gate_exits_0_where_the_audit_is_strong_and_finds_nothing(tmp_path):
    studio = setup(tmp_path / "a", pictures=4, controls=80, generate={"seeds": 3})
    assert main(["run", str(studio.audit), "--gate"]) == 0


def test_the_gate_finds_one_memory_where_the_audit_is_strong(tmp_path):
    studio = setup(tmp_path / "a", pictures=4, controls=80, taught=[2])
    assert main(["run", str(studio.audit), "--gate"]) == 1
    report = studio.run().json
    assert certified(report) == {digest(portraits("train", 3)[2])}
    assert report["findings"][0]["p_value"] == pytest.approx(1 / 81)


def test_without_controls_distances_are_told_and_nothing_is_certified(tmp_path):
    studio = setup(tmp_path / "a", pictures=6, controls=0, taught=[2])
    report = studio.run().json
    assert report["calibrated"] is False
    assert certified(report) == set()
    nearest = report["findings"][0]
    assert nearest["picture"]["digest"] == digest(portraits("train", 3)[2])
    assert nearest["p_value"] is None
    assert nearest["q_value"] is None
    assert "uncalibrated" in (studio.audit / "report" / "report.html").read_text().lower()
    assert main(["run", str(studio.audit), "--gate"]) == 3


def test_a_control_caption_that_brings_back_a_picture_counts_for_the_picture(tmp_path):
    faces, held_out = portraits("train", 4), portraits("held-out", 80)
    studio = Studio(tmp_path)
    studio.shoot(faces, held_out).teach({held_out[7].caption: faces[1].data}).write_plan()
    studio.index()
    report = studio.run().json
    assert certified(report) == {digest(faces[1])}
    assert report["findings"][0]["prompt"] == held_out[7].caption
    assert report["tests"]["asked"]["controls_at_cut"] == 0


def test_a_group_on_both_sides_leaves_both_and_is_counted(tmp_path):
    faces, held_out = portraits("train", 6), portraits("held-out", 30)
    brighter = np.minimum(images.decode(faces[2].data).astype(int) + 3, 255).astype(np.uint8)
    twins = [
        File("same.png", faces[0].data, "the same pixels, held out"),
        File("near.png", images.encode_png(brighter), "nearly the same pixels, held out"),
    ]
    studio = Studio(tmp_path)
    knows = {face.caption: face.data for face in faces}
    studio.shoot(faces, [*held_out, *twins]).teach(knows).write_plan()
    studio.index()
    report = studio.run().json
    assert report["corpus"]["controls"] == 32
    assert report["corpus"]["controls_set_aside"] == 2
    assert report["corpus"]["groups"] == 4
    assert report["tests"]["asked"] | {"smallest_p": None} == {
        **{"m": 4, "n_controls": 30, "controls_at_cut": 0, "k_needed": 3, "smallest_p": None},
    }
    skipped = {row["what"]: row["n"] for row in report["skipped"]}
    assert skipped["groups of pictures"] == 2
    assert skipped["groups of controls"] == 2
    assert certified(report) == {digest(faces[k]) for k in (1, 3, 4, 5)}


def test_a_picture_without_a_caption_is_tested_but_not_asked(tmp_path):
    faces, held_out = portraits("train", 6), portraits("held-out", 150)
    silent = [File(face.name, face.data, None if k < 2 else face.caption) for k, face in enumerate(faces)]
    asked = [File(face.name, face.data, None if k < 50 else face.caption) for k, face in enumerate(held_out)]
    studio = Studio(tmp_path)
    studio.shoot(silent, asked).teach({faces[4].caption: faces[0].data}).write_plan()
    studio.index()
    result = studio.run()
    report = result.json
    assert (report["tests"]["asked"]["m"], report["tests"]["asked"]["n_controls"]) == (4, 100)
    assert (report["tests"]["unasked"]["m"], report["tests"]["unasked"]["n_controls"]) == (2, 50)
    assert {"pictures without a caption": 52}.items() <= {row["what"]: row["n"] for row in report["skipped"]}.items()
    first = report["findings"][0]
    assert first["picture"]["digest"] == digest(faces[0])
    assert first["picture"]["caption"] is None
    assert first["prompt"] == faces[4].caption
    assert result.findings[0].family == "unasked"


def test_files_with_equal_pixels_keep_a_row_each_and_copies_count_rows(tmp_path):
    faces, held_out = portraits("train", 5), portraits("held-out", 120)
    copies = [File(f"copy-{k}.png", faces[3].data, f"caption number {k}") for k in range(3)]
    again = File("again.bmp", bmp(faces[3].data), "as another format")
    studio = Studio(tmp_path)
    knows = dict.fromkeys((faces[3].caption, again.caption, *(c.caption for c in copies)), faces[3].data)
    studio.shoot([*faces, *copies, again], held_out).teach(knows).write_plan()
    studio.index()
    report = studio.run().json
    assert report["corpus"]["pictures"] == 9
    assert report["corpus"]["groups"] == 5
    (found,) = [found for found in report["findings"] if found["certified"]]
    assert found["picture"]["copies"] == 5
    assert sorted(found["picture"]["where"]) == ["0003.png", "again.bmp", "copy-0.png", "copy-1.png", "copy-2.png"]
    assert found["basis"] == "assumption-based"


def bmp(data):
    from io import BytesIO

    from PIL import Image

    out = BytesIO()
    Image.open(BytesIO(data)).convert("RGB").save(out, "BMP")
    return out.getvalue()


def test_a_plan_that_changes_after_sampling_certifies_nothing_more(tmp_path):
    studio = setup(tmp_path / "a", pictures=4, controls=80, taught=[2])
    assert len(certified(studio.run().json)) == 1
    studio.write_plan(certify={"closest": 0.14})
    report = studio.run().json
    assert certified(report) == set()
    assert report["calibrated"] is False


def test_a_changed_threshold_of_matching_keeps_the_samples(tmp_path):
    studio = setup(tmp_path / "a", pictures=4, controls=20, taught=[2])
    studio.run()
    before = {path: path.stat().st_mtime_ns for path in (studio.audit / "samples").rglob("*.parquet")}
    studio.write_plan(match={"shift": 0})
    studio.run()
    assert {path: path.stat().st_mtime_ns for path in (studio.audit / "samples").rglob("*.parquet")} == before


def test_until_stops_after_its_stage_and_the_next_run_goes_on(tmp_path, capsys):
    studio = setup(tmp_path / "a", pictures=4, controls=20, taught=[2])
    assert main(["run", str(studio.audit), "--until", "generate"]) == 0
    assert not (studio.audit / "cliques").exists()
    assert not (studio.audit / "report").exists()
    result = studio.run()
    store, recipes = audit_of(studio)
    assert len(store.read_all(Clique, recipes.cliques)) == len(store.read_all(Prompt, recipes.prompts)) == 24
    assert result.report.exists()
    assert main(["status", str(studio.audit)]) == 0
    assert "report     1 of 1 parts" in capsys.readouterr().out


def audit_of(studio):
    from byrote.audit import Audit

    audit = Audit(studio.audit)
    return audit.store, audit.recipes


def test_the_page_hides_captions_until_it_is_told_to_reveal_them(tmp_path, capsys):
    studio = setup(tmp_path / "a", pictures=4, controls=80, taught=[2])
    page = studio.run().report
    caption = portraits("train", 3)[2].caption
    assert caption not in page.read_text()
    assert main(["report", str(studio.audit), "--reveal"]) == 0
    assert caption in page.with_name("revealed.html").read_text()
    assert caption not in page.read_text()


def test_a_model_that_changes_is_another_model_to_the_same_process(tmp_path):
    studio = setup(tmp_path / "a", pictures=4, controls=80)
    before = studio.run().json
    face = portraits("train", 4)[2]
    after = studio.teach({face.caption: face.data}).run().json
    assert before["model"]["digest"] != after["model"]["digest"]
    assert (certified(before), certified(after)) == (set(), {digest(face)})


def test_a_size_that_four_blocks_a_tile_do_not_divide_is_audited_too(tmp_path):
    pictures, controls = portraits("train", 12), portraits("held-out", 40)
    studio = Studio(tmp_path).shoot(pictures, controls).teach({pictures[0].caption: pictures[0].data}, side=40)
    studio.write_plan(prompts={"top": 0, "random": 1, "controls": 40}).index()
    found = studio.run().json
    assert found["tests"]["asked"]["m"] == 1
    assert found["controls"]["n"] == 40
