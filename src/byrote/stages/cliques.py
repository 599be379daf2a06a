"""Fill `cliques`: what the samples of one prompt have in common."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from byrote.domain import Clique, Prompt
from byrote.engine import Part
from byrote.kernels.cliques import find
from byrote.plan import CliquesPlan
from byrote.stages import Desk, Failed, generate
from byrote.stages.generate import MEANS
from byrote.store import Recipe, Store


def recipe(samples: Recipe, plan: CliquesPlan) -> Recipe:
    """Return the recipe of the cliques."""
    knobs = {"tiles": plan.tiles, "within": plan.within, "least": plan.least, "seconds": plan.seconds}
    return Recipe.of("cliques", {"samples": samples.digest, "plan": knobs})


def run(desk: Desk, samples: Recipe, parts: Sequence[Part], plan: CliquesPlan) -> list[Failed]:
    """Look for cliques in every part of the samples that is there."""
    there = set(desk.store.parts(samples))
    work = FindCliques(desk.store.root, samples, plan)
    return desk.fill(recipe(samples, plan), work, [part for part in parts if part.name in there], "samples")


@dataclass(frozen=True, slots=True)
class FindCliques:
    """Look for the cliques of a part's prompts."""

    root: Path
    samples: Recipe
    plan: CliquesPlan

    def __call__(self, part: Part) -> None:
        """Do one part."""
        store = Store(self.root)
        samples, pixels = generate.read(store, self.samples, part.name)
        means = store.array(self.samples, part.name, MEANS)
        numbers = np.array([sample.prompt for sample in samples])
        prompts: Sequence[Prompt] = part.payload
        rows = [self._clique(p, pixels[numbers == p.number], means[numbers == p.number]) for p in prompts]
        store.write(recipe(self.samples, self.plan), part.name, rows, Clique)

    def _clique(self, prompt: Prompt, pixels: np.ndarray, means: np.ndarray) -> Clique:
        """Samples of no prompt at all have nothing to agree on: they pass without a clique."""
        if prompt.text is None:
            return Clique(prompt.number, len(pixels), True, True, (), None)
        plan = self.plan
        found = find(pixels, means, tiles=plan.tiles, within=plan.within, least=plan.least, seconds=plan.seconds)
        return Clique(prompt.number, len(pixels), found.found, found.largest, found.members, found.spread)
