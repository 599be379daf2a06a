"""What `byrote extract` tried on claimed pictures, in a sentence that a person understands."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from byrote.rungs import HALVES, Way
from byrote.stages.report import words

WAY_NAMES: dict[Way, str] = {
    "none": "with no text",
    "truncated": "by the first half of its caption",
    "paraphrase": "by a paraphrase of its caption",
    "caption": "by its caption",
    "adversarial": "by a contrived prompt",
    "left": "with its left half hidden",
    "right": "with its right half hidden",
    "top": "with its upper half hidden",
    "bottom": "with its lower half hidden",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one way brought of one picture; `byrote.stages.attempts.Attempt` says what the numbers are.

    `as_near` of `controls` that were tried alike have a statistic as small. `p_value` is null without any, `twin_p`
    without a twin: the rank of the difference to it. `adjusted` is Holm's p over all ways of all pictures named in
    time; of one named too late, over its own ways, times the pictures of the corpus. `out` tells whether that is at
    most alpha, and a sample within tau, as none of the twin's is.
    """

    way: Way
    text: str | None
    samples: int
    refused: int
    near: int
    statistic: float | None
    nearest: float | None
    twin: float | None
    twin_nearest: float | None
    controls: int
    as_near: int
    p_value: float | None
    adjusted: float | None
    twin_p: float | None
    seed: int | None
    sample: str
    out: bool = False


@dataclass(frozen=True, slots=True)
class Searched:
    """A claimed picture: `outcomes` from the least contrived way on, the ways `left_out` with their reasons.

    `named` tells whether it was claimed before any sample that the folder knows, `says` the answer in a sentence.
    """

    digest: str
    at: str
    named: bool
    out: bool
    says: str
    outcomes: Sequence[Outcome]
    left_out: Mapping[Way, str]

    @property
    def shown(self) -> Outcome | None:
        """Return the outcome to look at: the first way by which it came out, else the nearest."""
        near = [each for each in self.outcomes if each.nearest is not None]
        return min(near, key=lambda each: (not each.out, each.out or each.nearest), default=None)


@dataclass(frozen=True, slots=True)
class Extracted:
    """A search. `sealed` is the digest of all that was fixed before it, `searches` how many of this model are known.

    `images` are the PNG of the nearest samples, by their digests.
    """

    pictures: Sequence[Searched]
    controls: int
    sealed: str
    at: str
    searches: int
    evaluations: int
    twin: bool
    tau: float
    alpha: float
    images: Mapping[str, bytes] = field(repr=False)

    def as_json(self) -> dict[str, Any]:
        """Return the search without its images."""
        return {name: value for name, value in asdict(replace(self, images={})).items() if name != "images"}


def sentence(outcomes: Sequence[Outcome], left_out: Mapping[Way, str], *, named: bool, tau: float, alpha: float) -> str:
    """Answer whether a picture can be made to come out."""
    if not outcomes:
        return f"nothing could be tried: {next(iter(left_out.values()), 'no way is in the plan')}"
    out = [each for each in outcomes if each.out]
    if out:
        first, more = out[0], ", ".join(WAY_NAMES[each.way] for each in out[1:])
        late = "" if named else " (claimed after sampling)"
        return f"came out {_how(first, tau)}; {_beside(first)}{late}" + (f"; also {more}" if more else "")
    near = sorted((each for each in outcomes if each.nearest is not None), key=lambda each: each.nearest or 0.0)
    if not near:
        return "nothing could be tried: the picture is gone, or has changed since it was indexed"
    within = [each for each in near if (each.nearest or 0.0) <= tau]
    if within:
        best = min(within, key=lambda each: 1.0 if each.p_value is None else each.p_value)
        return f"came near {_how(best, tau)}, but {_doubt(best, named=named, tau=tau, alpha=alpha)}"
    tried = words.count(sum(each.samples for each in outcomes), "try").replace("trys", "tries")
    return (
        f"did not come out in {tried}: the nearest, {WAY_NAMES[near[0].way]}, was {near[0].nearest:.3f} away, more "
        f"than \u03c4 = {tau:g}; {_beside(near[0])}"
    )


def _how(each: Outcome, tau: float) -> str:
    """Say how often a picture came, and how near."""
    name = WAY_NAMES[each.way]
    if each.way in HALVES:
        return (
            f"{name}: the likeliest of {each.samples:,} fillings are {each.statistic or 0:.3f} off in that half, "
            f"the nearest within \u03c4 = {tau:g}"
        )
    return f"{name}: {each.near:,} of {each.samples:,} samples within \u03c4 = {tau:g}, the nearest {each.nearest:.3f}"


def _beside(each: Outcome) -> str:
    if not each.controls:
        return "uncalibrated: no controls"
    how = "filled so well" if each.way in HALVES else "so near"
    came = (
        f"{each.as_near:,} of {words.count(each.controls, 'control')}"
        if each.as_near
        else (f"none of {words.count(each.controls, 'control')}")
    )
    return f"{came} {'was ' if each.way in HALVES else 'came '}{how}"


def _doubt(each: Outcome, *, named: bool, tau: float, alpha: float) -> str:
    """Say why what came near is not said to have come out."""
    if each.twin_nearest is not None and each.twin_nearest <= tau:
        return "the twin, which was not trained on it, brings it too"
    if each.adjusted is None:
        return "nothing says how near others come: uncalibrated, no controls"
    beside = _beside(each)
    if not named:
        return f"{beside}, and it was claimed after sampling, so it counts as found by searching"
    if not each.as_near:
        return f"{beside}, and they are too few to show it (p {each.adjusted:.2g} over all ways, {alpha:g} is the most)"
    return f"{beside} (p {each.adjusted:.2g} over all ways)"
