"""An audit that looks at few samples of each prompt first: of parrots, beside a twin, and of a real pipeline."""

import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from byrote import models
from byrote.audit import Audit
from byrote.before.budget import weigh, words
from byrote.demo import MODEL
from byrote.domain import Prompt, Sample, Screened
from byrote.errors import ByroteError, PlanError
from byrote.models import Options, Request
from byrote.seals import verify
from byrote.stages import screen, silent
from byrote.stages.generate import rounds
from byrote.stages.screen import Searched
from end_to_end.studio import Studio, portraits

TAUGHT, SELDOM, PICTURES, CONTROLS, SEEDS = 10, 4, 20, 200, 40
SCREEN = {"search": 16, "confirm": 4, "spare": 0.1}
PLAN = {
    "prompts": {"top": PICTURES, "random": 0, "controls": CONTROLS},
    "generate": {"seeds": SEEDS},
    "cliques": {"least": 1},
}


@pytest.fixture(scope="module")
def screened(tmp_path_factory):
    """Audit a parrot that gives ten portraits in 80 % of samples, and four others never."""
    studio = Studio(tmp_path_factory.mktemp("screened"))
    pictures = portraits("screened", PICTURES)
    studio.shoot(pictures, portraits("screened held out", CONTROLS))
    studio.teach({file.caption: file.data for file in pictures[:TAUGHT]})
    studio.write_plan(screen=SCREEN, **PLAN)
    studio.index()
    return studio, pictures, studio.run().json


def test_what_the_parrot_knows_is_found_and_nothing_else(screened):
    _, pictures, told = screened
    certified = {f["picture"]["caption"] for f in told["findings"] if f["certified"]}
    assert certified == {file.caption for file in pictures[:TAUGHT]}
    assert told["controls"]["certified"] == 0


def test_it_costs_a_fraction_and_the_report_says_which(screened):
    studio, _, told = screened
    audit, s = Audit(studio.audit), told["screening"]
    assert s["exhaustive"] == (PICTURES + CONTROLS) * SEEDS
    searched = sum(row.searched for row in audit.screened)
    samples = sum(
        len(audit.store.read(Sample, audit.recipes.samples, p)) for p in audit.store.parts(audit.recipes.samples)
    )
    assert s["evaluations"] == searched + samples == told["cost"]["denoiser_evaluations"]
    assert s["evaluations"] < 0.6 * s["exhaustive"]
    assert s["kept"] == {"picture": TAUGHT, "control": 0}
    assert "kept an estimated 100 %" in (studio.audit / "report" / "report.html").read_text()


def test_a_prompt_is_left_once_enough_came_near(screened):
    studio, _, _ = screened
    audit = Audit(studio.audit)
    kept = [row for row in audit.screened if row.kept]
    assert all(row.searched < SCREEN["search"] for row in kept)
    assert all(len(audit.drawn[row.prompt]) < len(row.seeds) or len(row.seeds) == 4 for row in kept)
    dropped = [row for row in audit.screened if not row.kept]
    assert all(row.searched == (8 if row.nearest > 0.21 else SCREEN["search"]) for row in dropped)
    assert {row.searched for row in dropped} >= {8}


def test_a_tenth_of_what_is_dropped_gets_all_samples(screened):
    studio, _, told = screened
    audit = Audit(studio.audit)
    spared = [row for row in audit.screened if row.spared]
    assert len(spared) == 21 == sum(told["screening"]["spared"].values())
    assert all(len(set(row.seeds)) == SEEDS == len(audit.drawn[row.prompt]) for row in spared)
    assert not any(row.seeds for row in audit.screened if not row.kept and not row.spared)


def test_recall_is_told_with_its_interval(screened):
    _, _, told = screened
    s = told["screening"]
    assert (s["found"], s["missed"], s["recall"], s["high"]) == (TAUGHT, 0, 1.0, 1.0)
    assert 0.4 < s["low"] < 1, "few pictures were spared, so much may have been missed"


def test_shares_count_what_was_dropped_at_their_upper_end(screened):
    _, _, told = screened
    within = next(r for r in told["rates"] if r["name"] == "asked groups within tau" and r["tier"] is None)
    spared = told["screening"]["spared"]["picture"]
    assert (within["k"], within["n"]) == (TAUGHT, PICTURES)
    assert within["high"] == 1.0 if spared == 0 else within["high"] > (PICTURES - spared) / PICTURES
    assert told["discovery"] is None
    assert told["unseen"] is None
    assert not any(r["name"].startswith("samples of captions") for r in told["rates"])


def test_the_funnel_says_what_the_screen_kept(screened):
    _, _, told = screened
    steps = {step["name"]: (step["pictures"], step["controls"]) for step in told["funnel"]}
    assert steps["prompts"] == (PICTURES, CONTROLS)
    assert steps["prompts that the screen kept"] == (TAUGHT, 0)
    assert steps["certified"] == (TAUGHT, 0)
    assert not any("people" in name for name in steps)  # nobody was asked


def test_a_screened_audit_can_be_verified(screened):
    studio, _, _ = screened
    outcome = verify.verify(studio.audit, key=None, samples=4)
    assert not outcome.problems


def test_samples_that_were_left_out_by_hand_are_seen(screened, tmp_path):
    studio, _, _ = screened
    copy = tmp_path / "copied"
    shutil.copytree(studio.root, copy)
    audit = Audit(copy / "audit")
    row = next(row for row in audit.screened if row.spared)
    part = next(part.name for part in audit.parts() if row.prompt in {p.number for p in part.payload})
    made = audit.recipes.samples
    rows = [each for each in audit.store.read(Sample, made, part) if each.prompt != row.prompt or each.index < 3]
    arrays = {name: audit.store.array(made, part, name)[: len(rows)] for name in ("means", "pixels")}
    audit.store.write(made, part, rows, Sample, arrays)
    outcome = verify.verify(copy / "audit", key=None, samples=0)
    assert any("left early though too few came near" in line for line in outcome.problems)


def test_what_the_screen_decided_is_held_against_its_tables(screened, tmp_path):
    studio, _, _ = screened
    copy = tmp_path / "copied"
    shutil.copytree(studio.root, copy)
    audit = Audit(copy / "audit")
    made = audit.recipes.screen.screened
    rows = [replace(row, kept=False, seeds=()) if row.kept else row for row in audit.screened]
    audit.store.write(made, "00000", rows, Screened)
    outcome = verify.verify(copy / "audit", key=None, samples=0)
    assert any(line.startswith(f"screened/{made.digest}") and "kept" in line for line in outcome.problems)


def test_a_screen_that_is_lost_is_made_again_byte_for_byte(screened, tmp_path):
    studio, _, _ = screened
    copy = tmp_path / "copied"
    shutil.copytree(studio.root, copy)
    audit = Audit(copy / "audit")
    tables = [audit.recipes.screen.searched, audit.recipes.screen.screened, audit.recipes.samples]
    before = {
        r.digest: [(audit.store.folder(r) / f"{p}.parquet").read_bytes() for p in audit.store.parts(r)] for r in tables
    }
    for recipe in tables:
        (audit.store.folder(recipe) / "00000.parquet").unlink()
    Studio(copy).run(jobs=2)
    for recipe in tables:
        again = [(audit.store.folder(recipe) / f"{p}.parquet").read_bytes() for p in audit.store.parts(recipe)]
        assert again == before[recipe.digest], recipe.table


def test_the_seal_covers_the_screen(screened, tmp_path):
    studio, _, _ = screened
    copy = tmp_path / "copied"
    shutil.copytree(studio.root, copy)
    other = Studio(copy)
    other.write_plan(screen=SCREEN | {"search": 8}, **PLAN)
    told = other.run().json
    assert not told["calibrated"]
    assert not any(finding["certified"] for finding in told["findings"])


def test_a_parrot_that_knows_nothing_gives_no_finding(tmp_path):
    studio = Studio(tmp_path).shoot(portraits("screened", PICTURES), portraits("screened held out", CONTROLS)).teach({})
    studio.write_plan(screen=SCREEN, **PLAN)
    studio.index()
    told = studio.run().json
    assert not any(finding["certified"] for finding in told["findings"])
    assert told["screening"]["recall"] is None
    assert "nothing can be said of what the screen misses" in (studio.audit / "report" / "report.html").read_text()


def test_the_twin_is_given_the_noises_of_the_model(tmp_path):
    studio, pictures = Studio(tmp_path), portraits("screened", PICTURES)
    studio.shoot(pictures, portraits("screened held out", 40)).teach({pictures[0].caption: pictures[0].data})
    for name in ("parrot.toml", "known-0.png"):
        shutil.copy(studio.root / name, studio.root / f"base-{name}")
    studio.teach({file.caption: file.data for file in pictures[:TAUGHT]})
    (studio.root / "base.toml").write_text((studio.root / "base-parrot.toml").read_text())
    plan = PLAN | {"prompts": {"top": PICTURES, "random": 0, "controls": 40}}
    studio.write_plan(screen=SCREEN, twin={"uri": "parrot:../base.toml"}, **plan)
    studio.index()
    studio.run()
    audit = Audit(studio.audit)
    own, twin = audit.recipes.own.samples, audit.recipes.twin.samples
    assert audit.store.parts(own) == audit.store.parts(twin)
    for part in audit.store.parts(own):
        rows = [[(row.prompt, row.seed) for row in audit.store.read(Sample, made, part)] for made in (own, twin)]
        assert rows[0] == rows[1]
    assert not verify.verify(studio.audit, key=None, samples=0).problems


def test_the_plan_is_told_the_most_that_it_can_cost(screened):
    studio, _, told = screened
    budget = weigh(studio.audit, pilot=False, progress=silent)
    assert budget.samples == 198 * SCREEN["confirm"] + 22 * SEEDS
    assert budget.evaluations == budget.samples + 220 * SCREEN["search"] >= told["cost"]["denoiser_evaluations"]
    assert "at most 1,672 samples" in words(budget, studio.audit)


def asked(count):
    sides = ["picture", "control"]
    return [Prompt(k, f"g{k}", f"d{k}", sides[k % 2], "random", 1, "caption", f"caption {k}") for k in range(count)]


def test_no_decision_depends_on_a_side(screened):
    studio, _, _ = screened
    prompts = asked(60)
    found = {p.number: Searched(p.number, p.number % 7 == 0, 0.1, p.number % 5 == 0, (1, 2, 3)) for p in prompts}
    swapped = [replace(p, side="picture" if p.side == "control" else "control") for p in prompts]
    plan = Audit(studio.audit).plan
    assert screen.decide(prompts, found, {}, plan) == screen.decide(swapped, found, {}, plan)


def test_a_model_without_prompts_and_a_score_that_there_is_not_are_refused(screened):
    plan = Audit(screened[0].audit).plan

    class Mute:
        name, takes_text = "mute", False

    with pytest.raises(PlanError, match="a mute takes no text, so there are no prompts to screen; set 0"):
        screen.check(plan, [Mute()])
    with pytest.raises(PlanError, match=r"confirm = 2: a clique of 3 .* can never be among so few samples; set 3"):
        screen.check(
            replace(plan, **{"screen": replace(plan.screen, confirm=2), "cliques": replace(plan.cliques, least=3)}), []
        )
    with pytest.raises(ByroteError, match="unknown score 'nrom'"):
        screen.check(replace(plan, screen=replace(plan.screen, score="nrom")), [])


def test_cheap_samples_come_from_the_same_weights():
    model = models.open(f"diffusers:{MODEL}", Options(steps=20, guidance=1.0))
    quick = model.stepped(3)
    assert (model.evaluations_per_sample, quick.evaluations_per_sample) == (20, 3)
    alone = models.open(f"diffusers:{MODEL}", Options(steps=3, guidance=1.0))
    request = [Request("a portrait", 5)]
    assert (quick.generate(request)[0] == alone.generate(request)[0]).all()
    assert quick._pipeline is model._pipeline


@pytest.mark.parametrize(
    ("away", "cheaper", "on"),
    [
        ([0.5] * 4, True, True),  # the first eight are drawn, whatever they show
        ([0.5] * 8, True, False),  # all far
        ([0.5] * 7 + [0.2], True, True),  # within tau + .06, so more may be near
        ([0.5] * 7 + [0.11], True, True),  # surely near, but a clique wants two
        ([0.5] * 6 + [0.11, 0.11], True, False),
        ([0.5] * 15 + [0.2], True, False),  # `search` of them, none near
        ([0.5] * 15 + [0.14], True, True),  # one at the edge of tau: as many as [generate] seeds
        ([0.5] * 14 + [0.14, 0.14], False, False),  # as good as full ones: both are near
        ([0.5] * 15 + [0.14], False, False),
    ],
)
def test_how_many_cheap_samples_a_prompt_gets(screened, away, cheaper, on):
    plan = Audit(screened[0].audit).plan
    assert (plan.screen.search, plan.certify.closest) == (16, 0.15)
    plan = replace(plan, cliques=replace(plan.cliques, least=2))
    found = screen._Found(asked(1)[0])
    for k, distance in enumerate(away):
        found.add(k, np.zeros((1, 1, 3), np.uint8), distance)
    look = SimpleNamespace(plan=plan, reach=plan.certify.closest + 0.06)
    assert found.goes_on(look, cheaper) is on
    found.tried += [0.14, 0.14]  # two full samples are near: that is enough, where cheap ones are too few
    assert found.goes_on(look, cheaper) is (on and len(away) < 16)


def test_a_prompt_at_the_edge_is_searched_as_long_as_an_audit_without_a_screen_samples():
    assert [*rounds(16), *rounds(40, 16)] == [(0, 2), (2, 4), (4, 8), (8, 16), (16, 32), (32, 40)]
    assert list(rounds(8, 16)) == []
