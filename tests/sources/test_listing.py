import pytest
import specimens

from byrote import sources
from byrote.errors import CorpusError
from byrote.sources import Note
from byrote.testing import check_source

SIX = specimens.PICTURES


def listed(tmp_path, name, text):
    if not (tmp_path / "in").exists():
        specimens.folder(tmp_path / "in")
    (tmp_path / name).write_text(text)
    return sources.open(str(tmp_path / name))


def test_a_path_a_line_relative_to_the_list_and_each_once(tmp_path):
    source = listed(tmp_path, "a.txt", "\ufeffin/00000.png\r\n\r\n  ./in/00001.jpeg \nin/00000.png\nin/x y.png\n")
    assert [one.where for one in source.list()] == ["in/00000.png", "in/00001.jpeg", "in/x y.png"]
    assert [one.size for one in source.list()] == [len(SIX[0]), len(SIX[1]), -1]
    assert source.read("in/00000.png") == SIX[0]
    check_source(source)


@pytest.mark.parametrize("column", ["file_name", "path", "image"])
def test_tables_give_captions_and_rows_of_one_picture_add_theirs(tmp_path, column):
    rows = "in/00000.png,one\nin/00000.png,two\nin/00000.png,one\nin/00001.jpeg,\n"
    source = listed(tmp_path, "a.csv", f"{column},caption\n{rows}")
    assert [one.captions for one in source.list()] == [("one", "two"), ()]
    source = listed(tmp_path, "a.jsonl", f'{{"{column}": "in/00000.png", "captions": ["a", "b", 3]}}\n')
    assert [one.captions for one in source.list()] == [("a", "b")]
    assert source.notes == [Note("line 1", "a caption that is no text")]


def test_a_list_on_this_machine_may_name_any_path(tmp_path):
    specimens.folder(tmp_path / "in")
    (tmp_path / "lists").mkdir()
    source = listed(tmp_path, "lists/a.txt", f"../in/00000.png\n{tmp_path}/in/00001.jpeg\n{tmp_path}\n/dev/zero\n")
    assert source.read("../in/00000.png") == SIX[0]
    assert source.read(f"{tmp_path}/in/00001.jpeg") == SIX[1]
    for where, told in ((str(tmp_path), "not a file|is a directory"), ("/dev/zero", "not a regular file")):
        with pytest.raises(OSError, match=told):
            source.read(where)
    check_source(source)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.txt", "\n \n", "names no files: write a path a line"),
        ("a.csv", "url,caption\nx,y\n", "line 1 has no column 'file_name' or "),
        ("a.csv", "path\na,b\n", "line 2 has 2 fields, the header has 1"),
        ("a.jsonl", '{"path": 3}\n', "line 1 has no 'file_name'"),
        ("a.jsonl", "[1]\n", "line 1 is no JSON object"),
    ],
)
def test_a_list_that_says_nothing_is_told_in_one_line(tmp_path, name, text, told):
    with pytest.raises(CorpusError) as raised:
        list(listed(tmp_path, name, text).list())
    assert told in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


def test_a_list_that_is_no_text_is_told(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"caf\xe9.png\n")
    with pytest.raises(CorpusError, match=r"line 1 is no UTF-8: save the file as UTF-8"):
        list(sources.open(str(tmp_path / "a.txt")).list())
