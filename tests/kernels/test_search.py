"""Nearest neighbours against every distance in int64."""

from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from byrote.kernels import search

from .levels import pictures


def truth(vectors, queries, k):
    """Sort all distances, ties by id."""
    sums = ((queries[:, None].astype(np.int64) - vectors[None]) ** 2).sum(2)
    ids = np.argsort(sums, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(sums, ids, 1), ids


def same(found, expected):
    return all(
        (a == b).all() and a.shape == b.shape and a.dtype == np.int64 for a, b in zip(found, expected, strict=True)
    )


@contextmanager
def cascade():
    """Take the cascade however few and short the vectors are."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"_PLAIN_ROWS": 1, "_PLAIN_VALUES": 1, "_COARSE": 3, "_FINE": 8}.items():
            patch.setattr(search, name, value)
        yield


few = st.sampled_from([0, 1, 128, 254, 255])
tables = st.tuples(st.integers(1, 20), st.integers(1, 5), st.sampled_from([12, 13, 48])).flatmap(
    lambda s: st.tuples(
        arrays(np.uint8, (s[0], s[2]), elements=few, fill=few), arrays(np.uint8, (s[1], s[2]), elements=few, fill=few)
    )
)


@given(tables, st.integers(1, 30))
def test_plain_search_is_exact(both, k):
    assert same(search.Nearest(both[0]).search(both[1], k), truth(*both, k))


@given(tables, st.integers(1, 30))
def test_the_cascade_is_exact_with_duplicates_and_constant_vectors(both, k):
    with cascade():
        assert same(search.Nearest(both[0]).search(both[1], k), truth(*both, k))


@pytest.mark.parametrize(("n", "d", "k"), [(1500, 768, 50), (1200, 3072, 7), (1100, 400, 1), (300, 12288, 50)])
def test_hundreds_of_pictures_are_searched_exactly_by_the_cascade(monkeypatch, n, d, k):
    monkeypatch.setattr(search, "_PLAIN_ROWS", 1000)
    vectors = pictures(n, d)
    queries = np.concatenate([vectors[[0, 3, 5, 7, 8, n // 3]], pictures(200, d, 1)[60:80]])
    found = search.Nearest(vectors).search(queries, k)
    for i in range(0, len(queries), 2):
        assert same([f[i : i + 2] for f in found], truth(vectors, queries[i : i + 2], k))


def test_of_equal_vectors_the_first_are_nearest():
    vectors = np.full((1100, 40), 9, np.uint8)
    with cascade():
        assert search.Nearest(vectors).search(vectors[:1], 5)[1].tolist() == [[0, 1, 2, 3, 4]]


def test_one_vector_is_its_own_neighbour():
    sums, ids = search.Nearest(np.zeros((1, 12), np.uint8)).search(np.ones((2, 12), np.uint8), 3)
    assert sums.tolist() == [[12], [12]]
    assert ids.tolist() == [[0], [0]]


def test_no_queries_find_nothing(monkeypatch):
    monkeypatch.setattr(search, "_PLAIN_ROWS", 1000)
    sums, ids = search.Nearest(pictures(1000, 400)).search(np.zeros((0, 400), np.uint8), 7)
    assert sums.shape == ids.shape == (0, 7)


@pytest.mark.parametrize("worth", [0, 8])
def test_vectors_that_no_bound_tells_apart_are_compared_outright_or_one_by_one(monkeypatch, worth):
    monkeypatch.setattr(search, "_PLAIN_ROWS", 1000)
    monkeypatch.setattr(search, "_WORTH", worth)
    vectors = np.random.default_rng(0).integers(0, 256, (1200, 500), np.uint8)
    queries = np.random.default_rng(1).integers(0, 256, (9, 500), np.uint8)
    assert same(search.Nearest(vectors).search(queries, 20), truth(vectors, queries, 20))


@pytest.mark.parametrize(("together", "held"), [(1, 1), (5, 1), (1, 1100 * 3)])
def test_blocks_of_queries_do_not_change_what_is_found(monkeypatch, together, held):
    vectors = pictures(1100, 400)
    monkeypatch.setattr(search, "_PLAIN_ROWS", 1000)
    whole = search.Nearest(vectors).search(vectors[:23], 5)
    monkeypatch.setattr(search, "_TOGETHER", together)
    monkeypatch.setattr(search, "_HELD", held)
    assert same(search.Nearest(vectors).search(vectors[:23], 5), whole)


@pytest.mark.parametrize(("n", "d"), [(1100, 400), (1100, 3072)])
def test_no_estimate_exceeds_the_ceiling_of_its_true_distance(n, d):
    """The derived slack: for copies, whose distance is 0, rounding alone would carry estimates over."""
    vectors = pictures(n, d)
    seen = search.Axes.learn(vectors, 382).see(vectors)
    sums = np.stack([((vectors.astype(np.int64) - query) ** 2).sum(1) for query in vectors[:40].astype(np.int64)])
    bare = []
    for level in (seen.coarse, seen.fine):
        estimates = level.estimates(level.asking(slice(40)), slice(None))
        own = level.norms[:40, None]
        assert (estimates <= np.asarray(level.ceiling(sums.astype(np.float64), own), np.float32)).all()
        bare.append((estimates > sums - own).any())
    assert all(bare)


@pytest.mark.parametrize(
    "vectors", [pictures(1600, 700), np.full((500, 600), 9, np.uint8), np.eye(300, 500, dtype=np.uint8)]
)
def test_axes_are_orthonormal_to_what_the_slack_allows(vectors):
    rows = search.Axes.learn(vectors, 382).rows
    assert np.abs(rows @ rows.T - np.eye(len(rows))).max() < 2.0**-33 / len(rows)


@pytest.mark.parametrize("d", [1, 511, 512, 513, 3072, 5000])
def test_products_of_extreme_levels_are_exact(d):
    rng = np.random.default_rng(d)
    levels = np.concatenate([np.full((2, d), 255), rng.choice([0, 254, 255], (20, d))])
    centred = np.stack([np.full(d, 127), np.full(d, -128), rng.choice([-128, 127], d)])
    for own in centred:
        found = search._products(levels.astype(np.float32), own.astype(np.float32))
        assert found.tolist() == (levels * own).sum(1).tolist()


@given(
    arrays(np.float32, st.tuples(st.integers(1, 3), st.integers(1, 60)), elements=st.floats(-9, 9, width=32)), st.data()
)
def test_enough_estimates_reach_the_bar(estimates, data):
    seeds = data.draw(st.integers(1, estimates.shape[1]))
    assert ((estimates <= search._bars(estimates, seeds)[:, None]).sum(1) >= seeds).all()
