"""Cliques against a list of all of them."""

from itertools import combinations

import networkx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from byrote.kernels import cliques
from byrote.kernels.distance import block_means, paired_tiled, tiled

PLENTY = 10**9


@st.composite
def graphs(draw, most=14):
    n = draw(st.integers(0, most))
    adjacency = np.zeros((n, n), bool)
    for i, j in combinations(range(n), 2):
        adjacency[i, j] = adjacency[j, i] = draw(st.booleans())
    return adjacency


def first_largest(adjacency):
    """List all maximal cliques and take the largest, first in lexical order."""
    every = [tuple(sorted(c)) for c in networkx.find_cliques(networkx.from_numpy_array(adjacency))]
    return min((c for c in every if len(c) == max(map(len, every))), default=())


@settings(max_examples=300)
@given(graphs())
def test_the_largest_clique_is_the_lexically_first_of_the_largest(adjacency):
    assert cliques.largest_clique(adjacency, PLENTY) == (first_largest(adjacency), True)


@given(graphs(), st.integers(1, 9))
def test_a_clique_of_a_size_is_found_exactly_where_there_is_one(adjacency, size):
    found = cliques.clique_of(adjacency, size)
    assert (found is not None) == (len(first_largest(adjacency)) >= size)
    if found is not None:
        assert len(set(found)) == size
        assert all(adjacency[i, j] for i, j in combinations(found, 2))


@pytest.mark.parametrize("density", [0.1, 0.5, 0.8, 0.95])
def test_larger_random_graphs_agree_with_networkx(density):
    rng = np.random.default_rng(int(100 * density))
    upper = np.triu(rng.random((45, 45)) < density, 1)
    adjacency = upper | upper.T
    members, done = cliques.largest_clique(adjacency, PLENTY)
    _, size = networkx.max_weight_clique(networkx.from_numpy_array(adjacency), weight=None)
    assert done
    assert len(members) == size
    assert all(adjacency[i, j] for i, j in combinations(members, 2))
    assert cliques.clique_of(adjacency, size + 1) is None


def test_a_complete_graph_of_hundreds_is_one_clique():
    adjacency = ~np.eye(400, dtype=bool)
    assert cliques.largest_clique(adjacency, PLENTY) == (tuple(range(400)), True)


def test_too_few_steps_give_a_clique_that_is_not_called_the_largest():
    rng = np.random.default_rng(0)
    upper = np.triu(rng.random((120, 120)) < 0.8, 1)
    adjacency = upper | upper.T
    members, done = cliques.largest_clique(adjacency, 20_000)
    assert not done
    assert len(members) > 3
    assert all(adjacency[i, j] for i, j in combinations(members, 2))


@given(graphs(), st.integers(0, 6))
def test_the_core_is_that_of_networkx(adjacency, k):
    graph = networkx.from_numpy_array(adjacency)
    assert np.flatnonzero(cliques.peel(adjacency, k)).tolist() == sorted(networkx.k_core(graph, k))


def truth(samples, tiles, within):
    """Measure every pair and list every clique."""
    n = len(samples)
    i, j = np.repeat(np.arange(n), n), np.tile(np.arange(n), n)
    far = paired_tiled(samples[i], samples[j], tiles=tiles).reshape(n, n)
    return first_largest((far <= within) & ~np.eye(n, dtype=bool)), far


def check(found, samples, tiles, within, least):
    members, far = truth(samples, tiles, within)
    assert found.found == (len(members) >= least)
    assert found.largest
    assert found.members == members
    above = np.triu_indices(len(members), 1)
    spread = far[np.ix_(members, members)][above].mean() if len(members) > 1 else None
    assert found.spread == pytest.approx(spread, rel=1e-12) if spread is not None else found.spread is None


def crowd(rng, n, side, copies, noise, spread):
    """Draw images of coarse and fine parts, some of them noisy copies of one."""
    coarse = rng.normal(0, spread, (n, side // 8, side // 8, 3)).repeat(8, 1).repeat(8, 2)
    plain = 128 + coarse + rng.normal(0, 12, (n, side, side, 3))
    chosen = rng.choice(n, copies, replace=False)
    plain[chosen] = plain[chosen[0]] + rng.normal(0, 1, (copies, side, side, 3)) * noise
    return np.clip(np.rint(plain), 0, 255).astype(np.uint8)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 2**32),
    st.integers(1, 24),
    st.floats(0, 1),
    st.sampled_from([0, 10, 30]),
    st.sampled_from([1, 12, 40]),
    st.integers(1, 8),
    st.sampled_from([None, 2, 4]),
    st.booleans(),
)
def test_find_is_exact_by_every_way(seed, n, share, noise, spread, least, blocks, small):
    samples = crowd(np.random.default_rng(seed), n, 16, max(1, int(share * n)), noise, spread)
    within = float(np.quantile(tiled(samples, samples, tiles=2), np.random.default_rng(seed).random()))
    means = None if blocks is None else block_means(samples, blocks)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cliques, "_PLAIN", 2**26 if small else 0)
        patch.setattr(cliques, "_SPARSE", 4)
        patch.setattr(cliques, "_FINE", 1)
        args = {"tiles": 2, "within": within, "least": least}
        check(cliques.find(samples, means, seconds=1e6, **args), samples, 2, within, least)
        asked = cliques.find(samples, means, seconds=0.0, **args)
    members, far = truth(samples, 2, within)
    assert asked.found == (len(members) >= least)
    assert len(asked.members) >= (least if asked.found else 1)
    assert (far[np.ix_(asked.members, asked.members)] <= within).all()
    assert not asked.largest or len(asked.members) == len(members)


@pytest.mark.parametrize(
    ("copies", "noise", "within"), [(1, 0, 0.1), (10, 4, 0.1), (9, 4, 0.1), (40, 4, 0.1), (12, 14, 0.08)]
)
@pytest.mark.parametrize("kept", [True, False])
def test_forty_samples_of_128_pixels_are_searched_exactly(copies, noise, within, kept):
    samples = crowd(np.random.default_rng(copies), 40, 128, copies, noise, 20)
    means = block_means(samples, 16) if kept else None
    found = cliques.find(samples, means, tiles=4, within=within, least=10, seconds=100.0)
    check(found, samples, 4, within, 10)


def test_samples_alike_in_layout_but_not_in_detail_are_told_apart_by_measuring():
    rng = np.random.default_rng(3)
    layout = rng.normal(0, 20, (8, 8, 3)).repeat(16, 0).repeat(16, 1)
    samples = np.clip(128 + layout + rng.normal(0, 30, (30, 128, 128, 3)), 0, 255).astype(np.uint8)
    asked = cliques.find(samples, block_means(samples, 16), tiles=4, within=0.1, least=10, seconds=0.0)
    assert not asked.found
    check(cliques.find(samples, None, tiles=4, within=0.1, least=10, seconds=10.0), samples, 4, 0.1, 10)


def test_an_edge_is_a_distance_of_exactly_within():
    samples = np.zeros((2, 8, 8, 3), np.uint8)
    samples[1, :4, :4] = 51
    args = {"tiles": 2, "least": 2, "seconds": 1.0}
    assert cliques.find(samples, None, within=0.2, **args).members == (0, 1)
    assert cliques.find(samples, None, within=np.nextafter(0.2, 0), **args).members == (0,)


def test_no_samples_and_one_sample_are_cliques_of_their_own_size():
    none, one = np.zeros((0, 8, 8, 3), np.uint8), np.zeros((1, 8, 8, 3), np.uint8)
    args = {"tiles": 2, "within": 0.1, "seconds": 1.0}
    assert cliques.find(none, None, least=1, **args) == cliques.CliqueResult(False, (), True, None)
    assert cliques.find(one, None, least=1, **args) == cliques.CliqueResult(True, (0,), True, None)
    assert cliques.find(one, None, least=2, **args) == cliques.CliqueResult(False, (0,), True, None)


def test_a_clique_of_nobody_is_refused():
    with pytest.raises(ValueError, match="least must be 1"):
        cliques.find(np.zeros((1, 8, 8, 3), np.uint8), None, tiles=2, within=0.1, least=0, seconds=1.0)


def test_means_of_other_samples_are_refused():
    samples = np.zeros((3, 8, 8, 3), np.uint8)
    with pytest.raises((ValueError, TypeError)):
        cliques.find(samples, block_means(samples[:2], 2), tiles=2, within=0.1, least=2, seconds=1.0)
