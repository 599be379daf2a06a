"""The command `extract`: can the claimed pictures be made to come out?"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from byrote.cli.options import Add, jobs_option, json_option, tell

if TYPE_CHECKING:
    from byrote.stages.report.extraction import Extracted, Outcome


def add(command: Add) -> None:
    """Add it."""
    extract = command("extract", _extract, "Try to make claimed pictures come out, and controls in the same ways.")
    extract.add_argument("dir", type=Path, metavar="DIR", help="an audit whose pictures `byrote claim` named")
    jobs_option(extract, None)
    json_option(extract)


def _extract(options: argparse.Namespace) -> int:
    from byrote import api
    from byrote.progress import watcher

    watch = watcher()
    told = api.extract(options.dir, jobs=options.jobs, progress=watch, tell=watch.tell)
    watch.close()
    tell(options.json, told.as_json(), _words(told))
    return 0


def _words(told: "Extracted") -> str:
    lines = []
    for picture in told.pictures:
        lines.append(
            f"{picture.digest[:19]}, claimed {'before' if picture.named else 'AFTER'} sampling: {picture.says}"
        )
        lines += [f"  {_line(each)}" for each in picture.outcomes]
        lines += [f"  {way:12} left out: {reason}" for way, reason in picture.left_out.items()]
    often = f"; one of {told.searches} searches of this model here, so chance had as many goes" * (told.searches > 1)
    return "\n".join([*lines, f"sealed {told.at} as {told.sealed}; {told.evaluations:,} evaluations{often}"])


def _line(each: "Outcome") -> str:
    if each.statistic is None or each.nearest is None:
        return f"{each.way:12} the picture is gone, or has changed since it was indexed"
    p = "uncalibrated" if each.p_value is None else f"p {each.p_value:.4f}, over all ways {each.adjusted:.4f}"
    twin = "" if each.twin_p is None else f"; twin {each.twin:.3f}, p of the difference {each.twin_p:.4f}"
    came = f"{each.near} of {each.samples} near" + (f", {each.refused} refused" if each.refused else "")
    return f"{each.way:12} {each.statistic:.3f}, nearest {each.nearest:.3f}, {came}; {p}{twin}"
