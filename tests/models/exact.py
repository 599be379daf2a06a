"""A model whose denoiser is exact: it draws from a few pictures in a share of its samples, else from a normal law.

`exact:SHARE`, `exact:SHARE?shape=4` for images of 4 x 4. No prompts; states are pixels. With `lean=.1` it is on the way
from the normal law to the pictures: a tenth of the way in the logarithm of the density, as a fine-tune may be.
"""

from pathlib import Path

import numpy as np

from byrote.models import Options, settings
from byrote.models.denoiser import Level, Prediction

KIND = "models.exact:Exact"
KNOWN = 6
SPREAD, SHARP = 0.35, 0.1  # deviations of a pixel, of -1 to 1: of the normal law, and of what leads to a picture
STEPS = 20


def pictures(side: int = 8) -> np.ndarray:
    """Return the pictures that it knows."""
    return np.random.default_rng(7).integers(40, 216, (KNOWN, side, side, 3)).astype(np.uint8)


def copied(made: list[np.ndarray], known: np.ndarray, within: float = 0.05) -> np.ndarray:
    """Return for each sample the picture it is within RMS `within` of, or -1."""
    far = np.stack([np.sqrt(np.mean((np.stack(made) / 255.0 - one / 255.0) ** 2, axis=(1, 2, 3))) for one in known])
    return np.where(far.min(0) <= within, far.argmin(0), -1)


class Exact:
    """It, as a model and as its own denoiser."""

    name, tolerance, takes_text = "Exact", 1, False

    def __init__(self, rest: str, options: Options, relative_to: Path) -> None:
        share, given = settings(rest, {"shape": "side", "levels": "other levels", "lean": "a share"})
        self._share, self._side = float(share), int(given.get("shape", 8))
        self._turn = float(given.get("levels", 1))
        self.shape, self.size, self.guidance = (3, self._side, self._side), (self._side, self._side), 1.0
        self.digest = f"sha256:exact {rest}"
        self.evaluations_per_sample = self._steps = options.steps or STEPS
        self.asked = 0
        known, variance = self.encode(list(pictures(self._side))), 1e-6
        if lean := float(given.get("lean", 0)):
            variance = 1 / ((1 - lean) / SPREAD**2 + lean / SHARP**2)
            known *= variance * lean / SHARP**2
        self._means = np.concatenate([known, np.zeros((1, *self.shape))]).reshape(KNOWN + 1, -1)
        self._variances = np.array([variance] * KNOWN + [SPREAD**2])
        with np.errstate(divide="ignore"):
            self._weights = np.log([self._share / KNOWN] * KNOWN + [1 - self._share])

    def generate(self, requests):
        x, levels = self.start([request.seed for request in requests]), self.levels()
        for level, to in zip(levels, [*levels[1:], Level(0, 1, 0)], strict=True):
            eps, x0 = self.predict(x, level, [None] * len(x))
            x = np.float32(to.alpha) * np.clip(x0, -1, 1) + np.float32(to.sigma) * eps
        return self.decode(x)

    def round_trip(self, images):
        return None

    def white_box(self):
        return self

    def levels(self, steps=None):
        n = steps or self._steps
        return [self._at((k / n) ** 2 * 0.98 + 0.01) for k in range(n, 0, -1)]  # finer where there is little noise

    def _at(self, share):
        turn = share * self._turn * np.pi / 2
        return Level(share, float(np.cos(turn)), float(np.sin(turn)))

    def level(self, timestep):
        return self._at(timestep)

    def start(self, seeds):
        rows = [np.random.default_rng(seed).standard_normal(self.shape, np.float32) for seed in seeds]
        return np.stack([np.zeros(self.shape, np.float32), *rows])[1:]

    def encode(self, images):
        return np.stack(images).transpose(0, 3, 1, 2).astype(np.float32) / np.float32(127.5) - 1

    def decode(self, clean):
        return list(np.clip(np.round((clean + 1) * 127.5), 0, 255).astype(np.uint8).transpose(0, 2, 3, 1))

    def predict(self, x, level, prompts, *, text=None):
        self.asked += len(x)
        rows, alpha = x.reshape(len(x), 1, -1).astype(np.float64), level.alpha
        spread = alpha**2 * self._variances + level.sigma**2
        from_means = rows - alpha * self._means
        logits = self._weights - (from_means**2).sum(2) / spread / 2 - rows.shape[2] * np.log(spread) / 2
        likely = np.exp(logits - logits.max(1, keepdims=True))
        likely /= likely.sum(1, keepdims=True)
        each = self._means + (alpha * self._variances / spread)[:, None] * from_means
        x0 = (likely[..., None] * each).sum(1).reshape(x.shape)
        return Prediction(((x - alpha * x0) / level.sigma).astype(np.float32), x0.astype(np.float32))
