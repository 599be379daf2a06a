"""A corpus grows by what is new and changed, and says what it holds wherever it lies."""

import json
import os
import shutil

import numpy as np
import pytest
from corpora.shots import captions_of, digest, field, fields, fill, mirrored

import byrote
from byrote import sources
from byrote.cli import main
from byrote.corpus import WHOLE, Corpus, Named, blind
from byrote.descriptors.thumbnail import Thumbnail
from byrote.descriptors.whole import Whole
from byrote.domain import Picture
from byrote.errors import CorpusError
from byrote.images import encode_png
from byrote.stages import ingest


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    """Let a dozen pictures make several parts."""
    monkeypatch.setattr(ingest, "PART", 5)


def indexed(corpus):
    """Return how many files each part that was made has read, in order."""
    lines = Corpus(corpus).store.ledger()
    return [line["items"] for line in lines if line["event"] == "done" and line["table"] == "pictures"]


def wheres(corpus):
    return [row.where for row in corpus.pictures]


def test_a_further_source_is_all_that_is_read_when_it_is_added(tmp_path):
    one, two = fill(tmp_path / "one", fields(range(7))), fill(tmp_path / "two", fields(range(7, 10)))
    byrote.index(one, corpus=tmp_path / "c")
    assert indexed(tmp_path / "c") == [5, 2]
    corpus = byrote.index(two, corpus=tmp_path / "c")
    assert indexed(tmp_path / "c") == [5, 2, 3]
    assert wheres(corpus) == sorted(fields(range(10)))
    byrote.index(one, two, corpus=tmp_path / "c")
    byrote.index(corpus=tmp_path / "c")
    assert indexed(tmp_path / "c") == [5, 2, 3]


def test_files_that_were_added_or_changed_are_read_and_no_others(tmp_path):
    folder = fill(tmp_path / "in", fields(range(8)))
    byrote.index(folder, corpus=tmp_path / "c")
    fill(folder, {"field-003.png": field(50), "new.png": field(51)})
    corpus = byrote.index(folder, corpus=tmp_path / "c")
    assert indexed(tmp_path / "c") == [5, 3, 2]
    assert {row.where: row.digest for row in corpus.pictures} == {
        name: digest(picture)
        for name, picture in (fields(range(8)) | {"field-003.png": field(50), "new.png": field(51)}).items()
    }
    assert digest(field(3)) not in corpus.by_digest


def test_a_file_that_is_written_again_with_other_pixels_of_the_same_size_is_read_again(tmp_path):
    folder = tmp_path / "in"
    flat, other = (np.full((16, 16, 3), level, np.uint8) for level in (7, 9))
    fill(folder, {"a.png": flat})
    byrote.index(folder, corpus=tmp_path / "c")
    assert len(encode_png(flat)) == len(encode_png(other))
    fill(folder, {"a.png": other})
    os.utime(folder / "a.png", ns=(1, 1))
    assert byrote.index(folder, corpus=tmp_path / "c").distinct == [digest(other)]


def test_a_file_that_breaks_and_is_mended_is_told_by_its_last_state(tmp_path):
    folder = fill(tmp_path / "in", {"a.png": field(1), "b.png": field(2)})
    byrote.index(folder, corpus=tmp_path / "c")
    fill(folder, {"a.png": b"broken"})
    corpus = byrote.index(folder, corpus=tmp_path / "c")
    assert (wheres(corpus), [row.where for row in corpus.unreadable]) == (["b.png"], ["a.png"])
    fill(folder, {"a.png": field(1)})
    corpus = byrote.index(folder, corpus=tmp_path / "c")
    assert (wheres(corpus), corpus.unreadable) == (["a.png", "b.png"], [])


def test_a_changed_caption_is_read_again(tmp_path):
    names = fields(range(6))
    folder = fill(tmp_path / "in", names, captions_of(names))
    before = byrote.index(folder, corpus=tmp_path / "c").digest
    fill(folder, {}, captions_of(names) | {"field-002.png": "something else"})
    after = byrote.index(folder, corpus=tmp_path / "c")
    assert indexed(tmp_path / "c") == [5, 1, 1]
    assert {row.where: row.caption for row in after.pictures} == captions_of(names) | {
        "field-002.png": "something else"
    }
    assert after.digest != before
    assert sorted(after.distinct) == sorted(digest(picture) for picture in names.values())


def test_all_captions_of_a_picture_are_kept_in_their_order(tmp_path):
    folder = fill(tmp_path / "in", fields(range(2)))
    lines = [("field-000.png", "first"), ("field-001.png", "only"), ("field-000.png", "second")]
    rows = [json.dumps({"file_name": name, "text": said}) + "\n" for name, said in lines]
    (folder / "metadata.jsonl").write_text("".join(rows))
    corpus = byrote.index(folder, corpus=tmp_path / "c")
    said = {row.where: row.captions for row in corpus.pictures}
    assert said == {"field-000.png": ("first", "second"), "field-001.png": ("only",)}
    assert corpus.pictures[0].caption == "first"


def test_the_digest_is_that_of_what_is_held_and_not_of_where_it_lies_or_how_it_came(tmp_path):
    pictures = fields(range(9))
    folder = fill(tmp_path / "a" / "in", pictures, captions_of(pictures))
    at_once = byrote.index(folder, corpus=tmp_path / "a" / "c")
    shutil.copytree(folder, tmp_path / "elsewhere" / "in")
    for name in list(pictures)[4:]:
        (tmp_path / "elsewhere" / "in" / name).rename(tmp_path / "elsewhere" / name)
    moved = tmp_path / "elsewhere" / "in"
    byrote.index(moved, corpus=tmp_path / "b")
    for name in list(pictures)[4:]:
        (tmp_path / "elsewhere" / name).rename(moved / name)
    grown = byrote.index(moved, corpus=tmp_path / "b")
    assert grown.digest == at_once.digest
    assert (indexed(tmp_path / "a" / "c"), indexed(tmp_path / "b")) == ([5, 4], [5, 4, 5])


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: fill(folder, {"field-001.png": field(77)}),
        lambda folder: (folder / "field-001.png").rename(folder / "other.png"),
        lambda folder: fill(folder, {}, {"field-001.png": "said"}),
        lambda folder: (folder / "field-001.png").unlink(),
    ],
)
def test_other_pixels_names_captions_or_counts_have_another_digest(tmp_path, change):
    folder = fill(tmp_path / "in", fields(range(3)))
    before = byrote.index(folder, corpus=tmp_path / "before").digest
    change(folder)
    assert byrote.index(folder, corpus=tmp_path / "after").digest != before


def test_a_picture_and_a_control_have_different_digests_of_the_corpus(tmp_path):
    folder, empty = fill(tmp_path / "in", fields(range(3))), fill(tmp_path / "no", fields([9]))
    one = byrote.index(folder, corpus=tmp_path / "one", held_out=empty)
    other = byrote.index(empty, corpus=tmp_path / "other", held_out=folder)
    assert sorted(one.distinct) == sorted(other.distinct)
    assert one.digest != other.digest


def test_vectors_are_those_of_the_pictures_in_the_order_that_is_asked_for(tmp_path):
    pictures = {name: field(k, 40, 56 + k) for k, name in enumerate(fields(range(12)))}
    corpus = byrote.index(fill(tmp_path / "in", pictures), corpus=tmp_path / "c")
    by_digest = {digest(picture): picture for picture in pictures.values()}
    asked = list(np.random.default_rng(0).permutation(corpus.distinct))
    for name, descriptor in (("thumbnail", Thumbnail()), (WHOLE, Whole())):
        expected = descriptor.describe([by_digest[one] for one in asked])
        assert (corpus.vectors(asked, name) == expected).all()
        together = np.concatenate([block for _, block in corpus.blocks(name, 5)])
        assert (together == corpus.vectors(corpus.distinct, name)).all()
    assert corpus.vectors([]).shape == (0, Thumbnail().dimensions)
    assert sorted(corpus.distinct) == sorted(by_digest)


def test_pixels_come_from_the_source_as_long_as_they_are_the_same(tmp_path):
    folder = fill(tmp_path / "in", fields(range(3)))
    corpus = byrote.index(folder, corpus=tmp_path / "c")
    assert (corpus.pixels(digest(field(1))) == field(1)).all()
    fill(folder, {"field-001.png": mirrored(field(1)), "field-002.png": b"broken"})
    (folder / "field-000.png").unlink()
    assert [corpus.pixels(digest(field(k))) for k in range(3)] == [None] * 3


def test_a_corpus_that_shares_what_it_read_sees_every_change(tmp_path):
    folder = fill(tmp_path / "in", fields(range(4)))
    byrote.index(folder, corpus=tmp_path / "c")
    first = Corpus.now(tmp_path / "c")
    assert Corpus.now(tmp_path / "c") is first
    assert len(first.distinct) == 4
    shutil.rmtree(tmp_path / "c")
    byrote.index(fill(tmp_path / "other", fields(range(10, 13))), corpus=tmp_path / "c")
    assert len(Corpus.now(tmp_path / "c").distinct) == 3
    byrote.api.remove(tmp_path / "c", [digest(field(10))])
    assert len(Corpus.now(tmp_path / "c").distinct) == 2
    byrote.api.remove(tmp_path / "c", sources=[str(tmp_path / "other")])
    assert Corpus.now(tmp_path / "c").distinct == []


def test_two_workers_index_the_same_bytes_as_one(tmp_path, monkeypatch):
    monkeypatch.undo()
    names = fields(range(8)) | {"broken.png": b"broken"}
    folder = fill(tmp_path / "in", names, captions_of(names))
    one = byrote.index(folder, corpus=tmp_path / "one")
    two = byrote.index(folder, corpus=tmp_path / "two", jobs=2)
    ours, theirs = (
        {path.name: path.read_bytes() for path in sorted(corpus.store.folder(corpus.recipe).iterdir())}
        for corpus in (one, two)
    )
    assert ours == theirs
    assert len(ours) >= 5


def test_a_folder_that_holds_no_corpus_is_told_with_the_way_out(tmp_path):
    with pytest.raises(CorpusError, match="no corpus here; `byrote index SOURCE --corpus"):
        Corpus.at(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_source_that_is_gone_is_told_and_what_is_indexed_stays(tmp_path):
    folder = fill(tmp_path / "in", fields(range(3)))
    before = byrote.index(folder, corpus=tmp_path / "c").digest
    shutil.rmtree(folder)
    with pytest.raises(CorpusError, match="is not there"):
        byrote.index(corpus=tmp_path / "c")
    assert Corpus.at(tmp_path / "c").digest == before


def test_a_torn_line_of_what_was_removed_is_passed_over(tmp_path):
    corpus = byrote.index(fill(tmp_path / "in", fields(range(3))), corpus=tmp_path / "c")
    whole = json.dumps({"at": "2026-01-01", "what": "picture", "blind": blind(digest(field(0)))})
    torn = whole.replace(blind(digest(field(0))), blind(digest(field(1))))[:-20]
    (corpus.root / "removed.jsonl").write_text(f"{whole}\n{torn}")
    held = Corpus(corpus.root)
    assert set(held.distinct) == {digest(field(1)), digest(field(2))}
    byrote.api.remove(corpus.root, [digest(field(2))])
    assert Corpus(corpus.root).distinct == [digest(field(1))]


def test_what_is_known_of_a_source_is_what_it_lists(tmp_path):
    pictures = fields(range(4)) | {"broken.png": b"broken"}
    folder = fill(tmp_path / "in", pictures, captions_of(pictures))
    corpus = byrote.index(folder, corpus=tmp_path / "c")
    listed = {one.where: (one.size, one.modified, one.captions) for one in sources.open(str(folder)).list()}
    assert corpus.known(Named("picture", str(folder))) == listed
    assert corpus.known(Named("control", str(folder))) == {}


def test_any_caption_of_a_picture_may_be_asked_for(tmp_path):
    """Of six pictures with three captions each, some are asked for by their first and some by a later one."""
    folder = tmp_path / "pictures"
    held_out = fill(tmp_path / "held-out", fields(range(50, 58)), captions_of(fields(range(50, 58))))
    fill(folder, fields(range(12)))
    rows = [{"file_name": name, "text": f"{name} {n}"} for name in fields(range(12)) for n in ("a", "b", "c")]
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    byrote.index(folder, corpus=tmp_path / "corpus", held_out=held_out)
    (tmp_path / "parrot.toml").write_text("width = 32\nheight = 32\nsleep = 0\n")
    asked = set()
    for seed in (1, 2):
        audit = tmp_path / f"audit-{seed}"
        audit.mkdir()
        (audit / "audit.toml").write_text(
            'format = 1\nmodel = { uri = "parrot:../parrot.toml" }\ncorpus = { path = "../corpus" }\n'
            f"prompts = {{ top = 6, random = 6, controls = 8, seed = {seed} }}\ngenerate = {{ seeds = 2 }}\n"
        )
        byrote.run(audit, until="prompts")
        asked |= texts_asked(audit)
    assert {text.rpartition(" ")[2] for text in asked} == {"a", "b", "c"}
    assert len({text.rpartition(" ")[0] for text in asked}) == 12


def texts_asked(audit):
    from byrote.audit import Audit
    from byrote.domain import Prompt

    opened = Audit(audit)
    return {row.text for row in opened.store.read_all(Prompt, opened.recipes.prompts) if row.side == "picture"}


def test_the_ledger_of_the_command_line_is_that_of_python(tmp_path, capsys):
    folder = fill(tmp_path / "in", fields(range(6)))
    assert main(["index", str(folder), "--corpus", str(tmp_path / "c"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    corpus = Corpus.at(tmp_path / "c")
    assert told["digest"] == corpus.digest
    assert told["pictures"] == len(corpus.store.read_all(Picture, corpus.recipe)) == 6
