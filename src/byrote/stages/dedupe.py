"""Fill `groups`: exact and near-duplicates as connected components of one graph over pictures and controls together."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from byrote import descriptors
from byrote.corpus import Corpus
from byrote.domain import Group, Pair, Side
from byrote.engine import Part
from byrote.errors import PlanError
from byrote.kernels.components import components
from byrote.plan import CorpusPlan
from byrote.stages import Desk, Failed, describe, near
from byrote.stages.near import Look
from byrote.store import Recipe


def recipe(corpus: Corpus, plan: CorpusPlan) -> Recipe:
    """Return the recipe of the groups."""
    about = {"corpus": corpus.digest, "crop": plan.crop, "quick": plan.quick, "near": plan.near, "alike": plan.alike}
    told = chosen(plan)
    said = {"descriptor": told[0].name, "similar": told[1]} if told else {}
    return Recipe.of("groups", about | said | {"measured": near.MEASURED})


def chosen(plan: CorpusPlan) -> tuple[descriptors.Descriptor, float] | None:
    """Open the descriptor that the plan names, with its threshold. Raises DescriptorError, PlanError."""
    if not plan.descriptor:
        return None
    descriptor = descriptors.open(plan.descriptor)
    threshold = plan.similar if plan.similar is not None else getattr(descriptor.threshold, "value", None)
    if threshold is None:
        raise PlanError(f"[corpus] descriptor {plan.descriptor!r} has no threshold of its own: give [corpus] similar")
    return descriptor, threshold


def run(desk: Desk, corpus: Corpus, plan: CorpusPlan) -> list[Failed]:
    """Group all pictures of the corpus, both sides, in its own folder; pairs are measured where they are not yet."""
    made = recipe(corpus, plan)
    if not desk.store.parts(made) and (failed := near.run(desk, corpus, plan)):
        return failed
    return desk.fill(made, Dedupe(corpus.root, plan), [Part("00000", items=len(corpus.distinct))], "pictures")


@dataclass(frozen=True, slots=True)
class Dedupe:
    """Draw the line through the pairs, and write a row for each distinct picture."""

    root: Path
    plan: CorpusPlan

    def __call__(self, part: Part) -> None:
        """Do the one part."""
        corpus = Corpus.now(self.root)
        pairs = [row for row in measured(corpus, self.plan) if alike(row.rms, row.evidence, self.plan)]
        edges = [numbered(corpus.distinct, pairs)]
        if told := chosen(self.plan):
            edges.append(describe.alike(corpus, *told))
        labels = components(len(corpus.distinct), np.concatenate(edges))
        rows = grouped(corpus.distinct, [int(label) for label in labels], _rows_of_a_side(corpus))
        corpus.store.write(recipe(corpus, self.plan), part.name, rows, Group)


def measured(corpus: Corpus, plan: CorpusPlan) -> list[Pair]:
    """Return the measured pairs; none where the corpus was not searched."""
    return corpus.store.read_all(Pair, Look.of(corpus, plan).pairs)


def alike(rms: float | None, evidence: float | None, plan: CorpusPlan) -> bool:
    """Say whether the plan calls two pictures near-duplicates, by their distance as they stand or by the evidence."""
    return (rms is not None and rms <= plan.near) or (evidence is not None and evidence >= plan.alike)


def numbered(digests: Sequence[str], pairs: Sequence[Pair]) -> NDArray[np.int64]:
    """Return the pairs as places in a list of digests, int64 [p, 2]."""
    place = {digest: k for k, digest in enumerate(digests)}
    return np.array([(place[row.a], place[row.b]) for row in pairs], np.int64).reshape(-1, 2)


def grouped(digests: Sequence[str], labels: Sequence[int], rows: Mapping[tuple[Side, str], int]) -> Sequence[Group]:
    """Name the components, count their copies on each side, and set aside what touches both."""
    label_of = dict(zip(digests, labels, strict=True))
    named: dict[int, str] = {}
    for digest, label in label_of.items():
        named[label] = min(digest, named.get(label, digest))
    copies: Counter[tuple[int, Side]] = Counter()
    for (side, digest), n in rows.items():
        copies[label_of[digest], side] += n
    both = {label for label, side in copies if side == "control" and (label, "picture") in copies}
    out = []
    for side, digest in rows:
        label = label_of[digest]
        out.append(Group(named[label], digest, side, copies[label, side], label in both))
    return sorted(out, key=attrgetter("group", "digest", "side"))


def _rows_of_a_side(corpus: Corpus) -> Counter[tuple[Side, str]]:
    columns = (corpus.table[name].to_pylist() for name in ("side", "digest"))
    return Counter(zip(*columns, strict=True))
