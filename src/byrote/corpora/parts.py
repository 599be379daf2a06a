"""Parts of a corpus that are written anew: fewer rows, or another corpus's rows. Nothing is lost at a kill.

A part is replaced by writing its rows under a new number and then unlinking the old files, so that in between both are
there, which readers bear: of two rows of one file the later part's counts.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from byrote.corpus import SCREENED, Corpus
from byrote.domain import Picture, Unreadable
from byrote.stages.describe import Described
from byrote.store import Recipe, replace_file


def next_number(corpus: Corpus) -> str:
    """Return the name of the next part."""
    there = corpus.store.parts(corpus.recipe)
    return f"{int(there[-1]) + 1 if there else 0:05d}"


def vectors_recipes(corpus: Corpus) -> list[Recipe]:
    """Return the recipes of all descriptors' vectors that lie in the corpus."""
    found = []
    for path in sorted((corpus.root / "vectors").glob("*/recipe.json")):
        found.append(Recipe("vectors", path.read_text(encoding="utf-8").rstrip("\n")))
    return found


def copy(source: Corpus, part: str, keep: NDArray[np.bool_], lost: pa.Table, target: Corpus, name: str) -> None:
    """Write the rows of a part that are kept, and some unreadable ones, as another part, of this corpus or another."""
    rows = source.store.table(Picture, source.recipe, part).filter(pa.array(keep))
    for recipe in vectors_recipes(source):
        if part in source.store.parts(recipe):
            arrays = _arrays(source, recipe, part, keep)
            described = source.store.table(Described, recipe, part).filter(pa.array(keep))
            target.store.write_table(recipe, name, described, arrays)
    target.store.write_table(target.recipe, f"{name}.unreadable", lost)
    target.store.write_table(target.recipe, name, rows, _arrays(source, source.recipe, part, keep))


def unlink(corpus: Corpus, part: str) -> None:
    """Remove a part's files: the table first, so that it is gone at once."""
    for recipe in (corpus.recipe, *vectors_recipes(corpus)):
        folder = corpus.store.folder(recipe)
        (folder / f"{part}.parquet").unlink(missing_ok=True)
        for path in folder.glob(f"{part}.*"):
            path.unlink(missing_ok=True)


def sweep_orphans(corpus: Corpus) -> None:
    """Remove arrays and tables of pictures whose part is not there, and half a ledger: a kill left them."""
    for path in corpus.root.glob(".ledger.jsonl.*.tmp"):
        path.unlink(missing_ok=True)
    there = set(corpus.store.parts(corpus.recipe))
    for recipe in (corpus.recipe, *vectors_recipes(corpus)):
        for path in corpus.store.folder(recipe).glob("[0-9]*"):
            if path.name.split(".")[0] not in there:
                path.unlink(missing_ok=True)


def counts(corpus: Corpus, part: str) -> bool:
    """Say whether a part counts files that a list of hashes held back."""
    return (corpus.store.folder(corpus.recipe) / f"{part}.{SCREENED}.npy").exists()


def unreadable(corpus: Corpus, part: str) -> pa.Table:
    """Return the rows of what could not be read in a part."""
    return corpus.store.table(Unreadable, corpus.recipe, f"{part}.unreadable")


def rewrite(path: Path, old: str, new: str) -> None:
    """Replace a text in a file of lines, whole or not at all."""
    if path.exists():
        replace_file(path, path.read_text(encoding="utf-8").replace(old, new).encode())


def _arrays(corpus: Corpus, recipe: Recipe, part: str, keep: NDArray[np.bool_]) -> dict[str, NDArray[np.generic]]:
    """Return the kept rows of the arrays that lie beside a part; the count of what was held back as it is."""
    found: dict[str, NDArray[np.generic]] = {}
    for path in corpus.store.folder(recipe).glob(f"{part}.*.npy"):
        name = path.name.split(".")[1]
        array = corpus.store.array(recipe, part, name)
        found[name] = np.array(array) if name == SCREENED else array[keep]
    return found
