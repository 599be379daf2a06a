"""The pages: one on which people judge, one that shows what their verdicts measure so far."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from importlib import resources
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from byrote.errors import ByroteError
from byrote.review import VERDICTS
from byrote.review.desk import OPEN, Conflict, Desk, Turn
from byrote.review.guard import Guard
from byrote.review.looks import SIDES, Looks
from byrote.review.pairs import Shown
from byrote.review.tokens import PROGRESS
from byrote.review.verdicts import LEVELS, LONGEST_NOTE
from byrote.stages.report.words import moved

Json = dict[str, Any]
Progress = Callable[[], Json]
MOST = 100
"""Turns in one answer at most."""
FIRST = 6
"""Turns that a page gets when it begins."""
LONGEST_KEY = 80
LONGEST_TEXT = 4000
"""Characters of a caption or a prompt that are sent."""
_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True)
class Given:
    """What the pages are about. `around` lists what surrounds a pair (mode "explore"): title, (kind, digest, words)."""

    desk: Desk
    looks: Looks
    progress: Progress
    around: Callable[[str], Sequence[tuple[str, Sequence[tuple[str, str, str]]]]] | None = None
    reveal: bool = False


class Wrong(Exception):
    """A request that makes no sense: its status and a sentence of ours."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status, self.words = status, words


def application(given: Given, tokens: Mapping[str, str], hosts: frozenset[str], public: str = "") -> ASGIApp:
    """Return the pages behind their guard: one for each reviewer, and that of progress."""
    judging = _judging(given)
    doors = {name: _measuring(given) if name == PROGRESS else judging for name in tokens}
    return Guard(doors, tokens, hosts, public)


def _judging(given: Given) -> Starlette:
    page = _Page(given)
    routes = [
        *files("page.html", "style.css", "page.js", "looking.js", "sending.js", "icon.svg"),
        Route("/api/session", page.session),
        Route("/api/turns", page.turns),
        Route("/api/open", page.open),
        Route("/api/find", page.find),
        Route("/api/pairs/{id}/more", page.more),
        Route("/around/{id}/{group}/{place}", page.beside),
        Route("/api/verdicts", page.judge, methods=["POST"]),
        Route("/api/told", page.tell, methods=["POST"]),
        Route("/images/{id}/{which}", page.image),
    ]
    return Starlette(routes=routes, exception_handlers=HANDLERS)


def _measuring(given: Given) -> Starlette:
    async def progress(request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(given.progress))

    routes = [*files("progress.html", "style.css", "progress.js", "icon.svg"), Route("/api/progress", progress)]
    return Starlette(routes=routes, exception_handlers=HANDLERS)


class _Page:
    """Answers one reviewer at a time; whose turn it is says the guard."""

    def __init__(self, given: Given) -> None:
        self._given, self._desk = given, given.desk

    async def session(self, request: Request) -> Response:
        """Say who judges what, and what to begin with."""
        name = request.scope["reviewer"]
        await run_in_threadpool(self._desk.refresh)
        count, judged = self._desk.counts(name)
        first = self._desk.open_turns(name, -1, FIRST)
        told = {"name": name, "mode": self._desk.mode, "count": count, "judged": judged, "reveal": self._given.reveal}
        told |= {"length": self._desk.length(name)}
        return JSONResponse(told | {"turns": [_told(turn) for turn in first], "longest_note": LONGEST_NOTE})

    async def turns(self, request: Request) -> Response:
        """Return some turns from an ordinal on."""
        start, count = _numbers(request, "from", "count")
        return JSONResponse(
            {"turns": [_told(turn) for turn in self._desk.turns(request.scope["reviewer"], start, count)]}
        )

    async def open(self, request: Request) -> Response:
        """Return the next turns without a verdict, and how much is judged."""
        name, (after, count) = request.scope["reviewer"], _numbers(request, "after", "count")
        turns = self._desk.open_turns(name, after, count)
        total, judged = self._desk.counts(name)
        told = {"turns": [_told(turn) for turn in turns], "count": total, "judged": judged}
        return JSONResponse(told | {"length": self._desk.length(name)})

    async def find(self, request: Request) -> Response:
        """Return the next turn whose facts hold a text, and of which the reviewer said a verdict; or none."""
        name, told = request.scope["reviewer"], request.query_params
        text, verdict = told.get("text", ""), told.get("verdict", "")
        (after,) = _numbers(request, "after", beside={"text", "verdict"})
        if verdict not in ("", OPEN, *VERDICTS):
            raise Wrong(400, f"a verdict to look for is {OPEN} or one of {', '.join(VERDICTS)}")
        turn = await run_in_threadpool(self._desk.found, name, text[:LONGEST_TEXT], after, verdict)
        return JSONResponse({"turns": [] if turn is None else [_told(turn)]})

    async def judge(self, request: Request) -> Response:
        """Store a verdict, and answer once it is on the disk."""
        pair, verdict, note, key, level = self._read(await request.body())
        name = request.scope["reviewer"]
        try:
            new = await run_in_threadpool(self._desk.judge, name, pair, verdict, note, key, level)
        except Conflict as error:
            raise Wrong(409, str(error)) from error
        return JSONResponse({"stored": True, "new": new})

    async def tell(self, request: Request) -> Response:
        """Let a reviewer know what was hidden of the pairs that they judged."""
        try:
            await run_in_threadpool(self._desk.tell, request.scope["reviewer"])
        except Conflict as error:
            raise Wrong(409, str(error)) from error
        return JSONResponse({"stored": True})

    async def more(self, request: Request) -> Response:
        """Tell of what surrounds a pair: titles, and images with their words."""
        id = self._pair(request.path_params["id"]).id
        groups = await run_in_threadpool(self._around, id)
        told = [
            {"title": title, "items": [{"src": f"around/{id}/{g}/{k}", "words": row[2]} for k, row in enumerate(rows)]}
            for g, (title, rows) in enumerate(groups)
        ]
        return JSONResponse({"groups": told})

    async def beside(self, request: Request) -> Response:
        """Return one of the images that surround a pair."""
        id = request.path_params["id"]
        group, place = (_whole(request.path_params[name], name) for name in ("group", "place"))
        groups = await run_in_threadpool(self._around, self._pair(id).id)
        if not 0 <= group < len(groups) or not 0 <= place < len(groups[group][1]):
            raise Wrong(404, "not found")
        kind, digest, _ = groups[group][1][place]
        found = await run_in_threadpool(self._given.looks.one, digest, kind)
        if found is None:
            raise Wrong(410, "this image is gone")
        return Response(found, media_type="image/jpeg")

    def _around(self, id: str) -> Sequence[tuple[str, Sequence[tuple[str, str, str]]]]:
        if self._given.around is None:
            raise Wrong(404, "not found")
        return self._given.around(id)

    async def image(self, request: Request) -> Response:
        """Return the sample or the picture of a pair, as it is or moved onto the sample, as JPEG."""
        which = request.path_params["which"]
        if which not in SIDES:
            raise Wrong(404, "not found")
        pair = self._pair(request.path_params["id"])
        both = await run_in_threadpool(self._given.looks.both, pair)
        if both is None:
            self._desk.lose(pair)
            raise Wrong(410, "an image of this pair is gone")
        return Response(both[SIDES.index(which)], media_type="image/jpeg")

    def _pair(self, id: str) -> Shown:
        try:
            return self._desk.by_id[id]
        except KeyError as error:
            raise Wrong(404, "not found") from error

    def _read(self, body: bytes) -> tuple[Shown, str | None, str, str, int | None]:
        """Read a verdict. Raises Wrong."""
        try:
            told = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise Wrong(400, "no JSON") from error
        if not isinstance(told, dict) or told.keys() - {"level"} != {"id", "verdict", "note", "key"}:
            raise Wrong(400, "a verdict is an object of id, verdict, note, key and, where it has one, level")
        level = told.get("level")
        if level is not None and (type(level) is not int or level not in LEVELS):
            raise Wrong(400, "a level is null or a whole number from 0 to 5")
        verdict, note, key = told["verdict"], told["note"], told["key"]
        if verdict is not None and verdict not in VERDICTS:
            raise Wrong(400, f"a verdict is null or one of {', '.join(VERDICTS)}")
        if not _is_text(note, LONGEST_NOTE):
            raise Wrong(400, f"a note is a text of at most {LONGEST_NOTE:,} characters")
        if not _is_text(key, LONGEST_KEY) or not key:
            raise Wrong(400, f"a key is a text of 1 to {LONGEST_KEY} characters")
        if not isinstance(told["id"], str):
            raise Wrong(400, "an id is a text")
        return self._pair(told["id"]), verdict, note, key, level


def _is_text(value: object, longest: int) -> bool:
    """Tell a text that can be stored: half a surrogate pair cannot."""
    return isinstance(value, str) and len(value) <= longest and not any("\ud800" <= c <= "\udfff" for c in value)


def _numbers(request: Request, *names: str, beside: Set[str] = frozenset()) -> list[int]:
    """Return the numbers of a query, a count cut to what is answered at most. Raises Wrong, for others too."""
    if request.query_params.keys() - beside != set(names):
        raise Wrong(400, f"the query is {', '.join([*names, *sorted(beside)])}")
    return [min(_whole(request.query_params[name], name), MOST if name == "count" else 10**9) for name in names]


def _whole(text: str, name: str) -> int:
    digits = text.removeprefix("-")
    if not digits.isascii() or not digits.isdigit() or len(text) > 9:
        raise Wrong(400, f"{name} is a whole number of at most 9 digits")
    return int(text)


def _told(turn: Turn) -> Json:
    facts = {name: cut(value) for name, value in turn.pair.facts.items()} if turn.told else {}
    said = {"verdict": turn.verdict, "note": turn.note, "level": turn.level, "told": turn.told}
    how = "" if turn.pair.move is None else moved(turn.pair.move)
    return {"ordinal": turn.ordinal, "id": turn.pair.id, "moved": how, "facts": facts} | said


def cut(value: Any) -> Any:
    """Cut a long text, and say how much of it is missing."""
    if not isinstance(value, str) or len(value) <= LONGEST_TEXT:
        return value
    return f"{value[:LONGEST_TEXT]} … and {len(value) - LONGEST_TEXT:,} characters more"


def files(*names: str) -> list[Route]:
    """Return routes to files that are read once, by their names and no others; the first is the page itself."""
    static = resources.files("byrote.review") / "static"
    found = []
    for name in names:
        data, kind = (static / name).read_bytes(), _TYPES[name.rpartition(".")[2]]
        found.append(Route("/" if name == names[0] else f"/{name}", _gives(data, kind)))
    return found


def _gives(data: bytes, kind: str) -> Callable[[Request], Any]:
    async def give(request: Request) -> Response:
        return Response(data, media_type=kind)

    return give


async def _wrong(request: Request, error: Exception) -> Response:
    status, words = (error.status, error.words) if isinstance(error, Wrong) else (500, "")
    return JSONResponse({"error": words}, status)


async def _plain(request: Request, error: Exception) -> Response:
    """Answer what has no page, or not by this method."""
    status, headers = (error.status_code, error.headers) if isinstance(error, HTTPException) else (500, None)
    return JSONResponse({"error": "not found" if status == 404 else "not by this method"}, status, headers)


async def _broken(request: Request, error: Exception) -> Response:
    """Answer what a folder or a database refused; its words name paths, so they stay in the log."""
    print(f"byrote: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
    return JSONResponse(
        {"error": "what is on the disk cannot be read or written now: see the terminal of the server"}, 503
    )


HANDLERS: dict[Any, Any] = {Wrong: _wrong, ByroteError: _broken, 404: _plain, 405: _plain}
