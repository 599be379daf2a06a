"""Write docs/cli.md from the parser of the command line; a test tells where the page is behind it."""

import argparse
from collections.abc import Iterator
from pathlib import Path

from byrote.cli import parser

PAGE = Path(__file__).with_name("cli.md")
JOBS = "worker processes (default: 1; the demo takes 2 where there are two cores, `run` one for each GPU)"
HEAD = """# Commands

Made by `make docs` from the program itself; do not edit.

`--json` prints one object on standard output; all else goes to standard error. Exit codes: 2 a mistake of the user, 3 a
part missing or failed (with `--gate`: an audit that is too weak to pass), 1 `--gate` with certified findings, 130
interrupted, else 0.
"""


def page() -> str:
    """Return the whole page."""
    return "\n".join([HEAD, *(line for name, each in commands().items() for line in _section(name, each))])


def commands() -> dict[str, argparse.ArgumentParser]:
    """Return the parser of every command."""
    found = (action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    return dict(next(found).choices)


def _section(name: str, command: argparse.ArgumentParser) -> Iterator[str]:
    actions = [action for action in command._actions if not isinstance(action, argparse._HelpAction)]
    words = " ".join(["byrote", name, *(_usage(action) for action in actions)])
    yield from (f"## byrote {name}", "", f"{command.description}", "", f"    {words}", "")
    yield from ("| argument | |", "|---|---|")
    yield from (f"| `{_term(action)}` | {_says(action)} |" for action in actions)
    yield ""


def _usage(action: argparse.Action) -> str:
    term = _term(action)
    if action.option_strings:
        return (term if action.required else f"[{term}]") + ("…" if action.default == [] else "")
    return {"*": f"[{term}]…", "?": f"[{term}]"}.get(str(action.nargs), term)


def _term(action: argparse.Action) -> str:
    named = action.metavar or "|".join(str(choice) for choice in action.choices or ())
    value = "" if action.nargs == 0 else str(named)
    return " ".join(part for part in (*action.option_strings[:1], value) if part)


def _says(action: argparse.Action) -> str:
    """Return the help, without the default of `--jobs`: the demo's depends on the machine, and the page must not."""
    says = action.help or {"dir": "the audit's folder"}.get(action.dest, "")
    return JOBS if action.dest == "jobs" else says


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
