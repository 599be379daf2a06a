"""Evidence from inside the denoiser: of the demo's model, of one without text, and of what has no inside."""

import re
from base64 import b64decode
from dataclasses import replace

import numpy as np
import pytest
from browsers import chromium
from end_to_end.studio import Studio, portraits
from models import tiny
from playwright.sync_api import sync_playwright
from test_pdf import AXE
from test_report import evidence

from byrote import images, models
from byrote.demo import MODEL, Truth, album
from byrote.domain import Finding, Prompt
from byrote.kernels import overlays
from byrote.models import Options
from byrote.models.denoiser import opened
from byrote.plan import ProbePlan, parse
from byrote.stages import probe, report
from byrote.stages.probe import Asked, Probed
from byrote.stages.report import inside


@pytest.fixture(scope="module")
def found():
    """Probe three pictures that come back in every sample, and three that the model never saw."""
    often = [caption for caption, share in Truth.read().shares.items() if share == 1.0][:3]
    known = {row.caption: row.pixels() for row in album.training_set() if row.caption in often}
    rows = [Asked("picture", f"p{k}", f"p{k}", False, c, often[k - 1]) for k, c in enumerate(often)]
    pictures = [known[caption] for caption in often]
    for k, row in enumerate(album.controls("held-out", 3)):
        rows.append(Asked("control", f"c{k}", f"c{k}", False, row.caption, often[0]))
        pictures.append(row.pixels())
    denoiser = opened(models.open(f"diffusers:{MODEL}", Options(steps=5, guidance=1.0)))
    return probe.probed(denoiser, list(zip(rows, pictures, strict=True)), ProbePlan())


def test_pictures_that_are_remembered_hold_themselves_at_more_noise_than_those_that_are_not(found):
    rows, _ = found
    ours, theirs = rows[:3], rows[3:]
    assert min(row.scale for row in ours) > max(row.scale for row in theirs)
    assert max(row.gap for row in ours) > 0, "of one that holds without its caption there is none"


def test_anothers_caption_does_not_widen_the_basin(found):
    rows, _ = found
    assert all(row.swapped_gap <= row.gap for row in rows[:3])
    assert all(row.swapped_scale < row.scale for row in rows[:3])


def test_pictures_have_maps_of_their_size_and_controls_have_none(found):
    rows, maps = found
    assert [row.map for row in rows] == [0, 1, 2, -1, -1, -1]
    assert all(each.shape == (64, 64) and each.min() >= 0 and each.max() > 0 for each in maps)


def test_p_is_the_rank_among_controls(found):
    rows, _ = found
    told = inside.told(rows, {})
    assert [p["scale"] for p in told.p_values] == [0.25] * 3
    assert told.controls["scale"].n == 3
    assert set(told.swapped) == {"pictures", "controls"}
    assert told.as_json()["pictures"][0]["p_values"]["gap"] >= 0.25


def test_evaluations_are_counted(found):
    rows, _ = found
    assert all(16 < row.evaluations <= 3 * 4 * 16 + 16 for row in rows)
    assert rows[0].evaluations > rows[3].evaluations, "what does not hold is asked no more"


def test_a_model_without_text_has_a_critical_scale_alone(tmp_path):
    model = models.open(f"diffusers:{tiny.unconditional(tmp_path / 'model')}", Options(steps=4))
    denoiser = opened(model)
    image = np.random.default_rng(0).integers(0, 256, (*denoiser.size, 3)).astype(np.uint8)
    rows, maps = probe.probed(denoiser, [(Asked("picture", "a", "a", False, None, None), image)], ProbePlan())
    assert maps == []
    assert (rows[0].scale, rows[0].gap, rows[0].norm, rows[0].swapped_norm, rows[0].map) == (None, None, None, None, -1)
    assert rows[0].plain >= 0


def finding(group, side, statistic):
    facts = dict.fromkeys(("prompt", "sample", "rms", "tiled", "round_trip", "ratio", "p_value", "q_value"))
    return Finding("asked", group, group, side, 1, statistic=statistic, certified=False, basis="exact", **facts)


def chosen(tmp_path, groups, named=(), **knobs):
    rows = [finding(group, "control" if group[0] == "c" else "picture", t) for group, t in groups.items()]
    prompts = [Prompt(k, r.group, r.group, r.side, "random", 1, "caption", f"of {r.group}") for k, r in enumerate(rows)]
    read = {"format": 1, "model": {"uri": "parrot:x"}, "corpus": {"path": "c"}, "probe": knobs}
    return probe.chosen(rows, prompts, set(named), parse(read, tmp_path / "audit.toml"))


def test_the_nearest_those_that_were_named_and_as_many_controls_as_wanted_are_probed(tmp_path):
    groups = {f"p{k}": 0.1 * k for k in range(6)} | {"x": None} | {f"c{k}": 0.5 for k in range(9)}
    asked = chosen(tmp_path, groups, ["p1", "x"], findings=2, controls=4)
    assert [(each.group, each.claimed) for each in asked[:3]] == [("p0", False), ("p1", True), ("x", True)]
    assert len(asked) == 7
    assert all(each.text == f"of {each.group}" for each in asked)
    assert all(each.other not in (None, each.text) for each in asked)
    assert {each.other for each in asked[:3]} == {each.text for each in asked[:3]}, "of the same side"


def test_one_picture_alone_is_probed_with_the_caption_of_a_control(tmp_path):
    asked = chosen(tmp_path, {"x": 0.3, "c0": 0.5, "c1": 0.5}, ["x"], claims=True)
    assert [each.group[0] for each in asked] == ["x", "c", "c"]
    assert asked[0].other in {"of c0", "of c1"}


def test_a_model_that_cannot_be_looked_into_is_told_and_the_audit_goes_on(tmp_path):
    studio = Studio(tmp_path).shoot(portraits("train", 3), portraits("held-out", 5)).teach({})
    studio.write_plan(probe={"findings": 3}, generate={"seeds": 2}).index()
    said = []
    told = studio.run(tell=said.append).json
    assert any("cannot be looked into; nothing is probed" in line for line in said)
    assert told["inside"] is None
    assert any("there was none: the model cannot be looked into" in line for line in told["warnings"])


def test_a_map_is_laid_over_the_grey_picture():
    image = np.full((4, 4, 3), 100, np.uint8)
    hot = np.zeros((4, 4))
    assert (overlays.heated(image, hot) == 100).all()
    hot[1, 2] = 3.0
    laid = overlays.heated(image, hot)
    assert (laid[0, 0] == 100).all()
    assert laid[1, 2].tolist() == [round(30 + 0.7 * c) for c in overlays.HEAT[-1]]


def test_nobody_probed_is_nothing_told():
    assert inside.told([], {}) is None
    assert inside.told([Probed("control", "c", "c", False, 1.0)], {}) is None


@pytest.fixture
def seen():
    """Return an audit whose first finding was probed and whose second was named, beside 30 controls."""
    dice, audit = np.random.default_rng(0), evidence()
    shown = [row.finding.digest for row in audit.findings[:2]]
    rows = [Probed("picture", d, d, k == 1, 0.5, 10.0, 3.0, 9.0, 0.5, 0.1, 2.0, k) for k, d in enumerate(shown)]
    rows += [Probed("control", f"c{k}", f"c{k}", False, *dice.uniform(0, 1, 7).tolist()) for k in range(30)]
    maps = {digest: dice.uniform(0, 1, (64, 64)).astype(np.float32) for digest in shown}
    return replace(audit, inside=inside.told(rows, maps)), shown


def test_the_report_shows_maps_only_where_pictures_are_shown(seen, tmp_path):
    audit, shown = seen
    parts = {}
    for name, more in (("report", {}), ("revealed", {"reveal": True}), ("redacted", {"redact": True})):
        report.write(tmp_path, audit, **({"reveal": False} | more))
        page = (tmp_path / f"{name}.html").read_text(encoding="utf-8")
        parts[name] = page.partition('id="inside"')[2].partition("<h2")[0]
    maps = {
        name: [b64decode(src) for src in re.findall(r"data:image/png;base64,([^\"]+)", parts[name])] for name in parts
    }
    assert [len(of) for of in maps.values()] == [4, 4, 0]
    assert all(images.decode(data).shape == (4, 4, 3) for data in maps["report"]), "blurred"
    picture = audit.picture_image(shown[0])
    laid = overlays.heated(picture, audit.inside.maps[shown[0]])
    assert np.array_equal(images.decode(maps["revealed"][1]), laid)
    assert all(digest[-12:] not in parts["redacted"] for digest in shown)
    for told in parts.values():
        assert "Named before sampling: its p tests" in told
        assert "Chosen for being near: its p describes" in told
        assert told.count("<svg") == 4
        assert "p .032" in told or "p 0.032" in told, "1 of 31"


def test_every_value_is_a_mark_along_its_axis(seen):
    strips = {strip.measure: strip for strip in inside.strips(seen[0].inside)}
    assert list(strips) == list(inside.MEASURES)
    assert [len(places) for _, places in strips["gap"].lines] == [2, 30, 2, 30]
    assert [len(places) for _, places in strips["plain"].lines] == [2, 30]
    assert all(0 <= x <= inside.WIDTH for strip in strips.values() for _, places in strip.lines for x in places)
    assert strips["scale"].lines[0][1] == [inside.WIDTH] * 2, "the largest is at the end"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_to_mend_in_the_section(seen, tmp_path, scheme):
    report.write(tmp_path, seen[0], reveal=True)
    with sync_playwright() as playwright:
        opened_page = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        page = opened_page.new_page(color_scheme=scheme)
        page.goto((tmp_path / "revealed.html").as_uri())
        page.evaluate(AXE)
        found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
        opened_page.close()
    assert [(each["id"], [node["target"] for node in each["nodes"]][:3]) for each in found] == []
