"""Whether hostile pictures and archives can crash byrote, hang it, or make it read or write where it should not.

    python benchmarks/fuzz.py [--cases 12000] [--seed 0] [--jobs 2] [--save]

A case takes a small whole source of one kind (benchmarks/specimens.py), or a single picture, damages one of its files
(benchmarks/mutations.py), opens, lists, reads and decodes it, in a process of 3 GiB of address space at most and within
10 seconds. It fails where the process dies or takes longer; where an error comes out that is not CorpusError (opening,
listing), OSError (reading) or Undecodable (decoding), or not of one line; where a picture outside the source is read
(one lies beside it, which mutated names point to); where anything is opened to be written, made, moved, removed, run or
connected to (an audit hook sees it), or where the files around and in the source are not as they were.
"""

import argparse
import json
import os
import platform
import random
import re
import resource
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import islice
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import mutations
import specimens

from byrote import images, sources
from byrote.errors import CorpusError

SECONDS, MEMORY = 10, 3 * 2**30
LOADING = 50  # seconds more for the first case of a process, which loads the libraries
LISTED, READ = 20_000, 40  # rows that are listed and read of a case at most
PICTURES = 0.4  # the share of cases that are one picture
SECRET = specimens.encoded(99, "PNG")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_FORBIDDEN = re.compile(
    r"os\.(mkdir|rename|remove|rmdir|link|symlink|truncate|chmod|chown|utime|exec|fork|posix_spawn|spawn|system)"
    r"|subprocess\.Popen|socket\.(connect|bind)|pickle\.find_class|shutil\.(move|copyfile|rmtree)|tempfile\.mk.*"
)
_OPENED_AS = {"saved": "hf", "npy": "npz"}  # kinds of specimens that are named otherwise


class Watch:
    """What the audit hook saw while a case ran. A hook cannot be taken away again: one for each process."""

    def __init__(self) -> None:
        self.on = False
        self.seen: list[str] = []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event == "open":
            _, mode, flags = arguments
            if (isinstance(flags, int) and flags & _WRITES) or (isinstance(mode, str) and set(mode) & set("wax+")):
                self.seen.append(f"open {arguments}")
        elif _FORBIDDEN.fullmatch(event):
            self.seen.append(f"{event} {arguments}")


def case(die: random.Random, home: Path, watch: Watch, only: str | None = None) -> dict[str, Any]:
    """Run one case in a folder of its own; return what came of it, `wrong` where it is not as it should be."""
    (home / "beside").mkdir(parents=True)
    (home / "secret.png").write_bytes(SECRET)
    (home / "beside" / "secret.png").write_bytes(SECRET)
    try:
        if only is None and die.random() < PICTURES:
            return _picture(die, home, watch)
        return _source(die, only or die.choice(list(specimens.KINDS)), home, watch)
    finally:
        shutil.rmtree(home)


def _picture(die: random.Random, home: Path, watch: Watch) -> dict[str, Any]:
    kind = die.choice((*specimens.FORMATS, "AVIF", "PPM"))
    way, data = mutations.mutated(specimens.encoded(die.randrange(6), kind), f".{kind.lower()}", die)
    (home / "case.bin").write_bytes(data)
    found: Counter[str] = Counter()
    wrong = _watched(lambda: _decoded(data, found), home, watch)
    return {"kind": f"picture {kind}", "way": way, "found": found, "wrong": wrong}


def _source(die: random.Random, kind: str, home: Path, watch: Watch) -> dict[str, Any]:
    place = specimens.KINDS[kind](home / "beside" / "corpus")
    held = [path for path in sorted((home / "beside" / "corpus").rglob("*")) if path.is_file()]
    target = die.choice(
        held if die.random() < 0.3 else [path for path in held if path.suffix in mutations.AIMED] or held
    )
    way, data = mutations.mutated(target.read_bytes(), target.suffix, die)
    target.write_bytes(data)
    uri = f"{_OPENED_AS.get(kind, kind)}:{place}" if die.random() < 0.7 else str(place)
    found: Counter[str] = Counter()
    wrong = _watched(lambda: _walked(uri, die, kind != "list", found), home, watch)
    return {"kind": kind, "way": f"{target.suffix} {way}", "found": found, "wrong": wrong}


def _walked(uri: str, die: random.Random, guarded: bool, found: Counter[str]) -> str | None:
    try:
        source = sources.open(uri)
        listed = list(islice(source.list(), LISTED))
    except CorpusError as error:
        found["refused"] += 1
        return None if len(str(error).splitlines()) == 1 else f"an error of several lines: {error}"
    found["listed"] += len(listed)
    source = sources.open(source.uri) if die.random() < 0.5 else source
    for entry in (listed[: READ // 2] + die.sample(listed, min(len(listed), READ // 2)))[:READ]:
        entry.where.encode()
        wrong = _told_of(entry.where, source, guarded, found)
        if wrong:
            return wrong
    return None


def _told_of(where: str, source: sources.Source, guarded: bool, found: Counter[str]) -> str | None:
    try:
        data = source.read(where)
    except OSError as error:
        found["unreadable"] += 1
        return None if len(str(error).splitlines()) == 1 else f"a reason of several lines: {error}"
    if guarded and data == SECRET:
        return f"{where!r} was read from outside the source"
    return _decoded(data, found)


def _decoded(data: bytes, found: Counter[str]) -> str | None:
    try:
        image = images.decode(data)
    except images.Undecodable as error:
        found["undecodable"] += 1
        return None if len(error.reason.splitlines()) == 1 else f"a reason of several lines: {error}"
    found["decoded"] += 1
    return None if image.ndim == 3 else f"an image of shape {image.shape}"


def _watched(act: Any, home: Path, watch: Watch) -> str | None:
    before = _state(home)
    watch.seen, watch.on = [], True
    try:
        wrong: str | None = act()
    except Exception:  # noqa: BLE001 - whatever comes out is the finding
        wrong = traceback.format_exc(limit=-6)
    finally:
        watch.on = False
    if watch.seen:
        return f"{wrong or ''} {watch.seen[:5]}"
    return wrong if _state(home) == before else f"{wrong or ''} files are not as they were"


def _state(root: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.lstat().st_size, path.lstat().st_mtime_ns) for path in root.rglob("*")}


def serve(pipe: Connection, seed: int, root: Path, only: str | None = None) -> None:
    """Run the cases whose numbers come through a pipe, each with a die of its own."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    sys.dont_write_bytecode = True
    warnings.simplefilter("ignore")
    watch = Watch()
    while (number := pipe.recv()) is not None:
        began = time.monotonic()
        told = case(random.Random(f"{seed} {number}"), root / f"case-{number}", watch, only)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        pipe.send(told | {"seconds": time.monotonic() - began, "peak_mib": peak, "case": number})


class Worker:
    """A process that runs cases, begun anew where one kills it or takes too long."""

    def __init__(self, seed: int, root: Path, only: str | None = None, serve: Callable[..., None] = serve) -> None:
        self._arguments = seed, root, only
        self._serve = serve
        self._start()

    def _start(self) -> None:
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=self._serve, args=(theirs, *self._arguments), daemon=True)
        self._process.start()
        theirs.close()
        self._fresh = True

    def run(self, number: int) -> dict[str, Any]:
        """Run a case; a death or a delay is what came of it."""
        try:
            self._pipe.send(number)
            if self._pipe.poll(SECONDS + LOADING * self._fresh):
                told: dict[str, Any] = self._pipe.recv()
                self._fresh = False
                return told
            wrong = f"no end after {SECONDS} s"
        except (EOFError, OSError):
            self._process.join()
            wrong = f"the process died with {self._process.exitcode}"
        self._process.kill()
        self._process.join()
        self._start()
        nothing = {"kind": "?", "way": "?", "found": Counter(), "seconds": float(SECONDS), "peak_mib": 0}
        return nothing | {"wrong": wrong, "case": number}

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()


def run(cases: int, seed: int, jobs: int, only: str | None = None) -> Iterator[dict[str, Any]]:
    """Run the cases, and yield what came of each."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        idle: SimpleQueue[Worker] = SimpleQueue()
        for _ in range(jobs):
            idle.put(Worker(seed, root, only))

        def one(number: int) -> dict[str, Any]:
            worker = idle.get()
            try:
                return worker.run(number)
            finally:
                idle.put(worker)

        with ThreadPoolExecutor(jobs) as pool:
            yield from pool.map(one, range(cases))
        for _ in range(jobs):
            idle.get().stop()


def summed(told: list[dict[str, Any]]) -> dict[str, Any]:
    """Count what came of the cases."""
    found: Counter[str] = Counter()
    for one in told:
        found.update(one["found"])
    wrong = [one for one in told if one["wrong"]]
    return {
        "cases": len(told),
        "kinds": dict(sorted(Counter(one["kind"] for one in told).items())),
        "mutations": dict(sorted(Counter(way for one in told for way in one["way"].split(" ")[-1].split("+")).items())),
        "found": dict(sorted(found.items())),
        "slowest_s": round(max(one["seconds"] for one in told), 2),
        "peak_mib": max(one["peak_mib"] for one in told),
        "wrong": [{key: one[key] for key in ("case", "kind", "way", "wrong")} for one in wrong],
    }


def main() -> int:
    """Run all and print; the exit status is 1 where any case went wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=12_000)
    parser.add_argument("--only", choices=specimens.KINDS, help="cases of one kind of source")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    began = time.monotonic()
    only = f" --only {options.only}" if options.only else ""
    told = []
    for one in run(options.cases, options.seed, options.jobs, options.only):
        told.append(one)
        if one["wrong"]:
            print(one["case"], one["kind"], one["way"], one["wrong"], flush=True)
    result = {
        "command": f"benchmarks/fuzz.py --cases {options.cases} --seed {options.seed}{only} --save",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "limits": {"seconds": SECONDS, "address_space_mib": MEMORY // 2**20},
        "seconds": round(time.monotonic() - began),
    } | summed(told)
    print(json.dumps(result, indent=1))
    if options.save:
        (Path(__file__).parent / "results" / "fuzz.json").write_text(json.dumps(result, indent=1) + "\n")
    return 1 if result["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
