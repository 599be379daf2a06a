"""A surrogate of an exact model: clusters of its samples bring back what it knows, far more often than plain asking."""

import numpy as np
import pytest

from byrote import models
from byrote.errors import DescriptorError, ModelError
from byrote.models import Options, Request
from byrote.models.classifier import Classifier, pull, read, read_card
from byrote.models.denoiser import Level
from byrote.models.surrogate import cluster_of
from byrote.models.teaching import Teaching, teach

from . import exact

SHARE = 0.3
HOW = Teaching(samples=256, clusters=12, trained=500, descriptor="thumbnail:8")
SAMPLES = [Request(None, seed) for seed in range(128)]


@pytest.fixture(autouse=True)
def kind(monkeypatch):
    monkeypatch.setitem(models.KINDS, "exact", exact.KIND)


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    file = tmp_path_factory.mktemp("taught") / "s.safetensors"
    models.KINDS["exact"] = exact.KIND
    try:
        return file, teach(f"exact:{SHARE}", file, HOW, Options(), tell=str)
    finally:
        del models.KINDS["exact"]


def steered(file, scale=1.0, share=SHARE):
    return models.open(f"surrogate:{file}?model=exact:{share}&scale={scale}", Options())


def test_what_holds_together_is_kept_and_what_does_not_is_dropped(taught):
    file, told = taught
    card = read_card(file)
    assert 2 <= told.kept == card.clusters == card.classes - 1 < HOW.clusters
    assert told.kept + told.dropped == HOW.clusters
    assert min(card.cohesion) >= HOW.cohesion
    assert told.samples_kept < HOW.samples
    assert told.evaluations == card.evaluations == HOW.samples * exact.STEPS


def test_a_surrogate_condition_brings_back_what_plain_samples_seldom_show(taught):
    plain = exact.copied(models.open(f"exact:{SHARE}", Options()).generate(SAMPLES), exact.pictures())
    found = exact.copied(steered(taught[0]).generate(SAMPLES), exact.pictures())
    assert 0.15 < (plain >= 0).mean() < 0.45
    assert (found >= 0).mean() > 2 * (plain >= 0).mean()
    others = np.random.default_rng(1).integers(40, 216, (100, 8, 8, 3)).astype(np.uint8)
    assert (exact.copied(steered(taught[0]).generate(SAMPLES), others) == -1).all()


def test_without_scale_samples_are_the_models_own(taught):
    own = models.open(f"exact:{SHARE}", Options()).generate(SAMPLES[:8])
    assert all(np.array_equal(a, b) for a, b in zip(own, steered(taught[0], 0).generate(SAMPLES[:8]), strict=True))


def test_the_model_is_asked_once_a_step_and_the_seed_chooses_the_cluster(taught):
    model = steered(taught[0])
    model.generate(SAMPLES[:5])
    assert model._held.denoiser.asked == 5 * model.evaluations_per_sample == 5 * exact.STEPS
    drawn = np.bincount([cluster_of(seed, 5) for seed in range(2_000)])
    assert drawn.min() > 330


def test_what_is_wrong_is_told_before_the_first_sample(tmp_path):
    with pytest.raises(ModelError, match="there is no folder"):
        teach("exact:.3", tmp_path / "none" / "s.safetensors", HOW, Options(), tell=pytest.fail)
    with pytest.raises(ModelError, match="make no 12 clusters"):
        teach("exact:.3", tmp_path / "s", Teaching(samples=4, clusters=12), Options(), tell=pytest.fail)


def test_the_same_words_make_the_same_file(taught, tmp_path):
    small = Teaching(samples=64, clusters=8, cohesion=0, trained=20, descriptor="thumbnail:8")
    for name in ("a", "b"):
        teach(f"exact:{SHARE}", tmp_path / name, small, Options(), tell=str)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    teach(f"exact:{SHARE}", tmp_path / "c", Teaching(**{**_told(small), "seed": 1}), Options(), tell=str)
    assert (tmp_path / "a").read_bytes() != (tmp_path / "c").read_bytes()


def _told(how):
    return {name: getattr(how, name) for name in how.__dataclass_fields__}


def test_the_pull_is_the_gradient_of_the_clusters_log_probability(taught):
    file, _ = taught
    classifier = read(file, read_card(file))
    dice, level = np.random.default_rng(0), Level(500, 0.8, 0.6)
    x, move = dice.standard_normal((2, 2, 3, 8, 8)).astype(np.float32)
    assert isinstance(classifier, Classifier)
    found, step = pull(classifier, x, level, [0, 1]), np.float32(1e-2)
    up, down = (_log_likely(classifier, x + s * move, level, [0, 1]) for s in (step, -step))
    assert np.vdot(found, move) == pytest.approx(float((up - down) / (2 * step)), rel=0.02, abs=1e-3)


def _log_likely(classifier, x, level, classes):
    import torch

    from byrote.models.classifier import angle

    with torch.no_grad():
        logits = classifier(torch.from_numpy(x), torch.full((len(x),), angle(level))).double().log_softmax(1)
    return float(sum(logits[row, k] for row, k in enumerate(classes)))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"clusters": 300}, "make no 300 clusters"),
        ({"cohesion": 1.01}, "fewer than 2 clusters hold together by 1.01"),
        ({"descriptor": "pdq"}, "bits, which have no mean"),
        ({"descriptor": "thumbnails"}, "unknown kind"),
    ],
)
def test_what_makes_no_surrogate_is_told(tmp_path, changes, says):
    how = Teaching(**{**_told(HOW), "samples": 64, "clusters": 8, "trained": 5} | changes)
    with pytest.raises((ModelError, DescriptorError), match=says):
        teach(f"exact:{SHARE}", tmp_path / "s", how, Options(), tell=str)
    assert not (tmp_path / "s").exists()


def test_files_that_are_no_surrogates_are_refused(taught, tmp_path):
    (tmp_path / "torn").write_bytes(taught[0].read_bytes()[:200])
    (tmp_path / "text").write_text("no surrogate")
    for name in ("torn", "text", "away"):
        with pytest.raises(ModelError, match="no surrogate"):
            steered(tmp_path / name)
    with pytest.raises(ModelError, match="made from other weights"):
        steered(taught[0], share=0.5)
