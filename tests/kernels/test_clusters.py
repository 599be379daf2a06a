"""Clusters and their cohesion, against slow definitions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from byrote.kernels.clusters import clusters, cohesion, directions


def test_groups_far_from_each_other_are_the_clusters():
    dice = np.random.default_rng(0)
    truth = np.repeat(np.arange(4), 25)
    vectors = (dice.standard_normal((4, 8)) * 10)[truth] + dice.standard_normal((100, 8)) * 0.1
    labels = clusters(vectors.astype(np.float32), 4, seed=0)
    assert len({(a, b) for a, b in zip(truth, labels, strict=True)}) == len(set(labels.tolist())) == 4
    assert np.array_equal(labels, clusters(vectors.astype(np.float32), 4, seed=0))


def test_more_clusters_than_vectors_are_refused():
    with pytest.raises(ValueError, match="n_clusters"):
        clusters(np.zeros((3, 2), np.float32), 4, seed=0)


@given(arrays(np.int8, (7, 3), elements=st.integers(-4, 4)), arrays(np.int64, 7, elements=st.integers(0, 2)))
def test_cohesion_is_the_mean_cosine_with_the_centre(vectors, labels):
    found = cohesion(vectors.astype(np.float32), labels, 4)
    for label in range(4):
        own = [vector.astype(float) for vector, its in zip(vectors, labels, strict=True) if its == label]
        centre = sum(own) / len(own) if own else np.zeros(3)
        cosines = [
            0.0 if (size := np.linalg.norm(v) * np.linalg.norm(centre)) < 1e-9 else v @ centre / size for v in own
        ]
        assert found[label] == pytest.approx(np.mean(cosines) if own else 0, abs=1e-6)
        assert -1.000001 <= found[label] <= 1.000001


def test_one_direction_has_a_cohesion_of_1_and_opposite_ones_of_0():
    vectors = np.array([[1, 2], [2, 4], [3, 0], [-3, 0]], np.float32)
    assert cohesion(vectors, np.array([0, 0, 1, 1]), 2) == pytest.approx([1, 0])


def test_directions_are_of_length_1_from_the_mean_and_brightness_of_all_is_gone():
    vectors = np.random.default_rng(0).random((20, 5)).astype(np.float32)
    found = directions(vectors)
    assert np.linalg.norm(found, axis=1) == pytest.approx(np.ones(20), abs=1e-5)
    assert np.allclose(found, directions(vectors + np.float32(3)), atol=1e-4)
    assert not directions(np.ones((4, 5), np.float32)).any()
