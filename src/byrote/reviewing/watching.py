"""Watch an audit while `byrote run` works at it: what is done, and the nearest pairs so far. Opens no model.

Everything is read from the folders: the ledger says which parts were begun and done, the parts say the rest. What a
run does is not touched, and nothing is written but the token.
"""

from bisect import insort
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from threading import Lock
from typing import Any

from byrote.corpus import Corpus
from byrote.domain import RGB, Match, Prompt, Screened
from byrote.errors import ByroteError, PlanError
from byrote.plan import Plan, load
from byrote.review import REVIEW
from byrote.review.live import Watched
from byrote.review.live import application as live
from byrote.review.looks import Both, Looks
from byrote.review.pairs import Shown, name_of
from byrote.review.planted import size_of
from byrote.review.serve import hosts, listening
from byrote.review.tokens import tokens
from byrote.reviewing.albums import Samples
from byrote.reviewing.serving import Opened
from byrote.stages import generate, screen
from byrote.stages.certify import statistic
from byrote.store import Recipe, Store

WATCHER = "\nwho watches"
NEAREST = 24
"""Pairs on the page (ours)."""
TABLES = {
    "pictures": "pictures indexed",
    "groups": "near-duplicates grouped",
    "prompts": "prompts drawn",
    "scores": "prompts scored",
    "pilot": "score tried",
    "searched": "prompts searched by cheap samples",
    "screened": "prompts screened",
    "samples": "samples made",
    "cliques": "cliques sought",
    "candidates": "candidates sought",
    "round_trips": "round trips made",
    "matches": "matches measured",
    "covariates": "controls compared",
    "certified": "certified",
    "probed": "pictures probed",
}
"""The tables in the order in which they are filled, and what a row of the page calls them."""
LAST = (TABLES["certified"], TABLES["probed"])
"""What the report comes after."""
BY_PART = ("samples", "cliques", "candidates", "matches")
"""Those with as many parts as the prompts are cut into."""
OF_TWIN = " of the twin"
Line = dict[str, Any]


@dataclass
class Live:
    """What is known of an audit by now; read on at every call, from any thread."""

    root: Path
    plan: Plan
    _near: list[tuple[float, str, Match]] = field(default_factory=list)
    _of: str = ""
    _read: set[str] = field(default_factory=set)
    _samples: tuple[int, Samples] | None = None
    _lock: Lock = field(default_factory=Lock)

    @property
    def _corpus(self) -> Path:
        return (self.plan.base / self.plan.corpus.path).resolve()

    def told(self) -> dict[str, Any]:
        """Return what the page shows."""
        with self._lock:
            with suppress(PlanError):  # it may be half written now
                self.plan = load(self.root / "audit.toml")
            tables = self._tables()
            self._read_on(tables)
            names = [name + twin for name in TABLES for twin in ("", OF_TWIN)]
            rows = [self._row(name, *tables[name], tables) for name in names if name in tables]
            pairs = [{"id": id, "t": f"{t:.4f}", "side": row.side, "seed": str(row.seed)} for t, id, row in self._near]
        return {"rows": rows, "pairs": pairs, "tau": f"{self.plan.certify.closest:g}", "finished": self._finished(rows)}

    def both(self, id: str) -> Both | None:
        """Return sample and picture of a pair as JPEG, or None where there is none or either is gone."""
        with self._lock:
            found = next((row for _, known, row in self._near if known == id), None)
            if found is None or self._samples is None:
                return None
            samples = self._samples[1]
            corpus = Corpus.now(self._corpus)

            def picture(digest: str) -> RGB | None:
                return corpus.pixels(digest) if digest in corpus.by_digest else None

            looks = Looks(picture, samples.pixels, size_of([found.sample], samples.pixels))
            return looks.both(Shown(id, found.digest, found.sample))

    def _tables(self) -> dict[str, tuple[Store, list[Line]]]:
        """Return the store and the lines of each table that was begun, those of the twin apart."""
        found: dict[str, tuple[Store, list[Line]]] = {}
        for store in (Store(self._corpus), Store(self.root)):
            lines = _by_table(store.ledger(), twin=bool(self.plan.twin.uri))
            found |= {name: (store, mine) for name, mine in lines.items()}
        return found

    def _row(self, name: str, store: Store, lines: list[Line], tables: Mapping[str, Any]) -> dict[str, Any]:
        """Say how far a table has come."""
        table = name.removesuffix(OF_TWIN)
        done = {line["part"]: line for line in lines if line["event"] == "done"}
        begun = {line["part"] for line in lines if line["event"] == "begun"} - done.keys()
        return {
            "name": TABLES[table] + name.removeprefix(table),
            "done": len(done),
            "begun": len(begun),
            "of": self._parts(tables) if table in BY_PART else None,
            "items": sum(line.get("items", 0) for line in done.values()),
            "seconds": round(sum(line.get("seconds", 0) for line in done.values()), 1),
            "at": lines[-1]["at"],
        }

    def _finished(self, rows: Sequence[Mapping[str, Any]]) -> bool:
        """Tell whether the report was written after the last table, and not for an earlier plan."""
        page = self.root / "report" / "report.html"
        if not rows or rows[-1]["name"] not in LAST or not rows[-1]["done"] or not page.exists():
            return False
        return page.stat().st_mtime >= datetime.fromisoformat(rows[-1]["at"]).timestamp()

    def _parts(self, tables: Mapping[str, tuple[Store, list[Line]]]) -> int | None:
        """Return into how many parts the prompts are cut, once they are drawn."""
        store, lines = tables.get("prompts", (Store(self.root), []))
        made = _made(store, "prompts", lines)
        if made is None or not store.parts(made):
            return None
        prompts = store.read_all(Prompt, made)
        seeds: dict[int, Sequence[int]] = {prompt.number: range(self.plan.generate.seeds) for prompt in prompts}
        if screen.on(self.plan):
            screened = _made(store, "screened", tables.get("screened", (store, []))[1])
            if screened is None or not store.parts(screened):
                return None
            seeds |= {row.prompt: row.seeds for row in store.read_all(Screened, screened)}
        return len(generate.parts(prompts, seeds))

    def _read_on(self, tables: Mapping[str, tuple[Store, list[Line]]]) -> None:
        """Read the parts of matches that are new, and keep the nearest pair of each group."""
        store, lines = tables.get("matches", (Store(self.root), []))
        made = _made(store, "matches", lines)
        if made is not None:
            if made.digest != self._of:  # a changed plan matches anew
                self._of = made.digest
                self._near.clear()
                self._read.clear()
            for part in store.parts(made):
                if part not in self._read:
                    self._read.add(part)
                    for row in store.read(Match, made, part):
                        self._keep(row)
        samples = _made(Store(self.root), "samples", tables.get("samples", (store, []))[1])
        if samples is not None:
            there = len(store.parts(samples))
            if self._samples is None or self._samples[0] != there:
                self._samples = there, Samples(Store(self.root), samples)

    def _keep(self, row: Match) -> None:
        t = statistic(row)
        known = next((each for each in self._near if each[2].group == row.group), None)
        if known is not None and known[0] <= t:
            return
        if known is not None:
            self._near.remove(known)
        insort(self._near, (t, name_of(row.digest, row.sample), row), key=lambda each: each[:2])
        del self._near[NEAREST:]


def open_watch(root: Path, *, host: str, port: int) -> Opened:
    """Set up the live page of an audit. Raises ByroteError."""
    found = Live(root, load(root / "audit.toml"))
    known = tokens(root / REVIEW, [WATCHER])
    listens = listening(host, port)
    bound = listens.getsockname()[1]
    at = f"http://{f'[{host}]' if ':' in host else host}:{bound}/{known[WATCHER]}/"
    app = live(Watched(found.told, found.both), known, hosts(host, bound))
    return Opened(app, listens, {WATCHER: at}, None, 0)


def _by_table(ledger: list[Line], *, twin: bool) -> dict[str, list[Line]]:
    """Return each table's lines, of its last recipe: the others are of plans that were changed.

    A twin fills the same tables after the model, so that with one the model's recipe is the first after the last seal.
    """
    lines: dict[str, list[Line]] = defaultdict(list)
    own: dict[str, str] = {}
    for line in ledger:
        if line.get("event") == "seal":
            own.clear()
        elif line.get("event") in ("begun", "done") and {"table", "recipe", "part"} <= line.keys():
            lines[line["table"]].append(line)
            if not twin or line["table"] not in own:
                own[line["table"]] = line["recipe"]
    found = {}
    for table, all_lines in lines.items():
        last = all_lines[-1]["recipe"]
        first = own.get(table, last)
        found[table] = [line for line in all_lines if line["recipe"] == first]
        if last != first:
            found[table + OF_TWIN] = [line for line in all_lines if line["recipe"] == last]
    return found


def _made(store: Store, table: str, lines: list[Line]) -> Recipe | None:
    """Return the recipe of a table's last line, where its folder is there."""
    if not lines:
        return None
    path = store.root / table / lines[-1]["recipe"] / "recipe.json"
    try:
        return Recipe(table, path.read_text(encoding="utf-8").removesuffix("\n"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ByroteError(f"{path}: cannot be read: {error.strerror or error}") from error
