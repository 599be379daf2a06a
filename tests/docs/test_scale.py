"""The numbers of docs/scale.md follow from its result and from the code."""

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

from byrote.descriptors.thumbnail import Thumbnail
from byrote.descriptors.whole import Whole
from byrote.kernels import cells, search
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
    assert made["passes"](n) == len(near.searches(n, windows())) - 1


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
    assert f"candidates, {near._HIT.itemsize} bytes each" in text
    assert f"Cells stop at {cells._MOST:,}" in text
    assert f"{made['passes'](10**6)} parts at a million" in text


def test_the_cost_of_a_search_is_the_measured_one():
    text = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    told = json.loads((ROOT / "benchmarks" / "results" / "nearest.json").read_text(encoding="utf-8"))
    seconds = told["sets"]["50,000 of 32 x 32"]["cpu_ms_a_query"]["byrote"] / 1000
    assert f"takes {seconds * 1000:.2f} ms".replace("0.", ".") in text
    assert f"it is {seconds * 10**8 / 50_000:.2f} s among 10^8".replace("0.", ".") in text
