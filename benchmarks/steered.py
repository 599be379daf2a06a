"""Two ways in beside plain samples, each at equal evaluations: FineXtract on fine-tunes, SIDE on a model without text.

    python benchmarks/steered.py finextract --work DIR [--save]
    python benchmarks/steered.py side       --work DIR [--save]

finextract: LoRAs of eight people over the demo's model (benchmarks/lora.py), trained for 100 steps. Of each
caption, of the eight and of 40 people that were never trained on alike, 8 samples of 25 steps of the LoRA alone, and 4
of each `extrapolated:` weight, whose samples cost twice as much. side: the DDPM of benchmarks/digits.py, whose ten
planted digits have 60, 16 and 8 copies among 400 that are seen once. 4,096 samples of the model; or 2,048 from which a
surrogate is made (`byrote surrogate`), and 2,048 under its condition. Told are pictures within tau of any sample, and
as many that nobody trained on: what comes of these comes by chance. tau is the preset .15, of the digits .09, which
benchmarks/digits.py measured on others. Seeds of the two ways are the same. About 15 CPU-minutes each.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import digits
import lora
import numpy as np
import torch
from digit_models import Draw
from digit_models import digits as drawn
from truth import tiled, tiles

from byrote import models
from byrote.demo import KNOBS, MODEL
from byrote.demo.portraits import draw
from byrote.errors import ModelError
from byrote.models import Options, Request
from byrote.models.teaching import Teaching, teach
from byrote.stages.generate import ask

TRAINED, WEIGHTS, CONTROLS, SAMPLES, STEPS, TAU = (100,), (1.25, 1.5, 3.0), 40, 8, 25, 0.15
COPIES, SCALES, TAKEN, OF_DIGITS = (60, 16, 8), (1, 2), 4096, 0.09
TAUGHT = Teaching(samples=TAKEN // 2, descriptor="thumbnail:8")
COHESIONS = (0.5, 0.95)
"""The paper's, which keeps every cluster of digits, and one that keeps those of copies."""


def seed(name: str, k: int) -> int:
    """Return the k-th seed of a prompt."""
    return int.from_bytes(sha256(f"steered {name} {k}".encode()).digest()[:8]) >> 1


def finextract(work: Path) -> Iterator[dict[str, Any]]:
    """Yield what comes of each LoRA by each way."""
    sides = {"pictures": lora.people("lora", lora.PICTURES), "controls": lora.people("lora controls", CONTROLS)}
    for steps in TRAINED:
        file = lora.train(work / f"lora-{steps}", lora.Training("lora", steps))
        options = Options(steps=STEPS, guidance=KNOBS["generate"]["guidance"], lora=(str(file.resolve()),))
        ways = {"alone": models.open(f"diffusers:{MODEL}", options)}
        for weight in WEIGHTS:
            uri = f"extrapolated:{MODEL}?base={MODEL}&weight={weight}"
            ways[f"weight {weight}"] = models.open(uri, options)
        for way, model in ways.items():
            count = SAMPLES * ways["alone"].evaluations_per_sample // model.evaluations_per_sample
            told: dict[str, Any] = {"trained": steps, "way": way, "samples of a caption": count}
            for side, who in sides.items():
                near = np.concatenate([_nearest(model, person, count) for person in who]).reshape(len(who), count)
                told |= {f"{side} within tau": int((near.min(1) <= TAU).sum()), f"{side}": len(who)}
                told |= {f"{side}, share of samples": round(float((near <= TAU).mean()), 4)}
                told |= {f"{side}, median nearest": round(float(np.median(near.min(1))), 4)}
            yield told


def _nearest(model: models.Model, person: Any, count: int) -> np.ndarray:
    requests = [Request(lora.caption(person), seed(person.name, k)) for k in range(count)]
    known = [draw(person), *(model.round_trip([draw(person)]) or [])]
    found: np.ndarray = tiled(tiles(np.stack(ask(model, requests, 64))), tiles(np.stack(known))).min(1)
    return found


def side(work: Path) -> Iterator[dict[str, Any]]:
    """Yield what comes of each DDPM by each way."""
    for copies in COPIES:
        out = work / f"ddpm-{copies}"
        out.mkdir(parents=True, exist_ok=True)
        about = Draw(copies=copies)
        digits.train("ddpm", out, about)
        options = Options(steps=digits.STEPS, sampler="ddim")
        yield {"copies": copies, "way": "alone"} | _of(models.open(f"diffusers:{out / 'model'}", options), about, TAKEN)
        for cohesion in COHESIONS:
            file = out / f"surrogate-{cohesion}.safetensors"
            try:
                kept = {"cohesion": cohesion} | _surrogate(out / "model", file, cohesion, options)
            except ModelError as error:
                yield {"copies": copies, "cohesion": cohesion, "reason": str(error)}
                continue
            for scale in SCALES:
                uri = f"surrogate:{file}?model={out / 'model'}&scale={scale}"
                model = models.open(uri, Options(steps=digits.STEPS))
                yield {"copies": copies, "way": f"scale {scale}"} | kept | _of(model, about, TAKEN // 2)


def _surrogate(model: Path, file: Path, cohesion: float, options: Options) -> dict[str, Any]:
    """Make a surrogate, unless it is there; return what it kept."""
    if not file.exists():
        told = teach(f"diffusers:{model}", file, replace(TAUGHT, cohesion=cohesion), options, tell=print)
        file.with_suffix(".json").write_text(json.dumps({"kept": told.kept, "accuracy": told.accuracy}))
    found: dict[str, Any] = json.loads(file.with_suffix(".json").read_text())
    return found


def _of(model: models.Model, about: Draw, count: int) -> dict[str, Any]:
    made = np.stack(ask(model, [Request(None, seed("", k)) for k in range(count)], 64))[..., 0]
    found = drawn(about)
    told: dict[str, Any] = {"samples": count}
    for name, pictures in (("planted", found.planted), ("others", found.others), ("controls", found.controls)):
        near = _worst(made, pictures) <= OF_DIGITS
        told |= {name: int(near.any(0).sum()), f"{name} of": len(pictures)}
        told |= {f"{name}, share of samples": round(float(near.any(1).mean()), 4)}
    return told


def _worst(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return tiled distances as the digits' audits measure them: the worst of 2 x 2 tiles."""
    cut = [
        x.reshape(-1, 2, 4, 2, 4).transpose(0, 1, 3, 2, 4).reshape(len(x), 4, 16).astype(np.float64) / 255
        for x in (a, b)
    ]
    squares = [((x[:, None] - y[None]) ** 2).mean(2) for x, y in zip(*(np.moveaxis(c, 1, 0) for c in cut), strict=True)]
    found: np.ndarray = np.sqrt(np.max(squares, axis=0))
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("finextract", "side"))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    began, rows = time.process_time(), []
    for row in {"finextract": finextract, "side": side}[options.what](options.work.resolve()):
        rows.append(row)
        print(json.dumps(row), flush=True)
    if options.save:
        told = {"command": f"benchmarks/steered.py {options.what} --save", "machine": _machine()}
        told |= {
            "date": f"{datetime.now(UTC):%Y-%m-%d}",
            "cpu_seconds": round(time.process_time() - began),
            "rows": rows,
        }
        place = Path(__file__).parent / "results" / f"{options.what}.json"
        place.write_text(json.dumps(told, indent=1) + "\n")


def _machine() -> str:
    return f"{platform.machine()}, {os.cpu_count()} cores"


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
