"""Drawing pairs: known chances, strata that are never empty, controls of like T, planted copies that stay hidden."""

import json
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from byrote.errors import Incomplete, StoreError
from byrote.review import draw
from byrote.review.draw import STRATA, Key

from .pairs import match, matches

TAU, REACH = 0.15, 0.21
WITHIN, BEYOND, FURTHER = 0.01, 0.16, 0.4


def drawn(rows, count=20, seed=0, **options):
    return draw.draw(rows, tau=TAU, reach=REACH, count=count, seed=seed, **options)


def population(within, beyond, further, controls=0):
    ts = [
        *np.linspace(0.01, TAU, within),
        *np.linspace(TAU + 1e-9, REACH, beyond),
        *np.linspace(REACH + 1e-9, 0.9, further),
    ]
    return matches(*ts) + matches(*np.linspace(0.05, 0.9, controls), side="control")


def of(key, kind):
    return [pair for pair in key.pairs if pair.kind == kind]


def test_every_pair_is_drawn_as_often_as_the_key_says():
    """Over 600 seeds, each of 40 pairs against the chance drawn / size of its stratum, with one error in a thousand."""
    rows, runs = population(8, 12, 20), 600
    found = Counter()
    for seed in range(runs):
        key = drawn(rows, 10, seed)
        taken = Counter(pair.stratum for pair in of(key, "candidate"))
        assert (key.sizes, taken) == (
            dict(zip(STRATA, (8, 12, 20), strict=True)),
            dict(zip(STRATA, (5, 3, 2), strict=True)),
        )
        found.update((pair.picture, pair.stratum) for pair in of(key, "candidate"))
    chance = dict(zip(STRATA, (5 / 8, 3 / 12, 2 / 20), strict=True))
    assert len(found) == len(rows)
    for (_, stratum), times in found.items():
        assert binomtest(times, runs, chance[stratum]).pvalue > 0.001 / len(rows)


def test_pairs_of_a_stratum_are_drawn_together_as_often_as_without_putting_back():
    runs, together = 800, Counter()
    for seed in range(runs):
        pictures = sorted(pair.picture for pair in of(drawn(population(6, 0, 0), 3, seed), "candidate"))
        together.update((a, b) for k, a in enumerate(pictures) for b in pictures[k + 1 :])
    assert len(together) == 15
    for times in together.values():
        assert binomtest(times, runs, 3 * 2 / (6 * 5)).pvalue > 0.001 / 15


@given(
    st.lists(st.tuples(st.floats(0, 1), st.sampled_from(["picture", "control"])), max_size=40),
    st.integers(1, 60),
    st.integers(0, 3),
)
def test_whatever_there_is_the_draw_is_sound(there, count, seed):
    rows = [match(number, t, side) for number, (t, side) in enumerate(there)]
    key = drawn(rows, count, seed)
    candidates, pictures = of(key, "candidate"), [row for row in rows if row.side == "picture"]
    taken = Counter(pair.stratum for pair in candidates)
    assert sum(key.sizes.values()) == len(pictures)
    for name in STRATA:
        assert min(1, key.sizes[name]) <= taken[name] <= key.sizes[name]
    assert min(count, len(pictures)) <= len(candidates) <= max(count, len(STRATA)) + 1
    assert len({(pair.picture, pair.sample) for pair in key.pairs}) == len(key.pairs)
    assert [pair.id[-5:] for pair in key.pairs] == [f"-{k:04d}" for k in range(1, len(key.pairs) + 1)]
    assert drawn(rows[::-1], count, seed) == key


@pytest.mark.parametrize("count", [1, 2, 3, 5, 200])
@pytest.mark.parametrize("sizes", [(500, 500, 500), (500, 1, 1), (0, 3, 500), (2, 0, 500), (500, 0, 1)])
def test_no_stratum_that_has_pairs_is_left_without_a_drawn_one(count, sizes):
    """Without one beyond tau recall is unknown: how many copies did tau miss?"""
    taken = Counter(pair.stratum for pair in of(drawn(population(*sizes), count), "candidate"))
    assert [taken[name] > 0 for name in STRATA] == [size > 0 for size in sizes]


def test_what_one_stratum_is_too_small_for_goes_to_the_others():
    taken = Counter(pair.stratum for pair in of(drawn(population(3, 10, 500), 100), "candidate"))
    assert taken == dict(zip(STRATA, (3, 10, 87), strict=True))
    assert len(of(drawn(population(3, 10, 20), 100), "candidate")) == 33


def test_edges_belong_to_the_nearer_stratum():
    key = drawn(matches(TAU, REACH, REACH + 1e-9), 3)
    assert key.sizes == dict.fromkeys(STRATA, 1)


def test_a_seed_draws_the_same_again_and_another_does_not():
    rows = population(30, 30, 30, 60)
    assert drawn(rows, 30, 1) == drawn(rows[::-1], 30, 1) != drawn(rows, 30, 2)


def test_controls_are_those_nearest_in_t_and_each_once():
    """Four candidates, all of one distance: the controls at that distance, not the nearest ones there are."""
    rows = matches(*[WITHIN] * 2, *[FURTHER] * 6) + matches(0.02, 0.39, 0.41, 0.7, 0.8, side="control")
    controls = of(drawn(rows, 8), "control")
    assert len(controls) == 2
    assert {c.statistic for c in controls} <= {0.02, 0.39, 0.41}
    assert all(c.side == "control" and c.stratum == "control" for c in controls)
    assert len({c.picture for c in of(drawn(rows, 500), "control")}) == 5


def test_controls_are_nearer_in_t_to_candidates_than_controls_drawn_blindly():
    rows = population(40, 0, 0) + matches(*np.linspace(0.05, 0.9, 200), side="control")
    t = [pair.statistic for pair in of(drawn(rows, 40), "control")]
    assert len(t) == 10
    assert max(t) < TAU + 0.05


def test_planted_pictures_are_shown_in_no_other_pair():
    """A picture that is met twice, once beside its twin, gives itself away."""
    for seed in range(20):
        key = drawn(population(20, 20, 20, 40), 24, seed)
        planted = of(key, "planted")
        assert len(planted) == 3
        assert not {p.picture for p in planted} & {p.picture for p in key.pairs if p.kind != "planted"}
        assert all(p.sample == "" and p.statistic is None for p in planted)


def test_planted_pictures_come_from_those_that_no_sample_came_near_where_all_others_are_shown():
    others = [(f"sha256:o{k}", "picture") for k in range(9)]
    key = drawn(population(4, 2, 2), 32, others=others)
    assert {p.picture for p in of(key, "planted")} < {digest for digest, _ in others}
    assert len(of(key, "planted")) == 4
    assert drawn(population(4, 2, 2), 32, others=others[::-1]) == key


def test_a_drawn_picture_is_planted_only_where_there_is_no_other():
    key = drawn(population(4, 2, 2), 16)
    assert len(of(key, "planted")) == 2
    assert {p.picture for p in of(key, "planted")} < {p.picture for p in of(key, "candidate")}


def test_fewer_pictures_than_planted_copies_asked_for_are_no_error():
    """Once this counted controls too and drew more pictures than there are."""
    key = drawn(population(2, 1, 0, 100), 200)
    assert len(of(key, "candidate")) == 3
    assert len(of(key, "control")) == 50
    assert len(of(key, "planted")) == 25


def test_nothing_to_draw_from_draws_nothing():
    assert drawn([]) == Key(0, TAU, dict.fromkeys(STRATA, 0), ())


def test_the_order_of_the_pairs_owes_nothing_to_their_kind():
    """Over 300 seeds: each kind is in the first half of the sheet as often as in the second, and next to its own kind
    as often as a shuffled deck is."""
    rows, early, total, beside = population(30, 30, 30, 60), Counter(), Counter(), 0
    for seed in range(300):
        pairs = drawn(rows, 32, seed).pairs
        assert len(pairs) == 44
        total.update(pair.kind for pair in pairs)
        early.update(pair.kind for pair in pairs[:22])
        beside += sum(a.kind == b.kind for a, b in pairwise(pairs))
    for kind, times in early.items():
        assert binomtest(times, total[kind], 0.5).pvalue > 0.001
    same = sum(n * (n - 1) for n in (32, 8, 4)) / (44 * 43)
    assert beside / (300 * 43) == pytest.approx(same, abs=0.02)


def test_no_id_of_one_draw_is_an_id_of_another():
    """Or a table filled for one audit would be taken for verdicts on the pairs of another."""
    rows = population(10, 10, 10)
    keys = [drawn(rows, 12, 0), drawn(rows, 12, 1), drawn(rows[1:], 12, 0), drawn(rows[:5], 12, 0)]
    assert len({pair.id for key in keys for pair in key.pairs}) == sum(len(key.pairs) for key in keys)


def test_the_order_of_the_pairs_owes_nothing_to_t():
    rows, slopes = population(30, 30, 30), []
    for seed in range(200):
        t = [pair.statistic for pair in of(drawn(rows, 40, seed), "candidate")]
        slopes.append(np.corrcoef(np.arange(len(t)), t)[0, 1])
    assert abs(np.mean(slopes)) < 4 * np.std(slopes) / np.sqrt(200)


def test_a_key_reads_back_as_it_was_drawn(tmp_path):
    key = drawn(population(8, 8, 8, 8))
    data = draw.write(tmp_path / "review", key)
    assert (tmp_path / "review" / "key.json").read_bytes() == data
    assert draw.read(tmp_path / "review") == key
    assert draw.write(tmp_path / "again", draw.read(tmp_path / "review")) == data


def test_a_key_that_is_missing_is_told_from_one_that_is_damaged(tmp_path):
    with pytest.raises(Incomplete, match="no pairs were drawn yet"):
        draw.read(tmp_path / "review")
    data = json.loads(draw.write(tmp_path / "review", drawn(population(2, 2, 2))))
    path = tmp_path / "review" / "key.json"
    for broken in ("{", "[]", "3", json.dumps(data | {"pairs": [{"id": 1}]}), json.dumps({"format": 1})):
        path.write_text(broken)
        with pytest.raises(StoreError, match="no key of a draw") as caught:
            draw.read(tmp_path / "review")
        assert str(path) in str(caught.value)
