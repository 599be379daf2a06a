"""A quick corpus: decoded no further than thumbnails want, for duplicates only."""

from hashlib import sha256

import pytest

import byrote
from byrote import api, images
from byrote.chain import run
from byrote.corpus import Corpus
from byrote.errors import CorpusError

from .shots import compressed, field, fields, fill, mirrored


def pictures():
    """Draw pictures large enough to be decoded smaller, with a mirrored copy of the first."""
    large = {f"{k}.jpg": images.encode_jpeg(field(k, 300, 400), 92) for k in range(6)}
    return large | {"again.jpg": images.encode_jpeg(mirrored(compressed(field(0, 300, 400))), 80)}


@pytest.fixture
def corpus(tmp_path):
    return byrote.index(fill(tmp_path / "in", pictures()), corpus=tmp_path / "c", quick=True)


def test_pictures_are_named_by_their_files_and_have_their_own_size(corpus):
    assert corpus.quick
    names = {row.where: row.digest for row in corpus.pictures}
    assert names == {name: "file:" + sha256(data).hexdigest() for name, data in pictures().items()}
    assert {(row.width, row.height) for row in corpus.pictures} == {(400, 300)}


def test_copies_are_found_and_a_file_of_it_is_the_very_picture(corpus, tmp_path):
    told = api.duplicates(corpus.root)
    assert (told["files"], told["groups"], told["duplicated"]) == (7, 6, 1)
    [checked] = api.check([tmp_path / "in" / "3.jpg"], corpus.root)
    assert (checked.answer, checked.nearest[0].where) == ("in it", ("3.jpg",))
    assert api.remove(corpus.root, [tmp_path / "in" / "3.jpg"])["files"] == 1


def test_it_is_not_mixed_with_the_other_kind(corpus, tmp_path):
    fill(tmp_path / "in", {"new.jpg": images.encode_jpeg(field(40), 90)})
    with pytest.raises(CorpusError, match="indexed quickly"):
        byrote.index(tmp_path / "in", corpus=corpus.root)
    whole = byrote.index(fill(tmp_path / "other", fields(range(3))), corpus=tmp_path / "whole")
    assert not whole.quick
    with pytest.raises(CorpusError, match="in full"):
        byrote.index(tmp_path / "in", corpus=whole.root, quick=True)


def test_no_audit_takes_it(corpus, tmp_path):
    audit = tmp_path / "audit"
    audit.mkdir()
    (tmp_path / "parrot.toml").write_text("width = 32\nheight = 32\n")
    (audit / "audit.toml").write_text(
        'format = 1\n[model]\nuri = "parrot:../parrot.toml"\n[corpus]\npath = "../c"\n', encoding="utf-8"
    )
    with pytest.raises(CorpusError, match="index it without --quick"):
        run(audit, until="dedupe", progress=lambda *_: None)
    assert len(Corpus(corpus.root).pictures) == 7
