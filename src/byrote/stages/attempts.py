"""Fill `attempts`: what it takes to bring a picture out, tried on claimed pictures and on controls alike.

A try is a picture and a way: a rung of the ladder, whose samples are held against that picture alone, or a half, which
the model fills. The statistic of a way is the smallest T (`byrote.stages.match`) of its samples, or of a half
the mean RMS of the likeliest fillings (`byrote.stages.inpainting`). Where there is a twin it is tried in the same ways
from the same noise. Nothing here knows a picture's side.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, astuple, dataclass, replace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from byrote import images
from byrote.corpus import Corpus
from byrote.domain import RGB, Side
from byrote.engine import Part
from byrote.errors import ModelError
from byrote.models import KeepsAnswers, Model, Request
from byrote.models.denoiser import Denoiser
from byrote.plan import Plan
from byrote.rungs import HALVES, Half, Way
from byrote.stages import Desk, Failed, generate, inpainting, match, risk, scores
from byrote.store import Recipe, Store

TABLE = "attempts"


@dataclass(frozen=True, slots=True)
class Try:
    """A picture and a way to bring it out. `texts` are what the model is asked, in turns; none where without text."""

    digest: str
    side: Side
    way: Way
    texts: tuple[str, ...]

    @property
    def key(self) -> tuple[Way, bool]:
        """Return with what controls' tries it may be compared: the way, and whether there are words."""
        return self.way, bool(self.texts)


@dataclass(frozen=True, slots=True)
class Attempt:
    """What came of a try.

    `near` of its `samples` (of a half: of the likeliest fillings) are within tau, the nearest as near as `nearest` (T).
    The image is that one, asked for by `text` with `seed`. Noise stands for a hit of a list of hashes, and for what a
    server `refused` to draw. The twin's `twin` and `twin_nearest` are the same as `statistic` and `nearest`, null
    without one. All are null where the picture is gone. `evaluations` are the denoisers', those of samples that several
    tries share counted once.
    """

    digest: str
    side: Side
    way: Way
    worded: bool
    samples: int
    refused: int
    near: int
    statistic: float | None
    nearest: float | None
    twin: float | None
    twin_nearest: float | None
    text: str | None
    seed: int | None
    sample: str
    image: bytes
    evaluations: int

    @property
    def key(self) -> tuple[Way, bool]:
        """Return with what controls' attempts it may be compared."""
        return self.way, self.worded


@dataclass(frozen=True, slots=True)
class Bench:
    """What tries are made with: the model's own look at its samples, and the twin's where there is one."""

    own: match.Look
    twin: match.Look | None

    @property
    def plan(self) -> Plan:
        """Return the plan under which the model is asked."""
        return self.own.plan

    @property
    def looks(self) -> list[match.Look]:
        """Return the looks."""
        return [self.own, self.twin] if self.twin else [self.own]


def recipe(bench: Bench, tries: Sequence[Try]) -> Recipe:
    """Return the recipe of some tries; models are in it by the digest of their weights."""
    plan = bench.plan
    told = asdict(plan.extract)
    how = generate.drawing(plan) | {
        "extract": {name: knob for name, knob in told.items() if name not in ("ways", "controls")}
    }
    near = match.moving(plan.match) | {"tau": plan.certify.closest}
    near |= {"tiles": plan.cliques.tiles, "seed": plan.prompts.seed}
    models = [_model(look).digest for look in bench.looks]
    return Recipe.of(TABLE, how | near | {"models": models, "tries": digest_of(map(astuple, tries))})


def run(desk: Desk, bench: Bench, tries: Sequence[Try]) -> list[Failed]:
    """Make all tries of a list."""
    made = recipe(bench, tries)
    return desk.fill(made, Attempts(bench, made), list(parts(tries, bench.plan)), "tries")


def parts(tries: Sequence[Try], plan: Plan) -> Iterator[Part]:
    """Cut tries into parts of one way: of about 256 samples, or one half; without text all share their samples."""
    number = 0
    for way in dict.fromkeys(each.way for each in tries):
        some = [each for each in tries if each.way == way]
        together = max(1, generate.PART // plan.extract.samples)
        together = 1 if way in HALVES else len(some) if way == "none" else together
        for k in range(0, len(some), together):
            yield Part(f"{number:05d}", tuple(some[k : k + together]), len(some[k : k + together]))
            number += 1


def insides(bench: Bench) -> tuple[list[Denoiser], str]:
    """Return the denoisers of the model and its twin, or none and the reason why halves cannot be filled."""
    found = []
    for look in bench.looks:
        model = _model(look)
        try:
            denoiser = scores.opened_once(model)
        except ModelError as error:
            return [], str(error)
        if denoiser is None:
            return [], f"a {model.name} cannot be looked into, so it fills no half"
        found.append(denoiser)
    return found, ""


@dataclass(frozen=True, slots=True)
class Attempts:
    """Make the tries of a part."""

    bench: Bench
    made: Recipe

    def __call__(self, part: Part) -> None:
        """Do one part."""
        tries: Sequence[Try] = part.payload
        rows = [self._filled(each) for each in tries] if tries[0].way in HALVES else self._asked(tries)
        Store(self.bench.own.root).write(self.made, part.name, rows, Attempt)

    def _asked(self, tries: Sequence[Try]) -> list[Attempt]:
        """Ask for samples; those that several tries have in common once."""
        plan = self.bench.plan
        wanted = [_requests(each, plan) for each in tries]
        every = list(dict.fromkeys(request for some in wanted for request in some))
        drawn = [dict(zip(every, _draw(look.plan, every), strict=True)) for look in self.bench.looks]
        costs = sum(_model(look).evaluations_per_sample for look in self.bench.looks)
        model = _model(self.bench.own)
        counted: set[Request] = set()
        rows = []
        for each, requests in zip(tries, wanted, strict=True):
            shown = [np.stack([images[request] for request in requests]) for images in drawn]
            away = [_away(look, each, pixels) for look, pixels in zip(self.bench.looks, shown, strict=True)]
            row = _row(each, len(requests), away, [_least(found) for found in away], shown[0], plan)
            best = requests[int(away[0].argmin())]
            fresh = len(set(requests) - counted)
            counted.update(requests)
            refused = sum(model.refused(requests)) if isinstance(model, KeepsAnswers) else 0
            rows.append(replace(row, text=best.prompt, seed=best.seed, refused=refused, evaluations=costs * fresh))
        return rows

    def _filled(self, each: Try) -> Attempt:
        """Fill a half, by the model and by its twin; the losses of both judge either's fillings."""
        plan, bench = self.bench.plan, self.bench
        picture = Corpus.at(bench.own.corpus).pixels(each.digest)
        if picture is None:
            return _gone(each)
        denoisers, reason = insides(bench)
        if not denoisers:
            raise ModelError(reason)
        text = next(iter(each.texts), None)
        seeds = [_seed(each, text, k, plan) for k in range(plan.extract.reconstructions)]
        attacks = [inpainting.Attack(filler, denoisers, cast(Half, each.way), plan.extract) for filler in denoisers]
        found = [attack.fill(picture, text, seeds) for attack in attacks]
        shown = [_screened(plan, filled.kept, [seeds[k] for k in filled.likeliest]) for filled in found]
        away = [_away(look, each, pixels) for look, pixels in zip(bench.looks, shown, strict=True)]
        row = _row(each, len(seeds), away, [filled.statistic for filled in found], shown[0], plan)
        return replace(row, text=text, evaluations=sum(attack.evaluations for attack in attacks))


def _requests(each: Try, plan: Plan) -> list[Request]:
    texts = each.texts or (None,)
    asked = [texts[k % len(texts)] for k in range(plan.extract.samples)]
    return [Request(text, _seed(each, text, k, plan)) for k, text in enumerate(asked)]


def _seed(each: Try, text: str | None, index: int, plan: Plan) -> int:
    """Return the seed of a sample: another than any of the audit itself; without text the same for every picture."""
    about = "" if each.way == "none" else f"{each.digest} {text}"
    return risk.seed_of(about, index, plan.prompts.seed, f"extract {each.way}")


def _draw(plan: Plan, requests: Sequence[Request]) -> list[RGB]:
    """Ask a model; noise stands where a list of hashes hits."""
    made = generate.ask(generate.model_of(plan), requests, plan.generate.batch)
    generate.vet(plan, requests, made)
    return made


def _screened(plan: Plan, made: NDArray[np.uint8], seeds: Sequence[int]) -> NDArray[np.uint8]:
    """Put noise where a list of hashes hits."""
    shown, listed = list(made), generate.hash_list(plan)
    if listed:
        generate.screen(listed, shown, seeds)
    generate.check_tiles(shown[0], plan.cliques.tiles)
    return np.stack(shown)


def _away(look: match.Look, each: Try, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    return match.to_picture(look, _model(look), each.digest, pixels)


def _model(look: match.Look) -> Model:
    return generate.model_of(look.plan)


def _row(
    each: Try,
    samples: int,
    away: Sequence[NDArray[np.float64]],
    statistics: Sequence[float],
    shown: NDArray[np.uint8],
    plan: Plan,
) -> Attempt:
    """Sum up a try: distances and statistics of the model, then of its twin, and the model's images."""
    if not np.isfinite(away[0]).all():
        return _gone(each)
    best = shown[int(away[0].argmin())]
    return replace(
        _gone(each),
        samples=samples,
        near=int((away[0] <= plan.certify.closest).sum()),
        statistic=float(statistics[0]),
        nearest=_least(away[0]),
        twin=float(statistics[1]) if len(away) > 1 else None,
        twin_nearest=_least(away[1]) if len(away) > 1 else None,
        sample=images.digest(best),
        image=images.encode_png(best),
    )


def _gone(each: Try) -> Attempt:
    """Return the row of a picture of which there are no pixels any more."""
    nothing = (None, None, None, None, None, None)
    return Attempt(each.digest, each.side, each.way, bool(each.texts), 0, 0, 0, *nothing, "", b"", 0)


def _least(away: NDArray[np.float64]) -> float:
    return float(away.min())


def digest_of(content: Iterable[object]) -> str:
    """Return a digest of anything that JSON can hold."""
    return hashlib.sha256(json.dumps(list(content), sort_keys=True).encode()).hexdigest()[:16]
