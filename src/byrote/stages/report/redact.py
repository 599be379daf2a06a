"""Take everything private out of a report: pictures, captions, prompts, places, and what would name a picture.

A digest of pixels lets whoever holds a picture confirm that it is in the corpus, so digests of pictures, groups and
samples become pseudonyms under a key that stays in the audit folder; its holder can show later which is which.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from byrote.errors import StoreError
from byrote.stages.report.data import Evidence, ModelFacts, Shown
from byrote.store import replace_file

HIDDEN = "hidden"
KEY = "redaction.key"
PATHS = (
    ("model", "uri"),
    ("corpus", "path"),
    ("twin", "uri"),
    ("canaries", "file"),
    ("ladder", "users"),
    ("ladder", "texts"),
)


def key_of(folder: Path) -> bytes:
    """Read the key of an audit folder's pseudonyms, or make it. Raises StoreError."""
    path = folder / KEY
    try:
        if not path.exists():
            replace_file(path, secrets.token_bytes(32))
            path.chmod(0o600)
        return path.read_bytes()
    except OSError as error:
        raise StoreError(f"{path}: cannot be read or written: {error.strerror or error}") from error


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
        picture_image=_nothing,
        sample_image=_nothing,
        machine=HIDDEN,
        warnings=[_without_paths(text) for text in e.warnings],
        skipped=[replace(s, reason=_without_paths(s.reason)) for s in e.skipped],
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
        samples=tuple((seed, pseudonym(key, digest)) for seed, digest in shown.samples),
    )


def _model(model: ModelFacts) -> ModelFacts:
    return replace(model, uri=_uri(model.uri))


def _plan(plan: Mapping[str, Any]) -> dict[str, Any]:
    told = {name: dict(section) if isinstance(section, Mapping) else section for name, section in plan.items()}
    for section, knob in PATHS:
        value = told.get(section, {}).get(knob)
        if value:
            told[section][knob] = _uri(value)
    return told


def _review(review: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Number the reviewers: their names are nobody's business."""
    if review is None:
        return None
    names = {each["name"]: f"reviewer {k}" for k, each in enumerate(review["reviewers"], 1)}
    told = dict(review)
    told["reviewers"] = [each | {"name": names[each["name"]]} for each in review["reviewers"]]
    told["agreement"] = [each | {"reviewers": [names[n] for n in each["reviewers"]]} for each in review["agreement"]]
    return told


def _uri(uri: str) -> str:
    """Keep the kind of a URI, never the path."""
    kind, colon, _ = uri.partition(":")
    return f"{kind}:{HIDDEN}" if colon and re.fullmatch(r"[a-z0-9_]+", kind) else HIDDEN


def _without_paths(text: str) -> str:
    return re.sub(r"\S*[/\\]\S*", HIDDEN, text)


def _nothing(digest: str) -> None:
    """Show no image."""
