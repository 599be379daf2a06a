"""Name pictures before sampling, so that a p-value may speak of one of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from byrote import images
from byrote.audit import Audit
from byrote.chain import run
from byrote.descriptors.thumbnail import Thumbnail
from byrote.domain import RGB
from byrote.errors import CorpusError
from byrote.kernels.search import Nearest
from byrote.stages import Progress

CANDIDATES = 10


@dataclass(frozen=True, slots=True)
class Named:
    """A picture that was named: the file, its picture in the corpus, how far they are apart, and whether in time."""

    file: str
    digest: str
    distance: float
    before_sampling: bool


def claim(root: Path, files: Sequence[Path], progress: Progress) -> list[Named]:
    """Find each file's picture in the corpus and write it down; all of them or none. Raises CorpusError."""
    run(root, until="dedupe", progress=progress)
    audit = Audit(root)
    found = [(file, *_find(audit, file)) for file in files]
    with audit.store.locked():
        for _, digest, _ in found:
            audit.store.log("claim", {"digest": digest})
    in_time = {each.digest: each.named for each in audit.claims()}
    return [Named(str(file), digest, distance, in_time[digest]) for file, digest, distance in found]


def _find(audit: Audit, file: Path) -> tuple[str, float]:
    """Return the nearest picture of the training set by the rule of near-duplicates, and its distance (RMS)."""
    image = _decoded(file)
    rows = {row.digest: row for row in audit.groups if row.side == "picture"}
    digests = sorted(rows)
    if images.digest(image) in rows:
        digest, distance = images.digest(image), 0.0
    else:
        index = Nearest(audit.corpus.vectors(digests))
        _, near = index.search(Thumbnail().describe([image]), min(CANDIDATES, len(digests)))
        distance, digest = min((_apart(image, audit.corpus.pixels(digests[k])), digests[k]) for k in near[0])
    _accept(audit, file, rows[digest].set_aside, distance)
    return digest, distance


def _accept(audit: Audit, file: Path, set_aside: bool, distance: float) -> None:
    near = audit.plan.corpus.near
    if distance > near:
        raise CorpusError(
            f"{file}: no picture of the corpus is a near-duplicate of it: the nearest is {distance:.3f} away, "
            f"{near} is the most; `byrote index` it with the training set"
        )
    if set_aside:
        raise CorpusError(f"{file}: its group touches pictures and controls, so it is tested on neither side")


def _apart(image: RGB, other: RGB | None) -> float:
    if other is None:
        return np.inf
    a, b = (images.fit(each, 64, 64).astype(np.float64) / 255 for each in (image, other))
    return float(np.sqrt(((a - b) ** 2).mean()))


def _decoded(file: Path) -> RGB:
    try:
        return images.decode(file.read_bytes())
    except (OSError, images.Undecodable) as error:
        raise CorpusError(f"{file}: cannot be read as a picture: {error}") from error
