"""The waiting times that the page of review promises are the measured ones, and hold what was asked of it."""

import json
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_waiting_times_on_the_page_of_review_are_the_measured_ones():
    told = json.loads((ROOT / "benchmarks" / "results" / "review.json").read_text(encoding="utf-8"))
    text = " ".join((ROOT / "docs" / "howto" / "review.md").read_text(encoding="utf-8").split())
    first, calm, fast = (
        told[name] for name in ("first_pair_ms", "next_pair_half_a_second_each_ms", "next_pair_as_fast_as_keys_go_ms")
    )
    assert f"Among {told['matches']:,} pairs of {told['side']} x {told['side']}" in text
    assert f"the first is on screen {first['p50'] / 1000:.1f} s after" in text
    assert f"the next {calm['p50']:.0f} ms after a verdict" in text
    assert f"{fast['p50']:.0f} ms as fast as keys go" in text
    assert f"takes {told['start_s']:.1f} s then" in text
    assert max(first["max"], told["first_pair_cold_ms"]) < 1000
    assert max(calm["max"], fast["p95"]) < 100
