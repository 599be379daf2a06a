"""The contracts of sources, descriptors and models, for the tests of an adapter, here or in another package.

Each function raises AssertionError that says in words what is broken, and returns nothing.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from byrote.descriptors import Descriptor
from byrote.domain import RGB
from byrote.models import Model, Request, held
from byrote.models.denoiser import Denoiser, Floats, Level, Prediction, Prompts
from byrote.sources import Listed, Source
from byrote.sources import open as open_source

SEEDS = (0, 1, 2**63 - 1)
STEP = 0.01  # of a move of states and texts, for differences


def check_model(model: Model, prompts: Sequence[str | None]) -> None:
    """Check that samples depend on their prompt and seed only, within the model's tolerance, and look like images.

    Draws 12 samples a prompt. Two prompts or more also check that prompts mix.
    A model that takes no text wants (None,), one that holds samples prompts of which it holds three.
    """
    _check_attributes(model)
    holds = held(model)
    requests = [Request(p, seed) for p in prompts for seed in (SEEDS if holds is None else holds[p][: len(SEEDS)])]
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


def check_denoiser(denoiser: Denoiser, images: Sequence[RGB], prompts: Sequence[str | None]) -> None:
    """Check that a denoiser keeps to its convention, row by row, and that its gradients are those of what it predicts.

    Wants two images of its size at least, and as many prompts, two of which differ where it takes text. Gradients are
    compared with differences along one direction, within 5 %, which wants float32.
    """
    _must(len(images) > 1 and len(images) == len(prompts), "check_denoiser wants two images or more, a prompt for each")
    levels = denoiser.levels()
    _check_levels(denoiser, levels)
    _check_start(denoiser, levels[0])
    _check_coding(denoiser, images)
    clean, noise = denoiser.encode(images), denoiser.start(range(len(images)))
    for level in (levels[0], levels[len(levels) // 2]):
        x = np.float32(level.alpha) * clean + np.float32(level.sigma) * noise
        _check_predictions(denoiser, x, level, prompts)
    _check_attention(denoiser, x, level, prompts)
    _check_gradients(denoiser, x, level, prompts)


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


def _check_levels(denoiser: Denoiser, levels: Sequence[Level]) -> None:
    _must(bool(levels) and levels == denoiser.levels(), "levels must be there, and alike when asked again")
    shares = [level.alpha / level.sigma for level in levels]
    _must(
        shares[0] >= 0 and shares == sorted(set(shares)), f"alpha / sigma must rise from level to level, not {shares}"
    )
    first, again = levels[0], denoiser.level(levels[0].timestep)
    near = np.allclose((first.alpha, first.sigma), (again.alpha, again.sigma), rtol=0, atol=0.01)
    _must(near, f"level({first.timestep}) must be near the ladder's {first}, not {again}")


def _check_start(denoiser: Denoiser, level: Level) -> None:
    states = denoiser.start(SEEDS)
    _must(
        states.dtype == np.float32 and states.shape == (len(SEEDS), *denoiser.shape),
        f"start must give float32 {[len(SEEDS), *denoiser.shape]}, not {_kind(states)}",
    )
    alone = np.concatenate([denoiser.start([seed]) for seed in SEEDS[::-1]])[::-1]
    _must(np.array_equal(states, alone), "the start of a seed must not depend on other seeds")
    _must(
        len(np.unique(states.reshape(len(SEEDS), -1), axis=0)) == len(SEEDS), "different seeds must start differently"
    )
    size = float(np.sqrt(np.mean(np.square(states)))) / level.sigma
    _must(0.7 < size < 1.4, f"states to start from must have the deviation of their noise, not {size:.2g} of it")
    _must(denoiser.start([]).shape == (0, *denoiser.shape), "no seeds must give no states")


def _check_coding(denoiser: Denoiser, images: Sequence[RGB]) -> None:
    clean = denoiser.encode(images)
    _must(clean.shape == (len(images), *denoiser.shape), f"encode must give states, not {_kind(clean)}")
    _must(np.array_equal(clean, denoiser.encode(images)), "images must be encoded alike twice")
    alone = np.concatenate([denoiser.encode([image]) for image in images])
    _must(_apart(clean, alone) <= denoiser.tolerance, "an image's encoding must not depend on the others")
    made = denoiser.decode(clean)
    _check_images(made)
    _must(len(made) == len(images), f"{len(images)} states must be decoded to as many images, not {len(made)}")
    _must(made[0].shape == (*denoiser.size, 3), f"decode must give images of {denoiser.size}, not {_kind(made[0])}")
    _must(
        denoiser.encode([]).shape == clean[:0].shape and denoiser.decode(clean[:0]) == [], "nothing must give nothing"
    )


def _check_predictions(denoiser: Denoiser, x: Floats, level: Level, prompts: Prompts) -> None:
    made = denoiser.predict(x, level, prompts)
    for name, part in made._asdict().items():
        good = part.dtype == np.float32 and part.shape == x.shape and bool(np.isfinite(part).all())
        _must(good, f"the predicted {name} must be float32 {list(x.shape)} and finite, not {_kind(part)}")
    whole = np.float32(level.alpha) * made.x0 + np.float32(level.sigma) * made.eps
    _must(
        _apart(x, whole) <= denoiser.tolerance,
        f"alpha x0 + sigma eps must be the state, but is {_apart(x, whole):.2g} apart",
    )
    again = denoiser.predict(x, level, prompts)
    _must(all(map(np.array_equal, made, again)), "predictions must be alike when asked again")
    rows = [denoiser.predict(x[k : k + 1], level, prompts[k : k + 1]) for k in reversed(range(len(x)))][::-1]
    _check_same(denoiser, made, Prediction(*map(np.concatenate, zip(*rows, strict=True))), "alone")
    none = denoiser.predict(x[:0], level, [])
    _must(none.eps.shape == none.x0.shape == x[:0].shape, "no states must give no predictions")
    _check_text(denoiser, np.repeat(x[:1], len(x), 0), level, prompts)


def _check_text(denoiser: Denoiser, x: Floats, level: Level, prompts: Prompts) -> None:
    """Check what prompts do to one state."""
    made = denoiser.predict(x, level, prompts)
    if denoiser.takes_text and len(set(prompts)) > 1:
        _must(any(_apart(made.x0[:1], row[None]) > 0 for row in made.x0), "prompts must change predictions")
    text = denoiser.text(prompts)
    if text is not None:
        _must(text.ndim == 3 and len(text) == len(x), f"text must be [rows, tokens, width], not {_kind(text)}")
        _check_same(denoiser, made, denoiser.predict(x, level, prompts, text=text), "with its own text given")


def _check_attention(denoiser: Denoiser, x: Floats, level: Level, prompts: Prompts) -> None:
    text = denoiser.text(prompts)
    for name, rows in denoiser.attention(x, level, prompts).items():
        fits = text is not None and (len(rows), rows.shape[2]) == text.shape[:2]
        _must(fits, f"the attention of {name} must be [rows, places, tokens], not {_kind(rows)}")
        whole = rows.min() >= 0 and np.allclose(rows.sum(2), 1, atol=0.01)
        _must(bool(whole), f"the attention of {name} must add up to 1 over tokens")


def _check_gradients(denoiser: Denoiser, x: Floats, level: Level, prompts: Prompts) -> None:
    made, pull = denoiser.pullback(x, level, prompts)
    _check_same(denoiser, made, denoiser.predict(x, level, prompts), "without gradients")
    _must(not pull().x.any(), "the pullback of nothing must be nothing")
    move = np.random.default_rng(0).standard_normal(x.shape, np.float32)
    up, down = (denoiser.predict(x + np.float32(step) * move, level, prompts) for step in (STEP, -STEP))
    change = Prediction(*((a - b) / np.float32(2 * STEP) for a, b in zip(up, down, strict=True)))
    for name, part in change._asdict().items():
        _check_slope(part, pull(**{name: part}).x, move, f"{name} with respect to x")
    text = denoiser.text(prompts)
    if text is None:
        return
    move = np.random.default_rng(1).standard_normal(text.shape, np.float32)
    up, down = (denoiser.predict(x, level, prompts, text=text + np.float32(step) * move) for step in (STEP, -STEP))
    part = (up.x0 - down.x0) / np.float32(2 * STEP)
    found = pull(x0=part).text
    if found is None or found.shape != text.shape:
        raise AssertionError("gradients with respect to the text must have its shape")
    _check_slope(part, found, move, "x0 with respect to the text")


def _check_slope(change: Floats, pulled: Floats, move: Floats, what: str) -> None:
    """Check a pullback of the very change that a move makes: along that move it is the square of the change."""
    told, found = float(np.vdot(pulled, move)), float(np.vdot(change, change))
    _must(
        abs(told - found) <= 0.05 * found, f"the gradient of {what} is {told:.4g} along a move that makes {found:.4g}"
    )


def _check_same(denoiser: Denoiser, a: Prediction, b: Prediction, how: str) -> None:
    apart = max(map(_apart, a, b))
    _must(apart <= denoiser.tolerance, f"predictions differ by {apart:.2g} {how}; {denoiser.tolerance} is allowed")


def _apart(a: Floats, b: Floats) -> float:
    """Return the RMS difference relative to the RMS of `a`."""
    return float(np.linalg.norm(a - b) / max(float(np.linalg.norm(a)), 1e-12))


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
