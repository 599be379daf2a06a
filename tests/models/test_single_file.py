"""Checkpoints in one file, in the layout of the original code, against what diffusers reads from them by itself."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint
from safetensors.torch import load_file, save_file

from byrote import models
from byrote.errors import ModelError
from byrote.models import Options, Request, layouts
from byrote.models.diffusers import Diffusers
from byrote.testing import check_model

from . import tiny

pytestmark = pytest.mark.filterwarnings(r"ignore:__array__:DeprecationWarning:diffusers\..*")

REQUESTS = [Request("a red hat", 1), Request("a blue coat", 2)]
Held = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.stable_diffusion(tmp_path_factory.mktemp("text"))


@pytest.fixture(scope="module")
def xl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.stable_diffusion_xl(tmp_path_factory.mktemp("xl"))


@pytest.fixture(scope="module")
def held(text: Path) -> Held:
    return first(text)


@pytest.fixture(scope="module")
def config(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return configured(text, tmp_path_factory.mktemp("config"))


def configured(folder: Path, to: Path) -> Path:
    """Copy a model's folder without its weights."""
    return Path(shutil.copytree(folder, to, ignore=shutil.ignore_patterns("*.safetensors"), dirs_exist_ok=True))


def tensors(folder: Path, part: str) -> Held:
    return load_file(next((folder / part).glob("*.safetensors")))


def painters(folder: Path) -> Held:
    """Return U-Net and autoencoder under their original names; those attend by convolutions of 1 x 1."""
    unet, vae = tensors(folder, "unet"), tensors(folder, "vae")
    names = layouts.vae(vae)
    held = {f"model.diffusion_model.{old}": unet[new] for new, old in layouts.unet(unet).items()}
    for new, old in names.items():
        square = "attn_1" in old and vae[new].ndim == 2
        held[f"first_stage_model.{old}"] = vae[new][:, :, None, None] if square else vae[new]
    return held


def first(folder: Path) -> Held:
    """Return a checkpoint like those of versions 1, with the counters and schedules that they have beside the model."""
    clip = {
        f"text_model.{key.removeprefix('text_model.')}": tensor
        for key, tensor in tensors(folder, "text_encoder").items()
    }
    held = painters(folder) | {f"cond_stage_model.transformer.{key}": tensor for key, tensor in clip.items()}
    held["cond_stage_model.transformer.text_model.embeddings.position_ids"] = torch.arange(16)[None]
    return held | {"alphas_cumprod": torch.ones(1000), "model_ema.decay": torch.tensor(0.5)}


def open_clip(folder: Path, part: str, prefix: str) -> Held:
    """Return a text encoder as OpenCLIP names it: q, k and v in one."""
    clip = {key.removeprefix("text_model."): tensor for key, tensor in tensors(folder, part).items()}
    layer = "encoder.layers.0."
    held = {
        "transformer.resblocks.0.attn.in_proj_weight": torch.cat(
            [clip[f"{layer}self_attn.{c}_proj.weight"] for c in "qkv"]
        )
    }
    held["transformer.resblocks.0.attn.in_proj_bias"] = torch.cat(
        [clip[f"{layer}self_attn.{c}_proj.bias"] for c in "qkv"]
    )
    renamed = {
        "self_attn.out_proj": "attn.out_proj", "layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc",
        "mlp.fc2": "mlp.c_proj",
    }  # fmt: skip
    for new, old in renamed.items():
        held |= {f"transformer.resblocks.0.{old}.{kind}": clip[f"{layer}{new}.{kind}"] for kind in ("weight", "bias")}
    held["token_embedding.weight"] = clip["embeddings.token_embedding.weight"]
    held["positional_embedding"] = clip["embeddings.position_embedding.weight"]
    held |= {f"ln_final.{kind}": clip[f"final_layer_norm.{kind}"] for kind in ("weight", "bias")}
    projection = clip.get("text_projection.weight", torch.eye(16))
    held |= {"text_projection": projection.T.contiguous(), "logit_scale": torch.tensor(1.0)}
    return {prefix + key: tensor for key, tensor in held.items()}


def larger(folder: Path) -> Held:
    clip = {
        f"text_model.{key.removeprefix('text_model.')}": tensor
        for key, tensor in tensors(folder, "text_encoder").items()
    }
    held = painters(folder) | {f"conditioner.embedders.0.transformer.{key}": tensor for key, tensor in clip.items()}
    return held | open_clip(folder, "text_encoder_2", "conditioner.embedders.1.model.")


def saved(path: Path, held: Held) -> Path:
    save_file({key: tensor.contiguous() for key, tensor in held.items()}, path)
    return path


def opened(file: Path, config: Path | None, **options: object) -> Diffusers:
    query = f"?config={config}" if config else ""
    return Diffusers(f"{file}{query}", Options(**({"steps": 3, "guidance": 3.0} | options)), Path.cwd())


def drawn(pipeline: object) -> list[np.ndarray]:
    generators = [torch.Generator().manual_seed(request.seed) for request in REQUESTS]
    asked = [request.prompt for request in REQUESTS]
    return [
        np.asarray(image)
        for image in pipeline(asked, generator=generators, num_inference_steps=3, guidance_scale=3.0).images
    ]


def same(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_a_single_file_keeps_the_contract_as_a_user_opens_it(text, held, config, tmp_path):
    saved(tmp_path / "model.safetensors", held)
    shutil.copytree(config, tmp_path / "config")
    model = models.open("diffusers:model.safetensors?config=config", Options(steps=3), relative_to=tmp_path)
    check_model(model, ["a red hat", None])
    assert model.name == "StableDiffusionPipeline"
    assert same(model.generate(REQUESTS), Diffusers(str(text), Options(steps=3), tmp_path).generate(REQUESTS))


def test_it_draws_what_diffusers_draws_from_it(held, config, tmp_path):
    file = saved(tmp_path / "model.safetensors", held)
    bare = StableDiffusionPipeline.from_single_file(str(file), config=str(config), local_files_only=True)
    assert same(opened(file, config).generate(REQUESTS), drawn(bare))


def test_a_file_with_the_text_encoder_of_open_clip_is_read_as_diffusers_reads_it(text, config, tmp_path):
    clip = open_clip(text, "text_encoder", "cond_stage_model.model.")
    clip["cond_stage_model.model.transformer.resblocks.1.ln_1.weight"] = torch.ones(16)  # which versions 2 do not ask
    file = saved(tmp_path / "two.safetensors", painters(text) | clip)
    bare = StableDiffusionPipeline.from_single_file(str(file), config=str(config), local_files_only=True)
    assert same(opened(file, config).generate(REQUESTS), drawn(bare))


def test_a_larger_file_is_read_whole(xl, tmp_path):
    file = saved(tmp_path / "xl.safetensors", larger(xl))
    model = opened(file, configured(xl, tmp_path / "config"))
    assert same(model.generate(REQUESTS), drawn(StableDiffusionXLPipeline.from_pretrained(xl)))


def test_original_names_of_an_autoencoder_are_those_that_diffusers_converts_from(text):
    held = tensors(text, "vae")
    names = layouts.vae(held)
    config = json.loads((text / "vae/config.json").read_text())
    back = convert_ldm_vae_checkpoint({f"first_stage_model.{names[key]}": held[key] for key in held}, config)
    assert back.keys() == held.keys()
    assert all(back[key] is held[key] for key in held)


def test_opening_reads_no_weights_and_imports_no_library(held, config, tmp_path):
    file = saved(tmp_path / "model.safetensors", held)
    code = (
        "import sys; from byrote import models; from byrote.models import Options;"
        f"m = models.open('diffusers:{file}?config={config}', Options()); m.name, m.digest, m.takes_text, m.tolerance;"
        "sys.exit(any(name in sys.modules for name in ('torch', 'diffusers', 'transformers', 'huggingface_hub')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_part_that_the_file_lacks_comes_from_the_folder(text, held, tmp_path):
    pruned = {key: tensor for key, tensor in held.items() if not key.startswith("first_stage_model.")}
    file = saved(tmp_path / "model.safetensors", pruned)
    assert same(
        opened(file, text).generate(REQUESTS),
        opened(saved(tmp_path / "all.safetensors", held), text).generate(REQUESTS),
    )
    refused(file, configured(text, tmp_path / "config"), "has no vae", "config", "wants one")


def test_half_precision_is_loaded_in_the_dtype_of_the_plan(held, config, tmp_path):
    file = saved(
        tmp_path / "model.safetensors", {key: t.half() if t.is_floating_point() else t for key, t in held.items()}
    )
    assert {
        part.dtype for part in (opened(file, config)._pipeline.unet, opened(file, config)._pipeline.text_encoder)
    } == {torch.float32}


def test_the_digest_covers_file_and_configuration(text, held, config, tmp_path):
    file = saved(tmp_path / "model.safetensors", held)
    one = opened(file, config).digest
    changed = held | {"model.diffusion_model.out.2.bias": held["model.diffusion_model.out.2.bias"] + 1}
    two = opened(saved(tmp_path / "model.safetensors", changed), config).digest
    other = configured(text, tmp_path / "config")
    scheduler = other / "scheduler/scheduler_config.json"
    scheduler.write_text(json.dumps(json.loads(scheduler.read_text()) | {"beta_end": 0.01}))
    three = opened(file, other).digest
    assert len({one, two, three, Diffusers(str(text), Options(), tmp_path).digest}) == 4


def test_a_lora_is_laid_over_a_single_file(held, config, tmp_path):
    file = saved(tmp_path / "model.safetensors", held)
    place = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
    lora = saved(
        tmp_path / "l.safetensors",
        {f"{place}.lora_down.weight": torch.ones(1, 16), f"{place}.lora_up.weight": torch.ones(16, 1)},
    )
    own, made = opened(file, config), opened(file, config, lora=(str(lora),))
    before, after = (
        one._pipeline.unet.mid_block.attentions[0].transformer_blocks[0].attn1.to_q.weight for one in (own, made)
    )
    assert torch.allclose(after, before + 1)
    assert own.digest != made.digest


def refused(file: Path, config: Path | None, *words: str, **options: object) -> None:
    with pytest.raises(ModelError) as caught:
        opened(file, config, **options)
    line = str(caught.value)
    assert "\n" not in line
    assert all(word in line for word in words), line


def refused_to_load(file: Path, config: Path, *words: str) -> None:
    with pytest.raises(ModelError) as caught:
        opened(file, config).generate(REQUESTS)
    line = str(caught.value)
    assert "\n" not in line
    assert all(word in line for word in words), line


def test_a_missing_configuration_is_told_with_where_one_is_to_be_had(text, held, tmp_path):
    file = saved(tmp_path / "model.safetensors", held)
    refused(file, None, "model.safetensors", "?config=FOLDER", "hf download")
    key = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
    file = saved(tmp_path / "model.safetensors", held | {key: torch.ones(320, 768)})
    refused(file, None, "stable-diffusion-v1-5/stable-diffusion-v1-5")
    refused(file, tmp_path / "nowhere", "config", "nowhere", "is no folder")
    refused(text, text, "config is for a single file")


@pytest.mark.parametrize(
    ("name", "held", "words"),
    [
        ("old.ckpt", {}, ["pickle", "refused", "save_pretrained"]),
        ("old.gguf", {}, ["no .safetensors file"]),
        ("none.safetensors", {}, ["holds no tensors"]),
        ("lora.safetensors", {"lora_unet_a.lora_up.weight": torch.ones(1)}, ["it is a LoRA"]),
        ("flux.safetensors", {"double_blocks.0.img_attn.qkv.weight": torch.ones(1)}, ["Flux", "save_pretrained"]),
    ],
)
def test_another_kind_of_file_is_refused_with_the_way_out(config, tmp_path, name, held, words):
    refused(saved(tmp_path / name, held), config, name, *words)


@pytest.mark.parametrize("kept", [0, 8, 500, -1])
def test_a_truncated_file_is_named(held, config, tmp_path, kept):
    file = saved(tmp_path / "model.safetensors", held)
    file.write_bytes(file.read_bytes()[:kept])
    refused(file, config, "model.safetensors", "truncated or damaged")


def test_a_missing_tensor_and_one_too_many_are_named(held, config, tmp_path):
    key = "model.diffusion_model.middle_block.0.in_layers.2.weight"
    file = saved(tmp_path / "less.safetensors", {name: tensor for name, tensor in held.items() if name != key})
    refused_to_load(file, config, "lacks", key, "mid_block.resnets.0.conv1.weight")
    file = saved(tmp_path / "more.safetensors", held | {"model.diffusion_model.extra.weight": torch.ones(2)})
    refused_to_load(file, config, "1 tensors", "model.diffusion_model.extra.weight", "another architecture")


def test_the_configuration_of_another_model_is_found_out(xl, held, config, tmp_path):
    file = saved(tmp_path / "model.safetensors", held)
    refused(file, configured(xl, tmp_path / "xl"), "has no text_encoder_2", "of another model?")
    other = Path(shutil.copytree(config, tmp_path / "config"))
    unet = other / "unet/config.json"
    unet.write_text(json.dumps(json.loads(unet.read_text()) | {"cross_attention_dim": 12}))
    refused_to_load(file, other, "[8, 16]", "[8, 12]", "another architecture")
    plain = tiny.unconditional(tmp_path / "plain")
    refused(file, configured(plain, tmp_path / "bare"), "vae", "DDPMPipeline without one")


@pytest.mark.parametrize(
    ("mark", "scheduler"),
    [("v_pred", {"prediction_type": "v_prediction"}), ("ztsnr", {"rescale_betas_zero_snr": True})],
)
def test_a_mark_of_what_it_predicts_must_be_that_of_the_configuration(held, config, tmp_path, mark, scheduler):
    file = saved(tmp_path / "model.safetensors", held | {mark: torch.tensor([])})
    refused(file, config, mark, *map(str, scheduler))
    other = Path(shutil.copytree(config, tmp_path / "config"))
    own = other / "scheduler/scheduler_config.json"
    own.write_text(json.dumps(json.loads(own.read_text()) | scheduler))
    assert len(opened(file, other).generate(REQUESTS)) == 2


def test_a_single_file_has_no_variant_and_no_revision(held, config, tmp_path):
    file = saved(tmp_path / "model.safetensors", held)
    refused(file, config, "variant 'fp16'", variant="fp16")
    refused(file, config, "revision 'main'", revision="main")
