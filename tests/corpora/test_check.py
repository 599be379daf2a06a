"""Is this picture in the corpus? It says so of exact, moved and cropped ones, and of no others."""

import json

import numpy as np
import pytest

import byrote
from byrote import api, images
from byrote.cli import main
from byrote.corpora.check import LOOKED
from byrote.errors import CorpusError
from byrote.kernels.stats import clopper_pearson
from byrote.kernels.waves import TURNS, turn_pixels
from byrote.plan import CorpusPlan

from .shots import captions_of, cropped, digest, field, fields, fill, mirrored

SIDE = 96


def drawn(seed):
    return field(seed, SIDE, SIDE)


PICTURES = {f"{seed:02d}.png": drawn(seed) for seed in range(30)} | {"again.png": drawn(4)}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Make a corpus without controls; nobody changes it."""
    root = tmp_path_factory.mktemp("check")
    fill(root / "in", PICTURES, captions_of(PICTURES))
    byrote.index(root / "in", corpus=root / "corpus")
    return root / "corpus"


def asked(corpus, folder, picture, plan=None, **options):
    path = folder / "asked.png"
    path.write_bytes(picture if isinstance(picture, bytes) else images.encode_png(picture))
    (found,) = api.check([path], corpus, plan, **options)
    return found


def test_the_very_pixels_are_in_it_with_all_their_files_and_captions(corpus, tmp_path):
    found = asked(corpus, tmp_path, drawn(4))
    assert found.answer == "in it"
    assert found.digest == digest(drawn(4))
    best = found.nearest[0]
    assert (best.digest, best.rms, best.copies) == (found.digest, 0.0, 2)
    assert set(best.where) == {"04.png", "again.png"}
    assert set(best.captions) == {"a caption of 04", "a caption of again"}


def test_the_very_pixels_come_before_a_copy_that_is_as_good_as_them(tmp_path):
    one = drawn(4)
    other = one.copy()
    other[0, 0] ^= 1
    corpus = byrote.index(fill(tmp_path / "in", {"a.png": other, "b.png": one}), corpus=tmp_path / "c")
    assert [near.where for near in asked(corpus.root, tmp_path, one).nearest] == [("b.png",), ("a.png",)]
    assert [near.where for near in asked(corpus.root, tmp_path, other).nearest] == [("a.png",), ("b.png",)]


@pytest.mark.parametrize("seed", range(5))
def test_a_mirrored_cropped_and_compressed_copy_is_found_with_its_turn_and_window(corpus, tmp_path, seed):
    share, left, top = 0.875, 0.0625, 0.03125
    found = asked(corpus, tmp_path, images.encode_jpeg(mirrored(cropped(drawn(seed), share, left, top)), 50))
    assert found.answer == "near-duplicate"
    best = found.nearest[0]
    assert best.digest == digest(drawn(seed))
    assert (best.shows, best.turn) == ("query", "mirrored")
    assert best.window == pytest.approx((left, top, share, share), abs=0.03)
    assert best.evidence > 3


@pytest.mark.parametrize("turn", range(8))
def test_the_one_that_is_shown_is_the_other_again_after_its_turn(corpus, tmp_path, turn):
    query = np.ascontiguousarray(turn_pixels(drawn(7)[None], turn)[0])
    found = asked(corpus, tmp_path, query)
    best = found.nearest[0]
    assert best.digest == digest(drawn(7))
    shown, holder = (query, drawn(7)) if best.shows == "query" else (drawn(7), query)
    assert (turn_pixels(shown[None], TURNS.index(best.turn))[0] == holder).all()
    assert found.answer == ("near-duplicate" if turn else "in it")


def test_a_query_that_holds_a_picture_of_the_corpus_is_found_with_its_window(tmp_path):
    larger = field(8, 128, 128)
    held = cropped(larger, 0.875, 0.0625, 0.03125)
    pictures = {"held.png": held} | {f"{seed}.png": drawn(seed) for seed in range(40, 52)}
    corpus = byrote.index(fill(tmp_path / "in", pictures), corpus=tmp_path / "c")
    found = asked(corpus.root, tmp_path, larger)
    assert found.answer == "near-duplicate"
    assert found.nearest[0].where == ("held.png",)
    assert found.nearest[0].shows == "corpus"
    assert found.nearest[0].window == pytest.approx((0.0625, 0.03125, 0.875, 0.875), abs=0.03)


@pytest.mark.parametrize("seed", range(200, 208))
def test_a_stranger_is_not_found(corpus, tmp_path, seed):
    found = asked(corpus, tmp_path, drawn(seed))
    assert found.answer == "not found"
    assert not any(near.calls(CorpusPlan()) for near in found.nearest)


def test_a_copy_whose_source_is_gone_is_found_by_what_the_corpus_keeps(tmp_path):
    corpus = byrote.index(fill(tmp_path / "in", fields(range(9))), corpus=tmp_path / "c")
    for path in (tmp_path / "in").iterdir():
        path.unlink()
    assert asked(corpus.root, tmp_path, field(3)).answer == "in it"
    found = asked(corpus.root, tmp_path, mirrored(field(3)))
    assert (found.answer, found.nearest[0].digest) == ("near-duplicate", digest(field(3)))


def test_only_the_training_set_is_looked_at(tmp_path):
    fill(tmp_path / "in", fields(range(6)))
    fill(tmp_path / "out", {"control.png": field(60)})
    corpus = byrote.index(tmp_path / "in", corpus=tmp_path / "c", held_out=tmp_path / "out")
    assert asked(corpus.root, tmp_path, field(60)).answer == "not found"


def test_a_near_duplicate_as_it_stands_is_told_though_another_has_more_evidence(tmp_path):
    """The nearest by distance lies within `near`, the nearest by evidence below `alike`."""
    one = field(3, 64, 64)
    noisy = np.clip(one + 8.0 * np.random.default_rng(0).standard_normal(one.shape), 0, 255).astype(np.uint8)
    corpus = byrote.index(fill(tmp_path / "in", {"a.png": one} | fields(range(10, 16))), corpus=tmp_path / "c")
    found = asked(corpus.root, tmp_path, noisy, CorpusPlan(near=0.05, alike=100.0))
    assert found.answer == "near-duplicate"
    assert found.nearest[0].where == ("a.png",)
    assert asked(corpus.root, tmp_path, noisy, CorpusPlan(near=0.0, alike=100.0)).answer == "not found"


def test_as_many_are_told_as_are_asked_for(corpus, tmp_path):
    all_of_them = asked(corpus, tmp_path, drawn(3), show=1000).nearest
    assert 1 <= len(all_of_them) <= 3 * LOOKED
    assert asked(corpus, tmp_path, drawn(3), show=1).nearest == all_of_them[:1]


def test_many_queries_say_what_each_would_alone(corpus, tmp_path):
    queries = {"in.png": drawn(3), "near.jpg": images.encode_jpeg(mirrored(drawn(5)), 60), "no.png": drawn(300)}
    fill(tmp_path, queries)
    paths = [tmp_path / name for name in queries]
    together = api.check(paths, corpus)
    assert [one.answer for one in together] == ["in it", "near-duplicate", "not found"]
    assert [one.nearest[:1] for one in together] == [api.check([path], corpus)[0].nearest[:1] for path in paths]


def test_a_corpus_without_controls_says_that_it_is_uncalibrated(corpus, tmp_path):
    found = asked(corpus, tmp_path, drawn(3))
    assert found.alarms is None
    assert found.note.startswith("uncalibrated: the corpus holds no controls")


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory):
    """Make a corpus of which some controls are near pictures, as they stand or moved, more or less so."""
    root = tmp_path_factory.mktemp("calibrated")
    rng = np.random.default_rng(1)
    controls = {f"c{seed}.png": drawn(500 + seed) for seed in range(12)}
    for k, level in enumerate((2, 4, 6, 9, 12, 16, 22)):
        noise = level * rng.standard_normal((SIDE, SIDE, 3))
        controls[f"n{k}.png"] = np.clip(drawn(k) + noise, 0, 255).astype(np.uint8)
        controls[f"m{k}.png"] = np.clip(mirrored(drawn(10 + k)) + noise, 0, 255).astype(np.uint8)
    fill(root / "in", PICTURES)
    fill(root / "out", controls)
    byrote.index(root / "in", corpus=root / "corpus", held_out=root / "out")
    return root, controls


def nearest_of(root, controls, tmp_path):
    """Ask for each control by itself: what it comes to against the training set alone."""
    alone = byrote.index(root / "in", corpus=tmp_path / "alone")
    fill(tmp_path / "controls", controls)
    return api.check([tmp_path / "controls" / name for name in controls], alone.root, show=1000)


def test_controls_count_once_duplicates_were_looked_for_and_as_often_as_they_truly_come_as_near(calibrated, tmp_path):
    root, controls = calibrated
    assert asked(root / "corpus", tmp_path, drawn(3)).note.startswith("uncalibrated: `byrote duplicates` has not")
    api.duplicates(root / "corpus")
    each = nearest_of(root, controls, tmp_path)
    counts = set()
    for k, level in enumerate((1, 5, 8, 11)):
        noise = level * np.random.default_rng(9 + k).standard_normal((SIDE, SIDE, 3))
        query = np.clip(mirrored(drawn(20 + k)) + noise, 0, 255).astype(np.uint8)
        found = asked(root / "corpus", tmp_path, query)
        assert found.answer == "near-duplicate"
        wanted = found.nearest[0].evidence
        truly = sum(any((near.evidence or -99) >= wanted for near in one.nearest) for one in each)
        assert (found.alarms.k, found.alarms.n) == (truly, len(controls))
        assert found.alarms.high == clopper_pearson(truly, len(controls), 0.95)[1]
        counts.add(truly)
    assert len(counts) > 1, "the queries are told apart"


def test_controls_count_by_distance_where_that_is_what_speaks_for_the_query(calibrated, tmp_path):
    root, controls = calibrated
    api.duplicates(root / "corpus")
    each = nearest_of(root, controls, tmp_path)
    plan = CorpusPlan(near=0.1, alike=100.0)
    api.duplicates(root / "corpus", plan)
    noise = 9 * np.random.default_rng(9).standard_normal((SIDE, SIDE, 3))
    found = asked(root / "corpus", tmp_path, np.clip(drawn(25) + noise, 0, 255).astype(np.uint8), plan)
    assert found.answer == "near-duplicate"
    truly = sum(any(near.rms is not None and near.rms <= found.nearest[0].rms for near in one.nearest) for one in each)
    assert found.alarms.k == truly > 0


def test_the_very_pixels_count_the_controls_that_are_the_very_pixels_of_a_picture(calibrated, tmp_path):
    root, controls = calibrated
    api.duplicates(root / "corpus")
    found = asked(root / "corpus", tmp_path, drawn(3))
    assert found.answer == "in it"
    assert (found.alarms.k, found.alarms.n) == (0, len(controls))


def test_of_a_stranger_nothing_is_said_of_false_alarms(calibrated, tmp_path):
    """Controls that are farther than what is kept cannot be counted."""
    root, _ = calibrated
    api.duplicates(root / "corpus")
    found = asked(root / "corpus", tmp_path, drawn(300))
    assert (found.answer, found.alarms, found.note) == ("not found", None, "")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "zero bytes"),
        (b"no picture", "not an image"),
        (images.encode_png(drawn(1))[:300], "truncated"),
        (None, ""),
    ],
)
def test_an_image_that_cannot_be_read_is_one_clear_line(corpus, tmp_path, capsys, data, said):
    path = tmp_path / "asked.png"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(CorpusError, match=r"asked\.png: .*read"):
        api.check([path], corpus)
    assert main(["check", str(path), "--corpus", str(corpus)]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1
    assert said in told.err


def test_the_command_line_answers_as_json_and_in_words(corpus, tmp_path, capsys):
    fill(tmp_path, {"in.png": drawn(4), "near.png": mirrored(cropped(drawn(5))), "no.png": drawn(300)})
    paths = [str(tmp_path / name) for name in ("in.png", "near.png", "no.png")]
    assert main(["check", *paths, "--corpus", str(corpus), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["checked"]
    assert [one["answer"] for one in told] == ["in it", "near-duplicate", "not found"]
    assert told[0]["nearest"][0]["where"] == ["04.png", "again.png"]
    assert main(["check", *paths, "--corpus", str(corpus), "--show", "1"]) == 0
    words = capsys.readouterr().out
    assert "in.png: in it: the very pixels (uncalibrated" in words
    assert "near.png: near-duplicate of a picture in it" in words
    assert "no.png: not found" in words
    assert "04.png and 1 more files; distance 0.000" in words
    assert "this mirrored, 85% x 85% of it from 10%, 5%" in words


def test_an_empty_training_set_holds_nothing(tmp_path):
    fill(tmp_path / "out", fields(range(3)))
    byrote.index(corpus=tmp_path / "c", held_out=tmp_path / "out")
    assert asked(tmp_path / "c", tmp_path, field(0)).answer == "not found"
