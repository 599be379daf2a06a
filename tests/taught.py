"""A parrot that knows a picture of its own for each of some captions."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from byrote import images, models
from byrote.kernels.distance import LEVELS
from byrote.models import Options
from byrote.models.parrot import texture

SIDE = 64


def parrot(folder: Path, repeats: Mapping[str, float]) -> models.Model:
    """Teach it that each caption brings its picture back in this share of samples."""
    return models.open(written(folder, repeats), Options())


def written(folder: Path, repeats: Mapping[str, float]) -> str:
    """Write it down, and return its URI."""
    lines = [f"width = {SIDE}\nheight = {SIDE}"]
    for k, (caption, share) in enumerate(repeats.items()):
        (folder / f"{k}.png").write_bytes(images.encode_png(_picture(k)))
        lines.append(f'[[knows]]\ncaption = "{caption}"\npicture = "{k}.png"\nrepeats = {share}')
    (folder / "parrot.toml").write_text("\n".join(lines), encoding="utf-8")
    return f"parrot:{folder / 'parrot.toml'}"


def _picture(k: int) -> images.RGB:
    """Draw a texture with a frame, so that there are edges to share."""
    drawn = texture(np.random.default_rng(k), SIDE, SIDE)
    drawn[8:-8, 8:-8] = LEVELS - drawn[8:-8, 8:-8]
    return drawn
