"""Fill `pictures`: read every file of the named sources that the corpus does not hold yet."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from time import time

import numpy as np

from byrote import images, sources
from byrote.corpus import SCREENED, THUMBNAIL, WHOLE, Corpus, Named, as_file, blind
from byrote.descriptors.thumbnail import Thumbnail
from byrote.descriptors.whole import Whole
from byrote.domain import RGB, Picture, Unreadable
from byrote.engine import Part
from byrote.errors import CorpusError
from byrote.hashlist import HashList
from byrote.sources import Listed
from byrote.stages import Desk, Failed

PART, MANY = 512, 16_384
ENOUGH = 64
"""Pixels of the shorter edge to which a quick corpus decodes."""


def name(corpus: Corpus, named: Sequence[Named]) -> None:
    """Write down that these sources belong to the corpus, so that a killed `byrote index` goes on where it was."""
    known = set(corpus.named())
    for each in [Named(one.side, sources.open(one.uri).uri) for one in named]:
        if each not in known:
            corpus.store.log("source", {"side": each.side, "uri": each.uri})


def screen(corpus: Corpus, hashes: Path | None) -> Path | None:
    """Write down which list of hashes screens the corpus, and return it; one that was named before stays.

    Raises CorpusError where that list is gone: nothing is indexed without it.
    """
    lines = [line for line in corpus.store.ledger() if line.get("event") == "hash list"]
    before = Path(lines[-1]["path"]) if lines else None
    if hashes is not None and hashes.absolute() != before:
        before = hashes.absolute()
        corpus.store.log("hash list", {"path": str(before), "digest": HashList.open(before).digest})
    if before is not None and not before.exists():
        raise CorpusError(
            f"{before}: the list of hashes that screens {corpus.root} is gone; put it back or give --hashes"
        )
    return before


def run(desk: Desk, corpus: Corpus, hashes: Path | None = None, *, quick: bool = False) -> list[Failed]:
    """Index what is new in the named sources. Raises CorpusError where a source is gone.

    Quickly means: JPEGs are decoded at a part of their size, pictures are named by the bytes of their files, and no
    audit can be made with them. Raises CorpusError for a corpus that was begun the other way.
    """
    if len(corpus.table) and corpus.quick != quick:
        how = "quickly" if corpus.quick else "in full"
        raise CorpusError(f"{corpus.root} was indexed {how}: go on so, or index into another folder")
    there = corpus.store.parts(corpus.recipe)
    number = int(there[-1]) + 1 if there else 0
    parts: list[Part] = []
    began = time()
    for named in corpus.named():
        known = corpus.known(named)
        listed = _source(named.uri, began).list()
        new = [item for item in listed if known.get(item.where) != (item.size, item.modified, item.captions)]
        if corpus.removed:
            new = [one for one in new if as_file(named.uri, one.where, one.size, one.modified) not in corpus.removed]
        step = PART if len(new) < MANY else 4 * PART
        for k in range(0, len(new), step):
            chunk = new[k : k + step]
            parts.append(Part(f"{number + len(parts):05d}", (named, chunk), len(chunk)))
    return desk.fill(corpus.recipe, Index(corpus.root, hashes, began, quick), parts, "files")


@dataclass(frozen=True, slots=True)
class _Seen:
    """A picture: as it was decoded, the height and width that it has, and its digest."""

    image: RGB
    size: tuple[int, int]
    digest: str


@dataclass(frozen=True, slots=True)
class Index:
    """Decode a chunk of files: rows for the pictures and for what is none, and the vectors.

    What the list of hashes hits, and what was removed from the corpus, leaves no row; the first is counted.
    """

    root: Path
    hashes: Path | None = None
    began: float = 0.0
    quick: bool = False

    def __call__(self, part: Part) -> None:
        """Do one part."""
        named, chunk = part.payload
        corpus, source = Corpus(self.root), _source(named.uri, self.began)
        listed = HashList.open(self.hashes) if self.hashes else None
        thumbnails, wholes = Thumbnail(), Whole()
        pictures, lost, screened = [], [], []
        seen: dict[str, list[np.ndarray]] = {WHOLE: []} if self.quick else {THUMBNAIL: [], WHOLE: []}
        for item in chunk:
            try:
                data = source.read(item.where)
                screened_out = listed is not None and listed.has_file(data)
                seen_as = None if screened_out else self._decoded(data)
            except (OSError, images.Undecodable) as error:
                lost.append(_unreadable(named, item, error))
                continue
            if seen_as is None or (listed is not None and listed.hits(seen_as.image)):
                screened.append(as_file(named.uri, item.where, 0, 0))  # once, whatever its state
                continue
            picture, image = _picture(named, item, seen_as), seen_as.image
            if corpus.removed and blind(picture.digest) in corpus.removed:
                continue
            pictures.append(picture)
            seen[WHOLE].append(wholes.describe([image])[0])
            if not self.quick:
                square = picture.width == picture.height  # then both are the same
                seen[THUMBNAIL].append(seen[WHOLE][-1] if square else thumbnails.describe([image])[0])
        arrays = {key: np.array(rows, np.uint8).reshape(-1, thumbnails.dimensions) for key, rows in seen.items()}
        corpus.store.write(corpus.recipe, f"{part.name}.unreadable", lost, Unreadable)
        counted = {SCREENED: np.array([list(bytes.fromhex(one)) for one in screened], np.uint8)} if screened else {}
        corpus.store.write(corpus.recipe, part.name, pictures, Picture, arrays | counted)

    def _decoded(self, data: bytes) -> _Seen:
        """Decode a file: in full, or in a quick corpus as far as its thumbnails want. Raises Undecodable."""
        if self.quick:
            image, size = images.decode_small(data, ENOUGH)
            return _Seen(image, size, images.file_digest(data))
        image = images.decode(data)
        return _Seen(image, (image.shape[0], image.shape[1]), images.digest(image))


@lru_cache(maxsize=4)
def _source(uri: str, began: float) -> sources.Source:
    """Open a source once in a process and a run: it may keep what it has found out about its files."""
    return sources.open(uri)


def _picture(named: Named, item: Listed, seen: _Seen) -> Picture:
    height, width = seen.size
    return Picture(
        side=named.side,
        source=named.uri,
        where=item.where,
        captions=item.captions,
        digest=seen.digest,
        width=width,
        height=height,
        size=item.size,
        modified=item.modified,
    )


def _unreadable(named: Named, item: Listed, error: Exception) -> Unreadable:
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return Unreadable(named.side, named.uri, item.where, item.captions, reason, item.size, item.modified)
