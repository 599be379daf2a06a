"""For those who ask: which figure answers which question of two documents, and what nobody tested.

European Data Protection Board, "Opinion 28/2024 on certain data protection aspects related to the processing of
personal data in the context of AI models", adopted 17 December 2024. "Code of Practice for General-Purpose AI Models",
copyright chapter, 10 July 2025, measure 1.4. Both are paraphrased; neither is applied, and nothing here says that a
model complies with either.
"""

from dataclasses import dataclass

from byrote.stages.report.data import Evidence
from byrote.stages.report.words import count, percent

NO_CLAIM = "This annex maps figures to questions. It is no legal assessment and no claim of compliance with anything."


@dataclass(frozen=True, slots=True)
class Answer:
    """A question of a document, what was tested of it ("not tested" where nothing was), and the figures."""

    document: str
    question: str
    tested: str
    figures: tuple[str, ...]


NOT_TESTED = (
    (
        "identity of a face that is drawn anew",
        "no face is recognised: only distances between whole pictures are measured",
    ),
    ("watermarks and signatures", "not looked for"),
    ("readable text", "not read"),
    ("logos and trademarks", "not recognised: one inside an otherwise new image is not seen"),
    ("style", "not measured"),
    ("a part of a picture pasted into another", "not seen beyond the alignment of the plan"),
    ("attribute inference and model inversion", "not tried"),
)
"""What the audit does not look at, whatever it finds."""


def annex(e: Evidence) -> list[Answer]:
    """Answer each question with the figures of this audit."""
    return [
        _extraction(e),
        _queries(e),
        _membership(e),
        _documentation(e),
        _safeguards(e),
        _reproduction(e),
    ]


EDPB, CODE = "EDPB Opinion 28/2024", "GPAI Code of Practice, copyright chapter, measure 1.4"


def _extraction(e: Evidence) -> Answer:
    certified = _rates(e, f"{e.family} groups certified") if e.calibrated else []
    figures = [*certified, *_rates(e, f"{e.family} groups within tau")]
    if e.at_all is not None and e.at_all.p_pooled is not None and e.calibrated:
        figures.append(f"does it copy at all: exact permutation p {e.at_all.p_pooled:.2g}")
    how = "by searching all samples for all pictures" if e.searched else "by asking for captions of the training set"
    tested = f"{how}{_unsure(e)}" if figures else "not tested"
    return Answer(
        EDPB,
        "direct or probabilistic extraction of training data: is its likelihood insignificant?",
        tested,
        tuple(figures),
    )


def _queries(e: Evidence) -> Answer:
    figures = [*_rates(e, "prompts of ordinary"), *_rates(e, "samples asked for")]
    tested = (
        f"with ordinary users' prompts or none{_unsure(e)}"
        if figures
        else "not tested: the ladder asked for captions only"
    )
    return Answer(
        EDPB,
        "training data obtained by queries, intended or not: is its likelihood insignificant?",
        tested,
        tuple(figures),
    )


def _membership(e: Evidence) -> Answer:
    if e.canaries is None:
        return Answer(EDPB, "resistance to membership inference", "not tested", ())
    told = (
        f"one-run bound on epsilon from canaries: at least {e.canaries['epsilon']:.2f} ({percent(e.canaries['level'])})"
    )
    return Answer(EDPB, "resistance to membership inference", "on canaries only, by extraction", (told,))


def _documentation(e: Evidence) -> Answer:
    sealed = "sealed before the first sample" if e.sealed and e.sealed.before_sampling else "not sealed before sampling"
    figures = (f"plan, controls and thresholds {sealed}", f"{count(len(e.audits), 'audit')} known to this folder")
    return Answer(EDPB, "documentation of tests and of their results", "this report", figures)


def _safeguards(e: Evidence) -> Answer:
    return Answer(
        CODE,
        "technical safeguards against outputs that reproduce training content",
        "not tested: the model was asked directly, filters of a service were not",
        (),
    )


def _reproduction(e: Evidence) -> Answer:
    figures = tuple(_rates(e, "samples asked for" if e.searched else "groups that their own prompt"))
    tested = f"near-identical reproduction of whole pictures{_unsure(e)}" if figures else "not tested"
    return Answer(
        CODE,
        "how often outputs reproduce training content (whether that infringes is not for a distance to say)",
        tested,
        figures,
    )


def _unsure(e: Evidence) -> str:
    return "" if e.calibrated else "; uncalibrated: distances alone, which say nothing of training"


def _rates(e: Evidence, name: str) -> list[str]:
    return [
        f"{e.said(rate.name)}: {rate.k:,} of {rate.n:,}, {percent(rate.low)} to {percent(rate.high)} "
        f"({percent(rate.level)} exact)"
        for rate in e.rates
        if rate.name.startswith(name) and rate.tier is None
    ]
