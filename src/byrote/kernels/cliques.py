"""Cliques among the samples of one prompt: which of them are near-identical to each other.

Two samples are joined where their tiled distance is at most `within`. Most pairs are settled by lower bounds: the means
of blocks differ by no more than their pixels do, tile by tile. Who cannot be in a clique of k for want of k - 1
possible neighbours is peeled off; an empty rest is a certified no. Only what is left is measured.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, UInt8
from numpy import ndarray

from byrote.kernels import distance

STEPS_A_SECOND = 10**6  # one step: a vertex coloured, or the values below; about a second on one core of 2020 or later
_PAIR_VALUES, _PRODUCT_VALUES = 1500, 50_000  # values compared in one step, pair by pair and in a matrix product
_PLAIN = 2**26  # values compared below which all pairs are measured outright: measured
_SPARSE = 64  # measuring one pair in this many by itself costs what a product over all does: measured
_COARSE, _FINE = 4, 4  # blocks to a tile's edge, at most; pixels to a fine block's edge, at least: measured
_TRIES, _REFILLS = 3, 4  # greedy growth: seeds, and how often a group is filled up
_UNIT = 2.0**-24


@dataclass(frozen=True, slots=True)
class CliqueResult:
    """Whether there is a clique of the size asked for; the largest clique found, and whether it is known to be largest.

    `spread` is the mean tiled distance over the pairs of members, None below two.
    """

    found: bool
    members: tuple[int, ...]
    largest: bool
    spread: float | None


def find(
    samples: UInt8[ndarray, "n h w c"],
    means: Float32[ndarray, "n b b c"] | None,
    *,
    tiles: int,
    within: float,
    least: int,
    seconds: float,
) -> CliqueResult:
    """Tell whether `least` samples are all within `within` of each other, and find the largest such clique.

    `found` is exact, however long that takes. The largest is sought for about `seconds` at most, counted in steps of
    the work so that the answer is the same on any machine; of equally large ones it is the first in lexical order.
    With `seconds` 0 the question alone is answered. `means` are `distance.block_means(samples, b)`, where kept.
    Carlini et al. 2023, "Extracting Training Data from Diffusion Models", arXiv:2301.13188, section 4.2.
    Raises ValueError where the tiles do not divide the image or `least` is below 1 or means are missing.
    """
    if least < 1:
        raise ValueError(f"least must be 1 or more, not {least}")
    if means is not None and len(means) != len(samples):
        raise ValueError(f"{len(means)} block means for {len(samples)} samples")
    graph = _Graph.of(samples, tiles, within)
    meter = _Meter(int(seconds * STEPS_A_SECOND))
    best: tuple[int, ...] = (0,) if len(samples) else ()
    if graph.is_small():
        graph.measure_all()
        members, largest = graph.largest(best, meter)
        if len(members) < least and not largest:
            members = graph.settled(least) or members
    else:
        graph.bound(means)
        members, largest = graph.largest(graph.decide(least) or best, meter)
    return CliqueResult(len(members) >= least, members, largest, graph.spread(members))


def largest_clique(adjacency: Bool[ndarray, "n n"], steps: int) -> tuple[tuple[int, ...], bool]:
    """Return the largest clique, first in lexical order, and True; or the best found in `steps`, and False.

    Branch and bound over bit sets with greedy colouring: San Segundo et al. 2011, doi:10.1016/j.cor.2010.07.019.
    """
    return _Bits(adjacency).largest(_Meter(steps))


def clique_of(adjacency: Bool[ndarray, "n n"], size: int) -> tuple[int, ...] | None:
    """Return a clique of `size` vertices, or None where there is none. Exact, without a limit of time."""
    alive = peel(adjacency, size - 1)
    here = np.flatnonzero(alive)
    if len(here) < size:
        return None
    found = _Bits(adjacency[np.ix_(here, here)]).clique(size)
    return None if found is None else tuple(here[list(found)].tolist())


def peel(adjacency: Bool[ndarray, "n n"], k: int) -> Bool[ndarray, " n"]:
    """Return which vertices are in the k-core: what is left once all with fewer than k neighbours are gone."""
    alive = np.ones(len(adjacency), bool)
    degree = adjacency.sum(1)
    while (weak := alive & (degree < k)).any():
        alive &= ~weak
        degree = degree - adjacency[:, weak].sum(1)
    return alive


class _Spent(Exception):
    """The steps are used up."""


class _Meter:
    """Steps that may still be taken; None for any number."""

    def __init__(self, steps: int | None) -> None:
        self.steps = steps

    def spend(self, steps: int) -> None:
        """Take steps. Raises _Spent where there are not as many left."""
        if self.steps is not None:
            if steps > self.steps:
                raise _Spent
            self.steps -= steps


class _Bits:
    """A graph as bit sets, one integer a vertex; vertices with many neighbours first, so that colouring is tight."""

    def __init__(self, adjacency: ndarray) -> None:
        self._order = np.argsort(-adjacency.sum(1), kind="stable")
        self._place = np.argsort(self._order)
        packed = np.packbits(adjacency[np.ix_(self._order, self._order)], axis=1, bitorder="little")
        self._near = [int.from_bytes(row.tobytes(), "little") for row in packed]
        self._all = (1 << len(adjacency)) - 1

    def largest(self, meter: _Meter) -> tuple[tuple[int, ...], bool]:
        """See `largest_clique`."""
        best: list[int] = [0] if self._near else []
        try:
            for found in self._better(self._all, 1, meter):
                best = found
        except _Spent:
            return self._named(best), False
        return self._first(self._named(best), meter), True

    def clique(self, size: int) -> tuple[int, ...] | None:
        """Return a clique of a size, or None."""
        found = next(self._better(self._all, size - 1, _Meter(None), size), None)
        return None if found is None else self._named(found)

    def _named(self, bits: list[int]) -> tuple[int, ...]:
        return tuple(sorted(self._order[bits].tolist()))

    def _first(self, members: tuple[int, ...], meter: _Meter) -> tuple[int, ...]:
        """Return the lexically first clique as large as `members`, or the first that the steps reach."""
        inside, chosen = self._all, 0
        try:
            for vertex, place in enumerate(self._place.tolist()):
                if chosen == len(members):
                    break
                bit = 1 << place
                if vertex == members[chosen]:
                    chosen, inside = chosen + 1, inside & self._near[place]
                elif inside & bit:
                    rest = self._exactly(inside & self._near[place], len(members) - chosen - 1, meter)
                    inside &= ~bit
                    if rest is not None:
                        members = (*members[:chosen], vertex, *self._named(rest))
                        chosen, inside = chosen + 1, inside & self._near[place]
        except _Spent:
            pass
        return members

    def _exactly(self, inside: int, size: int, meter: _Meter) -> list[int] | None:
        """Return a clique of a size among some vertices, or None."""
        if inside.bit_count() < size:
            return None
        return [] if size == 0 else next(self._better(inside, size - 1, meter, size), None)

    def _better(self, inside: int, floor: int, meter: _Meter, enough: int | None = None) -> Iterator[list[int]]:
        """Yield ever larger cliques of more than `floor` of the vertices, up to `enough` of them."""
        clique: list[int] = []
        left, stack = [inside], [self._coloured(inside, floor, meter)]
        while stack:
            branches = stack[-1]
            if not branches or len(clique) + branches[-1][1] <= floor:
                stack.pop()
                left.pop()
                del clique[-1:]
                continue
            vertex, _ = branches.pop()
            inner = left[-1] & self._near[vertex]
            left[-1] &= ~(1 << vertex)
            clique.append(vertex)
            if len(clique) > floor:
                floor = len(clique)
                yield clique.copy()
                if floor == enough:
                    return
            left.append(inner)
            stack.append(self._coloured(inner, floor - len(clique), meter))

    def _coloured(self, left: int, floor: int, meter: _Meter) -> list[tuple[int, int]]:
        """Return the vertices of colours above `floor` with their colours, ascending; a clique has each colour once."""
        meter.spend(1 + left.bit_count())
        branches, colour = [], 0
        while left:
            colour += 1
            free = left
            while free:
                bit = free & -free
                vertex = bit.bit_length() - 1
                left ^= bit
                free &= ~(self._near[vertex] | bit)
                if colour > floor:
                    branches.append((vertex, colour))
        return branches


@dataclass(slots=True)
class _Graph:
    """What is known of the distances: `low` are lower bounds, exact where `known`.

    `order` is that of the tiles, the most telling first; `coarse` is how many blocks to a tile's edge were used.
    """

    samples: UInt8[ndarray, "n h w c"]
    tiles: int
    within: float
    values: int
    low: Float64[ndarray, "n n"]
    known: Bool[ndarray, "n n"]
    order: Int64[ndarray, " t"]
    coarse: int = 0

    @classmethod
    def of(cls, samples: ndarray, tiles: int, within: float) -> "_Graph":
        n = len(samples)
        distance.tile_values(samples.shape, tiles)
        values = int(np.prod(samples.shape[1:]))
        return cls(samples, tiles, within, values, np.zeros((n, n)), np.eye(n, dtype=bool), np.arange(tiles**2))

    def is_small(self) -> bool:
        """Say whether measuring all is cheaper than bounding first."""
        return len(self.samples) ** 2 * self.values <= _PLAIN

    def possible(self) -> ndarray:
        """Return the adjacency of all pairs that are not known to be apart."""
        near = self.low <= self.within
        np.fill_diagonal(near, False)
        return near

    def measure_all(self) -> None:
        """Measure every pair."""
        self.low = distance.tiled(self.samples, self.samples, tiles=self.tiles)
        self.known[:] = True

    def bound(self, means: ndarray | None) -> None:
        """Bound every pair by the means of its blocks, those of fitting size that were kept or new ones."""
        if means is None or means.shape[1] % self.tiles:
            means = distance.block_means(self.samples, self.tiles * self._blocks(_COARSE))
        n, b, _, c = means.shape
        self.coarse = b // self.tiles
        shape = n, self.tiles, self.coarse, self.tiles, self.coarse, c
        tiles = means.reshape(shape).transpose(1, 3, 0, 2, 4, 5).reshape(self.tiles**2, n, self.coarse**2 * c)
        apart = []
        for tile in tiles:
            low = _bounds(tile)
            apart.append(low.sum())
            np.maximum(self.low, low, out=self.low)
        self.order = np.argsort(-np.array(apart), kind="stable")

    def bound_finely(self, core: ndarray, size: int) -> None:
        """Bound the pairs among the core by small blocks, tile by tile, as long as a clique of a size is possible."""
        blocks = self._blocks(max(1, min(self._tile()) // _FINE))
        if blocks <= self.coarse:
            return
        for tile in self.order.tolist():
            means = np.concatenate([distance.block_means(self._part(some, tile), blocks) for some in _few(core)])
            here = np.ix_(core, core)
            self.low[here] = np.maximum(self.low[here], _bounds(means.reshape(len(core), -1)))
            core = core[np.isin(core, self._core(size))]
            if not len(core):
                return

    def _blocks(self, most: int) -> int:
        """Return how many blocks to a tile's edge: as many as divide it, up to a number."""
        height, width = self._tile()
        return max(k for k in range(1, most + 1) if height % k == width % k == 0)

    def _tile(self) -> tuple[int, int]:
        """Return the height and the width of a tile."""
        _, h, w, _ = self.samples.shape
        return h // self.tiles, w // self.tiles

    def _part(self, some: ndarray, tile: int) -> ndarray:
        """Return one tile of some samples."""
        height, width = self._tile()
        y, x = tile // self.tiles * height, tile % self.tiles * width
        return self.samples[some, y : y + height, x : x + width]

    def measure(self, vertices: ndarray) -> None:
        """Measure all pairs among some vertices by a product."""
        here = np.ix_(vertices, vertices)
        if not self.known[here].all():
            some = self.samples[vertices]
            self.low[here] = distance.tiled(some, some, tiles=self.tiles)
            self.known[here] = True

    def decide(self, size: int) -> tuple[int, ...] | None:
        """Return a clique of a size, or None where there is none: bounds, growth, finer bounds, growth, measuring."""
        for finer in (False, True):
            core = self._core(size)
            if finer and len(core) >= size:
                self.bound_finely(core, size)
                core = self._core(size)
            if len(core) < size:
                return None
            if (grown := self._grown(core, size)) is not None:
                return grown
        return self.settled(size)

    def settled(self, size: int) -> tuple[int, ...] | None:
        """Measure what may hold a clique of a size and search it exactly."""
        self._measure_core(size)
        return clique_of(self.possible(), size)

    def largest(self, best: tuple[int, ...], meter: _Meter) -> tuple[tuple[int, ...], bool]:
        """Return the largest clique and True, or, where the steps do not last, the best known and False."""
        core = self._core(len(best) + 1)
        if not len(core) and len(best) < 2:
            return best, True
        core = self._core(max(2, len(best)))
        try:
            meter.spend(self._price(core))
        except _Spent:
            return best, not len(self._core(len(best) + 1))
        core = self._measure_core(max(2, len(best)))
        if not len(core):
            return best, True
        found, done = _Bits(self.possible()[np.ix_(core, core)]).largest(meter)
        if len(found) < len(best) or (len(found) == len(best) and not done):
            return best, done or not len(self._core(len(best) + 1))
        return tuple(core[list(found)].tolist()), done

    def spread(self, members: tuple[int, ...]) -> float | None:
        """Return the mean distance over the pairs of members, or None below two."""
        if len(members) < 2:
            return None
        here = np.array(members)
        self.measure(here)
        above = np.triu_indices(len(here), 1)
        return float(self.low[here[above[0]], here[above[1]]].mean())

    def _core(self, size: int) -> ndarray:
        """Return the vertices that may be in a clique of a size."""
        return np.flatnonzero(peel(self.possible(), size - 1)) if size > 1 else np.arange(len(self.samples))

    def _open(self, core: ndarray) -> ndarray:
        """Return the pairs among the core that are possible and not measured."""
        here = np.ix_(core, core)
        return core[np.argwhere(np.triu(self.possible()[here] & ~self.known[here]))]

    def _price(self, core: ndarray) -> int:
        """Return the steps that measuring the core takes."""
        pairs = len(self._open(core))
        if pairs * _SPARSE < len(core) ** 2:
            return pairs * self.values // _PAIR_VALUES
        return len(core) ** 2 * self.values // _PRODUCT_VALUES

    def _measure_core(self, size: int) -> ndarray:
        """Measure every possible pair that may be in a clique of a size; return the vertices that still may be."""
        core = self._core(size)
        pairs = self._open(core)
        if len(pairs) * _SPARSE < len(core) ** 2:
            self._measure_pairs(pairs)
        elif len(pairs):
            self._measure_by_tile(core, size)
        return self._core(size)

    def _measure_pairs(self, pairs: Int64[ndarray, "p 2"]) -> None:
        """Measure pairs one by one."""
        step = max(1, 2**24 // self.values)
        for i in range(0, len(pairs), step):
            a, b = pairs[i : i + step].T
            found = distance.paired_tiled(self.samples[a], self.samples[b], tiles=self.tiles)
            self.low[a, b] = self.low[b, a] = found
            self.known[a, b] = self.known[b, a] = True

    def _measure_by_tile(self, core: ndarray, size: int) -> None:
        """Measure all pairs among the core tile by tile, and leave out whom a tile has cut off."""
        self._by_tile(core, lambda core: np.isin(core, self._core(size)))

    def _by_tile(self, some: ndarray, staying: Callable[[ndarray], ndarray]) -> ndarray:
        """Measure all pairs among some vertices tile by tile, as long as they are `staying`; return who stayed."""
        count = distance.tile_values(self.samples.shape, self.tiles)
        worst = np.zeros((len(some), len(some)), np.int64)
        for tile in self.order.tolist():
            part = self._part(some, tile).reshape(len(some), count)
            np.maximum(worst, distance.squares(part, part), out=worst)
            here = np.ix_(some, some)
            self.low[here] = np.maximum(self.low[here], distance.root(worst, count))
            stay = staying(some)
            some, worst = some[stay], worst[np.ix_(stay, stay)]
            if len(some) < 2:
                return some
        here = np.ix_(some, some)
        self.low[here] = distance.root(worst, count)
        self.known[here] = True
        return some

    def _grown(self, core: ndarray, size: int) -> tuple[int, ...] | None:
        """Grow a clique of a size from the vertices with the nearest neighbours, measuring few pairs."""
        low = np.where(self.possible(), self.low, np.inf)[np.ix_(core, core)]
        reach = np.partition(low, size - 2, axis=1)[:, size - 2] if size > 1 else np.zeros(len(core))
        for seed in np.argsort(reach, kind="stable")[:_TRIES]:
            order = core[np.argsort(low[seed], kind="stable")]
            clique = self._grow(int(core[seed]), order[: np.isfinite(low[seed]).sum()], size)
            if clique is not None:
                return clique
        return None

    def _agreeing(self, group: ndarray) -> ndarray:
        """Return which of a group may all be near each other, the first of it before the others."""
        near = self.possible()[np.ix_(group, group)]
        stay = np.zeros(len(group), bool)
        for place in range(len(group)):
            stay[place] = near[place, stay].all()
        return stay

    def _grow(self, seed: int, candidates: ndarray, size: int) -> tuple[int, ...] | None:
        """Fill a group up with the nearest candidates, measure it, keep what agrees, and fill up again."""
        clique, waiting = [seed], candidates.tolist()
        for _ in range(_REFILLS):
            near = self.possible()
            group = list(clique)
            while waiting and len(group) < size:
                vertex = waiting.pop(0)
                if near[vertex, group].all():
                    group.append(vertex)
            if len(group) < size:
                return None
            clique = self._by_tile(np.array(group), self._agreeing).tolist()
            if len(clique) == size:
                return tuple(sorted(clique))
        return None


def _bounds(points: Float32[ndarray, "n k"]) -> Float64[ndarray, "n n"]:
    """Return lower bounds of the RMS between rows of means of one tile's blocks, what rounding may add taken off.

    Means are within 2^-24 of the exact ones and lose as much when they are centred: an RMS moves by at most 2^-22.
    Centred, none exceeds 1/2: products, norms and sums of K values in float32 err by at most (K + 3) 2^-24 of the mean
    square together (Higham 2002, section 3.1). Both are taken off twice.
    """
    centred = points - np.float32(0.5)
    norms = np.vecdot(centred, centred)
    squares = centred @ centred.T
    squares *= -2
    squares += norms[:, None]
    squares += norms
    k = points.shape[1]
    means = np.maximum(squares / np.float64(k) - 2 * (k + 4) * _UNIT, 0)
    low: ndarray = np.sqrt(means, out=means) - 2.0**-21
    return low


def _few(vertices: ndarray) -> list[ndarray]:
    """Split vertices so that the samples of a share fit in the cache."""
    return [vertices[i : i + 16] for i in range(0, len(vertices), 16)]
