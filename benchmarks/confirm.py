"""How many noises to confirm: where those whose full samples come near stand among all, by their cheap samples.

    python benchmarks/confirm.py --work DIR [--save]

DIR is that of benchmarks/budget.py demo, whose captions are left out: here `[screen] confirm` was chosen, there it is
judged. Of 200 other captions of the demo's training set, one of a person, those at the edge: 8 cheap samples (5 steps)
come no further than tau + .06 from the picture or its round trip, 32 no nearer than .75 tau, but one within tau. Each
such gets 200 cheap and 200 full samples (25 steps) of the same noises. Prints in what places, ordered by the cheap
sample, full ones within tau stand, and the share of captions with any of which the first k places hold one; beside it
that of k noises in the order of drawing. About 10 CPU-minutes.
"""

import argparse
import json
import os
import platform
import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from truth import tiled, tiles

from byrote import models
from byrote.audit import Audit
from byrote.demo import MODEL, album
from byrote.models import Options, Request

CAPTIONS, SAMPLES, FIRST, SEARCH, TAU, SURELY, SLACK, DICE = 200, 200, 8, 32, 0.15, 0.75, 0.06, 12
PLACES = (1, 2, 4, 8, 16, 32, 64)


def away(model: models.Model, caption: str, picture: np.ndarray, first: int, end: int) -> np.ndarray:
    """Return how far samples of a caption are from a picture or its round trip, the nearer."""
    seeds = [int(np.random.default_rng([DICE, k]).integers(2**62)) for k in range(first, end)]
    made = tiles(np.stack(model.generate([Request(caption, seed) for seed in seeds])))
    known = tiles(np.stack([picture, *(model.round_trip([picture]) or [])]))
    found: np.ndarray = tiled(made, known).min(1)
    return found


def places(cheap: models.Model, full: models.Model, caption: str, picture: np.ndarray) -> dict[str, Any] | None:
    """Return where full samples within tau stand, or None of a caption that is not at the edge."""
    near = away(cheap, caption, picture, 0, FIRST)
    if near.min() > TAU + SLACK:
        return None
    near = np.concatenate([near, away(cheap, caption, picture, FIRST, SEARCH)])
    if not SURELY * TAU < near.min() <= TAU:
        return None
    near = np.concatenate([near, away(cheap, caption, picture, SEARCH, SAMPLES)])
    came = away(full, caption, picture, 0, SAMPLES) <= TAU
    at = np.argsort(near, kind="stable")
    return {
        "cheap within tau": int((near <= TAU).sum()),
        "places": np.flatnonzero(came[at]).tolist(),
        "drawn": np.flatnonzero(came).tolist(),
    }


def main() -> None:
    """Draw, order and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    judged = {p.text for p in Audit(options.work / "audits-demo" / "all").prompts}
    rows: dict[str, Any] = {}
    for row in album.training_set():
        rows.setdefault(row.person.name, row)
    others = [row for name, row in sorted(rows.items()) if not any(name in (text or "") for text in judged)]
    cheap, full = (models.open(f"diffusers:{MODEL}", Options(steps=n, guidance=1.0)) for n in (5, 25))
    found = []
    for row in random.Random(DICE).sample(others, CAPTIONS):
        told = places(cheap, full, row.caption, row.pixels())
        if told is not None:
            found.append(told)
            print(told["cheap within tau"], told["places"], flush=True)
    some = [told for told in found if told["places"]]
    shares = {
        way: {k: round(float(np.mean([told[way][0] < k for told in some])), 3) for k in PLACES}
        for way in ("places", "drawn")
    }
    print(f"{len(found)} of {CAPTIONS} captions are at the edge, {len(some)} of them come back: {shares}")
    if options.save:
        told = {"command": "benchmarks/confirm.py --save", "machine": f"{platform.machine()}, {os.cpu_count()} cores"}
        told |= {"date": f"{datetime.now(UTC):%Y-%m-%d}", "captions": CAPTIONS, "at the edge": found, "shares": shares}
        (Path(__file__).parent / "results" / "confirm.json").write_text(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
