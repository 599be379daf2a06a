"""The counterfactual twin, end to end: what a model without the pictures gives too is not called a copy."""

import pytest

from byrote.errors import PlanError
from end_to_end.studio import Studio, portraits

TAUGHT, COMMON = 14, 3


@pytest.fixture(scope="module")
def twins(tmp_path_factory):
    """Audit a parrot that knows 14 portraits beside a twin that knows three of them and one control."""
    studio = Studio(tmp_path_factory.mktemp("twin"))
    pictures, controls = portraits("twin", 16), portraits("twin held out", 80)
    common = {file.caption: file.data for file in [*pictures[:COMMON], controls[0]]}
    studio.shoot(pictures, controls).teach(common)
    (studio.root / "parrot.toml").rename(studio.root / "base.toml")
    for k in range(COMMON + 1):
        (studio.root / f"known-{k}.png").rename(studio.root / f"base-{k}.png")
    base = (studio.root / "base.toml").read_text().replace('"known-', '"base-')
    (studio.root / "base.toml").write_text(base)
    studio.teach({file.caption: file.data for file in pictures[:TAUGHT]} | {controls[0].caption: controls[0].data})
    studio.write_plan(prompts={"controls": 80}, twin={"uri": "parrot:../base.toml"})
    studio.index()
    return studio, pictures, studio.run().json


def found(told, file):
    return next(f for f in told["findings"] if f["picture"]["caption"] == file.caption)


def test_a_picture_that_the_twin_gives_too_is_not_called_a_copy(twins):
    _, pictures, told = twins
    for file in pictures[:COMMON]:
        finding = found(told, file)
        assert finding["distances"]["tiled"] <= 0.15
        assert finding["twin"]["statistic"] <= 0.15
        assert not finding["certified"]
        assert finding["p_value"] == 1


def test_what_the_twin_does_not_give_is_certified(twins):
    _, pictures, told = twins
    certified = {f["picture"]["caption"] for f in told["findings"] if f["certified"]}
    assert certified == {file.caption for file in pictures[COMMON:TAUGHT]}


def test_the_twin_is_asked_of_controls_alike(twins):
    """The control that both models know counts as far away too: it is nobody's copy, so no control is at the cut."""
    _, _, told = twins
    assert told["tests"]["asked"]["controls_at_cut"] == 0
    assert told["controls"]["certified"] == 0


def test_the_difference_of_both_models_has_a_p_value_of_its_own(twins):
    _, pictures, told = twins
    assert all(found(told, file)["twin"]["p_value"] == pytest.approx(1 / 81) for file in pictures[COMMON:TAUGHT])
    assert all(found(told, file)["twin"]["p_value"] > 0.1 for file in pictures[:COMMON])


def test_the_shares_within_tau_leave_out_what_the_twin_gives(twins):
    _, _, told = twins
    within = next(r for r in told["rates"] if r["name"] == "asked groups within tau" and r["tier"] is None)
    assert (within["k"], within["controls_k"]) == (TAUGHT - COMMON, 0)


def test_both_models_are_asked_from_the_same_noise(twins):
    studio, _, told = twins
    ledger = (studio.audit / "ledger.jsonl").read_text()
    assert ledger.count('"table": "samples"') >= 2
    assert told["cost"]["samples"] == 2 * (16 + 80) * 10
    assert told["twin"]["uri"] == "parrot:../base.toml"


def test_the_model_itself_is_no_twin(twins):
    studio, _, _ = twins
    studio.write_plan(twin={"uri": "parrot:../parrot.toml"})
    with pytest.raises(PlanError, match="the model under audit itself"):
        studio.run()
    studio.write_plan(prompts={"controls": 80}, twin={"uri": "parrot:../base.toml"})
