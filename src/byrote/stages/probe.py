"""Fill `probed`: evidence about single pictures from inside the denoiser, of pictures and controls alike.

Supporting evidence: nothing here changes what is certified. For each picture with the caption that it was asked for by:
its critical scale with the caption and with none, how much the caption widens its basin, and the norm of what the
caption changes at a noisy state made of the picture; the same with another picture's caption, since a score that goes
with the prompt alone says nothing of the picture (docs/methods.md). Maps of where the caption changes something lie
beside the rows of pictures. Controls are drawn by seed and probed alike.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from byrote import images
from byrote.corpus import Corpus
from byrote.domain import RGB, SIDES, Finding, Prompt, Side
from byrote.engine import Part
from byrote.kernels import basins, screening
from byrote.models import Model
from byrote.models.denoiser import Denoiser, Floats, Level, Prompts
from byrote.plan import Plan
from byrote.stages import Desk, Failed
from byrote.stages.generate import model_of
from byrote.stages.prompts import dice
from byrote.stages.scores import opened_once
from byrote.store import Recipe, Store

LEVELS = 16
"""Noise scales that are tried: those of the sampler in so many steps; ours."""
NOISES = 4
TOGETHER = 8
MAP = 64
"""Pixels of the longer edge of a map at most."""
HEAT = "heat"


@dataclass(frozen=True, slots=True)
class Probed:
    """What was found of one picture; scales are sigma / alpha, 0 where it holds itself at none of those tried.

    Of a model without text, or a picture that was not asked for, only `plain`, the scale without a caption, is known.
    `swapped` is the other picture's caption's norm, `swapped_gap` its gap. `map` is the row of its map, -1 without one.
    """

    side: Side
    group: str
    digest: str
    claimed: bool
    plain: float
    scale: float | None
    gap: float | None
    norm: float | None
    swapped_gap: float | None
    swapped: float | None
    map: int
    evaluations: int


@dataclass(frozen=True, slots=True)
class Asked:
    """A picture to probe, with its own caption and another's."""

    side: Side
    group: str
    digest: str
    claimed: bool
    text: str | None
    other: str | None


def on(plan: Plan) -> bool:
    """Tell whether a plan probes anything."""
    return plan.probe.findings > 0 or plan.probe.claims


def recipe(certified: Recipe, plan: Plan) -> Recipe:
    """Return the recipe: who is probed follows from what was found."""
    told = plan.probe
    knobs = {"findings": told.findings, "claims": told.claims, "controls": told.controls, "seed": plan.prompts.seed}
    return Recipe.of("probed", {"certified": certified.digest, "levels": LEVELS, "noises": NOISES} | knobs)


def run(desk: Desk, made: Recipe, corpus: Path, plan: Plan, asked: Sequence[Asked]) -> list[Failed]:
    """Probe them, some at once."""
    chunks = [tuple(asked[k : k + TOGETHER]) for k in range(0, len(asked), TOGETHER)]
    parts = [Part(f"{k:05d}", chunk, len(chunk)) for k, chunk in enumerate(chunks)]
    return desk.fill(made, Probe(desk.store.root, corpus, made, plan), parts, "pictures")


def chosen(findings: Sequence[Finding], prompts: Sequence[Prompt], plan: Plan) -> list[Asked]:
    """Return who is probed: the nearest findings, all claims, and controls drawn by seed, each of those tested.

    The other caption is that of the next of the same side, in an order that dice give.
    """
    texts = {p.group: p.text for p in prompts if p.rung == "caption"}
    near = [row for row in findings if row.side == "picture" and row.statistic is not None]
    ours = sorted(near, key=lambda row: (row.statistic or 0.0, row.group))[: plan.probe.findings]
    known = {row.group for row in ours}
    ours += [row for row in findings if plan.probe.claims and row.claimed and row.group not in known]
    theirs = [row for row in findings if row.side == "control" and (row.group in texts or not texts)]
    drawn = sorted(theirs, key=lambda row: dice(plan.prompts.seed, "probe", row.group))[: plan.probe.controls]
    found = []
    for rows in (ours, drawn):
        said = {text for row in rows if (text := texts.get(row.group))}
        order = sorted(said, key=lambda text: dice(plan.prompts.seed, "probe", text))
        after = dict(zip(order, order[1:] + order[:1], strict=True)) if len(order) > 1 else {}
        for row in rows:
            text = texts.get(row.group)
            found.append(Asked(row.side, row.group, row.digest, row.claimed, text, after.get(text or "")))
    return found


@dataclass(frozen=True, slots=True)
class Probe:
    """Probe the pictures of a part."""

    root: Path
    corpus: Path
    made: Recipe
    plan: Plan

    def __call__(self, part: Part) -> None:
        """Do one part."""
        denoiser = _denoiser(model_of(self.plan))
        asked: Sequence[Asked] = part.payload
        height, width = denoiser.size
        pixels = [(each, _corpus(self.corpus).pixels(each.digest)) for each in asked]
        there = [(each, images.fit(image, width, height)) for each, image in pixels if image is not None]
        rows, maps = probed(denoiser, there)
        arrays = {HEAT: np.stack(maps)} if maps else {}
        Store(self.root).write(self.made, part.name, rows, Probed, arrays)


def probed(denoiser: Denoiser, pictures: Sequence[tuple[Asked, RGB]]) -> tuple[list[Probed], list[Floats]]:
    """Probe some pictures together, each with its captions; return their rows, and the maps of those of the corpus."""
    if not pictures:
        return [], []
    x = denoiser.encode([image for _, image in pictures])
    levels = [level for level in denoiser.levels(LEVELS) if level.alpha >= screening.LEAST_ALPHA]
    plain, spent = _scales(denoiser, x, levels, [None] * len(x))
    rows = [
        Probed(a.side, a.group, a.digest, a.claimed, float(p), None, None, None, None, None, -1, spent // len(x))
        for (a, _), p in zip(pictures, plain, strict=True)
    ]
    told = [k for k, (each, _) in enumerate(pictures) if denoiser.takes_text and each.text is not None]
    if not told:
        return rows, []
    least = levels[-1].sigma / levels[-1].alpha
    digests = [rows[k].digest for k in told]
    some, without = x[told], plain[told]
    maps: list[Floats] = []
    for own in (True, False):
        prompts = [pictures[k][0].text if own else pictures[k][0].other or pictures[k][0].text for k in told]
        scale, cost = _scales(denoiser, some, levels, prompts)
        change, asked = _changes(denoiser, some, levels, prompts, digests)
        gap = basins.gap(scale, without, least)
        for place, k in enumerate(told):
            norm = float(screening.conditional_norm(change[place]).mean())
            rows[k] = replace(rows[k], evaluations=rows[k].evaluations + (cost + asked) // len(told))
            if own:
                rows[k] = replace(rows[k], scale=float(scale[place]), gap=float(gap[place]), norm=norm)
            elif pictures[k][0].other is not None:
                rows[k] = replace(rows[k], swapped_gap=float(gap[place]), swapped=norm)
            if own and rows[k].side == SIDES[0]:
                rows[k] = replace(rows[k], map=len(maps))
                maps.append(_map(change[place], pictures[k][1]))
    return rows, maps


def read(store: Store, made: Recipe) -> tuple[list[Probed], Mapping[str, Floats]]:
    """Return all rows, and the maps of pictures by their digest."""
    rows, maps = [], {}
    for part in store.parts(made):
        for row in store.read(Probed, made, part):
            rows.append(row)
            if row.map >= 0:
                maps[row.digest] = np.asarray(store.array(made, part, HEAT)[row.map])
    return rows, maps


def _scales(denoiser: Denoiser, x: Floats, levels: Sequence[Level], prompts: Prompts) -> tuple[basins.Reals, int]:
    """Return the critical scales, and the evaluations that they cost."""
    spent = 0

    def denoise(state: Floats, place: int) -> Floats:
        nonlocal spent
        spent += len(state)
        level = levels[place]
        return denoiser.predict((state * np.float32(level.alpha)).astype(np.float32), level, prompts).x0

    scales = [level.sigma / level.alpha for level in levels]
    return basins.critical_scale(denoise, x, scales), spent


def _changes(
    denoiser: Denoiser, x: Floats, levels: Sequence[Level], prompts: Prompts, digests: Sequence[str]
) -> tuple[list[Floats], int]:
    """Return what prompts change in eps at noisy states made of pictures: [noises, ...] of each, and the cost.

    At the level of as much noise as picture: in between, a caption decides what is drawn.
    """
    level = min(levels, key=lambda each: abs(each.sigma / each.alpha - 1))
    found = []
    for row, prompt, digest in zip(x, prompts, digests, strict=True):
        random = np.random.default_rng(int.from_bytes(hashlib.sha256(f"probe {digest}".encode()).digest()[:8]))
        noise = random.standard_normal((NOISES, *row.shape)).astype(np.float32)
        states = (np.float32(level.alpha) * row + np.float32(level.sigma) * noise).astype(np.float32)
        asked, without = (denoiser.predict(states, level, [text] * NOISES).eps for text in (prompt, None))
        found.append(asked - without)
    return found, 2 * NOISES * len(x)


def _map(change: Floats, image: RGB) -> Floats:
    height, width = image.shape[:2]
    shrink = max(1.0, max(height, width) / MAP)
    return basins.heat(change, max(1, round(height / shrink)), max(1, round(width / shrink))).astype(np.float32)


def _denoiser(model: Model) -> Denoiser:
    found = opened_once(model)
    if found is None:
        raise TypeError(f"a {model.name} cannot be looked into; `chain` asks before")
    return found


@lru_cache(maxsize=1)
def _corpus(path: Path) -> Corpus:
    return Corpus(path)
