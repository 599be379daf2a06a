"""Check the tables of an audit and of its corpus: every file against the ledger, every row against what it rests on."""

import hashlib
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from byrote import images
from byrote.audit import Audit, Made
from byrote.domain import RGB, Finding, Match, Prompt, Sample
from byrote.kernels.align import move
from byrote.kernels.distance import paired_rms, paired_tiled
from byrote.models import Model, Request
from byrote.seals.notes import BROKEN, NOTHING, Notes, plain
from byrote.seals.statement import CORPUS_LEDGER, LEDGER
from byrote.stages import generate, screen
from byrote.stages.certify import statistic
from byrote.stages.match import move_of
from byrote.store import Recipe, Store

_NAMES = {"table": "[a-z_]+", "recipe": "[0-9a-f]{16}", "part": "[0-9]{5,}"}
Place = tuple[str, str]


@dataclass
class _Table:
    """What a ledger says of a table: the parts that were begun, and each part's files with their digests."""

    begun: set[str] = field(default_factory=set)
    done: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))


def files(audit: Audit, notes: Notes) -> None:
    """Hold every file of every table against the digest that the ledger has of it."""
    try:
        recipes = [audit.corpus.recipe, *audit.recipes.every()]
        mine = {(recipe.table, recipe.digest) for recipe in recipes}
    except BROKEN:  # told where the plan is checked; the digests can be checked all the same
        mine = None
    notes.attempt(LEDGER, _files, audit.store, LEDGER, mine, notes)
    notes.attempt(CORPUS_LEDGER, _files, audit.corpus.store, CORPUS_LEDGER, mine, notes)


def complete(audit: Audit, notes: Notes) -> None:
    """Name the parts that the plan wants and that are not there."""
    recipes, parts = audit.recipes, [part.name for part in audit.parts()]
    wanted = [(audit.store, recipe, ["00000"]) for recipe in (recipes.prompts, recipes.covariates, recipes.certified)]
    wanted += [(audit.corpus.store, recipes.groups, ["00000"])]
    wanted += [(audit.store, recipes.screen.screened, ["00000"])] if recipes.screen else []
    for made in _made(audit):
        tables = made.look.tables
        wanted += [(audit.store, r, parts) for r in (made.samples, made.cliques, tables.candidates, tables.matches)]
    for store, recipe, names in wanted:
        for name in set(names) - set(store.parts(recipe)):
            notes.wrong(f"{recipe.table}/{recipe.digest}/{name}.parquet: gone")
        for name in set(store.parts(recipe)) - set(names):
            notes.wrong(f"{recipe.table}/{recipe.digest}/{name}.parquet: the plan wants no such part")


def screened(audit: Audit, notes: Notes) -> None:
    """Hold what was decided of each prompt against what follows from scores and cheap samples."""
    made = audit.recipes.screen
    if made is None:
        return
    fresh = {row.prompt: asdict(row) for row in screen.decided(audit.store, made, audit.prompts, audit.plan)}
    there = {row.prompt: plain(asdict(row)) for row in audit.screened}
    for number in sorted(fresh.keys() | there.keys()):
        place = f"screened/{made.screened.digest}/00000.parquet: prompt {number}"
        notes.compare(place, fresh.get(number, NOTHING), there.get(number, NOTHING))


def samples(audit: Audit, notes: Notes) -> None:
    """Hold each sample against what was asked, and its digest against its pixels and the arrays beside it."""
    asked = {part.name: part.payload for part in audit.parts()}
    near = _near(audit) if audit.recipes.screen else None
    for made, model in zip(_made(audit), (audit.model, audit.twin), strict=False):
        if model is None:
            continue
        ends = near is not None and made is audit.recipes.own
        screened = near is not None and not ends
        seeds = audit.drawn if screened else generate.seeds_of(audit.prompts, made.plan, model, audit.screened)
        for part in sorted(asked.keys() & set(audit.store.parts(made.samples))):
            name = f"samples/{made.samples.digest}/{part}.parquet"
            wanted = {p.number: tuple(seeds.get(p.number, ())) for p in asked[part]}
            if ends and near is not None:
                notes.attempt(name, _ended, audit, part, asked[part], wanted, near, notes)
                wanted = {number: each[: len(audit.drawn.get(number, ()))] for number, each in wanted.items()}
            notes.attempt(name, _part, audit, made, part, wanted, notes)


def _near(audit: Audit) -> Counter[int]:
    """Count the samples of each prompt that came within tau of a picture or control, give or take a level.

    What ended a prompt was measured on other batches of pictures through the autoencoder, whose floats may differ.
    """
    closest = audit.plan.certify.closest + 1 / 255
    return Counter(number for number, _ in {(m.prompt, m.index) for m in audit.matches() if statistic(m) <= closest})


def _ended(
    audit: Audit,
    part: str,
    prompts: Sequence[Prompt],
    wanted: dict[int, tuple[int, ...]],
    near: Counter[int],
    notes: Notes,
) -> None:
    """Hold that no prompt was left before its samples were all there or enough had come near."""
    drawn, least = audit.drawn, audit.plan.cliques.least
    for prompt in prompts:
        short = len(drawn.get(prompt.number, ())) < len(wanted[prompt.number])
        name = f"samples, part {part}: prompt {prompt.number} was left early though too few came near"
        notes.check(name, False, short and (prompt.stratum == "free" or near[prompt.number] < least))


def matches(audit: Audit, notes: Notes) -> None:
    """Hold every match against its sample, and measure the best match of each group again."""
    for made in _made(audit):
        _samples_of_matches(audit, made, notes)
    best = audit.best()
    table = f"matches/{audit.recipes.look.tables.matches.digest}"
    found = audit.samples({row.sample for row in best.values()})
    gone = 0
    for row in best.values():
        picture = audit.corpus.pixels(row.digest) if row.digest in audit.corpus.by_digest else None
        image = _decoded(found.get(row.sample, b""))
        if picture is None or image is None:
            gone += 1
        else:
            _measured(row, image, picture, audit.plan.cliques.tiles, f"{table}: {_name(row)}", notes)
    if gone:
        notes.open(f"{table}: {gone:,} distances were not measured again: the picture or the sample is gone")


def findings(audit: Audit, notes: Notes) -> None:
    """Hold the findings that were written against those that follow from the matches."""
    table = audit.recipes.certified
    fresh = {(row.family, row.side, row.group): asdict(row) for row in audit.certified.findings}
    there = {(row.family, row.side, row.group): asdict(row) for row in audit.store.read_all(Finding, table)}
    for name in sorted(fresh.keys() | there.keys()):
        place = f"certified/{table.digest}/00000.parquet: {name[1]} group {name[2][:19]}"
        notes.compare(place, fresh.get(name, NOTHING), there.get(name, NOTHING))


def again(audit: Audit, notes: Notes, count: int, seed: int) -> None:
    """Make some samples of each model again, chosen by a seed, and compare them within the model's tolerance."""
    own = audit.recipes.samples
    asked = [(part, k) for part in audit.store.parts(own) for k in range(audit.store.rows(own, part))]
    dice = random.Random(f"byrote verify {seed}")
    for made, model in zip(_made(audit), (audit.model, audit.twin), strict=False):
        for part, k in sorted(dice.sample(asked, min(count, len(asked)))):
            name = f"samples/{made.samples.digest}/{part}.parquet"
            notes.attempt(name, _again, audit, made, model, part, k, notes)


def _files(store: Store, ledger: str, mine: set[Place] | None, notes: Notes) -> None:
    known: dict[Place, _Table] = defaultdict(_Table)
    for line in store.ledger():
        if line.get("event") in ("begun", "done"):
            if not all(re.fullmatch(form, str(line.get(key))) for key, form in _NAMES.items()):
                notes.wrong(f"{ledger}: a line of {line.get('at')} names no part of a table")
                continue
            table = known[line["table"], line["recipe"]]
            table.begun.add(line["part"])
            if line["event"] == "done":
                table.done[line["part"]].append(line.get("files"))
    prefix = ledger.removesuffix(LEDGER)
    for place, table in sorted(known.items()):
        _table(store.root.joinpath(*place), prefix + "/".join(place), table, mine is None or place in mine, notes)
    for path in sorted(store.root.glob("*/*/*.parquet")):
        if (path.parent.parent.name, path.parent.name) not in known:
            notes.wrong(f"{prefix}{path.relative_to(store.root)}: {ledger} knows nothing of this table")


def _table(folder: Path, name: str, table: _Table, mine: bool, notes: Notes) -> None:
    if not folder.exists():
        gone = f"{name}: gone with {', '.join(sorted(table.begun)[:3])}"
        (notes.wrong if mine else notes.open)(gone if mine else f"{gone}; a table of another plan")
        return
    there = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    recipe = folder / "recipe.json"
    content = recipe.read_text(encoding="utf-8", errors="replace") if recipe.exists() else ""
    about = hashlib.sha256(f"{folder.parent.name}\n{content.removesuffix(chr(10))}".encode()).hexdigest()[:16]
    notes.check(f"{name}/recipe.json: digest", folder.name, about if recipe.exists() else NOTHING)
    for part, told in sorted(table.done.items()):
        _digests(folder, name, part, told, notes)
    for part in sorted(table.begun - table.done.keys()):
        if any(each.split(".")[0] == part for each in there):
            notes.open(f"{name}/{part}: the ledger has no digest of it")
    for each in sorted(each for each in there if each != "recipe.json" and each.split(".")[0] not in table.begun):
        notes.wrong(f"{name}/{each}: the ledger knows nothing of it")


def _digests(folder: Path, name: str, part: str, told: list[Any], notes: Notes) -> None:
    expected = told[0]
    if any(each != expected for each in told):
        notes.wrong(f"{name}/{part}: it was made more than once, with different files")
    if not isinstance(expected, dict):
        notes.open(f"{name}/{part}: the ledger has no digest of it")
        return
    there = {path.name: path for path in folder.glob(f"{part}.*")}
    for file in sorted(expected.keys() | there.keys()):
        found = _sha256(there[file]) if file in there else NOTHING
        notes.check(f"{name}/{file}: digest", expected.get(file, NOTHING), found)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _part(audit: Audit, made: Made, part: str, asked: dict[int, tuple[int, ...]], notes: Notes) -> None:
    """Check the rows of a part: no prompt and no seed left out, none chosen by hand, and each image as it is named."""
    name, store = f"samples/{made.samples.digest}/{part}.parquet", audit.store
    rows = store.read(Sample, made.samples, part)
    wanted = [[number, k, seed] for number, seeds in asked.items() for k, seed in enumerate(seeds)]
    notes.compare(f"{name}: prompt, index and seed", wanted, [[row.prompt, row.index, row.seed] for row in rows])
    small = bool(rows) and rows[0].width * rows[0].height <= generate.SMALL
    kept = store.array(made.samples, part, generate.PIXELS) if small else None
    for k, row in enumerate(rows):
        image = _decoded(row.image)
        notes.check(f"{name}: {_name(row)}", row.digest, "no image" if image is None else images.digest(image))
        if kept is not None:
            beside = images.digest(kept[k]) if k < len(kept) else NOTHING
            notes.check(f"{name}: {_name(row)}, the array beside it", row.digest, beside)


def _samples_of_matches(audit: Audit, made: Made, notes: Notes) -> None:
    for part in audit.store.parts(made.look.tables.matches):
        rows = _identities(audit.store, made.samples, part)
        for row in audit.store.read(Match, made.look.tables.matches, part):
            name = f"matches/{made.look.tables.matches.digest}/{part}.parquet: {_name(row)}"
            notes.compare(name, rows.get((row.prompt, row.index), NOTHING), [row.seed, row.sample])


def _identities(store: Store, made: Recipe, part: str) -> dict[tuple[int, int], Any]:
    return {(row.prompt, row.index): [row.seed, row.digest] for row in store.read(Sample, made, part)}


def _measured(row: Match, image: RGB, picture: RGB, tiles: int, name: str, notes: Notes) -> None:
    height, width = image.shape[:2]
    moved = move(images.fit(picture, width, height), move_of(row))[None]
    notes.check(f"{name}: tiled", float(paired_tiled(image[None], moved, tiles=tiles)[0]), row.tiled)
    notes.check(f"{name}: rms", float(paired_rms(image[None], moved)[0]), row.rms)


def _again(audit: Audit, made: Made, model: Model | None, part: str, k: int, notes: Notes) -> None:
    if model is None:
        return
    row = audit.store.read(Sample, made.samples, part)[k]
    texts = {prompt.number: prompt.text for prompt in audit.prompts}
    then, now = _decoded(row.image), model.generate([Request(texts[row.prompt], row.seed)])[0]
    apart = 255 if then is None or then.shape != now.shape else int(np.abs(then.astype(int) - now).max())
    name = f"samples/{made.samples.digest}/{part}.parquet: {_name(row)}, made again"
    notes.check(f"{name}: within {model.tolerance} levels", True, apart <= model.tolerance)


def _made(audit: Audit) -> Iterator[Made]:
    return (made for made in (audit.recipes.own, audit.recipes.twin) if made is not None)


def _name(row: Sample | Match) -> str:
    return f"prompt {row.prompt}, sample {row.index}"


def _decoded(data: bytes) -> RGB | None:
    try:
        return images.decode(data)
    except images.Undecodable:
        return None
