"""Names of the layouts in which Stable Diffusion and Flux were published, for the names that diffusers gives.

The original code is CompVis/latent-diffusion (Rombach et al. 2022, arXiv:2112.10752), for XL
Stability-AI/generative-models, for 3 Stability-AI/sd3.5, for Flux black-forest-labs/flux; OpenCLIP is
mlfoundations/open_clip. Nothing but text is handled here: a name is that of a tensor or of a module, with dots.
"""

import re
from collections.abc import Iterable

OUTER = {
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}
RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
OPEN_CLIP = {
    "embeddings.token_embedding.": "token_embedding.",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm.": "ln_final.",
    "encoder.layers.": "transformer.resblocks.",
    ".layer_norm1.": ".ln_1.",
    ".layer_norm2.": ".ln_2.",
    ".mlp.fc1.": ".mlp.c_fc.",
    ".mlp.fc2.": ".mlp.c_proj.",
    ".self_attn.out_proj.": ".attn.out_proj.",
    "text_projection.weight": "text_projection",
}
JOINT = "transformer_blocks.{}."
SINGLE = "single_transformer_blocks.{}."
QKV = ("attn.to_q", "attn.to_k", "attn.to_v")
ADDED_QKV = ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj")
TRANSFORMERS = {
    "double_blocks.{}.img_attn.qkv": (JOINT, QKV),
    "double_blocks.{}.img_attn.proj": (JOINT, ("attn.to_out.0",)),
    "double_blocks.{}.img_mlp.0": (JOINT, ("ff.net.0.proj",)),
    "double_blocks.{}.img_mlp.2": (JOINT, ("ff.net.2",)),
    "double_blocks.{}.img_mod.lin": (JOINT, ("norm1.linear",)),
    "double_blocks.{}.txt_attn.qkv": (JOINT, ADDED_QKV),
    "double_blocks.{}.txt_attn.proj": (JOINT, ("attn.to_add_out",)),
    "double_blocks.{}.txt_mlp.0": (JOINT, ("ff_context.net.0.proj",)),
    "double_blocks.{}.txt_mlp.2": (JOINT, ("ff_context.net.2",)),
    "double_blocks.{}.txt_mod.lin": (JOINT, ("norm1_context.linear",)),
    "single_blocks.{}.linear1": (SINGLE, (*QKV, "proj_mlp")),
    "single_blocks.{}.linear2": (SINGLE, ("proj_out",)),
    "single_blocks.{}.modulation.lin": (SINGLE, ("norm.linear",)),
    "joint_blocks.{}.x_block.attn.qkv": (JOINT, QKV),
    "joint_blocks.{}.x_block.attn.proj": (JOINT, ("attn.to_out.0",)),
    "joint_blocks.{}.x_block.attn2.qkv": (JOINT, ("attn2.to_q", "attn2.to_k", "attn2.to_v")),
    "joint_blocks.{}.x_block.attn2.proj": (JOINT, ("attn2.to_out.0",)),
    "joint_blocks.{}.x_block.mlp.fc1": (JOINT, ("ff.net.0.proj",)),
    "joint_blocks.{}.x_block.mlp.fc2": (JOINT, ("ff.net.2",)),
    "joint_blocks.{}.context_block.attn.qkv": (JOINT, ADDED_QKV),
    "joint_blocks.{}.context_block.attn.proj": (JOINT, ("attn.to_add_out",)),
    "joint_blocks.{}.context_block.mlp.fc1": (JOINT, ("ff_context.net.0.proj",)),
    "joint_blocks.{}.context_block.mlp.fc2": (JOINT, ("ff_context.net.2",)),
}
"""Layers of Flux (double and single blocks) and SD 3 (joint blocks), and what they are in diffusers, row below row."""


def unet(names: Iterable[str]) -> dict[str, str]:
    """Return the original name of each name of a UNet2DConditionModel; all its names count the blocks."""
    names = list(names)
    inputs, outputs = _places(names, "down", first=1), _places(names, "up", first=0)
    attentive = {int(found[1]) for name in names if (found := re.match(r"up_blocks\.(\d+)\.attentions\.", name))}
    return {name: _unet(name, inputs, outputs, attentive) for name in names}


def vae(names: Iterable[str]) -> dict[str, str]:
    """Return the original name of each name of an AutoencoderKL."""
    names = list(names)
    found = (re.match(r"decoder\.up_blocks\.(\d+)\.", name) for name in names)
    last = max((int(block[1]) for block in found if block), default=0)
    return {name: _vae(name, last) for name in names}


def transformer(names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return the layers that each original layer of Flux or SD 3 is made of, in the order of its rows."""
    names = set(names)
    blocks = {found[1] for name in names if (found := re.match(r"(?:single_)?transformer_blocks\.(\d+)\.", name))}
    made = {
        original.format(block): tuple(where.format(block) + layer for layer in layers)
        for original, (where, layers) in TRANSFORMERS.items()
        for block in blocks
    }
    return {original: layers for original, layers in made.items() if names.issuperset(layers)}


def open_clip(name: str) -> tuple[str, int | None]:
    """Return the original name of a text encoder's tensor, and which third of it where q, k and v are one."""
    name = name.removeprefix("text_model.")
    joined = re.fullmatch(r"encoder\.layers\.(\d+)\.self_attn\.([qkv])_proj\.(weight|bias)", name)
    if joined:
        layer, which, kind = joined.groups()
        return f"transformer.resblocks.{layer}.attn.in_proj_{kind}", "qkv".index(which)
    for new, old in OPEN_CLIP.items():
        name = name.replace(new, old)
    return name, None


def _places(names: list[str], side: str, *, first: int) -> list[int]:
    """Return the numbers that the input or output blocks of each down or up block start with, and the end."""
    counted = r"_blocks\.(\d+)\.(resnets|downsamplers)\.(\d+)\."
    held = {found.groups() for name in names if (found := re.match(side + counted, name))}
    blocks = 1 + max((int(block) for block, _, _ in held), default=-1)
    sizes = [sum(int(block) == k for block, _, _ in held) for k in range(blocks)]
    return [first + sum(sizes[:k]) for k in range(blocks + 1)]


def _unet(name: str, inputs: list[int], outputs: list[int], attentive: set[int]) -> str:
    if found := re.fullmatch(r"(down|up)_blocks\.(\d+)\.(resnets|attentions)\.(\d+)\.(.+)", name):
        side, block, kind, layer, rest = found.groups()
        where, starts = ("input_blocks", inputs) if side == "down" else ("output_blocks", outputs)
        return f"{where}.{starts[int(block)] + int(layer)}.{_inner(kind, rest)}"
    if found := re.fullmatch(r"mid_block\.(resnets|attentions)\.(\d+)\.(.+)", name):
        kind, layer, rest = found.groups()
        return f"middle_block.{2 * int(layer) if kind == 'resnets' else 1}.{_inner(kind, rest)[2:]}"
    if found := re.fullmatch(r"down_blocks\.(\d+)\.downsamplers\.0\.conv(.*)", name):
        return f"input_blocks.{inputs[int(found[1]) + 1] - 1}.0.op{found[2]}"
    if found := re.fullmatch(r"up_blocks\.(\d+)\.upsamplers\.0\.conv(.*)", name):
        block = int(found[1])
        return f"output_blocks.{outputs[block + 1] - 1}.{2 if block in attentive else 1}.conv{found[2]}"
    return _swapped(name, OUTER)


def _inner(kind: str, rest: str) -> str:
    return f"0.{_swapped(rest, RESNET)}" if kind == "resnets" else f"1.{rest}"


def _vae(name: str, last: int) -> str:
    name = re.sub(r"conv_shortcut", "nin_shortcut", name)
    name = re.sub(r"conv_norm_out", "norm_out", name)
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda found: f"mid.block_{int(found[1]) + 1}", name)
    name = re.sub(r"(up|down)_blocks\.(\d+)\.(up|down)samplers\.0", r"\1_blocks.\2.\3sample", name)
    name = re.sub(r"down_blocks\.(\d+)", r"down.\1", name).replace(".resnets.", ".block.")
    name = re.sub(r"up_blocks\.(\d+)", lambda found: f"up.{last - int(found[1])}", name)
    if found := re.fullmatch(r"(.*)mid_block\.attentions\.0\.(.+)", name):
        return f"{found[1]}mid.attn_1.{_swapped(found[2], VAE_ATTENTION)}"
    return name


def _swapped(name: str, names: dict[str, str]) -> str:
    """Swap the beginning of a name."""
    for new, old in names.items():
        if name == new or name.startswith(f"{new}."):
            return old + name.removeprefix(new)
    return name
