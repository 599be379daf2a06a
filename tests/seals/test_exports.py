"""What other tools read: each export as its own standard reads it, and nothing private in any."""

import json
from xml.etree import ElementTree

import pytest
import yaml
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from end_to_end.studio import Studio, portraits
from huggingface_hub import ModelCard

from byrote.cli import main
from byrote.seals import exports

KINDS = ("bom", "card", "junit")


def audited(root, *, pictures=4, controls=80, taught=(), **sections):
    faces = portraits("train", pictures)
    studio = Studio(root)
    root.mkdir()
    studio.shoot(faces, portraits("held-out", controls)).teach({faces[k].caption: faces[k].data for k in taught})
    studio.write_plan(generate={"seeds": 3}, **sections).index()
    studio.run()
    return studio.audit


@pytest.fixture(scope="module")
def finds(tmp_path_factory):
    return audited(tmp_path_factory.mktemp("finds") / "a", taught=(1, 2))


@pytest.fixture(scope="module")
def weak(tmp_path_factory):
    return audited(tmp_path_factory.mktemp("weak") / "a", controls=20)


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    return audited(tmp_path_factory.mktemp("clean") / "a")


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    return audited(tmp_path_factory.mktemp("bare") / "a", controls=0, taught=(1,))


@pytest.fixture(params=["finds", "weak", "clean", "bare"])
def audit(request):
    return request.getfixturevalue(request.param)


def told(audit):
    return json.loads((audit / "report" / "report.json").read_text())


def exported(audit, kind, capsys):
    capsys.readouterr()
    assert main(["export", str(audit), "--format", kind]) == 0
    return capsys.readouterr().out


def test_the_bill_of_materials_is_strictly_valid_cyclonedx_1_6(audit, capsys):
    text = exported(audit, "bom", capsys)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None


def test_the_validator_does_find_what_is_wrong(finds, capsys):
    wrong = json.loads(exported(finds, "bom", capsys))
    wrong["components"][0]["modelCard"]["more"] = 1
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(wrong)) is not None


def test_the_bill_of_materials_holds_the_model_the_corpus_and_every_rate(finds, capsys):
    bom, report = json.loads(exported(finds, "bom", capsys)), told(finds)
    model, corpus = bom["components"]
    assert model["type"] == "machine-learning-model"
    assert f"sha256:{model['hashes'][0]['content']}" == report["model"]["digest"]
    assert f"sha256:{corpus['hashes'][0]['content']}" == report["corpus"]["digest"]
    assert model["modelCard"]["modelParameters"]["datasets"] == [{"ref": corpus["bom-ref"]}]
    metrics = model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    assert len(metrics) == len(report["rates"])
    for metric, rate in zip(metrics, report["rates"], strict=True):
        assert metric["type"] == rate["name"]
        assert float(metric["value"]) == pytest.approx(rate["k"] / rate["n"], abs=1e-6)
        interval = metric["confidenceInterval"]
        assert float(interval["lowerBound"]) == pytest.approx(rate["low"], abs=1e-6)
        assert float(interval["upperBound"]) == pytest.approx(rate["high"], abs=1e-6)
    assert {"name": "byrote:certified", "value": "2"} in model["properties"]


def test_an_audit_has_one_serial_number_and_another_audit_another(finds, clean, capsys):
    first, again, other = (json.loads(exported(each, "bom", capsys)) for each in (finds, finds, clean))
    assert first == again
    assert first["serialNumber"] != other["serialNumber"]


FAILURES = {
    "finds": {"no picture certified as reproduced"},
    "weak": {"strong enough"},
    "clean": set(),
    "bare": {"calibrated", "strong enough"},
}


@pytest.mark.parametrize("name", FAILURES)
def test_junit_fails_what_a_release_should_fail_on(name, request, capsys):
    suite = ElementTree.fromstring(exported(request.getfixturevalue(name), "junit", capsys).encode())
    cases = suite.findall("testcase")
    failed = {case.get("name") for case in cases if case.find("failure") is not None}
    assert failed == FAILURES[name]
    assert (int(suite.get("tests")), int(suite.get("failures"))) == (len(cases), len(failed))
    assert all(case.find("failure").get("message") for case in cases if case.get("name") in failed)
    assert all(case.get("classname") for case in cases)


def test_junit_says_utf_8_and_is_it(finds, tmp_path):
    assert main(["export", str(finds), "--format", "junit", "--out", str(tmp_path / "junit.xml")]) == 0
    assert ElementTree.parse(tmp_path / "junit.xml").getroot().tag == "testsuite"
    assert "utf-8" in (tmp_path / "junit.xml").read_text().splitlines()[0].lower()


def test_junit_fails_where_the_plan_was_sealed_too_late(tmp_path, capsys):
    audit = audited(tmp_path / "a")
    Studio(audit.parent).write_plan(generate={"seeds": 3}, certify={"closest": 0.14})
    assert main(["run", str(audit)]) == 0
    suite = ElementTree.fromstring(exported(audit, "junit", capsys).encode())
    failed = {case.get("name") for case in suite if case.find("failure") is not None}
    assert failed == {"sealed before sampling", "calibrated", "strong enough"}


def test_the_model_card_is_read_by_the_hub_and_holds_every_rate_with_its_interval(audit, capsys):
    text, rates = exported(audit, "card", capsys), told(audit)["rates"]
    front = yaml.safe_load(text.split("---\n")[1])
    metrics = front["model-index"][0]["results"][0]["metrics"]
    assert len(metrics) == len(rates)
    for metric, rate in zip(metrics, rates, strict=True):
        assert metric["value"] == pytest.approx(rate["k"] / rate["n"], abs=1e-6)
        assert metric["args"] == {
            key: rate[key] for key in ("k", "n", "low", "high", "level", "method", "controls_k", "controls_n")
        }
    results = ModelCard(text).data.eval_results
    assert [result.metric_value for result in results] == [metric["value"] for metric in metrics]
    assert [result.metric_args for result in results] == [metric["args"] for metric in metrics]


def test_the_model_card_says_what_was_not_tested_and_what_is_uncalibrated(finds, bare, capsys):
    text, report = exported(finds, "card", capsys), told(finds)
    assert all(each["what"] in text for each in report["not_tested"])
    assert all(sentence in text for sentence in report["sentences"])
    assert "Uncalibrated" not in text
    assert "Uncalibrated" in exported(bare, "card", capsys)


def test_a_rate_of_nothing_has_no_value_in_an_export(finds):
    report = told(finds)
    nothing = report["rates"][0] | {"k": 0, "n": 0}
    report["rates"] = [nothing, *report["rates"]]
    assert exports.card(report) == exports.card(told(finds))
    assert exports.bom(report) == exports.bom(told(finds))


@pytest.mark.parametrize("kind", KINDS)
def test_no_export_holds_a_caption_a_path_or_the_digest_of_an_image(audit, kind, capsys):
    text, report = exported(audit, kind, capsys), told(audit)
    private = {str(audit.parent), "parrot.toml", "held-out", *(face.caption for face in portraits("train", 4))}
    for found in report["findings"]:
        private |= {found["picture"]["digest"], found["group"], *found["picture"]["where"]}
        private |= {sample["digest"] for sample in found["samples"]}
    digests = {each.removeprefix("sha256:") for each in private if each.startswith("sha256:")}
    for each in private | digests | {digest[:16] for digest in digests}:
        assert each not in text
    assert text.isascii() or kind == "card"


@pytest.mark.parametrize("kind", KINDS)
def test_an_export_needs_a_report_and_a_place_that_can_be_written(finds, tmp_path, kind, capsys):
    assert main(["export", str(tmp_path), "--format", kind]) == 3
    assert "no report" in capsys.readouterr().err
    assert main(["export", str(finds), "--format", kind, "--out", str(tmp_path / "no" / "where")]) == 2
    assert "cannot be written" in capsys.readouterr().err
