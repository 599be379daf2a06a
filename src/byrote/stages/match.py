"""Fill `matches`: every sample beside the groups that it comes closest to, pictures and controls in one pool.

Three steps, each a table: `candidates` (the nearest groups by descriptor, aligned and measured), `round_trips` (the
near ones once through the model's autoencoder), `matches` (both together). Nothing here knows the side of a picture.

Of prompts without a clique only what comes near is kept, for rates: T does without them, since the filter is part of
the statistic. What lies more than `SLACK` beyond tau is measured where it stands: no search for an alignment, no round
trip. That is blind to the side, so it costs power at most (a copy that the autoencoder moved further), never validity.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from byrote import images
from byrote.corpus import Corpus
from byrote.descriptors.thumbnail import Thumbnail
from byrote.domain import DRAWN, RGB, SIDES, Clique, Group, Match, Prompt, Sample, Side
from byrote.engine import Part
from byrote.kernels import align, register, templates, windows
from byrote.kernels.distance import paired_rms, paired_tiled
from byrote.kernels.search import Nearest
from byrote.kernels.waves import Window, corners
from byrote.models import Model
from byrote.models.memory import halving
from byrote.plan import MatchPlan, Plan
from byrote.stages import Desk, Failed, cliques, generate
from byrote.stages.certify import statistic
from byrote.stages.generate import model_of
from byrote.store import Recipe, Store

SLACK = 0.06
BOTH: frozenset[Side] = frozenset(SIDES)
_SHIFT, _CROP = 2, 0.9  # tried one by one where a plan looks anywhere
_SIDES = (128, 64, 32)  # of the thumbnails on which a window is refined: the largest that the samples hold
_ALIKE = 0.7  # correlation of waves below which no window is looked at; ours
_ROUND_TRIPS = 64
_PIXELS = 4096  # distinct pictures of 64 x 64 that a worker keeps decoded


@dataclass(frozen=True, slots=True)
class Tables:
    """The recipes of the three steps."""

    candidates: Recipe
    round_trips: Recipe
    matches: Recipe


@dataclass(frozen=True, slots=True)
class Look:
    """What the steps have in common: where to read and how to measure."""

    root: Path
    corpus: Path
    groups: Recipe
    prompts: Recipe
    samples: Recipe
    cliques: Recipe
    plan: Plan

    @property
    def tables(self) -> Tables:
        """Return the recipes of the three steps."""
        m = self.plan.match
        knobs = {"alpha": m.alpha, "n": m.n, **moving(m), "candidates": m.candidates}
        more = {"reach": self.reach, "tiles": self.plan.cliques.tiles}
        later = {"moved": True} if self.plan.cliques.template else {}
        made = later | {"groups": self.groups.digest, "cliques": self.cliques.digest, "descriptor": Thumbnail().name}
        return Tables(*(Recipe.of(table, knobs | more | made) for table in ("candidates", "round_trips", "matches")))

    @property
    def moves(self) -> tuple[align.Alignment, ...]:
        """Return the moves that every candidate is tried by; what lies anywhere is found without trying."""
        m = self.plan.match
        shift, crop = (min(m.shift, _SHIFT), max(m.crop, _CROP)) if m.anywhere else (m.shift, m.crop)
        return align.alignments(shift, m.flip, crop)

    @property
    def reach(self) -> float:
        """Return the distance up to which a pair is aligned and its round trip taken."""
        return SLACK + self.plan.certify.closest


def moving(m: MatchPlan) -> dict[str, Any]:
    """Return the knobs of how far a picture may be moved, for a recipe; the latest only where it is on."""
    return {"shift": m.shift, "flip": m.flip, "crop": m.crop} | ({"anywhere": True} if m.anywhere else {})


def run(desk: Desk, look: Look, parts: Sequence[Part], model: Model) -> list[Failed]:
    """Match every part of the samples that is there."""
    store, tables = desk.store, look.tables
    there = set(store.parts(look.samples))
    parts = [part for part in parts if part.name in there]
    failed = desk.fill(tables.candidates, Candidates(look), parts, "samples")
    if failed:
        return failed
    failed = desk.fill(tables.round_trips, RoundTrips(look), list(_near(store, look, model)), "pictures")
    return failed or desk.fill(tables.matches, Matches(look), parts, "samples")


def nearest_picture(
    look: Look, model: Model, pixels: NDArray[np.uint8], sides: frozenset[Side] = frozenset({"picture"})
) -> NDArray[np.float64]:
    """Return how near each image (uint8 [n, h, w, 3]) comes to its nearest picture of some sides, as T does.

    Departs from T: other sides, the controls unless told, take no place among the candidates, so that it is never
    further than T.
    """
    pool = _pool(look, sides)
    if not pool.digests:
        return np.full(len(pixels), np.inf)
    return _least(look, model, pool, pixels, pool.nearest(pixels, look.plan.match.candidates, look.plan.match.flip))


def to_picture(look: Look, model: Model, digest: str, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return how near each image (uint8 [n, h, w, 3]) comes to one picture, as T does; +inf where it is gone."""
    alone = _Nearest(np.zeros((len(pixels), 1), np.int64), np.zeros((len(pixels), 1)))
    return _least(look, model, _Alone(look, digest), pixels, alone)


def _least(
    look: Look, model: Model, pool: "_Pool", pixels: NDArray[np.uint8], found: "_Nearest"
) -> NDArray[np.float64]:
    """Return the least distance of each image to what was found for it, and to the round trips of that."""
    height, width = pixels.shape[1:3]
    samples = [Sample(k, 0, 0, "", width, height, b"") for k in range(len(pixels))]
    rows = _measured(look, pool, samples, pixels, found)
    trips = pool.round_trips(sorted({row.digest for row in rows if row.tiled <= look.reach}), width, height, model)
    best = np.full(len(pixels), np.inf)
    for row in rows:
        best[row.prompt] = min(best[row.prompt], row.tiled)
        if row.digest in trips and row.tiled <= look.reach:
            moved = align.move(trips[row.digest], move_of(row))[None]
            distance = paired_tiled(pixels[row.prompt][None], moved, tiles=look.plan.cliques.tiles)
            best[row.prompt] = min(best[row.prompt], float(distance[0]))
    return best


def trip_errors(look: Look, side: Side) -> NDArray[np.float64]:
    """Return how far the drawn members of a side are from their own round trips (RMS); none without an autoencoder."""
    trips, pictures = _trips(look.root, look.tables.round_trips), _pool(look).pictures
    found = [
        (pictures.fitted(digest, trips[digest].shape[1], trips[digest].shape[0]), trips[digest])
        for digest in _drawn(Store(look.root), look, side)
        if digest in trips
    ]
    pairs = [(there.astype(np.float64), trip) for there, trip in found if there is not None]
    return np.array([np.sqrt(((there - trip) ** 2).mean()) / 255 for there, trip in pairs], np.float64)


def _drawn(store: Store, look: Look, side: Side) -> list[str]:
    """Draw up to 64 of those asked of a side, whose round trips tell whether the autoencoder treats both alike."""
    asked = {row.digest for row in store.read_all(Prompt, look.prompts) if row.side == side and row.stratum in DRAWN}
    return sorted(asked, key=lambda digest: sha256(f"round trip {digest}".encode()).digest())[:_ROUND_TRIPS]


def _near(store: Store, look: Look, model: Model) -> Iterator[Part]:
    rows = store.read_all(Match, look.tables.candidates)
    close = {row.digest for row in rows if statistic(row) <= look.reach}
    near = sorted(close.union(*(_drawn(store, look, side) for side in SIDES)))
    sizes = {(sample.width, sample.height) for sample in _first_samples(store, look)}
    if not near or model.round_trip([]) is None:
        return
    (width, height), *_ = sizes
    for k in range(0, len(near), _ROUND_TRIPS):
        chunk = near[k : k + _ROUND_TRIPS]
        yield Part(f"{k // _ROUND_TRIPS:05d}", (chunk, width, height), len(chunk))


def _first_samples(store: Store, look: Look) -> list[Sample]:
    return store.read(Sample, look.samples, store.parts(look.samples)[0])


@dataclass(frozen=True, slots=True)
class Trip:
    """A picture that went through the autoencoder; its pixels afterwards are row `row` of the part's array."""

    digest: str
    row: int


@dataclass(frozen=True, slots=True)
class Candidates:
    """Find and measure the nearest groups of a part's samples."""

    look: Look

    def __call__(self, part: Part) -> None:
        """Do one part."""
        look, store = self.look, Store(self.look.root)
        passed = {row.prompt for row in store.read(Clique, look.cliques, part.name) if row.found}
        made, decoded = generate.read(store, look.samples, part.name)
        pool = _pool(look)
        rows: list[Match] = []
        if pool.digests:
            m = look.plan.match
            nearest = pool.nearest(decoded, max(m.n + 1, m.candidates), m.flip)
            rows = _measured(look, pool, made, decoded, nearest)
            rows = _with_templates(look, pool, part, made, decoded, rows)
        rows = [row for row in rows if row.prompt in passed or row.tiled <= look.reach]
        store.write(look.tables.candidates, part.name, rows, Match)


@dataclass(frozen=True, slots=True)
class RoundTrips:
    """Send pictures through the model's autoencoder."""

    look: Look

    def __call__(self, part: Part) -> None:
        """Do one part."""
        digests, width, height = part.payload
        corpus = _pool(self.look).pictures
        found = [(digest, corpus.fitted(digest, width, height)) for digest in digests]
        there = [(digest, image) for digest, image in found if image is not None]
        model = model_of(self.look.plan)
        trips, _ = halving(lambda some: model.round_trip(some) or [], [image for _, image in there], _ROUND_TRIPS)
        rows = [Trip(digest, row) for row, (digest, _) in enumerate(there)]
        array = np.stack(trips) if trips else np.zeros((0, height, width, 3), np.uint8)
        Store(self.look.root).write(self.look.tables.round_trips, part.name, rows, Trip, {"pixels": array})


@dataclass(frozen=True, slots=True)
class Matches:
    """Add the distance to the round trip to a part's candidates."""

    look: Look

    def __call__(self, part: Part) -> None:
        """Do one part."""
        look, store = self.look, Store(self.look.root)
        rows = store.read(Match, look.tables.candidates, part.name)
        trips = _trips(look.root, look.tables.round_trips)
        near = [k for k, row in enumerate(rows) if row.tiled <= look.reach and row.digest in trips]
        if near:
            made, pixels = generate.read(store, look.samples, part.name)
            at = {(row.prompt, row.index): k for k, row in enumerate(made)}
            samples = pixels[[at[rows[k].prompt, rows[k].index] for k in near]]
            moved = np.stack([align.move(trips[rows[k].digest], move_of(rows[k])) for k in near])
            for k, distance in zip(near, paired_tiled(samples, moved, tiles=look.plan.cliques.tiles), strict=True):
                rows[k] = replace(rows[k], round_trip=float(distance))
        if any(row.masked is not None for row in rows):
            rows = _templates_after(look, part, rows, trips)
        store.write(look.tables.matches, part.name, rows, Match)


def _with_templates(
    look: Look, pool: "_Pool", part: Part, made: Sequence[Sample], pixels: NDArray[np.uint8], rows: Sequence[Match]
) -> list[Match]:
    """Hold the samples of a template against the groups that come nearest to it over what stays fixed.

    All samples of one are held by one move, the best of their mean; what is nearer as a whole stays as it is.
    """
    known = cliques.masks(Store(look.root), look.cliques, part.name)
    if not known:
        return list(rows)
    found = {(row.prompt, row.index, row.group): row for row in rows}
    at = {(row.prompt, row.index): k for k, row in enumerate(made)}
    for number, (members, mask) in known.items():
        shown = pixels[[at[number, index] for index in members]]
        mean = np.rint(shown.mean(0)).astype(np.uint8)
        for rank, member in enumerate(pool.nearest_over(mean, mask)):
            picture = pool.pictures.fitted(pool.digests[member], *shown.shape[2:0:-1])
            if picture is None:
                continue
            to = _best_over(mean, picture, mask, look.moves)
            beside = np.broadcast_to(align.move(picture, to), shown.shape)
            away = templates.masked(shown, beside, mask)
            whole = paired_rms(shown, beside), paired_tiled(shown, beside, tiles=look.plan.cliques.tiles)
            for index, masked, rms, tiled in zip(members, away, *whole, strict=True):
                new = _stands(made[at[number, index]], pool, member, rank, float(rms), float(tiled))
                key = number, index, new.group
                row = found.setdefault(key, new)
                if masked < row.tiled:
                    found[key] = _by(replace(row, rms=new.rms, tiled=new.tiled, masked=float(masked)), to)
    return [found[key] for key in sorted(found, key=lambda key: key[:2])]


def _best_over(mean: RGB, picture: RGB, mask: NDArray[np.bool_], moves: Sequence[align.Alignment]) -> align.Alignment:
    def away(to: align.Alignment) -> float:
        return float(templates.masked(align.move(picture, to)[None], mean[None], mask)[0])

    return min(moves, key=away)


def _stands(sample: Sample, pool: "_Pool", member: int, rank: int, rms: float, tiled: float) -> Match:
    """Return a sample beside a group as they stand."""
    about = sample.prompt, sample.index, sample.seed, sample.digest, rank
    who = pool.groups[member], pool.digests[member], pool.sides[member]
    return Match(*about, *who, rms, tiled, None, None, False, 1.0, 0, 0)


def _templates_after(look: Look, part: Part, rows: Sequence[Match], trips: dict[str, RGB]) -> list[Match]:
    """Hold the samples of templates against the round trips of pictures too."""
    store = Store(look.root)
    made, pixels = generate.read(store, look.samples, part.name)
    at = {(row.prompt, row.index): k for k, row in enumerate(made)}
    found, known = list(rows), cliques.masks(store, look.cliques, part.name)
    for k, row in enumerate(rows):
        if row.masked is not None and row.digest in trips:
            shown = pixels[at[row.prompt, row.index]][None]
            moved = align.move(trips[row.digest], move_of(row))
            away = templates.masked(shown, moved[None], known[row.prompt][1])
            found[k] = replace(row, masked=min(row.masked, float(away[0])))
    return found


def _by(row: Match, to: align.Alignment) -> Match:
    places = to.places if to.places > 1 else None
    return replace(row, flip=to.flip, crop=to.crop, dx=to.dx, dy=to.dy, places=places)


def move_of(row: Match) -> align.Alignment:
    """Return how the picture of a match was moved onto its sample."""
    return align.Alignment(row.flip, row.crop, row.dx, row.dy, row.places or 1)


@lru_cache(maxsize=1)
def _trips(root: Path, made: Recipe) -> dict[str, RGB]:
    store = Store(root)
    return {
        trip.digest: array[trip.row]
        for part in store.parts(made)
        for array in [store.array(made, part, "pixels")]
        for trip in store.read(Trip, made, part)
    }


def _measured(
    look: Look, pool: "_Pool", samples: Sequence[Sample], pixels: NDArray[np.uint8], nearest: "_Nearest"
) -> list[Match]:
    """Align the first candidates of every sample and measure them, each pair on its own."""
    width, height = samples[0].width, samples[0].height
    pairs, beside = [], []
    for row in range(len(samples)):
        for rank in range(min(look.plan.match.candidates, nearest.members.shape[1])):
            image = pool.pictures.fitted(pool.digests[nearest.members[row, rank]], width, height)
            if image is not None:
                pairs.append((row, rank))
                beside.append(image)
    if not pairs:
        return []
    m, moves = look.plan.match, look.moves
    found = align.best_of_pairs(
        pixels[[row for row, _ in pairs]],
        np.stack(beside),
        moves=moves,
        tiles=look.plan.cliques.tiles,
        cutoff=look.reach,
    )
    ratios = nearest.ratios(m.alpha, m.n)
    out: list[Match] = []
    for k, (row, rank) in enumerate(pairs):
        sample, member, move = samples[row], nearest.members[row, rank], moves[found.moves[k]]
        ratio = None if ratios is None else float(ratios[row, rank])
        stands = _stands(sample, pool, member, rank, float(found.rms[k]), float(found.tiled[k]))
        out.append(_by(replace(stands, ratio=ratio), move))
    return _anywhere(look, pool, samples, pixels, out) if m.anywhere else out


def _anywhere(
    look: Look, pool: "_Pool", samples: Sequence[Sample], pixels: NDArray[np.uint8], rows: Sequence[Match]
) -> list[Match]:
    """Add the groups that show a sample as a crop or moved, or how they do so where they are there already.

    Windows are found by their waves and refined on thumbnails; what is then near is measured as it is.
    """
    best = {(row.prompt, row.index, row.group): row for row in rows}
    for row, rank, member, beside, moves in _shown(look, pool, pixels):
        moved = (align.IDENTITY, *moves)
        tiles, reach = look.plan.cliques.tiles, look.reach
        found = align.best_of_pairs(pixels[row][None], beside[None], moves=moved, tiles=tiles, cutoff=reach)
        tiled, rms, to = float(found.tiled[0]), float(found.rms[0]), moved[found.moves[0]]
        new = _stands(samples[row], pool, member, rank, rms, tiled)
        key = new.prompt, new.index, new.group
        if tiled <= reach and (key not in best or tiled < best[key].tiled):
            best[key] = _by(replace(best.get(key, new), rms=rms, tiled=tiled), to)
    order = {(sample.prompt, sample.index): k for k, sample in enumerate(samples)}
    return sorted(best.values(), key=lambda row: order[row.prompt, row.index])


def _shown(
    look: Look, pool: "_Pool", pixels: NDArray[np.uint8]
) -> Iterator[tuple[int, int, int, RGB, tuple[align.Alignment, ...]]]:
    """Yield sample, rank, member, its picture and how it may lie there, of all that may be near somewhere."""
    m, (height, width) = look.plan.match, pixels.shape[1:3]
    reach, side = m.shift / min(height, width), next((s for s in _SIDES if s <= min(height, width)), _SIDES[-1])
    looked, found = pool.windows(pixels, reach)
    for row in range(len(pixels)):
        ranks = np.flatnonzero(found.alike[row] >= _ALIKE).tolist()
        picked = [
            (rank, pool.pictures.fitted(pool.digests[found.pictures[row, rank]], width, height)) for rank in ranks
        ]
        there = [(rank, image) for rank, image in picked if image is not None]
        if not there:
            continue
        seen = pixels[row], pixels[row, :, ::-1]
        shown = [images.fit(seen[int(found.mirrored[row, rank])], side, side) for rank, _ in there]
        holders = [images.fit(image, side, side) for _, image in there]
        starts = corners([looked[found.windows[row, rank]] for rank, _ in there])
        refined, apart = register.refined(np.stack(holders), np.stack(shown), starts, reach)
        for (rank, image), (left, top, wide, tall), distance in zip(there, refined.tolist(), apart, strict=True):
            flip = bool(found.mirrored[row, rank])
            moves = align.at_window(left, top, wide, tall, flip, height, width)
            moves = tuple(to for to in moves if _allowed(to, m))
            if distance <= look.reach and moves:
                yield row, rank, int(found.pictures[row, rank]), image, moves


def _allowed(to: align.Alignment, m: MatchPlan) -> bool:
    return to.crop >= m.crop and (to.crop < 1 or max(abs(to.dx), abs(to.dy)) <= m.shift)


@dataclass(frozen=True, slots=True)
class _Nearest:
    """For each sample the nearest groups in order: each group's drawn member, and its distance in the descriptor."""

    members: NDArray[np.int64]
    distances: NDArray[np.float64]

    def ratios(self, alpha: float, n: int) -> NDArray[np.float64] | None:
        """Return the adaptive ratio of each: its distance over alpha times the mean of its n nearest other groups.

        Carlini et al. 2023, section 5.1. Departs from it: the candidate's own group is no neighbour, distances are
        between thumbnails, and pictures and controls are one pool, so that the ratio treats both alike. None with fewer
        than n + 1 groups.
        """
        if self.distances.shape[1] < n + 1:
            return None
        ranks = np.arange(self.distances.shape[1])
        nearest = self.distances[:, : n + 1].sum(1, keepdims=True)
        others = (nearest - np.where(ranks <= n, self.distances, self.distances[:, n : n + 1])) / n
        return np.where(others > 0, self.distances / np.maximum(alpha * others, 1e-12), 1 / alpha)


class _Pictures:
    """Decoded pictures at the size of the samples, a limited number kept."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus
        self._kept = lru_cache(maxsize=_PIXELS)(self._fit)

    def fitted(self, digest: str, width: int, height: int) -> RGB | None:
        return self._kept(digest, width, height)

    def _fit(self, digest: str, width: int, height: int) -> RGB | None:
        image = self._corpus.pixels(digest)
        return None if image is None else images.fit(image, width, height)


class _Pool:
    """One picture of every group of either side that is not set aside, in one index.

    It is the member whose caption was drawn, or for a group that was not asked one drawn by the same seed: the best of
    many members would come nearer by chance than a control's only one.
    """

    def __init__(self, look: Look, sides: frozenset[Side]) -> None:
        corpus = Corpus(look.corpus)
        asked = {row.group: row.digest for row in Store(look.root).read_all(Prompt, look.prompts)}
        members: dict[str, list[Group]] = defaultdict(list)
        for row in corpus.store.read_all(Group, look.groups):
            if row.side in sides and not row.set_aside:
                members[row.group].append(row)
        seed = look.plan.prompts.seed
        rows = [_member(of, asked.get(group), seed) for group, of in sorted(members.items())]
        self.pictures = _Pictures(corpus)
        self.digests = [row.digest for row in rows]
        self.groups = [row.group for row in rows]
        self.sides = [row.side for row in rows]
        self._index = Nearest(corpus.vectors(self.digests))
        self._corpus, self._trips, self._look = corpus, dict[str, RGB](), look
        self._held: tuple[tuple[Window, ...], NDArray[np.float16]] | None = None

    def fitted(self, digests: Sequence[str], width: int, height: int) -> list[RGB]:
        """Return pictures at the size of the samples; they were measured, so they are there."""
        found = [self.pictures.fitted(digest, width, height) for digest in digests]
        return [image for image in found if image is not None]

    def round_trips(self, digests: Sequence[str], width: int, height: int, model: Model) -> dict[str, RGB]:
        """Return pictures after the model's autoencoder, each sent there once; none where it has none."""
        for digest in digests:
            if digest not in self._trips:  # alone, since floats depend on what else is in a batch
                there = self.fitted([digest], width, height)
                self._trips |= zip([digest], (model.round_trip(there) if there else None) or [], strict=False)
        return {digest: self._trips[digest] for digest in digests if digest in self._trips}

    @cached_property
    def _thumbnails(self) -> NDArray[np.uint8]:
        return self._corpus.vectors(self.digests)

    def windows(self, pixels: NDArray[np.uint8], reach: float) -> tuple[tuple[Window, ...], windows.Likely]:
        """Return the windows that are looked at, and the members that show each sample likeliest in one of them."""
        small, m = Thumbnail(), self._look.plan.match
        if self._held is None:
            looked = windows.listed(reach, m.crop)
            self._held = looked, windows.held(self._thumbnails.reshape(-1, small.side, small.side, 3), looked)
        looked, held = self._held
        shown = small.describe(list(pixels)).reshape(-1, small.side, small.side, 3)
        return looked, windows.likely(held, shown, m.candidates, m.flip)

    def nearest_over(self, image: RGB, mask: NDArray[np.bool_]) -> list[int]:
        """Return the members that an image comes nearest to over a mask, by thumbnails as they stand; then mirrored."""
        small, m = Thumbnail(), self._look.plan.match
        grey = np.repeat(mask[..., None].astype(np.uint8) * 255, 3, 2)
        seen, where = (row.reshape(small.side, small.side, 3) for row in small.describe([image, grey]))
        found: list[int] = []
        for turn in (1, -1) if m.flip else (1,):
            inside = where[:, ::turn, 0] > 127
            found += templates.nearest(seen[:, ::turn], self._thumbnails, inside, m.candidates).tolist()
        return list(dict.fromkeys(found))

    def nearest(self, pixels: NDArray[np.uint8], groups: int, flip: bool) -> _Nearest:
        """Return the nearest groups of each sample, seen as it is or in the mirror, exactly."""
        groups = min(groups, len(self.digests))
        seen = [pixels, pixels[:, :, ::-1]] if flip else [pixels]
        found = [self._index.search(Thumbnail().describe(list(view)), groups) for view in seen]
        squared = np.concatenate([levels for levels, _ in found], 1)
        members = np.concatenate([ids for _, ids in found], 1)
        picked = [_first_of_each(squared[k], members[k], groups) for k in range(len(pixels))]
        levels = np.stack([levels for _, levels in picked])
        return _Nearest(np.stack([ids for ids, _ in picked]), np.sqrt(levels / Thumbnail().dimensions) / 255)


def _member(of: Sequence[Group], asked: str | None, seed: int) -> Group:
    return min(of, key=lambda row: (row.digest != asked, sha256(f"{seed} member {row.digest}".encode()).digest()))


def _first_of_each(
    squared: NDArray[np.int64], members: NDArray[np.int64], count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the nearest `count` members and their distances, each once."""
    order = np.lexsort((members, squared))
    first = np.sort(np.unique(members[order], return_index=True)[1])[:count]
    return members[order][first], squared[order][first]


@lru_cache(maxsize=1)
def _pool(look: Look, sides: frozenset[Side] = BOTH) -> _Pool:
    return _Pool(look, sides)


class _Alone(_Pool):
    """One picture as if there were no other."""

    def __init__(self, look: Look, digest: str) -> None:
        corpus = Corpus.at(look.corpus)
        self.pictures = _pictures(corpus)
        self.digests, self.groups, self.sides = [digest], [""], ["picture"]
        self._corpus, self._trips, self._look, self._held = corpus, {}, look, None


@lru_cache(maxsize=1)
def _pictures(corpus: Corpus) -> _Pictures:
    return _Pictures(corpus)
