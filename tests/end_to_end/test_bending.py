"""Whoever has looked at samples cannot choose any more, and the report says how often it was tried."""

import shutil

import pytest

from end_to_end.studio import Studio, portraits

SMALL = {"top": 4, "random": 4, "controls": 60}


@pytest.fixture(scope="module")
def looked(tmp_path_factory):
    """Audit a parrot of six memories once, with a tau too small for anything."""
    studio = Studio(tmp_path_factory.mktemp("bending"))
    pictures = portraits("bending", 8)
    studio.shoot(pictures, portraits("bending held out", 60)).teach({f.caption: f.data for f in pictures[:6]})
    studio.write_plan(prompts=SMALL, generate={"seeds": 4}, certify={"closest": 0.001})
    studio.index()
    assert not any(f["certified"] for f in studio.run().json["findings"])
    return studio


@pytest.fixture
def again(looked, tmp_path):
    """Return a copy of the audit, and what writes its plan with another tau."""
    for name in ("audit", "corpus", "pictures", "held-out"):
        shutil.copytree(looked.root / name, tmp_path / name)
    for file in looked.root.glob("*"):
        if file.is_file():
            shutil.copy(file, tmp_path)
    studio = Studio(tmp_path)

    def bend(**sections):
        prompts = SMALL | sections.pop("prompts", {})
        generate = {"seeds": 4} | sections.pop("generate", {})
        studio.write_plan(prompts=prompts, generate=generate, certify={"closest": 0.15}, **sections)
        return studio.run().json

    return studio, bend


@pytest.mark.parametrize(
    "knob",
    [
        {},
        {"generate": {"batch": 15}},
        {"generate": {"seeds": 5}},
        {"corpus": {"path": "../corpus", "near": 0.0501}},
        {"prompts": {"controls": 59}},
        {"ladder": {"rungs": ["caption", "truncated"]}},
    ],
    ids=str,
)
def test_tau_cannot_be_chosen_after_looking_by_turning_a_harmless_knob_too(again, knob):
    told = again[1](**knob)
    assert not told["calibrated"]
    assert not told["sealed"]["before_sampling"]
    assert not any(f["certified"] or f["p_value"] is not None for f in told["findings"])
    assert not any("certified" in rate["name"] for rate in told["rates"])


def test_another_seed_begins_anew_and_the_report_says_that_it_is_the_second_try(again):
    told = again[1](prompts={"seed": 1})
    assert told["calibrated"]
    assert sum(f["certified"] for f in told["findings"]) == 6
    assert [seal["seed"] for seal in told["audits"] if seal["alike"]] == [0, 1]
    assert any("one of 2 audits" in warning for warning in told["warnings"])
    assert any("one of 2 audits" in sentence for sentence in told["sentences"])


def test_samples_that_the_ledger_does_not_know_count_as_seen(again):
    studio, bend = again
    (studio.audit / "ledger.jsonl").unlink()
    assert not bend()["calibrated"]


def test_an_audit_in_another_folder_is_listed_where_it_shares_the_corpus(again):
    studio, bend = again
    shutil.rmtree(studio.audit)
    told = bend()
    assert told["calibrated"]
    assert [seal["elsewhere"] for seal in told["audits"]] == [True, False]
    assert any("one of 2 audits" in warning for warning in told["warnings"])


def test_prompts_of_ordinary_users_bring_no_certificate(tmp_path):
    """They may be written for the pictures of one side; what they bring is told as a rate and a way."""
    studio, pictures = Studio(tmp_path), portraits("users bend", 8)
    studio.shoot(pictures, portraits("users bend held out", 60))
    studio.teach({f"wording {k}": file.data for k, file in enumerate(pictures)})
    (tmp_path / "users.txt").write_text("\n".join(f"wording {k}" for k in range(8)))
    ladder = {"rungs": ["users", "caption"], "users": "../users.txt"}
    studio.write_plan(prompts=SMALL, generate={"seeds": 4}, ladder=ladder)
    studio.index()
    told = studio.run().json
    assert not any(f["certified"] for f in told["findings"])
    assert sum(f["way"] is not None and f["way"]["rung"] == "users" for f in told["findings"]) == 8
    assert next(r for r in told["rates"] if r["name"].startswith("prompts of ordinary"))["k"] == 8


def test_a_twin_that_was_trained_on_controls_is_told_and_nothing_is_exact(tmp_path):
    studio, pictures, controls = Studio(tmp_path), portraits("leaning", 8), portraits("leaning held out", 60)
    studio.shoot(pictures, controls).teach({file.caption: file.data for file in controls[:40]})
    for path in [tmp_path / "parrot.toml", *tmp_path.glob("known-*.png")]:
        path.rename(tmp_path / f"twin-{path.name}")
    twin = tmp_path / "twin-parrot.toml"
    twin.write_text(twin.read_text().replace('"known-', '"twin-known-'))
    studio.teach({file.caption: file.data for file in pictures})
    studio.write_plan(prompts=SMALL, generate={"seeds": 4}, twin={"uri": "parrot:../twin-parrot.toml"})
    studio.index()
    told = studio.run().json
    assert any("The twin brings more controls than pictures" in warning for warning in told["warnings"])
    assert {f["basis"] for f in told["findings"]} == {"assumption-based"}
