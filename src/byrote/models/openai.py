"""The images API of OpenAI, and servers that speak it: `openai:https://api.openai.com/v1?model=gpt-image-1&…`.

The API takes no seed. A sample is one more draw for its prompt; it is kept under its seed, so that the journal alone
makes it the same again. POST /images/generations, OpenAI API reference, "Create image".
"""

import os
from base64 import b64decode
from binascii import Error as NoBase64
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from re import fullmatch
from typing import Any
from urllib.parse import urlsplit

from byrote.domain import RGB
from byrote.errors import ModelError
from byrote.models import How, Options, Request, encodable, http, remote, settings
from byrote.models.http import Again, Answer
from byrote.models.journal import Entry, Refused
from byrote.models.remote import Address, Remote

OFFICIAL = "api.openai.com"
SENT = ("quality", "style", "background", "moderation", "output_format", "response_format")
SETTINGS = {
    "model": "its name at the server",
    "size": "WIDTHxHEIGHT, 1024x1024 if left out",
    "n": "images of one call, 1 if left out",
    "seeds": "true where the server takes a seed",
    **dict.fromkeys(SENT, "sent as it is"),
} | remote.SETTINGS
REFUSALS = (
    "content_policy_violation",
    "moderation_blocked",
    "content_filter",
    "contentFilter",
    "ResponsibleAIPolicyViolation",
)
"""Error codes that say no to a prompt or to its image: of OpenAI, then of Azure."""
NO_MONEY = ("insufficient_quota", "billing_hard_limit_reached")
PARALLEL = 4
SEEDS = 2**32


class OpenAI:
    """A model of a server that speaks OpenAI's images API; weights are unseen, so the digest covers names only.

    `reproducible` says whether a seed makes the same image again without the journal. Opening sends nothing. Raises
    ModelError.
    """

    how = How(
        "the images API of OpenAI and of servers that speak it",
        "openai:https://api.openai.com/v1?model=gpt-image-1&price=0.04&budget=20",
        SETTINGS,
        "http",
        ("urllib3",),
    )
    tolerance = 0
    evaluations_per_sample = 1
    takes_text = True

    def __init__(self, path: str, options: Options, relative_to: Path) -> None:
        remote.check(options, "openai", "steps", "guidance", "sampler", "negative")
        http.library()
        place, given = settings(path, SETTINGS)
        server = http.place("openai", place)
        if not given.get("model"):
            raise ModelError(f"model openai:{server} names no model: add ?model=NAME")
        _check_paid(server, given)
        self._size = _size(given, options)
        self._at_once = int(http.number(given, "n", 1, 1, 10))
        self.reproducible = _truth(given, "seeds")
        if self.reproducible and self._at_once > 1:
            raise ModelError("settings n and seeds exclude each other: a call with a seed of its own makes one image")
        self._body = {name: given[name] for name in ("model", *SENT) if name in given}
        self._body |= {"size": f"{self._size[0]}x{self._size[1]}"}
        address = Address("openai", server, given["model"])
        self._remote = Remote(address, given, _key(server), PARALLEL, relative_to)
        self.name = f"OpenAI images API: {given['model']}"
        self.digest = self._remote.digest = remote.digest_of(address, {"body": self._body, "seeds": self.reproducible})

    def generate(self, requests: Sequence[Request]) -> list[RGB]:
        """Return an image for each request; what is in the journal is not asked for again."""
        if any(not request.prompt for request in requests):
            raise ModelError(f"{self.name} draws nothing without a prompt: leave 'none' out of [ladder] rungs")
        if requests and not self._remote.client.keyed and _official(self._remote.client.server):
            raise ModelError(f"{OFFICIAL} wants a key: set OPENAI_API_KEY in the environment")
        return self._remote.generate(requests, self._ask, self._size, self._at_once)

    def round_trip(self, images: Sequence[RGB]) -> None:
        """Return None: nobody outside sees the autoencoder."""

    def refused(self, requests: Sequence[Request]) -> list[bool]:
        """Tell of each request whether the server refused it."""
        return self._remote.refused(requests)

    def forget(self, requests: Sequence[Request]) -> None:
        """Remove answers from the journal."""
        self._remote.forget(requests)

    def _ask(self, requests: Sequence[Request], bill: Entry) -> Sequence[RGB | Refused]:
        prompt = encodable(requests[0].prompt or "")
        body = self._body | {"prompt": prompt, "n": len(requests)}
        if self.reproducible:
            body |= {"seed": requests[0].seed % SEEDS}
        read = partial(self._read, many=len(requests))
        return self._remote.client.ask("POST", "/images/generations", read, body=body, bill=bill, final=_no_money)

    def _read(self, answer: Answer, many: int) -> Sequence[RGB | Refused]:
        client = self._remote.client
        if _code(answer) in REFUSALS:
            return [Refused(client.told(answer))] * many
        if answer.status != 200:
            raise ModelError(f"model server {client.server}: HTTP {answer.status}: {client.told(answer)}")
        told = answer.json()
        items = told.get("data") if isinstance(told, dict) else None
        if not isinstance(items, list) or not items:
            raise Again("the answer holds no images", made=True)
        return [self._image(item) for item in items[:many]]

    def _image(self, item: Any) -> RGB:
        image = remote.decoded(self._bytes(item))
        if image.shape[:2] != self._size[::-1]:
            got = f"{image.shape[1]}x{image.shape[0]}"
            raise ModelError(f"{self.name} answered with {got}: write size={got}, or a size that it draws")
        return image

    def _bytes(self, item: Any) -> bytes:
        packed, url = (item.get(name) if isinstance(item, dict) else None for name in ("b64_json", "url"))
        if isinstance(packed, str):
            return unpacked(packed)
        if not isinstance(url, str):
            raise Again("an image of the answer has neither b64_json nor url", made=True)
        return self._remote.client.fetch(url)


def unpacked(packed: str) -> bytes:
    """Return the bytes of base64, with or without `data:…;base64,` before them. Raises Again."""
    try:
        return b64decode(packed.rpartition(",")[2], validate=True)
    except (NoBase64, ValueError) as error:
        raise Again("an image of the answer is no base64", made=True) from error


def _check_paid(server: str, given: Mapping[str, str]) -> None:
    if _official(server) and "price" not in given:
        raise ModelError(f"{OFFICIAL} is paid: add &price=OF_AN_IMAGE&budget=MOST_TO_SPEND (price=0 for no limit)")


def _official(server: str) -> bool:
    return urlsplit(server).hostname == OFFICIAL


def _key(server: str) -> str:
    """Return OPENAI_API_KEY for OpenAI's own server only; no other is ever shown it."""
    if not _official(server):
        return remote.key_for(server)
    return http.key_of(server, "OPENAI_API_KEY", os.environ.get("OPENAI_API_KEY", ""))


def _size(given: Mapping[str, str], options: Options) -> tuple[int, int]:
    """Return (width, height). All samples of an audit have one size, so `auto` is refused."""
    if (options.width is None) != (options.height is None):
        raise ModelError("width and height go together: write both or neither")
    wanted = f"{options.width}x{options.height}" if options.width else given.get("size", "1024x1024")
    if given.get("size", wanted) != wanted:
        raise ModelError(f"size is {given['size']!r} in the URI and {wanted} in [generate]: write one of them")
    if not fullmatch(r"[1-9]\d{0,4}x[1-9]\d{0,4}", wanted):
        raise ModelError(f"setting size is {wanted!r}: write WIDTHxHEIGHT, like 1024x1024, since samples have one size")
    width, _, height = wanted.partition("x")
    return int(width), int(height)


def _truth(given: Mapping[str, str], name: str) -> bool:
    if given.get(name, "false") not in ("true", "false"):
        raise ModelError(f"setting {name} is {given[name]!r}: write true or false")
    return given.get(name) == "true"


def _no_money(answer: Answer) -> bool:
    return _code(answer) in NO_MONEY


def _code(answer: Answer) -> str:
    """Return the code of an error answer, or nothing."""
    if answer.status < 400:
        return ""
    try:
        told = answer.json()
    except Again:
        return ""
    error = told.get("error") if isinstance(told, dict) else None
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, str) else ""
