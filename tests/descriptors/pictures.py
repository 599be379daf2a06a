"""Pictures for the tests of descriptors: waves of low frequency, no files."""

import numpy as np


def drawn(seed, height=64, width=80):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / [[[height]], [[width]]]
    picture = np.zeros((height, width, 3))
    for _ in range(20):
        down, across, phase = rng.uniform(-30, 30), rng.uniform(-30, 30), rng.uniform(0, 7)
        picture += rng.normal(size=3) * np.cos(down * y + across * x + phase)[..., None]
    return np.clip(128 + 18 * picture, 0, 255).astype(np.uint8)
