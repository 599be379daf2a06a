"""What the commands have in common: options, and how an answer is told."""

import argparse
import json
from collections.abc import Callable
from typing import Any, Protocol

Does = Callable[[argparse.Namespace], int]


class Add(Protocol):
    """Adds a command: its name, what it does (returning the exit code), and what its help says."""

    def __call__(self, name: str, does: Does, says: str) -> argparse.ArgumentParser:
        """Return the parser to hang options on."""
        ...


def json_option(to: argparse.ArgumentParser) -> None:
    """Take `--json`."""
    to.add_argument("--json", action="store_true", help="print one JSON object on standard output")


def jobs_option(to: argparse.ArgumentParser, default: int | None) -> None:
    """Take `--jobs`; None stands for one for each device."""
    told = "1; one a GPU where the plan says cuda" if default is None else default
    to.add_argument(
        "--jobs", type=at_least_one, default=default, metavar="N", help=f"worker processes (default: {told})"
    )


def at_least_one(text: str) -> int:
    """Read a whole number of 1 or more."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of 1 or more")
    return int(text)


def tell(as_json: bool, told: Any, words: str) -> None:
    """Print an answer as JSON or in words."""
    print(json.dumps(told, ensure_ascii=True) if as_json else words)
