"""A run that was killed goes on where it was, and ends as one that was left alone."""

import importlib.util
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "kill.py"


@pytest.fixture(scope="module")
def kill():
    about = importlib.util.spec_from_file_location("kill", BENCHMARK)
    module = importlib.util.module_from_spec(about)
    sys.modules["kill"] = module
    about.loader.exec_module(module)
    yield module
    del sys.modules["kill"]


@pytest.fixture(scope="module")
def alone(kill, tmp_path_factory):
    root = tmp_path_factory.mktemp("alone") / "home"
    kill.parrot(root)
    kill.finish(root, 1)
    return root


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_run_that_is_killed_four_times_ends_byte_for_byte_as_one_that_is_not(kill, alone, tmp_path, jobs):
    killed = tmp_path / "elsewhere" / "home"
    kill.parrot(killed)
    count = kill.compare(alone, killed, jobs=jobs, kills=4, seed=jobs, lines=5, delay=0.5)
    assert count.kills == 4
    assert count.files > 30
    assert count.files_differ == 0
    assert not count.findings_differ
    assert count.done_twice == 0
    assert count.most_lost_by_a_kill <= jobs


def test_a_finished_run_does_nothing_again(kill, alone):
    before = (alone / "audit" / "ledger.jsonl").read_bytes()
    kill.finish(alone, 2)
    assert (alone / "audit" / "ledger.jsonl").read_bytes() == before


def test_a_half_written_part_of_a_killed_run_is_swept_away(kill, alone):
    (folder,) = (alone / "audit" / "samples").iterdir()
    torn = folder / ".00003.parquet.12345.tmp"
    torn.write_bytes(b"PAR1 half")
    kill.finish(alone, 1)
    assert not torn.exists()
