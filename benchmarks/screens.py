"""How well each score of `byrote screen` tells prompts that bring a picture back from those that do not, on two models.

    python benchmarks/screens.py demo  --work DIR [--save]
    python benchmarks/screens.py emoji --work DIR [--save]

Demo: members are 150 captions of 150 people, drawn from those whose picture comes in 30 % of samples or more
(src/byrote/demo/truth.json); controls 150 held-out captions and 150 swaps, the members' captions with one another's
names; 5 steps, no guidance, as the demo asks. Emoji (benchmarks/emoji.py; nothing was chosen on it): members are the
captions of ten copies or more whose picture comes in 3 of 8 samples or more, controls 150 held-out names and as many
swaps as members, their names with one another's last words; 25 steps, guidance 3. A control may bring a picture back
all the same, so each is asked 8 times, and figures are given against all of them and against those in which nothing
came within the cut of any training picture or its round trip: the truth's own cut of the demo, tau of the emoji. The
pilot sees 40 of all prompts and no label. Resumable; about 15 CPU-minutes each.
"""

import argparse
import json
import os
import platform
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
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


@dataclass(frozen=True)
class Subject:
    """A model, how it is asked, what it was trained on, and the three kinds of prompts."""

    uri: str
    steps: int
    guidance: float
    pictures: list[np.ndarray]
    cut: float
    kinds: dict[str, list[str]]

    def model(self, steps: int | None = None) -> models.Model:
        """Open the model."""
        return models.open(self.uri, Options(steps=steps or self.steps, guidance=self.guidance))

    @property
    def wanted(self) -> list[tuple[str, int]]:
        """Return the scores, each with its number of steps: of images 5 at most, and 1."""
        found = [(name, STEPS if name in ONE_STEP else self.steps) for name in scores.SCORES]
        return found + [(f"{name}@2", self.steps) for name in LATER] + [(name, 1) for name in ONE_STEP]


def demo() -> Subject:
    """Return the demo's model."""
    truth, dice = Truth.read(), random.Random(CHOICE)
    rows = list(album.training_set())
    names = {row.caption: row.person.name for row in rows}
    often = {names[c]: c for c in sorted(truth.shares) if truth.shares[c] >= OFTEN}
    people = dice.sample(sorted(often), EACH)
    swaps = [often[a].replace(a, b) for a, b in zip(people, people[1:] + people[:1], strict=True)]
    held = [row.caption for row in album.controls("held-out", EACH)]
    shown = {(row.person.name, row.brighter): row for row in rows}
    cut = json.loads(TRUTH.read_text(encoding="utf-8"))["cut"]
    kinds = {"members": [often[name] for name in people], "held-out": held, "swaps": swaps}
    return Subject(f"diffusers:{MODEL}", STEPS, 1.0, [row.pixels() for row in shown.values()], cut, kinds)


def emoji(work: Path) -> Subject:
    """Return the model of benchmarks/emoji.py, its members by what it gives back."""
    from emoji import copies, draws, made

    found, (trained, held_out, _) = made(work / "emoji"), draws()
    about = Subject(f"diffusers:{found.model}", 25, 3.0, [image for _, image in trained], 0.15, {})
    often = [row for row, many in zip(trained, copies(), strict=True) if many >= 10]
    came = kept(work / "often.npy", lambda: brought(about, [n for n, _ in often], [image for _, image in often]))
    members = [name for (name, _), count in zip(often, came, strict=True) if count >= 3]
    known = {name for name, _ in trained}
    swaps = [
        f"{a.rpartition(' ')[0]} {b.split()[-1]}".strip()
        for a, b in zip(members, members[1:] + members[:1], strict=True)
    ]
    kinds = {"members": members, "held-out": [name for name, _ in held_out[:EACH]]}
    return replace(about, kinds=kinds | {"swaps": [name for name in dict.fromkeys(swaps) if name not in known]})


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


def brought(about: Subject, asked: Sequence[str], own: Sequence[np.ndarray] = ()) -> np.ndarray:
    """Count, for each prompt, the samples within the cut of a training picture: of its `own` where these are given."""
    model = about.model()
    pictures = list(own) or about.pictures
    near = [tiles(np.stack(some)) for some in (pictures, model.round_trip(pictures) or pictures)]
    drawn = seeds(asked, ASKED, "benchmark truth")
    found = []
    for k, (prompt, row) in enumerate(zip(asked, drawn, strict=True)):
        made = tiles(np.stack(ask(model, [Request(prompt, seed) for seed in row], ASKED)))
        held = [each[:, k : k + 1] for each in near] if len(own) else near
        found.append(sum(np.minimum(*(tiled(made, each).min(1) for each in held)) < about.cut))
    return np.array(found)


def figures(members: np.ndarray, others: np.ndarray) -> dict[str, object]:
    """Return AUC and TPR at 1 % FPR with their intervals."""
    area, point = roc.auc(members, others), roc.tpr_at_fpr(members, others, 0.01)
    told: dict[str, object] = {"others": len(others), "auc": [round(x, 3) for x in (area.auc, area.low, area.high)]}
    if point is not None:
        told["tpr"] = [round(x, 3) for x in (point.tpr, point.tpr_low, point.tpr_high)]
        told["fpr"] = [round(x, 4) for x in (point.fpr, point.fpr_low, point.fpr_high)]
    return told


def against(values: np.ndarray, hits: np.ndarray, kinds: dict[str, list[str]]) -> dict[str, dict[str, object]]:
    """Hold the members against each kind of controls: all of them, and those of which nothing came."""
    told = {}
    members, *others = np.split(values, np.cumsum([len(kind) for kind in kinds.values()])[:-1])
    came = np.split(hits, [len(others[0])])
    for kind, theirs, of in zip(("held-out", "swaps"), others, came, strict=True):
        told[kind] = figures(members, theirs)
        told[f"{kind}, nothing came"] = figures(members, theirs[of == 0])
    return told


def measured(about: Subject, work: Path, name: str, steps: int, asked: Sequence[str]) -> tuple[np.ndarray, int]:
    """Return a score of all prompts and the evaluations that one costs."""
    score, count, model = scores.named(name), 1 if name in WHOLE else SEEDS, about.model(steps)
    made = kept(work / f"{name}-{steps}.npy", lambda: score.of(model, asked, seeds(asked, count, "benchmark")))
    return made, score.evaluations(model, count)


def line(row: dict[str, object]) -> str:
    """Say a row in one line."""
    tried, kinds = row["pilot"], [each for each in row.values() if isinstance(each, dict) and "auc" in each]
    areas = "  ".join("{:.3f} ({:.3f} to {:.3f})".format(*each["auc"]) for each in kinds)
    told = f"{tried['correlation'][0]:+.2f}{'' if tried['usable'] else ' not usable'}"
    return f"{row['score']:15} {row['steps']} steps, {row['evaluations']:2} evaluations: {areas}  pilot {told}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subject", choices=("demo", "emoji"))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    work = options.work / f"screens-{options.subject}"
    work.mkdir(parents=True, exist_ok=True)
    about = demo() if options.subject == "demo" else emoji(options.work)
    kinds = about.kinds
    asked = [prompt for kind in kinds.values() for prompt in kind]
    chosen = np.sort(np.random.default_rng(CHOICE).permutation(len(asked))[:PILOT])
    some = [asked[k] for k in chosen]
    drawn = seeds(some, risk.FULL, "benchmark pilot")
    alike = kept(work / "pilot.npy", lambda: scores.SCORES["agreement"].of(about.model(), some, drawn))
    hits = kept(work / "hits.npy", lambda: brought(about, kinds["held-out"] + kinds["swaps"]))
    rows = []
    for name, steps in about.wanted:
        values, evaluations = measured(about, work, name, steps, asked)
        tried = asdict(scores.pilot(values[chosen], alike))
        row = {"score": name, "steps": steps, "evaluations": evaluations, "pilot": tried}
        rows.append(row | against(values, hits, kinds))
        print(line(rows[-1]), flush=True)
    first = len(kinds["held-out"])
    came = {
        kind: float((of > 0).mean()) for kind, of in zip(("held-out", "swaps"), np.split(hits, [first]), strict=True)
    }
    print(f"controls with a training picture in {ASKED} samples: {came}")
    if options.save:
        told = {"command": f"benchmarks/screens.py {options.subject} --save"}
        told |= {"machine": f"{platform.machine()}, {os.cpu_count()} cores", "date": f"{datetime.now(UTC):%Y-%m-%d}"}
        told |= {"model": about.model().digest, "prompts": {kind: len(of) for kind, of in kinds.items()}}
        told |= {"seeds": SEEDS, "pilot": PILOT, "controls that bring a picture back": came, "rows": rows}
        name = "screens.json" if options.subject == "demo" else f"screens-{options.subject}.json"
        (Path("benchmarks/results") / name).write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
