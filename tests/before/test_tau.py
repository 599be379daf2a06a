"""tau from a second held-out draw: against a slow oracle, on exactly what it should be measured on, and its bound."""

import json
from math import nan

import numpy as np
import pytest
from end_to_end.studio import File, Studio, portraits
from scipy import stats

from byrote import images
from byrote.api import silent
from byrote.audit import Audit
from byrote.before.tau import measure
from byrote.cli import main
from byrote.errors import CorpusError
from byrote.kernels import align
from byrote.plan import MatchPlan
from byrote.stages.certify import statistic

PICTURES, CONTROLS, SECOND, SIDE, TILES = 5, 30, 40, 32, 4


def near(file, name):
    brighter = np.minimum(images.decode(file.data).astype(int) + 3, 255).astype(np.uint8)
    return File(name, images.encode_png(brighter), None)


def studio(root, *, controls=CONTROLS, second=(), **sections):
    made = Studio(root)
    made.shoot(portraits("train", PICTURES), portraits("held-out", controls)).teach({})
    made.write_plan(**({"generate": {"seeds": 3}} | sections)).index()
    (root / "second").mkdir()
    for file in second:
        (root / "second" / file.name).write_bytes(file.data)
    return made


def tau(made, share=0.1):
    return measure(made.audit, str(made.root / "second"), share=share, progress=silent)


def oracle(file):
    """Hold a picture against every picture of the training set under every move, tile by tile."""
    image = images.fit(images.decode(file.data), SIDE, SIDE) / 255
    m = MatchPlan()
    nearest = np.inf
    for other in portraits("train", PICTURES):
        picture = images.fit(images.decode(other.data), SIDE, SIDE)
        for move in align.alignments(m.shift, m.flip, m.crop):
            squares = (image - align.move(picture, move) / 255) ** 2
            edge = SIDE // TILES
            tiles = [
                squares[y : y + edge, x : x + edge].mean() for y in range(0, SIDE, edge) for x in range(0, SIDE, edge)
            ]
            nearest = min(nearest, np.sqrt(max(tiles)))
    return nearest


@pytest.fixture(scope="module")
def distances():
    return np.sort([oracle(file) for file in portraits("second", SECOND)])


@pytest.fixture(scope="module")
def still(tmp_path_factory):
    return studio(tmp_path_factory.mktemp("tau"), second=portraits("second", SECOND))


@pytest.mark.parametrize("share", [0.001, 0.05, 0.1, 0.5])
def test_tau_is_the_largest_hundredth_that_at_most_the_share_reach(still, distances, share):
    told = tau(still, share)
    counts = {k / 100: int((distances <= k / 100).sum()) for k in range(101)}
    assert told.closest == max(closest for closest, reached in counts.items() if reached <= share * SECOND)
    assert told.reached == counts[told.closest] <= share * SECOND
    assert (told.pictures, told.left_out, told.share) == (SECOND, 0, share)
    assert told.nearest == pytest.approx(distances[:5], abs=1e-4)


@pytest.mark.parametrize("share", [0.001, 0.05, 0.5])
def test_the_bound_of_the_share_is_one_sided_and_exact(still, share):
    told = tau(still, share)
    allowed = int(share * SECOND)
    assert told.share_at_most == pytest.approx(stats.beta.ppf(0.95, allowed + 1, SECOND - allowed))
    if allowed == 0:
        assert told.share_at_most == pytest.approx(1 - 0.05 ** (1 / SECOND))


def test_the_bound_covers_whatever_number_was_reached():
    """Below the order statistic the share is at most the bound in 95 % of draws, rounding down included."""
    dice = np.random.default_rng(0)
    bound = stats.beta.ppf(0.95, 3, 38)
    held = []
    for _ in range(4000):
        uniform = np.sort(dice.uniform(0, 1, 40))
        held.append(np.floor(uniform[2] * 100) / 100 <= bound)
    assert np.mean(held) >= 0.94


def test_tau_does_not_depend_on_the_tau_that_the_plan_has(still, distances):
    """Pairs beyond tau + .06 are not aligned: with a small tau in the plan distances would come out too large."""
    wide = tau(still, 0.5)
    still.write_plan(generate={"seeds": 3}, certify={"closest": 0.02})
    try:
        narrow = tau(still, 0.5)
    finally:
        still.write_plan(generate={"seeds": 3})
    assert narrow.closest == wide.closest
    assert narrow.closest > 0.08
    assert narrow.reached == int((distances <= narrow.closest).sum())


def test_what_is_measured_is_the_statistic_that_an_audit_takes(tmp_path, distances):
    second = portraits("second", SECOND)
    made = studio(tmp_path, controls=0, second=second[:1], certify={"closest": 1.0})
    made.teach({portraits("train", 1)[0].caption: second[0].data}, repeats=1.0, noise=0.0)
    made.run()
    [prompt] = [p for p in Audit(made.audit).prompts if p.text == portraits("train", 1)[0].caption]
    found = min(statistic(row) for row in Audit(made.audit).matches() if row.prompt == prompt.number)
    assert tau(made).nearest == pytest.approx([found], abs=1e-4)
    assert found == pytest.approx(oracle(second[0]))


def test_what_resembles_the_corpus_its_controls_or_itself_is_left_out_and_counted(tmp_path):
    second = portraits("second", 6)
    control, picture = portraits("held-out", CONTROLS)[4], portraits("train", PICTURES)[1]
    more = [
        File("control.png", control.data, None),
        near(control, "nearly a control.png"),
        near(picture, "nearly a picture.png"),
        File("twice.png", second[0].data, None),
        File("broken.png", b"not a picture", None),
    ]
    alone, mixed = tmp_path / "alone", tmp_path / "mixed"
    for root in (alone, mixed):
        root.mkdir()
    plain, told = tau(studio(alone, second=second)), tau(studio(mixed, second=[*second, *more]))
    assert (plain.pictures, plain.left_out) == (6, 0)
    assert (told.pictures, told.left_out) == (6, len(more))
    assert (told.closest, told.draw, told.nearest) == (plain.closest, plain.draw, plain.nearest)


def test_a_draw_of_nothing_but_the_corpus_is_one_line(tmp_path):
    made = studio(tmp_path, second=portraits("held-out", 3))
    with pytest.raises(CorpusError, match=r"no picture of it is of use: 3 are near-duplicates") as caught:
        tau(made)
    assert "\n" not in str(caught.value)


def test_the_report_names_the_draw_only_where_the_plan_holds_its_very_value(tmp_path):
    made = studio(tmp_path, second=portraits("second", SECOND))
    told = tau(made, 0.1)
    assert made.run().json["tau"]["share"] is None
    made.write_plan(generate={"seeds": 3}, prompts={"seed": 1}, certify={"closest": told.closest})
    report = made.run().json
    assert report["tau"] == {
        "closest": told.closest,
        "source": "a second held-out draw",
        "share": 0.1,
        "pictures": SECOND,
    }
    assert report["calibrated"]
    made.write_plan(generate={"seeds": 3}, prompts={"seed": 2}, certify={"closest": round(told.closest + 0.01, 2)})
    assert made.run().json["tau"]["source"] == "the plan, without a stated source"


def test_a_draw_that_was_held_against_another_corpus_is_not_named(tmp_path):
    made = studio(tmp_path, second=portraits("second", SECOND))
    told = tau(made, 0.1)
    extra = portraits("train", PICTURES + 1)[-1]
    (made.root / "pictures" / "more.png").write_bytes(extra.data)
    made.index()
    made.write_plan(generate={"seeds": 3}, certify={"closest": told.closest})
    assert made.run().json["tau"]["share"] is None


@pytest.mark.parametrize("share", [0, 1, 1.5, -0.1, nan])
def test_a_share_that_is_none_is_one_line(still, share):
    with pytest.raises(CorpusError, match="it takes a number between 0 and 1"):
        tau(still, share)


def test_an_empty_or_missing_draw_is_one_line(still, tmp_path, capsys):
    for source in (tmp_path, tmp_path / "nowhere"):
        assert main(["tau", str(still.audit), str(source)]) == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_the_command_tells_tau_and_where_it_goes(still, capsys):
    source = str(still.root / "second")
    assert main(["tau", str(still.audit), source, "--share", "0.1", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert main(["tau", str(still.audit), source, "--share", "0.1"]) == 0
    line = capsys.readouterr().out
    assert line.startswith(f"closest = {told['closest']:g}: {told['reached']} of {SECOND} pictures")
    assert "[certify]" in line
