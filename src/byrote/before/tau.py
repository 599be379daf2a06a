"""Measure tau: how near pictures that no audit uses come to the corpus by chance."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from byrote import images, sources
from byrote.audit import Audit
from byrote.before.neighbours import Neighbours
from byrote.before.trial import size_of
from byrote.chain import run
from byrote.domain import RGB
from byrote.errors import CorpusError
from byrote.kernels.rates import upper_bound
from byrote.sources import Listed, Source
from byrote.stages import Progress, match

BATCH = 256
Reals = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Measured:
    """tau from a second held-out draw. Of its `pictures` at most `share` come within `closest` of the corpus.

    `reached` did; `share_at_most` is the exact one-sided 95 % bound of the share of all such pictures (Clopper-Pearson
    of the most that were allowed to: the bound of that order statistic, whichever it turns out to be). `left_out` were
    near-duplicates of the corpus or of its controls, unreadable, or there already. `draw` is a digest of the pictures
    measured, `corpus` that of the corpus.
    """

    closest: float
    share: float
    pictures: int
    reached: int
    share_at_most: float
    left_out: int
    draw: str
    corpus: str
    nearest: tuple[float, ...]


def measure(root: Path, source: str, *, share: float, progress: Progress) -> Measured:
    """Measure tau for an audit on a second draw and write it into the ledger. Raises ByroteError."""
    if not 0 < share < 1:
        raise CorpusError(f"share is {share}; it takes a number between 0 and 1")
    opened = sources.open(source)
    listed = list(opened.list())
    run(root, until="prompts", progress=progress)
    audit = Audit(root)
    kept, left_out = _second_draw(audit, opened, listed, size_of(audit))
    if not kept:
        raise CorpusError(
            f"{source}: no picture of it is of use: {left_out} are near-duplicates of the corpus or broken; "
            "name a draw of its own"
        )
    closest, distances = _settled(audit, kept, share, progress)
    measured = Measured(
        closest=closest,
        share=share,
        pictures=len(distances),
        reached=int((distances <= closest).sum()),
        share_at_most=upper_bound(_allowed(distances, share), len(distances)),
        left_out=left_out,
        draw="sha256:" + sha256("\n".join(sorted(map(images.digest, kept))).encode()).hexdigest(),
        corpus=audit.corpus.digest,
        nearest=tuple(round(float(d), 4) for d in distances[:5]),
    )
    with audit.store.locked():
        audit.store.log("tau", asdict(measured))
    return measured


def _settled(audit: Audit, kept: list[RGB], share: float, progress: Progress) -> tuple[float, Reals]:
    """Measure, and again with a wider reach where tau comes out beyond what is aligned: twice at most.

    Beyond tau + .06 a pair is measured where it stands, which is too far; with the wider reach distances only fall, so
    that the second tau lies within it, and is of the very T that an audit with that tau takes.
    """
    reach = audit.plan.certify.closest
    while True:
        distances = np.sort(np.concatenate(list(_distances(audit, kept, reach, progress))))
        closest = _closest(audit, distances, share)
        if closest <= reach:
            return closest, distances
        reach = closest


def _closest(audit: Audit, distances: Reals, share: float) -> float:
    """Take the largest whole hundredth that at most `share` of the draw reach. Raises CorpusError."""
    allowed = _allowed(distances, share)
    if not np.isfinite(distances).all():
        raise CorpusError(
            f"{audit.corpus.root}: no picture of it is where it was indexed, so nothing can be measured; index it again"
        )
    if allowed == len(distances):
        return 1.0
    return max(0.0, (math.ceil(float(distances[allowed]) * 100 - 1e-9) - 1) / 100)


def _allowed(distances: Reals, share: float) -> int:
    return math.floor(share * len(distances) + 1e-9)


def _second_draw(
    audit: Audit, opened: Source, listed: Iterable[Listed], size: tuple[int, int]
) -> tuple[list[RGB], int]:
    """Read the pictures, each once, at the size of the samples; leave out what resembles anything of the corpus."""
    book = Neighbours(audit.corpus, audit.plan.corpus)
    kept: dict[str, RGB] = {}
    left_out = 0
    for image in _images(opened, listed):
        if image is None or images.digest(image) in kept or book.holds(image):
            left_out += 1
        else:
            kept[images.digest(image)] = images.fit(image, *size)
    return list(kept.values()), left_out


def _images(opened: Source, listed: Iterable[Listed]) -> Iterator[RGB | None]:
    for item in listed:
        try:
            yield images.decode(opened.read(item.where))
        except (OSError, images.Undecodable):
            yield None


def _distances(audit: Audit, kept: list[RGB], closest: float, progress: Progress) -> Iterator[Reals]:
    look = audit.recipes.look
    look = replace(look, plan=replace(look.plan, certify=replace(look.plan.certify, closest=closest)))
    for k in range(0, len(kept), BATCH):
        progress("tau", k, len(kept), "pictures")
        yield match.nearest_picture(look, audit.model, np.stack(kept[k : k + BATCH]))
    progress("tau", len(kept), len(kept), "pictures")
