"""The commands `models` and `doctor`: what can be opened, and what is missing."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from byrote.cli.options import Add, json_option, tell

if TYPE_CHECKING:
    from byrote.doctor import Check


def add(command: Add) -> None:
    """Add them."""
    models = command("models", _models, "List the kinds of models that can be opened, and how.")
    json_option(models)

    doctor = command("doctor", _doctor, "Say what is installed and what is missing, of everything or for one thing.")
    doctor.add_argument(
        "what", nargs="?", metavar="WHAT", help="a model, source or descriptor by its URI, or an audit's folder"
    )
    doctor.add_argument("--device", default="cpu", metavar="NAME", help="for a model: cpu, cuda, mps (default: cpu)")
    doctor.add_argument("--dtype", default="float32", metavar="NAME", help="for a model (default: float32)")
    json_option(doctor)


def _models(options: argparse.Namespace) -> int:
    from byrote.doctor import kinds

    rows = kinds()
    tell(options.json, {"models": rows}, "\n".join(line for row in rows for line in _lines(row)))
    return 0


def _lines(row: dict[str, Any]) -> list[str]:
    lines = [f"{row['kind']:12} {row['what']}", f"{'':12} {row['example']}"]
    lines += [f"{'':12}   ?{name}= {says}" for name, says in row["settings"].items()]
    if row["missing"]:
        lines.append(f"{'':12} missing: {', '.join(row['missing'])}: {row['cure']}")
    return lines


def _doctor(options: argparse.Namespace) -> int:
    from byrote.doctor import examine, look
    from byrote.models import Options

    if options.what is None:
        told = examine()
        tell(options.json, told, "\n".join(f"{name:14} {value}" for name, value in told.items()))
        return 0
    checks = look(options.what, Options(device=options.device, dtype=options.dtype), Path.cwd())
    well = all(check.well for check in checks)
    told = {"what": options.what, "opens": well, "checks": [_row(check) for check in checks]}
    tell(options.json, told, _words(checks))
    return 0 if well else 2


def _words(checks: "Sequence[Check]") -> str:
    return "\n".join(
        f"{'ok' if check.well else 'MISSING':8} {check.what:10} {check.says}{f': {check.cure}' if check.cure else ''}"
        for check in checks
    )


def _row(check: "Check") -> dict[str, Any]:
    return {"what": check.what, "well": check.well, "says": check.says, "cure": check.cure}
