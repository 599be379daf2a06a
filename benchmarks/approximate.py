"""Approximate search of a million vectors: building, size, queries a second on one core, recall against exact search.

    python benchmarks/approximate.py --cifar CIFAR.parquet --photos PHOTOS.parquet --work DIR [--only NAME] [--save]

Two sets: the million thumbnails of benchmarks/nearest.py (3,072 levels), and a million synthetic vectors of 512 floats:
2,000 centres, noise, and 48 directions in common that outweigh them; hard, for neighbours differ in 48 ways. Queries
are perturbed rows, 256 to choose the effort and 256 to report. Recall and the queries a second, exact re-ranking of
four times the 50 nearest included, are also given for other efforts.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from nearest import cifar, column, decode, machine, million
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from byrote import nearby
from byrote.kernels import approximate
from byrote.nearby import Nearby, Parts

RESULT = Path(__file__).parent / "results" / "approximate.json"


def synthetic(n: int = 1_000_000, d: int = 512) -> NDArray[np.float32]:
    """Draw centres, directions that all share, and noise."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((2000, d), np.float32)
    directions = rng.standard_normal((48, d), np.float32)
    out = np.empty((n, d), np.float32)
    for i in range(0, n, 10_000):
        own = rng.standard_normal((10_000, 48), np.float32) @ directions
        noise = rng.standard_normal((10_000, d), np.float32)
        out[i : i + 10_000] = centres[rng.integers(0, 2000, 10_000)] + 0.3 * own + 0.3 * noise
    return out


def measure(vectors: NDArray[np.uint8] | NDArray[np.float32], folder: Path) -> dict[str, object]:
    """Make an index and ask it."""
    parts = Parts([vectors])
    begin = time.process_time()
    summary = nearby.make(parts, folder)
    all_seconds = time.process_time() - begin
    print(summary.line(), flush=True)
    index = Nearby.open(folder, parts)
    dice = np.random.default_rng(5)
    rows = vectors[np.sort(dice.choice(len(vectors), 256, replace=False))]
    queries = nearby._perturbed(rows, dice)
    truth, _ = approximate.exact(parts.blocks(), queries, 50)
    ladder = {}
    for effort in (8, 32, 128, 512, 2048):
        begin = time.process_time()
        sums, _ = index._index.nearest(queries, 50, effort, parts.rows)
        took = time.process_time() - begin
        recall = {str(k): round(approximate.recall(sums, truth, k), 4) for k in (1, 10, 50)}
        ladder[str(effort)] = {"queries_a_second": round(len(queries) / took, 1), "recall": recall}
    return {
        "vectors": len(vectors),
        "values": vectors.shape[1],
        "factory": summary.factory,
        "build_seconds": summary.seconds,
        "build_and_measure_cpu_seconds": round(all_seconds, 1),
        "bytes": summary.bytes,
        "effort": summary.effort,
        "recall": summary.recall,
        "depth_asked": 50,
        "by_effort": ladder,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar", type=Path, required=True)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--only", default="", help="the set whose name begins so")
    parser.add_argument("--core", type=int, default=0)
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    import faiss

    os.sched_setaffinity(0, {options.core})
    faiss.omp_set_num_threads(1)

    def thumbnails() -> NDArray[np.uint8]:
        album = [decode(data) for data in column(options.photos, "image")]
        return million(*cifar(options.cifar), album, options.work)[0]

    sets: dict[str, Callable[[], NDArray[np.uint8] | NDArray[np.float32]]] = {
        "1,000,000 synthetic, 512 floats": synthetic,
        "1,000,000 thumbnails, 3,072 levels": thumbnails,
    }
    results = json.loads(RESULT.read_text())["sets"] if RESULT.exists() else {}
    with threadpool_limits(1):
        for name, draw in sets.items():
            if not name.startswith(options.only):
                continue
            measured = measure(draw(), options.work / name.split()[1].strip(","))
            results[name] = measured | machine() | {"date": f"{datetime.now(UTC):%Y-%m-%d}"}
            print(name, json.dumps(results[name]), flush=True)
            if options.save:
                command = "python benchmarks/approximate.py --cifar CIFAR --photos PHOTOS --work DIR --save"
                RESULT.write_text(json.dumps({"command": command, "sets": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
