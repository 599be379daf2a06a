"""Scores of prompts: on a denoiser whose every number is known, on a parrot, and on the demo's model."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from taught import parrot

from byrote import models
from byrote.demo import MODEL, Truth, album
from byrote.errors import ByroteError, ModelError
from byrote.kernels import predictions
from byrote.models import Options, Request
from byrote.models.denoiser import Level, Prediction
from byrote.stages import scores
from byrote.stages.scores import SCORES, named, pilot

SHAPE = (3, 8, 8)
WIDE, NARROW = 0.5, 0.05
FIRST = Level(999.0, 0.3, float(np.sqrt(1 - 0.09)))
LEVELS = [FIRST, Level(500.0, 0.8, 0.6), Level(20.0, 0.99, float(np.sqrt(1 - 0.99**2)))]


class Known:
    """The best denoiser of pictures that are normal about a mean: of a known prompt narrow, of others wide."""

    shape, size, takes_text, tolerance = SHAPE, (8, 8), True, 0.0

    def __init__(self, known: Sequence[str], levels: list[Level] = LEVELS, guidance: float = 1.0) -> None:
        self._levels, self.guidance, self.calls = levels, guidance, 0
        self._means = {prompt: np.random.default_rng(k).uniform(-1, 1, SHAPE) for k, prompt in enumerate(known)}

    def levels(self, steps: int | None = None) -> list[Level]:
        return self._levels

    def start(self, seeds: Sequence[int]) -> np.ndarray:
        return np.stack([np.random.default_rng(seed).standard_normal(SHAPE).astype(np.float32) for seed in seeds])

    def decode(self, clean: np.ndarray) -> list[np.ndarray]:
        levels = np.clip((clean + 1) * 127.5, 0, 255).round().astype(np.uint8)
        return list(levels.transpose(0, 2, 3, 1))

    def predict(self, x: np.ndarray, level: Level, prompts: Sequence[str | None], *, text: None = None) -> Prediction:
        self.calls += len(x)
        x0 = np.stack([self._best(row, level, prompt) for row, prompt in zip(x, prompts, strict=True)])
        return Prediction(((x - level.alpha * x0) / level.sigma).astype(np.float32), x0.astype(np.float32))

    def attention(self, x: np.ndarray, level: Level, prompts: Sequence[str | None]) -> dict[str, np.ndarray]:
        """Known prompts look at their end in one corner of 4 x 4 places, others everywhere."""
        self.calls += len(x)
        corner = np.zeros((4, 4), np.float32)
        corner[0, 0] = 1
        maps = [corner if prompt in self._means else np.full((4, 4), 0.25, np.float32) for prompt in prompts]
        ends = np.stack(maps).reshape(len(x), 16)
        return {"down": np.stack([1 - ends, ends], 2), "mid": np.full((len(x), 4, 2), 0.5, np.float32)}

    def _best(self, x: np.ndarray, level: Level, prompt: str | None) -> np.ndarray:
        mean, spread = (self._means[prompt], NARROW) if prompt in self._means else (np.zeros(SHAPE), WIDE)
        if prompt not in self._means and prompt is not None:
            mean = mean + 0.05
        gain = level.alpha * spread**2 / (level.alpha**2 * spread**2 + level.sigma**2)
        return np.asarray(mean + gain * (x - level.alpha * mean))


@dataclass(frozen=True)
class Holder:
    """A model that is nothing but its denoiser."""

    inside: Known
    name: str = "Known"

    def white_box(self) -> Known:
        return self.inside


PROMPTS = [*(f"known {k}" for k in range(6)), *(f"new {k}" for k in range(6))]
SEEDS = [[100 * k + j for j in range(4)] for k in range(len(PROMPTS))]
WITHIN = [name for name, score in SCORES.items() if score.needs == "denoiser"]


@pytest.mark.parametrize("name", [name for name in WITHIN if name != "x0-edges"])
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_every_score_from_within_ranks_prompts_that_collapse_first(name, guidance):
    model = Holder(Known(PROMPTS[:6], guidance=guidance))
    found = SCORES[name].of(model, PROMPTS, SEEDS)
    assert found.dtype == np.float64
    assert found.shape == (12,)
    assert found[:6].min() > found[6:].max()


def test_edges_of_the_expected_pictures_are_shared_where_they_are_one_picture():
    found = SCORES["x0-edges"].of(Holder(Known(PROMPTS[:6])), PROMPTS, SEEDS)
    assert found[:6].min() > found[6:].max()


@pytest.mark.parametrize("name", [*WITHIN, "norm@2", "x0-agreement@3"])
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_the_evaluations_that_are_told_are_those_that_are_made(name, guidance):
    denoiser = Known(PROMPTS[:6], guidance=guidance)
    model, score = Holder(denoiser), named(name)
    score.of(model, PROMPTS, SEEDS)
    assert denoiser.calls == len(PROMPTS) * score.evaluations(model, 4)


def test_where_the_first_level_is_noise_alone_the_norm_is_of_x0_and_the_default_is_the_second_step():
    blind = [Level(1000.0, 0.0, 1.0), *LEVELS[1:]]
    model = Holder(Known(PROMPTS[:6], blind))
    found = SCORES["norm"].of(model, PROMPTS, SEEDS)
    means = [np.sqrt(np.sum(model.inside._means[prompt] ** 2)) for prompt in PROMPTS[:6]]
    np.testing.assert_allclose(found[:6], means, rtol=1e-5)
    assert scores.default(model).name == "x0-agreement@2"
    assert scores.default(Holder(Known([]))).name == "x0-agreement"


def test_with_guidance_a_prompt_that_collapses_agrees_less_so_agreement_is_taken_without():
    """Guided, x0 is its mean less twice what the unconditional says, which each noise moves."""
    model = Holder(Known(PROMPTS[:6], guidance=3.0))
    states = scores._started(model.inside, PROMPTS[:6] + PROMPTS[6:], SEEDS)
    told = scores.screening.agreement(states.by_prompt(states.guided().x0))
    assert told[:6].max() < told[6:].min()
    assert SCORES["x0-agreement"].evaluations(model, 4) == 4


def test_norms_of_eps_and_of_x0_rank_alike_at_one_level():
    denoiser = Known(PROMPTS[:6])
    x = denoiser.start([seed for row in SEEDS for seed in row])
    asked = denoiser.predict(x, FIRST, [prompt for prompt in PROMPTS for _ in range(4)])
    without = denoiser.predict(x, FIRST, [None] * len(x))
    norms = [np.sqrt(np.square(a - b).sum((1, 2, 3))) for a, b in zip(asked, without, strict=True)]
    np.testing.assert_allclose(norms[1] / norms[0], FIRST.sigma / FIRST.alpha, rtol=1e-3)


def test_sharpness_is_what_the_closed_form_says():
    """H of both is diagonal: the gain of the mean, so that |H d|^2 = h^2 |d|^2 for eps of one prompt."""
    denoiser = Known(PROMPTS[:1])
    found = SCORES["sharpness"].of(Holder(denoiser), PROMPTS[:1], [[3]])
    gains = [FIRST.alpha * s**2 / (FIRST.alpha**2 * s**2 + FIRST.sigma**2) for s in (NARROW, WIDE)]
    curve = FIRST.alpha * (gains[1] - gains[0]) / FIRST.sigma
    x = denoiser.start([3])
    change = denoiser.predict(x, FIRST, PROMPTS[:1]).eps - denoiser.predict(x, FIRST, [None]).eps
    assert found[0] == pytest.approx(curve**2 * float(np.square(change).sum()), rel=1e-3)


def test_a_prompt_has_the_same_score_in_whatever_company(monkeypatch):
    model = Holder(Known(PROMPTS[:6]))
    together = SCORES["sharpness"].of(model, PROMPTS, SEEDS)
    monkeypatch.setattr(scores, "ROWS", 1)
    np.testing.assert_allclose(SCORES["sharpness"].of(model, PROMPTS, SEEDS), together, rtol=1e-6)
    assert SCORES["norm"].of(model, [], []).shape == (0,)


def test_prompts_with_different_numbers_of_seeds_are_refused():
    with pytest.raises(ValueError, match="as many seeds"):
        SCORES["norm"].of(Holder(Known([])), ["a", "b"], [[1, 2], [3]])


def test_names_are_told_apart_and_misses_are_answered():
    assert named("norm@3").name == "norm@3"
    assert named("norm@1").name == "norm"
    with pytest.raises(ByroteError, match="did you mean"):
        named("nrom")
    for wrong in ("norm@0", "norm@x", "norm-all@2", "bright-ending@2", "anisotropy@2", "edges@2", "norm@"):
        with pytest.raises(ByroteError, match="write NAME@STEP"):
            named(wrong)
    with pytest.raises(ModelError, match="the model has 3 steps"):
        named("norm@4").of(Holder(Known([])), ["a"], [[1]])


def test_a_model_that_cannot_be_looked_into_is_told_what_can_be_taken(tmp_path: Path):
    model = parrot(tmp_path, {})
    with pytest.raises(ModelError, match="take agreement, closest-pair, edges"):
        SCORES["norm"].of(model, ["a"], [[1]])
    assert scores.default(model).name == "closest-pair"


@pytest.mark.parametrize("name", ["agreement", "closest-pair", "edges"])
def test_scores_of_images_find_what_a_parrot_knows(tmp_path: Path, name: str):
    model = parrot(tmp_path, dict.fromkeys(PROMPTS[:6], 1.0))
    found = SCORES[name].of(model, PROMPTS, SEEDS)
    assert found[:6].min() > found[6:].max()
    assert SCORES[name].evaluations(model, 4) == 4


def test_one_sample_in_two_is_enough_for_the_closest_pair_and_not_for_the_mean(tmp_path: Path):
    model = parrot(tmp_path, dict.fromkeys(PROMPTS[:6], 0.5))
    twelve = [[100 * k + j for j in range(12)] for k in range(len(PROMPTS))]
    nearest = SCORES["closest-pair"].of(model, PROMPTS, twelve)
    mean = SCORES["agreement"].of(model, PROMPTS, twelve)
    assert nearest[:6].min() > -1e-9 > -0.1 > nearest[6:].max()
    assert mean[:6].max() < -0.1


def test_the_pilot_tells_direction_and_use_and_knows_no_side():
    dice = np.random.default_rng(0)
    alike = dice.standard_normal(40)
    near = alike + 0.5 * dice.standard_normal(40)
    assert (pilot(near, alike).direction, pilot(near, alike).usable) == (1, True)
    assert (pilot(-near, alike).direction, pilot(-near, alike).usable) == (-1, True)
    assert not pilot(np.zeros(40), alike).usable
    idle = [pilot(dice.standard_normal(40), alike).usable for _ in range(400)]
    assert sum(idle) <= 12  # 1 % of 400 is 4


@pytest.fixture(scope="module")
def demo() -> models.Model:
    return models.open(f"diffusers:{MODEL}", Options(steps=3, guidance=1.0))


def test_the_noise_of_a_seed_is_that_of_a_sample_and_the_steps_are_the_samplers(demo):
    """Webster's step, carried to the end, is the sample that `generate` makes."""
    denoiser = scores.opened_once(demo)
    prompts, seeds = ["Baloth Kasami, bald", "a tree"], [[5, 6], [7, 8]]
    states = scores._started(denoiser, prompts, seeds)
    while states.place < len(denoiser.levels()) - 1:
        states = states.after(states.guided())
    asked = [Request(prompt, seed) for prompt, row in zip(prompts, seeds, strict=True) for seed in row]
    made = np.stack(demo.generate(asked)).astype(int)
    shown = np.stack(denoiser.decode(states.guided().x0)).astype(int)
    assert np.abs(made - shown).max() <= 2


def test_the_curvature_by_differences_is_near_that_of_the_pullback(demo):
    """J d by differences of predictions; |J d|^2 = d' J' J d, so J' (J d) by the pullback must give the same number."""
    denoiser = scores.opened_once(demo)
    states = scores._started(denoiser, ["Baloth Kasami, spiky white hair, no glasses"], [[11]])
    change = states.change()
    length = scores.MOVED * states.level.sigma
    along = scores.screening.directions(change, length)
    moved = scores.replace(states, x=states.x + along)
    slope = (moved.change() - change) / length
    unit = along / length
    _, pull = denoiser.pullback(states.x, states.level, states.prompts)
    _, without = denoiser.pullback(states.x, states.level, [None])
    back = pull(x0=slope).x - without(x0=slope).x
    assert float((back * unit).sum()) == pytest.approx(float(np.square(slope).sum()), rel=0.05)


def test_on_the_demos_model_the_default_tells_what_comes_back_from_what_does_not(demo):
    shares = Truth.read().shares
    often = sorted(caption for caption, share in shares.items() if share == 1.0)[:10]
    prompts = often + [row.caption for row in album.controls("held-out", 10)]
    seeds = [[50 * k + j for j in range(4)] for k in range(len(prompts))]
    score = scores.default(demo)
    assert (score.name, score.evaluations(demo, 4)) == ("x0-agreement@2", 8)
    found = score.of(demo, prompts, seeds)
    assert (found[:10, None] > found[None, 10:]).mean() > 0.8


def test_the_ddim_step_of_a_state_is_the_mixture_of_its_prediction():
    denoiser = Known(PROMPTS[:6])
    states = scores._started(denoiser, ["known 0"], [[1]])
    told = states.guided()
    after = states.after(told)
    np.testing.assert_array_equal(after.x, predictions.mixed(told.x0, told.eps, LEVELS[1].alpha, LEVELS[1].sigma))
    assert after.level == LEVELS[1]
