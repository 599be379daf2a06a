"""An audit of a parrot is reviewed by three people with known error rates, and the report says what they measured."""

import csv
import hashlib
import json
import sqlite3
from collections import Counter

import numpy as np
import pytest
from pyarrow import csv as csv_table
from pyarrow import parquet

from byrote import images
from byrote.cli import main
from byrote.review import draw, verdicts

from .studio import Studio, portraits

TAUGHT = range(10)
ERRORS = {"ann": (0.0, 0.0), "bob": (0.1, 0.1), "cas": (0.2, 0.05)}
"""How often each misses a copy, and how often each takes another picture for one."""


def digest(file):
    return images.digest(images.decode(file.data))


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    studio = Studio(tmp_path_factory.mktemp("review"))
    faces, held_out = portraits("train", 24), portraits("held-out", 40)
    knows = {faces[k].caption: faces[k].data for k in TAUGHT}
    studio.shoot(faces, held_out).teach(knows).write_plan(cliques={"least": 1}, generate={"seeds": 3})
    studio.index()
    studio.run()
    return studio


@pytest.fixture(scope="module")
def sheets(audited):
    out = audited.root / "sheets"
    assert main(["review", "draw", str(audited.audit), "--n", "40", "--seed", "5", "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def key(audited, sheets):
    return draw.read(audited.audit / "review")


@pytest.fixture(scope="module")
def judged(audited, sheets, key):
    """Let each fill a table of their own, the third but half of it, and import them. Bob cannot tell one pair."""
    knows = {digest(face) for face in portraits("train", len(TAUGHT))}
    there = {pair.id: pair for pair in key.pairs}
    hard = [pair.id for pair in key.pairs if pair.kind == "candidate"][-1]
    told = {}
    for number, (reviewer, (misses, invents)) in enumerate(ERRORS.items()):
        rng = np.random.default_rng(number)
        rows = list(csv.DictReader((sheets / "verdicts.csv").open(newline="")))
        for row in rows[: len(rows) // 2] if reviewer == "cas" else rows:
            pair = there[row["id"]]
            copy = pair.kind == "planted" or (pair.picture in knows and pair.statistic <= key.tau)
            wrong = rng.random() < (misses if copy else invents)
            row["verdict"] = "copy" if copy != wrong else str(rng.choice(["alike", "no"]))
            row["verdict"] = "unsure" if (reviewer, row["id"]) == ("bob", hard) else row["verdict"]
        file = audited.root / f"{reviewer}.csv"
        with file.open("w", newline="") as sink:
            table = csv.DictWriter(sink, rows[0].keys())
            table.writeheader()
            table.writerows(rows)
        assert main(["review", "import", str(audited.audit), str(file), "--reviewer", reviewer]) == 0
        told[reviewer] = {row["id"]: row["verdict"] for row in rows if row["verdict"]}
    return told


@pytest.fixture
def measured(audited, judged, capsys):
    capsys.readouterr()
    assert main(["review", "measure", str(audited.audit), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_draw_holds_all_memories_some_others_controls_and_planted_copies(key):
    kinds = {kind: [pair for pair in key.pairs if pair.kind == kind] for kind in ("candidate", "control", "planted")}
    assert key.sizes["within tau"] == len(TAUGHT)
    assert sum(key.sizes.values()) == len(kinds["candidate"]) > len(TAUGHT)
    assert len(kinds["control"]) == 10
    assert len(kinds["planted"]) == 5
    assert {pair.side for pair in kinds["control"]} == {"control"}
    assert not {p.picture for p in kinds["planted"]} & {p.picture for p in kinds["candidate"]}


def test_every_pair_is_a_sheet_and_a_line_to_fill(sheets, key):
    ids = [pair.id for pair in key.pairs]
    assert sorted(path.stem for path in (sheets / "pairs").iterdir()) == sorted(ids)
    assert [line.split(",")[0] for line in (sheets / "verdicts.csv").read_text().splitlines()[1:]] == ids
    assert not list(sheets.rglob("*key*"))


def test_the_ledger_has_the_digest_of_the_key(audited, sheets):
    lines = [json.loads(line) for line in (audited.audit / "ledger.jsonl").read_text().splitlines()]
    drawn = [line for line in lines if line["event"] == "review"]
    assert drawn[-1]["key"] == hashlib.sha256((audited.audit / "review" / "key.json").read_bytes()).hexdigest()


def test_the_same_draw_again_leaves_filled_tables_and_another_one_is_refused(audited, sheets, key, capsys):
    file = sheets / "verdicts.csv"
    blank = file.read_text()
    file.write_text(blank.replace(",,", ",copy,", 1))
    again = ["review", "draw", str(audited.audit), "--out", str(sheets)]
    assert main([*again, "--n", "40", "--seed", "5"]) == 0
    assert file.read_text() == blank.replace(",,", ",copy,", 1)
    file.write_text(blank)
    capsys.readouterr()
    for other in (["--n", "40", "--seed", "6"], ["--n", "20", "--seed", "5"]):
        assert main([*again, *other]) == 3
        assert "other pairs were drawn before" in capsys.readouterr().err
    assert draw.read(audited.audit / "review") == key


def test_what_three_people_said_holds_the_ten_memories(measured, key):
    total, low, high = measured["copies"]
    assert low <= len(TAUGHT) <= high
    assert low <= total <= high
    precision = measured["precision"]
    assert precision["low"] <= precision["k"] / precision["n"] <= precision["high"]
    assert precision["high"] == 1
    assert measured["recall"][1] == 1
    assert measured["drawn"] == measured["population"] == sum(key.sizes.values())
    assert measured["tau"] == 0.15
    assert measured["undecided"] > 0
    assert len(measured["band"]) <= len(TAUGHT)


def test_reviewers_are_measured_against_what_was_planted(measured, judged, key):
    kinds = {pair.id: pair.kind for pair in key.pairs}
    assert [each["name"] for each in measured["reviewers"]] == list(ERRORS)
    for each in measured["reviewers"]:
        for rate, kind, error in (("sensitivity", "planted", 0), ("false_positives", "control", 1)):
            mine = [verdict for pair, verdict in judged[each["name"]].items() if kinds[pair] == kind]
            found = each[rate]
            assert (found["k"], found["n"]) == (mine.count("copy"), len(mine))
            truth = abs(1 - error - ERRORS[each["name"]][error])
            assert found["low"] <= truth <= found["high"]
    ann, bob, cas = (each["judged"] for each in measured["reviewers"])
    assert ann == bob == len(key.pairs)
    assert cas == len(key.pairs) // 2


def test_kappas_are_told_with_how_many_pairs_they_rest_on(measured, judged, key):
    candidates = {pair.id for pair in key.pairs if pair.kind == "candidate"}
    told = {tuple(each["reviewers"]): each for each in measured["agreement"]}
    assert {names: each["method"] for names, each in told.items()} == {
        ("ann", "bob"): "Cohen",
        ("ann", "cas"): "Cohen",
        ("bob", "cas"): "Cohen",
        ("ann", "bob", "cas"): "Fleiss",
    }
    assert told["ann", "bob"]["pairs"] == len(candidates)
    assert told["ann", "cas"]["pairs"] == told["ann", "bob", "cas"]["pairs"] == len(candidates & judged["cas"].keys())


def test_the_words_say_the_population_and_that_undecided_pairs_are_bounded(audited, judged, key, capsys):
    capsys.readouterr()
    assert main(["review", "measure", str(audited.audit)]) == 0
    words = capsys.readouterr().out
    everything = sum(key.sizes.values())
    assert f"{everything} candidate pairs drawn of {everything}" in words
    assert "whatever the undecided pairs are" in words
    assert "within tau (0.15)" in words
    assert "ann: planted copies that were called a copy: 5 of 5" in words
    assert "majority: controls that were called a copy" in words
    assert "Fleiss's kappa of ann and bob and cas" in words


def test_the_report_says_what_was_measured_and_the_redacted_one_names_nobody(audited, measured):
    audit = str(audited.audit)
    assert main(["report", audit]) == 0
    report = json.loads((audited.audit / "report" / "report.json").read_text())
    assert report["review"] == measured
    assert main(["report", audit, "--redact"]) == 0
    redacted = (audited.audit / "report" / "redacted.json").read_text()
    assert json.loads(redacted)["review"]["copies"] == measured["copies"]
    assert not any(f'"{name}"' in redacted for name in ERRORS)


def test_importing_a_table_again_changes_nothing(audited, judged, measured, capsys):
    before = verdicts.head(audited.audit / verdicts.FILE)
    assert main(["review", "import", str(audited.audit), str(audited.root / "ann.csv"), "--reviewer", " ann "]) == 0
    assert "0 new verdicts" in capsys.readouterr().out
    assert verdicts.head(audited.audit / verdicts.FILE) == before
    assert verdicts.check(audited.audit / verdicts.FILE) == []


@pytest.mark.parametrize(
    ("change", "reviewer", "says"),
    [
        (lambda text: text.replace(",copy,", ",kopie,", 1), "dan", "unknown verdict 'kopie'"),
        (lambda text: text + "p0000,copy,\n", "dan", "no pair 'p0000' was drawn"),
        (lambda text: text, "dan\x1b[2J", "is no name of a reviewer"),
        (lambda text: text, "", "--reviewer NAME"),
    ],
)
def test_a_bad_table_or_name_is_refused_in_one_line_and_nothing_is_taken(
    audited, judged, change, reviewer, says, capsys
):
    before = verdicts.head(audited.audit / verdicts.FILE)
    file = audited.root / "bad.csv"
    file.write_text(change((audited.root / "ann.csv").read_text()))
    capsys.readouterr()
    assert main(["review", "import", str(audited.audit), str(file), "--reviewer", reviewer]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line
    assert line.isprintable()
    assert verdicts.head(audited.audit / verdicts.FILE) == before


def test_verdicts_changed_behind_the_tool_are_named(audited, judged, tmp_path):
    copy = tmp_path / "verdicts.sqlite"
    with sqlite3.connect(audited.audit / verdicts.FILE) as store, sqlite3.connect(copy) as to:
        store.backup(to)
        to.execute("UPDATE events SET verdict = 'no' WHERE number = 3")
    assert "event 3 (ann) was changed" in verdicts.check(copy)[0]


def test_each_step_says_which_one_is_missing(tmp_path, capsys):
    studio = Studio(tmp_path)
    faces = portraits("train", 4)
    studio.shoot(faces, portraits("held-out", 8)).teach({faces[1].caption: faces[1].data})
    studio.write_plan(generate={"seeds": 2}).index()
    (tmp_path / "t.csv").write_text("id,verdict\n")
    audit = str(studio.audit)
    for command, says in (
        (["draw", audit], "nothing certified yet"),
        (["import", audit, str(tmp_path / "t.csv"), "--reviewer", "ann"], "no pairs were drawn yet"),
        (["measure", audit], "no pairs were drawn yet"),
    ):
        assert main(["review", *command]) == 3
        assert says in capsys.readouterr().err
    studio.run()
    assert main(["review", "draw", audit, "--n", "1"]) == 0
    assert main(["review", "measure", audit]) == 3
    assert "no verdicts yet" in capsys.readouterr().err


def test_sheets_that_cannot_be_written_are_told_in_one_line(audited, sheets, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    again = ["review", "draw", str(audited.audit), "--n", "40", "--seed", "5", "--out", str(tmp_path / "file")]
    capsys.readouterr()
    assert main(again) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "the sheets cannot be written" in line


@pytest.mark.parametrize("name", ["said.csv", "said.parquet"])
def test_verdicts_are_exported_one_a_row_with_which_was_the_last(audited, judged, tmp_path, name, capsys):
    assert main(["review", "export", str(audited.audit), str(tmp_path / name)]) == 0
    read = {"said.csv": csv_table.read_csv, "said.parquet": parquet.read_table}[name]
    rows = read(tmp_path / name).to_pylist()
    assert Counter(row["reviewer"] for row in rows) == {who: len(said) for who, said in judged.items()}
    assert all(row["last"] for row in rows)
    assert {row["verdict"] for row in rows} >= {"copy", "alike", "no"}
    assert f"{len(rows):,} verdicts" in capsys.readouterr().out


def test_export_says_what_is_missing(audited, judged, tmp_path, capsys):
    assert main(["review", "export", str(audited.audit)]) == 2
    assert "name the FILE to write" in capsys.readouterr().err
    assert main(["review", "export", str(audited.audit), str(tmp_path / "x.xlsx")]) == 2
    assert "a table is written as .csv or .parquet" in capsys.readouterr().err
    assert main(["review", "export", str(audited.audit), str(tmp_path / "x.csv"), "--explore"]) == 3
    assert "no verdicts yet" in capsys.readouterr().err
