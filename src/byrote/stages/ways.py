"""Which rung of the ladder brings a picture out, in how many samples; and the shares of captions and of samples."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from byrote.domain import DRAWN, SIDES, Finding, Match, Prompt, Rate, Side
from byrote.kernels.rates import cluster_bootstrap
from byrote.kernels.stats import clopper_pearson
from byrote.rungs import RUNGS, Rung
from byrote.stages.certify import LEVEL, statistic

BY_PROMPT = "prompts of ordinary users that bring one within tau"
BY_SAMPLE = "samples asked for with no text that come within tau of one"
CAPTIONS = "captions that bring anything of their side within tau"
SAMPLES = "samples of captions that come within tau of anything of their side"


@dataclass(frozen=True, slots=True)
class Way:
    """The least contrived rung that brings a picture within tau: in `hits` of `samples` samples of that rung.

    `samples` counts those of the picture's own prompt on that rung, or all that were asked for with no text. Of
    ordinary users' prompts hits and samples count prompts: samples of one prompt are no separate users. It is None
    where only prompts of other pictures brought it: they are known because they did, so a share would mislead.
    """

    rung: Rung
    hits: int
    samples: int | None


class Hits:
    """The samples within tau of each group: every (prompt, index), once. `made` counts the samples of each prompt."""

    def __init__(
        self, matches: Iterable[Match], prompts: Sequence[Prompt], closest: float, made: Mapping[int, int]
    ) -> None:
        self._prompts = {prompt.number: prompt for prompt in prompts}
        self._made = made
        self._groups: dict[str, set[tuple[int, int]]] = defaultdict(set)
        self._sides: dict[str, Side] = {}
        for row in matches:
            if statistic(row) <= closest:
                self._groups[row.group].add((row.prompt, row.index))
                self._sides[row.group] = row.side

    def made(self, numbers: Iterable[int]) -> int:
        """Count the samples of some prompts."""
        return sum(self._made.get(number, 0) for number in numbers)

    def way(self, group: str) -> Way | None:
        """Return the least contrived way to a group, or None where no sample is within tau.

        Prompts of other pictures come last, however plain: nobody who wants this picture would think of them.
        """
        by_rung = self._by_rung(group)
        ways = [self._way(group, rung, by_rung[rung]) for rung in RUNGS if by_rung[rung]]
        return next((way for way in ways if way.samples), ways[0] if ways else None)

    def own(self, group: str, rung: Rung) -> list[int]:
        """Return the samples within tau, by their index, that the group's own prompt on a rung gave."""
        return [index for number, index in self._by_rung(group)[rung] if self._prompts[number].group == group]

    def every(self, side: Side) -> list[int]:
        """Count the samples within tau of each group of a side that has any, canaries left out."""
        canaries = {prompt.group for prompt in self._prompts.values() if prompt.stratum == "canary"}
        groups = self._groups.keys() - canaries
        return [len(self._groups[group]) for group in sorted(groups) if self._sides[group] == side]

    def prompts(self, rung: Rung, side: Side) -> set[int]:
        """Return the prompts of a rung that bring any group of a side within tau."""
        return {number for number, _ in self.samples(rung, side)}

    def counts(self, rung: Rung, side: Side, numbers: Sequence[int]) -> list[int]:
        """Count, prompt by prompt, the samples of a rung that are within tau of any group of a side."""
        found = Counter(number for number, _ in self.samples(rung, side))
        return [found[number] for number in numbers]

    def samples(self, rung: Rung, side: Side) -> set[tuple[int, int]]:
        """Return the samples of a rung that are within tau of any group of a side."""
        ours = (found for group, found in self._groups.items() if self._sides[group] == side)
        return {at for found in ours for at in found if self._prompts[at[0]].rung == rung}

    def _by_rung(self, group: str) -> Mapping[Rung, list[tuple[int, int]]]:
        rows: dict[Rung, list[tuple[int, int]]] = defaultdict(list)
        for at in self._groups.get(group, ()):
            rows[self._prompts[at[0]].rung].append(at)
        return rows

    def _way(self, group: str, rung: Rung, found: Sequence[tuple[int, int]]) -> Way:
        own = [at for at in found if self._prompts[at[0]].group == group]
        if own:
            return Way(rung, len(own), self.made({number for number, _ in own}))
        asked = [prompt.number for prompt in self._prompts.values() if prompt.rung == rung]
        if rung == "users":
            return Way(rung, len({number for number, _ in found}), len(asked))
        return Way(rung, len(found), self.made(asked) if rung == "none" else None)


def with_ways(findings: Iterable[Finding], hits: Hits) -> list[Finding]:
    """Add to every finding the least contrived rung that brings its picture within tau."""
    out = []
    for finding in findings:
        way = hits.way(finding.group)
        out.append(
            finding if way is None else replace(finding, rung=way.rung, rung_hits=way.hits, rung_samples=way.samples)
        )
    return out


def rung_rates(prompts: Sequence[Prompt], hits: Hits) -> list[Rate]:
    """Return what each rung brings out, with exact intervals and control twins.

    On a rung that asks for groups: the share of pictures that their own prompt brings within tau, beside that of
    controls. Of ordinary users' prompts: the share of prompts that bring any picture, beside any control; of samples
    asked for with no text, the share of samples.
    """
    out = []
    for rung in RUNGS:
        asked = [prompt for prompt in prompts if prompt.rung == rung]
        if asked:
            out.append(_rate(rung, asked, hits))
    return out


def shares(prompts: Sequence[Prompt], hits: Hits, seeds: int | None, dice: int) -> list[Rate]:
    """Return the shares of captions and of samples that bring anything within tau: two more denominators.

    Pictures' captions and pictures, beside controls' captions and controls; captions of one draw, canaries and claims
    left out. Captions are the sampling unit of both: of samples the interval is a cluster bootstrap (approximate) from
    20 captions with a hit up, below that the exact interval of captions, a caption counted wholly at the upper end and
    as one sample at the lower. `dice` seeds the bootstrap. Without a number of `seeds`, the same for all captions,
    there is no share of samples.
    """
    asked = {
        side: [p.number for p in prompts if p.rung == "caption" and p.side == side and p.stratum in DRAWN]
        for side in SIDES
    }
    if not asked["picture"]:
        return []
    counts = {side: hits.counts("caption", side, numbers) for side, numbers in asked.items()}
    (k, n), (twin_k, twin_n) = ((sum(c > 0 for c in counts[side]), len(counts[side])) for side in SIDES)
    captions = _share(CAPTIONS, k, n, twin_k, twin_n)
    if seeds is None:
        return [captions]
    ends = cluster_bootstrap(np.array(counts["picture"], np.int64), seeds, seed=dice, level=LEVEL)
    low, high = ends or (captions.low / seeds, captions.high)
    method = "cluster bootstrap over captions, approximate" if ends else "Clopper-Pearson of captions, wholly or once"
    twin = (sum(counts["control"]), twin_n * seeds) if twin_n else (None, None)
    return [captions, Rate(SAMPLES, None, sum(counts["picture"]), n * seeds, low, high, LEVEL, method, *twin)]


def _rate(rung: Rung, asked: Sequence[Prompt], hits: Hits) -> Rate:
    if rung == "users":
        k, twin = (len(hits.prompts(rung, side)) for side in SIDES)
        return _share(BY_PROMPT, k, len(asked), twin, len(asked))
    if rung == "none":
        k, twin = (len(hits.samples(rung, side)) for side in SIDES)
        made = hits.made(prompt.number for prompt in asked)
        return _share(BY_SAMPLE, k, made, twin, made)
    k, n, twin_k, twin_n = (
        count
        for side in SIDES
        for groups in [[p.group for p in asked if p.side == side and p.stratum in DRAWN]]
        for count in (sum(bool(hits.own(group, rung)) for group in groups), len(groups))
    )
    return _share(f"groups that their own prompt brings within tau: {rung}", k, n, twin_k, twin_n)


def _share(name: str, k: int, n: int, twin_k: int, twin_n: int) -> Rate:
    low, high = clopper_pearson(k, n, LEVEL)
    twin = (twin_k, twin_n) if twin_n else (None, None)
    return Rate(name, None, k, n, low, high, LEVEL, "Clopper-Pearson", *twin)
