"""Claims on single pictures: own p where named beforehand, Holm over everything searched where not."""

from dataclasses import replace
from math import inf

import pytest

from byrote.domain import Match
from byrote.stages.certify import Tested as Row
from byrote.stages.certify import certify
from byrote.stages.claims import Named, judge

FDR, TAU = 0.05, 0.15


def row(side, k, t, twin=None):
    name = f"{side} {k}"
    found = None if t == inf else Match(0, k, 0, name, 0, name, name, side, t, t, None, None, False, 1.0, 0, 0)
    return Row(name, name, side, 1, "asked", found, twin)


def audit(distances, controls=99, twin=None):
    rows = [row("picture", k, t, None if twin is None else twin) for k, t in enumerate(distances)]
    rows += [row("control", k, 0.5, None if twin is None else inf) for k in range(controls)]
    return certify(rows, fdr=FDR, closest=TAU).findings


def claims(*named):
    return [Named(f"picture {k}", "now", early, f"picture {k}") for k, early in enumerate(named)]


def judged(named, findings, valid=True):
    return judge(named, findings, alpha=FDR, closest=TAU, valid=valid)


def test_one_named_picture_uses_its_own_p():
    [one] = judged(claims(True), audit([0.05] + [0.6] * 39))
    assert (one.p_value, one.adjusted, one.certified) == (pytest.approx(0.01), pytest.approx(0.01), True)


def test_several_named_pictures_share_the_error_by_holm():
    found = judged(claims(True, True, True), audit([0.05, 0.05, 0.6] + [0.7] * 9))
    assert [one.adjusted for one in found] == [pytest.approx(0.03), pytest.approx(0.03), pytest.approx(1.0)]
    assert [one.certified for one in found] == [True, True, False]


def test_a_picture_named_after_sampling_was_searched_for_among_all():
    [late] = judged(claims(False), audit([0.05] + [0.6] * 39))
    assert late.adjusted == pytest.approx(0.4)
    assert not late.certified
    assert "searched" in late.reason


def test_without_19_controls_nothing_reaches_the_level():
    assert not judged(claims(True), audit([0.01], controls=18))[0].certified
    assert judged(claims(True), audit([0.01], controls=19))[0].certified
    [none] = judged(claims(True), audit([0.01], controls=0))
    assert (none.adjusted, none.certified) == (None, False)
    assert "uncalibrated" in none.reason


def test_excess_beyond_tau_is_no_copy_and_a_changed_plan_certifies_nothing():
    assert judged(claims(True), audit([0.2]))[0].reason == "no sample is within tau"
    assert not judged(claims(True), audit([0.05]), valid=False)[0].certified


def test_what_the_twin_gives_too_is_no_copy():
    [one] = judged(claims(True), audit([0.05], twin=0.1))
    assert not one.certified
    assert "twin" in one.reason


def test_a_claim_whose_group_is_not_tested_says_so():
    [one] = judged([Named("x", "now", True, None)], audit([0.05]))
    assert one.reason.startswith("not tested")


def test_a_late_claim_pays_for_all_families_that_were_searched():
    asked = [row("picture", k, t) for k, t in enumerate([0.05] + [0.6] * 4)] + [
        row("control", k, 0.5) for k in range(999)
    ]
    others = [replace(row("picture", 100 + k, 0.6), family="unasked") for k in range(45)]
    others += [replace(row("control", 2000 + k, 0.5), family="unasked") for k in range(50)]
    [one] = judged(claims(False), certify([*asked, *others], fdr=FDR, closest=TAU).findings)
    assert one.adjusted == pytest.approx(50 * one.p_value)


def test_a_claim_rests_on_an_assumption_and_says_how_strong_a_difference_it_withstands():
    [one] = judged(claims(True), audit([0.05], controls=99))
    assert one.certified
    assert (one.basis, one.copies) == ("assumption-based", 1)
    assert one.sensitivity == pytest.approx(0.05 * 99 / 0.95)
    [none] = judged(claims(True), audit([0.6], controls=99))
    assert none.sensitivity is None
