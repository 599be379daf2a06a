"""Evidence from inside the denoiser: of the demo's model, of one without text, and of what has no inside."""

from dataclasses import replace

import numpy as np
import pytest
from end_to_end.studio import Studio, portraits
from models import tiny

from byrote import models
from byrote.demo import MODEL, Truth, album
from byrote.domain import Finding, Prompt
from byrote.kernels import overlays
from byrote.models import Options
from byrote.models.denoiser import opened
from byrote.plan import parse
from byrote.stages import probe
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
    return probe.probed(denoiser, list(zip(rows, pictures, strict=True)))


def test_pictures_that_are_remembered_hold_themselves_at_more_noise_than_those_that_are_not(found):
    rows, _ = found
    ours, theirs = rows[:3], rows[3:]
    assert min(row.scale for row in ours) > max(row.scale for row in theirs)
    assert all(row.gap > 0 for row in ours)


def test_anothers_caption_does_not_widen_the_basin(found):
    rows, _ = found
    assert all(row.swapped_gap < row.gap for row in rows[:3])


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
    assert all(100 < row.evaluations <= 3 * 16 * 16 + 16 for row in rows)


def test_a_model_without_text_has_a_critical_scale_alone(tmp_path):
    model = models.open(f"diffusers:{tiny.unconditional(tmp_path / 'model')}", Options(steps=4))
    denoiser = opened(model)
    image = np.random.default_rng(0).integers(0, 256, (*denoiser.size, 3)).astype(np.uint8)
    rows, maps = probe.probed(denoiser, [(Asked("picture", "a", "a", False, None, None), image)])
    assert maps == []
    assert (rows[0].scale, rows[0].gap, rows[0].norm, rows[0].swapped, rows[0].map) == (None, None, None, None, -1)
    assert rows[0].plain >= 0


def finding(group, side, statistic, claimed=False):
    facts = dict.fromkeys(("prompt", "sample", "rms", "tiled", "round_trip", "ratio", "p_value", "q_value"))
    row = Finding("asked", group, group, side, 1, statistic=statistic, certified=False, basis="exact", **facts)
    return replace(row, claimed=claimed)


def test_the_nearest_the_claimed_and_as_many_controls_as_wanted_are_probed(tmp_path):
    rows = [finding(f"p{k}", "picture", 0.1 * k) for k in range(6)] + [finding("x", "picture", None, claimed=True)]
    rows += [finding(f"c{k}", "control", 0.5) for k in range(9)]
    prompts = [Prompt(k, r.group, r.group, r.side, "random", 1, "caption", f"of {r.group}") for k, r in enumerate(rows)]
    read = {"format": 1, "model": {"uri": "parrot:x"}, "corpus": {"path": "c"}}
    plan = parse(read | {"probe": {"findings": 2, "claims": True, "controls": 4}}, tmp_path / "audit.toml")
    asked = probe.chosen(rows, prompts, plan)
    assert [each.group for each in asked[:3]] == ["p0", "p1", "x"]
    assert len(asked) == 7
    assert all(each.text == f"of {each.group}" for each in asked)
    assert all(each.other not in (None, each.text) for each in asked)
    assert {each.other for each in asked[:3]} == {each.text for each in asked[:3]}, "of the same side"


def test_a_model_that_cannot_be_looked_into_is_told_and_the_audit_goes_on(tmp_path):
    studio = Studio(tmp_path).shoot(portraits("train", 3), portraits("held-out", 5)).teach({})
    studio.write_plan(probe={"findings": 3}, generate={"seeds": 2}).index()
    said = []
    told = studio.run(tell=said.append).json
    assert any("cannot be looked into; nothing is probed" in line for line in said)
    assert told["inside"] is None


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
    assert inside.told([Probed("control", "c", "c", False, 1.0, None, None, None, None, None, -1, 5)], {}) is None
