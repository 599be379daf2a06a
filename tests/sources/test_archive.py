import io
import json
import zipfile
import zlib

import pytest
import specimens

from byrote import sources
from byrote.errors import CorpusError
from byrote.sources import archive
from byrote.testing import check_source

PNG = specimens.PICTURES[0]


def zipped(tmp_path, members, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(tmp_path / "x.zip", "w", method) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return sources.open(str(tmp_path / "x.zip"))


def reason(source, where):
    with pytest.raises(OSError, match=r".") as raised:
        source.read(where)
    assert len(str(raised.value).splitlines()) == 1
    return str(raised.value)


def test_captions_come_from_sidecars_and_from_metadata_in_any_folder_and_never_from_labels(tmp_path):
    members = {"a/1.png": PNG, "a/1.txt": b"side", "a/2.png": PNG, "3.png": PNG, "4.png": PNG}
    members["a/metadata.csv"] = b"file_name,text\n2.png,row\n2.png,another\n"
    members["metadata.jsonl"] = json.dumps({"file_name": "3.png", "caption": ["c", "d"]}).encode()
    members["dataset.json"] = json.dumps({"labels": [["4.png", 3]]}).encode()
    source = zipped(tmp_path, members)
    assert [(one.where, one.captions) for one in source.list()] == [
        ("3.png", ("c", "d")),
        ("4.png", ()),
        ("a/1.png", ("side",)),
        ("a/2.png", ("row", "another")),
    ]
    check_source(source)


def test_names_that_leave_are_labels_only_and_folders_and_hidden_names_are_skipped(tmp_path):
    names = ["../up.png", "/abs.png", "a\\b.png", ".hidden.png", "__MACOSX/._a.png", "in/.x/a.png"]
    source = zipped(tmp_path, {**dict.fromkeys(names, PNG), "empty.png/": b""})
    assert [one.where for one in source.list()] == sorted(["../up.png", "/abs.png", "a\\b.png"])
    assert {source.read(one.where) for one in source.list()} == {PNG}
    assert [path.name for path in tmp_path.iterdir()] == ["x.zip"]
    check_source(source)


def test_a_bomb_is_stopped_by_what_it_declares(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "MAX_FILE", 2**20)
    source = zipped(tmp_path, {"bomb.png": bytes(2**20 + 1), "a.png": PNG})
    assert reason(source, "bomb.png") == f"larger than {2**20} bytes"
    assert source.read("a.png") == PNG


def test_a_bomb_that_declares_too_little_gives_no_more_than_it_declares(tmp_path):
    zipped(tmp_path, {"a.png": bytes(50_000_000)})
    data = (tmp_path / "x.zip").read_bytes()
    lie = (100).to_bytes(4, "little")
    data = data.replace((50_000_000).to_bytes(4, "little"), lie)
    (tmp_path / "x.zip").write_bytes(data)
    source = sources.open(str(tmp_path / "x.zip"))
    assert reason(source, "a.png") == "broken: Bad CRC-32 for file 'a.png'"


@pytest.mark.parametrize(("method", "number"), [(zipfile.ZIP_BZIP2, 12), (zipfile.ZIP_LZMA, 14)])
def test_other_ways_of_packing_are_rows_with_a_reason(tmp_path, method, number):
    source = zipped(tmp_path, {"a.png": PNG}, method)
    (one,) = source.list()
    assert reason(source, one.where) == f"packed by method {number}: only stored and deflated members are read"


def test_encrypted_and_damaged_members_are_rows_with_a_reason(tmp_path):
    zipped(tmp_path, {"a.png": PNG, "b.png": PNG}, zipfile.ZIP_STORED)
    data = bytearray((tmp_path / "x.zip").read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    data[data.index(b"b.png") + 5 + 20] ^= 1
    (tmp_path / "x.zip").write_bytes(data)
    source = sources.open(str(tmp_path / "x.zip"))
    assert reason(source, "a.png") == "encrypted"
    assert reason(source, "b.png") == "broken: Bad CRC-32 for file 'b.png'"
    check_source(source)


def test_of_two_members_with_one_name_the_last_is_taken_and_noted(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
        file.writestr("a.png", b"first")
        with pytest.warns(UserWarning, match="Duplicate"):
            file.writestr("a.png", PNG)
    source = sources.open(str(tmp_path / "x.zip"))
    assert [source.read(one.where) for one in source.list()] == [PNG]
    assert [note.reason for note in source.notes] == ["of members with one name the last is taken"]


def test_a_truncated_archive_and_one_without_pictures_are_told(tmp_path):
    zipped(tmp_path, {"a.txt": b"x"})
    with pytest.raises(CorpusError, match=r"archive '.*' has no pictures"):
        list(sources.open(str(tmp_path / "x.zip")).list())
    data = (tmp_path / "x.zip").read_bytes()
    (tmp_path / "x.zip").write_bytes(data[:-10])
    with pytest.raises(CorpusError, match=r"cannot be read: broken: File is not a zip file"):
        list(sources.open(str(tmp_path / "x.zip")).list())


def test_an_archive_that_changes_is_read_again(tmp_path):
    assert [one.where for one in zipped(tmp_path, {"a.png": PNG}).list()] == ["a.png"]
    assert [one.where for one in zipped(tmp_path, {"b.png": PNG, "c.png": PNG}).list()] == ["b.png", "c.png"]


def test_a_stored_member_of_a_deflated_stream_is_what_zlib_says(tmp_path):
    source = zipped(tmp_path, {"a.png": PNG})
    with zipfile.ZipFile(io.BytesIO((tmp_path / "x.zip").read_bytes())) as file:
        assert zlib.crc32(source.read("a.png")) == file.getinfo("a.png").CRC


def test_a_member_without_a_name_is_passed_over(tmp_path):
    zipped(tmp_path, {"a.png": PNG, "b.png": PNG}, zipfile.ZIP_STORED)
    data = (tmp_path / "x.zip").read_bytes()
    (tmp_path / "x.zip").write_bytes(data.replace(b"b.png", b"\0.png"))
    assert [one.where for one in sources.open(str(tmp_path / "x.zip")).list()] == ["a.png"]
