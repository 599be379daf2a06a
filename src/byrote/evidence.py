"""Gather what the tables of an audit hold into the evidence that a report says."""

import platform
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import takewhile
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu

from byrote import canaries, images
from byrote.audit import Audit
from byrote.domain import RGB, SIDES, Family, Finding, Group, Match, Picture, Rate, Side
from byrote.extraction import extracted
from byrote.kernels import align
from byrote.kernels.rates import chao1, discoverable, discovered, good_turing
from byrote.kernels.review import Stratum, horvitz_thompson
from byrote.kernels.stats import clopper_pearson
from byrote.plan import CertifyPlan
from byrote.review import REVIEW, draw, verdicts
from byrote.review.measure import measure
from byrote.stages import generate, match, probe, report, screen
from byrote.stages.certify import FAMILIES, LEVEL, SUSPECT, counted, rates, statistic
from byrote.stages.report import inside
from byrote.stages.ways import BY_PROMPT, BY_SAMPLE, rung_rates, shares
from byrote.store import versions

MOST_OTHERS = 1_000
STEPS = (1, 2, 3, 5, 10, 20, 30, 50, 100, 200, 500)
NEAREST_CONTROLS = 12


def gather(audit: Audit) -> report.Evidence:
    """Put together the evidence of an audit whose stages are done, `certify` included."""
    certified = audit.certified
    rows = certified.findings
    pictures = [row for row in rows if row.side == "picture"]
    others = {row.group for row in [row for row in pictures if not row.certified][:MOST_OTHERS]}
    findings = [row for row in pictures if row.certified or row.group in others]
    controls = [row for row in rows if row.side == "control" and row.statistic is not None][:NEAREST_CONTROLS]
    show = _Show(audit, [*findings, *controls])
    rule, trips = audit.plan.certify, _round_trips(audit)
    return report.Evidence(
        model=_model(audit),
        corpus=_corpus(audit),
        plan=audit.plan.as_dict(),
        tests=certified.tests,
        findings=[show(row) for row in findings],
        controls=report.Controls(certified.controls_n, certified.controls_certified),
        nearest_controls=[show(row) for row in controls],
        statistics=_statistics(rows, rule.closest),
        rates=_rates(audit, rows),
        cost=_cost(audit),
        skipped=list(_skipped(audit)),
        calibrated=_calibrated(audit, rows),
        tau=rule.closest,
        fdr=rule.fdr,
        picture_image=audit.corpus.pixels,
        sample_image=show.sample,
        sealed=_seals(audit)[1],
        audits=_seals(audit)[0],
        warnings=_warnings(audit, trips),
        versions=versions(),
        machine=_machine(),
        drawn=_drawn(audit, pictures),
        twin=_twin(audit),
        provenance=_tau(audit),
        at_all=certified.at_all,
        balance=certified.balance,
        apart=audit.apart,
        round_trips=trips,
        claims=audit.judged,
        discovery=_discovery(audit),
        unseen=_unseen(audit),
        canaries=_canaries(audit),
        review=_review(audit),
        screening=_screening(audit),
        funnel=_funnel(audit, rows),
        inside=inside.told(*probe.read(audit.store, audit.recipes.probed)) if audit.recipes.probed else None,
        extraction=extracted(audit),
    )


class _Show:
    """Finds what belongs to a finding: its rows in the corpus, its prompt, its samples."""

    def __init__(self, audit: Audit, rows: Iterable[Finding]) -> None:
        self._audit = audit
        self._prompts = {prompt.number: prompt.text for prompt in audit.prompts}
        self._pictures: dict[tuple[str, str], list[Picture]] = defaultdict(list)
        for picture in audit.corpus.pictures:
            self._pictures[picture.side, picture.digest].append(picture)
        groups = {row.group for row in rows}
        self._matches: dict[str, list[Match]] = defaultdict(list)
        for row in audit.matches():
            if row.group in groups:
                self._matches[row.group].append(row)
        self._wanted = {m.sample for found in self._matches.values() for m in found[:1]} | {
            row.sample for row in rows if row.sample
        }
        self._samples: dict[str, bytes] | None = None

    def __call__(self, row: Finding) -> report.Shown:
        """Return what a reader needs to judge a finding."""
        rows = self._pictures[row.side, row.digest]
        captions = [caption for picture in rows for caption in picture.captions]
        near = sorted(self._matches[row.group], key=statistic)
        closest = self._audit.plan.certify.closest
        within = [m for m in near if statistic(m) <= closest or m.sample == row.sample]
        moves = [match.move_of(m) for m in near if m.sample == row.sample]
        return report.Shown(
            finding=row,
            where=tuple(picture.where for picture in rows),
            caption=captions[0] if captions else None,
            prompt=None if row.prompt is None else self._prompts[row.prompt],
            samples=tuple(dict.fromkeys((m.seed, m.sample) for m in within)),
            move=next(iter(moves), align.IDENTITY),
        )

    def sample(self, digest: str) -> RGB | None:
        """Return the pixels of a sample, or None where it is gone."""
        if self._samples is None:
            self._samples = self._audit.samples(self._wanted)
        data = self._samples.get(digest)
        return None if data is None else images.decode(data)


def _twin(audit: Audit) -> report.ModelFacts | None:
    twin = audit.twin
    return None if twin is None else report.ModelFacts(audit.plan.twin.uri, twin.name, twin.digest)


def _tau(audit: Audit) -> report.Tau:
    """Say where tau comes from: from a second draw if one gave it for this corpus before any seal, else from the plan.

    How often tau was measured is told, since whoever measures often may choose.
    """
    closest, corpus = audit.plan.certify.closest, audit.corpus.digest
    before = takewhile(lambda line: line["event"] != "seal", audit.store.ledger())
    measured = [line for line in before if line["event"] == "tau"]
    for line in reversed(measured):
        if line["closest"] == closest and line["corpus"] == corpus:
            often = f", one of {len(measured)} that were measured" if len(measured) > 1 else ""
            return report.Tau(closest, f"a second held-out draw{often}", line["share"], line["pictures"])
    preset = "the preset of Carlini et al. 2023, section 4.2"
    return report.Tau(closest, preset if closest == CertifyPlan().closest else "the plan, without a stated source")


def _discovery(audit: Audit) -> report.Discovery | None:
    """Follow what comes back with the number of samples: of the pictures that were asked, and of controls."""
    made = audit.plan.generate.seeds
    if audit.recipes.screen is not None:  # samples were spent where some came near, not alike on all
        return None
    pictures, controls = (_own_hits(audit, side) for side in ("picture", "control"))
    if not len(pictures):
        return None
    at = np.array([n for n in STEPS if n < made] + [made], np.int64)
    far = np.concatenate([at, [made * f for f in (2, 5, 10, 50)]])
    half, most = (discoverable(pictures, made, far, p).tolist() for p in (0.5, 0.9))
    return report.Discovery(
        made=made,
        samples=tuple(far.tolist()),
        found=tuple(discovered(pictures, made, at).tolist()),
        controls=tuple(discovered(controls, made, at).tolist()) if len(controls) else None,
        half=tuple(map(tuple, half)),
        most=tuple(map(tuple, most)),
    )


def _own_hits(audit: Audit, side: str) -> NDArray[np.int64]:
    own = [p for p in audit.prompts if p.rung == "caption" and p.side == side and p.stratum != "canary"]
    return np.array([len(audit.hits.own(prompt.group, "caption")) for prompt in own], np.int64)


def _unseen(audit: Audit) -> report.Unseen | None:
    hits = np.array(audit.hits.every("picture"), np.int64)
    if not len(hits) or audit.recipes.screen is not None:
        return None
    found = chao1(hits, LEVEL)
    return report.Unseen(found.seen, found.estimate, found.low, found.high, good_turing(hits))


def _canaries(audit: Audit) -> Mapping[str, Any] | None:
    """Hold the canaries' statistics against their coins."""
    if not audit.canaries:
        return None
    rows = [row for row in audit.certified.findings if row.family == "canary"]
    known = {row.digest: row.statistic for row in rows if row.statistic is not None}
    return asdict(canaries.report(audit.canaries, known, tau=audit.plan.certify.closest))


def _review(audit: Audit) -> Mapping[str, Any] | None:
    """Measure what people said, where pairs were drawn and judged."""
    if not (audit.root / REVIEW / "key.json").exists():
        return None
    key = draw.read(audit.root / REVIEW)
    said = verdicts.latest(audit.root / verdicts.FILE)
    return asdict(measure(key, said)) if said else None


def _funnel(audit: Audit, rows: Sequence[Finding]) -> list[report.Step]:
    """Follow pictures and controls from the files to those that people confirmed."""
    corpus, closest = audit.corpus, audit.plan.certify.closest
    sides = {prompt.number: prompt.side for prompt in audit.prompts if prompt.stratum != "free"}
    cliques = [row for row in audit.cliques() if row.prompt in sides]
    matched = {(row.side, row.group) for row in audit.matches()}
    said = verdicts.latest(audit.root / verdicts.FILE)
    seen: dict[tuple[str, str], list[str]] = defaultdict(list)
    for (_, picture, sample), verdict in said.items():
        seen[picture, sample].append(verdict)

    shown = [seen[row.digest, row.sample or ""] for row in rows if row.side == "picture" and row.certified]
    judged = [each for each in shown if each]

    def step(name: str, count: Callable[[Side], int | None]) -> report.Step:
        return report.Step(name, *(count(side) for side in SIDES))

    def of(side: Side, holds: Callable[[Finding], bool]) -> int:
        return sum(row.side == side and holds(row) for row in rows)

    steps = [
        step("files", lambda side: sum(picture.side == side for picture in corpus.pictures)),
        step("groups of near-duplicates", lambda s: sum(not row.set_aside for row in _one_a_group(audit, s))),
        step("prompts", lambda side: list(sides.values()).count(side)),
        step("samples of these", lambda side: sum(row.samples for row in cliques if sides[row.prompt] == side)),
        step("prompts with a clique", lambda s: sum(row.found for row in cliques if sides[row.prompt] == s)),
        step("groups that a sample was held against", lambda side: sum(row[0] == side for row in matched)),
        step("of these within \u03c4", lambda side: of(side, lambda row: counted(row, closest) <= closest)),
        report.Step("certified", of("picture", lambda row: row.certified), audit.certified.controls_certified),
    ]
    if judged:
        copies = sum(2 * each.count("copy") > len(each) for each in judged)
        steps += [report.Step("of the certified judged by people", len(judged), None)]
        steps += [report.Step("of these called a copy by most who judged them", copies, None)]
    if audit.recipes.screen is not None:
        kept = [row.prompt for row in audit.screened if row.kept]
        steps.insert(3, step("prompts that the screen kept", lambda side: sum(sides[n] == side for n in kept)))
    return steps


def _corpus(audit: Audit) -> report.CorpusFacts:
    corpus = audit.corpus
    sides = Counter(picture.side for picture in corpus.pictures)
    aside = sum(row.copies for row in _one_a_group(audit, "control") if row.set_aside)
    return report.CorpusFacts(
        digest=corpus.digest,
        pictures=sides["picture"],
        groups=sum(not row.set_aside for row in _one_a_group(audit, "picture")),
        unreadable=len(corpus.unreadable),
        controls=sides["control"],
        controls_set_aside=aside,
    )


def _one_a_group(audit: Audit, side: str) -> list[Group]:
    return list({row.group: row for row in audit.groups if row.side == side}.values())


def _rates(audit: Audit, rows: Sequence[Finding]) -> list[Rate]:
    """Return all shares with whom they speak of; without calibration nothing is said of what is certified."""
    rule, alike = audit.plan.certify, audit.recipes.screen is None
    found = rates(rows, fdr=rule.fdr, closest=rule.closest)
    seeds = audit.plan.generate.seeds if alike else None
    found += shares(audit.prompts, audit.hits, seeds, audit.plan.prompts.seed)
    found += rung_rates(audit.prompts, audit.hits)
    found = found if alike else [_open(rate, _dropped(audit)) for rate in found]
    sure = _calibrated(audit, rows)
    rest = " that were not asked for" if audit.model.takes_text else ""
    about = {"asked": _asked(audit), "unasked": f"all groups of the corpus{rest}"}
    about |= {"canary": "the canaries that a coin published", "prompts": "the users' prompts of the plan"}
    about |= {"samples asked": "samples asked for with no text"}

    def population(rate: Rate) -> str:
        return next((said for name, said in about.items() if rate.name.startswith(name)), about["asked"])

    return [replace(rate, population=population(rate)) for rate in found if sure or "certified" not in rate.name]


def _dropped(audit: Audit) -> int:
    """Count the prompts of pictures that the screen dropped and did not spare."""
    ours = {prompt.number for prompt in audit.prompts if prompt.side == "picture"}
    return sum(row.prompt in ours and not row.kept and not row.spared for row in audit.screened)


def _open(rate: Rate, dropped: int) -> Rate:
    """Count all that was dropped as if it came at the upper end, and none of it at the lower."""
    if rate.name.startswith(("unasked", BY_SAMPLE, BY_PROMPT)):
        return rate
    most = min(rate.n, rate.k + dropped)
    high = clopper_pearson(most, rate.n, rate.level)[1] if rate.n else rate.high
    return replace(rate, high=max(rate.high, high), method=f"{rate.method}; whatever was dropped may come")


def _screening(audit: Audit) -> report.Screening | None:
    """Tell what the screen cost and, from those that were spared, what it missed."""
    made, store, plan = audit.recipes.screen, audit.store, audit.plan
    if made is None:
        return None
    prompts = {prompt.number: prompt for prompt in audit.prompts}
    rows = {side: [row for row in audit.screened if prompts[row.prompt].side == side] for side in SIDES}
    came = {
        row.prompt: bool(audit.hits.own(prompts[row.prompt].group, prompts[row.prompt].rung)) for row in rows["picture"]
    }
    kept, others = ([row for row in rows["picture"] if row.kept is on] for on in (True, False))
    found, missed = sum(came[row.prompt] for row in kept), sum(came[row.prompt] for row in others)
    strata = [Stratum(len(kept), len(kept), found), Stratum(len(others), sum(row.spared for row in others), missed)]
    total = horvitz_thompson(strata, LEVEL)
    tried = screen.pilot(store, made) if plan.screen.score else None
    cost, samples = audit.model.evaluations_per_sample, sum(row.samples for row in audit.cliques())
    return report.Screening(
        search=plan.screen.search,
        score=plan.screen.score,
        pilot=(*tried.correlation,) if tried else None,
        used=tried is not None and tried.usable,
        prompts={side: len(rows[side]) for side in SIDES},
        kept={side: sum(row.kept for row in rows[side]) for side in SIDES},
        spared={side: sum(row.spared for row in rows[side]) for side in SIDES},
        evaluations=screen.evaluations(store, made, plan) + cost * samples,
        exhaustive=cost * len(prompts) * plan.generate.seeds,
        found=found,
        missed=missed,
        recall=found / total.total if total.total else None,
        low=found / total.high if total.high else None,
        high=found / total.low if total.low else None,
    )


def _asked(audit: Audit) -> str:
    strata = Counter(p.stratum for p in audit.prompts if p.rung == "caption" and p.side == "picture")
    told = [f"the {strata['top']:,} groups with the most copies"] if strata["top"] else []
    told += [f"{strata['random']:,} groups drawn at random from the rest"] if strata["random"] else []
    among = ", among those of which enough samples were recorded" if audit.recorded else ""
    return (" and ".join(told) + among) if told else "nobody"


def _round_trips(audit: Audit) -> report.RoundTrips | None:
    """Hold the errors of the autoencoder on pictures against those on controls."""
    look = audit.recipes.look
    pictures, controls = (match.trip_errors(look, side) for side in SIDES)
    if not len(pictures) or not len(controls):
        return None
    p = float(mannwhitneyu(pictures, controls).pvalue)
    return report.RoundTrips(float(np.median(pictures)), len(pictures), float(np.median(controls)), len(controls), p)


def _statistics(rows: Iterable[Finding], closest: float) -> dict[Family, report.Statistics]:
    values: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in rows:
        values[row.family, row.side].append(counted(row, closest))
    return {f: report.Statistics(np.array(values[f, "picture"]), np.array(values[f, "control"])) for f in FAMILIES}


def _cost(audit: Audit) -> report.Cost:
    samples = sum(row.samples for row in audit.cliques())
    models = [model for model in (audit.model, audit.twin) if model is not None]
    evaluations = samples * sum(model.evaluations_per_sample for model in models)
    if audit.recipes.screen is not None:
        evaluations += screen.evaluations(audit.store, audit.recipes.screen, audit.plan)
    return report.Cost(evaluations, samples * len(models), round(audit.seconds(), 1))


def _calibrated(audit: Audit, rows: Iterable[Finding]) -> bool:
    """Tell whether p-values mean what they say: there are controls, and the seal came before the first sample."""
    return audit.sealed_before_sampling and any(row.p_value is not None for row in rows)


def _skipped(audit: Audit) -> Iterator[report.Skipped]:
    corpus = audit.corpus
    for reason, n in sorted(Counter(row.reason for row in corpus.unreadable).items()):
        yield report.Skipped("unreadable files", reason, n)
    for what, n in (("files", corpus.screened), ("samples", generate.screened(audit.store, audit.recipes.samples))):
        if n:
            yield report.Skipped(what, "held back by a list of hashes: nothing of them is kept", n)
    no = generate.refused(audit.store, audit.recipes.samples)
    if no:
        yield report.Skipped("samples", "the model's server refused to draw them: noise stands in their place", no)
    silent = sum(not picture.captions for picture in corpus.pictures)
    if silent and audit.model.takes_text:
        yield report.Skipped("pictures without a caption", "tested, but not asked for", silent)
    for side, what in (("picture", "groups of pictures"), ("control", "groups of controls")):
        aside = sum(row.set_aside for row in _one_a_group(audit, side))
        if aside:
            yield report.Skipped(what, "set aside: near-duplicates on both sides", aside)
    gone, notes = audit.listed_again()
    for reason, n in sorted(Counter(note.reason for note in notes).items()):
        yield report.Skipped("captions or folders that were passed over", reason, n)
    yield from _not_held(audit)
    cut = sum(not row.largest for row in audit.cliques())
    if cut:
        yield report.Skipped("largest cliques", "the time cap struck; whether there is one is exact all the same", cut)
    if gone:
        yield report.Skipped("pictures", "gone or changed since they were indexed: no pixels to compare", gone)


def _not_held(audit: Audit) -> Iterator[report.Skipped]:
    """Tell whom a recording left no samples to ask with, side by side, and what of it was passed over."""
    for reason, n in sorted(audit.passed_over.items()):
        yield report.Skipped("files of a recording", reason, n)
    if audit.recorded and audit.model.takes_text and any(able < of for able, of in audit.askable.values()):
        for side, what in zip(SIDES, ("groups of pictures", "groups of controls"), strict=True):
            able, of = audit.askable[side]
            yield report.Skipped(what, "tested, but not asked for: too few samples were recorded", of - able)


def _seals(audit: Audit) -> tuple[list[report.Seal], report.Seal | None]:
    seals = [
        report.Seal(s.digest, s.at, s.before_sampling, s.seed, s.closest, s.alike, s.elsewhere) for s in audit.seals()
    ]
    mine = audit.seal
    return seals, next((seal for seal in seals if mine is not None and seal.digest == mine.digest), None)


def _warnings(audit: Audit, trips: report.RoundTrips | None) -> list[str]:
    warnings = []
    if not audit.sealed_before_sampling:
        warnings.append(
            "The plan was changed after samples of this audit had been made, so its p-values assume what is not so and "
            "nothing is certified. Set another [prompts] seed for a new audit."
        )
    if audit.apart is not None and audit.apart.p_value <= SUSPECT:
        warnings.append(
            "Pictures and controls can be told apart without the model "
            f"(AUC {audit.apart.auc:.2f}, p {audit.apart.p_value:.3f}): "
            "controls are not of the same kind, and p and q may owe something to that."
        )
    leans = audit.certified.twin_leans
    if leans is not None and leans <= SUSPECT:
        warnings.append(
            f"The twin brings more controls than pictures within \u03c4 (p {leans:.2g}): it may have been trained on "
            "them, which takes near controls out of the comparison. No finding is exact."
        )
    if trips is not None and trips.p_value <= SUSPECT:
        warnings.append(
            f"The model's autoencoder returns pictures and controls unlike (median error {trips.pictures:.4f} and "
            f"{trips.controls:.4f}, p {trips.p_value:.2g}): it may have been trained on one side, and distances to "
            "round trips may owe something to that."
        )
    alike = sum(seal.alike for seal in audit.seals())
    if alike > 1:
        warnings.append(
            f"This is one of {alike} audits of this model and corpus that are known here: whoever chooses among "
            "several finds more than chance allows. They are listed below."
        )
    less = generate.halved(audit.store, audit.recipes.samples)
    if less:
        warnings.append(
            f"Memory did not suffice for {audit.plan.generate.batch} samples at once: {len(less)} parts were made in "
            f"smaller batches, and equal others within the model's tolerance only ({audit.model.tolerance} levels of "
            "255). Made again where there is more memory, samples may differ by as much."
        )
    if audit.recorded:
        warnings.append(
            "Samples were recorded elsewhere, before this plan was sealed: p-values assume that prompts, settings and "
            "samples were chosen alike for pictures and controls and that nobody looked first. No finding is exact."
        )
    if audit.recipes.probed and not audit.store.parts(audit.recipes.probed):
        warnings.append(
            "The plan wants a look from inside the denoiser, and there was none: the model cannot be looked into, or "
            "no picture was there to look at."
        )
    if not audit.model.takes_text:
        warnings.append("The model takes no text: nobody was asked for, and all pictures were searched for.")
    return [*warnings, *getattr(audit.model, "warnings", ())]


def _model(audit: Audit) -> report.ModelFacts:
    told, model = audit.plan.model, audit.model
    left_out = tuple(getattr(model, "left_out", ()))
    return report.ModelFacts(told.uri, model.name, model.digest, left_out, (*told.lora, *told.embeddings))


def _drawn(audit: Audit, pictures: Iterable[Finding]) -> Rate | None:
    """Return the share of the random draw; of a recording there is none, for who chose it need not have drawn."""
    if audit.recorded:
        return None
    drawn = {prompt.group for prompt in audit.prompts if prompt.stratum == "random" and prompt.group}
    closest = audit.plan.certify.closest
    near = [counted(row, closest) <= closest for row in pictures if row.group in drawn]
    if not near:
        return None
    k, n = sum(near), len(near)
    low, high = clopper_pearson(k, n, LEVEL)
    return Rate("randomly drawn groups within tau", None, k, n, low, high, LEVEL, "Clopper-Pearson", None, None)


def _machine() -> str:
    gigabytes = psutil.virtual_memory().total / 2**30
    return f"{platform.machine()}, {psutil.cpu_count()} cores, {gigabytes:.0f} GiB, {platform.system()}"
