"""Connected components of a graph given by its edges."""

import numpy as np
from jaxtyping import Int64
from numpy import ndarray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


def components(n: int, pairs: Int64[ndarray, "p 2"]) -> Int64[ndarray, " n"]:
    """Label the nodes 0 to n-1 by component; labels count from 0 in the order of each component's first node.

    Raises ValueError where a pair names a node that is not there.
    """
    if pairs.size and (pairs.min() < 0 or pairs.max() >= n):
        raise ValueError(f"a pair names a node outside 0 to {n - 1}")
    if n == 0:
        return np.zeros(0, np.int64)
    edges = coo_array((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    _, found = connected_components(edges.tocsr().astype(bool), directed=False)
    _, first, label = np.unique(found, return_index=True, return_inverse=True)
    place = np.empty(len(first), np.int64)
    place[np.argsort(first)] = np.arange(len(first))
    labels: ndarray = place[label]
    return labels
