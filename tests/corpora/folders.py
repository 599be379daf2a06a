"""What lies in the folder of a corpus, looked at from outside."""

import numpy as np
import pyarrow.parquet as pq

from byrote.corpus import Corpus
from byrote.domain import Picture, Unreadable
from byrote.store import Recipe


def traces(root, *wanted):
    """Return the files below a folder in which one of these byte strings stands, packed tables unpacked."""
    return sorted(
        str(path.relative_to(root))
        for path in root.rglob("*")
        if path.is_file() and any(_holds(path, one) for one in wanted)
    )


def _holds(path, wanted):
    wanted = wanted if isinstance(wanted, bytes) else wanted.encode()
    if wanted in path.read_bytes() or wanted in path.name.encode():
        return True
    if path.suffix != ".parquet":
        return False
    return any(wanted in _plain(value) for row in pq.read_table(path).to_pylist() for value in row.values())


def _plain(value):
    return value if isinstance(value, bytes) else str(value).encode()


def sound(root):
    """Hold what lies in the folder to what every part promises, and return the rows that the parts have together."""
    corpus = Corpus(root)
    assert not list(root.rglob(".*.tmp")), "something half-written was left"
    store, total = corpus.store, 0
    there = set(store.parts(corpus.recipe))
    for part in there:
        rows = store.read(Picture, corpus.recipe, part)
        total += len(rows) + len(store.read(Unreadable, corpus.recipe, f"{part}.unreadable"))
        for name in ("thumbnail", "whole"):
            assert store.array(corpus.recipe, part, name).shape == (len(rows), 3072)
        for recipe in vectors(root):
            if part in store.parts(recipe):
                described = pq.read_table(store.folder(recipe) / f"{part}.parquet")
                assert described["digest"].to_pylist() == [row.digest for row in rows]
                assert len(store.array(recipe, part, "vectors")) == len(rows)
    for recipe in (corpus.recipe, *vectors(root)):
        for path in store.folder(recipe).iterdir():
            assert path.name == "recipe.json" or path.name.split(".")[0] in there, f"{path} belongs to no part"
    corpus.vectors(corpus.distinct)
    return total


def vectors(root):
    found = sorted((root / "vectors").glob("*/recipe.json"))
    return [Recipe("vectors", path.read_text().rstrip("\n")) for path in found]


def described(root):
    """Return the vector of every picture that was described, by digest, for the one descriptor that was asked."""
    (recipe,) = vectors(root)
    corpus, found = Corpus(root), {}
    for part in corpus.store.parts(recipe):
        rows = pq.read_table(corpus.store.folder(recipe) / f"{part}.parquet").to_pylist()
        array = np.array(corpus.store.array(recipe, part, "vectors"))
        found |= {row["digest"]: array[k].tobytes() for k, row in enumerate(rows)}
    return found


def rows(root):
    """Return what the corpus says of every file, wherever its row lies."""
    corpus = Corpus(root)
    return sorted(corpus.pictures, key=str), sorted(corpus.unreadable, key=str)
