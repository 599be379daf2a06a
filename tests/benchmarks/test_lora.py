"""A small version of benchmarks/lora.py: a LoRA of few steps, audited with few controls and its base as twin."""

import json
from copy import deepcopy

import lora
import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

from byrote.demo import MODEL, album
from byrote.models import Options
from byrote.models.diffusers import Diffusers

STEPS, PEOPLE, CONTROLS, SEEDS = 12, 4, 6, 2

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def bare():
    return StableDiffusionPipeline.from_pretrained(MODEL, torch_dtype=torch.float32, safety_checker=None)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return tmp_path_factory.mktemp("lora")


@pytest.fixture(scope="module")
def trained(work):
    return lora.train(work / "trained", lora.Training("lora", STEPS), PEOPLE)


@pytest.fixture(scope="module")
def audited(work, trained):
    lora.index(work, CONTROLS, 1, PEOPLE)
    return lora.audit(work, trained, "few", CONTROLS, 1, SEEDS)


def with_lora(path):
    return Diffusers(str(MODEL), Options(lora=(str(path),)), path.parent)


@torch.no_grad()
def test_what_is_trained_beside_the_layers_is_what_the_file_lays_over_them(bare, tmp_path):
    unet, dice = deepcopy(bare.unet), torch.Generator().manual_seed(1)
    asked = torch.randn(2, 12, 8, 8, generator=dice), torch.tensor([10, 900]), torch.randn(2, 32, 64, generator=dice)
    plain, pairs = unet(*asked).sample, lora.beside(unet, 3)
    assert torch.equal(unet(*asked).sample, plain)
    for _, up in pairs.values():
        up.normal_(std=0.3, generator=dice)
    expected = unet(*asked).sample
    made = with_lora(lora.write(tmp_path / lora.FILE, pairs))._pipeline.unet(*asked).sample
    assert torch.allclose(made, expected, atol=1e-4)
    assert float((plain - expected).abs().max()) > 0.1


@torch.no_grad()
def test_training_brings_the_model_nearer_to_the_pictures(bare, trained):
    given, unet = lora.inputs(bare, lora.people("lora", PEOPLE)), with_lora(trained)._pipeline.unet
    after, before = (np.mean([float(lora.loss(one, *given, k)) for k in range(900, 912)]) for one in (unet, bare.unet))
    assert after < 0.9 * before


def test_nobody_of_the_benchmark_is_in_two_draws_or_known_to_the_demos_model():
    draws = {"lora": 8, "lora others": 8, "lora controls": lora.CONTROLS, "lora fresh": lora.FRESH}
    ours = [person.name for draw, n in draws.items() for person in lora.people(draw, n)]
    assert len(set(ours)) == len(ours)
    assert not set(ours) & {row.person.name for row in album.training_set()}


def test_an_audit_of_few_controls_says_that_nothing_could_be_certified(work, trained, audited):
    report = json.loads((work / "audit-few" / "report" / "report.json").read_text())
    assert audited["tests"]["m"] == PEOPLE
    assert audited["tests"]["n_controls"] == CONTROLS
    assert audited["tests"]["k_needed"] > PEOPLE
    assert audited["certified"] == []
    assert report["plan"]["model"]["lora"] == [str(trained)]
    assert report["cost"]["samples"] == 2 * (PEOPLE + CONTROLS) * SEEDS


def test_the_report_names_the_model_by_what_lies_over_it_and_the_twin_without_it(work, trained, audited):
    bare = Diffusers(str(MODEL), Options(), work).digest
    assert audited["twin"] == bare
    assert audited["model"] == Diffusers(str(MODEL), Options(lora=(str(trained),)), work).digest != bare


def test_shares_count_samples_whose_nearest_is_the_own_picture_and_near_enough():
    who = np.repeat(np.arange(lora.PICTURES), lora.SEEDS)
    near = np.full(who.shape, 0.1)
    who[:10], near[lora.SEEDS : lora.SEEDS + 20] = 3, 0.3
    assert lora.shares(who, near, 0.2) == [0.8, 0.6] + [1.0] * (lora.PICTURES - 2)


def test_recall_counts_what_comes_back_often_and_seldom_apart():
    captions = [lora.caption(person) for person in lora.people("lora", lora.PICTURES)]
    told = lora.held_against({"certified": [captions[0], captions[2], captions[7]]}, [0.9, 0.3, 0.1, 0.05, 0, 0, 0, 0])
    assert told["of those that come back in 30 % or more"] == [1, 2]
    assert told["of those that come back in 5 to 30 %"] == [1, 2]
    assert told["of those that never came back"] == [1, 4]
