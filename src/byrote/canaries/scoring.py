"""What came of the canaries: exposure by kind and number of copies, and the epsilon that one run refutes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
from numpy.typing import NDArray

from byrote.canaries.record import Canary
from byrote.kernels import privacy

EXPOSURE_SOURCE = (
    "log2 n - log2 rank among all kept canaries of the kind, after Carlini et al. 2019, arXiv:1802.08232, section 4, "
    "and 2023, arXiv:2301.13188, section 7; here of T (extraction), there of the loss, so that ours is lower: what was "
    "learnt but does not come out has none"
)
EPSILON_SOURCE = (
    "a lower bound from one training, Steinke, Nasr and Jagielski 2023, arXiv:2305.08846, theorem 5.2, with delta 0; "
    "the guess, fixed beforehand, is 'published' where T <= tau and none elsewhere; it bounds a change of all copies "
    "of a picture, and divided by their number that of one copy (group privacy); every bound holds by itself at the "
    "level, not all of them together"
)


@dataclass(frozen=True, slots=True)
class Tier:
    """What came of the canaries of one kind and number of copies.

    Exposures are of the published ones, against `references` kept ones of the kind: at most `greatest`, which `reach`
    of them have; `quartiles` are the lower and the upper. Of all canaries of the tier `guesses` came within
    tau and were guessed to be published, and `correct` were. `epsilon` bounds the training for a change of all copies
    of a picture, `epsilon_a_copy` for one copy; `most` is the most that so many published canaries could show. Null
    where no canary of the tier was published, or none of the kind kept.
    """

    kind: str
    copies: int
    published: int
    kept: int
    references: int
    exposures: tuple[float, ...]
    median: float | None
    quartiles: tuple[float, float] | None
    largest: float | None
    greatest: float | None
    reach: int
    guesses: int
    correct: int
    epsilon: float
    epsilon_a_copy: float
    most: float


@dataclass(frozen=True, slots=True)
class CanaryReport:
    """All tiers, the bound over all canaries together, and where the figures come from.

    `epsilon` is for a change of as many copies as the largest tier has.
    """

    tiers: tuple[Tier, ...]
    canaries: int
    guesses: int
    correct: int
    epsilon: float
    epsilon_a_copy: float
    tau: float
    level: float
    exposure_source: str = EXPOSURE_SOURCE
    epsilon_source: str = EPSILON_SOURCE


@dataclass(frozen=True, slots=True)
class _Guessed:
    guesses: int
    correct: int
    epsilon: float
    epsilon_a_copy: float


@dataclass(frozen=True, slots=True)
class _Scores:
    """T by digest, +inf where it is missing, and the rule of the guess."""

    statistic: Mapping[str, float]
    tau: float
    level: float

    def of(self, canaries: Sequence[Canary], *, published: bool) -> NDArray[np.float64]:
        return np.array([self._t(canary) for canary in canaries if canary.published == published], np.float64)

    def guess(self, canaries: Sequence[Canary]) -> _Guessed:
        near = [canary for canary in canaries if self._t(canary) <= self.tau]
        correct = sum(canary.published for canary in near)
        bound = privacy.epsilon(correct, len(near), total=len(canaries), level=self.level)
        copies = max(canary.copies for canary in canaries)
        return _Guessed(len(near), correct, bound, privacy.per_copy(bound, copies))

    def _t(self, canary: Canary) -> float:
        return self.statistic.get(canary.digest, inf)


def report(
    canaries: Sequence[Canary], statistic: Mapping[str, float], *, tau: float, level: float = 0.95
) -> CanaryReport:
    """Hold T of every canary, by digest, against its coin.

    Missing is +inf: nothing came near. Every canary must have been looked for alike, published or kept (see `check`),
    and tau be fixed before. Raises ValueError without canaries.
    """
    if not canaries:
        raise ValueError("a report wants at least one canary")
    scores = _Scores(statistic, tau, level)
    keys = sorted({(canary.kind, canary.copies) for canary in canaries})
    everything = scores.guess(canaries)
    return CanaryReport(
        tiers=tuple(_tier(kind, copies, canaries, scores) for kind, copies in keys),
        canaries=len(canaries),
        guesses=everything.guesses,
        correct=everything.correct,
        epsilon=everything.epsilon,
        epsilon_a_copy=everything.epsilon_a_copy,
        tau=tau,
        level=level,
    )


def _tier(kind: str, copies: int, canaries: Sequence[Canary], scores: _Scores) -> Tier:
    alike = [canary for canary in canaries if canary.kind == kind]
    mine = [canary for canary in alike if canary.copies == copies]
    inserted, reference = scores.of(mine, published=True), scores.of(alike, published=False)
    exposures = privacy.exposure(inserted, reference) if len(reference) else np.zeros(0)
    greatest = privacy.greatest_exposure(len(reference)) if len(reference) else None
    guessed = scores.guess(mine)
    return Tier(
        kind=kind,
        copies=copies,
        published=len(inserted),
        kept=len(mine) - len(inserted),
        references=len(reference),
        exposures=tuple(round(value, 4) for value in exposures.tolist()),
        median=float(np.median(exposures)) if len(exposures) else None,
        quartiles=_quartiles(exposures),
        largest=float(exposures.max()) if len(exposures) else None,
        greatest=greatest,
        reach=int((exposures == greatest).sum()) if len(exposures) else 0,
        guesses=guessed.guesses,
        correct=guessed.correct,
        epsilon=guessed.epsilon,
        epsilon_a_copy=guessed.epsilon_a_copy,
        most=privacy.most_epsilon(len(inserted), scores.level),
    )


def _quartiles(exposures: NDArray[np.float64]) -> tuple[float, float] | None:
    if not len(exposures):
        return None
    low, high = np.quantile(exposures, [0.25, 0.75]).tolist()
    return low, high
