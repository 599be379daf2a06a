"""The planted folder of benchmarks/duplicates.py holds what its truth says; figures are what a slow count gives."""

import io
import json
from collections import Counter
from itertools import combinations

import duplicates
import numpy as np
import planting
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from byrote.models.parrot import texture

PHOTOS, SMALL, ORIGINALS, COPIES, TILES = 6, 60, 60, 24, 20


def _bytes(pixels):
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


@pytest.fixture(scope="module")
def parquets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parquets")
    dice = np.random.default_rng(5)
    photos = [_bytes(texture(dice, 288, 300).astype(np.uint8)) for _ in range(PHOTOS)]
    small = [_bytes(texture(dice, 32, 32).astype(np.uint8)) for _ in range(SMALL)]
    pq.write_table(pa.table({"image": photos, "name": [f"p{k}" for k in range(PHOTOS)]}), folder / "photos.parquet")
    columns = {"image": small, "name": [f"c{k}" for k in range(SMALL)], "split": ["train"] * SMALL}
    pq.write_table(pa.table(columns), folder / "cifar.parquet")
    return folder / "photos.parquet", folder / "cifar.parquet"


@pytest.fixture(scope="module")
def planted(parquets, tmp_path_factory):
    out = tmp_path_factory.mktemp("planted") / "a"
    return out, planting.plant(*parquets, out, 3, ORIGINALS, COPIES, TILES)


def test_every_planted_pair_is_a_copy_and_its_original_in_one_half_and_kinds_are_shared_equally(planted):
    out, truth = planted
    files = truth["files"]
    assert [row["file"] for row in files] == sorted(path.name for path in (out / "pictures").iterdir())
    assert len(files) == ORIGINALS + COPIES
    assert len(truth["pairs"]) == COPIES
    for i, j in truth["pairs"]:
        assert i < j
        assert (files[i]["edit"] is None) != (files[j]["edit"] is None)
        assert all(files[i][key] == files[j][key] for key in ("original", "half", "origin", "name"))
    assert len({files[i]["original"] for i, _ in truth["pairs"]}) == COPIES
    assert set(Counter(row["edit"] for row in files if row["edit"]).values()) == {COPIES // len(planting.EDITS)}
    assert truth == json.loads((out / "truth.json").read_text())


def test_the_same_seed_plants_the_same_files_and_another_seed_others(planted, parquets, tmp_path):
    out, truth = planted
    again = planting.plant(*parquets, tmp_path / "again", 3, ORIGINALS, COPIES, TILES)
    assert again == truth
    for row in truth["files"]:
        assert (out / "pictures" / row["file"]).read_bytes() == (tmp_path / "again/pictures" / row["file"]).read_bytes()
    other = planting.plant(*parquets, tmp_path / "other", 4, ORIGINALS, COPIES, TILES)
    assert other["files"] != truth["files"]


def test_a_copy_holds_the_pixels_its_numbers_name(planted):
    out, truth = planted
    files = truth["files"]
    read = [np.asarray(Image.open(out / "pictures" / row["file"]).convert("RGB"), np.float32) for row in files]
    whole = {row["original"]: pixels for row, pixels in zip(files, read, strict=True) if row["edit"] is None}
    seen = Counter()
    for row, pixels in zip(files, read, strict=True):
        first = whole[row["original"]]
        if row["edit"] == "crop":
            left, top, right, bottom = row["numbers"]["box"]
            expected = first[top:bottom, left:right]
        elif row["edit"] == "mirror":
            expected = first[:, ::-1]
        elif row["edit"] == "turn":
            expected = np.rot90(first, row["numbers"]["degrees"] // 90)
        elif row["edit"] == "jpeg":
            expected = first
        else:
            continue
        assert pixels.shape == expected.shape
        assert np.sqrt(((pixels - expected) ** 2).mean()) < 25, row
        seen[row["edit"]] += 1
    assert set(seen) == {"crop", "mirror", "turn", "jpeg"}


def test_text_covers_three_to_seven_hundredths_and_changes_little_else(planted):
    _, truth = planted
    covers = [row["numbers"]["covers"] for row in truth["files"] if row["edit"] == "text"]
    assert covers
    assert all(0.03 <= share < 0.07 for share in covers)


def test_too_few_originals_are_told_and_nothing_is_written(parquets, tmp_path):
    with pytest.raises(ValueError, match="plant fewer"):
        planting.plant(*parquets, tmp_path / "a", 3, ORIGINALS + 100, COPIES, TILES)
    assert not (tmp_path / "a").exists()


@given(st.integers(0, 2**32 - 1), st.floats(0.02, 0.3))
def test_near_by_pixels_finds_what_comparing_all_with_all_in_eight_orientations_finds(seed, within):
    dice = np.random.default_rng(seed)
    pictures = dice.uniform(0.3, 0.7, (3, 32, 32, 3))
    moved = np.rot90(pictures[0], dice.integers(4)) + dice.normal(0, dice.uniform(0, 0.3), (32, 32, 3))
    thumbs = np.concatenate([pictures, moved[None], pictures[1:2, :, ::-1]]).astype(np.float32)
    slow = set()
    for i, j in combinations(range(len(thumbs)), 2):
        for k in range(4):
            for turned in (np.rot90(thumbs[j], k), np.rot90(thumbs[j], k)[:, ::-1]):
                if ((thumbs[i] - turned) ** 2).mean() < within**2:
                    slow.add((i, j))
    assert {tuple(pair) for pair in planting.near_by_pixels(thumbs, within).tolist()} == slow


def test_near_by_signs_and_by_crops_find_a_mirror_and_a_crop_and_no_stranger():
    dice = np.random.default_rng(8)
    large = np.stack([texture(dice, 64, 64) for _ in range(12)]).astype(np.float32) / 255
    grey = np.concatenate([large.mean(3), large[:1, :, ::-1].mean(3)])
    assert planting.near_by_signs(grey).tolist() == [[0, 12]]
    thumbs = planting.block_means(large, 32)
    crop = planting.squeezed((large[2, 0:56, 8:64] * 255).astype(np.uint8), 32).astype(np.float32)[None] / 255
    assert planting.near_by_crops(np.concatenate([thumbs, crop])).tolist() == [[2, 12]]
    assert planting.near_by_crops(np.concatenate([thumbs, crop[:, :, ::-1]])).tolist() == [[2, 12]]
    assert planting.near_by_crops(thumbs).tolist() == []


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)).filter(lambda p: p[0] < p[1]), max_size=20))
def test_of_no_pair_both_stay_and_whoever_goes_has_a_partner_that_stays(pairs):
    stays = planting.kept(10, np.array(pairs, np.int64).reshape(-1, 2))
    assert not any(stays[i] and stays[j] for i, j in pairs)
    assert all(stays[k] or any(stays[i] for i, j in pairs if j == k) for k in range(10))


@st.composite
def _answers(draw):
    n = 16  # files 2k and 2k + 1 are an original and its copy for k < 6
    pairs = draw(st.sets(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)).filter(lambda p: p[0] < p[1])))
    pairs = sorted(pairs | {(2 * k, 2 * k + 1) for k in draw(st.sets(st.integers(0, 5)))})
    scores = draw(st.lists(st.integers(0, 4), min_size=len(pairs), max_size=len(pairs)))
    return np.array(pairs, np.int64).reshape(-1, 2), np.array(scores, np.float64)


def _truth():
    kinds = list(planting.EDITS)
    files = []
    for k in range(16):
        original = k // 2 if k < 12 else k
        edit = kinds[original] if k < 12 and k % 2 else None
        files.append({"half": "AB"[original % 2], "origin": "cifar", "original": original, "edit": edit})
    return duplicates.Truth.of({"files": files, "pairs": [[2 * k, 2 * k + 1] for k in range(6)]})


@given(_answers(), st.sampled_from("AB"))
def test_the_threshold_is_the_best_of_all_and_figures_are_what_a_slow_count_gives(answers, half):
    pairs, scores = answers
    truth = _truth()

    def counts(limit):
        given = [(i, j) for (i, j), s in zip(pairs.tolist(), scores, strict=True) if s <= limit]
        given = [(i, j) for i, j in given if truth.half[i] == half == truth.half[j]]
        right = [(i, j) for i, j in given if i // 2 == j // 2 and j < 12]
        return len(right), len(given), 3

    def f1(limit):
        right, given, planted = counts(limit)
        return 2 * right / (given + planted)

    threshold = duplicates.best_threshold(truth, pairs, scores, half)
    assert f1(threshold) == max(f1(limit) for limit in (-1, 0, 1, 2, 3, 4))
    told = duplicates.figures(truth, pairs[scores <= threshold], half)
    assert (told["right"], told["given"], told["planted"]) == counts(threshold)
    assert told["f1"] == round(f1(threshold), 4)
    assert sum(kind["right"] for kind in told["recall by kind"].values()) == told["right"]


def test_a_tool_that_finds_exactly_what_was_planted_scores_one_with_an_interval_of_one():
    truth = _truth()
    pairs = np.array([[2 * k, 2 * k + 1] for k in range(6)])
    told, _ = duplicates.judged(truth, pairs, np.zeros(6))
    assert (told["f1"], told["f1 interval"]) == (1.0, [1.0, 1.0])
    wrong, _ = duplicates.judged(truth, np.concatenate([pairs, [[2, 6], [14, 15], [13, 15]]]), np.zeros(9))
    assert wrong["f1"] == pytest.approx(2 * 3 / (3 + 5), abs=1e-4)
    assert wrong["f1 interval"][0] < wrong["f1"]
