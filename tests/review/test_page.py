"""The page in a real browser: two people judge by keys alone, and nothing that was acknowledged is lost."""

import hashlib
import json
import sqlite3
from collections import Counter
from pathlib import Path

import axe_playwright_python
import pytest
from browsers import chromium
from playwright.sync_api import sync_playwright

from byrote.review import verdicts

from .served import HOSTILE, Server

PAIRS = 200
KEYS = {"c": "copy", "p": "part", "a": "alike", "n": "no", "u": "unsure"}
AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
SHOWN = (
    "last => { const now = document.getElementById('stage').dataset.shown; return now !== undefined && now !== last }"
)


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def server(tmp_path):
    server = Server(tmp_path, PAIRS).start()
    yield server
    server.kill()


@pytest.fixture
def exploring(tmp_path):
    server = Server(tmp_path, 3, mode="explore").start()
    yield server
    server.kill()


def key_for(name, pair):
    """Return which key a reviewer presses at a pair."""
    return list(KEYS)[hashlib.sha256(f"{name} {pair}".encode()).digest()[0] % len(KEYS)]


class Reviewer:
    """Somebody at a keyboard, and what the server acknowledged to them."""

    def __init__(self, browser, server, name, **options):
        self.name, self.acknowledged, self.trouble = name, [], []
        self.page = browser.new_context(**options).new_page()
        self.page.on("requestfinished", self._heard)
        self.page.on("request", lambda asked: self._from_here(asked, server))
        self.page.on("pageerror", lambda error: self.trouble.append(str(error)))
        self.page.on("dialog", lambda dialog: self.trouble.append(dialog.message))
        self.page.goto(server.page(name))
        self.sees()

    def _from_here(self, asked, server):
        if not asked.url.startswith(server.page(self.name)):
            self.trouble.append(f"asked for {asked.url}")

    def _heard(self, asked):
        if asked.method == "POST" and asked.response().status == 200:
            self.acknowledged.append(json.loads(asked.post_data))

    def sees(self, last=None):
        """Wait until another pair than `last` is on the stage and return its id, or "" where all are judged."""
        self.page.wait_for_function(SHOWN, arg=last)
        return self.page.evaluate("document.getElementById('stage').dataset.shown")

    def judges(self, count, last=None):
        """Judge so many pairs by keys alone, and return the last one."""
        for _ in range(count):
            last = self.sees(last)
            self.page.keyboard.press(key_for(self.name, last))
        return last

    def stored(self):
        self.page.wait_for_function(
            "() => document.getElementById('state').textContent === 'All stored'", timeout=20_000
        )


def events(server):
    with sqlite3.connect(server.folder / verdicts.FILE) as store:
        rows = store.execute("SELECT reviewer, picture, sample, verdict FROM events").fetchall()
    store.close()
    return rows


def test_two_people_judge_by_keys_through_a_reload_and_a_kill_and_no_verdict_is_lost_or_doubled(browser, server):
    """Ann judges all 200 and reloads, Bob 30 beside her; the server is killed while verdicts are on their way."""
    ann, bob = Reviewer(browser, server, "ann"), Reviewer(browser, server, "bob")
    hers = his = None
    for each in (ann, bob):
        each.page.keyboard.press("r")
    for _ in range(5):
        hers, his = ann.judges(10, hers), bob.judges(3, his)
    ann.page.reload()
    hers = ann.sees(ann.judges(50))
    server.kill()
    heard = [*ann.acknowledged, *bob.acknowledged]
    stored = Counter((row[0], int(row[1].split()[1])) for row in events(server))
    assert max(stored.values()) == 1
    assert {("ann", int(each["id"][1:])) for each in ann.acknowledged} <= stored.keys()
    assert {("bob", int(each["id"][1:])) for each in bob.acknowledged} <= stored.keys()
    ann.page.keyboard.press(key_for("ann", hers))  # to a server that is not there
    ann.page.wait_for_function("() => document.getElementById('state').className === 'silent'")
    assert "wait in this page" in ann.page.inner_text("#alert")
    server.start()
    ann.stored()
    last = ann.sees(hers)
    while last:
        ann.page.keyboard.press(key_for("ann", last))
        last = ann.sees(last)
    bob.judges(15, his)
    ann.stored()
    bob.stored()
    assert "Every pair of yours is judged" in ann.page.inner_text("#done")
    ids = {f"p{k:04d}": (f"picture {k}", f"sample {k}" if k % 8 else "") for k in range(PAIRS)}
    told = {(r, *ids[i]): KEYS[key_for(r, i)] for r, some in (("ann", [*ids]), ("bob", [*ids][:30])) for i in some}
    rows = events(server)
    assert Counter(row[:3] for row in rows) == Counter(told.keys())
    assert {row[:3]: row[3] for row in rows} == told
    assert verdicts.check(server.folder / verdicts.FILE) == []
    assert len(heard) > 60
    assert ann.trouble == bob.trouble == []


def refusing(page, status):
    """Let the page hear this status to every verdict, until it is unrouted."""
    answer = {"status": status, "content_type": "application/json", "body": '{"error": "no"}'}
    page.route("**/api/verdicts", lambda route: route.fulfill(**answer))


def test_a_verdict_on_what_the_server_no_longer_knows_is_dropped_in_words(browser, server):
    ann = Reviewer(browser, server, "ann")
    first = ann.sees()
    refusing(ann.page, 404)
    ann.page.keyboard.press("c")
    ann.sees(first)
    ann.stored()
    assert f"no longer known. Pair {first} is open again" in ann.page.inner_text("#alert")
    ann.page.unroute("**/api/verdicts")
    ann.page.keyboard.press("ArrowLeft")
    ann.sees("p0001")
    ann.page.keyboard.press("n")
    ann.sees(first)
    ann.stored()
    assert [row[1:] for row in events(server)] == [("picture 0", "", "no")]


@pytest.mark.parametrize("status", [403, 421])
def test_a_verdict_that_the_server_refuses_waits_in_words_and_the_page_begins_without_it(browser, server, status):
    ann = Reviewer(browser, server, "ann")
    first = ann.sees()
    refusing(ann.page, status)
    ann.page.keyboard.press("c")
    second = ann.sees(first)
    ann.page.wait_for_function(f"() => document.getElementById('alert').textContent.includes('({status}). 1 of your')")
    ann.page.once("dialog", lambda dialog: dialog.accept())  # whether to leave what is not stored
    ann.page.reload()
    assert ann.sees() == second
    assert ann.page.inner_text("#state") == "1 not stored yet"
    assert ann.page.inner_text("#place").endswith(", 1 judged")
    ann.page.unroute("**/api/verdicts")
    ann.stored()
    assert [row[1:] for row in events(server)] == [("picture 0", "", "copy")]


def test_undo_skip_notes_and_moves_do_what_their_keys_say(browser, server):
    ann = Reviewer(browser, server, "ann")
    keyboard, page = ann.page.keyboard, ann.page
    assert ann.sees() == "p0000"
    keyboard.press("w")
    keyboard.type("cap not judged: c p a n u")
    keyboard.press("Enter")
    keyboard.press("c")
    assert ann.sees("p0000") == "p0001"
    keyboard.press("s")
    assert ann.sees("p0001") == "p0002"
    keyboard.press("n")
    assert ann.sees("p0002") == "p0003"
    keyboard.press("z")
    assert ann.sees("p0003") == "p0002"
    assert page.get_attribute("[data-verdict=no]", "aria-pressed") == "false"
    keyboard.press("ArrowLeft")
    assert ann.sees("p0002") == "p0001"
    keyboard.press("ArrowLeft")
    assert ann.sees("p0001") == "p0000"
    assert page.get_attribute("[data-verdict=copy]", "aria-pressed") == "true"
    assert page.input_value("#note") == "cap not judged: c p a n u"
    keyboard.press("p")
    assert ann.sees("p0000") == "p0001"
    ann.stored()
    _, said = verdicts.since(server.folder / verdicts.FILE, 0)
    note = "cap not judged: c p a n u"
    assert [(each.picture[-1], each.verdict, each.note) for each in said] == [
        ("0", "copy", note),
        ("2", "no", ""),
        ("2", None, ""),
        ("0", "part", note),
    ]
    assert verdicts.latest(server.folder / verdicts.FILE) == {("ann", "picture 0", ""): "part"}
    assert ann.trouble == []


COLOURS = """() => { const c = document.getElementById('over');
  const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
  const found = new Set();
  for (let i = 0; i < d.length; i += 4) found.add(d.slice(i, i + 3).join()); return [...found] }"""


def test_a_pair_whose_image_is_gone_holds_nobody_up(browser, tmp_path):
    server = Server(tmp_path, 3, gone=("picture 1",)).start()
    try:
        ann = Reviewer(browser, server, "ann")
        keyboard, page = ann.page.keyboard, ann.page
        keyboard.press("c")
        assert ann.sees("p0000") == "p0001"
        assert page.is_visible("#gone")
        keyboard.press("z")
        assert ann.sees("p0001") == "p0000"
        keyboard.press("n")
        assert ann.sees("p0000") in ("p0001", "p0002")
        page.keyboard.press("s") if page.is_visible("#gone") else None
        assert ann.sees("p0001") == "p0002"
        keyboard.press("n")
        assert ann.sees("p0002") == ""
        assert "Every pair of yours is judged" in page.inner_text("#done")
        keyboard.press("ArrowLeft")
        assert ann.sees("") == "p0002"
        assert page.inner_text("#place").startswith("Pair 3 of 3")
        for _ in range(3):
            keyboard.press("ArrowRight")
        page.keyboard.press("s")
        ann.sees("p0002")
        keyboard.press("i")
        assert ann.sees("") == "p0000"
        assert ann.trouble == []
    finally:
        server.kill()


def test_a_level_goes_with_a_verdict_and_pairs_are_gone_through_by_verdict(browser, server):
    ann = Reviewer(browser, server, "ann")
    keys, page = ann.page.keyboard, ann.page
    first = ann.sees()
    keys.press("l")
    keys.press("4")
    keys.press("Enter")
    keys.press("c")
    second = ann.sees(first)
    assert page.evaluate("document.getElementById('level').value") == ""
    keys.press("n")
    ann.sees(second)
    ann.stored()
    page.select_option("#which", "copy")
    page.locator("#which").press("Enter")
    keys.press("g")
    assert ann.sees("p0002") == first
    assert page.evaluate("document.getElementById('level').value") == "4"
    assert [(said["verdict"], said["level"]) for said in ann.acknowledged] == [("copy", 4), ("no", None)]
    assert [each.level for each in verdicts.events(server.folder / "verdicts.sqlite")] == [4, None]
    assert not ann.trouble


def test_the_views_show_difference_and_outlines_of_the_pair_and_flicker_heeds_reduced_motion(browser, tmp_path):
    """Pair 1 is of two unlike images, pair 0 a picture beside its planted copy."""
    server = Server(tmp_path, 2).start()
    try:
        ann = Reviewer(browser, server, "ann", reduced_motion="reduce")
        ann.sees()
        assert ann.page.evaluate("document.getElementById('stage').classList.contains('blurred')")
        ann.page.keyboard.press("r")
        assert not ann.page.is_visible("#veil")
        bright = {}
        for pair in ("p0000", "p0001"):
            ann.page.keyboard.press("4")
            bright[pair] = max(int(c.split(",")[0]) for c in ann.page.evaluate(COLOURS))
            ann.page.keyboard.press("5")
            outlines = set(ann.page.evaluate(COLOURS))
            if pair == "p0001":
                assert {"255,150,60", "86,170,255"} <= outlines
            ann.page.keyboard.press("ArrowRight")
            if pair == "p0000":
                ann.sees(pair)
        assert bright["p0000"] < 150
        assert bright["p0001"] > 240
        ann.page.keyboard.press("3")
        first = ann.page.inner_text("#left-name")
        ann.page.wait_for_timeout(800)
        assert ann.page.inner_text("#left-name") == first == "Sample"
        ann.page.keyboard.press("Space")
        assert ann.page.inner_text("#left-name") == "Picture"
        ann.page.keyboard.press("2")
        ann.page.keyboard.press("]")
        assert ann.page.input_value("#share") == "60"
        assert ann.trouble == []
    finally:
        server.kill()


def test_who_has_judged_all_is_told_by_a_key_and_their_verdicts_stay(browser, tmp_path):
    server = Server(tmp_path, 3).start()
    try:
        ann = Reviewer(browser, server, "ann")
        keyboard, page = ann.page.keyboard, ann.page
        keyboard.press("i")  # not yet
        ann.judges(3)
        ann.sees("p0002")
        assert page.is_visible("#tell-button")
        assert violations(page) == []
        keyboard.press("i")
        assert ann.sees("") == "p0000"
        assert "0.0123" in page.inner_text("#facts")
        assert page.is_disabled("[data-verdict=copy]")
        assert page.is_disabled("#note")
        said = len(ann.acknowledged)
        keyboard.press("c")
        keyboard.press("z")
        keyboard.press("ArrowRight")
        assert ann.sees("p0000") == "p0001"
        assert violations(page) == []
        ann.stored()
        assert len(ann.acknowledged) == said
        rows = [row for row in events(server) if row[3] != verdicts.TOLD]
        assert {row[1][-1]: row[3] for row in rows} == {f"{k}": KEYS[key_for("ann", f"p000{k}")] for k in range(3)}
        assert ann.trouble == []
    finally:
        server.kill()


def test_each_list_around_a_pair_has_a_key_and_what_was_moved_is_said(browser, exploring):
    ann = Reviewer(browser, exploring, "ann")
    keyboard, page = ann.page.keyboard, ann.page
    ann.sees()
    for key, titles in (("6", ["Others"]), ("7", ["None"]), ("8", ["Controls"]), ("m", ["Others", "None", "Controls"])):
        keyboard.press(key)
        page.wait_for_selector("#more[open]")
        assert page.locator("#more h3").all_inner_texts() == titles
        assert violations(page) == []
        keyboard.press("Escape")
    keyboard.press("5")
    assert "mirrored" not in page.inner_text("#legend")
    for last in ("p0000", "p0001"):
        keyboard.press("ArrowRight")
        ann.sees(last)
    assert page.inner_text("#legend").endswith("picture cut to 90% of its edges (top), mirrored")
    keyboard.press("1")
    assert page.inner_text("#legend") == ""


def test_a_note_is_found_again_by_its_words(browser, server):
    ann = Reviewer(browser, server, "ann")
    keyboard = ann.page.keyboard
    keyboard.press("w")
    keyboard.type("the same scarf")
    keyboard.press("Enter")
    keyboard.press("n")
    ann.sees("p0000")
    ann.stored()
    keyboard.press("f")
    keyboard.type("scarf same")
    keyboard.press("Enter")
    assert ann.sees("p0001") == "p0000"
    assert ann.page.input_value("#note") == "the same scarf"
    keyboard.press("f")
    keyboard.press("Control+a")
    keyboard.type("hat")
    keyboard.press("Enter")
    ann.page.wait_for_function("() => document.getElementById('alert').textContent.includes('all these words')")
    assert ann.trouble == []


def test_hostile_texts_are_shown_as_texts(browser, exploring):
    ann = Reviewer(browser, exploring, "ann")
    ann.sees()
    assert "onerror" not in ann.page.inner_text("#facts")
    ann.page.keyboard.press("r")
    shown = ann.page.evaluate("[...document.querySelectorAll('#facts dd')].map(each => each.textContent)")
    assert shown[0] == HOSTILE["caption"]
    assert shown[1] == HOSTILE["prompt"]
    assert shown[2].startswith("x" * 4000)
    assert shown[2].endswith("and 96,000 characters more")
    assert ann.page.evaluate("document.querySelectorAll('#facts img, #facts script, #facts b').length") == 0
    assert ann.page.title() == "Pairs to judge"
    assert ann.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert ann.trouble == []


def violations(page):
    page.evaluate(AXE)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    return [(each["id"], [node["target"] for node in each["nodes"]]) for each in found]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_to_mend_on_any_page(browser, exploring, scheme):
    ann = Reviewer(browser, exploring, "ann", color_scheme=scheme)
    ann.sees()
    assert violations(ann.page) == []
    for key in ("r", "2", "?"):
        ann.page.keyboard.press(key)
    assert ann.page.is_visible("#help")
    assert violations(ann.page) == []
    ann.page.keyboard.press("Escape")
    ann.page.keyboard.press("c")
    ann.sees("p0000")
    ann.page.keyboard.press("m")
    ann.page.wait_for_selector("#more img")
    assert violations(ann.page) == []
    ann.page.goto(exploring.page(""))
    ann.page.wait_for_selector("svg")
    assert violations(ann.page) == []
