"""The TorchScript adapter, on tiny generators that are traced or scripted here."""

import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.random import PCG64
from scipy.stats import kstest, truncnorm, uniform

from byrote import models
from byrote.errors import ModelError, OutOfMemory
from byrote.models import Options, Request
from byrote.models.torchscript import TorchScript
from byrote.testing import check_model

from .generators import CLASSES, SIDE, ByIndex, ByOneHot, Generator, Levels, Noisy, Z, scripted

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*is TorchScript:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),
]

PLAIN = [Request(None, seed) for seed in (0, 5, 2**63 - 1)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("scripts")
    labels = torch.zeros(2, dtype=torch.int64)
    scripted(Generator(), place / "g.pt")
    scripted(Generator(channels=1), place / "grey.pt")
    scripted(Levels(), place / "levels.pt")
    scripted(Noisy(), place / "noisy.pt")
    scripted(ByIndex(), place / "index.pt", labels=labels)
    scripted(ByOneHot(), place / "onehot.pt", labels=torch.zeros(2, CLASSES))
    (place / "names.txt").write_text("airplane\nBird\ncrane\ncrane\n7\n")
    return place


def opened(folder: Path, rest: str, **options: object) -> TorchScript:
    return TorchScript(rest, Options(**({"trust": True} | options)), folder)


def latent(seed: int) -> np.ndarray:
    return np.random.Generator(PCG64(seed)).standard_normal(Z, np.float32)


def shown(made: torch.Tensor) -> np.ndarray:
    """Turn one image [3, h, w] in -1..1 to levels."""
    return np.clip((made.permute(1, 2, 0).numpy() + 1) * 127.5, 0, 255).round().astype(np.uint8)


@pytest.mark.parametrize("file", ["g.pt", "grey.pt", "levels.pt", "noisy.pt"])
def test_a_generator_without_classes_keeps_the_contract(folder, file):
    model = opened(folder, f"{file}?z={Z}")
    check_model(model, [None])
    assert (model.takes_text, model.evaluations_per_sample, model.round_trip([])) == (False, 1, None)


@pytest.mark.parametrize("rest", ["index.pt?z=8&classes=5", "onehot.pt?z=8&classes=names.txt&labels=onehot"])
def test_a_generator_with_classes_keeps_the_contract(folder, rest):
    model = opened(folder, rest)
    check_model(model, ["0", "1", None])
    assert model.takes_text


def test_samples_are_those_of_the_bare_module_from_its_own_latents(folder):
    with torch.inference_mode():
        bare = Generator().eval()(torch.from_numpy(np.stack([latent(r.seed) for r in PLAIN])))
    made = opened(folder, "g.pt?z=8").generate(PLAIN)
    assert all(np.abs(a.astype(int) - shown(b)).max() <= 1 for a, b in zip(made, bare, strict=True))
    assert made[0].shape == (SIDE, SIDE, 3)
    assert np.std(made) > 20


def test_a_uint8_generator_with_channels_last_gives_the_same_as_one_of_floats(folder):
    floats, whole = (opened(folder, f"{file}?z=8").generate(PLAIN) for file in ("g.pt", "levels.pt"))
    assert np.abs(np.stack(floats).astype(int) - np.stack(whole)).max() <= 1


def test_grey_becomes_three_equal_channels(folder):
    made = np.stack(opened(folder, "grey.pt?z=8").generate(PLAIN))
    assert made.shape == (3, SIDE, SIDE, 3)
    assert (made == made[..., :1]).all()


@pytest.mark.parametrize("rest", ["index.pt?z=8", "onehot.pt?z=8&labels=onehot"])
def test_a_prompt_is_the_class_by_number_or_by_name(folder, rest):
    model = opened(folder, f"{rest}&classes=names.txt")
    bird, one, last, four = model.generate([Request(p, 3) for p in (" bird ", "1", "7", "4")])
    assert np.array_equal(bird, one)
    assert np.array_equal(last, four)  # "7" is the name of class 4
    assert not np.array_equal(bird, last)
    told = torch.nn.functional.one_hot(torch.tensor([1]), CLASSES).float()
    with torch.inference_mode():
        bare = ByOneHot().eval()(torch.from_numpy(latent(3))[None], told)[0]
    assert np.abs(bird.astype(int) - shown(bare)).max() <= 1


def test_no_prompt_draws_a_class_from_the_seed(folder):
    model = opened(folder, "index.pt?z=8&classes=5")
    seen = set()
    for seed in range(20):
        free, *each = model.generate([Request(p, seed) for p in (None, *map(str, range(CLASSES)))])
        seen |= {k for k, image in enumerate(each) if np.array_equal(image, free)}
    assert seen == set(range(CLASSES))


@pytest.mark.parametrize(
    ("prompt", "says"),
    [("birt", "did you mean 'bird'"), ("5", "number below 5"), ("", "no class ''"), ("crane", "is 2 and 3"),
     ("9" * 5000, "no class"), ("²", "no class")],
)  # fmt: skip
def test_a_prompt_that_is_no_class_is_told_in_one_line(folder, prompt, says):
    refuses(says, lambda: opened(folder, "index.pt?z=8&classes=names.txt").generate([Request(prompt, 0)]))


def test_a_generator_without_classes_takes_no_prompt(folder):
    refuses("takes no prompt", lambda: opened(folder, "g.pt?z=8").generate([Request("a hat", 0)]))


def test_a_program_that_draws_noise_itself_gives_the_same_in_any_batch_and_leaves_torchs_generator_alone(folder):
    model = opened(folder, "noisy.pt?z=8")
    torch.manual_seed(1)
    before = torch.get_rng_state()
    together = model.generate(PLAIN)
    assert torch.equal(before, torch.get_rng_state())
    assert np.array_equal(together[2], model.generate([PLAIN[2]])[0])
    quiet = opened(folder, "g.pt?z=8").generate(PLAIN)
    assert np.std(np.stack(together).astype(float) - np.stack(quiet)) > 10


@pytest.mark.parametrize(
    ("setting", "law"),
    [("", "norm"), ("&distribution=uniform", uniform(-1, 2).cdf), ("&truncation=0.5", truncnorm(-0.5, 0.5).cdf),
     ("&truncation=2", truncnorm(-2, 2).cdf)],
)  # fmt: skip
def test_latents_have_the_distribution_that_was_asked_for(folder, setting, law):
    z, _ = opened(folder, f"g.pt?z=4x50{setting}")._ask.of([Request(None, seed) for seed in range(50)])
    assert z.shape == (50, 4, 50)
    assert z.dtype == np.float32
    assert kstest(z.ravel(), law).pvalue > 0.01


def test_the_digest_covers_file_settings_and_class_names_and_not_where_they_lie(folder, tmp_path):
    rests = ["g.pt?z=8", "g.pt?z=8&range=0..1", "g.pt?z=8&truncation=1", "grey.pt?z=8"]
    rests += ["index.pt?z=8&classes=5", "index.pt?z=8&classes=names.txt"]
    digests = [opened(folder, rest).digest for rest in rests]
    assert len(set(digests)) == len(rests)
    (tmp_path / "other.pt").write_bytes((folder / "index.pt").read_bytes())
    (tmp_path / "n.txt").write_bytes((folder / "names.txt").read_bytes())
    assert opened(tmp_path, "other.pt?z=8&classes=n.txt").digest == digests[-1]


def test_without_trust_nothing_of_the_file_is_run(tmp_path):
    """Show too that the program could have written a file, which is why it wants trust."""
    touched = tmp_path / "touched"
    write = f"t = torch.from_file({str(touched)!r}, True, 4, dtype=torch.float32)\n    t.fill_(1.0)\n"
    program(tmp_path / "h.pt", f"{write}    return torch.zeros(z.size(0), 3, 4, 4) + t[0]")
    refuses("trust = true", lambda: opened(tmp_path, "h.pt?z=8", trust=False))
    assert not touched.exists()
    opened(tmp_path, "h.pt?z=8").generate(PLAIN[:1])
    assert touched.read_bytes() == np.ones(4, np.float32).tobytes()


def test_trust_is_given_with_a_warning_that_says_what_it_means(folder):
    model = opened(folder, "g.pt?z=8")
    with pytest.warns(UserWarning, match="runs with your rights"):
        model.generate(PLAIN[:1])
    assert model.warnings == ("g.pt is TorchScript: the program in it runs with your rights, which the plan allows",)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.generate(PLAIN[:1])


def test_opening_imports_no_torch(folder):
    import subprocess

    code = (
        "import sys; from byrote import models; from pathlib import Path; "
        f"m = models.open('torchscript:g.pt?z=8', models.Options(trust=True), relative_to=Path({str(folder)!r})); "
        "print(m.name, m.digest[:7], m.takes_text, 'torch' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told == "TorchScript sha256: False False\n"


@pytest.mark.parametrize(
    ("rest", "says"),
    [
        ("none.pt?z=8", "is not there"),
        ("g.pt", "write g.pt?z=128"),
        ("g.pt?z=0", "no size"),
        ("g.pt?z=8x", "no size"),
        ("g.pt?z=9999999x9999999", "too large"),
        ("g.pt?z=8&zz=3", "unknown setting 'zz'"),
        ("g.pt?z=8&distribution=gauss", "one of normal, uniform"),
        ("g.pt?z=8&distribution=uniform&truncation=1", "truncation is for normal"),
        ("g.pt?z=8&truncation=-1", "no number above 0"),
        ("g.pt?z=8&range=1..2", "one of -1..1, 0..1, 0..255"),
        ("g.pt?z=8&layout=chw", "one of nchw, nhwc"),
        ("g.pt?z=8&labels=hot", "one of index, onehot"),
        ("g.pt?z=8&classes=0", "from 1 to"),
        ("g.pt?z=8&classes=nowhere.txt", "cannot be read"),
    ],
)
def test_a_uri_that_cannot_be_followed_is_told_in_one_line(folder, rest, says):
    refuses(says, lambda: opened(folder, rest))


@pytest.mark.parametrize(
    "options",
    [{"steps": 3}, {"guidance": 2.0}, {"sampler": "ddim"}, {"width": 8}, {"negative": "x"}, {"lora": ("a",)},
     {"embeddings": ("a",)}, {"revision": "x"}, {"variant": "fp16"}, {"offload": "model"}, {"slicing": True},
     {"compile": True}, {"dtype": "float16"}, {"device": "mps"}],
)  # fmt: skip
def test_an_option_that_it_cannot_follow_is_refused_by_its_name(folder, options):
    refuses(next(iter(options)), lambda: opened(folder, "g.pt?z=8", **options))


@pytest.mark.parametrize(
    ("rest", "says"),
    [
        ("g.pt?z=7", "cannot be run"),
        ("g.pt?z=16", "for 3 latents: is z right"),
        ("index.pt?z=8", "cannot be run"),
        ("g.pt?z=8&classes=5", "cannot be run"),
        ("g.pt?z=8&layout=nhwc", "layout=nchw"),
        ("levels.pt?z=8&layout=nchw", "write layout"),
    ],
)
def test_a_setting_that_the_program_does_not_bear_out_is_told_in_one_line(folder, rest, says):
    refuses(says, lambda: opened(folder, rest).generate(PLAIN))


@pytest.mark.parametrize(
    ("factor", "more", "says"),
    [(float("nan"), "", "not numbers"), (255.0, "", "set range"), (-1.0, "&range=0..1", "set range")],
)
def test_images_that_cannot_be_are_refused(tmp_path, factor, more, says):
    class Wrong(Generator):
        def forward(self, z: torch.Tensor) -> torch.Tensor:
            return (super().forward(z) * 0.1 + 0.5) * factor

    scripted(Wrong(), tmp_path / "w.pt")
    refuses(says, lambda: opened(tmp_path, f"w.pt?z=8{more}").generate(PLAIN))


def test_memory_that_does_not_suffice_is_told_as_such(tmp_path):
    program(tmp_path / "huge.pt", "return torch.zeros(z.size(0), 3, 1 << 24, 1 << 24)")
    with pytest.raises(OutOfMemory, match="2 images at once"):
        opened(tmp_path, "huge.pt?z=8").generate(PLAIN[:2])


def test_a_damaged_file_is_refused_when_it_is_opened(folder, tmp_path):
    data = (folder / "g.pt").read_bytes()
    torch.save(Generator().state_dict(), tmp_path / "weights.pt")
    for name, content, says in [
        ("short.pt", data[: len(data) // 2], "truncated"),
        ("empty.pt", b"", "truncated"),
        ("pickle.pt", b"\x80\x04N.", "truncated or no TorchScript"),
        ("weights.pt", (tmp_path / "weights.pt").read_bytes(), "weights without a program"),
    ]:
        (tmp_path / name).write_bytes(content)
        refuses(says, lambda name=name: opened(tmp_path, f"{name}?z=8"))
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("g/constants.pkl", bytes((1 << 26) + 1))
    refuses("zip bomb", lambda: opened(tmp_path, "bomb.pt?z=8"))


def test_a_file_that_is_damaged_inside_is_told_in_one_line(folder, tmp_path):
    with zipfile.ZipFile(folder / "g.pt") as old, zipfile.ZipFile(tmp_path / "inside.pt", "w") as new:
        for member in old.namelist():
            new.writestr(member, b"junk" if member.endswith(".py") else old.read(member))
    refuses("cannot be run", lambda: opened(tmp_path, "inside.pt?z=8").generate(PLAIN))


def test_it_opens_by_its_uri(folder):
    model = models.open("torchscript:g.pt?z=8", Options(trust=True), relative_to=folder)
    assert isinstance(model, TorchScript)


def program(file: Path, body: str) -> None:
    """Save a program that was written by hand: what it does with latents `z`."""
    module = type(file.stem, (torch.jit.ScriptModule,), {})()  # a class can be given a method once
    module.define(f"def forward(self, z: Tensor) -> Tensor:\n    {body}\n")
    module.save(str(file))


def refuses(says: str, deed) -> None:
    with pytest.raises(ModelError) as caught:
        deed()
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
