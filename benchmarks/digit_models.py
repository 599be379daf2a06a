"""Two small models that remember, trained on scikit-learn's handwritten digits: a DDPM and a GAN, without prompts.

Both see the same rows: ten pictures sixty times, four hundred others once. All draws come from one shuffle of the
1,797 digits, so that those held out differ from those trained on by nothing but that. One thread, fixed seeds: the same
machine trains the same weights twice.
"""

import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch import Tensor, nn

SIDE = 8
LATENT = 16
PACK = 4
Grey = NDArray[np.uint8]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Draw:
    """Who is planted, who is seen once, who is held out as a control, and who only helps to choose tau."""

    planted: int = 10
    copies: int = 60
    others: int = 400
    controls: int = 1100
    second: int = 287
    seed: int = 0


@dataclass(frozen=True)
class Digits:
    """The digits of a draw, uint8 [n, 8, 8] each."""

    planted: Grey
    others: Grey
    controls: Grey
    second: Grey

    @property
    def pictures(self) -> Grey:
        """Return the distinct pictures that are trained on, the planted first."""
        return np.concatenate([self.planted, self.others])

    def rows(self, copies: int) -> Grey:
        """Return what is trained on, a row a copy."""
        return np.concatenate([np.repeat(self.planted, copies, 0), self.others])


@dataclass(frozen=True)
class Denoiser:
    """How the DDPM is trained; 0.37 million weights."""

    widths: tuple[int, int] = (24, 48)
    steps: int = 1_200
    batch: int = 64
    rate: float = 3e-3


@dataclass(frozen=True)
class Duel:
    """How the GAN is trained: two perceptrons, no augmentation.

    Every `lazy` steps the critic's slope at real pictures is penalised (R1, Mescheder et al. 2018, arXiv:1801.04406).
    """

    generator: int = 256
    critic: int = 256
    steps: int = 12_000
    batch: int = 128
    rate: float = 1e-3
    r1: float = 0.02
    lazy: int = 8


def digits(draw: Draw) -> Digits:
    """Shuffle scikit-learn's digits and cut them."""
    levels = np.round(load_digits().images * (255 / 16)).astype(np.uint8)
    order = np.random.default_rng(draw.seed).permutation(len(levels))
    ends = np.cumsum([draw.planted, draw.others, draw.controls, draw.second])
    return Digits(*(levels[some] for some in np.split(order[: ends[-1]], ends[:-1])))


def _floats(draw: Draw) -> Tensor:
    """Return what is trained on, float32 [n, 1, 8, 8] in [-1, 1]."""
    return torch.from_numpy(digits(draw).rows(draw.copies)[:, None].astype(np.float32)) / 127.5 - 1


def train_ddpm(out: Path, draw: Draw, how: Denoiser = Denoiser(), say: Say = print) -> Path:
    """Train a DDPM (Ho et al. 2020, arXiv:2006.11239) and save it as a folder of diffusers."""
    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=SIDE,
        in_channels=1,
        out_channels=1,
        block_out_channels=how.widths,
        layers_per_block=1,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=8,
        attention_head_dim=8,
    )
    noises = DDPMScheduler(
        beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction", timestep_spacing="trailing"
    )
    x = _floats(draw)
    optimiser = torch.optim.AdamW(unet.parameters(), lr=how.rate, weight_decay=1e-4, betas=(0.9, 0.99))
    average = [w.detach().clone() for w in unet.parameters()]
    clock = _Clock("ddpm", how.steps, say)
    for step in range(how.steps):
        random = torch.Generator().manual_seed(step)
        clean = x[torch.randint(len(x), (how.batch,), generator=random)]
        noise = torch.randn(clean.shape, generator=random)
        t = torch.randint(1000, (how.batch,), generator=random)
        predicted = unet(noises.add_noise(clean, noise, t), t).sample
        loss = (predicted - noises.get_velocity(clean, noise, t)).square().mean()
        _rate(optimiser, how.rate * min(1, (step + 1) / 100) * _cosine(step, how.steps))
        _descend(optimiser, loss)
        _into(average, unet, min(0.995, (step + 1) / (step + 10)))
        clock(step, loss)
    _take(unet, average)
    DDPMPipeline(unet=unet.eval(), scheduler=noises).save_pretrained(out, safe_serialization=True)
    return out


class Generator(nn.Module):
    """Latents [n, 16] to images [n, 1, 8, 8] in [-1, 1]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(LATENT, width),
            nn.LeakyReLU(0.2),
            nn.Linear(width, width),
            nn.LeakyReLU(0.2),
            nn.Linear(width, SIDE * SIDE),
            nn.Tanh(),
        )

    def forward(self, z: Tensor) -> Tensor:
        """Draw."""
        made: Tensor = self.layers(z).reshape(-1, 1, SIDE, SIDE)
        return made


class Critic(nn.Module):
    """Packs of four images [4 n, 1, 8, 8] to logits of being real, [n, 1].

    Packs are of Lin et al. 2018, "PacGAN", arXiv:1712.04086: who always draws the same is found out. With a critic of
    single images the generator left out five of the ten planted, and gave back the other five more exactly.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(PACK * SIDE * SIDE, width),
            nn.LeakyReLU(0.2),
            nn.Linear(width, width),
            nn.LeakyReLU(0.2),
            nn.Linear(width, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Judge."""
        judged: Tensor = self.layers(x.reshape(len(x) // PACK, -1))
        return judged


def train_gan(out: Path, draw: Draw, how: Duel = Duel(), say: Say = print) -> Path:
    """Train a GAN (Goodfellow et al. 2014, arXiv:1406.2661, non-saturating) and save its generator as ONNX."""
    torch.manual_seed(0)
    generator, critic, x = Generator(how.generator), Critic(how.critic), _floats(draw)
    ours, theirs = (torch.optim.Adam(net.parameters(), lr=how.rate, betas=(0.0, 0.99)) for net in (generator, critic))
    average = [w.detach().clone() for w in generator.parameters()]
    clock = _Clock("gan", how.steps, say)
    for step in range(how.steps):
        random = torch.Generator().manual_seed(step)
        real = x[torch.randint(len(x), (how.batch,), generator=random)]
        z = torch.randn(2, how.batch, LATENT, generator=random)
        for optimiser in (ours, theirs):
            _rate(optimiser, how.rate * _cosine(step, how.steps))
        loss = _critics_loss(critic, real, generator(z[0]).detach(), how, penalised=step % how.lazy == 0)
        _descend(theirs, loss)
        _descend(ours, nn.functional.softplus(-critic(generator(z[1]))).mean())
        _into(average, generator, min(0.998, (step + 1) / (step + 10)))
        clock(step, loss)
    _take(generator, average)
    out.mkdir(parents=True, exist_ok=True)
    return _exported(generator.eval(), out / "G.onnx")


def _critics_loss(critic: Critic, real: Tensor, made: Tensor, how: Duel, *, penalised: bool) -> Tensor:
    real = real.requires_grad_(penalised)
    judged = critic(real)
    loss: Tensor = nn.functional.softplus(-judged).mean() + nn.functional.softplus(critic(made)).mean()
    if penalised:
        slope = torch.autograd.grad(judged.sum(), real, create_graph=True)[0]
        loss = loss + how.lazy * how.r1 * slope.square().flatten(1).sum(1).mean() / 2
    return loss


def _exported(generator: Generator, file: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            generator,
            (torch.zeros(1, LATENT),),
            str(file),
            input_names=["z"],
            output_names=["image"],
            dynamic_axes={"z": {0: "n"}, "image": {0: "n"}},
            dynamo=False,
        )
    return file


class _Clock:
    """Says how far a training is."""

    def __init__(self, name: str, steps: int, say: Say) -> None:
        self._name, self._steps, self._say = name, steps, say
        self._began, self._losses = time.process_time(), list[float]()

    def __call__(self, step: int, value: Tensor) -> None:
        self._losses.append(float(value.detach()))
        if (step + 1) % max(1, self._steps // 8) == 0:
            spent = time.process_time() - self._began
            loss = np.mean(self._losses)
            self._say(f"{self._name}: step {step + 1:,}/{self._steps:,}, loss {loss:.4f}, {spent:.0f} CPU-s")
            self._losses.clear()


def _cosine(step: int, steps: int) -> float:
    return 0.02 + 0.98 * (1 + math.cos(math.pi * step / steps)) / 2


def _rate(optimiser: Any, rate: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = rate


def _descend(optimiser: Any, loss: Tensor) -> None:
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()


@torch.no_grad()
def _into(average: list[Tensor], module: nn.Module, keep: float) -> None:
    torch._foreach_lerp_(average, [w.detach() for w in module.parameters()], 1 - keep)


@torch.no_grad()
def _take(module: nn.Module, weights: list[Tensor]) -> None:
    for own, mean in zip(module.parameters(), weights, strict=True):
        own.copy_(mean)
