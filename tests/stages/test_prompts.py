"""Who is asked: draws by seed, pictures that were named, canaries, and the other rungs."""

from dataclasses import replace

from byrote.domain import Group, Picture
from byrote.plan import LadderPlan, PromptsPlan
from byrote.stages.prompts import Wanted, draw

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
