"""The command `screen`: which prompts of a list are likely to bring a picture back."""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from byrote.cli.options import Add, at_least_one, json_option, tell

if TYPE_CHECKING:
    from byrote.stages.risk import Ranked

SHOWN = 20


def add(command: Add) -> None:
    """Add it."""
    screen = command("screen", _screen, "Rank prompts by how likely they are to bring a training picture back.")
    screen.add_argument(
        "prompts", type=Path, metavar="PROMPTS", help="a text, one a line, or a .csv, .jsonl or .parquet"
    )
    screen.add_argument("--model", required=True, metavar="URI", help="see `byrote models`")
    screen.add_argument("--score", metavar="NAME", help="see docs/howto/screen-prompts.md (default: by the model)")
    screen.add_argument("--controls", type=Path, metavar="FILE", help="prompts that can bring nothing back: p-values")
    screen.add_argument("--seeds", type=at_least_one, default=4, metavar="N", help="noises a prompt (default: 4)")
    screen.add_argument("--steps", type=at_least_one, metavar="N", help="of the sampler, for the score alone")
    screen.add_argument("--guidance", type=float, metavar="SCALE", help="(default: the model's)")
    screen.add_argument(
        "--pilot", type=_count, default=40, metavar="N", help="prompts to check the score on, 0 for none (default: 40)"
    )
    screen.add_argument("--device", default="cpu", metavar="NAME", help="cpu, cuda, mps (default: cpu)")
    screen.add_argument("--dtype", default="float32", metavar="NAME", help="(default: float32)")
    screen.add_argument("--out", type=Path, metavar="FILE", help="all prompts, as .csv or .parquet")
    json_option(screen)


def _count(text: str) -> int:
    return 0 if text == "0" else at_least_one(text)


def _screen(options: argparse.Namespace) -> int:
    from byrote import api
    from byrote.models import Options
    from byrote.progress import watcher

    watch = watcher()
    told = api.screen(
        options.prompts,
        options.model,
        score=options.score,
        controls=options.controls,
        seeds=options.seeds,
        steps=options.steps,
        pilot=options.pilot,
        options=Options(device=options.device, dtype=options.dtype, guidance=options.guidance),
        out=options.out,
        progress=watch,
    )
    watch.close()
    tell(options.json, asdict(told), _words(told))
    return 0


def _words(told: "Ranked") -> str:
    lines = [f"{row.rank:6} {row.score:10.4g} {_p(row.p_value)} {row.prompt}" for row in told.rows[:SHOWN]]
    left = len(told.rows) - len(lines)
    more = [f"       and {left:,} more: --out FILE.csv writes them all"] if left else []
    calibrated = f"p among {told.controls:,} controls" if told.controls else "uncalibrated: no --controls"
    return "\n".join(
        [
            f"  rank {'score':>10} {'p' if told.controls else '':6} prompt",
            *lines,
            *more,
            f"{told.score}, {told.seeds} noises a prompt; {calibrated}; {told.evaluations:,} evaluations",
            _pilot_words(told),
        ]
    )


def _p(value: float | None) -> str:
    return " " * 6 if value is None else f"{value:6.4f}"


def _pilot_words(told: "Ranked") -> str:
    tried = told.pilot
    if tried is None:
        return "no pilot: nothing says that this score means anything on this model"
    value, low, high, n = tried.correlation
    about = f"rank correlation with the agreement of full samples {value:.2f} ({low:.2f} to {high:.2f}, {n} prompts)"
    if not tried.usable:
        return f"PILOT: {about}: do not rely on this order; try another --score"
    return f"pilot: {about}" + ("; the score is turned round" if tried.direction < 0 else "")
