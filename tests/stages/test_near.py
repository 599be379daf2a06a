"""Near-duplicates of drawn pictures: what was planted is found, and nothing else."""

import json
import shutil

import numpy as np
import pytest
from corpora.shots import COPIES, compressed, cropped, digest, field, fields, fill, mirrored, quarter

import byrote
from byrote import api, images
from byrote.cli import main
from byrote.descriptors.whole import Whole
from byrote.domain import Group
from byrote.errors import CorpusError, PlanError
from byrote.kernels.waves import turn_pixels
from byrote.plan import CorpusPlan
from byrote.stages import dedupe
from byrote.stages.near import RADIUS

PLAN = CorpusPlan()
SINGLE = 24
"""Pictures of the planted folder that have copies or none; copies come on top."""


def planted():
    """Draw pictures, and of two of them each kind of copy; return all by name, and the pairs that are meant."""
    singles = [field(100 + k, 96, 96) for k in range(SINGLE)]
    pictures = {f"{k:02d}.png": picture for k, picture in enumerate(singles)}
    meant = set()
    for k, (kind, copy) in enumerate(COPIES.items()):
        for of in (2 * k, 2 * k + 1):
            pictures[f"{of:02d}-{kind}.png"] = copy(singles[of])
            meant.add(frozenset({f"{of:02d}.png", f"{of:02d}-{kind}.png"}))
    return pictures, meant


@pytest.fixture(scope="module")
def pictures():
    return planted()[0]


@pytest.fixture(scope="module")
def root(pictures, tmp_path_factory):
    """Make a corpus in which near-duplicates were looked for; nobody changes it."""
    root = tmp_path_factory.mktemp("near")
    fill(root / "in", pictures)
    byrote.index(root / "in", corpus=root / "corpus")
    api.duplicates(root / "corpus")
    return root


def near(corpus, plan=PLAN):
    """Return the pairs that a plan calls near, by the names of the files."""
    names = {row.digest: row.where for row in corpus.pictures}
    pairs = [pair for pair in dedupe.measured(corpus, plan) if dedupe.alike(pair.rms, pair.evidence, plan)]
    return {frozenset({names[pair.a], names[pair.b]}): pair for pair in pairs}


def made(folder, *tables):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for table in tables
        for path in sorted((folder / table).rglob("*"))
        if path.is_file()
    }


def corpus_of(root, pictures):
    fill(root / "in", pictures)
    return byrote.index(root / "in", corpus=root / "corpus")


def test_the_copies_that_were_planted_are_found_and_no_others(root):
    assert set(near(api.Corpus.at(root / "corpus"))) == planted()[1]


def test_groups_are_the_planted_pictures_with_their_copies(root):
    corpus = api.Corpus.at(root / "corpus")
    names = {row.digest: row.where for row in corpus.pictures}
    members = {}
    for row in corpus.store.read_all(Group, dedupe.recipe(corpus, PLAN)):
        members.setdefault(row.group, set()).add(names[row.digest])
    assert {frozenset(group) for group in members.values() if len(group) > 1} == planted()[1]
    assert len(members) == SINGLE


def test_the_turn_and_the_window_lead_from_one_picture_to_the_other(root, pictures):
    names = {digest(picture): name for name, picture in pictures.items()}
    seen = 0
    for pair in near(api.Corpus.at(root / "corpus")).values():
        holder, shown = pictures[names[pair.a]], pictures[names[pair.b]]
        upright = np.ascontiguousarray(turn_pixels(shown[None], pair.turn)[0])
        height, width = holder.shape[:2]
        left, top = round(pair.left * width), round(pair.top * height)
        right, bottom = round((pair.left + pair.width) * width), round((pair.top + pair.height) * height)
        cut = np.ascontiguousarray(holder[max(0, top) : bottom, max(0, left) : right])
        a, b = (images.resize(one, 32, 32).astype(float) for one in (cut, upright))
        assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.95, names[pair.b]
        seen += 1
    assert seen == 2 * len(COPIES)


def test_a_crop_is_held_by_the_picture_that_it_was_cut_from(root):
    corpus = api.Corpus.at(root / "corpus")
    names = {row.digest: row.where for row in corpus.pictures}
    crops = [pair for pair in near(corpus).values() if "cropped" in names[pair.a] + names[pair.b]]
    assert len(crops) == 2
    for pair in crops:
        assert "cropped" in names[pair.b]
        assert [pair.left, pair.top] == pytest.approx([10 / 96, 5 / 96], abs=0.03)
        assert [pair.width, pair.height] == pytest.approx([82 / 96, 82 / 96], abs=0.03)


def test_two_workers_write_the_same_bytes_as_one(root, pictures, tmp_path):
    fill(tmp_path / "in", pictures)
    byrote.index(tmp_path / "in", corpus=tmp_path / "corpus", jobs=2)
    api.duplicates(tmp_path / "corpus", jobs=2)
    one, two = (made(where / "corpus", "likely", "pairs", "groups") for where in (root, tmp_path))
    assert len(one) > 6
    assert one == two


def test_a_second_run_computes_nothing(root):
    before = (root / "corpus" / "ledger.jsonl").read_bytes()
    first = api.duplicates(root / "corpus")
    assert api.duplicates(root / "corpus", jobs=2) == first
    assert (root / "corpus" / "ledger.jsonl").read_bytes() == before


def test_other_thresholds_draw_groups_anew_without_measuring_again(root, tmp_path):
    shutil.copytree(root / "corpus", tmp_path / "corpus")
    ledger, measured = tmp_path / "corpus" / "ledger.jsonl", made(tmp_path / "corpus", "likely", "pairs")
    before = ledger.read_text().splitlines()
    strict = api.duplicates(tmp_path / "corpus", CorpusPlan(near=0.0, alike=100.0))
    lax = api.duplicates(tmp_path / "corpus", CorpusPlan(near=0.1, alike=-4.0))
    new = [json.loads(line) for line in ledger.read_text().splitlines()[len(before) :]]
    assert {line["table"] for line in new} == {"groups"}
    assert sum(line["event"] == "done" for line in new) == 2
    assert made(tmp_path / "corpus", "likely", "pairs") == measured
    assert strict["duplicated"] == strict["pairs"] == 0
    assert lax["pairs"] >= 2 * len(COPIES)
    assert lax["duplicated"] > 0


def test_a_wider_search_for_crops_is_another_search(root, tmp_path):
    shutil.copytree(root / "corpus", tmp_path / "corpus")
    found = near(api.Corpus.at(tmp_path / "corpus"))
    api.duplicates(tmp_path / "corpus", CorpusPlan(crop=1.0))
    whole = near(api.Corpus.at(tmp_path / "corpus"), CorpusPlan(crop=1.0))
    assert set(whole) < set(found)
    assert not any("cropped" in name for pair in whole for name in pair)


def test_a_quick_look_finds_what_is_not_cropped(root, tmp_path):
    shutil.copytree(root / "corpus", tmp_path / "corpus")
    plan = CorpusPlan(quick=True)
    api.duplicates(tmp_path / "corpus", plan)
    crops = {pair for pair in planted()[1] if any("cropped" in name for name in pair)}
    assert set(near(api.Corpus.at(tmp_path / "corpus"), plan)) == planted()[1] - crops


def test_pairs_as_they_stand_are_those_of_every_distance(tmp_path):
    rng = np.random.default_rng(5)
    base = [field(300 + k).astype(float) for k in range(6)]
    noisy = {
        f"{k}-{level}.png": np.clip(np.rint(one + level * rng.standard_normal(one.shape)), 0, 255).astype(np.uint8)
        for k, one in enumerate(base)
        for level in (0, 2, 5, 9, 14, 20, 27)
    }
    corpus = corpus_of(tmp_path, noisy)
    api.duplicates(corpus.root)
    small = Whole().describe(list(noisy.values())).astype(np.float64) / 255
    digests = dict(zip(map(digest, noisy.values()), small, strict=True))
    expected = {}
    for a, ours in digests.items():
        for b, theirs in digests.items():
            apart = float(np.sqrt(((ours - theirs) ** 2).mean()))
            assert abs(apart - RADIUS) > 1e-5
            if a < b and apart <= RADIUS:
                expected[frozenset({a, b})] = apart
    pairs = dedupe.measured(corpus, PLAN)
    found = {frozenset({pair.a, pair.b}): pair.rms for pair in pairs if pair.rms is not None}
    assert set(found) == set(expected)
    assert all(found[pair] == pytest.approx(expected[pair], abs=1e-6) for pair in expected)
    assert 50 < len(expected) < len(noisy) * (len(noisy) - 1) // 2


def test_a_pair_is_there_once_and_never_with_itself(root):
    pairs = dedupe.measured(api.Corpus.at(root / "corpus"), PLAN)
    assert all(pair.a != pair.b for pair in pairs)
    assert len({frozenset({pair.a, pair.b}) for pair in pairs}) == len(pairs)


def test_copies_of_copies_are_one_group(tmp_path):
    one = field(7, 96, 96)
    family = {"a.png": one, "b.png": mirrored(one), "c.png": quarter(mirrored(one)), "d.png": compressed(one)}
    corpus = corpus_of(tmp_path, family | fields(range(8)))
    told = api.duplicates(corpus.root)
    assert (told["files"], told["groups"], told["duplicated"], told["spare"]) == (12, 9, 1, 3)


def test_exact_copies_are_one_group_without_any_pair(tmp_path):
    same = field(1)
    corpus = corpus_of(tmp_path, {"a.png": same, "b.png": same, "c.png": images.encode_png(same)} | fields([5, 6]))
    told = api.duplicates(corpus.root)
    assert (told["files"], told["groups"], told["spare"], told["pairs"]) == (5, 3, 2, 0)


def test_a_control_that_is_a_moved_copy_of_a_picture_is_set_aside(tmp_path):
    one = field(9, 96, 96)
    fill(tmp_path / "in", {"a.png": one} | fields(range(4)))
    fill(tmp_path / "out", {"b.png": mirrored(cropped(one, 0.9, 0.05, 0.05)), "c.png": field(50)})
    corpus = byrote.index(tmp_path / "in", corpus=tmp_path / "corpus", held_out=tmp_path / "out")
    api.duplicates(corpus.root)
    rows = corpus.store.read_all(Group, dedupe.recipe(corpus, PLAN))
    names = {row.digest: row.where for row in corpus.pictures}
    assert {names[row.digest] for row in rows if row.set_aside} == {"a.png", "b.png"}


def test_flat_pictures_are_near_by_their_colours_only(tmp_path):
    colours = [(0, 0, 0), (2, 2, 2), (255, 255, 255), (255, 0, 0), (0, 0, 255), (90, 90, 90)]
    flat = {f"{k}.png": np.full((64, 64, 3), colour, np.uint8) for k, colour in enumerate(colours)}
    corpus = corpus_of(tmp_path, flat | fields(range(4)))
    api.duplicates(corpus.root)
    assert set(near(corpus)) == {frozenset({"0.png", "1.png"})}


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_corpus_of_hardly_any_pictures_has_no_duplicates(tmp_path, count):
    corpus = corpus_of(tmp_path, {"broken.png": b"no picture"} | fields(range(count)))
    told = api.duplicates(corpus.root)
    assert told == {"files": count, "groups": count, "duplicated": 0, "spare": 0, "pairs": 0}


def test_the_command_line_tells_the_same_in_words_and_as_json(root, capsys):
    assert main(["duplicates", "--corpus", str(root / "corpus"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == api.duplicates(root / "corpus")
    assert main(["duplicates", "--corpus", str(root / "corpus")]) == 0
    words = capsys.readouterr().out
    assert f"{told['files']} files in {told['groups']} groups" in words
    assert f"{told['spare']} files could go" in words


@pytest.mark.parametrize(("option", "value"), [("--near", "0.2"), ("--crop", "0.5"), ("--crop", "1.5")])
def test_a_threshold_out_of_range_is_told_in_one_line(root, capsys, option, value):
    assert main(["duplicates", "--corpus", str(root / "corpus"), option, value]) == 2
    told = capsys.readouterr()
    assert told.err.count("\n") == 1
    assert option in told.err
    assert value in told.err


def test_a_descriptor_that_described_the_corpus_has_its_word_too(tmp_path):
    one = field(7, 96, 96)
    corpus = corpus_of(tmp_path, {"a.png": one, "b.png": mirrored(one)} | fields(range(8)))
    assert api.duplicates(corpus.root, CorpusPlan(alike=99.0, near=0.0))["duplicated"] == 0
    with pytest.raises(CorpusError, match="byrote describe"):
        api.duplicates(corpus.root, CorpusPlan(alike=99.0, near=0.0, descriptor="pdq"))
    api.describe(corpus.root, "pdq")
    assert api.duplicates(corpus.root, CorpusPlan(alike=99.0, near=0.0, descriptor="pdq"))["duplicated"] == 0
    loose = CorpusPlan(alike=99.0, near=0.0, descriptor="pdq", similar=256.0)
    assert api.duplicates(corpus.root, loose)["groups"] == 1


def test_a_descriptor_without_a_threshold_wants_one(tmp_path):
    corpus = corpus_of(tmp_path, fields(range(3)))
    with pytest.raises(PlanError, match="similar"):
        api.duplicates(corpus.root, CorpusPlan(descriptor="thumbnail"))
