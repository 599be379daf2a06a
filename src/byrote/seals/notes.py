"""What a check of an audit writes down, and how two values are told apart. No text here has more than one line."""

import json
import math
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from byrote.errors import ByroteError

NOTHING = "nothing"
LONGEST = 80
MOST = 5
"""So many differences of one value are told one by one; the others are counted."""
CLOSE = 1e-9
"""Relative difference up to which two computed numbers are equal: another machine may round otherwise."""
BROKEN = (
    ByroteError,
    OSError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    EOFError,
    MemoryError,
    RecursionError,
    struct.error,
)
"""What reading files that somebody tampered with may raise anywhere in the chain; a check tells it and goes on."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was found wrong, what could not be checked, and how much was looked at."""

    problems: tuple[str, ...]
    unchecked: tuple[str, ...]
    checked: int


class Notes:
    """Problems, things that could not be checked, and a count of checks."""

    def __init__(self) -> None:
        self._problems: list[str] = []
        self._unchecked: list[str] = []
        self._checked = 0

    def outcome(self) -> Outcome:
        """Return what was noted, each line once."""
        return Outcome(tuple(dict.fromkeys(self._problems)), tuple(dict.fromkeys(self._unchecked)), self._checked)

    def wrong(self, problem: str) -> None:
        """Note a problem, which counts as a check."""
        self._checked += 1
        self._problems.append(line(problem))

    def open(self, what: str) -> None:
        """Note what could not be checked."""
        self._unchecked.append(line(what))

    def check(self, name: str, expected: object, found: object) -> None:
        """Hold one value against another."""
        self._checked += 1
        if not same(expected, found):
            self._problems.append(line(f"{name}: expected {short(expected)}, found {short(found)}"))

    def compare(self, name: str, expected: object, found: object) -> None:
        """Hold one JSON value against another, and say where in them they differ."""
        self._checked += 1
        told = [
            f"{name}{at}: expected {short(a)}, found {short(b)}" for at, a, b in differences(plain(expected), found)
        ]
        self._problems += [line(each) for each in told[:MOST]]
        if told[MOST:]:
            self._problems.append(line(f"{name}: and {len(told) - MOST:,} differences more"))

    def attempt(self, name: str, step: Callable[..., None], *about: Any) -> None:
        """Take a step; where what it reads is broken, that is a problem, and the next step goes on."""
        try:
            step(*about)
        except ByroteError as error:
            self.wrong(str(error))
        except OSError as error:
            self.wrong(f"{error.filename or name}: cannot be read: {error.strerror or error}")
        except BROKEN as error:
            self.wrong(f"{name}: cannot be checked, for something in it is broken: {type(error).__name__}: {error}")


def differences(expected: Any, found: Any, at: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield the places where two JSON values differ, with what is there."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for name in sorted({*expected, *found}, key=str):
            yield from differences(expected.get(name, NOTHING), found.get(name, NOTHING), f"{at}: {name}")
    elif isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        for number, (a, b) in enumerate(zip(expected, found, strict=True), 1):
            yield from differences(a, b, f"{at}: {number}")
    elif not same(expected, found):
        yield at, expected, found


def same(a: object, b: object) -> bool:
    """Tell whether two values are the same, numbers up to `CLOSE`; True is not 1."""
    if isinstance(a, float) and isinstance(b, float | int) and not isinstance(b, bool):
        return math.isclose(a, b, rel_tol=CLOSE) or (math.isnan(a) and math.isnan(b))
    return type(a) is type(b) and a == b


def short(value: object) -> str:
    """Return a value in few characters; a long list or object by its size."""
    if isinstance(value, list | dict) and len(value) > 3:
        return f"{len(value):,} entries"
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def line(text: str) -> str:
    """Make one printable line of a text that somebody may have put there to fool a terminal."""
    words = " ".join(text.split())
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in words)


def plain(value: object) -> Any:
    """Return a value as JSON holds it."""
    return json.loads(json.dumps(value))
