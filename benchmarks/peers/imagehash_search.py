"""imagehash with an exhaustive search of ours: python imagehash_search.py FOLDER OUT.npz phash|dhash.

imagehash has no search of its own: hashes of 64 bits are compared here by XOR and a bit count in numpy, up to 16.
"""

import sys
from pathlib import Path

import imagehash
import measure
import numpy as np
from PIL import Image

RADIUS, BLOCK = 16, 256
METHODS = {"phash": imagehash.phash, "dhash": imagehash.dhash}


def find(folder: Path) -> measure.Found:
    """Hash all, and compare all with all."""
    began = measure.cpu()
    method = METHODS[sys.argv[3]]
    bits = np.stack([method(Image.open(folder / name)).hash.ravel() for name in measure.files(folder)])
    hashing = measure.cpu() - began
    words = np.packbits(bits, axis=1).view(np.uint64)[:, 0]
    found = [near(words, start) for start in range(0, len(words), BLOCK)]
    pairs, scores = np.concatenate([p for p, _ in found]), np.concatenate([s for _, s in found])
    return measure.Found(pairs, scores, {"hashing": hashing, "search": measure.cpu() - began - hashing})


def near(words: np.ndarray, start: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs i < j of a block of rows i within RADIUS, with their distances."""
    apart = np.bitwise_count(words[start : start + BLOCK, None] ^ words[None, start:])
    i, j = np.nonzero(apart <= RADIUS)
    return np.stack([i, j], 1)[i < j] + start, apart[i, j][i < j].astype(np.float64)


if __name__ == "__main__":
    measure.run(find, ("ImageHash", "numpy", "pillow", "scipy"))
