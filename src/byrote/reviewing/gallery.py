"""A page to look at, of a corpus or an audit: what is copied most, and what lies nearest. It measures nothing."""

from base64 import b64encode
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import jinja2

from byrote import images
from byrote.audit import Audit
from byrote.corpora.summary import Summary, summary
from byrote.corpus import WHOLE, Corpus
from byrote.descriptors.whole import SIDE
from byrote.domain import RGB, Match, Pair
from byrote.errors import Incomplete, StoreError
from byrote.kernels import overlays
from byrote.plan import CorpusPlan
from byrote.reviewing.albums import Samples
from byrote.stages import dedupe
from byrote.stages.certify import statistic
from byrote.stages.match import move_of
from byrote.stages.report.page import laid
from byrote.stages.report.words import clean
from byrote.store import replace_file

EDGE = 192
"""The longer side of an image of the page, in pixels at most."""
HIDDEN = 4
"""Colours across an image that is hidden."""
MEMBERS = 6
Look = Callable[[str], RGB | None]


@dataclass(frozen=True, slots=True)
class Shot:
    """An image of the page as a data URI (empty: gone), with its name."""

    src: str
    name: str


@dataclass(frozen=True, slots=True)
class Row:
    """Images that belong together, and what is said of them; texts of others only where they may be shown."""

    title: str
    shots: tuple[Shot, ...]
    texts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Section:
    """A heading with its rows, and a sentence about them."""

    title: str
    about: str
    rows: tuple[Row, ...]


def write(place: Path, out: Path | None, *, count: int, reveal: bool) -> Path:
    """Write the gallery of an audit's folder or of a corpus, and return the page. Raises ByroteError."""
    is_audit = (place / "audit.toml").exists()
    sections = _of_audit(Audit(place), count, reveal) if is_audit else _of_corpus(Corpus.at(place), None, count, reveal)
    page = out or place / ("report" if is_audit else "page") / "gallery.html"
    html = _template().render(
        sections=sections, reveal=reveal, hidden=HIDDEN, what="audit" if is_audit else "corpus", clean=clean
    )
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
        replace_file(page, html.encode())
    except OSError as error:
        raise StoreError(f"{page}: cannot be written: {error.strerror or error}") from error
    return page


def _of_audit(audit: Audit, count: int, reveal: bool) -> list[Section]:
    """Return the nearest pairs of both sides, and what the corpus has."""
    if not audit.store.parts(audit.recipes.certified):
        raise Incomplete(f"{audit.root}: nothing certified yet; `byrote run {audit.root}` goes on to it")
    best = sorted(audit.best().values(), key=lambda row: (statistic(row), row.group))
    samples = Samples(audit.store, audit.recipes.samples).pixels
    near = [[row for row in best if row.side == side][:n] for side, n in (("picture", count), ("control", count // 4))]
    rows = [tuple(_pair(audit, row, samples, reveal) for row in some) for some in near]
    about = "The best match of each group, the smallest T first, certified or not."
    twins = "The same of pictures that were never trained on: what is no nearer than these says nothing of training."
    sections = [Section("Nearest pairs", about, rows[0]), Section("Nearest controls", twins, rows[1])]
    return sections + _of_corpus(audit.corpus, audit.plan.corpus, count, reveal)


def _pair(audit: Audit, row: Match, samples: Look, reveal: bool) -> Row:
    sample, picture = samples(row.sample), audit.corpus.pixels(row.digest)
    shots = [_shot(sample, "Sample", reveal), _shot(picture, "Control" if row.side == "control" else "Picture", reveal)]
    if reveal and sample is not None and picture is not None:
        two = laid(sample, picture, move_of(row), EDGE)
        shots.append(_shot(overlays.difference(*two), "Difference, black where equal", reveal))
        shots.append(_shot(overlays.outlines(*two), "Outlines: sample orange, picture blue, both white", reveal))
    return Row(
        f"T {statistic(row):.4f}", tuple(shots), audit.corpus.by_digest[row.digest].captions[:1] if reveal else ()
    )


def _of_corpus(corpus: Corpus, plan: CorpusPlan | None, count: int, reveal: bool) -> list[Section]:
    """Return the most copied groups and the nearest pairs of pictures."""
    plan = plan or CorpusPlan(path=str(corpus.root))
    told = summary(corpus, plan)
    if told.groups is None:
        raise Incomplete(f"{corpus.root}: near-duplicates were not looked for yet; `byrote duplicates` does")
    look = _Corpus(corpus, reveal)
    about = "Groups of near-duplicates with the most files of the training set."
    near = "Distinct pictures that were taken for near-duplicates, the nearest as they stand first."
    pairs = tuple(look.pair(row) for row in _nearest(dedupe.measured(corpus, plan), count))
    return [Section("Most copied", about, look.groups(told, count)), Section("Nearest pictures", near, pairs)]


def _nearest(pairs: Iterable[Pair], count: int) -> list[Pair]:
    measured = [row for row in pairs if row.rms is not None]
    return sorted(measured, key=lambda row: (row.rms, row.a, row.b))[:count]


@dataclass(frozen=True, slots=True)
class _Corpus:
    corpus: Corpus
    reveal: bool

    def groups(self, told: Summary, count: int) -> tuple[Row, ...]:
        return tuple(
            Row(
                f"{one.copies:,} files, {len(one.digests):,} distinct",
                tuple(self.shot(digest) for digest in one.digests[:MEMBERS]),
                one.captions[:3] if self.reveal else (),
            )
            for one in told.copied[:count]
        )

    def pair(self, row: Pair) -> Row:
        return Row(f"RMS {row.rms:.4f}", (self.shot(row.a), self.shot(row.b)))

    def shot(self, digest: str) -> Shot:
        """Show a picture; where it is hidden or gone, what its thumbnail holds of it."""
        image = self.corpus.pixels(digest) if self.reveal else None
        if image is None:
            image = self.corpus.vectors([digest], WHOLE)[0].reshape(SIDE, SIDE, 3)
        return _shot(image, "Picture", self.reveal)


def _shot(image: RGB | None, name: str, reveal: bool) -> Shot:
    if image is None:
        return Shot("", name)
    if not reveal:
        image = images.resize(image, HIDDEN, HIDDEN)
    small = max(image.shape[:2]) <= EDGE // 3
    kind, data = ("png", images.encode_png(image)) if small else ("jpeg", images.preview(image, EDGE))
    return Shot(f"data:image/{kind};base64,{b64encode(data).decode()}", name)


@cache
def _template() -> jinja2.Template:
    loader = jinja2.PackageLoader("byrote.reviewing", "templates")
    return jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined).get_template(
        "gallery.html"
    )
