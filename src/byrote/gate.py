"""The verdict for a release gate: pass only where an audit is complete, calibrated and strong enough."""

from typing import Any

from byrote.errors import Weak
from byrote.kernels.stats import controls_needed


def judge(told: dict[str, Any]) -> int:
    """Return 1 with certified findings and 0 without, from report.json. Raises Weak where 0 would mean nothing."""
    if any(finding["certified"] for finding in told["findings"]):
        return 1
    (how, test), rule = main_test(told), told["plan"]["certify"]
    if not told["calibrated"]:
        raise Weak(f"the audit is uncalibrated: {_missing(how, test, rule)}")
    needed, tolerate = test["k_needed"], rule["tolerate"]
    if needed is None or needed > tolerate:
        raise Weak(f"the audit certifies {needed} copies or more, not {tolerate}: {_missing(how, test, rule)}")
    return 0


def main_test(told: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return how pictures were tested and the test: asked for, or, where nobody was, searched for."""
    asked, unasked = told["tests"]["asked"], told["tests"]["unasked"]
    return ("asked", asked) if asked["m"] or not (unasked and unasked["m"]) else ("searched for", unasked)


def _missing(how: str, test: dict[str, Any], rule: dict[str, Any]) -> str:
    if not test["m"]:
        return "nobody was asked; give the pictures captions"
    needed = controls_needed(test["m"], rule["tolerate"], test["controls_at_cut"], rule["fdr"])
    short = needed - test["n_controls"]
    if short <= 0:
        return "the plan was changed after sampling; start a new audit"
    return f"{short:,} controls are missing ({test['n_controls']:,} {how} of {needed:,} for {test['m']:,} pictures)"
