"""Find what an image is a near-duplicate of, by the rule that made the groups."""

import numpy as np

from byrote import images
from byrote.corpus import Corpus
from byrote.descriptors.thumbnail import Thumbnail
from byrote.domain import RGB
from byrote.kernels.distance import paired_rms
from byrote.kernels.search import Nearest
from byrote.stages.near import FINE

CANDIDATES = 10
"""Nearest by thumbnail that are looked at pixel by pixel: ours."""


class Neighbours:
    """Every distinct picture and control of a corpus, indexed."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus
        self._digests = sorted(corpus.by_digest)
        self._index = Nearest(corpus.vectors(self._digests))

    def nearest(self, image: RGB) -> tuple[float, str]:
        """Return the distance to the nearest and its digest: the larger of the RMS of both thumbnails and of pixels.

        Both must be near for two pictures to be of one group. +inf where the nearest are gone from their places.
        """
        digest = images.digest(image)
        if digest in self._corpus.by_digest:
            return 0.0, digest
        squared, near = self._index.search(Thumbnail().describe([image]), CANDIDATES)
        seen = np.sqrt(squared[0] / Thumbnail().dimensions) / 255
        names = [self._digests[k] for k in near[0]]
        return min((max(float(d), self._apart(image, name)), name) for d, name in zip(seen, names, strict=True))

    def _apart(self, image: RGB, digest: str) -> float:
        other = self._corpus.pixels(digest)
        if other is None:
            return np.inf
        a, b = (images.fit(each, FINE, FINE)[None] for each in (image, other))
        return float(paired_rms(a, b)[0])
