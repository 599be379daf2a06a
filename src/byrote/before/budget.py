"""What an audit costs and what it can show, before any of its images is made."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import optimize

from byrote.audit import Audit
from byrote.before.trial import Trial, trial
from byrote.chain import main_test, run
from byrote.kernels.stats import binomial_recall, controls_needed
from byrote.stages import Progress, generate, screen

BESIDES = 1.1
"""All other stages and the small tables, over the samples alone: ours; 1.05 on the demo."""


@dataclass(frozen=True, slots=True)
class Budget:
    """The cost of an audit in samples, denoiser evaluations, seconds of one worker, and bytes; and its power.

    `prompts` counts them by rung, `pictures` and `controls` are those that are `how`: "asked", or where the model takes
    no text, "searched for". A picture that comes back in a share of `caught_half` (`caught_most`) of the samples of its
    caption forms a clique with a chance of .5 (.95), or where nobody is asked is one of all samples; null where the
    plan asks for a larger clique than there are samples. `controls_for_one` controls certify a single picture that no
    control comes as near to; `k_needed` pictures it takes with the controls there are. Of a `screened` audit the
    costs are the most that it can come to, and cheap samples catch a picture.
    """

    prompts: dict[str, int]
    how: str
    pictures: int
    controls: int
    samples: int
    evaluations: int
    seconds: float | None
    bytes: float | None
    caught_half: float | None
    caught_most: float | None
    smallest_p: float | None
    k_needed: int | None
    controls_for_one: int
    pilot: Trial | None
    screened: bool = False


def weigh(root: Path, *, pilot: bool, progress: Progress) -> Budget:
    """Draw the prompts, make and throw away a batch if `pilot`, and weigh the audit. Raises ByroteError."""
    run(root, until="prompts", progress=progress)
    audit = Audit(root)
    models = 1 + (audit.twin is not None)
    screened = screen.on(audit.plan)
    made = screen.most(audit.prompts, audit.plan) if screened else sum(part.items for part in audit.parts())
    tried = trial(audit) if pilot else None
    seeds, least = (audit.plan.generate.seeds, audit.plan.cliques.least) if audit.model.takes_text else (made, 1)
    seeds = audit.plan.screen.search if screened else seeds
    test, how = main_test(audit)
    evaluations = made * sum(m.evaluations_per_sample for m in (audit.model, audit.twin) if m is not None)
    cheap = screen.most_evaluations(audit.prompts, audit.plan) if screened else 0
    extra = cheap / audit.model.evaluations_per_sample
    return Budget(
        prompts=dict(Counter(prompt.rung for prompt in audit.prompts)),
        how=how,
        pictures=test.m,
        controls=test.n_controls,
        samples=made * models,
        evaluations=evaluations + cheap,
        seconds=round(tried.seconds * (made * models + extra) * BESIDES, 1) if tried else None,
        bytes=round(_bytes(tried, audit.plan.cliques.tiles) * made * models) if tried else None,
        caught_half=caught(seeds, least, 0.5) if least <= seeds else None,
        caught_most=caught(seeds, least, 0.95) if least <= seeds else None,
        smallest_p=test.smallest_p,
        k_needed=test.k_needed,
        controls_for_one=controls_needed(test.m, 1, 0, audit.plan.certify.fdr) if test.m else 0,
        pilot=tried,
        screened=screened,
    )


def caught(samples: int, least: int, chance: float) -> float:
    """Return the repetition probability at which P(Bin(samples, p) >= least) is `chance`; 1 where none is below."""
    if least > samples:
        return 1.0
    if least == 0:
        return 0.0
    at = optimize.brentq(lambda p: float(binomial_recall(np.array([p]), samples, least)[0]) - chance, 0.0, 1.0)
    return float(f"{at:.4g}")


def words(told: Budget, root: Path) -> str:
    """Say it in lines for a person."""
    asked = ", ".join(f"{n:,} {rung}" for rung, n in told.prompts.items())
    lines = [
        f"{told.pictures:,} pictures and {told.controls:,} controls are {told.how}; prompts: {asked}",
        f"{'at most ' if told.screened else ''}{told.samples:,} samples, {told.evaluations:,} denoiser evaluations",
    ]
    if told.seconds is not None and told.bytes is not None:
        about = "at most" if told.screened else "about"
        lines.append(f"{about} {_time(told.seconds)} on one worker and {told.bytes / 2**20:,.0f} MiB on disk")
    lines.append(_caught(told))
    if told.k_needed is None:
        return "\n".join([*lines, "nothing can be certified: pictures or controls are missing"])
    able = "" if told.k_needed <= told.pictures else f": more than are {told.how}, so nothing can be certified"
    lines += [
        f"smallest p {told.smallest_p:.4f}; {told.k_needed:,} reproduced pictures certify one another{able}",
        f"one single finding takes {told.controls_for_one:,} controls, none of them as near",
        f"`byrote run {root}` starts; what it is to show is sealed before the first sample",
    ]
    return "\n".join(lines)


def _caught(told: Budget) -> str:
    if told.caught_half is None or told.caught_most is None:
        return "no picture is caught: [cliques] least is more than [generate] seeds"
    return (
        f"a picture is caught with 50 % where it comes back in {100 * told.caught_half:.3g}% of samples, with 95 % in "
        f"{100 * told.caught_most:.3g}%"
    )


def _bytes(tried: Trial, tiles: int) -> float:
    """Return what a sample takes: its file, its pixels where they are kept beside it, its block means."""
    pixels = tried.width * tried.height
    blocks = generate.blocks_of(tried.height, tried.width, tiles)
    return tried.bytes + 3 * (pixels if pixels <= generate.SMALL else 0) + 3 * 4 * blocks**2


def _time(seconds: float) -> str:
    return f"{seconds:.1f} seconds" if seconds < 90 else f"{seconds / 60:,.1f} minutes"
