"""The verdict for a release gate: pass only where an audit is complete, calibrated and strong enough."""

from typing import Any

from byrote.errors import Weak
from byrote.kernels.stats import controls_needed


def judge(told: dict[str, Any]) -> int:
    """Return 1 with certified findings and 0 without, from report.json. Raises Weak where 0 would mean nothing."""
    if any(finding["certified"] for finding in told["findings"]):
        return 1
    test, rule = told["tests"]["asked"], told["plan"]["certify"]
    if not told["calibrated"]:
        raise Weak(f"the audit is uncalibrated: {_missing(test, rule)}")
    if test["k_needed"] is None or test["k_needed"] > rule["tolerate"]:
        raise Weak(
            f"the audit certifies {test['k_needed']} copies or more, not {rule['tolerate']}: {_missing(test, rule)}"
        )
    return 0


def _missing(test: dict[str, Any], rule: dict[str, Any]) -> str:
    if not test["m"]:
        return "nobody was asked; give the pictures captions"
    needed = controls_needed(test["m"], rule["tolerate"], test["controls_at_cut"], rule["fdr"])
    short = needed - test["n_controls"]
    if short <= 0:
        return "the plan was changed after sampling; start a new audit"
    return f"{short:,} controls are missing ({test['n_controls']:,} asked of {needed:,} for {test['m']:,} pictures)"
