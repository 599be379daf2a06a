"""The contracts of sources, descriptors and models, for the tests of an adapter, here or in another package.

Each function raises AssertionError that says in words what is broken, and returns nothing.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from byrote.descriptors import Descriptor
from byrote.domain import RGB
from byrote.models import Model, Request
from byrote.sources import Listed, Source
from byrote.sources import open as open_source

SEEDS = (0, 1, 2**63 - 1)


def check_model(model: Model, prompts: Sequence[str | None]) -> None:
    """Check that samples depend on their prompt and seed only, within the model's tolerance, and look like images.

    Draws 12 samples a prompt. Two prompts or more also check that prompts mix.
    A model that takes no text wants (None,).
    """
    _check_attributes(model)
    requests = [Request(prompt, seed) for prompt in prompts for seed in SEEDS]
    _must(bool(requests), "check_model wants at least one prompt")
    name, digest = model.name, model.digest
    together = _generated(model, requests)
    _check_alike(model, together, _generated(model, requests), "asked again", 0)
    _check_alike(model, together, _generated(model, requests[::-1])[::-1], "in reverse order", model.tolerance)
    alone = [_generated(model, [request])[0] for request in requests]
    _check_alike(model, together, alone, "alone", model.tolerance)
    _check_seeds(together)
    _must(_generated(model, []) == [], "no requests must give no images")
    _must((model.name, model.digest) == (name, digest), "name and digest must not change after images were made")
    _check_round_trip(model, together)


def check_source(source: Source) -> None:
    """Check that the files are listed and read alike twice, sorted by `where`, each once, and so by its `uri` anew.

    A file that cannot be read must raise OSError with a reason of one line.
    """
    listed = list(source.list())
    _must(isinstance(source.uri, str) and bool(source.uri), f"uri must be a text, not {source.uri!r}")
    _must(listed == list(source.list()), "the files must be listed alike twice")
    wheres = [entry.where for entry in listed]
    _must(wheres == sorted(set(wheres)), "the files must be sorted by `where`, each once")
    held = [_read(source, entry) for entry in listed]
    for entry, data in zip(reversed(listed), reversed(held), strict=True):
        _must(data == _read(source, entry), f"{entry.where!r} must be read alike twice, in any order")
    again = open_source(source.uri)
    _must(held == [_read(again, entry) for entry in listed], f"{source.uri!r}, opened anew, must be read alike")
    _must(listed == list(again.list()), f"{source.uri!r}, opened anew, must be listed alike")
    with _raising(OSError, "reading what is not there must raise OSError"):
        source.read("no such file, surely")


def check_descriptor(descriptor: Descriptor, images: Sequence[RGB]) -> None:
    """Check that a vector depends on its own image only, and that metric and threshold fit together.

    Wants two different images at least. Vectors of float32 may differ by 1e-5 in another order or alone, because sums
    depend on the batch; bytes may not.
    """
    name = descriptor.name
    _must(isinstance(name, str) and bool(name), "name must be a text that is not empty")
    vectors = descriptor.describe(images)
    _must(
        vectors.shape == (len(images), descriptor.dimensions),
        f"{len(images)} images must give {len(images)} rows of {descriptor.dimensions}, not {list(vectors.shape)}",
    )
    _must(vectors.dtype in (np.uint8, np.float32), f"vectors must be uint8 or float32, not {vectors.dtype}")
    _must(bool(np.isfinite(vectors).all()), "vectors must be finite")
    _must(np.array_equal(vectors, descriptor.describe(images)), "vectors must be alike when described again")
    _must(_near(vectors[::-1], descriptor.describe(images[::-1])), "vectors must not depend on the order")
    alone = np.concatenate([descriptor.describe([image]) for image in images])
    _must(_near(vectors, alone), "an image's vector must not depend on the other images")
    _must(len(np.unique(vectors, axis=0)) > 1, "images that differ must not all have one vector")
    none = descriptor.describe([])
    _must(none.shape == (0, descriptor.dimensions), f"no images must give no rows, not {list(none.shape)}")
    _must(descriptor.name == name, "name must not change after images were described")
    _check_metric(descriptor, vectors)
    _check_threshold(descriptor)


def _check_metric(descriptor: Descriptor, vectors: NDArray[np.uint8] | NDArray[np.float32]) -> None:
    metric, floats = descriptor.metric, vectors.dtype == np.float32
    _must(metric in ("rms", "hamming", "cosine"), f"metric must be rms, hamming or cosine, not {metric!r}")
    _must(floats == (metric == "cosine"), f"vectors of metric {metric} must not be {vectors.dtype}")
    if metric == "cosine":
        lengths = np.linalg.norm(vectors, axis=1)
        _must(
            bool(np.allclose(lengths, 1, atol=1e-4)), f"vectors to compare by cosine must have length 1, not {lengths}"
        )
    if metric == "hamming":
        _must(
            descriptor.dimensions == 33, f"hashes must have 32 bytes and a quality, not {descriptor.dimensions} bytes"
        )
        _must(int(vectors[:, -1].max()) <= 100, "the quality, a hash's last byte, must be at most 100")


def _check_threshold(descriptor: Descriptor) -> None:
    threshold = descriptor.threshold
    if threshold is None:
        return
    _must(bool(threshold.says), "a threshold must say where it comes from")
    low, high = {"rms": (0, 1), "hamming": (0, 256), "cosine": (-1, 1)}[descriptor.metric]
    told = f"a threshold by {descriptor.metric} must lie between {low} and {high}, not {threshold.value}"
    _must(low <= threshold.value <= high, told)


def _near(a: NDArray[np.uint8] | NDArray[np.float32], b: NDArray[np.uint8] | NDArray[np.float32]) -> bool:
    return np.array_equal(a, b) if a.dtype == np.uint8 else np.allclose(a, b, rtol=0, atol=1e-5)


def _check_attributes(model: Model) -> None:
    _must(
        isinstance(model.name, str) and bool(model.name), f"name must be a text that is not empty, not {model.name!r}"
    )
    _must(model.digest.startswith("sha256:"), f"digest must start with 'sha256:', not {model.digest!r}")
    _must(isinstance(model.takes_text, bool), f"takes_text must be true or false, not {model.takes_text!r}")
    _must(model.tolerance >= 0, f"tolerance must be 0 or more, not {model.tolerance}")
    evaluations = model.evaluations_per_sample
    _must(evaluations >= 1, f"evaluations_per_sample must be 1 or more, not {evaluations}")


def _generated(model: Model, requests: Sequence[Request]) -> list[RGB]:
    made = model.generate(requests)
    _must(isinstance(made, list), f"generate must return a list, not {type(made).__name__}")
    _must(len(made) == len(requests), f"{len(requests)} requests must give as many images, not {len(made)}")
    _check_images(made)
    return made


def _check_images(images: Sequence[RGB]) -> None:
    for image in images:
        rgb = isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
        _must(rgb, f"an image must be uint8 [height, width, 3], not {_kind(image)}")
        _must(image.shape == images[0].shape, f"images must have one size, not {image.shape} and {images[0].shape}")


def _check_alike(model: Model, a: Sequence[RGB], b: Sequence[RGB], how: str, tolerance: int) -> None:
    for place, (one, other) in enumerate(zip(a, b, strict=True)):
        apart = int(np.abs(one.astype(int) - other).max())
        told = f"sample {place} of {model.name} differs by {apart} levels {how}; {tolerance} are allowed"
        _must(apart <= tolerance, told)


def _check_seeds(made: Sequence[RGB]) -> None:
    """Check that the seeds of some prompt all differ; a prompt that was learnt by heart may always give the same."""
    prompts = [made[k : k + len(SEEDS)] for k in range(0, len(made), len(SEEDS))]
    varied = [len({image.tobytes() for image in images}) == len(SEEDS) for images in prompts]
    _must(any(varied), "different seeds must give different images, for one of the prompts at least")


def _check_round_trip(model: Model, made: Sequence[RGB]) -> None:
    back = model.round_trip(made)
    if back is None:
        return
    _must(len(back) == len(made), f"round_trip must return {len(made)} images, not {len(back)}")
    _check_images(back)
    _must(
        back[0].shape == made[0].shape,
        f"round_trip must keep the size of samples: {made[0].shape}, not {back[0].shape}",
    )
    _check_alike(model, back, model.round_trip(made) or [], "after a second round trip of the same images", 0)


def _check_listed(entry: Listed) -> None:
    _must(isinstance(entry.where, str) and bool(entry.where), f"`where` must be a text, not {entry.where!r}")
    said = entry.captions
    texts = isinstance(said, tuple) and all(isinstance(one, str) and one for one in said)
    _must(texts, f"the captions of {entry.where!r} must be a tuple of texts that are not empty, not {said!r}")


def _read(source: Source, entry: Listed) -> bytes | str:
    """Return the bytes of a file, or the reason why it has none."""
    _check_listed(entry)
    try:
        data = source.read(entry.where)
    except OSError as error:
        _must(len(str(error).splitlines()) == 1, f"{entry.where!r}: a reason must be one line, not {str(error)!r}")
        return str(error)
    _must(isinstance(data, bytes), f"{entry.where!r} must be read as bytes, not {type(data).__name__}")
    _must(entry.size in (-1, len(data)), f"{entry.where!r} is listed with {entry.size} bytes and has {len(data)}")
    return data


@contextmanager
def _raising(kind: type[Exception], message: str) -> Iterator[None]:
    try:
        yield
    except kind:
        return
    raise AssertionError(message)


def _kind(image: object) -> str:
    if isinstance(image, np.ndarray):
        return f"{image.dtype} {list(image.shape)}"
    return type(image).__name__


def _must(holds: bool, message: str) -> None:
    """Raise where a plain `assert` would be stripped by `python -O`."""
    if not holds:
        raise AssertionError(message)
