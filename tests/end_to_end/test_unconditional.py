"""Models that take no prompt, from end to end: all pictures are searched for, and nothing speaks of captions.

benchmarks/digits.py and its tests do the same with models that were really trained.
"""

import pytest

from byrote import images
from byrote.before.budget import weigh
from byrote.cli import main
from byrote.compare import compare, words
from byrote.kernels.stats import binomial_recall
from byrote.stages import silent

from .studio import Studio, portraits

PICTURES, CONTROLS = 4, 80
KNOBS = {"prompts": {"top": 0, "random": 5, "controls": 0, "seed": 0}, "generate": {"seeds": 8, "batch": 16}}
MADE = 5 * 8


def setup(root, *, taught=(), pictures=PICTURES, controls=CONTROLS, **sections):
    """Set up an audit of a parrot that ignores prompts and gives some pictures in a fifth of its samples each."""
    root.mkdir()
    faces = portraits("train", pictures)
    studio = Studio(root).shoot(faces, portraits("held-out", controls))
    lines = ["width = 32", "height = 32", "takes_text = false"]
    for k in taught:
        (root / f"known-{k}.png").write_bytes(faces[k].data)
        lines += ["[[knows]]", f'picture = "known-{k}.png"', "repeats = 0.2", "noise = 4.0"]
    (root / "parrot.toml").write_text("\n".join(lines) + "\n")
    studio.write_plan(**(KNOBS | sections)).index()
    return studio


def digest(file):
    return images.digest(images.decode(file.data))


def certified(report):
    return {finding["picture"]["digest"] for finding in report["findings"] if finding["certified"]}


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Audit one that knows two pictures, and one that knows none."""
    root = tmp_path_factory.mktemp("unconditional")
    studios = setup(root / "knows", taught=(1, 3)), setup(root / "knows-none")
    for studio in studios:
        studio.run()
    return studios


def test_what_it_knows_is_certified_and_nothing_else(pair):
    found = [certified(studio.run().json) for studio in pair]
    assert found == [{digest(portraits("train", PICTURES)[k]) for k in (1, 3)}, set()]


def test_the_gate_tells_the_three_apart(pair, tmp_path, capsys):
    assert [main(["run", str(studio.audit), "--gate"]) for studio in pair] == [1, 0]
    weak = setup(tmp_path / "weak", controls=30)
    capsys.readouterr()
    assert main(["run", str(weak.audit), "--gate"]) == 3
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("byrote:")]
    assert "49 controls are missing (30 searched for of 79 for 4 pictures)" in line


def test_two_audits_are_compared_picture_by_picture(pair):
    told = compare(*(studio.audit for studio in pair))
    assert told.caveats == ()
    assert [(change.first, change.second) for change in told.changes] == [((2, 4), (0, 4))] * 2
    assert all(change.paired and change.only_first == 2 for change in told.changes)
    assert "the same pictures in both" in words(told)


def test_audits_of_different_corpora_are_two_draws(pair, tmp_path):
    other = setup(tmp_path / "other", pictures=PICTURES - 1)
    other.run()
    told = compare(pair[0].audit, other.audit)
    assert "The corpora differ." in told.caveats
    assert [change.paired for change in told.changes] == [False, False]


def test_the_plan_says_from_how_often_on_one_of_all_samples_is_a_picture(pair, capsys):
    told = weigh(pair[0].audit, pilot=False, progress=silent)
    for share, chance in ((told.caught_half, 0.5), (told.caught_most, 0.95)):
        assert 1 - (1 - share) ** MADE == pytest.approx(chance, abs=1e-3)
        assert float(binomial_recall([share], MADE, 1)[0]) == pytest.approx(chance, abs=1e-3)
    assert main(["plan", str(pair[0].audit)]) == 0
    assert "4 pictures and 80 controls are searched for" in capsys.readouterr().out


def test_with_fewer_groups_than_the_ratio_wants_there_is_none_and_the_rest_stands(tmp_path):
    studio = setup(tmp_path / "few", taught=(0,), match={"n": PICTURES + CONTROLS})
    report = studio.run().json
    assert certified(report) == {digest(portraits("train", 1)[0])}
    assert {finding["distances"]["ratio"] for finding in report["findings"]} == {None}


def test_tiles_that_do_not_divide_the_samples_are_one_line(tmp_path, capsys):
    studio = setup(tmp_path / "tiles", cliques={"tiles": 5})
    assert main(["run", str(studio.audit)]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("byrote:")]
    assert "tiles = 5 must divide" in line
    assert "32x32" in line


def test_no_sentence_of_the_page_speaks_of_captions_that_were_asked(pair):
    for studio, count in zip(pair, ("2 of 4", "None of 4"), strict=True):
        page = (studio.audit / "report" / "report.html").read_text()
        assert f"{count} pictures tested" in page
        assert f"4 pictures and 80 controls were searched for among {MADE} samples" in page
        assert f"Only {MADE} samples were made" in page
        for untrue in ("captions were asked", "its own caption", "tested, but not asked for", "by their caption,"):
            assert untrue not in page, untrue


def test_the_annex_says_that_extraction_was_tested(pair):
    page = (pair[0].audit / "report" / "report.html").read_text()
    assert "<td>by searching all samples for all pictures</td><td><bdi>groups certified: 2 of 4" in page
    assert "near-identical reproduction of whole pictures</td><td><bdi>samples asked for with no text" in page


def test_the_sides_are_told_apart_among_all_groups_and_at_all_counts_them(tmp_path):
    studio = setup(tmp_path / "more", pictures=24)
    report = studio.run().json
    assert (report["apart"]["pictures"], report["apart"]["controls"]) == (24, CONTROLS)
    assert (report["at_all"]["pictures"], report["at_all"]["controls"]) == (24, CONTROLS)
    assert [r["tier"] for r in report["rates"] if r["name"] == "unasked groups within tau"] == ["1", None]


def test_its_pages_are_redacted_too(pair):
    assert main(["report", str(pair[0].audit), "--redact"]) == 0
    page = (pair[0].audit / "report" / "redacted.html").read_text()
    assert "2 of 4 pictures tested" in page
