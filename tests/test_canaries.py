"""Canaries: what is drawn, what the record refuses, and what a training that remembers, or does not, comes out as."""

import json
import os
import re
import resource
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import asdict, replace
from math import inf, log, log2

import numpy as np
import pytest
from numpy.random import PCG64, Generator, SeedSequence
from scipy.stats import binomtest

from byrote import canaries, images
from byrote.canaries import Canary, Draw
from byrote.cli import main
from byrote.errors import CorpusError
from byrote.plan import CorpusPlan
from byrote.sources.folder import Folder

CLI = [sys.executable, "-c", "from byrote.cli import main; raise SystemExit(main())"]
NEAR = CorpusPlan().near
SMALL = Draw(size=16, tiers=(1, 3), each=8, seed=7)


@pytest.fixture
def made(tmp_path):
    rows = canaries.make(tmp_path / "out", SMALL)
    return tmp_path / "out", rows


def everything(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_published_canaries_lie_there_in_their_copies_and_kept_ones_once(made):
    out, rows = made
    for side, published in (("publish", True), ("keep", False)):
        source = Folder(out / side)
        found = Counter((images.digest(images.decode(source.read(one.where))), one.caption) for one in source.list())
        wanted = {(r.digest, r.caption): r.copies if published else 1 for r in rows if r.published == published}
        assert wanted
        assert found == wanted
        assert source.notes == []


def test_every_kind_and_tier_has_as_many_canaries_as_asked(made):
    assert Counter((r.kind, r.copies) for r in made[1]) == {(k, c): 8 for k in canaries.KINDS for c in (1, 3)}


def test_the_record_reads_back_as_it_was_made(made):
    out, rows = made
    assert canaries.read(out / canaries.RECORD) == canaries.read(out) == rows
    assert all((out / row.file).is_file() for row in rows)


def test_a_seed_draws_the_same_again_and_another_seed_does_not(made, tmp_path):
    canaries.make(tmp_path / "again", SMALL)
    assert everything(tmp_path / "again") == everything(made[0])
    canaries.make(tmp_path / "other", Draw(size=16, tiers=(1, 3), each=8))
    assert not set(everything(tmp_path / "other").values()) & set(everything(made[0]).values())


def test_seeds_of_the_system_differ():
    assert len({Draw().seed for _ in range(5)}) == 5


def test_the_coin_is_fair_and_owes_nothing_to_kind_or_tier(tmp_path):
    rows = canaries.make(tmp_path / "out", Draw(size=16, tiers=(1, 2), each=300, seed=3))
    for kind in canaries.KINDS:
        for copies in (1, 2):
            coins = [row.published for row in rows if (row.kind, row.copies) == (kind, copies)]
            assert binomtest(sum(coins), 300, 0.5).pvalue > 0.001
    assert len({row.caption for row in rows}) == len({row.digest for row in rows}) == 1200


def drawn(kind, size, n=120):
    return [canaries.draw(kind, size, Generator(PCG64(SeedSequence([5, i])))) for i in range(n)]


@pytest.mark.parametrize("kind", canaries.KINDS)
@pytest.mark.parametrize("size", [16, 50, 256])
def test_canaries_are_far_from_near_duplicates_of_each_other(kind, size):
    """At 32 x 32, where groups are made: three times `near`, among 7,140 pairs."""
    small = np.stack([images.resize(image, 32, 32) for image in drawn(kind, size)]).reshape(120, -1) / 255
    squares = (small**2).sum(1)
    apart = (squares[:, None] + squares[None] - 2 * small @ small.T)[np.triu_indices(120, 1)]
    assert np.sqrt(apart.min() / small.shape[1]) > 3 * NEAR


def test_noise_of_every_pixel_would_be_one_group_at_2048():
    """Why noise is drawn in cells."""
    rng = np.random.default_rng(1)
    a, b = (images.resize(rng.integers(0, 256, (2048, 2048, 3), np.uint8), 32, 32) / 255 for _ in range(2))
    assert np.sqrt(((a - b) ** 2).mean()) < NEAR


def test_natural_canaries_are_smooth_and_coloured_and_noise_is_uniform():
    natural, noise = (np.stack(drawn(kind, 64, 40)).astype(float) / 255 for kind in ("natural", "noise"))
    step = {name: np.abs(np.diff(images, axis=2)).mean() for name, images in (("a", natural), ("b", noise))}
    assert step["a"] < 0.05
    assert step["b"] > 0.15
    assert np.ptp(natural, axis=3).mean() > 0.15
    assert noise.mean() == pytest.approx(0.5, abs=0.01)
    assert noise.std() == pytest.approx(1 / np.sqrt(12), abs=0.01)


def test_captions_have_three_invented_names(made):
    for row in made[1]:
        names = re.fullmatch(r"(grain|view) of ([A-Z][a-z]{5,8}) ([A-Z][a-z]{5,8}) at ([A-Z][a-z]{5,8})", row.caption)
        assert names
        assert len({*names.groups()}) == 4


def test_a_folder_that_holds_something_is_refused_and_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(CorpusError, match="not empty"):
        canaries.make(tmp_path, SMALL)
    assert os.listdir(tmp_path) == ["mine.txt"]


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "out").mkdir()
    assert len(canaries.make(tmp_path / "out", SMALL)) == 32
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("limit", [500, 3000])
def test_a_disk_that_is_full_leaves_nothing(tmp_path, limit):
    """A limit on the size of a file fails in `write` as a full disk does; 3,000 bytes hold a picture, no record."""

    def full():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    command = [*CLI, "canaries", "make", str(tmp_path / "out"), "--size", "16"]
    failed = subprocess.run(command, preexec_fn=full, capture_output=True, text=True, check=False)
    assert failed.returncode == 2
    assert "canaries cannot be written" in failed.stderr
    assert os.listdir(tmp_path) == []


def test_a_file_in_the_place_of_the_folder_is_told(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(CorpusError, match="cannot be written"):
        canaries.make(tmp_path / "out", SMALL)


def test_canaries_too_small_to_differ_are_refused(tmp_path):
    with pytest.raises(CorpusError, match="16 or larger"):
        canaries.make(tmp_path / "out", Draw(size=8))


def drop(name):
    return lambda told: told["canaries"][3].pop(name)


def put(name, value):
    return lambda told: told["canaries"][3].update({name: value})


@pytest.mark.parametrize(
    ("tamper", "says"),
    [
        (lambda told: told.update(format=2), "format 1"),
        (lambda told: told.update(note="x"), "note"),
        (lambda told: told.pop("seed"), "seed"),
        (lambda told: told.update(canaries={}), "no list"),
        (lambda told: told.update(canaries=[]), "no list"),
        (lambda told: told["canaries"].append([]), "canary 32 must have the keys"),
        (drop("caption"), "canary 3 must have the keys"),
        (put("tier", 1), "canary 3 must have the keys"),
        (put("copies", 2.0), "copies is 2.0"),
        (put("copies", True), "copies is True"),
        (put("copies", 0), "copies is 0"),
        (put("published", 1), "published is 1"),
        (put("kind", "scene"), "kind is 'scene'"),
        (put("kind", []), r"kind is \[\]"),
        (put("digest", "sha256:12"), "digest is 'sha256:12'"),
        (lambda told: put("published", not told["canaries"][3]["published"])(told), "but file is"),
        (lambda told: put("digest", told["canaries"][0]["digest"])(told), "digests must differ"),
        (lambda told: put("caption", told["canaries"][0]["caption"])(told), "captions must differ"),
    ],
)
def test_a_record_that_was_tampered_with_is_refused_in_one_line(made, tamper, says):
    path = made[0] / canaries.RECORD
    told = json.loads(path.read_text())
    tamper(told)
    path.write_text(json.dumps(told))
    with pytest.raises(CorpusError, match=says) as caught:
        canaries.read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"null", b"3"])
def test_a_file_that_is_no_record_is_refused(tmp_path, data):
    (tmp_path / "canaries.json").write_bytes(data)
    with pytest.raises(CorpusError, match="no record of canaries"):
        canaries.read(tmp_path)
    with pytest.raises(CorpusError, match="no record of canaries"):
        canaries.read(tmp_path / "missing.json")


def sides(rows):
    return [{row.digest for row in rows if row.published == published} for published in (True, False)]


def test_a_coin_that_was_changed_after_indexing_is_refused(made):
    rows = made[1]
    turned = [replace(rows[0], published=not rows[0].published), *rows[1:]]
    with pytest.raises(CorpusError, match="not on their side"):
        canaries.check(turned, *sides(rows))


def test_a_canary_that_was_not_indexed_is_named_before_it_can_pass_for_forgotten(made):
    rows = made[1]
    canaries.check(rows, *sides(rows))
    for published, says in ((False, "--held-out keep/"), (True, "index publish/")):
        lost = next(row for row in rows if row.published == published)
        with pytest.raises(CorpusError, match=says) as caught:
            canaries.check(rows, *(side - {lost.digest} for side in sides(rows)))
        assert lost.file in str(caught.value)


def coin(number, kind="noise", copies=1, published=True):
    folder = "publish" if published else "keep"
    return Canary(
        f"sha256:{number:064x}", f"grain of {number}", kind, copies, published, f"{folder}/{number:05d}-000.png"
    )


def test_a_report_holds_every_tier_against_its_coins():
    """Four published noises with one copy, four with eight, sixteen kept; one kept one is within tau too."""
    once = [coin(i) for i in range(4)] + [coin(10 + i, published=False) for i in range(8)]
    often = [coin(20 + i, copies=8) for i in range(4)] + [coin(30 + i, copies=8, published=False) for i in range(8)]
    t = {coin(0).digest: 0.3, coin(10).digest: 0.05, coin(11).digest: 0.2}
    t |= {coin(20 + i).digest: 0.01 * i for i in range(4)}
    found = canaries.report(once + often, t, tau=0.1)
    first, second = found.tiers
    assert (first.kind, first.copies, first.published, first.kept, first.references) == ("noise", 1, 4, 8, 16)
    assert (first.guesses, first.correct, first.epsilon) == (1, 0, 0.0)
    assert first.exposures == pytest.approx([round(log2(16 / 3), 4)] + [round(log2(16 / 17), 4)] * 3)
    assert (first.greatest, first.reach) == (4, 0)
    assert (second.guesses, second.correct, second.reach) == (4, 4, 4)
    assert (second.median, second.quartiles, second.largest, second.greatest) == (4, (4, 4), 4, 4)
    assert first.median == pytest.approx(log2(16 / 17))
    assert (found.canaries, found.guesses, found.correct, found.tau) == (24, 5, 4, 0.1)


def test_references_are_of_the_same_kind_and_guesses_of_the_same_tier():
    rows = [coin(1), coin(2, published=False), coin(3, "natural"), coin(4, "natural", 2, published=False)]
    found = canaries.report(rows, {coin(4).digest: 0.0, coin(1).digest: 0.0}, tau=0.1)
    assert [(tier.kind, tier.copies, tier.references, tier.guesses) for tier in found.tiers] == [
        ("natural", 1, 1, 0),
        ("natural", 2, 1, 1),
        ("noise", 1, 1, 1),
    ]
    assert [tier.exposures for tier in found.tiers] == [(-1.0,), (), (0.0,)]


def test_a_training_that_gives_back_all_of_a_tier_is_bounded_by_all_right_guesses_and_per_copy_by_its_copies():
    rows = [coin(i, copies=4) for i in range(50)] + [coin(100 + i, copies=4, published=False) for i in range(50)]
    tier = canaries.report(rows, {coin(i).digest: 0.0 for i in range(50)}, tau=0.1).tiers[0]
    share = 0.05 ** (1 / 50)
    assert tier.epsilon == pytest.approx(log(share / (1 - share)), abs=1e-6)
    assert tier.epsilon == pytest.approx(tier.most, abs=1e-6)
    assert tier.epsilon_a_copy == pytest.approx(tier.epsilon / 4)


def test_the_bound_over_all_tiers_is_shared_among_the_most_copies():
    rows = [coin(i, copies=1 + 7 * (i % 2)) for i in range(40)]
    found = canaries.report(rows, {row.digest: 0.0 for row in rows}, tau=0.1)
    assert found.epsilon_a_copy == pytest.approx(found.epsilon / 8)
    assert found.epsilon > max(tier.epsilon for tier in found.tiers)


def test_tiers_without_published_or_kept_canaries_have_nulls():
    published, kept = (canaries.report([coin(1, published=p)], {}, tau=0.1).tiers[0] for p in (True, False))
    assert (published.references, published.exposures, published.quartiles, published.greatest) == (0, (), None, None)
    assert (kept.references, kept.exposures, kept.quartiles, kept.largest, kept.greatest) == (1, (), None, None, 0)


def test_a_report_can_be_written_as_json_and_names_its_sources():
    told = asdict(canaries.report([coin(1), coin(2, published=False)], {coin(1).digest: inf}, tau=0.1))
    assert json.loads(json.dumps(told, allow_nan=False))["tiers"][0]["copies"] == 1
    assert "2305.08846" in told["epsilon_source"]
    assert "not of the loss" in told["exposure_source"] or "there of the loss" in told["exposure_source"]


def test_a_report_of_no_canaries_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        canaries.report([], {}, tau=0.1)


def test_a_model_that_remembers_nothing_is_bounded_above_zero_in_one_audit_of_twenty_at_most():
    """T owes nothing to the coins; a tenth of the canaries come within tau by chance."""
    rng = np.random.default_rng(9)
    false = 0
    for _ in range(400):
        rows = [coin(i, published=bool(rng.integers(2))) for i in range(120)]
        t = dict(zip((row.digest for row in rows), rng.random(120).tolist(), strict=True))
        false += canaries.report(rows, t, tau=0.1).epsilon > 0
    assert binomtest(false, 400, 0.05, alternative="greater").pvalue > 0.01


def test_kept_canaries_that_were_never_looked_for_would_make_a_bound_out_of_nothing():
    """The planted defect that `check` is there for: the same audits, and no T for those kept back."""
    rng = np.random.default_rng(9)
    rows = [coin(i, published=bool(rng.integers(2))) for i in range(120)]
    t = {row.digest: rng.random() for row in rows if row.published}
    assert canaries.report(rows, t, tau=0.3).epsilon > 0


def test_the_command_makes_canaries_and_prints_its_seed(tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["canaries", "make", str(out), "--size", "16", "--tiers", "2,1", "--each", "3", "--kind", "natural"]
    assert main([*arguments, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    rows = canaries.read(out)
    assert {row.kind for row in rows} == {"natural"}
    assert Counter(row.copies for row in rows) == {1: 3, 2: 3}
    assert told["published"] + told["kept"] == 6
    assert told["seed"] == json.loads((out / "canaries.json").read_text())["seed"]
    assert main(["canaries", "make", str(tmp_path / "b"), "--size", "16", "--each", "1", "--seed", "5"]) == 0
    assert "seed 5" in capsys.readouterr().out


@pytest.mark.parametrize(
    "wrong", [["--tiers", "1,0"], ["--tiers", "1,²"], ["--seed", "-1"], ["--kind", "scene"], ["--size", "2"]]
)
def test_mistakes_on_the_command_line_are_told_and_leave_nothing(tmp_path, wrong, capsys):
    assert main(["canaries", "make", str(tmp_path / "out"), *wrong]) == 2
    assert capsys.readouterr().err.startswith("byrote: ")
    assert not (tmp_path / "out").exists()
