"""Worlds without memory, in which the truth is known, and the same worlds with one planted mistake each.

A picture is a point: its family's centre (few) plus its own offset. The model's samples come from the same distribution
as the pictures, so it is near some of D and of H alike and has learnt neither: samples do come within tau by chance. A
defect changes one step of the audit, as published code has it; everything else, and the shipped `certify`, stays.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf

import numpy as np

from byrote.domain import Match
from byrote.stages.certify import Certified, Tested, certify

FDR, TAU = 0.05, 0.15
DIMENSIONS, FAMILIES, SAMPLES, MEMBERS = 8, 60, 20, 8
Statistic = Callable[["World"], tuple[np.ndarray, np.ndarray]]
Audit = Callable[[int, int, int], bool]
FAMILY, OWN = 1.0, 0.14
"""Spread of the families' centres and of pictures within a family: some samples come within tau of some pictures."""


@dataclass(frozen=True)
class World:
    """What is tested: pictures and controls (points), members of each picture's group, and the samples."""

    pictures: np.ndarray
    controls: np.ndarray
    members: np.ndarray
    samples: np.ndarray
    dice: np.random.Generator


def world(seed: int, m: int, n: int, *, families: int = FAMILIES, own: float = OWN, pulled: float = 0.0) -> World:
    """Draw a world; `pulled` draws samples towards the pictures in general (influence without copying)."""
    dice = np.random.default_rng(seed)
    centres = dice.normal(0, FAMILY, (families, DIMENSIONS))
    points = centres[dice.integers(0, families, m + n)] + dice.normal(0, own, (m + n, DIMENSIONS))
    members = points[:m, None] + dice.normal(0, own / 2, (m, MEMBERS, DIMENSIONS))
    samples = centres[dice.integers(0, families, SAMPLES)] + dice.normal(0, own, (SAMPLES, DIMENSIONS))
    if pulled:
        near = points[:m][_apart(samples, points[:m]).argmin(1)]
        samples = samples + pulled * (near - samples)
    return World(points[:m], points[m:], members, samples, dice)


def _apart(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray(np.sqrt(((a[:, None] - b[None]) ** 2).mean(2)))


def nearest(w: World) -> tuple[np.ndarray, np.ndarray]:
    """Return T of pictures and controls: the distance of the nearest sample."""
    return _apart(w.samples, w.pictures).min(0), _apart(w.samples, w.controls).min(0)


def best_of_members(w: World) -> tuple[np.ndarray, np.ndarray]:
    """T of a picture is that of the best of its group's members; a control has only itself."""
    plain, null = nearest(w)
    members = np.stack([_apart(w.samples, w.members[:, k]).min(0) for k in range(w.members.shape[1])])
    return np.minimum(plain, members.min(0)), null


def several_captions(w: World) -> tuple[np.ndarray, np.ndarray]:
    """Pictures are asked for under nine captions, each with its own samples near their family; controls under one."""
    plain, null = nearest(w)
    more = [_apart(w.samples + w.dice.normal(0, OWN, w.samples.shape), w.pictures).min(0) for _ in range(8)]
    return np.minimum(plain, np.min(more, 0)), null


def one_sided_dedup(w: World) -> tuple[np.ndarray, np.ndarray]:
    """Controls that resemble any picture are dropped (T = +inf), the pictures that they resemble stay."""
    plain, null = nearest(w)
    alike = _apart(w.controls, w.pictures).min(1) < 2 * OWN
    return plain, np.where(alike, inf, null)


def neighbours_from_d(w: World) -> tuple[np.ndarray, np.ndarray]:
    """T is a ratio whose neighbours are pictures only, and a picture counts itself among them."""
    return tuple(_ratio(w.samples, own, w.pictures) for own in (w.pictures, w.controls))  # type: ignore[return-value]


def _ratio(samples: np.ndarray, own: np.ndarray, pool: np.ndarray) -> np.ndarray:
    """Return the smallest d / mean of the distances to what the pool has nearest to the picture itself."""
    apart = _apart(samples, own)
    crowd = np.sort(_apart(own, pool), 1)[:, :3].mean(1)
    return np.asarray(apart.min(0) * (0.15 + crowd) / 2)


def trained_autoencoder(w: World) -> tuple[np.ndarray, np.ndarray]:
    """The round trip that samples are held against is exact for pictures and off for controls."""
    off = w.dice.normal(0, 1.5 * OWN, w.controls.shape)
    return nearest(w)[0], np.maximum(nearest(w)[1], _apart(w.samples, w.controls + off).min(0))


def judged(t: np.ndarray, null: np.ndarray) -> Certified:
    """Hold distances against controls by the shipped rule."""
    rows = [_tested("picture", k, float(d)) for k, d in enumerate(t)]
    rows += [_tested("control", k, float(d)) for k, d in enumerate(null)]
    return certify(rows, fdr=FDR, closest=TAU)


def accused(seed: int, m: int, n: int, statistic: Statistic, **how: float) -> bool:
    """Tell whether an audit of a world without memory certifies anything."""
    return any(f.certified for f in judged(*statistic(world(seed, m, n, **how))).findings)  # type: ignore[arg-type]


def rerun_until_success(seed: int, m: int, n: int) -> bool:
    """Audit again with another seed, up to five times, until something is found."""
    return any(accused(seed * 1000 + k, m, n, nearest) for k in range(5))


def excess_alone(seed: int, m: int, n: int) -> bool:
    """Take excess alone for a copy, where training moved the model towards its pictures and copied none."""
    result = judged(*nearest(world(seed, m, n, **PULLED)))  # type: ignore[arg-type]
    return any(f.q_value is not None and f.q_value <= FDR for f in result.findings)


def _tested(side: str, k: int, t: float) -> Tested:
    name = f"{side} {k}"
    if np.isinf(t):
        return Tested(name, name, side, 1, "asked", None)  # type: ignore[arg-type]
    found = Match(0, k, 0, name, 0, name, name, side, t, t, None, None, False, 1.0, 0, 0)  # type: ignore[arg-type]
    return Tested(name, name, side, 1, "asked", found)  # type: ignore[arg-type]


def clean(seed: int, m: int, n: int) -> bool:
    """Audit as byrote does."""
    return accused(seed, m, n, nearest)


def clean_crowded(seed: int, m: int, n: int) -> bool:
    """Audit as byrote does, where most controls resemble some picture."""
    return accused(seed, m, n, nearest, **CROWDED)


def clean_pulled(seed: int, m: int, n: int) -> bool:
    """Audit as byrote does, where training moved the model towards its pictures and copied none."""
    return accused(seed, m, n, nearest, **PULLED)


CROWDED: dict[str, float] = {"families": 15}
PULLED: dict[str, float] = {"own": 0.6, "pulled": 0.35}
"""In these worlds pictures are so far apart that a sample drawn towards one is no copy of it."""

NULLS: dict[str, tuple[Audit, Audit]] = {
    "best of members": (clean, lambda s, m, n: accused(s, m, n, best_of_members)),
    "several captions against one": (clean, lambda s, m, n: accused(s, m, n, several_captions)),
    "one-sided deduplication": (clean_crowded, lambda s, m, n: accused(s, m, n, one_sided_dedup, **CROWDED)),
    "neighbours from D only": (clean, lambda s, m, n: accused(s, m, n, neighbours_from_d)),
    "an autoencoder trained on D": (clean, lambda s, m, n: accused(s, m, n, trained_autoencoder)),
    "run again until it succeeds": (clean, rerun_until_success),
    "influence taken for copying": (clean_pulled, excess_alone),
}
"""For each mistake the audit as it ships, and the same world with the mistake planted."""
