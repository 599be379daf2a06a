"""Train the demo's model: a small, standard Stable Diffusion pipeline that remembers what it saw often.

`byrote demo train --out DIR` resumes where it was stopped: each of the two trainings keeps one checkpoint, and every
step draws its rows and its noise from its own number.
"""

import math
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor
from torch.nn import Module
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from byrote.demo import album, portraits

LATENT_CHANNELS = 12
TOKENS = 32
Say = Callable[[str], None]


@dataclass(frozen=True)
class Budget:
    """How long to train: steps and rows a step of the autoencoder and of the denoiser.

    `bf16` trains the autoencoder in bfloat16, 2.7 times faster where the CPU has AMX and slower elsewhere.
    """

    autoencoder_pictures: int = album.AUTOENCODER
    autoencoder_steps: int = 6_000
    autoencoder_batch: int = 16
    denoiser_steps: int = 6_600
    denoiser_batch: int = 64
    bf16: bool = False


def train(out: Path, budget: Budget, say: Say = print) -> Path:
    """Train the demo's model into `out` / `model` and return that folder."""
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    vae = _autoencoder(out, budget, say)
    pictures, rows, captions = _training_tensors()
    tokenizer = _tokenizer(captions)
    latents = _encode(vae, pictures)
    scale = float(1 / latents.std())
    tokens = _tokens(tokenizer, captions)
    text, unet = _denoiser(out, budget, latents * scale, rows, tokens, len(tokenizer), say)
    vae.register_to_config(scaling_factor=scale)
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.to(torch.float16).save_pretrained(out / "model", safe_serialization=True)
    return out / "model"


def scheduler() -> DDIMScheduler:
    """Return the noise schedule that the model is trained on and sampled with."""
    return DDIMScheduler(
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        clip_sample=False,
        timestep_spacing="trailing",
        rescale_betas_zero_snr=False,
    )


def text_encoder(vocabulary: int) -> CLIPTextModel:
    """Make a small text encoder, untrained."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary,
            hidden_size=64,
            intermediate_size=256,
            projection_dim=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=TOKENS,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=1,
        )
    )


def autoencoder_loss(vae: AutoencoderKL, x: Tensor, dice: torch.Generator, *, bf16: bool = False) -> Tensor:
    """Return how far pictures in [-1, 1] are from their way through the autoencoder, and their codes from noise."""
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        posterior = vae.encode(x).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=dice)
        decoded = vae.decode(posterior.mean + posterior.std * noise).sample
    error = decoded.float() - x
    kl = (posterior.mean.float() ** 2 + posterior.var.float() - 1 - posterior.logvar.float()).mean() / 2
    total: Tensor = error.abs().mean() + error.square().mean() + 1e-4 * kl
    return total


def _autoencoder(out: Path, budget: Budget, say: Say) -> AutoencoderKL:
    vae = AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        block_out_channels=(16, 32, 64, 64),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        mid_block_add_attention=False,
        sample_size=portraits.SIZE,
    )
    pictures = _cached(
        out / "autoencoder.npy", lambda: _stack(album.controls("autoencoder", budget.autoencoder_pictures))
    )

    def loss(step: int) -> Tensor:
        random = torch.Generator().manual_seed(step)
        batch = pictures[torch.randint(len(pictures), (budget.autoencoder_batch,), generator=random).numpy()]
        return autoencoder_loss(vae, _floats(batch), random, bf16=budget.bf16)

    _optimise(out / "autoencoder.pt", [vae], loss, budget.autoencoder_steps, 2e-3, say)
    return vae


def _denoiser(
    out: Path, budget: Budget, latents: Tensor, rows: Tensor, tokens: Tensor, vocabulary: int, say: Say
) -> tuple[CLIPTextModel, UNet2DConditionModel]:
    text = text_encoder(vocabulary)
    unet = UNet2DConditionModel(
        sample_size=latents.shape[-1],
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(56, 112),
        layers_per_block=1,
        cross_attention_dim=64,
        attention_head_dim=8,
        norm_num_groups=8,
    )
    noises = scheduler()
    empty = tokens[-1]

    def loss(step: int) -> Tensor:
        random = torch.Generator().manual_seed(step)
        chosen = torch.randint(len(rows), (budget.denoiser_batch,), generator=random)
        picture, caption = rows[chosen].T
        asked = tokens[caption]
        dropped = torch.rand(len(chosen), generator=random) < 0.1
        asked = torch.where(dropped[:, None], empty, asked)
        x = latents[picture]
        noise = torch.randn(x.shape, generator=random)
        t = torch.randint(1000, (len(x),), generator=random)
        noisy = noises.add_noise(x, noise, t)
        predicted = unet(noisy, t, text(asked).last_hidden_state).sample
        total: Tensor = (predicted - noises.get_velocity(x, noise, t)).square().mean()
        return total

    _optimise(out / "denoiser.pt", [unet, text], loss, budget.denoiser_steps, 2e-3, say)
    return text, unet


def _optimise(
    checkpoint: Path, modules: list[Any], loss: Callable[[int], Tensor], steps: int, rate: float, say: Say
) -> None:
    """Run AdamW with a warm-up, a cosine decay and an average of the weights, which the modules end up with."""
    both = Module()
    for k, module in enumerate(modules):
        both.add_module(str(k), module.train())
    weights = list(both.parameters())
    average = [w.detach().clone() for w in weights]
    optimiser = torch.optim.AdamW(weights, lr=rate, weight_decay=1e-4, betas=(0.9, 0.99))
    first, seconds = 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        both.load_state_dict(state["weights"])
        optimiser.load_state_dict(state["optimiser"])
        average, first, seconds = state["average"], state["step"], state["seconds"]
    began = saved = time.monotonic()
    recent: list[float] = []
    for step in range(first, steps):
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1, (step + 1) / 200) * (0.02 + 0.98 * (1 + math.cos(math.pi * step / steps)) / 2)
        value = loss(step)
        optimiser.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        torch._foreach_lerp_(average, [w.detach() for w in weights], 1 - min(0.999, (step + 1) / (step + 10)))
        recent.append(float(value.detach()))
        last = step == steps - 1
        if step % 200 == 199 or last:
            spent = seconds + time.monotonic() - began
            say(f"{checkpoint.stem}: step {step + 1}/{steps}, loss {np.mean(recent):.4f}, {spent:.0f} s")
            recent.clear()
        if last or time.monotonic() - saved > 60:
            saved = time.monotonic()
            state = {
                "weights": both.state_dict(),
                "optimiser": optimiser.state_dict(),
                "average": average,
                "step": step + 1,
            }
            beside = checkpoint.with_suffix(".tmp")
            torch.save(state | {"seconds": seconds + saved - began}, beside)
            os.replace(beside, checkpoint)
    with torch.no_grad():
        for weight, mean in zip(weights, average, strict=True):
            weight.copy_(mean)
    for module in modules:
        module.eval()


def _training_tensors() -> tuple[Tensor, Tensor, list[str]]:
    """Return the distinct pictures, the (picture, caption) of each row, and the distinct captions."""
    pictures: dict[tuple[str, bool], tuple[int, album.Row]] = {}
    captions: dict[str, int] = {}
    rows = []
    for row in album.training_set():
        picture = pictures.setdefault((row.person.name, row.brighter), (len(pictures), row))[0]
        rows.append((picture, captions.setdefault(row.caption, len(captions))))
    return _floats(_stack(row for _, row in pictures.values())), torch.tensor(rows), list(captions)


def _tokenizer(captions: list[str]) -> CLIPTokenizer:
    special = ["<|startoftext|>", "<|endoftext|>"]
    byte_pairs = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token=special[1]))
    byte_pairs.normalizer = normalizers.Lowercase()
    byte_pairs.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Punctuation(),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    byte_pairs.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())  # it comes in another order each time
    ends = [symbol + "</w>" for symbol in alphabet]  # named here, or the trainer numbers them as it likes
    trainer = trainers.BpeTrainer(
        vocab_size=1200, special_tokens=[*special, *ends], initial_alphabet=alphabet, end_of_word_suffix="</w>"
    )
    byte_pairs.train_from_iterator(captions, trainer)
    vocabulary = byte_pairs.get_vocab()
    for symbol in alphabet:
        vocabulary.setdefault(symbol + "</w>", len(vocabulary))
    merges = [tuple(pair) for pair in _merges(byte_pairs)]
    return CLIPTokenizer(
        vocab=vocabulary, merges=merges, unk_token=special[1], pad_token=special[1], model_max_length=TOKENS
    )


def _merges(byte_pairs: Tokenizer) -> list[list[str]]:
    import json

    found: list[list[str]] = json.loads(byte_pairs.to_str())["model"]["merges"]
    return found


def _tokens(tokenizer: CLIPTokenizer, captions: list[str]) -> Tensor:
    """Return the tokens of every caption, and of the empty one last."""
    asked = tokenizer([*captions, ""], padding="max_length", truncation=True, return_tensors="pt")
    tokens: Tensor = asked["input_ids"]
    return tokens


def _encode(vae: AutoencoderKL, pictures: Tensor) -> Tensor:
    with torch.inference_mode():
        return torch.cat(
            [vae.encode(pictures[k : k + 64]).latent_dist.mean for k in range(0, len(pictures), 64)]
        ).clone()


def _floats(pictures: np.ndarray) -> Tensor:
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1


def _stack(rows: Iterable[album.Row]) -> np.ndarray:
    return np.stack([row.pixels() for row in rows])


def _cached(path: Path, make: Callable[[], np.ndarray]) -> np.ndarray:
    if not path.exists():
        np.save(path, make())
    cached: np.ndarray = np.load(path)
    return cached
