import io
import json
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import specimens

from byrote import sources
from byrote.errors import CorpusError
from byrote.sources import Note, shards
from byrote.sources.shards import MAX_EXTENDED
from byrote.sources.tree import MAX_SIDECAR
from byrote.testing import check_source

PNG = specimens.PICTURES[0]


def shard(tmp_path, members, name="00000.tar", **options):
    return specimens.tar(tmp_path / name, members, **options)


def captions(place):
    return {one.where: one.captions for one in sources.open(str(place)).list()}


def reason(source, where):
    with pytest.raises(OSError, match=r".") as raised:
        source.read(where)
    return str(raised.value)


def test_members_are_one_sample_by_the_name_up_to_its_first_dot(tmp_path):
    members = {"a/1.seg.png": PNG, "a/1.jpg": PNG, "a/1.txt": b"of a", "1.png": PNG, "1.txt": b"top", "b.1.txt": b"not"}
    place = shard(tmp_path, members)
    assert captions(place) == {
        "00000.tar/1.png": ("top",),
        "00000.tar/a/1.jpg": ("of a",),
        "00000.tar/a/1.seg.png": ("of a",),
    }


def test_a_caption_is_of_the_text_else_of_the_json_else_of_the_table_beside(tmp_path):
    told = {"caption": ["one", "two", " "], "text": None}
    members = {f"{k}.png": PNG for k in "abcd"}
    members |= {"a.txt": b" txt\n", "a.json": json.dumps(told).encode(), "b.json": json.dumps(told).encode()}
    members |= {"b.txt": b"  ", "c.json": b'{"caption": ""}'}
    place = shard(tmp_path, members)
    pq.write_table(pa.table({"key": list("abcd"), "caption": ["1", "2", "3", None]}), tmp_path / "00000.parquet")
    assert list(captions(place).values()) == [("txt",), ("one", "two"), ("3",), ()]


def test_broken_captions_lose_no_picture_and_are_noted(tmp_path):
    members = {f"{k}.png": PNG for k in "abcde"}
    members |= {"a.txt": b"caf\xe9", "b.json": b"{", "c.json": b"[1]", "d.txt": b"x" * (MAX_SIDECAR + 1)}
    members |= {"e.json": b"[" * 100_000}
    source = sources.open(str(shard(tmp_path, members)))
    (tmp_path / "00000.parquet").write_bytes(b"PAR1 no PAR1")
    assert [one.captions for one in source.list()] == [()] * 5
    told = {note.where: note.reason for note in source.notes}
    assert told.pop("00000.parquet").startswith("captions that cannot be read: ")
    assert told == {
        "00000.tar/a.txt": "a caption that is no UTF-8",
        "00000.tar/b.json": "a caption file that is broken JSON",
        "00000.tar/c.json": "a caption file that is no JSON object",
        "00000.tar/d.txt": f"a caption that cannot be read: larger than {MAX_SIDECAR} bytes",
        "00000.tar/e.json": "a caption file that is broken JSON",
    }


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_and_odd_names_come_through_every_dialect_of_tar(tmp_path, format):
    stem = "zwölf/" + "x" * 90
    place = shard(tmp_path, {f"{stem}.png": PNG, f"{stem}.txt": b"long", "\udcff.png": PNG}, format=format)
    assert captions(place) == {f"00000.tar/{stem}.png": ("long",), "00000.tar/\\xff.png": ()}
    check_source(sources.open(str(place)))


def test_names_of_hundreds_of_letters_come_through(tmp_path):
    stem = "y" * 700
    for format in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        assert captions(shard(tmp_path, {f"{stem}.png": PNG}, format=format)) == {f"00000.tar/{stem}.png": ()}


def test_a_second_member_of_the_same_name_is_a_picture_of_its_own(tmp_path):
    with tarfile.open(tmp_path / "0.tar", "w") as file:
        for data in specimens.PICTURES[:3]:
            info = tarfile.TarInfo("a.png")
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    source = sources.open(str(tmp_path / "0.tar"))
    assert [one.where for one in source.list()] == ["0.tar/a.png", "0.tar/a.png#2", "0.tar/a.png#3"]
    assert [source.read(one.where) for one in source.list()] == specimens.PICTURES[:3]
    check_source(source)


def test_names_that_leave_are_labels_only(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "secret.png").write_bytes(b"secret")
    names = ["../secret.png", str(tmp_path / "secret.png"), "a/../../secret.png"]
    source = sources.open(str(shard(tmp_path / "in", dict.fromkeys(names, PNG))))
    assert {source.read(one.where) for one in source.list()} == {PNG}
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["00000.tar", "in", "secret.png"]


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (tarfile.SYMTYPE, "a link, not a file"),
        (tarfile.LNKTYPE, "a link, not a file"),
        (tarfile.FIFOTYPE, "not a regular file"),
        (tarfile.CHRTYPE, "not a regular file"),
        (tarfile.BLKTYPE, "not a regular file"),
        (tarfile.GNUTYPE_SPARSE, "a sparse member"),
    ],
)
def test_members_that_are_no_files_are_rows_with_a_reason(tmp_path, kind, told):
    with tarfile.open(tmp_path / "0.tar", "w") as file:
        odd, plain = tarfile.TarInfo("a.png"), tarfile.TarInfo("b.png")
        odd.type, odd.linkname, plain.size = kind, "/etc/passwd", len(PNG)
        file.addfile(odd)
        file.addfile(plain, io.BytesIO(PNG))
    source = sources.open(str(tmp_path / "0.tar"))
    assert [one.where for one in source.list()] == ["0.tar/a.png", "0.tar/b.png"]
    assert reason(source, "0.tar/a.png") == told
    assert source.read("0.tar/b.png") == PNG
    check_source(source)


def test_a_truncated_shard_gives_what_is_whole_and_a_reason_for_the_rest(tmp_path):
    place = shard(tmp_path, {f"{k}.png": specimens.encoded(k, "BMP") for k in range(3)})
    place.write_bytes(place.read_bytes()[: 512 * 5])
    source = sources.open(str(place))
    assert [one.where for one in source.list()] == ["00000.tar/0.png", "00000.tar/1.png"]
    assert source.notes == [Note("00000.tar", "the shard ends too early: it is truncated")]
    assert len(source.read("00000.tar/0.png")) > 0
    assert reason(source, "00000.tar/1.png") == "truncated"


def test_a_shard_that_is_broken_in_the_middle_gives_what_comes_before(tmp_path):
    place = shard(tmp_path, {f"{k}.png": PNG for k in range(3)})
    data = bytearray(place.read_bytes())
    data[512 * 4 + 150] ^= 1  # in the checksum of the second member, or of what comes there
    at = data.index(b"1.png")
    data[at + 149] ^= 1
    place.write_bytes(data)
    source = sources.open(str(place))
    assert [one.where for one in source.list()] == ["00000.tar/0.png"]
    assert source.notes[0].reason.startswith(f"broken after {at} bytes (bad checksum)")


def test_a_shard_that_is_not_there_or_no_tar_is_a_row_with_its_reason(tmp_path):
    shard(tmp_path, {"a.png": PNG}, "00001.tar")
    (tmp_path / "00002.tar").write_bytes(b"no tar" * 200)
    (tmp_path / "00003.tar").write_bytes(b"")
    source = sources.open(str(tmp_path / "{00000..00003}.tar"))
    assert [one.where for one in source.list()] == ["00000.tar/", "00001.tar/a.png", "00002.tar/", "00003.tar/"]
    assert reason(source, "00000.tar/") == "no such file"
    assert reason(source, "00002.tar/") == "not a tar file"
    assert "truncated" in reason(source, "00003.tar/")
    check_source(source)


def test_an_extended_header_that_claims_gigabytes_is_not_read(tmp_path):
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, MAX_EXTENDED + 1
    place = tmp_path / "0.tar"
    body = bytes(-(-header.size // 512) * 512)
    member = tarfile.TarInfo("a.png")
    member.size = len(PNG)
    data = header.tobuf(tarfile.USTAR_FORMAT) + body + member.tobuf(tarfile.USTAR_FORMAT) + PNG.ljust(1024, b"\0")
    place.write_bytes(data + bytes(1024))
    source = sources.open(str(place))
    assert [one.where for one in source.list()] == ["0.tar/a.png"]
    assert reason(source, "0.tar/a.png") == f"an extended header of {MAX_EXTENDED + 1} bytes"


def test_shards_are_found_in_subfolders_and_by_patterns_in_one_order(tmp_path):
    for name in ("a/00000.tar", "a/00001.tar", "a-b/00000.tar", "b/00000.tar"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shard(tmp_path, {"x.png": PNG}, name)
    found = ["a-b/00000.tar/x.png", "a/00000.tar/x.png", "a/00001.tar/x.png", "b/00000.tar/x.png"]
    assert list(captions(f"tar:{tmp_path}")) == found
    assert list(captions(tmp_path / "{a,a-b,b}" / "0000?.tar")) == found
    assert list(captions(tmp_path / "a" / "{00001..00001}.tar")) == ["00001.tar/x.png"]


def test_a_pattern_for_billions_of_shards_is_refused(tmp_path):
    with pytest.raises(CorpusError, match=r"stands for more than 1048576 files"):
        sources.open(f"tar:{tmp_path}/{{0..9}}{{000000000..999999999}}.tar")


def test_a_shard_that_changes_is_read_again(tmp_path):
    place = shard(tmp_path, {"a.png": PNG})
    assert list(captions(place)) == ["00000.tar/a.png"]
    shard(tmp_path, {"b.png": PNG, "c.png": PNG})
    assert list(captions(place)) == ["00000.tar/b.png", "00000.tar/c.png"]


def test_shards_without_pictures_and_packed_shards_are_told_in_one_line(tmp_path):
    place = shard(tmp_path, {"a.txt": b"hello"})
    with pytest.raises(CorpusError, match=r"has no pictures: members that end in"):
        list(sources.open(str(place)).list())
    place.rename(tmp_path / "00000.tar.gz")
    with pytest.raises(CorpusError, match=r"'00000.tar.gz' is packed: unpack it to a .tar"):
        sources.open(f"tar:{tmp_path}")


def test_captions_are_held_up_to_a_limit_for_each_shard(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "MAX_CAPTIONS", 10)
    members = {"a.png": PNG, "a.txt": b"123456", "b.png": PNG, "b.txt": b"12345", "c.png": PNG, "c.txt": b"1234"}
    source = sources.open(str(shard(tmp_path, members)))
    assert [one.captions for one in source.list()] == [("123456",), (), ("1234",)]
    assert [(note.where, note.reason) for note in source.notes] == [
        ("00000.tar/b.txt", "captions after 10 characters are left out")
    ]


def test_a_second_listing_sees_a_shard_that_changed(tmp_path):
    source = sources.open(str(shard(tmp_path, {"a.png": PNG})))
    assert [one.where for one in source.list()] == ["00000.tar/a.png"]
    shard(tmp_path, {"b.png": PNG, "c.png": PNG})
    assert [one.where for one in source.list()] == ["00000.tar/b.png", "00000.tar/c.png"]
