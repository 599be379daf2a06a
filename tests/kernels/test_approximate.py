"""Approximate search against every distance, on vectors that are easy to find."""

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

pytest.importorskip("faiss")
from byrote.kernels import approximate
from byrote.kernels.approximate import Approximate, Design

FLOATS, LEVELS = 64, 768


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    import faiss

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    with threadpool_limits(1):
        yield
    faiss.omp_set_num_threads(before)


def clusters(n, d, seed=0):
    """Draw vectors of levels, twenty round each of n/20 centres."""
    rng = np.random.default_rng(seed)
    centres = rng.integers(40, 216, (-(-n // 20), d))
    return np.clip(np.rint(np.repeat(centres, 20, 0)[:n] + rng.normal(0, 6, (n, d))), 0, 255).astype(np.uint8)


def truth(vectors, queries, k):
    """Sort all squared distances in int64, ties by id."""
    sums = np.stack([((vectors.astype(np.int64) - q) ** 2).sum(1) for q in queries.astype(np.int64)])
    ids = np.argsort(sums, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(sums, ids, 1), ids


@pytest.fixture(scope="module")
def levels(tmp_path_factory):
    vectors = clusters(4000, LEVELS)
    path = tmp_path_factory.mktemp("levels") / "index.faiss"
    return vectors, approximate.build([vectors[:1500], vectors[1500:]], 4000, LEVELS, path, 7), path


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_nearly_all_neighbours_of_an_easy_set_are_found_with_exact_distances(tmp_path, kind):
    vectors = clusters(3000, FLOATS).astype(kind)
    path = tmp_path / "index.faiss"
    approximate.build([vectors], 3000, FLOATS, path, 0)
    queries = clusters(3000, FLOATS)[::60].astype(kind)
    sums, ids = Approximate.open(path).nearest(queries, 10, 32, lambda some: vectors[some])
    expected, _ = truth(vectors.astype(np.uint8), queries.astype(np.uint8), 10)
    assert approximate.recall(sums, expected.astype(np.float64), 10) > 0.97
    own = ((vectors[ids].astype(np.int64) - queries[:, None].astype(np.int64)) ** 2).sum(2)
    assert np.array_equal(sums, own)
    assert (np.diff(sums, axis=1) >= 0).all()


def test_long_vectors_are_turned_onto_axes_and_found_all_the_same(levels):
    vectors, design, path = levels
    assert design.axes == 128
    queries = clusters(4000, LEVELS)[5::80]
    sums, _ = Approximate.open(path).nearest(queries, 10, 64, lambda some: vectors[some])
    assert approximate.recall(sums, truth(vectors, queries, 10)[0].astype(np.float64), 10) > 0.97
    assert path.stat().st_size < vectors.nbytes


def test_more_effort_finds_no_less(levels):
    vectors, _, path = levels
    index, queries = Approximate.open(path), vectors[3::100]
    expected = truth(vectors, queries, 50)[0].astype(np.float64)
    found = [
        approximate.recall(index.nearest(queries, 50, effort, lambda some: vectors[some])[0], expected, 50)
        for effort in (1, 8, 64)
    ]
    assert found == sorted(found)
    assert found[0] < found[-1]


def test_reopening_answers_the_same(levels):
    vectors, _, path = levels
    first, again = (Approximate.open(path).search(vectors[::50], 20, 8) for _ in range(2))
    assert np.array_equal(first, again)
    assert Approximate.open(path).count == 4000
    assert Approximate.open(path).values == LEVELS


def test_a_seed_makes_the_same_file_and_blocks_do_not_matter(levels, tmp_path):
    vectors, _, path = levels
    for name, seed in (("same", 7), ("other", 8)):
        approximate.build([vectors[:17], vectors[17:]], 4000, LEVELS, tmp_path / name, seed)
    assert (tmp_path / "same").read_bytes() == path.read_bytes()
    assert (tmp_path / "other").read_bytes() != path.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other", "same"]


@pytest.mark.parametrize(("n", "d"), [(1, 12), (30, 5), (60, 600), (200, 7)])
def test_few_vectors_are_all_found(tmp_path, n, d):
    vectors = np.random.default_rng(n).integers(0, 256, (n, d), np.uint8)
    approximate.build([vectors], n, d, tmp_path / "index", 0)
    sums, ids = Approximate.open(tmp_path / "index").nearest(vectors, 5, 50, lambda some: vectors[some])
    assert (ids[:, 0] == np.arange(n)).mean() > 0.9
    assert np.isinf(sums[:, n:]).all()
    assert (ids[:, n:] == -1).all()


def test_blocks_that_are_gone_the_second_time_are_told(tmp_path):
    vectors = clusters(100, 8)
    with pytest.raises(ValueError, match="hold 0 vectors, not 100"):
        approximate.build(iter([vectors]), 100, 8, tmp_path / "index", 0)
    with pytest.raises(ValueError, match=r"shape \(100, 8\)"):
        approximate.build([vectors], 100, 9, tmp_path / "index", 0)
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_cut_short_is_told(levels, tmp_path):
    cut = tmp_path / "index.faiss"
    cut.write_bytes(levels[2].read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"index\.faiss"):
        Approximate.open(cut)
    with pytest.raises(FileNotFoundError):
        Approximate.open(tmp_path / "none")


def test_a_folder_that_is_not_there_leaves_nothing_behind(tmp_path):
    with pytest.raises(OSError, match="index"):
        approximate.build([clusters(50, 8)], 50, 8, tmp_path / "none" / "index", 0)
    assert not list(tmp_path.iterdir())


@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_exact_search_by_blocks_is_that_of_all_distances(n, k, step, seed):
    rng = np.random.default_rng(seed)
    vectors, queries = rng.integers(0, 3, (n, 4), np.uint8), rng.integers(0, 3, (3, 4), np.uint8)
    found = approximate.exact([vectors[i : i + step] for i in range(0, n, step)], queries, k)
    for mine, expected in zip(found, truth(vectors, queries, k), strict=True):
        assert np.array_equal(mine, expected)


def test_recall_counts_ties_and_not_what_is_farther():
    exact = np.array([[1.0, 2.0, 2.0], [0.0, 5.0, 6.0]])
    assert approximate.recall(exact, exact, 3) == 1
    assert approximate.recall(np.array([[1.0, 2.0, 7.0], [0.0, np.inf, np.inf]]), exact, 2) == pytest.approx(3 / 4)
    with pytest.raises(ValueError, match="3 columns"):
        approximate.recall(exact[:, :2], exact, 3)


@pytest.mark.parametrize("n", [1, 10, 1000, 10**6, 10**8])
@pytest.mark.parametrize("d", [1, 7, 48, 512, 513, 3072])
def test_a_design_divides_its_vectors_and_has_enough_to_train_on(n, d):
    design = Design.of(n, d)
    assert (design.axes or d) % design.codes == 0
    assert 1 <= design.lists <= max(1, n // 40)


def test_an_index_is_mapped_and_not_read(tmp_path):
    """A fresh process opens an index of many megabytes and holds the codes of 4 bits and the ids, no more."""
    vectors = np.random.default_rng(0).standard_normal((1500, 128), np.float32)
    path = tmp_path / "index"
    approximate.build([vectors] * 40, 60_000, 128, path, 0)
    assert path.stat().st_size > 9e6
    code = (
        "import faiss, psutil, sys; from pathlib import Path; from byrote.kernels.approximate import Approximate;"
        "me = psutil.Process(); before = me.memory_full_info().uss; index = Approximate.open(Path(sys.argv[1]));"
        "print(me.memory_full_info().uss - before)"
    )
    grown = subprocess.run([sys.executable, "-c", code, path], capture_output=True, check=True, env=os.environ).stdout
    assert int(grown) < 0.7 * path.stat().st_size
