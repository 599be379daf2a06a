"""What `byrote plan` says an audit costs and shows, against what the audit takes and against the published table."""

import json
from math import ceil

import pytest
from end_to_end.studio import Studio, portraits

from byrote.api import silent
from byrote.audit import Audit
from byrote.before.budget import caught, weigh
from byrote.before.budget import words as said
from byrote.cli import main
from byrote.domain import Prompt, Sample

TABLE = [
    (500, 10, 0.019, 0.031),
    (200, 5, 0.023, 0.045),
    (100, 4, 0.037, 0.076),
    (64, 4, 0.057, 0.117),
    (16, 3, 0.16, 0.34),
    (4, 2, 0.39, 0.75),
]
PICTURES, CONTROLS, SEEDS = 6, 20, 4


def studio(root, *, twin=False, text=True, **sections):
    """Set up an audit, with a twin that knows nothing where asked."""
    made = Studio(root)
    faces, held_out = portraits("train", PICTURES), portraits("held-out", CONTROLS)
    made.shoot(faces, held_out).teach({})
    (root / "base.toml").write_text("width = 32\nheight = 32\n")
    made.teach({faces[0].caption: faces[0].data})
    if not text:
        (root / "parrot.toml").write_text("width = 32\nheight = 32\ntakes_text = false\n")
    with_twin = {"twin": {"uri": "parrot:../base.toml"}} if twin else {}
    made.write_plan(**({"generate": {"seeds": SEEDS, "batch": 4}} | with_twin | sections))
    made.index()
    return made


def told(made, pilot=True):
    return weigh(made.audit, pilot=pilot, progress=silent)


def tables(folder):
    """Return the bytes of every part of every table, `report` and `ledger.jsonl` left out."""
    found = [*folder.glob("*/*/*.parquet"), *folder.glob("*/*/*.npy")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def size(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(("samples", "least", "half", "most"), TABLE)
def test_the_chance_of_a_clique_is_that_of_the_published_table(samples, least, half, most):
    digits = 3 if samples > 16 else 2
    assert round(caught(samples, least, 0.5), digits) == pytest.approx(half)
    assert round(caught(samples, least, 0.95), digits) == pytest.approx(most)


def test_the_chance_of_a_clique_meets_its_ends():
    assert caught(10, 1, 0.5) == pytest.approx(1 - 0.5**0.1, abs=1e-4)
    assert caught(10, 10, 0.5) == pytest.approx(0.5**0.1, abs=1e-4)
    assert caught(10, 0, 0.5) == 0.0
    assert caught(3, 4, 0.5) == 1.0


@pytest.mark.parametrize(
    ("sections", "twin"),
    [({}, False), ({"ladder": {"rungs": ["none", "users", "truncated", "caption"], "users": "../users.txt"}}, True)],
    ids=["captions alone", "a ladder and a twin"],
)
def test_the_cost_that_is_told_is_the_cost_that_is_paid(tmp_path, sections, twin):
    (tmp_path / "users.txt").write_text("a dog\na city at night\na dog\n")
    made = studio(tmp_path, twin=twin, **sections)
    before = told(made)
    report = made.run().json
    audit = Audit(made.audit)
    recipes = [each.samples for each in (audit.recipes.own, audit.recipes.twin) if each]
    rows = [row for recipe in recipes for row in audit.store.read_all(Sample, recipe)]
    assert before.samples == len(rows) == report["cost"]["samples"]
    assert before.evaluations == report["cost"]["denoiser_evaluations"]
    assert sum(before.prompts.values()) == len(audit.store.read_all(Prompt, audit.recipes.prompts))
    assert set(before.prompts) == set(sections.get("ladder", {}).get("rungs", ["caption"]))
    assert before.bytes / 1.25 < size(made.audit / "samples") < before.bytes * 1.25
    assert size(made.audit / "samples") < size(made.audit) - size(made.audit / "report") < 1.5 * before.bytes
    test = report["tests"]["asked"]
    assert (before.pictures, before.controls) == (test["m"], test["n_controls"]) == (PICTURES, CONTROLS)
    assert before.smallest_p == test["smallest_p"]


@pytest.mark.parametrize("tiles", [1, 8])
def test_the_disk_is_told_whatever_the_tiles(tmp_path, tiles):
    made = studio(tmp_path, cliques={"tiles": tiles})
    before = told(made)
    made.run(until="generate")
    assert before.bytes / 1.25 < size(made.audit / "samples") < before.bytes * 1.25


def test_the_trial_leaves_no_trace_and_the_audit_after_it_is_the_same_byte_for_byte(tmp_path):
    for name in ("plain", "planned"):
        (tmp_path / name).mkdir()
    plain, planned = studio(tmp_path / "plain"), studio(tmp_path / "planned")
    before = told(planned)
    assert before.pilot is not None
    assert {path.split("/")[0] for path in tables(planned.audit)} == {"prompts"}
    assert not any(line["event"] == "seal" for line in Audit(planned.audit).store.ledger())
    told(planned)
    assert tables(planned.audit).keys() == {path for path in tables(planned.audit) if path.startswith("prompts")}
    plain.run()
    report = planned.run().json
    assert report["sealed"]["before_sampling"]
    assert tables(planned.audit) == tables(plain.audit)


def test_without_a_trial_neither_time_nor_disk_is_told_and_the_rest_is_the_same(tmp_path):
    made = studio(tmp_path)
    long, short = told(made), told(made, pilot=False)
    assert (short.seconds, short.bytes, short.pilot) == (None, None, None)
    assert long.seconds is not None
    assert (long.samples, long.k_needed, long.caught_half) == (short.samples, short.k_needed, short.caught_half)
    assert "MiB" in said(long, made.audit)
    assert "MiB" not in said(short, made.audit)


def test_the_time_that_is_told_is_that_of_the_samples_and_a_tenth_more(tmp_path):
    made = studio(tmp_path)
    made.teach({}, sleep=0.02)
    assert 1.1 * 0.02 * 26 * SEEDS <= told(made).seconds < 2 * 0.02 * 26 * SEEDS


def test_how_many_it_takes_follows_the_rule_of_benjamini_and_hochberg(tmp_path):
    made = studio(tmp_path)
    before = told(made, pilot=False)
    assert before.k_needed == ceil(PICTURES / (0.05 * (CONTROLS + 1)))
    n = before.controls_for_one
    assert 1 / (n + 1) <= 0.05 / PICTURES < 1 / n
    assert f"{n:,} controls" in said(before, made.audit)


def test_an_audit_that_can_certify_nothing_says_so_before_it_costs_anything(tmp_path):
    made = studio(tmp_path, prompts={"controls": 5})
    before = told(made, pilot=False)
    assert before.k_needed == ceil(PICTURES / (0.05 * 6)) > PICTURES
    assert "nothing can be certified" in said(before, made.audit)
    made.write_plan(prompts={"controls": 0})
    before = told(made, pilot=False)
    assert (before.k_needed, before.smallest_p) == (None, None)
    assert "nothing can be certified" in said(before, made.audit)


def test_a_clique_larger_than_the_samples_catches_nothing(tmp_path):
    made = studio(tmp_path, cliques={"least": SEEDS + 1})
    before = told(made, pilot=False)
    assert (before.caught_half, before.caught_most) == (None, None)
    assert "no picture is caught" in said(before, made.audit)


def test_a_model_without_text_is_weighed_by_the_pictures_that_are_searched_for(tmp_path):
    made = studio(tmp_path, text=False, prompts={"top": 3, "random": 2, "controls": 1})
    before = told(made, pilot=False)
    heard = []
    report = made.run(tell=heard.append).json
    assert (before.pictures, before.controls) == (PICTURES, CONTROLS)
    assert before.samples == report["cost"]["samples"] == 6 * SEEDS
    assert before.k_needed == ceil(PICTURES / (0.05 * (CONTROLS + 1)))
    assert "6 pictures and 20 controls are searched for" in said(before, made.audit)
    assert heard[0].startswith("6 pictures and 20 controls searched for")


def test_the_command_tells_every_number_as_json(tmp_path, capsys):
    made = studio(tmp_path)
    assert main(["plan", str(made.audit), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["samples"] == (PICTURES + CONTROLS) * SEEDS
    assert (answer["pilot"]["width"], answer["pilot"]["height"]) == (32, 32)
    assert main(["plan", str(made.audit), "--no-trial"]) == 0
    assert f"{answer['samples']:,} samples" in capsys.readouterr().out
