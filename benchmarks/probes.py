"""How well evidence from inside the demo's denoiser tells pictures that come back from those that do not.

    python benchmarks/probes.py --work DIR [--save]

60 pictures whose caption brings them in 30 % of samples or more (src/byrote/demo/truth.json), against 60 held-out ones
with their own captions, against 60 of the training set that never came in 200 samples, and against the 60 themselves
with one another's captions. Nothing was chosen on them: scales, iterations and radius are the paper's, the level of the
norm is that of as much noise as picture. Resumable; about 15 CPU-minutes.
"""

import argparse
import json
import os
import platform
import random
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from byrote import models
from byrote.demo import MODEL, OFTEN, Truth, album
from byrote.kernels import roc
from byrote.models import Options
from byrote.models.denoiser import opened
from byrote.stages import probe
from byrote.stages.probe import Asked

EACH, CHOICE = 60, 12
MEASURES = ("scale", "plain", "gap", "norm")
SWAPPED = {"gap": "swapped_gap", "norm": "swapped"}


def people() -> dict[str, list[tuple[str, np.ndarray]]]:
    """Return captions and pictures of the three kinds."""
    truth, dice = Truth.read(), random.Random(CHOICE)
    known = {row.caption: row for row in album.training_set()}
    often = dice.sample(sorted(c for c, share in truth.shares.items() if share >= OFTEN), EACH)
    never = dice.sample(sorted(c for c, share in truth.shares.items() if share == 0), EACH)
    held = [(row.caption, row.pixels()) for row in album.controls("held-out", EACH)]
    return {
        "often": [(c, known[c].pixels()) for c in often],
        "never": [(c, known[c].pixels()) for c in never],
        "held-out": held,
    }


def probed(path: Path, rows: Sequence[tuple[str, np.ndarray]]) -> dict[str, list[float]]:
    """Probe pictures, once."""
    if not path.exists():
        denoiser = opened(models.open(f"diffusers:{MODEL}", Options(steps=5, guidance=1.0)))
        if denoiser is None:
            raise SystemExit("the demo's model cannot be looked into")
        found = []
        for k in range(0, len(rows), 20):
            some = rows[k : k + 20]
            others = [caption for caption, _ in some[1:] + some[:1]]
            asked = [Asked("control", str(k), c, False, c, other) for (c, _), other in zip(some, others, strict=True)]
            found += probe.probed(denoiser, list(zip(asked, (image for _, image in some), strict=True)))[0]
            print(f"{path.stem}: {len(found)} of {len(rows)}", flush=True)
        names = (*MEASURES, *SWAPPED.values(), "evaluations")
        path.write_text(json.dumps({name: [asdict(row)[name] for row in found] for name in names}))
    told: dict[str, list[float]] = json.loads(path.read_text())
    return told


def figures(ours: Sequence[float], others: Sequence[float]) -> dict[str, list[float]]:
    """Return AUC and TPR at 1 % FPR with their intervals."""
    members, rest = np.array(ours, np.float64), np.array(others, np.float64)
    area, point = roc.auc(members, rest), roc.tpr_at_fpr(members, rest, 0.01)
    told = {"auc": [round(x, 3) for x in (area.auc, area.low, area.high)]}
    return told | ({"tpr": [round(x, 3) for x in (point.tpr, point.tpr_low, point.tpr_high)]} if point else {})


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    found = {kind: probed(options.work / f"{kind}.json", rows) for kind, rows in people().items()}
    rows: dict[str, dict[str, dict[str, list[float]]]] = {}
    for name in MEASURES:
        rows[name] = {kind: figures(found["often"][name], found[kind][name]) for kind in ("held-out", "never")}
        if name in SWAPPED:
            rows[name]["swapped captions"] = figures(found["often"][name], found["often"][SWAPPED[name]])
        print(name, json.dumps(rows[name]), flush=True)
    if options.save:
        about = {"command": "benchmarks/probes.py --save", "machine": f"{platform.machine()}, {os.cpu_count()} cores"}
        about |= {
            "date": f"{datetime.now(UTC):%Y-%m-%d}",
            "each": EACH,
            "evaluations a picture": round(float(np.mean(found["often"]["evaluations"]))),
        }
        Path(__file__).parent.joinpath("results", "probes.json").write_text(
            json.dumps(about | {"rows": rows}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
