"""The numbers of docs/scale.md follow from its result and from the code."""

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

from byrote.descriptors.thumbnail import Thumbnail
from byrote.descriptors.whole import Whole
from byrote.kernels import cells, ranges, search
from byrote.kernels.waves import DIMENSIONS, windows
from byrote.stages import near

ROOT = Path(__file__).parents[2]
TOLD = {
    "pictures": 1_000_000,
    "seconds": {"index": 7200, "still": 3600, "moved": 1800, "measure": 36, "groups": 90, "approximate": 720},
    "bytes_per_picture": 6300,
    "peak_memory": 8 * 2**30,
}


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "docs" / "make_scale.py"))


def row(text: str, stage: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.startswith(f"| {stage} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_page_of_scale_is_current(made):
    text = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    assert made["page"](text, made["result"]()) == text, "run `python docs/make_scale.py`"


@pytest.mark.parametrize("n", [1000, 10**6, 2 * 10**6, 3 * 10**6, 10**8])
def test_passes_are_the_parts_that_the_stage_has(made, n):
    assert made["passes"](n) == len(near.searches(n, windows())) - near.stills(n)


def test_seconds_on_the_clock_are_told_where_they_were_measured(made):
    told = made["block"](TOLD | {"wall_seconds": {"index": 1800.4, "check one picture": 21.6}})
    assert "index 1,800 s, check one picture 22 s" in told
    assert "On the clock" not in made["block"](TOLD)


def test_measured_seconds_grow_by_the_work_of_their_stage(made):
    text = made["block"](TOLD)
    assert row(text, "index")[2:] == ["7,200", "2.0", "20", "200", "10,000"]
    assert row(text, "still")[2:] == ["3,600", "1.0", "100", "10,000", "25,000,000"]
    assert row(text, "approximate")[2:] == ["720", "0.20", "6.3", "200", "71,000"]


def test_the_moved_search_is_quadratic_beyond_the_cap_of_cells(made):
    ratio = made["visited"](2 * 10**8) / made["visited"](10**8)
    assert ratio == pytest.approx(4)
    assert made["visited"](4 * 10**6) / made["visited"](10**6) == pytest.approx(8)
    assert made["count"](10**8) == cells._MOST


def test_the_page_has_the_numbers_of_the_code(made):
    text = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    coarse, fine = ((places + 2) * 4 for places in (search._COARSE, search._FINE))
    assert f"{Thumbnail().dimensions + Whole().dimensions:,} bytes a picture for both" in text
    assert f"{Thumbnail().dimensions + coarse + fine + 8:,} n bytes" in text
    assert f"products of {search._COARSE + 2} values" in text
    assert f"products of {DIMENSIONS} values" in text
    assert f"products of {ranges._COARSE + 2} values at most" in text
    assert f"thumbnails onto {ranges._FINE} axes" in text
    assert f"{2 * 4 * (ranges._COARSE + 2 + ranges._FINE + 2):,} n bytes a worker" in text
    assert f"1 + n / {near._STILL:,}: {near.stills(10**6)} at a million" in text
    assert f"in {near.stills(10**8)} parts" in text
    assert f"leaves of {ranges._LEAF}" in text
    assert f"candidates, {near._HIT.itemsize} bytes each" in text
    assert f"Cells stop at {cells._MOST:,}" in text
    assert f"{made['passes'](10**6)} parts at a million" in text


def test_projecting_in_each_part_adds_a_tenth_at_any_size(made):
    assert [round(made["projected"](n), 1) for n in made["SIZES"]] == [0.1] * 4


def test_the_cost_of_a_search_is_the_measured_one():
    text = " ".join((ROOT / "docs" / "scale.md").read_text(encoding="utf-8").split())
    sets = json.loads((ROOT / "benchmarks" / "results" / "nearest.json").read_text(encoding="utf-8"))["sets"]
    few, many = (sets[f"{n} of 32 x 32"]["cpu_ms_a_query"]["byrote"] for n in ("50,000", "1,000,000"))
    assert f"takes {few:.2f} ms".replace("0.", ".") in text
    assert f"{many:.1f} ms among a million" in text
    assert f"it is {many / 10:.2f} s among 10^8 and {many * 5:.0f} s among 5 · 10^9" in text
    assert f"cost {many / 3.6:.1f} and {many * 50 / 3.6:.0f} core-hours" in text


def test_the_size_of_the_index_is_the_measured_one():
    text = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    told = json.loads((ROOT / "benchmarks" / "results" / "approximate.json").read_text(encoding="utf-8"))
    size = told["sets"]["1,000,000 thumbnails, 3,072 levels"]["bytes"]
    assert f"has {size / 10**6:.0f} bytes a picture" in text
