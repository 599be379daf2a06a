"""Write an audit down: report.json for machines, report.html for a reader who looks.

Nothing is computed here but intervals and curves of numbers that are already there. Distances and the statistic T are
those of `byrote.domain`; docs/report.md says what each field means. A page that is not revealed holds no picture,
caption, prompt or path of the corpus: of each image 4 x 4 colours at most.
"""

import json
from pathlib import Path

from byrote.errors import StoreError
from byrote.stages.report.data import (
    Controls,
    CorpusFacts,
    Cost,
    Discovery,
    Evidence,
    Json,
    ModelFacts,
    Seal,
    Shown,
    Skipped,
    Statistics,
    Tau,
    Unseen,
    as_json,
)
from byrote.stages.report.page import as_html
from byrote.store import replace_file

__all__ = [
    "Controls",
    "CorpusFacts",
    "Cost",
    "Discovery",
    "Evidence",
    "ModelFacts",
    "Seal",
    "Shown",
    "Skipped",
    "Statistics",
    "Tau",
    "Unseen",
    "as_html",
    "as_json",
    "write",
]


def write(folder: Path, evidence: Evidence, *, reveal: bool) -> None:
    """Write report.json and report.html, and revealed.html where asked, each whole or not at all. Raises StoreError."""
    pages = {"report.json": _dump(as_json(evidence)), "report.html": as_html(evidence, reveal=False)}
    if reveal:
        pages["revealed.html"] = as_html(evidence, reveal=True)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in pages.items():
            replace_file(folder / name, text.encode())
        if not reveal:
            (folder / "revealed.html").unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"{folder}: cannot write the report: {error.strerror or error}") from error


def _dump(told: Json) -> str:
    """Write in ASCII, so that no caption can break the file or a terminal that shows it."""
    return json.dumps(told, indent=1, allow_nan=False) + "\n"
