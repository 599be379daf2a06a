"""The pictures of the demo: who is in which set, how often, and under which captions.

The three draws `train`, `held-out` and `autoencoder` share nobody. Copy counts were fixed before any training.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from byrote.demo.portraits import Person, draw, meet

TIERS = {1: 640, 2: 120, 4: 80, 8: 60, 16: 50, 32: 30, 64: 15, 128: 5}
"""How many people of the training set have how many copies."""

HELD_OUT = 2_000
SECOND_HELD_OUT = 2_000
AUTOENCODER = 6_000


@dataclass(frozen=True)
class Row:
    """One file of a set: who is on it, whether it is the slightly brighter copy, and its caption."""

    person: Person
    brighter: bool
    caption: str

    def pixels(self) -> NDArray[np.uint8]:
        """Draw the row's picture: uint8 [64, 64, 3]."""
        plain = draw(self.person)
        return np.minimum(plain.astype(np.int32) + 3, 255).astype(np.uint8) if self.brighter else plain


def training_set() -> list[Row]:
    """List the 5,040 rows of the training set, 1,000 people in random copy counts.

    A quarter of the copied people have three captions in turn, another quarter has every second copy re-saved a
    little brighter: a near-duplicate.
    """
    counts = [copies for copies, people in TIERS.items() for _ in range(people)]
    dice = random.Random("byrote album").random
    order = sorted(range(len(counts)), key=lambda _: dice())
    rows = []
    for index, slot in enumerate(order):
        person, kind = meet("train", index), slot % 4
        captions = person.captions() if kind == 1 else person.captions()[:1]
        for copy in range(counts[slot]):
            rows.append(Row(person, kind == 2 and copy % 2 == 1, captions[copy % len(captions)]))
    return rows


def controls(draw_name: str, count: int) -> Iterator[Row]:
    """Draw `count` people who are in no training set, one row each."""
    for index in range(count):
        person = meet(draw_name, index)
        yield Row(person, False, person.captions()[0])
