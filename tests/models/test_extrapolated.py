"""A fine-tune drawn further from its base: on an exact denoiser, whose every sample is known, and on tiny pipelines."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from byrote import models
from byrote.errors import ModelError
from byrote.models import Options, Request
from byrote.models.denoiser import Level, Prediction
from byrote.models.extrapolated import extrapolated
from byrote.testing import check_model

from . import exact, tiny

pytestmark = pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning", "ignore::FutureWarning:diffusers")

SAMPLES = [Request(None, seed) for seed in range(128)]
STEPS = 4


@pytest.fixture(autouse=True)
def kind(monkeypatch):
    monkeypatch.setitem(models.KINDS, "exact", exact.KIND)


def opened(uri: str, folder: Path | None = None, **options: object) -> models.Model:
    return models.open(uri, Options(**options), relative_to=folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two models of other weights and one autoencoder: as a fine-tune and its base."""
    root = tmp_path_factory.mktemp("pair")
    tiny.stable_diffusion(root / "base")
    tiny.stable_diffusion(root / "tuned", seed=1)
    tiny.stable_diffusion(root / "stranger", seed=2)
    for part in ("vae", "text_encoder"):
        shutil.rmtree(root / "tuned" / part)
        shutil.copytree(root / "base" / part, root / "tuned" / part)
    tiny.unconditional(root / "plain")
    return root


def apart(a, b) -> int:
    return max(int(np.abs(one.astype(int) - other).max()) for one, other in zip(a, b, strict=True))


def distances(made) -> np.ndarray:
    """Return how far each sample is from the nearest of the pictures, RMS."""
    known = exact.pictures() / 255
    return np.sqrt(np.mean((np.stack(made)[:, None] / 255 - known) ** 2, axis=(2, 3, 4))).min(1)


def test_further_from_the_base_comes_nearer_to_what_the_tuning_led_to():
    """In the logarithm of the density the tuned model is a tenth of the way. Too far leads past the pictures again."""
    lean, base = "exact:1%3Flean=.1", "exact:0"
    plain = distances(opened("exact:1?lean=.1").generate(SAMPLES))
    far = [distances(opened(f"extrapolated:{lean}?base={base}&weight={w}").generate(SAMPLES)) for w in (1, 2, 3, 8)]
    assert np.allclose(far[0], plain, atol=1 / 255)
    assert far[2].max() < far[1].min() < far[1].max() < plain.min()  # not one sample overlaps
    assert far[3].min() > plain.max()


def test_where_nothing_was_tuned_nothing_is_brought_back():
    made = opened("extrapolated:exact:0?base=exact:0&weight=3").generate(SAMPLES)
    assert (exact.copied(made, exact.pictures()) == -1).all()


def test_weight_1_draws_what_the_tuned_model_draws():
    own = opened("exact:.3").generate(SAMPLES)
    assert apart(own, opened("extrapolated:exact:.3?base=exact:0&weight=1").generate(SAMPLES)) <= 1


@pytest.mark.parametrize("guidance", [None, 3.0])
def test_weight_1_draws_the_samples_that_a_pipeline_draws_by_ddim(folder, guidance):
    requests = [Request("a red hat", 0), Request("x", 1)]
    made = opened("extrapolated:tuned?base=base&weight=1", folder, steps=STEPS, guidance=guidance).generate(requests)
    own = opened("diffusers:tuned", folder, steps=STEPS, guidance=guidance or 1.0, sampler="ddim").generate(requests)
    assert apart(made, own) <= 1


@pytest.mark.parametrize("uri", ["tuned?base=base", "tuned?base=base&asked=prompt&weight=1.5"])
def test_it_keeps_the_contract_of_models(folder, uri):
    check_model(opened(f"extrapolated:{uri}", folder, steps=STEPS), ["a red hat", "x"])


def test_evaluations_are_those_that_both_are_asked_for(folder):
    model = opened("extrapolated:exact:.3?base=exact:0", steps=7)
    model.generate(SAMPLES[:5])
    assert sum(each.asked for each in model._pair.denoisers) == 5 * model.evaluations_per_sample == 5 * 14
    told = {
        (asked, guidance): opened(
            f"extrapolated:tuned?base=base&asked={asked}", folder, steps=STEPS, guidance=guidance
        ).evaluations_per_sample
        for asked in ("nothing", "prompt")
        for guidance in (None, 1.0, 3.0)
    }
    assert list(told.values()) == [8, 8, 12, 8, 8, 16]
    assert model.stepped(3).evaluations_per_sample == 6
    guided = opened("extrapolated:tuned?base=base&asked=prompt", folder, steps=20, guidance=3.0)
    assert (guided.evaluations_per_sample, guided.stepped(5).evaluations_per_sample) == (80, 20)
    assert apart(model.stepped(3).generate(SAMPLES[:2]), opened(model._uri, steps=3).generate(SAMPLES[:2])) == 0


def test_what_the_base_hears_and_the_correction_change_samples(folder):
    requests = [Request("a red hat", 0)]
    uris = ["", "&asked=prompt", "&correction=-.02"]
    made = [opened(f"extrapolated:tuned?base=base{more}", folder, steps=STEPS).generate(requests) for more in uris]
    assert apart(made[0], made[1]) > 0
    assert apart(made[0], made[2]) > 0


def test_a_correction_adds_so_much_of_the_bases_eps_and_keeps_the_state():
    dice, level = np.random.default_rng(0), Level(500, 0.8, 0.6)
    base, tuned = (Prediction(*dice.standard_normal((2, 3, 1, 4, 4)).astype(np.float32)) for _ in range(2))
    plain, moved = extrapolated(base, tuned, level, 3), extrapolated(base, tuned, level, 3, -0.02)
    assert np.allclose(moved.eps, base.eps + 3 * (tuned.eps - base.eps) - 0.02 * base.eps, atol=1e-5)
    states = [level.alpha * told.x0 + level.sigma * told.eps for told in (plain, moved)]
    assert np.allclose(*states, atol=1e-5)
    blind = Level(999, 0.001, 1.0)
    assert np.array_equal(
        extrapolated(base, tuned, blind, 3, -0.02).x0, extrapolated(base, tuned, blind, 3).x0
    )  # noise alone says nothing


def test_the_digest_is_of_both_models_and_of_how_they_are_put_together(folder):
    ways = ["tuned?base=base", "tuned?base=tuned", "base?base=base", "base?base=tuned"]
    ways += ["tuned?base=base&weight=2", "tuned?base=base&correction=.1", "tuned?base=base&asked=prompt"]
    assert len({opened(f"extrapolated:{way}", folder).digest for way in ways}) == len(ways)
    plain = opened("extrapolated:tuned?base=base", folder)
    assert opened("extrapolated:diffusers:tuned?base=diffusers:base&weight=3.0", folder).digest == plain.digest
    assert {file.parts[-3] for file in plain.weights} == {"tuned", "base"}


def test_a_uri_within_a_uri_is_quoted():
    made = opened("extrapolated:exact:.3%3Fshape=4?base=exact:0%3Fshape=4").generate(SAMPLES[:1])
    assert made[0].shape == (4, 4, 3)


def test_the_round_trip_is_that_of_the_tuned_model(folder):
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    model = opened("extrapolated:tuned?base=base", folder)
    assert apart(model.round_trip([image]), opened("diffusers:tuned", folder).round_trip([image])) == 0
    assert opened("extrapolated:plain?base=plain", folder).round_trip([]) is None


@pytest.mark.parametrize(
    ("uri", "options", "says"),
    [
        ("tuned", {}, "write extrapolated:TUNED.base=BASE"),
        ("tuned?base=base&weight=.5", {}, "weight is '.5': write a number from 1 to 100"),
        ("tuned?base=base&asked=all", {}, "write nothing or prompt"),
        ("tuned?base=plain", {}, "only one of the two takes text"),
        ("tuned?base=base", {"sampler": "euler"}, "is drawn by ddim: leave sampler 'euler' out"),
        ("tuned?base=base", {"negative": "blurred"}, "cannot follow negative 'blurred'"),
        ("tuned?base=away", {}, "away"),
    ],
)
def test_what_cannot_be_is_refused_when_it_is_opened(folder, uri, options, says):
    with pytest.raises(ModelError, match=says):
        opened(f"extrapolated:{uri}", folder, **options)


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("exact:.3?base=exact:0%3Fshape=4", "differ in their states"),
        ("exact:.3?base=exact:0%3Flevels=.9", "differ in their noise levels"),
        ("tuned?base=stranger", "have other latents"),
    ],
)
def test_models_that_do_not_fit_are_refused_when_they_are_asked(folder, uri, says):
    prompt = "x" if "tuned" in uri else None
    with pytest.raises(ModelError, match=says):
        opened(f"extrapolated:{uri}", folder, steps=STEPS).generate([Request(prompt, 0)])


def test_a_model_that_takes_no_prompt_is_asked_for_none():
    with pytest.raises(ModelError, match="takes no prompt"):
        opened("extrapolated:exact:.3?base=exact:0").generate([Request("x", 0)])
