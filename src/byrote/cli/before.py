"""The commands that come before the first sample: plan, claim, tau."""

import argparse
from dataclasses import asdict
from pathlib import Path

from byrote.cli.options import Add, json_option, tell


def add(command: Add) -> None:
    """Add them."""
    plan = command("plan", _plan, "Say what an audit costs and what it can show, before any of its images is made.")
    plan.add_argument("dir", type=Path, metavar="DIR")
    plan.add_argument("--no-trial", action="store_true", help="make no trial batch: neither time nor disk is told")
    json_option(plan)

    claim = command("claim", _claim, "Name pictures before sampling, so that a p-value may speak of each.")
    claim.add_argument("dir", type=Path, metavar="DIR")
    claim.add_argument("image", nargs="+", type=Path, metavar="IMAGE", help="a file; its picture must be in the corpus")
    json_option(claim)

    tau = command("tau", _tau, "Measure how near pictures of a second held-out draw come to the corpus.")
    tau.add_argument("dir", type=Path, metavar="DIR")
    tau.add_argument("source", metavar="SOURCE", help="pictures never trained on, other than the audit's controls")
    tau.add_argument("--share", type=float, default=0.001, help="the share that may come within tau (default: 0.001)")
    json_option(tau)


def _plan(options: argparse.Namespace) -> int:
    from byrote.before.budget import weigh, words
    from byrote.progress import watcher

    watch = watcher()
    told = weigh(options.dir, pilot=not options.no_trial, progress=watch)
    watch.close()
    tell(options.json, asdict(told), words(told, options.dir))
    return 0


def _claim(options: argparse.Namespace) -> int:
    from byrote.before.claim import claim
    from byrote.progress import watcher

    watch = watcher()
    named = claim(options.dir, options.image, watch)
    watch.close()
    lines = [
        f"{each.file}: named as {each.digest[:19]}, {_apart(each.distance)}"
        + ("" if each.before_sampling else "; AFTER sampling, so it counts as searched for, not as named")
        + (f"; {each.note}" if each.note else "")
        for each in named
    ]
    tell(options.json, {"claims": [asdict(each) for each in named]}, "\n".join(lines))
    return 0


def _apart(distance: float | None) -> str:
    return "moved, turned or cropped" if distance is None else f"{distance:.3f} away"


def _tau(options: argparse.Namespace) -> int:
    from byrote.before.tau import measure
    from byrote.progress import watcher

    watch = watcher()
    told = measure(options.dir, options.source, share=options.share, progress=watch)
    watch.close()
    words = (
        f"closest = {told.closest:g}: {told.reached} of {told.pictures:,} pictures come so near to the corpus "
        f"(at most {told.share_at_most:.2%} of all like them, 95 %); {told.left_out} left out. "
        f"Write it under [certify] before `byrote run`"
    )
    tell(options.json, asdict(told), words)
    return 0
