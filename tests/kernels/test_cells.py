"""Pairs through an inverted file against every product."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from byrote.kernels import cells as kernel
from byrote.kernels.cells import Cells, Filed, above

LEAST = 0.8


def unit(n, d, seed, crowds=6):
    """Draw unit vectors in a few crowds, so that many products are large."""
    rng = np.random.default_rng(seed)
    crowd = rng.standard_normal((crowds, d))[rng.integers(0, crowds, n)]
    drawn = crowd + 0.5 * rng.standard_normal((n, d))
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


def found(vectors, queries, count, visits, least=LEAST):
    cells = Cells.learn(vectors, count)
    filed = Filed.of(vectors, cells.nearest(vectors, 1)[:, 0], len(cells.centres))
    return list(above(filed, queries, cells.nearest(queries, visits), least))


def pairs(yielded):
    listed = [(int(q), int(k)) for query, ids, _ in yielded for q, k in zip(query, ids, strict=True)]
    assert len(listed) == len(set(listed))
    return set(listed)


def truth(vectors, queries, least=LEAST):
    products = queries.astype(np.float64) @ vectors.astype(np.float64).T
    return {(int(q), int(k)) for q, k in np.argwhere(products >= least)}


def clear(vectors, queries, least=LEAST):
    """Tell whether no product is so near the line that rounding decides."""
    return np.abs(queries.astype(np.float64) @ vectors.astype(np.float64).T - least).min() > 1e-6


@given(st.integers(1, 60), st.integers(1, 20), st.integers(1, 9), st.integers(0, 10**6))
def test_where_all_cells_are_visited_the_pairs_are_all_pairs(n, q, count, seed):
    vectors, queries = unit(n, 5, seed), unit(q, 5, seed + 1)
    if clear(vectors, queries):
        assert pairs(found(vectors, queries, count, count)) == truth(vectors, queries)


@given(st.integers(2, 80), st.integers(2, 9), st.integers(1, 3), st.integers(0, 10**6))
def test_where_fewer_are_visited_the_pairs_are_some_of_them_with_their_products(n, count, visits, seed):
    vectors = unit(n, 5, seed)
    some = found(vectors, vectors, count, visits)
    assert pairs(some) <= truth(vectors, vectors, LEAST - 1e-6)
    assert {(k, k) for k in range(n)} <= pairs(some)  # its own cell is the nearest
    for query, ids, products in some:
        assert np.allclose(products, (vectors[query] * vectors[ids]).sum(1), atol=1e-5)


def test_few_visits_find_most_pairs_of_crowds_and_miss_some_that_lie_across():
    vectors = unit(1500, 8, 3, crowds=40)
    all_of_them = truth(vectors, vectors)
    one, four = (pairs(found(vectors, vectors, 50, visits)) for visits in (1, 4))
    assert one < four <= all_of_them
    assert 0.5 < len(one) / len(all_of_them) < 1
    assert len(four) / len(all_of_them) > 0.95


def test_blocks_make_no_difference(monkeypatch):
    vectors = unit(300, 6, 1)
    at_once = found(vectors, vectors, 12, 3)
    monkeypatch.setattr(kernel, "_BLOCK", 50)
    assert pairs(found(vectors, vectors, 12, 3)) == pairs(at_once)


def test_every_vector_lies_in_its_nearest_cell_and_in_no_other():
    vectors = unit(200, 6, 2)
    cells = Cells.learn(vectors, 15)
    own = cells.nearest(vectors, 1)[:, 0]
    filed = Filed.of(vectors, own, len(cells.centres))
    assert sorted(filed.order.tolist()) == list(range(200))
    assert (filed.vectors == vectors[filed.order]).all()
    assert filed.starts[0] == 0
    assert filed.starts[-1] == 200
    for cell in range(len(cells.centres)):
        held = filed.order[filed.starts[cell] : filed.starts[cell + 1]]
        assert (own[held] == cell).all()
    assert (own == (vectors @ cells.centres.T).argmax(1)).all()


@pytest.mark.parametrize("visits", [1, 2, 7, 99])
def test_the_nearest_cells_are_those_of_the_largest_products(visits):
    vectors = unit(100, 6, 4)
    cells = Cells.learn(vectors, 7)
    expected = np.argsort(-(vectors @ cells.centres.T), axis=1)[:, : min(visits, 7)]
    assert [set(row) for row in cells.nearest(vectors, visits)] == [set(row) for row in expected]


def test_learning_is_the_same_for_the_same_seed_and_gives_unit_vectors():
    vectors = unit(400, 6, 5)
    one, again, other = Cells.learn(vectors, 20), Cells.learn(vectors, 20), Cells.learn(vectors, 20, seed=1)
    assert (one.centres == again.centres).all()
    assert not np.array_equal(one.centres, other.centres)
    assert np.allclose(np.linalg.norm(one.centres, axis=1), 1, atol=1e-5)


def test_learning_brings_centres_nearer_to_the_vectors_than_those_it_began_with():
    vectors = unit(600, 6, 6, crowds=30)
    learned = Cells.learn(vectors, 30).centres
    start = vectors[np.sort(np.random.default_rng(1).choice(600, 30, replace=False))]
    assert (vectors @ learned.T).max(1).mean() > (vectors @ start.T).max(1).mean() + 0.01


@pytest.mark.parametrize("n", [1, 3])
def test_there_are_no_more_cells_than_vectors(n):
    vectors = unit(n, 6, 7)
    assert len(Cells.learn(vectors, 10).centres) == n
    assert pairs(found(vectors, vectors, 10, 10, least=-1.1)) == {(a, b) for a in range(n) for b in range(n)}


def test_vectors_of_zeros_are_in_no_pair():
    vectors = np.concatenate([np.zeros((5, 6), np.float32), unit(20, 6, 8)])
    assert all(q >= 5 <= k for q, k in pairs(found(vectors, vectors, 4, 4)))
