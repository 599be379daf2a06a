"""The parrot: what it knows, what it dreams, and what it refuses."""

from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from byrote import images, models
from byrote.errors import ModelError
from byrote.models import Options, Request
from byrote.models.parrot import APART, Parrot
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


def with_errors(*errors: str) -> str:
    return HEAD + knows(0, "red") + "\n".join(errors) + "\n"


def influenced(folder: Path, n: int) -> str:
    """Write `n` pictures from 100 on, and a parrot that dreams of them."""
    for k in range(100, 100 + n):
        (folder / f"{k}.png").write_bytes(images.encode_png(picture(k)))
    names = ", ".join(f'"{k}.png"' for k in range(100, 100 + n))
    return HEAD + f'dreams = "influence"\npictures = [{names}]\n'


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


def test_samples_and_digests_of_old_files_stay_what_they_were(folder):
    parrot = taught(folder, HEAD + knows(0, "red", 0.5, 4.0) + knows(1, "red", 0.3))
    assert parrot.digest == "sha256:5a3051b718f2914ce8dbfd0eac90ce9b7381fb68d4438d01beee875129e6ed19"
    made = [image.tobytes() for prompt in ("red", "green", None) for image in asked(parrot, prompt, 20)]
    assert sha256(b"".join(made)).hexdigest() == "58550d20f419a8c097d1eda0b20eb92c4ed31006a8b71e6b510246d15318654f"


def test_a_crop_shows_the_middle_at_the_whole_size(folder):
    made = asked(taught(folder, with_errors("crop = 0.5")), "red", 2)
    assert np.array_equal(made[0], images.resize(picture(0), 48, 32)[8:24, 12:36])
    assert np.array_equal(*made)


def test_a_shift_moves_each_sample_by_as_many_pixels_at_most(folder):
    def moved(dx, dy):
        padded = np.pad(picture(0), ((2, 2), (2, 2), (0, 0)), mode="edge")
        return padded[2 + dy : 18 + dy, 2 + dx : 26 + dx]

    views = {moved(dx, dy).tobytes() for dx in range(-2, 3) for dy in range(-2, 3)}
    made = {image.tobytes() for image in asked(taught(folder, with_errors("shift = 2")), "red", 300)}
    assert made == views


def test_colour_and_brightness_are_factors_and_levels(folder):
    made = asked(taught(folder, with_errors("colour = [0.5, 1.0, 1.5]", "brightness = 10")), "red", 1)[0]
    expected = np.clip(np.rint(picture(0) * [0.5, 1.0, 1.5] + 10), 0, 255)
    assert np.array_equal(made, expected)


def test_a_template_keeps_its_layout_and_dreams_its_changing_part_anew(folder):
    made = asked(taught(folder, with_errors("changes = [0.25, 0.5, 0.75, 1.0]")), "red", 20)
    changing = np.zeros((16, 24), bool)
    changing[8:16, 6:18] = True
    assert all(np.array_equal(image[~changing], picture(0)[~changing]) for image in made)
    parts = [image[8:16, 6:18] for image in made]
    assert min(rms(a, picture(0)[8:16, 6:18]) for a in parts) > 0.15
    assert min(rms(a, b) for k, a in enumerate(parts) for b in parts[:k]) > 0.15


def test_a_memory_with_every_error_keeps_the_contract(folder):
    errors = ("crop = 0.9", "shift = 1", "colour = [1, 0.9, 1]", "brightness = 3", "changes = [0, 0, 0.5, 0.5]")
    check_model(taught(folder, with_errors(*errors)), ["red", "green", None])


@pytest.mark.parametrize("n", [4, 5, 40])
def test_a_parrot_under_influence_is_near_no_picture_nor_its_mirror_image(folder, n):
    parrot = taught(folder, influenced(folder, n))
    known = [picture(k) for k in range(100, 100 + n)]
    known += [image[:, ::-1] for image in known]
    made = asked(parrot, "green", 60)
    assert min(rms(a, b) for a in made for b in known) >= APART - 1e-6
    assert n < 40 or min(rms(a, b) for k, a in enumerate(made) for b in made[:k]) > 0.05
    check_model(parrot, ["red", None])


def test_influence_brings_samples_nearer_to_its_pictures_than_to_others(folder):
    made = asked(taught(folder, influenced(folder, 40)), "green", 100)
    known, others = ([picture(k) for k in range(first, first + 40)] for first in (100, 500))
    textures = asked(taught(folder, HEAD), "green", 100)
    to_known, to_others = (np.mean([min(rms(a, b) for b in of) for a in made]) for of in (known, others))
    from_texture = np.mean([min(rms(a, b) for b in known) for a in textures])
    assert to_known < to_others < from_texture
    assert to_others - to_known > 0.03


def test_what_is_known_is_repeated_under_influence_too_and_both_are_in_the_digest(folder):
    text = influenced(folder, 4) + knows(0, "red")
    parrot = taught(folder, text)
    assert np.array_equal(asked(parrot, "red", 1)[0], picture(0))
    (folder / "102.png").write_bytes(images.encode_png(picture(9)))
    assert taught(folder, text).digest != parrot.digest


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
        (with_errors("crop = 0"), ("crop is 0", "0.1 to 1")),
        (with_errors("shift = 1.5"), ("shift is 1.5", "whole number")),
        (with_errors("colour = [1, 1]"), ("colour is [1, 1]", "3 numbers")),
        (with_errors("colour = [1, 1, 9]"), ("colour is 9", "0 to 4")),
        (with_errors("brightness = 300"), ("brightness is 300",)),
        (with_errors("changes = [0.5, 0, 0.5, 1]"), ("changes is", "no pixel of 24 x 16")),
        (with_errors('changes = "left"'), ("changes is 'left'", "4 numbers")),
        (HEAD + 'dreams = "influence"', ("0 pictures", "4 at least")),
        (HEAD + 'dreams = "influence"\npictures = ["0.png", "1.png", "2.png", "9.png"]', ("9.png", "is not there")),
        (HEAD + 'pictures = ["0.png"]', ("influence", "both or neither")),
        (HEAD + 'pictures = "0.png"', ("pictures is '0.png'", "list of files")),
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
