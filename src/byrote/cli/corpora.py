"""The commands of a corpus: corpus, duplicates, check, describe, remove, merge."""

import argparse
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from byrote.cli.options import Add, jobs_option, json_option, tell
from byrote.errors import ByroteError
from byrote.plan import CorpusPlan

_PLAN = CorpusPlan()


def add(command: Add) -> None:
    """Add them."""
    corpus = command("corpus", _corpus, "Say what a corpus holds, and write a page to look at.")
    corpus.add_argument("dir", type=Path, metavar="DIR", help="a folder made by `byrote index`")
    corpus.add_argument("--page", type=Path, metavar="FILE", help="where to write it (default: DIR/page/corpus.html)")
    corpus.add_argument("--reveal", action="store_true", help="show pictures, captions and places on the page")
    _thresholds(corpus)
    json_option(corpus)

    duplicates = command("duplicates", _duplicates, "Find near-duplicates: re-encoded, moved, turned and cropped ones.")
    duplicates.add_argument("source", nargs="*", metavar="SOURCE", help="pictures to index first")
    _corpus_option(duplicates)
    duplicates.add_argument("--out", type=Path, metavar="FILE", help="every file with its group and whether to keep it")
    duplicates.add_argument("--pairs", type=Path, metavar="FILE", help="every near pair; files end in .csv or .parquet")
    _thresholds(duplicates)
    json_option(duplicates)
    jobs_option(duplicates, 1)

    check = command("check", _check, "Say whether a picture, or a moved, cropped or re-encoded one, is in a corpus.")
    check.add_argument("image", nargs="+", type=Path, metavar="IMAGE")
    _corpus_option(check)
    check.add_argument("--show", type=int, default=5, metavar="N", help="nearest pictures to tell (default: 5)")
    check.add_argument("--approximate", action="store_true", help="look only where `byrote approximate` leads")
    _thresholds(check)
    json_option(check)

    approximate = command("approximate", _approximate, "Index a corpus for approximate search, on disk (faiss).")
    _corpus_option(approximate)
    json_option(approximate)

    describe = command("describe", _describe, "Describe the pictures of a corpus by a further descriptor.")
    describe.add_argument("descriptor", metavar="URI", help="pdq, sscd:FILE, clip:FOLDER_OR_ID, dinov2:FOLDER_OR_ID")
    _corpus_option(describe)
    json_option(describe)
    jobs_option(describe, 1)

    remove = command("remove", _remove, "Take pictures or a source out of a corpus, with all that was made of them.")
    remove.add_argument("picture", nargs="*", metavar="IMAGE_OR_DIGEST", help="an image file, or sha256:…")
    _corpus_option(remove)
    remove.add_argument("--source", action="append", default=[], metavar="URI", help="a whole source")
    remove.add_argument("--alike", action="store_true", help="its near-duplicates too, moved and cropped ones")
    json_option(remove)

    merge = command("merge", _merge, "Bring the pictures of other corpora into one.")
    merge.add_argument("other", nargs="+", type=Path, metavar="OTHER")
    _corpus_option(merge)
    json_option(merge)


def _corpus_option(to: argparse.ArgumentParser) -> None:
    to.add_argument("--corpus", type=Path, required=True, metavar="DIR", help="a folder made by `byrote index`")


def _thresholds(to: argparse.ArgumentParser) -> None:
    to.add_argument("--near", type=float, default=_PLAN.near, help=f"largest RMS as they stand ({_PLAN.near})")
    to.add_argument("--alike", type=float, default=_PLAN.alike, help=f"least evidence of a moved copy ({_PLAN.alike})")
    to.add_argument("--crop", type=float, default=_PLAN.crop, help=f"smallest share of an edge kept ({_PLAN.crop})")
    to.add_argument("--descriptor", default="", metavar="URI", help="whose word counts too, like sscd:FILE")
    to.add_argument("--similar", type=float, metavar="X", help="its threshold (default: its authors')")
    to.add_argument("--quick", action="store_true", help="re-encoded, mirrored and turned copies only: much faster")


def _plan(options: argparse.Namespace) -> CorpusPlan:
    for name, low, high in (("near", 0.0, 0.06), ("crop", 0.8, 1.0)):
        value = getattr(options, name)
        if not low <= value <= high:
            raise ByroteError(f"--{name} is {value:g}; it takes {low:g} to {high:g}")
    knobs = {name: getattr(options, name) for name in ("near", "alike", "crop", "descriptor", "similar", "quick")}
    return replace(_PLAN, path=str(options.corpus), **knobs)


def _corpus(options: argparse.Namespace) -> int:
    from byrote import api
    from byrote.corpora import summary

    options.corpus = options.dir
    corpus, told = api.summary(options.dir, _plan(options))
    page = options.page or options.dir / "page" / "corpus.html"
    summary.page(corpus, told, page, reveal=options.reveal)
    tell(options.json, summary.as_json(told) | {"page": str(page)}, f"{summary.words(told)}\n{page}")
    return 0


def _duplicates(options: argparse.Namespace) -> int:
    from byrote import api
    from byrote.progress import watcher

    watch = watcher()
    plan = _plan(options)
    if options.source:
        api.index(*options.source, corpus=options.corpus, quick=options.quick, jobs=options.jobs, progress=watch)
    told = api.duplicates(options.corpus, plan, out=options.out, pairs=options.pairs, jobs=options.jobs, progress=watch)
    watch.close()
    words = (
        f"{told['files']:,} files in {told['groups']:,} groups; {told['duplicated']:,} groups have more than one file: "
        f"{told['spare']:,} files could go; {told['pairs']:,} near pairs"
    )
    tell(options.json, told, words)
    return 0


def _check(options: argparse.Namespace) -> int:
    from byrote import api
    from byrote.progress import watcher

    watch = watcher()
    plan = _plan(options)
    found = api.check(
        options.image, options.corpus, plan, show=options.show, approximate=options.approximate, progress=watch
    )
    watch.close()
    tell(options.json, {"checked": [asdict(one) for one in found]}, "\n".join(_words(one) for one in found))
    return 0


def _words(one: Any) -> str:
    """Say an answer in lines."""
    said = {
        "in it": "in it: the very pixels",
        "near-duplicate": "near-duplicate of a picture in it",
        "not found": "not found",
    }
    lines = [f"{one.image}: {said[one.answer]}{_alarm(one)}"]
    lines += [f"  {_line(near)}" for near in one.nearest]
    return "\n".join(lines)


def _alarm(one: Any) -> str:
    if one.alarms is None:
        return f" ({one.note})" if one.note else ""
    k, n, high = one.alarms.k, one.alarms.n, one.alarms.high
    return f"; {k:,} of {n:,} controls come as near, so at most {high:.2%} of pictures never in it (95 %)"


def _line(near: Any) -> str:
    told = [f"{near.where[0]}" + (f" and {len(near.where) - 1:,} more files" if len(near.where) > 1 else "")]
    if near.rms is not None:
        told.append(f"distance {near.rms:.3f}")
    if near.evidence is not None:
        left, top, width, height = near.window
        part = "" if min(width, height) > 0.985 else f", {width:.0%} x {height:.0%} of it from {left:.0%}, {top:.0%}"
        whose = "this" if near.shows == "query" else "it"
        told.append(f"evidence {near.evidence:+.1f}: {whose} {near.turn}{part}")
    if near.captions:
        told.append(repr(near.captions[0]))
    return "; ".join(told)


def _approximate(options: argparse.Namespace) -> int:
    from byrote import api

    told = api.approximate(options.corpus)
    tell(options.json, told, told["says"])
    return 0


def _describe(options: argparse.Namespace) -> int:
    from byrote import api
    from byrote.progress import watcher

    watch = watcher()
    told = api.describe(options.corpus, options.descriptor, jobs=options.jobs, progress=watch)
    watch.close()
    tell(options.json, told, f"{told['described']:,} pictures described by {told['descriptor']}, {told['gone']:,} gone")
    return 0


def _remove(options: argparse.Namespace) -> int:
    from byrote import api

    if not options.picture and not options.source:
        raise ByroteError("byrote remove: nothing to remove; name an IMAGE, a digest or --source URI")
    told = api.remove(options.corpus, options.picture, sources=options.source, alike=options.alike)
    tell(options.json, told, _removed(told))
    return 0


def _removed(told: dict[str, Any]) -> str:
    derived = f"; {', '.join(told['derived'])} are made again when needed" if told["derived"] else ""
    return (
        f"{told['files']:,} files taken out with their captions, vectors and thumbnails; {told['parts']:,} parts "
        f"written anew{derived}. Audits made with them keep samples and findings of their own: delete those folders too"
    )


def _merge(options: argparse.Namespace) -> int:
    from byrote import api
    from byrote.progress import watcher

    watch = watcher()
    added = sum(api.merge(options.corpus, other, progress=watch) for other in options.other)
    watch.close()
    tell(options.json, {"added": added}, f"{added:,} files brought into {options.corpus}")
    return 0
