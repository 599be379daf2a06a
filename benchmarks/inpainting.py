"""How well a hidden half, filled by the demo's model, tells pictures that it remembers from pictures that it never saw.

    python benchmarks/inpainting.py [--save]

Members: 15 people drawn from those whose picture comes in 80 % of samples of their caption or more
(src/byrote/demo/truth.json). Controls: 20 held-out pictures. Of each the left half is hidden and filled 20 times, 5
sampler steps that go each way down three times, once with its caption and once without text; the statistic is the mean
RMS in that half of the two likeliest fillings. There is no twin, so the loss alone ranks them. For comparison: the
nearest of all 20 fillings, which only who knows the picture can choose, and their mean. About two CPU-minutes.
"""

import argparse
import json
import os
import platform
import random
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from byrote import models
from byrote.demo import MODEL, Truth, album
from byrote.kernels import roc
from byrote.models import Options
from byrote.models.denoiser import Denoiser
from byrote.plan import ExtractPlan
from byrote.stages import risk, scores
from byrote.stages.inpainting import Attack

OFTEN, MEMBERS, CONTROLS = 0.8, 15, 20
CHOICE = 7
PLAN = ExtractPlan(reconstructions=20, times=3)
HALF = "left"


def people() -> tuple[list[album.Row], list[album.Row]]:
    """Return members and controls."""
    truth = Truth.read()
    often = {row.person.name: row for row in album.training_set() if truth.shares.get(row.caption, 0) >= OFTEN}
    drawn = random.Random(CHOICE).sample(sorted(often), MEMBERS)
    return [often[name] for name in drawn], list(album.controls("held-out", CONTROLS))


def measured(denoiser: Denoiser, row: album.Row, *, worded: bool) -> tuple[float, float, float]:
    """Return the statistic of a picture, and the least and the mean error of all its fillings."""
    attack, prompt = Attack(denoiser, [denoiser], HALF, PLAN), row.caption if worded else None
    seeds = [risk.seed_of(f"{row.caption} {worded}", k, CHOICE, "benchmark") for k in range(PLAN.reconstructions)]
    filled = attack.fill(row.pixels(), prompt, seeds)
    return filled.statistic, float(filled.rms.min()), float(filled.rms.mean())


def figures(members: np.ndarray, controls: np.ndarray) -> dict[str, object]:
    """Return quartiles of both sides and the AUC with its interval: smaller is likelier."""
    area = roc.auc(-members, -controls)
    sides = zip(("members", "controls"), (members, controls), strict=True)
    told: dict[str, object] = {side: np.quantile(x, [0, 0.25, 0.5, 0.75, 1]).round(3).tolist() for side, x in sides}
    return told | {"auc": [round(x, 3) for x in (area.auc, area.low, area.high)]}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    model = models.open(f"diffusers:{MODEL}", Options(steps=5, guidance=1.0))
    denoiser = scores.opened_once(model)
    assert denoiser is not None
    members, controls = people()
    began, rows = time.process_time(), []
    for worded in (True, False):
        found = np.array([measured(denoiser, row, worded=worded) for row in (*members, *controls)])
        for k, name in enumerate(("likeliest", "nearest of all", "mean of all")):
            told = figures(found[: len(members), k], found[len(members) :, k])
            rows.append({"text": "caption" if worded else "none", "statistic": name} | told)
            print(f"{rows[-1]['text']:8} {name:15} AUC {told['auc']}, members {told['members']}", flush=True)
            print(f"{'':24} controls {told['controls']}", flush=True)
    cost = Attack(denoiser, [denoiser], HALF, PLAN).evaluations
    spent = time.process_time() - began
    print(f"{cost:,} evaluations a picture, {spent:.0f} CPU-s")
    if options.save:
        about = {
            "command": "benchmarks/inpainting.py --save",
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        }
        about |= {"date": f"{datetime.now(UTC):%Y-%m-%d}", "model": model.digest, "cpu_seconds": round(spent)}
        about |= {"members": MEMBERS, "controls": CONTROLS, "fillings": PLAN.reconstructions, "evaluations": cost}
        Path("benchmarks/results/inpainting.json").write_text(json.dumps(about | {"rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
