"""Does a million pictures fit: indexed, deduplicated and searched on one machine, in under 8 GB of memory?

python benchmarks/million.py --photos photos.parquet --work DIR [--count 1000000] [--jobs 2] [--save]

Pictures are drawn anew: two windows of 64 x 64 of two photographs at one of five sizes, each mirrored or not, laid
over each other in equal parts; JPEG 90, in webdataset shards of 10,000 with captions in a table beside each (the
layout of img2dataset). One in a hundred is an edited copy of another, so that recall is known. Each stage runs in a
process of its own as a person would start it; memory is what that process and its workers held at most, added up.
"""

import io
import tarfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import simplejpeg
from PIL import Image

SIDE, SHARD = 64, 10_000
EDGES = (288, 208, 150, 108, 78)  # shorter edges of the photographs that windows are cut from
EDITS = ("jpeg", "mirror", "turn", "crop", "brightness")
COPIED = 100  # one picture in so many is a copy
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
