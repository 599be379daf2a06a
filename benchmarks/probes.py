"""How well evidence from inside the demo's denoiser tells pictures that come back from those that do not.

    python benchmarks/probes.py --work DIR [--save]

100 pictures whose caption brings them in 30 % of samples or more (src/byrote/demo/truth.json), one of a person, against
100 held-out ones with their own captions; against 100 of the training set that never came in 200 samples; against the
100 themselves with one another's captions; and against the held-out ones with the captions of the 100. The last two
tell a measure of pictures from one of captions. The radius was chosen between the paper's two on 40 others that come
back and 40 other held-out ones, which are told apart; the iterations are the paper's, the level of the norm is that of
as much noise as picture. Resumable; about 7 CPU-minutes.
"""

import argparse
import json
import os
import platform
import random
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from byrote import models
from byrote.demo import MODEL, OFTEN, Truth, album
from byrote.kernels import roc
from byrote.models import Options
from byrote.models.denoiser import opened
from byrote.plan import ProbePlan
from byrote.stages import probe
from byrote.stages.probe import Asked

EACH, OTHERS, CHOICE = 100, 40, 12
MEASURES = ("scale", "plain", "gap", "norm")
RADII = (0.25, 0.5)
Rows = list[dict[str, float | None]]
Pictures = list[tuple[str, np.ndarray]]


def pictures() -> dict[str, Pictures]:
    """Return captions and pictures of the three kinds, and of two of them others to choose by."""
    truth, dice = Truth.read(), random.Random(CHOICE)
    known = {row.caption: row for row in album.training_set()}
    often = {known[c].person.name: c for c in sorted(truth.shares) if truth.shares[c] >= OFTEN}
    never = [c for c in sorted(truth.shares) if not truth.shares[c] and not truth.hits.get(known[c].person.name)]
    drawn = [often[name] for name in dice.sample(sorted(often), EACH + OTHERS)]
    ours = [(c, known[c].pixels()) for c in drawn]
    theirs = [(row.caption, row.pixels()) for row in album.controls("held-out", EACH + OTHERS)]
    return {
        "often": ours[:EACH],
        "held-out": theirs[:EACH],
        "never": [(c, known[c].pixels()) for c in dice.sample(never, EACH)],
        "often, to choose": ours[EACH:],
        "held-out, to choose": theirs[EACH:],
    }


def probed(path: Path, rows: Pictures, others: Sequence[str | None], radius: float) -> Rows:
    """Probe pictures, once."""
    if not path.exists():
        denoiser, began = opened(models.open(f"diffusers:{MODEL}", Options(steps=5, guidance=1.0))), time.process_time()
        if denoiser is None:
            raise SystemExit("the demo's model cannot be looked into")
        told, found = replace(ProbePlan(), radius=radius), []
        for k in range(0, len(rows), probe.TOGETHER):
            some = zip(rows[k : k + probe.TOGETHER], others[k:], strict=False)
            asked = [(Asked("control", "", c, False, c, other), image) for (c, image), other in some]
            found += [asdict(row) for row in probe.probed(denoiser, asked, told)[0]]
        path.write_text(json.dumps(found))
        print(f"{path.stem}: {time.process_time() - began:.0f} CPU-s", flush=True)
    read: Rows = json.loads(path.read_text())
    return read


def figures(ours: Rows, others: Rows, name: str, swapped: str = "") -> dict[str, list[float]]:
    """Return AUC and TPR at 1 % FPR with their intervals."""
    members, rest = (
        np.array([row[key] for row in rows], np.float64) for rows, key in ((ours, name), (others, swapped or name))
    )
    area, point = roc.auc(members, rest), roc.tpr_at_fpr(members, rest, 0.01)
    told = {"auc": [round(x, 3) for x in (area.auc, area.low, area.high)]}
    if point is not None:
        told["tpr"] = [round(x, 3) for x in (point.tpr, point.tpr_low, point.tpr_high)]
        told["fpr"] = [round(x, 3) for x in (point.fpr, point.fpr_low, point.fpr_high)]
    return told


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    kinds = pictures()
    radius = ProbePlan().radius
    captions = [caption for caption, _ in kinds["often"]]
    others = {"often": captions[1:] + captions[:1], "held-out": captions}
    found = {
        kind: probed(options.work / f"{kind}.json", kinds[kind], others.get(kind, [None] * EACH), radius)
        for kind in ("often", "held-out", "never")
    }
    ours, rows = found["often"], {}
    for name in MEASURES:
        rows[name] = {kind: figures(ours, found[kind], name) for kind in ("held-out", "never")}
        if name != "plain":
            rows[name]["often, swapped captions"] = figures(ours, ours, name, f"swapped_{name}")
            rows[name]["held-out, captions of often"] = figures(ours, found["held-out"], name, f"swapped_{name}")
        print(name, json.dumps(rows[name]), flush=True)
    choice = {}
    for each in RADII:
        a, b = (
            probed(options.work / f"{kind} {each}.json", kinds[kind], [None] * OTHERS, each)
            for kind in ("often, to choose", "held-out, to choose")
        )
        choice[f"radius {each}"] = {name: figures(a, b, name)["auc"] for name in ("scale", "plain", "gap")}
    print("to choose by", json.dumps(choice), flush=True)
    if options.save:
        about = {"command": "benchmarks/probes.py --save", "machine": f"{platform.machine()}, {os.cpu_count()} cores"}
        about |= {"date": f"{datetime.now(UTC):%Y-%m-%d}", "model": Truth.read().model, "each": EACH, "radius": radius}
        spent = {kind: round(float(np.mean([row["evaluations"] for row in of]))) for kind, of in found.items()}
        medians = {kind: {n: float(np.median([row[n] for row in of])) for n in MEASURES} for kind, of in found.items()}
        told = about | {"evaluations a picture": spent, "medians": medians, "rows": rows, "others to choose by": choice}
        Path(__file__).parent.joinpath("results", "probes.json").write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
