"""The command `canaries`."""

import argparse
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
    made.add_argument("--kind", choices=("noise", "scene", "both"), default="both", help="default: both")
    made.add_argument("--seed", type=int, metavar="N", help="of pictures and coins (default: from the system)")
    json_option(made)


def _make(options: argparse.Namespace) -> int:
    from byrote.canaries import KINDS, Draw, make

    kinds = tuple(kind for kind in KINDS if options.kind in (kind, "both"))
    rows = make(options.out, Draw(options.size, _tiers(options.tiers), options.each, kinds, options.seed))
    published = [row for row in rows if row.published]
    told = {"published": len(published), "kept": len(rows) - len(published), "files": sum(r.copies for r in published)}
    words = (
        f"{options.out}: {told['published']} canaries ({told['files']:,} files) to publish, {told['kept']} kept back. "
        f"Train on publish/, index keep/ with --held-out, and set [canaries] file; canaries.json is the answer: hide it"
    )
    tell(options.json, told | {"record": str(options.out / "canaries.json")}, words)
    return 0


def _tiers(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.strip().isdigit() and int(part) > 0 for part in parts):
        raise ByroteError(f"byrote canaries: --tiers is {text!r}; write whole numbers of 1 or more, like 1,2,4")
    return tuple(sorted({int(part) for part in parts}))
