"""What a reviewer gets: each pair as one image, all of them on a page, and a table to fill in."""

import csv
import html
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np

from byrote import images
from byrote.domain import RGB
from byrote.review import VERDICTS
from byrote.review.draw import Key, Pair
from byrote.store import replace_file

Look = Callable[[str], RGB | None]
EDGE = 256
GAP = 8
PLANTED_QUALITY = 60
NOISE = 4.0
COLUMNS = ["id", "verdict", "note"]


def write(folder: Path, key: Key, picture: Look, sample: Look) -> int:
    """Write the sheets; return how many pairs could not be shown, because an image is gone."""
    (folder / "pairs").mkdir(parents=True, exist_ok=True)
    shown = []
    for pair in key.pairs:
        sheet = beside(pair, picture, sample)
        if sheet is not None:
            replace_file(folder / "pairs" / f"{pair.id}.png", images.encode_png(sheet))
            shown.append(pair.id)
    replace_file(folder / "verdicts.csv", _table(shown))
    replace_file(folder / "pairs.html", _page(shown))
    return len(key.pairs) - len(shown)


def beside(pair: Pair, picture: Look, sample: Look) -> RGB | None:
    """Lay the sample (left) and the picture (right) beside each other at one scale."""
    right = picture(pair.picture)
    if right is None:
        return None
    left = replant(right, pair.id) if pair.kind == "planted" else sample(pair.sample)
    if left is None:
        return None
    gap = np.full((EDGE, GAP, 3), 255, np.uint8)
    fitted = [images.fit(image, EDGE, EDGE) for image in (left, right)]
    return np.concatenate([fitted[0], gap, fitted[1]], axis=1)


def replant(image: RGB, about: str) -> RGB:
    """Return a copy that nobody could miss: with noise, and re-encoded as a JPEG of low quality."""
    noise = np.random.default_rng(list(about.encode())).normal(0, NOISE, image.shape)
    noisy = np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)
    return images.decode(images.encode_jpeg(noisy, PLANTED_QUALITY))


def _table(ids: list[str]) -> bytes:
    sink = io.StringIO()
    table = csv.writer(sink, lineterminator="\n")
    table.writerows([COLUMNS, *([each, "", ""] for each in ids)])
    return sink.getvalue().encode()


def _page(ids: list[str]) -> bytes:
    words = html.escape(", ".join(VERDICTS))
    rows = "".join(
        f'<figure><img src="pairs/{each}.png" alt="pair {each}: a sample, then a picture" loading="lazy">'
        f"<figcaption>{each}</figcaption></figure>\n"
        for each in ids
    )
    style = (
        "body{font:16px sans-serif;margin:2rem}figure{display:inline-block;margin:0 1rem 1.5rem 0}img{display:block}"
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>Pairs to judge</title>'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src 'self' file:; "
        f"style-src 'unsafe-inline'\"><style>{style}</style></head><body><h1>Pairs to judge</h1>"
        f"<p>Left a sample of the model, right a picture. Write one of {words} into verdicts.csv for each. A copy "
        "shows the very picture, with noise, blur or a shift at most; part: a part of it or its layout; alike: another "
        f"picture of the same kind.</p>\n{rows}</body></html>\n"
    ).encode()
