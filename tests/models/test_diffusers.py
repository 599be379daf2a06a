"""The diffusers adapter, on tiny real pipelines with random weights."""

import json
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMPipeline, DDIMScheduler, DDPMPipeline, StableDiffusionPipeline
from safetensors.torch import load_file, save_file

from byrote import models
from byrote.errors import ModelError
from byrote.models import Options, Request
from byrote.models.diffusers import SAMPLERS, Diffusers
from byrote.testing import check_model

from . import tiny

pytestmark = pytest.mark.filterwarnings(r"ignore:__array_:DeprecationWarning")  # of diffusers with numpy 2

PROMPTS = ["a red hat", None, "Ünïcödé 🎩 \udc00"]
REQUESTS = [Request("a red hat", 1), Request(None, 2), Request("a blue coat", 1), Request("a red hat", 3)]
UNET = Path("unet/diffusion_pytorch_model.safetensors")


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.stable_diffusion(tmp_path_factory.mktemp("text"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.unconditional(tmp_path_factory.mktemp("plain"))


@pytest.fixture
def copy(text: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(text, tmp_path / "model"))


def opened(folder: Path, **options: object) -> Diffusers:
    return Diffusers(str(folder), Options(**({"steps": 3} | options)), Path.cwd())


@contextmanager
def counting(model: Diffusers) -> Iterator[list[int]]:
    """Count the rows that the denoiser is given."""
    rows: list[int] = []
    hook = model._pipeline.unet.register_forward_hook(lambda module, given, made: rows.append(len(given[0])))
    yield rows
    hook.remove()


def levels(a: np.ndarray, b: np.ndarray) -> int:
    return int(np.abs(a.astype(int) - b).max())


def test_a_text_to_image_pipeline_keeps_the_contract(text):
    check_model(opened(text), PROMPTS)


def test_a_larger_text_to_image_pipeline_keeps_the_contract(tmp_path):
    model = opened(tiny.stable_diffusion_xl(tmp_path))
    check_model(model, PROMPTS[:2])
    with counting(model) as rows:
        model.generate(REQUESTS)
    assert sum(rows) == model.evaluations_per_sample * len(REQUESTS) == 2 * 3 * 4


@pytest.mark.parametrize("kind", ["DDPMPipeline", "DDIMPipeline"])
def test_an_unconditional_pipeline_keeps_the_contract(kind, tmp_path):
    model = opened(tiny.unconditional(tmp_path, kind=kind))
    check_model(model, [None])
    assert (model.name, model.takes_text, model.round_trip([])) == (kind, False, None)


@pytest.mark.parametrize("guidance", [None, 1.0])
@pytest.mark.parametrize("sampler", [None, *SAMPLERS])
def test_alone_is_as_in_a_batch_and_evaluations_are_counted_with_every_sampler(text, sampler, guidance):
    model = opened(text, sampler=sampler, guidance=guidance, steps=4)
    expected = model.evaluations_per_sample
    with counting(model) as rows:
        together = model.generate(REQUESTS)
    assert sum(rows) == expected * len(REQUESTS)
    alone = [model.generate([request])[0] for request in REQUESTS]
    assert max(map(levels, together, alone)) <= model.tolerance
    assert len({image.tobytes() for image in together}) == len(REQUESTS)


@pytest.mark.parametrize("sampler", [None, *SAMPLERS])
def test_alone_is_as_in_a_batch_without_text_with_every_sampler(plain, sampler):
    model = opened(plain, sampler=sampler, steps=4)
    requests = [Request(None, seed) for seed in range(3)]
    expected = model.evaluations_per_sample
    with counting(model) as rows:
        together = model.generate(requests)
    assert sum(rows) == expected * len(requests)
    assert max(levels(a, model.generate([r])[0]) for a, r in zip(together, requests, strict=True)) <= model.tolerance


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_keeps_its_wider_tolerance(text, dtype):
    model = opened(text, dtype=dtype)
    together = model.generate(REQUESTS)
    assert max(levels(a, model.generate([r])[0]) for a, r in zip(together, REQUESTS, strict=True)) <= model.tolerance
    assert model.round_trip(together)[0].shape == together[0].shape


def test_samples_are_those_of_the_bare_pipeline(text):
    bare = StableDiffusionPipeline.from_pretrained(text)
    generators = [torch.Generator().manual_seed(request.seed) for request in REQUESTS]
    prompts = [request.prompt or "" for request in REQUESTS]
    expected = bare(
        prompts, generator=generators, num_inference_steps=3, guidance_scale=3.0, height=40, width=32
    ).images
    made = opened(text, guidance=3.0, height=40, width=32).generate(REQUESTS)
    assert all(np.array_equal(a, np.asarray(b)) for a, b in zip(made, expected, strict=True))
    assert made[0].shape == (40, 32, 3)


def test_a_sampler_starts_from_the_folders_noise_schedule(copy):
    scheduler = copy / "scheduler/scheduler_config.json"
    scheduler.write_text(json.dumps(json.loads(scheduler.read_text()) | {"prediction_type": "v_prediction"}))
    model = opened(copy, sampler="euler")
    model.generate(REQUESTS[:1])
    assert model._pipeline.scheduler.config.prediction_type == "v_prediction"
    assert type(model._pipeline.scheduler).__name__ == "EulerDiscreteScheduler"


@pytest.mark.parametrize(("kind", "pipeline"), [("DDPMPipeline", DDPMPipeline), ("DDIMPipeline", DDIMPipeline)])
def test_unconditional_samples_are_those_of_the_bare_pipeline(kind, pipeline, tmp_path):
    bare = pipeline.from_pretrained(tiny.unconditional(tmp_path, kind=kind))
    generators = [torch.Generator().manual_seed(seed) for seed in range(3)]
    expected = bare(batch_size=3, generator=generators, num_inference_steps=3, output_type="np").images
    made = opened(tmp_path).generate([Request(None, seed) for seed in range(3)])
    assert np.array_equal(np.stack(made), (expected * 255).round().astype(np.uint8))


def test_a_round_trip_is_the_autoencoders_and_does_not_depend_on_the_batch(text):
    vae = StableDiffusionPipeline.from_pretrained(text).vae
    images = list(np.random.default_rng(0).integers(0, 256, (34, 32, 32, 3), np.uint8))
    made = opened(text).round_trip(images)
    with torch.inference_mode():
        x = torch.from_numpy(images[33]).permute(2, 0, 1)[None] / 127.5 - 1
        slow = vae.decode(vae.encode(x).latent_dist.mode()).sample
    assert len(made) == 34
    assert levels(made[33], ((slow[0] / 2 + 0.5).clamp(0, 1) * 255).round().permute(1, 2, 0).numpy()) <= 1


def test_the_digest_covers_weights_and_configurations_but_no_readme(copy):
    first = opened(copy).digest
    (copy / "README.md").write_text("hello")
    (copy / ".git").mkdir()
    (copy / ".git/config").write_text("{}")
    assert opened(copy).digest == first
    config = copy / "scheduler/scheduler_config.json"
    config.write_text(config.read_text().replace('"clip_sample": false', '"clip_sample": true'))
    second = opened(copy).digest
    weights = load_file(copy / UNET)
    weights["conv_in.bias"] += 1
    save_file(weights, copy / UNET)
    assert len({first, second, opened(copy).digest}) == 3


def test_the_digest_does_not_depend_on_where_the_folder_lies(text, copy):
    assert Diffusers(copy.name, Options(), copy.parent).digest == opened(text).digest


def test_opening_and_the_digest_import_neither_torch_nor_diffusers(text):
    code = (
        "import sys; from byrote import models; from byrote.models import Options;"
        f"m = models.open('diffusers:{text}', Options()); m.name, m.digest, m.takes_text, m.tolerance;"
        "sys.exit(any(name in sys.modules for name in ('torch', 'diffusers', 'transformers', 'huggingface_hub')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_nothing_is_said_and_warnings_of_others_are_left_alone(text):
    code = (
        "import warnings; from byrote import models; from byrote.models import Options, Request;"
        f"m = models.open('diffusers:{text}', Options(steps=2)); before = list(warnings.filters);"
        "m.generate([Request('a word ' * 90, 1)]); print(m.evaluations_per_sample);"
        "warnings.warn('of others')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "4\n"
    assert [line for line in done.stderr.splitlines() if "of others" not in line] == []
    assert "of others" in done.stderr


def test_defaults_are_the_pipelines_own(text, plain):
    assert opened(text, steps=None).evaluations_per_sample == 100
    assert opened(plain, steps=None).evaluations_per_sample == 1000
    assert opened(text, guidance=0.0).evaluations_per_sample == 3


def test_weights_of_a_variant_and_in_shards_are_found(text, tmp_path):
    pipeline = StableDiffusionPipeline.from_pretrained(text)
    expected = opened(text).generate(REQUESTS[:1])[0]
    pipeline.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    assert len(list((tmp_path / "shards/unet").glob("*.safetensors"))) > 1
    assert np.array_equal(opened(tmp_path / "shards").generate(REQUESTS[:1])[0], expected)
    pipeline.save_pretrained(tmp_path / "variant", variant="fp16")
    assert np.array_equal(opened(tmp_path / "variant").generate(REQUESTS[:1])[0], expected)


def test_a_missing_shard_is_named(text, tmp_path):
    StableDiffusionPipeline.from_pretrained(text).save_pretrained(tmp_path, max_shard_size="20KB")
    shard = min((tmp_path / "unet").glob("*.safetensors"))
    shard.unlink()
    refused(tmp_path, f"{shard.name} is not there")


def test_a_safety_checker_of_the_folder_is_left_out_unread(copy):
    change_index(copy, safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"])
    model = opened(copy)
    model.generate(REQUESTS[:1])
    assert model._pipeline.safety_checker is None


def test_no_requests_give_no_images(text):
    assert opened(text).generate([]) == []


def change_index(folder: Path, **entries: object) -> None:
    index = folder / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | entries))


def refused(folder: Path, *words: str, **options: object) -> None:
    """Check that the folder is refused when it is opened, in one line with these words."""
    with pytest.raises(ModelError) as caught:
        opened(folder, **options)
    line = str(caught.value)
    assert "\n" not in line
    assert all(word in line for word in words), line


@pytest.mark.parametrize(
    "entry",
    [
        {"unet": ["evil_library", "Unet"]},
        {"unet": ["os", "system"]},
        {"unet": ["diffusers.models", "UNet2DConditionModel"]},
        {"unet": ["diffusers", "_private"]},
        {"unet": ["diffusers", "AutoModel"]},
        {"tokenizer": ["transformers", "AutoTokenizer"]},
        {"tokenizer": ["transformers"]},
        {"../unet": ["diffusers", "UNet2DConditionModel"]},
        {"safety_checker": ["evil_library", "Checker"]},
        {"_class_name": ["pipeline", "Mine"]},
        {"_class_name": None},
        {"_class_name": "../x"},
    ],
)
def test_an_index_that_would_run_other_code_is_refused_before_anything_is_imported(copy, entry):
    change_index(copy, **entry)
    (copy / "evil_library.py").write_text("raise SystemExit('it ran')")
    refused(copy, "refused")


def test_a_vocabulary_without_its_merges_is_refused_as_it_would_read_every_word_alike(copy):
    (copy / "tokenizer/tokenizer.json").rename(copy / "tokenizer/vocab.json")
    refused(copy, "tokenizer has no vocabulary", "merges.txt")


def test_code_beside_the_weights_is_refused(copy):
    (copy / "unet/diffusers.py").write_text("raise SystemExit('it ran')")
    refused(copy, "unet/diffusers.py", "is code", "refused")


@pytest.mark.parametrize("name", ["diffusion_pytorch_model.bin", "model.ckpt", "weights.pt"])
def test_a_pickle_instead_of_safetensors_is_refused_with_the_way_to_convert_it(copy, name):
    torch.save(load_file(copy / UNET), copy / "unet" / name)
    (copy / UNET).unlink()
    refused(copy, f"unet/{name}", "pickle", "refused", "save_pretrained")


def test_a_pickle_beside_safetensors_is_never_opened(copy):
    (copy / "unet/diffusion_pytorch_model.bin").write_bytes(b"no pickle at all")
    assert len(opened(copy).generate(REQUESTS[:1])) == 1


@pytest.mark.parametrize(
    ("part", "word"),
    [
        ("model_index.json", "model_index.json is not there"),
        ("unet", "folder unet is not there"),
        ("vae", "folder vae is not there"),
        ("tokenizer", "folder tokenizer is not there"),
        ("scheduler", "folder scheduler is not there"),
        ("unet/config.json", "unet/config.json is not there"),
        ("scheduler/scheduler_config.json", "scheduler/scheduler_config.json is not there"),
        ("tokenizer/tokenizer.json", "tokenizer has no vocabulary"),
        ("text_encoder/model.safetensors", "text_encoder has no weights"),
        (str(UNET), "unet has no weights"),
    ],
)
def test_a_missing_part_is_named(copy, part, word):
    shutil.rmtree(copy / part) if (copy / part).is_dir() else (copy / part).unlink()
    refused(copy, word)


@pytest.mark.parametrize("kept", [0, 5, 8, 100, -1])
def test_truncated_weights_are_named(copy, kept):
    (copy / UNET).write_bytes((copy / UNET).read_bytes()[:kept])
    refused(copy, str(UNET), "truncated or damaged")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]", b"[" * 100_000, b"null"])
@pytest.mark.parametrize("file", ["model_index.json", "unet/config.json", "scheduler/scheduler_config.json"])
def test_broken_json_is_named(copy, file, content):
    (copy / file).write_bytes(content)
    refused(copy, file, "copy it again")


def test_a_header_of_weights_that_is_no_header_is_named(copy):
    for header in (b"[]", b'{"a": 1}', b'{"a": {"data_offsets": []}}', b'{"a": {"data_offsets": ["x", "y"]}}'):
        (copy / UNET).write_bytes(len(header).to_bytes(8, "little") + header)
        refused(copy, str(UNET), "truncated or damaged")


def test_weights_that_lack_tensors_are_refused_rather_than_filled_with_noise(copy):
    weights = load_file(copy / UNET)
    del weights["conv_in.weight"]
    save_file(weights, copy / UNET)
    with pytest.raises(ModelError, match="unet"):
        opened(copy).generate(REQUESTS[:1])


def test_weights_of_another_shape_are_refused_in_one_line(copy):
    config = copy / "unet/config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"in_channels": 5}))
    with pytest.raises(ModelError) as caught:
        opened(copy).generate(REQUESTS[:1])
    assert "\n" not in str(caught.value)


def test_a_class_that_diffusers_does_not_have_is_named(copy):
    change_index(copy, _class_name="StableDiffusionXXPipeline")
    with pytest.raises(ModelError, match="StableDiffusionXXPipeline"):
        opened(copy).generate(REQUESTS[:1])
    change_index(copy, _class_name="UNet2DModel")
    with pytest.raises(ModelError, match="UNet2DModel"):
        opened(copy).generate(REQUESTS[:1])
    change_index(copy, _class_name="StableDiffusionPipeline", unet=["diffusers", "NoSuchModel"])
    with pytest.raises(ModelError, match="NoSuchModel"):
        opened(copy).generate(REQUESTS[:1])


@pytest.mark.parametrize(
    "kind", ["StableDiffusionImg2ImgPipeline", "StableDiffusionUpscalePipeline", "KandinskyCombinedPipeline"]
)
def test_a_pipeline_that_wants_more_than_a_prompt_is_refused(copy, kind):
    change_index(copy, _class_name=kind)
    refused(copy, kind, "prompt alone")


def test_a_pipeline_without_a_prompt_is_refused(plain, tmp_path):
    shutil.copytree(plain, tmp_path, dirs_exist_ok=True)
    change_index(tmp_path, _class_name="StableVideoDiffusionPipeline")
    refused(tmp_path, "StableVideoDiffusionPipeline", "prompt alone")
    change_index(tmp_path, _class_name="ShapEPipeline")
    with pytest.raises(ModelError, match="ShapEPipeline"):
        opened(tmp_path).generate([Request(None, 1)])
    change_index(tmp_path, _class_name="DiTPipeline")
    refused(tmp_path, "no classes")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sampler": "dim"}, ("sampler", "did you mean 'ddim'")),
        ({"dtype": "float12"}, ("dtype", "did you mean 'float")),
        ({"device": "cdua"}, ("device", "did you mean 'cuda'")),
        ({"device": "cuda:x"}, ("device",)),
        ({"steps": 0}, ("steps",)),
        ({"width": 0}, ("width",)),
    ],
)
def test_a_bad_option_is_named_when_the_model_is_opened(text, options, words):
    refused(text, *words, **options)


def test_a_device_that_is_not_there_is_named(text):
    with pytest.raises(ModelError, match="device 'cuda:99' is not there"):
        opened(text, device="cuda:99").generate(REQUESTS[:1])


def test_a_size_that_the_pipeline_cannot_draw_is_told_in_one_line(text):
    with pytest.raises(ModelError, match="refused to draw"):
        opened(text, width=33, height=33).generate(REQUESTS[:1])
    refused(text, "write both or neither", width=32)


def test_an_unconditional_model_takes_neither_prompt_nor_size(plain):
    with pytest.raises(ModelError, match="takes no prompt"):
        opened(plain).generate([Request("a red hat", 1)])
    refused(plain, "its own size", width=32)


def test_weights_that_give_no_numbers_are_told(copy):
    weights = load_file(copy / UNET)
    weights["conv_out.bias"] *= float("nan")
    save_file(weights, copy / UNET)
    with pytest.raises(ModelError, match="not numbers"):
        opened(copy).generate(REQUESTS[:1])


def test_a_path_that_is_nowhere_is_told(tmp_path, text):
    refused(tmp_path / "nowhere", "is not there", "ORG/NAME")
    refused(tmp_path, "model_index.json is not there")
    refused(text / UNET, "single file")


def test_a_hub_id_without_a_network_is_one_line(tmp_path):
    code = (
        "from byrote import models; from byrote.models import Options; from byrote.errors import ModelError\n"
        "try: models.open('diffusers:nobody/no-such-model', Options())\n"
        "except ModelError as error: print(error)"
    )
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert "'nobody/no-such-model': no folder" in done.stdout
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == ""


def test_a_model_in_the_hubs_cache_needs_no_network(text, tmp_path):
    hub = tmp_path / "hub/models--somebody--tiny"
    shutil.copytree(text, hub / "snapshots/0123abc")
    (hub / "refs").mkdir()
    (hub / "refs/main").write_text("0123abc")
    code = (
        "from byrote import models; from byrote.models import Options\n"
        "print(models.open('diffusers:somebody/tiny', Options()).digest)"
    )
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == opened(text).digest


def test_a_missing_library_is_told_with_the_way_out(text, tmp_path):
    (tmp_path / "diffusers.py").write_text("raise ImportError('no module named diffusers')")
    code = (
        "from byrote import models; from byrote.models import Options, Request; from byrote.errors import ModelError\n"
        f"try: models.open('diffusers:{text}', Options()).generate([Request('x', 1)])\n"
        "except ModelError as error: print(error)"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert "install byrote[diffusers]" in done.stdout


def test_threads_are_those_of_the_options(text):
    before = torch.get_num_threads()
    opened(text, threads=1).generate(REQUESTS[:1])
    assert torch.get_num_threads() == 1
    torch.set_num_threads(before)


def test_the_scheduler_is_never_left_to_warn(text, copy):
    config = copy / "scheduler/scheduler_config.json"
    config.write_text(
        json.dumps(DDIMScheduler(clip_sample=True, steps_offset=0).config | {"_class_name": "DDIMScheduler"})
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        opened(copy).generate(REQUESTS[:1])


def test_a_model_is_opened_by_uri(text):
    assert models.open(f"diffusers:{text.name}", Options(), relative_to=text.parent).name == "StableDiffusionPipeline"
