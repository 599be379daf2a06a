"""Parquet files and the Arrow files of save_to_disk."""

import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import specimens

from byrote import sources
from byrote.errors import CorpusError
from byrote.sources import parquet, texts
from byrote.testing import check_source

PNG = specimens.PICTURES[0]
SIX = specimens.PICTURES


def table(tmp_path, name="a.parquet", group=2, **columns):
    tmp_path.mkdir(exist_ok=True)
    pq.write_table(pa.table(columns), tmp_path / name, group)
    return sources.open(f"parquet:{tmp_path / name}")


def pictures(source):
    return [source.read(one.where) for one in source.list()]


def reason(source, where):
    with pytest.raises(OSError, match=r".") as raised:
        source.read(where)
    assert len(str(raised.value).splitlines()) == 1
    return str(raised.value)


@pytest.mark.parametrize("name", ["image", "jpg", "anything", "bytes"])
def test_pictures_are_the_column_that_holds_bytes_whatever_its_name(tmp_path, name):
    source = table(tmp_path, **{"key": list("abcdef"), name: SIX, "width": [1] * 6})
    assert pictures(source) == SIX
    check_source(source)


def test_of_several_columns_with_bytes_the_first_known_name_is_taken(tmp_path):
    assert pictures(table(tmp_path, embedding=[b"x"] * 6, png=[b"y"] * 6, image=SIX)) == SIX


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
def test_large_and_small_columns_are_read_alike(tmp_path, kind):
    image = pa.StructArray.from_arrays([pa.array(SIX, kind), pa.array([None] * 6, pa.string())], ["bytes", "path"])
    said = pa.array(["a", None, "", " c ", "d", "e"], pa.large_string())
    source = table(tmp_path, image=image, caption=said)
    assert pictures(source) == SIX
    assert [one.captions for one in source.list()] == [("a",), (), (), ("c",), ("d",), ("e",)]


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"text": ["t"], "caption": ["c"]}, ("t",)),
        ({"text": [""], "caption": ["c"]}, ("c",)),
        ({"TEXT": ["t"], "label": ["cat"]}, ("t",)),
        ({"captions": [["a", "b", None, "a"]]}, ("a", "b")),
        ({"label": ["cat"], "prompt": ["dog"]}, ()),
        ({"text": pa.array(["t"]).dictionary_encode()}, ("t",)),
        ({"text": pa.array([None], pa.null())}, ()),
    ],
)
def test_captions_are_those_of_the_first_column_that_has_any(tmp_path, columns, expected):
    (one,) = table(tmp_path, image=[PNG], **columns).list()
    assert one.captions == expected


def test_a_column_named_like_captions_that_holds_none_is_noted_once(tmp_path):
    source = table(tmp_path, image=SIX, caption=list(range(6)), text=list("abcdef"))
    assert [one.caption for one in source.list()] == list("abcdef")
    assert [(note.where, note.reason) for note in source.notes] == [
        ("a.parquet: caption", "a column that is named like captions and holds no texts")
    ]


def test_more_captions_than_a_picture_can_have_and_too_long_ones_are_left_out(tmp_path):
    many = [str(k) for k in range(texts.MAX_SEVERAL + 5)]
    source = table(tmp_path, image=SIX[:2], captions=[many, ["x" * (texts.MAX_TEXT + 1), "short"]])
    assert [one.captions for one in source.list()] == [tuple(many[: texts.MAX_SEVERAL]), ("short",)]
    assert [note.reason for note in source.notes] == [texts.TOO_MANY, texts.TOO_LONG]


def test_rows_are_read_in_any_order_across_row_groups(tmp_path):
    rows = [b"%d" % k for k in range(100)]
    source = table(tmp_path, group=33, image=rows)
    wheres = [one.where for one in source.list()]
    assert wheres[99] == "a.parquet#000000099"
    order = [99, 0, 50, 51, 49, 33, 32, 66, 17, 18, 16]
    assert [source.read(wheres[k]) for k in order] == [rows[k] for k in order]


def test_a_reading_in_order_decodes_each_row_once(tmp_path, monkeypatch):
    source = table(tmp_path, group=1000, image=[b"%d" % k for k in range(1000)])
    wheres = [one.where for one in source.list()]
    seen = []
    step = parquet.ParquetRows._next
    monkeypatch.setattr(parquet.ParquetRows, "_next", lambda rows: (seen.append(1), step(rows))[1])
    assert [source.read(where) for where in wheres] == [b"%d" % k for k in range(1000)]
    assert len(seen) <= 1000 / parquet.PICTURES_AT_ONCE + 1


def test_paths_are_those_of_files_beside_the_table_and_below(tmp_path):
    specimens.folder(tmp_path / "here" / "in")
    paths = ["in/00000.png", "./in/00001.jpeg", "in/../in/00002.webp", "gone.png", None, ""]
    source = table(tmp_path / "here", file_name=paths, text=list("abcdef"))
    listed = [one.where for one in source.list()]
    assert [source.read(where) for where in listed[:3]] == SIX[:3]
    assert reason(source, listed[3]) == "no such file"
    assert reason(source, listed[4]) == reason(source, listed[5]) == "no picture in this row"
    check_source(source)


@pytest.mark.parametrize("packed", [True, False])
def test_no_path_leaves_the_folder_of_the_table(tmp_path, packed):
    here = tmp_path / "here"
    here.mkdir()
    (tmp_path / "secret.png").write_bytes(b"secret")
    os.symlink(tmp_path / "secret.png", here / "link.png")
    paths = ["../secret.png", str(tmp_path / "secret.png"), "link.png", "a\0b", "."]
    image = [{"bytes": None, "path": path} for path in paths] if packed else paths
    source = table(here, image=pa.array(image))
    if packed:
        source = table(here, image=pa.array(image, pa.struct([("bytes", pa.binary()), ("path", pa.string())])))
    outside, leaves = "outside the folder", "a link that leaves the folder"
    told = [reason(source, one.where) for one in source.list()]
    assert told[:4] == [outside, outside, leaves, outside]


def test_a_file_without_pictures_is_told_with_its_columns(tmp_path):
    source = table(tmp_path, url=["http://x"], caption=["a"])
    assert [one.where for one in source.list()] == ["a.parquet#"]
    assert reason(source, "a.parquet#") == "no column of pictures or of their paths among ['url', 'caption']"


def test_a_broken_file_among_whole_ones_is_a_row(tmp_path):
    specimens.parquet(tmp_path / "x")
    data = (tmp_path / "x/b.parquet").read_bytes()
    (tmp_path / "x/b.parquet").write_bytes(data[:-100])
    (tmp_path / "x/c.parquet").write_bytes(b"")
    source = sources.open(str(tmp_path / "x"))
    assert [one.where for one in source.list()][4:] == ["b.parquet#", "c.parquet#"]
    assert [note.where for note in source.notes] == ["b.parquet", "c.parquet"]
    check_source(source)


def test_what_is_no_row_is_no_file(tmp_path):
    source = table(tmp_path, image=SIX)
    for where in ("a.parquet#6", "a.parquet#", "a.parquet#-1", "a.parquet#1x", "b.parquet#0", "a.parquet#\u0662"):
        with pytest.raises(FileNotFoundError):
            source.read(where)


def test_a_table_without_rows_is_told(tmp_path):
    with pytest.raises(CorpusError, match=r"has no rows, so no pictures"):
        list(table(tmp_path, image=pa.array([], pa.binary())).list())


def test_a_caption_of_megabytes_that_thousands_of_rows_share_takes_its_size_once(tmp_path):
    shared = pa.DictionaryArray.from_arrays(pa.array([0] * 100, pa.int32()), ["x" * 4_000_000])
    columns = pa.table({"image": [PNG] * 100, "text": shared})
    pq.write_table(columns, tmp_path / "a.parquet", dictionary_pagesize_limit=10**8)
    assert pa.default_memory_pool().max_memory() < 200_000_000
    source = sources.open(f"parquet:{tmp_path / 'a.parquet'}")
    assert [one.captions for one in source.list()] == [()] * 100
    assert pa.default_memory_pool().max_memory() < 200_000_000


def test_a_saved_dataset_without_splits_is_opened(tmp_path):
    root = specimens.saved(tmp_path / "x") / "train"
    source = sources.open(str(root))
    assert source.uri == f"hf:{root}"
    check_source(source)
    assert [one.captions for one in source.list()] == specimens.CAPTIONS


@pytest.mark.parametrize("name", ["../secret.arrow", "/etc/passwd", "..", "a/../../b", "", None, 3])
def test_a_saved_dataset_may_name_files_in_its_folder_only(tmp_path, name):
    root = specimens.saved(tmp_path / "x") / "train"
    (root / "state.json").write_text(json.dumps({"_data_files": [{"filename": name}]}))
    with pytest.raises(CorpusError, match=r"state.json names no files of data"):
        sources.open(str(root))


def test_a_saved_dataset_that_is_broken_or_no_dataset_is_told(tmp_path):
    root = specimens.saved(tmp_path / "x")
    (root / "train" / "state.json").write_text("{")
    with pytest.raises(CorpusError, match=r"no folder of save_to_disk: train/state.json: broken JSON"):
        sources.open(str(root))
    (root / "dataset_dict.json").write_text('{"splits": ["../x"]}')
    with pytest.raises(CorpusError, match=r"dataset_dict.json names no splits"):
        sources.open(str(root))


def test_a_truncated_arrow_file_is_a_row_with_its_reason(tmp_path):
    root = specimens.saved(tmp_path / "x")
    file = root / "train" / "data-00001-of-00002.arrow"
    file.write_bytes(file.read_bytes()[:-300])
    source = sources.open(str(root))
    listed = list(source.list())
    assert [one.where for one in listed][4:] == ["train/data-00001-of-00002.arrow#"]
    check_source(source)


def test_a_packed_arrow_file_that_unpacks_without_end_is_refused(tmp_path):
    root = specimens.saved(tmp_path / "x") / "train"
    zeros = pa.record_batch({"image": [bytes(2_000_000)] * 2})
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(root / "data-00001-of-00002.arrow", zeros.schema, options=options) as stream:
        stream.write_batch(zeros)
    source = sources.open(str(root))
    list(source.list())
    assert "it is larger than" in reason(source, "data-00001-of-00002.arrow#")


@pytest.mark.parametrize("lie", [0x7FFFFFFF, 0x80000000, 10**6])
def test_an_arrow_file_whose_offsets_lie_gives_a_reason_and_does_not_crash(tmp_path, lie):
    root = specimens.saved(tmp_path / "x") / "train"
    file = root / "data-00001-of-00002.arrow"
    data = bytearray(file.read_bytes())
    at = data.rindex((0).to_bytes(4, "little") + len(SIX[5]).to_bytes(4, "little"))  # where the last picture lies
    data[at + 4 : at + 8] = lie.to_bytes(4, "little")
    file.write_bytes(data)
    source = sources.open(str(root))
    listed = [one.where for one in source.list()]
    assert source.read(listed[-2]) == SIX[4]
    assert reason(source, listed[-1]).startswith("broken: ")


def test_an_arrow_file_whose_names_are_no_text_gives_a_reason(tmp_path):
    root = specimens.saved(tmp_path / "x") / "train"
    file = root / "data-00001-of-00002.arrow"
    file.write_bytes(file.read_bytes().replace(b"image", b"\xff\xfe\xffge"))
    assert "broken" in reason(sources.open(str(root)), "data-00001-of-00002.arrow#")
