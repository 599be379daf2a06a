"""The report says what was found, hides what is private, and is moved by no caption."""

import json
import math
import re
from base64 import b64decode
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from byrote import images
from byrote.demo.portraits import draw, meet
from byrote.domain import RGB, Finding, Rate
from byrote.errors import StoreError
from byrote.kernels import align, overlays, stats
from byrote.kernels.align import IDENTITY, Alignment
from byrote.stages import report
from byrote.stages.certify import Test as Power
from byrote.stages.report import Evidence, Shown, figures, page
from byrote.stages.report.words import clean, moved, percent

TAU, FDR = 0.15, 0.05
SHA = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass
class Album:
    """Pictures and samples by digest."""

    pictures: dict[str, RGB]
    samples: dict[str, RGB]


def noisy(image: RGB, levels: float, seed: int) -> RGB:
    noise = np.random.default_rng(seed).normal(0, levels, image.shape)
    return (image + noise).clip(0, 255).astype(np.uint8)


def finding(album: Album, number: int, side: str, t: float, copies: int, certified: bool, p: float | None) -> Shown:
    person = meet("train" if side == "picture" else "control", number)
    picture = draw(person)
    sample = noisy(picture, 255 * t, number)
    digest, sampled = images.digest(picture), images.digest(sample)
    album.pictures[digest] = picture
    album.samples[sampled] = sample
    caption = person.captions()[0]
    found = Finding(
        family="asked",
        group=digest,
        digest=digest,
        side=side,
        copies=copies,
        prompt=number,
        sample=sampled,
        statistic=t,
        rms=t * 0.7,
        tiled=t,
        round_trip=t * 1.1,
        ratio=t * 4,
        p_value=p,
        q_value=None if p is None else min(1.0, 4 * p),
        certified=certified,
        basis="exact" if copies == 1 else "assumption-based",
    )
    samples = tuple((1000 + number + k, sampled if k == 0 else f"sha256:{k:064x}") for k in range(copies))
    return Shown(found, tuple(f"album/private-{number}-{k}.png" for k in range(copies)), caption, caption, samples)


def rate(name: str, tier: str | None, k: int, n: int, controls: tuple[int, int] | None) -> Rate:
    low, high = stats.clopper_pearson(k, n)
    controls_k, controls_n = controls or (None, None)
    return Rate(name, tier, k, n, low, high, 0.95, "Clopper-Pearson", controls_k, controls_n)


def evidence(certified: int = 6, others: int = 4, *, seed: int = 0) -> Evidence:
    """Make an audit of 120 pictures and 600 controls."""
    dice = np.random.default_rng(seed)
    album = Album({}, {})
    near = np.sort(dice.uniform(0.02, 0.09, certified))
    far = np.sort(dice.normal(0.27, 0.03, 120 - certified - 20))
    t = np.concatenate([near, far, np.full(20, np.inf)])
    null = np.concatenate([dice.normal(0.28, 0.03, 500), np.full(100, np.inf)])
    p = stats.conformal_p(t, null)
    shown = [
        finding(album, k, "picture", float(t[k]), 1 if k % 3 else 2 ** (k % 5 + 1), k < certified, float(p[k]))
        for k in range(certified + others)
    ]
    beside = [finding(album, k, "control", float(x), 1, False, None) for k, x in enumerate(np.sort(null)[:4])]
    tiers = [("1", 1, 60), ("2-3", 1, 30), ("4-7", 2, 20), ("8-15", 2, 10)]
    seal = report.Seal("sha256:" + "5" * 64, "2026-01-02T03:04:05+00:00", True)
    return Evidence(
        model=report.ModelFacts("diffusers:models/portraits", "StableDiffusionPipeline", "sha256:" + "a" * 64),
        corpus=report.CorpusFacts("sha256:" + "b" * 64, 2412, 1020, 3, 2000, 2),
        plan={
            "format": 1,
            "model": {"uri": "diffusers:models/portraits", "dtype": "float32"},
            "generate": {"seeds": 16, "steps": 15, "guidance": 4.0, "sampler": None},
            "certify": {"fdr": FDR, "closest": TAU},
        },
        tests={
            "asked": Power(120, 600, 0, 1 / 601, math.ceil(120 / (FDR * 601))),
            "unasked": Power(900, 1400, 2, 1 / 1401, math.ceil(900 * 3 / (FDR * 1401))),
        },
        findings=shown,
        controls=report.Controls(2000, 0),
        nearest_controls=beside,
        statistics={"asked": report.Statistics(t, null)},
        rates=[
            *(rate("asked groups certified", tier, min(k, certified), n, (0, 600)) for tier, k, n in tiers),
            rate("asked groups certified", None, certified, 120, (0, 600)),
            rate("unasked groups certified", None, 0, 900, None),
        ],
        cost=report.Cost(11_520 * 30, 11_520, 71.3),
        skipped=[report.Skipped("file", "truncated", 2), report.Skipped("group", "no caption", 1)],
        calibrated=True,
        tau=TAU,
        fdr=FDR,
        picture_image=album.pictures.get,
        sample_image=album.samples.get,
        sealed=seal,
        audits=[report.Seal("sha256:" + "4" * 64, "2026-01-01T00:00:00+00:00", True), seal],
        warnings=[],
        versions={"byrote": "0.1.0", "numpy": "2.3.0", "python": "3.11.9"},
        machine="x86_64, 2 cores",
        drawn=rate("asked groups of the random draw within tau", None, 0, 60, (0, 600)),
    )


def read(folder: Path) -> dict:
    """Read report.json back, refusing NaN and infinities."""

    def refuse(word: str) -> None:
        raise AssertionError(word)

    return json.loads((folder / "report.json").read_bytes(), parse_constant=refuse)


NUMBER = (int, float)
MAYBE = (int, float, type(None))
TEST = {"m": int, "n_controls": int, "controls_at_cut": int, "smallest_p": MAYBE, "k_needed": (int, type(None))}
SEAL = {"digest": str, "when": str, "before_sampling": bool, "seed": int, "closest": NUMBER, "alike": bool} | {
    "elsewhere": bool
}
SCHEMA = {
    "schema_version": int,
    "calibrated": bool,
    "model": {"uri": str, "digest": str, "left_out": [str]},
    "corpus": {
        "digest": str,
        "pictures": int,
        "groups": int,
        "unreadable": int,
        "controls": int,
        "controls_set_aside": int,
    },
    "plan": dict,
    "tests": {"asked": TEST, "unasked": TEST, "canary": (dict, type(None))},
    "findings": [
        {
            "picture": {"digest": str, "where": [str], "caption": (str, type(None)), "copies": int},
            "prompt": (str, type(None)),
            "samples": [{"seed": int, "digest": str}],
            "distances": dict.fromkeys(("rms", "tiled", "ratio", "round_trip", "masked"), MAYBE),
            "p_value": MAYBE,
            "q_value": MAYBE,
            "certified": bool,
            "basis": str,
            "family": str,
            "group": str,
            "matched_p": MAYBE,
            "sensitivity": MAYBE,
            "twin": {"statistic": MAYBE, "p_value": MAYBE},
            "way": (dict, type(None)),
        }
    ],
    "controls": {"n": int, "certified": int},
    "rates": [
        {
            "name": str,
            "tier": (str, type(None)),
            "k": int,
            "n": int,
            "low": NUMBER,
            "high": NUMBER,
            "level": NUMBER,
            "method": str,
            "controls_k": (int, type(None)),
            "controls_n": (int, type(None)),
            "population": str,
        }
    ],
    "cost": {"denoiser_evaluations": int, "samples": int, "seconds": NUMBER},
    "skipped": [{"what": str, "reason": str, "n": int}],
    "byrote": dict,
    "sealed": (dict, type(None)),
    "audits": [SEAL],
    "warnings": [str],
    "redacted": bool,
    "sentences": [str],
    "annex": [{"document": str, "question": str, "tested": str, "figures": [str]}],
    "not_tested": [{"what": str, "why": str}],
    "balance": [{"covariate": str, "before": NUMBER, "after": NUMBER}],
    "claims": [dict],
    "funnel": [{"name": str, "pictures": (int, type(None)), "controls": (int, type(None))}],
} | dict.fromkeys(
    [
        *("twin", "tau", "at_all", "apart", "round_trips", "discovery", "unseen", "canaries", "review", "screening"),
        *("inside", "extraction"),
    ],
    (dict, type(None)),
)


def check(value, schema, at: str = "report") -> None:
    """Hold a tree against a schema: the same keys, no more and no fewer, and the types (a bool is no int)."""
    if isinstance(schema, dict):
        assert set(value) == set(schema), at
        for key, inner in schema.items():
            check(value[key], inner, f"{at}.{key}")
    elif isinstance(schema, list):
        assert isinstance(value, list), at
        for k, inner in enumerate(value):
            check(inner, schema[0], f"{at}[{k}]")
    else:
        kinds = schema if isinstance(schema, tuple) else (schema,)
        assert type(value) in kinds, (at, value)


class Page(HTMLParser):
    """What a browser would make of the page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag
        self.text += " " * (tag in ("td", "th", "dt", "dd"))

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.text += data

    def images(self) -> list[RGB]:
        sources = [attrs["src"] for tag, attrs in self.tags if tag == "img"]
        return [images.decode(b64decode(src.partition(",")[2])) for src in sources]


def words(page: Page) -> str:
    return " ".join(page.text.split())


def answer(e: Evidence) -> str:
    html = report.as_html(e, reveal=False)
    return re.search(r'<p class="answer[^"]*">(.*?)</p>', html, re.S).group(1)


def uncalibrated() -> Evidence:
    e = evidence(0, 5)
    bare = [replace(s, finding=replace(s.finding, p_value=None, q_value=None, ratio=None)) for s in e.findings]
    t = e.statistics["asked"].pictures
    return replace(
        e,
        calibrated=False,
        findings=bare,
        controls=report.Controls(0, 0),
        nearest_controls=[],
        tests=dict.fromkeys(("asked", "unasked"), Power(120, 0, 0, None, None)),
        statistics={"asked": report.Statistics(t, np.zeros(0))},
        drawn=None,
    )


CASES = {
    "findings": evidence,
    "none certified": lambda: evidence(0, 5),
    "nothing near": lambda: replace(evidence(0, 0), nearest_controls=[]),
    "uncalibrated": uncalibrated,
    "bare": lambda: replace(
        uncalibrated(), tests={}, statistics={}, rates=[], skipped=[], sealed=None, audits=[], drawn=None, machine=""
    ),
}


@pytest.mark.parametrize("case", ["findings", "none certified", "nothing near", "uncalibrated"])
def test_report_json_has_exactly_the_keys_and_types_of_its_schema(case, tmp_path):
    report.write(tmp_path, CASES[case](), reveal=False)
    check(read(tmp_path), SCHEMA)


def test_the_checker_of_the_schema_refuses_a_missing_key_another_type_and_a_bool_for_a_number(tmp_path):
    report.write(tmp_path, evidence(), reveal=False)
    for spoil in (
        lambda told: told["controls"].pop("certified"),
        lambda told: told["controls"].update(certified="0"),
        lambda told: told["findings"][0]["picture"].update(copies=True),
        lambda told: told["model"].update(name="more"),
    ):
        told = read(tmp_path)
        spoil(told)
        with pytest.raises(AssertionError):
            check(told, SCHEMA)


def test_what_is_written_is_what_was_found(tmp_path):
    e = evidence()
    report.write(tmp_path, e, reveal=False)
    told = read(tmp_path)
    assert [f["picture"]["digest"] for f in told["findings"]] == [s.finding.digest for s in e.findings]
    assert [f["distances"]["tiled"] for f in told["findings"]] == [s.finding.tiled for s in e.findings]
    assert [f["picture"]["caption"] for f in told["findings"]] == [s.caption for s in e.findings]
    assert [f["certified"] for f in told["findings"]] == [True] * 6 + [False] * 4
    assert all(SHA.fullmatch(f["picture"]["digest"]) for f in told["findings"])
    assert told["plan"] == e.plan
    assert told["tests"]["unasked"]["controls_at_cut"] == 2
    assert told["sealed"] == told["audits"][1]


def test_numbers_that_are_no_numbers_become_null():
    shown = evidence().findings[0]
    broken = replace(shown, finding=replace(shown.finding, ratio=math.inf, rms=math.nan, p_value=np.float64("nan")))
    e = replace(evidence(), findings=[broken], plan={"match": {"n": np.int64(50), "cap": math.inf}})
    told = report.as_json(e)
    json.dumps(told, allow_nan=False)
    assert told["findings"][0]["distances"]["ratio"] is None
    assert told["findings"][0]["distances"]["rms"] is None
    assert told["findings"][0]["p_value"] is None
    assert told["plan"] == {"match": {"n": 50, "cap": None}}
    shown_as = dict(re.findall(r"<dt>(RMS|ratio|p)</dt><dd>(.*?)</dd>", report.as_html(e, reveal=True))[:3])
    dash = '<abbr title="not computed">—</abbr>'
    assert shown_as == {"RMS": dash, "ratio": "∞", "p": dash}


@pytest.mark.parametrize("reveal", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_the_page_is_whole_stands_alone_and_runs_nothing(case, reveal):
    html = report.as_html(CASES[case](), reveal=reveal)
    page = Page(html)
    assert page.open == []
    names = [tag for tag, _ in page.tags]
    assert not {"script", "link", "iframe", "object", "embed", "form", "base"} & set(names)
    assert "http://" not in html
    assert "https://" not in html
    assert not re.search(r"url\(|@import", html)
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    for _, attrs in page.tags:
        assert (attrs.get("src") or "data:image/").startswith("data:image/")
        assert (attrs.get("href") or "#").startswith("#")
    policy = next(a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'")


@pytest.mark.parametrize("case", CASES)
def test_the_page_can_be_read_without_seeing_it(case):
    page = Page(report.as_html(CASES[case](), reveal=True))
    assert ("html", {"lang": "en"}) in page.tags
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert all(attrs.get("alt") for tag, attrs in page.tags if tag == "img")
    assert all(attrs.get("scope") in ("col", "row") for tag, attrs in page.tags if tag == "th")
    assert all(attrs.get("aria-label") or attrs.get("aria-hidden") for tag, attrs in page.tags if tag == "svg")
    targets = {attrs["id"] for _, attrs in page.tags if "id" in attrs}
    assert {attrs["href"][1:] for tag, attrs in page.tags if tag == "a"} <= targets


def test_a_page_that_is_not_revealed_holds_no_caption_no_place_and_at_most_sixteen_colours_of_an_image():
    e = evidence()
    html = report.as_html(e, reveal=False)
    page = Page(html)
    for shown in [*e.findings, *e.nearest_controls]:
        assert shown.caption not in html
        assert shown.caption.split()[0] not in html
        assert shown.where[0] not in html
    assert "private-" not in html
    shown = [*e.findings, *e.nearest_controls]
    assert len(page.images()) == 2 * len(shown)
    assert all(image.shape[0] * image.shape[1] <= 16 for image in page.images())
    assert words(page).count("hidden") >= 3 * len(shown)
    assert "byrote report DIR --reveal" in words(page)


def test_a_page_that_is_revealed_shows_the_very_pixels_and_the_captions():
    e = evidence()
    page = Page(report.as_html(e, reveal=True))
    digests = {images.digest(image) for image in page.images()}
    shown = [*e.findings, *e.nearest_controls]
    pairs = [(e.sample_image(s.finding.sample), e.picture_image(s.finding.digest)) for s in shown]
    laid = {images.digest(over(*pair)) for pair in pairs for over in (overlays.difference, overlays.outlines)}
    assert digests == {s.finding.digest for s in shown} | {s.finding.sample for s in shown} | laid
    assert all(s.caption in words(page) for s in shown)
    assert "hidden" not in words(page)


def test_what_is_laid_over_each_other_is_moved_as_it_was_for_its_distance_and_the_page_says_how():
    e = evidence(1, 0)
    (shown,), picture = e.findings, e.picture_image(e.findings[0].finding.digest)
    e = replace(e, sample_image=lambda _: np.ascontiguousarray(picture[:, ::-1]), nearest_controls=[])
    for move, is_moved in ((Alignment(True, 1.0, 0, 0), True), (IDENTITY, False)):
        text = report.as_html(replace(e, findings=[replace(shown, move=move)]), reveal=True)
        difference = images.decode(b64decode(re.findall('src="data:image/\\w+;base64,([^"]+)"', text)[2]))
        assert bool(difference.max() <= 16) is is_moved
        assert ("black where equal; picture mirrored" in text) is is_moved


@pytest.mark.parametrize(
    ("move", "says"),
    [
        (IDENTITY, ""),
        (Alignment(True, 1.0, 0, 0), "mirrored"),
        (Alignment(False, 1.0, -3, 0), "moved 3 left"),
        (Alignment(True, 1.0, 1, 2), "moved 1 right and 2 down, mirrored"),
        (Alignment(False, 0.9, 0, 0), "cut to 90% of its edges (centre)"),
        (Alignment(True, 0.85, 1, -1), "cut to 85% of its edges (top right), mirrored"),
        (Alignment(False, 0.8, -240, 20, 256), "cut to 80% of its edges (left)"),
    ],
)
def test_a_move_is_said_as_the_kernel_makes_it(move, says):
    assert moved(move) == says
    picture = np.zeros((40, 40, 3), np.uint8)
    picture[:, 30:] = 255  # white on the right
    white = np.flatnonzero(align.move(picture, move)[20, :, 0] > 128)
    expected = {"": 30, "mirrored": 0, "moved 3 left": 27, "moved 1 right and 2 down, mirrored": 0}
    assert white[0] == expected.get(says, white[0])
    assert len(white) == {"moved 3 left": 13, "moved 1 right and 2 down, mirrored": 9}.get(says, len(white))


def test_large_images_are_scaled_down_and_blur_is_the_mean_of_the_blocks():
    large = np.zeros((800, 1200, 3), np.uint8)
    large[:200, 300:600] = (255, 128, 0)
    seen = images.decode(b64decode(page._uri(large).partition(",")[2]))
    assert max(seen.shape) == 512
    small = page.blurred(large)
    assert small.shape == (4, 4, 3)
    assert abs(small[0, 1].astype(int) - (255, 128, 0)).max() <= 1
    assert not np.delete(small.reshape(16, 3), 1, 0).any()
    assert page.blurred(np.full((2, 9, 3), 7, np.uint8)).shape == (2, 4, 3)


HOSTILE = [
    "<script>alert(1)</script><img src=x onerror=alert(2)>",
    '"><svg onload=alert(1)>',
    "{{ 7 * 7 }}{% raw %}",
    "safe\u202egnp.exe\u2066x\u200f\u061c",
    "bell\x07 escape\x1b[31m null\x00 c1\x9b delete\x7f",
    "line\nbreak\ttab\r\n\u2028separator",
    "lone surrogate \ud800 tag \U000e0041 bom \ufeff",
    "x" * 100_000,
    "\u0301" * 500,
    "</title></style></bdi></pre>",
]
BANNED = re.compile("[\u202a-\u202e\u2066-\u2069\u200e\u200f\u061c\ufeff\ud800-\udfff\x00-\x08\x0b-\x1f\x7f-\x9f]")


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_text_stays_a_text_wherever_it_is_printed(text, tmp_path):
    e = evidence(2, 1)
    shown = [replace(s, caption=text, prompt=text, where=(text, text)) for s in e.findings]
    e = replace(
        e,
        findings=shown,
        model=replace(e.model, uri=text, name=text),
        skipped=[report.Skipped(text, text, 1)],
        warnings=[text],
        machine=text,
        versions={"byrote": text, text: "1"},
        plan={"model": {"uri": text, "n": 1}, "generate": {"seeds": 4}},
        rates=[replace(e.rates[0], name=text, tier=text, method=text)],
    )
    calm = Page(report.as_html(evidence(2, 1), reveal=False))
    report.write(tmp_path, e, reveal=True)
    assert read(tmp_path)["findings"][0]["picture"]["caption"] == text
    for name in ("report.html", "revealed.html"):
        html = (tmp_path / name).read_text(encoding="utf-8")
        page = Page(html)
        assert page.open == []
        assert {tag for tag, _ in page.tags} <= {tag for tag, _ in calm.tags}
        assert not any(attr.startswith("on") for _, attrs in page.tags for attr in attrs)
        assert not BANNED.search(html)
        assert text != HOSTILE[2] or text in words(page)
        assert "x" * 2001 not in html
    assert (tmp_path / "report.json").read_bytes().isascii()


def test_text_of_any_script_and_emoji_stay_as_they_are():
    for text in ("نامه‌ای از تهران", "東京の猫", "👩‍👩‍👧 family", "naïve café"):
        assert clean(text) == text
    assert clean("a" * 281) == "a" * 280 + "… (cut: 281 characters)"


def test_the_answer_counts_what_is_certified_and_sets_the_controls_beside_it():
    assert answer(evidence()) == (
        "6 of 120 pictures asked for are certified as reproduced; of 2,000 controls, never trained on, "
        "the same rule certifies none."
    )
    e = evidence(3)
    shown = [replace(s, finding=replace(s.finding, family="unasked")) for s in e.findings[:1]]
    assert "Two" not in answer(replace(e, findings=[*shown, *e.findings[1:]]))
    assert answer(replace(e, findings=[*shown, *e.findings[1:]])).startswith(
        "2 of 120 pictures asked for are certified as reproduced; so is 1 not asked for; "
    )


def test_the_answer_without_findings_gives_the_bound_of_the_random_draw_and_of_no_other():
    none = evidence(0, 5)
    assert "at most 5.96 % (95 % interval)" in answer(none)
    assert answer(replace(none, drawn=None)) == "None of 120 pictures asked for is certified as reproduced."


def test_the_answer_without_controls_claims_nothing():
    html = report.as_html(uncalibrated(), reveal=False)
    assert answer(uncalibrated()).startswith("Uncalibrated: without controls nothing can be certified.")
    text = words(Page(html))
    assert "certified as reproduced" not in text
    assert "There are none: nothing says how near" in text


def test_an_audit_that_was_not_sealed_is_uncalibrated_for_that_reason_and_not_for_want_of_controls():
    e = replace(evidence(0, 5), calibrated=False, sealed=None)
    text = words(Page(report.as_html(e, reveal=False)))
    assert answer(e).startswith("Uncalibrated: the plan was not sealed before the first sample, so nothing can be")
    assert "without controls" not in text
    assert "2,000 pictures of the same kind" in text


def test_a_model_without_text_is_judged_by_the_pictures_that_nobody_asked_for():
    e = evidence(3)
    shown = [replace(s, prompt=None, finding=replace(s.finding, family="unasked")) for s in e.findings]
    tests = {"asked": Power(0, 0, 0, None, None), "unasked": e.tests["asked"]}
    e = replace(e, findings=shown, tests=tests, statistics={"unasked": e.statistics["asked"]})
    assert answer(e).startswith("3 of 120 pictures tested are certified as reproduced;")
    assert "no text" in words(Page(report.as_html(e, reveal=False)))


def test_a_weak_unsealed_or_leaking_audit_says_so_before_anything_else():
    def before(e: Evidence) -> str:
        return words(Page(report.as_html(e, reveal=False))).partition("What was audited What")[0].split("Contents")[0]

    none = evidence(0, 5)
    assert "fewer than 4 could not have been certified at all" in before(none)
    weak = replace(none, tests={**none.tests, "asked": Power(120, 15, 0, 1 / 16, 150)})
    assert "could not have certified anything" in before(weak)
    assert "not sealed before" not in before(none)
    assert "not sealed before" in before(replace(none, sealed=None))
    assert "not sealed before" in before(replace(none, sealed=replace(none.sealed, before_sampling=False)))
    assert "1 control of 2,000, never trained on, would be certified" in before(
        replace(none, controls=report.Controls(2000, 1))
    )
    assert "lost a part" in before(replace(none, warnings=["lost a part"]))


def test_the_page_has_room_for_two_hundred_and_every_certified_finding_comes_first():
    e = evidence(1, 1)
    certified, other = e.findings
    e = replace(e, findings=[*[other] * 205, certified])
    html = report.as_html(e, reveal=False)
    cards = re.findall(r'<li class="card (\w+)">', html)
    assert len(cards) == 200 + len(e.nearest_controls)
    assert cards[0] == "leaning"
    assert certified.finding.copies == 2
    assert "Finding 206" in html
    assert "6 more are in" in words(Page(html))
    assert len(report.as_json(e)["findings"]) == 206


def test_a_picture_that_is_gone_and_a_group_that_nothing_came_near_keep_their_place():
    e = evidence(1, 1)
    far = replace(e.findings[1], finding=replace(e.findings[1].finding, sample=None, statistic=None), samples=())
    html = report.as_html(replace(e, findings=[e.findings[0], far], picture_image={}.get), reveal=True)
    text = words(Page(html))
    assert text.count("picture no longer at its place") == 2 + len(e.nearest_controls)
    assert "no sample came near" in text


@pytest.mark.parametrize("seed", range(3))
def test_the_figures_stay_in_their_frame_and_tell_the_numbers(seed):
    e = evidence(4 * seed, 2, seed=seed)
    s = e.statistics["asked"]
    [curves] = figures.curves(e)
    h, p = curves.histogram, curves.precision
    for bars, values, total in ((h.pictures, s.pictures, 120), (h.controls, s.controls, 600)):
        assert all(0 <= x <= x + w <= 480 and 0 <= y <= y + tall <= 200.01 for x, y, w, tall in bars)
        heights = np.array([tall for *_, tall in bars])
        shares = heights / heights.sum() * np.isfinite(values).sum() / total
        oracle, _ = np.histogram(values[np.isfinite(values)], 48, (0, e.tau * 480 / h.tau))
        np.testing.assert_allclose(shares, oracle[oracle > 0] / total, rtol=0.02)
    assert (h.far_pictures, h.far_controls) == (20, 100)
    nearest = sorted(s.pictures[np.isfinite(s.pictures)])
    assert p.ranks == len(nearest)
    heights = heights_along(p.path, p.ranks)
    for k, t in enumerate(nearest, 1):
        false = 120 * (1 + (s.controls <= t).sum()) / 601
        assert heights[k - 1] == pytest.approx(200 * min(1.0, false / (s.pictures <= t).sum()), abs=0.051)


def heights_along(path: str, ranks: int) -> list[float]:
    """Walk an SVG path of steps and return its height in the middle of each rank."""
    steps = [(command, float(number)) for command, number in re.findall(r"([HV])([\d.]+)", path)]
    at, height = 0.0, float(path[1:].split("H", maxsplit=1)[0].split()[1])
    flats = []
    for command, number in steps:
        if command == "V":
            height = number
        else:
            flats.append((at, number, height))
            at = number
    middles = [(k + 0.5) * 480 / ranks for k in range(ranks)]
    return [next(y for left, right, y in flats if left <= x <= right) for x in middles]


def test_ticks_are_round_and_end_inside():
    for end in (0.0031, 0.16, 1.0, 7, 99, 120, 999.0):
        ticks = figures._ticks(end)
        assert ticks[0] == 0
        assert 3 <= len(ticks) <= 8
        assert ticks[-1] <= end * (1 + 1e-9)


def test_rates_stand_beside_their_controls_with_exact_intervals():
    e = evidence()
    [row] = figures.by_name([rate("asked groups certified", "4-7", 2, 20, (3, 600))])["asked groups certified"]
    assert (row.share, row.control_share) == ("10 %", "0.5 %")
    assert row.control_bar == tuple(round(100 * x, 2) for x in (0.00103215, 0.005, 0.01454264))
    text = words(Page(report.as_html(replace(e, rates=[row.rate]), reveal=False)))
    assert "2 of 20 10 % 1.23 % to 31.7 % 3 of 600 0.5 % 0.103 % to 1.45 %" in text


def test_no_share_is_rounded_to_none_or_to_all():
    assert percent(0.0) == "0 %"
    assert percent(1.0) == "100 %"
    assert percent(0.000001) == "under 0.01 %"
    assert percent(0.99999) == "over 99.9 %"


def test_reveal_writes_a_page_beside_and_leaves_nothing_else(tmp_path):
    folder = tmp_path / "audit" / "report"
    report.write(folder, evidence(1, 1), reveal=False)
    assert sorted(path.name for path in folder.iterdir()) == ["report.html", "report.json"]
    report.write(folder, evidence(1, 1), reveal=True)
    assert sorted(path.name for path in folder.iterdir()) == ["report.html", "report.json", "revealed.html"]


def test_a_report_is_the_same_byte_for_byte_when_it_is_written_again(tmp_path):
    for name in ("a", "b"):
        report.write(tmp_path / name, evidence(), reveal=True)
    for name in ("report.html", "report.json", "revealed.html"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "report").write_text("a file in the way")
    with pytest.raises(StoreError, match=r"cannot write the report") as caught:
        report.write(tmp_path / "report", evidence(1, 0), reveal=False)
    assert "\n" not in str(caught.value)


def test_what_is_laid_over_a_model_is_not_named_in_a_redacted_report():
    secret = "LoRAs/jane doe.safetensors@0.8"
    facts = report.ModelFacts("diffusers:x", "StableDiffusionPipeline", "sha256:0", ("safety_checker",), (secret,))
    e = replace(
        evidence(), model=facts, plan={"model": {"lora": [secret], "embeddings": []}, "ladder": {"rungs": ["caption"]}}
    )
    told = report.redacted(e, b"key")
    assert secret in json.dumps(report.as_json(e)["plan"])
    assert "jane" not in json.dumps(report.as_json(told))
    assert "jane" not in str(told.model)
    assert told.plan == {"model": {"lora": ["hidden"], "embeddings": []}, "ladder": {"rungs": ["caption"]}}


def test_a_long_curve_is_drawn_to_its_end():
    few, dice = evidence(), np.random.default_rng(0)
    t, null = np.sort(dice.uniform(0.1, 0.4, 900)), dice.uniform(0.2, 0.5, 900)
    e = replace(few, statistics={"asked": report.Statistics(t, null)})
    (curves,) = figures.curves(e)
    assert len(curves.precision.path) > 2_000
    assert f'd="{curves.precision.path}"' in page.as_html(e, reveal=False)
