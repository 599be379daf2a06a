"""The records that flow through an audit. Each is a row of a table; docs/formats.md lists the columns.

Distances are RMS pixel errors of images in [0, 1]: smaller is nearer. Images here are uint8 [height, width, 3], sRGB.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from byrote.rungs import Rung

RGB = NDArray[np.uint8]
Side = Literal["picture", "control"]
SIDES: tuple[Side, Side] = ("picture", "control")
Family = Literal["asked", "unasked", "canary"]
Stratum = Literal["top", "random", "claim", "canary", "control", "free"]
DRAWN: tuple[Stratum, ...] = ("top", "random", "control")
"""The strata that rates speak of: neither canaries, which a coin placed, nor pictures that somebody named."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A file of the training set (`side` "picture") or of the held-out set ("control"); a row a file.

    `captions` are all that it was given, in their order; `size` is that of its bytes, `modified` the time of change of
    the file that holds it (ns).
    """

    side: Side
    source: str
    where: str
    captions: tuple[str, ...]
    digest: str
    width: int
    height: int
    size: int
    modified: int

    @property
    def caption(self) -> str | None:
        """Return the first caption, or None."""
        return next(iter(self.captions), None)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A file that is no picture that can be read, with its reason."""

    side: Side
    source: str
    where: str
    captions: tuple[str, ...]
    reason: str
    size: int
    modified: int


@dataclass(frozen=True, slots=True)
class Pair:
    """Two distinct pictures that may be near-duplicates. `a` holds what `b` shows.

    `rms` is the distance of their central squares at 64 x 64 as they stand (null: farther than what is kept, or a
    source is gone). `evidence` (log-odds) speaks for a copy where `b`, turned by `turn` (0 to 7; docs/formats.md),
    shows the window of `a` with these shares of its edges; null where nothing like it was found.
    """

    a: str
    b: str
    rms: float | None
    evidence: float | None
    turn: int
    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Group:
    """A member (a distinct digest) of a group of near-duplicates. `group` is the group's smallest digest.

    `copies` counts the group's rows on its side; a group that touches both sides is `set_aside`.
    """

    group: str
    digest: str
    side: Side
    copies: int
    set_aside: bool


@dataclass(frozen=True, slots=True)
class Prompt:
    """A text that the model is asked, for a group (one caption and one member, `digest`, drawn by seed) or for nobody.

    `number` counts from 0. For nobody (stratum "free": the rungs "none" and "users") group and digest are empty.
    """

    number: int
    group: str
    digest: str
    side: Side
    stratum: Stratum
    copies: int
    rung: Rung
    text: str | None


@dataclass(frozen=True, slots=True)
class Screened:
    """What the screen found of a prompt, and the full samples that it gets by that.

    `score` is null where none was taken. Of `searched` cheap samples `near` came within tau of a picture or control,
    the nearest as near as `nearest` (null where none was measured); `agreed` tells whether the first were alike. The
    prompt was `kept` for that, or dropped; `spared` ones of those that were dropped get all samples all the same.
    `seeds` are those of its full samples.
    """

    prompt: int
    score: float | None
    searched: int
    near: int
    nearest: float | None
    agreed: bool
    kept: bool
    spared: bool
    seeds: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Sample:
    """One image that came out of the model. `image` is a PNG; `index` counts the samples of its prompt from 0."""

    prompt: int
    index: int
    seed: int
    digest: str
    width: int
    height: int
    image: bytes


@dataclass(frozen=True, slots=True)
class Clique:
    """What the samples of one prompt have in common.

    `found` answers "is there a clique of `least`?" exactly. `members` (sample indices) is the largest clique found,
    `largest` whether it is known to be the largest, `spread` its mean pairwise distance (null below two members).
    `template` is the share of the image that stays fixed where they agree in some of the tiles only, null where they
    agree in all or no templates are looked for.
    """

    prompt: int
    samples: int
    found: bool
    largest: bool
    members: tuple[int, ...]
    spread: float | None
    template: float | None = None


@dataclass(frozen=True, slots=True)
class Match:
    """A sample beside a group that it comes close to. `digest` is the group's drawn member.

    `rms` and `tiled` are after alignment by (`flip`, `crop`, `dx`, `dy`), `round_trip` is the tiled distance to the
    picture's own way through the model's autoencoder (null where it has none, or where the pair is far apart), `ratio`
    the adaptive ratio (null with too few groups), `rank` the group's place (from 0) among the nearest to the sample.
    `masked` is the RMS distance, by the same alignment, over what stays fixed in a template, to the picture or to its
    round trip, null where the sample is of none. Of a crop `dx` and `dy` say how many of `places` (null: 1) from the
    centre to the edge.
    """

    prompt: int
    index: int
    seed: int
    sample: str
    rank: int
    group: str
    digest: str
    side: Side
    rms: float
    tiled: float
    round_trip: float | None
    ratio: float | None
    flip: bool
    crop: float
    dx: int
    dy: int
    masked: float | None = None
    places: int | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """A tested group with its best match and all its evidence. Numbers are null where not computed.

    `matched_p` is the p-value among the controls that are most like the picture, `sensitivity` the largest Gamma at
    which the finding stays certified (null where it is not), `twin` the statistic T of a model that was not trained on
    the picture (null without a twin, or where nothing of it came near) and `twin_p` the p-value of the difference.
    `rung` is the least contrived rung that brings the picture within tau: in `rung_hits` of `rung_samples` samples, or,
    on rung "users", of so many prompts. `claimed` pictures are asked only because somebody named them. `masked` is the
    distance over what stays fixed in a template.
    """

    family: Family
    group: str
    digest: str
    side: Side
    copies: int
    prompt: int | None
    sample: str | None
    statistic: float | None
    rms: float | None
    tiled: float | None
    round_trip: float | None
    ratio: float | None
    p_value: float | None
    q_value: float | None
    certified: bool
    basis: Literal["exact", "assumption-based"]
    matched_p: float | None = None
    sensitivity: float | None = None
    twin: float | None = None
    twin_p: float | None = None
    rung: Rung | None = None
    rung_hits: int | None = None
    rung_samples: int | None = None
    claimed: bool = False
    masked: float | None = None


@dataclass(frozen=True, slots=True)
class Rate:
    """A share `k` of `n` with its interval and its control twin; `population` says whom it speaks of."""

    name: str
    tier: str | None
    k: int
    n: int
    low: float
    high: float
    level: float
    method: str
    controls_k: int | None
    controls_n: int | None
    population: str = ""
