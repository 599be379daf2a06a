"""The prompt ladder, end to end: a finding names the least contrived rung, every rung has its rate and control twin."""

import pytest

from byrote.stages.ladder import adversarial, paraphrase, truncated
from end_to_end.studio import Studio, portraits

SEEDS = 10


@pytest.fixture(scope="module")
def climbed(tmp_path_factory):
    """Audit a parrot that knows portraits by rungs of their own: 0-19 by caption, three others in other ways."""
    studio = Studio(tmp_path_factory.mktemp("ladder"))
    pictures = portraits("ladder", 24)
    known = {file.caption: file.data for file in pictures[:20]}
    known |= {paraphrase(pictures[0].caption): pictures[0].data}
    known |= {truncated(pictures[1].caption): pictures[1].data}
    known |= {"my holiday snap": pictures[2].data}
    known |= {adversarial(pictures[20].caption): pictures[20].data}
    studio.shoot(pictures, portraits("ladder held out", 60)).teach(known)
    with (studio.root / "parrot.toml").open("a") as told:
        told.write('[[knows]]\npicture = "known-3.png"\nrepeats = 0.3\nnoise = 4.0\n')
    (studio.root / "users.txt").write_text("my holiday snap\na dog\na city at night\n")
    rungs = ["none", "users", "truncated", "paraphrase", "caption", "adversarial"]
    studio.write_plan(
        prompts={"controls": 60}, generate={"seeds": SEEDS}, ladder={"rungs": rungs, "none": 8, "users": "../users.txt"}
    )
    studio.index()
    return studio, pictures, studio.run().json


def way(told, file):
    found = next(f for f in told["findings"] if f["picture"]["caption"] == file.caption)
    return found["way"]


def rate(told, name):
    return next(r for r in told["rates"] if r["name"].endswith(name) and r["tier"] is None)


def test_a_finding_names_the_least_contrived_rung_that_brings_it(climbed):
    _, pictures, told = climbed
    rungs = {k: way(told, pictures[k])["rung"] for k in (0, 1, 2, 3, 4, 20)}
    assert rungs == {0: "paraphrase", 1: "truncated", 2: "users", 3: "none", 4: "caption", 20: "adversarial"}


def test_nobody_knows_a_way_to_what_was_not_learnt(climbed):
    _, pictures, told = climbed
    assert [way(told, file) for file in pictures[21:]] == [None] * 3


def test_the_samples_to_the_first_copy_follow_from_the_hits_of_that_rung(climbed):
    _, pictures, told = climbed
    found = way(told, pictures[4])
    assert found["samples"] == SEEDS
    assert found["to_first"]["expected"] == pytest.approx(SEEDS / found["hits"])
    assert 1 <= found["to_first"]["low"] <= found["to_first"]["expected"] <= found["to_first"]["high"]
    assert way(told, pictures[3])["samples"] == 8 * SEEDS


def test_every_rung_has_its_own_rate_interval_and_control_twin(climbed):
    _, _, told = climbed
    for rung, k, n in (("caption", 20, 24), ("paraphrase", 1, 24), ("truncated", 1, 24), ("adversarial", 1, 24)):
        found = rate(told, f"within tau: {rung}")
        assert (found["k"], found["n"], found["controls_k"], found["controls_n"]) == (k, n, 0, 60)
        assert 0 < found["low"] < k / n < found["high"] < 1
    users = rate(told, "prompts of ordinary users that bring one within tau")
    assert (users["k"], users["n"], users["controls_k"]) == (1, 3, 0)
    none = rate(told, "samples asked for with no text that come within tau of one")
    assert none["n"] == 80
    assert 10 <= none["k"] <= 40  # a chance of .3, beyond one in a thousand


def test_what_the_ladder_brings_is_certified_whatever_the_rung(climbed):
    _, pictures, told = climbed
    certified = {f["picture"]["caption"] for f in told["findings"] if f["certified"]}
    assert certified == {file.caption for file in pictures[:21]}


def test_the_page_says_the_way_in_words(climbed):
    studio, _, _ = climbed
    page = (studio.audit / "report" / "report.html").read_text()
    for words in ("by a paraphrase of its caption", "with no text", "by an ordinary user", "by a contrived prompt"):
        assert words in page
