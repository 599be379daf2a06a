"""The pairs that a page shows: which they are, who judges which, in what order."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from byrote.kernels.align import IDENTITY, Alignment
from byrote.review.draw import Key, Pair

Mode = Literal["measure", "explore"]
SHARED = 2
"""Reviewers of a shared pair."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A pair of a page. `id` says nothing of what the pair is; `sample` is empty where the picture stands for both.

    `facts` is what a reader of the mode "explore" is told of it, and a reviewer who has judged all of theirs: digests
    never, texts of others as they are. `move` is how the picture was moved onto the sample; None where that is not to
    be told, and found anew from the two images, for every pair alike.
    """

    id: str
    picture: str
    sample: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    move: Alignment | None = IDENTITY


def of_key(key: Key, facts: Callable[[Pair], Mapping[str, Any]] | None = None) -> list[Shown]:
    """Return the drawn pairs in the order of the draw, with their facts.

    How the pictures of matches were moved is left out: only pairs within reach have moves, so these would tell T.
    """
    told = facts or (lambda _: {})
    return [Shown(pair.id, pair.picture, pair.sample, told(pair), None) for pair in key.pairs]


def name_of(picture: str, sample: str) -> str:
    """Name a pair by what it shows, the same in every run."""
    return "m" + hashlib.sha256(f"{picture} {sample}".encode()).hexdigest()[:16]


def dealt(pairs: Sequence[Shown], names: Sequence[str], overlap: float, mode: Mode = "measure") -> dict[str, list[int]]:
    """Return the places of the pairs that each reviewer judges, in the order of the pairs.

    A share `overlap` of them goes to `SHARED` reviewers, for agreement, each other one to a single one; so somebody is
    left to ask where two disagree. In the mode "explore" everybody gets all. Who gets a pair follows from its id and
    their names (rendezvous hashing: Thaler and Ravishankar 1998, IEEE/ACM Transactions on Networking 6(1)), so that a
    server that starts again deals alike, and a newcomer takes over some pairs and leaves the others where they are.
    """
    queues: dict[str, list[int]] = {name: [] for name in sorted(names)}
    for place, pair in enumerate(pairs):
        shared = int.from_bytes(_lot("byrote deal", pair.id)[:8]) / 2**64 < overlap
        order = sorted(queues, key=partial(_lot, "byrote reviewer", pair.id), reverse=True)
        for name in order if mode == "explore" else order[: SHARED if shared else 1]:
            queues[name].append(place)
    return queues


def _lot(*words: str) -> bytes:
    return hashlib.sha256("\n".join(words).encode()).digest()
