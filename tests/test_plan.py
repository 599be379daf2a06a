"""audit.toml: what is written is what is read, and every mistake is told in one line."""

import tomllib
from dataclasses import fields

import pytest

from byrote.errors import PlanError
from byrote.plan import SECTIONS, load, parse, template

LEAST = {"format": 1, "model": {"uri": "parrot:p.toml"}, "corpus": {"path": "corpus"}}


def refused(read, tmp_path):
    with pytest.raises(PlanError) as told:
        parse(read, tmp_path / "audit.toml")
    assert "\n" not in str(told.value)
    assert str(tmp_path / "audit.toml") in str(told.value)
    return str(told.value)


def test_a_model_and_a_corpus_are_enough(tmp_path):
    plan = parse(LEAST, tmp_path / "audit.toml")
    assert plan.model.uri == "parrot:p.toml"
    assert plan.base == tmp_path.resolve()
    assert (plan.certify.fdr, plan.certify.tolerate) == (0.05, 1)


@pytest.mark.parametrize("text", ["plain", 'with "quotes"', "back\\slash", "Ωμέγα 😀"])
def test_the_template_reads_back_as_the_defaults(tmp_path, text):
    path = tmp_path / "audit.toml"
    path.write_text(template(f"diffusers:{text}", text), encoding="utf-8")
    plan = load(path)
    assert (plan.model.uri, plan.corpus.path) == (f"diffusers:{text}", text)
    for name, kind in SECTIONS.items():
        for knob in fields(kind):
            if knob.name not in ("uri", "path"):
                assert getattr(getattr(plan, name), knob.name) == knob.default


def test_the_template_names_every_knob_with_its_meaning():
    lines = template("a", "b").splitlines()
    for kind in SECTIONS.values():
        for knob in fields(kind):
            assert any(knob.metadata["says"] in line and f"{knob.name} = " in line for line in lines)
    assert tomllib.loads("\n".join(lines))["format"] == 1


def test_a_template_without_a_model_says_what_is_not_set(tmp_path):
    path = tmp_path / "audit.toml"
    path.write_text(template("", ""), encoding="utf-8")
    with pytest.raises(PlanError, match=r"\[model\] uri is not set"):
        load(path)


def test_an_unknown_key_or_section_is_told_with_the_nearest_known(tmp_path):
    assert "did you mean 'guidance'" in refused(LEAST | {"generate": {"guidence": 1}}, tmp_path)
    assert "did you mean 'certify'" in refused(LEAST | {"certfy": {}}, tmp_path)
    assert "did you mean" not in refused(LEAST | {"xyzzy": 1}, tmp_path)


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("generate", "seeds", True),
        ("generate", "seeds", "4"),
        ("generate", "seeds", -1),
        ("generate", "steps", 0),
        ("generate", "guidance", "strong"),
        ("generate", "sampler", 3),
        ("cliques", "within", 1.5),
        ("cliques", "within", float("nan")),
        ("match", "crop", 0.1),
        ("match", "flip", "yes"),
        ("certify", "fdr", -0.1),
        ("prompts", "top", 1.0),
    ],
)
def test_a_bad_value_is_told_with_its_key(tmp_path, section, key, value):
    told = refused(LEAST | {section: {key: value}}, tmp_path)
    assert f"[{section}] {key} is {value!r}" in told
    assert "it takes" in told


def test_a_whole_number_is_a_number(tmp_path):
    plan = parse(LEAST | {"generate": {"guidance": 7}, "certify": {"fdr": 0}}, tmp_path / "audit.toml")
    assert type(plan.generate.guidance) is float
    assert type(plan.certify.fdr) is float


@pytest.mark.parametrize("form", [None, 0, 2, "1", 1.5])
def test_a_format_that_is_not_ours_is_told(tmp_path, form):
    read = {key: value for key, value in (LEAST | {"format": form}).items() if value is not None}
    assert "reads format = 1" in refused(read, tmp_path)


def test_a_section_that_is_none_is_told(tmp_path):
    assert "write it as a section [match]" in refused(LEAST | {"match": 5}, tmp_path)


@pytest.mark.parametrize("data", [b"\xff\xfe", b"format = ", b"format = 1\nformat = 1", b"[model\n"])
def test_a_file_that_is_no_toml_is_told(tmp_path, data):
    (tmp_path / "audit.toml").write_bytes(data)
    with pytest.raises(PlanError, match="cannot be read"):
        load(tmp_path / "audit.toml")


def test_a_missing_file_says_how_to_write_one(tmp_path):
    with pytest.raises(PlanError, match="byrote init"):
        load(tmp_path / "audit.toml")


def test_the_plan_as_a_dictionary_reads_back_as_itself(tmp_path):
    plan = parse(LEAST | {"generate": {"steps": 5}}, tmp_path / "audit.toml")
    read = {
        name: value if name == "format" else {key: knob for key, knob in value.items() if knob is not None}
        for name, value in plan.as_dict().items()
    }
    assert parse(read, tmp_path / "audit.toml") == plan
