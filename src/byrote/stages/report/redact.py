"""Take everything private out of a report: pictures, captions, prompts, places, and what would name a picture.

A digest of pixels lets whoever holds a picture confirm that it is in the corpus, so digests of pictures, groups and
samples become pseudonyms under a key that stays in the audit folder; its holder can show later which is which. The seed
of a sample is a digest too, of the picture and the words it was asked by, so seeds go. Distances stay as they are:
whoever has the model, a picture and its caption can ask again and come upon the same ones; they could ask anyway.
"""

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from byrote.errors import StoreError
from byrote.models import kinds
from byrote.stages.report.data import Evidence, ModelFacts, Shown, Skipped
from byrote.stages.report.extraction import Extracted, Outcome, Searched
from byrote.stages.report.inside import Inside

HIDDEN = "hidden"
KEY = "redaction.key"
LENGTH = 32
URIS = (("model", "uri"), ("twin", "uri"))
WORDS = (("ladder", "rungs"), ("extract", "ways"))
KEPT = (("model", "dtype"), ("model", "device"), ("generate", "sampler"))
"""Texts of the plan that name nothing but a way to compute. Whatever other text a plan holds is hidden."""


def key_of(folder: Path) -> bytes:
    """Read the key of an audit folder's pseudonyms, or make it. Raises StoreError."""
    path = folder / KEY
    try:
        if not path.exists():
            _make(path)
        key = path.read_bytes()
    except OSError as error:
        raise StoreError(f"{path}: cannot be read or written: {error.strerror or error}") from error
    if len(key) != LENGTH:
        raise StoreError(f"{path}: holds {len(key)} bytes, not {LENGTH}: with a broken key pseudonyms could be guessed")
    return key


def _make(path: Path) -> None:
    """Write a new key that nobody else may read, not even for a moment."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(handle, secrets.token_bytes(LENGTH))
        os.fsync(handle)
    finally:
        os.close(handle)


def redacted(evidence: Evidence, key: bytes) -> Evidence:
    """Return the evidence with nothing private in it. Counts, distances, p-values, intervals and seals stay."""
    e = evidence
    return replace(
        e,
        redacted=True,
        model=_model(e.model),
        twin=None if e.twin is None else _model(e.twin),
        plan=_plan(e.plan),
        findings=[_shown(shown, key) for shown in e.findings],
        nearest_controls=[_shown(shown, key) for shown in e.nearest_controls],
        claims=[replace(claim, digest=pseudonym(key, claim.digest)) for claim in e.claims],
        review=_review(e.review),
        inside=None if e.inside is None else _inside(e.inside, key),
        extraction=None if e.extraction is None else _extraction(e.extraction, key),
        picture_image=_nothing,
        sample_image=_nothing,
        machine=HIDDEN,
        warnings=[_without_names(text) for text in e.warnings],
        skipped=[_skipped(skipped) for skipped in e.skipped],
    )


def pseudonym(key: bytes, digest: str) -> str:
    """Return what stands for a digest: 16 hexadecimal digits of an HMAC."""
    return "pseudonym:" + hmac.new(key, digest.encode(), hashlib.sha256).hexdigest()[:16] if digest else ""


def _shown(shown: Shown, key: bytes) -> Shown:
    f = shown.finding
    finding = replace(
        f,
        group=pseudonym(key, f.group),
        digest=pseudonym(key, f.digest),
        sample=None if f.sample is None else pseudonym(key, f.sample),
    )
    return replace(
        shown,
        finding=finding,
        where=(),
        caption=None if shown.caption is None else HIDDEN,
        prompt=None if shown.prompt is None else HIDDEN,
        samples=tuple((None, pseudonym(key, digest)) for _, digest in shown.samples),
    )


def _extraction(told: Extracted, key: bytes) -> Extracted:
    """Hide words, images and seeds, which are digests of pictures and words."""

    def outcome(each: Outcome) -> Outcome:
        text = None if each.text is None else HIDDEN
        return replace(each, text=text, seed=None, sample=pseudonym(key, each.sample))

    def searched(each: Searched) -> Searched:
        left_out = {way: _without_names(reason) for way, reason in each.left_out.items()}
        outcomes = [outcome(one) for one in each.outcomes]
        says = _without_names(each.says)
        return replace(each, digest=pseudonym(key, each.digest), outcomes=outcomes, left_out=left_out, says=says)

    return replace(told, pictures=[searched(each) for each in told.pictures], images={})


def _inside(told: Inside, key: bytes) -> Inside:
    rows = [replace(row, group=pseudonym(key, row.group), digest=pseudonym(key, row.digest)) for row in told.rows]
    return replace(told, rows=rows, maps={})


def _model(model: ModelFacts) -> ModelFacts:
    over = tuple("a file" for _ in model.over)
    return replace(model, uri=_uri(model.uri), name=_word(model.name), over=over)


def _plan(plan: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: {knob: _knob((name, knob), value) for knob, value in section.items()}
        if isinstance(section, Mapping)
        else _knob(("", name), section)
        for name, section in plan.items()
    }


def _knob(place: tuple[str, str], value: Any) -> Any:
    """Keep numbers, words that the plan itself knows, and empty texts."""
    if isinstance(value, list | tuple) and place not in WORDS:
        return [HIDDEN for _ in value]
    if not isinstance(value, str) or not value:
        return value
    if place in URIS:
        return _uri(value)
    return _word(value) if place in KEPT else HIDDEN


def _review(review: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Number the reviewers, wherever they are named: their names are nobody's business."""
    if review is None:
        return None
    names = {each["name"]: f"reviewer {k}" for k, each in enumerate(review["reviewers"], 1)}
    told: dict[str, Any] = _renamed(review, names)
    return told


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, Mapping):
        return {key: _renamed(inner, names) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_renamed(inner, names) for inner in value]
    return names.get(value, value) if isinstance(value, str) else value


def _skipped(skipped: Skipped) -> Skipped:
    """Cut a reason before what a library or a disk added to it: it may hold bytes of a file, or a name."""
    return replace(skipped, reason=_without_names(skipped.reason.partition(": ")[0]))


def _uri(uri: str) -> str:
    """Keep the kind of a model's URI where it is one of the known, never the path."""
    kind, colon, _ = uri.partition(":")
    return f"{kind}:{HIDDEN}" if colon and kind in kinds() else HIDDEN if uri else ""


def _word(text: str) -> str:
    return text if re.fullmatch(r"[A-Za-z0-9_+:.-]{0,64}", text) else HIDDEN


def _without_names(text: str) -> str:
    return re.sub(r"'[^']*'|\"[^\"]*\"|\S*[/\\]\S*", HIDDEN, text)


def _nothing(digest: str) -> None:
    """Show no image."""
