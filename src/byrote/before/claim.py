"""Name pictures before sampling, so that a p-value may speak of one of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from byrote import images
from byrote.audit import Audit
from byrote.chain import run
from byrote.corpora.check import Checked, check
from byrote.errors import CorpusError
from byrote.stages import Progress, silent


@dataclass(frozen=True, slots=True)
class Named:
    """A picture that was named: the file, its picture in the corpus, how far they are apart, and whether in time.

    The distance is null where one shows the other moved, turned or cropped, and they are far apart as they stand.

    `asked` tells whether the model is asked for it in words; where not, `note` says why, and the picture is only
    searched for among the samples that others are asked for.
    """

    file: str
    digest: str
    distance: float | None
    before_sampling: bool
    asked: bool
    note: str


def claim(root: Path, files: Sequence[Path], progress: Progress) -> list[Named]:
    """Find each file's picture in the corpus and write it down; all of them or none. Raises ByroteError.

    A picture that was named before stays as it was named first.
    """
    for file in files:
        _decoded(file)
    run(root, until="dedupe", progress=progress)
    audit = Audit(root)
    every = set(audit.corpus.distinct)
    looked = check(audit.corpus, files, audit.plan.corpus, silent, show=1, among=every)
    found = [(file, *_find(audit, file, one)) for file, one in zip(files, looked, strict=True)]
    known = {each.digest for each in audit.claims()}
    with audit.store.locked():
        for digest in dict.fromkeys(digest for *_, digest in found):
            if digest not in known:
                audit.store.log("claim", {"digest": digest})
    return [_told(audit, file, digest, distance) for file, distance, digest in found]


def _find(audit: Audit, file: Path, looked: Checked) -> tuple[float | None, str]:
    """Return how far the nearest picture is as it stands, and its digest, by the rule of near-duplicates.

    Raises CorpusError.
    """
    nearest = looked.nearest[0]
    distance, digest = nearest.rms, nearest.digest
    if looked.answer == "not found":
        away = "" if distance is None else f": the nearest is {distance:.3f} away, {audit.plan.corpus.near} is the most"
        raise CorpusError(
            f"{file}: no picture of the corpus is a near-duplicate of it{away}; `byrote index` it with the training set"
        )
    row = next((row for row in audit.groups if row.digest == digest and row.side == "picture"), None)
    if any(other.set_aside for other in audit.groups if other.digest == digest):
        raise CorpusError(
            f"{file}: its group touches pictures and controls, so it is tested on neither side; "
            "take its near-duplicates out of the held-out folder and index anew"
        )
    if row is None:
        raise CorpusError(
            f"{file}: it is a control of the corpus, held out as never trained on; name a picture of the training set"
        )
    return distance, digest


def _told(audit: Audit, file: Path, digest: str, distance: float | None) -> Named:
    named = next(each.named for each in audit.claims() if each.digest == digest)
    note = _why_not_asked(audit, digest, named=named)
    apart = None if distance is None else round(distance, 4)
    return Named(str(file), digest, apart, named, not note, note)


def _why_not_asked(audit: Audit, digest: str, *, named: bool) -> str:
    """Say why the model is not asked for a picture in words; nothing where it is."""
    if not audit.model.takes_text:
        return "the model takes no text: it is only searched for"
    if not named:
        group = next(row.group for row in audit.groups if row.digest == digest)
        return "" if group in {p.group for p in audit.prompts} else "its caption was not asked: it is only searched for"
    rows = (row for row in audit.corpus.pictures if row.side == "picture" and row.digest == digest)
    return "" if any(row.captions for row in rows) else "it has no caption to ask by: it is only searched for"


def _decoded(file: Path) -> None:
    """Refuse what is no picture before anything else is done."""
    try:
        images.decode(file.read_bytes())
    except (OSError, images.Undecodable) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise CorpusError(f"{file}: cannot be read as a picture: {reason}; name a file of it") from error
