"""Rank prompts by how likely they are to bring a picture back, without a training set.

Scores are of `byrote.stages.scores`. Where there are control prompts, which a person says can bring nothing back, each
prompt has a p-value among them, exact where a prompt that brings nothing back is like a control in everything else. A
pilot, blind to who is who, decides whether and in which direction the score is used.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from byrote.kernels.stats import conformal_p, conformal_q
from byrote.models import Model
from byrote.stages import Progress, silent
from byrote.stages.scores import SCORES, Pilot, Score, pilot

Reals = NDArray[np.float64]
SEEDS = 4
"""Noises a prompt: as Webster 2023."""
PILOT = 40
"""Prompts of the pilot, and full samples of each; ours: a correlation of .40 is then told from 0."""
FULL = 4
TOGETHER = 64
FEWEST = 5


@dataclass(frozen=True, slots=True)
class Risk:
    """A prompt with its rank (1 is the likeliest) and its score, which the pilot has turned where it must.

    `p_value` and `q_value` are among the controls, null without any.
    """

    rank: int
    prompt: str
    score: float
    p_value: float | None
    q_value: float | None


@dataclass(frozen=True, slots=True)
class Ranked:
    """All prompts, the likeliest first; how that was found, and what it cost in evaluations of the denoiser."""

    score: str
    seeds: int
    controls: int
    pilot: Pilot | None
    evaluations: int
    rows: tuple[Risk, ...]


@dataclass(frozen=True, slots=True)
class Way:
    """How prompts are ranked: by which score, from how many noises, after a pilot of how many prompts.

    `seed` draws noises and the pilot; noises depend on it, the prompt and their number alone.
    """

    score: Score
    seeds: int = SEEDS
    pilot: int = PILOT
    seed: int = 0


def rank(
    model: Model,
    full: Model,
    prompts: Sequence[str],
    way: Way,
    controls: Sequence[str] = (),
    progress: Progress = silent,
) -> Ranked:
    """Rank prompts by a score of `model`; the pilot asks `full`, the same with its deployed number of steps.

    Raises ModelError.
    """
    found = _scores(model, [*prompts, *controls], way, progress)
    tried = _tried(full, [*prompts, *controls], found, way, progress) if way.pilot else None
    found = found * tried.direction if tried else found
    ours, theirs = found[: len(prompts)], found[len(prompts) :]
    p, q = (conformal_p(-ours, -theirs), conformal_q(-ours, -theirs)) if controls else (None, None)
    rows = []
    for place, k in enumerate(np.argsort(-ours, kind="stable").tolist(), 1):
        own = (None, None) if p is None or q is None else (float(p[k]), float(q[k]))
        rows.append(Risk(place, prompts[k], float(ours[k]), *own))
    spent = len(found) * way.score.evaluations(model, way.seeds)
    spent += tried.correlation.n * FULL * full.evaluations_per_sample if tried else 0
    return Ranked(way.score.name, way.seeds, len(controls), tried, spent, tuple(rows))


def seed_of(prompt: str, index: int, seed: int, what: str = "screen") -> int:
    """Return the seed of one noise: 63 bits that depend on the seed, the prompt, its index and what it is for only."""
    about = f"{what} {seed} {prompt} {index}"
    return int.from_bytes(hashlib.sha256(about.encode("utf-8", "surrogatepass")).digest()[:8]) >> 1


def _scores(model: Model, prompts: Sequence[str], way: Way, progress: Progress) -> Reals:
    def of(some: Sequence[str]) -> Reals:
        return way.score.of(model, some, _seeds(some, way.seeds, way))

    return _stretches("screen", prompts, TOGETHER, of, progress)


def _tried(full: Model, prompts: Sequence[str], scores: Reals, way: Way, progress: Progress) -> Pilot | None:
    """Return the pilot, of prompts and controls alike, drawn by seed; None where there are too few."""

    def of(some: Sequence[str]) -> Reals:
        return SCORES["agreement"].of(full, some, _seeds(some, FULL, way, "pilot"))

    dice = np.random.default_rng(way.seed)
    chosen = np.sort(dice.permutation(len(prompts))[: way.pilot])
    if len(chosen) < FEWEST:
        return None
    alike = _stretches("pilot", [prompts[k] for k in chosen], TOGETHER // 8, of, progress)
    return pilot(scores[chosen], alike)


def _stretches(
    what: str, prompts: Sequence[str], length: int, of: Callable[[Sequence[str]], Reals], progress: Progress
) -> Reals:
    """Do some prompts after the others, and tell how far it is."""
    found = [np.empty(0)]
    for k in range(0, len(prompts), length):
        progress(what, k, len(prompts), "prompts")
        found.append(of(prompts[k : k + length]))
    progress(what, len(prompts), len(prompts), "prompts")
    return np.concatenate(found)


def _seeds(prompts: Sequence[str], count: int, way: Way, what: str = "screen") -> list[list[int]]:
    return [[seed_of(prompt, k, way.seed, what) for k in range(count)] for prompt in prompts]
