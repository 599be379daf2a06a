"""Serve the pages on this machine until somebody stops it."""

import contextlib
import re
import socket

import uvicorn
from starlette.types import ASGIApp

from byrote.errors import ByroteError

PORT = 8719
CONNECTIONS = 64
_PUBLIC = re.compile(r"(?P<scheme>https?)://(?P<host>[a-z0-9][a-z0-9.-]*|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{1,5}))?/?")
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens. Raises ByroteError where the address is taken or is none."""
    if host in ("", "0.0.0.0", "::"):
        raise ByroteError(f"--host {host or repr(host)}: name one address of this machine, which reviewers will type")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's algorithm off for sockets that name TCP only: else each answer waits 40 ms for an ACK
    listens = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listens.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listens.bind((host, port))
        listens.listen(CONNECTIONS)
    except (OSError, OverflowError) as error:
        listens.close()
        told = getattr(error, "strerror", None) or error
        raise ByroteError(f"{host}:{port}: cannot listen there: {told}; --port N takes another") from error
    return listens


def hosts(host: str, port: int) -> frozenset[str]:
    """Return the values of a Host header that mean this server: an attacker's name that resolves to it is none."""
    names = {*LOOPBACK, host} if host in LOOPBACK else {host}
    return frozenset(f"[{name}]:{port}" if ":" in name else f"{name}:{port}" for name in names)


def origin_of(url: str) -> str:
    """Return the origin that a public address has, as browsers write it. Raises ByroteError where it is none."""
    found = _PUBLIC.fullmatch(url.lower())
    port = int(found["port"] or 0) if found else 0
    if not found or port >= 2**16:
        raise ByroteError(
            f"--public {url[:200]!r}: give http or https, a host and a port if any: https://pairs.example"
        )
    plain = port in (0, {"http": 80, "https": 443}[found["scheme"]])
    return f"{found['scheme']}://{found['host']}{'' if plain else f':{port}'}"


def serve(app: ASGIApp, listens: socket.socket) -> None:
    """Answer requests until SIGINT or SIGTERM."""
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=CONNECTIONS,
        h11_max_incomplete_event_size=16 * 1024,
        timeout_graceful_shutdown=2,
    )
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listens])
