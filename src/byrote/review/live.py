"""The page on which a run can be watched."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from byrote.review.app import HANDLERS, Wrong, files
from byrote.review.guard import Guard
from byrote.review.looks import Both


@dataclass(frozen=True, slots=True)
class Watched:
    """What the page is about: what is told by now, and the images of a pair."""

    told: Callable[[], dict[str, Any]]
    both: Callable[[str], Both | None]


def application(watched: Watched, tokens: Mapping[str, str], hosts: frozenset[str]) -> ASGIApp:
    """Return the page behind its guard."""

    async def status(request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(watched.told))

    async def image(request: Request) -> Response:
        which = request.path_params["which"]
        both = await run_in_threadpool(watched.both, request.path_params["id"])
        if both is None or which not in ("sample", "picture"):
            raise Wrong(404, "not found")
        return Response(both[which == "picture"], media_type="image/jpeg")

    routes = [
        *files("watch.html", "style.css", "watch.js", "icon.svg"),
        Route("/api/status", status),
        Route("/images/{id}/{which}", image),
    ]
    return Guard(dict.fromkeys(tokens, Starlette(routes=routes, exception_handlers=HANDLERS)), tokens, hosts)
