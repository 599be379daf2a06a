"""Fill `covariates`: what moves T without memory, for every group that is asked; and tell the sides apart by it.

Matched p-values compare a picture with the controls that are most like it. A classifier that sees pictures and captions
but never the model says whether controls are of the same kind at all.
"""

from collections import defaultdict
from collections.abc import Sequence, Set
from dataclasses import dataclass, fields
from hashlib import sha256
from pathlib import Path
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from byrote.corpus import Corpus
from byrote.domain import SIDES, Group, Prompt, Sample, Stratum
from byrote.engine import Part
from byrote.kernels.matching import Separation, separation
from byrote.stages import Desk, Failed
from byrote.stages.covariates import Covariates, covariates
from byrote.store import Recipe, Store

NAMES = tuple(field.name for field in fields(Covariates))
WORDS = 64
MOST = 1_000


@dataclass(frozen=True, slots=True)
class Moves:
    """The covariates of one picture, in the order of `NAMES`."""

    digest: str
    values: tuple[float, ...]


def recipe(samples: Recipe, groups: Recipe) -> Recipe:
    """Return the recipe of the covariates: samples decide the size at which pictures are weighed."""
    return Recipe.of("covariates", {"samples": samples.digest, "groups": groups.digest, "names": NAMES})


def run(
    desk: Desk, made: Recipe, corpus: Corpus, samples: Recipe, groups: Recipe, prompts: Sequence[Prompt]
) -> list[Failed]:
    """Weigh the member of every group that is asked."""
    asked = tuple((p.digest, p.text) for p in prompts if p.rung == "caption")
    work = Weigh(desk.store.root, corpus.root, made, samples, groups)
    return desk.fill(made, work, [Part("00000", asked, len(asked))], "pictures")


@dataclass(frozen=True, slots=True)
class Weigh:
    """Compute the covariates of the pictures of a part."""

    root: Path
    corpus: Path
    made: Recipe
    samples: Recipe
    groups: Recipe

    def __call__(self, part: Part) -> None:
        """Do the one part."""
        store, corpus = Store(self.root), Corpus(self.corpus)
        first = store.read(Sample, self.samples, store.parts(self.samples)[0])[0]
        pool = _one_each(corpus.store.read_all(Group, self.groups), {digest for digest, _ in part.payload})
        found = covariates(part.payload, pool, corpus.vectors(pool), corpus.pixels, (first.width, first.height))
        rows = [
            Moves(digest, tuple(getattr(row, name) for name in NAMES))
            for (digest, _), row in zip(part.payload, found, strict=True)
            if row is not None
        ]
        store.write(self.made, part.name, rows, Moves)


def _one_each(groups: Sequence[Group], asked: Set[str]) -> list[str]:
    """Take one member a group, that which is asked where one is: near-duplicates of a picture do not crowd it."""
    members: dict[str, list[str]] = defaultdict(list)
    for row in groups:
        if not row.set_aside:
            members[row.group].append(row.digest)
    return sorted(min(of, key=lambda digest: (digest not in asked, digest)) for of in members.values())


def apart(corpus: Corpus, prompts: Sequence[Prompt], seed: int) -> Separation | None:
    """Try to tell pictures from controls by their thumbnails and prompts alone, among groups of equal copies.

    Prompts are those of all rungs that ask for the group, so that wordings which favour one side are seen too. None
    where no number of copies has both sides.
    """
    asked = [p for p in prompts if p.rung == "caption" and p.stratum not in ("canary", "free")]
    texts: dict[str, list[str]] = defaultdict(list)
    for prompt in prompts:
        texts[prompt.group].append(prompt.text or "")
    picture = np.array([p.side == "picture" for p in asked], np.bool_)
    copies = np.array([p.copies for p in asked], np.int64)
    if not set(copies[picture]) & set(copies[~picture]):
        return None
    seen = corpus.vectors(p.digest for p in asked).astype(np.float64) / 255
    said = np.stack([_words(" ".join(texts[p.group])) for p in asked])
    return separation(np.concatenate([seen, said], 1), picture, copies, seed=seed)


def as_if_asked(groups: Sequence[Group], seed: int, most: int = MOST) -> list[Prompt]:
    """Draw up to `most` groups of each side whom `apart` can look at where nobody was asked, each under no text."""
    one = {row.digest: row for row in groups if not row.set_aside}
    drawn: list[Prompt] = []
    for side in SIDES:
        kept = {one[digest].group: digest for digest in _one_each(groups, set()) if one[digest].side == side}
        first = sorted(kept, key=lambda group: sha256(f"{seed} apart {group}".encode()).digest())[:most]
        stratum: Stratum = "random" if side == "picture" else "control"
        drawn += [Prompt(0, g, kept[g], side, stratum, one[kept[g]].copies, "caption", None) for g in first]
    return drawn


def _words(caption: str) -> NDArray[np.float64]:
    """Count the words of a caption in 64 bins by their checksum, and its words and characters."""
    words = caption.lower().split()
    bins = np.bincount([crc32(word.encode()) % WORDS for word in words] or [0], minlength=WORDS)
    return np.concatenate([bins * bool(words), [len(words), len(caption)]]).astype(np.float64)
