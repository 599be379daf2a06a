"""Where parts run: one protocol, `local` behind it (this process, or a pool of processes); a cluster may join.

A task is a picklable callable. A part's task may run more than once (a worker died, a deadline passed), so it must
write its output whole or not at all, and the same each time.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Part:
    """A unit of work: its name in the table, what the task needs to know of it, and how many items it holds."""

    name: str
    payload: Any = None
    items: int = 1


@dataclass(frozen=True, slots=True)
class Done:
    """A part that ended: `failure` is None, or why it was given up after all retries."""

    part: Part
    failure: str | None = None


Task = Callable[[Part], None]


class Engine(Protocol):
    """Runs a task over parts, in any order."""

    def map(self, task: Task, parts: Sequence[Part]) -> Iterator[Done]:
        """Yield each part as it ends. Raises a task's ByroteError at once; other errors are retried, then told."""
        ...

    def close(self) -> None:
        """End the workers."""
        ...
