"""What a page shows of a pair: sample and picture at one scale, ready to be sent."""

from collections import OrderedDict
from collections.abc import Iterable
from threading import Lock

from byrote import images
from byrote.domain import RGB
from byrote.kernels import align
from byrote.review.pairs import Shown
from byrote.review.sheets import Look, replant

EDGE = 768
"""The longer side at most, in pixels (ours): what fits beside another on a screen, and can be zoomed into."""
QUALITY = 95
KEPT = 128
"""Pairs whose images stay in memory."""

SIDES = ("sample", "picture", "aligned")
Both = tuple[bytes, bytes, bytes]
"""The JPEGs of a pair, in the order of `SIDES`."""


class Looks:
    """Makes the JPEGs of a pair and keeps the last ones; one at a time, from any thread.

    Both are cut about the centre to the aspect of the samples and have their size, `EDGE` at most, so that neither
    size nor traces of packing tell a planted copy from a sample.
    """

    def __init__(self, picture: Look, sample: Look, size: tuple[int, int] | None) -> None:
        self._picture, self._sample, self._size = picture, sample, size
        self._kept: OrderedDict[str, Both | None] = OrderedDict()
        self._lock = Lock()

    def both(self, pair: Shown) -> Both | None:
        """Return sample, picture and the picture moved onto the sample as JPEG, or None where either is gone."""
        with self._lock:
            if pair.id in self._kept:
                self._kept.move_to_end(pair.id)
                return self._kept[pair.id]
            made = self._kept[pair.id] = self._made(pair)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
            return made

    def one(self, digest: str, of: str) -> bytes | None:
        """Return a sample or a picture by its digest, at the size of all others, or None where it is gone."""
        with self._lock:
            found = (self._sample if of == "sample" else self._picture)(digest)
            return None if found is None else images.encode_jpeg(self._fitted(found), QUALITY)

    def _made(self, pair: Shown) -> Both | None:
        right = self._picture(pair.picture)
        if right is None:
            return None
        planted = not pair.sample
        left = replant(right, pair.picture, self._size or right.shape[:2]) if planted else self._sample(pair.sample)
        if left is None:
            return None
        height, width = left.shape[:2]
        sample, picture = (images.encode_jpeg(self._fitted(image), QUALITY) for image in (left, right))
        if pair.move == align.IDENTITY:
            return sample, picture, picture
        moved = align.move(images.fit(right, width, height), pair.move)
        return sample, picture, images.encode_jpeg(self._fitted(moved), QUALITY)

    def _fitted(self, image: RGB) -> RGB:
        height, width = self._size or image.shape[:2]
        scale = min(1.0, EDGE / max(height, width))
        return images.fit(image, max(1, round(width * scale)), max(1, round(height * scale)))


def size_of(samples: Iterable[str], look: Look) -> tuple[int, int] | None:
    """Return (height, width) of the first sample that is still there."""
    for digest in samples:
        found = look(digest) if digest else None
        if found is not None:
            return found.shape[0], found.shape[1]
    return None
