"""Write an audit down: report.json for machines, report.html for a reader who looks.

Nothing is computed here but intervals and curves of numbers that are already there. Distances and the statistic T are
those of `byrote.domain`; docs/report.md says what each field means. A page that is not revealed holds no picture,
caption, prompt or path of the corpus: of each image 4 x 4 colours at most.
"""

import json
from dataclasses import asdict
from pathlib import Path

from byrote.errors import StoreError
from byrote.stages.report.annex import NOT_TESTED, annex
from byrote.stages.report.data import (
    Controls,
    CorpusFacts,
    Cost,
    Discovery,
    Evidence,
    Json,
    ModelFacts,
    RoundTrips,
    Screening,
    Seal,
    Shown,
    Skipped,
    Statistics,
    Step,
    Tau,
    Unseen,
    as_json,
)
from byrote.stages.report.page import as_html
from byrote.stages.report.redact import key_of, redacted
from byrote.stages.report.sentences import sentences
from byrote.store import replace_file

__all__ = [
    "Controls",
    "CorpusFacts",
    "Cost",
    "Discovery",
    "Evidence",
    "ModelFacts",
    "RoundTrips",
    "Screening",
    "Seal",
    "Shown",
    "Skipped",
    "Statistics",
    "Step",
    "Tau",
    "Unseen",
    "as_html",
    "as_json",
    "key_of",
    "redacted",
    "told",
    "write",
]


_OTHERS = {"revealed.html", "redacted.html", "redacted.json", "report.pdf", "revealed.pdf", "redacted.pdf"}


def told(evidence: Evidence) -> Json:
    """Return what report.json holds, the sentences to quote and the annex included."""
    more = {
        "sentences": sentences(evidence),
        "annex": [asdict(answer) for answer in annex(evidence)],
        "not_tested": [{"what": what, "why": why} for what, why in NOT_TESTED],
    }
    return as_json(evidence) | more


def write(folder: Path, evidence: Evidence, *, reveal: bool, redact: bool = False) -> None:
    """Write report.json and report.html, and where asked revealed.html and a redacted pair; whole or not at all.

    Raises StoreError.
    """
    pages = {"report.json": _dump(told(evidence)), "report.html": as_html(evidence, reveal=False)}
    if redact:
        hidden = redacted(evidence, key_of(folder.parent))
        pages |= {"redacted.json": _dump(told(hidden)), "redacted.html": as_html(hidden, reveal=False)}
    if reveal:
        pages["revealed.html"] = as_html(evidence, reveal=True)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in pages.items():
            replace_file(folder / name, text.encode())
        for name in _OTHERS - pages.keys():  # another report's, which would be taken for this one's
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"{folder}: cannot write the report: {error.strerror or error}") from error


def _dump(told: Json) -> str:
    """Write in ASCII, so that no caption can break the file or a terminal that shows it."""
    return json.dumps(told, indent=1, allow_nan=False) + "\n"
