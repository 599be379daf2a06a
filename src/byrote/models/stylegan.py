"""StyleGAN2-ADA and StyleGAN3 as NVlabs saved them: `stylegan:FILE.pkl`, only with `[model] trust = true`.

Such a file is a Python pickle with the source code of its networks inside. Reading it runs whatever its sender wrote,
with your rights: your files, your keys, your network. Nothing can look into it first and make it safe, so it is refused
until the plan says `trust = true`. Without trust: export the generator to ONNX where you do trust it.

    code=FOLDER           where NVlabs' repository (stylegan3) lies, for its `dnnlib` and `torch_utils`
    network=G_ema         which network of the file
    classes=10            of a conditional generator: how many, or a file with their names, one a line
    truncation=0.7        psi, towards the mean latent; left out: 1, the whole distribution
    noise=const           or none: what the layers add to a picture

There is no common format of StyleGAN weights in safetensors: a generator of your own class that reads such weights is
a function, `function:MODULE:NAME`.
"""

import pickle
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any
from warnings import warn

from byrote.domain import RGB
from byrote.errors import ModelError
from byrote.models import How, Options, Request, devices, gan, settings

EXTRA = "diffusers"
SETTINGS = {
    "code": "the folder of NVlabs' repository, which has dnnlib and torch_utils",
    "network": "G_ema, G or another network of the file",
    "classes": gan.SETTINGS["classes"],
    "truncation": "psi, from above 0 to 1",
    "noise": "const or none",
}
PACKAGES = ("dnnlib", "torch_utils")
PROTOCOL, STOP = b"\x80", b"."


class StyleGan:
    """A network of a StyleGAN pickle; one call of `generate` is one batch.

    Departs from NVlabs' gen_images.py: latents are numpy's PCG64, not RandomState, so that seeds may have 63 bits;
    layers compute in float32 on a GPU too; noise is constant, since random noise would depend on the batch. Raises
    ModelError, in the constructor for what can be told without running the file.
    """

    name = "StyleGAN"
    how = How(
        "a pickle of StyleGAN2-ADA or StyleGAN3; wants trust",
        "stylegan:network.pkl?code=stylegan3",
        SETTINGS,
        EXTRA,
        ("torch",),
    )
    tolerance = gan.TOLERANCE
    evaluations_per_sample = 1

    def __init__(self, path: str, options: Options, relative_to: Path) -> None:
        gan.check_options(options, "stylegan")
        self._uri, self._options = path, options
        place, self._given = settings(path, SETTINGS)
        self._file = gan.found(path, place, relative_to)
        _check_pickle(path, self._file)
        if not options.trust:
            raise ModelError(
                f"model {path!r} is a pickle with code in it, which would run with your rights: "
                "write trust = true under [model] if you trust who made it, or export it to ONNX"
            )
        self._code = _code(path, self._given.get("code"), relative_to)
        self._classes = gan.classes(path, self._given, relative_to)
        self._psi = _psi(path, self._given)
        self._noise = gan.choice(path, self._given, "noise", ("const", "none"), "const")
        self.takes_text = self.takes_labels = self._classes is not None
        self.warnings = (f"{self._file.name} is a pickle: the code in it runs with your rights, which the plan allows",)

    @property
    def digest(self) -> str:
        """Digest the file, the settings, the names of the classes and the code in the folder that the URI names."""
        sources = [file for package in PACKAGES for file in _sources(self._code, package)]
        named = {file.relative_to(self._code).as_posix(): file for file in sources if self._code}
        return gan.digest({"": self._file} | named, self._given, self._classes)

    def generate(self, requests: Sequence[Request]) -> list[RGB]:
        """Return one image for each request, as one batch."""
        if not requests:
            return []
        with gan.running(self._uri, EXTRA, len(requests)):
            network = self._network
            ask = gan.Ask(self._uri, gan.Latents((int(network.z_dim),)), self._classes)
        z, labels = ask.of(requests)
        with gan.running(self._uri, EXTRA, len(requests)):
            made = self._run(network, z, labels)
        return gan.levels(self._uri, made, "nchw", gan.RANGES["-1..1"])

    def round_trip(self, images: Sequence[RGB]) -> None:
        """Return None: there is no autoencoder."""

    def _run(self, network: Any, z: Any, labels: Any) -> Any:
        import torch

        count = int(network.c_dim)
        given = torch.zeros(len(z), 0) if labels is None else torch.from_numpy(gan.onehot(labels, count))
        with torch.inference_mode():
            made = network(
                torch.from_numpy(z).to(self._options.device),
                given.to(self._options.device),
                truncation_psi=self._psi,
                noise_mode=self._noise,
                force_fp32=True,
            )
        return made.float().cpu().numpy()

    @cached_property
    def _network(self) -> Any:
        devices.ready(self._options.device, self._options.threads)
        warn(self.warnings[0], stacklevel=2)
        network = self._picked(self._unpickled())
        told, there = self._classes.count if self._classes else 0, int(network.c_dim)
        if told != there:
            way = f"write classes={there}, or a file of as many names" if there else "leave classes out"
            raise ModelError(f"model {self._uri!r}: the generator has {there} classes, not {told}: {way}")
        return network.eval().requires_grad_(False).to(self._options.device)

    def _picked(self, held: object) -> Any:
        name = self._given.get("network", "G_ema")
        if not isinstance(held, dict) or name not in held:
            names = ", ".join(map(str, held)) if isinstance(held, dict) else "none"
            raise ModelError(f"model {self._uri!r} has no network {name!r}: write network=NAME, of {names}")
        return held[name]

    def _unpickled(self) -> object:
        try:
            with _importable(self._code), self._file.open("rb") as stream:
                return pickle.load(stream)  # only with trust: the constructor saw to it
        except ModuleNotFoundError as error:
            raise ModelError(f"model {self._uri!r} {_wanted(error.name or '')}") from error
        except (pickle.UnpicklingError, EOFError) as error:
            raise ModelError(f"model {self._uri!r} is a damaged pickle ({gan.first_line(error)}): copy it") from error


def _wanted(module: str) -> str:
    """Say where a module comes from that the code in a pickle imports."""
    package = module.partition(".")[0]
    if package in PACKAGES:
        return (
            f"wants NVlabs' code ({module}): get its stylegan3 repository and write ?code=FOLDER; "
            "networks of TensorFlow (dnnlib.tflib) go through its legacy.py first"
        )
    if package == "pkg_resources":
        return "has code that wants pkg_resources of an older setuptools: pip install 'setuptools<81'"
    return f"has code that wants the module {module!r}: install it, or add its folder to PYTHONPATH"


def _check_pickle(uri: str, file: Path) -> None:
    """Refuse what does not begin and end as a pickle, without reading what is between."""
    with file.open("rb") as stream:
        first = stream.read(1)
        stream.seek(max(0, file.stat().st_size - 1))
        last = stream.read(1)
    if (first, last) != (PROTOCOL, STOP):
        raise ModelError(
            f"model {uri!r}: {file.name} is truncated or no StyleGAN pickle: copy it again; "
            "weights in safetensors are loaded by a function of your own, function:MODULE:NAME"
        )


def _psi(uri: str, given: dict[str, str]) -> float:
    psi = gan.positive(uri, given, "truncation")
    if psi is not None and psi > 1:
        raise ModelError(f"model {uri!r}: truncation={given['truncation']} is above 1: write truncation=0.7")
    return 1.0 if psi is None else psi


def _code(uri: str, said: str | None, relative_to: Path) -> Path | None:
    """Return the folder of NVlabs' code. Raises ModelError where the packages are not in it."""
    if said is None:
        return None
    folder = (relative_to / Path(said).expanduser()).resolve()
    for package in PACKAGES:
        if not (folder / package).is_dir():
            raise ModelError(f"model {uri!r}: code={said} has no folder {package}: name NVlabs' stylegan3 repository")
    return folder


def _sources(folder: Path | None, package: str) -> list[Path]:
    """List the code of a package: Python and what it compiles."""
    kinds = (".py", ".cu", ".cpp", ".h")
    return sorted(file for file in (folder / package).rglob("*") if file.suffix in kinds) if folder else []


@contextmanager
def _importable(folder: Path | None) -> Iterator[None]:
    """Let `import` find the packages of a folder for a while."""
    if folder is None:
        yield
        return
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
