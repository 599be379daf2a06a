"""The command `canaries`."""

import argparse
from dataclasses import replace
from pathlib import Path

from byrote.cli.options import Add, at_least_one, json_option, tell
from byrote.errors import ByroteError


def add(command: Add) -> None:
    """Add it."""
    made = command("canaries", _make, "Draw pictures to put into a training set, a coin deciding which.")
    made.add_argument("what", choices=("make",), help="make: draw them and toss the coins")
    made.add_argument("out", type=Path, metavar="OUT", help="a new folder: publish/, keep/ and canaries.json")
    made.add_argument("--size", type=at_least_one, default=64, metavar="N", help="pixels of an edge (default: 64)")
    made.add_argument("--tiers", default="1,2,4,8,16,32,64", metavar="LIST", help="copies (default: 1,2,4,...,64)")
    made.add_argument("--each", type=at_least_one, default=32, metavar="N", help="of each tier and kind (default: 32)")
    made.add_argument("--kind", choices=("noise", "natural", "both"), default="both", help="default: both")
    made.add_argument("--seed", type=_seed, metavar="N", help="of pictures and coins (default: from the system)")
    json_option(made)


def _make(options: argparse.Namespace) -> int:
    from byrote.canaries import KINDS, RECORD, Draw, make

    kinds = tuple(kind for kind in KINDS if options.kind in (kind, "both"))
    wanted = Draw(options.size, _tiers(options.tiers), options.each, kinds)
    if options.seed is not None:
        wanted = replace(wanted, seed=options.seed)
    rows = make(options.out, wanted)
    published = [row for row in rows if row.published]
    told = {
        "published": len(published),
        "kept": len(rows) - len(published),
        "files": sum(row.copies for row in published),
        "seed": wanted.seed,
        "record": str(options.out / RECORD),
    }
    words = (
        f"{options.out}: {len(published)} canaries ({told['files']:,} files) to publish, {told['kept']} kept back; "
        f"seed {wanted.seed}. Train on publish/ too; index publish/, and keep/ with --held-out; set [canaries] file. "
        f"The seed and {RECORD} are the answer: hide them"
    )
    tell(options.json, told, words)
    return 0


def _tiers(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and int(part) > 0 for part in parts):
        raise ByroteError(f"byrote canaries: --tiers is {text!r}; write whole numbers of 1 or more, like 1,2,4")
    return tuple(sorted({int(part) for part in parts}))


def _seed(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of 0 or more")
    return int(text)
