"""This process, or a pool of processes on this machine. The driver owns deadlines and resubmission."""

import multiprocessing
import os
import threading
import time
import traceback
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from statistics import median

from byrote.engine import Done, Engine, Part, Task
from byrote.errors import ByroteError

RETRIES = 2
DEADLINE = 3600.0
_PATIENCE = 20.0
_LEAVE = 5.0
Environment = Mapping[str, str]


def engine(jobs: int, turns: Sequence[Environment] = ({},)) -> Engine:
    """Return this process for one job, a pool for more; worker k is born into environment k of `turns`, and round."""
    return Here() if jobs == 1 else Pool(jobs, turns)


class Here:
    """Runs every part in this process, one after the other."""

    def map(self, task: Task, parts: Sequence[Part]) -> Iterator[Done]:
        """Yield each part as it ends."""
        for part in parts:
            for attempt in range(RETRIES + 1):
                failure = _attempt(task, part)
                if isinstance(failure, ByroteError):
                    raise failure
                if failure is None or attempt == RETRIES:
                    yield Done(part, failure)
                    break

    def close(self) -> None:
        """Do nothing: there are no workers."""


class Pool:
    """Runs parts in `jobs` spawned processes.

    A worker that dies, or that is longer at a part than its deadline (20 times the median so far, at least ten
    minutes), is ended, and its part is given to another, twice at most. Whoever takes the place of a worker takes its
    turn: what each environment of `turns` adds to this process's own, the first worker's first, and round.
    """

    def __init__(self, jobs: int, turns: Sequence[Environment] = ({},), *, deadline: float | None = None) -> None:
        if jobs < 1 or not turns:
            raise ValueError(f"{jobs} jobs, {len(turns)} turns")
        self._jobs = jobs
        self._turns = turns
        self._deadline = deadline
        self._workers: list[_Worker] = []

    def map(self, task: Task, parts: Sequence[Part]) -> Iterator[Done]:
        """Yield each part as it ends."""
        waiting = deque((part, 0) for part in parts)
        took: list[float] = []
        while waiting or any(worker.at for worker in self._workers):
            self._hand_out(task, waiting)
            busy = [worker for worker in self._workers if worker.at]
            wait([thing for worker in busy for thing in (worker.pipe, worker.process.sentinel)], timeout=1.0)
            for worker in busy:
                failure = self._look_after(worker, self._limit(took))
                if failure is _AT_WORK:
                    continue
                (part, tries), seconds = worker.release()
                if isinstance(failure, ByroteError):
                    self.close()
                    raise failure
                if failure is None:
                    took.append(seconds)
                    yield Done(part)
                elif tries < RETRIES:
                    waiting.append((part, tries + 1))
                else:
                    yield Done(part, str(failure))

    def close(self) -> None:
        """End the workers."""
        for worker in self._workers:
            worker.end()
        self._workers.clear()

    def _hand_out(self, task: Task, waiting: deque[tuple[Part, int]]) -> None:
        idle = [worker for worker in self._workers if not worker.at]
        while waiting and (idle or len(self._workers) < self._jobs):
            if not idle:
                self._workers.append(self._born())
                idle.append(self._workers[-1])
            part, tries = waiting.popleft()
            idle.pop().take(task, part, tries)

    def _born(self) -> "_Worker":
        """Start a worker at the first place that is free."""
        taken = {worker.place for worker in self._workers}
        place = next(place for place in range(self._jobs) if place not in taken)
        return _Worker(place, self._turns[place % len(self._turns)])

    def _limit(self, took: list[float]) -> float:
        if self._deadline is not None:
            return self._deadline
        return max(600.0, _PATIENCE * median(took)) if took else DEADLINE

    def _look_after(self, worker: "_Worker", limit: float) -> object:
        """Return None for a part that is done, its failure, or _AT_WORK."""
        try:
            if worker.pipe.poll():
                return worker.pipe.recv()
        except (EOFError, OSError):
            return self._bury(worker, "its worker died")
        if not worker.process.is_alive() and not worker.pipe.poll():
            return self._bury(worker, f"its worker died (exit code {worker.process.exitcode})")
        if worker.seconds() > limit:
            return self._bury(worker, f"it took longer than its deadline of {limit:.0f} s")
        return _AT_WORK

    def _bury(self, worker: "_Worker", why: str) -> str:
        worker.end()
        self._workers.remove(worker)
        return why


_AT_WORK = object()


class _Worker:
    def __init__(self, place: int, environment: Environment) -> None:
        context = multiprocessing.get_context("spawn")
        self.place = place
        self.pipe, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(target=_serve, args=(theirs, os.getpid()), daemon=True)
        with _environment(environment):
            self.process.start()
        theirs.close()
        self.at: tuple[Part, int] | None = None
        self._since = 0.0

    def take(self, task: Task, part: Part, tries: int) -> None:
        self.at, self._since = (part, tries), time.monotonic()
        try:
            self.pipe.send((task, part))
        except OSError:
            return  # it died while idle: the driver sees that at its next look

    def seconds(self) -> float:
        return time.monotonic() - self._since

    def release(self) -> tuple[tuple[Part, int], float]:
        if self.at is None:
            raise ValueError("an idle worker has no part")
        at, self.at = self.at, None
        return at, self.seconds()

    def end(self) -> None:
        """Let an idle worker leave by itself; kill one that is at work or does not leave."""
        self.pipe.close()
        if self.at is None:
            self.process.join(_LEAVE)
        self.process.kill()
        self.process.join()


@contextmanager
def _environment(more: Environment) -> Iterator[None]:
    """Have `more` in the environment while a process is born: libraries read it before any code of ours runs there."""
    before = {name: os.environ.get(name) for name in more}
    os.environ.update(more)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _serve(pipe: Connection, driver: int) -> None:
    threading.Thread(target=_leave_with, args=(driver,), daemon=True).start()
    while True:
        try:
            task, part = pipe.recv()
        except EOFError:
            return
        pipe.send(_attempt(task, part))


def _leave_with(driver: int) -> None:
    """End this process when its driver is gone, so that a killed run leaves nobody at work in its folder."""
    while os.getppid() == driver:
        time.sleep(0.2)
    os._exit(1)


def _attempt(task: Task, part: Part) -> ByroteError | str | None:
    try:
        task(part)
    except ByroteError as error:
        return error
    except Exception:  # noqa: BLE001 - whatever a part fails of is reported as that part's failure
        return traceback.format_exc()
    return None
