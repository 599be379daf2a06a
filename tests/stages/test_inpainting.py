"""Halves that are hidden and filled: on denoisers whose every number is known, and on the demo's model."""

from collections.abc import Sequence

import numpy as np
import pytest

from byrote import images, models
from byrote.demo import MODEL, Truth, album
from byrote.models import Options
from byrote.models.denoiser import Level, Prediction
from byrote.plan import ExtractPlan
from byrote.rungs import HALVES
from byrote.stages import inpainting, scores
from byrote.stages.inpainting import Attack, covered, level_of_loss

SIDE, SPREAD = 8, 0.08
STEPS = 12
PLAN = ExtractPlan(reconstructions=20, times=3)


def picture(k: int) -> np.ndarray:
    """Draw a smooth picture of a kind."""
    dice = np.random.default_rng(k)
    coarse = dice.integers(30, 226, (2, 2, 3)).astype(np.uint8)
    return images.resize(coarse, SIDE, SIDE)


class Knows:
    """The best denoiser of pictures that are normal about some it knows, and wide about grey otherwise."""

    shape, size, takes_text, guidance, tolerance = (3, SIDE, SIDE), (SIDE, SIDE), True, 1.0, 0.0

    def __init__(self, known: Sequence[np.ndarray]) -> None:
        self.seen: list[np.ndarray] = []
        self.calls = 0
        self._means = self.encode(known) if known else np.empty((0, *self.shape), np.float32)
        self.seen.clear()

    def levels(self, steps: int | None = None) -> list[Level]:
        angles = np.linspace(np.pi / 2 - 0.02, 0.05, steps or STEPS)
        return [Level(float(a), float(np.cos(a)), float(np.sin(a))) for a in angles]

    def encode(self, made: Sequence[np.ndarray]) -> np.ndarray:
        self.seen += list(made)
        return np.stack(made).transpose(0, 3, 1, 2).astype(np.float32) / np.float32(127.5) - 1

    def decode(self, clean: np.ndarray) -> list[np.ndarray]:
        levels = np.clip((clean + 1) * 127.5, 0, 255).round().astype(np.uint8)
        return list(levels.transpose(0, 2, 3, 1))

    def predict(self, x: np.ndarray, level: Level, prompts: Sequence[str | None], *, text: None = None) -> Prediction:
        self.calls += len(x)
        flat = x.reshape(len(x), -1).astype(np.float64)
        means = np.concatenate([self._means.reshape(len(self._means), flat.shape[1]), np.zeros((1, flat.shape[1]))])
        spreads = np.array([SPREAD] * len(self._means) + [0.5])
        variances = (level.alpha * spreads) ** 2 + level.sigma**2
        apart = ((flat[:, None] - level.alpha * means) ** 2).sum(-1)
        logs = -apart / (2 * variances) - flat.shape[1] / 2 * np.log(variances)
        shares = np.exp(logs - logs.max(1, keepdims=True))
        shares /= shares.sum(1, keepdims=True)
        gains = level.alpha * spreads**2 / variances
        own = means + gains[:, None] * (flat[:, None] - level.alpha * means)
        x0 = (shares[..., None] * own).sum(1).reshape(x.shape).astype(np.float32)
        return Prediction(((x - np.float32(level.alpha) * x0) / np.float32(level.sigma)).astype(np.float32), x0)


def attack(model: Knows, twin: Knows | None = None, half="left", plan=PLAN) -> Attack:
    return Attack(model, [model, twin] if twin else [model], half, plan)


@pytest.mark.parametrize("half", HALVES)
def test_what_is_known_is_filled_in_and_what_is_not_is_not(half):
    known, others = [picture(k) for k in range(3)], [picture(k) for k in range(10, 16)]
    tried = attack(Knows(known), half=half)
    seeds = range(PLAN.reconstructions)
    theirs = [tried.fill(each, None, seeds).statistic for each in others]
    ours = [tried.fill(each, None, seeds).statistic for each in known]
    assert max(ours) < 0.06 < min(theirs)


def test_nothing_of_the_hidden_half_reaches_the_model_before_its_fillings_are_made():
    shown = picture(3)
    other = shown.copy()
    other[:, : SIDE // 2] = 255 - other[:, : SIDE // 2]
    made = []
    for each in (shown, other):
        model = Knows([picture(0)])
        made.append(attack(model)._filled(each, inpainting.repaint.hidden("left", SIDE, SIDE), "caption", range(3)))
        assert len(model.seen) == 1
        assert np.array_equal(model.seen[0], covered(shown, inpainting.repaint.hidden("left", SIDE, SIDE)))
    assert all(np.array_equal(a, b) for a, b in zip(*made, strict=True))


def test_outside_of_the_half_a_filling_is_the_picture_itself():
    shown = picture(4)
    filled = attack(Knows([]), half="top").fill(shown, None, range(20))
    assert len(filled.images) == 20
    assert len(filled.kept) == 2  # a tenth
    assert (filled.images[:, SIDE // 2 :] == shown[SIDE // 2 :]).all()
    apart = (filled.images[:, : SIDE // 2].astype(float) - shown[: SIDE // 2]) / 255
    assert filled.rms == pytest.approx([np.sqrt((each**2).mean()) for each in apart])
    assert filled.statistic == pytest.approx(filled.rms[filled.likeliest].mean())


def test_a_twin_that_knows_the_same_takes_the_lead_away():
    known = [picture(k) for k in range(3)]
    model, twin = Knows(known), Knows(known)
    fair, blind = attack(model, twin), attack(model, Knows([]))
    own, others = fair.fill(known[0], None, range(20)), Attack(twin, fair.judges, "left", PLAN)
    assert own.statistic == others.fill(known[0], None, range(20)).statistic
    apart = Attack(blind.judges[1], blind.judges, "left", PLAN).fill(known[0], None, range(20)).statistic
    assert apart > 3 * blind.fill(known[0], None, range(20)).statistic


def test_every_evaluation_is_counted_that_of_the_twin_too():
    model, twin = Knows([picture(0)]), Knows([])
    tried = attack(model, twin)
    tried.fill(picture(1), None, range(PLAN.reconstructions))
    assert tried.evaluations == model.calls + twin.calls


def test_the_same_seeds_fill_the_same_and_others_do_not():
    tried = attack(Knows([]))
    one, again, other = (tried.fill(picture(5), None, seeds).images for seeds in (range(20), range(20), range(20, 40)))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_the_loss_is_taken_near_timestep_100_of_the_linear_schedule():
    kept = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    assert pytest.approx(np.sqrt((1 - kept[100]) / kept[100]), rel=1e-4) == inpainting.RATIO
    level = level_of_loss(Knows([]))
    assert level.sigma / level.alpha == pytest.approx(inpainting.RATIO, rel=0.1)


def test_the_demos_model_fills_in_whom_it_remembers_and_nobody_else():
    model = scores.opened_once(models.open(f"diffusers:{MODEL}", Options(steps=5, guidance=1.0)))
    truth = Truth.read()
    often = {row.person.name: row for row in album.training_set() if truth.shares.get(row.caption, 0) > 0.9}
    ours, theirs = list(often.values())[:3], list(album.controls("held-out", 4))
    tried = Attack(model, [model], "left", ExtractPlan(reconstructions=4, times=2))
    found = [tried.fill(row.pixels(), row.caption, range(4)).statistic for row in (*ours, *theirs)]
    assert max(found[:3]) < min(found[3:])
