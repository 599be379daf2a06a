"""Two models without prompts that really remember, a DDPM and a GAN, audited side by side as Carlini et al. 2023 do.

    python benchmarks/digits.py train ddpm|gan --out DIR
    python benchmarks/digits.py audit ddpm|gan --out DIR
    python benchmarks/digits.py table --work DIR [--save]

`train` makes DIR/model, a folder of diffusers, or DIR/G.onnx; `digit_models.py` says on what. `audit` indexes what was
trained on with controls that were not, measures tau on a further draw that no audit judges, samples, matches and
certifies: the chain that anybody's model goes through. `table` does both for both and prints them side by side.

Beside what byrote certifies stands what the paper's rule alone would call extracted (arXiv:2301.13188, section 5.1): a
picture that some sample is as near as half its mean distance to its 50 nearest of the training set. The same rule is
put to pictures that nobody was trained on, as many as there are distinct training pictures: what it calls extracted of
them is false, whoever is right. Quality is a Frechet distance in the 16 principal components of the digits that chose
tau, to the rows of training, copies counted; it is no FID, and comparable within this table only.
"""

import argparse
import json
import os
import platform
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from digit_models import SIDE, Denoiser, Draw, Duel, Grey, digits, train_ddpm, train_gan
from scipy.linalg import sqrtm

import byrote
from byrote import images
from byrote.audit import Audit
from byrote.before.tau import measure
from byrote.stages import generate, silent

MODELS = ("ddpm", "gan")
SAMPLES, SEEDS = 4096, 64
STEPS = 10
SHARE = 0.001
ALPHA, NEAREST = 0.5, 50
COMPONENTS = 16
KNOBS = {
    "generate": {"seeds": SEEDS, "batch": 64},
    "cliques": {"tiles": 2},
    "match": {"shift": 0, "flip": False, "crop": 1.0},
}
"""Beside the defaults: 64 samples for each prompt without text; of 8 x 8 pixels tiles of 4 x 4, and nothing moved."""


LINES = {
    "samples": "samples",
    "certified: distinct training pictures": "certified",
    "  of the planted": "certified_planted",
    "  recall of the planted": "recall_of_planted",
    "  of the others, seen once": "certified_others",
    "within tau, whatever the controls say": "within_tau",
    "controls certified": "controls_certified",
    "controls within tau": "controls_within_tau",
    "samples that are copies, per million": "copies_per_million_samples",
    "adaptive ratio alone: training pictures": "paper_extracted",
    "  of them planted": "paper_extracted_planted",
    "  of as many pictures held out (false)": "paper_extracted_of_held_out",
    "Frechet distance to the rows of training": "frechet_to_training",
    "training, CPU-s": "training_cpu_seconds",
    "audit, seconds of work": "audit_seconds",
}


def train(name: str, out: Path, draw: Draw, say: Any = print) -> float:
    """Train a model unless it is there, and return the CPU-seconds that this took."""
    told = out / "trained.json"
    if not told.exists():
        began = time.process_time()
        if name == "ddpm":
            train_ddpm(out / "model", draw, Denoiser(), say)
        else:
            train_gan(out, draw, Duel(), say)
        told.write_text(json.dumps({"cpu_seconds": round(time.process_time() - began, 1)}) + "\n")
    return float(json.loads(told.read_text())["cpu_seconds"])


def audit(name: str, out: Path, draw: Draw, samples: int = SAMPLES) -> Path:
    """Index, measure tau, and audit a model that `train` made; return the folder of the audit."""
    folder = out / "audit"
    if (folder / "report" / "report.json").exists():
        return folder
    found = digits(draw)
    _paint(out / "pictures", found.pictures, [draw.copies] * draw.planted + [1] * draw.others)
    for place, held_out in (("controls", found.controls), ("second", found.second)):
        _paint(out / place, held_out, [1] * len(held_out))
    byrote.index(out / "pictures", held_out=out / "controls", corpus=out / "corpus")
    folder.mkdir(exist_ok=True)
    (folder / "audit.toml").write_text(_plan(name, samples))
    tau = measure(folder, str(out / "second"), share=SHARE, progress=silent)
    (folder / "audit.toml").write_text(_plan(name, samples, tau.closest))
    byrote.run(folder, tell=print)
    return folder


def _plan(name: str, samples: int, closest: float | None = None) -> str:
    sampler = {"ddpm": {"sampler": "ddim", "steps": STEPS}, "gan": {}}[name]
    uri = {"ddpm": "diffusers:../model", "gan": "onnx:../G.onnx"}[name]
    told = {"model": {"uri": uri}, "corpus": {"path": "../corpus"}} | KNOBS
    told |= {"generate": KNOBS["generate"] | sampler}
    told |= {"prompts": {"top": 0, "random": samples // SEEDS, "controls": 0, "seed": 1}}
    told |= {} if closest is None else {"certify": {"closest": closest}}
    lines = ["format = 1"]
    for section, knobs in told.items():
        lines += [f"[{section}]", *(f"{key} = {json.dumps(value)}" for key, value in knobs.items())]
    return "\n".join(lines) + "\n"


def _paint(folder: Path, pictures: Grey, copies: list[int]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for k, (picture, n) in enumerate(zip(pictures, copies, strict=True)):
        data = images.encode_png(_rgb(picture))
        for copy in range(n):
            (folder / f"{k:04d}-{copy:02d}.png").write_bytes(data)


def _rgb(picture: Grey) -> Grey:
    return np.repeat(picture[..., None], 3, axis=2)


def samples_of(folder: Path) -> Grey:
    """Return the samples of an audit, grey: uint8 [n, 8, 8]."""
    done = Audit(folder)
    made = done.recipes.samples
    return np.concatenate([generate.read(done.store, made, part)[1][..., 0] for part in done.store.parts(made)])


def by_paper(samples: Grey, pictures: Grey) -> np.ndarray:
    """Tell which pictures the adaptive ratio alone calls extracted: bool [pictures]."""
    far = _rms(samples, pictures)
    nearest = np.sort(far, 1)[:, :NEAREST].mean(1, keepdims=True)
    return (far <= ALPHA * nearest).any(0)


def _rms(a: Grey, b: Grey) -> np.ndarray:
    x, y = _vectors(a), _vectors(b)
    squares = (x**2).sum(1)[:, None] + (y**2).sum(1)[None] - 2 * x @ y.T
    return np.sqrt(np.maximum(squares, 0) / SIDE**2)


def _vectors(pictures: Grey) -> np.ndarray:
    return pictures.reshape(len(pictures), -1).astype(np.float64) / 255


def frechet(a: Grey, b: Grey, basis: Grey) -> float:
    """Return the Frechet distance of two sets as normal distributions in the principal components of a third."""
    centred = _vectors(basis) - _vectors(basis).mean(0)
    axes = np.linalg.svd(centred, full_matrices=False)[2][:COMPONENTS].T
    x, y = _vectors(a) @ axes, _vectors(b) @ axes
    between, apart = sqrtm(np.cov(x.T) @ np.cov(y.T)).real, x.mean(0) - y.mean(0)
    return float(apart @ apart + np.trace(np.cov(x.T) + np.cov(y.T) - 2 * between))


def judged(name: str, folder: Path, draw: Draw) -> dict[str, Any]:
    """Put together what one audit says and what the paper's rule says of the same samples."""
    found, samples, told = digits(draw), samples_of(folder), byrote.Result(folder).json
    planted = {images.digest(_rgb(picture)) for picture in found.planted}
    certified = {row["picture"]["digest"]: row["samples"] for row in told["findings"] if row["certified"]}
    copies = {(sample["seed"], sample["digest"]) for each in certified.values() for sample in each}
    tau = told["tau"]["closest"]
    within = [f for f in byrote.Result(folder).findings if f.statistic is not None and f.statistic <= tau]
    paper = by_paper(samples, found.pictures)
    return {
        "model": name,
        "samples": len(samples),
        "tau": told["tau"],
        "certified": len(certified),
        "certified_planted": len(planted & set(certified)),
        "planted": len(planted),
        "recall_of_planted": round(len(planted & set(certified)) / len(planted), 3),
        "certified_others": len(set(certified) - planted),
        "within_tau": len(within),
        "controls_certified": told["controls"]["certified"],
        "controls": told["controls"]["n"],
        "controls_within_tau": told["tests"]["unasked"]["controls_at_cut"],
        "copies_per_million_samples": round(len(copies) / len(samples) * 1e6),
        "paper_extracted": int(paper.sum()),
        "paper_extracted_planted": int(paper[: draw.planted].sum()),
        "paper_extracted_of_held_out": int(by_paper(samples, found.controls[: len(found.pictures)]).sum()),
        "frechet_to_training": round(frechet(samples, found.rows(draw.copies), found.second), 4),
        "audit_seconds": round(told["cost"]["seconds"], 1),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Say the same of all models, side by side."""
    lines = [f"{'':46}" + "".join(f"{row['model']:>12}" for row in rows)]
    for words, key in LINES.items():
        told = [row[key] for row in rows]
        lines.append(f"{words:46}" + "".join(f"{value:>12,}" for value in told))
    return "\n".join(lines)


def main() -> None:
    """Train, audit, compare."""
    options = _options()
    draw, began = Draw(), time.monotonic()
    if options.what == "train":
        print(f"{train(options.model, options.out, draw):.0f} CPU-s")
    elif options.what == "audit":
        print(json.dumps(judged(options.model, audit(options.model, options.out, draw), draw), indent=1))
    else:
        rows = [_of(name, options.work / name, draw) for name in MODELS]
        floor = _floor(draw)
        print(table(rows), f"\nFrechet distance of {SAMPLES:,} rows of training, drawn again: {floor}", sep="")
        if options.save:
            told = {"command": "benchmarks/digits.py table --save", "machine": _machine()}
            told |= {"date": f"{datetime.now(UTC):%Y-%m-%d}", "seconds": round(time.monotonic() - began)}
            told |= {"draw": vars(draw), "frechet_of_rows_redrawn": floor, "models": rows}
            Path("benchmarks/results/digits.json").write_text(json.dumps(told, indent=1) + "\n")


def _of(name: str, out: Path, draw: Draw) -> dict[str, Any]:
    out.mkdir(parents=True, exist_ok=True)
    seconds = train(name, out, draw)
    return judged(name, audit(name, out, draw), draw) | {"training_cpu_seconds": seconds}


def _floor(draw: Draw) -> float:
    """Return the distance that as many rows have, drawn from those of training: no model comes nearer."""
    found = digits(draw)
    rows = found.rows(draw.copies)
    redrawn = rows[np.random.default_rng(0).integers(len(rows), size=SAMPLES)]
    return round(frechet(redrawn, rows, found.second), 4)


def _machine() -> str:
    return f"{platform.machine()}, {os.cpu_count()} cores"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="what", required=True)
    for what in ("train", "audit"):
        command = commands.add_parser(what)
        command.add_argument("model", choices=MODELS)
        command.add_argument("--out", type=Path, required=True)
    command = commands.add_parser("table")
    command.add_argument("--work", type=Path, required=True)
    command.add_argument("--save", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
