"""The report is printed by a real Chromium, or it is told in one line why not."""

import re
from pathlib import Path

import axe_playwright_python
import pytest
from browsers import chromium
from playwright.sync_api import sync_playwright
from test_report import evidence

from byrote.errors import ByroteError, StoreError
from byrote.stages import report
from byrote.stages.report.pdf import VARIABLE, printed

AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("printed") / "report"
    report.write(folder, evidence(), reveal=True)
    return folder


def test_the_report_is_printed_whole_and_left_out_once_it_is_written_again(folder, monkeypatch):
    monkeypatch.setenv(VARIABLE, chromium())
    made = printed(folder / "revealed.html")
    data = made.read_bytes()
    assert made == folder / "revealed.pdf"
    assert data.startswith(b"%PDF-")
    assert data.rstrip().endswith(b"%%EOF")
    assert max(int(n) for n in re.findall(rb"/Count (\d+)", data)) >= 3
    assert len(re.findall(rb"/Subtype\s*/Image", data)) >= 20
    assert not list(folder.glob(".*"))
    report.write(folder, evidence(), reveal=True)
    assert not made.exists()


@pytest.mark.parametrize(("name", "says"), [("no such program", "is no program"), ("false", "printed no PDF")])
def test_without_a_chromium_that_prints_the_way_out_is_named(folder, name, says, monkeypatch):
    monkeypatch.setenv(VARIABLE, name)
    with pytest.raises(ByroteError, match=says) as caught:
        printed(folder / "report.html")
    assert "\n" not in str(caught.value)
    assert not (folder / "report.pdf").exists()


def test_a_page_that_is_not_there_is_told_in_one_line(tmp_path):
    with pytest.raises(StoreError, match="is not there to be printed"):
        printed(tmp_path / "report" / "report.html")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_to_mend_in_the_report(folder, scheme):
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        page = opened.new_page(color_scheme=scheme)
        page.goto((folder / "revealed.html").as_uri())
        page.evaluate(AXE)
        found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
        opened.close()
    assert [(each["id"], [node["target"] for node in each["nodes"]][:3]) for each in found] == []
