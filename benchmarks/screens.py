"""How well each score of `byrote screen` tells the demo's prompts that bring a picture back from those that do not.

    python benchmarks/screens.py --work DIR [--save]

Members: 150 captions of 150 people, drawn from those whose picture comes in 30 % of samples or more
(src/byrote/demo/truth.json). Controls: 150 held-out captions, and 150 swaps: the members' captions with one another's
names. A control may bring a picture back all the same, so each is asked 8 times, and the figures are given against all
of them and against those in which nothing came within the truth's cut of any training picture or its round trip. The
model is asked as the demo asks it: 5 steps, no guidance. The pilot sees 40 of the 450 prompts and no label. Resumable;
about 14 CPU-minutes in all.
"""

import argparse
import json
import os
import platform
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from truth import tiled, tiles

from byrote import models
from byrote.demo import MODEL, OFTEN, TRUTH, Truth, album
from byrote.kernels import roc
from byrote.models import Options, Request
from byrote.stages import risk, scores
from byrote.stages.generate import ask

EACH = 150
SEEDS = 4
ASKED = 8
CHOICE = 6
PILOT = 40
STEPS = 5
WHOLE = ("norm-all", "bright-ending")  # of one noise: they cost as much as samples
ONE_STEP = ("agreement", "closest-pair", "edges")  # also of images that were drawn in one step
LATER = ("norm", "x0-agreement", "x0-edges", "displacement", "sharpness")  # also at the second step
WANTED = [(name, STEPS) for name in (*scores.SCORES, *(f"{name}@2" for name in LATER))]
WANTED += [(name, 1) for name in ONE_STEP]


def prompts() -> dict[str, list[str]]:
    """Return the three kinds of prompts."""
    truth, dice = Truth.read(), random.Random(CHOICE)
    names = {row.caption: row.person.name for row in album.training_set()}
    often = {names[c]: c for c in sorted(truth.shares) if truth.shares[c] >= OFTEN}
    people = dice.sample(sorted(often), EACH)
    swaps = [often[a].replace(a, b) for a, b in zip(people, people[1:] + people[:1], strict=True)]
    held = [row.caption for row in album.controls("held-out", EACH)]
    return {"members": [often[name] for name in people], "held-out": held, "swaps": swaps}


def model(steps: int = STEPS) -> models.Model:
    """Open the demo's model as its audit does."""
    return models.open(f"diffusers:{MODEL}", Options(steps=steps, guidance=1.0))


def seeds(asked: Sequence[str], count: int, what: str) -> list[list[int]]:
    """Draw noises."""
    return [[risk.seed_of(prompt, k, CHOICE, what) for k in range(count)] for prompt in asked]


def kept(path: Path, make: Callable[[], np.ndarray]) -> np.ndarray:
    """Make an array once."""
    if not path.exists():
        began = time.process_time()
        np.save(path, make())
        print(f"{path.stem}: {time.process_time() - began:.0f} CPU-s", flush=True)
    return np.load(path)


def brought(controls: Sequence[str]) -> np.ndarray:
    """Count, for each control, the samples that come within the truth's cut of a training picture."""
    shown = {(row.person.name, row.brighter): row for row in album.training_set()}
    pictures = [row.pixels() for row in shown.values()]
    training = tiles(np.stack([*pictures, *(model().round_trip(pictures) or [])]))
    drawn = seeds(controls, ASKED, "benchmark truth")
    requests = [Request(prompt, seed) for prompt, row in zip(controls, drawn, strict=True) for seed in row]
    batches = (requests[k : k + 64] for k in range(0, len(requests), 64))
    near = np.concatenate([tiled(tiles(np.stack(ask(model(), batch, 64))), training).min(1) for batch in batches])
    cut = json.loads(TRUTH.read_text(encoding="utf-8"))["cut"]
    return (near < cut).reshape(-1, ASKED).sum(1)


def figures(members: np.ndarray, others: np.ndarray) -> dict[str, object]:
    """Return AUC and TPR at 1 % FPR with their intervals."""
    area, point = roc.auc(members, others), roc.tpr_at_fpr(members, others, 0.01)
    told: dict[str, object] = {"others": len(others), "auc": [round(x, 3) for x in (area.auc, area.low, area.high)]}
    if point is not None:
        told["tpr"] = [round(x, 3) for x in (point.tpr, point.tpr_low, point.tpr_high)]
        told["fpr"] = [round(x, 4) for x in (point.fpr, point.fpr_low, point.fpr_high)]
    return told


def against(values: np.ndarray, hits: np.ndarray) -> dict[str, dict[str, object]]:
    """Hold the members against each kind of controls: all of them, and those of which nothing came."""
    told = {}
    for k, kind in enumerate(("held-out", "swaps")):
        theirs, came = values[EACH * (k + 1) : EACH * (k + 2)], hits[EACH * k : EACH * (k + 1)]
        told[kind] = figures(values[:EACH], theirs)
        told[f"{kind}, nothing came"] = figures(values[:EACH], theirs[came == 0])
    return told


def measured(work: Path, name: str, steps: int, asked: Sequence[str]) -> tuple[np.ndarray, int]:
    """Return a score of all prompts and the evaluations that one costs."""
    score, count = scores.named(name), 1 if name in WHOLE else SEEDS
    made = kept(work / f"{name}-{steps}.npy", lambda: score.of(model(steps), asked, seeds(asked, count, "benchmark")))
    return made, score.evaluations(model(steps), count)


def line(row: dict[str, object]) -> str:
    """Say a row in one line."""
    tried, kinds = row["pilot"], [each for each in row.values() if isinstance(each, dict) and "auc" in each]
    areas = "  ".join("{:.3f} ({:.3f} to {:.3f})".format(*each["auc"]) for each in kinds)
    told = f"{tried['correlation'][0]:+.2f}{'' if tried['usable'] else ' not usable'}"
    return f"{row['score']:15} {row['steps']} steps, {row['evaluations']:2} evaluations: {areas}  pilot {told}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    kinds = prompts()
    asked = [prompt for kind in kinds.values() for prompt in kind]
    chosen = np.sort(np.random.default_rng(CHOICE).permutation(len(asked))[:PILOT])
    some = [asked[k] for k in chosen]
    drawn = seeds(some, risk.FULL, "benchmark pilot")
    alike = kept(options.work / "pilot.npy", lambda: scores.SCORES["agreement"].of(model(), some, drawn))
    hits = kept(options.work / "hits.npy", lambda: brought(kinds["held-out"] + kinds["swaps"]))
    rows = []
    for name, steps in WANTED:
        values, evaluations = measured(options.work, name, steps, asked)
        tried = asdict(scores.pilot(values[chosen], alike))
        rows.append({"score": name, "steps": steps, "evaluations": evaluations, "pilot": tried} | against(values, hits))
        print(line(rows[-1]), flush=True)
    came = {kind: float((hits[k * EACH : (k + 1) * EACH] > 0).mean()) for k, kind in enumerate(("held-out", "swaps"))}
    print(f"controls with a training picture in {ASKED} samples: {came}")
    if options.save:
        about = {"command": "benchmarks/screens.py --save", "machine": f"{platform.machine()}, {os.cpu_count()} cores"}
        about |= {"date": f"{datetime.now(UTC):%Y-%m-%d}", "model": model().digest, "each": EACH, "seeds": SEEDS}
        about |= {"pilot": PILOT, "controls that bring a picture back": came, "rows": rows}
        Path("benchmarks/results/screens.json").write_text(json.dumps(about, indent=1) + "\n")


if __name__ == "__main__":
    main()
