"""Scores of prompts: which are likely to bring a picture back, for a few evaluations each and without any picture.

A score looks into the model's denoiser, or only at its images, which it asks for as `generate` would: so whether they
are of one step or of fifty is the model's own number of steps. A score from within is of the sampler's first step;
NAME@2 is of its second, and so on. Nothing is taken on trust: `pilot` says whether, and in which direction, a score
goes with what full samples do, for the model at hand.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from byrote import images
from byrote.domain import RGB
from byrote.errors import ByroteError, ModelError, did_you_mean
from byrote.kernels import predictions, screening
from byrote.models import Model, Request
from byrote.models.denoiser import Denoiser, Floats, Level, Prediction, Prompts, guided, opened
from byrote.stages.generate import ask

Reals = NDArray[np.float64]
Needs = Literal["denoiser", "model"]
Seeds = Sequence[Sequence[int]]
ROWS = 64
"""States, or images, that are worked on together: whole prompts, one at least."""
MOVED = 0.01
"""RMS, as a share of sigma, by which a state is moved for a finite difference; ours."""
LATE = 50
"""Steps of the sampler the last of which stands for little noise in `anisotropy`: those of the paper."""
BRIGHT = 2
"""Layers whose attention makes the mask of `bright-ending`: the first two of the finest, as in the paper's code."""


class Score(Protocol):
    """A score of prompts: larger is likelier to bring a picture back. `says` is one line for a person."""

    @property
    def name(self) -> str:
        """Return its name among `SCORES`."""
        ...

    @property
    def needs(self) -> Needs:
        """Return what it asks: "model" works with any, "denoiser" with what can be looked into."""
        ...

    @property
    def says(self) -> str:
        """Return what it measures, in one line."""
        ...

    def evaluations(self, model: Model, seeds: int) -> int:
        """Count the denoiser's evaluations that a prompt costs, guidance counted. Raises ModelError."""
        ...

    def of(self, model: Model, prompts: Prompts, seeds: Seeds) -> Reals:
        """Return the scores [prompts], from the noises of these seeds, as many for each. Raises ModelError."""
        ...


@dataclass(frozen=True, slots=True)
class Inside:
    """A score that looks into the denoiser, at one of the sampler's steps, counted from 1.

    `measure` is of states of that step's level with their prompts, [prompts, seeds] flattened, seeds a prompt: float64
    [prompts] or [prompts x seeds], whose mean over seeds is taken. `cost` counts evaluations a seed.
    """

    what: str
    says: str
    cost: Callable[[Denoiser], int]
    measure: Callable[["States"], Reals]
    step: int = 1
    whole: bool = False  # of several steps, so that there is none of a later one
    needs: Needs = "denoiser"

    @property
    def name(self) -> str:
        """Return its name; that of the first step stands alone."""
        return self.what if self.step == 1 else f"{self.what}@{self.step}"

    def evaluations(self, model: Model, seeds: int) -> int:
        """Count the denoiser's evaluations that a prompt costs."""
        denoiser = _denoiser(model, self.name)
        return seeds * ((self.step - 1) * _guided_cost(denoiser) + self.cost(denoiser))

    def of(self, model: Model, prompts: Prompts, seeds: Seeds) -> Reals:
        """Return the scores."""
        denoiser = _denoiser(model, self.name)
        if self.step > len(denoiser.levels()):
            raise ModelError(f"score {self.name!r}: the model has {len(denoiser.levels())} steps")
        found = []
        for some, own in _together(prompts, seeds):
            states = _started(denoiser, some, own)
            for _ in range(1, self.step):
                states = states.after(states.guided())
            found.append(self.measure(states).reshape(len(some), -1).mean(1))
        return np.concatenate([np.empty(0), *found])


@dataclass(frozen=True, slots=True)
class Outside:
    """A score of images: `measure` is of those of one prompt."""

    name: str
    says: str
    measure: Callable[[Sequence[RGB]], float]
    needs: Needs = "model"

    def evaluations(self, model: Model, seeds: int) -> int:
        """Count the denoiser's evaluations that a prompt costs."""
        return seeds * model.evaluations_per_sample

    def of(self, model: Model, prompts: Prompts, seeds: Seeds) -> Reals:
        """Return the scores."""
        found: list[float] = []
        for some, own in _together(prompts, seeds):
            count = len(own[0])
            requests = [Request(prompt, seed) for prompt, row in zip(some, own, strict=True) for seed in row]
            made = ask(model, requests, ROWS)
            found += [self.measure(made[k : k + count]) for k in range(0, len(made), count)]
        return np.array(found, np.float64)


@dataclass(frozen=True, slots=True)
class Pilot:
    """How a score goes with the agreement of full samples, over some prompts.

    `correlation` is Spearman's, with an interval of 99 %; `direction` is what the score must be multiplied by, 1 or -1;
    `usable` whether it goes with them at all.
    """

    correlation: screening.Correlation
    direction: Literal[1, -1]
    usable: bool


def named(name: str) -> Score:
    """Return the score of this name: one of `SCORES`, or of a later step, NAME@STEP. Raises ByroteError."""
    what, _, step = name.partition("@")
    score = SCORES.get(what)
    if score is None:
        raise ByroteError(f"unknown score {name!r}{did_you_mean(what, SCORES)}: one of {', '.join(SCORES)}")
    if "@" not in name:
        return score
    if not isinstance(score, Inside) or score.whole or not (step.isascii() and step.isdigit()) or int(step) < 1:
        raise ByroteError(f"score {name!r}: write NAME@STEP, a step of 1 or more, of one of {', '.join(_STEPPED)}")
    return replace(score, step=int(step))


def default(model: Model) -> Score:
    """Return the score for a model where none is named. Raises ModelError.

    `x0-agreement` where it can be looked into, at the first step at which a state has something of a picture: of noise
    alone a denoiser can only tell a mean of all. Else `closest-pair`.
    """
    denoiser = opened_once(model)
    if denoiser is None:
        return SCORES["closest-pair"]
    blind = [level.alpha < screening.LEAST_ALPHA for level in denoiser.levels()]
    return named(f"x0-agreement@{blind.index(False) + 1}") if False in blind else SCORES["x0-agreement"]


def pilot(scores: Reals, agreement: Reals) -> Pilot:
    """Decide from some prompts whether a score is used, and in which direction; no side, label or picture is known.

    `agreement` is that of a few full samples of each (`agreement`, larger is more alike), of other seeds than the
    score's. Usable where the interval of the rank correlation leaves out 0. Ours. ValueError for fewer than 5 prompts.
    """
    told = screening.rank_correlation(scores, agreement)
    return Pilot(told, -1 if told.value < 0 else 1, told.low > 0 or told.high < 0)


def opened_once(model: Model) -> Denoiser | None:
    """Return the denoiser of a model, opened once, or None. Raises ModelError where it cannot be called alone."""
    return _opened(cast(Hashable, model))


@dataclass(frozen=True, slots=True)
class States:
    """States of some prompts, `seeds` for each, at a place among the sampler's levels."""

    denoiser: Denoiser
    x: Floats
    prompts: Prompts
    seeds: int
    place: int = 0

    @property
    def level(self) -> Level:
        """Return their level."""
        return self.denoiser.levels()[self.place]

    def asked(self) -> Prediction:
        """Predict with the prompts."""
        return self.denoiser.predict(self.x, self.level, self.prompts)

    def without(self) -> Prediction:
        """Predict without them."""
        return self.denoiser.predict(self.x, self.level, [None] * len(self.x))

    def guided(self) -> Prediction:
        """Predict as the sampler does."""
        return guided(self.denoiser, self.x, self.level, self.prompts)

    def change(self) -> Floats:
        """Return what the prompts change in what the denoiser says: of eps or, where that says nothing, of x0."""
        asked, without = self.asked(), self.without()
        return asked.x0 - without.x0 if self.level.alpha < screening.LEAST_ALPHA else asked.eps - without.eps

    def after(self, told: Prediction) -> "States":
        """Return them one step of DDIM on."""
        to = self.denoiser.levels()[self.place + 1]
        return replace(self, x=predictions.mixed(told.x0, told.eps, to.alpha, to.sigma), place=self.place + 1)

    def by_prompt(self, rows: Floats) -> Floats:
        """Return rows as [prompts, seeds, ...]."""
        return rows.reshape(-1, self.seeds, *rows.shape[1:])


@lru_cache(maxsize=2)
def _opened(model: Model) -> Denoiser | None:
    return opened(model)


def _denoiser(model: Model, score: str) -> Denoiser:
    denoiser = opened_once(model)
    if denoiser is None:
        able = ", ".join(name for name, other in SCORES.items() if other.needs == "model")
        raise ModelError(f"score {score!r} looks into the model, and a {model.name} cannot be looked into: take {able}")
    return denoiser


def _together(prompts: Prompts, seeds: Seeds) -> Iterator[tuple[Prompts, Seeds]]:
    """Cut prompts with their seeds into stretches of at most `ROWS` rows, one prompt at least."""
    if len({len(row) for row in seeds}) > 1 or len(seeds) != len(prompts):
        raise ValueError("every prompt wants as many seeds as the others")
    step = max(1, ROWS // max(1, len(seeds[0]))) if seeds else 1
    for k in range(0, len(prompts), step):
        yield prompts[k : k + step], seeds[k : k + step]


def _started(denoiser: Denoiser, prompts: Prompts, seeds: Seeds) -> States:
    count = len(seeds[0])
    x = denoiser.start([seed for row in seeds for seed in row])
    return States(denoiser, x, [prompt for prompt in prompts for _ in range(count)], count)


def _norm(states: States) -> Reals:
    return screening.conditional_norm(states.change())


def _displacement(states: States) -> Reals:
    return screening.displacement(states.x, states.guided().x0)


def _x0_agreement(states: States) -> Reals:
    """Take x0 without guidance, which would add what the unconditional says, and that differs from noise to noise."""
    _several(states.seeds)
    return screening.agreement(states.by_prompt(states.asked().x0))


def _x0_edges(states: States) -> Reals:
    shown = states.denoiser.decode(states.asked().x0)
    return np.array([_edges(shown[k : k + states.seeds]) for k in range(0, len(shown), states.seeds)])


def _sharpness(states: States) -> Reals:
    length = MOVED * states.level.sigma
    change = states.change()
    moved = replace(states, x=states.x + screening.directions(change, length))
    return screening.sharpness(change, moved.change(), length)


def _anisotropy(states: States) -> Reals:
    denoiser, x = states.denoiser, states.x
    late = denoiser.levels(LATE)[-1]
    without = denoiser.predict(x, late, [None] * len(x)).eps
    change = denoiser.predict(x, late, states.prompts).eps - without
    return screening.anisotropy(change, without, states.change())


def _norm_all(states: States) -> Reals:
    steps = [screening.conditional_norm(change) for _, change in _drawn(states)]
    return np.asarray(np.mean(steps, axis=0), np.float64)


def _bright(states: States) -> Reals:
    steps = list(_drawn(states))
    return screening.bright_ending(np.stack([change for _, change in steps]), _ending(steps[-1][0]))


def _ending(states: States) -> Floats:
    """Return what places attend to in the last token, a mean of layers, [rows, height, width]. Raises ModelError."""
    maps = list(states.denoiser.attention(states.x, states.level, states.prompts).values())
    if not maps:
        raise ModelError("score 'bright-ending' wants attention from places to text, and this model has none of it")
    finest = max(each.shape[1] for each in maps)
    some = [each[:, :, -1] for each in maps if each.shape[1] == finest][:BRIGHT]
    _, height, width = states.denoiser.shape
    coarse = round((height * width / finest) ** 0.5)
    shown = np.mean(some, axis=0).reshape(len(states.x), height // coarse, width // coarse)
    grown: Floats = np.repeat(np.repeat(shown, coarse, 1), coarse, 2)
    return grown


def _drawn(states: States) -> Iterator[tuple[States, Floats]]:
    """Draw samples by the step of DDIM; yield the states of each step, and what the prompts change in eps there."""
    scale, last = states.denoiser.guidance, len(states.denoiser.levels()) - 1
    while True:
        asked, without = states.asked(), states.without()
        yield states, asked.eps - without.eps
        if states.place == last:
            return
        told = (predictions.guided(b, a, scale) for a, b in zip(asked, without, strict=True))
        states = states.after(Prediction(*told))


def _shares(made: Sequence[RGB]) -> Floats:
    """Return the images of one prompt in [0, 1], [1, seeds, ...]."""
    return np.stack(made)[None].astype(np.float32) / np.float32(255)


def _several(seeds: int) -> None:
    if seeds < 2:
        raise ByroteError(f"agreement is of two noises or more, not of {seeds}: take more, or another score")


def _agreement(made: Sequence[RGB]) -> float:
    _several(len(made))
    return float(screening.agreement(_shares(made))[0])


def _closest(made: Sequence[RGB]) -> float:
    _several(len(made))
    return float(screening.closest(_shares(made))[0])


def _edges(made: Sequence[RGB]) -> float:
    size = screening.EDGE_SIZE
    return screening.edge_agreement(np.stack([screening.edges(images.resize(image, size, size)) for image in made]))


def _guided_cost(denoiser: Denoiser) -> int:
    return 1 if denoiser.guidance == 1 else 2


def _full_cost(denoiser: Denoiser) -> int:
    return 2 * len(denoiser.levels())


def _bright_cost(denoiser: Denoiser) -> int:
    return _full_cost(denoiser) + 1


_ALL: tuple[Score, ...] = (
    Inside("norm", "what the prompt changes at the first step (Wen 2024)", lambda _: 2, _norm),
    Inside("x0-agreement", "how alike the pictures are that first steps expect", lambda _: 1, _x0_agreement),
    Inside("x0-edges", "edges that those pictures share (Webster 2023)", lambda _: 1, _x0_edges),
    Inside("displacement", "how far one step goes (Webster 2023)", _guided_cost, _displacement),
    Inside("sharpness", "curvature along what the prompt changes (Jeon 2025)", lambda _: 4, _sharpness),
    Inside(
        "anisotropy",
        "its direction at little noise, its size at most (Asthana 2026)",
        lambda _: 4,
        _anisotropy,
        whole=True,
    ),
    Inside("norm-all", "what the prompt changes at every step (Wen 2024)", _full_cost, _norm_all, whole=True),
    Inside("bright-ending", "that, where the text's end is looked at (Chen 2025)", _bright_cost, _bright, whole=True),
    Outside("agreement", "how alike the samples are, on average", _agreement),
    Outside("closest-pair", "how alike the two samples are that are most alike", _closest),
    Outside("edges", "edges that the samples share (Webster 2023)", _edges),
)
SCORES: Mapping[str, Score] = {score.name: score for score in _ALL}
_STEPPED = [score.name for score in _ALL if isinstance(score, Inside) and not score.whole]
