"""The command `review`."""

import argparse
from dataclasses import asdict
from pathlib import Path

from byrote.cli.options import Add, at_least_one, json_option, tell
from byrote.errors import ByroteError


def add(command: Add) -> None:
    """Add it."""
    review = command("review", _review, "Let people judge pairs, and measure what they say.")
    review.add_argument("what", choices=("draw", "import", "measure"), help="draw pairs, take verdicts, measure them")
    review.add_argument("dir", type=Path, metavar="DIR")
    review.add_argument("file", nargs="?", type=Path, metavar="FILE", help="import: a filled verdicts.csv")
    review.add_argument("--reviewer", metavar="NAME", help="import: who filled it")
    review.add_argument("--n", type=at_least_one, default=200, metavar="N", help="draw: candidate pairs (default: 200)")
    review.add_argument("--seed", type=int, default=0, metavar="N", help="draw: of the draw (default: 0)")
    review.add_argument("--out", type=Path, metavar="FOLDER", help="draw: for the sheets (default: DIR/review/sheets)")
    json_option(review)


def _review(options: argparse.Namespace) -> int:
    does = {"draw": _draw, "import": _import, "measure": _measure}
    return does[options.what](options)


def _draw(options: argparse.Namespace) -> int:
    from byrote.reviewing import draw_pairs

    out = options.out or options.dir / "review" / "sheets"
    key, lost = draw_pairs(options.dir, out, count=options.n, seed=options.seed)
    told = {"pairs": len(key.pairs), "candidates": sum(p.kind == "candidate" for p in key.pairs), "not_shown": lost}
    gone = f" {lost} cannot be shown, because an image is gone." if lost else ""
    words = (
        f"{out}: {told['pairs']} pairs, {told['candidates']} of them candidates, the rest controls and planted copies."
        f"{gone} Hand out this folder alone and fill verdicts.csv, then "
        f"`byrote review import {options.dir} FILE --reviewer NAME`; review/key.json is the key"
    )
    tell(options.json, told, words)
    return 0


def _import(options: argparse.Namespace) -> int:
    from byrote.reviewing import take_verdicts

    if options.file is None or not options.reviewer:
        raise ByroteError("byrote review import: name FILE and --reviewer NAME")
    new, there = take_verdicts(options.dir, options.file, options.reviewer)
    tell(options.json, {"new": new, "lines": there}, f"{new} new verdicts of {options.reviewer} ({there} in the file)")
    return 0


def _measure(options: argparse.Namespace) -> int:
    from byrote.reviewing import measured, words

    told = measured(options.dir)
    tell(options.json, asdict(told), words(told))
    return 0
