"""Who is certified, on what ground, and what the audit could have shown."""

from dataclasses import replace
from math import comb, inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from byrote.domain import Finding, Match
from byrote.kernels import stats
from byrote.stages import certify

FDR, CLOSEST = 0.05, 0.1


def match(group, side="picture", t=0.05, round_trip=None, prompt=3):
    return Match(
        prompt=prompt,
        index=1,
        seed=7,
        sample=f"sample of {group}",
        rank=0,
        group=group,
        digest=group,
        side=side,
        rms=t / 2,
        tiled=t,
        round_trip=round_trip,
        ratio=0.4,
        flip=False,
        crop=1.0,
        dx=0,
        dy=0,
    )


def groups(side, distances, copies=1, family="asked"):
    names = [f"{family} {side} {copies} {i}" for i in range(len(distances))]
    return [
        certify.Tested(name, name, side, copies, family, None if t == inf else match(name, side, t))
        for name, t in zip(names, distances, strict=True)
    ]


def pictures(distances, copies=1, family="asked"):
    return groups("picture", distances, copies, family)


def controls(distances, family="asked"):
    return groups("control", distances, 1, family)


def run(tested, **settings):
    return certify.certify(tested, **{"fdr": FDR, "closest": CLOSEST, **settings})


def names(result):
    return {f.group for f in result.findings if f.certified}


def test_the_statistic_is_the_smaller_of_the_two_tiled_distances():
    assert certify.statistic(match("a", t=0.05)) == 0.05
    assert certify.statistic(match("a", t=0.05, round_trip=0.02)) == 0.02
    assert certify.statistic(match("a", t=0.05, round_trip=0.2)) == 0.05


def test_what_is_nearer_than_enough_controls_and_near_is_certified():
    result = run(pictures([0.01, 0.3]) + controls([0.4] * 39))
    first, second = result.findings[:2]
    assert (first.certified, first.p_value, first.q_value) == (True, 1 / 40, 0.05)
    assert (second.certified, second.p_value, second.q_value) == (False, 1 / 40, 1 / 40)


def test_one_control_fewer_and_nothing_is_certified():
    assert names(run(pictures([0.01, 0.3]) + controls([0.4] * 38))) == set()


def test_excess_alone_is_no_reproduction():
    result = run(pictures([0.2] * 5) + controls([0.4] * 100))
    assert all(f.q_value <= FDR and not f.certified for f in result.findings[:5])


def test_reproduction_alone_is_no_excess():
    result = run(pictures([0.05] * 5) + controls([0.04] * 100))
    assert all(f.q_value == 1 and not f.certified for f in result.findings if f.side == "picture")


def test_a_finding_carries_its_match_and_a_group_without_one_carries_nulls():
    found, lost = run(pictures([0.05, inf]) + controls([0.4] * 39)).findings[0], run(pictures([inf])).findings[0]
    best = match(found.group)
    assert (found.prompt, found.sample, found.statistic) == (best.prompt, best.sample, 0.05)
    assert (found.rms, found.tiled, found.round_trip, found.ratio) == (best.rms, best.tiled, None, best.ratio)
    assert (lost.prompt, lost.sample, lost.statistic, lost.rms, lost.tiled) == (None,) * 5


def test_findings_of_both_sides_and_families_come_nearest_first():
    tested = pictures([0.3, inf, 0.05]) + controls([0.2, inf]) + pictures([0.1], family="unasked")
    distances = [inf if f.statistic is None else f.statistic for f in run(tested).findings]
    assert distances == [0.05, 0.1, 0.2, 0.3, inf, inf]
    assert run(tested).findings == run(tested[::-1]).findings


def test_controls_have_no_p_and_are_never_certified():
    result = run(pictures([0.3] * 5) + controls([0.01] * 40))
    for finding in result.findings:
        assert finding.side == "picture" or (finding.p_value, finding.q_value, finding.certified) == (None, None, False)


def test_each_family_meets_its_own_controls_only():
    """Unasked controls are far; the asked ones are near: asked pictures must not profit from the unasked."""
    asked, unasked = pictures([0.05] * 3), pictures([0.05] * 3, family="unasked")
    result = run(asked + unasked + controls([0.01] * 100) + controls([0.5] * 100, family="unasked"))
    assert names(result) == {t.group for t in unasked}
    assert result.tests["asked"].controls_at_cut == 100
    assert result.tests["unasked"].controls_at_cut == 0


def test_a_family_without_controls_is_not_calibrated():
    result = run(pictures([0.0] * 3) + controls([0.5] * 100, family="unasked"))
    assert all((f.p_value, f.q_value, f.certified) == (None, None, False) for f in result.findings)
    assert result.tests["asked"] == certify.Test(3, 0, 0, None, None)
    assert result.tests["unasked"] == certify.Test(0, 100, 0, 1 / 101, None)


def test_nothing_tested_is_an_empty_result():
    result = run([])
    assert (result.findings, result.controls_n, result.controls_certified, result.balance) == ([], 0, 0, [])
    assert result.at_all.p_value is None
    assert certify.rates([], fdr=FDR, closest=CLOSEST) == []


def test_a_model_that_comes_near_nothing_has_p_of_one_everywhere():
    result = run(pictures([inf] * 4) + controls([inf] * 90))
    assert {(f.p_value, f.q_value) for f in result.findings if f.side == "picture"} == {(1.0, 1.0)}
    assert result.tests["asked"] == certify.Test(4, 90, 0, 1 / 91, 1)


def test_an_infinite_tau_certifies_no_group_that_nothing_came_near():
    result = run(pictures([0.1] * 2 + [inf]) + controls([0.5] * 90), closest=inf)
    assert [f.certified for f in result.findings if f.side == "picture"] == [True, True, False]


def test_a_group_tested_twice_is_refused():
    twice = pictures([0.1, 0.2])
    with pytest.raises(ValueError, match="tested twice"):
        run([*twice, replace(twice[0], digest="another member")])


def test_a_copied_picture_stands_on_an_assumption():
    result = run(pictures([0.05] * 2) + pictures([0.05] * 2, copies=5) + controls([0.5] * 99))
    assert {f.copies: f.basis for f in result.findings if f.certified} == {1: "exact", 5: "assumption-based"}


def test_a_split_that_was_not_drawn_at_random_makes_every_basis_an_assumption():
    result = run(pictures([0.05] * 2 + [0.6]) + controls([0.5] * 99), exact=False)
    assert {f.basis for f in result.findings} == {"assumption-based"}


def test_a_single_picture_that_the_list_of_copied_ones_carries_is_not_exact():
    """One single among 30 copied: certified in the list of 31, but 30 singles alone need 30 / (.05 * 100) = 6."""
    singles, copied = pictures([0.05] + [0.7] * 29), pictures([0.05] * 30, copies=9)
    carried = run(singles + copied + controls([0.5] * 99))
    assert carried.findings[0].certified
    assert {f.basis for f in carried.findings if f.certified} == {"assumption-based"}
    alone = run(pictures([0.05] * 6 + [0.7] * 24) + copied + controls([0.5] * 99))
    assert {f.basis for f in alone.findings if f.certified and f.copies == 1} == {"exact"}


def test_k_needed_pictures_within_tau_are_all_certified_and_one_fewer_at_the_cut_are_not():
    null = [0.09] * 2 + [0.5] * 97
    m = 40
    k = run(pictures([inf] * m) + controls(null)).tests["asked"].k_needed
    assert k == 24
    assert len(names(run(pictures([CLOSEST] * k + [inf] * (m - k)) + controls(null)))) == k
    assert len(names(run(pictures([CLOSEST] * (k - 1) + [inf] * (m - k + 1)) + controls(null)))) == 0


@given(
    st.lists(st.sampled_from([0.01, 0.05, 0.1, 0.2, 0.5, inf]), max_size=30),
    st.lists(st.sampled_from([0.05, 0.1, 0.2, 0.5, inf]), min_size=1, max_size=80),
)
def test_the_promise_of_the_power_rule_is_kept(near, null):
    result = run(pictures(near) + controls(null), fdr=0.2)
    test = result.tests["asked"]
    within = sum(t <= CLOSEST for t in near)
    least = stats.findings_needed(test.m, test.n_controls, 0, 0.2)
    assert test.controls_at_cut == sum(t <= CLOSEST for t in null)
    assert len(names(result)) == within or within < test.k_needed
    assert not names(result) or len(names(result)) >= least


def test_before_sampling_the_power_is_that_of_no_control_at_the_cut():
    assert certify.test_of(1000, 2000, 0, fdr=0.05) == certify.Test(1000, 2000, 0, 1 / 2001, 10)


def test_a_certified_finding_has_its_sensitivity_and_no_other_has():
    result = run(pictures([0.01, 0.3]) + controls([0.4] * 99))
    told = {f.group: f.sensitivity for f in result.findings if f.sensitivity is not None}
    assert told == {"asked picture 1 0": pytest.approx(stats.sensitivity(0, 99, 0.05 / 2))}


def test_controls_certified_counts_the_controls_that_would_stand_were_each_one_more_picture():
    """A control beside 20 copies has q = 41 * 2 / (100 * 21) < .05, beside 10 it has 41 * 2 / (100 * 11) > .05."""

    def count(copies, closest):
        tested = pictures([0.05] * copies + [0.7] * (40 - copies)) + controls([0.05] * 2 + [0.5] * 98)
        result = run([*tested, *controls([0.3] * 10, family="unasked")], closest=closest)
        return result.controls_n, result.controls_certified

    assert (count(20, 0.1), count(10, 0.1), count(20, 0.04)) == ((110, 2), (110, 0), (110, 0))


def by_name(result, **settings):
    rows = certify.rates(result.findings, **{"fdr": FDR, "closest": CLOSEST, **settings})
    return {(r.name, r.tier): r for r in rows}


def test_rates_count_every_tier_with_its_interval_and_its_twin():
    tested = pictures([0.05, 0.7]) + pictures([0.05] * 3, copies=2) + pictures([0.05] * 2 + [0.7], copies=64)
    unasked = pictures([0.7] * 4, copies=7, family="unasked") + controls([0.6] * 30, family="unasked")
    rates = by_name(run(tested + unasked + controls([0.05] + [0.5] * 398)))
    certified = {tier: (r.k, r.n) for (name, tier), r in rates.items() if name == "asked groups certified"}
    assert certified == {"1": (1, 2), "2-3": (3, 3), "64+": (2, 3), None: (6, 8)}
    within = rates["asked groups within tau", None]
    assert (within.k, within.n, within.controls_k, within.controls_n) == (6, 8, 1, 399)
    assert (within.low, within.high) == stats.clopper_pearson(6, 8, 0.95)
    assert (within.level, within.method) == (0.95, "Clopper-Pearson")
    assert (rates["unasked groups certified", None].k, rates["unasked groups certified", None].n) == (0, 4)
    assert {tier for name, tier in rates if name.startswith("unasked")} == {None}


@pytest.mark.parametrize(
    ("copies", "tier"), [(1, "1"), (3, "2-3"), (4, "4-7"), (8, "8-15"), (31, "16-31"), (32, "32-63"), (999, "64+")]
)
def test_a_group_falls_in_the_tier_of_its_copies(copies, tier):
    rates = by_name(run(pictures([0.5], copies=copies) + controls([0.5])))
    assert {t for _, t in rates} == {tier, None}


def test_rates_without_controls_have_no_twin():
    assert {(r.controls_k, r.controls_n) for r in by_name(run(pictures([0.05]))).values()} == {(None, None)}


def test_the_twin_of_certified_is_what_certify_counts():
    tested = pictures([0.05] * 40) + controls([0.05] + [0.5] * 98) + controls([0.05] * 20, family="unasked")
    result = run([*tested, *pictures([0.05], family="unasked")])
    rates = by_name(result)
    twins = [rates[f"{family} groups certified", None].controls_k for family in ("asked", "unasked")]
    assert sum(twins) == result.controls_certified == 1


def audit(rng, copied):
    """A random split of a pool; `copied` single pictures come back, and copied ones with many copies are only moved."""
    pool = rng.random(500)
    singles = np.r_[rng.uniform(0, 1e-4, copied), pool[: 20 - copied]]
    moved = rng.uniform(0.01, 0.02, 20)
    return run(pictures(singles) + pictures(moved, copies=9) + controls(pool[20:]), closest=0.02)


def false(result: certify.Certified, copied: int) -> list[Finding]:
    true = {f"asked picture 1 {i}" for i in range(copied)}
    return [f for f in result.findings if f.certified and f.group not in true and f.copies == 1]


def test_findings_called_exact_are_false_no_more_often_than_alpha_though_copied_pictures_fill_the_list():
    """The list of 40 is long; a single one in it by chance must not be called exact."""
    rng = np.random.default_rng(3)
    results = [audit(rng, 0) for _ in range(400)]
    accused = sum(bool(false(result, 0)) for result in results)
    exact = sum(any(f.basis == "exact" for f in false(result, 0)) for result in results)
    assert stats.clopper_pearson(accused, 400, 0.98)[0] > FDR, "the bench must be able to see it"
    assert stats.clopper_pearson(exact, 400, 0.98)[0] <= FDR


def test_a_claimed_picture_is_assumption_based_and_in_no_rate():
    named = [replace(t, claimed=True) for t in pictures([0.01], family="asked")]
    result = run([*named, *pictures([inf, inf, inf], copies=2), *controls([inf] * 100)])
    found = next(f for f in result.findings if f.claimed)
    assert found.certified
    assert found.basis == "assumption-based"
    within = [r for r in certify.rates(result.findings, fdr=FDR, closest=CLOSEST) if r.tier is None]
    assert all((r.k, r.n) == (0, 3) for r in within)
    assert result.at_all.pictures == 3


def test_a_twin_that_brings_controls_only_leans_and_makes_nothing_exact():
    named = [replace(t, twin=inf) for t in pictures([0.01] * 40)]
    null = [replace(t, twin=0.01 if k < 20 else inf) for k, t in enumerate(controls([inf] * 60))]
    result = run([*named, *null])
    assert result.twin_leans == pytest.approx(comb(60, 20) / comb(100, 20))
    assert {f.basis for f in result.findings} == {"assumption-based"}
    fair = run([*named, *(replace(t, twin=inf) for t in null)])
    assert fair.twin_leans == pytest.approx(1)
    assert {f.basis for f in fair.findings} == {"exact"}
    assert certify.twin_leans(pictures([0.01]), CLOSEST) is None


def test_a_picture_beyond_all_controls_in_a_covariate_has_no_matched_p():
    null = [replace(t, covariates=(float(k), 0.0, 0.0, 0.0)) for k, t in enumerate(controls([inf] * 100))]
    two = zip(pictures([0.01, 0.02]), (50.0, 200.0), strict=True)
    inside, outside = (replace(t, covariates=(x, 0.0, 0.0, 0.0)) for t, x in two)
    found = {f.group: f.matched_p for f in run([inside, outside, *null], matched=20).findings}
    assert found[inside.group] == pytest.approx(1 / 21)
    assert found[outside.group] is None
