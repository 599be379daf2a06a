"""Put an audit's pairs on a local page, and say where it is."""

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp

from byrote.audit import Audit
from byrote.errors import ByroteError
from byrote.review import REVIEW, draw, verdicts
from byrote.review.app import Given, application
from byrote.review.desk import Desk
from byrote.review.draw import Key
from byrote.review.looks import Looks
from byrote.review.measure import measure, outlook
from byrote.review.pairs import of_key
from byrote.review.planted import size_of
from byrote.review.serve import hosts, listening, origin_of
from byrote.review.tokens import EXPLORES, PROGRESS, tokens
from byrote.reviewing import EXPLORED, words
from byrote.reviewing.albums import Explored, Samples
from byrote.stages.report.words import count


@dataclass(frozen=True, slots=True)
class Opened:
    """A page that is about to be served: the socket holds its address already."""

    app: ASGIApp
    listens: socket.socket
    addresses: dict[str, str]
    progress: str | None
    pairs: int


def open_page(
    root: Path,
    names: Sequence[str],
    *,
    explore: bool,
    host: str,
    port: int,
    overlap: float,
    reveal: bool,
    public: str | None = None,
) -> Opened:
    """Set up the page of an audit. Raises ByroteError; Incomplete before pairs were drawn, or the audit certified.

    `public` is the URL of a proxy or tunnel before it, by which reviewers call it.
    """
    outside = "" if public is None else origin_of(public)
    judges = [verdicts.name_of(name) for name in names]
    if len(set(judges)) < len(judges):
        raise ByroteError(f"--reviewer: {', '.join(judges)}: each reviewer needs a name of their own")
    audit = Audit(root)
    audit.plan, audit.corpus  # noqa: B018 - their errors come first
    given = _explored(audit, judges, reveal) if explore else _measured(audit, judges, overlap, reveal)
    known = _tokens(root / REVIEW, judges, explore)
    listens = listening(host, port)
    bound = listens.getsockname()[1]
    at = outside or f"http://{f'[{host}]' if ':' in host else host}:{bound}"
    addresses = {name: f"{at}/{known[name]}/" for name in judges}
    app = application(given, known, hosts(host, bound), outside)
    progress = None if explore else f"{at}/{known[PROGRESS]}/"
    return Opened(app, listens, addresses, progress, len(given.desk.pairs))


def _tokens(folder: Path, names: Sequence[str], explore: bool) -> dict[str, str]:
    """Return the tokens by name: those to explore are others, so that no address of one mode leads into the other."""
    if not explore:
        return tokens(folder, [*names, PROGRESS])
    kept = tokens(folder, [name + EXPLORES for name in names])
    return {name: kept[name + EXPLORES] for name in names}


def _measured(audit: Audit, names: Sequence[str], overlap: float, reveal: bool) -> Given:
    key = draw.read(audit.root / REVIEW)
    pairs = of_key(key, Explored(audit).drawn)
    desk = Desk("measure", pairs, names, audit.root / verdicts.FILE, overlap)
    found = Samples(audit.store, audit.recipes.samples)
    size = size_of((pair.sample for pair in pairs), found.pixels)
    looks = Looks(audit.corpus.pixels, found.pixels, size, [(pair.picture, pair.sample) for pair in pairs])
    return Given(desk, looks, lambda: _progress(key, desk, names), reveal=reveal)


def _explored(audit: Audit, names: Sequence[str], reveal: bool) -> Given:
    album, found = Explored(audit), Samples(audit.store, audit.recipes.samples)
    (audit.root / REVIEW).mkdir(exist_ok=True)
    desk = Desk("explore", album.pairs, names, audit.root / EXPLORED)
    looks = Looks(audit.corpus.pixels, found.pixels, size_of((pair.sample for pair in album.pairs), found.pixels))
    return Given(desk, looks, dict, around=album.around, reveal=reveal)


def _progress(key: Key, desk: Desk, names: Sequence[str]) -> dict[str, Any]:
    """Say what the verdicts measure so far, and what more of them would bring."""
    latest = desk.latest()
    told = measure(key, latest)
    desk.refresh()
    rows = [[name, *(f"{n:,}" for n in desk.counts(name))] for name in names]
    return {
        "words": words(told).splitlines() if latest else ["no verdicts yet"],
        "outlook": [*outlook(key, latest), *_disputed(*desk.disputed())],
        "reviewers": rows,
        "band": [list(row) for row in told.band],
    }


def _disputed(split: int, stuck: int) -> list[str]:
    """Say on how many pairs two disagree, and where nobody is left to be asked."""
    told = (
        (split - stuck, "on which two disagree: others are asked for another opinion"),
        (stuck, "that everybody here has judged, without a majority: one more --reviewer NAME would decide"),
    )
    return [f"{count(n, 'pair')} {words}" for n, words in told if n]
