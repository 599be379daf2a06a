"""Clusters of vectors, and how close together each one is."""

import numpy as np
from jaxtyping import Float32, Float64, Int64
from numpy import ndarray

STARTS = 4


def clusters(vectors: Float32[ndarray, "n d"], count: int, *, seed: int) -> Int64[ndarray, " n"]:
    """Label vectors by k-means, 0 to count - 1: the best of four starts of k-means++.

    Arthur and Vassilvitskii 2007, by scikit-learn. Raises ValueError for fewer vectors than clusters.
    """
    from sklearn.cluster import KMeans

    labels: ndarray = KMeans(count, n_init=STARTS, random_state=seed).fit(vectors).labels_
    return labels.astype(np.int64)


def cohesion(vectors: Float32[ndarray, "n d"], labels: Int64[ndarray, " n"], count: int) -> Float64[ndarray, " count"]:
    """Return the mean cosine of each cluster's vectors with its centre, -1 to 1; 0 for a cluster of none.

    Chen et al. 2024 (SIDE), arXiv:2410.02467, who drop clusters below .5.
    """
    found = np.zeros(count)
    for label in np.unique(labels):
        own = vectors[labels == label].astype(np.float64)
        centre = own.mean(0)
        lengths = np.linalg.norm(own, axis=1) * np.linalg.norm(centre)
        found[label] = np.mean(own @ centre / np.maximum(lengths, 1e-12))
    return found


def directions(vectors: Float32[ndarray, "n d"]) -> Float32[ndarray, "n d"]:
    """Return where each vector lies from the mean of all, as a length of 1; one that lies there stays 0.

    Thumbnails all point the same way otherwise: a cosine of two is that of their brightness.
    """
    from_mean = vectors - vectors.mean(0)
    out: ndarray = from_mean / np.maximum(np.linalg.norm(from_mean, axis=1, keepdims=True), np.float32(1e-12))
    return out
