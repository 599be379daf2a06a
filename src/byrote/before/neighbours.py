"""Find what an image is a near-duplicate of, by the rule that made the groups."""

import numpy as np

from byrote import images
from byrote.corpus import WHOLE, Corpus
from byrote.descriptors.whole import Whole
from byrote.domain import RGB
from byrote.kernels.search import Nearest


class Neighbours:
    """Every distinct picture and control of a corpus, indexed by the thumbnails of whole pictures."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus
        self._index = Nearest(corpus.vectors(corpus.distinct, WHOLE))

    def nearest(self, image: RGB) -> tuple[float, str]:
        """Return the RMS distance to the nearest, as it stands, and its digest."""
        digest = images.digest(image)
        if digest in self._corpus.by_digest:
            return 0.0, digest
        squared, near = self._index.search(Whole().describe([image]), 1)
        return float(np.sqrt(squared[0, 0] / Whole().dimensions)) / 255, self._corpus.distinct[near[0, 0]]
