"""A small classifier of noisy states, with the gradient by which it steers a denoiser.

Classifier guidance: Dhariwal and Nichol 2021, "Diffusion Models Beat GANs on Image Synthesis", arXiv:2105.05233,
algorithm 2. The file is safetensors with one line of JSON in its metadata; nothing in it can run.
"""

import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from byrote.errors import ModelError
from byrote.models.denoiser import Floats, Level

FORMAT, CARD = 1, "byrote surrogate"
WIDTH, WIDEST, SMALLEST = 32, 256, 4
WAVES = 8
GROUPS = 8


@dataclass(frozen=True, slots=True)
class Card:
    """What a surrogate's file says of itself: the digest of its model, and how it was made."""

    model: str
    shape: tuple[int, int, int]
    clusters: int
    classes: int  # one more where clusters were dropped: their samples, which no sample is steered to
    samples: int
    evaluations: int
    seed: int
    descriptor: str
    cohesion: tuple[float, ...] = field(default=())  # of the clusters that were kept


class Classifier(nn.Module):
    """States [n, channels, height, width] with their angles [n] to logits [n, classes]; rows do not mix.

    The angle is that of the state's noise to its picture, 0 for none and 1 for nothing else.
    """

    def __init__(self, shape: Sequence[int], classes: int) -> None:
        super().__init__()
        channels, height, width = shape
        waves, wide = 2 * WAVES, WIDTH
        self.stem = nn.Conv2d(channels, wide, 3, padding=1)
        blocks = []
        while True:
            halves = max(height, width) > SMALLEST
            wider = min(WIDEST, 2 * wide) if halves else wide
            blocks.append(_Block(wide, wider, waves, 2 if halves else 1))
            wide = wider
            if not halves:
                break
            height, width = (height + 1) // 2, (width + 1) // 2
        self.blocks = nn.ModuleList(blocks)
        self.head = nn.Linear(wide * height * width, classes)

    def forward(self, x: Tensor, angle: Tensor) -> Tensor:
        """Return the logits."""
        steps = math.pi * angle[:, None] * torch.arange(1, WAVES + 1, device=x.device)
        waves = torch.cat([steps.sin(), steps.cos()], 1)
        h = self.stem(x)
        for block in self.blocks:
            h = block(h, waves)
        logits: Tensor = self.head(nn.functional.silu(h).flatten(1))
        return logits


class _Block(nn.Module):
    def __init__(self, wide: int, wider: int, waves: int, stride: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, wide)
        self.told = nn.Linear(waves, 2 * wide)
        self.conv = nn.Conv2d(wide, wider, 3, stride=stride, padding=1)

    def forward(self, h: Tensor, waves: Tensor) -> Tensor:
        scale, shift = self.told(waves)[:, :, None, None].chunk(2, 1)
        out: Tensor = self.conv(nn.functional.silu(self.norm(h) * (1 + scale) + shift))
        return out


def angle(level: Level) -> float:
    """Return how much of a state is noise, 0 to 1: the angle of sigma to alpha, as a share of a right one."""
    return math.atan2(level.sigma, level.alpha) * 2 / math.pi


def pull(classifier: Classifier, x: Floats, level: Level, classes: Sequence[int]) -> Floats:
    """Return the gradient of log p(class | state) with respect to each state."""
    device = next(classifier.parameters()).device
    states = torch.from_numpy(np.ascontiguousarray(x)).to(device).requires_grad_()
    with torch.enable_grad():
        logits = classifier(states, torch.full((len(x),), angle(level), device=device))
        rows = torch.arange(len(x), device=device), torch.tensor(list(classes), device=device)
        likely = nn.functional.log_softmax(logits, 1)[rows].sum()
    found: Floats = torch.autograd.grad(likely, states)[0].cpu().numpy()
    return found


def write(path: Path, classifier: Classifier, card: Card) -> None:
    """Write a classifier, beside first and then under its name."""
    held = {name: weight.detach().cpu().contiguous() for name, weight in classifier.state_dict().items()}
    beside = path.with_name(f"{path.name}.tmp")
    save_file(held, beside, {CARD: json.dumps({"format": FORMAT} | asdict(card))})  # one entry: several have no order
    os.replace(beside, path)


def read_card(path: Path) -> Card:
    """Return what a file says of itself, without its weights. Raises ModelError."""
    again = "make it by `byrote surrogate`"
    try:
        with safe_open(path, "np") as held:
            told = held.metadata() or {}
        fields: dict[str, Any] = json.loads(told[CARD])
        if fields.pop("format") != FORMAT:
            raise ModelError(f"{path} is no surrogate of this byrote: {again}")
        return Card(**fields | {"shape": tuple(fields["shape"]), "cohesion": tuple(fields["cohesion"])})
    except (OSError, SafetensorError, ValueError, LookupError, TypeError) as error:
        raise ModelError(f"{path} is not there, or no surrogate: {again}") from error


def read(path: Path, card: Card) -> Classifier:
    """Return the classifier of a file. Raises ModelError where its weights do not fit what it says."""
    classifier = Classifier(card.shape, card.classes)
    try:
        with safe_open(path, "pt") as held:
            classifier.load_state_dict({name: held.get_tensor(name) for name in held.keys()})  # noqa: SIM118
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ModelError(f"{path} is damaged: make it again by `byrote surrogate`") from error
    return classifier.eval().requires_grad_(False)
