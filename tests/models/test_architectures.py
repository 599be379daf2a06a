"""Every family of diffusers pipelines, built tiny, saved, and opened as a user opens it."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from diffusers import (
    ConsistencyModelPipeline,
    DiTPipeline,
    IFPipeline,
    IFSuperResolutionPipeline,
    KandinskyV22Pipeline,
    KandinskyV22PriorPipeline,
    LDMPipeline,
    StableDiffusionInpaintPipeline,
)
from PIL import Image

from byrote import models
from byrote.errors import ModelError
from byrote.models import Options, Request
from byrote.models.diffusers import Diffusers
from byrote.models.samplers import FLOW_SAMPLERS, SAMPLERS
from byrote.testing import check_model

from . import architectures, tiny

pytestmark = pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")  # of diffusers with numpy 2

FOLDERS: dict[str, Callable[[Path], Path]] = {
    "stable-diffusion": tiny.stable_diffusion,
    "velocity": architectures.velocity,
    "xl": tiny.stable_diffusion_xl,
    "stable-diffusion-3": architectures.stable_diffusion_3,
    "flux": architectures.flux,
    "schnell": architectures.schnell,
    "pixart-alpha": architectures.pixart_alpha,
    "pixart-sigma": architectures.pixart,
    "kandinsky-prior": architectures.kandinsky_prior,
    "kandinsky-decoder": architectures.kandinsky_decoder,
    "kandinsky-whole": architectures.kandinsky_whole,
    "deepfloyd": architectures.deepfloyd,
    "deepfloyd-upscaler": architectures.deepfloyd_upscaler,
    "latent-consistency": architectures.latent_consistency,
    "distilled": architectures.distilled,
    "inpainting": architectures.inpainting,
    "inpainting-of-4": architectures.inpainting_of_4,
    "inpainting-xl": architectures.inpainting_xl,
    "inpainting-3": architectures.inpainting_3,
    "inpainting-flux": architectures.inpainting_flux,
    "class-labels": architectures.class_labels,
    "latent": architectures.latent,
    "consistency": architectures.consistency,
    "consistency-of-classes": architectures.consistency_of_classes,
}
SMALL = {"width": 32, "height": 32}
CASCADE = "{deepfloyd}?upscaler={deepfloyd-upscaler}&upscaler_steps=3"


class Case(NamedTuple):
    """What a user opens, what is asked of it, what its denoisers must have been asked, and options beside two steps."""

    uri: str
    prompts: tuple[str | None, ...] = ("a red hat", None)
    evaluations: int = 2 * 2
    options: dict[str, object] = {}  # noqa: RUF012


CASES = [
    Case("{stable-diffusion}"),
    Case("{velocity}"),
    Case("{xl}"),
    Case("{stable-diffusion-3}"),
    Case("{flux}", evaluations=2, options=SMALL),
    Case("{schnell}", evaluations=2, options=SMALL),
    Case("{pixart-alpha}"),
    Case("{pixart-sigma}"),
    Case("{kandinsky-decoder}?prior={kandinsky-prior}&prior_steps=3", evaluations=2 * 2 + 3 * 2, options=SMALL),
    Case("{kandinsky-whole}", evaluations=2 * 2 + 25 * 2, options=SMALL),
    Case("{deepfloyd}"),
    Case(CASCADE, evaluations=2 * 2 + 3 * 2),
    Case("{latent-consistency}", evaluations=2),
    Case("{distilled}", evaluations=2),
    Case("{inpainting}"),
    Case("{inpainting-of-4}"),
    Case("{inpainting-xl}"),
    Case("{inpainting-3}"),
    Case("{inpainting-flux}", evaluations=2, options=SMALL),
    Case("{class-labels}", ("goldfish", "999", None)),
    Case("{latent}", (None,), 2),
    Case("{consistency}", (None,), 2),
    Case("{consistency-of-classes}", ("0", "9"), 2),
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Build each model once, when it is first wanted."""
    made: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in made:
            made[name] = FOLDERS[name](tmp_path_factory.mktemp(name))
        return made[name]

    return folder


@pytest.fixture(scope="module")
def opened(folders: Callable[[str], Path]) -> Callable[..., Diffusers]:
    """Open a URI with the folders that it names in braces, as a user does."""

    def model(uri: str, **options: object) -> Diffusers:
        whole = re.sub(r"\{(.*?)\}", lambda name: str(folders(name[1])), uri)
        made = models.open(f"diffusers:{whole}", Options(**({"steps": 2} | options)))
        assert isinstance(made, Diffusers)
        return made

    return model


@contextmanager
def counting(model: Diffusers) -> Iterator[list[int]]:
    """Count the rows that come out of all denoisers: of a prior, of the model and of an upscaler."""
    rows: list[int] = []
    parts = model._pipeline.components | {"upscaler": getattr(model._upscaler, "unet", None)}
    there = [parts.get(name) for name in ("unet", "transformer", "prior_prior", "upscaler") if parts.get(name)]
    hooks = [part.register_forward_hook(lambda module, given, made: rows.append(len(made[0]))) for part in there]
    yield rows
    for hook in hooks:
        hook.remove()


def levels(a: np.ndarray, b: np.ndarray) -> int:
    return int(np.abs(a.astype(int) - b).max())


def generators(n: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in range(n)]


def asked(*prompts: str | None) -> list[Request]:
    return [Request(prompt, seed) for seed, prompt in enumerate(prompts)]


def same(made: list[np.ndarray], expected: object) -> bool:
    """Compare with floats [n, h, w, 3] in [0, 1] to the last level."""
    return np.array_equal(np.stack(made), (np.asarray(expected) * 255).round().astype(np.uint8))


def sized(uri: str) -> dict[str, object]:
    """Return 32 x 32 where the pipeline does not know how small its weights are."""
    return SMALL if re.match("{flux|{schnell|{kandinsky", uri) else {}


def refused(opened: Callable[..., Diffusers], uri: str, *words: str, **options: object) -> None:
    with pytest.raises(ModelError) as caught:
        opened(uri, **options)
    line = str(caught.value)
    assert "\n" not in line
    assert all(word in line for word in words), line


@pytest.mark.parametrize("case", CASES, ids=[case.uri for case in CASES])
def test_every_family_keeps_the_contract_and_counts_its_evaluations(opened, case):
    model = opened(case.uri, **case.options)
    check_model(model, case.prompts)
    requests = [Request(prompt, 7) for prompt in case.prompts]
    with counting(model) as rows:
        made = model.generate(requests)
    assert sum(rows) == case.evaluations * len(requests)
    assert model.evaluations_per_sample == case.evaluations
    assert len({image.tobytes() for image in made}) == len(case.prompts)  # each prompt is heard


@pytest.mark.parametrize(
    ("uri", "samplers"),
    [
        ("{stable-diffusion-3}", FLOW_SAMPLERS),
        ("{schnell}", ("euler", "lcm", "unipc")),
        ("{flux}", ("euler", "lcm", "unipc")),
        ("{pixart-sigma}", ("ddpm", "euler-a")),
        ("{kandinsky-decoder}?prior={kandinsky-prior}&prior_steps=2", ("ddim", "euler-a", "heun")),
        ("{deepfloyd}", ("ddim", "dpm++2m-sde", "pndm")),
        ("{distilled}", ("euler", "tcd")),
        ("{class-labels}", ("ddpm", "dpm2-a", "euler")),
        ("{latent}", ("ddpm", "unipc", "tcd")),
    ],
)
def test_alone_is_as_in_a_batch_with_other_samplers(opened, uri, samplers):
    for sampler in samplers:
        model = opened(uri, sampler=sampler, steps=3, **sized(uri))
        requests = asked("0", "1") if model.takes_text else asked(None, None)
        expected = model.evaluations_per_sample
        with counting(model) as rows:
            together = model.generate(requests)
        assert sum(rows) == expected * len(requests), sampler
        assert model._pipeline.scheduler.__class__.__name__ == fitting_kind(model, sampler)
        alone = [model.generate([request])[0] for request in requests]
        assert max(map(levels, together, alone)) <= model.tolerance, sampler


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_flow_is_drawn_in_half_precision(opened, dtype):
    plain, half = (opened("{stable-diffusion-3}", steps=2, dtype=each) for each in ("float32", dtype))
    (expected,), (made,) = (model.generate(asked("a")) for model in (plain, half))
    assert levels(expected, made) <= half.tolerance


def fitting_kind(model: Diffusers, sampler: str) -> str:
    flows = model._own.startswith("FlowMatch")
    return (FLOW_SAMPLERS if flows else SAMPLERS)[sampler].kind


def test_a_sampler_that_does_not_fit_is_refused_when_the_model_is_opened(opened):
    refused(opened, "{stable-diffusion-3}", "'ddim'", "matches flows", "euler", sampler="ddim")
    refused(opened, "{flux}", "FluxPipeline", "'heun'", "one of euler, lcm, unipc", sampler="heun")
    refused(opened, "{latent-consistency}", "'ddim'", "one of lcm", sampler="ddim")
    refused(opened, "{consistency}", "'euler'", "leave it out", sampler="euler")


def test_a_flow_that_shifts_with_the_size_takes_only_samplers_that_can(opened, folders, tmp_path):
    shutil.copytree(folders("stable-diffusion-3"), tmp_path, dirs_exist_ok=True)
    scheduler = tmp_path / "scheduler/scheduler_config.json"
    scheduler.write_text(json.dumps(json.loads(scheduler.read_text()) | {"use_dynamic_shifting": True}))
    refused(opened, str(tmp_path), "'heun'", "euler, lcm or unipc", sampler="heun")
    model = opened(str(tmp_path), sampler="lcm", steps=3)
    assert model.evaluations_per_sample == 3 * 2
    assert len(model.generate(asked("a"))) == 1


def test_samplers_of_flows_keep_the_models_shift(opened):
    model = opened("{stable-diffusion-3}", sampler="dpm++2m", steps=3)
    model.generate(asked("a"))
    assert model._pipeline.scheduler.config.flow_shift == 3.0


def test_guidance_is_counted_where_it_asks_twice(opened):
    assert opened("{stable-diffusion-3}", guidance=1.0).evaluations_per_sample == 2
    assert opened("{class-labels}", guidance=1.0).evaluations_per_sample == 2
    assert opened("{flux}", guidance=9.0).evaluations_per_sample == 2
    assert opened("{deepfloyd}", guidance=0.0).evaluations_per_sample == 2
    assert opened(CASCADE, guidance=0.0).evaluations_per_sample == 2 + 3 * 2


@pytest.mark.parametrize(
    "uri", ["{class-labels}", CASCADE, "{kandinsky-whole}?prior_steps=2", "{deepfloyd}", "{pixart-sigma}"]
)
def test_without_guidance_the_count_still_holds(opened, uri):
    model = opened(uri, guidance=1.0, **sized(uri))
    with counting(model) as rows:
        model.generate(asked("0", "1"))
    assert sum(rows) == 2 * model.evaluations_per_sample


def test_a_model_of_one_step_is_asked_once(opened):
    model = opened("{xl}", steps=1, guidance=0.0, sampler="euler-a")  # as SDXL Turbo is drawn
    with counting(model) as rows:
        assert len(model.generate(asked("a", "b"))) == 2
    assert sum(rows) == 2 * model.evaluations_per_sample == 2


def test_samples_of_class_labels_are_those_of_the_bare_pipeline(opened, folders):
    bare = DiTPipeline.from_pretrained(folders("class-labels"))
    expected = bare([1, 999, 1000], generator=generators(3), num_inference_steps=3, output_type="np").images
    assert same(opened("{class-labels}", steps=3).generate(asked("goldfish", "999", None)), expected)


def test_samples_without_text_are_those_of_the_bare_pipelines(opened, folders):
    bare = LDMPipeline.from_pretrained(folders("latent"))
    expected = [bare(generator=one, num_inference_steps=3, output_type="np").images[0] for one in generators(2)]
    assert same(opened("{latent}", steps=3).generate(asked(None, None)), expected)
    bare = ConsistencyModelPipeline.from_pretrained(folders("consistency"))
    expected = bare(batch_size=2, generator=generators(2), num_inference_steps=3, output_type="np").images
    assert same(opened("{consistency}", steps=3).generate(asked(None, None)), expected)
    assert opened("{consistency}", steps=None).evaluations_per_sample == 1


def test_a_prior_and_its_decoder_draw_as_the_bare_ones_do_apart_or_whole(opened, folders):
    prior = KandinskyV22PriorPipeline.from_pretrained(folders("kandinsky-prior"))
    decoder = KandinskyV22Pipeline.from_pretrained(folders("kandinsky-decoder"))
    own = generators(2)
    told = prior(["a", "b"], generator=own, num_inference_steps=3)
    expected = decoder(**told, **SMALL, generator=own, num_inference_steps=2, output_type="np").images
    apart = opened("{kandinsky-decoder}?prior={kandinsky-prior}&prior_steps=3", **SMALL).generate(asked("a", "b"))
    assert same(apart, expected)
    assert same(opened("{kandinsky-whole}?prior_steps=3", **SMALL).generate(asked("a", "b")), expected)


def test_a_cascade_draws_as_the_bare_stages_do(opened, folders):
    first = IFPipeline.from_pretrained(folders("deepfloyd"))
    second = IFSuperResolutionPipeline.from_pretrained(folders("deepfloyd-upscaler"), text_encoder=None)
    own = generators(2)
    texts, none = first.encode_prompt(["a", "b"])
    told = {"prompt_embeds": texts, "negative_prompt_embeds": none, "generator": own}
    small = first(**told, num_inference_steps=2, output_type="pt").images
    expected = second(image=small, **told, num_inference_steps=3, output_type="np").images
    assert same(opened(CASCADE).generate(asked("a", "b")), expected)
    plain = first(["a", "b"], generator=generators(2), num_inference_steps=2, output_type="np").images
    assert same(opened("{deepfloyd}").generate(asked("a", "b")), plain)


def test_an_inpainting_pipeline_is_asked_to_fill_a_grey_picture(opened, folders):
    bare = StableDiffusionInpaintPipeline.from_pretrained(folders("inpainting"))
    grey = Image.new("RGB", (32, 40), (128, 128, 128))
    mask = Image.new("L", (32, 40), 255)
    expected = bare(
        ["a", "b"], [grey] * 2, [mask] * 2, generator=generators(2), num_inference_steps=2, height=40, width=32
    ).images
    made = opened("{inpainting}", width=32, height=40).generate(asked("a", "b"))
    assert max(levels(a, np.asarray(b)) for a, b in zip(made, expected, strict=True)) <= 1


def test_a_latent_model_and_a_decoder_have_a_round_trip(opened):
    for uri in ("{latent}", "{kandinsky-whole}", "{class-labels}", "{flux}"):
        model = opened(uri)
        images = [np.full((32, 32, 3), level, np.uint8) for level in (0, 99)]
        made = model.round_trip(images)
        assert [image.shape for image in made] == [(32, 32, 3)] * 2
    assert opened("{deepfloyd}").round_trip([]) is None
    assert opened("{consistency}").round_trip([]) is None


def test_a_class_is_named_or_numbered_and_a_wrong_one_is_told(opened):
    model = opened("{class-labels}")
    numbered, *named = (
        model.generate([Request(prompt, 3)])[0]
        for prompt in ("1", "goldfish", " goldfish ", "Carassius auratus", "goldfish, Carassius auratus")
    )
    assert all(np.array_equal(image, numbered) for image in named)
    for prompt, words in (
        ("goldfsh", "did you mean 'goldfish'"),
        ("1000", "0 to 999"),
        ("-1", "-1"),
        ("a red hat", "unknown class label 'a red hat'"),
    ):
        with pytest.raises(ModelError, match=words):
            model.generate([Request(prompt, 1)])
    assert model.takes_labels


def test_without_a_class_for_no_label_the_seed_draws_one(opened):
    model = opened("{consistency-of-classes}")
    drawn = str(np.random.default_rng(5).integers(10))
    unasked, named = model.generate([Request(None, 5), Request(drawn, 5)])
    assert np.array_equal(unasked, named)
    with pytest.raises(ModelError, match="0 to 9"):
        model.generate([Request("10", 1)])


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("model_index.json", {"id2label": ["a", "b"]}),
        ("model_index.json", {"id2label": {"first": "a"}}),
        ("transformer/config.json", {"num_embeds_ada_norm": "1000"}),
        ("transformer/config.json", {"num_embeds_ada_norm": None}),
        ("transformer/config.json", {"num_embeds_ada_norm": 0}),
        ("transformer/config.json", {"num_embeds_ada_norm": True}),
    ],
)
def test_classes_that_are_none_are_told_when_the_model_is_opened(opened, folders, tmp_path, file, change):
    shutil.copytree(folders("class-labels"), tmp_path, dirs_exist_ok=True)
    (tmp_path / file).write_text(json.dumps(json.loads((tmp_path / file).read_text()) | change))
    refused(opened, str(tmp_path), "model")


def test_half_a_model_is_refused_with_the_way_to_the_other_half(opened):
    refused(opened, "{kandinsky-decoder}", "?prior=FOLDER", "KandinskyV22PriorPipeline")
    refused(opened, "{kandinsky-prior}", "half a model", "KandinskyV22Pipeline with ?prior=")
    refused(opened, "{deepfloyd-upscaler}", "half a model", "IFPipeline with ?upscaler=")
    refused(opened, "{kandinsky-decoder}?prior={deepfloyd}", "IFPipeline", "KandinskyV22PriorPipeline")
    refused(opened, "{deepfloyd}?upscaler_steps=3", "?upscaler=FOLDER")
    refused(opened, "{kandinsky-decoder}?prior=nowhere", "nowhere is not there")


def test_settings_without_use_are_refused(opened):
    refused(opened, "{stable-diffusion}?prior={kandinsky-prior}", "no use for 'prior'")
    refused(opened, "{kandinsky-whole}?prior={kandinsky-prior}", "no use for 'prior'")
    refused(opened, "{deepfloyd}?prior_steps=3", "no use for 'prior_steps'")
    refused(opened, "{kandinsky-whole}?prior_steps=none", "prior_steps", "1 or more")
    refused(opened, "{kandinsky-whole}?prior_step=1", "did you mean 'prior_steps'")
    refused(opened, "{class-labels}", "its own size", **SMALL)
    refused(opened, CASCADE, "its own size", **SMALL)
    refused(opened, "{consistency}", "guidance", guidance=3.0)
    refused(opened, "{kandinsky-whole}", "negative", negative="blue")


def test_the_digest_covers_the_second_folder_and_its_steps(opened, folders, tmp_path):
    uri = "{deepfloyd}?upscaler="
    plain, joined = opened("{deepfloyd}"), opened(uri + "{deepfloyd-upscaler}")
    shutil.copytree(folders("deepfloyd-upscaler"), tmp_path, dirs_exist_ok=True)
    assert opened(f"{uri}{tmp_path}").digest == joined.digest
    config = tmp_path / "scheduler/scheduler_config.json"
    config.write_text(config.read_text().replace("squaredcos_cap_v2", "linear"))
    digests = {plain.digest, joined.digest, opened(f"{uri}{tmp_path}").digest, opened(CASCADE).digest}
    assert len(digests) == 4


def test_what_is_left_out_is_said(opened, folders, tmp_path):
    shutil.copytree(folders("deepfloyd"), tmp_path, dirs_exist_ok=True)
    index = tmp_path / "model_index.json"
    checks = {"safety_checker": ["deepfloyd_if", "IFSafetyChecker"], "watermarker": ["deepfloyd_if", "IFWatermarker"]}
    index.write_text(json.dumps(json.loads(index.read_text()) | checks))
    model = opened(str(tmp_path))
    assert set(model.left_out) == {"safety_checker", "watermarker"}
    assert len(model.generate(asked("a"))) == 1
    assert set(opened(CASCADE).left_out) == {"text_encoder", "tokenizer"}
    assert opened("{stable-diffusion}").left_out == ()


def test_a_readme_that_names_other_models_is_not_followed(opened, folders, tmp_path):
    shutil.copytree(folders("kandinsky-whole"), tmp_path, dirs_exist_ok=True)
    (tmp_path / "README.md").write_text("---\nprior:\n- somebody/prior\n---\n")
    uri = f"{tmp_path}?prior_steps=2"
    expected = opened("{kandinsky-whole}?prior_steps=2", **SMALL).generate(asked("a"))
    assert np.array_equal(opened(uri, **SMALL).generate(asked("a")), expected)


def test_nothing_but_the_seed_moves_the_noise(opened):
    model = opened("{stable-diffusion-3}", sampler="lcm", steps=3)
    torch.manual_seed(1)
    first = model.generate(asked("a"))[0]
    torch.manual_seed(2)
    assert np.array_equal(first, model.generate(asked("a"))[0])


def test_a_vocabulary_of_pieces_without_its_library_is_told_with_the_way_out(folders, tmp_path):
    model = Path(shutil.copytree(folders("pixart-sigma"), tmp_path / "model"))
    (model / "tokenizer/tokenizer.json").rename(model / "tokenizer/spiece.model")
    (tmp_path / "sentencepiece.py").write_text("raise ImportError('no module named sentencepiece')")
    code = (
        "from byrote import models; from byrote.models import Options, Request; from byrote.errors import ModelError\n"
        f"try: models.open('diffusers:{model}', Options()).generate([Request('x', 1)])\n"
        "except ModelError as error: print(error)"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert "sentencepiece" in done.stdout
    assert "byrote[diffusers]" in done.stdout


def test_a_vocabulary_of_pieces_is_read_alike(opened, folders, tmp_path):
    sentencepiece = pytest.importorskip("sentencepiece")
    model = Path(shutil.copytree(folders("pixart-sigma"), tmp_path / "model"))
    vocabulary = model / "tokenizer/tokenizer.json"
    vocabulary.unlink()
    text = tmp_path / "text.txt"
    text.write_text("a red hat\na blue coat\nan old grey table\n")
    sentencepiece.SentencePieceTrainer.train(
        input=str(text),
        model_prefix=str(vocabulary.with_name("spiece")),
        vocab_size=20,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    first, second = opened(str(model)).generate([Request("a red hat", 1), Request("a blue coat", 1)])
    assert not np.array_equal(first, second)
