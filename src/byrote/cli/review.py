"""The commands `review`, `watch` and `gallery`."""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from byrote.cli.options import Add, at_least_one, json_option, tell
from byrote.errors import ByroteError

WHAT = ("draw", "serve", "import", "measure", "export")
OVERLAP = "serve: the share of pairs that two reviewers judge; each other one goes to one of them (default: 1)"
PUBLIC = "serve: by which URL reviewers call it, where a proxy or a tunnel stands before it"
FILE = "import: a filled verdicts.csv; export: a .csv or .parquet to write"
EXPLORE = "serve, export: all matches, everything shown, never in a rate"


def add(command: Add) -> None:
    """Add them."""
    review = command("review", _review, "Let people judge pairs, and measure what they say.")
    review.add_argument(
        "what", choices=WHAT, help="draw pairs, judge them on a local page or take tables, measure, export"
    )
    review.add_argument("dir", type=Path, metavar="DIR")
    review.add_argument("file", nargs="?", type=Path, metavar="FILE", help=FILE)
    review.add_argument(
        "--reviewer", action="append", metavar="NAME", help="import: who filled it; serve: who judges, once for each"
    )
    review.add_argument("--n", type=at_least_one, default=200, metavar="N", help="draw: candidate pairs (default: 200)")
    review.add_argument("--seed", type=int, default=0, metavar="N", help="draw: of the draw (default: 0)")
    review.add_argument("--out", type=Path, metavar="FOLDER", help="draw: for the sheets (default: DIR/review/sheets)")
    review.add_argument("--explore", action="store_true", help=EXPLORE)
    review.add_argument("--reveal", action="store_true", help="serve: do not blur the images at first")
    review.add_argument("--overlap", type=_share, default=1.0, metavar="S", help=OVERLAP)
    review.add_argument("--host", default="127.0.0.1", metavar="ADDR", help="serve: where (default: 127.0.0.1)")
    review.add_argument("--port", type=int, default=8719, metavar="N", help="serve: 0 takes any (default: 8719)")
    review.add_argument("--public", metavar="URL", help=PUBLIC)
    json_option(review)

    gallery = command("gallery", _gallery, "Write a page of the most-copied groups and the nearest pairs, to look at.")
    gallery.add_argument("dir", type=Path, metavar="DIR", help="a corpus or an audit")
    gallery.add_argument("--n", type=at_least_one, default=48, metavar="N", help="of each kind at most (default: 48)")
    gallery.add_argument("--reveal", action="store_true", help="show pictures, samples and captions")
    gallery.add_argument(
        "--out", type=Path, metavar="FILE", help="the page (default: DIR/report or DIR/page/gallery.html)"
    )

    watch = command("watch", _watch, "Watch a run on a local page: its progress, and the nearest pairs as they come.")
    watch.add_argument("dir", type=Path, metavar="DIR")
    watch.add_argument("--host", default="127.0.0.1", metavar="ADDR", help="where (default: 127.0.0.1)")
    watch.add_argument("--port", type=int, default=8720, metavar="N", help="0 takes any (default: 8720)")
    json_option(watch)


def _review(options: argparse.Namespace) -> int:
    does = {"draw": _draw, "serve": _serve, "import": _import, "measure": _measure, "export": _export}
    return does[options.what](options)


def _draw(options: argparse.Namespace) -> int:
    from byrote.reviewing import draw_pairs

    out = options.out or options.dir / "review" / "sheets"
    key, lost = draw_pairs(options.dir, out, count=options.n, seed=options.seed)
    told = {"pairs": len(key.pairs), "candidates": sum(p.kind == "candidate" for p in key.pairs), "not_shown": lost}
    gone = f" {lost} cannot be shown, because an image is gone." if lost else ""
    words = (
        f"{out}: {told['pairs']} pairs, {told['candidates']} of them candidates, the rest controls and planted copies."
        f"{gone} Hand out this folder alone and fill verdicts.csv, then "
        f"`byrote review import {options.dir} FILE --reviewer NAME`; review/key.json is the key"
    )
    tell(options.json, told, words)
    return 0


def _serve(options: argparse.Namespace) -> int:
    try:
        from byrote.review.serve import LOOPBACK, serve
        from byrote.reviewing.serving import open_page
    except ModuleNotFoundError as error:
        raise ByroteError(f"byrote review serve needs {error.name}: pip install 'byrote[review]'") from error
    page = open_page(
        options.dir,
        options.reviewer or ["me"],
        explore=options.explore,
        host=options.host,
        port=options.port,
        overlap=options.overlap,
        reveal=options.reveal,
        public=options.public,
    )
    lines = [f"{name}: {address}" for name, address in page.addresses.items()]
    if page.progress:
        lines.append(f"progress, not for reviewers: {page.progress}")
    if options.host not in LOOPBACK:
        lines.append("careful: not only this machine reaches it, and nothing on the way is encrypted")
    lines.append(
        f"{page.pairs:,} pairs. Whoever has an address can judge in that name; Ctrl+C ends it, nothing is lost"
    )
    told = {"reviewers": page.addresses, "progress": page.progress, "pairs": page.pairs}
    tell(options.json, told, "\n".join(lines))
    sys.stdout.flush()
    serve(page.app, page.listens)
    return 0


def _gallery(options: argparse.Namespace) -> int:
    from byrote.reviewing.gallery import write

    print(write(options.dir, options.out, count=options.n, reveal=options.reveal))
    return 0


def _watch(options: argparse.Namespace) -> int:
    try:
        from byrote.review.serve import serve
        from byrote.reviewing.watching import open_watch
    except ModuleNotFoundError as error:
        raise ByroteError(f"byrote watch needs {error.name}: pip install 'byrote[review]'") from error
    page = open_watch(options.dir, host=options.host, port=options.port)
    (address,) = page.addresses.values()
    tell(options.json, {"page": address}, f"{address}\nCtrl+C ends the page; the run goes on without it")
    sys.stdout.flush()
    serve(page.app, page.listens)
    return 0


def _share(text: str) -> float:
    """Read a share from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no share from 0 to 1")
    return value


def _import(options: argparse.Namespace) -> int:
    from byrote.reviewing import take_verdicts

    names = [name for name in options.reviewer or [] if name]
    if options.file is None or len(names) != 1:
        raise ByroteError("byrote review import: name FILE and one --reviewer NAME")
    new, there = take_verdicts(options.dir, options.file, names[0])
    tell(options.json, {"new": new, "lines": there}, f"{new} new verdicts of {names[0]} ({there} in the file)")
    return 0


def _export(options: argparse.Namespace) -> int:
    from byrote.reviewing import export

    if options.file is None:
        raise ByroteError("byrote review export: name the FILE to write, .csv or .parquet")
    count = export(options.dir, options.file, explored=options.explore)
    tell(options.json, {"events": count, "file": str(options.file)}, f"{options.file}: {count:,} verdicts, one a row")
    return 0


def _measure(options: argparse.Namespace) -> int:
    from byrote.reviewing import measured, words

    told = measured(options.dir)
    tell(options.json, asdict(told), words(told))
    return 0
