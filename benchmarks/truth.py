"""What the demo's model really brings back: every training caption asked 200 times.

    python benchmarks/truth.py --work DIR [--jobs 2] [--save]

Seeds are disjoint from every audit's; sampler and steps are the demo's. A sample is picture x's if x is the nearest of
all training pictures, and nearer than any sample of this run comes to any picture of a second, fresh control draw.
Near means the plain tiled distance (4 x 4), unaligned, to the picture or to its round trip: dense matrix products, none
of byrote's search or alignment. Resumable: a caption that is done is not asked again.
"""

import argparse
import json
import os
import platform
import time
from collections import Counter, defaultdict
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from byrote import models
from byrote.demo import KNOBS, MODEL, TRUTH, album
from byrote.models import Options, Request
from byrote.stages.generate import ask

SEEDS = 200
TILES = 4
A_PART = 10


@lru_cache(maxsize=1)
def model() -> models.Model:
    """Open the demo's model as its audit does."""
    knobs = KNOBS["generate"]
    return models.open(f"diffusers:{MODEL}", Options(steps=knobs["steps"], guidance=knobs["guidance"]))


def tiles(pictures: np.ndarray) -> np.ndarray:
    """Cut uint8 [n, h, w, 3] into float32 [16, n, pixels of a tile] in [0, 1]."""
    n, h, w, c = pictures.shape
    cut = pictures.reshape(n, TILES, h // TILES, TILES, w // TILES, c).transpose(1, 3, 0, 2, 4, 5)
    return np.ascontiguousarray(cut.reshape(TILES * TILES, n, -1).astype(np.float32) / 255)


def tiled(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the tiled distances of two sets of tiles: float32 [n, m]."""
    worst = np.zeros((a.shape[1], b.shape[1]), np.float32)
    for one, other in zip(a, b, strict=True):
        squares = (one**2).sum(1)[:, None] + (other**2).sum(1)[None] - 2 * one @ other.T
        np.maximum(worst, squares, out=worst)
    return np.sqrt(np.maximum(worst, 0) / a.shape[2])


def references(work: Path) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return training pictures and fresh controls, each with its round trip, as arrays on disk, and who is who."""
    named: dict[tuple[str, bool], np.ndarray] = {}
    for row in album.training_set():
        if (row.person.name, row.brighter) not in named:
            named[row.person.name, row.brighter] = row.pixels()
    names = [name for name, _ in named]
    for file, made in (
        ("training.npy", lambda: np.stack(list(named.values()))),
        ("fresh.npy", lambda: np.stack([r.pixels() for r in album.controls("second held-out", album.SECOND_HELD_OUT)])),
    ):
        if not (work / file).exists():
            pictures = made()
            trips = model().round_trip(list(pictures))
            np.save(work / file, np.concatenate([pictures, np.stack(trips)]))
    return np.load(work / "training.npy"), np.load(work / "fresh.npy"), names


@lru_cache(maxsize=1)
def _tiles_of(work: Path) -> tuple[np.ndarray, np.ndarray, list[str]]:
    training, fresh, names = references(work)
    return tiles(training), tiles(fresh), names


def do(work: Path, number: int, captions: list[str]) -> float:
    """Ask for some captions, and write who came, how near, and how near a fresh control came."""
    path = work / f"{number:05d}.npz"
    if path.exists():
        return 0.0
    began = time.monotonic()
    training, fresh, names = _tiles_of(work)
    requests = [Request(caption, _seed(caption, k)) for caption in captions for k in range(SEEDS)]
    made = tiles(np.stack(ask(model(), requests, KNOBS["generate"]["batch"])))
    near = tiled(made, training)
    who = near.argmin(1)
    best = near[np.arange(len(who)), who]
    beside = work / f".{number:05d}.npz"
    np.savez(beside, who=who % len(names), near=best, control=tiled(made, fresh).min(1))
    os.replace(beside, path)
    return time.monotonic() - began


def _seed(caption: str, k: int) -> int:
    return int.from_bytes(sha256(f"truth {caption} {k}".encode()).digest()[:8]) >> 1


def score(work: Path, parts: list[list[str]], names: list[str]) -> dict[str, object]:
    """Put the parts together."""
    read = [np.load(work / f"{number:05d}.npz") for number in range(len(parts))]
    cut = float(min(part["control"].min() for part in read))
    owner = {row.caption: row.person.name for row in album.training_set()}
    shares: dict[str, float] = {}
    hits: Counter[str] = Counter()
    for part, captions in zip(read, parts, strict=True):
        who = [names[k] if near < cut else None for k, near in zip(part["who"], part["near"], strict=True)]
        for k, caption in enumerate(captions):
            came = who[k * SEEDS : (k + 1) * SEEDS]
            shares[caption] = round(came.count(owner[caption]) / SEEDS, 4)
            hits.update(name for name in came if name)
    return {"model": model().digest, "seeds": SEEDS, "cut": round(cut, 4), "shares": shares, "hits": dict(hits)}


def summary(found: dict[str, object]) -> list[str]:
    """Say per copy tier how many pictures come back how often."""
    copies = Counter(row.person.name for row in album.training_set())
    best: dict[str, float] = defaultdict(float)
    for row in album.training_set():
        best[row.person.name] = max(best[row.person.name], found["shares"][row.caption])
    lines = [f"cut {found['cut']}: the nearest that any sample comes to a fresh control"]
    for tier in sorted(set(copies.values())):
        people = [best[name] for name in copies if copies[name] == tier]
        often = [sum(share >= least for share in people) for least in (0.05, 0.2, 0.3)]
        lines.append(f"{tier:4} copies: {len(people):4} people, at least 5 / 20 / 30 %: {often}")
    return lines


def main() -> None:
    """Ask, score, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument(
        "--save", action="store_true", help="write it where the demo reads it, and to benchmarks/results"
    )
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    captions = sorted({row.caption for row in album.training_set()})
    parts = [captions[k : k + A_PART] for k in range(0, len(captions), A_PART)]
    _, _, names = references(options.work)
    began = time.monotonic()
    with ProcessPoolExecutor(options.jobs, get_context("spawn")) as pool:
        jobs = [pool.submit(do, options.work, number, part) for number, part in enumerate(parts)]
        for number, job in enumerate(jobs):
            job.result()
            if number % 10 == 9:
                print(f"{number + 1} of {len(parts)} parts, {time.monotonic() - began:.0f} s", flush=True)
    found = score(options.work, parts, names)
    lines = summary(found)
    print("\n".join(lines))
    if options.save:
        TRUTH.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
        machine = f"{platform.machine()}, {os.cpu_count()} cores"
        about = {"command": "benchmarks/truth.py --save", "machine": machine, "date": f"{datetime.now(UTC):%Y-%m-%d}"}
        about |= {"samples": len(captions) * SEEDS, "cut": found["cut"], "lines": lines, "model": found["model"]}
        Path("benchmarks/results/truth.json").write_text(json.dumps(about, indent=1) + "\n")


if __name__ == "__main__":
    main()
