"""What reviewers get gives nothing away: no name, order, size or trace tells candidate, control and planted apart."""

import csv
import json
import re
import struct
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from byrote import images
from byrote.demo.portraits import draw as portrait
from byrote.demo.portraits import meet
from byrote.review import VERDICTS, draw, sheets
from byrote.review.draw import Pair
from byrote.review.planted import Lefts, detail, packed, replant

from .pairs import matches

PICTURE, SAMPLE = 64, 32


@pytest.fixture(scope="module")
def shown():
    """Return a key and its images: pictures of 64 pixels, and samples of 32 that are copies with white noise."""
    key = draw.draw(
        matches(*np.linspace(0.01, 0.6, 40)) + matches(*np.linspace(0.1, 0.6, 20), side="control"),
        tau=0.15,
        reach=0.21,
        count=40,
        seed=1,
    )
    pictures = {pair.picture: portrait(meet("sheets", k)) for k, pair in enumerate(key.pairs)}
    rng = np.random.default_rng(1)
    samples = {pair.sample: memory(pictures[pair.picture], rng) for pair in key.pairs if pair.sample}
    return key, {digest: images.fit(image, PICTURE, PICTURE) for digest, image in pictures.items()}, samples


def memory(picture, rng):
    """Return what a model gives back that knows a picture well: coarse, with noise as large as the parrot's."""
    coarse = images.fit(picture, SAMPLE, SAMPLE).astype(float)
    return np.clip(np.rint(coarse + rng.normal(0, rng.uniform(2, 10), coarse.shape)), 0, 255).astype(np.uint8)


def write(folder, shown):
    key, pictures, samples = shown
    return sheets.write(folder, key, pictures.get, samples.get)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, shown):
    folder = tmp_path_factory.mktemp("sheets")
    assert write(folder, shown) == 0
    return folder


def halves(folder, pair):
    image = images.decode((folder / "pairs" / f"{pair.id}.png").read_bytes()).astype(float)
    return image[:, : sheets.EDGE], image[:, -sheets.EDGE :]


def of(key, kind):
    return [pair for pair in key.pairs if pair.kind == kind]


def test_the_folder_holds_the_sheets_and_nothing_else(folder, shown):
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert names == ["pairs.html", *(f"pairs/{pair.id}.png" for pair in shown[0].pairs), "verdicts.csv"]


def test_the_table_lists_every_pair_in_the_order_of_the_sheets_and_is_blank(folder, shown):
    rows = list(csv.reader((folder / "verdicts.csv").read_text().splitlines()))
    assert rows == [["id", "verdict", "note"], *([pair.id, "", ""] for pair in shown[0].pairs)]


def test_ids_survive_a_spreadsheet_that_takes_words_of_digits_for_numbers(shown):
    assert not any(pair.id.isdigit() for pair in shown[0].pairs)


def test_the_page_says_the_same_of_every_pair(folder, shown):
    page = (folder / "pairs.html").read_text()
    figures = re.findall(r"<figure>.*?</figure>", page)
    ids = [re.search(r"p\w{6}-\d{4}", figure)[0] for figure in figures]
    assert ids == [pair.id for pair in shown[0].pairs]
    assert len({figure.replace(name, "") for figure, name in zip(figures, ids, strict=True)}) == 1
    assert all(word in page for word in VERDICTS)


def test_no_file_names_a_kind_a_stratum_a_digest_or_a_distance(folder, shown):
    key = shown[0]
    text = (folder / "pairs.html").read_text() + (folder / "verdicts.csv").read_text()
    secrets = {*draw.STRATA, "candidate", "control", "planted", "key.json", "sha256"}
    secrets |= {p.picture for p in key.pairs} | {p.sample for p in key.pairs if p.sample}
    secrets |= {json.dumps(p.statistic)[:6] for p in key.pairs if p.statistic is not None}
    assert [secret for secret in secrets if secret in text] == []


def test_the_images_have_one_size_and_no_metadata(folder, shown):
    for pair in shown[0].pairs:
        data = (folder / "pairs" / f"{pair.id}.png").read_bytes()
        chunks, at = set(), 8
        while at < len(data):
            length, name = struct.unpack(">I4s", data[at : at + 8])
            chunks.add(name)
            at += 12 + length
        assert chunks == {b"IHDR", b"IDAT", b"IEND"}
        assert images.decode(data).shape == (sheets.EDGE, 2 * sheets.EDGE + sheets.GAP, 3)


def test_a_planted_pair_is_a_re_encoding_of_its_picture(folder, shown):
    """Never equal, never far: RMS below the tau of the preset, .15, and above what rounding leaves."""
    planted = of(shown[0], "planted")
    assert len(planted) == 5
    for pair in planted:
        left, right = halves(folder, pair)
        coarse = images.fit(images.fit(right.astype(np.uint8), SAMPLE, SAMPLE), sheets.EDGE, sheets.EDGE)
        assert 0.005 < np.sqrt(((left - coarse) ** 2).mean()) / 255 < 0.1


def sharpness(image):
    """Measure sharpness: what is lost by halving and blowing up again, in levels."""
    small = images.resize(image.astype(np.uint8), sheets.EDGE // 2, sheets.EDGE // 2)
    return np.abs(images.resize(small, sheets.EDGE, sheets.EDGE).astype(float) - image).mean()


def blocks(image):
    """Measure JPEG's blocks: steps across their edges against steps within, 8 pixels of the sample wide."""
    edge = 8 * sheets.EDGE // SAMPLE
    steps = np.abs(np.diff(image, axis=1)).mean((0, 2))
    at = np.arange(1, sheets.EDGE) % edge == 0
    return steps[at].mean() / steps[~at].mean()


def weight(folder):
    return lambda pair: (folder / "pairs" / f"{pair.id}.png").stat().st_size


def above(planted, others):
    """Return how often a planted pair has more of something than another: .5 tells nothing, 0 and 1 tell all."""
    return np.mean([(a > b) + (a == b) / 2 for a in planted for b in others])


def test_planted_copies_are_no_sharper_no_blockier_and_no_heavier_than_samples(tmp_path, shown):
    """Against samples that are copies too; over several keys' worth of noise, so that few planted ones suffice."""
    key, pictures, samples = shown
    pairs = [Pair(f"p{k:04d}", "planted", "planted", p, "picture", "", None) for k, p in enumerate(sorted(pictures))]
    lefts = Lefts(pictures.get, samples.get, (SAMPLE, SAMPLE), [(p.picture, p.sample) for p in key.pairs])
    made = [sheets.beside(pair, pictures.get, lefts) for pair in pairs]
    others = [sheets.beside(pair, pictures.get, lefts) for pair in key.pairs if pair.sample]
    for measure in (sharpness, blocks, lambda image: len(images.encode_png(image.astype(np.uint8)))):
        told = [[measure(image[:, : sheets.EDGE].astype(float)) for image in side] for side in (made, others)]
        assert 0.25 < above(*told) < 0.75


def test_planted_copies_in_the_pictures_own_size_would_give_themselves_away(shown):
    """The planted defect: once they were as sharp as pictures, and samples are not."""
    key, pictures, samples = shown
    pairs = [Pair("p1", "planted", "planted", picture, "picture", "", None) for picture in pictures]
    lefts = Lefts(pictures.get, samples.get, None)
    made = [sheets.beside(pair, pictures.get, lefts) for pair in pairs]
    others = [sheets.beside(pair, pictures.get, lefts) for pair in key.pairs if pair.sample]
    told = [[sharpness(image[:, : sheets.EDGE].astype(float)) for image in side] for side in (made, others)]
    assert not 0.05 < above(*told) < 0.95


def test_planted_copies_differ_in_how_they_are_spoilt():
    grey = np.full((64, 64, 3), 100, np.uint8)
    found = [replant(grey, f"sha256:{k}", (32, 32)).astype(float) for k in range(20)]
    assert len({round(image.std(), 1) for image in found}) > 10
    assert np.ptp([image.mean() for image in found]) > 5
    assert (replant(grey, "sha256:1", (32, 32)) == found[1]).all()


def blurred(picture, rng):
    return ndimage.gaussian_filter(picture, (sigma := rng.uniform(0.4, 1), sigma, 0))


def noisy(picture, rng):
    return np.clip(picture + rng.normal(0, rng.uniform(4, 14), picture.shape), 0, 255).astype(np.uint8)


def another(picture, rng):
    return blurred(images.fit(portrait(meet("other", int(rng.integers(1000)))), SAMPLE, SAMPLE), rng)


@pytest.mark.parametrize("made", [blurred, noisy, another])
def test_planted_copies_keep_as_much_of_their_pictures_detail_as_real_samples_do(made):
    """By the bytes of their JPEGs, which the page sends; once those of planted copies were all above the others."""
    rng = np.random.default_rng(5)
    pictures = {f"sha256:{k}": images.fit(portrait(meet("detail", k)), SAMPLE, SAMPLE) for k in range(40)}
    real, rest = list(pictures)[:20], list(pictures)[20:]
    samples = {f"s{digest}": made(pictures[digest], rng) for digest in real}
    size = (SAMPLE, SAMPLE)
    lefts = Lefts(pictures.get, samples.get, size, [(digest, f"s{digest}") for digest in real])
    planted = [lefts.of(digest, "", pictures[digest]) for digest in rest]
    found = [detail(left, pictures[digest]) for left, digest in zip(planted, rest, strict=True)]
    theirs = [detail(packed(samples[f"s{digest}"]), pictures[digest]) for digest in real]
    plain = [detail(packed(replant(pictures[digest], digest, size)), pictures[digest]) for digest in rest]
    assert 0.2 < above(found, theirs) < 0.8
    assert made is noisy or above(plain, theirs) > 0.9
    for left, digest in zip(planted, rest, strict=True):
        near = np.sqrt(((left.astype(float) - pictures[digest]) ** 2).mean()) / 255
        others = [np.sqrt(((left.astype(float) - pictures[each]) ** 2).mean()) / 255 for each in pictures]
        assert near < 0.15
        assert near == min(others)


def test_what_real_pairs_a_planted_copy_is_made_like_is_read_when_it_is_shown_and_no_earlier():
    asked = []
    grey = np.random.default_rng(1).integers(0, 256, (32, 32, 3), np.uint8)

    def sample(digest):
        asked.append(digest)
        return grey if digest == "s7" else None

    lefts = Lefts(lambda _: grey, sample, (32, 32), [("a", f"s{k}") for k in range(100)])
    assert asked == []
    first = lefts.of("x", "", grey)
    assert set(asked) <= {f"s{k}" for k in range(32)}
    assert (
        Lefts(lambda _: grey, sample, (32, 32), [("a", f"s{k}") for k in range(100)]).of("x", "", grey) == first
    ).all()


@pytest.mark.parametrize("shape", [(300, 200), (17, 64), (1, 1)])
def test_images_of_any_size_are_laid_beside_each_other(shape):
    picture = np.zeros((*shape, 3), np.uint8)
    pair = Pair("p0001", "planted", "planted", "a", "picture", "", None)
    assert sheets.beside(pair, {"a": picture}.get, Lefts({}.get, {}.get, None)).shape[:2] == (
        sheets.EDGE,
        2 * sheets.EDGE + sheets.GAP,
    )


def test_pairs_whose_images_are_gone_are_counted_and_left_out(tmp_path, shown):
    key, pictures, samples = shown
    lost = [pair for pair in key.pairs if pair.sample][:3]
    kept = {digest: image for digest, image in samples.items() if digest not in {p.sample for p in lost[:2]}}
    there = {digest: image for digest, image in pictures.items() if digest != lost[2].picture}
    assert write(tmp_path, (key, there, kept)) == 3
    rows = list(csv.reader((tmp_path / "verdicts.csv").read_text().splitlines()))[1:]
    assert {pair.id for pair in key.pairs} - {row[0] for row in rows} == {pair.id for pair in lost}
    assert Counter(path.stem for path in (tmp_path / "pairs").iterdir()) == Counter(row[0] for row in rows)


def test_where_every_sample_is_gone_planted_pairs_are_still_shown(tmp_path, shown):
    key, pictures, _ = shown
    assert write(tmp_path, (key, pictures, {})) == len(key.pairs) - len(of(key, "planted"))


@pytest.mark.parametrize("filled", ["id,verdict,note\np0001,copy,\n", "id;verdict;note\r\np0001;no;\r\n", "\xff"])
def test_a_table_that_somebody_filled_is_not_written_over(tmp_path, shown, filled):
    shown = replace(shown[0], pairs=shown[0].pairs[:3]), *shown[1:]
    write(tmp_path, shown)
    blank = (tmp_path / "verdicts.csv").read_bytes()
    (tmp_path / "verdicts.csv").write_bytes(filled.encode("latin-1"))
    write(tmp_path, shown)
    assert (tmp_path / "verdicts.csv").read_bytes() == filled.encode("latin-1")
    (tmp_path / "verdicts.csv").write_bytes(blank[:30])
    write(tmp_path, shown)
    assert (tmp_path / "verdicts.csv").read_bytes() == blank
