"""Vectors of levels that spread as pictures do."""

import numpy as np


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
