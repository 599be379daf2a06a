"""What was found from inside the denoiser, of pictures beside controls."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from byrote.kernels.stats import conformal_p
from byrote.stages.probe import Probed

MEASURES = ("scale", "plain", "gap", "norm")
MEASURE_NAMES = {
    "scale": "critical scale with the caption",
    "plain": "critical scale without",
    "gap": "widening by the caption (log)",
    "norm": "norm of what the caption changes",
}
TESTED = ("scale", "plain", "gap")
"""Measures that are larger where a picture comes back; on the demo's model the norm is smaller there: it gets no p."""
LOGARITHMIC = ("scale", "plain")
WIDTH = 360.0
"""Pixels of the axis of a strip."""
QUARTILES = (0.0, 25.0, 50.0, 75.0, 95.0, 100.0)


@dataclass(frozen=True, slots=True)
class Spread:
    """Quantiles of a measure (smallest, 25, 50, 75, 95 %, largest) over `n` pictures of a kind."""

    n: int
    quantiles: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Inside:
    """Rows of pictures with, by measure, the share of controls at least as large, the picture counted.

    `controls` is how each measure spreads over controls, `swapped` how those that a caption moves spread over
    pictures and over controls with another's caption. `others` are the rows of controls, `maps` are of
    pictures, by digest.
    """

    rows: Sequence[Probed]
    p_values: Sequence[Mapping[str, float | None]]
    controls: Mapping[str, Spread]
    swapped: Mapping[str, Mapping[str, Spread]]
    evaluations: int
    maps: Mapping[str, NDArray[np.float32]] = field(default_factory=dict, repr=False)
    others: Sequence[Probed] = ()

    def as_json(self) -> dict[str, Any]:
        """Return what report.json holds."""
        rows = [asdict(row) | {"p_values": dict(p)} for row, p in zip(self.rows, self.p_values, strict=True)]
        return {
            "pictures": [{key: value for key, value in row.items() if key not in ("map", "side")} for row in rows],
            "controls": {name: asdict(spread) for name, spread in self.controls.items()},
            "swapped": {kind: {m: asdict(s) for m, s in of.items()} for kind, of in self.swapped.items()},
            "evaluations": self.evaluations,
        }


@dataclass(frozen=True, slots=True)
class Strip:
    """A measure's values as places along an axis, in pixels, by whose they are; what the ends of the axis say."""

    measure: str
    lines: Sequence[tuple[str, Sequence[float]]]
    least: float
    most: float
    logarithmic: bool


def strips(told: Inside) -> list[Strip]:
    """Draw each measure that more than one value is known of: pictures, controls, both with another's caption."""
    return [strip for measure in MEASURES if (strip := _strip(told, measure)) is not None]


def _strip(told: Inside, measure: str) -> Strip | None:
    kinds = {"pictures": (told.rows, measure), "controls": (told.others, measure)}
    if measure != "plain":
        swapped = f"swapped_{measure}"
        kinds |= {"pictures, swapped": (told.rows, swapped), "controls, swapped": (told.others, swapped)}
    values = {kind: _known(*of) for kind, of in kinds.items()}
    every = np.concatenate(list(values.values()))
    if not len(every) or every.min() == every.max():
        return None
    logarithmic = measure in LOGARITHMIC
    floor = every[every > 0].min() / 2 if logarithmic else every.min()
    low, high = (float(np.log(x)) if logarithmic else float(x) for x in (floor, every.max()))
    lines = []
    for kind, of in values.items():
        at = np.log(np.maximum(of, floor)) if logarithmic else of
        lines.append((kind, np.round(WIDTH * (at - low) / (high - low), 1).tolist()))
    return Strip(measure, lines, float(every.min()), float(every.max()), logarithmic)


def told(rows: Sequence[Probed], maps: Mapping[str, NDArray[np.float32]]) -> Inside | None:
    """Hold pictures against controls; None where nobody was probed."""
    ours, theirs = ([row for row in rows if row.side == side] for side in ("picture", "control"))
    if not ours:
        return None
    p_values: list[dict[str, float | None]] = [{} for _ in ours]
    for measure in TESTED:
        known = _known(theirs, measure)
        for row, p in zip(ours, p_values, strict=True):
            value = getattr(row, measure)
            able = value is not None and len(known) > 0
            p[measure] = float(conformal_p(-np.array([value]), -known)[0]) if able else None
    swapped = {
        kind: {m: s for m in MEASURES if m != "plain" and (s := _spread(_known(of, f"swapped_{m}")))}
        for kind, of in (("pictures", ours), ("controls", theirs))
    }
    controls = {m: s for m in MEASURES if (s := _spread(_known(theirs, m)))}
    return Inside(ours, p_values, controls, swapped, sum(row.evaluations for row in rows), maps, theirs)


def _known(rows: Sequence[Probed], measure: str) -> NDArray[np.float64]:
    return np.array([value for row in rows if (value := getattr(row, measure)) is not None], np.float64)


def _spread(values: NDArray[np.float64]) -> Spread | None:
    return Spread(len(values), tuple(np.percentile(values, QUARTILES).tolist())) if len(values) else None
