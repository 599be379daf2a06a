"""A small version of benchmarks/digits.py: a DDPM that is really trained here, audited from end to end."""

import digits
import numpy as np
import pytest
import torch
from digit_models import Critic, Denoiser, Draw, Duel, train_ddpm, train_gan
from scipy import linalg

import byrote
from byrote import images, models
from byrote.models import Options, Request

pytestmark = pytest.mark.filterwarnings(r"ignore:__array_:DeprecationWarning")  # of diffusers with numpy 2

DRAW = Draw(planted=4, copies=150, others=60, controls=400, second=100, seed=4)  # no control is like what is planted
SMALL = Denoiser(widths=(16, 32), steps=240, batch=32)
SAMPLES = 256


def quiet(line):
    """Say nothing."""


@pytest.fixture(scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def audit(tmp_path_factory, one_thread):
    """Train for about ten seconds, and audit."""
    out = tmp_path_factory.mktemp("ddpm")
    train_ddpm(out / "model", DRAW, SMALL, quiet)
    return digits.audit("ddpm", out, DRAW, SAMPLES)


@pytest.fixture(scope="module")
def told(audit):
    return digits.judged("ddpm", audit, DRAW)


def certified(audit):
    return {row["picture"]["digest"] for row in byrote.Result(audit).json["findings"] if row["certified"]}


def test_a_trained_ddpm_gives_back_what_was_planted_and_no_control_is_called_so(audit, told):
    planted = {images.digest(np.repeat(p[..., None], 3, 2)) for p in digits.digits(DRAW).planted}
    assert certified(audit) == planted
    assert (told["controls"], told["controls_certified"]) == (400, 0)
    assert told["copies_per_million_samples"] > 100_000


def test_tau_is_that_of_a_further_draw_which_nothing_is_judged_by(told):
    assert told["tau"]["source"] == "a second held-out draw"
    assert told["tau"]["pictures"] == DRAW.second
    assert 0.05 <= told["tau"]["closest"] <= 0.1


def test_the_ratio_alone_finds_what_was_planted_too(told):
    assert told["paper_extracted_planted"] == DRAW.planted <= told["paper_extracted"]


def test_the_report_says_what_was_searched_for_and_of_no_caption_that_it_was_asked(audit):
    page = (audit / "report" / "report.html").read_text()
    assert "4 of 64 pictures tested are certified as reproduced" in page
    assert "64 pictures and 400 controls were searched for among 256 samples" in page
    assert "Only 256 samples were made" in page
    assert "A classifier that sees pictures and captions but never the model tells pictures from controls" in page
    for untrue in ("captions were asked", "its own caption was", "unasked", "asked for by their caption"):
        assert untrue not in page, untrue


def test_the_sentences_and_rates_are_those_of_the_pictures_that_were_searched_for(audit):
    report = byrote.Result(audit).json
    tiers = [(r["tier"], r["k"], r["n"]) for r in report["rates"] if r["name"] == "unasked groups certified"]
    assert tiers == [("1", 0, 60), ("64+", 4, 4), (None, 4, 64)]
    assert (report["at_all"]["pictures_within"], report["at_all"]["controls"]) == (4, 400)
    assert report["apart"]["pictures"] == 60
    page = (audit / "report" / "report.html").read_text()
    assert "4 of 64 groups of pictures that were searched for among all samples are certified as reproduced" in page


def test_the_same_training_gives_the_same_weights(tmp_path, one_thread):
    few = Denoiser(widths=(16, 32), steps=3, batch=8)
    made = [train_ddpm(tmp_path / name, DRAW, few, quiet) for name in "ab"]
    told = [models.open(f"diffusers:{folder}", Options(steps=2)).digest for folder in made]
    assert told[0] == told[1]


def test_a_gan_becomes_an_onnx_file_that_can_be_asked(tmp_path, one_thread):
    few = Duel(generator=16, critic=16, steps=9, batch=16)
    files = [train_gan(tmp_path / name, DRAW, few, quiet) for name in "ab"]
    made = [models.open(f"onnx:{file}", Options()).generate([Request(None, 1), Request(None, 2)]) for file in files]
    assert made[0][0].shape == (8, 8, 3)
    assert (np.stack(made[0]) == np.stack(made[1])).all()
    assert (made[0][0] != made[0][1]).any()


def test_the_critic_judges_packs_and_sees_that_all_are_the_same():
    with torch.no_grad():
        assert Critic(8)(torch.zeros(12, 1, 8, 8)).shape == (3, 1)


def test_draws_share_no_picture():
    found = digits.digits(Draw())
    every = np.concatenate([found.planted, found.others, found.controls, found.second])
    assert len(np.unique(every.reshape(len(every), -1), axis=0)) == len(every) == 1797
    assert len(found.rows(60)) == 1000


def slow_ratio(sample, pictures, which):
    """Return the adaptive ratio of Carlini et al. 2023, section 5.1, of one sample and one picture."""
    far = [float(np.sqrt(((sample / 255 - picture / 255) ** 2).mean())) for picture in pictures]
    return far[which] / (0.5 * np.mean(sorted(far)[:50]))


def test_the_ratio_is_that_of_the_paper():
    random = np.random.default_rng(0)
    pictures = random.integers(0, 256, (70, 8, 8)).astype(np.uint8)
    samples = random.integers(0, 256, (6, 8, 8)).astype(np.uint8)
    samples[2] = pictures[5] // 2 + 40
    samples[4] = pictures[9]
    slow = [min(slow_ratio(sample, pictures, k) for sample in samples) <= 1 for k in range(70)]
    assert digits.by_paper(samples, pictures).tolist() == slow
    assert 0 < sum(slow) < 70


def test_the_frechet_distance_is_that_of_two_normal_distributions():
    random = np.random.default_rng(0)
    a, b, basis = (random.integers(0, 256, (90, 8, 8)).astype(np.uint8) for _ in range(3))
    assert digits.frechet(a, a, basis) == pytest.approx(0, abs=1e-9)
    x, y, z = (each.reshape(90, 64) / 255 for each in (a, b, basis))
    values, axes = np.linalg.eigh(np.cov(z.T))
    axes = axes[:, np.argsort(values)[::-1][: digits.COMPONENTS]]
    p, q = np.cov((x @ axes).T), np.cov((y @ axes).T)
    root = linalg.sqrtm(linalg.sqrtm(p) @ q @ linalg.sqrtm(p)).real
    expected = ((x.mean(0) - y.mean(0)) @ axes) ** 2
    assert digits.frechet(a, b, basis) == pytest.approx(expected.sum() + np.trace(p + q - 2 * root))


def test_the_table_has_a_line_for_everything_and_a_column_for_every_model(told):
    rows = [told | {"training_cpu_seconds": 1.0}, told | {"model": "other", "training_cpu_seconds": 2.0}]
    lines = digits.table(rows).splitlines()
    assert lines[0].split() == ["ddpm", "other"]
    assert len(lines) == 1 + len(digits.LINES)
