"""The stages of an audit. Each is a function from recipes to a recipe: it fills a table, part for part."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Protocol

from threadpoolctl import threadpool_limits

from byrote.engine import Engine, Part
from byrote.store import Recipe, Store


class Progress(Protocol):
    """Told what a stage has done. `unit` says what is counted."""

    def __call__(self, stage: str, done: int, total: int, unit: str) -> None:
        """Take note that `done` of `total` are there."""
        ...


def silent(stage: str, done: int, total: int, unit: str) -> None:
    """Tell nobody: a `Progress`."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A part that was given up, with the last line of its reason."""

    stage: str
    part: str
    reason: str


@dataclass(frozen=True, slots=True)
class Desk:
    """What every stage works with: where it writes, who does the work, and who is told."""

    store: Store
    engine: Engine
    progress: Progress
    tell: Callable[[str], object] = str

    def fill(self, recipe: Recipe, work: Callable[[Part], None], parts: Sequence[Part], unit: str) -> list[Failed]:
        """Do the parts of a table that are not there yet; return those that were given up."""
        there = set(self.store.parts(recipe))
        total = sum(part.items for part in parts)
        done = sum(part.items for part in parts if part.name in there)
        self.progress(recipe.table, done, total, unit)
        failed = []
        task = Logged(self.store.root, recipe, work)
        for end in self.engine.map(task, [part for part in parts if part.name not in there]):
            if end.failure is not None:
                failed.append(Failed(recipe.table, end.part.name, end.failure.strip().splitlines()[-1]))
            done += end.part.items
            self.progress(recipe.table, done, total, unit)
        return failed


@dataclass(frozen=True, slots=True)
class Logged:
    """A part's work between two lines of the ledger, on one thread outside of the model."""

    root: Path
    recipe: Recipe
    work: Callable[[Part], None]

    def __call__(self, part: Part) -> None:
        """Do the part."""
        store = Store(self.root)
        about = {"table": self.recipe.table, "recipe": self.recipe.digest, "part": part.name}
        store.log("begun", about)
        began = monotonic()
        with threadpool_limits(1, user_api="blas"):
            self.work(part)
        spent = {"items": part.items, "seconds": round(monotonic() - began, 3)}
        store.log("done", about | spent | {"files": store.digests(self.recipe, part.name)})
