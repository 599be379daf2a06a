"""The page: one file of HTML that needs no other file, no network and no script."""

import json
import math
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import jinja2
from markupsafe import Markup

from byrote import images
from byrote.domain import RGB, Family, Finding
from byrote.kernels import align, overlays, stats
from byrote.kernels.rates import samples_to_first
from byrote.rungs import Rung
from byrote.stages.certify import FAMILIES, LEVEL
from byrote.stages.probe import Probed
from byrote.stages.report import words
from byrote.stages.report.annex import NO_CLAIM, NOT_TESTED, annex
from byrote.stages.report.data import Evidence, Shown, plain
from byrote.stages.report.extraction import WAY_NAMES, Searched
from byrote.stages.report.figures import by_name, curves, discovery
from byrote.stages.report.inside import MEASURE_NAMES, strips
from byrote.stages.report.methods import methods
from byrote.stages.report.sentences import sentences

SHOWN = 200


CONTROLS_SHOWN = 6


BLUR = 4
RUNG_NAMES: dict[Rung, str] = {
    "none": "with no text",
    "users": "by an ordinary user's prompt",
    "truncated": "by the first half of its caption",
    "paraphrase": "by a paraphrase of its caption",
    "caption": "by its exact caption",
    "adversarial": "by a contrived prompt",
}
FAMILY_NAMES = {"asked": "asked by their own caption", "unasked": "not asked", "canary": "canaries"}
SEARCHED = "searched for among all samples"


SMALL = 192


LARGE = 512


OVERLAID = 192
"""The longer side of a difference or of outlines, in pixels at most: there are two for each pair of the page."""


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
        families=[(family, evidence.tests[family]) for family in FAMILIES if _held(evidence, family)],
        family_names=FAMILY_NAMES | ({"unasked": SEARCHED} if evidence.searched else {}),
        made=evidence.cost.samples // (2 if evidence.twin else 1),
        rates={evidence.said(name): rows for name, rows in by_name(evidence.rates).items()},
        curves=curves(evidence),
        plan=_toml(evidence.plan),
        sentences=sentences(evidence),
        methods=methods(evidence),
        answers=annex(evidence),
        no_claim=NO_CLAIM,
        not_tested=NOT_TESTED,
        discovery=discovery(evidence.discovery),
        funnel_top=max((step.pictures or 0 for step in evidence.funnel), default=1),
        seeds=evidence.plan.get("generate", {}).get("seeds"),
        tried=_tried(evidence, reveal),
        inside=_inside(evidence, reveal),
        measures=MEASURE_NAMES,
        strips=strips(evidence.inside) if evidence.inside else [],
        way_names=WAY_NAMES,
    )


def _held(e: Evidence, family: Family) -> bool:
    """Tell whether a family has anything to show: that which the answer is about always, others if they hold anyone."""
    if family not in e.tests or family == _main(e)[0]:
        return family in e.tests
    return e.tests[family].m > 0 or (family == "unasked" and e.tests[family].n_controls > 0)


def _gallery(findings: Sequence[Shown]) -> list[tuple[int, Shown]]:
    """Choose whom the page has room for: certified before others, each with its place in the whole list, from 1."""
    order = sorted(enumerate(findings, 1), key=lambda placed: not placed[1].finding.certified)
    return order[:SHOWN]


def _answer(e: Evidence) -> str:
    """Say in a sentence what was found, and no more than that."""
    family, m = _main(e)
    tested = f"{words.count(m, 'picture')} {'asked for' if family == 'asked' else 'tested'}"
    certified, unasked = e.certified(family), e.certified("unasked") if family == "asked" else 0
    if not e.calibrated:
        return (
            f"Uncalibrated: {_uncalibrated(e)}. Of {tested}, {words.or_none(_near(e))} came back within the distance "
            f"\u03c4 = {e.tau:g}, which alone says nothing of training."
        )
    if certified + unasked == 0:
        return f"None of {tested} is certified as reproduced{_bound(e)}."
    also = f"; so {words.are(unasked)} {unasked:,} not asked for" if unasked else ""
    controls = f"{words.count(e.controls.n, 'control')}, never trained on"
    return (
        f"{words.or_none(certified).capitalize()} of {tested} {words.are(certified)} certified as reproduced{also}; "
        f"of {controls}, the same rule certifies {words.or_none(e.controls.certified)}."
    )


def _uncalibrated(e: Evidence) -> str:
    if e.controls.n:
        return "the plan was not sealed before the first sample, so nothing can be certified"
    return "without controls nothing can be certified"


def _main(e: Evidence) -> tuple[Family, int]:
    """Return the family that the answer is about, and its size: a model without text has nobody asked for."""
    return e.family, e.tests[e.family].m if e.family in e.tests else 0


def _bound(e: Evidence) -> str:
    """Bound what the random draw leaves open; a draw of the most-copied bounds nothing."""
    if e.drawn is None or e.drawn.n == 0:
        return ""
    d = e.drawn
    return (
        f"; {d.k:,} of {d.n:,} drawn at random came back within \u03c4, so at most {words.percent(d.high)} "
        f"({words.percent(d.level)} interval) of the pictures like them do, at as many samples each"
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
            f"{words.count(e.controls.certified, 'control')} of {e.controls.n:,}, never trained on, would be certified "
            "by the same rule: a finding can come about without training."
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
    told = [(f"{e.certified(family):,} / {m:,}", f"{tested} certified")]
    if leaning:
        told.append((f"{leaning:,}", "certified findings that rest on an assumption"))
    if e.controls.n:
        told.append(
            (f"{e.controls.certified:,} / {e.controls.n:,}", "controls, never trained on, certified by that rule")
        )
    told.append((f"{_near(e):,}", f"{tested} within \u03c4 = {e.tau:g}, whatever the controls say"))
    if e.calibrated and family in e.tests:
        told.append(
            (words.whole(e.tests[family].k_needed), "pictures within \u03c4 from which on all of them are certified")
        )
    return told


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
    overlays: tuple[Frame, Frame] | None
    moved: str
    caption: str
    prompt: str
    where: str
    family: str
    facts: list[tuple[str, str]]
    way: str
    seed: str
    others: int
    picture_digest: str
    sample_digest: str


def _card(e: Evidence, shown: Shown, place: int, reveal: bool) -> Card:
    f = shown.finding
    kind, badge = _badge(f)
    picture, sample = e.picture_image(f.digest), None if f.sample is None else e.sample_image(f.sample)
    return Card(
        place=place,
        kind=kind,
        badge=badge,
        picture=_frame(picture, reveal),
        sample=_frame(sample, reveal),
        overlays=_overlays(sample, picture, shown.move) if reveal else None,
        moved=words.moved(shown.move),
        caption=_private(shown.caption, "no caption", reveal),
        prompt=_private(shown.prompt, "no text", reveal),
        where=_private(_places(shown.where), "unknown", reveal),
        family=_how(e, f),
        facts=_facts(f, e.tau),
        way=_way(f),
        seed=next((_seed(seed) for seed, digest in shown.samples if digest == f.sample), "\u2014"),
        others=max(0, len(shown.samples) - 1),
        picture_digest=words.short(f.digest),
        sample_digest=words.short(f.sample) if f.sample else "\u2014",
    )


def _tried(e: Evidence, reveal: bool) -> list[tuple[Searched, Frame | None, Frame | None, str]]:
    """Return each picture that was searched for, with its pixels, the sample to look at and what that was asked by."""
    rows = []
    for searched in e.extraction.pictures if e.extraction else ():
        best = searched.shown
        data = e.extraction.images.get(best.sample) if e.extraction and best else None
        sample = None if data is None else images.decode(data)
        picture = e.picture_image(searched.digest) if searched.outcomes else None  # it may have left the corpus
        text = _private(best.text if best else None, "no text", reveal)
        rows.append((searched, _frame(picture, reveal), _frame(sample, reveal), text))
    return rows


def _how(e: Evidence, f: Finding) -> str:
    if e.searched:
        return SEARCHED
    return "its own caption was not asked" if f.family == "unasked" else "its own caption was asked"


def _seed(seed: int | None) -> str:
    return "hidden" if seed is None else str(seed)


def _badge(f: Finding) -> tuple[str, str]:
    if f.side == "control":
        return "control", "control: never trained on"
    if not f.certified:
        return "open", "not certified"
    return ("exact", "certified: exact") if f.basis == "exact" else ("leaning", "certified: assumption-based")


def _facts(f: Finding, tau: float) -> list[tuple[str, str]]:
    within = "" if f.statistic is None else (" \u2264 \u03c4" if f.statistic <= tau else " > \u03c4")
    return [
        ("T", words.distance(f.statistic) + within),
        ("tiled", words.distance(f.tiled)),
        ("RMS", words.distance(f.rms)),
        ("round trip", words.distance(f.round_trip)),
        ("ratio", words.distance(f.ratio)),
        *([("T over what stays fixed (template)", words.distance(f.masked))] if f.masked is not None else []),
        ("copies", f"{f.copies:,}"),
        ("p", words.chance(f.p_value)),
        ("q", words.chance(f.q_value)),
        ("matched p", words.chance(f.matched_p)),
        ("\u0393", "\u2014" if f.sensitivity is None else f"{f.sensitivity:.3g}"),
        *([("twin T", words.distance(f.twin))] if f.twin_p is not None else []),
    ]


def _way(f: Finding) -> str:
    """Say the least contrived way to the picture, and how many samples it takes to the first copy."""
    if f.rung is None or f.rung_hits is None:
        return "none within \u03c4"
    if not f.rung_samples:
        return f"{RUNG_NAMES[f.rung]}, asked for others ({words.count(f.rung_hits, 'sample')})"
    expected, low, high = samples_to_first(f.rung_hits, f.rung_samples, LEVEL)
    unit = "prompts" if f.rung == "users" else "samples"
    most = "\u221e" if math.isinf(high) else f"{high:,.0f}"
    told = f"{f.rung_hits:,} of {f.rung_samples:,} {unit}, {expected:.3g} to the first ({low:.3g} to {most})"
    return f"{RUNG_NAMES[f.rung]}: {told}"


def _inside(e: Evidence, reveal: bool) -> list[tuple[Probed, Mapping[str, float | None], Frame | None, Frame | None]]:
    """Return each picture that was probed, with its p-values, its pixels and its map over them."""
    found = []
    for row, p in zip(e.inside.rows, e.inside.p_values, strict=True) if e.inside else ():
        picture, hot = e.picture_image(row.digest), e.inside.maps.get(row.digest) if e.inside else None
        laid = None
        if picture is not None and hot is not None:
            laid = overlays.heated(images.fit(picture, hot.shape[1], hot.shape[0]), hot)
        found.append((row, p, _frame(picture, reveal), _frame(laid, reveal)))
    return found


def _frame(image: RGB | None, reveal: bool) -> Frame | None:
    if image is None:
        return None
    longest = max(image.shape[:2])
    height, width = (round(100 * side / longest, 2) for side in image.shape[:2])
    return Frame(_uri(image if reveal else blurred(image)), width, height, crisp=reveal and longest <= SMALL)


def _overlays(sample: RGB | None, picture: RGB | None, move: align.Alignment) -> tuple[Frame, Frame] | None:
    """Return difference and outlines of a pair, the picture moved onto the sample; nothing where one is gone."""
    if sample is None or picture is None:
        return None
    pair = laid(sample, picture, move, OVERLAID)
    return _packed(overlays.difference(*pair)), _packed(overlays.outlines(*pair))


def laid(sample: RGB, picture: RGB, move: align.Alignment, edge: int) -> tuple[RGB, RGB]:
    """Return both at one size, `edge` at most: the picture cut to the sample's aspect and moved as it was for T."""
    height, width = sample.shape[:2]
    scale = min(1.0, edge / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    moved = align.move(images.fit(picture, width, height), move)
    return images.fit(sample, *size), images.fit(moved, *size)


def _packed(image: RGB) -> Frame:
    """Frame an overlay: small ones as they are, others as JPEG, which of noise takes a tenth of a PNG."""
    longest = max(image.shape[:2])
    height, width = (round(100 * side / longest, 2) for side in image.shape[:2])
    small = longest <= OVERLAID // 3
    kind, data = ("png", images.encode_png(image)) if small else ("jpeg", images.encode_jpeg(image))
    src = Markup(f"data:image/{kind};base64,{b64encode(data).decode()}")
    return Frame(src, width, height, crisp=longest <= SMALL)


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
    return missing if text is None else (words.clean(text) if reveal else "hidden")


def _places(where: Sequence[str]) -> str | None:
    if not where:
        return None
    return where[0] + (f" and {len(where) - 1:,} more" if len(where) > 1 else "")


def _finalize(value: Any) -> Any:
    """Clean whatever the page prints, so that no text gets there by another way."""
    return value if isinstance(value, Markup) else words.clean(str(value), words.LINE)


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
    environment.filters["bar"] = _logarithmic
    environment.filters |= {
        n: getattr(words, n) for n in ("whole", "number", "chance", "seconds", "percent", "distance")
    }
    return environment.get_template("report.html")


def _logarithmic(count: int | None, most: int) -> float:
    """Return the length of a bar, in pixels of at most 180."""
    return round(180 * math.log1p(count or 0) / math.log1p(max(1, most)), 1)


def _toml(plan: Mapping[str, Any]) -> list[list[str]]:
    """Return the plan as audit.toml has it, the lines of each section."""
    top = [_knob(key, value) for key, value in plan.items() if not isinstance(value, Mapping)]
    sections = [(key, value) for key, value in plan.items() if isinstance(value, Mapping)]
    return [top, *([f"[{name}]", *(_knob(key, value) for key, value in knobs.items())] for name, knobs in sections)]


def _knob(key: str, value: Any) -> str:
    return (
        f"# {key} =   # the model's own" if value is None else f"{key} = {json.dumps(plain(value), ensure_ascii=False)}"
    )
