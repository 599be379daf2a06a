"""What a Python program calls: index pictures, run an audit, look at what it found."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

from byrote.audit import Audit
from byrote.chain import run as run_audit
from byrote.corpus import Corpus, Named
from byrote.domain import Finding
from byrote.engine.local import engine
from byrote.errors import Incomplete
from byrote.plan import STAGES
from byrote.stages import Desk, Progress, ingest
from byrote.store import sweep

Place = str | PathLike[str]


@dataclass
class Result:
    """An audit as far as it has come. `folder` is where it lies."""

    folder: Path

    @property
    def report(self) -> Path:
        """Return the page to open. `report.json` lies beside it."""
        return self.folder / "report" / "report.html"

    @cached_property
    def json(self) -> dict[str, Any]:
        """Return what report.json holds. Raises Incomplete where the audit has not come so far."""
        try:
            read: dict[str, Any] = json.loads(self.report.with_name("report.json").read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise Incomplete(f"{self.folder}: no report yet; `byrote run {self.folder}` goes on to it") from error
        return read

    @cached_property
    def findings(self) -> list[Finding]:
        """Return every tested group of pictures, nearest first, certified or not."""
        audit = Audit(self.folder)
        rows = audit.store.read_all(Finding, audit.recipes.certified)
        return [row for row in rows if row.side == "picture"]


def index(
    *sources: Place,
    corpus: Place,
    held_out: Place | Iterable[Place] = (),
    jobs: int = 1,
    progress: Progress | None = None,
) -> Corpus:
    """Add pictures, and controls that no model was trained on, to a corpus. Raises ByroteError; Incomplete."""
    aside = [held_out] if isinstance(held_out, (str, PathLike)) else list(held_out)
    named = [Named("picture", str(source)) for source in sources] + [Named("control", str(source)) for source in aside]
    target = Corpus(Path(corpus))
    with target.store.locked():
        sweep(target.root)
        ingest.name(target, named)
        workers = engine(jobs)
        try:
            failed = ingest.run(Desk(target.store, workers, progress or silent), target)
        finally:
            workers.close()
    if failed:
        raise Incomplete(f"{target.root}: {len(failed)} parts could not be indexed: {failed[0].reason}; run it again")
    return Corpus.at(target.root)


def run(
    folder: Place,
    *,
    until: str = STAGES[-1],
    jobs: int = 1,
    progress: Progress | None = None,
    tell: Callable[[str], object] = str,
) -> Result:
    """Do what is missing of an audit, up to and with the stage `until`. Raises ByroteError; Incomplete.

    `tell` is handed what the audit can show, before the first sample is made.
    """
    if until not in STAGES:
        raise ValueError(f"until is {until!r}; it takes one of {', '.join(STAGES)}")
    run_audit(Path(folder), until=until, jobs=jobs, progress=progress or silent, tell=tell)
    return Result(Path(folder))


def silent(stage: str, done: int, total: int, unit: str) -> None:
    """Tell nobody."""
