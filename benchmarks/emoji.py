"""A second text-to-image model that remembers, on which nothing of byrote was chosen: emoji of 32 x 32 pixels.

    python benchmarks/emoji.py --work DIR

A StableDiffusionPipeline trained from nothing, with the noise schedule and the prediction (eps) of Stable Diffusion 1,
unlike the demo's model. Every emoji of one code point that Debian's fonts-noto-color-emoji draws, captioned by its
Unicode name, goes into one of three draws of one shuffle: 600 are trained on, in 1 to 60 copies fixed beforehand, 300
are held out, and the rest teaches the autoencoder, turned, mirrored and with its colours exchanged, so that it has seen
neither side. One thread, fixed seeds; resumable, about 25 CPU-minutes.
"""

import argparse
import json
import random
import time
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from byrote import images
from byrote.demo.train import _encode, _floats, _optimise, _tokenizer, _tokens, autoencoder_loss, text_encoder

FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
DRAWN, SIDE = 109, 32
RANGES = ((0x231A, 0x2B56), (0x1F300, 0x1FB00))
TONES, LETTERS = range(0x1F3FB, 0x1F400), range(0x1F1E6, 0x1F200)
COPIES = {60: 20, 25: 40, 10: 60, 4: 80, 1: 400}
"""How many pictures of the training set have how many copies."""
HELD_OUT = 300
CHANNELS = 8
VAE_STEPS, VAE_BATCH, STEPS, BATCH, RATE = 3_000, 32, 2_000, 64, 2e-3
CAPTION_DROPOUT = 0.1
Emoji = tuple[str, np.ndarray]


@dataclass(frozen=True)
class Made:
    """Where everything lies: the pipeline, and folders of pictures with their captions."""

    model: Path
    pictures: Path
    held_out: Path


def every() -> list[Emoji]:
    """Draw every emoji of one code point that the font has, with its name, each picture once."""
    if not FONT.exists():
        raise SystemExit(f"{FONT} is missing: apt-get install fonts-noto-color-emoji")
    font = ImageFont.truetype(str(FONT), DRAWN)
    missing = _drawn("\U0010fffe", font)
    found: dict[bytes, Emoji] = {}
    for code in (code for first, end in RANGES for code in range(first, end)):
        name = unicodedata.name(chr(code), "")
        if name and code not in TONES and code not in LETTERS:
            image = _drawn(chr(code), font)
            if image.std() > 0 and not np.array_equal(image, missing):
                found.setdefault(image.tobytes(), (name.lower().replace("-", " "), image))
    return list(found.values())


def _drawn(character: str, font: ImageFont.FreeTypeFont) -> np.ndarray:
    canvas = Image.new("RGB", (136, 136), "white")
    ImageDraw.Draw(canvas).text((68, 68), character, font=font, embedded_color=True, anchor="mm")
    return np.asarray(canvas.resize((SIDE, SIDE), Image.Resampling.BOX))


def draws() -> tuple[list[Emoji], list[Emoji], list[Emoji]]:
    """Return those that are trained on, those that are held out, and those of the autoencoder."""
    found = every()
    random.Random("byrote emoji").shuffle(found)
    trained = sum(COPIES.values())
    return found[:trained], found[trained : trained + HELD_OUT], found[trained + HELD_OUT :]


def copies() -> list[int]:
    """Return the number of copies of each picture that is trained on, in their order: they were shuffled."""
    return [many for many, pictures in COPIES.items() for _ in range(pictures)]


def made(work: Path) -> Made:
    """Return the model and its pictures; make what is missing."""
    found = Made(work / "model", work / "pictures", work / "held-out")
    trained, held_out, others = draws()
    _paint(found.pictures, [row for row, many in zip(trained, copies(), strict=True) for _ in range(many)])
    _paint(found.held_out, held_out)
    if not (found.model / "model_index.json").exists():
        _train(work, trained, others)
    return found


def _paint(folder: Path, rows: list[Emoji]) -> None:
    """Write a folder of PNG files with metadata.csv, which comes last and says that it is whole."""
    if (folder / "metadata.csv").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["file_name,text"]
    for number, (name, image) in enumerate(rows):
        (folder / f"{number:05d}.png").write_bytes(images.encode_png(image))
        lines.append(f'{number:05d}.png,"{name}"')
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _train(work: Path, trained: list[Emoji], others: list[Emoji]) -> None:
    began = time.process_time()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    vae = _autoencoder(work, np.stack(list(_varied(image for _, image in others))))
    latents = _encode(vae, _floats(np.stack([image for _, image in trained])))
    scale = float(1 / latents.std())
    captions = [name for name, _ in trained]
    tokenizer = _kept_tokenizer(work / "tokenizer", captions)
    rows = torch.tensor([k for k, many in enumerate(copies()) for _ in range(many)])
    text, unet = _denoiser(work, latents * scale, rows, _tokens(tokenizer, captions), len(tokenizer))
    vae.register_to_config(scaling_factor=scale)
    pipeline = StableDiffusionPipeline(
        vae, text, tokenizer, unet, scheduler(), None, None, requires_safety_checker=False
    )  # fmt: skip
    pipeline.save_pretrained(work / "model", safe_serialization=True)
    told = {"CPU-seconds of this run": round(time.process_time() - began), "steps": STEPS, "pictures": len(trained)}
    (work / "trained.json").write_text(json.dumps(told) + "\n")


def _kept_tokenizer(folder: Path, captions: list[str]) -> CLIPTokenizer:
    """Make the tokenizer once: another run numbers the tokens otherwise, and what was trained would mean others."""
    if not folder.exists():
        beside = folder.with_suffix(".tmp")
        _tokenizer(captions).save_pretrained(beside)
        beside.rename(folder)
    kept: CLIPTokenizer = CLIPTokenizer.from_pretrained(folder)
    return kept


def scheduler() -> DDIMScheduler:
    """Return the schedule of Stable Diffusion 1."""
    return DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False,
        steps_offset=1,
    )  # fmt: skip


def _varied(pictures: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    for picture in pictures:
        for order in permutations(range(3)):
            for turns in range(4):
                turned = np.rot90(picture, turns)[..., order]
                yield turned
                yield turned[:, ::-1]


def _autoencoder(work: Path, pictures: np.ndarray) -> AutoencoderKL:
    vae = AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 3,
        up_block_types=["UpDecoderBlock2D"] * 3,
        block_out_channels=(16, 32, 48),
        layers_per_block=1,
        latent_channels=CHANNELS,
        norm_num_groups=8,
        mid_block_add_attention=False,
        sample_size=SIDE,
    )

    def loss(step: int) -> Tensor:
        dice = torch.Generator().manual_seed(step)
        x = _floats(pictures[torch.randint(len(pictures), (VAE_BATCH,), generator=dice).numpy()])
        return autoencoder_loss(vae, x, dice)

    _optimise(work / "autoencoder.pt", [vae], loss, VAE_STEPS, RATE, _say)
    return vae


def _denoiser(
    work: Path, latents: Tensor, rows: Tensor, tokens: Tensor, vocabulary: int
) -> tuple[CLIPTextModel, UNet2DConditionModel]:
    text = text_encoder(vocabulary)
    unet = UNet2DConditionModel(
        sample_size=latents.shape[-1],
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(40, 80),
        layers_per_block=1,
        cross_attention_dim=64,
        attention_head_dim=8,
        norm_num_groups=8,
    )
    noises = scheduler()

    def loss(step: int) -> Tensor:
        dice = torch.Generator().manual_seed(step)
        chosen = rows[torch.randint(len(rows), (BATCH,), generator=dice)]
        dropped = torch.rand(BATCH, generator=dice) < CAPTION_DROPOUT
        asked = torch.where(dropped[:, None], tokens[-1], tokens[chosen])
        x, noise = latents[chosen], torch.randn(latents[chosen].shape, generator=dice)
        t = torch.randint(1000, (BATCH,), generator=dice)
        said = unet(noises.add_noise(x, noise, t), t, text(asked).last_hidden_state).sample
        error: Tensor = (said - noise).square().mean()
        return error

    _optimise(work / "denoiser.pt", [unet, text], loss, STEPS, RATE, _say)
    return text, unet


def _say(line: str) -> None:
    print(line, flush=True)


def main() -> None:
    """Make everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    print(made(options.work))


if __name__ == "__main__":
    main()
