"""What other tools read: a CycloneDX ML-BOM, a model-card snippet, JUnit. All from report.json, nothing private in any.

CycloneDX 1.6, ECMA-424; Hugging Face model cards (`model-index`); JUnit XML as continuous integration reads it.
"""

import json
import uuid
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from byrote.errors import StoreError, Weak
from byrote.gate import judge, main_test
from byrote.seals.statement import REPORT, read_report

Json = dict[str, Any]
NAMESPACE = uuid.UUID("6f7f2f0e-5c7e-5f41-9d0c-0b8c3b1f2a10")


def write(root: Path, kind: str) -> str:
    """Return an audit's report in one of `FORMATS`. Raises Incomplete where there is none, StoreError for a bad one."""
    told = read_report(root)
    try:
        return FORMATS[kind](told)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise StoreError(f"{root / REPORT}: damaged: {type(error).__name__}: {error}") from error


def bom(told: Json) -> str:
    """Return a CycloneDX 1.6 ML-BOM: the model, the corpus it was held against, and what was measured."""
    seal = (told["sealed"] or {}).get("digest", told["model"]["digest"])
    component = {
        "type": "machine-learning-model",
        "bom-ref": "model",
        "name": "audited model",
        "hashes": [_hash(told["model"]["digest"])],
        "modelCard": {
            "modelParameters": {"datasets": [{"ref": "corpus"}]},
            "quantitativeAnalysis": {"performanceMetrics": [_metric(rate) for rate in _measured(told)]},
            "considerations": {
                "technicalLimitations": [*told["sentences"], *(f"not tested: {n['what']}" for n in told["not_tested"])],
            },
        },
        "properties": [
            {"name": "byrote:seal", "value": seal},
            {"name": "byrote:calibrated", "value": str(told["calibrated"]).lower()},
            {"name": "byrote:certified", "value": str(_certified(told))},
        ],
    }
    corpus = {
        "type": "data",
        "bom-ref": "corpus",
        "name": "corpus of the audit",
        "hashes": [_hash(told["corpus"]["digest"])],
        "data": [{"type": "dataset", "name": "training pictures and controls, by digest only"}],
    }
    tool = {"type": "application", "name": "byrote", "version": told["byrote"].get("byrote", "unknown")}
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(NAMESPACE, seal)}",
        "version": 1,
        "metadata": {"tools": {"components": [tool]}},
        "components": [component, corpus],
    }
    return json.dumps(document, indent=1, ensure_ascii=True) + "\n"


def card(told: Json) -> str:
    """Return a snippet for a model card: `model-index` as front matter (JSON is YAML), then what it means."""
    metrics = [_value(rate) for rate in _measured(told)]
    results = {
        "task": {"type": "text-to-image"},
        "dataset": {"type": "training-set-audit", "name": f"corpus {told['corpus']['digest'][:19]}"},
        "metrics": metrics,
    }
    index = [{"name": "audited model", "results": [results]}]
    lines = ["---", f"model-index: {json.dumps(index)}", "---", "", "## Memorisation", ""]
    if not told["calibrated"]:
        lines += ["Uncalibrated: distances were measured, nothing could be certified.", ""]
    lines += [f"* {sentence}" for sentence in told["sentences"]]
    lines += ["", f"Not tested: {'; '.join(each['what'] for each in told['not_tested'])}.", ""]
    lines += [f"Audited with byrote {told['byrote'].get('byrote', '')}; model {told['model']['digest']}.", ""]
    return "\n".join(lines)


def junit(told: Json) -> str:
    """Return JUnit XML: a test case for each thing that a release should fail on."""
    cases = _cases(told)
    failures = sum(reason is not None for _, reason in cases)
    suite = ElementTree.Element("testsuite", name="byrote", tests=str(len(cases)), failures=str(failures))
    for name, reason in cases:
        case = ElementTree.SubElement(suite, "testcase", classname="byrote.audit", name=name)
        if reason is not None:
            ElementTree.SubElement(case, "failure", message=reason)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def _cases(told: Json) -> list[tuple[str, str | None]]:
    """Return each case with the reason that it failed for, or None."""
    n, (how, test) = _certified(told), main_test(told)
    controls, fdr = told["controls"], told["plan"]["certify"]["fdr"]
    sealed = told["sealed"] is not None and told["sealed"]["before_sampling"]
    too_many = controls["n"] and controls["certified"] > fdr * controls["n"]
    lost = sum(s["n"] for s in told["skipped"] if "gone" in s["reason"])
    return [
        ("sealed before sampling", None if sealed else "the plan was not sealed before the first sample"),
        ("calibrated", None if told["calibrated"] else "no controls, or changed after sampling"),
        ("strong enough", _weak(told)),
        ("no picture certified as reproduced", f"{n} of {test['m']} pictures {how} are certified" if n else None),
        (
            "controls pass",
            f"{controls['certified']} of {controls['n']} controls would be certified" if too_many else None,
        ),
        ("no picture gone", f"{lost} pictures were gone when they were compared" if lost else None),
    ]


def _weak(told: Json) -> str | None:
    try:
        judge(told)
    except Weak as error:
        return str(error)
    return None


def _certified(told: Json) -> int:
    return sum(finding["certified"] for finding in told["findings"])


def _metric(rate: Json) -> Json:
    interval = {"lowerBound": f"{rate['low']:.6f}", "upperBound": f"{rate['high']:.6f}"}
    slice_of = "all" if rate["tier"] is None else f"{rate['tier']} copies"
    return {"type": rate["name"], "value": str(_share(rate)), "slice": slice_of, "confidenceInterval": interval}


def _value(rate: Json) -> Json:
    return {
        "type": "memorization",
        "name": f"{rate['name']}, copies {rate['tier'] or 'all'}",
        "value": _share(rate),
        "args": {key: rate[key] for key in ("k", "n", "low", "high", "level", "method", "controls_k", "controls_n")},
    }


def _measured(told: Json) -> list[Json]:
    """Leave out the rates of nothing: they have no value."""
    return [rate for rate in told["rates"] if rate["n"]]


def _share(rate: Json) -> float:
    return round(float(rate["k"] / rate["n"]), 6)


def _hash(digest: str) -> Json:
    return {"alg": "SHA-256", "content": digest.partition(":")[2]}


FORMATS = {"bom": bom, "card": card, "junit": junit}
