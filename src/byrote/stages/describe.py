"""Fill `vectors`: a descriptor's vectors of every picture, part by part beside the pictures."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from byrote import descriptors, images, sources
from byrote.corpus import Corpus
from byrote.domain import RGB, Picture
from byrote.engine import Part
from byrote.errors import CorpusError
from byrote.kernels import pdq
from byrote.kernels.ranges import similar, within
from byrote.stages import Desk, Failed
from byrote.store import Recipe

VECTORS = "vectors"
_BATCH = 32


@dataclass(frozen=True, slots=True)
class Described:
    """A row a picture of the part of that name: `known` is false where its source is gone, and its vector is zero."""

    digest: str
    known: bool


def recipe(descriptor: descriptors.Descriptor) -> Recipe:
    """Return the recipe of a descriptor's vectors."""
    about = {"descriptor": descriptor.name, "dimensions": descriptor.dimensions, "metric": descriptor.metric}
    return Recipe.of("vectors", about)


def run(desk: Desk, corpus: Corpus, uri: str) -> list[Failed]:
    """Describe what is not described yet. Raises DescriptorError where weights are missing."""
    made = recipe(descriptors.open(uri))
    parts = [Part(part, None, corpus.store.rows(corpus.recipe, part)) for part in corpus.store.parts(corpus.recipe)]
    return desk.fill(made, Describe(corpus.root, uri), parts, "pictures")


@dataclass(frozen=True, slots=True)
class Describe:
    """Decode a part's pictures again and describe them."""

    root: Path
    uri: str

    def __call__(self, part: Part) -> None:
        """Do one part."""
        corpus, descriptor = Corpus(self.root), descriptors.open(self.uri)
        rows = corpus.store.read(Picture, corpus.recipe, part.name)
        opened = {uri: sources.open(uri) for uri in {row.source for row in rows}}
        vectors, known = np.zeros((len(rows), descriptor.dimensions), np.float32), np.zeros(len(rows), np.bool_)
        for start in range(0, len(rows), _BATCH):
            seen = [(k, _image(opened[rows[k].source], rows[k])) for k in range(start, min(start + _BATCH, len(rows)))]
            there = [(k, image) for k, image in seen if image is not None]
            found = descriptor.describe([image for _, image in there])
            vectors = vectors.astype(found.dtype, copy=False)
            for (k, _), vector in zip(there, found, strict=True):
                vectors[k], known[k] = vector, True
        records = [Described(row.digest, bool(there)) for row, there in zip(rows, known, strict=True)]
        corpus.store.write(recipe(descriptor), part.name, records, Described, {VECTORS: vectors})


def vectors(corpus: Corpus, descriptor: descriptors.Descriptor) -> tuple[list[str], NDArray[np.generic]]:
    """Return the distinct digests that have a vector, and their vectors, row by row.

    Raises CorpusError where the corpus was not described so.
    """
    made = recipe(descriptor)
    found: dict[str, NDArray[np.generic]] = {}
    for part in corpus.store.parts(made):
        array = corpus.store.array(made, part, VECTORS)
        rows = corpus.store.read(Described, made, part)
        found |= {row.digest: array[k] for k, row in enumerate(rows) if row.known}
    there = [digest for digest in corpus.distinct if digest in found]
    if not there:
        raise CorpusError(f"{corpus.root} has no vectors of {descriptor.name}: `byrote describe` makes them")
    return there, np.stack([found[digest] for digest in there])


def alike(corpus: Corpus, descriptor: descriptors.Descriptor, least: float) -> NDArray[np.int64]:
    """Return the pairs of ids that a descriptor calls alike, [p, 2]: at most `least` apart, or at least so similar.

    Raises CorpusError where the corpus was not described so.
    """
    digests, rows = vectors(corpus, descriptor)
    if descriptor.metric == "cosine":
        pairs = similar(np.ascontiguousarray(rows, np.float32), least)
    elif descriptor.metric == "hamming":
        good = np.flatnonzero(rows[:, -1].astype(np.int64) >= pdq.GOOD)
        pairs = good[pdq.within(np.ascontiguousarray(rows[good, :-1], np.uint8), int(least))]
    else:
        pairs = within(np.ascontiguousarray(rows, np.uint8), least)
    place = {digest: k for k, digest in enumerate(corpus.distinct)}
    ids = np.array([place[digest] for digest in digests], np.int64)
    found: NDArray[np.int64] = ids[pairs.reshape(-1, 2)]
    return found


def _image(source: sources.Source, row: Picture) -> RGB | None:
    try:
        return images.decode_as(source.read(row.where), row.digest)
    except (OSError, images.Undecodable):
        return None
