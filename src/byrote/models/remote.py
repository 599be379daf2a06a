"""What models behind HTTP have in common: their settings, their journal, and how a batch of requests is answered."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import partial
from hashlib import sha256
from json import dumps
from pathlib import Path
from re import sub
from typing import Any
from urllib.parse import urlsplit

from byrote import images
from byrote.domain import RGB
from byrote.errors import ModelError
from byrote.models import Options, Request, http, noise, refuse
from byrote.models.http import Again, Answer, Client, Terms
from byrote.models.journal import Entry, Journal, Limits, Refused, key_of

SETTINGS = http.SETTINGS | {
    "answers": "folder that keeps the answers; in the user's cache if left out",
    "price": "of an image",
    "budget": "most that may be spent, in the currency of the price",
    "rate": "requests a minute",
}
KEY = "BYROTE_HTTP_KEY"
OPENING_TRIES = 2
HELD_THERE = ("dtype", "device", "lora", "embeddings", "revision", "variant", "offload", "slicing", "compile", "trust")
"""Knobs of a model that is held here: what is behind HTTP was loaded by somebody else."""

Ask = Callable[[Sequence[Request], Entry], Sequence[RGB | Refused]]


@dataclass(frozen=True, slots=True)
class Address:
    """A server, and the model there whose answers and spending are counted together."""

    kind: str
    server: str
    model: str


class Remote:
    """The journal of a model, the client of its server, and the way from requests to images."""

    def __init__(self, address: Address, given: Mapping[str, str], key: str, parallel: int, relative_to: Path) -> None:
        self.client = Client(address.server, Terms.of(given, parallel), key)
        self._journal = Journal(_folder(address, given, relative_to), _limits(given))
        self.digest = ""

    def generate(self, requests: Sequence[Request], ask: Ask, size: tuple[int, int] | None, at_once: int) -> list[RGB]:
        """Return an image for each request: from the journal, else asked for, `at_once` of a prompt in one call.

        `size` is (width, height), where it is known beforehand. A refused one is noise of its seed.
        """
        self.client.ended.clear()
        missing = [one for one in dict.fromkeys(requests) if not self._journal.has(self._key(one))]
        self._work([partial(self._ask, some, ask) for some in _together(missing, at_once)])
        return [self._answer(one, size) for one in requests]

    def opening(self, path: str, read: Callable[[Answer], Any]) -> Any:
        """Ask the server what it holds, and do not wait for long: nothing is lost by opening the model again."""
        return self.client.ask("GET", path, read, tries=min(self.client.terms.tries, OPENING_TRIES))

    def refused(self, requests: Sequence[Request]) -> list[bool]:
        """Tell of each request whether the server refused it."""
        return [self._journal.refused(self._key(one)) for one in requests]

    def forget(self, requests: Sequence[Request]) -> None:
        """Remove answers from the journal."""
        for one in requests:
            self._journal.forget(self._key(one))

    def _work(self, calls: Sequence[Callable[[], None]]) -> None:
        """Do all calls, some at once; at the first error the others end, and it is raised."""
        if not calls:
            return
        with ThreadPoolExecutor(self.client.terms.parallel) as pool:
            try:
                futures = [pool.submit(call) for call in calls]
                done, _ = wait(futures, return_when=FIRST_EXCEPTION)
                failed = next((error for future in done if (error := future.exception())), None)
                if failed:
                    raise failed
            except BaseException:  # an interrupt too: what is under way is kept, nothing more is sent
                self.client.ended.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _ask(self, requests: Sequence[Request], ask: Ask) -> None:
        """Ask for what nobody else has asked for meanwhile, until all of it is there."""
        with self._journal.holding([self._key(one) for one in requests]):
            left = [one for one in requests if not self._journal.has(self._key(one))]
            while left:
                keys = [self._key(one) for one in left]
                answers = ask(left, self._journal.bill(keys))[: len(left)]
                for key, answer in zip(keys, answers, strict=False):
                    self._journal.keep(key, answer)
                left = left[len(answers) :]

    def _answer(self, request: Request, size: tuple[int, int] | None) -> RGB:
        found = self._journal.find(self._key(request))
        if found is None:
            raise ModelError(f"{self._journal.folder}: answers are removed while they are read: run again")
        if not isinstance(found, Refused):
            return found
        if size is None:
            raise ModelError(f"{self.client.server} refused to draw, and no size is known: set width and height")
        width, height = size
        return noise(request.seed, height, width)

    def _key(self, request: Request) -> str:
        return key_of(self.digest, request)


def check(options: Options, kind: str, *more: str) -> None:
    """Refuse the knobs that no model behind HTTP can follow, and `more`. Raises ModelError."""
    refuse(options, kind, *HELD_THERE, *more)


def key_for(server: str) -> str:
    """Return the key for a server that is not named in the environment variable's name. Raises ModelError."""
    return http.key_of(server, KEY, os.environ.get(KEY, ""))


def digest_of(address: Address, about: Mapping[str, object]) -> str:
    """Return "sha256:…" over the address and whatever changes images, as far as the outside can know it."""
    told = {"kind": address.kind, "server": address.server, "model": address.model} | dict(about)
    return "sha256:" + sha256(dumps(told, sort_keys=True, ensure_ascii=True).encode("ascii")).hexdigest()


def decoded(data: bytes) -> RGB:
    """Return the pixels of an image that a server sent. Raises Again: a broken one may come whole the next time."""
    try:
        return images.decode(data)
    except images.Undecodable as error:
        raise Again(f"the answer is no image that can be read: {error.reason}", made=True) from error


def _together(requests: Sequence[Request], at_once: int) -> Iterator[list[Request]]:
    """Yield requests of one prompt, up to so many."""
    prompts: dict[str | None, list[Request]] = {}
    for one in requests:
        prompts.setdefault(one.prompt, []).append(one)
    for some in prompts.values():
        yield from (some[k : k + at_once] for k in range(0, len(some), at_once))


def _folder(address: Address, given: Mapping[str, str], relative_to: Path) -> Path:
    """Return where a model's journal lies: parameters of its calls have no part in it, so that spending adds up."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    root = relative_to / Path(given["answers"]).expanduser() if given.get("answers") else cache / "byrote" / "answers"
    host = urlsplit(address.server).hostname or ""
    whole = sha256(dumps([address.kind, address.server, address.model]).encode("ascii")).hexdigest()
    return root / f"{sub(r'[^a-z0-9.]+', '-', f'{host}-{address.model}'.lower())[:60]}-{whole[:8]}"


def _limits(given: Mapping[str, str]) -> Limits:
    price, budget = (_money(given, name) for name in ("price", "budget"))
    if (price is None) != (budget is None) and price != 0:
        raise ModelError("price and budget go together: write &price=0.04&budget=20, the most that may be spent")
    rate = http.number(given, "rate", 0.0, 0.01, 1e6) or None
    return Limits(price or Decimal(0), budget, rate)


def _money(given: Mapping[str, str], name: str) -> Decimal | None:
    if name not in given:
        return None
    try:
        value = Decimal(given[name])
    except InvalidOperation:
        value = Decimal(-1)
    if not (value.is_finite() and 0 <= value <= 10**9):
        raise ModelError(f"setting {name} is {given[name]!r}: write an amount like 0.04")
    return value
