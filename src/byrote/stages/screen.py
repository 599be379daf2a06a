"""Fill `screened`: which prompts get full samples, and from which noises. Nothing here knows a prompt's side.

Three steps, each a table. `scores`, where the plan names one: a score of `byrote.stages.scores` for every prompt, and
a pilot that says whether it goes with anything on this model; if so, the best share of all prompts goes on, if not, all
do. `searched`: cheap samples, of few sampler steps, one round after the other, until as many came surely near as a
clique wants, or the first ones were all far; where some came near, but not surely, and full samples from the nearest do
not, as many as an audit without a screen would draw. `screened`: a prompt is kept where a cheap sample came near a
picture or a control, or the first ones were alike; it gets a few full samples, from the noises that came nearest in the
order of how near. Of those that are dropped a random share is spared, and gets all samples: what came of them tells
what the screen misses.

All of it was fixed in the plan, and depends on scores, samples and dice alone. What is dropped counts T = +inf, on
either side, so that pictures and controls stay exchangeable. Prompts that stand for nobody are not screened.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil, inf
from pathlib import Path

import numpy as np

from byrote.domain import RGB, Prompt, Screened
from byrote.engine import Part
from byrote.errors import PlanError
from byrote.kernels.cliques import find
from byrote.kernels.distance import block_means
from byrote.models import Model, Request, Stepped, held
from byrote.plan import Plan
from byrote.stages import Desk, Failed, generate, match, risk, scores
from byrote.stages.cliques import template
from byrote.stages.prompts import dice
from byrote.store import Recipe, Store

TOGETHER = 32
"""Prompts of a part."""
FIRST = 8
"""Cheap samples of a prompt that are held against each other: of many, two are alike by chance."""
SURELY = 0.75
"""Share of tau within which a cheap sample is sure to be near; one at the edge may be over it with all steps; ours."""
TRIES = 2
"""Full samples, or as many as a clique wants, that tell whether a prompt at the edge of tau needs more cheap ones."""
ALIKE = 2
"""Full samples of a prompt whose cheap ones were alike and none was near: more would be alike too. Where templates are
looked for it is `FIRST`: of two samples too much seems to stay fixed. Ours."""
AUTO, ALIKENESS = "auto", "agreement"
"""The score that is the model's own, and the one of cheap samples that a pilot holds the plan's against."""
DRAWN = ("scores", "pilot", "searched")
"""The tables for which the model is asked."""


@dataclass(frozen=True, slots=True)
class Scored:
    """The score of a prompt, as the kernel gave it."""

    prompt: int
    score: float


@dataclass(frozen=True, slots=True)
class Searched:
    """What the cheap samples of a prompt showed; `seeds` are theirs, the nearest first, `nearest` null without any.

    `tried` is how many full samples helped to tell whether it is worth more cheap ones.
    """

    prompt: int
    near: int
    nearest: float | None
    agreed: bool
    seeds: tuple[int, ...]
    tried: int = 0


@dataclass(frozen=True, slots=True)
class Tables:
    """The recipes of the steps."""

    scores: Recipe
    pilot: Recipe
    searched: Recipe
    screened: Recipe

    def every(self) -> list[Recipe]:
        """Return all of them, in their order; those of a score may stay empty."""
        return [self.scores, self.pilot, self.searched, self.screened]


def on(plan: Plan) -> bool:
    """Tell whether a plan screens at all."""
    return plan.screen.search > 0


def tables(groups: Recipe, prompts: Recipe, plan: Plan, model: Model) -> Tables:
    """Return the recipes of the steps; the model is in them by the digest of its weights."""
    told, m, c = plan.screen, plan.match, plan.cliques
    about = {"prompts": prompts.digest, "model": model.digest, "seed": plan.prompts.seed, "quick": told.steps}
    about |= generate.drawing(plan)
    scored = Recipe.of("scores", about | {"score": told.score, "noises": told.noises})
    tried = Recipe.of("pilot", {"scores": scored.digest, "pilot": told.pilot})
    chosen = {"pilot": tried.digest, "keep": told.keep} if told.score else {}
    near = {"alpha": m.alpha, "n": m.n, **match.moving(m), "candidates": m.candidates}
    near |= {"tau": plan.certify.closest, "tiles": c.tiles, "least": c.least}
    near |= {"template": c.template, "seconds": c.seconds} if c.template else {}
    most = {"groups": groups.digest, "search": told.search, "seeds": plan.generate.seeds}
    searched = Recipe.of("searched", about | chosen | near | most)
    decides = {"searched": searched.digest, "confirm": told.confirm, "spare": told.spare}
    return Tables(scored, tried, searched, Recipe.of("screened", decides))


def run(desk: Desk, made: Tables, look: match.Look, prompts: Sequence[Prompt]) -> list[Failed]:
    """Screen the prompts of groups, of both sides in one list."""
    plan, root = look.plan, desk.store.root
    asked = screenable(prompts)
    if plan.screen.score:
        parts = list(_parts(asked))
        score = Score(root, made.scores, plan, plan.screen.score, plan.screen.noises)
        tried = Score(root, made.pilot, plan, ALIKENESS, risk.FULL)
        failed = desk.fill(made.scores, score, parts, "prompts")
        failed = failed or desk.fill(made.pilot, tried, [_pilot_part(asked, plan)], "prompts")
        if failed:
            return failed
    going = chosen(desk.store, made, asked, plan)
    failed = desk.fill(made.searched, Search(look, made.searched), list(_parts(going)), "prompts")
    return failed or desk.fill(made.screened, Screen(root, made, plan), [Part("00000", asked, len(asked))], "prompts")


def screenable(prompts: Sequence[Prompt]) -> list[Prompt]:
    """Return the prompts that stand for a group."""
    return [prompt for prompt in prompts if prompt.stratum != "free"]


def quick(plan: Plan) -> Model:
    """Return the model that draws the cheap samples, its weights held once: itself where it takes no steps or few."""
    model = generate.model_of(plan)
    if not isinstance(model, Stepped):
        return model
    other = _stepped(model, plan.screen.steps)
    return other if other.evaluations_per_sample < model.evaluations_per_sample else model


def _cheaper(plan: Plan) -> bool:
    """Tell whether a cheap sample is one: else it is as good as a full one."""
    return quick(plan) is not generate.model_of(plan)


def _goes_further(plan: Plan) -> bool:
    """Tell whether a prompt may get more cheap samples than `[screen] search`."""
    return _cheaper(plan) and plan.generate.seeds > plan.screen.search


def _tries(plan: Plan) -> int:
    return max(TRIES, plan.cliques.least)


def pilot(store: Store, made: Tables) -> scores.Pilot | None:
    """Return what the pilot says of the score, or None where there were too few prompts for one."""
    tried = store.read_all(Scored, made.pilot)
    if len(tried) < risk.FEWEST:
        return None
    known = {row.prompt: row.score for row in store.read_all(Scored, made.scores)}
    own = np.array([known[row.prompt] for row in tried])
    return scores.pilot(own, np.array([row.score for row in tried]))


def chosen(store: Store, made: Tables, asked: Sequence[Prompt], plan: Plan) -> list[Prompt]:
    """Return the prompts that the score lets on, in their order: all of them where it is not used."""
    tried = pilot(store, made) if plan.screen.score else None
    if tried is None or not tried.usable:
        return list(asked)
    known = {row.prompt: tried.direction * row.score for row in store.read_all(Scored, made.scores)}
    order = sorted(asked, key=lambda p: (-known[p.number], _dice(plan, "tie", p)))
    best = {p.number for p in order[: ceil(plan.screen.keep * len(asked))]}
    return [p for p in asked if p.number in best]


def decide(
    asked: Sequence[Prompt], searched: Mapping[int, Searched], told: Mapping[int, float], plan: Plan
) -> list[Screened]:
    """Keep, spare or drop each prompt. `told` holds the scores, where they were taken."""
    kept = {number for number, row in searched.items() if row.near or row.agreed}
    dropped = sorted((p for p in asked if p.number not in kept), key=lambda p: _dice(plan, "spare", p))
    spared = {p.number for p in dropped[: ceil(plan.screen.spare * len(dropped))]}
    confirm = plan.screen.confirm
    alike = max(FIRST if plan.cliques.template else ALIKE, plan.cliques.least)
    rows = []
    for p in asked:
        row = searched.get(p.number, Searched(p.number, 0, None, False, ()))
        most = confirm if row.near else min(confirm, alike) if row.agreed else 0
        most = plan.generate.seeds if p.number in spared else most
        drawn = (generate.seed_of(p, k, plan.prompts.seed) for k in range(most))
        seeds = (*dict.fromkeys([*row.seeds, *drawn]),)[:most]
        facts = (row.near, row.nearest, row.agreed)
        rows.append(
            Screened(p.number, told.get(p.number), len(row.seeds), *facts, p.number in kept, p.number in spared, seeds)
        )
    return rows


def decided(store: Store, made: Tables, prompts: Sequence[Prompt], plan: Plan) -> list[Screened]:
    """Decide from the tables."""
    searched = {row.prompt: row for row in store.read_all(Searched, made.searched)}
    told = {row.prompt: row.score for row in store.read_all(Scored, made.scores)}
    return decide(screenable(prompts), searched, told, plan)


def evaluations(store: Store, made: Tables, plan: Plan) -> int:
    """Count the denoiser's evaluations that the screen has cost."""
    model, full = quick(plan), generate.model_of(plan).evaluations_per_sample
    rows = store.read_all(Searched, made.searched)
    found = sum(len(row.seeds) * model.evaluations_per_sample + row.tried * full for row in rows)
    scored, tried = (sum(store.rows(each, part) for part in store.parts(each)) for each in (made.scores, made.pilot))
    return found + _cost_of_score(plan, model, scored, tried)


def most(prompts: Sequence[Prompt], plan: Plan) -> int:
    """Return how many full samples there can be at most."""
    asked, told, seeds = len(screenable(prompts)), plan.screen, plan.generate.seeds
    spared = ceil(told.spare * asked)
    return (asked - spared) * told.confirm + spared * max(told.confirm, seeds) + (len(prompts) - asked) * seeds


def most_evaluations(prompts: Sequence[Prompt], plan: Plan) -> int:
    """Count the denoiser's evaluations that cheap samples, and a score's pilot, can cost at most."""
    model, asked = quick(plan), len(screenable(prompts))
    each = plan.screen.search * model.evaluations_per_sample
    if _goes_further(plan):
        full = generate.model_of(plan).evaluations_per_sample
        each = plan.generate.seeds * model.evaluations_per_sample + _tries(plan) * full
    return asked * each + _cost_of_score(plan, model, asked, min(plan.screen.pilot, asked))


def _cost_of_score(plan: Plan, model: Model, scored: int, tried: int) -> int:
    """Count what the score of so many prompts costs, and the pilot of so many; nothing without a score."""
    if not plan.screen.score:
        return 0
    costs = ((plan.screen.score, plan.screen.noises, scored), (ALIKENESS, risk.FULL, tried))
    return sum(count * _score(name, plan).evaluations(model, noises) for name, noises, count in costs)


def words(rows: Sequence[Screened]) -> str:
    """Say what the screen let on."""
    kept, spared = sum(row.kept for row in rows), sum(row.spared for row in rows)
    samples = sum(row.searched for row in rows)
    return (
        f"screen: {kept:,} of {len(rows):,} prompts are kept, of {samples:,} cheap samples; {spared:,} of the others "
        "are spared, so that it can be told what is missed"
    )


@dataclass(frozen=True, slots=True)
class Score:
    """Score a part's prompts, from so many noises of each: of their own for each table."""

    root: Path
    made: Recipe
    plan: Plan
    name: str
    noises: int

    def __call__(self, part: Part) -> None:
        """Do one part."""
        plan, prompts = self.plan, part.payload
        noises = [_noises(p, self.noises, self.made.table, plan) for p in prompts]
        found = _score(self.name, plan).of(quick(plan), [p.text for p in prompts], noises)
        rows = [Scored(p.number, float(score)) for p, score in zip(prompts, found, strict=True)]
        Store(self.root).write(self.made, part.name, rows, Scored)


@dataclass(frozen=True, slots=True)
class Search:
    """Draw cheap samples of a part's prompts, twice as many in each round, until enough of a prompt's are near."""

    look: match.Look
    made: Recipe

    def __call__(self, part: Part) -> None:
        """Do one part."""
        plan, found = self.look.plan, [_Found(prompt) for prompt in part.payload]
        self._search(found, generate.rounds(plan.screen.search))
        if _goes_further(plan):
            self._try([each for each in found if each.goes_on(self.look, cheaper=True)])
            self._search(found, generate.rounds(plan.generate.seeds, plan.screen.search))
        rows = [each.row(plan) for each in found]
        Store(self.look.root).write(self.made, part.name, rows, Searched)

    def _search(self, found: Sequence["_Found"], rounds: Iterable[tuple[int, int]]) -> None:
        """Draw cheap samples in rounds, of the prompts that want more."""
        seed, cheaper = self.look.plan.prompts.seed, _cheaper(self.look.plan)
        for first, end in rounds:
            still = [each for each in found if each.goes_on(self.look, cheaper)]
            asked = [(each, generate.seed_of(each.prompt, k, seed)) for each in still for k in range(first, end)]
            for each, noise, image, distance in self._drawn(quick(self.look.plan), asked):
                each.add(noise, image, distance)

    def _try(self, edge: Sequence["_Found"]) -> None:
        """Draw a few full samples, from the noises that came nearest."""
        plan = self.look.plan
        asked = [(each, seed) for each in edge for seed in each.row(plan).seeds[: _tries(plan)]]
        for each, _, _, distance in self._drawn(generate.model_of(plan), asked):
            each.tried.append(distance)

    def _drawn(self, model: Model, asked: Sequence[tuple["_Found", int]]) -> Iterator[tuple["_Found", int, RGB, float]]:
        """Draw samples; yield whose each is, its seed, image and distance from the nearest of either side."""
        plan = self.look.plan
        for k in range(0, len(asked), generate.PART):
            some = asked[k : k + generate.PART]
            requests = [Request(each.prompt.text, seed) for each, seed in some]
            made = generate.ask(model, requests, plan.generate.batch)
            generate.vet(plan, requests, made)
            away = match.nearest_picture(self.look, generate.model_of(plan), np.stack(made), match.BOTH)
            for (each, seed), image, distance in zip(some, made, away, strict=True):
                yield each, seed, image, float(distance)


@dataclass(frozen=True, slots=True)
class Screen:
    """Decide what becomes of every prompt."""

    root: Path
    made: Tables
    plan: Plan

    def __call__(self, part: Part) -> None:
        """Do the one part."""
        store = Store(self.root)
        store.write(self.made.screened, part.name, decided(store, self.made, part.payload, self.plan), Screened)


@dataclass(frozen=True, slots=True)
class Near:
    """The rule by which a prompt's full samples end: as many as a clique wants are within tau of anything of a side."""

    look: match.Look

    @property
    def least(self) -> int:
        """Return how many suffice."""
        return self.look.plan.cliques.least

    def __call__(self, images: Sequence[RGB]) -> list[bool]:
        """Tell of each image whether it is within tau of anything."""
        plan = self.look.plan
        away = match.nearest_picture(self.look, generate.model_of(plan), np.stack(images), match.BOTH)
        return [bool(distance <= plan.certify.closest) for distance in away]


class _Found:
    """The cheap samples of a prompt so far: seeds and distances of all, and the first images."""

    def __init__(self, prompt: Prompt) -> None:
        self.prompt = prompt
        self.tried: list[float] = []
        self._seeds: list[int] = []
        self._away: list[float] = []
        self._images: list[RGB] = []

    def add(self, seed: int, image: RGB, distance: float) -> None:
        """Take note of a sample."""
        self._seeds.append(seed)
        self._away.append(distance)
        if len(self._images) < FIRST:
            self._images.append(image)

    def goes_on(self, look: match.Look, cheaper: bool) -> bool:
        """Tell whether too few came surely near yet, and whether any so near that more may."""
        plan, drawn = look.plan, len(self._away)
        surely = (SURELY if cheaper else 1) * plan.certify.closest
        if sum(distance <= surely for distance in self._away) >= plan.cliques.least:
            return False
        if drawn < plan.screen.search:
            return drawn < FIRST or min(self._away) <= look.reach
        came = sum(distance <= plan.certify.closest for distance in self.tried)
        return cheaper and came < plan.cliques.least and min(self._away) <= plan.certify.closest

    def near(self, plan: Plan) -> int:
        """Count the samples within tau."""
        return sum(distance <= plan.certify.closest for distance in self._away)

    def row(self, plan: Plan) -> Searched:
        """Return what was found, the seeds of the nearest images first."""
        least = min(self._away, default=inf)
        seeds = tuple(self._seeds[k] for k in np.argsort(self._away, kind="stable"))
        nearest = None if least == inf else least
        return Searched(self.prompt.number, self.near(plan), nearest, self._agreed(plan), seeds, len(self.tried))

    def _agreed(self, plan: Plan) -> bool:
        """Tell whether half of the first images, two at least, are all within tau of each other, or of one template."""
        many, closest = max(2, len(self._images) // 2), plan.certify.closest
        if len(self._images) < many:
            return False
        shown, c = np.stack(self._images), plan.cliques
        if find(shown, None, tiles=c.tiles, within=closest, least=many, seconds=0).found:
            return True
        if not c.template:
            return False
        height, width = shown.shape[1:3]
        means = block_means(shown, generate.blocks_of(height, width, c.tiles))
        return template(shown, means, replace(c, within=closest, least=many)) is not None


@lru_cache(maxsize=1)
def _stepped(model: Stepped, steps: int) -> Model:
    return model.stepped(steps)


def _score(name: str, plan: Plan) -> scores.Score:
    """Open a score for the model of a plan. Raises ByroteError for one that there is not, or that it cannot have."""
    return scores.default(quick(plan)) if name == AUTO else scores.named(name)


def check(plan: Plan, models: Iterable[Model]) -> None:
    """Refuse to screen what cannot be screened, and a score that there is not. Raises ByroteError."""
    told = f"[screen] search = {plan.screen.search}"
    for model in models:
        if not model.takes_text:
            raise PlanError(f"{told}: a {model.name} takes no text, so there are no prompts to screen; set 0")
        if held(model) is not None:
            raise PlanError(f"{told}: a {model.name} holds its samples, so there is nothing to save; set 0")
    if plan.screen.confirm < plan.cliques.least:
        wanted = f"a clique of {plan.cliques.least} ([cliques] least) can never be among so few samples"
        raise PlanError(f"[screen] confirm = {plan.screen.confirm}: {wanted}; set {plan.cliques.least} or more")
    if plan.screen.score not in ("", AUTO):
        scores.named(plan.screen.score)


def _parts(prompts: Sequence[Prompt]) -> Iterator[Part]:
    for k in range(0, len(prompts), TOGETHER):
        some = tuple(prompts[k : k + TOGETHER])
        yield Part(f"{k // TOGETHER:05d}", some, len(some))


def _pilot_part(asked: Sequence[Prompt], plan: Plan) -> Part:
    some = sorted(asked, key=lambda p: _dice(plan, "pilot", p))[: plan.screen.pilot]
    return Part("00000", tuple(some), len(some))


def _noises(prompt: Prompt, count: int, what: str, plan: Plan) -> list[int]:
    return [risk.seed_of(f"{prompt.digest} {prompt.text}", k, plan.prompts.seed, what) for k in range(count)]


def _dice(plan: Plan, what: str, prompt: Prompt) -> int:
    return dice(plan.prompts.seed, what, f"{prompt.group} {prompt.rung} {prompt.text}")
