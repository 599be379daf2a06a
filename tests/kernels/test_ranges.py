"""All pairs within a radius against every distance in int64."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from byrote.kernels import ranges

from .levels import pictures

vectors = st.tuples(st.integers(1, 40), st.integers(1, 50)).flatmap(
    lambda shape: arrays(np.uint8, shape, elements=st.integers(0, 255) | st.sampled_from([0, 128, 255]))
)


def near(levels, radius):
    """List the pairs within a radius, one by one."""
    wide = levels.astype(np.int64)
    sums = ((wide[:, None] - wide[None]) ** 2).sum(2)
    return np.argwhere(np.triu(np.sqrt(sums / levels.shape[1]) / 255 <= radius, 1)).tolist()


@pytest.fixture
def leaves(monkeypatch):
    """Let the bounds work on few vectors too."""
    monkeypatch.setattr(ranges, "_FEW", 0)
    monkeypatch.setattr(ranges, "_LEAF", 6)
    monkeypatch.setattr(ranges, "_COLUMNS", 16)
    monkeypatch.setattr(ranges, "_EXACT", 128)


@given(vectors, st.floats(0, 1))
def test_pairs_are_all_there_and_no_others(levels, radius):
    assert ranges.within(levels, radius).tolist() == near(levels, radius)


@given(vectors, st.floats(0, 1))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_pairs_are_all_there_by_the_bounds_too(leaves, levels, radius):
    assert ranges.within(levels, radius).tolist() == near(levels, radius)


@pytest.mark.parametrize("radius", [-0.1, 0.0, 0.004, 0.05, 0.2])
def test_hundreds_of_pictures_are_paired_exactly(monkeypatch, radius):
    monkeypatch.setattr(ranges, "_FEW", 1000)
    monkeypatch.setattr(ranges, "_LEAF", 64)
    levels = pictures(1300, 400)
    wide = levels.astype(np.float64)
    sums = np.stack([((wide - row) ** 2).sum(1) for row in wide])
    truth = np.argwhere(np.triu(np.sqrt(sums / 400) / 255 <= radius, 1))
    assert (ranges.within(levels, radius) == truth).all()


def test_parts_together_are_all_pairs_each_once(leaves):
    levels = pictures(400, 60)
    whole = ranges.within(levels, 0.2)
    parts = np.concatenate([ranges.within(levels, 0.2, part=k, parts=3) for k in range(3)])
    assert len(whole) > 500
    assert sorted(parts.tolist()) == whole.tolist()


def test_equal_vectors_are_all_pairs(leaves):
    assert len(ranges.within(np.full((110, 40), 9, np.uint8), 0.0)) == 110 * 109 // 2


def test_one_vector_has_no_pair():
    assert ranges.within(np.zeros((1, 12), np.uint8), 1.0).tolist() == []
    assert ranges.within(np.zeros((0, 12), np.uint8), 1.0).tolist() == []


def test_similar_unit_vectors_are_those_of_every_product(monkeypatch):
    monkeypatch.setattr(ranges, "_LEAF", 7)
    dice = np.random.default_rng(1)
    units = dice.standard_normal((60, 9)).astype(np.float32)
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    expected = np.argwhere(np.triu(units @ units.T >= 0.6, 1)).tolist()
    assert 5 < len(expected) < 1000
    assert ranges.similar(units, 0.6).tolist() == expected
    assert ranges.similar(units[:0], 0.6).tolist() == []
