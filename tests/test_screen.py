"""`byrote screen`: lists of prompts in, an order out."""

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from taught import parrot, written

from byrote import api
from byrote.cli import main
from byrote.errors import ByroteError, CorpusError
from byrote.sources.prompts import read
from byrote.stages import risk, scores

KNOWN = [f"known {k}" for k in range(6)]
NEW = [f"new {k}" for k in range(14)]
CONTROLS = [f"control {k}" for k in range(30)]


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return written(tmp_path, dict.fromkeys(KNOWN, 1.0))


def asked(tmp_path: Path, name: str, prompts: list[str]) -> str:
    (tmp_path / name).write_text("\n".join(prompts) + "\n", encoding="utf-8")
    return str(tmp_path / name)


def test_prompts_that_come_back_are_first_and_unlike_all_controls(tmp_path, uri, capsys):
    prompts, controls = asked(tmp_path, "p.txt", NEW + KNOWN), asked(tmp_path, "c.txt", CONTROLS)
    out = tmp_path / "ranked.csv"
    assert main(["screen", prompts, "--model", uri, "--controls", controls, "--json", "--out", str(out)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {row["prompt"] for row in told["rows"][:6]} == set(KNOWN)
    assert [row["rank"] for row in told["rows"]] == list(range(1, 21))
    assert all(row["p_value"] == pytest.approx(1 / 31) for row in told["rows"][:6])
    assert 0.2 < np.mean([row["p_value"] for row in told["rows"][6:]]) < 0.8
    assert (told["score"], told["controls"]) == ("closest-pair", 30)
    assert told["evaluations"] == 50 * 4 + 40 * risk.FULL
    with out.open(newline="", encoding="utf-8") as lines:
        written_rows = list(csv.DictReader(lines))
    assert [row["prompt"] for row in written_rows] == [row["prompt"] for row in told["rows"]]


def test_the_page_for_a_person_says_what_is_not_calibrated_and_not_checked(tmp_path, uri, capsys):
    prompts = asked(tmp_path, "p.txt", [*NEW, *KNOWN, *CONTROLS])
    assert main(["screen", prompts, "--model", uri, "--pilot", "0"]) == 0
    words = capsys.readouterr().out
    assert "uncalibrated: no --controls" in words
    assert "nothing says that this score means anything" in words
    assert "and 30 more" in words


def test_a_score_that_does_not_go_with_the_samples_is_not_to_be_relied_on(tmp_path, uri, capsys):
    prompts = asked(tmp_path, "p.txt", NEW)  # of none of these anything comes back: there is nothing to go with
    assert main(["screen", prompts, "--model", uri]) == 0
    assert "PILOT" in capsys.readouterr().out


class Backwards:
    """A score that is larger for what is less alike."""

    name, needs, says = "backwards", "model", ""

    def evaluations(self, model, seeds):
        return seeds

    def of(self, model, prompts, seeds):
        return -scores.SCORES["agreement"].of(model, prompts, seeds)


def test_the_pilot_turns_a_score_round_that_goes_the_other_way(tmp_path):
    model = parrot(tmp_path, dict.fromkeys(KNOWN, 1.0))
    told = risk.rank(model, model, NEW + KNOWN, risk.Way(Backwards(), pilot=20))
    assert told.pilot is not None
    assert told.pilot.direction == -1
    assert {row.prompt for row in told.rows[:6]} == set(KNOWN)


def test_p_values_of_prompts_that_are_like_the_controls_are_even(tmp_path):
    model = parrot(tmp_path, {})
    some = [f"text {k}" for k in range(200)]
    told = risk.rank(model, model, some[:120], risk.Way(scores.SCORES["agreement"], pilot=0), some[120:])
    p = np.array([row.p_value for row in told.rows])
    assert 0.35 < (p <= 0.5).mean() < 0.65
    assert min(row.q_value for row in told.rows) > 0.05


def test_a_prompt_has_the_same_noises_in_every_list(tmp_path, uri):
    alone = api.screen(["known 1", "new 1"], uri, pilot=0)
    more = api.screen([*CONTROLS, "new 1", "known 1"], uri, pilot=0)
    scored = {row.prompt: row.score for row in more.rows}
    assert all(scored[row.prompt] == row.score for row in alone.rows)


@pytest.mark.parametrize("column", ["prompt", "caption", "Text"])
def test_lists_of_every_format_are_read_alike(tmp_path, column):
    wanted = ["a cat, on a mat", "ünlike", "third"]
    given = [*wanted, "", "  third  "]
    (tmp_path / "a.txt").write_text("\n".join(given), encoding="utf-8")
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"n": 1, column: one}) for one in given), encoding="utf-8")
    with (tmp_path / "a.csv").open("w", newline="", encoding="utf-8") as lines:
        csv.writer(lines).writerows([["n", column], *(["1", one] for one in given)])
    pq.write_table(pa.table({"n": [1] * 6, column: [*given, None]}), tmp_path / "a.parquet")
    for name in ("a.txt", "a.jsonl", "a.csv", "a.parquet"):
        assert read(tmp_path / name) == wanted, name


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.txt", b"\n \n", "holds no prompt"),
        ("a.txt", b"\xff\xfe", "no UTF-8"),
        ("a.csv", b"words\nx\n", "no column 'prompt'"),
        ("a.csv", b'prompt\n"x\n', "broken CSV"),
        ("a.csv", b"prompt\na red hat, worn\n", "put texts that hold commas in quotes"),
        ("a.csv", b"", "no column"),
        ("a.jsonl", b'{"prompt": 3}', "no text"),
        ("a.jsonl", b"[1]", "no JSON object"),
        ("a.jsonl", b"{", "broken JSON"),
        ("a.parquet", b"PAR1", "cannot be read"),
    ],
)
def test_a_list_that_cannot_be_read_is_refused_in_one_line(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CorpusError, match=says):
        read(tmp_path / name)


def test_mistakes_are_told_in_one_line(tmp_path, uri, capsys):
    prompts = asked(tmp_path, "p.txt", NEW)
    for more, says in (
        (["--score", "norms"], "did you mean"),
        (["--score", "norm"], "cannot be looked into"),
        (["--out", "x.xlsx"], "written as"),
        (["--seeds", "1"], "two noises or more"),
    ):
        assert main(["screen", prompts, "--model", uri, *more]) == 2
        assert says in capsys.readouterr().err
    assert main(["screen", str(tmp_path / "none.txt"), "--model", uri]) == 2
    with pytest.raises(ByroteError):
        api.screen(NEW, "parrot:" + str(tmp_path / "none.toml"))
