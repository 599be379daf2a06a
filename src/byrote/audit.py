"""One run of the whole chain against one model, in one folder."""

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from byrote import sources
from byrote.corpus import Corpus
from byrote.domain import Clique, Family, Group, Match, Prompt, Side
from byrote.engine import Part
from byrote.models import Model
from byrote.plan import Plan, load
from byrote.sources import Note
from byrote.stages import Failed, cliques, dedupe, generate, match, prompts
from byrote.stages.certify import Certified, Tested, certify, statistic, test_of
from byrote.store import Recipe, Store

STATISTIC = (
    "smallest tiled RMS distance, aligned, to the picture or its round trip, over samples of prompts with a clique"
)


@dataclass(frozen=True, slots=True)
class Seal:
    """What was fixed, and whether that was before the first sample of this audit was begun."""

    digest: str
    at: str
    before_sampling: bool


@dataclass(frozen=True, slots=True)
class Recipes:
    """The tables of one audit. They follow from the plan, the corpus and the model."""

    groups: Recipe
    prompts: Recipe
    samples: Recipe
    cliques: Recipe
    look: match.Look
    certified: Recipe

    def every(self) -> list[Recipe]:
        """Return all of them, in the order of the stages."""
        return [self.groups, self.prompts, self.samples, self.cliques, *vars_of(self.look.tables), self.certified]


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
    def recipes(self) -> Recipes:
        """Name the tables. Reads the corpus, so ingest must be over."""
        groups = dedupe.recipe(self.corpus, self.plan.corpus)
        asked = prompts.recipe(groups, self.plan.prompts, self.model.takes_text)
        samples = generate.recipe(asked, self.plan, self.model)
        agreed = cliques.recipe(samples, self.plan.cliques)
        look = match.Look(self.store.root, self.corpus.root.resolve(), groups, asked, samples, agreed, self.plan)
        about = {"matches": look.tables.matches.digest, "plan": asdict(self.plan.certify)}
        return Recipes(groups, asked, samples, agreed, look, Recipe.of("certified", about))

    @cached_property
    def prompts(self) -> list[Prompt]:
        """Return the prompts that were drawn."""
        return self.store.read_all(Prompt, self.recipes.prompts)

    @cached_property
    def groups(self) -> list[Group]:
        """Return the rows of the groups."""
        return self.corpus.store.read_all(Group, self.recipes.groups)

    def seals(self) -> list[Seal]:
        """List what was sealed in this folder, oldest first."""
        return [Seal(line["digest"], line["at"], line["before_sampling"]) for line in self._lines("seal")]

    @property
    def seal(self) -> Seal | None:
        """Return the seal of the audit as its plan stands, or None before it is sealed."""
        mine = [seal for seal in self.seals() if seal.digest == self._sealed()["digest"]]
        return mine[0] if mine else None

    @property
    def sealed_before_sampling(self) -> bool:
        """Tell whether the seal of this audit is older than its first sample."""
        return self.seal is not None and self.seal.before_sampling

    def seal_now(self) -> None:
        """Write down, before the first sample, everything that the certificate rests on."""
        if self.seal is None:
            begun = {line["recipe"] for line in self._lines("begun")}
            before = self.recipes.samples.digest not in begun
            self.store.log("seal", self._sealed() | {"before_sampling": before})

    def power(self) -> dict[Family, Any]:
        """Weigh both families before any sample is made, no control at the cut."""
        counts = {key: len(groups) for key, groups in self._families().items()}
        families: tuple[Family, ...] = ("asked", "unasked")
        fdr = self.plan.certify.fdr
        return {f: test_of(counts[f, "picture"], counts[f, "control"], 0, fdr=fdr) for f in families}

    def certified(self) -> Certified:
        """Hold every group's best match against the controls."""
        sides = {row.group: row for row in self.groups}
        best = self._best()
        tested = []
        for (family, side), groups in self._families().items():
            for group in sorted(groups):
                found, row = best.get(group), sides[group]
                digest = found.digest if found else row.digest
                tested.append(Tested(group, digest, side, row.copies, family, found))
        rule = self.plan.certify
        result = certify(tested, fdr=rule.fdr, closest=rule.closest)
        if self.sealed_before_sampling:
            return result
        return replace(result, findings=[replace(finding, certified=False) for finding in result.findings])

    def parts(self) -> list[Part]:
        """Return the parts that the samples are to have."""
        return generate.parts(self.prompts, self.plan)

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
        """Return the matches: only samples whose prompt has a clique have any."""
        return self.store.read_all(Match, self.recipes.look.tables.matches)

    def seconds(self) -> float:
        """Add up what the parts of this audit took, on all workers."""
        mine = {recipe.digest for recipe in self.recipes.every()}
        lines = [*self._lines("done"), *(line for line in self.corpus.store.ledger() if line["event"] == "done")]
        return float(sum(line["seconds"] for line in lines if line["recipe"] in mine))

    def _best(self) -> dict[str, Match]:
        best: dict[str, Match] = {}
        for row in self.matches():
            known = best.get(row.group)
            if known is None or _order(row) < _order(known):
                best[row.group] = row
        return best

    def _families(self) -> dict[tuple[Family, Side], set[str]]:
        asked = {prompt.group for prompt in self.prompts}
        out: dict[tuple[Family, Side], set[str]] = {}
        sides: tuple[Literal["picture"], Literal["control"]] = ("picture", "control")
        for side in sides:
            groups = {row.group for row in self.groups if row.side == side and not row.set_aside}
            out["asked", side], out["unasked", side] = groups & asked, groups - asked
        return out

    def _lines(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.store.ledger() if line["event"] == event]

    def _sealed(self) -> dict[str, Any]:
        plan = self.plan.as_dict()
        prompts_digest = _digest([asdict(prompt) for prompt in self.prompts])
        content = {
            "plan": {name: plan[name] for name in ("prompts", "generate", "cliques", "match", "certify")},
            "statistic": STATISTIC,
            "model": self.model.digest,
            "corpus": self.corpus.digest,
            "samples": self.recipes.samples.digest,
            "prompts_and_controls": prompts_digest,
        }
        return {"digest": _digest(content), "content": content}


def _order(row: Match) -> tuple[float, int, int]:
    return statistic(row), row.prompt, row.index


def _digest(content: Any) -> str:
    return "sha256:" + hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
