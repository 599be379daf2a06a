"""Commands say on stdout what was asked for, all else on stderr."""

import json
import subprocess
import sys
from importlib import resources

import pytest
from end_to_end.studio import Studio, portraits

from byrote.cli import main, parser
from byrote.plan import STAGES


@pytest.fixture
def studio(tmp_path):
    faces = portraits("train", 3)
    studio = Studio(tmp_path)
    return studio.shoot(faces, portraits("held-out", 12)).teach({faces[0].caption: faces[0].data})


def test_the_stages_of_the_command_line_are_those_of_an_audit():
    from byrote import chain

    assert STAGES == chain.STAGES


def test_index_init_run_status_and_report_lead_to_a_page(studio, capsys):
    root = studio.root
    pictures, held_out = str(root / "pictures"), str(root / "held-out")
    assert main(["index", pictures, "--held-out", held_out, "--corpus", str(studio.corpus), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["pictures"], told["controls"], told["unreadable"]) == (3, 12, 0)

    model = f"parrot:{root / 'parrot.toml'}"
    assert main(["init", str(studio.audit), "--model", model, "--corpus", str(studio.corpus)]) == 0
    text = (studio.audit / "audit.toml").read_text()
    assert 'uri = "parrot:../parrot.toml"' in text
    assert 'path = "../corpus"' in text
    capsys.readouterr()

    assert main(["run", str(studio.audit), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == json.loads((studio.audit / "report" / "report.json").read_text())

    assert main(["status", str(studio.audit), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["stages"]
    assert [row["stage"] for row in rows] == list(STAGES)
    assert all(row["of"] in (None, row["parts"]) for row in rows)

    assert main(["report", str(studio.audit)]) == 0
    assert capsys.readouterr().out.strip() == str(studio.audit / "report" / "report.html")


def test_a_second_index_adds_and_does_nothing_twice(studio, capsys):
    corpus = str(studio.corpus)
    main(["index", str(studio.root / "pictures"), "--corpus", corpus, "--json"])
    first = json.loads(capsys.readouterr().out)
    main(["index", "--held-out", str(studio.root / "held-out"), "--corpus", corpus, "--json"])
    second = json.loads(capsys.readouterr().out)
    assert (first["pictures"], first["controls"]) == (3, 0)
    assert (second["pictures"], second["controls"]) == (3, 12)
    ledger = (studio.corpus / "ledger.jsonl").read_text()
    main(["index", str(studio.root / "pictures"), "--corpus", corpus, "--json"])
    assert json.loads(capsys.readouterr().out) == second
    assert (studio.corpus / "ledger.jsonl").read_text() == ledger


def test_status_of_an_audit_that_has_not_begun_makes_nothing(studio, capsys):
    studio.index()
    studio.write_plan()
    before = sorted(studio.audit.rglob("*"))
    assert main(["status", str(studio.audit)]) == 0
    assert "0 of" in capsys.readouterr().out
    assert sorted(studio.audit.rglob("*")) == before


def test_doctor_says_something_on_any_machine(capsys):
    assert main(["doctor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("command", ["demo", "index", "init", "run", "status", "report", "doctor"])
def test_every_command_has_help(capsys, command):
    with pytest.raises(SystemExit) as left:
        parser().parse_args([command, "--help"])
    assert left.value.code == 0
    assert command in capsys.readouterr().out


def test_the_command_line_opens_without_the_heavy_libraries():
    code = (
        "import sys, byrote.cli as c; c.parser(); print([m for m in ('torch', 'numpy', 'pyarrow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_page_template_ships_with_the_package():
    assert resources.files("byrote.stages").joinpath("templates", "report.html").is_file()
