"""The pairs that a page shows: which they are, who judges which, in what order."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from byrote.kernels.align import IDENTITY, Alignment
from byrote.review.draw import Key, Pair

Mode = Literal["measure", "explore"]


@dataclass(frozen=True, slots=True)
class Shown:
    """A pair of a page. `id` says nothing of what the pair is; `sample` is empty where the picture stands for both.

    `facts` is what a reader of the mode "explore" is told of it, and a reviewer who has judged all of theirs: digests
    never, texts of others as they are. `move` is how the picture was moved onto the sample.
    """

    id: str
    picture: str
    sample: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    move: Alignment = IDENTITY


def of_key(key: Key, about: Callable[[Pair], tuple[Mapping[str, Any], Alignment]] | None = None) -> list[Shown]:
    """Return the drawn pairs in the order of the draw; `about` gives their facts and how the picture was moved."""
    told = about or (lambda _: ({}, IDENTITY))
    return [Shown(pair.id, pair.picture, pair.sample, *told(pair)) for pair in key.pairs]


def name_of(picture: str, sample: str) -> str:
    """Name a pair by what it shows, the same in every run."""
    return "m" + hashlib.sha256(f"{picture} {sample}".encode()).hexdigest()[:16]


def dealt(pairs: Sequence[Shown], names: Sequence[str], overlap: float) -> dict[str, list[int]]:
    """Return the places of the pairs that each reviewer judges, in the order of the pairs.

    A share `overlap` of them goes to all, for agreement, each other one to a single reviewer. Which pairs these are
    follows from their ids alone, so that a server that starts again deals alike.
    """
    order = sorted(names)
    queues: dict[str, list[int]] = {name: [] for name in order}
    for place, pair in enumerate(pairs):
        lot = int.from_bytes(hashlib.sha256(f"byrote deal {pair.id}".encode()).digest()[:8])
        shared = lot / 2**64 < overlap
        for name in order if shared else [order[lot % len(order)]]:
            queues[name].append(place)
    return queues
