import json
import os
import time
from pathlib import Path

import broken
import pytest
from hypothesis import given
from hypothesis import strategies as st

from byrote import sources
from byrote.errors import CorpusError
from byrote.images import Undecodable, decode
from byrote.sources.folder import MAX_FILE, MAX_SIDECAR, Folder, Note

PNG = broken.saved(broken.quarters(), "PNG")
needs_links = pytest.mark.skipif(not hasattr(os, "symlink"), reason="no symbolic links here")
needs_pipes = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
needs_raw_names = pytest.mark.skipif(os.name == "nt", reason="file names are no bytes here")


def fill(folder, *names, **captions):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(PNG)
    for stem, caption in captions.items():
        (folder / f"{stem}.txt").write_bytes(caption if isinstance(caption, bytes) else caption.encode())


def jsonl(folder, *rows):
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def places(folder):
    return [listed.where for listed in Folder(folder).list()]


def captions(folder):
    return {listed.where: listed.caption for listed in Folder(folder).list()}


def reason(folder, where):
    with pytest.raises(OSError, match=r".") as raised:
        Folder(folder).read(where)
    assert "\n" not in str(raised.value)
    assert str(folder) not in str(raised.value)
    return str(raised.value)


def complaint(folder, call=lambda folder: list(Folder(folder).list())):
    with pytest.raises(CorpusError) as raised:
        call(folder)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_pictures_are_found_in_all_subfolders_and_sorted_by_their_place(tmp_path):
    fill(tmp_path, "b.png", "a/z.JPG", "a/b/c.webp", "a-b.gif", "B.TIFF")
    assert places(tmp_path) == sorted(["b.png", "a/z.JPG", "a/b/c.webp", "a-b.gif", "B.TIFF"])


def test_size_and_time_of_change_are_those_of_the_file(tmp_path):
    fill(tmp_path, "a.png")
    os.utime(tmp_path / "a.png", ns=(5, 1_600_000_000_123_456_789))
    (listed,) = Folder(tmp_path).list()
    assert (listed.size, listed.modified) == (len(PNG), (tmp_path / "a.png").stat().st_mtime_ns)
    assert Folder(tmp_path).read(listed.where) == PNG


def test_hidden_names_and_files_that_are_no_pictures_are_skipped(tmp_path):
    fill(tmp_path, "a.png", ".b.png", ".hidden/c.png", "README.md", "data.json", "noise", "x.txt", "y.png.bak")
    assert places(tmp_path) == ["a.png"]


def test_the_uri_is_the_absolute_path_however_it_was_given(tmp_path, monkeypatch):
    fill(tmp_path, "in/a.png")
    monkeypatch.chdir(tmp_path)
    assert Folder(Path("in")).uri == sources.open(str(tmp_path / "x" / ".." / "in")).uri == str(tmp_path / "in")


def test_a_caption_comes_from_the_sidecar(tmp_path):
    fill(tmp_path, "a.png", "b.jpg", "c.png", a=" red hair,\nround glasses \n", b="\ufeffzwölf 🎂 ١٢")
    assert captions(tmp_path) == {"a.png": "red hair,\nround glasses", "b.jpg": "zwölf 🎂 ١٢", "c.png": None}


def test_an_empty_sidecar_is_no_caption(tmp_path):
    fill(tmp_path, "a.png", "b.png", a="", b=" \t\n\u2003")
    assert captions(tmp_path) == {"a.png": None, "b.png": None}


def test_a_broken_sidecar_loses_its_caption_but_not_its_picture(tmp_path):
    fill(tmp_path, "a.png", "b.png", "c.png", a=b"caf\xe9", b=b"x" * (MAX_SIDECAR + 1), c="fine")
    folder = Folder(tmp_path)
    assert [listed.caption for listed in folder.list()] == [None, None, "fine"]
    assert folder.notes == [
        Note("a.txt", "a caption that is no UTF-8"),
        Note("b.txt", f"a caption that cannot be read: larger than {MAX_SIDECAR} bytes"),
    ]
    (tmp_path / "a.txt").write_text("mended")
    (tmp_path / "b.txt").write_text("too")
    list(folder.list())
    assert folder.notes == []


def test_metadata_gives_captions_relative_to_itself(tmp_path):
    fill(tmp_path, "a.png", "in/b.png", "in/deep/c.png")
    (tmp_path / "in/metadata.csv").write_bytes(
        b'\xef\xbb\xbffile_name,text\r\n./b.png,"a coat, ""green"""\r\ndeep/c.png,"two\nlines"\r\n\r\n'
    )
    jsonl(tmp_path, {"file_name": "a.png", "text": "from the top"})
    assert captions(tmp_path) == {
        "a.png": "from the top",
        "in/b.png": 'a coat, "green"',
        "in/deep/c.png": "two\nlines",
    }


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"text": "t", "caption": "c"}, "t"),
        ({"caption": "c"}, "c"),
        ({"text": "", "caption": "c"}, "c"),
        ({"text": None, "caption": " "}, None),
        ({}, None),
        ({"text": "\ud800 lone \udfff", "label": 3}, "\ufffd lone \ufffd"),
        ({"text": "\ud83c\udf82 \u0000 \u202e"}, "🎂 \0 \u202e"),
    ],
)
def test_the_caption_is_text_else_caption(tmp_path, row, expected):
    fill(tmp_path, "a.png")
    jsonl(tmp_path, {"file_name": "a.png"} | row)
    assert captions(tmp_path) == {"a.png": expected}


@given(st.text(st.characters(), max_size=30))
def test_any_caption_comes_through_json_as_text_that_utf8_can_hold(tmp_path_factory, text):
    folder = tmp_path_factory.mktemp("any")
    fill(folder, "a.png")
    jsonl(folder, {"file_name": "a.png", "text": text})
    caption = captions(folder)["a.png"]
    joined = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert caption == (joined.strip() or None)
    assert caption is None or caption.encode()


def test_a_caption_that_is_no_text_is_noted(tmp_path):
    fill(tmp_path, "a.png")
    jsonl(tmp_path, {"file_name": "a.png", "text": {"one": "two"}})
    folder = Folder(tmp_path)
    assert [listed.caption for listed in folder.list()] == [None]
    assert Note("metadata.jsonl, line 1", "a caption that is no text") in folder.notes


def test_the_sidecar_wins_over_metadata_and_the_captions_of_several_rows_are_kept_in_their_order(tmp_path):
    fill(tmp_path, "a.png", "b.png", "c.png", a="sidecar")
    rows = [("a.png", "one"), ("b.png", "two"), ("b.png", "three"), ("b.png", "two"), ("c.png", ["x", "y", " "])]
    jsonl(tmp_path, *({"file_name": name, "text": text} for name, text in rows))
    folder = Folder(tmp_path)
    assert [listed.captions for listed in folder.list()] == [("sidecar",), ("two", "three"), ("x", "y")]
    assert folder.notes == []


def test_a_changed_caption_is_seen_by_the_next_listing(tmp_path):
    fill(tmp_path, "a.png")
    folder = Folder(tmp_path)
    seen = []
    for text in ("before", "after"):
        (tmp_path / "metadata.csv").write_text(f"file_name,caption\na.png,{text}\n")
        seen += [listed.caption for listed in folder.list()]
    assert seen == ["before", "after"]


def test_metadata_may_name_pictures_without_a_known_suffix(tmp_path):
    fill(tmp_path, "0123abcd", "a.png")
    jsonl(tmp_path, {"file_name": "0123abcd", "text": "named"})
    assert captions(tmp_path) == {"0123abcd": "named", "a.png": None}
    assert Folder(tmp_path).read("0123abcd") == PNG


def test_metadata_without_any_caption_is_noted(tmp_path):
    fill(tmp_path, "a.png")
    (tmp_path / "metadata.csv").write_text("file_name,prompt\na.png,hello\n")
    folder = Folder(tmp_path)
    assert [listed.caption for listed in folder.list()] == [None]
    assert folder.notes == [Note("metadata.csv", "no captions: neither 'text' nor 'caption' is filled in")]


def test_a_named_file_that_is_absent_is_listed_and_has_its_reason(tmp_path):
    fill(tmp_path, "a.png")
    jsonl(tmp_path, {"file_name": "gone.png", "text": "x"}, {"file_name": "a\0.png", "text": "y"})
    listed = {one.where: one for one in Folder(tmp_path).list()}
    assert (listed["gone.png"].caption, listed["gone.png"].size, listed["gone.png"].modified) == ("x", -1, 0)
    with pytest.raises(FileNotFoundError, match=r"^no such file$"):
        Folder(tmp_path).read("gone.png")
    assert reason(tmp_path, "a\0.png") == "outside the folder"


@pytest.mark.parametrize("name", ["../secret.png", "in/../../secret.png", "{absolute}", "..", "in/../.."])
def test_nothing_outside_the_folder_is_ever_read(tmp_path, name):
    fill(tmp_path, "secret.png", "pictures/in/a.png")
    name = name.format(absolute=tmp_path / "secret.png")
    jsonl(tmp_path / "pictures", {"file_name": name, "text": "x"})
    outside = [one for one in Folder(tmp_path / "pictures").list() if one.size == -1]
    assert [one.caption for one in outside] == ["x"]
    for where in (name, outside[0].where):
        assert reason(tmp_path / "pictures", where) == "outside the folder"


def test_metadata_may_step_up_as_long_as_it_stays_inside(tmp_path):
    fill(tmp_path, "a.png", "in/b.png")
    jsonl(tmp_path / "in", {"file_name": "../a.png", "text": "up"})
    assert captions(tmp_path)["a.png"] == "up"


@needs_links
def test_a_link_that_leaves_the_folder_is_a_row_with_its_reason(tmp_path):
    fill(tmp_path, "secret.png", "pictures/a.png")
    (tmp_path / "secret.txt").write_text("a secret")
    inside = tmp_path / "pictures"
    (inside / "out.png").symlink_to(tmp_path / "secret.png")
    (inside / "a.txt").symlink_to(tmp_path / "secret.txt")
    (inside / "back.png").symlink_to("../pictures/a.png")
    (inside / "gone.png").symlink_to("nothing.png")
    (inside / "round.png").symlink_to("round.png")
    folder = Folder(inside)
    assert [one.where for one in folder.list()] == ["a.png", "back.png", "gone.png", "out.png", "round.png"]
    assert captions(inside)["a.png"] is None
    assert folder.notes == [Note("a.txt", "a caption that cannot be read: a link that leaves the folder")]
    assert folder.read("back.png") == PNG
    assert reason(inside, "out.png") == "a link that leaves the folder"
    assert reason(inside, "gone.png") == "no such file"
    assert reason(inside, "round.png")


@needs_links
def test_a_sibling_whose_name_begins_like_the_folder_is_outside(tmp_path):
    fill(tmp_path, "pictures/a.png", "pictures-private/b.png")
    (tmp_path / "pictures/b.png").symlink_to(tmp_path / "pictures-private/b.png")
    assert reason(tmp_path / "pictures", "b.png") == "a link that leaves the folder"


@needs_links
def test_a_link_to_a_folder_is_noted_and_a_linked_root_is_fine(tmp_path):
    fill(tmp_path, "pictures/a.png", "other/b.png")
    (tmp_path / "pictures/more").symlink_to(tmp_path / "other")
    (tmp_path / "pictures/circle").symlink_to(tmp_path / "pictures")
    (tmp_path / "root").symlink_to("pictures")
    folder = Folder(tmp_path / "root")
    assert [one.where for one in folder.list()] == ["a.png"]
    assert folder.read("a.png") == PNG
    assert {note.where for note in folder.notes} == {"more", "circle"}


@needs_links
def test_a_metadata_file_that_leads_outside_is_refused(tmp_path):
    fill(tmp_path, "pictures/a.png")
    jsonl(tmp_path, {"file_name": "a.png", "text": "secret"})
    (tmp_path / "pictures/metadata.jsonl").symlink_to(tmp_path / "metadata.jsonl")
    assert "a link that leaves the folder" in complaint(tmp_path / "pictures")


@needs_pipes
def test_a_pipe_or_a_folder_in_a_pictures_place_does_not_block(tmp_path):
    fill(tmp_path, "a.png", "b.png/c.png")
    os.mkfifo(tmp_path / "pipe.png")
    os.mkfifo(tmp_path / "a.txt")
    began = time.monotonic()
    assert places(tmp_path) == ["a.png", "b.png/c.png", "pipe.png"]
    assert reason(tmp_path, "pipe.png") == "not a regular file"
    assert reason(tmp_path, "b.png") == "a folder, not a file"
    assert time.monotonic() - began < 2


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    with open(tmp_path / "huge.png", "wb") as file:
        file.truncate(MAX_FILE + 1)
    assert reason(tmp_path, "huge.png") == f"larger than {MAX_FILE} bytes"


@needs_raw_names
def test_a_file_name_that_is_no_utf8_is_listed_as_text_and_read_back(tmp_path):
    try:
        (tmp_path / os.fsdecode(b"caf\xe9.png")).write_bytes(PNG)
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    (tmp_path / os.fsdecode(b"caf\xe9.txt")).write_text("coffee")
    (tmp_path / "plain\\xe9.png").write_bytes(b"literal")
    folder = Folder(tmp_path)
    assert [(one.where, one.caption, one.size) for one in folder.list()] == [
        ("caf\\xe9.png", "coffee", len(PNG)),
        ("plain\\xe9.png", None, 7),
    ]
    assert folder.read("caf\\xe9.png") == PNG
    assert folder.read("plain\\xe9.png") == b"literal"


@needs_raw_names
def test_names_of_any_kind_survive(tmp_path):
    names = ["line\nbreak.png", " .png", "quote'\".png", "🎂.png", "-rf.png", "a" * 200 + ".png", "%2e%2e.png"]
    fill(tmp_path, *names)
    assert places(tmp_path) == sorted(names)
    assert all(Folder(tmp_path).read(name) == PNG for name in names)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("metadata.csv", b"", "line 1 has no column 'file_name'"),
        ("metadata.csv", b"name,text\na.png,x\n", "line 1 has no column 'file_name': its columns are ['name', 'text']"),
        ("metadata.csv", b"file_name,text\na.png,red, green\n", "line 2 has 3 fields, the header has 2"),
        ("metadata.csv", b"file_name,text\na.png\n", "line 2 has 1 fields, the header has 2"),
        ("metadata.csv", b'file_name,text\nb.png,y\na.png,"never closed\n', "line 3 is broken CSV"),
        ("metadata.csv", b"file_name,text\n,x\n", "line 2 has no 'file_name'"),
        ("metadata.csv", b"file_name,text\na.png,caf\xe9\n", "line 2 is no UTF-8"),
        ("metadata.csv", "file_name,text\na.png,x\n".encode("utf-16"), "line 1 is no UTF-8"),
        ("metadata.csv", b"file_name,text\na.png," + b"x" * 200_000 + b"\n", "line 2 is broken CSV"),
        ("metadata.jsonl", b'{"file_name": "a.png"}\n{"file_na', "line 2 is broken JSON"),
        ("metadata.jsonl", b"\n[1, 2]\n", "line 2 is no JSON object"),
        ("metadata.jsonl", b'{"text": "x"}\n', "line 1 has no 'file_name'"),
        ("metadata.jsonl", b'{"file_name": 7}\n', "line 1 has no 'file_name'"),
        ("metadata.jsonl", b"[" * 100_000, "line 1 is broken JSON"),
        ("metadata.jsonl", b'{"file_name": ' + b"9" * 5000 + b"}", "line 1 is broken JSON"),
        ("metadata.jsonl", b"\xff\xfe{}", "line 1 is no UTF-8"),
    ],
)
def test_broken_metadata_is_one_line_that_names_file_and_line(tmp_path, name, text, told):
    fill(tmp_path, "a.png")
    (tmp_path / name).write_bytes(text)
    message = complaint(tmp_path)
    assert str(tmp_path / name) in message
    assert told in message
    assert len(message) < 400 + len(str(tmp_path))


def test_a_metadata_line_without_end_is_not_swallowed_whole(tmp_path):
    fill(tmp_path, "a.png")
    with open(tmp_path / "metadata.jsonl", "wb") as file:
        file.truncate(2**30)
    assert "line 1 is longer than" in complaint(tmp_path)


def test_a_missing_folder_a_file_and_an_empty_folder_are_told_in_one_line(tmp_path):
    fill(tmp_path, "file.png")
    (tmp_path / "empty").mkdir()
    assert "is not there" in complaint(tmp_path / "nowhere", Folder)
    assert "is not there" in complaint(Path("https://example.org/pictures"), Folder)
    assert "is not there" in complaint(Path("a\0b"), Folder)
    assert "is not a folder" in complaint(tmp_path / "file.png", Folder)
    message = complaint(tmp_path / "empty")
    assert str(tmp_path / "empty") in message
    assert ".png" in message


def test_a_folder_that_vanishes_after_opening_is_told_in_one_line(tmp_path):
    fill(tmp_path, "in/a.png")
    folder = Folder(tmp_path / "in")
    (tmp_path / "in").rename(tmp_path / "away")
    assert "no such file" in complaint(folder, lambda folder: list(folder.list()))
    with pytest.raises(OSError, match="no such file"):
        folder.read("a.png")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_told(tmp_path):
    fill(tmp_path, "in/a.png", "in/locked/b.png")
    (tmp_path / "in/a.png").chmod(0)
    (tmp_path / "in/locked").chmod(0)
    folder = Folder(tmp_path / "in")
    try:
        assert [one.where for one in folder.list()] == ["a.png"]
        assert folder.notes == [Note("locked", "a folder that cannot be read: permission denied")]
        assert reason(tmp_path / "in", "a.png") == "permission denied"
        (tmp_path / "in").chmod(0)
        assert "permission denied" in complaint(tmp_path / "in")
    finally:
        (tmp_path / "in").chmod(0o700)
        (tmp_path / "in/locked").chmod(0o700)


def test_a_folder_of_odd_and_hopeless_files_gives_every_one_pixels_or_a_reason(tmp_path):
    expected = {**dict.fromkeys(broken.odd(), True), **dict.fromkeys(broken.hopeless(), False)}
    for name, data in (broken.odd() | broken.hopeless()).items():
        (tmp_path / name).write_bytes(data)
    folder, decoded = Folder(tmp_path), {}
    for listed in folder.list():
        try:
            decode(folder.read(listed.where))
        except Undecodable:
            decoded[listed.where] = False
        else:
            decoded[listed.where] = True
    assert decoded == expected
