"""A small version of benchmarks/emoji.py: its draws, and a training of two steps."""

import os
import shutil
import subprocess

import copies
import emoji
import numpy as np
import pytest
import torch

from byrote import images, models, sources
from byrote.models import Options, Request

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def draws():
    """Draw all. Without the font a test is skipped with a reason, but under CI=true it fails."""
    if not emoji.FONT.exists() and os.geteuid() == 0 and shutil.which("apt-get"):
        install = ["apt-get", "install", "-y", "-qq", "fonts-noto-color-emoji"]
        subprocess.run(install, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if not emoji.FONT.exists() and os.environ.get("CI") == "true":
        pytest.fail("no emoji font on this machine, and it could not be installed")
    if not emoji.FONT.exists():
        pytest.skip("no emoji font on this machine: apt-get install fonts-noto-color-emoji")
    return emoji.draws()


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def trained(work, draws, monkeypatch, *steps):
    """Train as long as each of `steps` says, of the autoencoder and of the denoiser; return the model."""
    for autoencoder, denoiser in steps:
        monkeypatch.setattr(emoji, "VAE_STEPS", autoencoder)
        monkeypatch.setattr(emoji, "STEPS", denoiser)
        work.mkdir(exist_ok=True)
        emoji._train(work, draws[0], draws[2][:8])
    return models.open(f"diffusers:{work / 'model'}", Options(steps=2, guidance=3.0))


def test_a_tokenizer_that_was_made_is_kept_and_read_back_the_same(draws, tmp_path):
    captions = [name for name, _ in draws[0]]
    made = emoji._kept_tokenizer(tmp_path / "tokenizer", captions)
    again = emoji._kept_tokenizer(tmp_path / "tokenizer", captions[:9])
    assert made(captions)["input_ids"] == again(captions)["input_ids"]
    assert [made.decode(row, skip_special_tokens=True).strip() for row in made(captions)["input_ids"]] == captions


def test_nothing_is_in_two_draws_and_captions_are_distinct(draws):
    rows = [row for draw in draws for row in draw]
    assert len({name for name, _ in rows}) == len({image.tobytes() for _, image in rows}) == len(rows)
    assert [len(draw) for draw in draws[:2]] == [sum(emoji.COPIES.values()), emoji.HELD_OUT] == [600, 300]
    assert len(draws[2]) > 300
    assert all(name == name.lower() and not {'"', ","} & set(name) for name, _ in rows)


def test_no_picture_has_a_skin_tone(draws):
    assert not [name for draw in draws for name, _ in draw if "fitzpatrick" in name]


def test_the_draws_are_the_same_each_time(draws):
    again = emoji.draws()
    for one, other in zip(draws, again, strict=True):
        assert [name for name, _ in one] == [name for name, _ in other]
        assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(one, other, strict=True))


def test_little_more_than_half_of_what_is_trained_on_is_of_the_most_copied():
    numbers = emoji.copies()
    assert len(numbers) == 600
    assert 0.5 < sum(many for many in numbers if many >= 25) / sum(numbers) < 0.65


def test_a_folder_holds_every_row_with_its_caption(draws, tmp_path):
    rows = [draws[0][0], draws[0][0], draws[0][1]]
    emoji._paint(tmp_path / "pictures", rows)
    source = sources.open(str(tmp_path / "pictures"))
    items = sorted(source.list(), key=lambda item: item.where)
    assert len(items) == 3
    assert [(tmp_path / "pictures" / "metadata.csv").read_text().count(f'"{name}"') for name, _ in rows[1:]] == [2, 1]
    for k, (_, image) in enumerate(rows):
        assert np.array_equal(images.decode((tmp_path / "pictures" / f"{k:05d}.png").read_bytes()), image)


def test_the_autoencoder_is_taught_no_picture_of_either_side(draws):
    sides = {image.tobytes() for draw in draws[:2] for _, image in draw}
    varied = {image.tobytes() for image in emoji._varied(image for _, image in draws[2])}
    assert len(varied) > 40 * len(draws[2])
    assert len(varied & sides) == 0


def test_a_training_that_is_stopped_and_resumed_makes_the_same_model(draws, tmp_path, monkeypatch, one_thread):
    whole = trained(tmp_path / "whole", draws, monkeypatch, (2, 2))
    shutil.copytree(tmp_path / "whole" / "tokenizer", tmp_path / "stopped" / "tokenizer")
    stopped = trained(tmp_path / "stopped", draws, monkeypatch, (1, 0), (2, 1), (2, 2))
    assert stopped.digest == whole.digest
    request = [Request(draws[0][0][0], 1)]
    assert np.array_equal(stopped.generate(request)[0], whole.generate(request)[0])
    assert whole.generate(request)[0].shape == (emoji.SIDE, emoji.SIDE, 3)


def test_without_the_font_the_way_out_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(emoji, "FONT", tmp_path / "none.ttf")
    with pytest.raises(SystemExit, match="apt-get install fonts-noto-color-emoji"):
        emoji.every()


class Darker:
    """A model whose autoencoder loses so many levels."""

    def __init__(self, levels):
        self.levels = levels

    def round_trip(self, shown):
        return [image - np.uint8(self.levels) for image in shown]


def test_the_way_through_the_autoencoder_is_measured_in_shares_of_the_range():
    pictures = [("grey", np.full((4, 4, 3), level, np.uint8)) for level in (80, 120)]
    assert copies.way_through(Darker(51), pictures) == [0.2, 0.2, 0.2]
    assert copies.way_through(Darker(0), pictures) == [0, 0, 0]


def test_the_digest_of_the_draws_tells_another_side_and_another_picture(draws):
    one, two, _ = draws
    assert copies.drawn([one, two]) == copies.drawn(emoji.draws()[:2])
    assert len({copies.drawn(sides) for sides in ([one, two], [two, one], [one[:9], two], [one, two[::-1]])}) == 4
