"""What all kinds have in common: the contract, the pictures, the captions, how they are opened."""

import os
import pickle

import numpy as np
import pytest
import specimens

from byrote import images, sources
from byrote.errors import CorpusError
from byrote.testing import check_source

KINDS = list(specimens.KINDS)


def made(kind, tmp_path):
    return specimens.KINDS[kind](tmp_path / "made")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_recognised_by_its_content_and_keeps_the_contract(kind, tmp_path):
    source = sources.open(str(made(kind, tmp_path)))
    check_source(source)
    assert source.notes == [] or kind in ("npz", "cifar")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_the_pixels_that_were_put_in_and_in_their_order(kind, tmp_path):
    source = sources.open(str(made(kind, tmp_path)))
    seen = [images.decode(source.read(one.where)) for one in source.list()]
    side = 32 if kind == "cifar" else 16
    arrays = kind in ("npz", "npy", "cifar")
    expected = [specimens.pixels(k, side) if arrays else images.decode(specimens.PICTURES[k]) for k in range(6)]
    assert len(seen) == 6
    assert all(np.array_equal(a, b) for a, b in zip(seen, expected, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_captions_come_from_where_the_kind_keeps_them_and_several_are_kept(kind, tmp_path):
    source = sources.open(str(made(kind, tmp_path)))
    expected = specimens.CAPTIONS if kind in specimens.TOLD else [()] * 6
    assert [one.captions for one in source.list()] == expected


@pytest.mark.parametrize("kind", KINDS)
def test_the_uri_opens_the_source_from_any_folder(kind, tmp_path, monkeypatch):
    place = made(kind, tmp_path)
    monkeypatch.chdir(place.parent)
    uri = sources.open(place.name).uri
    monkeypatch.chdir("/")
    (prefix, _, path) = uri.rpartition(":")
    assert (os.path.abspath(path), prefix in ("", "hf", kind, "npz")) == (str(place), True)
    assert sources.open(uri).uri == uri
    assert len(list(sources.open(uri).list())) == 6


def complaint(uri):
    with pytest.raises(CorpusError) as raised:
        list(sources.open(str(uri)).list())
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_a_miss_says_what_is_known(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "did you mean 'parquet'" in complaint("parquett:x")
    assert all(kind in complaint("gone") for kind in sources.KINDS)
    assert "write tar:PLACE" in complaint("tar:")
    assert "gone.tar' is not there" in complaint("tar:gone.tar")
    assert "null byte" in complaint("tar:a\0b")


def test_a_path_with_a_colon_is_a_path_where_it_is_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    specimens.folder(tmp_path / "12:30")
    assert len(list(sources.open("12:30").list())) == 6


def test_what_cannot_be_used_is_told_with_the_way_out(tmp_path):
    (tmp_path / "one.png").write_bytes(specimens.PICTURES[0])
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps({b"data": [1, 2]}, protocol=2))
    (tmp_path / "00000.tar.gz").write_bytes(b"\x1f\x8b\x08" + bytes(20))
    (tmp_path / "x.bin").write_bytes(b"what is this")
    assert "is one picture: name the folder that holds it" in complaint(tmp_path / "one.png")
    assert "pickle, which could run code: for CIFAR get the binary version" in complaint(tmp_path / "data_batch_1")
    assert "packed with gzip: unpack it first" in complaint(tmp_path / "00000.tar.gz")
    assert "no known kind: if you know it, write KIND:PLACE" in complaint(tmp_path / "x.bin")


def test_a_folder_of_two_kinds_is_not_guessed_and_either_can_be_named(tmp_path):
    root = specimens.shards(tmp_path / "both")
    (root / "a.png").write_bytes(specimens.PICTURES[0])
    told = complaint(root)
    assert "folder:" in told
    assert "tar:" in told
    assert len(list(sources.open(f"tar:{root}").list())) == 6
    named = sources.open(f"folder:{root}")
    check_source(named)
    assert [one.where for one in sources.open(named.uri).list()] == ["a.png"]


def test_a_clone_of_a_dataset_with_its_tables_in_a_subfolder_is_recognised(tmp_path):
    specimens.parquet(tmp_path / "clone" / "data")
    (tmp_path / "clone" / "README.md").write_text("hello")
    source = sources.open(str(tmp_path / "clone"))
    assert source.uri == f"parquet:{tmp_path / 'clone'}"
    assert next(source.list()).where == "data/a.parquet#000000000"


def test_a_kind_of_another_package_is_opened_through_its_entry_point(tmp_path, monkeypatch):
    package = tmp_path / "mine-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[byrote.sources]\nmine = byrote.sources.folder:at\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    specimens.folder(tmp_path / "pictures")
    assert "mine" in sources.kinds()
    assert len(list(sources.open(f"mine:{tmp_path / 'pictures'}").list())) == 6


def test_links_that_turn_in_a_circle_do_not_hide_the_pictures_beside_them(tmp_path):
    specimens.folder(tmp_path / "x")
    (tmp_path / "x" / "a").symlink_to("b")
    (tmp_path / "x" / "b").symlink_to("a")
    assert len(list(sources.open(str(tmp_path / "x")).list())) == 6


@pytest.mark.parametrize("kind", ["tar", "parquet", "saved", "zip", "npz", "npy", "cifar"])
def test_a_source_that_is_gone_after_its_listing_gives_reasons_or_is_told(kind, tmp_path):
    source = sources.open(str(made(kind, tmp_path)))
    wheres = [one.where for one in source.list()]
    uri = source.uri
    for path in sorted((tmp_path / "made").rglob("*"), reverse=True):
        path.rename(path.with_name("moved-" + path.name))
    with pytest.raises((OSError, CorpusError)) as raised:
        sources.open(uri).read(wheres[0])
    assert len(str(raised.value).splitlines()) == 1
