"""How far an audit has come, without touching it."""

from pathlib import Path
from typing import Any

from byrote.audit import Audit, Recipes
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
    wanted: list[tuple[str, Store, Recipe, int | None]] = [
        ("dedupe", corpus, recipes.groups, 1),
        ("prompts", store, recipes.prompts, 1),
        *([("screen", store, ready, 1)] if recipes.screen else []),
        ("generate", store, recipes.samples, asked),
        ("cliques", store, recipes.cliques, asked),
        ("match", store, tables.matches, asked),
        ("certify", store, recipes.certified, 1),
    ]
    rows += [_row(*each) for each in wanted]
    if recipes.screen is None:
        rows.insert(3, {"stage": "screen", "parts": 0, "of": 0})
    rows.insert(-1, _twin(store, recipes, asked))
    for row in rows:
        if row["stage"] == "generate":
            row["halved"] = len(generate.halved(store, recipes.samples))
            row["refused"] = generate.refused(store, recipes.samples)
    page = (folder / "report" / "report.html").exists()
    return [*rows, {"stage": STAGES[-1], "parts": int(page), "of": 1}]


def _twin(store: Store, recipes: Recipes, asked: int | None) -> dict[str, Any]:
    """Tell how far the twin's matches have come; a plan without a twin has nothing to do."""
    if recipes.twin is None:
        return {"stage": "twin", "parts": 0, "of": 0}
    return _row("twin", store, recipes.twin.look.tables.matches, asked)


def _row(stage: str, store: Store, recipe: Recipe, of: int | None) -> dict[str, Any]:
    return {"stage": stage, "parts": len(store.parts(recipe)), "of": of}
