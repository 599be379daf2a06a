"""Exact 50 nearest pictures: byrote's cascade against faiss IndexFlatL2, one core, rotated runs, medians.

    python benchmarks/nearest.py --cifar CIFAR.parquet --photos PHOTOS.parquet [--only NAME ...] [--save]

Four sets: CIFAR-10 pictures and their mirrors; the same without the pictures that are asked for; 64 x 64, half of them
enlarged, half cut from photographs; a million of 32 x 32, CIFAR-10 and cuts of photographs at many scales. Half of the
queries are held out, half are perturbed copies (noise, JPEG, a shift by a pixel). Every answer of byrote is compared
with the integer truth: the sums must be equal, and the ids, ties by id. faiss is given a million vectors in ten blocks,
one after another, for all at once in float32 would take 12 GB; only its searches and the merging are timed.
`faiss_worst_error` is relative to the true squared distance, or to 1 where that is 0.
"""

import argparse
import io
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image
from threadpoolctl import threadpool_limits

from byrote.kernels.search import Nearest

K, RUNS = 50, 5
RESULT = Path(__file__).parent / "results" / "nearest.json"
Levels = NDArray[np.uint8]
Found = tuple[NDArray[np.float64], NDArray[np.int64]]


def column(path: Path, name: str) -> list[bytes | str]:
    """Read one column."""
    rows: list[bytes | str] = pq.read_table(path, columns=[name])[name].to_pylist()
    return rows


def decode(data: bytes) -> Image.Image:
    """Open an encoded image as RGB."""
    return Image.open(io.BytesIO(data)).convert("RGB")


def cifar(path: Path) -> tuple[Levels, Levels]:
    """Return the training and the test pictures of the CIFAR-10 file, uint8 [n, 32, 32, 3]."""
    pictures = np.stack([np.asarray(decode(data)) for data in column(path, "image")])
    is_test = np.array(column(path, "split")) == "test"
    return pictures[~is_test], pictures[is_test]


def cuts(photos: list[Image.Image], each: int, side: int, seed: int) -> Levels:
    """Cut squares of random place and size out of photographs and shrink them, some mirrored."""
    rng = np.random.default_rng(seed)
    out = np.empty((len(photos) * each, side, side, 3), np.uint8)
    for k in range(len(out)):
        photo = photos[k // each]
        size = int(np.exp(rng.uniform(np.log(side), np.log(min(photo.size)))))
        x, y = (int(rng.integers(0, length - size + 1)) for length in photo.size)
        cut = np.asarray(photo.resize((side, side), Image.Resampling.BOX, (x, y, x + size, y + size)))
        out[k] = cut[:, ::-1] if rng.random() < 0.5 else cut
    return out


def perturbed(pictures: Levels, seed: int) -> Levels:
    """Return copies with noise of 8 levels, as JPEG of quality 60, or shifted by a pixel, in turn."""
    rng = np.random.default_rng(seed)
    out = pictures.copy()
    out[::3] = np.clip(np.rint(pictures[::3] + rng.normal(0, 8, pictures[::3].shape)), 0, 255)
    out[1::3] = [_jpeg(picture) for picture in pictures[1::3]]
    out[2::3] = np.roll(pictures[2::3], 1, axis=2)
    return out


def _jpeg(picture: Levels) -> Levels:
    sink = io.BytesIO()
    Image.fromarray(picture).save(sink, "JPEG", quality=60)
    return np.asarray(decode(sink.getvalue()))


def mirrored(pictures: Levels) -> Levels:
    """Return the pictures and then their mirrors."""
    return np.concatenate([pictures, pictures[:, :, ::-1]])


def enlarged(pictures: Levels, side: int) -> Levels:
    """Return the pictures at another size."""
    return np.stack([np.asarray(Image.fromarray(p).resize((side, side), Image.Resampling.LANCZOS)) for p in pictures])


def flat(pictures: Levels) -> Levels:
    """Return a vector a picture."""
    return np.ascontiguousarray(pictures).reshape(len(pictures), -1)


def sets(
    cifar_path: Path, photo_path: Path, work: Path | None = None
) -> dict[str, Callable[[], tuple[Levels, Levels]]]:
    """Return what draws each set: its vectors and its queries."""
    train, test = cifar(cifar_path)
    asked = np.concatenate([test[:256], perturbed(test[256:512], 1)])

    def photos() -> list[Image.Image]:
        return [decode(data) for data in column(photo_path, "image")]

    def large() -> tuple[Levels, Levels]:
        album = photos()
        base = np.concatenate([enlarged(train, 64), cuts(album[:900], 34, 64, 2)[:30000]])
        fresh = np.concatenate([enlarged(test[:128], 64), cuts(album[900:], 2, 64, 3)[:128]])
        copies = perturbed(base[:: len(base) // 256][:256], 4)
        return flat(base), flat(np.concatenate([fresh, copies]))

    return {
        "50,000 of 32 x 32": lambda: (flat(mirrored(np.concatenate([train, test]))), flat(asked)),
        "40,000 of 32 x 32, none of the queries": lambda: (flat(mirrored(train)), flat(asked)),
        "50,000 of 64 x 64": large,
        "1,000,000 of 32 x 32": lambda: million(train, test, photos(), work),
    }


def million(train: Levels, test: Levels, album: list[Image.Image], work: Path | None = None) -> tuple[Levels, Levels]:
    """Draw a million vectors, or read them where a folder keeps them, and 128 queries."""
    kept = work / "million.npy" if work else None
    base = np.load(kept) if kept and kept.exists() else _million(train, album[:900])
    if kept and not kept.exists():
        np.save(kept, base)
    fresh = np.concatenate([test[:32], cuts(album[900:], 1, 32, 3)[:32]])
    copies = perturbed(base[:: len(base) // 64][:64].reshape(-1, 32, 32, 3), 4)
    return base, flat(np.concatenate([fresh, copies]))


def _million(train: Levels, album: list[Image.Image]) -> Levels:
    base = np.empty((1_000_000, 3072), np.uint8)
    at = 2 * len(train)
    base[:at] = flat(mirrored(train))
    each = -(-(len(base) - at) // len(album))
    for k in range(len(album)):
        some = flat(cuts(album[k : k + 1], each, 32, 100 + k))[: len(base) - at]
        base[at : at + len(some)] = some
        at += len(some)
    return base


def merge(parts: list[Found], k: int) -> Found:
    """Return the k nearest of several answers, ties by id."""
    sums, ids = (np.concatenate(side, axis=1) for side in zip(*parts, strict=True))
    order = np.lexsort((ids, sums))[:, :k]
    return np.take_along_axis(sums, order, 1), np.take_along_axis(ids, order, 1)


def truth(vectors: Levels, queries: Levels, k: int) -> Found:
    """Compare every query with every vector: float64 products of whole numbers below 2^53 are exact in any order."""
    asked = queries.astype(np.float64)
    own = np.vecdot(asked, asked)[:, None]
    best: list[Found] = []
    for i in range(0, len(vectors), 4096):
        some = vectors[i : i + 4096].astype(np.float64)
        sums = own + np.vecdot(some, some) - 2 * (asked @ some.T)
        ids = np.broadcast_to(np.arange(i, i + len(some)), sums.shape)
        best = [merge([*best, (sums, ids)], k)]
    return best[0]


def blocks(vectors: Levels) -> Iterator[tuple[int, Levels]]:
    """Cut what would take too much memory as float32 into blocks of 100,000."""
    step = len(vectors) if vectors.size < 10**9 else 100_000
    for i in range(0, len(vectors), step):
        yield i, vectors[i : i + step]


class Peer:
    """faiss IndexFlatL2; what does not fit is indexed block by block, and only searching and merging is timed."""

    def __init__(self, vectors: Levels) -> None:
        self._whole = len(list(blocks(vectors))) == 1
        self._vectors = vectors
        self._indexes = [self._index(vectors)] if self._whole else []

    def _index(self, vectors: Levels) -> object:
        import faiss

        index = faiss.IndexFlatL2(vectors.shape[1])
        for i in range(0, len(vectors), 4096):
            index.add(vectors[i : i + 4096].astype(np.float32))
        return index

    def search(self, queries: Levels) -> tuple[Found, float]:
        """Return what was found and the CPU seconds that it took."""
        parts, took = [], 0.0
        for start, some in blocks(self._vectors):
            index = self._indexes[0] if self._whole else self._index(some)
            begin = time.process_time()
            sums, ids = index.search(queries.astype(np.float32), K)
            parts.append((sums.astype(np.float64), ids + start))
            took += time.process_time() - begin
        begin = time.process_time()
        found = parts[0] if self._whole else merge(parts, K)
        return found, took + time.process_time() - begin


class Ours:
    """byrote."""

    def __init__(self, vectors: Levels) -> None:
        self._index = Nearest(vectors)

    def search(self, queries: Levels) -> tuple[Found, float]:
        """Return what was found and the CPU seconds that it took."""
        begin = time.process_time()
        sums, ids = self._index.search(queries, K)
        return (sums.astype(np.float64), ids), time.process_time() - begin


def timed(make: Callable[[Levels], Peer | Ours], vectors: Levels) -> tuple[Peer | Ours, float]:
    """Build an index; return it with the CPU seconds that it took."""
    begin = time.process_time()
    return make(vectors), time.process_time() - begin


def measure(vectors: Levels, queries: Levels) -> dict[str, object]:
    """Measure one set. Raises SystemExit where byrote is not exact."""
    ours, build = timed(Ours, vectors)
    peer, _ = timed(Peer, vectors)
    ways: dict[str, Peer | Ours] = {"byrote": ours, "faiss": peer}
    took: dict[str, list[float]] = {name: [] for name in ways}
    found: dict[str, Found] = {}
    for run in range(RUNS):
        for name in list(ways)[run % 2 :] + list(ways)[: run % 2]:
            found[name], seconds = ways[name].search(queries)
            took[name].append(seconds / len(queries) * 1000)
    sums, ids = truth(vectors, queries, K)
    if not (np.array_equal(found["byrote"][0], sums) and np.array_equal(found["byrote"][1], ids)):
        raise SystemExit("byrote is not exact")
    off = np.abs(found["faiss"][0] - sums) / np.maximum(sums, 1)
    middle = {name: statistics.median(times) for name, times in took.items()}
    return {
        "vectors": len(vectors),
        "values": vectors.shape[1],
        "queries": len(queries),
        "exact_queries": len(queries),
        "cpu_ms_a_query": {name: round(value, 3) for name, value in middle.items()},
        "all_runs": {name: [round(value, 3) for value in times] for name, times in took.items()},
        "times_faster": round(middle["faiss"] / middle["byrote"], 2),
        "build_cpu_seconds": round(build, 2),
        "faiss_worst_error": float(off.max()),
    }


def machine() -> dict[str, object]:
    """Return the processor and the versions."""
    import faiss

    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return {
        "cpu": cpu or platform.processor(),
        "cores": os.cpu_count(),
        "cores_used": 1,
        "load": round(os.getloadavg()[0], 1),
        "numpy": np.__version__,
        "faiss": faiss.__version__,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar", type=Path, required=True)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=[], help="sets whose name begins so")
    parser.add_argument("--work", type=Path, help="a folder that keeps the million vectors (3 GB) for the next time")
    parser.add_argument("--core", type=int, default=0)
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    import faiss

    os.sched_setaffinity(0, {options.core})
    faiss.omp_set_num_threads(1)
    results = json.loads(RESULT.read_text())["sets"] if RESULT.exists() else {}
    with threadpool_limits(1):
        for name, draw in sets(options.cifar, options.photos, options.work).items():
            if options.only and not any(name.startswith(start) for start in options.only):
                continue
            results[name] = measure(*draw()) | machine() | {"date": f"{datetime.now(UTC):%Y-%m-%d}"}
            print(name, json.dumps(results[name]), flush=True)
            if options.save:
                about = {"command": "python benchmarks/nearest.py --cifar CIFAR --photos PHOTOS --save"}
                RESULT.write_text(json.dumps(about | {"k": K, "runs": RUNS, "sets": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
