"""Sentences that may be quoted: each with both ends of its interval, and whom it speaks of."""

from collections.abc import Iterator

from byrote.domain import Rate
from byrote.kernels.rates import upper_bound
from byrote.kernels.stats import clopper_pearson
from byrote.stages.certify import LEVEL
from byrote.stages.report.data import Evidence
from byrote.stages.report.words import count, percent

EXACT = "Clopper-Pearson"
"""Only these intervals are called exact; what has an approximate one is in the table of rates, not to be quoted."""
RUNGS = ("groups that their own prompt", "captions", "prompts", "samples")


def sentences(e: Evidence) -> list[str]:
    """Write what the audit supports, and no more than that."""
    return [*_certified(e), *_at_all(e), *_drawn(e), *_rungs(e), *_unseen(e), *_claims(e)]


def _certified(e: Evidence) -> Iterator[str]:
    how = "searched for among all samples" if e.searched else "asked for by their caption"
    for rate in e.rates:
        if rate.name == f"{e.family} groups certified" and rate.tier is None and e.calibrated:
            false = f"; on average at most {percent(e.fdr)} of a list like this one are false" if rate.k else ""
            yield (
                f"{_of(rate)} groups of pictures that were {how} are certified as reproduced "
                f"({_ends(rate)}{_whom(rate)}){false}{_tries(e)}."
            )
            yield (
                f"By the same rule, of controls, never trained on, {_twin(rate)} would be certified if each were one "
                "more picture."
            )


def _at_all(e: Evidence) -> Iterator[str]:
    a = e.at_all
    if a is None or a.p_value is None or not e.calibrated:
        return
    how = "searched for" if e.searched else "asked for by their caption"
    yield (
        f"Of the groups {how}, {_share(a.pictures_within, a.pictures)} of pictures and "
        f"{_share(a.controls_within, a.controls)} of controls came within \u03c4; were their labels exchangeable, so "
        f"many pictures would come with probability {_small(a.p_pooled)} (exact; {_small(a.p_value)} within strata of "
        f"equal copies, where {count(a.comparable, 'picture')} {'has' if a.comparable == 1 else 'have'} a control with "
        "as many)."
    )


def _drawn(e: Evidence) -> Iterator[str]:
    if e.drawn is None or not e.drawn.n:
        return
    d = e.drawn
    most = f"; at most {percent(upper_bound(d.k, d.n))} one-sided" if d.k else ""
    yield (
        f"{_unsure(e)}Of the groups that are not among those asked for their copies, {d.k:,} of {d.n:,} drawn at "
        f"random came within \u03c4 ({_ends(d)}{most}), at as many samples each."
    )


def _rungs(e: Evidence) -> Iterator[str]:
    for rate in e.rates:
        if rate.name.startswith(RUNGS) and rate.method == EXACT:
            name = rate.name if _unsure(e) else rate.name[0].upper() + rate.name[1:]
            yield f"{_unsure(e)}{name}: {_of(rate)} ({_ends(rate)}{_whom(rate)}); of controls {_twin(rate)}."


def _unseen(e: Evidence) -> Iterator[str]:
    u = e.unseen
    if u is not None:
        what = "samples" if e.searched else "prompts"
        yield (
            f"{_unsure(e)}An extrapolation, not a measurement: {count(u.seen, 'picture')} came within \u03c4; Chao1 "
            f"puts all that such {what} would ever bring at {u.chao1:,.0f} ({u.low:,.0f} to {u.high:,.0f}, "
            "approximate, and it leans low)."
        )


def _claims(e: Evidence) -> Iterator[str]:
    for number, claim in enumerate(e.claims, 1):
        named = "named before sampling" if claim.named else "named after sampling, so counted as searched for"
        p = "no p-value" if claim.adjusted is None or not e.calibrated else f"Holm's p {claim.adjusted:.4f}"
        open_ = f"{'not certified' if e.calibrated else 'undecided'} ({claim.reason})"
        gamma = "" if claim.sensitivity is None else f", stands up to a difference of Gamma {claim.sensitivity:.3g}"
        basis = f"; {claim.basis}{gamma}" if claim.certified else ""
        yield f"Claimed picture {number}, {named}: {'reproduced' if claim.certified else open_}; {p}{basis}."


def _unsure(e: Evidence) -> str:
    """Put before whatever stands on no controls, or on a plan that was not sealed, that it does."""
    return "" if e.calibrated else "Uncalibrated: "


def _of(rate: Rate) -> str:
    return f"{rate.k:,} of {rate.n:,}"


def _ends(rate: Rate) -> str:
    """Give both ends, and of none at all the one-sided bound 1 - .05^(1/n) too."""
    none = f"; at most {percent(upper_bound(0, rate.n))} one-sided" if rate.k == 0 and rate.n else ""
    return f"{percent(rate.low)} to {percent(rate.high)}, {percent(rate.level)} exact{none}"


def _twin(rate: Rate) -> str:
    if rate.controls_k is None or not rate.controls_n:
        return "none was tested"
    return _share(rate.controls_k, rate.controls_n)


def _whom(rate: Rate) -> str:
    """Name the population, and where it was chosen, that it speaks for nobody else."""
    chosen = ", which says nothing of others" if "most copies" in rate.population else ""
    return f"; of {rate.population}{chosen}" if rate.population else ""


def _tries(e: Evidence) -> str:
    """Say how often it was tried, where it was more than once."""
    alike = sum(seal.alike for seal in e.audits)
    return f"; it is one of {alike} audits of this model and corpus that are known" if alike > 1 else ""


def _share(k: int, n: int) -> str:
    low, high = clopper_pearson(k, n, LEVEL)
    return f"{k:,} of {n:,} ({percent(low)} to {percent(high)}, {percent(LEVEL)} exact)"


def _small(p: float | None) -> str:
    return "unknown" if p is None else f"{p:.2g}"
