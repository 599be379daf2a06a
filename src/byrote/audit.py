"""One run of the whole chain against one model, in one folder."""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, astuple, dataclass, field, replace
from functools import cached_property
from math import inf
from pathlib import Path
from typing import Any

from byrote import canaries, sources
from byrote.canaries import Canary
from byrote.corpus import Corpus
from byrote.domain import SIDES, Clique, Family, Group, Match, Prompt, Sample, Screened, Side
from byrote.engine import Part
from byrote.kernels.matching import Separation
from byrote.models import HoldsSamples, Model, held
from byrote.plan import Plan, load
from byrote.sources import Note
from byrote.stages import Failed, cliques, dedupe, generate, ladder, likeness, match, probe, prompts, screen
from byrote.stages.certify import Certified, Test, Tested, certify, statistic, test_of
from byrote.stages.claims import Judged, Named, judge
from byrote.stages.prompts import Wanted
from byrote.stages.ways import Hits, with_ways
from byrote.store import Recipe, Store

STATISTIC = (
    "smallest tiled RMS distance, aligned, to the picture or its round trip, over samples of prompts with a clique"
)
OF_TEMPLATES = "; or smallest RMS distance over what stays fixed among samples that agree in a share of the tiles"
"""What the plan's templates add to it."""
UNSURE: dict[str, Any] = {
    "certified": False, "sensitivity": None, "p_value": None, "q_value": None, "matched_p": None, "twin_p": None
}  # fmt: skip
"""What a plan that was changed after sampling takes from a finding."""
SEALED = ("prompts", "ladder", "generate", "cliques", "match", "certify")
"""The sections of the plan that a seal fixes word for word; model, twin, corpus and canaries go in by their digests."""
LATER = ("anywhere", "template")
"""Knobs that are sealed only where they are on: seals are older than they are."""


@dataclass(frozen=True, slots=True)
class Seal:
    """What was fixed, and whether that was before any sample from that noise of that model was begun.

    `alike` tells whether model and corpus are those of this audit, `elsewhere` whether it is known from another folder.
    """

    digest: str
    at: str
    before_sampling: bool
    seed: int
    closest: float
    alike: bool
    elsewhere: bool


@dataclass(frozen=True, slots=True)
class Claim:
    """A picture that somebody named. `named` tells whether that was before any sample that this folder knows."""

    digest: str
    at: str
    named: bool


@dataclass(frozen=True, slots=True)
class Made:
    """The tables that one model fills, from the prompts that it is asked to the matches."""

    plan: Plan
    samples: Recipe
    cliques: Recipe
    look: match.Look

    def every(self) -> list[Recipe]:
        """Return all of them, in the order of the stages."""
        return [self.samples, self.cliques, *vars_of(self.look.tables)]


@dataclass(frozen=True, slots=True)
class Recipes:
    """The tables of one audit. They follow from the plan, the corpus, the model and its twin."""

    groups: Recipe
    prompts: Recipe
    screen: screen.Tables | None
    own: Made
    twin: Made | None
    covariates: Recipe
    certified: Recipe
    probed: Recipe | None

    @property
    def samples(self) -> Recipe:
        """Return the samples of the model under audit."""
        return self.own.samples

    @property
    def cliques(self) -> Recipe:
        """Return the cliques among them."""
        return self.own.cliques

    @property
    def look(self) -> match.Look:
        """Return how they are matched."""
        return self.own.look

    def every(self) -> list[Recipe]:
        """Return all of them, in the order of the stages."""
        made = [recipe for each in (self.own, self.twin) if each for recipe in each.every()]
        screened = self.screen.every() if self.screen else []
        probed = [self.probed] if self.probed else []
        return [self.groups, self.prompts, *screened, *made, self.covariates, self.certified, *probed]


def vars_of(tables: match.Tables) -> list[Recipe]:
    """Return the recipes of the match stage in the order in which they are filled."""
    return [tables.candidates, tables.round_trips, tables.matches]


@dataclass
class Audit:
    """An audit folder: its plan, its corpus, its model and the tables that it has so far."""

    root: Path
    failed: list[Failed] = field(default_factory=list)

    @cached_property
    def plan(self) -> Plan:
        """Return the plan in audit.toml. Raises PlanError."""
        return load(self.root / "audit.toml")

    @cached_property
    def corpus(self) -> Corpus:
        """Open the corpus of the plan. Raises CorpusError."""
        return Corpus.at((self.plan.base / self.plan.corpus.path).resolve())

    @cached_property
    def model(self) -> Model:
        """Open the model of the plan. Raises ModelError."""
        return generate.model_of(self.plan)

    @cached_property
    def store(self) -> Store:
        """Return the folder's store."""
        return Store(self.root.resolve())

    @cached_property
    def twin(self) -> Model | None:
        """Open the model that was not trained on the pictures, where the plan has one. Raises ModelError."""
        return generate.model_of(self._twin_plan) if self.plan.twin.uri else None

    @cached_property
    def recipes(self) -> Recipes:
        """Name the tables. Reads the corpus, so ingest must be over."""
        groups = dedupe.recipe(self.corpus, self.plan.corpus)
        asked = prompts.recipe(groups, self.wanted)
        screened = screen.tables(groups, asked, self.plan, self.model) if screen.on(self.plan) else None
        most = screened.screened if screened else None
        own = self._made(groups, asked, self.plan, self.model, most)
        twin = self._made(groups, asked, self._twin_plan, self.twin, most) if self.twin else None
        moved = likeness.recipe(own.samples, groups)
        tables = [made.look.tables.matches.digest for made in (own, twin) if made]
        about = {"matches": tables, "covariates": moved.digest, "plan": asdict(self.plan.certify)}
        certified = Recipe.of("certified", about)
        probed = probe.recipe(certified, self.plan) if probe.on(self.plan) else None
        return Recipes(groups, asked, screened, own, twin, moved, certified, probed)

    @cached_property
    def wanted(self) -> Wanted:
        """Return who is to be asked, and how. Raises PlanError for a file of the plan that cannot be read."""
        plan, steps = self.plan, self.plan.ladder
        texts = plan.file(steps.texts)
        return Wanted(
            plan.prompts,
            self.model.takes_text,
            steps,
            tuple(claim.digest for claim in self.claims() if claim.named),
            frozenset(canary.digest for canary in self.canaries),
            ladder.read_users(plan.file(steps.users)) if "users" in steps.rungs else (),
            ladder.read_texts(texts) if steps.texts else {},
            texts,
            generate.askable(plan, [model for model in (self.model, self.twin) if model is not None]),
        )

    @cached_property
    def canaries(self) -> list[Canary]:
        """Return the canaries of the plan. Raises ByroteError."""
        return canaries.read(self.plan.file(self.plan.canaries.file)) if self.plan.canaries.file else []

    @cached_property
    def prompts(self) -> list[Prompt]:
        """Return the prompts that were drawn."""
        return self.store.read_all(Prompt, self.recipes.prompts)

    @cached_property
    def screened(self) -> list[Screened]:
        """Return what the screen decided of each prompt; nothing where the plan screens none."""
        made = self.recipes.screen
        return self.store.read_all(Screened, made.screened) if made else []

    @cached_property
    def seeds(self) -> generate.Seeds:
        """Return the seeds of every prompt's samples, in their order: with a screen, of as many as there can be."""
        return generate.seeds_of(self.prompts, self.plan, self.model, self.screened)

    @cached_property
    def drawn(self) -> generate.Seeds:
        """Return the seeds of the samples that were made, which a screen's rule may have ended early."""
        found: dict[int, list[int]] = defaultdict(list)
        for part in self.store.parts(self.recipes.samples):
            columns = (self.store.column(Sample, self.recipes.samples, part, name) for name in ("prompt", "seed"))
            for number, seed in zip(*columns, strict=True):
                found[number].append(seed)
        return found

    @cached_property
    def groups(self) -> list[Group]:
        """Return the rows of the groups."""
        return self.corpus.store.read_all(Group, self.recipes.groups)

    def claims(self) -> list[Claim]:
        """List the pictures that were named, each once; after a sample of any seed or model naming is no naming.

        Nor is it beside a recording, whose samples were there before.
        """
        found: dict[str, Claim] = {}
        sampled = held(self.model) is not None
        for line in self.store.ledger():
            sampled |= line["event"] in ("seal", "extraction")
            if line["event"] == "claim":
                found.setdefault(line["digest"], Claim(line["digest"], line["at"], not sampled))
        return list(found.values())

    def seals(self) -> list[Seal]:
        """List what was sealed in this folder, and over this corpus elsewhere before this audit certified; in order."""
        here, done = self._lines("seal"), self._certified_at()
        known = {line["digest"] for line in here}
        there = [line for line in self.corpus.store.ledger() if line["event"] == "seal" and line["digest"] not in known]
        rows = [(line, False) for line in here] + [(line, True) for line in there if line["at"] <= done]
        return sorted((self._seal_of(line, elsewhere) for line, elsewhere in rows), key=lambda seal: seal.at)

    @cached_property
    def seal(self) -> Seal | None:
        """Return the seal of the audit as its plan stands, or None before it is sealed."""
        digest = self._sealed()["digest"]
        mine = [self._seal_of(line, False) for line in self._lines("seal") if line["digest"] == digest]
        return mine[0] if mine else None

    @cached_property
    def recorded(self) -> bool:
        """Tell whether any sample was made elsewhere, before there was a plan."""
        return self.wanted.held is not None

    @property
    def sealed_before_sampling(self) -> bool:
        """Tell whether the seal of this audit is older than its first sample."""
        return self.seal is not None and self.seal.before_sampling

    def seal_now(self) -> None:
        """Write down, before the first sample, everything that the certificate rests on."""
        if self.seal is None:
            sealed = self._sealed() | {"before_sampling": not self._sampled()}
            self.store.log("seal", sealed)
            self.corpus.store.log("seal", sealed)
            del self.seal

    def power(self) -> dict[Family, Test]:
        """Weigh all families before any sample is made, no control at the cut."""
        families, fdr = self._families(), self.plan.certify.fdr
        counts = {f: [len(families.get((f, side), ())) for side in SIDES] for f, _ in families}
        return {f: test_of(m, n, 0, fdr=fdr) for f, (m, n) in counts.items()}

    @cached_property
    def certified(self) -> Certified:
        """Hold every group's best match against the controls."""
        rule, reach = self.plan.certify, self.recipes.look.reach
        result = certify(list(self._tested()), fdr=rule.fdr, closest=rule.closest, matched=rule.matched, reach=reach)
        findings = with_ways(result.findings, self.hits)
        if self.recorded:
            findings = [replace(finding, basis="assumption-based") for finding in findings]
        if not self.sealed_before_sampling:
            findings = [replace(finding, **UNSURE) for finding in findings]
        return replace(result, findings=findings)

    @cached_property
    def judged(self) -> list[Judged]:
        """Judge the claims on single pictures."""
        rule, valid = self.plan.certify, self.sealed_before_sampling
        judged = judge(self._named(), self.certified.findings, alpha=rule.fdr, closest=rule.closest, valid=valid)
        return [replace(row, basis="assumption-based") for row in judged] if self.recorded else judged

    @property
    def named(self) -> set[str]:
        """Return the groups of pictures that were named before sampling."""
        return {row.group for row in self._named() if row.named and row.group}

    def _named(self) -> list[Named]:
        groups = {row.digest: row.group for row in self.groups if row.side == "picture" and not row.set_aside}
        return [Named(claim.digest, claim.at, claim.named, groups.get(claim.digest)) for claim in self.claims()]

    @cached_property
    def apart(self) -> Separation | None:
        """Return how well pictures and controls are told apart without the model."""
        seed = self.plan.prompts.seed
        prompts = self.prompts if self.model.takes_text else likeness.as_if_asked(self.groups, seed)
        return likeness.apart(self.corpus, prompts, seed)

    @cached_property
    def hits(self) -> Hits:
        """Return which samples are within tau of which group, those left out that the twin gives too."""
        closest, twin = self.plan.certify.closest, self.recipes.twin
        given = {group for group, row in self.best(twin).items() if statistic(row) <= closest} if twin else set()
        matches = (row for row in self.matches() if row.group not in given)
        return Hits(matches, self.prompts, closest, {row.prompt: row.samples for row in self.cliques()})

    @cached_property
    def askable(self) -> dict[Side, tuple[int, int]]:
        """Count the groups of each side that can be asked, of those with a caption: fewer where samples are held."""
        return prompts.askable(self.groups, self.corpus.pictures, self.wanted)

    @property
    def passed_over(self) -> dict[str, int]:
        """Count what recordings passed over, by its reason."""
        found: Counter[str] = Counter()
        for model in (self.model, self.twin):
            found.update(model.skipped if isinstance(model, HoldsSamples) else {})
        return dict(found)

    def parts(self) -> list[Part]:
        """Return the parts that the samples are to have."""
        return generate.parts(self.prompts, self.seeds)

    def cliques(self) -> list[Clique]:
        """Return what the samples of each prompt have in common."""
        return self.store.read_all(Clique, self.recipes.cliques)

    def listed_again(self) -> tuple[int, list[Note]]:
        """List the sources once more: how many indexed pictures are gone, and what a listing passes over."""
        there, notes = set(), []
        for named in self.corpus.named():
            source = sources.open(named.uri)
            there |= {(named.uri, item.where) for item in source.list()}
            notes += source.notes
        return sum((row.source, row.where) not in there for row in self.corpus.pictures), notes

    def matches(self) -> list[Match]:
        """Return the matches; of prompts without a clique only those that come near."""
        return self.store.read_all(Match, self.recipes.look.tables.matches)

    def samples(self, digests: set[str]) -> dict[str, bytes]:
        """Return the PNG of some samples by their digests; those that are gone are left out."""
        made = self.recipes.samples
        rows = (row for part in self.store.parts(made) for row in self.store.read(Sample, made, part))
        return {row.digest: row.image for row in rows if row.digest in digests}

    def seconds(self) -> float:
        """Add up what the parts of this audit took, on all workers."""
        mine = {recipe.digest for recipe in self.recipes.every()}
        lines = [*self._lines("done"), *(line for line in self.corpus.store.ledger() if line["event"] == "done")]
        return float(sum(line["seconds"] for line in lines if line["recipe"] in mine))

    def best(self, made: Made | None = None) -> dict[str, Match]:
        """Return the match of smallest T of every group that has any, of the model or of its twin.

        Samples of prompts without a clique do not count, nor those of ordinary users' prompts: they were written for
        nobody's sake that is drawn, so they may favour one side.
        """
        made = made or self.recipes.own
        counts = {row.prompt for row in self.store.read_all(Clique, made.cliques) if row.found}
        counts -= {prompt.number for prompt in self.prompts if prompt.rung == "users"}
        best: dict[str, Match] = {}
        for row in self.store.read_all(Match, made.look.tables.matches):
            if row.prompt not in counts:
                continue
            known = best.get(row.group)
            if known is None or _order(row) < _order(known):
                best[row.group] = row
        return best

    def _tested(self) -> Iterable[Tested]:
        sides, best = {row.group: row for row in self.groups}, self.best()
        twin = self.best(self.recipes.twin) if self.recipes.twin else None
        moved = {row.digest: row.values for row in self.store.read_all(likeness.Moves, self.recipes.covariates)}
        asked = {prompt.group: prompt.digest for prompt in self.prompts}
        claimed = {prompt.group for prompt in self.prompts if prompt.stratum == "claim"}
        for (family, side), groups in self._families().items():
            for group in sorted(groups):
                found, row = best.get(group), sides[group]
                digest = found.digest if found else asked.get(group, row.digest)
                yield Tested(
                    group,
                    digest,
                    side,
                    row.copies,
                    family,
                    found,
                    None if twin is None else statistic(twin[group]) if group in twin else inf,
                    moved.get(digest),
                    group in claimed,
                )

    def _families(self) -> dict[tuple[Family, Side], set[str]]:
        asked = {prompt.group for prompt in self.prompts}
        coins = {canary.digest for canary in self.canaries}
        placed = {row.group for row in self.groups if row.digest in coins}
        out: dict[tuple[Family, Side], set[str]] = {}
        for side in SIDES:
            groups = {row.group for row in self.groups if row.side == side and not row.set_aside}
            out["canary", side] = groups & placed
            out["asked", side], out["unasked", side] = (groups & asked) - placed, groups - asked - placed
        return out

    @property
    def _twin_plan(self) -> Plan:
        """Return the plan under which the twin is asked: no clique is required, so that it is given every chance.

        What is laid over the model is not laid over its twin, so that a LoRA's base is named by the model's own URI.
        """
        plan = self.plan
        bare = replace(plan.model, uri=plan.twin.uri, lora=(), embeddings=())
        return replace(plan, model=bare, cliques=replace(plan.cliques, least=1))

    def _made(self, groups: Recipe, asked: Recipe, plan: Plan, model: Model, screened: Recipe | None) -> Made:
        samples = generate.recipe(asked, plan, model, screened)
        agreed = cliques.recipe(samples, plan.cliques)
        root, corpus = self.store.root, self.corpus.root.resolve()
        return Made(plan, samples, agreed, match.Look(root, corpus, groups, asked, samples, agreed, plan))

    def _sampled(self) -> bool:
        """Tell whether this model may have been asked from this noise before.

        The noise of a sample follows from the seed of the plan and what is asked alone, so any other plan of that seed
        gives some of the same samples; a recording gives them whatever the seed. Samples of which the ledger knows
        nothing count too.
        """
        begun = {line["recipe"] for line in self._lines("begun")}
        same = [line["content"] for line in self._lines("seal") if self._same_noise(line["content"])]
        tables = ("samples", *screen.DRAWN)
        unknown = {p.parent.name for table in tables for p in self.store.root.glob(f"{table}/*/*.parquet")} - begun
        return bool(unknown) or any(begun.intersection(sampling(content)) for content in same)

    def _same_noise(self, content: dict[str, Any]) -> bool:
        anew = content["plan"]["prompts"]["seed"] != self.plan.prompts.seed and held(self.model) is None
        return bool(not anew and content["model"] == self.model.digest)

    def _seal_of(self, line: dict[str, Any], elsewhere: bool) -> Seal:
        content, plan = line["content"], line["content"]["plan"]
        alike = content["model"] == self.model.digest and content["corpus"] == self.corpus.digest
        seed, closest = plan["prompts"]["seed"], plan["certify"]["closest"]
        return Seal(line["digest"], line["at"], line["before_sampling"], seed, closest, alike, elsewhere)

    def _certified_at(self) -> str:
        """Return when this audit was certified, or the end of time."""
        done = [line["at"] for line in self._lines("done") if line["recipe"] == self.recipes.certified.digest]
        return str(done[0]) if done else "~"

    def _lines(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.store.ledger() if line["event"] == event]

    def _sealed(self) -> dict[str, Any]:
        plan = self.plan.as_dict()
        prompts_digest = _digest([asdict(prompt) for prompt in self.prompts])
        screened = self.recipes.screen
        sections = (*SEALED, "screen") if screened else SEALED
        content = {
            "plan": as_sealed(plan, sections),
            "statistic": STATISTIC + (OF_TEMPLATES if self.plan.cliques.template else ""),
            "model": self.model.digest,
            "twin": self.twin.digest if self.twin else None,
            "corpus": self.corpus.digest,
            "samples": self.recipes.samples.digest,
            "prompts_and_controls": prompts_digest,
            "claims": [claim.digest for claim in self.claims() if claim.named],
            "canaries": _digest(sorted(map(astuple, self.canaries))),
        } | ({"screened": [recipe.digest for recipe in screened.every()]} if screened else {})
        return {"digest": _digest(content), "content": content}


def as_sealed(plan: Mapping[str, Mapping[str, Any]], sections: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return some sections of a plan as a seal has them."""
    return {name: {k: v for k, v in plan[name].items() if k not in LATER or v} for name in sections}


def sampling(content: dict[str, Any]) -> set[str]:
    """Return the tables that a seal speaks of for which the model is asked: samples, and what screens them."""
    return {content["samples"], *content.get("screened", ())}


def _order(row: Match) -> tuple[float, int, int]:
    return statistic(row), row.prompt, row.index


def _digest(content: Any) -> str:
    return "sha256:" + hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
