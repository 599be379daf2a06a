"""Where the page of review finds its pairs: in a draw, or among all matches of an audit."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from byrote import images
from byrote.audit import Audit
from byrote.domain import RGB, Clique, Match, Sample, Side
from byrote.errors import StoreError
from byrote.review.draw import Pair
from byrote.review.pairs import Shown, name_of
from byrote.stages.certify import statistic
from byrote.stages.match import move_of
from byrote.store import Recipe, Store

AROUND = 12
"""Images of each kind around a pair at most."""
Group = tuple[str, list[tuple[str, str, str]]]


class Samples:
    """Finds samples by their digests: where each lies is read once, its pixels when they are asked for."""

    def __init__(self, store: Store, made: Recipe) -> None:
        self._store, self._made = store, made

    @cached_property
    def places(self) -> Mapping[str, tuple[str, int]]:
        """Return part and row of every sample; of equal ones the first."""
        found: dict[str, tuple[str, int]] = {}
        for part in self._store.parts(self._made):
            for row, digest in enumerate(self._store.column(Sample, self._made, part, "digest")):
                found.setdefault(digest, (part, row))
        return found

    def pixels(self, digest: str) -> RGB | None:
        """Return the pixels of a sample, or None where it is gone."""
        if digest not in self.places:
            return None
        try:
            return images.decode(self._store.row(Sample, self._made, *self.places[digest]).image)
        except (StoreError, images.Undecodable):
            return None


@dataclass
class Explored:
    """All best matches of an audit, the most similar first, with everything that is known of them."""

    audit: Audit
    by_id: dict[str, Match] = field(default_factory=dict)

    @cached_property
    def pairs(self) -> list[Shown]:
        """Return the best match of every group, both sides, with its facts."""
        rows = sorted(self._best.values(), key=lambda row: (statistic(row), row.group))
        self.by_id = {name_of(row.digest, row.sample): row for row in rows}
        return [Shown(id, row.digest, row.sample, self._facts(row), move_of(row)) for id, row in self.by_id.items()]

    def drawn(self, pair: Pair) -> dict[str, Any]:
        """Return what a drawn pair was, to be told once it is judged."""
        if not pair.sample:
            return {"picture": "planted: the picture itself, spoilt a little"}
        row = self._drawn.get((pair.picture, pair.sample))
        if row is None:  # a changed plan has matched anew
            return {"picture": _kind(pair.side), "T": f"{pair.statistic:.4f} when it was drawn"}
        return self._facts(row)

    @cached_property
    def _best(self) -> dict[str, Match]:
        return self.audit.best()

    @cached_property
    def _drawn(self) -> dict[tuple[str, str], Match]:
        return {(row.digest, row.sample): row for row in self._best.values()}

    @cached_property
    def _certified(self) -> set[str]:
        return {row.group for row in self.audit.certified.findings if row.certified}

    @cached_property
    def _controls(self) -> list[float]:
        return sorted(statistic(row) for row in self._best.values() if row.side == "control")

    def _facts(self, row: Match) -> dict[str, Any]:
        t, tau = statistic(row), self.audit.plan.certify.closest
        picture, prompt = self.audit.corpus.by_digest[row.digest], self._prompts[row.prompt]
        within = "near enough to count (within" if t <= tau else "too far to count (beyond"
        return {
            "picture": f"{_kind(row.side)}; {'certified' if row.group in self._certified else 'not certified'}",
            "T": f"{t:.4f}: {within} tau, {tau:g})",
            "controls": _among(t, self._controls),
            "distances": _distances(row),
            "caption": picture.caption or "none",
            "prompt": "no text" if prompt is None else prompt,
            "file": picture.where,
            "seed": str(row.seed),
        }

    def around(self, id: str) -> list[Group]:
        """Return what surrounds a pair, each as (kind, digest, words): samples, other pictures, controls."""
        row = self.by_id[id]
        near = sorted(self._by_sample[row.sample], key=statistic)
        others = [each for each in near if each.digest != row.digest and each.side == "picture"][:AROUND]
        controls = [each for each in near if each.digest != row.digest and each.side == "control"][:AROUND]
        return [
            ("Other samples of the prompt, its clique first", self._samples_beside(row)),
            ("Next-nearest pictures to this sample", [_worded(each) for each in others]),
            ("Nearest controls to this sample", [_worded(each) for each in controls]),
        ]

    def _samples_beside(self, row: Match) -> list[tuple[str, str, str]]:
        clique = self._cliques.get(row.prompt)
        members = set(clique.members) if clique else set()
        found = [each for each in self._by_prompt.get(row.prompt, []) if each[1] != row.sample]
        found.sort(key=lambda each: (each[0] not in members, each[0]))
        return [
            ("sample", digest, f"sample {index}{', in the clique' if index in members else ''}")
            for index, digest in found[:AROUND]
        ]

    @cached_property
    def _prompts(self) -> dict[int, str | None]:
        return {prompt.number: prompt.text for prompt in self.audit.prompts}

    @cached_property
    def _cliques(self) -> dict[int, Clique]:
        return {clique.prompt: clique for clique in self.audit.cliques()}

    @cached_property
    def _by_sample(self) -> Mapping[str, list[Match]]:
        return _gathered((row.sample, row) for row in self.audit.matches())

    @cached_property
    def _by_prompt(self) -> Mapping[int, list[tuple[int, str]]]:
        store, made = self.audit.store, self.audit.recipes.samples
        rows = (
            zip(*(store.column(Sample, made, part, name) for name in ("prompt", "index", "digest")), strict=True)
            for part in store.parts(made)
        )
        return _gathered((prompt, (index, digest)) for part in rows for prompt, index, digest in part)


def _gathered(rows: Iterable[tuple[Any, Any]]) -> dict[Any, list[Any]]:
    found: dict[Any, list[Any]] = defaultdict(list)
    for key, value in rows:
        found[key].append(value)
    return found


def _kind(side: Side) -> str:
    return "control, never trained on" if side == "control" else "picture of the training set"


def _among(t: float, controls: Sequence[float]) -> str:
    """Say where a T lies among those of the controls, which are sorted."""
    as_near = bisect_right(controls, t)
    if not controls:
        return "no control has a match to compare with"
    if not as_near:
        return f"nearer than every one of the {len(controls):,} controls with a match"
    return f"{as_near:,} of the {len(controls):,} controls with a match are as near or nearer"


def _distances(row: Match) -> str:
    """Say the distances in levels of 255, which a person can imagine, and in the units of T."""
    told = [f"{255 * row.rms:.1f} of 255 levels apart on the whole (RMS {row.rms:.4f})"]
    told += [f"{255 * row.tiled:.1f} in the worst tile ({row.tiled:.4f})"]
    if row.round_trip is not None:
        told.append(f"{255 * row.round_trip:.1f} to what the model's autoencoder makes of it ({row.round_trip:.4f})")
    told += [] if row.masked is None else [f"{255 * row.masked:.1f} over what stays fixed ({row.masked:.4f})"]
    told += [] if row.ratio is None else [f"ratio {row.ratio:.3g} to its nearest other groups"]
    return "; ".join(told)


def _worded(row: Match) -> tuple[str, str, str]:
    return "picture", row.digest, f"T {statistic(row):.4f}"
