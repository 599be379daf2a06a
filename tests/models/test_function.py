"""A function of one's own as a model: how it is found, called and read, and what of it is refused."""

import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from byrote import images, models
from byrote.errors import ModelError
from byrote.models import Options, Request
from byrote.models.function import Function, _rgb
from byrote.testing import check_model

SOURCE = """
import numpy as np

CALLS = []

def paint(prompt, seeds):
    CALLS.append((prompt, list(seeds)))
    return [one(prompt, seed) for seed in seeds]

def one(prompt, seed):
    random = np.random.default_rng([seed, *(prompt or "").encode("utf-8", "replace")])
    return random.integers(0, 256, (6, 8, 3), np.uint8)

def floats(prompt, seeds):
    return np.stack([one(prompt, seed) for seed in seeds]) / 255

class Loaded:
    digest = "sha256:one"
    def __call__(self, prompt, seeds):
        return paint(prompt, seeds)

loaded = Loaded()
number = 3
"""


@pytest.fixture
def folder(tmp_path, request):
    """Write a module of a name of its own: Python imports each name once."""
    name = f"m{abs(hash(request.node.name))}"
    (tmp_path / f"{name}.py").write_text(SOURCE)
    return tmp_path, name


def opened(folder, call="paint", query="", **options):
    return models.open(f"function:{folder[1]}:{call}{query}", Options(**options), relative_to=folder[0])


def given_back(value):
    """Return a function that gives back one value for each seed."""
    return lambda prompt, seeds: [value] * len(seeds)


def model_of(call, monkeypatch):
    """Open a callable that stands in this module."""
    monkeypatch.setitem(globals(), "under_test", call)
    return Function(f"{__name__}:under_test", Options(), Path(__file__).parent)


@pytest.mark.parametrize("call", ["paint", "floats", "loaded"])
def test_a_function_keeps_the_contract_of_models(folder, call):
    check_model(opened(folder, call), ["a red hat", None, "né \udc00"])


def test_it_is_called_once_for_each_prompt_with_all_seeds_of_it(folder):
    model = opened(folder)
    calls = sys.modules[folder[1]].CALLS
    made = model.generate([Request("b", 1), Request(None, 2), Request("a", 3), Request("b", 4)])
    assert calls == [(None, [2]), ("a", [3]), ("b", [1, 4])]
    alone = [model.generate([Request(p, s)])[0] for p, s in [("b", 1), (None, 2), ("a", 3), ("b", 4)]]
    assert all(np.array_equal(a, b) for a, b in zip(made, alone, strict=True))


def test_settings_say_what_the_function_cannot(folder):
    model = opened(folder, query="?text=false&evaluations=25&tolerance=2")
    assert (model.takes_text, model.evaluations_per_sample, model.tolerance) == (False, 25, 2)
    assert (model.name, model.round_trip([])) == (f"{folder[1]}:paint", None)
    plain = opened(folder)
    assert (plain.takes_text, plain.evaluations_per_sample, plain.tolerance) == (True, 1, 0)


def test_the_digest_covers_source_settings_and_what_the_callable_tells(folder):
    place, name = folder
    digests = [opened(folder).digest, opened(folder, query="?version=2").digest, opened(folder, "loaded").digest]
    assert opened(folder).digest == digests[0]
    (place / f"{name}.py").write_text(SOURCE.replace("sha256:one", "sha256:another"))
    digests.append(opened(folder, "loaded").digest)
    (place / f"{name}.py").write_text(SOURCE.replace("[seed, ", "[seed + 10, "))
    digests.append(opened(folder).digest)
    assert len(set(digests)) == 5


def test_a_module_that_changed_is_imported_again(folder):
    place, name = folder
    before = opened(folder).generate([Request("a", 11)])[0]
    (place / f"{name}.py").write_text(SOURCE.replace("[seed, ", "[seed + 10, "))
    assert np.array_equal(opened(folder).generate([Request("a", 1)])[0], before)


def test_modules_in_packages_are_found_beside_the_plan(tmp_path):
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "__init__.py").write_text("")
    (tmp_path / "ours" / "painting.py").write_text(SOURCE)
    model = models.open("function:ours.painting:loaded.__call__", Options(), relative_to=tmp_path)
    assert model.generate([Request("a", 1)])[0].shape == (6, 8, 3)


@given(st.lists(st.floats(0, 1), min_size=12, max_size=12))
def test_floats_are_rounded_to_the_nearest_level(values):
    image = np.array(values).reshape(2, 2, 3)
    slow = [min(range(256), key=lambda level, x=x: (abs(level / 255 - x), level)) for x in values]
    off = np.abs(_rgb("f", image).ravel().astype(int) - slow)
    ties = np.abs(image.ravel() * 255 % 1 - 0.5) < 1e-9
    assert (off[~ties] == 0).all()
    assert (off <= 1).all()


@pytest.mark.parametrize(
    ("value", "pixel"),
    [
        (np.full((2, 3), 7, np.uint8), (7, 7, 7)),
        (np.full((2, 3, 1), 0.2, np.float32), (51, 51, 51)),
        (np.full((2, 3, 3), 1.0009), (255, 255, 255)),
        (Image.new("RGB", (3, 2), (1, 2, 3)), (1, 2, 3)),
        (Image.new("L", (3, 2), 9), (9, 9, 9)),
        (Image.new("RGBA", (3, 2), (0, 0, 0, 0)), (255, 255, 255)),
    ],
)
def test_what_an_image_may_be(value, pixel, monkeypatch):
    (made,) = model_of(given_back(value), monkeypatch).generate([Request("a", 1)])
    assert (made.dtype, made.shape) == (np.uint8, (2, 3, 3))
    assert (made == np.array(pixel, np.uint8)).all()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (given_back(np.zeros((2, 3, 4), np.uint8)), ("[2, 3, 4]", "[height, width, 3]")),
        (given_back(np.zeros((3, 2, 3), np.int64)), ("int64", "uint8 arrays")),
        (given_back(np.full((2, 3, 3), -1.0)), ("from -1 to -1", "0 to 1")),
        (given_back(np.full((2, 3, 3), np.nan)), ("nan", "0 to 1")),
        (given_back(np.zeros((0, 3, 3), np.uint8)), ("[0, 3, 3]",)),
        (given_back([[1, 2], [3, 4]]), ("a list", "uint8 arrays")),
        (given_back(Image.new("CMYK", (3, 2))), ("CMYK", "write RGB")),
        (lambda prompt, seeds: None, ("NoneType", "one image for each seed")),
        (lambda prompt, seeds: [], ("0 images for 2 seeds",)),
        (lambda prompt, seeds: [np.zeros((k + 1, 2, 3), np.uint8) for k, _ in enumerate(seeds)], ("2x1 and 2x2",)),
    ],
)
def test_what_is_no_image_is_told_in_one_line(call, words, monkeypatch):
    with pytest.raises(ModelError) as caught:
        model_of(call, monkeypatch).generate([Request("a", 1), Request("a", 2)])
    line = str(caught.value)
    assert "\n" not in line
    assert all(word in line for word in words), line


def test_a_size_that_changes_between_calls_is_told(monkeypatch):
    model = model_of(lambda prompt, seeds: [np.zeros((len(prompt), 2, 3), np.uint8)] * len(seeds), monkeypatch)
    model.generate([Request("a", 1)])
    with pytest.raises(ModelError, match="2x1 and 2x2"):
        model.generate([Request("aa", 1)])


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("function:nowhere", ("function:package.module:callable",)),
        ("function:a b:c", ("function:package.module:callable",)),
        ("function:no_such_module_here:f", ("neither installed nor in",)),
        ("function:{name}:pain", ("did you mean 'paint'",)),
        ("function:{name}:number", ("is a int", "name a callable")),
        ("function:{name}:paint?text=maybe", ("text is 'maybe'",)),
        ("function:{name}:paint?evaluations=0", ("evaluations is '0'", "from 1")),
        ("function:{name}:paint?tolerance=256", ("tolerance is '256'",)),
        ("function:{name}:paint?txet=true", ("'txet'", "did you mean 'text'")),
        ("function:json.nothing:f", ("'json.nothing'", "neither")),
    ],
)
def test_a_mistake_in_the_uri_is_told_in_one_line(folder, uri, words):
    with pytest.raises(ModelError) as caught:
        models.open(uri.format(name=folder[1]), Options(), relative_to=folder[0])
    line = str(caught.value)
    assert "\n" not in line
    assert all(word in line for word in words), line


def test_knobs_that_it_cannot_follow_are_refused(folder):
    with pytest.raises(ModelError, match="steps 20"):
        opened(folder, steps=20)
    with pytest.raises(ModelError, match="cannot follow device"):
        opened(folder, device="cuda")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import no_such_thing", "needs 'no_such_thing'"),
        ("1 / 0", "ZeroDivisionError"),
        ("def f(:", "SyntaxError"),
        ("def f(): ...\nf.digest = 3", "digest is a int"),
    ],
)
def test_a_module_that_cannot_be_used_is_told_in_one_line(tmp_path, source, words):
    name = f"broken{abs(hash(source))}"
    (tmp_path / f"{name}.py").write_text(source)
    with pytest.raises(ModelError) as caught:
        models.open(f"function:{name}:f", Options(), relative_to=tmp_path)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_module_of_that_name_from_elsewhere_is_not_taken_for_it(tmp_path):
    (tmp_path / "json.py").write_text(SOURCE)
    with pytest.raises(ModelError, match="give yours another name"):
        models.open("function:json:paint", Options(), relative_to=tmp_path)


def test_pillow_images_with_alpha_are_laid_over_white_as_files_are(monkeypatch):
    drawn = Image.fromarray(np.random.default_rng(0).integers(0, 256, (5, 4, 4), np.uint8), "RGBA")
    (made,) = model_of(given_back(drawn), monkeypatch).generate([Request("a", 1)])
    file = BytesIO()
    drawn.save(file, "PNG")
    assert np.array_equal(made, images.decode(file.getvalue()))
