"""The search around claimed pictures: can they be made to come out, sooner than controls that are tried alike?"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from byrote.audit import Audit, Claim
from byrote.domain import Side
from byrote.errors import ByroteError, Incomplete, PlanError
from byrote.kernels.exact import holm
from byrote.kernels.stats import conformal_p
from byrote.models import held
from byrote.plan import CertifyPlan, LadderPlan
from byrote.rungs import HALVES, WAYS, Way
from byrote.stages import Desk, Failed, attempts
from byrote.stages.attempts import Attempt, Bench, Try
from byrote.stages.ladder import REWORDED, check_texts, climb
from byrote.stages.report.extraction import Extracted, Outcome, Searched, sentence
from byrote.store import Recipe

EVENT = "extraction"
NO_TEXT = "the model takes no text"
NO_CAPTION = "it has no caption"
UNCHANGED = "its captions stay as they are"
GONE = "its group touches both sides, or is no longer in the corpus"


@dataclass(frozen=True, slots=True)
class Sought:
    """Who is tried and how: every claim with its tries and the ways that are left out, and the controls' tries."""

    bench: Bench
    claims: Mapping[Claim, Sequence[Try]]
    left_out: Mapping[tuple[str, Way], str]
    controls: Sequence[Try]
    no_halves: str

    def lists(self) -> list[Sequence[Try]]:
        """Return the lists of tries, each a table of its own: so a further claim costs only its own."""
        return [some for some in (*self.claims.values(), self.controls) if some]

    def recipes(self) -> list[Recipe]:
        """Return their recipes."""
        return [attempts.recipe(self.bench, some) for some in self.lists()]


def search(desk: Desk, audit: Audit) -> Extracted:
    """Try everything that is not there yet, after sealing what will be tried. Raises ByroteError."""
    if not audit.claims():
        raise ByroteError(f"{audit.root}: no picture was claimed; `byrote claim {audit.root} IMAGE` names one")
    if held(audit.model) is not None:
        raise PlanError(f"{audit.root}: a {audit.model.name} holds its samples, so it cannot be asked for others")
    wanted = sought(audit, _no_halves(audit))
    content = _content(audit, wanted)
    if _sealed(audit, content) is None:
        audit.store.log(EVENT, {"digest": attempts.digest_of([content]), "content": content})
    desk.tell(_cost(audit, wanted))
    for some in wanted.lists():
        failed: list[Failed] = attempts.run(desk, wanted.bench, some)
        audit.failed += failed
        if failed:
            raise Incomplete(
                f"{audit.root}: {len(failed)} parts failed after retries: {failed[0].reason}; run it again"
            )
    found = extracted(audit)
    if found is None:
        raise RuntimeError("a search that was just made is not there")
    return found


def extracted(audit: Audit) -> Extracted | None:
    """Return what the search found, or None where none was made as the plan and the claims stand."""
    lines = _lines(audit)
    lines = [line for line in lines if line["content"]["model"] == audit.model.digest] if lines else []
    if not lines or not audit.claims():
        return None
    try:
        wanted = sought(audit, lines[-1]["content"]["no_halves"])
    except PlanError:  # a claim or a text was added since
        return None
    sealed = _sealed(audit, _content(audit, wanted))
    if sealed is None or not _whole(audit, wanted):
        return None
    rows = {made: audit.store.read_all(Attempt, made) for made in wanted.recipes()}
    theirs = rows[attempts.recipe(wanted.bench, wanted.controls)] if wanted.controls else []
    ours = {c.digest: rows[attempts.recipe(wanted.bench, some)] for c, some in wanted.claims.items() if some}
    outcomes = {claim: _outcomes(ours.get(claim.digest, []), theirs) for claim in wanted.claims}
    adjusted = _adjusted(outcomes, len({row.group for row in audit.groups if row.side == "picture"}))
    rule = audit.plan.certify
    return Extracted(
        pictures=[_searched(claim, some, wanted.left_out, rule) for claim, some in adjusted.items()],
        controls=len({each.digest for each in wanted.controls}),
        sealed=sealed["digest"],
        at=sealed["at"],
        searches=len({line["digest"] for line in lines}),
        evaluations=sum(row.evaluations for some in rows.values() for row in some),
        twin=wanted.bench.twin is not None,
        tau=rule.closest,
        alpha=rule.fdr,
        images={row.sample: row.image for some in ours.values() for row in some if row.image},
    )


def sought(audit: Audit, no_halves: str) -> Sought:
    """Say who is tried and how. `no_halves` is the reason why halves cannot be filled. Raises PlanError."""
    twin = audit.recipes.twin
    bench, book = Bench(audit.recipes.look, twin.look if twin else None), _Book(audit)
    there = {row.digest for row in audit.groups if row.side == "picture" and not row.set_aside}
    claims: dict[Claim, list[Try]] = {}
    left_out: dict[tuple[str, Way], str] = {}
    for claim in audit.claims():
        claims[claim] = []
        for way in book.ways:
            found = book.tried(claim.digest, "picture", way, no_halves) if claim.digest in there else GONE
            if isinstance(found, str):
                left_out[claim.digest, way] = found
            else:
                claims[claim].append(found)
    keys = list(dict.fromkeys(each.key for some in claims.values() for each in some))
    drawn = book.controls(worded=any(worded for _, worded in keys))
    tries = (book.tried(digest, "control", way, no_halves, worded=worded) for way, worded in keys for digest in drawn)
    controls = [each for each in tries if not isinstance(each, str)]
    asked = {text for digest in (*(claim.digest for claim in claims), *drawn) for text in book.captions(digest)}
    check_texts(audit.wanted.texts_file, sorted(asked), audit.wanted.texts)
    return Sought(bench, claims, left_out, controls, no_halves)


class _Book:
    """Finds the words of pictures, and draws controls."""

    def __init__(self, audit: Audit) -> None:
        self._audit, self._plan = audit, audit.plan
        self.ways: list[Way] = [way for way in WAYS if way in audit.plan.extract.ways]
        self._ladder = LadderPlan(rungs=REWORDED)
        self._captions: dict[str, list[str]] = defaultdict(list)
        for row in audit.corpus.pictures:
            self._captions[row.digest] += row.captions

    def captions(self, digest: str) -> list[str]:
        """Return the captions of a picture, each once, in an order drawn by seed."""
        said = set(self._captions[digest]) if self._audit.model.takes_text else set()
        return sorted(said, key=lambda caption: self._dice("caption", caption))

    def tried(self, digest: str, side: Side, way: Way, no_halves: str, *, worded: bool = True) -> Try | str:
        """Return how a picture is tried in a way, or why not. Not `worded` fills halves without its caption."""
        captions = self.captions(digest) if worded else []
        if way == "none":
            return Try(digest, side, way, ())
        if way in HALVES:
            return no_halves or Try(digest, side, way, tuple(captions[:1]))
        if not captions:
            return NO_CAPTION if self._audit.model.takes_text else NO_TEXT
        said = captions if way == "caption" else [self._reworded(caption, way) for caption in captions]
        texts = tuple(dict.fromkeys(text for text in said if text))
        return Try(digest, side, way, texts) if texts else UNCHANGED

    def controls(self, *, worded: bool) -> list[str]:
        """Draw one member of each of some control groups, of those with a caption where words are needed."""
        members: dict[str, list[str]] = defaultdict(list)
        for row in self._audit.groups:
            if row.side == "control" and not row.set_aside and (self.captions(row.digest) or not worded):
                members[row.group].append(row.digest)
        groups = sorted(members, key=lambda group: self._dice("control", group))[: self._plan.extract.controls]
        return [min(members[group], key=lambda digest: self._dice("member", digest)) for group in groups]

    def _reworded(self, caption: str, way: Way) -> str | None:
        said = climb(caption, self._ladder, self._audit.wanted.texts)
        return next((text for rung, text in said if rung == way), None)

    def _dice(self, what: str, about: str) -> str:
        return attempts.digest_of([self._plan.prompts.seed, "extract", what, about])


def _no_halves(audit: Audit) -> str:
    """Return why halves cannot be filled; nothing where they can, or none is wanted."""
    if not set(HALVES) & set(audit.plan.extract.ways):
        return ""
    twin = audit.recipes.twin
    return attempts.insides(Bench(audit.recipes.look, twin.look if twin else None))[1]


def _content(audit: Audit, wanted: Sought) -> dict[str, Any]:
    """Return everything that an answer rests on; the recipes of the attempts hold the rest of the plan."""
    plan = audit.plan
    return {
        "plan": {"extract": asdict(plan.extract), "fdr": plan.certify.fdr, "closest": plan.certify.closest},
        "model": audit.model.digest,
        "twin": audit.twin.digest if audit.twin else None,
        "corpus": audit.corpus.digest,
        "claims": [[claim.digest, claim.named] for claim in wanted.claims],
        "controls": attempts.digest_of(dict.fromkeys(each.digest for each in wanted.controls)),
        "attempts": [made.digest for made in wanted.recipes()],
        "no_halves": wanted.no_halves,
    }


def _sealed(audit: Audit, content: dict[str, Any]) -> dict[str, Any] | None:
    """Return the line of the ledger that seals a search, the first of equals."""
    digest = attempts.digest_of([content])
    return next((line for line in _lines(audit) if line["digest"] == digest), None)


def _lines(audit: Audit) -> list[dict[str, Any]]:
    return [line for line in audit.store.ledger() if line["event"] == EVENT]


def _whole(audit: Audit, wanted: Sought) -> bool:
    """Tell whether every part is there."""
    pairs = zip(wanted.lists(), wanted.recipes(), strict=True)
    return all(
        {part.name for part in attempts.parts(some, audit.plan)} <= set(audit.store.parts(made)) for some, made in pairs
    )


def _cost(audit: Audit, wanted: Sought) -> str:
    """Say what will be tried."""
    told, tries = audit.plan.extract, [each for some in wanted.lists() for each in some]
    fillings = sum(each.way in HALVES for each in tries) * told.reconstructions
    samples = sum(each.way not in (*HALVES, "none") for each in tries) * told.samples
    controls = len({each.digest for each in wanted.controls})
    halves = f" and {fillings:,} fillings of halves" if fillings else ""
    without = f"; no halves: {wanted.no_halves}" if wanted.no_halves else ""
    return (
        f"{len(wanted.claims):,} claimed and {controls:,} controls tried alike: {samples:,} samples by words"
        f"{halves}{without}"
    )


def _outcomes(rows: Sequence[Attempt], theirs: Sequence[Attempt]) -> list[Outcome]:
    """Rank each way of a picture among the controls of that way; the least contrived way comes first."""
    ordered = sorted(rows, key=lambda row: WAYS.index(row.way))
    return [_outcome(row, [each for each in theirs if each.key == row.key]) for row in ordered]


def _outcome(row: Attempt, theirs: Sequence[Attempt]) -> Outcome:
    controls = np.array([each.statistic for each in theirs if each.statistic is not None], np.float64)
    apart = np.array([_apart(each) for each in theirs if each.twin is not None], np.float64)
    p = twin_p = None
    if row.statistic is not None and len(controls):
        p = float(conformal_p(np.array([row.statistic]), controls)[0])
    if row.twin is not None and len(apart):
        twin_p = float(conformal_p(np.array([_apart(row)]), apart)[0])
    return Outcome(
        way=row.way,
        text=row.text,
        samples=row.samples,
        refused=row.refused,
        near=row.near,
        statistic=row.statistic,
        nearest=row.nearest,
        twin=row.twin,
        twin_nearest=row.twin_nearest,
        controls=len(controls),
        as_near=0 if row.statistic is None else int((controls <= row.statistic).sum()),
        p_value=p,
        adjusted=None,
        twin_p=twin_p,
        seed=row.seed,
        sample=row.sample,
    )


def _apart(row: Attempt) -> float:
    """Return by how much less the model misses a picture than its twin does, as a distance: below 0 it is nearer."""
    return (row.statistic or 0.0) - (row.twin or 0.0)


def _adjusted(found: Mapping[Claim, Sequence[Outcome]], groups: int) -> dict[Claim, list[Outcome]]:
    """Adjust p over all ways of all that were named in time; of one that was not, as if all groups had been tried."""
    named = iter(_holm([outcome for claim, some in found.items() if claim.named for outcome in some]))
    out = {}
    for claim, some in found.items():
        own = [next(named) for _ in some] if claim.named else [_late(p, groups) for p in _holm(some)]
        out[claim] = [replace(each, adjusted=p) for each, p in zip(some, own, strict=True)]
    return out


def _late(p: float | None, groups: int) -> float | None:
    return None if p is None else min(1.0, p * groups)


def _holm(outcomes: Sequence[Outcome]) -> list[float | None]:
    """Return Holm's p of each that has a p."""
    told = iter(holm(np.array([each.p_value for each in outcomes if each.p_value is not None], np.float64)).tolist())
    return [None if each.p_value is None else next(told) for each in outcomes]


def _searched(
    claim: Claim, some: Sequence[Outcome], left_out: Mapping[tuple[str, Way], str], rule: CertifyPlan
) -> Searched:
    told = [replace(each, out=_out(each, rule)) for each in some]
    why = {way: reason for (digest, way), reason in left_out.items() if digest == claim.digest}
    says = sentence(told, why, named=claim.named, tau=rule.closest, alpha=rule.fdr)
    return Searched(claim.digest, claim.at, claim.named, any(each.out for each in told), says, told, why)


def _out(each: Outcome, rule: CertifyPlan) -> bool:
    """Tell whether a picture came out: nearer than controls, within tau, and not the twin's too."""
    sure = each.adjusted is not None and each.adjusted <= rule.fdr
    near = each.nearest is not None and each.nearest <= rule.closest
    return sure and near and not (each.twin_nearest is not None and each.twin_nearest <= rule.closest)
