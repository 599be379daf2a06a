"""Eight models, each trained on a random half of one corpus: what byrote finds, and what the paper's rule finds.

    python benchmarks/twins.py --work DIR [--jobs 2] [--save]

Truth comes from asking every caption of all eight models 16 times, with seeds that no audit has, and a matcher that
byrote does not use: SSIM (Wang et al. 2004, doi:10.1109/TIP.2003.819861) of luma over 8 x 8 windows, to the picture or
its round trip. A sample is picture x's if x is the nearest of all 400 and nearer than any sample of any model comes to
any of 400 people whom nobody was trained on. **x comes back from model j** if j saw it, at least one of its 16 samples
is x's, and none of the 64 samples of the four models that did not see it is. Fixed before any audit was looked at.

byrote audits each model with its half as the training set, and as controls the other half (exchangeable by
construction, copies included) and 200 others. tau is the preset .15; sampler and edges are the demo's. The paper's rule
(Carlini et al. 2023, arXiv:2301.13188) gets the very same samples: a clique of 10 among the 16 of a caption at a tiled
distance of .1 (the paper does not publish its own) or at the demo's .24, then a member of it within an untiled RMS of
.15 of the caption's own picture, or at an adaptive ratio of at most 1 (alpha .5, n 50). Resumable.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from halves import MODELS, people, seen, train

import byrote
from byrote import images, models
from byrote.audit import Audit
from byrote.demo import KNOBS
from byrote.demo.portraits import draw, meet
from byrote.domain import RGB, Sample
from byrote.kernels.cliques import find
from byrote.kernels.distance import block_means
from byrote.kernels.stats import clopper_pearson
from byrote.models import Options, Request
from byrote.plan import template
from byrote.stages.generate import ask

SEEDS, FRESH, OTHERS = 16, 400, 200
WINDOW = 8
OFTEN, SELDOM = 0.30, 0.05
LEAST, PLAIN, ALPHA, NEAREST = 10, 0.15, 0.5, 50


def fresh(count: int) -> list[Any]:
    """Return people whom no model saw."""
    return [meet("twins fresh", k) for k in range(count)]


@lru_cache(maxsize=2)
def model(work: Path, number: int) -> models.Model:
    """Open one of the eight as its audit does."""
    knobs = KNOBS["generate"]
    options = Options(steps=knobs["steps"], guidance=knobs["guidance"])
    return models.open(f"diffusers:{work / f'model-{number}'}", options)


def windows(pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut the luma of uint8 [n, h, w, 3] into windows: float32 [windows, n, pixels] less its mean, means, variances."""
    luma = (pictures @ np.array([0.299, 0.587, 0.114])).astype(np.float32)
    n, h, w = luma.shape
    cut = luma.reshape(n, h // WINDOW, WINDOW, w // WINDOW, WINDOW).transpose(1, 3, 0, 2, 4).reshape(-1, n, WINDOW**2)
    means = cut.mean(2)
    return cut - means[..., None], means, cut.var(2)


def ssim(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the mean SSIM of all pairs of two sets of pictures: float32 [n, m]."""
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    (x, mx, vx), (y, my, vy) = windows(a), windows(b)
    total = np.zeros((a.shape[0], b.shape[0]), np.float32)
    for k in range(len(x)):
        covariance = x[k] @ y[k].T / WINDOW**2
        luminance = (2 * np.outer(mx[k], my[k]) + c1) / (np.add.outer(mx[k] ** 2, my[k] ** 2) + c1)
        total += luminance * (2 * covariance + c2) / (np.add.outer(vx[k], vy[k]) + c2)
    return total / len(x)


@lru_cache(maxsize=1)
def references(work: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the 400 people and 400 others, each followed by their round trips."""
    out = []
    for name, who in (("people", [person for person, _ in people()]), ("fresh", fresh(FRESH))):
        path = work / f"{name}.npy"
        if not path.exists():
            pictures = [draw(person) for person in who]
            np.save(path, np.stack([*pictures, *(model(work, 0).round_trip(pictures) or [])]))
        out.append(np.load(path))
    return out[0], out[1]


def nearest(samples: np.ndarray, references: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for each sample who is nearest by SSIM, to the picture or its round trip, and how near."""
    found = ssim(samples, references)
    best = np.maximum(found[:, : len(references) // 2], found[:, len(references) // 2 :])
    return best.argmax(1), best.max(1)


def truth_of(work: Path, number: int) -> Path:
    """Ask one model every caption 16 times; keep who each sample is nearest to, and how near it comes to others."""
    path = work / f"truth-{number}.npz"
    if path.exists():
        return path
    who, others = references(work)
    asked = [(person, k) for person, _ in people() for k in range(SEEDS)]
    near, near_others = [], []
    for first in range(0, len(asked), 640):
        chunk = asked[first : first + 640]
        requests = [Request(person.captions()[0], _seed(number, person.name, k)) for person, k in chunk]
        samples = np.stack(ask(model(work, number), requests, 64))
        near.append(np.stack(nearest(samples, who)))
        near_others.append(nearest(samples, others)[1])
    np.savez(path.with_suffix(".tmp.npz"), near=np.concatenate(near, 1), others=np.concatenate(near_others))
    path.with_suffix(".tmp.npz").replace(path)
    return path


def label(near: np.ndarray, cut: float) -> np.ndarray:
    """Return the hits of each person's own caption: from (who, how near) of the samples [2, people x seeds]."""
    own = np.repeat(np.arange(near.shape[1] // SEEDS), SEEDS)
    return ((near[0] == own) & (near[1] > cut)).reshape(-1, SEEDS).sum(1)


def come_back(hits: np.ndarray, saw: np.ndarray) -> np.ndarray:
    """Tell what comes back from which model that saw it, and from none that did not: bool [models, people]."""
    unseen = (hits * ~saw).sum(0)
    return saw & (hits > 0) & (unseen == 0)[None]


def audit(work: Path, number: int) -> Path:
    """Index the halves of one model and audit it."""
    root = work / f"audit-{number}"
    if (root / "audit" / "report" / "report.json").exists():
        return root / "audit"
    mine = [row for row, saw in zip(people(), seen()[number], strict=True) if saw]
    rest = [row for row, saw in zip(people(), seen()[number], strict=True) if not saw]
    _paint(root / "pictures", mine)
    _paint(root / "controls", [*rest, *((person, 1) for person in fresh(OTHERS))])
    byrote.index(root / "pictures", held_out=root / "controls", corpus=root / "corpus")
    (root / "audit").mkdir(exist_ok=True)
    (root / "audit" / "audit.toml").write_text(_plan(f"diffusers:{work.resolve() / f'model-{number}'}"))
    byrote.run(root / "audit")
    return root / "audit"


def _plan(uri: str) -> str:
    knobs = KNOBS | {"prompts": {"top": 0, "random": 1000, "controls": 1000, "seed": 0}}
    knobs["generate"] = KNOBS["generate"] | {"seeds": SEEDS}
    lines, section = [], ""
    for line in template(uri, "../corpus").splitlines():
        section = line.strip("[]") if line.startswith("[") else section
        name = line.removeprefix("# ").partition(" = ")[0]
        value = knobs.get(section, {}).get(name)
        lines.append(line if value is None else f"{name} = {json.dumps(value)}")
    return "\n".join(lines) + "\n"


def _paint(folder: Path, rows: list[tuple[Any, int]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["file_name,text"]
    for k, (person, copies) in enumerate(rows):
        data = images.encode_png(draw(person))
        for copy in range(copies):
            name = f"{k:04d}-{copy:02d}.png"
            (folder / name).write_bytes(data)
            lines.append(f'{name},"{person.captions()[0]}"')
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")


def certified(folder: Path) -> set[str]:
    """Return the captions of what byrote certifies."""
    told = json.loads((folder / "report" / "report.json").read_text())
    return {finding["picture"]["caption"] for finding in told["findings"] if finding["certified"]}


def by_paper(folder: Path) -> dict[str, dict[str, set[str]]]:
    """Return, by variant of the paper's rule and side, the captions whose picture it calls extracted."""
    done = Audit(folder)
    known = {person.captions()[0]: draw(person) for person, _ in people()}
    known |= {person.captions()[0]: draw(person) for person in fresh(OTHERS)}
    pool = np.stack([known[p.text] for p in done.prompts if p.side == "picture"])
    out: dict[str, dict[str, set[str]]] = {}
    for text, side, samples in _samples_of(done):
        for variant in extracted(samples, known[text], pool):
            out.setdefault(variant, {"picture": set(), "control": set()})[side].add(text)
    return out


def extracted(samples: np.ndarray, own: RGB, pool: np.ndarray) -> Iterator[str]:
    """Name the variants of the paper's rule that call a picture extracted from the samples of its caption."""
    means = block_means(samples, 16)
    for within in (0.1, KNOBS["cliques"]["within"]):
        found = find(samples, means, tiles=4, within=within, least=LEAST, seconds=1.0)
        members = samples[list(found.members)] if found.found else samples[:0]
        if not len(members):
            continue
        plain = _rms(members, own[None])[:, 0]
        others = np.sort(_rms(members, pool), 1)[:, :NEAREST].mean(1)
        if plain.min() <= PLAIN:
            yield f"clique {LEAST} at {within}, RMS {PLAIN}"
        if (plain <= ALPHA * others).any():
            yield f"clique {LEAST} at {within}, adaptive ratio"


def _rms(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    x, y = (each.reshape(len(each), -1).astype(np.float64) / 255 for each in (a, b))
    squares = (x**2).sum(1)[:, None] + (y**2).sum(1)[None] - 2 * x @ y.T
    return np.sqrt(np.maximum(squares, 0) / x.shape[1])


def _samples_of(done: Audit) -> Iterator[tuple[str, str, np.ndarray]]:
    prompts, made = {p.number: p for p in done.prompts}, done.recipes.samples
    for part in done.store.parts(made):
        rows = done.store.read(Sample, made, part)
        pixels = np.stack([images.decode(row.image) for row in rows])
        numbers = np.array([row.prompt for row in rows])
        for number in dict.fromkeys(numbers.tolist()):
            prompt = prompts[number]
            yield prompt.text or "", prompt.side, pixels[numbers == number]


def score(found: list[set[str]], hits: np.ndarray, back: np.ndarray) -> dict[str, Any]:
    """Hold what a rule finds of each model against the truth, all models together."""
    captions = [person.captions()[0] for person, _ in people()]
    named = np.array([[caption in each for caption in captions] for each in found], np.bool_)
    shares, saw = hits / SEEDS, seen()
    told: dict[str, Any] = {"found": int(named.sum())}
    for name, group in (
        ("come back in 30 % or more", back & (shares >= OFTEN)),
        ("come back in 5 to 30 %", back & (shares >= SELDOM) & (shares < OFTEN)),
    ):
        k, n = int((named & group).sum()), int(group.sum())
        told[name] = {"k": k, "n": n, "interval": [round(end, 4) for end in clopper_pearson(k, n)]}
    told["found, but none of 16 other samples is it"] = int((named & saw & (hits == 0)).sum())
    told["found, but comes back from a model that never saw it"] = int((named & ((hits * ~saw).sum(0) > 0)).sum())
    told["false"] = int((named & ~back).sum())
    return told


def _seed(number: int, name: str, k: int) -> int:
    return int.from_bytes(sha256(f"twins truth {number} {name} {k}".encode()).digest()[:8]) >> 1


def main() -> None:
    """Train, label, audit, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    work, began = options.work, time.monotonic()
    work.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(options.jobs, get_context("spawn")) as pool:
        many = [work] * MODELS
        list(pool.map(train, many, range(MODELS)))
        references(work)
        labels = [np.load(path) for path in pool.map(truth_of, many, range(MODELS))]
        folders = list(pool.map(audit, many, range(MODELS)))
        paper = list(pool.map(by_paper, folders))
    cut = max(float(each["others"].max()) for each in labels)
    hits = np.stack([label(each["near"], cut) for each in labels])
    back = come_back(hits, seen())
    variants = sorted({variant for each in paper for variant in each})
    told = {
        "command": "benchmarks/twins.py --save",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "seconds": round(time.monotonic() - began),
        "models": MODELS,
        "people": len(people()),
        "ssim_cut": round(cut, 4),
        "pairs_seen": int(seen().sum()),
        "pairs_that_come_back": int(back.sum()),
        "hits_of_models_that_never_saw": int((hits * ~seen()).sum()),
        "byrote": score([certified(folder) for folder in folders], hits, back)
        | {"controls_certified": [_controls(folder) for folder in folders]},
        "paper": {
            variant: score([each.get(variant, {}).get("picture", set()) for each in paper], hits, back)
            | {"controls": sum(len(each.get(variant, {}).get("control", ())) for each in paper)}
            for variant in variants
        },
    }
    print(json.dumps(told, indent=1))
    if options.save:
        Path("benchmarks/results/twins.json").write_text(json.dumps(told, indent=1) + "\n")


def _controls(folder: Path) -> list[int]:
    told = json.loads((folder / "report" / "report.json").read_text())["controls"]
    return [told["certified"], told["n"]]


if __name__ == "__main__":
    main()
