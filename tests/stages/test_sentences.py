"""The sentences to quote and the annex: both ends and a population, no certificate without controls, no law."""

import re
from dataclasses import replace
from itertools import zip_longest
from math import inf

import pytest
from scipy import stats
from test_report import evidence, rate, uncalibrated

from byrote.domain import Rate
from byrote.stages import report
from byrote.stages.certify import LEVEL, AtAll
from byrote.stages.claims import Judged
from byrote.stages.report import Evidence, Unseen, told
from byrote.stages.report.annex import NO_CLAIM, NOT_TESTED, annex
from byrote.stages.report.sentences import sentences
from byrote.stages.report.words import percent

SHARE = re.compile(r"([\d,]+) of ([\d,]+)")
ENDS = re.compile(r"(?:[\d.]+|under 0\.01|over 99\.9) %")
POPULATIONS = ("groups", "pictures", "controls", "prompts", "samples")


def ends(k: int, n: int) -> str:
    """Write Clopper and Pearson's interval, from the beta distribution."""
    low = stats.beta.ppf(0.025, k, n - k + 1) if k else 0.0
    high = stats.beta.ppf(0.975, k + 1, n - k) if k < n else 1.0
    return f"{percent(float(low))} to {percent(float(high))}"


def claimed(named: bool, certified: bool, adjusted: float | None) -> Judged:
    reason = "excess and reproduction" if certified else "no sample is within tau"
    return Judged("sha256:" + "c" * 64, "now", named, "asked", 0.1, 0.01, None, adjusted, certified, reason)


def rich(certified: int = 6, *, k: int = 5, n: int = 60) -> Evidence:
    """Make an audit that asked on every rung, drew at random and was told of claims."""
    e = evidence(certified, 4)
    rungs = [
        rate("groups that their own prompt brings within tau: truncated", None, k, n, (0, 600)),
        rate("groups that their own prompt brings within tau: caption", None, k, n, (3, 600)),
        rate("prompts of ordinary users that bring one within tau", None, k, n, (1, n)),
        rate("samples asked for with no text that come within tau of one", None, k, n, None),
    ]
    return replace(
        e,
        rates=[*e.rates, *rungs],
        drawn=rate("randomly drawn groups within tau", None, k, n, None),
        at_all=AtAll(120, certified, 600, 2, 80, 0.01, 0.002),
        claims=[claimed(True, True, 0.01), claimed(False, False, 0.4)],
        unseen=Unseen(9, 12.0, 9.3, 31.0, 0.2),
    )


def bare(e: Evidence) -> Evidence:
    """Take the controls away."""
    plain = uncalibrated()
    alone = [replace(r, controls_k=None, controls_n=None) for r in e.rates]
    claims = [
        replace(c, p_value=None, adjusted=None, certified=False, reason="uncalibrated: no controls") for c in e.claims
    ]
    return replace(
        e,
        calibrated=False,
        rates=alone,
        claims=claims,
        at_all=replace(e.at_all, controls=0, controls_within=0, p_value=None, p_pooled=None) if e.at_all else None,
        controls=plain.controls,
        nearest_controls=[],
        findings=plain.findings,
        tests=plain.tests,
    )


CASES = {
    "found": rich(),
    "nothing found": rich(0, k=0),
    "everything found": rich(6, k=60),
    "one asked": rich(1, k=1, n=1),
    "without controls": bare(rich()),
    "without controls, nothing found": bare(rich(0, k=0)),
    "plain": evidence(),
}


@pytest.mark.parametrize("case", CASES)
def test_whatever_states_a_share_has_both_of_its_ends_and_whom_it_speaks_of(case):
    said = sentences(CASES[case])
    assert any(SHARE.search(sentence) for sentence in said)
    for sentence in said:
        shares = list(SHARE.finditer(sentence))
        for found, after in zip_longest(shares, shares[1:]):
            k, n = (int(number.replace(",", "")) for number in found.groups())
            rest = sentence[found.end() : after.start() if after else None]
            assert ends(k, n) in rest, sentence
            assert "95 % exact" in rest, sentence
        if shares:
            assert any(word in sentence for word in POPULATIONS), sentence


@pytest.mark.parametrize("case", CASES)
def test_no_percentage_stands_alone(case):
    """Each is one of two ends, a level, a one-sided bound or the rate that the rule promises."""
    for sentence in sentences(CASES[case]):
        left = re.sub(r"\S+( \S+)? % to \S+( \S+)? %", "", sentence)
        left = left.replace("95 % exact", "").replace("on average at most 5 % of a list", "")
        left = re.sub(r"at most \S+( \S+)? % one-sided", "", left)
        assert not ENDS.search(left), sentence


@pytest.mark.parametrize(("k", "n"), [(0, 1), (0, 20), (0, 120), (0, 350_000)])
def test_none_of_n_gives_the_bound_that_none_of_n_leaves(k, n):
    bound = percent(1 - 0.05 ** (1 / n))
    e = replace(rich(0, k=k, n=n), at_all=None)
    e = replace(e, rates=[rate("asked groups certified", None, k, n, (0, 600)), *e.rates[-4:]])
    said = [s for s in sentences(e) if f"0 of {n:,}" in s]
    assert len(said) == 6  # certified, drawn, four rungs
    assert all(f"at most {bound} one-sided" in sentence for sentence in said)


def test_a_rate_above_none_has_its_one_sided_bound_where_the_draw_speaks_for_others():
    [drawn] = [s for s in sentences(rich(k=5, n=60)) if "drawn at random" in s]
    assert f"at most {percent(float(stats.beta.ppf(0.95, 6, 55)))} one-sided" in drawn


@pytest.mark.parametrize("case", ["without controls", "without controls, nothing found"])
def test_without_controls_nothing_is_ever_called_certified(case):
    e = CASES[case]
    assert sentences(e)
    assert not any(re.search("certif", sentence, re.IGNORECASE) for sentence in sentences(e))
    assert all(re.match("Uncalibrated: |Claimed picture", sentence) for sentence in sentences(e))
    assert not any("reproduced" in sentence for sentence in sentences(e))
    figures = [figure for answer in annex(e) for figure in answer.figures]
    assert not any("certified" in figure for figure in figures)
    assert all(
        "uncalibrated" in a.tested
        for a in annex(e)
        if a.figures and a.question != "documentation of tests and of their results"
    )


def test_a_plan_that_was_changed_after_sampling_is_as_good_as_no_controls():
    e = replace(rich(), calibrated=False, claims=[replace(claimed(True, False, 0.01), reason="the plan was changed")])
    assert not any("certif" in sentence or "Holm" in sentence for sentence in sentences(e))


def test_an_empty_list_promises_nothing_of_its_entries():
    assert any("on average at most 5 % of a list like this one are false" in s for s in sentences(rich(6)))
    assert not any("of a list like this one" in sentence for sentence in sentences(rich(0)))


def test_a_claim_is_told_by_number_and_never_by_name():
    said = [s for s in sentences(rich()) if s.startswith("Claimed picture")]
    assert said == [
        "Claimed picture 1, named before sampling: reproduced; Holm's p 0.0100; assumption-based.",
        "Claimed picture 2, named after sampling, so counted as searched for: not certified "
        "(no sample is within tau); Holm's p 0.4000.",
    ]


def test_what_is_extrapolated_says_so_and_has_its_ends():
    [said] = [s for s in sentences(rich()) if "Chao1" in s]
    assert said.startswith("An extrapolation, not a measurement: 9 pictures")
    assert "12 (9 to 31, approximate, and it leans low)" in said
    assert "%" not in said


def test_an_audit_of_nothing_supports_no_sentence():
    assert sentences(replace(uncalibrated(), rates=[], drawn=None, unseen=None)) == []


def test_the_annex_answers_the_opinion_of_the_board_and_the_code_of_practice():
    answers = annex(rich())
    assert {answer.document for answer in answers} == {
        "EDPB Opinion 28/2024",
        "GPAI Code of Practice, copyright chapter, measure 1.4",
    }
    questions = " ".join(answer.question for answer in answers)
    for word in ("extraction", "queries", "membership inference", "documentation", "safeguards", "reproduce"):
        assert word in questions


def test_a_figure_of_the_annex_has_both_ends():
    figures = [figure for answer in annex(rich()) for figure in answer.figures]
    shares = [figure for figure in figures if SHARE.search(figure)]
    assert len(shares) == 5  # certified, two rungs of captions, users' prompts, no text
    for figure in shares:
        k, n = (int(number.replace(",", "")) for number in SHARE.search(figure).groups())
        assert ends(k, n) in figure


def test_what_nobody_asked_is_not_tested_rather_than_none():
    e = replace(rich(), rates=[], at_all=None, canaries=None)
    by_question = {answer.question.split(":")[0]: answer for answer in annex(e)}
    untested = [answer for answer in by_question.values() if answer.tested.startswith("not tested")]
    assert len(untested) == 5
    assert all(answer.figures == () for answer in untested)


def test_the_list_of_what_was_not_tested_names_what_people_ask_for():
    text = " ".join(what for what, _ in NOT_TESTED)
    for word in ("face", "watermarks", "readable text", "logos", "style"):
        assert word in text
    page = report.as_html(rich(), reveal=False)
    for what, why in NOT_TESTED:
        assert f'<th scope="row">{what}</th><td>not tested: {why}</td>' in page
    assert [each["what"] for each in told(rich())["not_tested"]] == [what for what, _ in NOT_TESTED]


@pytest.mark.parametrize("case", CASES)
def test_nothing_claims_that_a_model_complies_with_anything(case):
    e = CASES[case]
    page = report.as_html(e, reveal=False)
    assert page.count(NO_CLAIM) == 1
    said = [*sentences(e), *(text for a in annex(e) for text in (a.document, a.question, a.tested, *a.figures))]
    said = [text.replace("whether that infringes is not for a distance to say", "") for text in said]
    assert not any(re.search(r"compl(y|ies|iant|iance)|lawful|legal|infring(es|ement)|anonymous", s) for s in said)
    assert not re.search(r"compl(y|ies|iant|iance)|lawful|anonymous", page.replace(NO_CLAIM, ""))


def test_a_twin_of_a_rate_that_was_not_tested_says_so():
    lone = Rate(
        "samples asked for with no text that come within tau of one",
        None,
        1,
        9,
        0.0,
        0.5,
        LEVEL,
        "Clopper-Pearson",
        None,
        None,
    )
    [said] = sentences(replace(evidence(), rates=[lone], drawn=None))
    assert said.endswith("of controls none was tested.")


def test_numbers_that_are_no_numbers_are_in_no_sentence():
    e = replace(rich(), unseen=Unseen(0, inf, 0.0, inf, 1.0))
    assert not any("nan" in sentence for sentence in sentences(e))


def test_an_approximate_interval_is_never_quoted_as_exact():
    name = "samples of captions that come within tau of anything of their side"
    rough = replace(rate(name, None, 40, 960, (0, 960)), method="cluster bootstrap over captions, approximate")
    assert not any(name[1:] in sentence for sentence in sentences(replace(rich(), rates=[rough])))


def test_whom_a_rate_speaks_of_is_quoted_with_it():
    drawn = replace(rich().rates[-4], population="the 100 groups with the most copies")
    [said] = [s for s in sentences(replace(rich(), rates=[drawn], drawn=None)) if "truncated" in s]
    assert "95 % exact; of the 100 groups with the most copies, which says nothing of others)" in said
