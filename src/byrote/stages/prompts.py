"""Fill `prompts`: who is asked, and under which caption. One caption and one member a group, drawn beforehand."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from byrote.corpus import Corpus
from byrote.domain import Group, Picture, Prompt, Side
from byrote.engine import Part
from byrote.plan import PromptsPlan
from byrote.stages import Desk, Failed
from byrote.store import Recipe, Store

Stratum = Literal["top", "random", "control"]


@dataclass(frozen=True, slots=True)
class _Candidate:
    group: str
    side: Side
    copies: int
    members: tuple[tuple[str, str], ...]  # (digest, caption)


def recipe(groups: Recipe, plan: PromptsPlan, takes_text: bool) -> Recipe:
    """Return the recipe of the prompts. `takes_text` False asks a model that knows no captions."""
    knobs = {"top": plan.top, "random": plan.random, "controls": plan.controls, "seed": plan.seed}
    return Recipe.of("prompts", {"groups": groups.digest, "plan": knobs, "takes_text": takes_text})


def run(desk: Desk, corpus: Corpus, groups: Recipe, plan: PromptsPlan, takes_text: bool) -> list[Failed]:
    """Draw the prompts."""
    made = recipe(groups, plan, takes_text)
    work = Ask(desk.store.root, corpus.root, groups, plan, takes_text)
    return desk.fill(made, work, [Part("00000", items=plan.top + plan.random + plan.controls)], "prompts")


@dataclass(frozen=True, slots=True)
class Ask:
    """Draw the prompts of one audit."""

    root: Path
    corpus: Path
    groups: Recipe
    plan: PromptsPlan
    takes_text: bool

    def __call__(self, part: Part) -> None:
        """Do the one part."""
        corpus = Corpus(self.corpus)
        rows = draw(corpus.store.read_all(Group, self.groups), corpus.pictures, self.plan, self.takes_text)
        Store(self.root).write(recipe(self.groups, self.plan, self.takes_text), part.name, rows, Prompt)


def draw(groups: Iterable[Group], pictures: Iterable[Picture], plan: PromptsPlan, takes_text: bool) -> list[Prompt]:
    """Choose the most-copied groups, a random draw over the rest, and control captions.

    Only groups with a caption can be asked. For a model that takes no text there is nobody to ask: as many prompts
    without text are returned as the plan has prompts, and they stand for no group.
    """
    if not takes_text:
        count = plan.top + plan.random + plan.controls
        return [Prompt(k, "", "", "picture", "random", 0, None) for k in range(count)]
    candidates = _candidates(groups, pictures)
    ours = [c for c in candidates if c.side == "picture"]
    theirs = [c for c in candidates if c.side == "control"]
    by_copies = sorted(ours, key=lambda c: (-c.copies, _dice(plan.seed, "top", c.group)))
    top, rest = by_copies[: plan.top], by_copies[plan.top :]
    chosen: list[tuple[Stratum, _Candidate]] = [("top", c) for c in top]
    chosen += [("random", c) for c in _first(rest, plan.random, plan.seed, "random")]
    chosen += [("control", c) for c in _first(theirs, plan.controls, plan.seed, "control")]
    return [_prompt(number, stratum, c, plan.seed) for number, (stratum, c) in enumerate(chosen)]


def _candidates(groups: Iterable[Group], pictures: Iterable[Picture]) -> list[_Candidate]:
    captions: dict[tuple[Side, str], list[str]] = defaultdict(list)
    for picture in pictures:
        if picture.caption is not None:
            captions[picture.side, picture.digest].append(picture.caption)
    members: dict[tuple[str, Side, int], list[tuple[str, str]]] = defaultdict(list)
    for row in groups:
        if not row.set_aside:
            said = captions[row.side, row.digest]
            members[row.group, row.side, row.copies] += [(row.digest, caption) for caption in said]
    return [_Candidate(*key, tuple(sorted(said))) for key, said in sorted(members.items()) if said]


def _first(candidates: Sequence[_Candidate], count: int, seed: int, what: str) -> list[_Candidate]:
    return sorted(candidates, key=lambda c: _dice(seed, what, c.group))[:count]


def _prompt(number: int, stratum: Stratum, c: _Candidate, seed: int) -> Prompt:
    digest, caption = c.members[_dice(seed, "member", c.group) % len(c.members)]
    return Prompt(number, c.group, digest, c.side, stratum, c.copies, caption)


def _dice(seed: int, what: str, group: str) -> int:
    """Return 64 random bits that depend on the seed, what is drawn and the group only."""
    return int.from_bytes(hashlib.sha256(f"{seed} {what} {group}".encode()).digest()[:8])
