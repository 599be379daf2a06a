"""Every picture of a corpus has a vector of every descriptor that was asked for, and new ones get theirs."""

import json

import numpy as np
import pytest

import byrote
from byrote import api, descriptors
from byrote.cli import main
from byrote.corpus import Corpus
from byrote.errors import CorpusError, DescriptorError
from byrote.stages.describe import vectors

from .folders import described, sound
from .shots import digest, field, fields, fill

pytestmark = pytest.mark.usefixtures("small_parts")
NAMES = fields(range(12))


@pytest.fixture
def root(tmp_path):
    fill(tmp_path / "in", NAMES | {"broken.png": b"broken"})
    byrote.index(tmp_path / "in", corpus=tmp_path / "c")
    return tmp_path


def truth(pictures):
    pdq = descriptors.open("pdq")
    return {digest(picture): pdq.describe([picture])[0].tobytes() for picture in pictures}


def test_every_picture_has_the_vector_that_it_would_have_alone(root):
    assert api.describe(root / "c", "pdq") == {"descriptor": descriptors.open("pdq").name, "described": 12, "gone": 0}
    assert described(root / "c") == truth(NAMES.values())
    names, found = vectors(Corpus(root / "c"), descriptors.open("pdq"))
    assert names == Corpus(root / "c").distinct
    assert [row.tobytes() for row in found] == [truth(NAMES.values())[name] for name in names]


def test_only_what_is_new_is_described_when_the_corpus_grows(root):
    api.describe(root / "c", "pdq")
    before = {path: path.read_bytes() for path in (root / "c" / "vectors").rglob("*") if path.is_file()}
    byrote.index(fill(root / "more", fields(range(30, 33))), corpus=root / "c")
    assert api.describe(root / "c", "pdq")["described"] == 15
    after = {path: path.read_bytes() for path in (root / "c" / "vectors").rglob("*") if path.is_file()}
    assert before.items() <= after.items()
    assert described(root / "c") == truth((NAMES | fields(range(30, 33))).values())
    assert sound(root / "c") == 16
    ledger = (root / "c" / "ledger.jsonl").read_bytes()
    assert api.describe(root / "c", "pdq")["described"] == 15
    assert (root / "c" / "ledger.jsonl").read_bytes() == ledger


def test_a_picture_that_is_gone_has_no_vector_and_is_counted(root):
    (root / "in" / "field-004.png").unlink()
    fill(root / "in", {"field-005.png": field(99)})
    told = api.describe(root / "c", "pdq")
    assert (told["described"], told["gone"]) == (10, 2)
    names, found = vectors(Corpus(root / "c"), descriptors.open("pdq"))
    assert set(names) == {digest(picture) for picture in NAMES.values()} - {digest(field(4)), digest(field(5))}
    assert len(found) == 10


def test_descriptors_lie_side_by_side(root):
    api.describe(root / "c", "pdq")
    api.describe(root / "c", "thumbnail:8")
    corpus = Corpus(root / "c")
    for uri in ("pdq", "thumbnail:8"):
        names, found = vectors(corpus, descriptors.open(uri))
        expected = descriptors.open(uri).describe([NAMES[corpus.by_digest[name].where] for name in names])
        assert (np.asarray(found) == expected).all()
    assert set(api.summary(root / "c")[1].descriptors) == {
        *("thumbnail", "whole", descriptors.open("pdq").name, descriptors.open("thumbnail:8").name)
    }


def test_a_corpus_that_was_not_described_says_how(root):
    with pytest.raises(CorpusError, match=r"has no vectors of .*`byrote describe` makes them"):
        vectors(Corpus(root / "c"), descriptors.open("pdq"))


def test_an_unknown_descriptor_is_told_and_nothing_is_written(root, capsys):
    with pytest.raises(DescriptorError, match="unknown kind 'pqd'"):
        api.describe(root / "c", "pqd")
    assert main(["describe", "pqd", "--corpus", str(root / "c")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (root / "c" / "vectors").exists()


def test_the_command_line_describes_and_tells(root, capsys):
    assert main(["describe", "pdq", "--corpus", str(root / "c"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["described"] == 12
    assert main(["describe", "pdq", "--corpus", str(root / "c")]) == 0
    assert "12 pictures described by" in capsys.readouterr().out
