"""What stands before the pages: whoever has no token, comes from elsewhere or sends too much gets no further."""

import sys
from collections.abc import Callable, Mapping, Set
from time import monotonic

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from byrote.review.tokens import whose

BODY = 64 * 1024
"""Bytes of a request's body at most."""
DRAINED = 16 * 2**20
"""Bytes of a larger one that are read and dropped, so that its sender hears the answer and not a reset."""
BURST, RATE = 400, 200.0
"""Requests that a token may send at once, and a second after that."""
STRANGERS, STRANGERS_RATE = 30, 1.0
"""How many refusals are told, at once and a second after that; what is beyond is answered "too many requests"."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), usb=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
Say = Callable[[str], object]
_WORDS = {403: "not from here", 404: "not found", 413: "too large", 421: "not this host"}


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class Allowance:
    """Counts requests: `burst` at once, then `rate` a second."""

    def __init__(self, burst: int, rate: float) -> None:
        self._burst, self._rate, self._left, self._at = float(burst), rate, float(burst), monotonic()

    def takes(self) -> bool:
        """Take one, or tell that there is none."""
        now = monotonic()
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Refused(Exception):
    """A request that goes no further: its status, and what is told of it here, never to its sender."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


class Guard:
    """Lets through what has a token in its address, from this page and in measure; all else is refused and told.

    An address is /TOKEN/…; behind a door the path is what follows the token, and `reviewer` in the scope says whose it
    is. Without a token every address is answered alike. `public` is the origin by which a proxy or tunnel is called
    that stands before this server, if any: its Host and Origin are as good as the own ones.
    """

    def __init__(
        self,
        doors: Mapping[str, ASGIApp],
        tokens: Mapping[str, str],
        hosts: frozenset[str],
        public: str = "",
        say: Say = _say,
    ) -> None:
        self._doors, self._tokens, self._say = doors, tokens, say
        self._origins = frozenset([public] if public else [])
        self._hosts = hosts | {origin.partition("://")[2] for origin in self._origins}
        self._allowed = {name: Allowance(BURST, RATE) for name in tokens}
        self._strangers = Allowance(STRANGERS, STRANGERS_RATE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        send, body = _with_headers(send), await _body(receive)
        try:
            name = self._admitted(scope)
            if body is None:
                raise Refused(413, f"{name}: a body of more than {BODY:,} bytes")
        except Refused as refused:
            await self._refusal(scope, refused)(scope, receive, send)
            return
        await self._doors[name]({**scope, "reviewer": name}, _once(body, receive), send)

    def _admitted(self, scope: Scope) -> str:
        """Return whose token the address has, and take it off. Raises Refused."""
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or hosts[0] not in self._hosts:
            raise Refused(421, f"host {hosts!r}"[:120])
        parts = scope["path"].split("/", 2)
        name = whose(parts[1], self._tokens) if len(parts) == 3 else None
        if name is None:
            raise Refused(404, "no token")
        if not _from_here(headers, self._origins | {f"http://{hosts[0]}"}):
            raise Refused(403, f"origin {headers.get('origin')!r}"[:120])
        if not self._allowed[name].takes():
            raise Refused(429, name)
        scope["path"] = "/" + parts[2]
        scope["raw_path"] = scope["path"].encode("utf-8", "surrogateescape")
        return name

    def _refusal(self, scope: Scope, refused: Refused) -> Response:
        """Answer, and tell it in a line; what comes too often is not told, so that nobody fills a disk with it."""
        if refused.status == 429 or not self._strangers.takes():
            return JSONResponse({"error": "too many requests"}, 429, {"Retry-After": "1"})
        self._say(f"refused ({refused.status}): {scope['method'][:10]!r}: {refused.reason}")
        return JSONResponse({"error": _WORDS[refused.status]}, refused.status)


def _from_here(headers: Headers, origins: Set[str]) -> bool:
    """Tell whether a request comes from this page, or from the address line, and not from another site."""
    site = headers.get("sec-fetch-site", "none")
    return all(origin in origins for origin in headers.getlist("origin")) and site in ("none", "same-origin")


def _with_headers(send: Send) -> Send:
    async def sends(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(HEADERS)
        await send(message)

    return sends


async def _body(receive: Receive) -> bytes | None:
    """Read a body, or drop one that is too large and return None."""
    body, length, more = b"", 0, True
    while more and length <= DRAINED:
        message = await receive()
        part, more = message.get("body", b""), message.get("more_body", False)
        length += len(part)
        body = body + part if length <= BODY else b""
    return body if length <= BODY else None


def _once(body: bytes | None, receive: Receive) -> Receive:
    """Give a body that was read already, then whatever comes."""
    messages: list[Message] = [{"type": "http.request", "body": body or b"", "more_body": False}]

    async def receives() -> Message:
        return messages.pop() if messages else await receive()

    return receives
