"""What a page shows of a pair: sample and picture at one scale, ready to be sent."""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import replace
from threading import Lock

from byrote import images
from byrote.domain import RGB
from byrote.kernels import align
from byrote.kernels.align import Alignment
from byrote.review.pairs import Shown
from byrote.review.planted import Lefts, Look, Size

EDGE = 768
"""The longer side at most, in pixels (ours): what fits beside another on a screen, and can be zoomed into."""
QUALITY = 95
KEPT = 128
"""Pairs whose images stay in memory."""

SIDES = ("sample", "picture", "aligned")
MOVES = align.alignments(2, True, 0.9)
"""By which a picture may be moved onto a sample where both are `SMALL` pixels wide and high (ours)."""
SMALL, TILES = 64, 4

Both = tuple[bytes, bytes, bytes]
"""The JPEGs of a pair, in the order of `SIDES`."""


class Looks:
    """Makes the JPEGs of a pair and keeps the last ones; one at a time, from any thread.

    Both are cut about the centre to the aspect of the samples and have their size, `EDGE` at most, so that neither
    size nor traces of packing tell a planted copy from a sample. Planted copies are spoilt as the `real` pairs of
    (picture, sample) are.
    """

    def __init__(self, picture: Look, sample: Look, size: Size | None, real: Iterable[tuple[str, str]] = ()) -> None:
        self._picture, self._sample, self._size = picture, sample, size
        self._lefts = Lefts(picture, sample, size, real)
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
        left = None if right is None else self._lefts.of(pair.picture, pair.sample, right)
        if right is None or left is None:
            return None
        height, width = left.shape[:2]
        fitted = images.fit(right, width, height)
        to = nearest(left, fitted) if pair.move is None else pair.move
        sample, picture = (images.encode_jpeg(self._fitted(image), QUALITY) for image in (left, right))
        if to == align.IDENTITY:
            return sample, picture, picture
        return sample, picture, images.encode_jpeg(self._fitted(align.move(fitted, to)), QUALITY)

    def _fitted(self, image: RGB) -> RGB:
        height, width = self._size or image.shape[:2]
        scale = min(1.0, EDGE / max(height, width))
        return images.fit(image, max(1, round(width * scale)), max(1, round(height * scale)))


def nearest(sample: RGB, picture: RGB) -> Alignment:
    """Return the small move of a picture that brings it nearest to a sample of its size, found at `SMALL` pixels."""
    a, b = (images.resize(image, SMALL, SMALL) for image in (sample, picture))
    found = align.best(a, b, MOVES, tiles=TILES, cutoff=1.0)
    to = align.IDENTITY if found is None else found[2]
    if to.crop < 1:
        return to
    height, width = sample.shape[:2]
    return replace(to, dx=round(to.dx * width / SMALL), dy=round(to.dy * height / SMALL))
