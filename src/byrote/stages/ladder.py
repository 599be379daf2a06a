"""The rungs of the prompt ladder: the same caption asked for in other words.

The built-in rules are ours: short, deterministic and blind to the side. A file of texts takes their place where a plan
names one; it must then hold a text for every caption that is asked, so that pictures and controls are treated alike.
"""

import csv
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import get_args

from byrote.errors import PlanError, did_you_mean
from byrote.plan import LadderPlan
from byrote.rungs import RUNGS, Rung

Texts = Mapping[tuple[str, Rung], str]
REWORDED: tuple[Rung, ...] = ("truncated", "paraphrase", "adversarial")
COLUMNS = ["caption", "rung", "text"]
LONGEST = 10_000

_SYNONYMS = {
    "photo": "picture", "photograph": "picture", "picture": "photo", "image": "picture", "portrait": "likeness",
    "painting": "painted picture", "drawing": "sketch", "woman": "lady", "man": "gentleman", "girl": "young woman",
    "boy": "young man", "child": "kid", "person": "human", "people": "persons", "big": "large", "large": "big",
    "small": "little", "little": "small", "old": "elderly", "young": "youthful", "beautiful": "pretty",
    "wearing": "dressed in", "holding": "carrying", "near": "close to", "beside": "next to", "behind": "at the back of",
    "house": "home", "car": "automobile", "road": "street", "hair": "locks", "background": "backdrop",
    "backdrop": "background", "smiling": "with a smile", "dark": "deep", "light": "pale", "shirt": "top",
}  # fmt: skip


def reword(caption: str, rung: Rung) -> str | None:
    """Return a caption as a rung asks for it, or None where it would not differ from the caption."""
    rules = {"truncated": truncated, "paraphrase": paraphrase, "adversarial": adversarial}
    text = rules[rung](caption)
    return text if text and text != caption else None


def truncated(caption: str) -> str:
    """Return the first half of the words, rounded up."""
    words = caption.split()
    return " ".join(words[: (len(words) + 1) // 2]).rstrip(",;:")


def paraphrase(caption: str) -> str:
    """Return the caption's parts in another order and common words replaced."""
    parts = [part.strip() for part in re.split(r"[,;]", caption) if part.strip()]
    turned = ", ".join(parts[1:] + parts[:1]) if len(parts) > 1 else f"a view of {caption.strip()}"
    return re.sub(r"[A-Za-z]+", lambda word: _SYNONYMS.get(word[0].lower(), word[0]), turned)


def adversarial(caption: str) -> str:
    """Return the caption twice, with a call for the original: it weighs more in what the model reads."""
    return f"{caption}, the original of: {caption}"


def read_texts(path: Path) -> dict[tuple[str, Rung], str]:
    """Read a file of texts. Raises PlanError."""
    rows = csv.DictReader(_lines(path), strict=True)
    if rows.fieldnames != COLUMNS:
        raise PlanError(f"{path}: its columns are {rows.fieldnames}; write {','.join(COLUMNS)} in the first line")
    try:
        return {(row["caption"], _rung(path, rows.line_num, row["rung"])): row["text"] or "" for row in rows}
    except csv.Error as error:
        raise PlanError(f"{path}: line {rows.line_num}: {error}; write it as CSV") from error


def read_users(path: Path) -> tuple[str, ...]:
    """Read users' prompts, one a line, each once, empty lines left out. Raises PlanError."""
    prompts = tuple(dict.fromkeys(line.strip()[:LONGEST] for line in _lines(path) if line.strip()))
    if not prompts:
        raise PlanError(f"{path}: holds no prompt; write one a line")
    return prompts


def climb(caption: str, ladder: LadderPlan, texts: Texts) -> list[tuple[Rung, str]]:
    """Return how one caption is asked on each rung of its own, the caption itself left out."""
    asked = []
    for rung in RUNGS:
        if rung in ladder.rungs and rung in REWORDED:
            text = texts.get((caption, rung)) or reword(caption, rung)
            asked += [(rung, text)] if text else []
    return asked


def check_texts(path: Path, captions: Iterable[str], texts: Texts) -> None:
    """Refuse texts that hold some captions and not others. Raises PlanError."""
    captions = list(captions)
    for rung in sorted({rung for _, rung in texts}):
        missing = [caption for caption in captions if not texts.get((caption, rung))]
        if missing:
            raise PlanError(
                f"{path}: rung {rung!r} has no text for {len(missing):,} of the {len(captions):,} captions asked, "
                f"{missing[0]!r} first; controls and pictures must be asked alike: add them, or leave out the rung"
            )


def _rung(path: Path, line: int, word: str) -> Rung:
    if word not in REWORDED:
        known = ", ".join(REWORDED)
        raise PlanError(
            f"{path}: line {line}: unknown rung {word!r}{did_you_mean(word or '', REWORDED)}: one of {known}"
        )
    return next(rung for rung in get_args(Rung) if rung == word)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise PlanError(f"{path}: cannot be read: {error}; it is named in [ladder]") from error
