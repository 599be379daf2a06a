"""What a corpus holds, in figures and as a page, which shows nothing that was not asked for."""

import json
import re
from base64 import b64decode
from html.parser import HTMLParser
from pathlib import Path

import pytest
from browsers import chromium
from playwright.sync_api import sync_playwright

import byrote
from byrote import api, images
from byrote.cli import main
from byrote.corpora import summary
from byrote.corpus import Corpus

from .shots import compressed, digest, field, fields, fill, mirrored

HOSTILE = {
    "a.png": '<script>document.title="stolen"</script><img src=x onerror=document.title=1>',
    "b.png": "right to left \u202egnirts\u202c and \u2066isolated\u2069, nul \x01 \u200b",
    "c.png": "{{ 7 * 7 }} \u2028 'quoted' \"twice\" & <b>bold</b> " + "long " * 400 + "end",
}
PLACE = "secret-place"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Make a corpus with a group of four files, one of two that touches the controls, and two reasons."""
    root = tmp_path_factory.mktemp("summary")
    one, two = field(3, 96, 96), field(4)
    pictures = {"a.png": one, "b.png": mirrored(one), "c.png": images.encode_png(one), "d.png": compressed(one)}
    broken = {"x.png": b"", "y.png": b"", "z.png": b"no picture"}
    captions = HOSTILE | {"e.png": "one of two", "x.png": "of what is broken"}
    fill(root / PLACE, pictures | {"e.png": two} | fields(range(20, 26)) | broken, captions)
    fill(root / "out", {"f.png": images.encode_png(two), "g.png": field(90)})
    byrote.index(root / PLACE, corpus=root / "corpus", held_out=root / "out")
    return root


def told(root):
    return api.summary(root / "corpus")[1]


def test_the_figures_are_those_of_the_files(root):
    found = told(root)
    assert (found.pictures, found.controls, found.distinct) == (11, 2, 11)
    assert (found.captioned, found.captions) == (4, 4)
    assert (found.unreadable, found.screened, found.removed) == (3, 0, 0)
    assert list(found.reasons.items()) == [("zero bytes", 2), ("not an image", 1)]
    assert {(one["side"], Path(one["uri"]).name, one["files"]) for one in found.sources} == {
        ("picture", PLACE, 11),
        ("control", "out", 2),
    }
    assert found.digest == Corpus(root / "corpus").digest
    assert found.bytes == sum(path.stat().st_size for path in (root / "corpus").rglob("*") if path.is_file())


def test_groups_are_unknown_until_somebody_looks_for_duplicates(tmp_path, capsys):
    byrote.index(fill(tmp_path / "in", fields(range(3))), corpus=tmp_path / "c")
    found = api.summary(tmp_path / "c")[1]
    assert (found.groups, found.duplicated, found.set_aside, found.copied) == (None, None, None, ())
    assert main(["corpus", str(tmp_path / "c")]) == 0
    assert "near-duplicates: not looked for yet" in capsys.readouterr().out
    assert "Nobody has looked for duplicates yet" in (tmp_path / "c" / "page" / "corpus.html").read_text()


def test_groups_are_counted_with_the_most_copied_first_and_its_largest_picture_in_front(root):
    api.duplicates(root / "corpus")
    found = told(root)
    assert (found.groups, found.duplicated, found.set_aside) == (9, 1, 1)
    (copied,) = found.copied
    assert (copied.copies, copied.controls, len(copied.digests)) == (4, 0, 3)
    assert set(copied.where) == {"a.png", "b.png", "c.png", "d.png"}
    assert set(copied.captions) == set(HOSTILE.values())
    assert copied.group == min(copied.digests)


def test_the_largest_member_comes_first(tmp_path):
    one = field(3, 128, 128)
    small = images.resize(one, 64, 64)
    byrote.index(fill(tmp_path / "in", {"a.png": small, "b.png": one}), corpus=tmp_path / "c")
    api.duplicates(tmp_path / "c")
    (copied,) = api.summary(tmp_path / "c")[1].copied
    assert copied.digests == (digest(one), digest(small))


def test_the_command_line_tells_the_same_as_json_and_writes_the_page(root, tmp_path, capsys):
    assert main(["corpus", str(root / "corpus"), "--page", str(tmp_path / "p" / "page.html"), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["pictures"], printed["controls"], printed["unreadable"]) == (11, 2, 3)
    assert printed["page"] == str(tmp_path / "p" / "page.html")
    assert (tmp_path / "p" / "page.html").exists()
    assert main(["corpus", str(root / "nowhere")]) == 2
    assert "no corpus here" in capsys.readouterr().err


class _Seen(HTMLParser):
    """Collects tags, attributes and the text that a reader sees."""

    def __init__(self):
        super().__init__()
        self.tags, self.attributes, self.text, self._hidden = [], [], [], False

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        self._hidden = tag in ("style", "script")

    def handle_endtag(self, tag):
        self._hidden = False

    def handle_data(self, data):
        if not self._hidden:
            self.text.append(data)


def page(root, folder, *, reveal):
    api.duplicates(root / "corpus")
    corpus, figures = api.summary(root / "corpus")
    path = folder / "page.html"
    summary.page(corpus, figures, path, reveal=reveal)
    return path


def parsed(path):
    seen = _Seen()
    seen.feed(path.read_text(encoding="utf-8"))
    return seen


def test_no_caption_place_or_picture_is_on_the_page_unless_it_is_revealed(root, tmp_path):
    raw = page(root, tmp_path, reveal=False).read_text()
    for secret in (PLACE, "a.png", "e.png", "stolen", "onerror", "right to left", "one of two", str(root)):
        assert not re.search(rf"\b{re.escape(secret)}\b", re.sub(r"<style>.*?</style>", "", raw, flags=re.S)), secret
    shown = [value for name, value in parsed(tmp_path / "page.html").attributes if name == "src"]
    assert len(shown) == 3
    for uri in shown:
        assert uri.startswith("data:image/png;base64,")
        assert _decoded(uri).shape == (4, 4, 3)


def _decoded(uri):
    return images.decode(b64decode(uri.partition(",")[2]))


def test_revealed_it_shows_them_and_what_is_hostile_is_only_text(root, tmp_path):
    seen = parsed(page(root, tmp_path, reveal=True))
    text = "".join(seen.text)
    assert "script" not in seen.tags
    assert "b" not in seen.tags
    assert not [name for name, _ in seen.attributes if name.startswith("on")]
    assert HOSTILE["a.png"] in text
    assert "{{ 7 * 7 }}" in text
    assert not set("\u202e\u202c\u2066\u2069\u2028\x01") & set(text)
    assert "(cut: " in text
    assert PLACE in text
    assert {"a.png", "d.png"} <= set(re.findall(r"\w\.png", text))
    shown = [value for name, value in seen.attributes if name == "src"]
    assert [_decoded(uri).shape for uri in shown] == [(96, 96, 3)] * 3


def test_the_page_needs_no_network_and_forbids_it(root, tmp_path):
    raw = page(root, tmp_path, reveal=True).read_text()
    assert "default-src 'none'" in raw
    addresses = [value for name, value in parsed(tmp_path / "page.html").attributes if name in ("src", "href")]
    assert all(value.startswith("data:image/") for value in addresses)


def test_a_picture_whose_source_is_gone_is_shown_by_its_thumbnail(tmp_path):
    fill(tmp_path / "in", {"a.png": field(1), "b.png": mirrored(field(1))})
    byrote.index(tmp_path / "in", corpus=tmp_path / "corpus")
    api.duplicates(tmp_path / "corpus")
    for path in (tmp_path / "in").iterdir():
        path.unlink()
    seen = parsed(page(tmp_path, tmp_path, reveal=True))
    assert [_decoded(value).shape for name, value in seen.attributes if name == "src"] == [(32, 32, 3)] * 2


@pytest.fixture(scope="module")
def browser():
    """Open Chromium."""
    here = chromium()
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=here, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.mark.parametrize("reveal", [False, True])
@pytest.mark.parametrize("width", [360, 1280])
def test_in_a_browser_it_runs_nothing_fits_and_has_no_errors(root, tmp_path, browser, reveal, width):
    path, troubles = page(root, tmp_path, reveal=reveal), []
    tab = browser.new_page(viewport={"width": width, "height": 900})
    tab.on("console", lambda message: troubles.append(message.text))
    tab.on("pageerror", lambda error: troubles.append(str(error)))
    tab.on("requestfailed", lambda request: troubles.append(request.url[:80]))
    tab.goto(path.as_uri())
    assert troubles == []
    assert tab.title() == "Corpus"
    assert tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert tab.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    assert tab.locator("script").count() == 0
    text = tab.inner_text("body")
    assert (HOSTILE["a.png"] in text) is reveal
    assert (PLACE in text) is reveal
    assert "4 files, 3 distinct" in text
    tab.close()
