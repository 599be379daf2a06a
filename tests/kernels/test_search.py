"""Nearest neighbours and ranges against every distance in int64."""

from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from byrote.kernels import search


def truth(vectors, queries, k):
    """Sort all distances, ties by id."""
    sums = ((queries[:, None].astype(np.int64) - vectors[None]) ** 2).sum(2)
    ids = np.argsort(sums, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(sums, ids, 1), ids


def same(found, expected):
    return all(
        (a == b).all() and a.shape == b.shape and a.dtype == np.int64 for a, b in zip(found, expected, strict=True)
    )


def near(vectors, radius):
    """List the pairs within a radius, one by one."""
    n, d = vectors.shape
    wide = vectors.astype(np.int64)
    return [
        [i, j]
        for i in range(n)
        for j in range(i + 1, n)
        if np.sqrt(((wide[i] - wide[j]) ** 2).sum() / d) / 255 <= radius
    ]


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


@given(tables, st.floats(0, 1))
def test_pairs_within_a_radius_are_all_there_and_no_others(both, radius):
    expected = near(both[0], radius)
    assert search.within(both[0], radius).tolist() == expected
    with cascade():
        assert search.within(both[0], radius).tolist() == expected


def pictures(n, d, seed=0):
    """Draw vectors that have a few strong directions, as pictures have, some of them copied or nearly so."""
    rng = np.random.default_rng(seed)
    plain = rng.standard_normal((n, 40)) @ rng.standard_normal((40, d)) * 8 + 128 + rng.standard_normal((n, d)) * 9
    levels = np.clip(np.rint(plain), 0, 255).astype(np.uint8)
    levels[n // 2 : n // 2 + 30] = levels[3]
    levels[n // 3 : n // 3 + 30] = np.clip(levels[5].astype(int) + rng.integers(-1, 2, (30, d)), 0, 255)
    levels[7] = 0
    levels[8:10] = 255
    return levels


@pytest.mark.parametrize(("n", "d", "k"), [(1500, 768, 50), (1200, 3072, 7), (1100, 400, 1), (300, 12288, 50)])
def test_hundreds_of_pictures_are_searched_exactly_by_the_cascade(monkeypatch, n, d, k):
    monkeypatch.setattr(search, "_PLAIN_ROWS", 1000)
    vectors = pictures(n, d)
    queries = np.concatenate([vectors[[0, 3, 5, 7, 8, n // 3]], pictures(200, d, 1)[60:80]])
    found = search.Nearest(vectors).search(queries, k)
    for i in range(0, len(queries), 2):
        assert same([f[i : i + 2] for f in found], truth(vectors, queries[i : i + 2], k))


@pytest.mark.parametrize("radius", [-0.1, 0.0, 0.004, 0.05, 0.2])
def test_hundreds_of_pictures_are_paired_exactly_by_the_cascade(monkeypatch, radius):
    monkeypatch.setattr(search, "_PLAIN_ROWS", 1000)
    vectors = pictures(1300, 400)
    wide = vectors.astype(np.float64)
    sums = np.stack([((wide - row) ** 2).sum(1) for row in wide])
    truth = np.argwhere(np.triu(np.sqrt(sums / 400) / 255 <= radius, 1))
    assert (search.within(vectors, radius) == truth).all()


def test_all_vectors_equal_are_all_pairs():
    vectors = np.full((1100, 40), 9, np.uint8)
    with cascade():
        assert len(search.within(vectors, 0.0)) == 1100 * 1099 // 2
        assert search.Nearest(vectors).search(vectors[:1], 5)[1].tolist() == [[0, 1, 2, 3, 4]]


def test_one_vector_is_its_own_neighbour():
    sums, ids = search.Nearest(np.zeros((1, 12), np.uint8)).search(np.ones((2, 12), np.uint8), 3)
    assert sums.tolist() == [[12], [12]]
    assert ids.tolist() == [[0], [0]]
    assert search.within(np.zeros((1, 12), np.uint8), 1.0).tolist() == []
