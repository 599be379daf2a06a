"""The approximate index beside a corpus: made, measured, reopened, refused."""

import json
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("faiss")
from byrote import nearby
from byrote.errors import CorpusError
from byrote.nearby import Nearby, Parts


def clusters(n, d, seed=0):
    """Draw vectors of levels, ten round each of n/10 centres."""
    rng = np.random.default_rng(seed)
    centres = rng.integers(40, 216, (-(-n // 10), d))
    return np.clip(np.rint(np.repeat(centres, 10, 0)[:n] + rng.normal(0, 6, (n, d))), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Make an index of vectors in three `.npy` files, mapped into memory."""
    root, vectors = tmp_path_factory.mktemp("corpus"), clusters(3000, 48)
    for k, (low, high) in enumerate(((0, 100), (100, 2500), (2500, 3000))):
        np.save(root / f"{k}.npy", vectors[low:high])
    parts = Parts([np.load(root / f"{k}.npy", mmap_mode="r") for k in range(3)])
    return vectors, parts, root / "index", nearby.make(parts, root / "index", seed=3)


def test_parts_are_one_array(made):
    vectors, parts, _, _ = made
    assert parts.shape == (3000, 48)
    assert np.array_equal(np.concatenate(list(parts.blocks())), vectors)
    for ids in ([], [0], [99, 100, 2499, 2500, 2999], list(range(0, 3000, 7))):
        assert np.array_equal(parts.rows(np.array(ids, np.int64)), vectors[ids])
    with pytest.raises(ValueError, match="one length"):
        Parts([vectors, vectors[:, :5]])


def test_the_summary_tells_what_was_measured(made):
    _, _, folder, summary = made
    assert json.loads((folder / "index.json").read_text())["recall"] == summary.recall
    assert list(summary.recall) == ["1", "10", "50"]
    assert summary.recall["10"] >= 0.9
    assert summary.effort in nearby.EFFORTS
    assert summary.bytes == (folder / "index.faiss").stat().st_size
    assert f"{summary.recall['10']:.1%} of the nearest 10" in summary.line()
    assert sorted(p.name for p in folder.iterdir()) == ["index.faiss", "index.json"]


def test_the_recall_that_is_told_is_that_of_a_search(made):
    """Fresh perturbed rows, counted by hand, come within sampling error of what the summary says."""
    vectors, parts, folder, summary = made
    rng = np.random.default_rng(9)
    rows = vectors[rng.choice(3000, 200, replace=False)]
    queries = np.clip(np.rint(rows + rng.normal(0, 8, rows.shape)), 0, 255).astype(np.uint8)
    sums, _ = Nearby.open(folder, parts).search(queries, 10)
    every = np.stack([((vectors.astype(np.int64) - q) ** 2).sum(1) for q in queries.astype(np.int64)])
    share = (sums <= np.sort(every, axis=1)[:, 9:10]).mean()
    assert share == pytest.approx(summary.recall["10"], abs=0.05)


def test_reopening_answers_the_same_with_exact_distances(made):
    vectors, parts, folder, summary = made
    first, again = (Nearby.open(folder, parts).search(vectors[::100], 20) for _ in range(2))
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], again[1])
    own = ((vectors[first[1]].astype(np.int64) - vectors[::100, None].astype(np.int64)) ** 2).sum(2)
    assert np.array_equal(first[0], own)
    assert Nearby.open(folder, parts).summary == summary


def test_floats_are_indexed_too_and_few_of_them(tmp_path):
    vectors = np.random.default_rng(0).standard_normal((40, 6)).astype(np.float32)
    summary = nearby.make(Parts([vectors]), tmp_path, seed=0)
    assert list(summary.recall) == ["1", "10"]
    sums, ids = Nearby.open(tmp_path, Parts([vectors])).search(vectors, 1)
    assert (ids[:, 0] == np.arange(40)).mean() > 0.9
    assert sums.max() < 1e-6 or (ids[:, 0] != np.arange(40)).any()


def test_the_digest_is_of_the_vectors_and_not_of_their_blocks(made):
    vectors, parts, _, summary = made
    assert nearby.digest(Parts([vectors])) == nearby.digest(parts) == summary.digest
    assert nearby.digest(Parts([vectors[:-1]])) != summary.digest
    assert nearby.digest(Parts([vectors.view(np.int8)])) != summary.digest


def test_an_index_of_other_vectors_is_refused(made):
    vectors, _, folder, _ = made
    with pytest.raises(CorpusError, match=r"3,000 vectors of 48 values, but the corpus has 2,999 of 48"):
        Nearby.open(folder, Parts([vectors[1:]]))


@pytest.mark.parametrize("name", ["index.faiss", "index.json"])
def test_a_damaged_or_missing_file_is_told(made, tmp_path, name):
    _, parts, folder, _ = made
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / name).write_bytes((folder / name).read_bytes()[:100])
    with pytest.raises(CorpusError, match=f"{name}: damaged or missing"):
        Nearby.open(tmp_path, parts)
    (tmp_path / name).unlink()
    with pytest.raises(CorpusError, match=f"{name}: damaged or missing"):
        Nearby.open(tmp_path, parts)


def test_a_file_where_the_folder_should_be_is_told(tmp_path):
    (tmp_path / "index").write_text("")
    with pytest.raises(CorpusError, match="cannot write the index"):
        nearby.make(Parts([clusters(50, 8)]), tmp_path / "index")


BLOCKED = """
import sys
class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name == "faiss":
            raise ModuleNotFoundError("No module named 'faiss'", name="faiss")
sys.meta_path.insert(0, Nothing())
from pathlib import Path
import numpy as np
from byrote import nearby
from byrote.errors import CorpusError
vectors = nearby.Parts([np.zeros((50, 8), np.uint8)])
for act in (lambda: nearby.make(vectors, Path(sys.argv[1])), lambda: nearby.Nearby.open(Path(sys.argv[2]), vectors)):
    try:
        act()
    except CorpusError as error:
        print(error)
"""


def test_without_faiss_making_and_opening_say_what_to_install(made, tmp_path):
    ran = subprocess.run([sys.executable, "-c", BLOCKED, tmp_path, made[2]], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines() == ["faiss is missing: pip install 'byrote[search]'"] * 2
    assert not list(tmp_path.iterdir())
