"""A short trial of the model, thrown away: how large, how fast and how big its samples are."""

import time
from dataclasses import dataclass

from byrote import images
from byrote.audit import Audit
from byrote.models import Model, Request, held
from byrote.stages import generate

PROMPT = "a photo"
SEED = 2**62
"""Samples of an audit have other seeds: theirs are digests of what is asked."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One batch of samples: pixels of an edge, seconds and bytes (as PNG) of one sample."""

    width: int
    height: int
    seconds: float
    bytes: float


def trial(audit: Audit) -> Trial:
    """Ask for one batch twice, the first time to load what must be loaded, and weigh the second."""
    batch = audit.plan.generate.batch
    generate.ask(audit.model, _requests(audit.model, 1), 1)
    began = time.perf_counter()
    made = generate.ask(audit.model, _requests(audit.model, batch), batch)
    seconds = (time.perf_counter() - began) / batch
    height, width = made[0].shape[:2]
    return Trial(width, height, seconds, sum(len(images.encode_png(image)) for image in made) / batch)


def size_of(audit: Audit) -> tuple[int, int]:
    """Return width and height of the samples: those of the plan, else what one sample has."""
    g = audit.plan.generate
    if g.width is not None and g.height is not None:
        return g.width, g.height
    height, width = generate.ask(audit.model, _requests(audit.model, 1), 1)[0].shape[:2]
    return width, height


def _requests(model: Model, count: int) -> list[Request]:
    """Ask for nobody, or, of a model that holds samples, for those of its first prompt."""
    holds = held(model)
    if holds is None:
        prompt = PROMPT if model.takes_text and not getattr(model, "takes_labels", False) else None
        return [Request(prompt, SEED + k) for k in range(count)]
    prompt, seeds = next(iter(holds.items()))
    return [Request(prompt, seeds[k % len(seeds)]) for k in range(count)]
