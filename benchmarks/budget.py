"""What is found for how many evaluations: byrote's screen beside the paper's way, Webster's and Wen's.

    python benchmarks/budget.py demo  --work DIR [--save]
    python benchmarks/budget.py emoji --work DIR [--save]

Two models: the demo's, on which the screen's defaults were chosen (on other captions), and one of benchmarks/emoji.py,
on which nothing was. 100 captions of the training set, the 50 of most copies and 50 drawn from the rest, and as many
held-out ones, which cost as much and can find nothing. *All* is what 200 samples of each caption bring within tau of
its own picture, with the deployed steps and no screen. Everything is counted in evaluations of the denoiser over all
200 captions. The ways beside: the paper's (Carlini 2023), n samples of every caption; Webster 2023, 4 images of one
step, then 200 samples for one caption after the other in the order of the edges that they share; Wen 2024, the same in
the order of the norm at the first step, of 4 noises. Of each way the whole curve is kept, and of byrote an audit a
point: as its users run it, spared prompts and certification included. Resumable; hours on two cores, nearly all of it
for the 200 samples.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import plot

from byrote import api, demo, models
from byrote.audit import Audit
from byrote.domain import Prompt
from byrote.kernels.stats import clopper_pearson
from byrote.models import Options
from byrote.progress import watcher
from byrote.stages import scores
from byrote.stages.risk import seed_of

SAMPLES, EACH, NOISES, DICE = 200, 50, 4, 11
SEARCH = (8, 16, 32, 64)
"""Cheap samples at most, a point of byrote's curve each."""
JUDGED = 32
"""The point that is judged: fixed before the second model was looked at."""
SHARE = 0.05


@dataclass(frozen=True)
class Subject:
    """A model with its corpus, and how it is deployed."""

    uri: str
    corpus: Path
    steps: int
    guidance: float
    within: float

    @property
    def options(self) -> dict[str, Any]:
        """Return how samples are drawn."""
        return {"steps": self.steps, "guidance": self.guidance}


def subject(name: str, work: Path) -> Subject:
    """Make what is judged, unless it is there."""
    if name == "demo":
        demo.paint(work / "demo")
        corpus = work / "demo" / "corpus"
        _index(work / "demo" / "pictures", work / "demo" / "held-out", corpus)
        return Subject(f"diffusers:{demo.MODEL}", corpus, 25, 1.0, demo.KNOBS["cliques"]["within"])
    from emoji import made

    found = made(work / "emoji")
    corpus = work / "emoji" / "corpus"
    _index(found.pictures, found.held_out, corpus)
    return Subject(f"diffusers:{found.model}", corpus, 25, 3.0, 0.1)


def _index(pictures: Path, held_out: Path, corpus: Path) -> None:
    if not corpus.exists():
        api.index(pictures, held_out=held_out, corpus=corpus, progress=watcher())


PLAN = """format = 1
[model]
uri = "{uri}"
[corpus]
path = "{corpus}"
[prompts]
top = {each}
random = {each}
controls = {controls}
seed = {dice}
[screen]
search = {search}
{screen}
[generate]
seeds = {samples}
steps = {steps}
guidance = {guidance}
batch = 64
[cliques]
within = {within}
least = 1
[match]
shift = 1
flip = false
crop = 1.0
candidates = 3
"""


def audit(subject: Subject, root: Path, *, controls: int, search: int, screen: str = "") -> Audit:
    """Run an audit, or what is missing of it."""
    root.mkdir(parents=True, exist_ok=True)
    plan = PLAN.format(
        uri=subject.uri, corpus=subject.corpus, each=EACH, controls=controls, dice=DICE, search=search, screen=screen,
        samples=SAMPLES, within=subject.within, **subject.options
    )  # fmt: skip
    (root / "audit.toml").write_text(plan, encoding="utf-8")
    watch = watcher()
    api.run(root, progress=watch, tell=watch.tell)
    watch.close()
    return Audit(root)


def hits(done: Audit) -> np.ndarray:
    """Return which samples of each picture's caption are within tau of that picture: bool [captions, samples]."""
    asked = _asked(done, "picture")
    found = np.zeros((len(asked), SAMPLES), bool)
    for row, prompt in enumerate(asked):
        found[row, done.hits.own(prompt.group, "caption")] = True
    return found


def _asked(done: Audit, side: str) -> list[Prompt]:
    return [prompt for prompt in done.prompts if prompt.rung == "caption" and prompt.side == side]


def paper(came: np.ndarray, cost: int) -> list[list[float]]:
    """Return evaluations and recall of n samples for every caption, a mean over which of the 200."""
    all_found, total = came.any(1).sum(), came.shape[1]
    points = []
    for n in sorted({*np.geomspace(1, total, 30).astype(int).tolist(), total}):
        missed = [_none_of(total, int(row.sum()), n) for row in came if row.any()]
        points.append([2 * 2 * EACH * n * cost, float(len(missed) - sum(missed)) / all_found])
    return points


def _none_of(total: int, hits: int, n: int) -> float:
    """Return the chance that n of the samples, drawn without putting back, hold none of the hits."""
    return float(np.prod([(total - hits - k) / (total - k) for k in range(n)])) if n <= total - hits else 0.0


def ranked(values: np.ndarray, came: np.ndarray, first: int, cost: int) -> list[list[float]]:
    """Return evaluations and recall of all samples for one caption after the other, the highest score first."""
    found = np.concatenate([came.any(1), np.zeros(len(values) - len(came), bool)])[np.argsort(-values, kind="stable")]
    steps = np.arange(1, len(values) + 1)
    return [
        [float(first + k * SAMPLES * cost), float(r)] for k, r in zip(steps, found.cumsum() / found.sum(), strict=True)
    ]


def scored(subject: Subject, name: str, steps: int, prompts: Sequence[Prompt], path: Path) -> tuple[np.ndarray, int]:
    """Return a score of every prompt and what all of them cost."""
    model = models.open(subject.uri, Options(steps=steps, guidance=subject.guidance))
    score, texts = scores.named(name), [prompt.text or "" for prompt in prompts]
    if not path.exists():
        np.save(path, score.of(model, texts, [[seed_of(t, k, DICE, "budget") for k in range(NOISES)] for t in texts]))
    return np.load(path), score.evaluations(model, NOISES) * len(texts)


def point(done: Audit, came: np.ndarray) -> dict[str, Any]:
    """Return what a screened audit found of all, and what it cost."""
    told = api.Result(done.root).json
    found = np.array([bool(done.hits.own(prompt.group, "caption")) for prompt in _asked(done, "picture")])
    every = came.any(1)
    k, n = int((found & every).sum()), int(every.sum())
    exhaustive = 2 * 2 * EACH * SAMPLES * done.model.evaluations_per_sample
    return {
        "search": done.plan.screen.search,
        "score": done.plan.screen.score,
        "evaluations": told["cost"]["denoiser_evaluations"],
        "share of evaluations": round(told["cost"]["denoiser_evaluations"] / exhaustive, 4),
        "found": k,
        "of": n,
        "recall": round(k / n, 4),
        "interval": [round(x, 3) for x in clopper_pearson(k, n)],
        "found beside": int((found & ~every).sum()),
        "certified": sum(finding["certified"] for finding in told["findings"]),
        "controls certified": told["controls"]["certified"],
        "controls within tau": told["tests"]["asked"]["controls_at_cut"],
        "kept": told["screening"]["kept"],
        "spared": told["screening"]["spared"],
        "its own estimate of the screen's recall": [told["screening"][name] for name in ("recall", "low", "high")],
    }


def at(curve: list[list[float]], evaluations: float) -> float:
    """Return the recall of a curve for at most so many evaluations."""
    return max((recall for spent, recall in curve if spent <= evaluations), default=0.0)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subject", choices=("demo", "emoji"))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    work, began = options.work.resolve(), time.monotonic()
    work.mkdir(parents=True, exist_ok=True)
    about = subject(options.subject, work)
    place = work / f"audits-{options.subject}"
    done = audit(about, place / "all", controls=20, search=0)
    came, cost = hits(done), done.model.evaluations_per_sample
    exhaustive = 2 * 2 * EACH * SAMPLES * cost
    print(f"200 samples a caption: {came.any(1).sum()} of {len(came)} pictures within tau, {exhaustive:,} evaluations")
    points = []
    for search in SEARCH:
        points.append(point(audit(about, place / f"search-{search}", controls=2 * EACH, search=search), came))
        print(json.dumps(points[-1]), flush=True)
    asked = Audit(place / f"search-{SEARCH[0]}").prompts
    everybody = [*(p for p in asked if p.side == "picture"), *(p for p in asked if p.side == "control")]
    webster, first = scored(about, "edges", 1, everybody, place / "edges.npy")
    wen, second = scored(about, "norm", about.steps, everybody, place / "norm.npy")
    curves = {
        "byrote": [[each["evaluations"], each["recall"]] for each in points],
        "n samples of every caption (Carlini 2023)": paper(came, cost),
        "edges of one step, then all samples (Webster 2023)": ranked(webster, came, first, cost),
        "norm at the first step, then all samples (Wen 2024)": ranked(wen, came, second, cost),
    }
    judged = next(each for each in points if each["search"] == JUDGED)
    beside = {name: round(at(curve, judged["evaluations"]), 4) for name, curve in curves.items() if name != "byrote"}
    print(f"at the evaluations of search = {JUDGED}: byrote {judged['recall']}, {beside}")
    if options.save:
        results = Path(__file__).parent / "results"
        told = {
            "command": f"benchmarks/budget.py {options.subject} --save",
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "date": f"{datetime.now(UTC):%Y-%m-%d}",
            "model": done.model.digest,
            "captions": {"pictures": len(came), "controls": 2 * EACH},
            "deployed": about.options,
            "found by 200 samples": int(came.any(1).sum()),
            "evaluations of 200 samples": exhaustive,
            "judged": JUDGED,
            "beside, at equal evaluations": beside,
            "points": points,
            "curves": {name: [[int(e), round(r, 4)] for e, r in curve] for name, curve in curves.items()},
            "seconds of this run": round(time.monotonic() - began),
        }
        (results / f"budget-{options.subject}.json").write_text(json.dumps(told, indent=1) + "\n")
        drawn = plot.shares(
            {name: [(e / exhaustive, r) for e, r in curve] for name, curve in curves.items()},
            x="share of the evaluations of 200 samples for every caption",
            y="share of the pictures that these find",
            marks=(SHARE, 0.95),
        )
        (results / f"budget-{options.subject}.svg").write_text(drawn)


if __name__ == "__main__":
    main()
