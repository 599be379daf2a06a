"""Tell whether an image is a near-duplicate of a picture of a corpus, by the thresholds that made its groups."""

import numpy as np

from byrote import images
from byrote.corpus import WHOLE, Corpus
from byrote.descriptors.whole import SIDE, Whole
from byrote.domain import RGB
from byrote.kernels.register import register
from byrote.kernels.search import Nearest
from byrote.kernels.waves import WHOLE as ALL
from byrote.kernels.waves import corners
from byrote.plan import CorpusPlan

LOOKED = 8


class Neighbours:
    """Every distinct picture and control of a corpus, indexed by the thumbnails of whole pictures."""

    def __init__(self, corpus: Corpus, plan: CorpusPlan) -> None:
        self._known, self._plan = set(corpus.distinct), plan
        self._thumbnails = corpus.vectors(corpus.distinct, WHOLE)
        self._index = Nearest(self._thumbnails)

    def holds(self, image: RGB) -> bool:
        """Say whether a picture is near as it stands, or has evidence enough, among the nearest as they stand.

        Turned and cropped copies are not looked for.
        """
        if images.digest(image) in self._known:
            return True
        own = Whole().describe([image])
        squared, near = self._index.search(own, min(LOOKED, len(self._thumbnails)))
        if float(np.sqrt(squared[0, 0] / own.shape[1])) / 255 <= self._plan.near:
            return True
        others = self._thumbnails[near[0]].reshape(-1, SIDE, SIDE, 3)
        shown = np.repeat(own.reshape(1, SIDE, SIDE, 3), len(others), axis=0)
        evidence = register(others, shown, np.repeat(corners([ALL]), len(others), axis=0)).evidence
        return bool(evidence.max() >= self._plan.alike)
