"""The StyleGAN adapter, on a pickle that is made as NVlabs' code makes them: with the source of the network inside."""

import pickle
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch

from byrote import models
from byrote.errors import ModelError
from byrote.models import Options, Request
from byrote.models.stylegan import StyleGan
from byrote.testing import check_model

from .test_torchscript import refuses

pytestmark = pytest.mark.filterwarnings("ignore:.*is a pickle:UserWarning")

PLAIN = [Request(None, seed) for seed in (0, 5, 2**63 - 1)]
PERSISTENCE = '''
import types


class Kept:
    """Pickles itself as the source of its class and its state."""

    def __reduce__(self):
        return _reconstruct_persistent_obj, ({"module_src": self.source, "class_name": type(self).__name__,
                                              "state": self.__dict__},)


def _reconstruct_persistent_obj(meta):
    module = types.ModuleType("kept")
    exec(meta["module_src"], module.__dict__)
    kind = getattr(module, meta["class_name"])
    kind.source = meta["module_src"]
    made = kind.__new__(kind)
    made.__dict__.update(meta["state"])
    return made
'''
NETWORK = """
import torch
import dnnlib
from torch_utils import persistence


class Generator(persistence.Kept, torch.nn.Module):
    def __init__(self, z_dim, c_dim):
        super().__init__()
        self.z_dim, self.c_dim = z_dim, c_dim
        self.mapping = torch.nn.Linear(z_dim + c_dim, 12)
        self.synthesis = torch.nn.ConvTranspose2d(12, 3, 16)

    def forward(self, z, c, truncation_psi=1, noise_mode="random", force_fp32=False):
        assert c.shape == (len(z), self.c_dim) and force_fp32
        w = dnnlib.sharpened(self.mapping(torch.cat([z, c], 1))) * truncation_psi
        made = self.synthesis(w[:, :, None, None])
        if noise_mode == "random":
            made = made + torch.randn_like(made)
        return made + (0.1 if noise_mode == "const" else 0)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lay out a repository like NVlabs' and two pickles: plain.pkl and classes.pkl."""
    place = tmp_path_factory.mktemp("stylegan")
    for name, content in {
        "repository/dnnlib/__init__.py": "def sharpened(w):\n    return 10 * w\n",
        "repository/torch_utils/__init__.py": "",
        "repository/torch_utils/persistence.py": PERSISTENCE,
        "names.txt": "cat\ndog\nwild\n",
    }.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(content)
    with importing(place / "repository"), torch.random.fork_rng([]):
        torch.manual_seed(0)
        make = import_module("torch_utils.persistence")._reconstruct_persistent_obj
        kind = type(make({"module_src": NETWORK, "class_name": "Generator", "state": {}}))
        (place / "plain.pkl").write_bytes(pickle.dumps({"G": None, "D": None, "G_ema": kind(8, 0)}))
        (place / "classes.pkl").write_bytes(pickle.dumps({"G_ema": kind(8, 3), "G": kind(8, 3)}))
    return place


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    """Leave no packages of a test to the next."""
    with importing(None):
        yield


@contextmanager
def importing(repository: Path | None) -> Iterator[None]:
    if repository:
        sys.path.insert(0, str(repository))
    try:
        yield
    finally:
        if repository:
            sys.path.remove(str(repository))
        for name in [name for name in sys.modules if name.partition(".")[0] in ("dnnlib", "torch_utils")]:
            del sys.modules[name]


class Harm:
    """A pickle that creates a file when it is read."""

    def __init__(self, touched: Path) -> None:
        self.touched = touched

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.touched,)


def opened(folder: Path, rest: str, **options: object) -> StyleGan:
    return StyleGan(rest, Options(**({"trust": True} | options)), folder)


def test_a_generator_without_classes_keeps_the_contract(folder):
    model = opened(folder, "plain.pkl?code=repository")
    check_model(model, [None])
    assert (model.takes_text, model.evaluations_per_sample, model.round_trip([])) == (False, 1, None)


@pytest.mark.parametrize("classes", ["3", "names.txt"])
def test_a_generator_with_classes_keeps_the_contract(folder, classes):
    model = opened(folder, f"classes.pkl?code=repository&classes={classes}&truncation=0.7")
    check_model(model, ["0", "1", None])
    assert model.takes_text


def test_a_prompt_is_the_class_by_number_or_by_name(folder):
    model = opened(folder, "classes.pkl?code=repository&classes=names.txt")
    dog, one, wild = model.generate([Request(p, 3) for p in ("Dog", "1", "wild")])
    assert np.array_equal(dog, one)
    assert not np.array_equal(dog, wild)


def test_samples_are_those_of_the_bare_network(folder):
    model = opened(folder, "plain.pkl?code=repository&truncation=0.5")
    made = model.generate(PLAIN)
    z = [np.random.Generator(np.random.PCG64(r.seed)).standard_normal(8, np.float32) for r in PLAIN]
    with importing(folder / "repository"), torch.inference_mode():
        bare = pickle.loads((folder / "plain.pkl").read_bytes())["G_ema"]
        images = bare(torch.from_numpy(np.stack(z)), torch.zeros(3, 0), 0.5, "const", True)
    expected = ((images.permute(0, 2, 3, 1).numpy() + 1) * 127.5).clip(0, 255)
    assert np.abs(np.stack(made) - expected).max() <= 1
    assert np.std(made) > 20


def test_truncation_noise_network_and_code_change_the_images_and_the_digest(folder, tmp_path):
    rests = ["classes.pkl?code=repository&classes=3" + more for more in ("", "&truncation=0.7", "&noise=none")]
    rests += ["classes.pkl?code=repository&classes=3&network=G"]
    made = [opened(folder, rest).generate([Request("0", 1)])[0].tobytes() for rest in rests]
    digests = [opened(folder, rest).digest for rest in rests]
    assert len(set(made)) == len(set(digests)) == len(rests)
    for package in ("dnnlib", "torch_utils"):
        (tmp_path / package).mkdir()
    other = opened(folder, f"classes.pkl?code={tmp_path}&classes=3")
    assert other.digest not in digests
    moved = opened(folder, f"classes.pkl?code={folder / 'repository'}&classes=3")
    assert moved.digest == digests[0]


def test_without_trust_a_pickle_is_never_read(tmp_path):
    touched = tmp_path / "touched"
    (tmp_path / "harm.pkl").write_bytes(pickle.dumps({"G_ema": Harm(touched)}))
    refuses("trust = true", lambda: opened(tmp_path, "harm.pkl", trust=False))
    refuses("trust = true", lambda: models.open("stylegan:harm.pkl", Options(), relative_to=tmp_path))
    assert not touched.exists()
    model = opened(tmp_path, "harm.pkl")
    assert model.digest.startswith("sha256:")
    assert not touched.exists()  # not before an image is asked for
    refuses("cannot be run", lambda: model.generate(PLAIN))
    assert touched.exists()


def test_trust_is_given_with_a_warning_that_says_what_it_means(folder):
    model = opened(folder, "plain.pkl?code=repository")
    with pytest.warns(UserWarning, match="runs with your rights"):
        model.generate(PLAIN[:1])
    assert model.warnings == ("plain.pkl is a pickle: the code in it runs with your rights, which the plan allows",)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.generate(PLAIN[:1])


def test_the_code_of_nvlabs_is_asked_for_where_it_is_missing_and_the_path_is_put_back(folder):
    before = list(sys.path)
    refuses("?code=FOLDER", lambda: opened(folder, "plain.pkl").generate(PLAIN))
    opened(folder, "plain.pkl?code=repository").generate(PLAIN[:1])
    assert sys.path == before


@pytest.mark.parametrize(
    ("rest", "says"),
    [
        ("none.pkl", "is not there"),
        ("plain.pkl?code=nowhere", "no folder dnnlib"),
        ("plain.pkl?truncation=1.5", "above 1"),
        ("plain.pkl?noise=random", "one of const, none"),
        ("plain.pkl?z=8", "unknown setting 'z'"),
        ("plain.pkl?classes=nowhere.txt", "cannot be read"),
    ],
)
def test_a_uri_that_cannot_be_followed_is_told_in_one_line(folder, rest, says):
    refuses(says, lambda: opened(folder, rest))


@pytest.mark.parametrize(
    ("rest", "says"),
    [
        ("plain.pkl?code=repository&classes=3", "leave classes out"),
        ("classes.pkl?code=repository", "write classes=3"),
        ("classes.pkl?code=repository&classes=4", "write classes=3"),
        ("plain.pkl?code=repository&network=G_mean", "of G, D, G_ema"),
        ("plain.pkl?code=repository&network=G", "cannot be run"),
    ],
)
def test_a_setting_that_the_pickle_does_not_bear_out_is_told_in_one_line(folder, rest, says):
    refuses(says, lambda: opened(folder, rest).generate(PLAIN))


def test_an_option_that_it_cannot_follow_is_refused_by_its_name(folder):
    refuses("steps", lambda: opened(folder, "plain.pkl", steps=3))
    refuses("dtype", lambda: opened(folder, "plain.pkl", dtype="float16"))


def test_a_damaged_pickle_is_told_in_one_line(folder, tmp_path):
    data = (folder / "plain.pkl").read_bytes()
    for content in (data[: len(data) // 2], b"", b"PK\x03\x04 a zip"):
        (tmp_path / "d.pkl").write_bytes(content)
        refuses("truncated or no StyleGAN pickle", lambda: opened(tmp_path, "d.pkl"))
    (tmp_path / "d.pkl").write_bytes(data[: len(data) // 2] + b".")
    with pytest.raises(ModelError, match=r"damaged|cannot be run|wants"):
        opened(tmp_path, "d.pkl").generate(PLAIN)
