"""Does a million pictures fit: indexed, deduplicated and searched on one machine, in under 8 GB of memory?

    python benchmarks/million.py --photos photos.parquet --work DIR [--count 1000000] [--jobs 2] [--save]

Pictures are drawn anew: two windows of 64 x 64 of two photographs at one of five sizes, each mirrored or not, laid
over each other in equal parts; JPEG 90, in webdataset shards of 10,000 with captions in a table beside each (the
layout of img2dataset). One in a hundred is an edited copy of another, so that recall is known. Each stage runs in a
process of its own as a person would start it; memory is what that process and its workers held at most, added up.
"""

import argparse
import io
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import simplejpeg
from PIL import Image

from byrote.stages.near import stills
from byrote.store import Store

SIDE, SHARD = 64, 10_000
EDGES = (288, 208, 150, 108, 78)  # shorter edges of the photographs that windows are cut from
EDITS = ("jpeg", "mirror", "turn", "crop", "brightness")
COPIED = 100  # one picture in so many is a copy
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
COMMAND = "benchmarks/million.py --photos photos.parquet --work DIR --save"
_PHOTOS: list[np.ndarray] = []


def load(photos: Path) -> None:
    """Decode the photographs once in each process, each at five sizes."""
    rows = pq.read_table(photos, columns=["image"])["image"].to_pylist()
    data = [row["bytes"] if isinstance(row, dict) else row for row in rows]
    whole = [Image.open(io.BytesIO(one)).convert("RGB") for one in data]
    _PHOTOS[:] = [np.asarray(_sized(photo, edge)) for photo in whole for edge in EDGES]


def _sized(photo: Image.Image, edge: int) -> Image.Image:
    share = edge / min(photo.size)
    return photo.resize((round(photo.width * share), round(photo.height * share)), Image.Resampling.BOX)


def drawn(number: int) -> np.ndarray:
    """Draw a picture by its number: uint8 [64, 64, 3]."""
    dice = np.random.default_rng([7, number])
    first, second = _window(dice), _window(dice)
    return ((first.astype(np.uint16) + second) // 2).astype(np.uint8)


def _window(dice: np.random.Generator) -> np.ndarray:
    which, top, left, mirrored = dice.random(4)
    photo = _PHOTOS[int(which * len(_PHOTOS))]
    y, x = int(top * (photo.shape[0] - SIDE + 1)), int(left * (photo.shape[1] - SIDE + 1))
    window = photo[y : y + SIDE, x : x + SIDE]
    return window[:, ::-1] if mirrored < 0.5 else window


def picture(number: int) -> tuple[np.ndarray, int | None, str | None]:
    """Return a picture, and of a copy the number of its original and the edit."""
    if number % COPIED != COPIED - 1:
        return drawn(number), None, None
    dice = np.random.default_rng([8, number])
    original = int(dice.integers(number))
    original -= original % COPIED == COPIED - 1  # a copy of no copy
    edit = EDITS[number // COPIED % len(EDITS)]
    return edited(drawn(original), edit, dice), original, edit


def edited(image: np.ndarray, edit: str, dice: np.random.Generator) -> np.ndarray:
    """Return an edited copy; JPEG quality is left to whoever writes it."""
    if edit == "mirror":
        return image[:, ::-1]
    if edit == "turn":
        return np.rot90(image)
    if edit == "crop":
        side = int(SIDE * dice.uniform(0.8, 0.95))
        top, left = (int(dice.integers(SIDE - side + 1)) for _ in range(2))
        return image[top : top + side, left : left + side]
    if edit == "brightness":
        return np.minimum(image * dice.uniform(0.8, 1.25), 255).astype(np.uint8)
    return image


def shard(task: tuple[Path, Path, int, int]) -> list[tuple[int, int, str]]:
    """Write a shard, and return its copies: number, original, edit."""
    photos, folder, start, end = task
    if not _PHOTOS:
        load(photos)
    planted, path = [], folder / f"{start // SHARD:05d}.tar"
    with tarfile.open(path.with_suffix(".part"), "w") as tar:
        for number in range(start, end):
            image, original, edit = picture(number)
            data = simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality=50 if edit == "jpeg" else 90)
            member = tarfile.TarInfo(f"{number:09d}.jpg")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
            if original is not None and edit is not None:
                planted.append((number, original, edit))
    keys = [f"{number:09d}" for number in range(start, end)]
    captions = [f"picture {number}" for number in range(start, end)]
    pq.write_table(pa.table({"key": keys, "caption": captions}), path.with_suffix(".parquet"))
    path.with_suffix(".part").rename(path)
    return planted


def make(photos: Path, folder: Path, count: int, jobs: int) -> list[tuple[int, int, str]]:
    """Write all shards."""
    folder.mkdir(parents=True, exist_ok=True)
    tasks = [(photos, folder, k, min(k + SHARD, count)) for k in range(0, count, SHARD)]
    with ProcessPoolExecutor(jobs) as pool:
        return [row for rows in pool.map(shard, tasks) for row in rows]


def run(*arguments: object) -> dict[str, Any]:
    """Run a command of byrote; return its answer, its seconds and what it and its workers held at most together."""
    command = [sys.executable, "-m", "byrote", *map(str, arguments), "--json"]
    began, most = time.monotonic(), 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | ONE_THREAD) as process:
        own = psutil.Process(process.pid)
        while process.poll() is None:
            most = max(most, _held(own))
            time.sleep(0.5)
        answer = process.stdout.read() if process.stdout else b""
    if process.returncode:
        raise SystemExit(f"byrote {arguments[0]} ended with {process.returncode}")
    return {"answer": json.loads(answer), "seconds": round(time.monotonic() - began, 1), "memory": most}


def _held(process: psutil.Process) -> int:
    """Add up the proportional set sizes of a process and its children: a page that several hold counts once."""
    total = 0
    for one in (process, *_children(process)):
        try:
            total += one.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return total


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def stages(corpus: Path, count: int) -> dict[str, float]:
    """Add up what the ledger says of each stage: seconds of all workers."""
    spent: dict[str, float] = {}
    for line in Store(corpus).ledger():
        if line["event"] == "done":
            name = line["table"]
            if name == "likely":
                name = "still" if int(line["part"]) < stills(count) else "moved"
            spent[name] = spent.get(name, 0.0) + line["seconds"]
    return {key: round(value, 1) for key, value in spent.items()}


def recall(table: Path, planted: list[list[Any]]) -> dict[str, dict[str, int]]:
    """Count, for each edit, the planted pairs that were found, and the pairs that nobody planted."""
    rows = pq.read_table(table, columns=["where_a", "where_b"]).to_pylist()
    found = {frozenset((_number(row["where_a"]), _number(row["where_b"]))) for row in rows}
    told: dict[str, dict[str, int]] = {}
    for number, original, edit in planted:
        row = told.setdefault(edit, {"of": 0, "found": 0})
        row["of"] += 1
        row["found"] += frozenset((number, original)) in found
    others = len(found - {frozenset((number, original)) for number, original, _ in planted})
    return told | {"pairs that nobody planted": {"of": len(found), "found": others}}


def _number(where: str) -> int:
    return int(Path(where).stem)


def main() -> None:
    """Draw, run each stage, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    work, shards, corpus = options.work, options.work / "shards", options.work / "corpus"
    if not (work / "planted.json").exists():
        (work / "planted.json").write_text(json.dumps(make(options.photos, shards, options.count, options.jobs)))
    planted = json.loads((work / "planted.json").read_text())
    shutil.rmtree(corpus, ignore_errors=True)
    jobs = ("--jobs", options.jobs)
    indexed = run("index", f"tar:{shards}", "--corpus", corpus, *jobs)
    alike = run("duplicates", "--corpus", corpus, "--pairs", work / "pairs.parquet", *jobs)
    nearby = run("approximate", "--corpus", corpus)
    image = work / "query.jpg"
    load(options.photos)
    image.write_bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(drawn(4321)[4:60, 3:59][:, ::-1]), quality=70))
    checked = run("check", image, "--corpus", corpus)
    told = {
        "command": COMMAND,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {options.jobs} workers",
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "pictures": options.count,
        "wall_seconds": {
            "index": indexed["seconds"],
            "duplicates": alike["seconds"],
            "approximate": nearby["seconds"],
            "check one picture": checked["seconds"],
        },
        "seconds": named(stages(corpus, options.count)) | {"approximate": nearby["seconds"]},
        "memory": {
            name: one["memory"]
            for name, one in (("index", indexed), ("duplicates", alike), ("approximate", nearby), ("check", checked))
        },
        "peak_memory": max(one["memory"] for one in (indexed, alike, nearby, checked)),
        "bytes_per_picture": round(sum(f.stat().st_size for f in corpus.rglob("*") if f.is_file()) / options.count),
        "duplicates": alike["answer"],
        "copies": recall(work / "pairs.parquet", planted),
        "approximate": nearby["answer"],
        "check": {"answer": checked["answer"]["checked"][0]["answer"], "nearest": _first(checked)},
    }
    print(json.dumps(told, indent=1))
    if options.save:
        path = Path(__file__).parent / "results" / "million.json"
        path.write_text(json.dumps(told, indent=1) + "\n")


def named(spent: dict[str, float]) -> dict[str, float]:
    """Return the stages under the names that docs/scale.md has."""
    names = {"pictures": "index", "still": "still", "moved": "moved", "pairs": "measure", "groups": "groups"}
    return {names[key]: value for key, value in spent.items() if key in names}


def _first(checked: dict[str, Any]) -> str:
    return str(checked["answer"]["checked"][0]["nearest"][0]["where"][0])


if __name__ == "__main__":
    main()
