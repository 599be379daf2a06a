"""Generators that were saved as TorchScript: `torchscript:G.pt?z=128`, only with `[model] trust = true`.

A TorchScript file is a program. It cannot import Python, but it can call any operator of torch, and one of them,
`aten::from_file`, creates and writes files (a test does it); `torch.jit.load` has no safe mode, its parser is not made
for hostile files, and PyTorch's own security policy says to treat such a model like an executable of its sender. So it
is refused until the plan says `trust = true`. An ONNX file of the same generator needs no trust.

    z=128                 numbers of a latent; z=100x1x1 for generators that want [n, 100, 1, 1]
    distribution=normal   or uniform, from -1 to 1
    truncation=2          largest size of a number of a normal latent; left out: no limit
    classes=10            a second input with the class; a file instead of a number names the classes, one a line
    labels=index          the class as int64 [n], or as float32 [n, classes]: onehot
    range=-1..1           black and white of a float output; 0..1, 0..255; uint8 is taken as it is
    layout=nchw           or nhwc; left out: the axis of 1 or 3 channels tells
"""

import zipfile
from collections.abc import Sequence
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any
from warnings import catch_warnings, filterwarnings, warn

from byrote.domain import RGB
from byrote.errors import ModelError
from byrote.models import How, Options, Request, devices, gan, settings

if TYPE_CHECKING:
    from torch import Tensor

EXTRA = "diffusers"
LARGEST_CODE = 1 << 26  # bytes; torch packs code, and stores tensors as they are


class TorchScript:
    """A generator that was traced or scripted; one call of `generate` is one batch.

    It is called with the latents, and with the classes where the URI gives some; of several outputs the first counts.
    A program that draws random numbers itself is asked for one image at a time, with torch's generator seeded for it.
    Raises ModelError, in the constructor for what the file and the URI tell without running anything.
    """

    name = "TorchScript"
    how = How(
        "a generator as TorchScript, a program; wants trust", "torchscript:G.pt?z=128", gan.SETTINGS, EXTRA, ("torch",)
    )
    tolerance = gan.TOLERANCE
    evaluations_per_sample = 1

    def __init__(self, path: str, options: Options, relative_to: Path) -> None:
        gan.check_options(options, "torchscript")
        self._uri, self._options = path, options
        place, self._given = settings(path, gan.SETTINGS)
        self._file = gan.found(path, place, relative_to)
        _check_archive(path, self._file)
        if not options.trust:
            raise ModelError(
                f"model {path!r} is TorchScript, a program that would run with your rights: "
                "write trust = true under [model] if you trust who made it, or export it to ONNX"
            )
        shape = gan.size(path, self._given)
        if shape is None:
            raise ModelError(f"model {path!r}: the size of its latents is not in the file: write {place}?z=128")
        self._classes = gan.classes(path, self._given, relative_to)
        self._ask = gan.Ask(path, gan.latents(path, self._given, shape), self._classes)
        self._labels = gan.choice(path, self._given, "labels", ("index", "onehot"), "index")
        self._layout, self._span = gan.layout(path, self._given), gan.span(path, self._given)
        self.takes_text = self.takes_labels = self._classes is not None
        self.warnings = (
            f"{self._file.name} is TorchScript: the program in it runs with your rights, which the plan allows",
        )

    @property
    def digest(self) -> str:
        """Digest the file, the settings and the names of the classes."""
        return gan.digest({"": self._file}, self._given, self._classes)

    def generate(self, requests: Sequence[Request]) -> list[RGB]:
        """Return one image for each request, as one batch."""
        if not requests:
            return []
        z, labels = self._ask.of(requests)
        with gan.running(self._uri, EXTRA, len(requests)):
            inputs = self._inputs(z, labels)
            if self._draws:
                one = [self._seeded(tuple(x[k : k + 1] for x in inputs), r.seed) for k, r in enumerate(requests)]
                made = import_module("torch").cat(one)
            else:
                made = self._run(inputs)
        if len(made) != len(requests):
            raise ModelError(f"model {self._uri!r} gave {list(made.shape)} for {len(requests)} latents: is z right?")
        return gan.levels(self._uri, made.numpy(), self._layout, self._span)

    def round_trip(self, images: Sequence[RGB]) -> None:
        """Return None: there is no autoencoder."""

    def _inputs(self, z: Any, labels: Any) -> "tuple[Tensor, ...]":
        import torch

        arrays = [z]
        if self._classes and labels is not None:
            arrays.append(gan.onehot(labels, self._classes.count) if self._labels == "onehot" else labels)
        return tuple(torch.from_numpy(array).to(self._options.device) for array in arrays)

    def _run(self, inputs: "tuple[Tensor, ...]") -> "Tensor":
        """Return what the program makes, on the CPU."""
        import torch

        network = self._network
        plain: Any = import_module("torch.jit").optimized_execution  # fused code would sum otherwise from call to call
        with torch.inference_mode(), plain(False):
            made = network(*inputs)
        while isinstance(made, tuple | list) and made:
            made = made[0]
        if not isinstance(made, torch.Tensor):
            raise TypeError(f"it gave {type(made).__name__}, not a tensor")
        return (made.float() if made.is_floating_point() else made).cpu()

    def _seeded(self, inputs: "tuple[Tensor, ...]", seed: int) -> "Tensor":
        """Run with torch's own generator at a seed, and put it back after: a program can draw from no other."""
        import torch

        device = torch.device(self._options.device)
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            return self._run(inputs)

    @cached_property
    def _draws(self) -> bool:
        """Say whether the program draws random numbers itself, by running it once and looking at torch's generator."""
        import torch

        device = torch.device(self._options.device)
        random: Any = torch.cuda if device.type == "cuda" else torch
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            before = random.get_rng_state()
            z, labels = self._ask.of([Request(None, 0)])
            self._run(self._inputs(z, labels))
            return not torch.equal(before, random.get_rng_state())

    @cached_property
    def _network(self) -> Any:
        torch = import_module("torch")
        devices.ready(self._options.device, self._options.threads)
        warn(self.warnings[0], stacklevel=2)
        with catch_warnings():
            filterwarnings("ignore", category=DeprecationWarning, module="torch")  # of TorchScript as a whole
            network: Any = torch.jit.load(str(self._file), map_location=self._options.device)
        return network.eval()


def _check_archive(uri: str, file: Path) -> None:
    """Refuse what is no whole TorchScript archive, without unpacking anything of it."""
    again = "copy it again, or save it by torch.jit.save"
    if not zipfile.is_zipfile(file):
        raise ModelError(f"model {uri!r}: {file.name} is truncated or no TorchScript archive: {again}")
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise ModelError(f"model {uri!r}: {file.name} is damaged ({gan.first_line(error)}): {again}") from error
    unpacked = sum(member.file_size for member in members if member.compress_type != zipfile.ZIP_STORED)
    if unpacked > LARGEST_CODE:
        raise ModelError(f"model {uri!r}: {file.name} unpacks to {unpacked:,} bytes of code: refused as a zip bomb")
    if not any(member.filename.endswith("/constants.pkl") for member in members):
        raise ModelError(
            f"model {uri!r}: {file.name} holds weights without a program: save the generator by torch.jit.save, "
            "or load the weights in a function of your own, function:MODULE:NAME"
        )
