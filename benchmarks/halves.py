"""Eight small models on random halves of one corpus, for benchmarks/twins.py.

    python benchmarks/halves.py --work DIR [--jobs 2]

Four hundred people whom the demo's model never saw, in 1 to 32 copies. Every group of copies is seen by four of the
eight models, drawn at random for each group, so that each picture has models that saw it and models that did not, and
the unseen half of a model is exchangeable with the seen one, copies included. A model is the demo's denoiser fine-tuned
on its half; its autoencoder and its text encoder, which saw none of these people, stay as they are. Resumable.
"""

import argparse
import random
import shutil
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor
from torch.nn import Module

from byrote.demo import MODEL
from byrote.demo.portraits import Person, draw, meet
from byrote.demo.train import _optimise, scheduler

MODELS = 8
COPIES = {1: 120, 2: 80, 4: 70, 8: 60, 16: 45, 32: 25}
STEPS, BATCH, RATE = 450, 32, 1e-3
CAPTION_DROPOUT = 0.1


@cache
def people() -> list[tuple[Person, int]]:
    """List everybody with the number of copies, in a random order that is always the same."""
    counts = [copies for copies, n in COPIES.items() for _ in range(n)]
    random.Random("byrote twins copies").shuffle(counts)
    return [(meet("twins", k), copies) for k, copies in enumerate(counts)]


@cache
def seen() -> np.ndarray:
    """Tell which model saw whom: bool [models, people], each person by exactly half of the models."""
    dice = random.Random("byrote twins halves")
    chosen = [dice.sample(range(MODELS), MODELS // 2) for _ in people()]
    return np.array([[k in half for half in chosen] for k in range(MODELS)], np.bool_)


def train(work: Path, number: int) -> Path:
    """Fine-tune one model on its half and return its folder."""
    folder = work / f"model-{number}"
    if (folder / "model_index.json").exists():
        return folder
    torch.set_num_threads(1)
    torch.manual_seed(number)
    pipeline = StableDiffusionPipeline.from_pretrained(MODEL, torch_dtype=torch.float32, safety_checker=None)
    mine = [row for row, is_seen in zip(people(), seen()[number], strict=True) if is_seen]
    given = inputs(pipeline, [person for person, _ in mine], [person.captions()[0] for person, _ in mine])
    rows = torch.tensor([k for k, (_, copies) in enumerate(mine) for _ in range(copies)])

    def loss(step: int) -> Tensor:
        return velocity_loss(pipeline.unet, *given, rows, BATCH, step)

    _optimise(
        work / f"model-{number}.pt", [pipeline.unet], loss, STEPS, RATE, lambda line: print(number, line, flush=True)
    )
    pipeline.to(torch.float16).save_pretrained(work / f"model-{number}.tmp", safe_serialization=True)
    shutil.move(work / f"model-{number}.tmp", folder)
    return folder


def velocity_loss(
    unet: Module, latents: Tensor, asked: Tensor, empty: Tensor, rows: Tensor, batch: int, step: int
) -> Tensor:
    """Return how far the predicted velocity is off on a draw of `rows`, as the demo's model was trained."""
    dice, noises = torch.Generator().manual_seed(step), scheduler()
    chosen = rows[torch.randint(len(rows), (batch,), generator=dice)]
    dropped = torch.rand(batch, generator=dice) < CAPTION_DROPOUT
    text = torch.where(dropped[:, None, None], empty, asked[chosen])
    noise = torch.randn(latents[chosen].shape, generator=dice)
    t = torch.randint(1000, (batch,), generator=dice)
    predicted = unet(noises.add_noise(latents[chosen], noise, t), t, text).sample
    error: Tensor = (predicted - noises.get_velocity(latents[chosen], noise, t)).square().mean()
    return error


def inputs(
    pipeline: StableDiffusionPipeline, who: Sequence[Person], captions: Sequence[str]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the latents of the pictures, what the text encoder makes of the captions, and of no caption."""
    pixels = torch.from_numpy(np.stack([draw(person) for person in who])).permute(0, 3, 1, 2).float() / 127.5 - 1
    told = pipeline.tokenizer([*captions, ""], padding="max_length", truncation=True, return_tensors="pt")
    with torch.inference_mode():
        latents = torch.cat([pipeline.vae.encode(part).latent_dist.mean for part in pixels.split(64)])
        text = torch.cat([pipeline.text_encoder(part).last_hidden_state for part in told["input_ids"].split(64)])
    return (latents * pipeline.vae.config.scaling_factor).clone(), text[:-1].clone(), text[-1:].clone()


def main() -> None:
    """Train all models."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(options.jobs, get_context("spawn")) as pool:
        for folder in pool.map(train, [options.work] * MODELS, range(MODELS)):
            print(folder, flush=True)


if __name__ == "__main__":
    main()
