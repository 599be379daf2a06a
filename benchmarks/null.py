"""How often an audit accuses a model that remembers nothing, and whether planted mistakes are seen.

    python benchmarks/null.py [--audits 2000] [--chain 200] [--save]

Simulated: for each published mistake two sets of audits of worlds without memory (benchmarks/worlds.py), 10 pictures
against 200 controls, so that one finding can be certified: as byrote ships it, where the share of audits with any
certified finding must not exceed alpha, and with the mistake planted, which must be seen to exceed it. Both by an exact
one-sided binomial test at 1 %. The whole chain: each audit splits a pool of look-alike pictures at random into 10
pictures and 200 controls, and a parrot knows others of the same families, drawn for captions of either side alike.
Once as it is and once with a screen: a score, cheap samples, and rules that end early.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats
from worlds import FDR, NULLS, Audit, nearest, world

import byrote
from byrote import images
from byrote.models.parrot import texture

PICTURES, CONTROLS = 10, 200
TEST = 0.01
SIDE, FAMILIES, KNOWN, JITTER = 32, 60, 6, 0.075


def share(audit: Audit, audits: int, first: int) -> dict[str, Any]:
    """Count the audits that accuse, and test whether their share exceeds alpha."""
    accused = sum(audit(first + k, PICTURES, CONTROLS) for k in range(audits))
    p = stats.binomtest(accused, audits, FDR, alternative="greater").pvalue
    return {"accused": accused, "audits": audits, "share": round(accused / audits, 4), "p_value": float(p)}


def single_p(audits: int) -> dict[str, float]:
    """Return how often the p of one picture is at most .05 and .01 in worlds without memory."""
    found = []
    for k in range(audits):
        t, null = nearest(world(k, PICTURES, CONTROLS))
        found.append((1 + (null <= t[0]).sum()) / (1 + CONTROLS))
    return {f"p <= {level}": round(float(np.mean(np.array(found) <= level)), 4) for level in (0.05, 0.01)}


SCREEN = """[screen]
search = 8
steps = 2
score = "closest-pair"
keep = 0.5
confirm = 3
spare = 0.05
"""


def screened(seed: int) -> bool:
    """Tell the same of an audit that screens: by a score, by cheap samples, and with rules that end early."""
    return chained(seed, SCREEN)


def chained(seed: int, more: str = "") -> bool:
    """Tell whether a whole audit of a parrot that knows other pictures certifies anything."""
    dice = np.random.default_rng([seed, 7])
    bases = [texture(dice, SIDE, SIDE) for _ in range(FAMILIES)]
    total = PICTURES + CONTROLS
    pool = [_member(bases, dice) for _ in range(total + KNOWN)]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name, numbers in (("pictures", range(PICTURES)), ("controls", range(PICTURES, total))):
            _paint(root / name, {f"picture number {k}": pool[k] for k in numbers})
        asked = dice.choice(total, KNOWN, replace=False)
        _teach(root, {f"picture number {k}": pool[total + i] for i, k in enumerate(asked)})
        byrote.index(root / "pictures", held_out=root / "controls", corpus=root / "corpus")
        (root / "audit").mkdir()
        (root / "audit" / "audit.toml").write_text(PLAN.format(controls=CONTROLS, seed=seed) + more)
        told = byrote.run(root / "audit").json
    return any(finding["certified"] for finding in told["findings"])


PLAN = """format = 1
[model]
uri = "parrot:../parrot.toml"
[corpus]
path = "../corpus"
[prompts]
top = 0
random = 100
controls = {controls}
seed = {seed}
[generate]
seeds = 3
[match]
shift = 0
flip = false
crop = 1.0
"""


def _member(bases: list[np.ndarray], dice: np.random.Generator) -> np.ndarray:
    base, other = bases[int(dice.integers(len(bases)))], texture(dice, SIDE, SIDE)
    moved = base + (other - 127.5) * JITTER / 0.29
    pixels: np.ndarray = np.clip(np.rint(moved), 0, 255).astype(np.uint8)
    return pixels


def _paint(folder: Path, pictures: dict[str, np.ndarray]) -> None:
    folder.mkdir()
    for k, (caption, pixels) in enumerate(pictures.items()):
        (folder / f"{k:04d}.png").write_bytes(images.encode_png(pixels))
        (folder / f"{k:04d}.txt").write_text(caption)


def _teach(root: Path, knows: dict[str, np.ndarray]) -> None:
    lines = [f"width = {SIDE}", f"height = {SIDE}"]
    for k, (caption, pixels) in enumerate(knows.items()):
        (root / f"{k}.png").write_bytes(images.encode_png(pixels))
        lines += [
            "[[knows]]",
            f"caption = {json.dumps(caption)}",
            f'picture = "{k}.png"',
            "repeats = 0.9",
            "noise = 4.0",
        ]
    (root / "parrot.toml").write_text("\n".join(lines) + "\n")


def main() -> None:
    """Run all and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audits", type=int, default=2000)
    parser.add_argument("--chain", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    began = time.monotonic()
    told: dict[str, Any] = {
        "command": f"benchmarks/null.py --audits {options.audits} --chain {options.chain} --save",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "pictures": PICTURES,
        "controls": CONTROLS,
        "alpha": FDR,
        "test": f"exact one-sided binomial, {TEST:g}",
        "single": single_p(options.audits),
        "simulated": {},
    }
    for place, (name, (shipped, planted)) in enumerate(NULLS.items()):
        first = 10**6 * (place + 1)
        both = {"shipped": share(shipped, options.audits, first), "planted": share(planted, options.audits, first)}
        both["passes"], both["flagged"] = both["shipped"]["p_value"] > TEST, both["planted"]["p_value"] <= TEST
        told["simulated"][name] = both
        print(f"{name:32} shipped {both['shipped']['share']:.4f}, planted {both['planted']['share']:.4f}", flush=True)
    if options.chain:
        for name, task in (("chain", chained), ("chain with a screen", screened)):
            with ProcessPoolExecutor(options.jobs, get_context("spawn")) as pool:
                accused = sum(pool.map(task, range(options.chain)))
            p = float(stats.binomtest(accused, options.chain, FDR, alternative="greater").pvalue)
            told[name] = {"accused": accused, "audits": options.chain, "p_value": p, "passes": p > TEST}
            print(f"{name}: {accused} of {options.chain} accuse", flush=True)
    told["seconds"] = round(time.monotonic() - began)
    print(json.dumps(told, indent=1))
    if options.save:
        Path("benchmarks/results/null.json").write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
