"""Run the stages of an audit, one after the other, and do what is missing."""

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from byrote import canaries
from byrote.audit import Audit, Made
from byrote.corpus import Corpus
from byrote.domain import SIDES, Finding
from byrote.engine import Part
from byrote.engine.local import engine
from byrote.errors import CorpusError, Incomplete, ModelError, PlanError
from byrote.evidence import gather
from byrote.models import Model, devices, held
from byrote.models.denoiser import opened
from byrote.plan import STAGES
from byrote.stages import (
    Desk,
    Failed,
    Progress,
    cliques,
    dedupe,
    generate,
    ingest,
    likeness,
    match,
    probe,
    prompts,
    report,
    screen,
)
from byrote.stages.certify import Test
from byrote.store import Recipe, replace_file, sweep


def run(
    root: Path,
    *,
    until: str = STAGES[-1],
    jobs: int | None = 1,
    progress: Progress,
    tell: Callable[[str], object] = str,
) -> Audit:
    """Do what is missing of an audit up to a stage. Raises ByroteError; Incomplete where parts were given up.

    Without a number of `jobs` there is one for every device that the plan leaves open, else one.
    """
    generate.open_model.cache_clear()  # its files may have changed since this process opened it
    audit = Audit(root)
    audit.plan, audit.corpus  # noqa: B018 - their errors come before anything is written
    with ExitStack() as stack:
        for store in (audit.store, audit.corpus.store):
            stack.enter_context(store.locked())
            sweep(store.root)
        turns = devices.turns(audit.plan.model.device)
        workers = engine(jobs or len(turns), turns)
        stack.callback(workers.close)
        desk = Desk(audit.store, workers, progress, tell)
        at_corpus = Desk(audit.corpus.store, workers, progress)
        for stage in STAGES[: STAGES.index(until) + 1]:
            failed = _stage(stage, audit, desk, at_corpus)
            audit.failed += failed
            if failed:
                raise Incomplete(_given_up(failed))
    return audit


def _stage(stage: str, audit: Audit, desk: Desk, at_corpus: Desk) -> list[Failed]:
    match stage:
        case "ingest":
            _in_full(audit.corpus)
            failed = ingest.run(at_corpus, audit.corpus)
            audit.corpus = Corpus.at(audit.corpus.root)
            return failed or _not_empty(audit.corpus)
        case "dedupe":
            _check_model(audit)
            return dedupe.run(at_corpus, audit.corpus, audit.plan.corpus)
        case "prompts":
            canaries.check(audit.canaries, *(audit.corpus.digests(side) for side in SIDES))
            failed = prompts.run(desk, audit.corpus, audit.recipes.groups, audit.wanted)
            if audit.recorded and not failed:
                desk.tell(_held(audit))
            return failed or _some_prompts(audit)
        case "screen":
            return _screen(audit, desk)
        case "generate":
            return _generate(audit, desk)
        case "cliques":
            return cliques.run(desk, audit.recipes.samples, audit.parts(), audit.plan.cliques)
        case "match":
            return match.run(desk, audit.recipes.look, audit.parts(), audit.model)
        case "twin":
            return _twin(audit, desk)
        case "certify":
            return _weigh(audit, desk) or desk.fill(
                audit.recipes.certified, Certify(audit.root, audit.recipes.certified), [Part("00000")], "tables"
            )
        case "probe":
            return _probe(audit, desk)
        case _:
            report.write(audit.root / "report", gather(audit), reveal=False)
            return []


def _fix(audit: Audit, desk: Desk) -> None:
    """Fix before the first image everything that the certificate rests on, and say what it can show."""
    _save_plan(audit)
    audit.seal_now()
    desk.tell(_power(audit))


def _screen(audit: Audit, desk: Desk) -> list[Failed]:
    """Look at few and cheap samples of each prompt first, where the plan wants it."""
    made = audit.recipes.screen
    if made is None:
        return []
    _fix(audit, desk)
    failed = screen.run(desk, made, audit.recipes.look, audit.prompts)
    if not failed:
        desk.tell(screen.words(audit.screened))
    return failed


def _generate(audit: Audit, desk: Desk) -> list[Failed]:
    rule = screen.Near(audit.recipes.look) if audit.recipes.screen else None
    if rule is None:
        _fix(audit, desk)
    return generate.run(desk, audit.recipes.samples, audit.parts(), audit.plan, audit.seeds, rule)


def _probe(audit: Audit, desk: Desk) -> list[Failed]:
    """Look from inside the denoiser at what was found, where the plan wants it and there is an inside."""
    made = audit.recipes.probed
    if made is None:
        return []
    try:
        reason = f"a {audit.model.name} cannot be looked into" if opened(audit.model) is None else ""
    except ModelError as error:
        reason = str(error)
    if reason:
        desk.tell(f"[probe]: {reason}; nothing is probed")
        return []
    asked = probe.chosen(audit.certified.findings, audit.prompts, audit.named, audit.plan)
    return probe.run(desk, made, audit.corpus.root, audit.plan, asked)


def _twin(audit: Audit, desk: Desk) -> list[Failed]:
    """Ask the twin the same, from the same noise, and match what it gives."""
    made, model, parts = audit.recipes.twin, audit.twin, audit.parts()
    if made is None or model is None:
        return []
    return (
        generate.run(desk, made.samples, parts, made.plan, _of_twin(audit, made, model))
        or cliques.run(desk, made.samples, parts, made.plan.cliques)
        or match.run(desk, made.look, parts, model)
    )


def _of_twin(audit: Audit, made: Made, twin: Model) -> generate.Seeds:
    """Return the seeds that the twin is asked with: those of the model's samples, or of a recording its own."""
    return audit.drawn if audit.recipes.screen else generate.seeds_of(audit.prompts, made.plan, twin)


def _weigh(audit: Audit, desk: Desk) -> list[Failed]:
    recipes = audit.recipes
    return likeness.run(desk, recipes.covariates, audit.corpus, recipes.samples, recipes.groups, audit.prompts)


def rewrite_report(root: Path, *, reveal: bool, redact: bool = False) -> Path:
    """Write the report again and return the page. Raises ByroteError; Incomplete before the audit has come so far."""
    audit = Audit(root)
    audit.plan, audit.corpus  # noqa: B018 - their errors come first
    if not audit.store.parts(audit.recipes.certified):
        raise Incomplete(f"{root}: nothing certified yet to report on; `byrote run {root}` goes on to it")
    with audit.store.locked():
        report.write(audit.root / "report", gather(audit), reveal=reveal, redact=redact)
    return root / "report" / ("redacted.html" if redact else "revealed.html" if reveal else "report.html")


@dataclass(frozen=True, slots=True)
class Certify:
    """Fill `certified`: a row for every tested group of both sides."""

    root: Path
    made: Recipe

    def __call__(self, part: Part) -> None:
        """Do the one part."""
        audit = Audit(self.root)
        audit.store.write(self.made, part.name, audit.certified.findings, Finding)


def _in_full(corpus: Corpus) -> None:
    if corpus.quick:
        raise CorpusError(f"{corpus.root} was indexed quickly, so its pixels are not known: index it without --quick")


def _not_empty(corpus: Corpus) -> list[Failed]:
    if not any(row.side == "picture" for row in corpus.pictures):
        raise CorpusError(f"{corpus.root}: no picture of the training set could be read; index another source")
    return []


def _held(audit: Audit) -> str:
    """Say for how many groups of each side the samples suffice that were made elsewhere."""
    passed = sum(audit.passed_over.values())
    more = f"; {passed:,} files were passed over" if passed else ""
    if not audit.model.takes_text:
        return f"recorded without text: enough for {len(audit.prompts):,} prompts{more}"
    (able, of), (twins, twins_of) = (audit.askable[side] for side in SIDES)
    return (
        f"recorded {audit.plan.generate.seeds} times or more: the captions of {able:,} of {of:,} groups of pictures "
        f"and of {twins:,} of {twins_of:,} of controls; the others cannot be asked{more}"
    )


def _unheard(audit: Audit) -> str:
    """Show what was recorded instead of what is wanted."""
    wanted = f"no picture's caption was recorded [generate] seeds = {audit.plan.generate.seeds} times"
    texts = held(audit.model)
    if not texts:
        return wanted
    first, seeds = next(iter(texts.items()))
    return f"{wanted}; of {len(texts):,} prompts that were, the first is {first!r}, {len(seeds):,} times"


def _some_prompts(audit: Audit) -> list[Failed]:
    if audit.recorded and not any(prompt.side == "picture" for prompt in audit.prompts):
        raise PlanError(f"{audit.root / 'audit.toml'}: nobody to ask: {_unheard(audit)}")
    if not audit.prompts:
        raise PlanError(
            f"{audit.root / 'audit.toml'}: nobody to ask: no picture has a caption, or [prompts] asks for 0"
        )
    return []


def _check_model(audit: Audit) -> None:
    """Let the model's errors, and a size that the tiles do not divide, come before hours of work."""
    g, tiles = audit.plan.generate, audit.plan.cliques.tiles
    for name, value in (("width", g.width), ("height", g.height)):
        if value is not None and value % tiles:
            raise PlanError(
                f"{audit.root / 'audit.toml'}: [generate] {name} is {value}; [cliques] tiles = {tiles} must divide it"
            )
    audit.model.digest  # noqa: B018
    if screen.on(audit.plan):
        screen.check(audit.plan, [model for model in (audit.model, audit.twin) if model is not None])
    audit.twin, audit.canaries, audit.wanted  # noqa: B018
    if audit.twin is not None and audit.twin.digest == audit.model.digest:
        raise PlanError(
            f"{audit.root / 'audit.toml'}: [twin] uri is the model under audit itself; "
            "name one that was not trained on the pictures"
        )


def _save_plan(audit: Audit) -> None:
    text = json.dumps(audit.plan.as_dict(), indent=2, sort_keys=True) + "\n"
    replace_file(audit.root / f"plan-{hashlib.sha256(text.encode()).hexdigest()[:12]}.json", text.encode())


def main_test(audit: Audit) -> tuple[Test, str]:
    """Weigh the family that the answer will be about, "asked" or, where nobody can be asked, "searched for"."""
    power = audit.power()
    return (power["asked"], "asked") if audit.model.takes_text else (power["unasked"], "searched for")


def _power(audit: Audit) -> str:
    """Say before any sample is made what the audit can show."""
    test, how = main_test(audit)
    if test.k_needed is None:
        return f"{test.m:,} pictures and {test.n_controls:,} controls {how}: nothing can be certified, only measured"
    able = "" if test.k_needed <= test.m else f", more than are {how}: nothing can be certified; take more controls"
    return (
        f"{test.m:,} pictures and {test.n_controls:,} controls {how}, smallest p {test.smallest_p:.4f}: "
        f"it takes {test.k_needed:,} reproduced pictures to certify any{able}"
    )


def _given_up(failed: Sequence[Failed]) -> str:
    first = failed[0]
    what = f"{len(failed)} parts of {first.stage} failed after retries"
    return f"{what}; part {first.part}: {first.reason}; run again to retry"
