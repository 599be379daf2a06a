"""What a corpus holds: in figures, and as a page to look at."""

import json
from base64 import b64encode
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from byrote import images
from byrote.corpora import approximate
from byrote.corpora.parts import vectors_recipes
from byrote.corpus import WHOLE, Corpus
from byrote.descriptors.whole import SIDE
from byrote.domain import Group
from byrote.plan import CorpusPlan
from byrote.stages import dedupe
from byrote.stages.report.words import clean
from byrote.store import replace_file

SHOWN = 24
"""Most-copied groups on the page."""
MEMBERS = 6
EDGE = 128
HIDDEN = 4
"""Colours across an image that is hidden."""


@dataclass(frozen=True, slots=True)
class Copied:
    """A group with its files. `digests` are its distinct members, the largest picture first."""

    group: str
    copies: int
    controls: int
    digests: tuple[str, ...]
    captions: tuple[str, ...]
    where: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures. Groups, and what follows from them, are null where nobody has looked for duplicates yet."""

    corpus: str
    digest: str
    pictures: int
    controls: int
    distinct: int
    captioned: int
    captions: int
    sources: tuple[dict[str, Any], ...]
    unreadable: int
    reasons: dict[str, int]
    screened: int
    removed: int
    descriptors: tuple[str, ...]
    index: str | None
    groups: int | None
    duplicated: int | None
    set_aside: int | None
    copied: tuple[Copied, ...]
    bytes: int


def summary(corpus: Corpus, plan: CorpusPlan) -> Summary:
    """Count. Reads what is there; looks for no duplicates."""
    sides, named = Counter(corpus.table["side"].to_pylist()), corpus.named()
    files = Counter(zip(corpus.table["side"].to_pylist(), corpus.table["source"].to_pylist(), strict=True))
    said = [len(each) for each in corpus.table["captions"].to_pylist()]
    made = dedupe.recipe(corpus, plan)
    rows = corpus.store.read_all(Group, made) if corpus.store.parts(made) else None
    reasons = Counter(row.reason for row in corpus.unreadable)
    return Summary(
        corpus=str(corpus.root),
        digest=corpus.digest,
        pictures=sides["picture"],
        controls=sides["control"],
        distinct=len(corpus.distinct),
        captioned=sum(n > 0 for n in said),
        captions=sum(said),
        sources=tuple({"side": one.side, "uri": one.uri, "files": files[one.side, one.uri]} for one in named),
        unreadable=len(corpus.unreadable),
        reasons=dict(reasons.most_common()),
        screened=corpus.screened,
        removed=len(corpus.pictures_removed),
        descriptors=("thumbnail", "whole", *(_descriptor(recipe.content) for recipe in vectors_recipes(corpus))),
        index=approximate.summary(corpus),
        groups=None if rows is None else len({row.group for row in rows}),
        duplicated=None if rows is None else len({row.group for row in rows if row.copies > 1}),
        set_aside=None if rows is None else len({row.group for row in rows if row.set_aside}),
        copied=() if rows is None else tuple(_copied(corpus, rows)),
        bytes=sum(path.stat().st_size for path in corpus.root.rglob("*") if path.is_file()),
    )


def words(told: Summary) -> str:
    """Say it in lines."""
    lines = [
        f"{told.corpus}: {told.pictures:,} pictures of the training set, {told.controls:,} controls, "
        f"{told.distinct:,} of them distinct; {told.bytes / 2**20:,.1f} MiB",
        *(f"  from {one['uri']} ({one['side']}): {one['files']:,} files" for one in told.sources),
        f"captions: {told.captions:,}, for {told.captioned:,} files",
        f"could not be read: {told.unreadable:,} files",
        *(f"  {n:,}: {reason}" for reason, n in list(told.reasons.items())[:10]),
        f"described by: {', '.join(told.descriptors)}",
    ]
    if told.screened:
        lines.append(f"held back by the list of hashes: {told.screened:,} files; see docs/howto/hash-lists.md")
    if told.removed:
        lines.append(f"taken out on request: {told.removed:,} pictures; they are not indexed again")
    lines.append(_grouped(told))
    if told.index:
        lines.append(told.index)
    return "\n".join(lines)


def _grouped(told: Summary) -> str:
    if told.groups is None:
        return "near-duplicates: not looked for yet; `byrote duplicates` does"
    most = f"; the most copied has {told.copied[0].copies:,} files" if told.copied else ""
    return (
        f"groups: {told.groups:,}, of which {told.duplicated:,} have more than one file{most}; "
        f"{told.set_aside:,} have pictures and controls and are set aside"
    )


def page(corpus: Corpus, told: Summary, path: Path, *, reveal: bool) -> None:
    """Write one page that needs no other file and no network.

    Hidden images have 4 x 4 colours, captions are left out.
    """
    cards = [
        {
            "copies": one.copies,
            "controls": one.controls,
            "distinct": len(one.digests),
            "images": [_preview(corpus, digest, reveal) for digest in one.digests[:MEMBERS]],
            "captions": one.captions[:3] if reveal else (),
            "where": one.where[:MEMBERS] if reveal else (),
        }
        for one in told.copied
    ]
    size, indexed = f"{told.bytes / 2**20:,.1f} MiB", told.index or ""
    html = _template().render(
        told=told, cards=cards, reveal=reveal, size=size, indexed=indexed, hidden=HIDDEN, clean=clean
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, html.encode())


def as_json(told: Summary) -> dict[str, Any]:
    """Return what `--json` prints."""
    return asdict(told)


def _copied(corpus: Corpus, rows: Sequence[Group]) -> list[Copied]:
    """Return the groups with the most files of the training set."""
    copies = Counter({row.group: row.copies for row in rows if row.side == "picture" and row.copies > 1})
    found = []
    for group, n in sorted(copies.items(), key=lambda item: (-item[1], item[0]))[:SHOWN]:
        members = list(dict.fromkeys(row.digest for row in rows if row.group == group))
        own = set(members)
        members.sort(key=lambda digest: -corpus.by_digest[digest].width * corpus.by_digest[digest].height)
        files = [row for row in corpus.pictures if row.digest in own]
        controls = sum(
            row.copies for row in rows if row.group == group and row.side == "control" and row.digest == group
        )
        captions = tuple(dict.fromkeys(said for row in files for said in row.captions))
        found.append(Copied(group, n, controls, tuple(members), captions, tuple(row.where for row in files)))
    return found


def _descriptor(content: str) -> str:
    return str(json.loads(content)["descriptor"])


def _preview(corpus: Corpus, digest: str, reveal: bool) -> str:
    """Return an image as a data URI: decoded again where it is shown, of its thumbnail's colours where it is hidden."""
    image = corpus.pixels(digest) if reveal else None
    if image is None:
        image = corpus.vectors([digest], WHOLE)[0].reshape(SIDE, SIDE, 3)
    small = images.preview(image, EDGE) if reveal else images.encode_png(images.resize(image, HIDDEN, HIDDEN))
    return f"data:image/{'jpeg' if reveal else 'png'};base64,{b64encode(small).decode()}"


@cache
def _template() -> jinja2.Template:
    loader = jinja2.PackageLoader("byrote.corpora", "templates")
    return jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined).get_template(
        "corpus.html"
    )
