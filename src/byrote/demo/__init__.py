"""The demo: a small Stable Diffusion pipeline that really remembers, its pictures, and what the audit of it must find.

Nobody on the pictures exists. They are drawn again from their seeds, byte for byte; the trained weights ship.
"""

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from byrote import api, images
from byrote.audit import Audit
from byrote.demo import album
from byrote.demo.memory import Watch
from byrote.domain import Finding
from byrote.errors import StoreError
from byrote.kernels.stats import binomial_recall
from byrote.plan import template
from byrote.progress import watcher

HOME = Path(__file__).parent
MODEL = HOME / "model"
TRUTH = HOME / "truth.json"
OFTEN, SELDOM = 0.30, 0.05

KNOBS: dict[str, dict[str, Any]] = {
    "prompts": {"top": 75, "random": 75, "controls": 300},
    "generate": {"seeds": 12, "steps": 5, "guidance": 1.0, "batch": 64},
    "cliques": {"within": 0.24},
    "match": {"shift": 1, "flip": False, "crop": 1.0, "candidates": 3},
}
"""Where the demo's plan departs from the defaults. tau stays the published preset."""
_HOW = {
    (
        "cliques",
        "within",
    ): "1 in 1,000 pictures of a second held-out draw come so near to any other (benchmarks/within.py)",
    ("match", "shift"): "pixels; the demo's training moved nothing",
    ("match", "flip"): "the demo's training mirrored nothing",
    ("match", "crop"): "the demo's training cropped nothing",
}


def run(out: Path, *, jobs: int) -> dict[str, Any]:
    """Draw the pictures into `out`, index them, audit the model, and score the audit against the truth."""
    paint(out)
    watch, began = watcher(), time.monotonic()
    with Watch() as memory:
        pictures, held_out = out / "pictures", out / "held-out"
        api.index(pictures, held_out=held_out, corpus=out / "corpus", jobs=jobs, progress=watch)
        _write(out / "audit" / "audit.toml", plan().encode())
        result = api.run(out / "audit", jobs=jobs, progress=watch, tell=watch.tell)
    watch.close()
    seconds = round(time.monotonic() - began, 1)
    told = score(Audit(out / "audit"), result.findings)
    return {"seconds": seconds, **told, "peak_bytes": memory.peak, "report": str(result.report)}


def plan() -> str:
    """Return the demo's audit.toml."""
    lines = []
    section = ""
    for line in template(f"diffusers:{MODEL}", "../corpus").splitlines():
        section = line.strip("[]") if line.startswith("[") else section
        name = line.removeprefix("# ").partition(" = ")[0]
        value = KNOBS.get(section, {}).get(name)
        says = line.partition("   # ")[2]
        says = _HOW.get((section, name), says)
        lines.append(line if value is None else f"{name} = {json.dumps(value)}   # {says}")
    return "\n".join(lines) + "\n"


def paint(out: Path) -> None:
    """Draw the training set and the controls into `out` / pictures and `out` / held-out, unless they are there."""
    _paint(out / "pictures", album.training_set())
    _paint(out / "held-out", album.controls("held-out", album.HELD_OUT))


def score(audit: Audit, findings: Iterable[Finding]) -> dict[str, Any]:
    """Hold the findings against the truth: what comes back how often when it is asked for 200 times."""
    truth = Truth.read()
    certified = {finding.digest: finding for finding in findings if finding.certified}
    people = truth.people(audit)
    found = {people[digest] for digest in certified}
    asked = [(people[prompt.digest], truth.shares[prompt.text or ""]) for prompt in _asked(audit)]
    often = [(person in found, share) for person, share in asked if share >= OFTEN]
    seldom = [(person in found, share) for person, share in asked if SELDOM <= share < OFTEN]
    seeds, least = audit.plan.generate.seeds, audit.plan.cliques.least
    predicted = binomial_recall(np.array([share for _, share in seldom]), seeds, least)
    report = api.Result(audit.root).json
    return {
        "recall": _share(hit for hit, _ in often),
        "recall_denominator": len(often),
        "recall_seldom": _share(hit for hit, _ in seldom),
        "recall_seldom_denominator": len(seldom),
        "recall_seldom_binomial": round(float(predicted.mean()), 4) if seldom else None,
        "certified": len(certified),
        "false_findings": sum(truth.hits.get(people[digest], 0) == 0 for digest in certified),
        "controls_certified": report["controls"]["certified"],
        "controls": report["controls"]["n"],
        "same_model": truth.model == audit.model.digest,
    }


def words(told: dict[str, Any]) -> str:
    """Say what the demo found, for a person."""
    return "\n".join(
        (
            f"{told['certified']} pictures certified as reproduced, {told['false_findings']} of them false; "
            f"{told['controls_certified']} of {told['controls']:,} controls would be certified",
            f"recall {told['recall']} of the {told['recall_denominator']} asked that come back in 30 % or more",
            f"recall {told['recall_seldom']} of the {told['recall_seldom_denominator']} that come back in 5 to 30 %; "
            f"binomial prediction {told['recall_seldom_binomial']}",
            f"{told['seconds']} s from index to report, {told['peak_bytes'] / 2**30:.2f} GiB at most",
            f"{told['report']}",
        )
    )


def train(out: Path) -> Path:
    """Train the demo's model again from nothing, into `out` / model; resumes where it was stopped."""
    from byrote.demo.train import Budget
    from byrote.demo.train import train as run_training

    return run_training(out, Budget())


@dataclass(frozen=True, slots=True)
class Truth:
    """What benchmarks/truth.py found: per caption the share of samples that are its picture, per person all hits."""

    model: str
    shares: dict[str, float]
    hits: dict[str, int]

    @classmethod
    def read(cls) -> "Truth":
        """Read the truth that ships with the model."""
        read = json.loads(TRUTH.read_text(encoding="utf-8"))
        return cls(read["model"], read["shares"], read["hits"])

    @staticmethod
    def people(audit: Audit) -> dict[str, str]:
        """Name the person on each picture of the training set, by digest."""
        names = _people_by_caption()
        rows = (row for row in audit.corpus.pictures if row.side == "picture" and row.caption)
        return {row.digest: names[row.caption or ""] for row in rows}


@cache
def _people_by_caption() -> dict[str, str]:
    return {row.caption: row.person.name for row in album.training_set()}


def _asked(audit: Audit) -> list[Any]:
    return [prompt for prompt in audit.prompts if prompt.side == "picture"]


def _share(hits: Iterable[bool]) -> float | None:
    all_hits = list(hits)
    return round(sum(all_hits) / len(all_hits), 4) if all_hits else None


def _paint(folder: Path, rows: Iterable[album.Row]) -> None:
    """Write a folder of PNG files with metadata.csv, which comes last and says that it is whole."""
    if (folder / "metadata.csv").exists():
        return
    drawn: dict[tuple[str, bool], bytes] = {}
    lines = ["file_name,text"]
    for number, row in enumerate(rows):
        key = row.person.name, row.brighter
        if key not in drawn:
            drawn[key] = images.encode_png(row.pixels())
        _write(folder / f"{number:05d}.png", drawn[key])
        lines.append(f'{number:05d}.png,"{row.caption}"')
    _write(folder / "metadata.csv", ("\n".join(lines) + "\n").encode())


def _write(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    except OSError as error:
        raise StoreError(f"{path}: cannot be written: {error.strerror or error}") from error
