"""PDQ (pdqhash) with faiss's exhaustive binary index: python pdq_faiss.py FOLDER OUT.npz [dihedral].

Pairs up to Hamming 90 of 256. With "dihedral" the eight hashes of each picture are asked for, as its authors advise
for mirrors and turns. Pictures are opened with Pillow; nothing is filtered by PDQ's quality.
"""

import sys
from pathlib import Path

import faiss
import measure
import numpy as np
import pdqhash
from PIL import Image

RADIUS = 90


def find(folder: Path) -> measure.Found:
    """Hash all, index, and search by range."""
    faiss.omp_set_num_threads(1)
    began = measure.cpu()
    dihedral = "dihedral" in sys.argv
    hashes = np.stack([hashed(folder / name, dihedral) for name in measure.files(folder)])
    hashing = measure.cpu() - began
    packed = np.packbits(hashes.astype(np.uint8), axis=2)
    index = faiss.IndexBinaryFlat(packed.shape[2] * 8)
    index.add(np.ascontiguousarray(packed[:, 0]))
    found = [searched(index, packed[:, turn]) for turn in range(packed.shape[1])]
    together = measure.smallest(np.concatenate([pairs for pairs, _ in found]), np.concatenate([s for _, s in found]))
    seconds = {"hashing": hashing, "search": measure.cpu() - began - hashing}
    return measure.Found(together.pairs, together.scores, seconds)


def hashed(path: Path, dihedral: bool) -> np.ndarray:
    """Return the hash, or the eight: [1 or 8, 256]."""
    pixels = np.asarray(Image.open(path).convert("RGB"))
    if dihedral:
        return np.stack(pdqhash.compute_dihedral(pixels)[0])
    return pdqhash.compute(pixels)[0][None]


def searched(index: faiss.IndexBinaryFlat, asked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs [n, 2] within RADIUS, with their distances."""
    limits, distances, near = index.range_search(np.ascontiguousarray(asked), RADIUS)
    rows = np.repeat(np.arange(len(asked)), np.diff(limits.astype(np.int64)))
    return np.stack([rows, near], 1), distances


if __name__ == "__main__":
    measure.run(find, ("pdqhash", "faiss-cpu", "numpy", "pillow"))
