"""Write the numbers of docs/scale.md from benchmarks/results/million.json, and what follows from them by its formulas.

The result holds `pictures`, `seconds` (by stage: index, still, moved, measure, groups, approximate; of all workers,
added up), `bytes_per_picture` and `peak_memory` (bytes, of all processes of a command); `machine`, `date` and
`wall_seconds` (by command) are told where they are there. A test tells where the page is behind it.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from byrote.descriptors.whole import Whole
from byrote.kernels import cells, ranges
from byrote.kernels.waves import windows
from byrote.stages import near

PAGE = Path(__file__).with_name("scale.md")
RESULT = Path(__file__).parents[1] / "benchmarks" / "results" / "million.json"
BEGIN, END = "<!-- made by docs/make_scale.py: begin -->", "<!-- end -->"
SIZES = {10**6: "10^6", 10**7: "10^7", 10**8: "10^8", 5 * 10**9: "5 · 10^9"}
LEAN = 2.7
"""Turns that a picture is asked for in: the first 600 photographs and 600 CIFAR-10 pictures."""
TRIAL = {"still": 286e6, "centres": 91e6, "visited": 247e6}
"""Products a second of one core, tried for less than a second each while others used the machine; no benchmark."""
PROJECTED = Whole.dimensions * ranges._FINE
"""Multiplications that bring one thumbnail onto the axes."""
STAGES = ("index", "still", "moved", "measure", "groups", "approximate")
GROWS = ("n", "n² at most", "n^1.5, then n²", "n² at most", "n", "n^1.5")


def count(n: int, *, capped: bool = True) -> int:
    """Return the number of cells; `capped` as in the code."""
    most = near._CELLS * math.sqrt(n)
    return round(min(most, cells._MOST) if capped else most)


def passes(n: int) -> int:
    """Return how many times all pictures are asked for: once a part of `likely` that looks for moved copies."""
    return math.ceil(len(windows()) / max(1, near._ROWS // n))


def projected(n: int) -> float:
    """Return the multiplications that bring all pictures onto axes in each part that compares them as they stand.

    As a share of those of all pairs by the first few coordinates.
    """
    return near.stills(n) * n * PROJECTED / (n * (n - 1) / 2 * (ranges._COARSE + 2))


def visited(n: int, *, capped: bool = True) -> float:
    """Return the products in the cells that are visited, of 35 values each, were all cells filled alike."""
    return LEAN * near._VISITS * len(windows()) * n**2 / count(n, capped=capped)


def centres(n: int) -> float:
    """Return the products with centres: to ask in each pass, and to file each window."""
    return (LEAN * passes(n) + len(windows())) * n * count(n)


def work(n: int) -> dict[str, float]:
    """Return the work of each stage, each in a unit of its own: pictures or products."""
    pairs = n * (n - 1) / 2
    moved = visited(n) + centres(n)
    approximate = n * near._CELLS * math.sqrt(n)
    return dict(zip(STAGES, (n, pairs, moved, pairs, n, approximate), strict=True))


def block(told: dict[str, Any] | None) -> str:
    """Return what stands between the marks."""
    knobs = f"W = {len(windows())} windows, V = {near._VISITS} visits, a = {LEAN} turns, at most {cells._MOST:,} cells."
    return "\n".join([knobs, "", *(_measured(told) if told else _unmeasured()), ""])


def _unmeasured() -> Iterator[str]:
    yield "**Measured rates: none yet.** They go here from benchmarks/results/million.json. Until then, by a trial of"
    rates = ", ".join(f"{rate / 1e6:.0f} ({name})" for name, rate in TRIAL.items())
    yield f"products on one loaded core, in millions a second, which are no benchmark: {rates}."
    yield ""
    yield f"| estimate, core-hours at | {' | '.join(SIZES.values())} |"
    yield f"|---|{'---|' * len(SIZES)}"
    lines = {"still, at most": (lambda n: n * (n - 1) / 2 / TRIAL["still"])}
    lines["moved"] = lambda n: visited(n) / TRIAL["visited"] + centres(n) / TRIAL["centres"]
    lines["moved, visited cells alone, not capped"] = lambda n: visited(n, capped=False) / TRIAL["visited"]
    for name, seconds in lines.items():
        yield f"| {name} | {' | '.join(_hours(seconds(n)) for n in SIZES)} |"
    yield "| index, measure, groups, approximate | not known | not known | not known | not known |"


def _measured(told: dict[str, Any]) -> Iterator[str]:
    n, seconds = int(told["pictures"]), told["seconds"]
    about = ", ".join(str(told[key]) for key in ("machine", "date") if key in told)
    size, memory = f"{told['bytes_per_picture']:,.0f} bytes a picture", f"{told['peak_memory'] / 2**30:,.1f} GiB"
    yield f"**Measured** at {n:,} pictures{f' ({about})' if about else ''}: {size} on disk, {memory} of memory at most."
    if "wall_seconds" in told:
        yield f"On the clock: {', '.join(f'{name} {spent:,.0f} s' for name, spent in told['wall_seconds'].items())}."
    yield "Seconds of stages are those of all workers, added up. Hours are **estimates**: measured seconds times the"
    yield "work at that size over the work measured."
    yield ""
    yield f"| stage | grows as | measured, seconds | {' | '.join(f'{size}, hours' for size in SIZES.values())} |"
    yield f"|---|---|---|{'---|' * len(SIZES)}"
    own = work(n)
    for stage, grows in zip(STAGES, GROWS, strict=True):
        if stage in seconds:
            later = (_hours(seconds[stage] * work(size)[stage] / own[stage]) for size in SIZES)
            yield f"| {stage} | {grows} | {seconds[stage]:,.0f} | {' | '.join(later)} |"


def _hours(seconds: float) -> str:
    """Return hours with two digits that count."""
    hours = seconds / 3600
    digits = max(0, 1 - math.floor(math.log10(hours))) if hours > 0 else 0
    return f"{round(hours, digits if hours < 10 else 1 - math.floor(math.log10(hours))):,.{digits}f}"


def page(text: str, told: dict[str, Any] | None) -> str:
    """Return the page with what stands between the marks made anew."""
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n{block(told)}{END}{rest.partition(END)[2]}"


def result() -> dict[str, Any] | None:
    """Return the measured result, or None where there is none yet."""
    if not RESULT.exists():
        return None
    told: dict[str, Any] = json.loads(RESULT.read_text(encoding="utf-8"))
    return told


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), result()), encoding="utf-8")
