"""Which emoji does the model of benchmarks/emoji.py give back, by the number of copies that it was trained on?

    python benchmarks/copies.py --work DIR [--save]

DIR is that of emoji.py; what is missing of the model is trained first. Its captions are asked as anybody's would be, by
`byrote index` and `byrote run` with the knobs below, none of which was chosen here: all pictures with ten copies or
more, 60 of the others drawn by chance, and 60 that were held out. A sample is a copy of its caption's picture where its
tiled distance to it, or to the picture's way through the autoencoder, is at most tau, the preset .15. The error of that
way is measured on both sides: the autoencoder saw neither. DIR/copies.png shows, a row a picture, most copies first,
the picture, its way through the autoencoder and four samples. Resumable.
"""

import argparse
import json
import os
import platform
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from emoji import COPIES, FONT, SIDE, STEPS, VAE_STEPS, Emoji, Made, copies, draws, made
from PIL import Image

from byrote import api
from byrote.audit import Audit
from byrote.models import Model, Request
from byrote.progress import watcher
from byrote.stages.generate import ask

SEEDS, OTHERS, CONTROLS, DICE = 8, 60, 60, 17
SAMPLER = {"steps": 25, "guidance": 3.0}
BATCH = 64
ROWS, COLUMNS, SHOWN = 15, 4, 4

PLAN = """format = 1
[model]
uri = "diffusers:{model}"
[corpus]
path = "{corpus}"
[prompts]
top = {top}
random = {others}
controls = {controls}
seed = {dice}
[generate]
seeds = {seeds}
steps = {steps}
guidance = {guidance}
batch = {batch}
[cliques]
least = 1
[match]
shift = 1
flip = false
crop = 1.0
candidates = 3
"""


def audit(found: Made, work: Path) -> Audit:
    """Index and audit, or do what is missing of it."""
    corpus, root, watch = work / "corpus", work / "copies", watcher()
    api.index(found.pictures, held_out=found.held_out, corpus=corpus, progress=watch)
    plan = PLAN.format(
        model=found.model, corpus=corpus, top=sum(n for many, n in COPIES.items() if many >= 10), others=OTHERS,
        controls=CONTROLS, dice=DICE, seeds=SEEDS, batch=BATCH, **SAMPLER
    )  # fmt: skip
    root.mkdir(parents=True, exist_ok=True)
    (root / "audit.toml").write_text(plan, encoding="utf-8")
    api.run(root, progress=watch, tell=watch.tell)
    watch.close()
    return Audit(root)


def by_copies(done: Audit) -> list[dict[str, int]]:
    """Count, by copies, the captions that were asked, those that brought their picture, and in how many samples."""
    of_caption = {name: many for (name, _), many in zip(draws()[0], copies(), strict=True)}
    rows = []
    for many in [*COPIES, 0]:  # 0: held out
        asked = [p for p in done.prompts if p.rung == "caption" and of_caption.get(p.text or "", 0) == many]
        hits = [len(done.hits.own(p.group, "caption")) for p in asked]
        rows.append({
            "copies": many, "asked": len(hits), "back": sum(k > 0 for k in hits),
            "in half of the samples": sum(2 * k >= SEEDS for k in hits),
            "samples": SEEDS * len(hits), "samples that are copies": sum(hits),
        })  # fmt: skip
    return rows


def way_through(model: Model, pictures: Iterable[Emoji]) -> list[float]:
    """Return the 5th, 50th and 95th percentile of the RMS error of the way through the autoencoder."""
    originals = np.stack([image for _, image in pictures])
    errors = (np.stack(model.round_trip(list(originals)) or []) - originals.astype(np.float64)) / 255
    rms = np.sqrt(np.square(errors).mean((1, 2, 3)))
    return [round(float(x), 4) for x in np.percentile(rms, [5, 50, 95])]


def sheet(model: Model, path: Path) -> None:
    """Draw some pictures of every number of copies, and of those held out, each with samples of its caption."""
    trained, held_out, _ = draws()
    numbers, first = np.array(copies()), ROWS * COLUMNS // (len(COPIES) + 1)
    chosen = [trained[k] for many in COPIES for k in np.flatnonzero(numbers == many)[:first]] + held_out[:first]
    images = [image for _, image in chosen]
    requests = [Request(name, seed) for name, _ in chosen for seed in range(SHOWN)]
    samples = iter(ask(model, requests, BATCH))
    strips = [
        np.concatenate([image, through, *(next(samples) for _ in range(SHOWN)), np.full((SIDE, 8, 3), 255)], 1)
        for image, through in zip(images, model.round_trip(images) or [], strict=True)
    ]
    columns = [np.concatenate(strips[k * ROWS : (k + 1) * ROWS]) for k in range(COLUMNS)]
    Image.fromarray(np.concatenate(columns, 1).astype(np.uint8)).save(path)


def drawn(sides: Sequence[Sequence[Emoji]]) -> str:
    """Return a digest of who is on which side, pixels and names: another font or Python's Unicode draws otherwise."""
    digest = sha256()
    for side in sides:
        for name, image in side:
            digest.update(name.encode() + b"\0" + image.tobytes())
    return digest.hexdigest()


def told(done: Audit, work: Path) -> dict[str, Any]:
    """Return what is to be told, JSON-ready."""
    report, sides = api.Result(done.root).json, draws()
    certified = [finding for finding in report["findings"] if finding["certified"]]
    return {
        "model": done.model.digest,
        "draws": drawn(sides),
        "unicode": unicodedata.unidata_version,
        "font": sha256(FONT.read_bytes()).hexdigest(),
        "pictures": dict(zip(("trained on", "held out", "autoencoder"), map(len, sides), strict=True)),
        "steps": {"autoencoder": VAE_STEPS, "denoiser": STEPS},
        "training, seconds on a busy machine": {
            name: seconds(work / f"{name}.pt") for name in ("autoencoder", "denoiser")
        },
        "sampler": SAMPLER,
        "tau": done.plan.certify.closest,
        "set aside": set_aside(done),
        "way through the autoencoder, RMS at 5, 50, 95 %": {
            "trained on": way_through(done.model, sides[0]), "held out": way_through(done.model, sides[1]),
        },
        "by copies": by_copies(done),
        "certified": len(certified),
        "controls certified": report["controls"]["certified"],
        "controls within tau": report["tests"]["asked"]["controls_at_cut"],
    }  # fmt: skip


def seconds(checkpoint: Path) -> int:
    """Return how long a training took, over all its runs."""
    return round(torch.load(checkpoint, weights_only=True)["seconds"])


def set_aside(done: Audit) -> dict[str, int]:
    """Count the pictures of each side that have a near-duplicate on the other, so that neither is judged."""
    aside = [row.side for row in done.groups if row.set_aside]
    return {side: aside.count(side) for side in ("picture", "control")}


def main() -> None:
    """Ask and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    work = options.work.resolve()
    done = audit(made(work), work)
    found = told(done, work)
    print(json.dumps(found, indent=1))
    sheet(done.model, work / "copies.png")
    if options.save:
        head = {
            "command": "benchmarks/copies.py --save",
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "date": f"{datetime.now(UTC):%Y-%m-%d}",
        }
        (Path(__file__).parent / "results" / "copies.json").write_text(json.dumps(head | found, indent=1) + "\n")


if __name__ == "__main__":
    main()
