"""Measuring what people said of pairs whose truth is known."""

import re
from dataclasses import asdict
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import cohen_kappa_score

from byrote.kernels import review as kernel
from byrote.kernels.stats import clopper_pearson
from byrote.review import VERDICTS, draw
from byrote.review.draw import STRATA, Key, Pair
from byrote.review.measure import WIDTH, decisions, measure, outlook

from .pairs import matches

TAU, REACH = 0.15, 0.21
SIZES = (30, 25, 60)


def population(controls=0):
    edges = [(0.01, TAU), (TAU + 1e-6, REACH), (REACH + 1e-6, 0.9)]
    ts = np.concatenate([np.linspace(*ends, n) for ends, n in zip(edges, SIZES, strict=True)])
    return matches(*ts) + matches(*np.linspace(0.05, 0.9, controls), side="control")


def drawn(count=40, seed=0, controls=0):
    return draw.draw(population(controls), tau=TAU, reach=REACH, count=count, seed=seed)


def said(key, reviewer, verdict, pairs=None):
    """Return what a reviewer says: `verdict` of every pair, or of some."""
    return {(reviewer, p.picture, p.sample): verdict(p) for p in (key.pairs if pairs is None else pairs)}


def truth(copies):
    return lambda pair: "copy" if pair.picture in copies or pair.kind == "planted" else "no"


def one(kind, *ids):
    """Return a key of some pairs of one kind, all within tau."""
    pairs = tuple(Pair(i, kind, STRATA[0], f"picture {i}", "picture", f"sample {i}", 0.01) for i in ids)
    return Key(0, TAU, {STRATA[0]: len(ids), STRATA[1]: 0, STRATA[2]: 0}, pairs)


@pytest.fixture(scope="module")
def copies():
    """Return which pictures are copies in truth: most within tau, some beyond."""
    rng = np.random.default_rng(3)
    shares = dict(zip(STRATA, (0.8, 0.3, 0.05), strict=True))
    rows = [row for row in population() if row.side == "picture"]
    names = [STRATA[0 if row.tiled <= TAU else 1 if row.tiled <= REACH else 2] for row in rows]
    return {row.digest for row, name in zip(rows, names, strict=True) if rng.random() < shares[name]}


def test_totals_precision_and_recall_hold_the_truth_in_the_share_of_draws_that_they_promise(copies):
    rows, runs = population(), 300
    inside = sum(row.digest in copies for row in rows if row.tiled <= TAU)
    held, totals = np.zeros(3), []
    for seed in range(runs):
        key = drawn(seed=seed)
        told = measure(key, said(key, "ann", truth(copies)))
        (total, low, high), p, recall = told.copies, told.precision, told.recall
        totals.append(total)
        held += [
            low <= len(copies) <= high,
            p.low <= inside / SIZES[0] <= p.high,
            recall[0] <= inside / len(copies) <= recall[1],
        ]
        assert 0 <= low <= total <= high <= sum(SIZES)
        assert p.low <= p.k / p.n <= p.high
    for times in held:
        assert binomtest(int(times), runs, 0.95, alternative="less").pvalue > 0.01
    assert np.mean(totals) == pytest.approx(len(copies), abs=4 * np.std(totals) / np.sqrt(runs))


def test_a_census_of_clear_verdicts_is_exact(copies):
    key = drawn(count=500)
    told = measure(key, said(key, "ann", truth(copies)))
    inside = sum(row.digest in copies for row in population() if row.tiled <= TAU)
    assert told.copies == (len(copies), len(copies), len(copies))
    assert (told.precision.low, told.precision.high) == (inside / SIZES[0], inside / SIZES[0])
    assert told.recall == (inside / len(copies), inside / len(copies))
    assert (told.undecided, told.drawn, told.population) == (0, 115, 115)


@pytest.mark.parametrize("hidden", ["copy", "no"])
def test_intervals_hold_the_truth_where_reviewers_cannot_settle_one_kind_of_pair(copies, hidden):
    """Never at random: nine in ten copies, or others, stay undecided. Leaving them out would miss the truth."""
    held = naive = 0
    clear = truth(copies)

    def settled(pair):
        return clear(pair) != hidden or int(pair.picture[-1]) == 0

    for seed in range(100):
        key = drawn(count=90, seed=seed)
        told = measure(key, said(key, "ann", lambda p: clear(p) if settled(p) else "unsure"))
        _, low, high = told.copies
        held += low <= len(copies) <= high
        kept = {name: [p for p in key.pairs if p.stratum == name and settled(p)] for name in STRATA}
        counts = {name: sum(clear(p) == "copy" for p in of) for name, of in kept.items()}
        left_out = kernel.horvitz_thompson([kernel.Stratum(key.sizes[n], len(kept[n]), counts[n]) for n in STRATA])
        naive += left_out.low <= len(copies) <= left_out.high
        assert told.undecided > 0
    assert held >= 98
    assert naive < 90


def test_undecided_pairs_bound_everything_both_ways(copies):
    """Low ends are those of calling them all none, high ends those of calling them all copies."""
    key = drawn()
    some = [p for p in key.pairs if p.kind == "candidate"][::4]
    clear = truth(copies)

    def told(word):
        return measure(key, said(key, "ann", lambda p: word if p in some else clear(p)))

    open_, none, all_ = told("unsure"), told("no"), told("copy")
    assert open_.undecided == len(some)
    assert open_.copies[1:] == (none.copies[1], all_.copies[2])
    assert (open_.precision.low, open_.precision.high) == (none.precision.low, all_.precision.high)
    assert open_.recall[0] <= min(none.recall[0], all_.recall[0])
    assert open_.recall[1] >= max(none.recall[1], all_.recall[1])
    by_t = {row[0]: row for row in none.band}
    for t, mean, low, high in open_.band:
        assert low <= by_t[t][2] + 1e-12
        assert low <= mean <= high


def test_stopping_early_never_narrows_an_interval_below_what_is_known_in_the_end(copies):
    """So one may look after every verdict and stop where one likes: each look holds whatever is still to come."""
    key = drawn()
    final = measure(key, said(key, "ann", truth(copies)))
    for n in range(0, len(key.pairs), 5):
        told = measure(key, said(key, "ann", truth(copies), key.pairs[:n]))
        assert told.undecided == sum(p.kind == "candidate" for p in key.pairs[n:])
        if told.copies:
            assert told.copies[1] <= final.copies[1] <= final.copies[2] <= told.copies[2]
        if told.recall:
            assert told.recall[0] <= final.recall[0] <= final.recall[1] <= told.recall[1]
        if told.precision:
            assert told.precision.low <= final.precision.low <= final.precision.high <= told.precision.high


def test_nothing_that_was_judged_gives_nothing_and_can_be_written_as_json():
    told = measure(drawn(), {})
    assert (told.copies, told.precision, told.recall, told.band, told.agreement) == (None, None, None, (), ())
    assert told.undecided == told.drawn == 40
    assert asdict(told)["majority"]["judged"] == 0


def test_a_stratum_that_nobody_judged_leaves_the_total_out_and_recall_as_wide_as_that_is():
    key = drawn()
    told = measure(key, said(key, "ann", lambda _: "copy", [p for p in key.pairs if p.stratum == STRATA[0]]))
    assert told.copies is None
    assert told.precision.k == told.precision.n == 20
    assert told.recall[1] == 1
    assert told.recall[0] == pytest.approx(told.precision.low * 30 / (told.precision.low * 30 + 85), abs=0.02)


def test_recall_without_any_copy_is_unknown():
    key = drawn(count=500)
    assert measure(key, said(key, "ann", lambda _: "no")).recall is None


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        (["copy"], True),
        (["alike"], False),
        (["unsure"], None),
        (["copy", "no"], None),
        (["copy", "unsure"], None),
        (["copy", "copy", "no"], True),
        (["copy", "copy", "unsure"], True),
        (["copy", "part", "alike"], False),
        (["copy", "part", "unsure"], None),
        (["part", "alike", "no"], False),
        (["copy", "copy", "no", "part"], None),
        (["copy", "unsure", "unsure"], None),
        (["copy", "copy", "copy", "no", "no"], True),
    ],
)
def test_more_than_half_of_the_reviewers_decide(verdicts, expected):
    key = one("candidate", "a")
    by = {f"r{k}": {"a": verdict} for k, verdict in enumerate(verdicts)}
    assert decisions(key, by) == ({} if expected is None else {"a": expected})


def test_reviewers_that_did_not_judge_a_pair_have_no_say_in_it():
    key = one("candidate", "a", "b", "c")
    by = {"ann": {"a": "copy", "b": "copy"}, "bob": {"b": "no", "c": "no"}}
    assert decisions(key, by) == {"a": True, "c": False}
    verdicts = {(r, f"picture {p}", f"sample {p}"): v for r, of in by.items() for p, v in of.items()}
    told = measure(key, verdicts)
    assert (told.precision.k, told.precision.n, told.undecided) == (1, 2, 1)
    assert (told.precision.low, told.precision.high) == (1 / 3, 2 / 3)


def test_verdicts_on_other_pairs_and_other_samples_count_nowhere():
    key = one("candidate", "a")
    extra = {("ann", "picture a", "another sample"): "no", ("bob", "picture z", "sample z"): "copy"}
    told = measure(key, extra | {("ann", "picture a", "sample a"): "copy"})
    assert [r.name for r in told.reviewers] == ["ann"]
    assert told.reviewers[0].judged == 1
    assert told.precision.k == 1


def test_planted_copies_and_controls_give_each_reviewer_exact_rates():
    key = drawn(count=80, controls=60)
    planted, controls = ([p for p in key.pairs if p.kind == kind] for kind in ("planted", "control"))
    missed, fooled = set(planted[:3]), set(controls[:4])
    verdicts = said(
        key, "ann", lambda p: "unsure" if p in missed else "copy" if p.kind == "planted" or p in fooled else "no"
    )
    (ann,) = measure(key, verdicts).reviewers
    assert (ann.sensitivity.k, ann.sensitivity.n, ann.unsure_planted, ann.unsure_controls) == (7, 7, 3, 0)
    assert (ann.sensitivity.low, ann.sensitivity.high) == clopper_pearson(7, 7)
    assert (ann.false_positives.k, ann.false_positives.n) == (4, 20)
    assert (ann.false_positives.low, ann.false_positives.high) == clopper_pearson(4, 20)
    assert ann.judged == len(key.pairs)


def test_unsure_calls_a_control_neither_a_copy_nor_none():
    key = drawn(count=80, controls=60)
    told = measure(key, said(key, "ann", lambda _: "unsure"))
    assert (told.reviewers[0].false_positives, told.reviewers[0].unsure_controls) == (None, 20)
    assert (told.majority.false_positives, told.majority.unsure_controls) == (None, 20)
    controls = [p for p in key.pairs if p.kind == "control"]
    some = measure(key, said(key, "ann", lambda p: "copy" if p in controls[:1] else "unsure")).reviewers[0]
    assert (some.false_positives.k, some.false_positives.n, some.unsure_controls) == (1, 1, 19)


def test_the_majority_has_rates_of_its_own_whose_ends_hold_whatever_a_tie_would_have_been():
    key = drawn(count=80, controls=60)
    planted = [p for p in key.pairs if p.kind == "planted"]
    verdicts = said(key, "ann", lambda _: "copy") | said(key, "bob", lambda p: "no" if p in planted[:4] else "copy")
    told = measure(key, verdicts)
    assert [r.sensitivity.k for r in told.reviewers] == [10, 6]
    rate = told.majority.sensitivity
    assert (rate.k, rate.n, told.majority.unsure_planted) == (6, 6, 4)
    assert (rate.low, rate.high) == (clopper_pearson(6, 10)[0], 1)
    assert (told.majority.false_positives.k, told.majority.false_positives.n) == (20, 20)


@pytest.mark.parametrize(("common", "told"), [(9, 0), (10, 1)])
def test_few_common_pairs_have_no_kappa(common, told):
    key = one("candidate", *map(str, range(common)))
    verdicts = said(key, "ann", lambda p: VERDICTS[int(p.id) % 3]) | said(key, "bob", lambda p: VERDICTS[int(p.id) % 4])
    assert len(measure(key, verdicts).agreement) == told
    verdicts |= said(key, "cas", lambda p: VERDICTS[int(p.id) % 2])
    assert len(measure(key, verdicts).agreement) == 4 * told


def test_neither_planted_copies_nor_controls_count_as_copies_of_the_model():
    key = drawn(count=500, controls=40)
    told = measure(key, said(key, "ann", lambda p: "no" if p.kind == "candidate" else "copy"))
    assert told.copies == (0, 0, 0)
    assert {row[1] for row in told.band} == {0.0}


def noisy(key, rng, error):
    return lambda p: str(rng.choice(VERDICTS)) if rng.random() < error else truth(set())(p)


def test_kappas_are_over_candidates_that_the_reviewers_share():
    key, rng = drawn(count=80, controls=60), np.random.default_rng(8)
    seen = {"ann": key.pairs[:70], "bob": key.pairs[30:], "cas": key.pairs[20:90]}
    verdicts = {}
    for reviewer, pairs in seen.items():
        verdicts |= said(key, reviewer, noisy(key, rng, 0.6), pairs)
    told = {a.reviewers: a for a in measure(key, verdicts).agreement}
    assert set(told) == {("ann", "bob"), ("ann", "cas"), ("bob", "cas"), ("ann", "bob", "cas")}
    for names, found in told.items():
        both = [p for p in key.pairs if p.kind == "candidate" and all(p in seen[n] for n in names)]
        words = [[verdicts[n, p.picture, p.sample] for p in both] for n in names]
        assert found.pairs == len(both)
        if len(names) == 2:
            assert found.kappa == pytest.approx(cohen_kappa_score(*words))
            assert found.method == "Cohen"
        else:
            counts = np.array([[row.count(word) for word in VERDICTS] for row in zip(*words, strict=True)])
            assert (found.kappa, found.method) == (kernel.fleiss_kappa(counts).kappa, "Fleiss")


def test_reviewers_who_share_no_candidate_have_no_kappa():
    key = drawn(count=80, controls=60)
    half = len(key.pairs) // 2
    verdicts = said(key, "ann", truth(set()), key.pairs[:half]) | said(key, "bob", truth(set()), key.pairs[half:])
    assert measure(key, verdicts).agreement == ()


def test_planted_copies_do_not_lift_a_kappa():
    """Two reviewers who guess on candidates and agree on what is planted: kappa is about nought, not about a third."""
    key, rng = drawn(count=500, controls=0), np.random.default_rng(9)
    guess = {r: lambda p: "copy" if p.kind == "planted" else str(rng.choice(["copy", "no"])) for r in ("ann", "bob")}
    verdicts = said(key, "ann", guess["ann"]) | said(key, "bob", guess["bob"])
    (found,) = measure(key, verdicts).agreement
    assert found.pairs == 115
    assert abs(found.kappa) < 3 * found.error


def test_the_band_follows_the_drawn_pairs_within_tau_from_the_nearest_on(copies):
    key = drawn()
    told = measure(key, said(key, "ann", truth(copies)))
    within = sorted((p for p in key.pairs if p.stratum == STRATA[0]), key=lambda p: p.statistic)
    flags = np.array([p.picture in copies for p in within])
    assert [row[0] for row in told.band] == [p.statistic for p in within]
    assert [row[1] for row in told.band] == pytest.approx((np.cumsum(flags) / np.arange(1, 21)).tolist())
    assert np.array([row[2:] for row in told.band]) == pytest.approx(kernel.precision_band(flags))


def test_a_measurement_names_the_tau_that_its_strata_have():
    assert measure(drawn(), {}).tau == TAU


@given(st.lists(st.sampled_from(["copy", "no", "unsure", None]), min_size=1, max_size=12), st.integers(0, 20))
def test_every_precision_is_inside_its_ends(words, more):
    ids = [f"{k}" for k in range(len(words))]
    key = one("candidate", *ids)
    key = Key(0, TAU, key.sizes | {STRATA[0]: len(ids) + more}, key.pairs)
    told = measure(key, {("ann", f"picture {i}", f"sample {i}"): w for i, w in zip(ids, words, strict=True) if w})
    if told.precision:
        p = told.precision
        assert 0 <= p.low <= p.k / p.n <= p.high <= 1
        assert told.undecided == sum(word in ("unsure", None) for word in words)
    for _, mean, low, high in told.band:
        assert 0 <= low <= mean + 1e-12 <= high + 2e-12 <= 1 + 3e-12


def test_every_pair_of_verdicts_counts_alike_whoever_gave_them():
    key = one("candidate", "a")
    for a, b in product(VERDICTS, repeat=2):
        there = decisions(key, {"ann": {"a": a}, "bob": {"a": b}})
        assert there == decisions(key, {"ann": {"a": b}, "bob": {"a": a}})


def within(size, drawn, copies, decided):
    """Return a key with so many drawn pairs within tau, and what one said of the first `decided`: `copies` of them."""
    pairs = tuple(
        Pair(f"p{k}", "candidate", STRATA[0], f"picture {k}", "picture", f"sample {k}", k / 1e4) for k in range(drawn)
    )
    key = Key(0, TAU, {STRATA[0]: size, STRATA[1]: 0, STRATA[2]: 0}, pairs)
    return key, said(key, "ann", lambda p: "copy" if int(p.id[1:]) % decided < copies else "no", pairs[:decided])


@given(st.integers(1, 120), st.integers(1, 120), st.integers(1, 120), st.integers(0, 120))
@settings(max_examples=60, deadline=None)
def test_what_would_settle_the_question_is_the_least_that_makes_the_interval_narrow(size, drawn, decided, copies):
    """Held against every number of verdicts, one after the other."""
    drawn = min(drawn, size)
    decided = min(decided, drawn)
    copies = min(copies, decided)
    key, latest = within(size, drawn, copies, decided)
    share, open_ = copies / decided, drawn - decided

    def wide(stratum):
        low, high = kernel.finite_interval(stratum)
        return high - low > WIDTH * size

    last = outlook(key, latest)[-1]
    after = [wide(kernel.Stratum(size, drawn, copies + round(n * share), open_ - n)) for n in range(open_ + 1)]
    if not after[0]:
        assert last == "settled: that is no wider than 10 points"
    elif not after[-1]:
        more = int(re.search(r"once (\d+) more", last).group(1))
        assert after[more - 1 : more + 1] == [True, False]
    else:
        wanted = int(re.search(r"about (\d+) of the", last).group(1))
        assert wanted > drawn
        assert [wide(kernel.Stratum(size, n, round(n * share))) for n in (wanted - 1, wanted)] == [True, False]


def test_the_outlook_says_nothing_of_precision_before_a_verdict():
    key, _ = within(100, 10, 0, 1)
    assert outlook(key, {}) == [
        "10 of 10 candidate pairs undecided",
        "no pair within tau is decided yet, so nothing can be said of precision",
    ]
