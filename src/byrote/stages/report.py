"""Write an audit down: report.json for machines, report.html for a reader who looks.

Nothing is computed here but intervals and curves of numbers that are already there. Distances and the statistic T are
those of `byrote.domain`; docs/report.md says what each field means. A page that is not revealed holds no picture,
caption, prompt or path of the corpus: of each image 4 x 4 colours at most.
"""

import json
import math
import unicodedata
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from byrote import images
from byrote.domain import RGB, Family, Finding, Rate
from byrote.errors import StoreError
from byrote.kernels import stats
from byrote.stages.certify import FAMILIES, Test
from byrote.store import replace_file

SCHEMA_VERSION = 1
SHOWN = 200
CONTROLS_SHOWN = 6
TEXT = 280
LINE = 2000
BLUR = 4
SMALL = 192
LARGE = 512

Json = dict[str, Any]
Reals = NDArray[np.float64]
Look = Callable[[str], RGB | None]


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """The model that was audited."""

    uri: str
    name: str
    digest: str


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
    """A finding with what a reader needs to judge it. `samples` are (seed, digest), nearest first."""

    finding: Finding
    where: tuple[str, ...]
    caption: str | None
    prompt: str | None
    samples: tuple[tuple[int, str], ...]


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
    """The digest of plan, controls, seeds, T, tau and alpha; `when` in ISO 8601."""

    digest: str
    when: str
    before_sampling: bool


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


def write(folder: Path, evidence: Evidence, *, reveal: bool) -> None:
    """Write report.json and report.html, and revealed.html where asked, each whole or not at all. Raises StoreError."""
    pages = {"report.json": _dump(as_json(evidence)), "report.html": as_html(evidence, reveal=False)}
    if reveal:
        pages["revealed.html"] = as_html(evidence, reveal=True)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in pages.items():
            replace_file(folder / name, text.encode())
        if not reveal:
            (folder / "revealed.html").unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"{folder}: cannot write the report: {error.strerror or error}") from error


def as_json(evidence: Evidence) -> Json:
    """Return what report.json holds: JSON types only, null where a number was not computed."""
    e = evidence
    told = {
        "schema_version": SCHEMA_VERSION,
        "calibrated": e.calibrated,
        "model": {"uri": e.model.uri, "digest": e.model.digest},
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
    }
    plain: Json = _plain(told)
    return plain


def as_html(evidence: Evidence, *, reveal: bool) -> str:
    """Return one page that needs no other file, no network and no script."""
    shown = _gallery(evidence.findings)
    cards = [(one.finding.certified, _card(evidence, one, place, reveal)) for place, one in shown]
    beside = list(enumerate(evidence.nearest_controls[:CONTROLS_SHOWN], 1))
    return _template().render(
        e=evidence,
        reveal=reveal,
        blur=BLUR,
        answer=_answer(evidence),
        tiles=_tiles(evidence),
        caveats=_caveats(evidence),
        certified=[card for certified, card in cards if certified],
        others=[card for certified, card in cards if not certified],
        left_out=len(evidence.findings) - len(shown),
        controls=[_card(evidence, one, place, reveal) for place, one in beside],
        families=[(family, evidence.tests[family]) for family in FAMILIES if family in evidence.tests],
        rates=_by_name(evidence.rates),
        curves=_curves(evidence),
        plan=_toml(evidence.plan),
        seeds=evidence.plan.get("generate", {}).get("seeds"),
    )


def _gallery(findings: Sequence[Shown]) -> list[tuple[int, Shown]]:
    """Choose whom the page has room for: certified before others, each with its place in the whole list, from 1."""
    order = sorted(enumerate(findings, 1), key=lambda placed: not placed[1].finding.certified)
    return order[:SHOWN]


def _answer(e: Evidence) -> str:
    """Say in a sentence what was found, and no more than that."""
    family, m = _main(e)
    tested = f"{_count(m, 'picture')} {'asked for' if family == 'asked' else 'tested'}"
    certified, unasked = _certified(e, family), _certified(e, "unasked") if family == "asked" else 0
    if not e.calibrated:
        return (
            f"Uncalibrated: {_uncalibrated(e)}. Of {tested}, {_or_none(_near(e))} came back within the distance "
            f"\u03c4 = {e.tau:g}, which alone says nothing of training."
        )
    if certified + unasked == 0:
        return f"None of {tested} is certified as reproduced{_bound(e)}."
    also = f"; so {_are(unasked)} {unasked:,} not asked for" if unasked else ""
    controls = f"{_count(e.controls.n, 'control')}, never trained on"
    return (
        f"{_or_none(certified).capitalize()} of {tested} {_are(certified)} certified as reproduced{also}; "
        f"of {controls}, the same rule certifies {_or_none(e.controls.certified)}."
    )


def _uncalibrated(e: Evidence) -> str:
    if e.controls.n:
        return "the plan was not sealed before the first sample, so nothing can be certified"
    return "without controls nothing can be certified"


def _main(e: Evidence) -> tuple[Family, int]:
    """Return the family that the answer is about, and its size: a model without text has nobody asked for."""
    asked, unasked = (e.tests[family].m if family in e.tests else 0 for family in FAMILIES)
    return ("asked", asked) if asked or not unasked else ("unasked", unasked)


def _bound(e: Evidence) -> str:
    """Bound what the random draw leaves open; a draw of the most-copied bounds nothing."""
    if e.drawn is None or e.drawn.n == 0:
        return ""
    d = e.drawn
    return (
        f"; {d.k:,} of {d.n:,} drawn at random came back within \u03c4, so at most {_percent(d.high)} "
        f"({_percent(d.level)} interval) of the pictures like them do, at as many samples each"
    )


def _caveats(e: Evidence) -> list[str]:
    """List what a reader must know before believing the answer: what is unsure comes before what is found."""
    said = list(e.warnings)
    if e.calibrated and not any(shown.finding.certified for shown in e.findings):
        said += _weakness(e)
    if (e.calibrated or not e.controls.n) and not (e.sealed and e.sealed.before_sampling):
        said.append(
            "The plan was not sealed before the first sample: thresholds may have been chosen after seeing results."
        )
    if e.controls.certified:
        said.append(
            f"{_count(e.controls.certified, 'control')} of {e.controls.n:,}, never trained on, would be certified by "
            "the same rule: a finding can come about without training."
        )
    return said


def _weakness(e: Evidence) -> list[str]:
    """Say what could have gone unseen; `Test` says what its `k_needed` promises."""
    test = e.tests.get(_main(e)[0])
    if test is None or test.k_needed is None:
        return []
    least = stats.findings_needed(test.m, test.n_controls, 0, e.fdr)
    if least > test.m:
        return ["This audit could not have certified anything: it has too few controls for the pictures that it tests."]
    if test.k_needed == 1:
        return []
    few = f"fewer than {least:,} could not have been certified at all; " if least > 1 else ""
    many = f"{test.k_needed:,} or more always" if test.k_needed <= test.m else "none with certainty"
    return [f"Of the pictures within \u03c4, {few}{many} would have been. More controls would lower that."]


def _tiles(e: Evidence) -> list[tuple[str, str]]:
    """Return the numbers that the answer rests on, each with its words."""
    family, m = _main(e)
    leaning = sum(s.finding.certified and s.finding.basis != "exact" for s in e.findings)
    tested = "asked pictures" if family == "asked" else "pictures"
    told = [(f"{_certified(e, family):,} / {m:,}", f"{tested} certified")]
    if leaning:
        told.append((f"{leaning:,}", "certified findings that rest on an assumption"))
    if e.controls.n:
        told.append(
            (f"{e.controls.certified:,} / {e.controls.n:,}", "controls, never trained on, certified by that rule")
        )
    told.append((f"{_near(e):,}", f"{tested} within \u03c4 = {e.tau:g}, whatever the controls say"))
    if e.calibrated and family in e.tests:
        told.append(
            (_whole(e.tests[family].k_needed), "pictures within \u03c4 from which on all of them are certified")
        )
    return told


def _certified(e: Evidence, family: Family) -> int:
    return sum(shown.finding.certified for shown in e.findings if shown.finding.family == family)


def _near(e: Evidence) -> int:
    family, _ = _main(e)
    return int((e.statistics[family].pictures <= e.tau).sum()) if family in e.statistics else 0


@dataclass(frozen=True, slots=True)
class Frame:
    """An image of the page: a data URI, the percentages of a square that it fills, and whether pixels stay visible."""

    src: Markup
    width: float
    height: float
    crisp: bool


@dataclass(frozen=True, slots=True)
class Card:
    """A finding as the page shows it; texts that are hidden are already gone."""

    place: int
    kind: str
    badge: str
    picture: Frame | None
    sample: Frame | None
    caption: str
    prompt: str
    where: str
    family: str
    facts: list[tuple[str, str]]
    seed: str
    others: int
    picture_digest: str
    sample_digest: str


def _card(e: Evidence, shown: Shown, place: int, reveal: bool) -> Card:
    f = shown.finding
    kind, badge = _badge(f)
    return Card(
        place=place,
        kind=kind,
        badge=badge,
        picture=_frame(e.picture_image(f.digest), reveal),
        sample=None if f.sample is None else _frame(e.sample_image(f.sample), reveal),
        caption=_private(shown.caption, "no caption", reveal),
        prompt=_private(shown.prompt, "no text", reveal),
        where=_private(_places(shown.where), "unknown", reveal),
        family="its own caption was asked" if f.family == "asked" else "its own caption was not asked",
        facts=_facts(f, e.tau),
        seed=next((str(seed) for seed, digest in shown.samples if digest == f.sample), "\u2014"),
        others=max(0, len(shown.samples) - 1),
        picture_digest=_short(f.digest),
        sample_digest=_short(f.sample) if f.sample else "\u2014",
    )


def _badge(f: Finding) -> tuple[str, str]:
    if f.side == "control":
        return "control", "control: never trained on"
    if not f.certified:
        return "open", "not certified"
    return ("exact", "certified: exact") if f.basis == "exact" else ("leaning", "certified: assumption-based")


def _facts(f: Finding, tau: float) -> list[tuple[str, str]]:
    within = "" if f.statistic is None else (" \u2264 \u03c4" if f.statistic <= tau else " > \u03c4")
    return [
        ("T", _distance(f.statistic) + within),
        ("tiled", _distance(f.tiled)),
        ("RMS", _distance(f.rms)),
        ("round trip", _distance(f.round_trip)),
        ("ratio", _distance(f.ratio)),
        ("copies", f"{f.copies:,}"),
        ("p", _chance(f.p_value)),
        ("q", _chance(f.q_value)),
    ]


def _frame(image: RGB | None, reveal: bool) -> Frame | None:
    if image is None:
        return None
    longest = max(image.shape[:2])
    height, width = (round(100 * side / longest, 2) for side in image.shape[:2])
    return Frame(_uri(image if reveal else blurred(image)), width, height, crisp=reveal and longest <= SMALL)


def _uri(image: RGB) -> Markup:
    """Keep every pixel of a small image; show a large one at no more than 512 pixels, as a JPEG."""
    small = max(image.shape[:2]) <= SMALL
    kind, data = ("png", images.encode_png(image)) if small else ("jpeg", images.preview(image, LARGE))
    return Markup(f"data:image/{kind};base64,{b64encode(data).decode()}")


def blurred(image: RGB) -> RGB:
    """Average an image down to at most 4 x 4 colours: our number; nobody measured what can still be told from them."""
    height, width = image.shape[:2]
    return images.resize(image, min(BLUR, width), min(BLUR, height))


def _private(text: str | None, missing: str, reveal: bool) -> str:
    return missing if text is None else (clean(text) if reveal else "hidden")


def _places(where: Sequence[str]) -> str | None:
    if not where:
        return None
    return where[0] + (f" and {len(where) - 1:,} more" if len(where) > 1 else "")


@dataclass(frozen=True, slots=True)
class RateRow:
    """A rate beside its control twin, with places along a bar of 0 to 100."""

    rate: Rate
    share: str
    interval: str
    control_share: str
    control_interval: str
    bar: tuple[float, float, float]
    control_bar: tuple[float, float, float] | None


def _by_name(rates: Sequence[Rate]) -> dict[str, list[RateRow]]:
    return {name: [_rate_row(r) for r in rates if r.name == name] for name in dict.fromkeys(r.name for r in rates)}


def _rate_row(r: Rate) -> RateRow:
    twin = _twin(r)
    return RateRow(
        rate=r,
        share=_share(r.k, r.n),
        interval=_interval(r.low, r.high),
        control_share="\u2014" if r.controls_k is None else _share(r.controls_k, r.controls_n or 0),
        control_interval="\u2014" if twin is None else _interval(twin[0], twin[1]),
        bar=_bar(r.k, r.n, r.low, r.high),
        control_bar=None if twin is None else _bar(r.controls_k or 0, r.controls_n or 0, *twin),
    )


def _twin(r: Rate) -> tuple[float, float] | None:
    """Return the exact interval of the control twin."""
    if r.controls_k is None or not r.controls_n:
        return None
    return stats.clopper_pearson(r.controls_k, r.controls_n, r.level)


def _bar(k: int, n: int, low: float, high: float) -> tuple[float, float, float]:
    return round(100 * low, 2), round(100 * k / n if n else 0.0, 2), round(100 * high, 2)


@dataclass(frozen=True, slots=True)
class Axis:
    """Where the ticks of an axis are, in pixels, and what they say."""

    ticks: list[tuple[float, str]]


@dataclass(frozen=True, slots=True)
class Histogram:
    """Bars of T: pictures above the line, controls below; (x, y, width, height) in pixels."""

    pictures: list[tuple[float, float, float, float]]
    controls: list[tuple[float, float, float, float]]
    x: Axis
    up: Axis
    down: Axis
    tau: float
    far_pictures: int
    far_controls: int


@dataclass(frozen=True, slots=True)
class Precision:
    """The estimated precision along the rank, as an SVG path, and the rank (in pixels) up to which it is certified."""

    path: str
    x: Axis
    y: Axis
    ranks: int
    certified: int
    certified_x: float | None
    at_certified: str


@dataclass(frozen=True, slots=True)
class Curves:
    """The two figures of a family; None where there is nothing to draw."""

    family: Family
    statistics: Statistics
    histogram: Histogram | None
    precision: Precision | None


WIDTH, HEIGHT, BINS, RANKS = 480.0, 200.0, 48, 1000


def _curves(e: Evidence) -> list[Curves]:
    """Draw each family that has statistics."""
    found = [(family, e.statistics[family]) for family in FAMILIES if family in e.statistics]
    return [Curves(f, s, _histogram(s, e.tau), _precision(e, f, s)) for f, s in found if len(s.pictures)]


def _histogram(s: Statistics, tau: float) -> Histogram | None:
    near, near_controls = s.pictures[np.isfinite(s.pictures)], s.controls[np.isfinite(s.controls)]
    if len(near) + len(near_controls) == 0:
        return None
    end = 1.05 * float(np.concatenate([near, near_controls, [tau]]).max()) or 1.0
    above = _shares(near, len(s.pictures), end)
    below = _shares(near_controls, len(s.controls), end)
    top = max(above.max(), below.max())
    middle = HEIGHT / 2
    return Histogram(
        pictures=_bars(above / top, lambda h: middle - h),
        controls=_bars(below / top, lambda h: middle),
        x=Axis([(WIDTH * t / end, f"{t:g}") for t in _ticks(end)]),
        up=Axis([(middle - middle * t / top, _percent(t)) for t in _ticks(top, 2)]),
        down=Axis([(middle + middle * t / top, _percent(t)) for t in _ticks(top, 2) if t]),
        tau=WIDTH * tau / end,
        far_pictures=len(s.pictures) - len(near),
        far_controls=len(s.controls) - len(near_controls),
    )


def _shares(values: Reals, n: int, end: float) -> Reals:
    counts, _ = np.histogram(values, BINS, (0.0, end))
    return np.asarray(counts / max(n, 1), np.float64)


def _bars(heights: Reals, top: Callable[[float], float]) -> list[tuple[float, float, float, float]]:
    step = WIDTH / BINS
    tall = [(k, float(share) * HEIGHT / 2) for k, share in enumerate(heights) if share > 0]
    return [(round(k * step + 0.5, 2), round(top(h), 2), round(step - 1, 2), round(h, 2)) for k, h in tall]


def _precision(e: Evidence, family: Family, s: Statistics) -> Precision | None:
    """Estimate along the rank which share owes it to training (decoys: the controls); finite T only."""
    ordered = np.sort(s.pictures)
    ranks = min(int(np.isfinite(ordered).sum()), RANKS)
    if len(s.controls) == 0 or ranks < 2:
        return None
    estimate = stats.decoy_precision(ordered, s.controls)[:ranks]
    certified = min(_certified(e, family), ranks)
    place = WIDTH / ranks
    return Precision(
        path=_steps(estimate, place),
        x=Axis([(place * (t or 1) - place / 2, f"{t or 1:g}") for t in _ticks(ranks)]),
        y=Axis([(HEIGHT * (1 - t / 100), f"{t} %") for t in (0, 25, 50, 75, 100)]),
        ranks=ranks,
        certified=certified,
        certified_x=place * certified if certified else None,
        at_certified=_percent(float(estimate[certified - 1])) if certified else "",
    )


def _steps(shares: Reals, place: float) -> str:
    """Write steps of equal width as an SVG path, flat stretches merged."""
    path = [f"M0 {HEIGHT * (1 - shares[0]):.1f}"]
    for k in range(1, len(shares)):
        if shares[k] != shares[k - 1]:
            path.append(f"H{k * place:.1f}V{HEIGHT * (1 - shares[k]):.1f}")
    return "".join(path) + f"H{len(shares) * place:.1f}"


def _ticks(end: float, about: int = 6) -> list[float]:
    """Return round numbers from 0 to `end`, in steps of 1, 2 or 5 times a power of ten."""
    rough = end / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * f for f in (1, 2, 5, 10) if power * f >= rough * 0.999)
    return [round(k * step, 10) for k in range(int(end / step + 1e-9) + 1)]


def clean(text: str, longest: int = TEXT) -> str:
    """Make a text of unknown origin safe to look at: one line, cut, nothing invisible or that turns text around.

    Joiners stay, since scripts and emoji need them. Everything else of the categories C* becomes U+FFFD.
    """
    cut = text[:longest]
    shown = "".join(" " if c.isspace() else c if _visible(c) else "\ufffd" for c in cut)
    return shown if len(text) <= longest else f"{shown}\u2026 (cut: {len(text):,} characters)"


def _visible(c: str) -> bool:
    return c in "\u200c\u200d" or not unicodedata.category(c).startswith("C")


def _finalize(value: Any) -> Any:
    """Clean whatever the page prints, so that no text gets there by another way."""
    return value if isinstance(value, Markup) else clean(str(value), LINE)


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("byrote.stages"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"whole": _whole, "chance": _chance, "seconds": _seconds, "percent": _percent}
    return environment.get_template("report.html")


def _plain(value: Any) -> Any:
    """Turn a tree into what JSON can hold: numbers that are no number become null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)


def _finding(shown: Shown) -> Json:
    f = shown.finding
    return {
        "picture": {"digest": f.digest, "where": list(shown.where), "caption": shown.caption, "copies": f.copies},
        "prompt": shown.prompt,
        "samples": [{"seed": seed, "digest": digest} for seed, digest in shown.samples],
        "distances": {"rms": f.rms, "tiled": f.tiled, "ratio": f.ratio, "round_trip": f.round_trip},
        "p_value": f.p_value,
        "q_value": f.q_value,
        "certified": f.certified,
        "basis": f.basis,
    }


def _dump(told: Json) -> str:
    """Write in ASCII, so that no caption can break the file or a terminal that shows it."""
    return json.dumps(told, indent=1, allow_nan=False) + "\n"


def _toml(plan: Mapping[str, Any]) -> list[list[str]]:
    """Return the plan as audit.toml has it, the lines of each section."""
    top = [_knob(key, value) for key, value in plan.items() if not isinstance(value, Mapping)]
    sections = [(key, value) for key, value in plan.items() if isinstance(value, Mapping)]
    return [top, *([f"[{name}]", *(_knob(key, value) for key, value in knobs.items())] for name, knobs in sections)]


def _knob(key: str, value: Any) -> str:
    return (
        f"# {key} =   # the model's own"
        if value is None
        else f"{key} = {json.dumps(_plain(value), ensure_ascii=False)}"
    )


def _distance(value: float | None) -> str:
    if value is None or math.isnan(value):
        return "\u2014"
    return f"{value:.4f}" if math.isfinite(value) else "\u221e"


def _chance(value: float | None) -> str:
    if value is None or math.isnan(value):
        return "\u2014"
    return f"{value:.2g}" if value >= 1e-4 else f"{value:.0e}"


def _whole(value: int | None) -> str:
    return "\u2014" if value is None else f"{value:,}"


def _percent(share: float) -> str:
    """Round to three digits, but never up to 100 % or down to 0 % what is not."""
    if 0 < share < 0.00005:
        return "under 0.01 %"
    if 0.9995 <= share < 1:
        return "over 99.9 %"
    return f"{100 * share:.3g} %"


def _share(k: int, n: int) -> str:
    return _percent(k / n) if n else "\u2014"


def _interval(low: float, high: float) -> str:
    return f"{_percent(low)} to {_percent(high)}"


def _seconds(value: float) -> str:
    whole = round(value)
    if whole < 120:
        return f"{value:.1f} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 7200 else f"{whole // 3600:,} h {whole % 3600 // 60} min"


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:12]


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def _or_none(n: int) -> str:
    return f"{n:,}" if n else "none"


def _are(n: int) -> str:
    return "is" if n == 1 else "are"
