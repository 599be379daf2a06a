"""Fill `cliques`: what the samples of one prompt have in common."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from byrote.domain import Clique, Prompt
from byrote.engine import Part
from byrote.kernels import templates
from byrote.kernels.cliques import STEPS_A_SECOND, CliqueResult, clique_of, find, largest_clique
from byrote.plan import CliquesPlan
from byrote.stages import Desk, Failed, generate
from byrote.stages.generate import MEANS
from byrote.store import Recipe, Store

MASKS = "masks"
Pixels = NDArray[np.uint8]
Means = NDArray[np.float32]
Mask = NDArray[np.bool_]


def recipe(samples: Recipe, plan: CliquesPlan) -> Recipe:
    """Return the recipe of the cliques."""
    knobs = {"tiles": plan.tiles, "within": plan.within, "least": plan.least, "seconds": plan.seconds}
    knobs |= {"template": plan.template} if plan.template else {}
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
        found = [self._clique(p, pixels[numbers == p.number], means[numbers == p.number]) for p in prompts]
        masks = [mask for _, mask in found if mask is not None]
        arrays = {MASKS: np.stack(masks)} if masks else {}
        store.write(recipe(self.samples, self.plan), part.name, [row for row, _ in found], Clique, arrays)

    def _clique(self, prompt: Prompt, pixels: Pixels, means: Means) -> tuple[Clique, Mask | None]:
        """Samples of no prompt at all have nothing to agree on: they pass without a clique."""
        if prompt.text is None:
            return Clique(prompt.number, len(pixels), True, True, (), None), None
        plan = self.plan
        found = find(pixels, means, tiles=plan.tiles, within=plan.within, least=plan.least, seconds=plan.seconds)
        other = None if not plan.template or self._whole(found, pixels, means) else template(pixels, means, plan)
        if other is None:
            return Clique(prompt.number, len(pixels), found.found, found.largest, found.members, found.spread), None
        members, mask = other
        return Clique(prompt.number, len(pixels), True, True, members, None, float(mask.mean())), mask

    def _whole(self, found: CliqueResult, pixels: Pixels, means: Means) -> bool:
        """Tell whether samples agree as they are: two at least, where one alone would pass."""
        plan = self.plan
        if plan.least > 1:
            return found.found
        return find(pixels, means, tiles=plan.tiles, within=plan.within, least=2, seconds=0).found


def template(pixels: Pixels, means: Means, plan: CliquesPlan) -> tuple[tuple[int, ...], Mask] | None:
    """Return the samples (by their places) of one fixed layout and where it is fixed, or None where there is none.

    They agree in the plan's share of the tiles, two by two; what is fixed in all of them covers that share of the image
    too, and is no plain background.
    """
    alike = templates.agreeing(means, tiles=plan.tiles, within=plan.within, share=plan.template)
    members, _ = largest_clique(alike, int(plan.seconds * STEPS_A_SECOND))
    least = max(2, plan.least)
    if len(members) < least:  # it may have run out of time
        members = clique_of(alike, least) or ()
    if not members:
        return None
    shown = pixels[list(members)]
    mask = templates.fixed(shown)
    mean = np.rint(shown.mean(0)).astype(np.uint8)
    plain = mask.mean() < plan.template or templates.contrast(mean, mask) < templates.PLAIN
    return None if plain else (members, mask)


def masks(store: Store, made: Recipe, part: str) -> dict[int, tuple[tuple[int, ...], Mask]]:
    """Return the templates of a part: by prompt the samples of one, and where it is fixed."""
    rows = [row for row in store.read(Clique, made, part) if row.template is not None]
    found: Sequence[Mask] = list(store.array(made, part, MASKS)) if rows else []
    return {row.prompt: (row.members, mask) for row, mask in zip(rows, found, strict=True)}
