"""Everything that a report says, and what of it report.json holds."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from byrote.domain import RGB, Family, Finding, Rate, Side
from byrote.kernels.align import IDENTITY, Alignment
from byrote.kernels.matching import Separation
from byrote.kernels.rates import samples_to_first
from byrote.stages.certify import FAMILIES, LEVEL, AtAll, Balance, Test
from byrote.stages.claims import Judged
from byrote.stages.report.extraction import Extracted
from byrote.stages.report.inside import Inside

SCHEMA_VERSION = 1


Json = dict[str, Any]


Reals = NDArray[np.float64]


Look = Callable[[str], RGB | None]


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """The model that was audited.

    `left_out` names what stands around it and was left out, like a safety checker, `over` what was laid over it.
    """

    uri: str
    name: str
    digest: str
    left_out: tuple[str, ...] = ()
    over: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CorpusFacts:
    """The corpus in numbers: rows of pictures, groups of pictures, files that are unreadable, rows of controls."""

    digest: str
    pictures: int
    groups: int
    unreadable: int
    controls: int
    controls_set_aside: int


@dataclass(frozen=True, slots=True)
class Shown:
    """A finding with what a reader needs to judge it. `samples` are (seed, digest), nearest first.

    A redacted one has no seeds: they are digests of what was asked. `move` is how the picture came onto the sample.
    """

    finding: Finding
    where: tuple[str, ...]
    caption: str | None
    prompt: str | None
    samples: tuple[tuple[int | None, str], ...]
    move: Alignment = IDENTITY


@dataclass(frozen=True, slots=True)
class Controls:
    """How many controls were tested, and how many would be certified, were each in turn one more picture."""

    n: int
    certified: int


@dataclass(frozen=True, slots=True)
class Statistics:
    """T of everything tested in a family; +inf where nothing came near or the filter let nothing pass."""

    pictures: Reals
    controls: Reals


@dataclass(frozen=True, slots=True)
class Cost:
    """What the audit took; `seconds` of work, summed over all runs."""

    denoiser_evaluations: int
    samples: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Skipped:
    """Things of one kind that were left out for one reason. Neither text may name a picture: it is always shown."""

    what: str
    reason: str
    n: int


@dataclass(frozen=True, slots=True)
class Seal:
    """The digest of plan, controls, seeds, T, tau and alpha; `when` in ISO 8601.

    `alike` tells whether model and corpus are those of this audit, `elsewhere` whether another folder made it.
    """

    digest: str
    when: str
    before_sampling: bool
    seed: int = 0
    closest: float = 0.0
    alike: bool = True
    elsewhere: bool = False


@dataclass(frozen=True, slots=True)
class RoundTrips:
    """Median RMS errors of the model's autoencoder on drawn pictures and controls, and the p of their difference.

    Two-sided Mann-Whitney. `n_pictures` and `n_controls` were drawn.
    """

    pictures: float
    n_pictures: int
    controls: float
    n_controls: int
    p_value: float


@dataclass(frozen=True, slots=True)
class Tau:
    """Where the largest distance that is called a reproduction comes from.

    `share` of the `pictures` of a second held-out draw come nearer to the corpus; null where tau is a preset.
    """

    closest: float
    source: str
    share: float | None = None
    pictures: int | None = None


@dataclass(frozen=True, slots=True)
class Discovery:
    """What would come back in how many `samples` of a caption; beyond `made` samples it is extrapolated.

    `found` is the mean chance over the asked pictures that at least one sample is within tau, `controls` the same of
    controls. `half` and `most` are the shares of pictures that come back with a chance of at least .5 and .9
    ((n, p)-discoverable), with the ends that exact intervals of each picture's own rate allow.
    """

    made: int
    samples: tuple[int, ...]
    found: tuple[float, ...]
    controls: tuple[float, ...] | None
    half: tuple[tuple[float, float, float], ...]
    most: tuple[tuple[float, float, float], ...]


@dataclass(frozen=True, slots=True)
class Unseen:
    """How many more pictures would come back with ever more samples: extrapolations, not bounds.

    `seen` pictures were within tau; Chao1 puts all that would ever be at `chao1` (interval `low` to `high`, log-normal,
    approximate); `mass` is the Good-Turing share of copies that would be of pictures not seen yet.
    """

    seen: int
    chao1: float
    low: float
    high: float
    mass: float


@dataclass(frozen=True, slots=True)
class Step:
    """A step of the way from all pictures to those that are confirmed; counts by side, null where it has none."""

    name: str
    pictures: int | None
    controls: int | None


@dataclass(frozen=True, slots=True)
class Screening:
    """How prompts were screened, what that cost, and what it may have missed.

    `prompts`, `kept` and `spared` are by side. `pilot` is the rank correlation of the score with the agreement of cheap
    samples and its interval; `used` tells whether the score was. `evaluations` are the denoiser's for screen and
    samples together, `exhaustive` those of all samples for all prompts. Of the pictures' prompts that were kept `found`
    brought their own picture within tau, of those that were spared `missed`; `recall` is the share of what all samples
    bring that was kept, estimated by these (Horvitz-Thompson), with its interval: null where nothing came.
    """

    search: int
    score: str
    pilot: tuple[float, float, float, int] | None
    used: bool
    prompts: Mapping[Side, int]
    kept: Mapping[Side, int]
    spared: Mapping[Side, int]
    evaluations: int
    exhaustive: int
    found: int
    missed: int
    recall: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that a report says, already computed.

    `findings` are pictures only, nearest first: all that are certified and at most 1,000 others. `nearest_controls`
    are the nearest controls, for comparison. `drawn` is the share of the random draw with T at most `tau`: it speaks
    for the groups that were not asked. `audits` are all seals that the folder knows, `sealed` the one of this audit.
    `picture_image` and `sample_image` return the pixels of a digest, or None where they are gone.
    """

    model: ModelFacts
    corpus: CorpusFacts
    plan: Mapping[str, Any]
    tests: Mapping[Family, Test]
    findings: Sequence[Shown]
    controls: Controls
    nearest_controls: Sequence[Shown]
    statistics: Mapping[Family, Statistics]
    rates: Sequence[Rate]
    cost: Cost
    skipped: Sequence[Skipped]
    calibrated: bool
    tau: float
    fdr: float
    picture_image: Look = field(repr=False)
    sample_image: Look = field(repr=False)
    sealed: Seal | None = None
    audits: Sequence[Seal] = ()
    warnings: Sequence[str] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    machine: str = ""
    drawn: Rate | None = None
    twin: ModelFacts | None = None
    provenance: Tau | None = None
    at_all: AtAll | None = None
    balance: Sequence[Balance] = ()
    apart: Separation | None = None
    round_trips: RoundTrips | None = None
    claims: Sequence[Judged] = ()
    discovery: Discovery | None = None
    unseen: Unseen | None = None
    redacted: bool = False
    canaries: Mapping[str, Any] | None = None
    review: Mapping[str, Any] | None = None
    screening: Screening | None = None
    funnel: Sequence[Step] = ()
    inside: Inside | None = None
    extraction: Extracted | None = None

    @property
    def searched(self) -> bool:
        """Tell whether nobody was asked for, so that all pictures were searched for among all samples."""
        asked, unasked = (self.tests[family].m if family in self.tests else 0 for family in ("asked", "unasked"))
        return not asked and unasked > 0

    @property
    def family(self) -> Family:
        """Return the family that the answer is about."""
        return "unasked" if self.searched else "asked"

    def said(self, rate: str) -> str:
        """Return a rate's name as the page says it: where nobody was asked, nobody is called unasked."""
        return rate.removeprefix("unasked ") if self.searched else rate

    def certified(self, family: Family) -> int:
        """Count the certified findings of a family."""
        return sum(shown.finding.certified for shown in self.findings if shown.finding.family == family)


def as_json(evidence: Evidence) -> Json:
    """Return what report.json holds: JSON types only, null where a number was not computed."""
    e = evidence
    told = {
        "schema_version": SCHEMA_VERSION,
        "calibrated": e.calibrated,
        "model": {"uri": e.model.uri, "digest": e.model.digest, "left_out": list(e.model.left_out)},
        "corpus": asdict(e.corpus),
        "plan": e.plan,
        "tests": {family: asdict(e.tests[family]) if family in e.tests else None for family in FAMILIES},
        "findings": [_finding(shown) for shown in e.findings],
        "controls": asdict(e.controls),
        "rates": [asdict(rate) for rate in e.rates],
        "cost": asdict(e.cost),
        "skipped": [asdict(skipped) for skipped in e.skipped],
        "byrote": {**e.versions, "machine": e.machine or e.versions.get("machine", "")},
        "sealed": None if e.sealed is None else asdict(e.sealed),
        "audits": [asdict(seal) for seal in e.audits],
        "warnings": list(e.warnings),
        "redacted": e.redacted,
        "twin": None if e.twin is None else {"uri": e.twin.uri, "digest": e.twin.digest},
        "tau": _object(e.provenance),
        "at_all": _object(e.at_all),
        "balance": [asdict(each) for each in e.balance],
        "apart": _object(e.apart),
        "round_trips": _object(e.round_trips),
        "claims": [asdict(claim) for claim in e.claims],
        "discovery": _object(e.discovery),
        "unseen": _object(e.unseen),
        "canaries": e.canaries,
        "review": e.review,
        "inside": None if e.inside is None else e.inside.as_json(),
        "funnel": [asdict(step) for step in e.funnel],
        "extraction": None if e.extraction is None else e.extraction.as_json(),
        "screening": None if e.screening is None else asdict(e.screening),
    }
    read: Json = plain(told)
    return read


def plain(value: Any) -> Any:
    """Turn a tree into what JSON can hold: numbers that are no number become null."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)


def _finding(shown: Shown) -> Json:
    f = shown.finding
    return {
        "picture": {"digest": f.digest, "where": list(shown.where), "caption": shown.caption, "copies": f.copies},
        "prompt": shown.prompt,
        "samples": [{"seed": seed, "digest": digest} for seed, digest in shown.samples],
        "distances": {"rms": f.rms, "tiled": f.tiled, "ratio": f.ratio, "round_trip": f.round_trip, "masked": f.masked},
        "p_value": f.p_value,
        "q_value": f.q_value,
        "certified": f.certified,
        "basis": f.basis,
        "family": f.family,
        "group": f.group,
        "matched_p": f.matched_p,
        "sensitivity": f.sensitivity,
        "twin": {"statistic": f.twin, "p_value": f.twin_p},
        "way": _way(f),
    }


def _way(f: Finding) -> Json | None:
    """Return the least contrived rung and the samples that it takes to the first copy."""
    if f.rung is None or f.rung_hits is None:
        return None
    unit = "prompts" if f.rung == "users" else "samples"
    told: Json = {"rung": f.rung, "hits": f.rung_hits, "samples": f.rung_samples, "unit": unit, "to_first": None}
    if f.rung_samples and f.rung_hits:
        expected, low, high = samples_to_first(f.rung_hits, f.rung_samples, LEVEL)
        told["to_first"] = {"expected": expected, "low": low, "high": high, "level": LEVEL}
    return told


def _object(record: Any) -> Json | None:
    return None if record is None else asdict(record)
