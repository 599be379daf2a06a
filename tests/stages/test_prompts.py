"""Who is asked: draws by seed, pictures that were named, canaries, and the other rungs."""

from dataclasses import replace

import pytest

from byrote.domain import Group, Picture
from byrote.errors import PlanError
from byrote.plan import LadderPlan, PromptsPlan
from byrote.stages.prompts import Wanted, askable, draw, recipe
from byrote.store import Recipe

PLAN = PromptsPlan(top=2, random=3, controls=4, seed=1)


def world(pictures=12, controls=10):
    groups = [Group(f"p{k:02d}", f"p{k:02d}", "picture", 1 + k % 5, False) for k in range(pictures)]
    groups += [Group(f"c{k:02d}", f"c{k:02d}", "control", 1, False) for k in range(controls)]
    rows = [Picture(g.side, "s", g.digest, (f"caption of {g.digest}, in red",), g.digest, 8, 8, 1, 1) for g in groups]
    return groups, rows


def asked(**more):
    return draw(*world(), Wanted(PLAN, **more))


def test_the_plain_draw_asks_each_caption_once():
    rows = asked()
    assert [row.stratum for row in rows] == ["top"] * 2 + ["random"] * 3 + ["control"] * 4
    assert {row.rung for row in rows} == {"caption"}
    assert [row.number for row in rows] == list(range(9))
    assert {row.copies for row in rows[:2]} == {5}


def test_a_claimed_picture_is_asked_in_any_case_and_once():
    plain = {row.group for row in asked()}
    left = next(f"p{k:02d}" for k in range(12) if f"p{k:02d}" not in plain)
    rows = asked(claims=(left, asked()[0].digest))
    assert [row.group for row in rows if row.stratum == "claim"] == [left]
    assert len({row.group for row in rows}) == len(rows) == 10


def test_a_claimed_member_of_a_group_is_the_one_that_is_asked():
    groups, rows = world()
    groups.append(Group("p00", "p00b", "picture", 1, False))
    rows.append(replace(rows[0], digest="p00b", where="p00b", captions=("another caption",)))
    for member in ("p00", "p00b"):
        found = draw(groups, rows, Wanted(PLAN, claims=(member,)))
        assert [row.digest for row in found if row.group == "p00"] == [member]


def test_canaries_are_asked_on_both_sides_and_are_in_no_other_draw():
    rows = asked(canaries=frozenset({"p03", "c05"}))
    assert {(row.group, row.side) for row in rows if row.stratum == "canary"} == {
        ("p03", "picture"),
        ("c05", "control"),
    }
    assert sum(row.group in ("p03", "c05") for row in rows) == 2


def test_every_group_of_either_side_climbs_the_same_ladder():
    steps = LadderPlan(("none", "users", "truncated", "paraphrase", "caption"), none=2)
    rows = asked(ladder=steps, users=("hello", "world"))
    by_rung = {rung: [row for row in rows if row.rung == rung] for rung in steps.rungs}
    groups = [row.group for row in by_rung["caption"]]
    assert [row.group for row in rows[: len(groups)]] == groups
    for rung in ("truncated", "paraphrase"):
        assert [row.group for row in by_rung[rung]] == groups
    assert [row.text for row in by_rung["users"]] == ["hello", "world"]
    assert [(row.text, row.group) for row in by_rung["none"]] == [(None, "")] * 2
    assert [row.number for row in rows] == list(range(len(rows)))


def test_a_model_without_text_is_asked_for_nothing_as_often():
    rows = asked(takes_text=False)
    assert [(row.text, row.group, row.rung, row.stratum) for row in rows] == [(None, "", "none", "free")] * 9


def test_the_draw_depends_on_the_seed_and_nothing_else():
    assert asked() == asked()
    assert asked() != draw(*world(), Wanted(replace(PLAN, seed=2)))


def held_all(but=()):
    return {f"caption of {row.digest}, in red": 1 for row in world()[1] if row.digest not in but}


def test_only_captions_that_are_held_are_asked_on_both_sides_and_counted():
    gone = {"p04", "p09", "c00", "c01", "c02"}
    rows = asked(held=held_all(gone))
    assert not {row.group for row in rows} & gone
    assert [row.stratum for row in rows] == ["top"] * 2 + ["random"] * 3 + ["control"] * 4
    assert askable(*world(), Wanted(PLAN, held=held_all(gone))) == {"picture": (10, 12), "control": (7, 10)}
    assert asked(held=held_all()) == asked()


def test_of_the_captions_of_a_group_one_that_is_held_is_asked():
    groups, rows = world()
    rows = [replace(row, captions=(*row.captions, f"other of {row.digest}")) for row in rows]
    held = {f"other of {row.digest}": 3 for row in rows}
    assert {row.text.split()[0] for row in draw(groups, rows, Wanted(PLAN, held=held))} == {"other"}


def test_canaries_must_all_be_held_or_none_is_asked():
    canaries = frozenset({"p03", "c05"})
    assert asked(canaries=canaries, held=held_all()) == asked(canaries=canaries)
    with pytest.raises(PlanError, match="too few samples of 1 of 2 canaries"):
        asked(canaries=canaries, held=held_all({"c05"}))


def test_a_rung_must_be_held_for_all_who_are_asked():
    steps = LadderPlan(("none", "truncated", "caption"), none=2)
    texts = {row.text: 1 for row in asked(ladder=steps)} | {None: 2}
    assert asked(ladder=steps, held=texts) == asked(ladder=steps)
    for text in (None, next(row.text for row in asked(ladder=steps) if row.rung == "truncated")):
        with pytest.raises(PlanError, match=r"\[ladder\] rung"):
            asked(ladder=steps, held={key: 1 for key in texts if key != text})


def test_without_text_as_many_prompts_are_asked_as_samples_suffice_for():
    rows = asked(takes_text=False, held={None: 4})
    assert [(row.number, row.text) for row in rows] == [(k, None) for k in range(4)]
    assert len(asked(takes_text=False, held={None: 99})) == 9


def test_what_is_held_changes_the_recipe_and_nothing_else_does():
    groups = Recipe.of("groups", {})
    plain = recipe(groups, Wanted(PLAN))
    assert "held" not in plain.content
    assert len({plain, *(recipe(groups, Wanted(PLAN, held=held)) for held in ({}, {None: 1}, {"": 1}))}) == 4
