"""What is laid over a diffusers pipeline: LoRA files, one or several with weights, and textual inversions.

A LoRA is added to the weights once, W + weight alpha / rank B A (Hu et al. 2021, arXiv:2106.09685, section 4.1), in
float32, and the pipeline stays what it was. So every way to hold a model works with it, a sample costs what it cost,
and a LoRA of 0 gives the model's own images. Files are safetensors of strangers: their headers are read and all that
they say is checked before a weight is; what fits no part of the model is an error, never passed over.
"""

import json
import math
import re
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from byrote.errors import ModelError
from byrote.models import layouts
from byrote.models.digests import together
from byrote.models.folders import PICKLES, Shape, digest_of, first_line, read_json
from byrote.models.folders import shapes as shapes_of

if TYPE_CHECKING:
    from torch import Tensor

Named = tuple[str, tuple[str, ...]]  # a name, and the layers that it stands for
Shapes = Mapping[str, Mapping[str, Shape]]  # of each part of a pipeline, of each of its tensors

LORA_NAMES = ("pytorch_lora_weights.safetensors", "adapter_model.safetensors")
EMBEDDING_NAMES = ("learned_embeds.safetensors",)
DENOISERS = ("unet", "transformer")
PREFIXES = {
    "lora_te_": "text_encoder_",
    "lora_te1_": "text_encoder_",
    "lora_te2_": "text_encoder_2_",
    "lora_te3_": "text_encoder_3_",
}
HALF = re.compile(
    r"(?P<place>.+?)(?:\.lora_linear_layer\.|\.lora_|\.lora\.|_lora\.)(?P<half>down|up|A|B)(?:\.default(?:_\d+)?)?\.weight"
)
ALPHA = re.compile(r".+\.alpha")
HALVES = {"down": "down", "A": "down", "up": "up", "B": "up"}
OTHER_KINDS = {"hada_": "LoHa", "lokr_": "LoKr", "dora_scale": "DoRA", "magnitude_vector": "DoRA", "oft_": "OFT"}
ENCODERS = {"clip_l": "text_encoder", "clip_g": "text_encoder_2"}


class Pair(NamedTuple):
    """Two low-rank matrices of a LoRA, by the names of their tensors. `scale` stands where no alpha does."""

    place: str
    down: str
    up: str
    alpha: str | None
    scale: float


class Target(NamedTuple):
    """A place of a model: a tensor of a part, or several that are one in other layouts, row below row."""

    part: str
    tensors: tuple[str, ...]


class Lora(NamedTuple):
    """A LoRA file whose header was read: each pair is whole and of one rank."""

    file: Path
    weight: float
    files: tuple[Path, ...]
    pairs: tuple[Pair, ...]
    shapes: dict[str, Shape]


class Embedding(NamedTuple):
    """A textual inversion whose header was read: a tensor's name for each text encoder ("" where it does not say)."""

    file: Path
    token: str
    names: dict[str, str]
    shapes: dict[str, Shape]


class Additions(NamedTuple):
    """All that is laid over one model, in the order in which it was named."""

    loras: tuple[Lora, ...]
    embeddings: tuple[Embedding, ...]


NOTHING = Additions((), ())


def opened(loras: Sequence[str], embeddings: Sequence[str], relative_to: Path) -> Additions:
    """Read the headers of `FILE` or `FILE@WEIGHT` LoRAs, and of `FILE` or `FILE@TOKEN` textual inversions."""
    return Additions(
        tuple(_lora(given, relative_to) for given in loras),
        tuple(_embedding(given, relative_to) for given in embeddings),
    )


def digest(base: str, additions: Additions) -> str:
    """Digest a model with what lies over it; with nothing over it, it keeps the digest that it has."""
    over = {f"lora {k} {one.weight!r}": digest_of(one.file.parent, one.files) for k, one in enumerate(additions.loras)}
    for k, embedding in enumerate(additions.embeddings):
        file = embedding.file
        over[f"embedding {k} {embedding.token!r}"] = digest_of(file.parent, [Path(file.name)])
    return together({"model": base} | over) if over else base


def check(additions: Additions, shapes: Shapes) -> None:
    """Raise ModelError where an addition was made for another model than one with tensors of these shapes."""
    for lora in additions.loras:
        _targets(lora, shapes)
    taught: set[tuple[str, str]] = set()
    for one in additions.embeddings:
        for encoder, name in one.names.items():
            taught.add((_encoder(one, encoder, name, shapes, taught), one.token))


def lay_over(pipeline: Any, additions: Additions) -> None:
    """Add the LoRAs to the pipeline's weights and the textual inversions to its vocabulary. Raises ModelError."""
    if not additions.loras and not additions.embeddings:
        return
    parts = {name: part for name, part in pipeline.components.items() if hasattr(part, "named_parameters")}
    held = {name: dict(part.named_parameters()) for name, part in parts.items()}
    shapes = {name: {key: tuple(tensor.shape) for key, tensor in own.items()} for name, own in held.items()}
    check(additions, shapes)
    for lora in additions.loras:
        _fuse(lora, held, shapes)
    taught: set[tuple[str, str]] = set()
    for one in additions.embeddings:
        loaded = _loaded(one.file)
        for encoder, name in one.names.items():
            part = _encoder(one, encoder, name, shapes, taught)
            taught.add((part, one.token))
            _teach(pipeline, part, one, loaded[name])


def _fuse(lora: Lora, held: Mapping[str, Mapping[str, "Tensor"]], shapes: Shapes) -> None:
    import torch

    loaded = _loaded(lora.file)
    with torch.no_grad():
        for pair, (part, names) in zip(lora.pairs, _targets(lora, shapes), strict=True):
            weights = [held[part][name] for name in names]
            down, up = loaded[pair.down].float(), loaded[pair.up].float()
            scale = pair.scale if pair.alpha is None else float(loaded[pair.alpha]) / len(down)
            delta = lora.weight * scale * (up.flatten(1) @ down.flatten(1))
            if not bool(torch.isfinite(delta).all()):
                raise ModelError(f"LoRA {lora.file}: {pair.place} holds what is no number: get the file again")
            for weight, rows in zip(weights, torch.split(delta, [len(weight) for weight in weights]), strict=True):
                weight.copy_(weight.float() + rows.reshape(weight.shape).to(weight.device))


def _teach(pipeline: Any, part: str, one: Embedding, vectors: "Tensor") -> None:
    """Add a token, or one for each vector, to the tokenizer and to the encoder beside it."""
    import torch
    from tokenizers import AddedToken

    tokenizer, encoder = getattr(pipeline, part.replace("text_encoder", "tokenizer"), None), getattr(pipeline, part)
    if tokenizer is None or not hasattr(pipeline, "maybe_convert_prompt"):
        raise ModelError(f"embedding {one.file}: a {type(pipeline).__name__} takes no textual inversion: leave it out")
    rows = vectors.reshape(-1, vectors.shape[-1])
    tokens = [one.token, *(f"{one.token}_{k}" for k in range(1, len(rows)))]
    if len(rows) > tokenizer.model_max_length - 2:
        raise ModelError(f"embedding {one.file} has {len(rows)} vectors: more than a prompt of the model holds")
    known = [token for token in tokens if token in tokenizer.get_vocab()]
    if known:
        raise ModelError(
            f"embedding {one.file}: the model knows {known[0]!r} already: give another name, {one.file.name}@TOKEN"
        )
    if not bool(torch.isfinite(rows).all()):
        raise ModelError(f"embedding {one.file} holds what is no number: get the file again")
    plain = [AddedToken(token, normalized=False) for token in tokens]  # else capitals are not found again
    tokenizer.add_tokens(plain)
    table = _widened(encoder, len(tokenizer))
    with torch.no_grad():
        table[tokenizer.convert_tokens_to_ids(tokens)] = rows.to(table)


def _widened(encoder: Any, rows: int) -> "Tensor":
    """Return the encoder's table of embeddings, with `rows` rows at least."""
    if encoder.get_input_embeddings().num_embeddings < rows:
        encoder.resize_token_embeddings(rows, mean_resizing=False)
    table: Tensor = encoder.get_input_embeddings().weight
    return table


def _lora(given: str, relative_to: Path) -> Lora:
    file, said = _split("LoRA", given, relative_to, LORA_NAMES)
    shapes = shapes_of(file.parent, Path(file.name))
    files = (Path(file.name), *([Path("adapter_config.json")] if _has_config(file) else []))
    return Lora(file, _weight(given, said), files, tuple(_pairs(file, shapes, _config(file))), shapes)


def _weight(given: str, said: str | None) -> float:
    try:
        weight = float(said) if said is not None else 1.0
    except ValueError:
        weight = math.nan
    if not math.isfinite(weight):
        raise ModelError(f"LoRA {given!r}: the weight {said!r} is no number: write FILE@WEIGHT, like a.safetensors@0.8")
    return weight


def _embedding(given: str, relative_to: Path) -> Embedding:
    file, said = _split("embedding", given, relative_to, EMBEDDING_NAMES)
    shapes = shapes_of(file.parent, Path(file.name))
    for name, shape in shapes.items():
        if len(shape) not in (1, 2) or 0 in shape:
            raise ModelError(f"embedding {file}: {name!r} is {list(shape)}, no vectors: this is no textual inversion")
    own, names = _said(file, shapes)
    token = own if said is None else said
    if not token.strip() or re.search(r"\s", token) or re.fullmatch(r"[-+.\d]+", token):
        raise ModelError(
            f"embedding {file}: {token!r} is no token (and there are no weights): write FILE or FILE@TOKEN"
        )
    return Embedding(file, token, names, shapes)


def _said(file: Path, shapes: Mapping[str, Shape]) -> tuple[str, dict[str, str]]:
    """Return token and tensors: A1111 names a token after its file, diffusers in it."""
    if set(shapes) == {"emb_params"}:
        return file.stem, {"": "emb_params"}
    if shapes and set(shapes) <= set(ENCODERS):
        return file.stem, {ENCODERS[name]: name for name in shapes}
    if len(shapes) == 1:
        return next(iter(shapes)), {"": next(iter(shapes))}
    raise ModelError(f"embedding {file} holds {len(shapes)} tensors: this is no textual inversion")


def _encoder(one: Embedding, encoder: str, name: str, shapes: Shapes, taught: set[tuple[str, str]]) -> str:
    """Return the text encoder, as wide as the vectors, that an embedding is for and that has no such token yet."""
    width = one.shapes[name][-1]
    widths = {part: _width(held) for part, held in shapes.items() if part.startswith("text_encoder")}
    free = [part for part, wide in widths.items() if wide == width and (part, one.token) not in taught]
    if encoder in free or (free and not encoder):
        return encoder or free[0]
    if any(token == one.token for _, token in taught):
        raise ModelError(f"embedding {one.file}: token {one.token!r} is there twice: give another name, FILE@TOKEN")
    there = ", ".join(f"{part} {wide}" for part, wide in widths.items() if wide) or "no text encoder of CLIP"
    raise ModelError(f"embedding {one.file} is {width} wide, for {encoder or 'another model'}: this model has {there}")


def _width(held: Mapping[str, Shape]) -> int:
    """Return how wide the vectors of a CLIP text encoder's words are; 0 where it is none."""
    return next((shape[-1] for name, shape in held.items() if name.endswith("embeddings.token_embedding.weight")), 0)


def _split(kind: str, given: str, relative_to: Path, names: Sequence[str]) -> tuple[Path, str | None]:
    """Return the file of `FILE` or `FILE@SAID` and what is said; a folder stands for the one such file in it."""
    path, said = relative_to / Path(given).expanduser(), None
    if not path.exists() and "@" in given:
        before, _, said = given.rpartition("@")
        path = relative_to / Path(before).expanduser()
    if path.is_dir():
        there = [path / name for name in names if (path / name).is_file()] or sorted(path.glob("*.safetensors"))
        if len(there) != 1:
            raise ModelError(
                f"{kind} {path}: the folder holds {len(there)} safetensors files: name the one that is meant"
            )
        path = there[0]
    if not path.is_file():
        raise ModelError(f"{kind} {path} is not there")
    if path.suffix in PICKLES:
        raise ModelError(
            f"{kind} {path} is a pickle, which can run code: refused; get it as safetensors, or where you trust it, "
            "convert it: safetensors.torch.save_file(torch.load(OLD), NEW)"
        )
    return path, said


def _pairs(file: Path, shapes: Mapping[str, Shape], config: Mapping[str, Any]) -> Iterator[Pair]:
    """Yield the pairs of low-rank matrices. Raises ModelError where a tensor is in none, or ranks lie."""
    for place, pieces in _pieces(file, shapes).items():
        if {"down", "up"} - set(pieces):
            raise ModelError(
                f"LoRA {file}: {place} has no {'up' if 'down' in pieces else 'down'} matrix: it is not whole"
            )
        down, up = shapes[pieces["down"]], shapes[pieces["up"]]
        if len(down) not in (2, 4) or len(up) not in (2, 4) or down[0] != up[1] or 0 in down + up:
            raise ModelError(f"LoRA {file}: the ranks of {place} differ: down is {list(down)}, up is {list(up)}")
        if "alpha" in pieces and math.prod(shapes[pieces["alpha"]]) != 1:
            raise ModelError(f"LoRA {file}: alpha of {place} is {list(shapes[pieces['alpha']])}, not one number")
        yield Pair(place, pieces["down"], pieces["up"], pieces.get("alpha"), _scale(file, place, down[0], config))


def _pieces(file: Path, names: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return the tensors of each place, by what they are: down, up or alpha."""
    pieces: dict[str, dict[str, str]] = {}
    for name in names:
        found, alpha = HALF.fullmatch(name), ALPHA.fullmatch(name)
        if found is None and alpha is None:
            raise _no_lora(file, name)
        what = HALVES[found["half"]] if found else "alpha"
        place = found["place"] if found else name.removesuffix(".alpha").removesuffix("_lora")
        if pieces.setdefault(place, {}).setdefault(what, name) != name:
            raise ModelError(f"LoRA {file}: {place} has two tensors for {what}: get the file again")
    if not pieces:
        raise ModelError(f"LoRA {file} holds no tensors: get the file again")
    return pieces


def _scale(file: Path, place: str, rank: int, config: Mapping[str, Any]) -> float:
    """Return alpha / rank as what lies beside the tensors says (of diffusers, or of peft), else 1."""
    part = next((part for part in (*DENOISERS, "text_encoder_2", "text_encoder") if place.startswith(f"{part}.")), "")
    own = {key.removeprefix(f"{part}."): value for key, value in config.items() if key.startswith(f"{part}.")}
    own = own or dict(config)
    if own.get("use_dora") or own.get("lora_bias") or own.get("fan_in_fan_out"):
        raise ModelError(f"LoRA {file} is a DoRA, or one with biases: merge it into a model and audit that")
    alpha = own.get("lora_alpha", rank)
    for name, other in dict(own.get("alpha_pattern") or {}).items():
        if place == name or place.endswith(f".{name}"):
            alpha = other
    if not isinstance(alpha, int | float) or not math.isfinite(alpha):
        raise ModelError(f"LoRA {file}: lora_alpha {alpha!r} is no number")
    return alpha / (math.sqrt(rank) if own.get("use_rslora") else rank)


def _has_config(file: Path) -> bool:
    return file.name == "adapter_model.safetensors" and file.with_name("adapter_config.json").is_file()


def _config(file: Path) -> dict[str, Any]:
    """Return what a LoRA says of itself: in its header (diffusers), or in adapter_config.json beside it (peft)."""
    if _has_config(file):
        return read_json(file.parent, Path("adapter_config.json"))
    with file.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        said = json.loads(stream.read(length)).get("__metadata__")
    try:
        return dict(json.loads(dict(said or {}).get("lora_adapter_metadata", "{}")))
    except (TypeError, ValueError, RecursionError) as error:
        raise ModelError(f"LoRA {file}: its lora_adapter_metadata is no JSON object: get the file again") from error


def _no_lora(file: Path, name: str) -> ModelError:
    for word, kind in OTHER_KINDS.items():
        if word in name:
            return ModelError(f"LoRA {file} is a {kind} ({name}): merge it into a model and audit that")
    return ModelError(f"LoRA {file}: {name!r} is no tensor of a LoRA (lora_down and lora_up, lora_A and lora_B)")


def _targets(lora: Lora, shapes: Shapes) -> list[Target]:
    """Return the place of each pair. Raises ModelError where there is none of that name and shape."""
    places = _places(shapes)
    found = [places.get(_flat(pair.place)) for pair in lora.pairs]
    for pair, target in zip(lora.pairs, found, strict=True):
        if target is None:
            there = sum(one is not None for one in found)
            raise ModelError(
                f"LoRA {lora.file}: the model has no {pair.place!r}: made for another architecture "
                f"({there} of the {len(found)} places of the LoRA are in the model)"
            )
        _check_shape(lora, pair, target, [shapes[target.part][name] for name in target.tensors])
    targets = [target for target in found if target is not None]
    layers = [(target.part, name) for target in targets for name in target.tensors]
    if len(set(layers)) < len(layers):
        raise ModelError(f"LoRA {lora.file} names a place of the model twice: get the file again")
    return targets


def _check_shape(lora: Lora, pair: Pair, target: Target, layers: Sequence[Shape]) -> None:
    down, up = lora.shapes[pair.down], lora.shapes[pair.up]
    shape = (sum(layer[0] for layer in layers), *layers[0][1:])
    if up[0] != shape[0] or _filled(down[1:]) != _filled(shape[1:]) or any(side != 1 for side in up[2:]):
        raise ModelError(
            f"LoRA {lora.file}: {pair.place} is made for a layer of {[up[0], *down[1:]]}, and "
            f"{target.part}.{target.tensors[0]} is {list(shape)}: made for another architecture"
        )


def _filled(shape: Shape) -> Shape:
    """Return inputs, height and width of a layer; those of a linear layer are 1 x 1."""
    return shape + (1,) * (3 - len(shape))


def _flat(place: str) -> str:
    """Return a place without dots, under the name of its part; "" stands for the denoiser."""
    flat = place.removeprefix("base_model.model.").replace(".", "_").replace("_processor_to_", "_to_")
    for prefix, part in PREFIXES.items():
        if flat.startswith(prefix):
            return part + flat.removeprefix(prefix)
    return flat


def _places(shapes: Shapes) -> dict[str, Target]:
    """Return each place by every name that a LoRA may have for it, without dots: of diffusers, peft and kohya."""
    places: dict[str, Target] = {}
    for part, held in shapes.items():
        layers = [name.removesuffix(".weight") for name in held if name.endswith(".weight")]
        if part in DENOISERS:
            named = _denoising(layers, part)
            forms: tuple[str, ...] = ("", f"{part}_", "lora_unet_", "lora_transformer_", "diffusion_model_")
        elif part.startswith("text_encoder"):
            named = [(name, (layer,)) for layer in layers for name in _encoding(layer.removeprefix("text_model."))]
            forms = (f"{part}_", f"{part}_text_model_")
        else:
            continue
        for name, own in named:
            target = Target(part, tuple(f"{layer}.weight" for layer in own))
            places |= {form + name.replace(".", "_"): target for form in forms}
    return places


def _denoising(layers: Sequence[str], part: str) -> list[Named]:
    """Return the names of a denoiser's layers: its own, those of early diffusers, and the original ones."""
    named: list[Named] = [(layer.removesuffix(".0"), (layer,)) for layer in layers if layer.endswith(".to_out.0")]
    if part == "unet":
        named += [(name, (layer,)) for layer, name in layouts.unet(layers).items()]
    else:
        named += layouts.transformer(layers).items()
    return named + [(layer, (layer,)) for layer in layers]


def _encoding(layer: str) -> set[str]:
    """Return the name of a text encoder's layer and the one that early diffusers gave to its attention."""
    attention = r"self_attn\.(?:([qkv])_proj|(out)_proj)$"
    return {layer, re.sub(attention, lambda found: f"self_attn.to_{found[1] or found[2]}", layer)}


def _loaded(file: Path) -> "dict[str, Tensor]":
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        loaded: dict[str, Tensor] = load_file(file)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"model {file} cannot be read ({first_line(error)}): get the file again") from error
    return loaded
