"""What is laid over a diffusers pipeline, against low-rank layers that run beside its own and against diffusers."""

import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint
from safetensors.torch import load_file, save_file

import byrote.demo
from byrote.errors import ModelError
from byrote.models import Options, Request, layouts
from byrote.models.diffusers import Diffusers
from byrote.models.folders import digest_of
from byrote.testing import check_model

from . import architectures, tiny

pytestmark = pytest.mark.filterwarnings(r"ignore:__array__:DeprecationWarning:diffusers\..*")

DEMO = Path(byrote.demo.__file__).parent / "model"
REQUESTS = [Request("a red hat", 1), Request("a blue coat", 2)]
RANK, ALPHA = 3, 6.0
UNET = {
    "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q": (8, 8),
    "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k": (8, 16),
    "up_blocks.1.attentions.1.transformer_blocks.0.attn1.to_out.0": (8, 8),
    "mid_block.attentions.0.transformer_blocks.0.attn2.to_v": (16, 16),
}
TEXT = {"encoder.layers.0.self_attn.q_proj": (16, 16), "encoder.layers.0.self_attn.out_proj": (16, 16)}
FLAT = "lora_unet_" + next(iter(UNET)).replace(".", "_")
Matrices = Mapping[str, tuple[torch.Tensor, torch.Tensor]]  # down [rank, in], up [out, rank] by layer


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.stable_diffusion(tmp_path_factory.mktemp("text"))


@pytest.fixture(scope="module")
def xl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.stable_diffusion_xl(tmp_path_factory.mktemp("xl"))


@pytest.fixture(scope="module")
def expected(text: Path) -> list[np.ndarray]:
    """Return what the pipeline draws with the low-rank layers of `matrices()` beside its own, at weight 1."""
    return beside(text, matrices(), ALPHA / RANK)


@pytest.fixture(scope="module")
def plain(text: Path) -> list[np.ndarray]:
    return opened(text).generate(REQUESTS)


def opened(folder: Path, **options: object) -> Diffusers:
    return Diffusers(str(folder), Options(**({"steps": 3, "guidance": 3.0} | options)), Path.cwd())


def matrices(seed: int = 0) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    layers = {f"unet.{name}": shape for name, shape in UNET.items()}
    layers |= {f"text_encoder.{name}": shape for name, shape in TEXT.items()}
    return {
        name: (torch.randn(RANK, wide, generator=generator), torch.randn(high, RANK, generator=generator))
        for name, (high, wide) in layers.items()
    }


def beside(folder: Path, layers: Matrices, scale: float) -> list[np.ndarray]:
    """Draw with bare diffusers while scale B A x is added to what each layer gives."""
    bare = StableDiffusionPipeline.from_pretrained(folder)
    for name, (down, up) in layers.items():
        part, _, layer = name.partition(".")
        module = getattr(bare, part).get_submodule(layer)
        module.register_forward_hook(lambda _, given, made, d=down, u=up: made + scale * given[0] @ d.T @ u.T)
    generators = [torch.Generator().manual_seed(request.seed) for request in REQUESTS]
    prompts = [request.prompt for request in REQUESTS]
    made = bare(prompts, generator=generators, num_inference_steps=3, guidance_scale=3.0).images
    return [np.asarray(image) for image in made]


def apart(a: list[np.ndarray], b: list[np.ndarray]) -> int:
    return max(int(np.abs(x.astype(int) - y).max()) for x, y in zip(a, b, strict=True))


def kohya(layers: Matrices) -> dict[str, torch.Tensor]:
    held = {}
    for name, (down, up) in layers.items():
        place = name.replace("unet.", "lora_unet_").replace("text_encoder.", "lora_te_text_model_").replace(".", "_")
        held |= {
            f"{place}.lora_down.weight": down,
            f"{place}.lora_up.weight": up,
            f"{place}.alpha": torch.tensor(ALPHA),
        }
    return held


def original(layers: Matrices) -> dict[str, torch.Tensor]:
    """Name the U-Net's layers as the original code of Stable Diffusion does, which kohya's XL files follow."""
    names = {"down_blocks_0_attentions_0": "input_blocks_1_1", "up_blocks_1_attentions_1": "output_blocks_3_1"}
    names |= {"mid_block_attentions_0": "middle_block_1"}
    return {re.sub("|".join(names), lambda found: names[found[0]], name): held for name, held in kohya(layers).items()}


def peft(layers: Matrices, *, half: tuple[str, str] = ("lora_A", "lora_B"), scale: float = ALPHA / RANK) -> dict:
    """Name the layers as diffusers does; without alphas, so that the scale must be in the matrices."""
    names = {name.replace("text_encoder.", "text_encoder.text_model."): held for name, held in layers.items()}
    down = {f"{name}.{half[0]}.weight": down for name, (down, _) in names.items()}
    return down | {f"{name}.{half[1]}.weight": (up * scale).contiguous() for name, (_, up) in names.items()}


def processors(layers: Matrices) -> dict[str, torch.Tensor]:
    """Name the layers as early diffusers did, after the processors of attention."""
    held = {}
    for key, tensor in peft(layers, half=("lora.down", "lora.up")).items():
        name = re.sub(r"(attn\d)\.(to_[qkv])\.lora", r"\1.processor.\2_lora", key)
        plain = re.sub(r"(attn\d)\.to_out\.0\.lora", r"\1.processor.to_out_lora", name)
        held[re.sub(r"self_attn\.(q|out)_proj\.lora", r"self_attn.to_\1_lora", plain)] = tensor
    return held


LAYOUTS: dict[str, Callable[[Matrices], dict[str, torch.Tensor]]] = {
    "kohya": kohya,
    "kohya in the original names": original,
    "peft": peft,
    "diffusers": lambda layers: peft(layers, half=("lora.down", "lora.up")),
    "linear layers": lambda layers: peft(layers, half=("lora_linear_layer.down", "lora_linear_layer.up")),
    "processors": processors,
}


def saved(path: Path, held: dict[str, torch.Tensor], **metadata: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(held, path, metadata=metadata or None)
    return path


def lora(folder: Path, held: dict[str, torch.Tensor] | None = None, **metadata: str) -> str:
    return str(saved(folder / "lora.safetensors", kohya(matrices()) if held is None else held, **metadata))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_lora_draws_as_low_rank_layers_beside_the_models_own_in_each_layout(text, tmp_path, expected, plain, layout):
    made = opened(text, lora=(lora(tmp_path, LAYOUTS[layout](matrices())),)).generate(REQUESTS)
    assert apart(made, expected) <= 2
    assert apart(plain, expected) > 20


def test_a_lora_of_convolutions_is_added_as_a_convolution_after_another(text, tmp_path):
    down, up = torch.randn(2, 8, 3, 3), torch.randn(8, 2, 1, 1)
    name = "down_blocks.0.resnets.0.conv1"
    place = "lora_unet_" + name.replace(".", "_")
    model = opened(text, lora=(lora(tmp_path, {f"{place}.lora_down.weight": down, f"{place}.lora_up.weight": up}),))
    x = torch.randn(1, 8, 6, 6)
    own, made = (one.get_submodule(name) for one in (opened(text)._pipeline.unet, model._pipeline.unet))
    slow = own(x) + torch.nn.functional.conv2d(torch.nn.functional.conv2d(x, down, padding=1), up)
    assert torch.allclose(made(x), slow, atol=1e-4)


def test_several_are_added_up_each_with_its_weight(text, tmp_path):
    first, second = (lora(tmp_path / str(seed), kohya(matrices(seed))) for seed in (1, 2))
    own, made = opened(text)._pipeline, opened(text, lora=(f"{first}@0.8", f"{second}@-0.25"))._pipeline
    for name, (down, up) in matrices(1).items():
        other_down, other_up = matrices(2)[name]
        part, _, layer = name.partition(".")
        delta = (ALPHA / RANK) * (0.8 * up @ down - 0.25 * other_up @ other_down)
        before, after = (getattr(one, part).get_submodule(layer).weight for one in (own, made))
        assert torch.allclose(after, before + delta, atol=1e-4)
    touched = {f"{name}.weight" for name in UNET}
    rest = {key: tensor for key, tensor in made.unet.state_dict().items() if key not in touched}
    assert all(torch.equal(tensor, own.unet.state_dict()[key]) for key, tensor in rest.items())


def test_a_weight_of_nothing_draws_what_the_model_draws(text, tmp_path, plain):
    made = opened(text, lora=(lora(tmp_path) + "@0",)).generate(REQUESTS)
    assert apart(made, plain) == 0


def test_the_alpha_that_diffusers_writes_in_the_header_is_followed(text, tmp_path, expected):
    said = {"unet.r": RANK, "unet.lora_alpha": ALPHA, "unet.alpha_pattern": {}, "text_encoder.lora_alpha": 1}
    said["text_encoder.alpha_pattern"] = {name.rpartition(".")[2]: ALPHA for name in TEXT}
    file = lora(tmp_path, peft(matrices(), scale=1.0), lora_adapter_metadata=json.dumps(said))
    assert apart(opened(text, lora=(file,)).generate(REQUESTS), expected) <= 2


@pytest.mark.parametrize(("rooted", "alpha"), [(False, ALPHA), (True, ALPHA / RANK**0.5)])
def test_a_folder_of_peft_is_read_with_its_alpha(text, tmp_path, rooted, alpha):
    layers = {name: held for name, held in matrices().items() if name.startswith("unet.")}
    held = {name.replace("unet.", "base_model.model."): tensor for name, tensor in peft(layers, scale=1.0).items()}
    saved(tmp_path / "adapter_model.safetensors", held)
    config = {"lora_alpha": alpha, "r": RANK, "use_rslora": rooted}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    made = opened(text, lora=(str(tmp_path),))
    assert apart(made.generate(REQUESTS), beside(text, layers, ALPHA / RANK)) <= 2
    first = made.digest
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | {"lora_alpha": 1}))
    assert opened(text, lora=(str(tmp_path),)).digest != first


def test_a_folder_stands_for_the_lora_in_it_and_its_path_starts_from_the_plan(text, tmp_path, expected):
    saved(tmp_path / "mine/pytorch_lora_weights.safetensors", kohya(matrices()))
    options = Options(steps=3, guidance=3.0, lora=("mine@1",))
    assert apart(Diffusers(str(text), options, tmp_path).generate(REQUESTS), expected) <= 2


def test_a_lora_over_a_larger_model_reaches_both_encoders(xl, tmp_path):
    down, up = torch.randn(2, 16), torch.randn(16, 2)
    places = [f"lora_te{k}_text_model_encoder_layers_0_mlp_fc1" for k in (1, 2)]
    held = {f"{place}.lora_down.weight": down.clone() for place in places}
    held |= {f"{place}.lora_up.weight": torch.cat([up, up]) * (k + 1) for k, place in enumerate(places)}
    own, made = opened(xl)._pipeline, opened(xl, lora=(lora(tmp_path, held),))._pipeline
    for k, name in enumerate(("text_encoder", "text_encoder_2")):
        before, after = (
            next(held for key, held in getattr(one, name).named_parameters() if key.endswith("layers.0.mlp.fc1.weight"))
            for one in (own, made)
        )
        assert torch.allclose(after - before, (k + 1) * torch.cat([up, up]) @ down, atol=1e-4)


PROJECTED = "single_transformer_blocks.0.proj_mlp"
FUSED = {
    "lora_unet_double_blocks_0_img_attn_qkv": "transformer_blocks.0.attn.to_{q,k,v}",
    "lora_unet_double_blocks_0_txt_attn_qkv": "transformer_blocks.0.attn.add_{q,k,v}_proj",
    "lora_unet_double_blocks_0_txt_mlp_2": "transformer_blocks.0.ff_context.net.2",
    "lora_unet_single_blocks_0_linear1": "single_transformer_blocks.0.attn.to_{q,k,v} " + PROJECTED,
    "lora_unet_single_blocks_0_linear2": "single_transformer_blocks.0.proj_out",
}
JOINT = {
    "lora_unet_joint_blocks_0_x_block_attn_qkv": "transformer_blocks.0.attn.to_{q,k,v}",
    "lora_unet_joint_blocks_0_x_block_mlp_fc1": "transformer_blocks.0.ff.net.0.proj",
    "diffusion_model.joint_blocks.0.context_block.attn.qkv": "transformer_blocks.0.attn.add_{q,k,v}_proj",
}


@pytest.mark.parametrize(("make", "places"), [(architectures.flux, FUSED), (architectures.stable_diffusion_3, JOINT)])
def test_layers_that_are_one_in_the_original_code_get_their_own_rows(tmp_path, make, places):
    folder = make(tmp_path / "model")
    own = opened(folder, guidance=None)._pipeline.transformer
    held, expected = {}, {}
    for place, layers in places.items():
        names = re.sub(
            r"(\S*)\{q,k,v\}(\S*)", lambda found: " ".join(f"{found[1]}{c}{found[2]}" for c in "qkv"), layers
        )
        layer = [own.get_submodule(name) for name in names.split()]
        down, up = torch.randn(2, layer[0].in_features), torch.randn(sum(one.out_features for one in layer), 2)
        held |= {f"{place}.lora_down.weight": down, f"{place}.lora_up.weight": up}
        rows = (up @ down).split([one.out_features for one in layer])
        expected |= {
            f"{name}.weight": one.weight + more for name, one, more in zip(names.split(), layer, rows, strict=True)
        }
    made = opened(folder, guidance=None, lora=(lora(tmp_path, held),))._pipeline.transformer.state_dict()
    assert all(torch.allclose(made[name], weight, atol=1e-4) for name, weight in expected.items())
    assert all(torch.equal(made[name], weight) for name, weight in own.state_dict().items() if name not in expected)


def test_original_names_of_a_unet_are_those_that_diffusers_converts_from():
    for more in ({}, {"addition_embed_type": "text_time", "projection_class_embeddings_input_dim": 24}):
        unet = UNet2DConditionModel(
            block_out_channels=(4, 4, 4),
            down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=4,
            attention_head_dim=2,
            norm_num_groups=2,
            addition_time_embed_dim=4,
            **more,
        )
        held = unet.state_dict()
        names = layouts.unet(held)
        back = convert_ldm_unet_checkpoint(
            {f"model.diffusion_model.{names[key]}": held[key] for key in held}, unet.config
        )
        assert back.keys() == held.keys()
        assert all(back[key] is held[key] for key in held)


def test_the_digest_covers_bytes_and_weights_and_without_additions_is_what_it_was(text, tmp_path):
    first, second = (lora(tmp_path / str(seed), kohya(matrices(seed))) for seed in (1, 2))
    hat = str(saved(tmp_path / "hat.safetensors", {"emb_params": torch.ones(1, 16)}))
    cap = str(saved(tmp_path / "cap/hat.safetensors", {"emb_params": torch.zeros(1, 16)}))
    folder = opened(text)._folder
    bare = opened(text).digest
    assert bare == digest_of(folder.path, folder.files)
    others = [
        opened(text, **over).digest
        for over in (
            {"lora": (first,)},
            {"lora": (f"{first}@0.8",)},
            {"lora": (f"{first}@0.9",)},
            {"lora": (f"{second}@0.9",)},
            {"lora": (f"{first}@0.9", f"{second}@0.9")},
            {"embeddings": (hat,)},
            {"embeddings": (cap,)},
            {"embeddings": (f"{hat}@<hat>",)},
            {"embeddings": (hat,), "lora": (first,)},
        )
    ]
    assert len({bare, *others}) == 1 + len(others)
    assert opened(text, lora=(f"{first}@0.80",)).digest == others[1]


def test_the_demos_model_with_a_lora_keeps_the_contract(tmp_path):
    layers = ["down_blocks.0.attentions.0", "up_blocks.1.attentions.0", "mid_block.attentions.0"]
    generator = torch.Generator().manual_seed(0)
    held = {}
    for layer, wide in zip(layers, (56, 56, 112), strict=True):
        for which, inner in (("attn1.to_q", wide), ("attn2.to_v", 64)):
            place = f"unet.{layer}.transformer_blocks.0.{which}"
            held[f"{place}.lora_A.weight"] = torch.randn(4, inner, generator=generator)
            held[f"{place}.lora_B.weight"] = torch.randn(wide, 4, generator=generator)
    model = opened(DEMO, lora=(lora(tmp_path, held) + "@0.5",), steps=2)
    check_model(model, ["a red fox"])
    assert apart(model.generate(REQUESTS), opened(DEMO, steps=2).generate(REQUESTS)) > 20


def test_half_precision_is_added_to_in_single(text, tmp_path):
    own = opened(text)._pipeline.unet
    made = opened(text, lora=(lora(tmp_path),), dtype="float16")._pipeline.unet
    name = next(iter(UNET))
    down, up = matrices()[f"unet.{name}"]
    slow = own.get_submodule(name).weight.half().float() + (ALPHA / RANK) * up @ down
    assert torch.equal(made.get_submodule(name).weight, slow.half())


# Textual inversions


def asked(folder: Path, prompt: str, *files: tuple[Path, str]) -> np.ndarray:
    """Draw a prompt with bare diffusers after it has loaded the embeddings by itself."""
    bare = StableDiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    for file, token in files:
        bare.load_textual_inversion(str(file), token=token, local_files_only=True)
    generator = torch.Generator().manual_seed(1)
    return np.asarray(bare(prompt, generator=generator, num_inference_steps=3, guidance_scale=3.0).images[0])


@pytest.mark.parametrize(
    ("held", "said", "token"),
    [
        ({"<hat>": torch.full((16,), 2.0)}, "", "<hat>"),
        ({"<hat>": torch.arange(48.0).reshape(3, 16) % 7}, "", "<hat>"),
        ({"emb_params": torch.arange(48.0).reshape(3, 16) % 5}, "", "learned"),
        ({"emb_params": torch.full((1, 16), -2.0)}, "@hatty", "hatty"),
    ],
)
def test_a_prompt_with_the_token_is_drawn_as_diffusers_draws_it(text, tmp_path, held, said, token):
    file = saved(tmp_path / "learned.safetensors", held)
    model = opened(text, embeddings=(f"{file}{said}",))
    prompt = f"a {token} on red"
    made = model.generate([Request(prompt, 1)])
    assert apart(made, [asked(text, prompt, (file, token))]) <= 2
    assert apart(made, opened(text).generate([Request(prompt, 1)])) > 5
    assert apart(model.generate([Request("a red hat", 1)]), opened(text).generate([Request("a red hat", 1)])) == 0


def test_every_vector_of_a_token_with_capitals_is_read(text, tmp_path):
    file = saved(tmp_path / "EasyHat.safetensors", {"emb_params": torch.randn(3, 16)})
    pipeline = opened(text, embeddings=(str(file),))._pipeline
    words = pipeline.tokenizer.tokenize(pipeline.maybe_convert_prompt("a EasyHat", pipeline.tokenizer))
    assert words == ["a</w>", "EasyHat", "EasyHat_1", "EasyHat_2"]


def test_both_encoders_of_a_larger_model_learn_the_token(xl, tmp_path):
    held = {"clip_l": torch.full((2, 16), 1.0), "clip_g": torch.full((2, 16), -1.0)}
    pipeline = opened(xl, embeddings=(str(saved(tmp_path / "hat.safetensors", held)),))._pipeline
    for tokenizer, encoder, value in (
        (pipeline.tokenizer, pipeline.text_encoder, 1.0),
        (pipeline.tokenizer_2, pipeline.text_encoder_2, -1.0),
    ):
        row = tokenizer.convert_tokens_to_ids("hat_1")
        assert torch.equal(encoder.get_input_embeddings().weight[row], torch.full((16,), value))


def test_the_demos_model_learns_a_token(tmp_path):
    file = saved(tmp_path / "learned.safetensors", {"<mine>": torch.full((2, 64), 3.0)})
    prompt = "a photo of <mine>"
    made = opened(DEMO, embeddings=(str(file),)).generate([Request(prompt, 1)])
    assert apart(made, [asked(DEMO, prompt, (file, "<mine>"))]) <= 2
    assert apart(made, opened(DEMO).generate([Request(prompt, 1)])) > 20


# What is refused, when the model is opened


def refused(folder: Path, *words: str, **options: object) -> None:
    with pytest.raises(ModelError) as caught:
        opened(folder, **options)
    line = str(caught.value)
    assert "\n" not in line
    assert all(word in line for word in words), line


def pair(
    place: str = FLAT, *, wide: int = 8, high: int = 8, rank: int = 2, up_rank: int = 2
) -> dict[str, torch.Tensor]:
    return {f"{place}.lora_down.weight": torch.ones(rank, wide), f"{place}.lora_up.weight": torch.ones(high, up_rank)}


@pytest.mark.parametrize(
    ("held", "words"),
    [
        (pair("lora_unet_blocks_7_attn"), ["lora_unet_blocks_7_attn", "another architecture", "0 of the 1"]),
        (pair() | pair("unet.conv_inn"), ["unet.conv_inn", "1 of the 2"]),
        (pair(wide=9), ["[8, 9]", "[8, 8]", "another architecture"]),
        (pair(high=16), ["[16, 8]", "another architecture"]),
        (pair(rank=3), ["ranks", "[3, 8]", "[8, 2]"]),
        ({f"{FLAT}.lora_down.weight": torch.ones(2, 8)}, ["no up matrix"]),
        ({f"{FLAT}.lora_up.weight": torch.ones(2, 8)}, ["no down matrix"]),
        (pair() | {f"{FLAT}.alpha": torch.ones(3)}, ["alpha", "[3]"]),
        (pair() | {f"{FLAT}.dora_scale": torch.ones(1, 8)}, ["DoRA"]),
        ({f"{FLAT}.hada_w1_a": torch.ones(2, 8)}, ["LoHa"]),
        ({f"{FLAT}.lokr_w1": torch.ones(2, 8)}, ["LoKr"]),
        (pair() | {"conv_in.weight": torch.ones(2, 8)}, ["conv_in.weight", "no tensor of a LoRA"]),
        (pair() | pair("unet." + next(iter(UNET))), ["twice"]),
        (pair() | {f"{FLAT}.lora_A.weight": torch.ones(2, 8)}, ["two tensors for down"]),
        (pair(rank=0, up_rank=0), ["ranks"]),
        ({}, ["no tensors"]),
    ],
)
def test_a_lora_that_does_not_fit_is_refused_when_the_model_is_opened(text, tmp_path, held, words):
    refused(text, "lora.safetensors", *words, lora=(lora(tmp_path, held),))


def test_a_lora_of_another_architecture_is_refused(text, xl, tmp_path):
    refused(xl, "another architecture", lora=(lora(tmp_path),))
    plain = tiny.unconditional(tmp_path / "plain")
    with pytest.raises(ModelError, match="another architecture"):
        Diffusers(str(plain), Options(lora=(lora(tmp_path),)), Path.cwd())


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("nowhere.safetensors", ["nowhere.safetensors", "not there"]),
        ("lora.safetensors@much", ["'much'", "no number"]),
        ("lora.safetensors@nan", ["'nan'", "no number"]),
        ("lora.safetensors@", ["''", "no number"]),
        ("old.pt", ["old.pt", "pickle", "refused", "save_file"]),
        ("several", ["2 safetensors files"]),
        ("hub/name", ["not there"]),
    ],
)
def test_a_lora_that_cannot_be_meant_is_refused(text, tmp_path, given, words):
    lora(tmp_path)
    (tmp_path / "old.pt").write_bytes(b"pickle")
    for name in "ab":
        saved(tmp_path / "several" / f"{name}.safetensors", kohya(matrices()))
    refused(text, *words, lora=(str(tmp_path / given),))


@pytest.mark.parametrize("kept", [0, 5, 8, 200, -1])
def test_a_truncated_lora_is_named(text, tmp_path, kept):
    file = Path(lora(tmp_path))
    file.write_bytes(file.read_bytes()[:kept])
    refused(text, "lora.safetensors", "truncated or damaged", lora=(str(file),))


@pytest.mark.parametrize(
    "tensor",
    [
        {"dtype": "F32", "shape": [2, 9], "data_offsets": [0, 64]},
        {"dtype": "F32", "shape": [2, -8], "data_offsets": [0, 64]},
        {"dtype": "F32", "shape": "2, 8", "data_offsets": [0, 64]},
        {"dtype": "F32", "shape": [2, 8], "data_offsets": ["0", 64]},
        {"dtype": "P64", "shape": [2, 8], "data_offsets": [0, 64]},
        {"dtype": ["F32"], "shape": [2, 8], "data_offsets": [0, 64]},
        {"shape": [2, 8], "data_offsets": [0, 64]},
        {"dtype": "F32", "shape": [10**12, 10**12], "data_offsets": [0, 64]},
    ],
)
def test_a_header_that_lies_is_named(text, tmp_path, tensor):
    header = json.dumps({f"{FLAT}.lora_down.weight": tensor}).encode()
    (tmp_path / "lora.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(64))
    refused(text, "lora.safetensors", "copy it again", lora=(str(tmp_path / "lora.safetensors"),))


@pytest.mark.parametrize(
    "said", ["[", "[1]", '"x"', '{"unet.lora_alpha": "x"}', '{"unet.use_dora": true}', "{" * 10**5]
)
def test_what_a_lora_says_of_itself_must_be_readable(text, tmp_path, said):
    refused(text, "lora.safetensors", lora=(lora(tmp_path, peft(matrices()), lora_adapter_metadata=said),))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["lora_up.weight", "alpha"])
def test_a_lora_of_no_numbers_is_refused_before_anything_is_drawn(text, tmp_path, name, value):
    held = pair() | {f"{FLAT}.alpha": torch.tensor(1.0)}
    held[f"{FLAT}.{name}"] = torch.full_like(held[f"{FLAT}.{name}"], value)
    with pytest.raises(ModelError, match="no number"):
        opened(text, lora=(lora(tmp_path, held),)).generate(REQUESTS)


@pytest.mark.parametrize(
    ("held", "said", "words"),
    [
        ({"emb_params": torch.ones(1, 12)}, "", ["12 wide", "text_encoder 16"]),
        ({"clip_g": torch.ones(1, 16)}, "", ["text_encoder_2", "text_encoder 16"]),
        ({"emb_params": torch.ones(1, 16)}, "@0.8", ["'0.8'", "no weights"]),
        ({"emb_params": torch.ones(1, 16)}, "@two words", ["'two words'", "no token"]),
        ({"a": torch.ones(1, 16), "b": torch.ones(1, 16)}, "", ["2 tensors", "no textual inversion"]),
        ({"a": torch.ones(1, 1, 16)}, "", ["[1, 1, 16]", "no textual inversion"]),
        ({}, "", ["0 tensors"]),
    ],
)
def test_an_embedding_that_does_not_fit_is_refused_when_the_model_is_opened(text, tmp_path, held, said, words):
    file = saved(tmp_path / "hat.safetensors", held)
    refused(text, "hat.safetensors", *words, embeddings=(f"{file}{said}",))


def test_one_token_twice_is_refused_and_so_is_one_that_the_model_knows(text, tmp_path):
    first = saved(tmp_path / "hat.safetensors", {"emb_params": torch.ones(1, 16)})
    second = saved(tmp_path / "cap/hat.safetensors", {"emb_params": torch.ones(1, 16)})
    refused(text, "twice", "'hat'", embeddings=(str(first), str(second)))
    opened(text, embeddings=(str(first), f"{second}@cap"))
    with pytest.raises(ModelError, match="knows 'a</w>' already"):
        opened(text, embeddings=(f"{first}@a</w>",)).generate(REQUESTS)


def test_more_vectors_than_a_prompt_holds_are_refused(text, tmp_path):
    file = saved(tmp_path / "hat.safetensors", {"emb_params": torch.ones(15, 16)})
    with pytest.raises(ModelError, match="15 vectors"):
        opened(text, embeddings=(str(file),)).generate(REQUESTS)


def test_a_pickled_embedding_is_refused(text, tmp_path):
    (tmp_path / "learned_embeds.bin").write_bytes(b"pickle")
    refused(text, "pickle", "refused", embeddings=(str(tmp_path / "learned_embeds.bin"),))


# How a model is asked and held


def test_a_negative_prompt_is_that_of_the_bare_pipeline(text, plain):
    bare = StableDiffusionPipeline.from_pretrained(text)
    generators = [torch.Generator().manual_seed(request.seed) for request in REQUESTS]
    asked = [request.prompt for request in REQUESTS]
    made = bare(
        asked, negative_prompt=["blurred"] * 2, generator=generators, num_inference_steps=3, guidance_scale=3.0
    ).images
    ours = opened(text, negative="blurred").generate(REQUESTS)
    assert all(np.array_equal(a, np.asarray(b)) for a, b in zip(ours, made, strict=True))
    assert apart(ours, plain) > 0


def test_a_negative_prompt_that_nothing_would_read_is_refused(text, tmp_path):
    refused(text, "negative prompt 'blurred'", "guidance above 1", negative="blurred", guidance=1.0)
    with pytest.raises(ModelError, match="negative"):
        Diffusers(str(tiny.unconditional(tmp_path)), Options(negative="blurred"), Path.cwd())


def test_slices_change_no_more_than_the_tolerance(text, plain):
    model = opened(text, slicing=True)
    assert apart(model.generate(REQUESTS), plain) <= model.tolerance
    assert type(model._pipeline.unet.mid_block.attentions[0].transformer_blocks[0].attn1.processor).__name__ == (
        "SlicedAttnProcessor"
    )
    assert model._pipeline.vae.use_slicing


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
def test_a_compiled_denoiser_is_the_one_that_draws(text, plain):
    with torch.compiler.set_stance("force_eager"):  # compiling takes a minute; this asks for it and runs what was given
        model = opened(text, compile=True)
        assert apart(model.generate(REQUESTS), plain) <= model.tolerance
    assert model._pipeline.unet._compiled_call_impl is not None


def test_offloading_without_an_accelerator_is_refused(text):
    refused(text, "offload 'model'", "device 'cpu'", offload="model")
    refused(text, "offload 'sequental'", "did you mean 'sequential'", offload="sequental")


def test_a_variant_that_is_named_is_the_one_that_is_read(text, tmp_path):
    pipeline = StableDiffusionPipeline.from_pretrained(text)
    pipeline.save_pretrained(tmp_path)
    file = "unet/diffusion_pytorch_model"
    other = {key: tensor * 1.5 for key, tensor in load_file(tmp_path / f"{file}.safetensors").items()}
    save_file(other, tmp_path / f"{file}.ema_2.safetensors", {"format": "pt"})
    model = opened(tmp_path, variant="ema_2")
    assert torch.equal(model._pipeline.unet.conv_in.weight, pipeline.unet.conv_in.weight * 1.5)
    assert model.digest != opened(tmp_path).digest
    refused(tmp_path, "no weights of variant 'fp32'", variant="fp32")


def test_a_revision_of_a_folder_is_refused(text):
    refused(text, "revision 'main'", "folder", revision="main")
