"""A part that is there is whole; what a crash tore is passed over or told."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from byrote.domain import Clique, Unreadable
from byrote.errors import Busy, StoreError
from byrote.store import Recipe, Store, replace_file, sweep

RECIPE = Recipe.of("cliques", {"plan": 1})
ROWS = [Clique(0, 8, True, True, (1, 4, 5), 0.25), Clique(1, 8, False, False, (), None)]


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


def test_rows_and_arrays_come_back_as_they_were_written(store):
    array = np.arange(12, dtype=np.uint16).reshape(3, 4)
    store.write(RECIPE, "00000", ROWS, Clique, {"means": array})
    assert store.read(Clique, RECIPE, "00000") == ROWS
    back = store.array(RECIPE, "00000", "means")
    assert back.dtype == array.dtype
    assert np.array_equal(back, array)


def test_no_rows_are_a_part_too(store):
    store.write(RECIPE, "00000", [], Clique)
    assert store.parts(RECIPE) == ["00000"]
    assert store.read(Clique, RECIPE, "00000") == []


def test_any_text_that_is_utf8_survives(store):
    rows = [Unreadable("picture", "/x", "a\x00b\u202e\U0001f600.png", ("line\nbreak",), "why", -1, 2**62)]
    recipe = Recipe.of("pictures", {})
    store.write(recipe, "00000", rows, Unreadable)
    assert store.read(Unreadable, recipe, "00000") == rows


def test_the_same_rows_make_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        Store(tmp_path / name).write(RECIPE, "00000", ROWS, Clique, {"x": np.ones(3)})
    a, b = ({p.name: p.read_bytes() for p in Store(tmp_path / n).folder(RECIPE).iterdir()} for n in "ab")
    assert a == b
    assert len(a) == 3


def test_parts_are_listed_in_order_and_nothing_else_is(store):
    for part in ("00002", "00000"):
        store.write(RECIPE, part, ROWS, Clique, {"x": np.ones(1)})
    store.write(RECIPE, "00001.unreadable", [], Unreadable)
    (store.folder(RECIPE) / ".00003.parquet.77.tmp").write_bytes(b"half")
    assert store.parts(RECIPE) == ["00000", "00002"]


def test_the_digest_changes_with_the_content_the_table_and_nothing_else():
    assert Recipe.of("cliques", {"a": 1, "b": 2}).digest == Recipe.of("cliques", {"b": 2, "a": 1}).digest
    others = [Recipe.of("cliques", {"a": 1, "b": 3}), Recipe.of("matches", {"a": 1, "b": 2}), Recipe.of("cliques", {})]
    assert len({recipe.digest for recipe in [*others, Recipe.of("cliques", {"a": 1, "b": 2})]}) == 4


@pytest.mark.parametrize("left", [0, 4, 100, -1])
def test_a_damaged_part_is_told_with_its_path_and_what_to_do(store, left):
    store.write(RECIPE, "00000", ROWS, Clique)
    path = store.folder(RECIPE) / "00000.parquet"
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(StoreError, match=r"damaged or missing.*delete it and run again") as told:
        store.read(Clique, RECIPE, "00000")
    assert str(path) in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("data", [b"", b"\x93NUMPY", b"not an array at all", None])
def test_a_damaged_array_is_told_and_a_pickle_is_never_opened(store, data):
    store.write(RECIPE, "00000", ROWS, Clique, {"x": np.ones(100)})
    path = store.folder(RECIPE) / "00000.x.npy"
    path.write_bytes(path.read_bytes()[:200] if data is None else data)
    with pytest.raises(StoreError, match="damaged or missing"):
        store.array(RECIPE, "00000", "x")
    with path.open("wb") as file:
        np.save(file, np.array([{}], object), allow_pickle=True)
    with pytest.raises(StoreError, match="damaged or missing"):
        store.array(RECIPE, "00000", "x")


def test_a_missing_part_is_told(store):
    with pytest.raises(StoreError, match="damaged or missing"):
        store.read(Clique, RECIPE, "00007")


def test_a_folder_that_refuses_is_told_and_leaves_no_part(tmp_path):
    (tmp_path / "cliques").write_text("a file")
    with pytest.raises(StoreError, match="cannot write part 00000"):
        Store(tmp_path).write(RECIPE, "00000", ROWS, Clique)
    assert Store(tmp_path).parts(RECIPE) == []


WRITER = """
import sys
from pathlib import Path
from byrote.store import replace_file
for k in range(10**9):
    replace_file(Path(sys.argv[1]), bytes([k % 256]) * 300_000)
"""


def test_a_file_is_replaced_whole_or_not_at_all_when_its_writer_is_killed(tmp_path):
    path = tmp_path / "a" / "b" / "file"
    path.parent.mkdir(parents=True)
    for pause in (0.05, 0.11, 0.17):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)])
        while not path.exists():
            assert writer.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            writer.wait(pause)
        writer.kill()
        assert writer.wait() == -signal.SIGKILL
        data = path.read_bytes()
        assert len(data) == 300_000
        assert len(set(data)) == 1
    sweep(tmp_path)
    assert [each.name for each in path.parent.iterdir()] == ["file"]


def test_a_write_that_fails_keeps_the_old_file_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "folder"
    path.mkdir()
    (path / "inside").write_text("kept")
    with pytest.raises(OSError, match="folder"):
        replace_file(path, b"new")
    assert [each.name for each in tmp_path.iterdir()] == ["folder"]
    assert (path / "inside").read_text() == "kept"


def test_a_line_that_a_crash_tore_is_left_out_and_the_next_one_is_whole(store):
    store.log("begun", {"part": "00000"})
    with (store.root / "ledger.jsonl").open("ab") as file:
        file.write(b'{"event": "done", "par')
    assert [line["event"] for line in store.ledger()] == ["begun"]
    store.log("begun", {"part": "00001"})
    assert [line["part"] for line in store.ledger()] == ["00000", "00001"]


def test_the_ledger_passes_over_bytes_that_are_no_line(store):
    (store.root / "ledger.jsonl").write_bytes(b'\xff\xfe\n[1]\n3\n\n{"event": "x"}\n')
    assert store.ledger() == [{"event": "x"}]


def test_a_text_with_any_line_break_stays_one_line_of_the_ledger(store):
    text = "a\nb\u2028c\x85d\x1ce"
    store.log("note", {"text": text})
    assert [line["text"] for line in store.ledger()] == [text]


def test_a_ledger_that_is_not_there_is_empty(store):
    assert store.ledger() == []


def test_a_folder_is_held_by_one_process(store):
    with store.locked(), pytest.raises(Busy, match="another byrote"), Store(store.root).locked():
        pass
    with store.locked():
        pass


def test_a_killed_process_holds_no_folder(store):
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom byrote.store import Store\n"
        "with Store(Path(sys.argv[1])).locked():\n    print('held', flush=True)\n    time.sleep(60)\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(store.root)], stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(Busy), store.locked():
        pass
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    with store.locked():
        pass


def test_the_recipe_lies_beside_its_parts(store):
    store.write(RECIPE, "00000", ROWS, Clique)
    assert json.loads((store.folder(RECIPE) / "recipe.json").read_text()) == {"format": 1, "plan": 1}
