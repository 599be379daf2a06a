"""Duplicates as tables: they read back as they were written, and keep one file of each group."""

import csv
import json

import pyarrow.parquet as pq
import pytest

import byrote
from byrote import api, images
from byrote.cli import main
from byrote.errors import ByroteError, StoreError

from .shots import compressed, cropped, digest, field, fields, fill, mirrored

HOSTILE = 'a "quoted", caption;\nof two lines, =1+1 and \u202e\U0001f600'


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Make a corpus with a group of four and one of two that touches the controls; nobody changes it."""
    root = tmp_path_factory.mktemp("export")
    one, small = field(3, 96, 96), field(4, 64, 64)
    pictures = {
        "one, small.png": images.resize(one, 72, 72),
        "b-one.png": one,
        "c-copy.png": images.encode_png(one),
        "d-crop.png": cropped(one),
        "small.png": small,
    }
    fill(root / "in", pictures | fields(range(20, 24)), {"b-one.png": HOSTILE, "small.png": "a caption"})
    fill(root / "out", {"large.png": mirrored(field(4, 64, 64)), "other.png": field(90)})
    byrote.index(root / "in", corpus=root / "corpus", held_out=root / "out")
    return root


def written(root, folder, suffix):
    out, pairs = folder / f"out{suffix}", folder / f"pairs{suffix}"
    return api.duplicates(root / "corpus", out=out, pairs=pairs), *(read(path) for path in (out, pairs))


def read(path):
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_csv_and_parquet_hold_the_same_rows(root, tmp_path):
    _, rows, pairs = written(root, tmp_path, ".parquet")
    _, rows_csv, pairs_csv = written(root, tmp_path, ".csv")
    assert len(rows) == len(rows_csv) == 11
    assert len(pairs) == len(pairs_csv) > 0
    for ours, theirs in zip(rows + pairs, rows_csv + pairs_csv, strict=True):
        assert list(ours) == list(theirs)
        for name, value in ours.items():
            if isinstance(value, bool):
                assert theirs[name] == ("true" if value else "false")
            elif isinstance(value, float):
                assert float(theirs[name]) == value
            else:
                assert theirs[name] == ("" if value is None else str(value))
    assert {row["where"]: row["caption"] for row in rows}["b-one.png"] == HOSTILE


def test_every_file_has_a_row_and_each_group_keeps_exactly_one(root, tmp_path):
    told, rows, _ = written(root, tmp_path, ".parquet")
    groups = {}
    for row in rows:
        groups.setdefault(row["group"], []).append(row)
    assert (told["files"], told["groups"]) == (len(rows), len(groups)) == (11, 7)
    assert sorted(len(group) for group in groups.values()) == [1, 1, 1, 1, 1, 2, 4]
    for group in groups.values():
        assert sum(row["keep"] for row in group) == 1
        assert all(row["files"] == len(group) for row in group)
    assert len({(row["side"], row["where"]) for row in rows}) == 11
    assert [row["files"] for row in rows] == sorted((row["files"] for row in rows), reverse=True)


def test_the_largest_is_kept_then_the_most_bytes_then_the_first(root, tmp_path):
    _, rows, _ = written(root, tmp_path, ".parquet")
    kept = {row["where"] for row in rows if row["keep"] and row["files"] > 1}
    assert kept == {"b-one.png", "small.png"}, "of two alike the first; a picture before a control"
    fill(tmp_path / "in", {"a.jpg": images.encode_jpeg(field(3)), "b.png": field(3), "c.png": field(8)})
    byrote.index(tmp_path / "in", corpus=tmp_path / "c")
    api.duplicates(tmp_path / "c", out=tmp_path / "o.parquet")
    rows = read(tmp_path / "o.parquet")
    assert {row["where"] for row in rows if row["keep"]} == {"b.png", "c.png"}


def test_pairs_name_their_files_and_say_how_they_lie(root, tmp_path):
    _, _, pairs = written(root, tmp_path, ".parquet")
    places = {frozenset({row["where_a"], row["where_b"]}): row for row in pairs}
    crop = places[frozenset({"b-one.png", "d-crop.png"})]
    assert (crop["where_a"], crop["where_b"], crop["turn"]) == ("b-one.png", "d-crop.png", "as it is")
    assert (crop["digest_a"], crop["digest_b"]) == (digest(field(3, 96, 96)), digest(cropped(field(3, 96, 96))))
    assert crop["left"] == pytest.approx(0.1, abs=0.03)
    assert places[frozenset({"small.png", "large.png"})]["turn"] == "mirrored"
    told = [row["evidence"] for row in pairs if row["evidence"] is not None]
    assert told == sorted(told, reverse=True)


def test_a_table_is_the_same_every_time(root, tmp_path):
    for suffix in (".csv", ".parquet"):
        written(root, tmp_path, suffix)
        before = (tmp_path / f"out{suffix}").read_bytes(), (tmp_path / f"pairs{suffix}").read_bytes()
        written(root, tmp_path, suffix)
        assert ((tmp_path / f"out{suffix}").read_bytes(), (tmp_path / f"pairs{suffix}").read_bytes()) == before


@pytest.mark.parametrize("name", ["out.xlsx", "out", "out.CSV.gz"])
def test_another_suffix_is_refused_in_one_line_before_anything_is_computed(tmp_path, capsys, name):
    byrote.index(fill(tmp_path / "in", {"a.png": field(1), "b.jpg": compressed(field(1))}), corpus=tmp_path / "c")
    before = (tmp_path / "c" / "ledger.jsonl").read_bytes()
    with pytest.raises(ByroteError, match=r"a table is written as \.csv or \.parquet"):
        api.duplicates(tmp_path / "c", out=tmp_path / name)
    assert main(["duplicates", "--corpus", str(tmp_path / "c"), "--pairs", str(tmp_path / name)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / name).exists()
    assert (tmp_path / "c" / "ledger.jsonl").read_bytes() == before


def test_a_folder_that_is_not_there_is_told(root, tmp_path):
    with pytest.raises(StoreError, match="cannot be written: No such file"):
        api.duplicates(root / "corpus", out=tmp_path / "nowhere" / "out.csv")


def test_the_command_line_writes_both(root, tmp_path, capsys):
    out, pairs = tmp_path / "o.csv", tmp_path / "p.parquet"
    arguments = ["duplicates", "--corpus", str(root / "corpus"), "--out", str(out), "--pairs", str(pairs), "--json"]
    assert main(arguments) == 0
    told = json.loads(capsys.readouterr().out)
    assert len(read(out)) == told["files"] == 11
    assert len(read(pairs)) == told["pairs"]
    assert told["spare"] == told["files"] - told["groups"]
