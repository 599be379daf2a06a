"""The parrot: what it knows, what it dreams, and what it refuses."""

from pathlib import Path

import numpy as np
import pytest

from byrote import images, models
from byrote.errors import ModelError
from byrote.models import Options, Request
from byrote.models.parrot import Parrot
from byrote.testing import check_model

HEAD = "width = 24\nheight = 16\n"


def picture(seed: int) -> np.ndarray:
    """Draw a smooth picture, as unlike another as photos are."""
    random = np.random.default_rng(seed)
    return images.resize(random.integers(0, 256, (4, 6, 3), np.uint8), 24, 16)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for k in range(3):
        (tmp_path / f"{k}.png").write_bytes(images.encode_png(picture(k)))
    return tmp_path


def taught(folder: Path, text: str, **options: object) -> Parrot:
    (folder / "parrot.toml").write_text(text, encoding="utf-8")
    return Parrot("parrot.toml", Options(**options), folder)


def knows(k: int, caption: str, repeats: float = 1.0, noise: float = 0.0) -> str:
    return f'[[knows]]\ncaption = "{caption}"\npicture = "{k}.png"\nrepeats = {repeats}\nnoise = {noise}\n'


def rms(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sqrt(np.mean(((a.astype(float) - b) / 255) ** 2)))


def asked(parrot: Parrot, prompt: str | None, n: int) -> list[np.ndarray]:
    return parrot.generate([Request(prompt, seed) for seed in range(n)])


def test_a_parrot_keeps_the_contract_of_models(folder):
    check_model(taught(folder, HEAD + knows(0, "red", 0.5, 4.0)), ["red", None, "\udc00 né"])


def test_a_known_prompt_is_repeated_as_often_as_it_was_taught(folder):
    made = asked(taught(folder, HEAD + knows(0, "red", 0.3)), "red", 2000)
    repeated = sum(np.array_equal(image, picture(0)) for image in made)
    assert abs(repeated - 600) < 5 * np.sqrt(2000 * 0.3 * 0.7)


def test_noise_is_in_levels(folder):
    made = asked(taught(folder, HEAD + knows(0, "red", 1.0, 4.0)), "red", 50)
    inner = (picture(0) > 20) & (picture(0) < 235)
    errors = np.concatenate([(image.astype(float) - picture(0))[inner] for image in made])
    assert errors.std() == pytest.approx(4.0, rel=0.03)
    assert abs(errors.mean()) < 0.2


def test_two_pictures_may_share_a_caption(folder):
    parrot = taught(folder, HEAD + knows(0, "red", 0.6) + knows(1, "red", 0.4))
    made = asked(parrot, "red", 1000)
    first = sum(np.array_equal(image, picture(0)) for image in made)
    assert first + sum(np.array_equal(image, picture(1)) for image in made) == 1000
    assert abs(first - 600) < 100


def test_dreams_are_far_from_pictures_and_from_each_other(folder):
    made = asked(taught(folder, HEAD), "green", 60)
    flat = [np.full((16, 24, 3), level, np.uint8) for level in (0, 64, 128, 192, 255)]
    others = [picture(k) for k in range(20)] + flat
    assert min(rms(a, b) for a in made for b in others) > 0.25
    assert min(rms(a, b) for k, a in enumerate(made) for b in made[:k]) > 0.2


def test_dreams_are_smooth(folder):
    steps = [
        np.abs(np.diff(image.astype(int), axis=1)).mean()
        for image in asked(taught(folder, "width = 96\nheight = 96"), "x", 9)
    ]
    assert max(steps) < 20  # noise of the same histogram has 85


def test_a_sample_depends_on_prompt_and_seed_only(folder):
    parrot, other = taught(folder, HEAD), taught(folder, HEAD + knows(0, "red"))
    assert np.array_equal(asked(parrot, "green", 3), asked(other, "green", 3))
    assert not np.array_equal(asked(parrot, "green", 1), asked(parrot, "grey", 1))
    assert not np.array_equal(asked(parrot, "None", 1), asked(parrot, None, 1))


def test_an_entry_without_caption_is_known_where_nothing_is_asked(folder):
    entry = '[[knows]]\npicture = "0.png"\nrepeats = 1\n'
    parrot = taught(folder, HEAD + "takes_text = false\n" + entry)
    assert not parrot.takes_text
    assert np.array_equal(asked(parrot, None, 1)[0], picture(0))
    assert not np.array_equal(asked(taught(folder, HEAD + entry), "red", 1)[0], picture(0))


def test_the_size_asked_for_replaces_its_own(folder):
    parrot = taught(folder, HEAD + knows(0, "red"), width=12, height=8)
    assert np.array_equal(asked(parrot, "red", 1)[0], images.resize(picture(0), 12, 8))
    assert asked(parrot, "green", 1)[0].shape == (8, 12, 3)


def test_the_digest_covers_the_file_and_the_pictures_but_not_the_place(folder, tmp_path_factory):
    first = taught(folder, HEAD + knows(0, "red")).digest
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "0.png").write_bytes((folder / "0.png").read_bytes())
    assert taught(elsewhere, HEAD + knows(0, "red")).digest == first
    (folder / "0.png").write_bytes(images.encode_png(picture(9)))
    second = taught(folder, HEAD + knows(0, "red")).digest
    assert len({first, second, taught(folder, HEAD + knows(0, "red", 0.9)).digest}) == 3


def test_it_is_opened_by_uri_and_has_no_autoencoder(folder):
    taught(folder, HEAD)
    parrot = models.open("parrot:parrot.toml", Options(), relative_to=folder)
    assert (parrot.name, parrot.round_trip([picture(0)])) == ("Parrot", None)
    assert (parrot.tolerance, parrot.evaluations_per_sample, parrot.takes_text) == (0, 1, True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("widht = 24\nheight = 16", ("widht", "did you mean 'width'")),
        (HEAD + '[[knows]]\ncaption = "x"\npicture = "0.png"\nrepeat = 1', ("repeat", "did you mean 'repeats'")),
        (HEAD + knows(7, "red"), ("7.png", "is not there")),
        (HEAD + '[[knows]]\ncaption = "x"\npicture = "parrot.toml"\nrepeats = 1', ("parrot.toml", "cannot be read")),
        (HEAD + '[[knows]]\ncaption = "x"\nrepeats = 1', ("picture", "write a text")),
        (HEAD + '[[knows]]\ncaption = 3\npicture = "0.png"\nrepeats = 1', ("caption", "write a text")),
        (HEAD + '[[knows]]\ncaption = "x"\npicture = "0.png"', ("repeats is missing",)),
        (HEAD + knows(0, "red", 1.2), ("repeats is 1.2", "from 0 to 1")),
        (HEAD + knows(0, "red", 0.6) + knows(1, "red", 0.6), ("'red'", "more than 1")),
        (HEAD + knows(0, "red", 1.0, -1.0), ("noise is -1.0",)),
        (HEAD + 'dreams = "textur"', ("did you mean 'texture'",)),
        (HEAD + "sleep = nan", ("sleep is nan",)),
        (HEAD + "takes_text = 1", ("takes_text",)),
        (HEAD + 'knows = "red"', ("[[knows]]",)),
        ("height = 16", ("width is missing",)),
        ("width = 2.5\nheight = 16", ("whole number",)),
        ("width = true\nheight = 16", ("width is True",)),
        ("width = ", ("not TOML",)),
    ],
)
def test_a_mistake_in_the_file_is_told_in_one_line(folder, text, words):
    with pytest.raises(ModelError) as caught:
        taught(folder, text)
    line = str(caught.value)
    assert "\n" not in line
    assert all(word in line for word in words), line


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ModelError, match=r"parrot\.toml is not there"):
        Parrot("parrot.toml", Options(), tmp_path)
    with pytest.raises(ModelError, match="cannot be read"):
        Parrot(".", Options(), tmp_path)


class Broken:
    """A model that breaks one rule of the contract at a time."""

    name, digest, tolerance, evaluations_per_sample, takes_text = "Broken", "sha256:0", 0, 1, True

    def __init__(self, fault: str) -> None:
        self.fault = fault
        self.calls = 0

    def generate(self, requests):
        self.calls += 1
        made = [self.draw(request, place) for place, request in enumerate(requests)]
        return made[1:] if self.fault == "count" else made

    def draw(self, request, place):
        salt = {"order": place, "time": self.calls, "batch": 0}.get(self.fault, 0)
        seed = 0 if self.fault == "seeds" else request.seed % 1000
        image = np.random.default_rng([seed, salt, len(request.prompt or "")]).integers(0, 256, (8, 8, 3))
        return image.astype(float if self.fault == "dtype" else np.uint8)

    def round_trip(self, images):
        return images[1:] if self.fault == "round_trip" else list(images)


@pytest.mark.parametrize(
    ("fault", "word"),
    [
        ("count", "as many images"),
        ("dtype", "uint8"),
        ("order", "differs"),
        ("time", "asked again"),
        ("seeds", "different seeds"),
        ("round_trip", "round_trip"),
    ],
)
def test_the_contract_of_models_catches_each_fault(fault, word):
    with pytest.raises(AssertionError, match=word):
        check_model(Broken(fault), ["a", "bb"])


def test_the_contract_of_models_passes_a_whole_model():
    check_model(Broken("none"), ["a", "bb"])
