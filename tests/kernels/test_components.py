"""Components against a search that walks the edges."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from byrote.kernels.components import components


def walk(n, pairs):
    """Spread labels along edges until nothing changes, then count them in order of appearance."""
    label = list(range(n))
    for _ in range(n):
        for i, j in pairs:
            label[i] = label[j] = min(label[i], label[j])
    order = list(dict.fromkeys(label))
    return [order.index(x) for x in label]


@st.composite
def graphs(draw):
    n = draw(st.integers(1, 20))
    node = st.integers(0, n - 1)
    return n, draw(st.lists(st.tuples(node, node), max_size=30))


@given(graphs())
def test_labels_are_those_of_a_walk_and_count_by_first_member(graph):
    n, pairs = graph
    labels = components(n, np.array(pairs, np.int64).reshape(-1, 2))
    assert labels.dtype == np.int64
    assert labels.tolist() == walk(n, pairs)


def test_an_edge_given_300_times_is_still_an_edge():
    assert components(2, np.array([[0, 1]] * 256 + [[1, 0]] * 256)).tolist() == [0, 0]


def test_no_nodes_have_no_labels():
    assert components(0, np.zeros((0, 2), np.int64)).tolist() == []


def test_a_pair_outside_the_nodes_is_refused():
    with pytest.raises(ValueError, match="outside 0 to 2"):
        components(3, np.array([[0, 3]]))
