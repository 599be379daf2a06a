"""Draw the pairs that people judge: strata with known chances, controls at like distances, planted copies."""

import hashlib
import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Literal

from byrote.domain import Match, Side
from byrote.errors import Incomplete, StoreError
from byrote.stages.certify import statistic
from byrote.store import replace_file

Kind = Literal["candidate", "control", "planted"]
Other = tuple[str, Side]
STRATA = ("within tau", "just beyond", "further")
SHARES = (0.5, 0.3, 0.2)
"""How the candidates are spread over the strata (ours): the largest share where copies are, never none beyond tau."""
CONTROLS, PLANTED = 0.25, 0.125
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Pair:
    """A drawn pair: a picture beside a sample. `sample` is empty where the picture stands beside itself, re-encoded.

    `id` is of this draw alone, so that a table of another one is not taken for it, and no number to a spreadsheet.
    """

    id: str
    kind: Kind
    stratum: str
    picture: str
    side: Side
    sample: str
    statistic: float | None


@dataclass(frozen=True, slots=True)
class Key:
    """A whole draw. `sizes` counts the candidate pairs of each stratum; each was drawn with drawn / size."""

    seed: int
    tau: float
    sizes: dict[str, int]
    pairs: tuple[Pair, ...]


def draw(
    best: Iterable[Match], *, tau: float, reach: float, count: int, seed: int, others: Sequence[Other] = ()
) -> Key:
    """Draw about `count` candidate pairs from the best match of every group, and what is mixed in.

    Equal chances within a stratum, and at least one pair of each that has any. Controls are those whose T is nearest to
    that of drawn candidates, each once. Planted are pictures that no other drawn pair shows, of either side, because a
    picture that is met twice gives its planted copy away: best matches first, then `others`, which no sample came near,
    and drawn candidates only where there is nothing else.
    """
    rows = sorted(best, key=lambda row: (statistic(row), row.group))
    strata: dict[str, list[Match]] = {name: [] for name in STRATA}
    for row in rows:
        if row.side == "picture":
            strata[_stratum(statistic(row), tau, reach)].append(row)
    dice = random.Random(f"byrote review {seed}")
    drawn = [(name, row) for name, n in _spread(strata, count).items() for row in dice.sample(strata[name], n)]
    controls = _like([statistic(row) for _, row in drawn], [r for r in rows if r.side == "control"], count, dice)
    planted = _planted(rows, others, {row.digest for row in [*controls, *(row for _, row in drawn)]}, count, dice)
    found = [_pair("candidate", name, row) for name, row in drawn]
    found += [_pair("control", "control", row) for row in controls]
    found += [Pair("", "planted", "planted", digest, side, "", None) for digest, side in planted]
    dice.shuffle(found)
    tag = hashlib.sha256(repr([seed, tau, found]).encode()).hexdigest()[:6]
    pairs = tuple(replace(pair, id=f"p{tag}-{k:04d}") for k, pair in enumerate(found, 1))
    return Key(seed, tau, {name: len(of) for name, of in strata.items()}, pairs)


def write(folder: Path, key: Key) -> bytes:
    """Write the key and return its bytes."""
    data = (json.dumps({"format": FORMAT} | asdict(key), indent=1) + "\n").encode()
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(folder / "key.json", data)
    return data


def read(folder: Path) -> Key:
    """Read the key of the draw in an audit's review folder. Raises Incomplete where there is none, StoreError."""
    path = folder / "key.json"
    try:
        told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return Key(told["seed"], told["tau"], told["sizes"], tuple(Pair(**pair) for pair in told["pairs"]))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Incomplete(f"{folder}: no pairs were drawn yet; `byrote review draw {folder.parent}` does") from error
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise StoreError(f"{path}: no key of a draw; take it from a backup: {type(error).__name__} {error}") from error


def _stratum(t: float, tau: float, reach: float) -> str:
    return STRATA[0] if t <= tau else STRATA[1] if t <= reach else STRATA[2]


def _spread(strata: dict[str, list[Match]], count: int) -> dict[str, int]:
    """Spread `count` over the strata, one pair at least; what one is too small for goes to the first with room."""
    wanted = {name: max(1, round(count * share)) for name, share in zip(STRATA, SHARES, strict=True)}
    taken = {name: min(wanted[name], len(strata[name])) for name in STRATA}
    for name in STRATA:
        left = count - sum(taken.values())
        taken[name] += min(max(0, left), len(strata[name]) - taken[name])
    return taken


def _like(wanted: Sequence[float], controls: list[Match], count: int, dice: random.Random) -> list[Match]:
    """Take the control nearest in T to one drawn candidate after the other, in random order, each control once."""
    left, taken = list(controls), []
    order = list(wanted)
    dice.shuffle(order)
    for t in islice(cycle(order), _at_most(count * CONTROLS, controls)):
        nearest = min(left, key=lambda row: (abs(statistic(row) - t), row.group))
        left.remove(nearest)
        taken.append(nearest)
    return taken


def _planted(
    rows: list[Match], others: Sequence[Other], shown: set[str], count: int, dice: random.Random
) -> list[Other]:
    fresh = [(row.digest, row.side) for row in rows if row.digest not in shown]
    seen = [(row.digest, row.side) for row in rows if row.side == "picture"]
    found = dice.sample(fresh, _at_most(count * PLANTED, fresh))
    found += dice.sample(sorted(others), _at_most(count * PLANTED - len(found), others))
    return found or dice.sample(seen, _at_most(count * PLANTED, seen))


def _at_most(wanted: float, there: Sequence[object]) -> int:
    return min(max(0, round(wanted)), len(there))


def _pair(kind: Kind, stratum: str, row: Match) -> Pair:
    return Pair("", kind, stratum, row.digest, row.side, row.sample, statistic(row))
