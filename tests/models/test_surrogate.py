"""A surrogate condition: made of a model's own samples, it keeps the contract of models."""

import numpy as np
import pytest

from byrote import models
from byrote.cli import main
from byrote.errors import ModelError
from byrote.models import Options, Request
from byrote.testing import check_model

from . import tiny

pytestmark = pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("surrogate")
    model = tiny.unconditional(folder / "model")
    sizes = ["--samples", "24", "--clusters", "2", "--cohesion", "-1", "--steps", "2", "--trained", "10"]
    assert main(["surrogate", f"diffusers:{model}", "--out", str(folder / "s.safetensors"), *sizes, "--json"]) == 0
    return folder


def uri(made, scale=1):
    return f"surrogate:{made / 's.safetensors'}?model={made / 'model'}&scale={scale}"


def test_it_keeps_the_contract_of_models(made):
    check_model(models.open(uri(made), Options(steps=2)), [None])


def test_it_steers_and_without_scale_it_does_not(made):
    request = [Request(None, 3)]
    steered, still = (models.open(uri(made, s), Options(steps=2)).generate(request)[0] for s in (50, 0))
    own = models.open(f"diffusers:{made / 'model'}", Options(steps=2, sampler="ddim")).generate(request)[0]
    assert (steered != still).any()
    assert int(np.abs(still.astype(int) - own).max()) <= 1


def test_a_surrogate_of_other_weights_is_refused(made, tmp_path):
    other = tiny.unconditional(tmp_path / "other", seed=5)
    with pytest.raises(ModelError, match="made from other weights"):
        models.open(f"surrogate:{made / 's.safetensors'}?model={other}", Options(steps=2))


def test_what_takes_prompts_and_what_is_there_are_refused(made, tmp_path, capsys):
    text = tiny.stable_diffusion(tmp_path / "text")
    assert main(["surrogate", f"diffusers:{text}", "--out", str(tmp_path / "x")]) == 2
    assert "takes prompts" in capsys.readouterr().err
    assert main(["surrogate", f"diffusers:{made / 'model'}", "--out", str(made / "s.safetensors")]) == 2
    assert "is there already" in capsys.readouterr().err
