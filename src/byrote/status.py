"""How far an audit has come, without touching it."""

from pathlib import Path
from typing import Any

from byrote.audit import Audit
from byrote.errors import ByroteError
from byrote.plan import STAGES
from byrote.stages import generate
from byrote.store import Recipe, Store


def status(folder: Path) -> list[dict[str, Any]]:
    """Return a row for each stage: its parts, and of how many where that is known. Raises ByroteError.

    Of `generate` also how many parts were `halved`: made in smaller batches than planned, for want of memory, and how
    many samples the model's server `refused`.
    """
    audit = Audit(folder)
    audit.plan, audit.corpus  # noqa: B018 - their errors are the answer
    corpus, store = audit.corpus.store, audit.store
    rows = [_row("ingest", corpus, audit.corpus.recipe, None)]
    try:
        recipes = audit.recipes
    except ByroteError:
        return rows
    ready = recipes.screen.screened if recipes.screen else recipes.prompts
    asked = len(audit.parts()) if store.parts(ready) else None
    tables = recipes.look.tables
    twin = recipes.twin.look.tables.matches if recipes.twin else None
    rows += [
        _row("dedupe", corpus, recipes.groups, 1),
        _row("prompts", store, recipes.prompts, 1),
        _row("screen", store, ready if recipes.screen else None, 1),
        _row("generate", store, recipes.samples, asked),
        _row("cliques", store, recipes.cliques, asked),
        _row("match", store, tables.matches, asked),
        _row("twin", store, twin, asked),
        _row("certify", store, recipes.certified, 1),
        _row("probe", store, recipes.probed, None),
    ]
    for row in rows:
        if row["stage"] == "generate":
            row["halved"] = len(generate.halved(store, recipes.samples))
            row["refused"] = generate.refused(store, recipes.samples)
    page = (folder / "report" / "report.html").exists()
    return [*rows, {"stage": STAGES[-1], "parts": int(page), "of": 1}]


def _row(stage: str, store: Store, recipe: Recipe | None, of: int | None) -> dict[str, Any]:
    """Tell how far a stage has come; one that the plan does not have has nothing to do."""
    if recipe is None:
        return {"stage": stage, "parts": 0, "of": 0}
    return {"stage": stage, "parts": len(store.parts(recipe)), "of": of}
