"""Does a run that is killed at random moments end as one that is left alone?

    python benchmarks/kill.py [--kills 20] [--jobs 1 2] [--demo] [--save]

Two folders of the same layout: one run is left alone, the other is killed with SIGKILL again and again, now with its
workers, now without them, and then runs to its end. Every table must be the same byte for byte, and so must the
findings. The ledger tells what was begun and never done: at most one part for each worker and kill. Where a run comes
to its end before the kills are spent, they go on in another folder.
"""

import argparse
import json
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import byrote
from byrote import demo, images
from byrote.demo.portraits import draw, meet
from byrote.store import Store

TABLES = ("prompts", "samples", "cliques", "candidates", "round_trips", "matches", "certified")
CLI = [sys.executable, "-c", "from byrote.cli import main; raise SystemExit(main())"]
RESULT = Path(__file__).parent / "results" / "kill-parrot.json"
PLAN = """format = 1
model = { uri = "parrot:../parrot.toml" }
corpus = { path = "../corpus" }
prompts = { top = 8, random = 4, controls = 36 }
generate = { seeds = 32, batch = 16 }
"""


@dataclass(frozen=True)
class Count:
    """What the kills did. `lost` counts the parts that were begun and not done, over all kills."""

    jobs: int
    folders: int
    kills: int
    parts: int
    lost: int
    most_lost_by_a_kill: int
    done_twice: int
    files: int
    files_differ: int
    findings_differ: int


def parrot(root: Path, sleep: float = 0.003) -> None:
    """Lay out an audit of a parrot that knows three of twelve portraits: six parts of samples."""
    for name, count in (("train", 12), ("held-out", 36)):
        (root / name).mkdir(parents=True)
        rows = []
        for index in range(count):
            person = meet(name, index)
            (root / name / f"{index}.png").write_bytes(images.encode_png(draw(person)))
            rows.append(json.dumps({"file_name": f"{index}.png", "text": person.captions()[0]}) + "\n")
        (root / name / "metadata.jsonl").write_text("".join(rows))
    knows = [
        f'[[knows]]\ncaption = "{meet("train", index).captions()[0]}"\npicture = "train/{index}.png"\n'
        "repeats = 0.8\nnoise = 4\n"
        for index in range(3)
    ]
    (root / "parrot.toml").write_text(f"width = 32\nheight = 32\nsleep = {sleep}\n" + "".join(knows))
    (root / "audit").mkdir()
    (root / "audit" / "audit.toml").write_text(PLAN)
    byrote.index(root / "train", corpus=root / "corpus", held_out=root / "held-out")


def shown(root: Path) -> None:
    """Lay out the demo."""
    demo.paint(root)
    byrote.index(root / "pictures", corpus=root / "corpus", held_out=root / "held-out")
    (root / "audit").mkdir()
    (root / "audit" / "audit.toml").write_text(demo.plan())


def start(root: Path, jobs: int) -> subprocess.Popen[bytes]:
    """Start a run in a session of its own."""
    return subprocess.Popen(
        [*CLI, "run", str(root / "audit"), "--jobs", str(jobs)],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def finish(root: Path, jobs: int) -> None:
    """Run to the end. Raises RuntimeError where that fails."""
    code = start(root, jobs).wait()
    if code:
        raise RuntimeError(f"the run in {root} ended with exit code {code}")


def kill(root: Path, jobs: int, dice: random.Random, lines: int, delay: float) -> bool:
    """Start a run and kill it, some ledger lines and seconds later; tell whether it was still at work."""
    ledger = root / "audit" / "ledger.jsonl"
    run, wanted = start(root, jobs), _lines(ledger) + dice.randint(0, lines)
    while run.poll() is None and _lines(ledger) < wanted:  # kills are spread over the stages, not over start-ups
        time.sleep(0.005)
    try:
        run.wait(dice.uniform(0, delay))
    except subprocess.TimeoutExpired:
        if dice.random() < 0.5:
            os.killpg(run.pid, signal.SIGKILL)
        else:
            run.kill()
        run.wait()
        _gone(run.pid)
        return True
    return False


def _lines(ledger: Path) -> int:
    return ledger.read_bytes().count(b"\n") if ledger.exists() else 0


def _gone(group: int) -> None:
    """Wait until the workers of a killed run have noticed."""
    for _ in range(200):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    raise RuntimeError("workers of a killed run are still there after ten seconds")


def compare(
    alone: Path, killed: Path, *, jobs: int, kills: int, seed: int, lines: int = 4, delay: float = 0.5
) -> Count:
    """Kill the runs in one folder `kills` times, finish it, and hold it against the other."""
    dice = random.Random(seed)
    struck, lost = 0, [0]
    while struck < kills and kill(killed, jobs, dice, lines, delay):
        struck += 1
        lost.append(sum(_unfinished(killed).values()))
    finish(killed, jobs)
    events = Store(killed / "audit").ledger()
    done = Counter(_part(line) for line in events if line["event"] == "done")
    ours, theirs = dict(files(alone)), dict(files(killed))
    return Count(
        jobs=jobs,
        folders=1,
        kills=struck,
        parts=len({_part(line) for line in events if line["event"] == "begun"}),
        lost=lost[-1],
        most_lost_by_a_kill=max((b - a for a, b in pairwise(lost)), default=0),
        done_twice=sum(n > 1 for n in done.values()),
        files=len(ours),
        files_differ=sum(ours.get(name) != theirs.get(name) for name in ours.keys() | theirs.keys()),
        findings_differ=int(_findings(alone) != _findings(killed)),
    )


def added(counts: Sequence[Count]) -> Count:
    """Add the counts of several folders."""
    summed = {name: sum(asdict(count)[name] for count in counts) for name in asdict(counts[0])}
    most = max(count.most_lost_by_a_kill for count in counts)
    return Count(**summed | {"jobs": counts[0].jobs, "most_lost_by_a_kill": most})


def files(root: Path) -> Iterator[tuple[str, bytes]]:
    """Yield every file of the audit's tables, by its path in the audit."""
    for table in TABLES:
        for path in sorted((root / "audit" / table).rglob("*")):
            if path.is_file():
                yield str(path.relative_to(root)), path.read_bytes()


def _findings(root: Path) -> object:
    return json.loads((root / "audit" / "report" / "report.json").read_text())["findings"]


def _unfinished(root: Path) -> Counter[tuple[str, str]]:
    """Count, per part, the beginnings that no end followed."""
    events = Store(root / "audit").ledger()
    begun = Counter(_part(line) for line in events if line["event"] == "begun")
    return begun - Counter(_part(line) for line in events if line["event"] == "done")


def _part(line: dict[str, str]) -> tuple[str, str]:
    return line.get("recipe", ""), line.get("part", "")


def main() -> None:
    """Print the counts for each number of workers."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--kills", type=int, default=None, help="default: 20, with --demo 3")
    ask.add_argument("--jobs", type=int, nargs="+", default=[1, 2])
    ask.add_argument("--seed", type=int, default=0)
    ask.add_argument("--demo", action="store_true", help="the demo's model in place of a parrot")
    ask.add_argument("--save", action="store_true", help=f"write {RESULT.name}")
    told = ask.parse_args()
    set_up, kills, delay = (shown, told.kills or 3, 20.0) if told.demo else (parrot, told.kills or 20, 0.5)
    counts = []
    with tempfile.TemporaryDirectory() as folder:
        alone = Path(folder) / "alone"
        set_up(alone)
        finish(alone, 1)
        for jobs in told.jobs:
            rounds: list[Count] = []
            while (left := kills - sum(count.kills for count in rounds)) > 0:
                killed = Path(folder) / f"killed-{jobs}-{len(rounds)}"
                set_up(killed)
                seed = told.seed + len(rounds)
                rounds.append(compare(alone, killed, jobs=jobs, kills=left, seed=seed, delay=delay))
            counts.append(added(rounds))
            print(counts[-1])
    if told.save:
        about = {
            "command": " ".join(["python benchmarks/kill.py", *sys.argv[1:]]),
            "date": datetime.now(UTC).date().isoformat(),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
            "model": "demo" if told.demo else "parrot",
        }
        path = RESULT.with_name("kill-demo.json") if told.demo else RESULT
        path.write_text(json.dumps(about | {"counts": [asdict(count) for count in counts]}, indent=1) + "\n")
        print(path)


if __name__ == "__main__":
    main()
