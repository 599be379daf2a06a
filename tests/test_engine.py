"""Parts end the same wherever they run; what dies, hangs or fails is retried, then told."""

import os
import time
from collections import Counter
from contextlib import closing

import pytest
import tasks

from byrote.engine import Part
from byrote.engine.local import RETRIES, Here, Pool, engine
from byrote.errors import ModelError

PARTS = [Part(f"{number:05d}", number) for number in range(6)]


def outputs(folder):
    return {path.name: path.read_text() for path in folder.iterdir() if path.suffix == ""}


def attempts(folder):
    return {path.stem: path.read_text().split() for path in folder.glob("*.attempts")}


def work(engine, task, parts=PARTS):
    with closing(engine):
        return {end.part.name: end.failure for end in engine.map(task, parts)}


@pytest.mark.parametrize("jobs", [1, 2, 3])
def test_outputs_do_not_depend_on_the_number_of_workers(tmp_path, jobs):
    ends = work(engine(jobs), tasks.Write(tmp_path))
    assert ends == {part.name: None for part in PARTS}
    assert outputs(tmp_path) == {part.name: str(part.payload**2) for part in PARTS}
    assert all(len(tries) == 1 for tries in attempts(tmp_path).values())


def test_one_job_stays_in_this_process_and_more_leave_it(tmp_path):
    (tmp_path / "here").mkdir()
    (tmp_path / "pool").mkdir()
    work(engine(1), tasks.Write(tmp_path / "here"))
    work(engine(2), tasks.Write(tmp_path / "pool"))
    assert {pid for tries in attempts(tmp_path / "here").values() for pid in tries} == {str(os.getpid())}
    workers = {pid for tries in attempts(tmp_path / "pool").values() for pid in tries}
    assert str(os.getpid()) not in workers
    assert len(workers) <= 2


def test_a_worker_that_dies_is_replaced_and_its_part_done_again(tmp_path):
    ends = work(Pool(2), tasks.DieOnce(tmp_path))
    assert ends == {part.name: None for part in PARTS}
    assert Counter({name: len(tries) for name, tries in attempts(tmp_path).items()})["00002"] == 2
    assert outputs(tmp_path)["00002"] == "4"


def test_a_part_that_kills_every_worker_is_given_up_and_the_others_are_done(tmp_path):
    ends = work(Pool(2), tasks.AlwaysDie(tmp_path))
    assert "worker died" in ends.pop("00002")
    assert set(ends.values()) == {None}
    assert len(attempts(tmp_path)["00002"]) == RETRIES + 1
    assert "00002" not in outputs(tmp_path)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_part_that_fails_is_given_up_with_its_reason_after_the_retries(tmp_path, jobs):
    ends = work(engine(jobs), tasks.Fail(tmp_path))
    assert "two is not for me" in ends.pop("00002")
    assert set(ends.values()) == {None}
    assert len(attempts(tmp_path)["00002"]) == RETRIES + 1


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_part_that_fails_once_is_done_at_the_second_try(tmp_path, jobs):
    assert set(work(engine(jobs), tasks.FailOnce(tmp_path)).values()) == {None}
    assert outputs(tmp_path) == {part.name: str(part.payload**2) for part in PARTS}


def test_a_worker_that_is_longer_than_its_deadline_is_ended(tmp_path):
    began = time.monotonic()
    ends = work(Pool(1, deadline=2.0), tasks.Hang(tmp_path), PARTS[1:4])
    assert "deadline of 2 s" in ends.pop("00002")
    assert set(ends.values()) == {None}
    assert time.monotonic() - began < 60


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_mistake_of_the_user_is_raised_at_once(tmp_path, jobs):
    many = [Part(f"{number:05d}", number) for number in range(200)]
    with pytest.raises(ModelError, match="model nowhere is not there"):
        work(engine(jobs), tasks.Mistake(tmp_path), many)
    assert len(attempts(tmp_path)["00002"]) == 1
    assert len(attempts(tmp_path)) < 50


def test_a_pool_takes_a_second_map_with_the_same_workers(tmp_path):
    with closing(Pool(2)) as pool:
        assert len(list(pool.map(tasks.Write(tmp_path), PARTS[:3]))) == 3
        assert len(list(pool.map(tasks.Write(tmp_path), PARTS[3:]))) == 3
    assert len({pid for tries in attempts(tmp_path).values() for pid in tries}) <= 2


def test_no_parts_are_no_work():
    assert work(Pool(2), tasks.Write(None), []) == {}
    assert work(Here(), tasks.Write(None), []) == {}


def test_a_pool_of_nobody_is_a_mistake_of_the_program():
    with pytest.raises(ValueError, match="0 jobs"):
        Pool(0)


def seen(folder):
    """Return for each worker, in the order of their first parts, what device it saw at its birth and later."""
    rows = [line.split() for line in (folder / "seen").read_text().splitlines()]
    assert all(born == now for _, _, born, now in rows)
    return {pid: born for _, pid, born, _ in rows}


def devices(*names):
    return [{"CUDA_VISIBLE_DEVICES": name} for name in names]


def test_each_worker_sees_the_device_whose_turn_it_is_from_its_birth_on(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7,8")
    work(Pool(3, devices("7", "8")), tasks.Where(tmp_path), [Part(f"{k:05d}", 0) for k in range(6)])
    assert sorted(seen(tmp_path).values()) == ["7", "7", "8"]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "7,8"


def test_whoever_takes_the_place_of_a_dead_worker_takes_its_device(tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    parts = [Part("00000", 0), Part("00001", 2), *(Part(f"{k:05d}", 0) for k in range(2, 9))]
    ends = work(Pool(2, devices("0", "1")), tasks.Where(tmp_path), parts)
    assert set(ends.values()) == {None}
    assert list(seen(tmp_path).values()).count("0") == 1
    assert list(seen(tmp_path).values()).count("1") == 2
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


def test_without_turns_workers_see_what_this_process_sees(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")
    work(Pool(1), tasks.Where(tmp_path), PARTS[:1])
    assert list(seen(tmp_path).values()) == ["5"]


def test_a_pool_without_turns_is_a_mistake_of_the_program():
    with pytest.raises(ValueError, match="0 turns"):
        Pool(2, [])
