"""The white box of the diffusers adapter, on tiny real pipelines with random weights."""

import json
from collections import Counter
from collections.abc import Callable
from functools import partial, wraps
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import EDMEulerScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline
from diffusers.models.attention_processor import Attention, AttnProcessor

from byrote import demo
from byrote.demo import album
from byrote.errors import ModelError
from byrote.kernels import predictions
from byrote.models import Options, Request
from byrote.models.denoiser import Denoiser, Gradients, Level, Prediction, guided, opened
from byrote.models.diffusers import Diffusers
from byrote.models.parrot import Parrot
from byrote.models.samplers import SAMPLERS
from byrote.models.whitebox import DiffusersDenoiser
from byrote.testing import check_denoiser

from . import architectures, tiny

pytestmark = pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning", "ignore::FutureWarning:diffusers")

PROMPTS = ["a red hat", "x", "a blue coat"]
NOTHING = [None, None, None]
Build = Callable[[Path], Path]
SMALL = {"width": 32, "height": 32}
HIGH = {"width": 32, "height": 48}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Build], Path]:
    """Build each model once."""
    folders: dict[str, Path] = {}

    def make(build: Build) -> Path:
        if str(build) not in folders:
            folders[str(build)] = build(tmp_path_factory.mktemp("model"))
        return folders[str(build)]

    return make


@pytest.fixture(scope="module")
def text(made: Callable[[Build], Path]) -> Path:
    return made(tiny.stable_diffusion)


@pytest.fixture(scope="module")
def inside(text: Path) -> Denoiser:
    return looked_into(text)


def model_of(folder: Path, **options: object) -> Diffusers:
    return Diffusers(str(folder), Options(**({"steps": 4} | options)), Path.cwd())


def looked_into(folder: Path, **options: object) -> Denoiser:
    found = model_of(folder, **options).white_box()
    assert isinstance(found, Denoiser)
    return found


def images_of(denoiser: Denoiser, n: int = 3) -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 256, (n, *denoiser.size, 3), dtype=np.uint8))


def states_of(denoiser: Denoiser, level: Level, n: int = 3) -> np.ndarray:
    return predictions.mixed(
        denoiser.encode(images_of(denoiser, n)), denoiser.start(range(n)), level.alpha, level.sigma
    )


def sampled(denoiser: Denoiser, prompts: list[str | None], *, clip: bool) -> list[np.ndarray]:
    """Sample by DDIM with eta 0, which is Euler, down to the clean image."""
    x, levels = denoiser.start(range(len(prompts))), denoiser.levels()
    for level, following in zip(levels, [*levels[1:], Level(0, 1, 0)], strict=True):
        eps, x0 = guided(denoiser, x, level, prompts)
        x = predictions.mixed(np.clip(x0, -1, 1) if clip else x0, eps, following.alpha, following.sigma)
    return denoiser.decode(x)


def with_scheduler(build: Build, folder: Path, **changes: object) -> Path:
    """Build a model and change its scheduler's configuration."""
    made = build(folder)
    config = made / "scheduler/scheduler_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | changes))
    return made


SAMPLED = {
    "eps": (tiny.stable_diffusion, {}, PROMPTS),
    "eps, not guided": (tiny.stable_diffusion, {"guidance": 1.0}, PROMPTS),
    "eps by Euler, another size": (tiny.stable_diffusion, {"sampler": "euler"} | HIGH, PROMPTS),
    "eps, pooled texts and sizes": (tiny.stable_diffusion_xl, {}, PROMPTS),
    "v": (architectures.velocity, {}, PROMPTS),
    "v by Euler": (architectures.velocity, {"sampler": "euler"}, PROMPTS),
    "x0": (partial(with_scheduler, tiny.stable_diffusion, prediction_type="sample"), {}, PROMPTS),
    "eps without text, in pixels": (tiny.unconditional, {"sampler": "ddim"}, NOTHING),
    "eps without text, in latents": (architectures.latent, {}, NOTHING),
    "eps with labels, learnt variance": (architectures.class_labels, {}, ["1", "goldfish", "7"]),
    "eps, guidance as an input": (architectures.distilled, {"sampler": "ddim"}, PROMPTS),
    "eps, learnt variance, masks": (architectures.pixart, {"sampler": "euler"} | HIGH, PROMPTS),
    "eps, the first stage of a cascade": (architectures.deepfloyd, {"sampler": "ddim"}, PROMPTS),
    "flow": (architectures.stable_diffusion_3, SMALL, PROMPTS),
    "flow, packed, guidance as an input": (architectures.flux, HIGH, PROMPTS),
}
# their samplers clip x0
CLIPPED = ("eps without text, in pixels", "eps without text, in latents", "eps, the first stage of a cascade")

# of the kind of another one, as far as the contract goes
ALIKE = ("eps, not guided", "eps by Euler, another size", "v by Euler", "x0", "eps, guidance as an input")


@pytest.mark.parametrize("name", SAMPLED)
def test_a_loop_over_predictions_draws_what_the_pipeline_draws(name, made):
    build, options, prompts = SAMPLED[name]
    model = model_of(made(build), **options)
    denoiser = model.white_box()
    own = sampled(denoiser, prompts, clip=name in CLIPPED)
    drawn = model.generate([Request(prompt, seed) for seed, prompt in enumerate(prompts)])
    assert max(int(np.abs(a.astype(int) - b).max()) for a, b in zip(own, drawn, strict=True)) <= 2
    assert all(len(np.unique(image)) > 50 for image in drawn)


@pytest.mark.parametrize("name", [name for name in SAMPLED if name not in ALIKE])
def test_a_denoiser_keeps_the_contract(name, made):
    build, options, prompts = SAMPLED[name]
    denoiser = looked_into(made(build), **options)
    mixed = [*prompts[:2], None] if denoiser.takes_text else prompts
    check_denoiser(denoiser, images_of(denoiser), mixed)


def test_a_decoder_after_a_prior_draws_what_the_pipeline_draws_of_seed_0(tmp_path):
    """Its condition is an image that the prior dreams up for the prompt, with the seed of the sample: here always 0."""
    model = model_of(architectures.kandinsky_whole(tmp_path), sampler="ddim", width=64, height=64)
    denoiser = model.white_box()
    check_denoiser(denoiser, images_of(denoiser), PROMPTS)
    assert denoiser.text(PROMPTS) is None
    own, drawn = sampled(denoiser, PROMPTS[:1], clip=True), model.generate([Request(PROMPTS[0], 0)])
    assert int(np.abs(own[0].astype(int) - drawn[0]).max()) <= 2


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_levels_fall_with_every_sampler(text, sampler):
    denoiser = looked_into(text, sampler=sampler)
    levels = denoiser.levels()
    assert all(a.alpha / a.sigma < b.alpha / b.sigma for a, b in pairwise(levels))
    assert all(level.alpha**2 + level.sigma**2 == pytest.approx(1) for level in levels)
    assert len(denoiser.levels(2)) < len(levels)


@pytest.mark.parametrize("build", [tiny.stable_diffusion, architectures.flux, architectures.latent])
def test_coding_there_and_back_is_the_round_trip(build, made):
    options = SMALL if build is architectures.flux else {}
    model = model_of(made(build), **options)
    denoiser = model.white_box()
    images = images_of(denoiser)
    back = denoiser.decode(denoiser.encode(images))
    expected = model.round_trip(images)
    assert max(int(np.abs(a.astype(int) - b).max()) for a, b in zip(back, expected, strict=True)) <= 1


def test_latents_have_the_scale_and_the_shift_that_the_network_learnt(made):
    folder = made(architectures.stable_diffusion_3)
    model = model_of(folder, **SMALL)
    denoiser = model.white_box()
    images = images_of(denoiser)
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        mode = model._pipeline.vae.encode(pixels).latent_dist.mode().numpy()
    assert np.allclose(denoiser.encode(images), (mode - 0.1) * 0.5, atol=1e-5)


def test_a_training_timestep_has_the_level_of_the_schedule(inside):
    betas = np.linspace(0.0001, 0.02, 1000)
    kept = np.cumprod(1 - betas)
    for t in (0, 100, 999):
        assert inside.level(t).alpha == pytest.approx(np.sqrt(kept[t]), rel=1e-4)
    assert inside.level(100.5).sigma == pytest.approx((inside.level(100).sigma + inside.level(101).sigma) / 2, rel=1e-3)
    with pytest.raises(ValueError, match="none of 0 to 999"):
        inside.level(1000)


def test_a_timestep_of_a_flow_is_its_share_of_noise(made):
    denoiser = looked_into(made(architectures.stable_diffusion_3), **SMALL)
    assert denoiser.level(250.0) == Level(250.0, 0.75, 0.25)
    for timestep in (0, 1001):
        with pytest.raises(ValueError, match="above 0 and at most 1000"):
            denoiser.level(timestep)


def raw(folder: Path, x: np.ndarray, timestep: int, prompt: str) -> np.ndarray:
    """Ask the bare network of a Stable Diffusion folder."""
    bare = StableDiffusionPipeline.from_pretrained(folder)
    tokens = bare.tokenizer(prompt, padding="max_length", max_length=16, truncation=True, return_tensors="pt").input_ids
    with torch.no_grad():
        return bare.unet(
            torch.from_numpy(x), timestep, encoder_hidden_states=bare.text_encoder(tokens)[0]
        ).sample.numpy()


def test_predictions_are_the_bare_networks_and_none_is_the_empty_text(text, inside):
    level = inside.level(300)
    x = states_of(inside, level, 2)
    made = inside.predict(x, level, ["a red hat", None])
    assert np.allclose(made.eps[:1], raw(text, x[:1], 300, "a red hat"), atol=1e-5)
    assert np.allclose(made.eps[1:], raw(text, x[1:], 300, ""), atol=1e-5)
    assert np.allclose(made.x0, (x - level.sigma * made.eps) / level.alpha, atol=1e-5)


def test_none_is_the_negative_prompt_where_there_is_one(text, inside):
    level = inside.level(300)
    x = states_of(inside, level, 1)
    against = looked_into(text, negative="a blue coat").predict(x, level, [None])
    assert np.allclose(against.eps, inside.predict(x, level, ["a blue coat"]).eps, atol=1e-5)
    assert not np.allclose(against.eps, inside.predict(x, level, [None]).eps, atol=1e-5)


def test_none_is_not_the_empty_text_where_guidance_starts_from_zeros(made):
    folder = made(tiny.stable_diffusion_xl)
    denoiser = looked_into(folder)
    assert StableDiffusionXLPipeline.from_pretrained(folder).config.force_zeros_for_empty_prompt
    empty, none = denoiser.text(["", None])
    assert empty.any()
    assert not none.any()


def test_a_long_batch_is_asked_in_parts_and_each_row_with_its_own_prompt(inside):
    level = inside.levels()[1]
    x = states_of(inside, level, 20)
    prompts = [PROMPTS[k % 3] if k % 4 else None for k in range(20)]
    together = inside.predict(x, level, prompts)
    for k in (0, 7, 19):
        alone = inside.predict(x[k : k + 1], level, prompts[k : k + 1])
        assert np.allclose(alone.eps[0], together.eps[k], atol=1e-5)


def test_a_start_is_the_noise_of_its_seed(inside, text):
    noise = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(7)).numpy()
    assert np.array_equal(inside.start([7]), noise)
    assert np.array_equal(inside.start([3, 7])[1:], noise)


def test_the_gradient_of_a_loss_follows_by_the_chain_rule(text, inside):
    """The norm of what a prompt changes (Wen et al. 2024), against torch on the bare network."""
    level = inside.level(500)
    x = states_of(inside, level, 1)
    conditional, pull = inside.pullback(x, level, ["a red hat"])
    unconditional, pull_none = inside.pullback(x, level, [None])
    apart = conditional.eps - unconditional.eps
    slope = apart / np.linalg.norm(apart)
    found = pull(eps=slope).x - pull_none(eps=slope).x

    bare = StableDiffusionPipeline.from_pretrained(text)
    tokens = bare.tokenizer(["a red hat", ""], padding="max_length", max_length=16, return_tensors="pt").input_ids
    words = bare.text_encoder(tokens)[0].detach().requires_grad_()
    state = torch.from_numpy(x).requires_grad_()
    asked, unasked = bare.unet(state.expand(2, -1, -1, -1), 500, encoder_hidden_states=words).sample
    (asked - unasked).norm().backward()
    assert np.allclose(found, state.grad.numpy(), atol=1e-5)
    assert np.allclose(pull(eps=slope).text[0], words.grad[0].numpy(), atol=1e-5)


def test_attention_is_what_the_layers_compute(text):
    model = model_of(text)
    denoiser = model.white_box()
    level = denoiser.levels()[1]
    x = states_of(denoiser, level, 2)
    model._pipeline.unet.set_attn_processor(AttnProcessor())  # this one makes its weights in the open
    layers = {
        name: layer
        for name, layer in model._pipeline.unet.named_modules()
        if isinstance(layer, Attention) and layer.is_cross_attention
    }
    seen = {name: kept_scores(layer) for name, layer in layers.items()}
    maps = denoiser.attention(x, level, PROMPTS[:2])
    assert set(maps) == set(layers)
    for name, rows in maps.items():
        assert np.allclose(rows, seen[name][0].unflatten(0, (2, layers[name].heads)).mean(1).numpy(), atol=1e-6)


def kept_scores(layer: Attention) -> list[torch.Tensor]:
    """Keep every attention that a layer's own processor makes."""
    kept, own = [], layer.get_attention_scores

    def scores(*args: object) -> torch.Tensor:
        kept.append(own(*args))
        return kept[-1]

    layer.get_attention_scores = scores
    return kept


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_in_half_precision_predictions_stay_near(text, inside, dtype):
    half = looked_into(text, dtype=dtype)
    level = half.levels()[1]
    x = states_of(inside, level)
    exact, rough = inside.predict(x, level, PROMPTS), half.predict(x, level, PROMPTS)
    assert np.linalg.norm(exact.eps - rough.eps) <= half.tolerance * np.linalg.norm(exact.eps)
    assert np.allclose(level.alpha * rough.x0 + level.sigma * rough.eps, x, atol=1e-5)


def test_a_white_box_leaves_the_samples_as_they_were(text):
    model = model_of(text)
    before = model.generate([Request("a red hat", 1)])[0]
    denoiser = model.white_box()
    denoiser.levels(2)
    denoiser.pullback(denoiser.start([1]), denoiser.levels()[0], ["x"])[1](eps=denoiser.start([1]))
    assert np.array_equal(model.generate([Request("a red hat", 1)])[0], before)


def test_what_cannot_be_looked_into_says_so(made, tmp_path):
    assert model_of(made(architectures.consistency)).white_box() is None
    assert opened(object()) is None
    assert not hasattr(Parrot, "white_box")
    with pytest.raises(ModelError, match=r"called from outside: it turns \[9, 8, 8\] into \[4, 8, 8\]"):
        model_of(architectures.inpainting(tmp_path)).white_box()


def test_a_pipeline_that_makes_more_of_its_networks_output_is_refused(text):
    """Its sampler gets something else: here a rescaled guidance (Lin et al. 2024), which `guided` does not do."""

    class Rescaling(StableDiffusionPipeline):
        @wraps(StableDiffusionPipeline.__call__)
        def __call__(self, *args: object, **named: object) -> object:
            return super().__call__(*args, guidance_rescale=0.7, **named)

    model = model_of(text)
    model._pipeline.__class__ = Rescaling
    with pytest.raises(ModelError, match="its sampler gets something else than the network's output"):
        model.white_box()


def test_mistakes_are_told(inside, made):
    level = inside.levels()[0]
    with pytest.raises(ValueError, match=r"2 prompts want states \[2, 4, 8, 8\], not \[1, 4, 8, 8\]"):
        inside.predict(inside.start([0]), level, ["a", "b"])
    with pytest.raises(ValueError, match=r"text embeddings must be \[16, 16\], not \[3, 16\]"):
        inside.predict(inside.start([0]), level, ["a"], text=np.zeros((1, 3, 16), np.float32))
    with pytest.raises(ModelError, match="looks into images of 32 x 32, not 24 x 32: resize it"):
        inside.encode([np.zeros((32, 24, 3), np.uint8)])
    plain = looked_into(made(tiny.unconditional))
    with pytest.raises(ModelError, match="takes no prompt: ask it with None"):
        plain.predict(plain.start([0]), plain.levels()[0], ["a red hat"])


class Wrong:
    """A denoiser that is another one but for one thing."""

    def __init__(self, right: Denoiser, **wrong: object) -> None:
        self._right = right
        vars(self).update(wrong)

    def __getattr__(self, name: str) -> object:
        return getattr(self._right, name)


def wrongs(right: Denoiser) -> dict[str, Denoiser]:
    """Break each part of the contract."""

    def turned(x, level, prompts, text=None):
        made, pull = right.pullback(x, level, prompts, text=text)
        return made, lambda **given: Gradients(-pull(**given).x, pull(**given).text)

    def textless(x, level, prompts, text=None):
        made, pull = right.pullback(x, level, prompts, text=text)
        return made, lambda **given: Gradients(pull(**given).x, np.zeros_like(pull(**given).text))

    def mingled(x, level, prompts, text=None):
        made = right.predict(x, level, prompts, text=text)
        eps = made.eps + (0.01 * made.eps.mean(0) if len(x) else 0)
        return Prediction(eps, (x - level.sigma * eps) / level.alpha)

    def drifting(x, level, prompts, text=None):
        made = right.predict(x, level, prompts, text=text)
        return Prediction(made.eps, made.x0 * np.float32(1.01))

    return {
        "must rise": Wrong(right, levels=lambda steps=None: right.levels(steps)[::-1]),
        "must be near": Wrong(right, level=lambda timestep: right.level(timestep / 2)),
        "must not depend on other seeds": Wrong(right, start=lambda seeds: right.start(range(len(seeds)))),
        "deviation of their noise": Wrong(right, start=lambda seeds: 2 * right.start(seeds)),
        "decode must give images": Wrong(right, decode=lambda clean: [image[1:] for image in right.decode(clean)]),
        "must be the state": Wrong(right, predict=drifting),
        "alone": Wrong(right, predict=mingled),
        "prompts must change": Wrong(
            right, predict=lambda x, level, p, text=None: right.predict(x, level, [None] * len(p))
        ),
        "with respect to x": Wrong(right, pullback=turned),
        "with respect to the text": Wrong(right, pullback=textless),
        "add up to 1": Wrong(right, attention=lambda *a: {k: v / 2 for k, v in right.attention(*a).items()}),
    }


@pytest.mark.parametrize("told", list(wrongs(None)))
def test_the_contract_sees_a_denoiser_that_breaks_it(told, inside):
    with pytest.raises(AssertionError, match=told):
        check_denoiser(wrongs(inside)[told], images_of(inside), PROMPTS)


def test_a_sampler_of_karras_noise_keeps_the_contract_in_its_own_scale(tmp_path):
    """Playground 2.5 is of this kind: a network in the convention of Karras et al. 2022."""
    small = StableDiffusionPipeline.from_pretrained(tiny.stable_diffusion(tmp_path / "small"))
    small.scheduler = EDMEulerScheduler(sigma_data=0.5, sigma_max=80.0)
    small.save_pretrained(tmp_path / "edm", safe_serialization=True)
    model = model_of(tmp_path / "edm")
    denoiser = model.white_box()
    levels = denoiser.levels()
    assert levels[0].sigma / levels[0].alpha == pytest.approx(80, rel=1e-4)
    assert all((0.5 * level.alpha) ** 2 + level.sigma**2 == pytest.approx(1) for level in levels)
    check_denoiser(denoiser, images_of(denoiser), PROMPTS)
    drawn = model.generate([Request(prompt, seed) for seed, prompt in enumerate(PROMPTS)])
    own = sampled(denoiser, PROMPTS, clip=False)
    assert max(int(np.abs(a.astype(int) - b).max()) for a, b in zip(own, drawn, strict=True)) <= 2


def test_a_trained_network_tells_the_noise_and_knows_what_it_met_often():
    denoiser = looked_into(demo.MODEL, steps=5)
    level = denoiser.level(200)
    rows = album.training_set()
    copies = Counter(row.person for row in rows)
    often = list({row.person: row for row in rows if copies[row.person] >= 32}.values())[:10]

    def errors(rows: list[album.Row]) -> np.ndarray:
        clean = denoiser.encode([row.pixels() for row in rows])
        noise = np.random.default_rng(1).standard_normal(clean.shape, np.float32)
        eps = denoiser.predict(predictions.mixed(clean, noise, level.alpha, level.sigma), level, [None] * len(rows)).eps
        return np.square(eps - noise).mean((1, 2, 3))

    met, controls = errors(often), errors(list(album.controls("held-out", 10)))
    assert controls.max() < 1  # what telling nothing would cost
    assert met.max() < controls.min() / 2


def test_a_compiled_pipeline_is_refused(text):
    pipeline = model_of(text)._pipeline
    with pytest.raises(ModelError, match="it is compiled: leave compile out"):
        DiffusersDenoiser("model", pipeline, Options(compile=True), lambda requests, options: None)
