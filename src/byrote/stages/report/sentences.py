"""Sentences that may be quoted: each with both ends of its interval, and whom it speaks of."""

from collections.abc import Iterator

from byrote.domain import Rate
from byrote.kernels.rates import upper_bound
from byrote.stages.report.data import Evidence
from byrote.stages.report.words import count, percent


def sentences(e: Evidence) -> list[str]:
    """Write what the audit supports, and no more than that."""
    return [*_certified(e), *_at_all(e), *_drawn(e), *_rungs(e), *_unseen(e), *_claims(e)]


def _certified(e: Evidence) -> Iterator[str]:
    for rate in e.rates:
        if rate.name == "asked groups certified" and rate.tier is None and e.calibrated:
            yield (
                f"{_of(rate)} groups of pictures that were asked for by their caption are certified as reproduced "
                f"({_ends(rate)}; of the captions asked, partly chosen for their copies); on average at most "
                f"{percent(e.fdr)} of a list like this one are false."
            )
            yield (
                f"By the same rule {_twin(rate)} controls, never trained on, would be certified if each were one more "
                "picture."
            )


def _at_all(e: Evidence) -> Iterator[str]:
    a = e.at_all
    if a is None or a.p_value is None or not e.calibrated:
        return
    yield (
        f"{a.pictures_within:,} of {a.pictures:,} pictures and {a.controls_within:,} of {a.controls:,} controls came "
        f"within \u03c4; were their labels exchangeable, so many pictures would come with probability "
        f"{_small(a.p_pooled)} (exact; {_small(a.p_value)} within strata of equal copies, where {a.comparable:,} "
        f"pictures have a control with as many)."
    )


def _drawn(e: Evidence) -> Iterator[str]:
    if e.drawn is None or not e.drawn.n:
        return
    d = e.drawn
    yield (
        f"Of the groups that are not among those asked for their copies, {d.k:,} of {d.n:,} drawn at random came "
        f"within \u03c4: {_ends(d)}, at most {percent(upper_bound(d.k, d.n))} one-sided, at as many samples each."
    )


def _rungs(e: Evidence) -> Iterator[str]:
    for rate in e.rates:
        if rate.name.startswith("groups that their own prompt") or rate.name.split(" ")[0] in ("prompts", "samples"):
            none = f", at most {percent(upper_bound(0, rate.n))} one-sided" if rate.k == 0 and rate.n else ""
            name = rate.name[0].upper() + rate.name[1:]
            yield f"{name}: {_of(rate)} ({_ends(rate)}{none}); of controls {_twin(rate)}."


def _unseen(e: Evidence) -> Iterator[str]:
    u = e.unseen
    if u is not None:
        yield (
            f"An extrapolation, not a measurement: {count(u.seen, 'picture')} came within \u03c4; Chao1 puts all "
            f"that these prompts would ever bring at {u.chao1:,.0f} ({u.low:,.0f} to {u.high:,.0f}, approximate), and "
            f"Good-Turing puts {percent(u.mass)} of further copies at pictures not seen yet."
        )


def _claims(e: Evidence) -> Iterator[str]:
    for number, claim in enumerate(e.claims, 1):
        named = "named before sampling" if claim.named else "named after sampling, so counted as searched for"
        p = "no p-value" if claim.adjusted is None else f"Holm's p {claim.adjusted:.4f}"
        verdict = "reproduced" if claim.certified else f"not certified ({claim.reason})"
        yield f"Claimed picture {number}, {named}: {verdict}; {p}."


def _of(rate: Rate) -> str:
    return f"{rate.k:,} of {rate.n:,}"


def _ends(rate: Rate) -> str:
    return f"{percent(rate.low)} to {percent(rate.high)}, {percent(rate.level)} exact"


def _twin(rate: Rate) -> str:
    return "none tested" if rate.controls_k is None else f"{rate.controls_k:,} of {rate.controls_n:,}"


def _small(p: float | None) -> str:
    return "unknown" if p is None else f"{p:.2g}"
