"""Two corpora become one, as if everything had been indexed at once."""

import json
import os
import shutil

import pytest

import byrote
from byrote import api
from byrote.cli import main
from byrote.corpus import Corpus
from byrote.domain import Picture
from byrote.errors import CorpusError

from .folders import described, rows, sound, traces
from .shots import captions_of, digest, field, fields, fill

pytestmark = pytest.mark.usefixtures("small_parts")
ONE, BOTH, TWO, HELD = fields(range(7)), fields(range(20, 24)), fields(range(10, 19)), fields(range(30, 33))


@pytest.fixture
def root(tmp_path):
    """Lay out three sources of the training set, one of controls, and a corpus of two sources on either side."""
    for name, pictures in (("one", ONE), ("both", BOTH), ("two", TWO | {"broken.png": b"broken"}), ("held", HELD)):
        fill(tmp_path / name, pictures, captions_of(pictures))
    byrote.index(tmp_path / "one", tmp_path / "both", corpus=tmp_path / "a")
    byrote.index(tmp_path / "both", tmp_path / "two", corpus=tmp_path / "b", held_out=tmp_path / "held")
    return tmp_path


def at_once(root):
    sources = [root / "one", root / "both", root / "two"]
    return byrote.index(*sources, corpus=root / "at-once", held_out=root / "held")


def test_a_merged_corpus_is_that_of_indexing_everything_at_once(root):
    added = api.merge(root / "a", root / "b")
    assert added == len(TWO) + len(HELD) + 1
    merged, alone = Corpus(root / "a"), at_once(root)
    assert merged.digest == alone.digest
    assert rows(root / "a") == rows(root / "at-once")
    assert set(merged.named()) == set(alone.named())
    assert (merged.vectors(alone.distinct) == alone.vectors(alone.distinct)).all()
    assert (merged.vectors(alone.distinct, "whole") == alone.vectors(alone.distinct, "whole")).all()
    assert sound(root / "a") == len(ONE | BOTH | TWO | HELD) + 1


def test_a_second_merge_brings_nothing_new(root):
    api.merge(root / "a", root / "b")
    before = sorted((path, path.stat().st_mtime_ns) for path in (root / "a").rglob("*.parquet"))
    ledger = (root / "a" / "ledger.jsonl").read_bytes()
    assert api.merge(root / "a", root / "b") == 0
    assert sorted((path, path.stat().st_mtime_ns) for path in (root / "a").rglob("*.parquet")) == before
    assert (root / "a" / "ledger.jsonl").read_bytes() == ledger


def test_indexing_after_a_merge_reads_nothing_again(root):
    api.merge(root / "a", root / "b")
    before = (root / "a" / "ledger.jsonl").read_bytes()
    byrote.index(root / "one", root / "both", root / "two", corpus=root / "a", held_out=root / "held")
    assert (root / "a" / "ledger.jsonl").read_bytes() == before


def test_the_other_corpus_is_left_as_it_is(root):
    before = {path: path.read_bytes() for path in (root / "b").rglob("*") if path.is_file()}
    api.merge(root / "a", root / "b")
    assert {path: path.read_bytes() for path in (root / "b").rglob("*") if path.is_file()} == before


def test_no_source_is_read(root):
    expected = at_once(root).digest
    for name in ("one", "both", "two", "held"):
        shutil.rmtree(root / name)
    api.merge(root / "a", root / "b")
    assert Corpus(root / "a").digest == expected


def test_merging_either_way_and_into_a_new_folder_gives_the_same(root):
    shutil.copytree(root / "b", root / "b-too")
    api.merge(root / "a", root / "b-too")
    api.merge(root / "b", root / "a")
    api.merge(root / "new", root / "a")
    assert Corpus(root / "a").digest == Corpus(root / "b").digest == Corpus(root / "new").digest


def test_vectors_of_further_descriptors_come_along(root):
    api.describe(root / "b", "pdq")
    api.merge(root / "a", root / "b")
    sound(root / "a")
    come = described(root / "a")
    assert come == {one: vector for one, vector in described(root / "b").items() if one in come}
    assert set(come) == {digest(picture) for picture in (TWO | HELD).values()}
    assert api.describe(root / "a", "pdq")["described"] == len(ONE | BOTH | TWO | HELD)
    api.describe(at_once(root).root, "pdq")
    assert described(root / "a") == described(root / "at-once")


def test_what_was_removed_here_is_not_brought_back_by_another_that_has_it(root):
    removed = digest(field(20))
    api.remove(root / "a", [removed])
    for _ in range(2):
        api.merge(root / "a", root / "b")
        assert removed not in Corpus(root / "a").by_digest
        assert traces(root / "a", removed, "field-020.png") == []
    assert removed in Corpus(root / "b").by_digest
    assert api.merge(root / "a", root / "b") == 0


def test_what_was_removed_there_is_removed_here_too_with_what_was_made_of_it(root):
    removed = digest(field(20))
    api.duplicates(root / "a")
    api.remove(root / "b", [removed])
    api.merge(root / "a", root / "b")
    assert traces(root / "a", removed, "field-020.png", "a caption of field-020") == []
    assert sound(root / "a") == len(ONE | BOTH | TWO | HELD)
    assert api.merge(root / "a", root / "b") == 0
    byrote.index(root / "both", corpus=root / "a")
    assert removed not in Corpus(root / "a").by_digest


def test_the_state_of_a_file_that_changed_last_counts_either_way(root):
    shutil.copytree(root / "a", root / "old")
    fill(root / "both", {"field-020.png": field(99)}, captions_of(BOTH))
    byrote.index(root / "both", corpus=root / "a")
    shutil.copytree(root / "a", root / "new")
    for target, other in (("new", "old"), ("old", "new")):
        api.merge(root / target, root / other)
        held = Corpus(root / target)
        assert digest(field(99)) in held.by_digest, target
        assert digest(field(20)) not in held.by_digest, target
        assert held.digest == Corpus(root / "a").digest


def test_a_file_that_the_other_could_not_read_stays_as_it_was_read_here(root):
    api.merge(root / "good", root / "b")
    byrote.index(root / "both", corpus=root / "good")
    data, status = (root / "both" / "field-021.png").read_bytes(), (root / "both" / "field-021.png").stat()
    (root / "both" / "field-021.png").write_bytes(b"x" * len(data))
    os.utime(root / "both" / "field-021.png", ns=(status.st_atime_ns, status.st_mtime_ns))
    bad = byrote.index(root / "both", corpus=root / "bad")
    assert [row.where for row in bad.unreadable] == ["field-021.png"]
    api.merge(root / "good", root / "bad")
    assert digest(field(21)) in Corpus(root / "good").by_digest
    api.merge(root / "bad", root / "good")
    assert digest(field(21)) in Corpus(root / "bad").by_digest


def test_a_part_that_a_killed_merge_left_behind_is_not_taken_for_one(root):
    """Vectors are written before the pictures they belong to: a kill in between leaves them alone."""
    api.describe(root / "b", "pdq")
    api.merge(root / "a", root / "b")
    (recipe,) = (root / "a" / "vectors").iterdir()
    parts = sorted(path.name.split(".")[0] for path in recipe.glob("*.parquet"))
    number = f"{int(max(Corpus(root / 'a').store.parts(Corpus(root / 'a').recipe))) + 1:05d}"
    for path in recipe.glob(f"{parts[0]}.*"):
        shutil.copy(path, recipe / path.name.replace(parts[0], number))
    byrote.index(fill(root / "more", {"n.png": field(60)}), corpus=root / "c")
    api.merge(root / "a", root / "c")
    sound(root / "a")


def test_a_corpus_is_not_merged_into_itself(root, capsys):
    with pytest.raises(CorpusError, match="cannot be merged into itself"):
        api.merge(root / "a", root / "one" / ".." / "a")
    (root / "link").symlink_to(root / "a")
    assert main(["merge", str(root / "link"), "--corpus", str(root / "a")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_what_is_no_corpus_is_told_in_one_line(root, capsys):
    before = Corpus(root / "a").digest
    assert main(["merge", str(root / "one"), "--corpus", str(root / "a")]) == 2
    told = capsys.readouterr().err
    assert "no corpus here" in told
    assert told.count("\n") == 1
    assert Corpus(root / "a").digest == before


def test_the_command_line_merges_several(root, capsys):
    byrote.index(fill(root / "more", {"n.png": field(60)}), corpus=root / "c")
    assert main(["merge", str(root / "b"), str(root / "c"), "--corpus", str(root / "a"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"added": len(TWO) + len(HELD) + 2}
    assert (
        len(Corpus(root / "a").store.read_all(Picture, Corpus(root / "a").recipe)) == len(ONE | BOTH | TWO | HELD) + 1
    )


def test_a_quick_corpus_and_a_full_one_do_not_mix(root):
    byrote.index(root / "one", corpus=root / "quick", quick=True)
    for target, other in (("a", "quick"), ("quick", "a")):
        before = len(Corpus(root / target).table)
        with pytest.raises(CorpusError, match="indexed quickly"):
            api.merge(root / target, root / other)
        assert len(Corpus(root / target).table) == before
