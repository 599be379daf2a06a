"""Fill `probed`: evidence about single pictures from inside the denoiser, of pictures and controls alike.

Supporting evidence: nothing here changes what is certified. For each picture with the caption that it was asked for by:
its critical scale with the caption and with none, how much the caption widens its basin, and the norm of what the
caption changes at noisy states made of the picture; the same with another picture's caption, since a score that goes
with the prompt alone says nothing of the picture (docs/methods.md). Maps of where the caption changes something lie
beside the rows of pictures. Controls are drawn by seed and probed alike.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from byrote import images
from byrote.corpus import Corpus
from byrote.domain import RGB, Finding, Prompt, Side
from byrote.engine import Part
from byrote.kernels import basins, predictions, screening
from byrote.models import Model
from byrote.models.denoiser import Denoiser, Floats, Level, Prompts
from byrote.plan import Plan, ProbePlan
from byrote.stages import Desk, Failed
from byrote.stages.generate import model_of
from byrote.stages.prompts import dice
from byrote.stages.scores import opened_once
from byrote.store import Recipe, Store

LEVELS = 16
"""Noise scales that are tried: those of the sampler in so many steps; ours."""
TOGETHER = 8
MAP = 64
"""Pixels of the longer edge of a map at most."""
HEAT = "heat"
GONE = "its pixels are gone"


@dataclass(frozen=True, slots=True)
class Probed:
    """What was found of one picture; scales are sigma / alpha, 0 where it holds itself at none of those tried.

    Of a model without text, or a picture that was not asked for, only `plain`, the scale without a caption, is known.
    Those of `swapped` are with another picture's caption. `map` is the row of its map, -1 without one. Where nothing
    could be found, `plain` is null and `reason` says why.
    """

    side: Side
    group: str
    digest: str
    claimed: bool
    plain: float | None = None
    scale: float | None = None
    gap: float | None = None
    norm: float | None = None
    swapped_scale: float | None = None
    swapped_gap: float | None = None
    swapped_norm: float | None = None
    map: int = -1
    evaluations: int = 0
    reason: str = ""


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
    about = {"certified": certified.digest, "levels": LEVELS, "seed": plan.prompts.seed}
    return Recipe.of("probed", about | asdict(plan.probe))


def run(desk: Desk, made: Recipe, corpus: Path, plan: Plan, asked: Sequence[Asked]) -> list[Failed]:
    """Probe them, some at once."""
    chunks = [tuple(asked[k : k + TOGETHER]) for k in range(0, len(asked), TOGETHER)]
    parts = [Part(f"{k:05d}", chunk, len(chunk)) for k, chunk in enumerate(chunks)]
    return desk.fill(made, Probe(desk.store.root, corpus, made, plan), parts, "pictures")


def chosen(findings: Sequence[Finding], prompts: Sequence[Prompt], named: Set[str], plan: Plan) -> list[Asked]:
    """Return who is probed: the nearest findings, the groups that were named, and controls drawn by seed.

    The other caption is that of the next of the same side, in an order that dice give; of a side with one alone, the
    other side's first.
    """
    texts = {p.group: p.text for p in prompts if p.rung == "caption" and p.text is not None}
    near = [row for row in findings if row.side == "picture" and row.statistic is not None]
    ours = sorted(near, key=lambda row: (row.statistic or 0.0, row.group))[: plan.probe.findings]
    known = {row.group for row in ours}
    ours += [row for row in findings if row.group in named and row.side == "picture" and row.group not in known]
    theirs = [row for row in findings if row.side == "control" and (row.group in texts or not texts)]
    drawn = sorted(theirs, key=lambda row: dice(plan.prompts.seed, "probe", row.group))[: plan.probe.controls]
    found = []
    for rows, others in ((ours, drawn), (drawn, ours)):
        after = _after(rows, texts, plan)
        spare = next((texts[row.group] for row in others if row.group in texts), None)
        for row in rows:
            text = texts.get(row.group)
            other = after.get(text, spare) if text else None
            found.append(Asked(row.side, row.group, row.digest, row.group in named, text, other))
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
        height, width = denoiser.size
        rows, there = [], []
        for each in part.payload:
            image = _corpus(self.corpus).pixels(each.digest)
            if image is None:
                rows.append(Probed(each.side, each.group, each.digest, each.claimed, reason=GONE))
            else:
                there.append((each, images.fit(image, width, height)))
        found, maps = probed(denoiser, there, self.plan.probe)
        arrays = {HEAT: np.stack(maps)} if maps else {}
        Store(self.root).write(self.made, part.name, found + rows, Probed, arrays)


def probed(
    denoiser: Denoiser, pictures: Sequence[tuple[Asked, RGB]], told: ProbePlan
) -> tuple[list[Probed], list[Floats]]:
    """Probe some pictures together, each with its captions; return their rows, and the maps of those of the corpus."""
    if not pictures:
        return [], []
    asked = [each for each, _ in pictures]
    x = denoiser.encode([image for _, image in pictures])
    rows = [Probed(a.side, a.group, a.digest, a.claimed) for a in asked]
    rows = [replace(r, plain=s, evaluations=n) for r, s, n in _scales(denoiser, x, rows, [None] * len(x), told)]
    maps: list[Floats] = []
    for own in (True, False):
        texts = [each.text if own else each.other for each in asked]
        able = [k for k, text in enumerate(texts) if denoiser.takes_text and text is not None]
        some, prompts = x[able], [texts[k] for k in able]
        found = _scales(denoiser, some, [rows[k] for k in able], prompts, told)
        changes = _changes(denoiser, some, prompts, [rows[k].digest for k in able], told.noises)
        for k, (row, scale, spent), change in zip(able, found, changes, strict=True):
            gap = float(basins.gap(np.array([scale]), np.array([row.plain]), _least(denoiser))[0])
            norm = float(screening.conditional_norm(change).mean())
            if own and row.side == "picture":
                rows[k] = replace(row, scale=scale, gap=gap, norm=norm, map=len(maps))
                maps.append(_map(change, pictures[k][1]))
            elif own:
                rows[k] = replace(row, scale=scale, gap=gap, norm=norm)
            else:
                rows[k] = replace(row, swapped_scale=scale, swapped_gap=gap, swapped_norm=norm)
            rows[k] = replace(rows[k], evaluations=row.evaluations + spent + 2 * told.noises)
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


def _levels(denoiser: Denoiser) -> list[Level]:
    """Return the levels that are tried; of noise alone nothing of a picture is left."""
    return [level for level in denoiser.levels(LEVELS) if level.alpha >= screening.LEAST_ALPHA]


def _least(denoiser: Denoiser) -> float:
    return min(level.sigma / level.alpha for level in _levels(denoiser))


def _scales(
    denoiser: Denoiser, x: Floats, rows: Sequence[Probed], prompts: Prompts, told: ProbePlan
) -> list[tuple[Probed, float, int]]:
    """Return rows with their critical scales, and the evaluations that each cost."""
    levels, spent = _levels(denoiser), np.zeros(len(x), np.int64)

    def denoise(states: Floats, place: int, which: basins.Rows) -> Floats:
        spent[which] += 1
        level, noisy = levels[place], (states * np.float32(levels[place].alpha)).astype(np.float32)
        return denoiser.predict(noisy, level, [prompts[k] for k in which]).x0

    scales = [level.sigma / level.alpha for level in levels]
    found = basins.critical_scale(denoise, x, scales, times=told.times, radius=told.radius)
    return list(zip(rows, found.tolist(), spent.tolist(), strict=True))


def _changes(denoiser: Denoiser, x: Floats, prompts: Prompts, digests: Sequence[str], noises: int) -> Iterator[Floats]:
    """Return what prompts change in eps at noisy states made of pictures: [noises, ...] of each.

    At the level of as much noise as picture: in between, a caption decides what is drawn.
    """
    level = min(_levels(denoiser), key=lambda each: abs(each.sigma / each.alpha - 1))
    for row, prompt, digest in zip(x, prompts, digests, strict=True):
        random = np.random.default_rng(int.from_bytes(hashlib.sha256(f"probe {digest}".encode()).digest()[:8]))
        noise = random.standard_normal((noises, *row.shape)).astype(np.float32)
        states = predictions.mixed(row, noise, level.alpha, level.sigma)
        asked, without = (denoiser.predict(states, level, [text] * noises).eps for text in (prompt, None))
        yield asked - without


def _map(change: Floats, image: RGB) -> Floats:
    height, width = image.shape[:2]
    shrink = max(1.0, max(height, width) / MAP)
    return basins.heat(change, max(1, round(height / shrink)), max(1, round(width / shrink))).astype(np.float32)


def _denoiser(model: Model) -> Denoiser:
    found = opened_once(model)
    if found is None:
        raise TypeError(f"a {model.name} cannot be looked into; `chain` asks before")
    return found


def _after(rows: Sequence[Finding], texts: Mapping[str, str], plan: Plan) -> dict[str, str]:
    """Return by caption the one that comes next among those of some pictures; nothing of fewer than two."""
    said = {texts[row.group] for row in rows if row.group in texts}
    order = sorted(said, key=lambda text: dice(plan.prompts.seed, "probe", text))
    return dict(zip(order, order[1:] + order[:1], strict=True)) if len(order) > 1 else {}


@lru_cache(maxsize=1)
def _corpus(path: Path) -> Corpus:
    return Corpus(path)
