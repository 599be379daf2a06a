"""The demo's pictures: the same bytes anywhere, nobody twice, nobody alike."""

from collections import Counter
from hashlib import sha256

import numpy as np

from byrote.demo import album
from byrote.demo.portraits import draw, meet
from byrote.kernels.distance import rms

PINNED = "bdc4fbdf4887f03d43c5728ad3f1c2f4c9e10a832fe723c2e2b7f3955732cba4"


def test_the_pictures_are_the_same_bytes_anywhere():
    whole = sha256()
    for index in range(50):
        for name in ("train", "held-out"):
            whole.update(draw(meet(name, index)).tobytes())
            whole.update("|".join(meet(name, index).captions()).encode())
    assert whole.hexdigest() == PINNED


def test_the_training_set_has_the_copy_counts_that_were_fixed():
    copies = Counter(row.person.name for row in album.training_set())
    assert Counter(copies.values()) == album.TIERS
    assert len(album.training_set()) == 5_040


def test_some_copied_people_have_several_captions_and_some_a_brighter_copy():
    captions, brighter = {}, set()
    for row in album.training_set():
        captions.setdefault(row.person.name, set()).add(row.caption)
        if row.brighter:
            brighter.add(row.person.name)
    many = [name for name, said in captions.items() if len(said) > 1]
    assert 60 <= len(many) <= 120
    assert 60 <= len(brighter) <= 120
    assert not brighter & set(many)


def test_nobody_is_in_two_draws_and_no_caption_is_said_twice():
    sizes = {"train": 1_000, "held-out": album.HELD_OUT, "second held-out": 2_000, "autoencoder": album.AUTOENCODER}
    people = [meet(name, index) for name, size in sizes.items() for index in range(size)]
    captions = [caption for person in people for caption in person.captions()]
    assert len(set(captions)) == len(captions)
    assert len({person.seed for person in people}) == len(people)


def test_no_two_portraits_are_near_duplicates_by_chance():
    pictures = np.stack([draw(meet(name, index)) for name in ("train", "held-out") for index in range(150)])
    distances = rms(pictures, pictures)
    np.fill_diagonal(distances, 1)
    assert distances.min() > 0.15
