"""The commands of an audit: index, init, run, status, report."""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from byrote.cli.options import Add, jobs_option, json_option, tell
from byrote.errors import ByroteError, PlanError
from byrote.plan import STAGES


def add(command: Add) -> None:
    """Add them."""
    index = command("index", _index, "Index pictures into a corpus; a second call adds.")
    index.add_argument(
        "source",
        nargs="*",
        metavar="SOURCE",
        help="pictures of the training set: a folder, shards, a table, … (docs/howto/sources.md)",
    )
    index.add_argument("--corpus", type=Path, required=True, metavar="DIR", help="the corpus to make or to add to")
    index.add_argument("--held-out", action="append", default=[], metavar="SOURCE", help="controls, never trained on")
    index.add_argument(
        "--quick", action="store_true", help="decode no more than thumbnails want: for duplicates only, not for audits"
    )
    index.add_argument(
        "--hashes", type=Path, metavar="FILE", help="MD5 and PDQ hashes: what they hit is counted, not indexed"
    )
    json_option(index)
    jobs_option(index, 1)

    init = command("init", _init, "Write a commented audit.toml into a new audit folder.")
    init.add_argument("dir", type=Path, metavar="DIR")
    init.add_argument("--model", default="", metavar="URI", help="diffusers:PATH_OR_HUB_ID or parrot:FILE")
    init.add_argument("--corpus", default="", metavar="DIR", help="a folder made by `byrote index`")

    run = command("run", _run, "Do what is missing of an audit.")
    run.add_argument("dir", type=Path, metavar="DIR")
    run.add_argument("--until", choices=STAGES, default=STAGES[-1], metavar="STAGE", help=", ".join(STAGES))
    run.add_argument(
        "--gate", action="store_true", help="exit 1 where something is certified, 3 where the audit is weak"
    )
    json_option(run)
    jobs_option(run, None)

    status = command("status", _status, "Say how far an audit has come.")
    status.add_argument("dir", type=Path, metavar="DIR")
    json_option(status)

    report = command("report", _report, "Write the report of a finished audit again.")
    report.add_argument("dir", type=Path, metavar="DIR")
    report.add_argument(
        "--reveal", action="store_true", help="write revealed.html too, with pictures and captions shown"
    )
    report.add_argument(
        "--redact", action="store_true", help="write redacted.html and .json too, without a picture, caption or path"
    )
    report.add_argument("--pdf", action="store_true", help="print the page as PDF too, through Chromium")


def _index(options: argparse.Namespace) -> int:
    from byrote import api
    from byrote.progress import watcher

    if not options.source and not options.held_out:
        raise ByroteError("byrote index: nothing to index; name a SOURCE or --held-out SOURCE")
    watch = watcher()
    corpus = api.index(
        *options.source,
        corpus=options.corpus,
        held_out=options.held_out,
        hashes=options.hashes,
        quick=options.quick,
        jobs=options.jobs,
        progress=watch,
    )
    watch.close()
    sides = [picture.side for picture in corpus.pictures]
    told = {
        "corpus": str(options.corpus),
        "digest": corpus.digest,
        "pictures": sides.count("picture"),
        "controls": sides.count("control"),
        "unreadable": len(corpus.unreadable),
        "screened": corpus.screened,
    }
    tell(options.json, told, f"{told['corpus']}: {told['pictures']:,} pictures, {told['controls']:,} controls")
    for row in corpus.unreadable[:5]:
        print(f"  unreadable: {row.where!r}: {row.reason}", file=sys.stderr)
    if len(corpus.unreadable) > 5:
        print(f"  and {len(corpus.unreadable) - 5:,} more that could not be read", file=sys.stderr)
    return 0


def _init(options: argparse.Namespace) -> int:
    from byrote.plan import template

    path = options.dir / "audit.toml"
    if path.exists():
        raise PlanError(f"{path} is there already; edit it, or name another folder")
    try:
        options.dir.mkdir(parents=True, exist_ok=True)
        corpus = os.path.relpath(options.corpus, options.dir) if options.corpus else ""
        path.write_text(template(_from(options.dir, options.model), corpus), encoding="utf-8")
    except OSError as error:
        raise ByroteError(f"{path}: cannot be written: {error.strerror or error}") from error
    print(f"{path}: look it over, then `byrote run {options.dir}`")
    return 0


def _from(folder: Path, model: str) -> str:
    """Rewrite a local path in a model URI so that it holds from the audit's folder."""
    kind, colon, path = model.partition(":")
    if not colon or not Path(path).exists():
        return model
    return f"{kind}:{os.path.relpath(path, folder)}"


def _run(options: argparse.Namespace) -> int:
    from byrote import api
    from byrote.progress import watcher

    watch = watcher()
    if options.gate and options.until != STAGES[-1]:
        raise ByroteError("byrote run: --gate judges a whole audit; leave out --until")
    result = api.run(options.dir, until=options.until, jobs=options.jobs, progress=watch, tell=watch.tell)
    watch.close()
    if options.until != STAGES[-1]:
        tell(options.json, {"until": options.until}, f"{options.dir}: done up to {options.until}")
        return 0
    tell(options.json, result.json, _summary(result.json, result.report))
    if not options.gate:
        return 0
    from byrote.gate import judge

    return judge(result.json)


def _summary(told: dict[str, Any], page: Path) -> str:
    certified = sum(finding["certified"] for finding in told["findings"])
    controls = told["controls"]
    words = "" if told["calibrated"] else "uncalibrated: "
    return (
        f"{words}{certified} pictures certified as reproduced; "
        f"of {controls['n']:,} controls {controls['certified']} would be. {page}"
    )


def _status(options: argparse.Namespace) -> int:
    from byrote.status import status

    told = status(options.dir)
    tell(options.json, {"stages": told}, "\n".join(map(_stage, told)))
    return 0


def _stage(row: dict[str, Any]) -> str:
    of = "?" if row["of"] is None else row["of"]
    less = f", {row['halved']} in smaller batches: out of memory" if row.get("halved") else ""
    no = f", {row['refused']} samples refused by the server" if row.get("refused") else ""
    return f"{row['stage']:10} {row['parts']} of {of} parts{less}{no}"


def _report(options: argparse.Namespace) -> int:
    from byrote.chain import rewrite_report

    page = rewrite_report(options.dir, reveal=options.reveal, redact=options.redact)
    print(page)
    if options.pdf:
        from byrote.stages.report.pdf import printed

        print(printed(page))
    return 0
