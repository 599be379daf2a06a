"""Fill `pictures`: read every file of the named sources that the corpus does not hold yet."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from byrote import images, sources
from byrote.corpus import THUMBNAIL, Corpus, Named
from byrote.descriptors.thumbnail import Thumbnail
from byrote.domain import RGB, Picture, Unreadable
from byrote.engine import Part
from byrote.sources import Listed
from byrote.stages import Desk, Failed

PART = 512


def name(corpus: Corpus, named: Sequence[Named]) -> None:
    """Write down that these sources belong to the corpus, so that a killed `byrote index` goes on where it was."""
    known = set(corpus.named())
    for each in [Named(one.side, sources.open(one.uri).uri) for one in named]:
        if each not in known:
            corpus.store.log("source", {"side": each.side, "uri": each.uri})


def run(desk: Desk, corpus: Corpus) -> list[Failed]:
    """Index what is new in the named sources. Raises CorpusError where a source is gone."""
    rows: list[Picture | Unreadable] = [*corpus.pictures, *corpus.unreadable]
    known = {(row.side, row.source, row.where): row for row in rows}
    there = corpus.store.parts(corpus.recipe)
    number = int(there[-1]) + 1 if there else 0
    parts: list[Part] = []
    for named in corpus.named():
        listed = sources.open(named.uri).list()
        new = [item for item in listed if not _same(known.get((named.side, named.uri, item.where)), item)]
        for k in range(0, len(new), PART):
            chunk = new[k : k + PART]
            parts.append(Part(f"{number + len(parts):05d}", (named, chunk), len(chunk)))
    return desk.fill(corpus.recipe, Index(corpus.root), parts, "files")


@dataclass(frozen=True, slots=True)
class Index:
    """Decode a chunk of files: rows for the pictures and for what is none, and the vectors."""

    root: Path

    def __call__(self, part: Part) -> None:
        """Do one part."""
        named, chunk = part.payload
        corpus, source = Corpus(self.root), sources.open(named.uri)
        pictures, lost, vectors = [], [], []
        describe = Thumbnail().describe
        for item in chunk:
            try:
                image = images.decode(source.read(item.where))
            except (OSError, images.Undecodable) as error:
                lost.append(_unreadable(named, item, error))
                continue
            pictures.append(_picture(named, item, image))
            vectors.append(describe([image])[0])
        array = np.stack(vectors) if vectors else np.zeros((0, Thumbnail().dimensions), np.uint8)
        corpus.store.write(corpus.recipe, f"{part.name}.unreadable", lost, Unreadable)
        corpus.store.write(corpus.recipe, part.name, pictures, Picture, {THUMBNAIL: array})


def _picture(named: Named, item: Listed, image: RGB) -> Picture:
    height, width = image.shape[:2]
    return Picture(
        side=named.side,
        source=named.uri,
        where=item.where,
        captions=item.captions,
        digest=images.digest(image),
        width=width,
        height=height,
        size=item.size,
        modified=item.modified,
    )


def _unreadable(named: Named, item: Listed, error: Exception) -> Unreadable:
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return Unreadable(named.side, named.uri, item.where, item.captions, reason, item.size, item.modified)


def _same(row: Picture | Unreadable | None, item: Listed) -> bool:
    return row is not None and (row.size, row.modified, row.captions) == (item.size, item.modified, item.captions)
