"""Measure tau: how near pictures that no audit uses come to the corpus by chance."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np

from byrote import images, sources
from byrote.audit import Audit
from byrote.before.trial import size_of
from byrote.chain import run
from byrote.descriptors.thumbnail import Thumbnail
from byrote.domain import RGB
from byrote.errors import CorpusError
from byrote.kernels.rates import upper_bound
from byrote.kernels.search import Nearest
from byrote.stages import Progress, match

BATCH = 256


@dataclass(frozen=True, slots=True)
class Measured:
    """tau from a second held-out draw. Of its `pictures` at most `share` come within `closest` of the corpus.

    `reached` did; `share_at_most` is the exact one-sided 95 % bound of the share of all such pictures. `left_out` were
    near-duplicates of the corpus or of its controls, or unreadable. `draw` is a digest of the pictures measured.
    """

    closest: float
    share: float
    pictures: int
    reached: int
    share_at_most: float
    left_out: int
    draw: str
    nearest: tuple[float, ...]


def measure(root: Path, source: str, *, share: float, progress: Progress) -> Measured:
    """Measure tau for an audit on a second draw and write it into the ledger. Raises ByroteError."""
    if not 0 < share < 1:
        raise CorpusError(f"share is {share}; it takes a number between 0 and 1")
    run(root, until="prompts", progress=progress)
    audit = Audit(root)
    size = size_of(audit)
    kept, left_out = _second_draw(audit, source, size)
    if not kept:
        raise CorpusError(
            f"{source}: no picture of it is of use: {left_out} are near-duplicates of the corpus or broken"
        )
    distances = np.sort(np.concatenate(list(_distances(audit, kept, progress))))
    measured = _measured(
        distances, share, left_out, sha256("\n".join(sorted(map(images.digest, kept))).encode()).hexdigest()
    )
    with audit.store.locked():
        audit.store.log("tau", asdict(measured))
    return measured


def _measured(distances: np.ndarray, share: float, left_out: int, draw: str) -> Measured:
    """Take the largest whole hundredth that at most `share` of the draw reach."""
    n = len(distances)
    allowed = math.floor(share * n + 1e-9)
    closest = max(0.0, (math.ceil(float(distances[allowed]) * 100 - 1e-9) - 1) / 100) if allowed < n else 1.0
    reached = int((distances <= closest).sum())
    nearest = tuple(round(float(d), 4) for d in distances[:5])
    return Measured(closest, share, n, reached, upper_bound(reached, n), left_out, f"sha256:{draw}", nearest)


def _second_draw(audit: Audit, source: str, size: tuple[int, int]) -> tuple[list[RGB], int]:
    """Read the pictures at the size of the samples; leave out what resembles anything of the corpus."""
    digests = sorted({row.digest for row in audit.corpus.pictures})
    index = Nearest(audit.corpus.vectors(digests))
    limit = (audit.plan.corpus.near * 255) ** 2 * Thumbnail().dimensions
    kept, left_out = [], 0
    for image in _images(source):
        squared = np.inf if image is None else index.search(Thumbnail().describe([image]), 1)[0][0, 0]
        if image is None or squared <= limit:
            left_out += 1
        else:
            kept.append(images.fit(image, *size))
    return kept, left_out


def _images(source: str) -> Iterator[RGB | None]:
    opened = sources.open(source)
    for item in opened.list():
        try:
            yield images.decode(opened.read(item.where))
        except (OSError, images.Undecodable):
            yield None


def _distances(audit: Audit, kept: list[RGB], progress: Progress) -> Iterator[np.ndarray]:
    for k in range(0, len(kept), BATCH):
        progress("tau", k, len(kept), "pictures")
        yield match.nearest_picture(audit.recipes.look, audit.model, np.stack(kept[k : k + BATCH]))
    progress("tau", len(kept), len(kept), "pictures")
