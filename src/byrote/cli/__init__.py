"""The command line: wiring, progress and exit codes.

Exit: 2 a mistake of the user; 3 a part missing, or an audit too weak for `--gate`; 1 `--gate` with findings; else 0.
"""

import argparse
import gc
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from byrote.cli import after, audits, before, canaries, corpora, demo, doctor, extract, review, screen, seals, surrogate
from byrote.errors import ByroteError

FAMILIES = (demo, audits, doctor, corpora, before, extract, screen, surrogate, canaries, review, after, seals)


class _Parser(argparse.ArgumentParser):
    """Tells a mistake in one line."""

    def error(self, message: str) -> NoReturn:
        """Raise it as any other mistake of the user."""
        raise ByroteError(f"{self.prog}: {message}; see `{self.prog} --help`")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    gc.set_threshold(50_000, 20, 50)  # tables of many rows hold no circles: looking for some takes 7 % of an index
    try:
        options = parser().parse_args(arguments)
        command: Callable[[argparse.Namespace], int] = options.command
        return command(options)
    except ByroteError as error:
        print(f"byrote: {_one_line(error)}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("byrote: interrupted; what is done is kept, and the same command goes on", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def parser() -> argparse.ArgumentParser:
    """Build the parser; docs/cli.md is made from it."""
    top = _Parser(prog="byrote", description="Find out what an image generator has memorised, and prove it.")
    commands = top.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)

    def command(name: str, does: Callable[[argparse.Namespace], int], says: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=says, description=says)
        added.set_defaults(command=does)
        return added

    for family in FAMILIES:
        family.add(command)
    return top


def _one_line(error: ByroteError) -> str:
    return " ".join(str(error).split())
