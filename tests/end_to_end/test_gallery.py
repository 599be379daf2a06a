"""A page to look at: nearest pairs and most-copied groups, hidden unless asked for."""

import re
from base64 import b64decode
from dataclasses import replace
from pathlib import Path

import axe_playwright_python
import numpy as np
import pytest
from browsers import chromium
from playwright.sync_api import sync_playwright

from byrote import images
from byrote.cli import main

from .studio import File, Studio, portraits

HOSTILE = "</bdi><script>alert(1)</script><img src=x onerror=alert(1)>\u202e"


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    studio = Studio(tmp_path_factory.mktemp("gallery"))
    faces = portraits("train", 8)
    faces[0] = replace(faces[0], caption=HOSTILE)
    noisy = images.decode(faces[1].data).astype(int) + np.random.default_rng(0).integers(-2, 3, (64, 64, 3))
    again = [File(f"again-{k}.png", faces[1].data, "again") for k in range(3)]
    near = File("near.png", images.encode_png(noisy.clip(0, 255).astype(np.uint8)), "near")
    studio.shoot([*faces, *again, near], portraits("held-out", 16)).teach(
        {faces[0].caption: faces[0].data}, repeats=1.0
    )
    studio.write_plan(cliques={"least": 1}, generate={"seeds": 2}).index()
    studio.run()
    return studio


def shots(page):
    found = re.findall(r'src="data:image/\w+;base64,([^"]+)"', page.read_text(encoding="utf-8"))
    return [images.decode(b64decode(data)) for data in found]


def test_a_gallery_that_is_not_revealed_hides_images_and_captions(audited, capsys):
    assert main(["gallery", str(audited.audit)]) == 0
    page = audited.audit / "report" / "gallery.html"
    assert capsys.readouterr().out.strip() == str(page)
    assert {image.shape for image in shots(page)} == {(4, 4, 3)}
    text = page.read_text(encoding="utf-8")
    assert all(face.caption not in text for face in portraits("train", 8))
    assert "default-src 'none'" in text


def test_a_revealed_gallery_shows_the_pairs_with_difference_and_outlines_and_hostile_captions_as_text(audited, capsys):
    assert main(["gallery", str(audited.audit), "--reveal", "--n", "3", "--out", str(audited.root / "g.html")]) == 0
    page = audited.root / "g.html"
    text = page.read_text(encoding="utf-8")
    first = text.index("Nearest pairs")
    assert first < text.index("Nearest controls") < text.index("Most copied") < text.index("Nearest pictures")
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert "\u202e" not in text
    assert len(shots(page)) == 4 + 2 + 2  # a pair with its two overlays, a group of two distinct, two near pictures
    assert "5 files, 2 distinct" in text
    assert not re.search(r'(?:src|href)="(?!data:)', text)


def test_a_mirrored_copy_is_laid_over_its_picture_as_it_was_for_its_distance(tmp_path):
    studio = Studio(tmp_path)
    faces = portraits("train", 3)
    mirrored = images.encode_png(np.ascontiguousarray(images.decode(faces[0].data)[:, ::-1]))
    studio.shoot(faces, portraits("held-out", 4)).teach({faces[0].caption: mirrored}, repeats=1.0, noise=0.0)
    studio.write_plan(cliques={"least": 1}, generate={"seeds": 1}).index()
    studio.run()
    assert main(["gallery", str(studio.audit), "--reveal", "--n", "1"]) == 0
    sample, picture, difference, _ = shots(studio.audit / "report" / "gallery.html")[:4]
    assert np.abs(sample.astype(int) - images.fit(picture, 32, 32)).max() > 60
    assert difference.max() < 60
    assert main(["report", str(studio.audit), "--reveal"]) == 0
    assert "picture mirrored" in (studio.audit / "report" / "revealed.html").read_text(encoding="utf-8")


def test_a_corpus_has_its_most_copied_groups_and_its_nearest_pictures(audited, capsys):
    assert main(["gallery", str(audited.corpus), "--reveal"]) == 0
    page = audited.corpus / "page" / "gallery.html"
    text = page.read_text(encoding="utf-8")
    assert "Nearest pairs" not in text
    assert len(re.findall("RMS 0", text)) == 1
    near, itself = shots(page)[-2:]
    assert np.abs(near.astype(int) - itself).max() <= 2


def test_what_is_missing_is_said(tmp_path, capsys):
    studio = Studio(tmp_path)
    studio.shoot(portraits("train", 2), portraits("held-out", 2)).teach({}).write_plan().index()
    for place, code, says in (
        (studio.audit, 3, "nothing certified yet"),
        (studio.corpus, 3, "byrote duplicates"),
        (tmp_path / "nowhere", 2, "no corpus here"),
    ):
        assert main(["gallery", str(place)]) == code
        (line,) = capsys.readouterr().err.splitlines()
        assert says in line


@pytest.mark.parametrize("revealed", [[], ["--reveal"]])
def test_axe_finds_nothing_to_mend_in_a_gallery(audited, revealed, tmp_path):
    page = tmp_path / "gallery.html"
    assert main(["gallery", str(audited.audit), "--out", str(page), *revealed]) == 0
    axe = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        shown = browser.new_context(bypass_csp=True).new_page()
        shown.goto(page.as_uri())
        shown.evaluate(axe)
        found = shown.evaluate("axe.run()")
        browser.close()
    assert found["violations"] == []
    assert len(found["passes"]) > 10
