"""Two audits side by side: paired where they asked for the same, independent where not, and what else differs."""

import json
from shutil import copytree

import pytest
from end_to_end.studio import Studio, portraits
from scipy import stats

from byrote.cli import main
from byrote.compare import compare, words
from byrote.errors import Incomplete

PICTURES, CONTROLS, BEFORE, AFTER = 20, 60, 10, 4


def studio(root, taught, *, pictures=PICTURES, run=True, twin=False, **sections):
    """Audit a parrot that knows some of the pictures; noise-free, so that what it knows comes back surely."""
    root.mkdir()
    faces = portraits("train", pictures)
    made = Studio(root).shoot(faces, portraits("held-out", CONTROLS))
    made.teach({faces[k].caption: faces[k].data for k in taught}, repeats=1.0)
    if twin:
        (root / "base.toml").write_text("width = 32\nheight = 32\n")
        sections |= {"twin": {"uri": "parrot:../base.toml"}}
    made.write_plan(**({"generate": {"seeds": 2}} | sections)).index()
    if run:
        made.run(until="certify")
    return made


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Audit a model before and after a mitigation."""
    root = tmp_path_factory.mktemp("compare")
    return studio(root / "before", range(BEFORE)), studio(root / "after", range(AFTER))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("others")


def ends(k, n, level):
    """Return Clopper and Pearson's interval, from the beta distribution."""
    half = (1 - level) / 2
    return (
        float(stats.beta.ppf(half, k, n - k + 1)) if k else 0.0,
        float(stats.beta.ppf(1 - half, k + 1, n - k)) if k < n else 1.0,
    )


def test_a_mitigation_is_measured_picture_by_picture(pair):
    told = compare(pair[0].audit, pair[1].audit)
    assert told.caveats == ()
    assert [change.name for change in told.changes] == ["within tau", "certified"]
    within = told.changes[0]
    assert (within.first, within.second) == ((BEFORE, PICTURES), (AFTER, PICTURES))
    assert within.difference == pytest.approx((AFTER - BEFORE) / PICTURES)
    assert (within.paired, within.only_first, within.only_second) == (True, BEFORE - AFTER, 0)
    gone, new = ends(BEFORE - AFTER, PICTURES, 0.975), ends(0, PICTURES, 0.975)
    assert (within.low, within.high) == pytest.approx((new[0] - gone[1], new[1] - gone[0]))
    assert within.p_value == pytest.approx(2 * 0.5 ** (BEFORE - AFTER))  # all six discordant pairs one way


def test_a_list_that_is_too_short_certifies_none_and_the_difference_of_certificates_is_larger_than_that_of_copies(pair):
    certified = compare(pair[0].audit, pair[1].audit).changes[1]
    assert (certified.first, certified.second) == ((10, 20), (0, 20))  # it takes 20 / (.05 * 61): seven
    assert certified.p_value == pytest.approx(2 * 0.5**10)


def test_backwards_it_is_the_same_with_the_other_sign(pair):
    there, back = compare(pair[0].audit, pair[1].audit), compare(pair[1].audit, pair[0].audit)
    for a, b in zip(there.changes, back.changes, strict=True):
        assert (a.difference, a.low, a.high) == pytest.approx((-b.difference, -b.high, -b.low))
        assert (a.only_first, a.only_second, a.p_value) == (b.only_second, b.only_first, b.p_value)
    assert there.models == back.models[::-1]


def test_the_same_model_twice_differs_in_nothing(pair, folder):
    copytree(pair[0].root, folder / "copy")
    told = compare(pair[0].audit, folder / "copy" / "audit")
    assert told.caveats == ("Both audits are of the same model.",)
    for change in told.changes:
        assert (change.difference, change.only_first, change.only_second, change.p_value) == (0, 0, 0, 1.0)
        assert change.low == -change.high < 0 < change.high
    assert compare(pair[0].audit, pair[0].audit).changes == told.changes


def test_other_draws_are_two_independent_shares(pair, folder):
    drawn = {"prompts": {"top": 0, "random": 8, "seed": 5}}
    other = studio(folder / "draw", range(AFTER), **drawn)
    told = compare(pair[0].audit, other.audit)
    within = told.changes[0]
    assert (within.paired, within.only_first, within.only_second, within.p_value) == (False, None, None, None)
    (k1, n1), (k2, n2) = within.first, within.second
    assert (n1, n2) == (PICTURES, 8)
    one, two = ends(k1, n1, 0.975), ends(k2, n2, 0.975)
    assert (within.low, within.high) == pytest.approx((two[0] - one[1], two[1] - one[0]))
    assert "Not the same pictures were asked: the shares are compared as two draws." in told.caveats
    assert any(said.startswith("The seeds differ") for said in told.caveats)
    assert "two independent draws" in words(told)


@pytest.mark.parametrize(
    ("name", "sections", "caveat"),
    [
        ("tau", {"certify": {"closest": 0.14}}, "The plans differ in [certify]"),
        ("seeds", {"generate": {"seeds": 3}}, "The plans differ in [generate]"),
        ("controls", {"prompts": {"controls": 50}}, "Not the same controls were asked"),
        ("noise", {"prompts": {"seed": 3}}, "The seeds differ"),
        ("twin", {"twin": True}, "The twins differ"),
    ],
)
def test_whatever_else_differs_is_said(pair, folder, name, sections, caveat):
    other = studio(folder / name, range(AFTER), **sections)
    told = compare(pair[0].audit, other.audit)
    assert any(said.startswith(caveat) for said in told.caveats), told.caveats
    assert told.changes[0].paired


def test_another_corpus_is_said_and_pairs_nothing(pair, folder):
    other = studio(folder / "corpus", range(AFTER), pictures=PICTURES - 2)
    told = compare(pair[0].audit, other.audit)
    assert told.caveats[:2] == (
        "The corpora differ.",
        "Not the same pictures were asked: the shares are compared as two draws.",
    )
    assert not told.changes[0].paired


def test_a_file_of_prompts_that_lies_elsewhere_is_no_other_plan(folder):
    audits = []
    for number, place in enumerate(("users.txt", "prompts/users.txt")):
        root = folder / f"ladder {number}"
        made = studio(root, range(2), pictures=4, run=False)
        (root / place).parent.mkdir(exist_ok=True)
        (root / place).write_text("a dog\n")
        made.write_plan(
            prompts={"controls": 5},
            generate={"seeds": 2},
            ladder={"rungs": ["users", "caption"], "users": f"../{place}"},
        )
        made.run(until="certify")
        audits.append(made.audit)
    assert compare(*audits).caveats == ("Both audits are of the same model.",)


def test_an_audit_that_was_changed_after_sampling_is_said_to_certify_nothing(folder):
    made = studio(folder / "late", range(2), pictures=4)
    first = studio(folder / "in time", range(2), pictures=4)
    made.write_plan(generate={"seeds": 2}, certify={"closest": 0.14})
    made.run(until="certify")
    told = compare(first.audit, made.audit)
    assert "Audit 2 was changed after sampling: it certifies nothing." in told.caveats
    assert told.changes[1].second == (0, 4)


def test_an_audit_that_is_not_done_is_incomplete(pair, folder, capsys):
    half = studio(folder / "half", range(AFTER), run=False)
    half.run(until="match")
    with pytest.raises(Incomplete, match="not certified yet; `byrote run"):
        compare(pair[0].audit, half.audit)
    assert main(["compare", str(half.audit), str(pair[0].audit)]) == 3
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert main(["compare", str(pair[0].audit), str(folder / "nowhere")]) == 2


def test_the_command_tells_it_in_words_and_as_json(pair, capsys):
    folders = [str(made.audit) for made in pair]
    assert main(["compare", *folders, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [change["name"] for change in told["changes"]] == ["within tau", "certified"]
    assert told["changes"][0]["first"] == [BEFORE, PICTURES]
    assert main(["compare", *folders]) == 0
    line = capsys.readouterr().out.splitlines()[0]
    assert line.startswith("within tau: 10 of 20 in the first, 4 of 20 in the second; difference -30.0%, ")
    assert "McNemar p 0.0312" in line
