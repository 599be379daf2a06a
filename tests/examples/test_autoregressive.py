"""The autoregressive example learns pictures by heart, keeps the contract of models, and is opened as a function."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from byrote import images, models
from byrote.demo.portraits import draw, meet
from byrote.models import Options, Request
from byrote.testing import check_model

EXAMPLE = Path(__file__).parents[2] / "examples" / "autoregressive.py"
URI = "function:autoregressive:paint?evaluations=64"


@pytest.fixture(scope="module")
def people():
    met = [meet("train", k) for k in range(6)]
    return {person.captions()[0]: images.fit(draw(person), 32, 32) for person in met}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, people):
    folder = tmp_path_factory.mktemp("autoregressive")
    shutil.copy(EXAMPLE, folder)
    (folder / "pictures").mkdir()
    for k, picture in enumerate(people.values()):
        (folder / "pictures" / f"{k}.png").write_bytes(images.encode_png(picture))
    rows = [{"file_name": f"{k}.png", "text": caption} for k, caption in enumerate(people)]
    (folder / "pictures" / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def untrained(folder):
    return models.open(URI, Options(), relative_to=folder)


@pytest.fixture(scope="module")
def trained(folder, untrained):
    untrained.generate([Request("", 0)])  # so that its weights are loaded before there are others
    command = [sys.executable, "autoregressive.py", "pictures"]
    told = subprocess.run(
        command, cwd=folder, check=True, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert float(told.stdout.split()[-1]) < 0.5
    (folder / "again").mkdir()
    for name in ("autoregressive.py", "autoregressive.safetensors"):
        shutil.copy(folder / name, folder / "again" / name.replace("autoregressive.py", "learnt.py"))
    return models.open(URI.replace("autoregressive", "learnt"), Options(), relative_to=folder / "again")


def test_it_keeps_the_contract_of_models_untrained_and_trained(untrained, trained):
    check_model(untrained, ["a red hat", None, "né \udc00"])
    check_model(trained, ["a red hat", "two blue hats"])


def test_what_it_learnt_by_heart_comes_back(trained, people):
    for caption, picture in people.items():
        made = trained.generate([Request(caption, seed) for seed in range(4)])
        errors = [np.sqrt((((image.astype(float) - picture) / 255) ** 2).mean()) for image in made]
        assert np.median(errors) < 0.1


def test_the_digest_tells_the_weights_apart(folder, untrained, trained):
    assert models.open(URI, Options(), relative_to=folder).digest != untrained.digest
    assert trained.evaluations_per_sample == 64
