"""What was removed is gone: from every file of the folder, and it does not come back."""

import json

import numpy as np
import pytest

import byrote
from byrote import api, images
from byrote.cli import main
from byrote.corpora import summary
from byrote.corpora.check import LOOKED
from byrote.corpus import Corpus
from byrote.descriptors.thumbnail import Thumbnail
from byrote.descriptors.whole import Whole
from byrote.domain import Group, Pair
from byrote.errors import CorpusError
from byrote.plan import CorpusPlan
from byrote.stages import dedupe

from .folders import described, rows, sound, traces, vectors
from .shots import captions_of, compressed, cropped, digest, field, fields, fill, mirrored

pytestmark = pytest.mark.usefixtures("small_parts")
NAMES = fields(range(12))
GONE = "field-003.png"
SAID = captions_of(NAMES)


def made(root, *, duplicates=True, pictures=NAMES):
    """Index a folder, describe it, look for duplicates, and write the page as one that reveals everything."""
    fill(root / "in", pictures, captions_of(pictures))
    byrote.index(root / "in", corpus=root / "c")
    api.describe(root / "c", "pdq")
    if duplicates:
        api.duplicates(root / "c", CorpusPlan(near=0.1, alike=-4.0))
        api.duplicates(root / "c")
        corpus, told = api.summary(root / "c")
        summary.page(corpus, told, root / "c" / "page" / "corpus.html", reveal=True)
    return root / "c"


def marks(name, picture):
    """Return the byte strings by which a picture would be known again."""
    whole, thumbnail = Whole().describe([picture])[0], Thumbnail().describe([picture])[0]
    return [digest(picture), name, SAID.get(name, name), whole.tobytes()[:300], thumbnail.tobytes()[-300:]]


def test_a_removed_picture_leaves_no_trace_in_any_file(tmp_path):
    pictures = NAMES | {"copy.png": compressed(field(3))}
    corpus = made(tmp_path, pictures=pictures)
    for mark in marks(GONE, field(3)):
        assert traces(corpus, mark), "before, all of them are there"
    told = api.remove(corpus, [tmp_path / "in" / GONE])
    assert told["files"] == 1
    assert traces(corpus, *marks(GONE, field(3))) == []
    assert traces(corpus, images.encode_png(field(3))[:200]) == []
    assert sound(corpus) == len(pictures) - 1


def test_what_is_left_is_what_a_corpus_without_it_would_hold(tmp_path):
    corpus = made(tmp_path)
    before = described(corpus)
    api.remove(corpus, [digest(field(3)), digest(field(7))])
    left = {name: picture for name, picture in NAMES.items() if name not in (GONE, "field-007.png")}
    fill(tmp_path / "other" / "in", left, captions_of(left))
    alone = byrote.index(tmp_path / "other" / "in", corpus=tmp_path / "other" / "c")
    assert Corpus(corpus).digest == alone.digest
    assert (Corpus(corpus).vectors(alone.distinct) == alone.vectors(alone.distinct)).all()
    assert described(corpus) == {one: vector for one, vector in before.items() if one in alone.by_digest}
    assert sound(corpus) == 10


def test_everything_that_was_made_of_it_is_made_again_without_it(tmp_path):
    corpus = made(tmp_path, pictures=NAMES | {"copy.png": mirrored(field(3))})
    told = api.remove(corpus, [tmp_path / "in" / GONE])
    assert set(told["derived"]) == {"likely", "pairs", "groups", "page"}
    assert not any((corpus / name).exists() for name in told["derived"])
    again = api.duplicates(corpus)
    assert (again["files"], again["pairs"]) == (12, 0)
    opened = Corpus(corpus)
    named = {row.digest for row in opened.store.read_all(Group, dedupe.recipe(opened, CorpusPlan()))}
    assert digest(field(3)) not in named
    assert named == set(opened.distinct)
    pairs = opened.store.read_all(Pair, dedupe.Look.of(opened, CorpusPlan()).pairs)
    assert not any(digest(field(3)) in (pair.a, pair.b) for pair in pairs)


def test_indexing_again_does_not_bring_it_back_under_any_name(tmp_path):
    corpus = made(tmp_path, duplicates=False)
    api.remove(corpus, [tmp_path / "in" / GONE])
    ledger = (corpus / "ledger.jsonl").read_bytes()
    byrote.index(tmp_path / "in", corpus=corpus)
    assert (corpus / "ledger.jsonl").read_bytes() == ledger, "the file that held it is not read again"
    fill(tmp_path / "more", {"other-name.png": field(3), "new.png": field(40)})
    after = byrote.index(tmp_path / "more", corpus=corpus)
    assert digest(field(3)) not in after.by_digest
    assert digest(field(40)) in after.by_digest
    assert traces(corpus, digest(field(3)), "other-name.png") == []


def test_what_a_file_was_before_it_changed_goes_when_anything_is_removed(tmp_path):
    corpus = made(tmp_path)
    fill(tmp_path / "in", {GONE: field(80)}, SAID | {GONE: "new words"})
    byrote.index(tmp_path / "in", corpus=corpus)
    api.describe(corpus, "pdq")
    assert api.remove(corpus, [digest(field(80))])["files"] == 1
    assert traces(corpus, *marks(GONE, field(3)), *marks(GONE, field(80)), "new words") == []
    assert sound(corpus) == 11


def test_what_a_file_was_before_it_changed_can_be_removed_by_itself(tmp_path):
    corpus = made(tmp_path, duplicates=False)
    fill(tmp_path / "old", {GONE: field(3)})
    fill(tmp_path / "in", {GONE: field(80)})
    byrote.index(tmp_path / "in", corpus=corpus)
    assert api.remove(corpus, [tmp_path / "old" / GONE])["files"] == 1
    assert traces(corpus, digest(field(3))) == []
    assert len(Corpus(corpus).pictures) == 12
    fill(tmp_path / "in", {GONE: field(3)})
    assert digest(field(3)) not in byrote.index(tmp_path / "in", corpus=corpus).by_digest


def test_what_a_file_was_before_it_changed_is_gone_after_the_next_index_but_one(tmp_path):
    corpus = made(tmp_path)
    for seed in (80, 81):
        fill(tmp_path / "in", {GONE: field(seed)})
        byrote.index(tmp_path / "in", corpus=corpus)
    assert traces(corpus / "pictures", digest(field(3))) == []
    assert (corpus / "groups").exists(), "nothing was asked to be removed"


def test_all_files_of_one_picture_go_from_both_sides(tmp_path):
    same = {"a.png": field(1), "b.png": images.encode_png(field(1)), "c.png": field(2)}
    fill(tmp_path / "in", same)
    fill(tmp_path / "out", {"d.png": field(1), "e.png": field(4)})
    byrote.index(tmp_path / "in", corpus=tmp_path / "c", held_out=tmp_path / "out")
    assert api.remove(tmp_path / "c", [tmp_path / "in" / "a.png"])["files"] == 3
    assert [row.where for row in Corpus(tmp_path / "c").pictures] == ["e.png", "c.png"]


def test_a_control_is_removed_by_its_file_too(tmp_path):
    fill(tmp_path / "in", fields(range(2)))
    fill(tmp_path / "out", {"d.png": field(9)})
    byrote.index(tmp_path / "in", corpus=tmp_path / "c", held_out=tmp_path / "out")
    assert api.remove(tmp_path / "c", [tmp_path / "out" / "d.png"])["files"] == 1
    assert digest(field(9)) not in Corpus(tmp_path / "c").by_digest


def test_near_duplicates_go_too_where_that_is_asked(tmp_path):
    one = field(3, 96, 96)
    copies = {"m.png": mirrored(one), "c.png": cropped(one), "j.png": compressed(one)}
    corpus = made(tmp_path, duplicates=False, pictures=fields(range(20, 28)) | {"one.png": one} | copies)
    told = api.remove(corpus, [tmp_path / "in" / "one.png"], alike=True)
    assert told["files"] == 4
    assert {row.where for row in Corpus(corpus).pictures} == set(fields(range(20, 28)))
    gone = [digest(picture) for picture in (one, *copies.values())]
    assert traces(corpus, *gone, "m.png", "j.png") == []
    assert sound(corpus) == 8


def test_near_duplicates_go_however_many_they_are_and_on_both_sides(tmp_path):
    one, copies = field(3), LOOKED + 10
    many = {
        f"copy-{k}.png": np.clip(one + np.int64(k % 9) - (np.arange(64) < k)[:, None], 0, 255).astype(np.uint8)
        for k in range(copies)
    }
    assert len({digest(picture) for picture in many.values()}) > LOOKED
    fill(tmp_path / "in", many | fields(range(20, 28)))
    fill(tmp_path / "out", {"m.png": mirrored(one), "other.png": field(50)})
    byrote.index(tmp_path / "in", corpus=tmp_path / "c", held_out=tmp_path / "out")
    told = api.remove(tmp_path / "c", [tmp_path / "in" / "copy-0.png"], alike=True)
    assert told["files"] == copies + 1
    assert {row.where for row in Corpus(tmp_path / "c").pictures} == set(fields(range(20, 28))) | {"other.png"}


def test_near_duplicates_stay_where_it_is_not_asked(tmp_path):
    one = field(3, 96, 96)
    corpus = made(tmp_path, duplicates=False, pictures={"one.png": one, "m.png": mirrored(one), "x.png": field(30)})
    assert api.remove(corpus, [tmp_path / "in" / "one.png"])["files"] == 1
    assert {row.where for row in Corpus(corpus).pictures} == {"m.png", "x.png"}


def test_a_picture_that_is_only_near_is_removed_with_alike_and_told_without(tmp_path):
    one = field(3, 96, 96)
    corpus = made(tmp_path, duplicates=False, pictures={"one.png": one, "x.png": field(30)})
    fill(tmp_path, {"asked.png": compressed(mirrored(one), 70)})
    with pytest.raises(CorpusError, match=r"this very picture is not in .*near-duplicate.*--alike"):
        api.remove(corpus, [tmp_path / "asked.png"])
    assert api.remove(corpus, [tmp_path / "asked.png"], alike=True)["files"] == 1
    assert [row.where for row in Corpus(corpus).pictures] == ["x.png"]


def test_a_removed_source_leaves_no_trace_and_the_ledger_has_not_its_path(tmp_path):
    made(tmp_path)
    other = {"other.png": field(41), "broken-thing.png": b"broken"}
    fill(tmp_path / "secret place", other, {"other.png": "other words"})
    byrote.index(tmp_path / "secret place", corpus=tmp_path / "c")
    api.describe(tmp_path / "c", "pdq")
    api.duplicates(tmp_path / "c")
    uri = str(tmp_path / "secret place")
    assert traces(tmp_path / "c", "secret place")
    told = api.remove(tmp_path / "c", sources=[uri])
    assert told["files"] == 2
    gone = [digest(field(41)), "other.png", "other words", "broken-thing", "secret place"]
    assert traces(tmp_path / "c", *gone, *marks("other.png", field(41))) == []
    assert sound(tmp_path / "c") == 12
    assert [one.uri for one in Corpus(tmp_path / "c").named()] == [str(tmp_path / "in")]
    byrote.index(corpus=tmp_path / "c")
    assert len(Corpus(tmp_path / "c").pictures) == 12


def test_a_source_that_was_removed_may_be_added_again(tmp_path):
    corpus = made(tmp_path, duplicates=False)
    before, told = Corpus(corpus).digest, rows(corpus)
    api.remove(corpus, sources=[str(tmp_path / "in")])
    assert Corpus(corpus).pictures == []
    assert Corpus(corpus).named() == []
    again = byrote.index(tmp_path / "in", corpus=corpus)
    assert again.digest == before
    assert rows(corpus) == told
    assert sound(corpus) == 12
    assert api.remove(corpus, sources=[str(tmp_path / "in")])["files"] == 12
    assert Corpus(corpus).pictures == []


def test_a_picture_removed_by_itself_stays_away_when_its_source_is_added_again(tmp_path):
    corpus = made(tmp_path, duplicates=False)
    api.remove(corpus, [digest(field(3))])
    api.remove(corpus, sources=[str(tmp_path / "in")])
    again = byrote.index(tmp_path / "in", corpus=corpus)
    assert len(again.pictures) == 11
    assert digest(field(3)) not in again.by_digest


def test_a_corpus_that_everything_was_taken_out_of_can_be_looked_at_and_filled_again(tmp_path):
    corpus = made(tmp_path, duplicates=False)
    api.remove(corpus, [digest(picture) for picture in NAMES.values()])
    assert Corpus(corpus).pictures == []
    assert api.duplicates(corpus)["files"] == 0
    assert api.summary(corpus)[1].removed == 12
    assert api.check([tmp_path / "in" / GONE], corpus)[0].answer == "not found"
    assert sound(corpus) == 0
    byrote.index(fill(tmp_path / "new", {"n.png": field(60)}), corpus=corpus)
    assert sound(corpus) == 1


def test_to_ask_again_for_what_was_removed_is_no_mistake(tmp_path):
    """So that a removal that was killed can be given again as it was."""
    corpus = made(tmp_path, duplicates=False)
    for first in (1, 0):
        assert api.remove(corpus, [tmp_path / "in" / GONE])["files"] == first
    assert api.remove(corpus, [digest(field(3))])["files"] == 0
    fill(tmp_path / "more", {"new.png": field(40)})
    byrote.index(tmp_path / "more", corpus=corpus)
    for first in (1, 0):
        assert api.remove(corpus, sources=[str(tmp_path / "more")])["files"] == first


def test_what_a_killed_run_left_half_written_goes_too(tmp_path):
    corpus = made(tmp_path, duplicates=False)
    opened = Corpus(corpus)
    folder = opened.store.folder(opened.recipe)
    row = Thumbnail().describe([field(3)])[0].tobytes()
    for name in (".00000.thumbnail.npy.123.tmp", "00009.thumbnail.npy", "00009.unreadable.parquet"):
        (folder / name).write_bytes(row)
    api.remove(corpus, [digest(field(3))])
    assert traces(corpus, row[:300]) == []
    sound(corpus)


def test_nothing_is_removed_where_one_thing_is_not_there(tmp_path):
    corpus = made(tmp_path, duplicates=False)
    before = sorted((path, path.stat().st_mtime_ns) for path in corpus.rglob("*") if path.name != ".lock")
    uri = str(tmp_path / "in")
    fill(tmp_path, {"stranger.png": field(70), "broken.png": b"broken"})
    asked = [
        (["sha256:" + "0" * 64], {}, r"holds no picture 'sha256:0000"),
        ([digest(field(3)), "sha256:" + "0" * 64], {}, "holds no picture"),
        ([tmp_path / "in" / GONE, tmp_path / "stranger.png"], {}, r"stranger\.png: this very picture is not in"),
        ([tmp_path / "in" / GONE, tmp_path / "nowhere.png"], {}, r"nowhere\.png: cannot be read"),
        ([tmp_path / "broken.png"], {}, r"broken\.png: no picture that can be read"),
        ([tmp_path / "stranger.png"], {"alike": True}, r"this very picture is not in .*nothing to remove"),
        ([], {"sources": ["/no/such"]}, r"has no source '/no/such'; it has '.*in'"),
        ([digest(field(3))], {"sources": ["/no/such"]}, "has no source"),
        ([], {"sources": [uri, "/no/such"]}, "has no source"),
    ]
    for pictures, options, said in asked:
        with pytest.raises(CorpusError, match=said) as told:
            api.remove(corpus, pictures, **options)
        assert "\n" not in str(told.value)
    assert sorted((path, path.stat().st_mtime_ns) for path in corpus.rglob("*") if path.name != ".lock") == before


def test_the_command_line_removes_and_tells(tmp_path, capsys):
    corpus = made(tmp_path, duplicates=False)
    capsys.readouterr()
    assert main(["remove", str(tmp_path / "in" / GONE), digest(field(5)), "--corpus", str(corpus), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"files": 2, "parts": 2, "derived": []}
    assert main(["remove", "--source", str(tmp_path / "in"), "--corpus", str(corpus)]) == 0
    assert "10 files taken out" in capsys.readouterr().out
    assert main(["remove", "--corpus", str(corpus)]) == 2
    assert main(["remove", "--source", "/no/such", "--corpus", str(corpus)]) == 2
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2
    assert "nothing to remove; name an IMAGE" in told[0]


def test_what_is_remembered_of_a_removal_says_nothing_of_it(tmp_path):
    corpus = made(tmp_path, duplicates=False)
    api.remove(corpus, [digest(field(3))])
    lines = [json.loads(line) for line in (corpus / "removed.jsonl").read_text().splitlines()]
    assert [line["what"] for line in lines] == ["picture", "file"]
    assert all(set(line) == {"at", "what", "blind"} for line in lines)
    assert digest(field(3)).removeprefix("sha256:") not in (corpus / "removed.jsonl").read_text()
    assert api.summary(corpus)[1].removed == 1


def test_vectors_of_all_descriptors_shrink_in_step(tmp_path):
    corpus = made(tmp_path, duplicates=False)
    api.describe(corpus, "thumbnail:8")
    assert len(vectors(corpus)) == 2
    api.remove(corpus, [digest(field(0)), digest(field(6)), digest(field(7))])
    assert sound(corpus) == 9
    opened = Corpus(corpus)
    for recipe in vectors(corpus):
        assert sum(opened.store.rows(recipe, part) for part in opened.store.parts(recipe)) == 9


def test_a_picture_of_a_quick_corpus_is_removed_by_the_digest_of_its_file(tmp_path):
    fill(tmp_path / "in", NAMES)
    corpus = byrote.index(tmp_path / "in", corpus=tmp_path / "c", quick=True)
    name = next(row.digest for row in corpus.pictures if row.where == GONE)
    assert name.startswith("file:")
    assert api.remove(tmp_path / "c", [name])["files"] == 1
    assert GONE not in {row.where for row in Corpus(tmp_path / "c").pictures}
