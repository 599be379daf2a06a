"""What a reviewer gets: each pair as one image, all of them on a page, and a table to fill in."""

import csv
import html
import io
from pathlib import Path

import numpy as np

from byrote import images
from byrote.domain import RGB
from byrote.review import VERDICTS
from byrote.review.draw import Key, Pair
from byrote.review.planted import Lefts, Look, size_of
from byrote.store import replace_file

EDGE = 256
GAP = 8
COLUMNS = ["id", "verdict", "note"]


def write(folder: Path, key: Key, picture: Look, sample: Look) -> int:
    """Write the sheets; return how many pairs could not be shown, because an image is gone.

    A verdicts.csv in which somebody wrote already is left as it is. Raises OSError.
    """
    (folder / "pairs").mkdir(parents=True, exist_ok=True)
    size = size_of((pair.sample for pair in key.pairs), sample)
    lefts = Lefts(picture, sample, size, [(pair.picture, pair.sample) for pair in key.pairs])
    shown = []
    for pair in key.pairs:
        sheet = beside(pair, picture, lefts)
        if sheet is not None:
            replace_file(folder / "pairs" / f"{pair.id}.png", images.encode_png(sheet))
            shown.append(pair.id)
    if _blank(folder / "verdicts.csv"):
        replace_file(folder / "verdicts.csv", _table(shown))
    replace_file(folder / "pairs.html", _page(shown))
    return len(key.pairs) - len(shown)


def beside(pair: Pair, picture: Look, lefts: Lefts) -> RGB | None:
    """Lay the sample (left) and the picture (right) beside each other at one scale; None where either is gone."""
    right = picture(pair.picture)
    left = None if right is None else lefts.of(pair.picture, pair.sample, right)
    if right is None or left is None:
        return None
    gap = np.full((EDGE, GAP, 3), 255, np.uint8)
    fitted = [images.fit(image, EDGE, EDGE) for image in (left, right)]
    return np.concatenate([fitted[0], gap, fitted[1]], axis=1)


def _blank(path: Path) -> bool:
    """Tell whether there is no table, or one as empty as when it was written."""
    try:
        rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline="")))
    except FileNotFoundError:
        return True
    except (UnicodeDecodeError, csv.Error):
        return False
    return rows[:1] == [COLUMNS] and not any(cell.strip() for row in rows for cell in row[1:] if row != COLUMNS)


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
        "shows the very picture, with noise, blur, a shift, a crop or mirrored at most; part: a part of it or its "
        "layout; alike: another picture of the same kind; no: nothing of that; unsure: you cannot tell.</p>"
        f"\n{rows}</body></html>\n"
    ).encode()
