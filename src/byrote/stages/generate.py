"""Fill `samples`: ask the model for every prompt as often as the plan says.

A part holds whole prompts, in their order, cut into batches of the plan's size, so its bytes depend on the plan alone.
Where the memory does not suffice the batches of a part are halved, which the ledger says: it is equal within the
model's tolerance then.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from byrote import images, models
from byrote.domain import RGB, Prompt, Sample, Screened
from byrote.engine import Part
from byrote.errors import PlanError
from byrote.hashlist import HashList
from byrote.kernels.distance import block_means
from byrote.models import KeepsAnswers, Model, Options, Request, held
from byrote.models.memory import halving
from byrote.plan import Plan
from byrote.stages import Desk, Failed
from byrote.store import Recipe, Store

PART = 256
MEANS = "means"
PIXELS = "pixels"
SCREENED = "screened"
REFUSED = "refused"
SMALL = 128 * 128
"""Up to so many pixels a sample is kept decoded too: to decode it again in later stages costs more than they do."""


@lru_cache(maxsize=2)
def open_model(uri: str, options: Options, base: Path) -> Model:
    """Open a model, and its twin, once in a process."""
    return models.open(uri, options, relative_to=base)


def model_of(plan: Plan) -> Model:
    """Open the model of a plan. Raises ModelError."""
    knobs = {knob.name for knob in fields(Options)}
    told = asdict(plan.model) | asdict(plan.generate)
    return open_model(plan.model.uri, Options(**{name: told[name] for name in knobs}), plan.base)


def recipe(prompts: Recipe, plan: Plan, model: Model, screened: Recipe | None = None) -> Recipe:
    """Return the recipe of the samples; the model is in it by the digest of its weights.

    `screened` is the table that says who gets how many, where there is one.
    """
    knobs = {"seeds": plan.generate.seeds, "tiles": plan.cliques.tiles, "seed": plan.prompts.seed}
    more = {"screened": screened.digest} if screened else {}
    return Recipe.of("samples", {"prompts": prompts.digest, "model": model.digest} | knobs | drawing(plan) | more)


def drawing(plan: Plan) -> dict[str, object]:
    """Return all that an image depends on besides model, prompt and seed, for the recipe of whatever is drawn."""
    g, m, listed = plan.generate, plan.model, hash_list(plan)
    found: dict[str, object] = {"steps": g.steps, "guidance": g.guidance, "sampler": g.sampler, "batch": g.batch}
    found |= {"width": g.width, "height": g.height, "dtype": m.dtype, "device": m.device, "threads": m.threads}
    found |= {"hashes": listed.digest} if listed else {}
    found |= {"negative": g.negative} if g.negative else {}
    return found | {name: True for name in ("slicing", "compile") if getattr(m, name)}


def hash_list(plan: Plan) -> HashList | None:
    """Open the list that screens samples, if the plan names one. Raises DescriptorError."""
    if not plan.generate.hashes:
        return None
    path = plan.file(plan.generate.hashes)
    return _opened_list(path, path.stat().st_mtime_ns if path.exists() else 0)


@lru_cache(maxsize=2)
def _opened_list(path: Path, changed: int) -> HashList:
    """Read a list once in a process, and again when the file has changed."""
    return HashList.open(path)


Asked = tuple[Prompt, int, int]
"""A sample that is asked for: its prompt, its index and its seed."""
Seeds = Mapping[int, Sequence[int]]
"""The seeds of every prompt's samples, by its number."""


def parts(prompts: Sequence[Prompt], seeds: Seeds) -> list[Part]:
    """Cut the prompts that get any sample into parts of about 256 samples."""
    chunks: list[list[Prompt]] = []
    room = 0
    for prompt in prompts:
        count = len(seeds[prompt.number])
        if count:
            if count > room or not chunks:
                chunks, room = [*chunks, []], PART
            chunks[-1].append(prompt)
            room -= count
    return [Part(f"{k:05d}", tuple(some), sum(len(seeds[p.number]) for p in some)) for k, some in enumerate(chunks)]


def seeds_of(prompts: Sequence[Prompt], plan: Plan, model: Model, screened: Iterable[Screened] = ()) -> Seeds:
    """Return the seeds of every prompt's samples: all prompts of an audit must be there.

    Those of the prompts that were `screened` are as it says. Of a model that holds samples they are the recording's
    own: for each prompt of a text the next ones in its order, and from the first again where there are no more.
    """
    n, holds = plan.generate.seeds, held(model)
    if holds is None:
        drawn = {p.number: tuple(seed_of(p, k, plan.prompts.seed) for k in range(n)) for p in prompts}
        return drawn | {row.prompt: row.seeds for row in screened}
    found, before = {}, Counter[str | None]()
    for prompt in prompts:
        there = holds.get(prompt.text, ())
        start = n * (before[prompt.text] % max(1, len(there) // n))
        found[prompt.number] = tuple(there[start : start + n])
        before[prompt.text] += 1
    return found


def askable(plan: Plan, models: Iterable[Model]) -> dict[str | None, int] | None:
    """Return for how many prompts of each text the samples suffice that all models hold; None where none holds any."""
    found: dict[str | None, int] | None = None
    for model in models:
        holds = held(model)
        if holds is not None:
            counts = {text: len(seeds) // plan.generate.seeds for text, seeds in holds.items()}
            found = {t: c if found is None else min(c, found.get(t, 0)) for t, c in counts.items()}
            found = {text: count for text, count in found.items() if count}
    return found


def run(
    desk: Desk, made: Recipe, parts: Sequence[Part], plan: Plan, seeds: Seeds, enough: "Enough | None" = None
) -> list[Failed]:
    """Make the samples, and tell where the memory did not suffice for whole batches."""
    work = [replace(part, payload=[(p, seeds[p.number]) for p in part.payload]) for part in parts]
    failed = desk.fill(made, Generate(desk.store.root, made, plan, enough), work, "samples")
    less = halved(desk.store, made)
    if less:
        desk.tell(
            f"out of memory: {len(less)} parts were made with as few as {min(less.values())} at once instead of "
            f"{plan.generate.batch}"
        )
    return failed


class Enough(Protocol):
    """Tells of each image whether it is what is looked for, and how many such a prompt wants before it is left."""

    @property
    def least(self) -> int:
        """Return how many suffice."""
        ...

    def __call__(self, images: Sequence[RGB]) -> list[bool]:
        """Look at images."""
        ...


def rounds(most: int, first: int = 0) -> Iterator[tuple[int, int]]:
    """Cut `most` samples, of which the first are there, into rounds: 2, then as many as there are already."""
    while first < most:
        end = min(most, max(2, 2 * first))
        yield first, end
        first = end


@dataclass(frozen=True, slots=True)
class Generate:
    """Ask for a part's prompts: its payload are pairs of a prompt and the seeds of its samples.

    With a rule of what is `enough` it asks in rounds, and only for prompts that have not enough yet; those that stand
    for nobody get all.
    """

    root: Path
    made: Recipe
    plan: Plan
    enough: Enough | None = None

    def __call__(self, part: Part) -> None:
        """Do one part."""
        asked, made, held_back = self._drawn(part)
        model = model_of(self.plan)
        requests = [Request(prompt.text, seed) for prompt, _, seed in asked]
        refused = sum(model.refused(requests)) if isinstance(model, KeepsAnswers) else 0
        rows = [_sample(p, k, seed, image) for (p, k, seed), image in zip(asked, made, strict=True)]
        stacked = np.stack(made)
        means = block_means(stacked, blocks_of(rows[0].height, rows[0].width, self.plan.cliques.tiles))
        kept = {PIXELS: stacked} if rows[0].width * rows[0].height <= SMALL else {}
        kept |= {name: np.array([n]) for name, n in ((SCREENED, held_back), (REFUSED, refused)) if n}
        Store(self.root).write(self.made, part.name, rows, Sample, {MEANS: means} | kept)

    def _drawn(self, part: Part) -> tuple[list[Asked], list[RGB], int]:
        """Draw the samples of a part; return them in the order of its prompts, and how many a list held back."""
        still: Sequence[tuple[Prompt, Sequence[int]]] = part.payload
        most, held_back = max(len(seeds) for _, seeds in still), 0
        found: dict[int, list[tuple[Asked, RGB]]] = {prompt.number: [] for prompt, _ in still}
        near = Counter[int]()
        for first, end in rounds(most) if self.enough else [(0, most)]:
            asked = [(p, k, seed) for p, seeds in still for k, seed in list(enumerate(seeds))[first:end]]
            if not asked:
                break
            made, screened = self._shown(part, asked)
            held_back += screened
            for each, image in zip(asked, made, strict=True):
                found[each[0].number].append((each, image))
            if self.enough:
                near.update(each[0].number for each, hit in zip(asked, self.enough(made), strict=True) if hit)
                least = self.enough.least
                still = [(p, seeds) for p, seeds in still if p.stratum == "free" or near[p.number] < least]
        rows = [row for each in found.values() for row in each]
        return [each for each, _ in rows], [image for _, image in rows], held_back

    def _shown(self, part: Part, asked: Sequence[Asked]) -> tuple[list[RGB], int]:
        """Ask, put noise where a list of hashes hits, and count that."""
        requests = [Request(p.text, seed) for p, _, seed in asked]
        made = self._ask(part, requests)
        return made, vet(self.plan, requests, made)

    def _ask(self, part: Part, requests: Sequence[Request]) -> list[RGB]:
        """Ask in batches, and write down where they had to be halved."""
        batch = self.plan.generate.batch
        made, least = halving(model_of(self.plan).generate, requests, batch)
        if least < batch:
            about = {"table": self.made.table, "recipe": self.made.digest, "part": part.name}
            Store(self.root).log("halved", about | {"batch": batch, "to": least})
        return made


def screen(listed: HashList, made: list[RGB], seeds: Sequence[int]) -> list[int]:
    """Put noise in the place of every image that the list hits, by its seed, and return their places.

    Noise is near nothing, itself under another seed included, so that it brings neither a clique nor a match.
    """
    hits: list[int] = np.flatnonzero(listed.screen(made, [None] * len(made))).tolist()
    for k in hits:
        made[k] = models.noise(seeds[k], *made[k].shape[:2])
    return hits


def vet(plan: Plan, requests: Sequence[Request], made: list[RGB]) -> int:
    """Put noise in the place of what the plan's list hits, let the model forget it too, and count it.

    Raises PlanError where the plan's tiles do not divide the images.
    """
    check_tiles(made[0], plan.cliques.tiles)
    model, listed = model_of(plan), hash_list(plan)
    hits = screen(listed, made, [request.seed for request in requests]) if listed else []
    if isinstance(model, KeepsAnswers):
        model.forget([requests[k] for k in hits])
    return len(hits)


def screened(store: Store, made: Recipe) -> int:
    """Count the samples that the list of hashes hit."""
    return _counted(store, made, SCREENED)


def refused(store: Store, made: Recipe) -> int:
    """Count the samples that the server of the model refused to draw; noise of their seed stands for them too."""
    return _counted(store, made, REFUSED)


def _counted(store: Store, made: Recipe, what: str) -> int:
    parts = [path.name.split(".")[0] for path in store.folder(made).glob(f"*.{what}.npy")]
    return sum(int(store.array(made, part, what)[0]) for part in parts)


def halved(store: Store, made: Recipe) -> dict[str, int]:
    """Return the parts whose batches were halved for want of memory, with the size that they ended with."""
    found: dict[str, int] = {}
    for line in store.ledger():
        if line.get("recipe") == made.digest and line["event"] == "begun":
            found.pop(line["part"], None)
        if line.get("recipe") == made.digest and line["event"] == "halved":
            found[line["part"]] = line["to"]
    return found


def check_tiles(image: RGB, tiles: int) -> None:
    """Refuse a size that the tiles do not divide, where the model alone knew of it. Raises PlanError."""
    height, width = image.shape[:2]
    if height % tiles or width % tiles:
        raise PlanError(
            f"[cliques] tiles = {tiles} must divide the size of the samples, {width}x{height}: set other tiles, or "
            "[generate] width and height (for a recording ?size=)"
        )


def blocks_of(height: int, width: int, tiles: int) -> int:
    """Return how many blocks go along an edge: four a tile where that divides the image, else fewer."""
    return next(tiles * n for n in (4, 2, 1) if not (height % (tiles * n) or width % (tiles * n)) or n == 1)


def read(store: Store, made: Recipe, part: str) -> tuple[list[Sample], NDArray[np.uint8]]:
    """Read the samples of a part and their pixels: uint8 [n, h, w, 3]."""
    samples = store.read(Sample, made, part)
    if samples[0].width * samples[0].height <= SMALL:
        return samples, store.array(made, part, PIXELS)
    return samples, np.stack([images.decode(sample.image) for sample in samples])


def ask(model: Model, requests: Sequence[Request], batch: int) -> list[RGB]:
    """Ask the model in batches, in order, halved where the memory does not suffice. Raises OutOfMemory for one."""
    return halving(model.generate, requests, batch)[0]


def seed_of(prompt: Prompt, index: int, seed: int) -> int:
    """Return the seed of one sample: 63 bits that depend on the plan's seed, the prompt and the sample's index only."""
    about = f"{seed} {prompt.digest or prompt.number} {prompt.text} {index}"
    return int.from_bytes(hashlib.sha256(about.encode("utf-8", "surrogatepass")).digest()[:8]) >> 1


def _sample(prompt: Prompt, index: int, seed: int, image: RGB) -> Sample:
    height, width = image.shape[:2]
    return Sample(prompt.number, index, seed, images.digest(image), width, height, images.encode_png(image))
