"""Crops, shifts and mirrors of photographs, planted: which are found among all, and which come within tau.

    python benchmarks/crops.py --photos photos.parquet [--side 64] [--save]

Each kind is planted in 40 photographs, with noise of 4 levels, and looked for among all of them in two ways: by whole
thumbnails and the grid of moves that `[match]` has by default, and anywhere (`[match] anywhere`, `kernels/windows.py`).
Prints for each the share whose picture is among the first five, the share of those that come within tau of it (the
picture given), and milliseconds of a pair.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import planting
from PIL import Image

from byrote.descriptors.thumbnail import Thumbnail
from byrote.images import fit
from byrote.kernels import align, register, windows
from byrote.kernels.search import Nearest
from byrote.kernels.waves import corners

TAU, REACH, TILES, FIRST, PLANTED, NOISE = 0.15, 0.21, 4, 5, 40, 4.0
SHIFT, CROP = 8 / 64, 0.7
"""As far as is looked anywhere: shares of an edge."""
Kind = Callable[[np.ndarray], np.ndarray]


def kinds(dice: np.random.Generator) -> Iterator[tuple[str, Kind]]:
    """Yield what is planted: shifts in 64ths of an edge, and crops in the centre and at random places."""
    for k in (2, 4, 8):
        yield f"shift {k}/64", lambda picture, k=k: shifted(picture, k, dice)
    yield "mirrored", lambda picture: picture[:, ::-1]
    for share in (0.9, 0.8, 0.7):
        yield f"crop {share}, centre", lambda picture, share=share: cropped(picture, share, None)
        yield f"crop {share}", lambda picture, share=share: cropped(picture, share, dice)


def shifted(picture: np.ndarray, k: int, dice: np.random.Generator) -> np.ndarray:
    """Move a picture along both edges, each way at random."""
    dx, dy = dice.choice([-1, 1], 2) * k * len(picture) // 64
    return align.move(picture, align.Alignment(False, 1.0, int(dx), int(dy)))


def cropped(picture: np.ndarray, share: float, dice: np.random.Generator | None) -> np.ndarray:
    """Cut a picture in its centre, or at random, and blow it up again (bicubic)."""
    side, kept = len(picture), round(share * len(picture))
    left, top = ((side - kept) // 2,) * 2 if dice is None else dice.integers(0, side - kept + 1, 2)
    box = int(left), int(top), int(left) + kept, int(top) + kept
    return np.asarray(Image.fromarray(picture).crop(box).resize((side, side), Image.Resampling.BICUBIC))


class Pool:
    """Photographs, held for both ways."""

    def __init__(self, pictures: np.ndarray) -> None:
        self.pictures = pictures
        small = Thumbnail().describe(list(pictures))
        self.whole, self.looked = Nearest(small), windows.listed(SHIFT, CROP)
        self.held = windows.held(small.reshape(len(small), 32, 32, 3), self.looked)

    def by_grid(self, samples: np.ndarray, who: np.ndarray) -> tuple[float, float, float]:
        """Return the shares found and within tau, and milliseconds of a pair."""
        begun = time.process_time()
        views = [self.whole.search(Thumbnail().describe(list(v)), FIRST) for v in (samples, samples[:, :, ::-1])]
        levels, ids = (np.concatenate(columns, 1) for columns in zip(*views, strict=True))
        first = np.take_along_axis(ids, np.argsort(levels, 1, kind="stable")[:, :FIRST], 1)
        moves = align.alignments(2, True, 0.9)
        best = align.best_of_pairs(samples, self.pictures[who], moves=moves, tiles=TILES, cutoff=REACH)
        spent = (time.process_time() - begun) / len(samples) * 1000
        return float((first == who[:, None]).any(1).mean()), float((best.tiled <= TAU).mean()), spent

    def anywhere(self, samples: np.ndarray, who: np.ndarray) -> tuple[float, float, float]:
        """Return the same; of the first five each that is near is measured."""
        begun, side = time.process_time(), min(128, samples.shape[1])
        small = Thumbnail().describe(list(samples)).reshape(-1, 32, 32, 3)
        found = windows.likely(self.held, small, FIRST)
        within = pairs = 0
        for row, own in enumerate(who):
            seen = [samples[row, :, ::-1] if mirrored else samples[row] for mirrored in found.mirrored[row]]
            shown = np.stack([fit(image, side, side) for image in seen])
            holders = np.stack([fit(image, side, side) for image in self.pictures[found.pictures[row]]])
            starts = corners([self.looked[k] for k in found.windows[row]])
            refined, apart = register.refined(holders, shown, starts, SHIFT)
            for rank in np.flatnonzero(apart <= REACH):
                flip, picture = bool(found.mirrored[row, rank]), found.pictures[row, rank]
                moves = align.at_window(*refined[rank].tolist(), flip, *samples.shape[1:3])
                beside = self.pictures[picture][None]
                moved = (align.IDENTITY, *moves)
                best = align.best_of_pairs(samples[row][None], beside, moves=moved, tiles=TILES, cutoff=REACH)
                within += int(picture == own and best.tiled[0] <= TAU)
            pairs += FIRST
        spent = (time.process_time() - begun) / pairs * 1000
        return float((found.pictures == who[:, None]).any(1).mean()), within / len(who), spent


def main() -> None:
    """Plant, look and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    photos = [each.pixels for each in planting.photographs(options.photos)]
    pool, dice = Pool(np.stack([fit(each, options.side, options.side) for each in photos])), np.random.default_rng(0)
    told = {"command": f"benchmarks/crops.py --photos PHOTOS --side {options.side}"}
    told |= {"machine": f"{platform.machine()}, {os.cpu_count()} cores", "date": f"{datetime.now(UTC):%Y-%m-%d}"}
    told |= {"photographs": len(photos), "planted_of_each": PLANTED, "windows": len(pool.looked), "kinds": {}}
    for name, make in kinds(dice):
        who = dice.choice(len(photos), PLANTED, replace=False)
        made = np.stack([make(pool.pictures[k]) for k in who])
        samples = np.clip(made + dice.normal(0, NOISE, made.shape), 0, 255).astype(np.uint8)
        ways = {"grid": pool.by_grid(samples, who), "anywhere": pool.anywhere(samples, who)}
        told["kinds"][name] = {
            way: {"first_five": five, "within_tau": near, "ms": round(spent, 1)}
            for way, (five, near, spent) in ways.items()
        }
        print(name, told["kinds"][name], flush=True)
    if options.save:
        Path("benchmarks/results/crops.json").write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
