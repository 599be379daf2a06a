"""What a Python program calls: index pictures, run an audit, look at what it found.

What only audits need is imported when one runs: it takes longer than to look for duplicates in a small corpus.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from byrote import descriptors, images
from byrote.corpora import export
from byrote.corpora import remove as remove_corpora
from byrote.corpus import Corpus, Named
from byrote.domain import Finding, Group
from byrote.engine.local import Environment, engine
from byrote.errors import Incomplete
from byrote.plan import STAGES, CorpusPlan
from byrote.stages import Desk, Failed, Progress, dedupe, ingest, silent
from byrote.stages import describe as describe_stage
from byrote.store import Store, sweep

if TYPE_CHECKING:
    from byrote.corpora.check import Checked
    from byrote.corpora.summary import Summary
    from byrote.models import Options
    from byrote.stages.report.extraction import Extracted
    from byrote.stages.risk import Ranked

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
        from byrote.audit import Audit

        audit = Audit(self.folder)
        rows = audit.store.read_all(Finding, audit.recipes.certified)
        return [row for row in rows if row.side == "picture"]


def index(
    *sources: Place,
    corpus: Place,
    held_out: Place | Iterable[Place] = (),
    hashes: Place | None = None,
    quick: bool = False,
    jobs: int = 1,
    progress: Progress | None = None,
) -> Corpus:
    """Add pictures, and controls that no model was trained on, to a corpus. Raises ByroteError; Incomplete.

    `quick` is for looking for duplicates only: no audit can be made with such a corpus.
    `hashes` names a list of MD5 and PDQ hashes: what it hits is not indexed, only counted, from then on.
    """
    aside = [held_out] if isinstance(held_out, (str, PathLike)) else list(held_out)
    named = [Named("picture", str(source)) for source in sources] + [Named("control", str(source)) for source in aside]
    target = Corpus(Path(corpus))
    with _at_work(target.root, target.store, jobs, progress) as desk:
        listed = ingest.screen(target, None if hashes is None else Path(hashes))
        ingest.name(target, named)
        remove_corpora.clean(target)
        target = Corpus(target.root)
        failed = ingest.run(desk, target, listed, quick=quick)
    if failed:
        raise Incomplete(f"{target.root}: {len(failed)} parts could not be indexed: {failed[0].reason}; run it again")
    return Corpus.at(target.root)


def run(
    folder: Place,
    *,
    until: str = STAGES[-1],
    jobs: int | None = 1,
    progress: Progress | None = None,
    tell: Callable[[str], object] = str,
) -> Result:
    """Do what is missing of an audit, up to and with the stage `until`. Raises ByroteError; Incomplete.

    `jobs` None is one for every CUDA device where the plan says "cuda", else one. `tell` is handed what the audit can
    show, before the first sample is made, and where the memory did not suffice for whole batches.
    """
    from byrote.chain import run as run_audit

    if until not in STAGES:
        raise ValueError(f"until is {until!r}; it takes one of {', '.join(STAGES)}")
    run_audit(Path(folder), until=until, jobs=jobs, progress=progress or silent, tell=tell)
    return Result(Path(folder))


def extract(
    folder: Place,
    *,
    jobs: int | None = 1,
    progress: Progress | None = None,
    tell: Callable[[str], object] = str,
) -> "Extracted":
    """Try to make the claimed pictures of an audit come out, and controls alike. Raises ByroteError; Incomplete.

    What is there already is not tried again. `tell` is handed what will be tried.
    """
    from byrote import extraction
    from byrote.audit import Audit
    from byrote.chain import run as run_audit
    from byrote.models import devices

    run_audit(Path(folder), until="dedupe", jobs=jobs, progress=progress or silent)
    audit = Audit(Path(folder))
    turns = devices.turns(audit.plan.model.device)
    with _at_work(audit.store.root, audit.store, jobs or len(turns), progress, tell, turns) as desk:
        return extraction.search(desk, audit)


def duplicates(
    corpus: Place,
    plan: CorpusPlan | None = None,
    *,
    out: Place | None = None,
    pairs: Place | None = None,
    jobs: int = 1,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Find near-duplicates and count them; write every file with its group to `out`, every near pair to `pairs`.

    Files end in .csv or .parquet. Pairs are measured once; other thresholds only draw groups anew. Raises ByroteError.
    """
    target, plan = Corpus.at(Path(corpus)), plan or CorpusPlan()
    for table in (out, pairs):
        if table is not None:
            export.suffix(Path(table))
    with _at_work(target.root, target.store, jobs, progress) as desk:
        target = Corpus.now(target.root)
        failed = dedupe.run(desk, target, plan)
    _whole(target.root, failed)
    groups = target.store.read_all(Group, dedupe.recipe(target, plan))
    near = [p for p in dedupe.measured(target, plan) if dedupe.alike(p.rms, p.evidence, plan)]
    if out is not None:
        export.write(Path(out), export.rows(target, groups), export.Row)
    if pairs is not None:
        export.write(Path(pairs), export.near(target, near), export.Near)
    copies = {(row.group, row.side): row.copies for row in groups}
    files = Counter(dict.fromkeys((row.group for row in groups), 0))
    for (group, _), n in copies.items():
        files[group] += n
    return {
        "files": files.total(),
        "groups": len(files),
        "duplicated": sum(n > 1 for n in files.values()),
        "spare": files.total() - len(files),
        "pairs": len(near),
    }


def check(
    images: Sequence[Place],
    corpus: Place,
    plan: CorpusPlan | None = None,
    *,
    show: int = 5,
    approximate: bool = False,
    progress: Progress | None = None,
) -> "list[Checked]":
    """Look for images among the pictures of a corpus, all or those that its index finds. Raises ByroteError."""
    from byrote.corpora.approximate import around
    from byrote.corpora.check import check as look
    from byrote.corpora.check import read

    target, plan, files = Corpus.at(Path(corpus)), plan or CorpusPlan(), [Path(image) for image in images]
    among = around(target, [read(file) for file in files], plan) if approximate else None
    return look(target, files, plan, progress or silent, show=show, among=among)


def summary(corpus: Place, plan: CorpusPlan | None = None) -> "tuple[Corpus, Summary]":
    """Open a corpus and sum it up. Raises ByroteError."""
    from byrote.corpora import summary as summary_corpora

    target = Corpus.at(Path(corpus))
    return target, summary_corpora.summary(target, plan or CorpusPlan())


def describe(corpus: Place, descriptor: str, *, jobs: int = 1, progress: Progress | None = None) -> dict[str, Any]:
    """Describe the pictures of a corpus by `descriptor`, a URI. Raises ByroteError."""
    target = Corpus.at(Path(corpus))
    with _at_work(target.root, target.store, jobs, progress) as desk:
        failed = describe_stage.run(desk, target, descriptor)
    _whole(target.root, failed)
    made = describe_stage.recipe(descriptors.open(descriptor))
    known = [row.known for row in target.store.read_all(describe_stage.Described, made)]
    return {"descriptor": descriptors.open(descriptor).name, "described": sum(known), "gone": len(known) - sum(known)}


def approximate(corpus: Place) -> dict[str, Any]:
    """Make the approximate index of a corpus, on disk, and return what it says of itself. Raises ByroteError."""
    from byrote.corpora import approximate as approximate_corpora

    target = Corpus.at(Path(corpus))
    with target.store.locked():
        made = approximate_corpora.make(target)
    return asdict(made) | {"says": made.line()}


def screen(
    prompts: Place | Sequence[str],
    model: str,
    *,
    score: str | None = None,
    controls: Place | Sequence[str] | None = None,
    seeds: int = 4,
    steps: int | None = None,
    pilot: int = 40,
    options: "Options | None" = None,
    out: Place | None = None,
    progress: Progress | None = None,
) -> "Ranked":
    """Rank prompts, a list or a file of them, by how likely the model is to bring a picture back. Raises ByroteError.

    `steps` are the sampler's for the score alone; the pilot draws with those of `options`. `out` ends in .csv or
    .parquet.
    """
    from byrote import models
    from byrote.sources import prompts as lists
    from byrote.stages import risk, scores

    if out is not None:
        export.suffix(Path(out))
    asked, against = (lists.read(Path(one)) if isinstance(one, str | PathLike) else one for one in (prompts, controls))
    told = options or models.Options()
    full = models.open(model, told)
    quick = full
    if steps:
        own = full.stepped(steps) if isinstance(full, models.Stepped) else None
        quick = own or models.open(model, replace(told, steps=steps))
    way = risk.Way(scores.named(score) if score else scores.default(quick), seeds, pilot)
    found = risk.rank(quick, full, asked or [], way, against or [], progress or silent)
    if out is not None:
        export.write(Path(out), found.rows, risk.Risk)
    return found


def remove(
    corpus: Place, pictures: Sequence[Place] = (), *, sources: Sequence[str] = (), alike: bool = False
) -> dict[str, Any]:
    """Take pictures (files or digests) and sources out of a corpus. Raises ByroteError; nothing is removed then.

    With `alike` near-duplicates go too: those that `check` calls so.
    """
    target = Corpus.at(Path(corpus))
    files = [Path(one) for one in pictures if not images.is_digest(str(one))]
    digests = [str(one) for one in pictures if images.is_digest(str(one))]
    with target.store.locked():
        for uri in sources:
            remove_corpora.holds(target, uri)
        digests += remove_corpora.named(target, files, alike=alike)
        done = [remove_corpora.pictures(target, digests)] if digests else []
        done += [remove_corpora.source(Corpus(target.root), uri) for uri in sources]
    return {
        "files": sum(one.files for one in done),
        "parts": sum(one.parts for one in done),
        "derived": sorted({name for one in done for name in one.derived}),
    }


def merge(corpus: Place, other: Place, *, progress: Progress | None = None) -> int:
    """Bring the pictures of another corpus into one, and return how many files. Raises ByroteError."""
    from byrote.corpora import merge as merge_corpora

    target, source = Corpus(Path(corpus)), Corpus.at(Path(other))
    with target.store.locked():
        sweep(target.root)
        return merge_corpora.merge(target, source, progress or silent)


@contextmanager
def _at_work(
    root: Path,
    store: Store,
    jobs: int,
    progress: Progress | None,
    tell: Callable[[str], object] = str,
    turns: Sequence[Environment] = ({},),
) -> Iterator[Desk]:
    """Hold a folder, and give a desk to work at."""
    with store.locked():
        sweep(root)
        workers = engine(jobs, turns)
        try:
            yield Desk(store, workers, progress or silent, tell)
        finally:
            workers.close()


def _whole(root: Path, failed: Sequence[Failed]) -> None:
    if failed:
        raise Incomplete(f"{root}: {len(failed)} parts failed after retries: {failed[0].reason}; run it again")
