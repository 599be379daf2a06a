"""The command `demo`."""

import argparse
import os
from pathlib import Path

from byrote.cli.options import Add, jobs_option, json_option, tell


def add(command: Add) -> None:
    """Add it."""
    demo = command("demo", _demo, "Audit a small model that really remembers, from drawing its pictures to the report.")
    demo.add_argument("what", nargs="?", choices=("train",), help="train: make the demo's model again, from nothing")
    demo.add_argument("--out", type=Path, default=Path("demo"), metavar="DIR", help="where it goes (default: ./demo)")
    json_option(demo)
    jobs_option(demo, min(2, os.cpu_count() or 1))


def _demo(options: argparse.Namespace) -> int:
    from byrote import demo

    if options.what == "train":
        print(demo.train(options.out))
        return 0
    told = demo.run(options.out, jobs=options.jobs)
    tell(options.json, told, demo.words(told))
    return 0
