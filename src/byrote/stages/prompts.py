"""Fill `prompts`: who is asked, and in which words. One caption and one member a group, drawn beforehand."""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from byrote.corpus import Corpus
from byrote.domain import SIDES, Group, Picture, Prompt, Side, Stratum
from byrote.engine import Part
from byrote.errors import PlanError
from byrote.plan import LadderPlan, PromptsPlan
from byrote.rungs import Rung
from byrote.stages import Desk, Failed
from byrote.stages.ladder import Texts, check_texts, climb
from byrote.store import Recipe, Store


@dataclass(frozen=True, slots=True)
class Wanted:
    """Everything that decides who is asked, and how.

    `claims` are digests of pictures that somebody named before sampling, `canaries` those that a coin placed: both are
    asked in any case. `users` are ordinary users' prompts, `texts` rewordings by (caption, rung). `held` is for a model
    that can be asked only for what it holds: for how many prompts of each text its samples suffice.
    """

    plan: PromptsPlan
    takes_text: bool = True
    ladder: LadderPlan = field(default_factory=LadderPlan)
    claims: tuple[str, ...] = ()
    canaries: frozenset[str] = frozenset()
    users: tuple[str, ...] = ()
    texts: Texts = field(default_factory=dict)
    texts_file: Path = Path("texts.csv")
    held: Mapping[str | None, int] | None = None

    @property
    def climbs(self) -> bool:
        """Tell whether any rung but the caption itself is asked."""
        return self.ladder.rungs != ("caption",)


@dataclass(frozen=True, slots=True)
class _Candidate:
    group: str
    side: Side
    copies: int
    members: tuple[tuple[str, str], ...]  # (digest, caption)


def recipe(groups: Recipe, wanted: Wanted) -> Recipe:
    """Return the recipe of the prompts."""
    more: dict[str, object] = {}
    if wanted.climbs:
        told = [list(wanted.users), sorted([*key, text] for key, text in wanted.texts.items())]
        more["ladder"] = {"rungs": list(wanted.ladder.rungs), "none": wanted.ladder.none, "texts": _digest(told)}
    if wanted.claims or wanted.canaries:
        more["named"] = {"claims": sorted(wanted.claims), "canaries": _digest(sorted(wanted.canaries))}
    if wanted.held is not None:
        more["held"] = _digest(sorted([text is None, text or "", count] for text, count in wanted.held.items()))
    about = {"groups": groups.digest, "plan": asdict(wanted.plan), "takes_text": wanted.takes_text}
    return Recipe.of("prompts", about | more)


def run(desk: Desk, corpus: Corpus, groups: Recipe, wanted: Wanted) -> list[Failed]:
    """Draw the prompts."""
    plan = wanted.plan
    work = Ask(desk.store.root, corpus.root, groups, wanted)
    return desk.fill(
        recipe(groups, wanted), work, [Part("00000", items=plan.top + plan.random + plan.controls)], "prompts"
    )


@dataclass(frozen=True, slots=True)
class Ask:
    """Draw the prompts of one audit."""

    root: Path
    corpus: Path
    groups: Recipe
    wanted: Wanted

    def __call__(self, part: Part) -> None:
        """Do the one part."""
        corpus = Corpus(self.corpus)
        rows = draw(corpus.store.read_all(Group, self.groups), corpus.pictures, self.wanted)
        Store(self.root).write(recipe(self.groups, self.wanted), part.name, rows, Prompt)


def draw(groups: Iterable[Group], pictures: Iterable[Picture], wanted: Wanted) -> list[Prompt]:
    """Choose whom to ask: the most-copied groups, a random draw over the rest, who was named, and controls.

    Only groups with a caption can be asked. For a model that takes no text there is nobody to ask: as many prompts
    without text are returned as the plan has prompts, and they stand for no group. Captions come first, then the other
    rungs of the ladder. Raises PlanError where the plan's own texts leave somebody out, or a model that holds samples.
    """
    plan = wanted.plan
    if not wanted.takes_text:
        count = plan.top + plan.random + plan.controls
        count = count if wanted.held is None else min(count, wanted.held.get(None, 0))
        return [_free(k, "none", None) for k in range(count)]
    asked = [_prompt(k, stratum, c, wanted) for k, (stratum, c) in enumerate(_chosen(groups, pictures, wanted))]
    if not asked:
        return []
    check_texts(wanted.texts_file, [prompt.text or "" for prompt in asked], wanted.texts)
    rows = asked + _other_rungs(asked, wanted)
    if wanted.held is not None:
        check_held(rows, wanted.held)
    return rows


def askable(groups: Iterable[Group], pictures: Iterable[Picture], wanted: Wanted) -> dict[Side, tuple[int, int]]:
    """Count the groups of each side that can be asked, of those that have a caption."""
    groups, pictures = list(groups), list(pictures)
    able = Counter(c.side for c in _candidates(groups, pictures, wanted.held))
    every = Counter(c.side for c in _candidates(groups, pictures, None))
    return {side: (able[side], every[side]) for side in SIDES}


def _chosen(groups: Iterable[Group], pictures: Iterable[Picture], wanted: Wanted) -> list[tuple[Stratum, _Candidate]]:
    plan, candidates = wanted.plan, _candidates(groups, pictures, wanted.held)
    named = [c for c in candidates if _holds(c, wanted.canaries)]
    if wanted.held is not None:
        _check_canaries(named, wanted.canaries)
    rest = _without(candidates, named)
    ours = sorted((c for c in rest if c.side == "picture"), key=lambda c: (-c.copies, dice(plan.seed, "top", c.group)))
    theirs = [c for c in rest if c.side == "control"]
    top, others = ours[: plan.top], ours[plan.top :]
    drawn = _first(others, plan.random, plan.seed, "random")
    claimed = [c for c in _without(others, drawn) if _holds(c, frozenset(wanted.claims))]
    chosen: list[tuple[Stratum, _Candidate]] = [("top", c) for c in top]
    chosen += [("random", c) for c in drawn]
    chosen += [("claim", c) for c in claimed]
    chosen += [("canary", c) for c in named]
    return chosen + [("control", c) for c in _first(theirs, plan.controls, plan.seed, "control")]


def _other_rungs(asked: Sequence[Prompt], wanted: Wanted) -> list[Prompt]:
    """Ask the same groups in other words, then ask for nobody."""
    rows: list[Prompt] = []
    for prompt in asked:
        for rung, text in climb(prompt.text or "", wanted.ladder, wanted.texts):
            number = len(asked) + len(rows)
            rows.append(
                Prompt(number, prompt.group, prompt.digest, prompt.side, prompt.stratum, prompt.copies, rung, text)
            )
    free: list[tuple[Rung, str | None]] = [("users", text) for text in wanted.users]
    free += [("none", None)] * (wanted.ladder.none if "none" in wanted.ladder.rungs else 0)
    first = len(asked) + len(rows)
    return rows + [_free(first + k, rung, text) for k, (rung, text) in enumerate(free)]


def _free(number: int, rung: Rung, text: str | None) -> Prompt:
    return Prompt(number, "", "", "picture", "free", 0, rung, text)


def check_held(rows: Sequence[Prompt], held: Mapping[str | None, int]) -> None:
    """Refuse a rung that a model that holds samples can climb for some and not for others. Raises PlanError."""
    for rung in dict.fromkeys(row.rung for row in rows if row.rung != "caption"):
        texts = [row.text for row in rows if row.rung == rung]
        wanted = {text: texts.count(text) if text is None else 1 for text in texts}
        missing = [text for text, count in wanted.items() if held.get(text, 0) < count]
        if missing:
            raise PlanError(
                f"[ladder] rung {rung!r}: the model holds too few samples of {len(missing):,} of {len(wanted):,} "
                f"texts, {missing[0]!r} first; all must be asked alike: record them, or leave out the rung"
            )


def _check_canaries(able: Sequence[_Candidate], canaries: frozenset[str]) -> None:
    """Refuse to ask for some canaries and not for others: their coins decide which are nearer by chance alone."""
    there = {digest for c in able for digest, _ in c.members}
    missing = len(canaries - there)
    if canaries and missing:
        raise PlanError(
            f"[canaries] file: the model holds too few samples of {missing:,} of {len(canaries):,} canaries' captions: "
            "all must be asked alike, published or not; record them, or leave canaries out"
        )


def _candidates(
    groups: Iterable[Group], pictures: Iterable[Picture], held: Mapping[str | None, int] | None
) -> list[_Candidate]:
    """Return the groups that have a caption, each with its members and captions that the model can be asked for."""
    captions: dict[tuple[Side, str], list[str]] = defaultdict(list)
    for picture in pictures:
        captions[picture.side, picture.digest] += picture.captions
    members: dict[tuple[str, Side, int], list[tuple[str, str]]] = defaultdict(list)
    for row in groups:
        if not row.set_aside:
            said = captions[row.side, row.digest]
            able = said if held is None else [caption for caption in said if held.get(caption)]
            members[row.group, row.side, row.copies] += [(row.digest, caption) for caption in able]
    return [_Candidate(*key, tuple(sorted(said))) for key, said in sorted(members.items()) if said]


def _holds(candidate: _Candidate, digests: frozenset[str]) -> bool:
    return any(digest in digests for digest, _ in candidate.members)


def _without(candidates: Iterable[_Candidate], gone: Iterable[_Candidate]) -> list[_Candidate]:
    groups = {c.group for c in gone}
    return [c for c in candidates if c.group not in groups]


def _first(candidates: Sequence[_Candidate], count: int, seed: int, what: str) -> list[_Candidate]:
    return sorted(candidates, key=lambda c: dice(seed, what, c.group))[:count]


def _prompt(number: int, stratum: Stratum, c: _Candidate, wanted: Wanted) -> Prompt:
    """Ask for one member under its caption: the one that was named, else one by dice."""
    members = [member for member in c.members if member[0] in wanted.claims] or c.members
    digest, caption = members[dice(wanted.plan.seed, "member", c.group) % len(members)]
    return Prompt(number, c.group, digest, c.side, stratum, c.copies, "caption", caption)


def dice(seed: int, what: str, about: str) -> int:
    """Return 64 random bits that depend on the seed, what is drawn and of whom only."""
    return int.from_bytes(hashlib.sha256(f"{seed} {what} {about}".encode("utf-8", "surrogatepass")).digest()[:8])


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
