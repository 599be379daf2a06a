"""Gather what the tables of an audit hold into the evidence that a report says."""

import platform
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from math import inf

import numpy as np
import psutil

from byrote import images
from byrote.audit import Audit
from byrote.domain import RGB, Family, Finding, Group, Match, Picture, Rate, Sample
from byrote.kernels.stats import clopper_pearson
from byrote.stages import report
from byrote.stages.certify import LEVEL, rates, statistic
from byrote.store import versions

MOST_OTHERS = 1_000
NEAREST_CONTROLS = 12


def gather(audit: Audit) -> report.Evidence:
    """Put together the evidence of an audit whose stages are done, `certify` included."""
    certified = audit.certified()
    rows = certified.findings
    pictures = [row for row in rows if row.side == "picture"]
    others = {row.group for row in [row for row in pictures if not row.certified][:MOST_OTHERS]}
    findings = [row for row in pictures if row.certified or row.group in others]
    controls = [row for row in rows if row.side == "control" and row.statistic is not None][:NEAREST_CONTROLS]
    show = _Show(audit, [*findings, *controls])
    rule = audit.plan.certify
    return report.Evidence(
        model=report.ModelFacts(audit.plan.model.uri, audit.model.name, audit.model.digest),
        corpus=_corpus(audit),
        plan=audit.plan.as_dict(),
        tests=certified.tests,
        findings=[show(row) for row in findings],
        controls=report.Controls(certified.controls_n, certified.controls_certified),
        nearest_controls=[show(row) for row in controls],
        statistics=_statistics(rows),
        rates=rates(rows, fdr=rule.fdr, closest=rule.closest),
        cost=_cost(audit),
        skipped=list(_skipped(audit)),
        calibrated=_calibrated(audit, rows),
        tau=rule.closest,
        fdr=rule.fdr,
        picture_image=audit.corpus.pixels,
        sample_image=show.sample,
        sealed=_seals(audit)[1],
        audits=_seals(audit)[0],
        warnings=_warnings(audit),
        versions=versions(),
        machine=_machine(),
        drawn=_drawn(audit, pictures),
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
        for match in audit.matches():
            if match.group in groups:
                self._matches[match.group].append(match)
        self._wanted = {m.sample for found in self._matches.values() for m in found[:1]} | {
            row.sample for row in rows if row.sample
        }
        self._samples: dict[str, bytes] | None = None

    def __call__(self, row: Finding) -> report.Shown:
        """Return what a reader needs to judge a finding."""
        rows = self._pictures[row.side, row.digest]
        captions = [picture.caption for picture in rows if picture.caption is not None]
        near = sorted(self._matches[row.group], key=statistic)
        within = [m for m in near if statistic(m) <= self._audit.plan.certify.closest] or near[:1]
        return report.Shown(
            finding=row,
            where=tuple(picture.where for picture in rows),
            caption=captions[0] if captions else None,
            prompt=None if row.prompt is None else self._prompts[row.prompt],
            samples=tuple(dict.fromkeys((m.seed, m.sample) for m in within)),
        )

    def sample(self, digest: str) -> RGB | None:
        """Return the pixels of a sample, or None where it is gone."""
        if self._samples is None:
            store, made = self._audit.store, self._audit.recipes.samples
            kept = (row for part in store.parts(made) for row in store.read(Sample, made, part))
            self._samples = {row.digest: row.image for row in kept if row.digest in self._wanted}
        data = self._samples.get(digest)
        return None if data is None else images.decode(data)


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


def _statistics(rows: Iterable[Finding]) -> dict[Family, report.Statistics]:
    values: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in rows:
        values[row.family, row.side].append(inf if row.statistic is None else row.statistic)
    families: tuple[Family, ...] = ("asked", "unasked")
    return {f: report.Statistics(np.array(values[f, "picture"]), np.array(values[f, "control"])) for f in families}


def _cost(audit: Audit) -> report.Cost:
    samples = sum(part.items for part in audit.parts())
    return report.Cost(samples * audit.model.evaluations_per_sample, samples, round(audit.seconds(), 1))


def _calibrated(audit: Audit, rows: Iterable[Finding]) -> bool:
    """Tell whether p-values mean what they say: there are controls, and the seal came before the first sample."""
    return audit.sealed_before_sampling and any(row.p_value is not None for row in rows)


def _skipped(audit: Audit) -> Iterator[report.Skipped]:
    corpus = audit.corpus
    for reason, n in sorted(Counter(row.reason for row in corpus.unreadable).items()):
        yield report.Skipped("unreadable files", reason, n)
    silent = sum(picture.caption is None for picture in corpus.pictures)
    if silent:
        yield report.Skipped("pictures without a caption", "tested, but not asked for", silent)
    for side, what in (("picture", "groups of pictures"), ("control", "groups of controls")):
        aside = sum(row.set_aside for row in _one_a_group(audit, side))
        if aside:
            yield report.Skipped(what, "set aside: near-duplicates on both sides", aside)
    gone, notes = audit.listed_again()
    for reason, n in sorted(Counter(note.reason for note in notes).items()):
        yield report.Skipped("captions or folders that were passed over", reason, n)
    cut = sum(not row.largest for row in audit.cliques())
    if cut:
        yield report.Skipped("largest cliques", "the time cap struck; whether there is one is exact all the same", cut)
    if gone:
        yield report.Skipped("pictures", "gone or changed since they were indexed: no pixels to compare", gone)


def _seals(audit: Audit) -> tuple[list[report.Seal], report.Seal | None]:
    seals = [report.Seal(seal.digest, seal.at, seal.before_sampling) for seal in audit.seals()]
    mine = audit.seal
    return seals, next((seal for seal in seals if mine is not None and seal.digest == mine.digest), None)


def _warnings(audit: Audit) -> list[str]:
    warnings = []
    if not audit.sealed_before_sampling:
        warnings.append(
            "The plan was changed after samples of this audit had been made, so its p-values assume what is not so and "
            "nothing is certified. Set another [prompts] seed for a new audit."
        )
    if not audit.model.takes_text:
        warnings.append("The model takes no text: nobody was asked for, and all pictures were searched for.")
    return warnings


def _drawn(audit: Audit, pictures: Iterable[Finding]) -> Rate | None:
    drawn = {prompt.group for prompt in audit.prompts if prompt.stratum == "random" and prompt.group}
    near = [
        row.statistic is not None and row.statistic <= audit.plan.certify.closest
        for row in pictures
        if row.group in drawn
    ]
    if not near:
        return None
    k, n = sum(near), len(near)
    low, high = clopper_pearson(k, n, LEVEL)
    return Rate("randomly drawn groups within tau", None, k, n, low, high, LEVEL, "Clopper-Pearson", None, None)


def _machine() -> str:
    gigabytes = psutil.virtual_memory().total / 2**30
    return f"{platform.machine()}, {psutil.cpu_count()} cores, {gigabytes:.0f} GiB, {platform.system()}"
