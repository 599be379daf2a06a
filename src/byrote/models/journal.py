"""What a model behind HTTP answered, and what it cost: nothing is asked twice, and nothing that was spent is forgotten.

    FOLDER/SERVER-MODEL/
      ANSWERS/3f/3f9a….png        an answer by its key, the digest of (model digest, prompt, seed); no prompt is kept
      ANSWERS/3f/3f9a….refused    the line by which the server refused
      ledger.jsonl                a line before a request is sent, synced; a line that takes it off if nothing was made
      rate                        when the latest request may leave
      lock, ANSWERS/3f/KEY.lock   held by one at a time: of the ledger, and of whoever asks for a key

The folder is the user's alone (mode 0700). An answer is written beside, synced and renamed. Money is in decimal
numbers of whatever currency the plan means.
"""

import fcntl
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from hashlib import sha256
from pathlib import Path

from byrote import images
from byrote.domain import RGB
from byrote.errors import ModelError, StoreError
from byrote.models import Request
from byrote.store import replace_file

LEDGER = "ledger.jsonl"


@dataclass(frozen=True, slots=True)
class Refused:
    """A server's answer that it will not draw this: its words, in a line."""

    reason: str


@dataclass(frozen=True, slots=True)
class Limits:
    """The price of an image, the most that may be spent, and requests a minute; None is no limit."""

    price: Decimal = Decimal(0)
    budget: Decimal | None = None
    rate: float | None = None


class Journal:
    """The answers below a folder. Threads and processes may share it. Raises StoreError where the disk refuses."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        self.folder = folder
        self._limits = limits
        self._read = 0
        self._spent = Decimal(0)

    def find(self, key: str) -> RGB | Refused | None:
        """Return the answer under a key, or None. Raises ModelError where the file is damaged."""
        refused = self._path(key, "refused")
        if refused.exists():
            return Refused(refused.read_text(encoding="utf-8"))
        path = self._path(key, "png")
        try:
            return images.decode(path.read_bytes())
        except FileNotFoundError:
            return None
        except images.Undecodable as error:
            raise ModelError(f"{path} is damaged ({error.reason}): remove it, to ask and pay again") from error

    def has(self, key: str) -> bool:
        """Tell whether there is an answer, without reading it."""
        return self._path(key, "png").exists() or self._path(key, "refused").exists()

    def refused(self, key: str) -> bool:
        """Tell whether the answer is a refusal."""
        return self._path(key, "refused").exists()

    def keep(self, key: str, answer: RGB | Refused) -> None:
        """Write an answer, whole or not at all."""
        with self._writing():
            if isinstance(answer, Refused):
                replace_file(self._path(key, "refused"), answer.reason.encode("utf-8", "replace"))
            else:
                replace_file(self._path(key, "png"), images.encode_png(answer))

    def forget(self, key: str) -> None:
        """Remove an answer; whoever asks again, pays again."""
        with self._writing():
            self._path(key, "png").unlink(missing_ok=True)

    @contextmanager
    def holding(self, keys: Sequence[str]) -> Iterator[None]:
        """Keep all others from asking for these keys meanwhile.

        A lock goes with its answer: who waited for it finds that answer, and who makes the lock anew does too.
        """
        with ExitStack() as stack:
            for key in sorted(set(keys)):  # in one order, so that no two wait for each other
                stack.enter_context(self._locked(self._path(key, "lock")))
            try:
                yield
            finally:
                with self._writing():
                    for key in filter(self.has, keys):
                        self._path(key, "lock").unlink(missing_ok=True)

    def bill(self, keys: Sequence[str]) -> "Entry":
        """Return what counts the tries of one request for these keys."""
        return Entry(self, tuple(keys))

    @property
    def spent(self) -> Decimal:
        """Read what was spent until now: every request that was sent and not taken off."""
        with self._locked(self.folder / "lock"), self._writing():
            return self._sum()

    def asked(self, keys: Sequence[str]) -> float:
        """Write down what a request costs; return the seconds until it may leave. Raises ModelError at the limit."""
        cost = self._limits.price * len(keys)
        with self._locked(self.folder / "lock"), self._writing():
            spent = self._sum()
            if self._limits.budget is not None and spent + cost > self._limits.budget:
                raise ModelError(
                    f"spending limit: {spent} of budget {self._limits.budget} are spent, and the next request costs "
                    f"{cost}: raise budget in the model's URI and run again; {self.folder} keeps what was answered"
                )
            wait = self._turn()
            self._append({"event": "asked", "keys": list(keys), "cost": str(cost)})
        return wait

    def taken_off(self, keys: Sequence[str]) -> None:
        """Write down that the latest request for these keys made nothing."""
        cost = self._limits.price * len(keys)
        with self._locked(self.folder / "lock"), self._writing():
            self._sum()
            self._append({"event": "off", "keys": list(keys), "cost": str(-cost)})

    def _turn(self) -> float:
        """Take the next place in the row of requests, and return the seconds until then."""
        if self._limits.rate is None:
            return 0.0
        path, apart, now = self.folder / "rate", 60 / self._limits.rate, time.time()
        try:
            latest = float(path.read_text(encoding="ascii"))
        except (FileNotFoundError, ValueError):
            latest = 0.0
        turn = now if latest > now + 3600 else max(now, latest + apart)  # a clock that was set back
        path.write_text(repr(turn), encoding="ascii")
        return turn - now

    def _sum(self) -> Decimal:
        """Read the lines that were added since the last look. The folder is locked."""
        path = self.folder / LEDGER
        if not path.exists():
            return self._spent
        with path.open("r+b") as file:
            file.seek(self._read)
            new = file.read()
            whole = new.rfind(b"\n") + 1
            if whole < len(new):  # a process was killed at it: its request was not sent
                file.truncate(self._read + whole)
        self._spent += sum((self._cost(line) for line in new[:whole].splitlines()), Decimal(0))
        self._read += whole
        return self._spent

    def _cost(self, line: bytes) -> Decimal:
        try:
            return Decimal(json.loads(line)["cost"])
        except (ValueError, KeyError, TypeError, InvalidOperation) as error:
            raise ModelError(f"{self.folder / LEDGER} is damaged, so what was spent is not known: mend it") from error

    def _append(self, line: dict[str, object]) -> None:
        data = json.dumps({"at": round(time.time(), 3)} | line).encode("ascii") + b"\n"
        with (self.folder / LEDGER).open("ab") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    @contextmanager
    def _locked(self, path: Path) -> Iterator[None]:
        with self._writing():
            path.parent.mkdir(parents=True, exist_ok=True)
            self.folder.chmod(0o700)
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(f"{self.folder}: cannot write: {error.strerror or error}") from error

    @property
    def _answers(self) -> Path:
        return self.folder / "answers"

    def _path(self, key: str, kind: str) -> Path:
        return self._answers / key[:2] / f"{key}.{kind}"


@dataclass(frozen=True, slots=True)
class Entry:
    """The tries of one request for some keys: a `Bill`."""

    journal: Journal
    keys: tuple[str, ...]

    def ask(self) -> float:
        """Write down a try before it is sent. Raises ModelError at the spending limit."""
        return self.journal.asked(self.keys)

    def back(self) -> None:
        """Write down that the latest try made nothing."""
        self.journal.taken_off(self.keys)


def key_of(digest: str, request: Request) -> str:
    """Return the name of an answer: 64 hexadecimal digits that depend on the model, the prompt and the seed."""
    about = json.dumps([digest, request.prompt, request.seed])
    return sha256(about.encode("ascii")).hexdigest()
