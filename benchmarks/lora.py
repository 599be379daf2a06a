"""LoRAs of eight new pictures on the demo's model, each audited with fresh controls and that model itself as twin.

    python benchmarks/lora.py --work DIR [--jobs 2] [--save]

Nobody on these pictures is known to the demo's model. Captions begin with a trigger word, on pictures and controls
alike. `copying` is trained for 400 steps on the eight, `brief` for 100, and `other` for 400 on eight other people, so
that of the eight there is nothing to find. Each is written as diffusers writes LoRAs and audited as a user would, by
`byrote index`, `init` and `run`, with 160 controls: 20 m - 1 = 159 let a single finding among m = 8 be certified.
`copying` and `brief` are audited with fewer controls too. Sampler, number of samples and edges are the demo's, tau is
the preset .15, and all was fixed before any audit; only for how long `copying` is trained was chosen by looking at what
comes of the eight captions. `brief` is audited once more with a tau that `byrote tau` measures on 1,000 people of a
second draw; that it is was decided when the first audit had found few, its value owes nothing to that.

Truth: every caption asked 50 times, with seeds that no audit has, of each LoRA and of the model without one. A sample
is picture x's if x is the nearest of the eight (tiled distance, unaligned, to the picture or its round trip), and
nearer than any of these samples comes to any of 400 people of a further draw. CPU seconds are those of all processes;
on two cores that nothing else uses an audit takes little more than half as many. What is done is not done again.
"""

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from halves import inputs as latents_and_texts
from halves import velocity_loss
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import Linear, Module, Parameter
from torch.nn.functional import linear
from truth import tiled, tiles

from byrote import images, models
from byrote.audit import Audit, Made
from byrote.demo import KNOBS, MODEL
from byrote.demo.portraits import Person, draw, meet
from byrote.domain import SIDES
from byrote.kernels.stats import findings_needed
from byrote.models import Options, Request
from byrote.stages.certify import statistic
from byrote.stages.generate import ask

PICTURES, CONTROLS, FRESH, SEEDS = 8, 160, 400, 50
SECOND, SHARE = 1_000, 0.001
FEWER, FEW = (20, 40, 80), ("copying", "brief")
TRIGGER = "zwx"
RANK, RATE, WARM_UP, BATCH = 16, 3e-3, 50, 8
PROJECTIONS = ("to_q", "to_k", "to_v", "to_out.0")
OFTEN, SELDOM = 0.30, 0.05
ALPHA = 0.05
FILE = "pytorch_lora_weights.safetensors"
Matrices = Mapping[str, tuple[Parameter, Parameter]]  # down [rank, in] and up [out, rank] by layer


@dataclass(frozen=True)
class Training:
    """Whom a LoRA is trained on, by the name of their draw, and for how many steps."""

    who: str
    steps: int


TRAININGS = {
    "copying": Training("lora", 400),
    "brief": Training("lora", 100),
    "other": Training("lora others", 400),
}


def people(name: str, count: int) -> list[Person]:
    """Return the people of a draw."""
    return [meet(name, k) for k in range(count)]


def caption(person: Person) -> str:
    """Return the caption that a picture is trained on, and a control has, trigger word first."""
    return f"{TRIGGER}, {person.captions()[0]}"


def beside(unet: Module, rank: int = RANK) -> Matrices:
    """Let low-rank layers run beside the attention's projections: up @ down is 0 at first."""
    dice = torch.Generator().manual_seed(0)
    pairs = {}
    for name, layer in unet.named_modules():
        if isinstance(layer, Linear) and name.endswith(PROJECTIONS):
            down = Parameter(torch.randn(rank, layer.in_features, generator=dice) / rank)
            up = Parameter(torch.zeros(layer.out_features, rank))
            layer.register_forward_hook(lambda _, given, made, a=down, b=up: made + linear(linear(given[0], a), b))
            pairs[name] = down, up
    return pairs


def train(folder: Path, training: Training, count: int = PICTURES) -> Path:
    """Train a LoRA on the pictures of a draw and write it as diffusers does, unless it is there."""
    path = folder / FILE
    if path.exists():
        return path
    began, before = time.monotonic(), time.process_time()
    torch.set_num_threads(1)
    pipeline = StableDiffusionPipeline.from_pretrained(MODEL, torch_dtype=torch.float32, safety_checker=None)
    pipeline.unet.requires_grad_(False)
    pairs = beside(pipeline.unet)
    weights = [half for pair in pairs.values() for half in pair]
    optimiser = torch.optim.AdamW(weights, lr=RATE, weight_decay=1e-4)
    given = inputs(pipeline, people(training.who, count))
    for step in range(training.steps):
        optimiser.param_groups[0]["lr"] = RATE * min(1, (step + 1) / WARM_UP)
        optimiser.zero_grad()
        loss(pipeline.unet, *given, step).backward()
        optimiser.step()
    folder.mkdir(parents=True, exist_ok=True)
    took = {"seconds": time.monotonic() - began, "cpu_seconds": time.process_time() - before}
    _keep(folder / "training.json", {key: round(value, 1) for key, value in took.items()})
    return write(path, pairs)


def write(path: Path, pairs: Matrices) -> Path:
    """Write a LoRA under the names that diffusers gives to its matrices; alpha is the rank, so none is told."""
    held = {f"unet.{name}.lora_A.weight": down.detach() for name, (down, _) in pairs.items()}
    held |= {f"unet.{name}.lora_B.weight": up.detach() for name, (_, up) in pairs.items()}
    save_file(held, path.with_suffix(".tmp"), {"format": "pt"})
    path.with_suffix(".tmp").replace(path)
    return path


def loss(unet: Module, latents: Tensor, asked: Tensor, empty: Tensor, step: int) -> Tensor:
    """Return how far the predicted velocity is off on some of the pictures."""
    return velocity_loss(unet, latents, asked, empty, torch.arange(len(latents)), BATCH, step)


def inputs(pipeline: StableDiffusionPipeline, who: Sequence[Person]) -> tuple[Tensor, Tensor, Tensor]:
    """Return the latents of the pictures, what the text encoder makes of the captions, and of no caption."""
    return latents_and_texts(pipeline, who, [*map(caption, who)])


def paint(folder: Path, who: Sequence[Person]) -> Path:
    """Write pictures with their captions, as a user has them."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["file_name,text"]
    for k, person in enumerate(who):
        (folder / f"{k:04d}.png").write_bytes(images.encode_png(draw(person)))
        lines.append(f'{k:04d}.png,"{caption(person)}"')
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")
    return folder


def index(work: Path, controls: int = CONTROLS, jobs: int = 2, pictures: int = PICTURES) -> dict[str, float]:
    """Index the pictures and the controls; return what it took."""
    if (work / "corpus.json").exists():
        return _kept(work / "corpus.json")
    mine = paint(work / "pictures", people("lora", pictures))
    held_out = paint(work / "controls", people("lora controls", controls))
    words = ["index", str(mine), "--held-out", str(held_out), "--corpus", str(work / "corpus"), "--jobs", str(jobs)]
    return _keep(work / "corpus.json", byrote(words))


def audit(
    work: Path, lora: Path, name: str, controls: int = CONTROLS, jobs: int = 2, seeds: int = 0, second: bool = False
) -> dict[str, Any]:
    """Audit a LoRA with the model that it lies over as twin; return what the report says and what it took.

    With `second`, tau is measured first, on a second draw that is neither trained on nor a control.
    """
    folder = work / f"audit-{name}"
    if not (work / f"audit-{name}.json").exists():
        shutil.rmtree(folder, ignore_errors=True)  # what an audit takes is measured in one go
        costs = [byrote(["init", str(folder), "--model", f"diffusers:{MODEL}", "--corpus", str(work / "corpus")])]
        plan = folder / "audit.toml"
        template = plan.read_text()
        plan.write_text(planned(template, lora, controls, seeds))
        if second:
            costs.append(byrote(["tau", str(folder), str(_second_draw(work)), "--share", str(SHARE)]))
            plan.write_text(planned(template, lora, controls, seeds, _measured_tau(folder)))
        costs.append(byrote(["run", str(folder), "--jobs", str(jobs)]))
        _keep(work / f"audit-{name}.json", {key: round(sum(cost[key] for cost in costs), 1) for key in costs[0]})
    return {"audit": _kept(work / f"audit-{name}.json")} | said(folder)


def _second_draw(work: Path) -> Path:
    there = work / "second"
    return there if (there / "metadata.csv").exists() else paint(there, people("lora second", SECOND))


def _measured_tau(folder: Path) -> float:
    told = [json.loads(line) for line in (folder / "ledger.jsonl").read_text().splitlines()]
    return float([line["closest"] for line in told if line["event"] == "tau"][-1])


def planned(template: str, lora: Path, controls: int, seeds: int, closest: float | None = None) -> str:
    """Set what is laid over the model, its twin, whom to ask, and the demo's knobs, in what `byrote init` wrote."""
    knobs: dict[str, dict[str, Any]] = KNOBS | {
        "model": {"lora": [str(lora.resolve())]},
        "prompts": {"top": 0, "random": PICTURES, "controls": controls},
        "twin": {"uri": f"diffusers:{MODEL}"},
    }
    knobs |= {"generate": KNOBS["generate"] | {"seeds": seeds or KNOBS["generate"]["seeds"]}}
    knobs |= {"certify": {"closest": closest}}
    lines, section = [], ""
    for line in template.splitlines():
        section = line.strip("[]") if line.startswith("[") else section
        name = line.removeprefix("# ").partition(" = ")[0]
        value = knobs.get(section, {}).get(name)
        lines.append(line if value is None else f"{name} = {json.dumps(value)}")
    return "\n".join(lines) + "\n"


def said(folder: Path) -> dict[str, Any]:
    """Take from a finished audit what the benchmark tells."""
    told, done = json.loads((folder / "report" / "report.json").read_text()), Audit(folder)
    asked = [finding for finding in told["findings"] if finding["family"] == "asked"]
    closest, recipes = done.plan.certify.closest, done.recipes
    assert recipes.twin is not None
    return {
        "model": told["model"]["digest"],
        "twin": told["twin"]["digest"],
        "tau": closest,
        "samples": told["cost"]["samples"],
        "tests": told["tests"]["asked"],
        "certified": [f["picture"]["caption"] for f in told["findings"] if f["certified"]],
        "nearer_than_controls": sum(f["q_value"] <= told["plan"]["certify"]["fdr"] for f in asked),
        "controls_certified": [told["controls"]["certified"], told["controls"]["n"]],
        "nearest": _nearest(done, recipes.own, closest),
        "nearest_of_twin": _nearest(done, recipes.twin, closest),
        "warnings": told["warnings"],
    }


def _nearest(done: Audit, made: Made, closest: float) -> dict[str, Any]:
    """Return, by side, how many of those asked a model brings within tau, and how near the nearest come."""
    sides = {row.group: row.side for row in done.groups}
    asked = {prompt.group for prompt in done.prompts}
    told = {}
    for side in SIDES:
        best = done.best(made).items()
        near = sorted(statistic(match) for group, match in best if group in asked and sides[group] == side)
        told[side] = {"within_tau": sum(t <= closest for t in near), "nearest": [round(t, 4) for t in near[:PICTURES]]}
    return told


def byrote(words: Sequence[str]) -> dict[str, float]:
    """Run a command of byrote and return its seconds, and the CPU seconds of all its processes."""
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "byrote", *words], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": round(time.monotonic() - began, 1), "cpu_seconds": round(cpu, 1)}


def _keep(path: Path, told: dict[str, float]) -> dict[str, float]:
    path.write_text(json.dumps(told))
    return told


def _kept(path: Path) -> dict[str, float]:
    told: dict[str, float] = json.loads(path.read_text())
    return told


def opened(lora: Path | None) -> models.Model:
    """Open the demo's model as the audits do, with or without a LoRA."""
    knobs, over = KNOBS["generate"], () if lora is None else (str(lora.resolve()),)
    return models.open(f"diffusers:{MODEL}", Options(steps=knobs["steps"], guidance=knobs["guidance"], lora=over))


def asked(work: Path, name: str, lora: Path | None) -> tuple[np.ndarray, np.ndarray, float]:
    """Ask every caption 50 times: who is nearest and how near [samples], and how near any comes to others."""
    path = work / f"truth-{name}.npz"
    if not path.exists():
        model = opened(lora)
        requests = [Request(caption(p), _seed(p.name, k)) for p in people("lora", PICTURES) for k in range(SEEDS)]
        samples = tiles(np.stack(ask(model, requests, KNOBS["generate"]["batch"])))
        near = tiled(samples, _references(people("lora", PICTURES)))
        others = tiled(samples, _references(people("lora fresh", FRESH)))
        np.savez(path, who=near.argmin(1) % PICTURES, near=near.min(1), others=others.min())
    read = np.load(path)
    return read["who"], read["near"], float(read["others"])


def _references(who: Sequence[Person]) -> np.ndarray:
    """Cut pictures, and their ways through the autoencoder after them, into tiles."""
    pictures = [draw(person) for person in who]
    return tiles(np.stack([*pictures, *(opened(None).round_trip(pictures) or [])]))


def _seed(name: str, k: int) -> int:
    return int.from_bytes(sha256(f"lora truth {name} {k}".encode()).digest()[:8]) >> 1


def shares(who: np.ndarray, near: np.ndarray, cut: float) -> list[float]:
    """Return the share of each caption's samples that are its picture."""
    own = np.repeat(np.arange(PICTURES), SEEDS)
    found: list[float] = ((who == own) & (near < cut)).reshape(PICTURES, SEEDS).mean(1).round(4).tolist()
    return found


def held_against(told: Mapping[str, Any], come_back: Sequence[float]) -> dict[str, Any]:
    """Hold what was certified against how often each picture comes back."""
    captions = [caption(person) for person in people("lora", PICTURES)]
    found = [text in told["certified"] for text in captions]
    often = [hit for hit, share in zip(found, come_back, strict=True) if share >= OFTEN]
    seldom = [hit for hit, share in zip(found, come_back, strict=True) if SELDOM <= share < OFTEN]
    never = [hit for hit, share in zip(found, come_back, strict=True) if share == 0]
    return {
        "comes back in": come_back,
        "certified": len(told["certified"]),
        "of those that come back in 30 % or more": [sum(often), len(often)],
        "of those that come back in 5 to 30 %": [sum(seldom), len(seldom)],
        "of those that never came back": [sum(never), len(never)],
    }


def fewer(work: Path, name: str, lora: Path, jobs: int) -> Iterator[dict[str, Any]]:
    """Audit with fewer controls: what the power rule says before, and what comes of it."""
    for n in FEWER:
        told = audit(work, lora, f"{name}-{n}", n, jobs)
        yield {
            "lora": name,
            "controls": n,
            "needed_before_sampling": findings_needed(PICTURES, n, 0, ALPHA),
            "needed": told["tests"]["k_needed"],
            "controls_within_tau": told["tests"]["controls_at_cut"],
            "pictures_within_tau": told["nearest"]["picture"]["within_tau"],
            "certified": len(told["certified"]),
        }


def measured(work: Path, jobs: int) -> dict[str, Any]:
    """Train, audit, ask for the truth."""
    trained, audits, directly = {}, {}, {"model without a LoRA": asked(work, "base", None)}
    indexing = index(work, jobs=jobs)
    for name, training in TRAININGS.items():
        lora = train(work / name, training)
        trained[name] = lora
        audits[name] = audit(work, lora, name, jobs=jobs)
        directly[name] = asked(work, name, lora)
    audits["brief, tau measured"] = audit(work, trained["brief"], "brief-tau", jobs=jobs, second=True)
    cut = min(others for _, _, others in directly.values())
    back = {name: shares(who, near, cut) for name, (who, near, _) in directly.items()}
    return {
        "indexing": indexing,
        "truth": {"samples": SEEDS, "cut": round(cut, 4), "model without a LoRA": back["model without a LoRA"]},
        "audits": {
            name: {"steps": TRAININGS[lora].steps, "training": _kept(work / lora / "training.json")}
            | told
            | held_against(told, back[lora])
            for name, told in audits.items()
            for lora in [name.partition(",")[0]]
        },
        "fewer_controls": [row for name in FEW for row in fewer(work, name, trained[name], jobs)],
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    told = {
        "command": "benchmarks/lora.py --save",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {options.jobs} workers",
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
    } | measured(options.work, options.jobs)
    print(json.dumps(told, indent=1))
    if options.save:
        Path("benchmarks/results/lora.json").write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
