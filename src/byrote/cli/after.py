"""The commands for finished audits: compare."""

import argparse
from dataclasses import asdict
from pathlib import Path

from byrote.cli.options import Add, json_option, tell


def add(command: Add) -> None:
    """Add them."""
    compare = command("compare", _compare, "Compare two audits: before and after, or model against model.")
    compare.add_argument("first", type=Path, metavar="A", help="an audit folder")
    compare.add_argument("second", type=Path, metavar="B", help="another")
    json_option(compare)


def _compare(options: argparse.Namespace) -> int:
    from byrote.compare import compare, words

    told = compare(options.first, options.second)
    tell(options.json, asdict(told), words(told))
    return 0
