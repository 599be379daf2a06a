"""The one client of models behind HTTP: what is sent, what is believed of an answer, and when it is asked again.

Answers come from strangers: they are read up to a size and within a time, packed ones and redirects are refused, and
TLS certificates are checked. A key goes to the server of the URI only, and into no message and no file. Proxies,
`.netrc` and cookies are left alone. Times are in seconds, sizes in bytes.
"""

import ipaddress
import json
import random
import socket
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import cached_property
from importlib import import_module
from typing import Any, Protocol, TypeVar
from urllib.parse import SplitResult, urlsplit

from byrote.errors import ModelError

LARGEST = 64 * 2**20
"""Largest answer that is read: ten PNG images of 1024 x 1024 in base64 are 40 MiB."""
SETTINGS = {
    "timeout": "seconds that an answer may take, 300 if left out",
    "tries": "how often a request is sent before the run stops, 6 if left out",
    "wait": "seconds before the second try, doubled from then on, 1 if left out",
    "parallel": "requests that are under way at once",
}
AGAIN = (408, 425, 429, 500, 502, 503, 504)
"""Statuses that another try may mend."""
UNMADE = (425, 429, 503)
"""Those of them that a server gives before it begins: nothing was made and nothing is owed."""
CONNECT = 10.0
LONGEST_PAUSE = 60.0
LONGEST_WAIT = 600.0
CHUNK = 2**16

Found = TypeVar("Found")
Json = dict[str, Any]


class Again(Exception):
    """A try that failed and may be repeated. `made`: the server may have made an image, and may charge for it."""

    def __init__(self, reason: str, *, made: bool, wait: float | None = None) -> None:
        super().__init__(reason)
        self.made = made
        self.wait = wait


class Ended(ModelError):
    """Another request failed, or the run was interrupted: nothing more is sent."""


class Bill(Protocol):
    """Who is told of every try that may cost something."""

    def ask(self) -> float:
        """Count what a try costs; return the seconds until it may be sent. Raises ModelError at the limit."""
        ...

    def back(self) -> None:
        """Take the latest try off again: nothing was made."""
        ...


class Free:
    """Costs nothing: a `Bill`."""

    def ask(self) -> float:
        """Count nothing, and wait for nothing."""
        return 0.0

    def back(self) -> None:
        """Take nothing off."""


@dataclass(frozen=True, slots=True)
class Terms:
    """How long an answer may take, how often and how soon it is asked for again, and how many at once."""

    timeout: float = 300.0
    tries: int = 6
    wait: float = 1.0
    parallel: int = 1

    @classmethod
    def of(cls, given: Mapping[str, str], parallel: int) -> "Terms":
        """Read them from the settings of a URI. Raises ModelError."""
        return cls(
            number(given, "timeout", 300.0, 0.01, 3600),
            int(number(given, "tries", 6, 1, 100)),
            number(given, "wait", 1.0, 0.001, LONGEST_PAUSE),
            int(number(given, "parallel", parallel, 1, 64)),
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said: its HTTP status and the body."""

    status: int
    data: bytes

    def json(self) -> Any:
        """Return the body as JSON. Raises Again: a broken answer may come whole the next time."""
        try:
            return json.loads(self.data)
        except (ValueError, RecursionError) as error:
            raise Again("the answer is no JSON", made=self.status < 400) from error


class Client:
    """Talks to one server. Threads may share it."""

    def __init__(self, server: str, terms: Terms, key: str = "") -> None:
        self.server = server
        self.terms = terms
        self.ended = threading.Event()  # set by who gives up, so that the tries of other threads end too
        self._key = key
        self._not_before = 0.0

    def ask(
        self,
        method: str,
        path: str,
        read: Callable[[Answer], Found],
        *,
        body: Json | None = None,
        bill: Bill | None = None,
        final: Callable[[Answer], bool] = lambda answer: False,
        tries: int | None = None,
    ) -> Found:
        """Send a request until `read` makes something of its answer, and return that.

        `read` gets every answer but those of a status that another try may mend and that is not `final`; it raises
        Again where the answer is broken. Raises ModelError after the last try, and at once for what no try mends.
        """
        sent = None if body is None else json.dumps(body).encode("ascii")
        bill = bill or Free()
        many = tries or self.terms.tries
        for attempt in range(many):
            self._rest(attempt)
            self._leave(bill)
            try:
                answer = self._once(method, self.server + path, sent, self._headers)
                return _judged(answer, read, final, bill)
            except Again as again:
                reason = str(again)
                if not again.made:
                    bill.back()
                if again.wait is not None:
                    self._hold(again.wait)
        raise ModelError(f"model server {self.server}: {reason} ({many} tries): run again to go on with what is kept")

    def fetch(self, url: str) -> bytes:
        """Return what lies at a URL that the server named; the key goes along only to the server itself."""
        parts = _split(url)
        own = urlsplit(self.server)
        at_home = parts is not None and (parts.scheme, parts.netloc) == (own.scheme, own.netloc)
        if parts is None or not (at_home or (parts.scheme == "https" and not _near(parts.hostname or ""))):
            raise ModelError(
                f"model server {self.server} names an image at {line(url)}: refused, no https:// of a host"
            )
        headers = self._headers if at_home else _PLAIN
        for attempt in range(self.terms.tries):
            self._rest(attempt)
            try:
                answer = self._once("GET", url, None, headers)
            except Again as again:
                reason = str(again)
                continue
            if answer.status == 200:
                return answer.data
            reason = f"HTTP {answer.status}"
            if answer.status not in AGAIN:
                break
        raise ModelError(f"model server {self.server} names an image at {parts.hostname} that cannot be had: {reason}")

    @property
    def keyed(self) -> bool:
        """Tell whether there is a key."""
        return bool(self._key)

    def told(self, answer: Answer) -> str:
        """Return what an answer says went wrong, in a line of at most 200 printable characters without the key."""
        said = _message(answer)
        return line(said.replace(self._key, "***") if self._key else said)

    def pause(self, seconds: float) -> None:
        """Wait, unless the run ends meanwhile. Raises Ended."""
        if self.ended.wait(seconds):
            raise Ended(f"model server {self.server}: the run has ended")

    def _rest(self, attempt: int) -> None:
        """Wait for a next try: twice as long each time, by half or by one and a half of it, or as a server said."""
        pause = min(LONGEST_PAUSE, self.terms.wait * 2 ** (attempt - 1)) * random.uniform(0.5, 1.5) if attempt else 0.0
        self.pause(max(pause, self._not_before - time.monotonic(), 0.0))

    def _leave(self, bill: Bill) -> None:
        """Count a try, and wait for its turn; what need not wait is sent even where others have failed meanwhile."""
        seconds = bill.ask()
        try:
            if seconds:
                self.pause(seconds)
        except Ended:
            bill.back()
            raise

    def _hold(self, wait: float) -> None:
        if wait > LONGEST_WAIT:
            raise ModelError(
                f"model server {self.server} asks to wait {wait:.0f} s: run again then; what it answered is kept"
            )
        self._not_before = max(self._not_before, time.monotonic() + wait)

    def _once(self, method: str, url: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        """Send one request and read its answer whole. Raises Again; ModelError for what no other try mends."""
        faults = import_module("urllib3.exceptions")
        until = time.monotonic() + self.terms.timeout
        try:
            response = self._pool.request(
                method, url, body=body, headers=headers, redirect=False, preload_content=False, decode_content=False
            )
            try:
                data = self._read(response, until)
            finally:
                response.close()
        except faults.SSLError as error:
            raise ModelError(f"model server {self.server}: TLS failed ({line(str(error))})") from error
        except (faults.NewConnectionError, faults.ConnectTimeoutError) as error:
            raise Again("it cannot be reached, so start it or mend the address", made=False) from error
        except faults.TimeoutError as error:
            raise Again(f"no answer within {self.terms.timeout:g} s", made=True) from error
        except faults.HTTPError as error:
            raise Again("the connection broke", made=True) from error
        return self._checked(response, data)

    def _read(self, response: Any, until: float) -> bytes:
        told = response.headers.get("content-length", "")
        if told.isdigit() and int(told) > LARGEST:
            raise ModelError(f"model server {self.server}: an answer of {int(told):,} bytes; {LARGEST:,} are read")
        data = bytearray()
        while piece := response.read1(CHUNK, decode_content=False):  # as it comes, so that the time is looked at
            data += piece
            if len(data) > LARGEST:
                raise ModelError(f"model server {self.server}: an answer of more than {LARGEST:,} bytes")
            if time.monotonic() > until:
                raise Again(f"no whole answer within {self.terms.timeout:g} s", made=True)
        return bytes(data)

    def _checked(self, response: Any, data: bytes) -> Answer:
        if 300 <= response.status < 400:
            to = _split(response.headers.get("location", ""))
            where = f"{to.scheme}://{to.netloc}" if to and to.netloc else line(response.headers.get("location", "?"))
            raise ModelError(
                f"model server {self.server} redirects to {where}: refused; write the right address into the URI"
            )
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise ModelError(f"model server {self.server}: a packed answer, which was not asked for: refused")
        if response.status in AGAIN:
            said = f"HTTP {response.status}: {self.told(Answer(response.status, data))}"
            return Waiting(response.status, data, said, _retry_after(response.headers.get("retry-after")))
        return Answer(response.status, data)

    @property
    def _headers(self) -> dict[str, str]:
        return _PLAIN | ({"Authorization": _authorization(self._key)} if self._key else {})

    @cached_property
    def _pool(self) -> Any:
        urllib3 = library()
        timeout = urllib3.Timeout(connect=min(CONNECT, self.terms.timeout), read=self.terms.timeout)
        return urllib3.PoolManager(
            maxsize=self.terms.parallel, timeout=timeout, retries=False, cert_reqs="CERT_REQUIRED"
        )


_PLAIN = {"Accept-Encoding": "identity", "User-Agent": "byrote", "Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class Waiting(Answer):
    """An answer that another try may mend: what it says, and the seconds that it asks to wait."""

    said: str
    wait: float | None


def library() -> Any:
    """Import urllib3. Raises ModelError where it is not installed."""
    try:
        return import_module("urllib3")
    except ImportError as error:
        raise ModelError("models behind HTTP need urllib3: pip install 'byrote[http]'") from error


def place(kind: str, given: str) -> str:
    """Return the address of a server without a slash at its end. Raises ModelError for what is none, or holds a key."""
    parts = _split(given)
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname or parts.fragment:
        raise ModelError(f"model {kind}:{line(given)} names no server: write {kind}:http://HOST:PORT or https://HOST")
    if parts.username is not None or parts.password is not None:
        raise ModelError(f"model {kind}: a password in the address of {parts.hostname}: set it in the environment")
    return given.rstrip("/")


def key_of(server: str, name: str, value: str) -> str:
    """Check the key of environment variable `name` before it goes to a server. Raises ModelError, without the key."""
    key = value.strip()
    if key and not (key.isascii() and key.isprintable()):
        raise ModelError(f"{name} holds more than printable ASCII characters: set it again")
    parts = urlsplit(server)
    if key and parts.scheme == "http" and not _near(parts.hostname or ""):
        raise ModelError(f"{name} would go to {parts.hostname} in the clear: write https://, or unset it")
    return key


def number(given: Mapping[str, str], name: str, default: float, low: float, high: float) -> float:
    """Read a number among the settings of a URI. Raises ModelError."""
    if name not in given:
        return default
    try:
        value = float(given[name])
    except ValueError:
        value = float("nan")
    if not low <= value <= high or (isinstance(default, int) and value != int(value)):
        what = "a whole number" if isinstance(default, int) else "a number"
        raise ModelError(f"setting {name} is {given[name]!r}: write {what} from {low:g} to {high:g}")
    return value


def _judged(answer: Answer, read: Callable[[Answer], Found], final: Callable[[Answer], bool], bill: Bill) -> Found:
    """Read an answer; whoever refuses a request owes nothing for it."""
    if isinstance(answer, Waiting) and not final(answer):
        raise Again(answer.said, made=answer.status not in UNMADE, wait=answer.wait)
    try:
        return read(answer)
    except ModelError:
        if answer.status >= 400:
            bill.back()
        raise


def _authorization(key: str) -> str:
    """Return what carries a key: `user:password` in the basic way, anything else as a bearer's token."""
    return f"Basic {b64encode(key.encode()).decode()}" if ":" in key else f"Bearer {key}"


def _retry_after(value: str | None) -> float | None:
    """Return the seconds of a Retry-After header, a number or a date; None for none or nonsense."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        until = parsedate_to_datetime(value).timestamp()
    except (ValueError, OverflowError):
        return None
    return max(0.0, until - time.time())


def _message(answer: Answer) -> str:
    """Find the message in the shapes that servers give it, else take the body as it is."""
    text = answer.data[:CHUNK].decode("utf-8", "replace")
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        return text
    for _ in range(3):
        if not isinstance(told, dict):
            break
        told = next((told[name] for name in ("error", "message", "detail", "errors") if told.get(name)), text)
    return told if isinstance(told, str) else text


def line(text: str) -> str:
    """Make one line of at most 200 printable characters of what a stranger wrote."""
    words = "".join(char if char.isprintable() else " " for char in text).split()
    return " ".join(words)[:200] or "nothing"


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - its error is the answer
    except ValueError:
        return None
    return parts


def _near(host: str) -> bool:
    """Tell whether a host is this machine or stands in a private network, as far as its name says."""
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        pass
    try:
        return not ipaddress.ip_address(socket.inet_aton(host)).is_global  # 127.1 and its like
    except OSError:
        name = host.rstrip(".")
        return "." not in name or name.endswith((".localhost", ".local", ".lan", ".internal"))
