"""What every peer's script shares: FOLDER OUT.npz on the command line, one core, its CPU seconds beside its pairs.

A script hands over `find(folder) -> Found`. Names are the sorted files of the folder. A pair is two of their numbers,
i < j, with a score where smaller is nearer. CPU seconds are those of the process and of its children; "starting" is
what imports took before the folder was touched. It needs numpy alone, so that it runs in any peer's environment.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Found:
    """The pairs of a tool: int [n, 2] and float [n]; `seconds` may tell its steps apart."""

    pairs: np.ndarray
    scores: np.ndarray
    seconds: dict[str, float] = field(default_factory=dict)


def files(folder: Path) -> list[str]:
    """Return the names of a folder, sorted."""
    return sorted(path.name for path in folder.iterdir())


def cpu() -> float:
    """Return the CPU seconds of this process and of its finished children."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def collected(found: Iterable[tuple[int, int, float]]) -> Found:
    """Return pairs of two different pictures once each, at the smallest of their scores."""
    best: dict[tuple[int, int], float] = {}
    for i, j, score in found:
        if i != j:
            pair = (min(i, j), max(i, j))
            best[pair] = min(score, best.get(pair, score))
    return Found(np.array(list(best), np.int64).reshape(-1, 2), np.array(list(best.values()), np.float64))


def smallest(pairs: np.ndarray, scores: np.ndarray) -> Found:
    """Return pairs int [n, 2], in any order and repeated, once each as i < j, at the smallest of their scores."""
    pairs = np.sort(pairs, axis=1)
    apart = pairs[:, 0] != pairs[:, 1]
    pairs, scores = pairs[apart], scores[apart]
    order = np.lexsort((scores, pairs[:, 1], pairs[:, 0]))
    pairs, scores = pairs[order], scores[order]
    first = np.ones(len(pairs), bool)
    first[1:] = (pairs[1:] != pairs[:-1]).any(1)
    return Found(pairs[first].astype(np.int64), scores[first].astype(np.float64))


def run(find: Callable[[Path], Found], packages: Iterable[str]) -> None:
    """Measure `find` on the folder of the command line, and write OUT.npz and OUT.json."""
    folder, out = Path(sys.argv[1]), Path(sys.argv[2])
    starting, began = cpu(), time.monotonic()
    found = find(folder)
    told = {
        "cpu_seconds": round(cpu(), 2),
        "starting": round(starting, 2),
        "wall_seconds": round(time.monotonic() - began, 2),
        "steps": {key: round(value, 2) for key, value in found.seconds.items()},
        "cores": len(os.sched_getaffinity(0)),
        "versions": {name: version(name) for name in packages},
        "pairs": len(found.pairs),
    }
    np.savez_compressed(out, pairs=found.pairs, scores=found.scores)
    out.with_suffix(".json").write_text(json.dumps(told, indent=1) + "\n")
