"""A small seeded version of benchmarks/fuzz.py, and that it sees what it is there to see."""

import os
import random
import time
from pathlib import Path

import fuzz
import mutations
import pytest
import specimens

CASES = 400


@pytest.fixture(scope="module")
def watch():
    return fuzz.Watch()


def test_hostile_pictures_and_archives_neither_crash_nor_hang_nor_write():
    told = list(fuzz.run(CASES, seed=7, jobs=1))
    assert [one for one in told if one["wrong"]] == []
    found = fuzz.summed(told)["found"]
    assert min(found["decoded"], found["refused"], found["undecodable"], found["unreadable"]) > 10


@pytest.mark.parametrize("kind", specimens.KINDS)
def test_every_case_of_a_kind_reads_its_pictures_where_nothing_is_damaged(kind, tmp_path, watch, monkeypatch):
    monkeypatch.setattr(mutations, "mutated", lambda data, suffix, die: ("nothing", data))
    told = fuzz.case(random.Random(0), tmp_path / "case", watch, kind)
    assert (told["wrong"], told["found"]["decoded"] >= 6, told["found"]["unreadable"]) == (None, True, 0)


@pytest.mark.parametrize(
    ("act", "told"),
    [
        (lambda home: (home / "new").write_bytes(b"x"), "open ("),
        (lambda home: os.mkdir(home / "new"), "os.mkdir"),
        (lambda home: os.remove(home / "old"), "os.remove"),
        (lambda home: os.system("true"), "os.system"),
        (lambda home: 1 / 0, "ZeroDivisionError"),
        (lambda home: "said", "said"),
    ],
)
def test_what_is_written_run_or_raised_is_seen(act, told, tmp_path, watch):
    (tmp_path / "old").touch()
    assert told in fuzz._watched(lambda: act(tmp_path) or None, tmp_path, watch)
    assert fuzz._watched(lambda: None, tmp_path, watch) is None


def test_a_file_that_changes_behind_the_hook_is_seen(tmp_path, watch):
    file = (tmp_path / "old").open("wb")
    assert "not as they were" in fuzz._watched(lambda: (file.write(b"x"), file.close())[1], tmp_path, watch)


def test_a_picture_that_is_read_from_outside_is_seen(tmp_path):
    class Leaky:
        def read(self, where):
            return fuzz.SECRET

    assert "outside" in fuzz._told_of("x", Leaky(), True, fuzz.Counter())


def dies(pipe, seed, root, only):
    pipe.recv()
    os.abort()


def hangs(pipe, seed, root, only):
    pipe.recv()
    time.sleep(60)


@pytest.mark.parametrize(("serve", "told"), [(dies, "the process died with -6"), (hangs, "no end after 1 s")])
def test_a_process_that_dies_or_hangs_is_seen_and_begun_anew(serve, told, monkeypatch):
    monkeypatch.setattr(fuzz, "SECONDS", 1)
    monkeypatch.setattr(fuzz, "LOADING", 20 if serve is dies else 0)
    worker = fuzz.Worker(0, Path(), None, serve)
    assert [worker.run(k)["wrong"] for k in range(2)] == [told, told]
    worker.stop()
