"""How a surrogate is made: a model's own samples, clustered, and a classifier that tells the clusters in noise.

Chen et al. 2024, "Extracting Training Data from Unconditional Diffusion Models" (SIDE), arXiv:2410.02467. Departs from
it: the classifier is a small one that is trained on noisy states from the start, not a ResNet that is given time later;
the samples of clusters that are dropped stay as one class more, which nothing is steered to, since what is no cluster
must be told from one; by default clusters are of thumbnails, as SSCD wants weights.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from byrote import descriptors
from byrote.descriptors import Descriptor
from byrote.domain import RGB
from byrote.errors import ModelError
from byrote.kernels.clusters import clusters, cohesion, directions
from byrote.models import Options, devices, inner
from byrote.models.classifier import Card, Classifier, angle, write
from byrote.models.denoiser import Denoiser, Floats, Level, Prediction
from byrote.models.memory import short

LEVELS = 100
HELD_BACK = 10
"""One sample of so many is not trained on, to tell how often the classifier is right."""


@dataclass(frozen=True, slots=True)
class Teaching:
    """How a surrogate is made. 100 clusters and .5 are the paper's; the rest is ours."""

    samples: int = 2_000
    clusters: int = 100
    cohesion: float = 0.5
    descriptor: str = "thumbnail:16"
    trained: int = 2_000
    seed: int = 0
    batch: int = 64
    rate: float = 1e-3


@dataclass(frozen=True, slots=True)
class Taught:
    """What came of it: clusters kept and dropped, what they hold, what it cost, how often the classifier is right."""

    file: str
    samples: int
    evaluations: int
    kept: int
    dropped: int
    samples_kept: int
    cohesion: float  # the median of the clusters kept
    accuracy: float  # of samples that it was not trained on, over all levels


def teach(
    uri: str,
    out: Path,
    how: Teaching,
    options: Options,
    *,
    relative_to: Path | None = None,
    tell: Callable[[str], None] = print,
) -> Taught:
    """Make the surrogate of a model that takes no prompt, and write it. Raises ModelError, DescriptorError."""
    base = relative_to or Path.cwd()
    if out.exists():
        raise ModelError(f"{out} is there already: name another file")
    if not out.absolute().parent.is_dir():
        raise ModelError(f"{out}: there is no folder {out.parent}: make it first")
    if how.clusters > how.samples:
        raise ModelError(f"{how.samples} samples make no {how.clusters} clusters: take more samples")
    descriptor = descriptors.open(how.descriptor, device=options.device, relative_to=base)
    if descriptor.metric == "hamming":
        raise ModelError(f"descriptor {how.descriptor!r} gives bits, which have no mean: take thumbnail or sscd:FILE")
    model = inner.opened(inner.named(uri), options, base)
    if model.takes_text:
        raise ModelError(f"model {uri!r} takes prompts: ask it by them; a surrogate is for models that take none")
    denoiser = inner.denoiser(uri, model)
    evaluations = how.samples * len(denoiser.levels())
    tell(f"{how.samples:,} samples: {evaluations:,} evaluations")
    states, images = _sampled(uri, denoiser, how)
    labels, tight = _labelled(images, descriptor, how)
    kept, classes, rows = len(tight), int(labels.max()) + 1, int((labels < len(tight)).sum())
    tell(f"{kept} of {how.clusters} clusters are kept, with {rows:,} of the samples")
    classifier, accuracy = _trained(states, labels, classes, denoiser, how, options)
    shape, held = denoiser.shape, tuple(round(float(value), 4) for value in tight)
    card = Card(model.digest, shape, kept, classes, how.samples, evaluations, how.seed, descriptor.name, held)
    write(out, classifier, card)
    middle = float(np.median(tight))
    return Taught(str(out), how.samples, evaluations, kept, how.clusters - kept, rows, middle, accuracy)


def _sampled(uri: str, denoiser: Denoiser, how: Teaching) -> tuple[Floats, list[RGB]]:
    """Draw samples: clean states, and their images."""
    seeds = np.random.default_rng(how.seed).integers(2**63 - 1, size=how.samples).tolist()
    levels, made = denoiser.levels(), []
    for k in range(0, len(seeds), how.batch):
        some = seeds[k : k + how.batch]

        def without(x: Floats, level: Level, count: int = len(some)) -> Prediction:
            return denoiser.predict(x, level, [None] * count)

        with short(uri, len(some)):
            made.append(inner.drawn(denoiser, levels, some, without))
    states = np.concatenate(made)
    return states, denoiser.decode(states)


def _labelled(
    images: list[RGB], descriptor: Descriptor, how: Teaching
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the cluster of each sample, and the cohesions of those kept; all that are dropped are one more."""
    vectors = descriptor.describe(images).astype(np.float32)
    vectors = directions(vectors) if descriptor.metric == "rms" else vectors
    labels = clusters(vectors, how.clusters, seed=how.seed)
    tight = cohesion(vectors, labels, how.clusters)
    kept = np.flatnonzero(tight >= how.cohesion)
    if len(kept) < 2:
        told = f"the most cohesive has {tight.max():.2f}"
        raise ModelError(f"fewer than 2 clusters hold together by {how.cohesion:g} ({told}): set --cohesion lower")
    new = np.full(how.clusters, len(kept))
    new[kept] = np.arange(len(kept))
    return new[labels], tight[kept]


def _trained(
    states: Floats, labels: NDArray[np.int64], classes: int, denoiser: Denoiser, how: Teaching, options: Options
) -> tuple[Classifier, float]:
    """Train a classifier on noisy states; return it with its accuracy on those held back."""
    devices.ready(options.device, options.threads)
    with torch.random.fork_rng([]):
        torch.manual_seed(how.seed)
        classifier = Classifier(denoiser.shape, classes).to(options.device)
    back = np.arange(len(states)) % HELD_BACK == 0
    optimiser = torch.optim.AdamW(classifier.parameters(), lr=how.rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, how.trained)
    levels, dice = denoiser.levels(LEVELS), np.random.default_rng([how.seed, 1])
    own, theirs = states[~back], labels[~back]
    for _ in range(how.trained):
        x, angles, truth = _noisy(own, theirs, levels, dice, how.batch, options.device)
        optimiser.zero_grad()
        nn.functional.cross_entropy(classifier(x, angles), truth).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    classifier.eval()
    with torch.no_grad():
        x, angles, truth = _noisy(states[back], labels[back], levels, dice, 16 * how.batch, options.device)
        right = float((classifier(x, angles).argmax(1) == truth).float().mean())
    return classifier, round(right, 4)


def _noisy(
    states: Floats,
    labels: NDArray[np.int64],
    levels: list[Level],
    dice: np.random.Generator,
    count: int,
    device: str,
) -> Iterator[torch.Tensor]:
    """Draw samples with noise of any level: states, their angles and their clusters."""
    rows, at = dice.integers(len(states), size=count), dice.integers(len(levels), size=count)
    noise = dice.standard_normal((count, *states.shape[1:]), np.float32)
    known = np.array([(level.alpha, level.sigma) for level in levels], np.float32)
    alphas, sigmas = (each[at, None, None, None] for each in known.T)
    angles = np.array([angle(levels[k]) for k in at], np.float32)
    x = alphas * states[rows] + sigmas * noise
    return (torch.from_numpy(array).to(device) for array in (x, angles, labels[rows]))
