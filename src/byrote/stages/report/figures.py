"""The figures of the page: bars of rates, the distribution of T, the precision along the rank. Places are in pixels."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from byrote.domain import Family, Rate
from byrote.kernels import stats
from byrote.stages.certify import FAMILIES
from byrote.stages.report import words
from byrote.stages.report.data import Discovery, Evidence, Reals, Statistics


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


def by_name(rates: Sequence[Rate]) -> dict[str, list[RateRow]]:
    return {name: [_rate_row(r) for r in rates if r.name == name] for name in dict.fromkeys(r.name for r in rates)}


def _rate_row(r: Rate) -> RateRow:
    twin = _twin(r)
    return RateRow(
        rate=r,
        share=words.share(r.k, r.n),
        interval=words.interval(r.low, r.high),
        control_share="\u2014" if r.controls_k is None else words.share(r.controls_k, r.controls_n or 0),
        control_interval="\u2014" if twin is None else words.interval(twin[0], twin[1]),
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


@dataclass(frozen=True, slots=True)
class Growth:
    """What comes back with ever more samples, as SVG paths over a logarithmic axis; `made` is where they end."""

    found: str
    controls: str | None
    half: str
    most: str
    x: Axis
    y: Axis
    made: float


WIDTH, HEIGHT, BINS, RANKS = 480.0, 200.0, 48, 1000


def curves(e: Evidence) -> list[Curves]:
    """Draw each family that has statistics."""
    found = [(family, e.statistics[family]) for family in FAMILIES if family in e.statistics]
    return [Curves(f, s, _histogram(s, e.tau), _precision(e, f, s)) for f, s in found if len(s.pictures)]


def discovery(told: Discovery | None) -> Growth | None:
    """Draw the share that comes back against the number of samples."""
    if told is None or len(told.samples) < 2:
        return None
    end = math.log10(told.samples[-1])
    places = [WIDTH * math.log10(n) / end for n in told.samples]
    top = max(0.05, *told.found, *(row[0] for row in told.half))
    return Growth(
        found=_line(places, told.found, top),
        controls=None if told.controls is None else _line(places, told.controls, top),
        half=_line(places, [row[0] for row in told.half], top),
        most=_line(places, [row[0] for row in told.most], top),
        x=Axis([(WIDTH * k / end, f"{10**k:,}") for k in range(int(end) + 1)]),
        y=Axis([(HEIGHT * (1 - t / top), words.percent(t)) for t in _ticks(top, 4)]),
        made=WIDTH * math.log10(told.made) / end,
    )


def _line(places: Sequence[float], shares: Sequence[float], top: float) -> str:
    at = zip(places, shares, strict=False)
    return "M" + "L".join(f"{x:.1f} {HEIGHT * (1 - share / top):.1f}" for x, share in at)


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
        up=Axis([(middle - middle * t / top, words.percent(t)) for t in _ticks(top, 2)]),
        down=Axis([(middle + middle * t / top, words.percent(t)) for t in _ticks(top, 2) if t]),
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
    certified = min(e.certified(family), ranks)
    place = WIDTH / ranks
    return Precision(
        path=_steps(estimate, place),
        x=Axis([(place * (t or 1) - place / 2, f"{t or 1:g}") for t in _ticks(ranks)]),
        y=Axis([(HEIGHT * (1 - t / 100), f"{t} %") for t in (0, 25, 50, 75, 100)]),
        ranks=ranks,
        certified=certified,
        certified_x=place * certified if certified else None,
        at_certified=words.percent(float(estimate[certified - 1])) if certified else "",
    )


def _steps(shares: Reals, place: float) -> str:
    """Write steps of equal width as an SVG path, flat stretches merged."""
    path = [f"M0 {HEIGHT * (1 - shares[0]):.1f}"]
    for k in range(1, len(shares)):
        if shares[k] != shares[k - 1]:
            path.append(f"H{k * place:.1f}V{HEIGHT * (1 - shares[k]):.1f}")
    return Markup("".join(path) + f"H{len(shares) * place:.1f}")  # no text of others, which the page would cut


def _ticks(end: float, about: int = 6) -> list[float]:
    """Return round numbers from 0 to `end`, in steps of 1, 2 or 5 times a power of ten."""
    rough = end / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * f for f in (1, 2, 5, 10) if power * f >= rough * 0.999)
    return [round(k * step, 10) for k in range(int(end / step + 1e-9) + 1)]
