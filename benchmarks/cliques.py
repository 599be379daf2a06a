"""Is there a clique of 10 among 500 samples of 512 x 512? byrote against a matrix product per tile at full resolution.

Four cases: diverse samples, similar ones (one layout, details of their own), 20 copies among diverse ones, all copies.
Prints CPU seconds a prompt on one thread, medians of rotated runs, and how many times faster byrote answers. Both must
give the same answer. "kept means" are the block means that byrote keeps when it makes the samples; their making is not
counted there, and is counted in "without".
"""

import argparse
import io
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image, ImageOps
from threadpoolctl import threadpool_limits

from byrote.kernels.cliques import clique_of, find
from byrote.kernels.distance import block_means

SIDE, TILES, WITHIN, LEAST = 512, 4, 0.1, 10
Images = NDArray[np.uint8]


def waves(rng: np.random.Generator, low: float, high: float) -> NDArray[np.float32]:
    """Draw a field whose spectrum falls as in photographs between two frequencies (cycles an image)."""
    f = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None]) * SIDE
    keep = np.where((f >= low) & (f < high), np.maximum(f, 1) ** -1.2, 0)
    spectrum = keep * np.fft.rfft2(rng.standard_normal((3, SIDE, SIDE)))
    field = np.fft.irfft2(spectrum, (SIDE, SIDE)).transpose(1, 2, 0)
    return (field / field.std()).astype(np.float32)


def levels(field: NDArray[np.float32]) -> Images:
    """Round to levels around middle grey."""
    return np.ascontiguousarray(np.clip(np.rint(field + 128), 0, 255), dtype=np.uint8)


def drawn() -> Callable[[int], Images]:
    """Return an endless album of drawn images."""
    return lambda k: levels(55 * waves(np.random.default_rng([1, k]), 0.5, 256))


def photos(path: Path) -> Callable[[int], Images]:
    """Return the photographs of a Parquet file (a column of encoded images), cropped square, over and over."""
    table = pq.read_table(path)
    column = next(c for c in table.column_names if "image" in c or "jpg" in c or "bytes" in c)
    rows = table[column].to_pylist()

    def photo(k: int) -> Images:
        row = rows[k % len(rows)]
        image = Image.open(io.BytesIO(row["bytes"] if isinstance(row, dict) else row)).convert("RGB")
        return np.asarray(ImageOps.fit(image, (SIDE, SIDE), Image.Resampling.LANCZOS))

    return photo


def noisy(image: Images, k: int) -> Images:
    """Return a copy as a model gives it back: noise of 3 levels and a slight change of brightness."""
    rng = np.random.default_rng([2, k])
    return levels(image.astype(np.float32) - 128 + rng.normal(0, 3, image.shape).astype(np.float32) + rng.normal(0, 2))


def cases(n: int, album: Callable[[int], Images]) -> dict[str, Callable[[], Images]]:
    """Return what draws each case."""
    copies = min(20, n // 2)

    def similar() -> Images:
        layout = album(0).astype(np.float32) - 128
        return np.stack([levels(0.7 * layout + 26 * waves(np.random.default_rng([3, k]), 10, 256)) for k in range(n)])

    def among() -> Images:
        return np.stack([noisy(album(0), k) if k % (n // copies) == 0 else album(k) for k in range(n)])

    return {
        "diverse": lambda: np.stack([album(k) for k in range(n)]),
        "similar": similar,
        f"{copies} copies": among,
        f"{n} copies": lambda: np.stack([noisy(album(0), k) for k in range(n)]),
    }


def product(samples: Images) -> bool:
    """Measure all pairs by a float32 matrix product per tile, then ask."""
    n, side = len(samples), SIDE // TILES
    worst = np.zeros((n, n), np.float32)
    for y in range(0, SIDE, side):
        for x in range(0, SIDE, side):
            tile = samples[:, y : y + side, x : x + side].reshape(n, -1).astype(np.float32)
            tile /= 255
            norms = np.vecdot(tile, tile)
            squares = norms[:, None] + norms - 2 * (tile @ tile.T)
            np.maximum(worst, squares / tile.shape[1], out=worst)
    near = worst <= WITHIN**2
    np.fill_diagonal(near, False)
    return clique_of(near, LEAST) is not None


def ask(samples: Images, means: NDArray[np.float32] | None, seconds: float) -> bool:
    """Ask byrote."""
    return find(samples, means, tiles=TILES, within=WITHIN, least=LEAST, seconds=seconds).found


def rotated(ways: dict[str, Callable[[], bool]], runs: int) -> tuple[dict[str, float], set[bool]]:
    """Run the ways in turn, each round starting with the next; return median CPU seconds and all answers."""
    took: dict[str, list[float]] = {name: [] for name in ways}
    answers = set()
    names = list(ways)
    for k in range(runs):
        for name in names[k % len(names) :] + names[: k % len(names)]:
            start = time.process_time()
            answers.add(ways[name]())
            took[name].append(time.process_time() - start)
    return {name: statistics.median(times) for name, times in took.items()}, answers


def measure(samples: Images, runs: int, seconds: float) -> dict[str, object]:
    """Measure one case. Raises SystemExit where the answers differ."""
    means = block_means(samples, 4 * TILES)
    ways = {
        "product": lambda: product(samples),
        "byrote, kept means": lambda: ask(samples, means, 0),
        "byrote, without": lambda: ask(samples, None, 0),
        "byrote, kept means, and the largest": lambda: ask(samples, means, seconds),
    }
    took, answers = rotated(ways, runs)
    if len(answers) != 1:
        raise SystemExit("the answers differ")
    times_faster = took["product"] / took["byrote, kept means"]
    return {"found": answers.pop(), "cpu_seconds": took, "times_faster": times_faster}


def machine() -> dict[str, object]:
    """Return the processor's model and the number of cores."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    model = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor()
    )
    return {"cpu": model, "cores": os.cpu_count(), "numpy": np.__version__, "python": platform.python_version()}


def main() -> None:
    """Run the cases and print a line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="cap on the search for the largest clique")
    parser.add_argument("--photos", type=Path, help="a Parquet file of photographs to take instead of drawn images")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/cliques-DATE.json")
    args = parser.parse_args()
    album = photos(args.photos) if args.photos else drawn()
    command = " ".join(["python", "benchmarks/cliques.py", *sys.argv[1:]])
    out: dict[str, object] = {"command": command, "machine": machine(), "samples": args.samples, "side": SIDE}
    out |= {"tiles": TILES, "within": WITHIN, "least": LEAST, "runs": args.runs}
    print(json.dumps(out, indent=2))
    results = {}
    for name, draw in cases(args.samples, album).items():
        results[name] = found = measure(draw(), args.runs, args.seconds)
        print(name, json.dumps(found), flush=True)
    if args.save:
        path = Path(__file__).parent / "results" / f"cliques-{date.today().isoformat()}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(out | {"cases": results}, indent=2) + "\n")
        print(f"saved {path.name}")


if __name__ == "__main__":
    with threadpool_limits(1):
        main()
