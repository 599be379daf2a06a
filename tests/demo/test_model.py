"""The demo's model: it loads like anybody's, remembers what was copied often, and can be trained again."""

import numpy as np
import pytest

from byrote import models
from byrote.demo import KNOBS, MODEL, TRUTH, Truth, album, plan
from byrote.errors import PlanError
from byrote.kernels.distance import paired_tiled
from byrote.models import Options, Request
from byrote.plan import load
from byrote.testing import check_model

SAMPLER = {name: KNOBS["generate"][name] for name in ("steps", "guidance")}


@pytest.fixture(scope="module")
def model():
    return models.open(f"diffusers:{MODEL}", Options(**SAMPLER))


@pytest.fixture(scope="module")
def rows():
    return album.training_set()


def by_copies(rows, copies):
    names = [row.person.name for row in rows]
    first = {row.person.name: row for row in rows if not row.brighter}
    return [row for name, row in first.items() if names.count(name) == copies]


def test_it_keeps_the_contract_of_models(model):
    check_model(model, ["somebody, red hair", None])


def test_its_truth_was_measured_on_these_weights(model):
    assert TRUTH.exists()
    assert Truth.read().model == model.digest


def test_it_weighs_ten_megabytes_at_most():
    assert sum(path.stat().st_size for path in MODEL.rglob("*") if path.is_file()) <= 10_000_000


def test_what_was_copied_often_comes_back_and_a_control_does_not(model, rows):
    often = by_copies(rows, 64)[:6]
    controls = list(album.controls("held-out", 6))
    made = np.stack(model.generate([Request(row.caption, 1) for row in [*often, *controls]]))
    trips = np.stack(model.round_trip([row.pixels() for row in [*often, *controls]]))
    distances = paired_tiled(made, trips, tiles=4)
    assert (distances[:6] < 0.15).sum() >= 5
    assert (distances[6:] > 0.15).all()


def test_at_least_forty_often_copied_people_come_back_and_most_single_ones_do_not(rows):
    shares = Truth.read().shares
    often = [row for copies in (16, 32, 64, 128) for row in by_copies(rows, copies)]
    assert sum(shares[row.caption] >= 0.2 for row in often) >= 40
    single = by_copies(rows, 1)
    assert sum(shares[row.caption] >= 0.2 for row in single) < len(single) / 2


def test_its_plan_is_a_plan(tmp_path):
    (tmp_path / "audit.toml").write_text(plan())
    read = load(tmp_path / "audit.toml")
    assert read.generate.seeds == KNOBS["generate"]["seeds"]
    assert read.match.flip is False
    with pytest.raises(PlanError):
        load(tmp_path / "no.toml")


def test_it_can_be_trained_again_and_training_resumes(tmp_path):
    from byrote.demo.train import Budget, train

    said = []
    small = {"autoencoder_pictures": 16, "autoencoder_batch": 2, "denoiser_batch": 2}
    train(tmp_path, Budget(autoencoder_steps=2, denoiser_steps=2, **small), said.append)
    folder = train(tmp_path, Budget(autoencoder_steps=2, denoiser_steps=4, **small), said.append)
    assert any("denoiser: step 4/4" in line for line in said)
    assert sum("autoencoder: step" in line for line in said) == 1
    again = models.open(f"diffusers:{folder}", Options(**SAMPLER))
    assert again.generate([Request("somebody", 1)])[0].shape == (64, 64, 3)


def test_a_training_that_goes_on_numbers_its_tokens_as_before():
    from byrote.demo.train import _tokenizer, _tokens

    captions = [row.caption for row in album.controls("held-out", 60)]
    first, *others = (_tokens(_tokenizer(captions), captions) for _ in range(3))
    assert all((tokens == first).all() for tokens in others)
    assert first.max() > 300, "words have tokens of their own"
