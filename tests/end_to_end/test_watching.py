"""A run is watched while it works, by its folders alone: parts grow, pairs come, and nothing of the run is touched."""

import os
import subprocess
import sys
import time
from pathlib import Path

import axe_playwright_python
import pytest
from browsers import chromium
from playwright.sync_api import sync_playwright

from byrote.audit import Audit
from byrote.cli import main
from byrote.plan import load
from byrote.reviewing.watching import TABLES, Live, _by_table

from .studio import Studio, portraits

AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
HEAD = [sys.executable, "-m", "byrote"]


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    studio = Studio(tmp_path_factory.mktemp("watching"))
    faces = portraits("train", 12)
    studio.shoot(faces, portraits("held-out", 24)).teach(
        {f.caption: f.data for f in faces[:4]}, repeats=1.0, sleep=0.005
    )
    return studio.write_plan(cliques={"least": 1}, generate={"seeds": 10}).index() and studio


@pytest.fixture(scope="module")
def seen(studio):
    """Run the audit in a process of its own, and return what was told of it meanwhile."""
    live, told = Live(studio.audit, load(studio.audit / "audit.toml")), []
    with subprocess.Popen(
        [*HEAD, "run", str(studio.audit)], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    ) as run:
        while run.poll() is None:
            told.append(live.told())
            time.sleep(0.1)
        assert run.returncode == 0
    return [*told, live.told()], live


def test_parts_grow_until_all_are_done_and_only_then_it_is_finished(seen):
    told, _ = seen
    made = [next((row for row in each["rows"] if row["name"] == "samples made"), None) for each in told]
    counts = [row["done"] for row in made if row]
    assert counts == sorted(counts)
    assert len(set(counts)) > 1
    assert {row["of"] for row in made if row} == {counts[-1]}
    assert any(row["begun"] for row in made if row)
    assert [each["finished"] for each in told] == sorted(each["finished"] for each in told)
    assert not told[0]["finished"]
    assert told[-1]["finished"]


def test_the_nearest_pairs_are_those_of_the_matches_each_group_once(seen):
    told, live = seen
    pairs = told[-1]["pairs"]
    t = [float(pair["t"]) for pair in pairs]
    assert t == sorted(t)
    assert sum(each <= 0.15 for each in t) == 4
    assert len({row.group for _, _, row in live._near}) == len(pairs)
    assert live.both(pairs[0]["id"])[0][:2] == b"\xff\xd8"
    assert live.both("nothing") is None


def test_a_changed_plan_and_a_twin_are_kept_apart():
    def line(table, recipe, event="done", part="0"):
        return {"event": event, "table": table, "recipe": recipe, "part": part}

    old, own, twin = (line("samples", recipe) for recipe in ("old", "own", "twin"))
    ledger = [line("prompts", "p"), {"event": "seal"}, old, {"event": "seal"}, own, {"event": "source"}, twin]
    names = {name: {each["recipe"] for each in lines} for name, lines in _by_table(ledger, twin=True).items()}
    assert names == {"prompts": {"p"}, "samples": {"own"}, "samples of the twin": {"twin"}}
    alone = _by_table(ledger[:-1], twin=False)
    assert {name: {each["recipe"] for each in lines} for name, lines in alone.items()} == {
        "prompts": {"p"},
        "samples": {"own"},
    }


def test_a_report_of_before_the_last_table_does_not_end_the_run(seen):
    _, live = seen
    page = live.root / "report" / "report.html"
    written = page.stat().st_mtime
    assert live.told()["finished"]
    os.utime(page, (written - 3600, written - 3600))
    assert not live.told()["finished"]
    os.utime(page, (written, written))
    assert live.told()["finished"]


def test_every_table_that_a_run_can_fill_has_a_row(studio, tmp_path):
    plan = (studio.audit / "audit.toml").read_text().replace("../", f"{studio.root}/")
    (tmp_path / "audit.toml").write_text(f"{plan}[screen]\nsearch = 4\n[probe]\nfindings = 1\n")
    assert {made.table for made in Audit(tmp_path).recipes.every()} == TABLES.keys() - {"pictures"}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_shows_it_hidden_at_first_and_axe_finds_nothing_to_mend(studio, seen, scheme):
    command = [*HEAD, "watch", str(studio.audit), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        page = browser.new_page(color_scheme=scheme)
        trouble = []
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.goto(server.stdout.readline().strip())
        page.wait_for_selector("#pairs img")
        assert page.inner_text("#state") == "Finished: the report is written."
        assert page.get_attribute("#pairs", "class") == "blurred"
        page.evaluate(AXE)
        found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
        page.click("#reveal")
        assert page.get_attribute("#pairs", "class") == ""
        browser.close()
        server.terminate()
    assert [each["id"] for each in found] == trouble == []


def test_where_there_is_no_audit_it_is_told_in_one_line(tmp_path, capsys):
    assert main(["watch", str(tmp_path)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
