"""What is on a list of hashes leaves nothing in a corpus or an audit but a count."""

import json
from hashlib import md5

import numpy as np
import pytest
from end_to_end.studio import Studio, portraits

import byrote
from byrote import api, images
from byrote.audit import Audit
from byrote.cli import main
from byrote.corpus import Corpus
from byrote.domain import Sample
from byrote.errors import CorpusError, DescriptorError
from byrote.kernels import pdq
from byrote.stages import generate

from .folders import sound, traces
from .shots import captions_of, compressed, digest, field, fields, fill, mirrored

NAMES = fields(range(8))


def pdq_of(picture):
    return pdq.hashes(picture[None])[0][0].tobytes().hex()


def md5_of(picture):
    data = picture if isinstance(picture, bytes) else images.encode_png(picture)
    return md5(data).hexdigest()


def listed(path, *hashes):
    path.write_text("\n".join(hashes) + "\n")
    return path


def test_a_listed_file_and_a_listed_picture_leave_nothing_but_a_count(tmp_path):
    pictures = NAMES | {"mirrored-one.png": mirrored(field(3)), "packed.jpg": images.encode_jpeg(field(3), 80)}
    folder = fill(tmp_path / "in", pictures | {"garbage.png": b"no picture"}, captions_of(pictures))
    hashes = listed(tmp_path / "list.txt", pdq_of(field(3)), md5_of(field(5)), md5_of(b"no picture"))
    corpus = byrote.index(folder, corpus=tmp_path / "c", hashes=hashes)
    gone = ["field-003", "field-005", "mirrored-one", "packed", "garbage"]
    assert {row.where for row in corpus.pictures} == set(NAMES) - {"field-003.png", "field-005.png"}
    assert corpus.unreadable == []
    assert corpus.screened == 5
    of_pixels = [digest(picture) for picture in (field(3), field(5), mirrored(field(3)))]
    assert traces(tmp_path / "c", *gone, *of_pixels, pdq_of(field(3)), md5_of(field(5))) == []
    assert sound(tmp_path / "c") == 6


def test_the_count_is_told_and_no_more(tmp_path, capsys):
    hashes = listed(tmp_path / "list.txt", pdq_of(field(3)))
    byrote.index(fill(tmp_path / "in", NAMES), corpus=tmp_path / "c", hashes=hashes)
    assert api.summary(tmp_path / "c")[1].screened == 1
    assert main(["corpus", str(tmp_path / "c")]) == 0
    told = capsys.readouterr().out
    assert "held back by the list of hashes: 1 files" in told
    assert "field-003" not in told
    page = (tmp_path / "c" / "page" / "corpus.html").read_text()
    assert "1 files were held back by a list of hashes" in page


def test_a_file_that_is_held_back_again_is_counted_once(tmp_path):
    hashes = listed(tmp_path / "list.txt", pdq_of(field(3)), pdq_of(field(5)))
    for _ in range(3):
        corpus = byrote.index(fill(tmp_path / "in", NAMES), corpus=tmp_path / "c", hashes=hashes)
    assert corpus.screened == 2
    assert len(corpus.pictures) == 6
    sound(tmp_path / "c")


def test_the_command_line_takes_a_list_and_remembers_it(tmp_path, capsys):
    hashes = listed(tmp_path / "list.txt", pdq_of(field(3)))
    for more in (["--hashes", str(hashes)], []):
        arguments = ["index", str(fill(tmp_path / "in", NAMES)), "--corpus", str(tmp_path / "c"), "--json", *more]
        assert main(arguments) == 0
        assert json.loads(capsys.readouterr().out)["pictures"] == 7
        assert Corpus(tmp_path / "c").screened == 1


def test_the_list_is_remembered_by_later_runs(tmp_path):
    hashes = listed(tmp_path / "list.txt", pdq_of(field(3)), pdq_of(field(20)))
    byrote.index(fill(tmp_path / "in", NAMES), corpus=tmp_path / "c", hashes=hashes)
    more = fill(tmp_path / "more", {"new.png": field(21), "turned.png": np.ascontiguousarray(np.rot90(field(20)))})
    corpus = byrote.index(more, corpus=tmp_path / "c")
    assert {row.where for row in corpus.pictures} == set(NAMES) - {"field-003.png"} | {"new.png"}


def test_a_remembered_list_that_is_gone_is_an_error_and_nothing_is_indexed(tmp_path, capsys):
    hashes = listed(tmp_path / "list.txt", pdq_of(field(3)))
    before = byrote.index(fill(tmp_path / "in", NAMES), corpus=tmp_path / "c", hashes=hashes).digest
    hashes.unlink()
    more = fill(tmp_path / "more", {"new.png": field(21)})
    with pytest.raises(CorpusError, match=r"the list of hashes that screens .* is gone; put it back or give --hashes"):
        byrote.index(more, corpus=tmp_path / "c")
    assert Corpus(tmp_path / "c").digest == before
    assert main(["index", str(more), "--corpus", str(tmp_path / "c")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    other = listed(tmp_path / "other.txt", pdq_of(field(3)), pdq_of(field(21)))
    assert byrote.index(more, corpus=tmp_path / "c", hashes=other).digest == before


@pytest.mark.parametrize("text", [None, "", "not a hash\nabc"])
def test_a_list_that_is_missing_or_bad_is_an_error_and_nothing_is_indexed(tmp_path, text):
    if text is not None:
        (tmp_path / "list.txt").write_text(text)
    with pytest.raises(DescriptorError, match=r"list\.txt"):
        byrote.index(fill(tmp_path / "in", NAMES), corpus=tmp_path / "c", hashes=tmp_path / "list.txt")
    assert not (tmp_path / "c" / "pictures").exists()
    assert not (tmp_path / "c" / "ledger.jsonl").exists()


def test_a_count_stays_when_a_picture_of_its_part_is_removed(tmp_path):
    """A part of one picture and a count: neither is taken for the other."""
    hashes = listed(tmp_path / "list.txt", pdq_of(field(3)))
    fill(tmp_path / "in", {"a.png": field(1), "b.png": field(3), "c.png": b"broken"})
    byrote.index(tmp_path / "in", corpus=tmp_path / "c", hashes=hashes)
    api.remove(tmp_path / "c", [digest(field(1))])
    corpus = Corpus(tmp_path / "c")
    assert (corpus.screened, corpus.pictures, len(corpus.unreadable)) == (1, [], 1)
    sound(tmp_path / "c")


def test_a_count_is_left_of_a_part_of_which_nothing_else_is_left(tmp_path):
    hashes = listed(tmp_path / "list.txt", pdq_of(field(3)))
    byrote.index(fill(tmp_path / "in", {"a.png": field(1), "b.png": field(3)}), corpus=tmp_path / "c", hashes=hashes)
    api.remove(tmp_path / "c", [digest(field(1))])
    assert (Corpus(tmp_path / "c").screened, Corpus(tmp_path / "c").pictures) == (1, [])
    assert traces(tmp_path / "c", digest(field(1)), "a.png") == []


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    """Run an audit of a parrot that knows two of eight portraits; one of the two is on the list."""
    faces, held_out = portraits("train", 8), portraits("held-out", 20)
    studio = Studio(tmp_path_factory.mktemp("hashes"))
    studio.shoot(faces, held_out).teach(
        {face.caption: face.data for face in faces[:2]}, noise=0.0, repeats=1.0, side=64
    )
    studio.index()
    listed(studio.root / "list.txt", pdq_of(images.decode(faces[0].data)))
    studio.write_plan(
        prompts={"top": 8, "random": 8, "controls": 20},
        generate={"seeds": 4, "batch": 16, "hashes": "../list.txt"},
    )
    studio.run()
    return studio


def samples(studio):
    audit = Audit(studio.audit)
    return audit.store.read_all(Sample, audit.recipes.samples), audit


def test_samples_that_the_list_hits_are_replaced_by_noise_and_counted(studio):
    rows, audit = samples(studio)
    known = [images.decode(face.data) for face in portraits("train", 2)]
    shown = [images.decode(row.image) for row in rows]
    assert not any((image == known[0]).all() for image in shown), "the listed memory is nowhere"
    assert sum((image == known[1]).all() for image in shown) == 4
    assert generate.screened(audit.store, audit.recipes.samples) == 4
    noise = [image for image in shown if abs(float(image.std()) - 73.9) < 2 and _correlation(image) < 0.1]
    assert len({image.tobytes() for image in noise}) >= 4
    assert [row.digest for row in rows] == [digest(image) for image in shown]


def _correlation(image):
    return abs(float(np.corrcoef(image[:, :-1].ravel(), image[:, 1:].ravel())[0, 1]))


def test_the_report_counts_them_and_no_finding_shows_them(studio):
    report = json.loads((studio.audit / "report" / "report.json").read_text())
    skipped = {row["what"]: row for row in report["skipped"] if "list of hashes" in row["reason"]}
    assert {what: row["n"] for what, row in skipped.items()} == {"samples": 4}
    first, second = (digest(images.decode(face.data)) for face in portraits("train", 2))
    found = {row["picture"]["digest"]: row for row in report["findings"]}
    assert found[second]["distances"]["rms"] < 0.02
    assert first not in found or found[first]["distances"]["rms"] is None or found[first]["distances"]["rms"] > 0.1
    held, _ = samples(studio)
    kept = {row.digest for row in held}
    shown = {sample["digest"] for row in report["findings"] for sample in row["samples"]}
    assert shown <= kept
    assert first not in shown


def test_no_file_of_the_audit_holds_the_listed_picture_as_a_sample(studio):
    first = images.decode(portraits("train", 1)[0].data)
    for table in ("samples", "cliques", "matches"):
        assert traces(studio.audit / table, images.encode_png(first)) == []
    assert traces(studio.audit / "samples", digest(first)) == []
    assert traces(studio.audit, pdq_of(first)) == []


def test_a_list_that_changes_makes_the_samples_anew(studio):
    _, before = samples(studio)
    (studio.root / "list.txt").write_text(pdq_of(compressed(field(77))) + "\n")
    assert Audit(studio.audit).recipes.samples.digest != before.recipes.samples.digest
    listed(studio.root / "list.txt", pdq_of(images.decode(portraits("train", 1)[0].data)))
    assert Audit(studio.audit).recipes.samples.digest == before.recipes.samples.digest


def test_what_was_not_screened_is_not_merged_into_what_is(tmp_path):
    hashes = listed(tmp_path / "list.txt", pdq_of(field(3)))
    folder = fill(tmp_path / "in", NAMES)
    byrote.index(folder, corpus=tmp_path / "screened", hashes=hashes)
    byrote.index(folder, corpus=tmp_path / "open")
    with pytest.raises(CorpusError, match="was not screened"):
        api.merge(tmp_path / "screened", tmp_path / "open")
    byrote.index(fill(tmp_path / "more", {"new.png": field(77)}), corpus=tmp_path / "other", hashes=hashes)
    assert api.merge(tmp_path / "screened", tmp_path / "other") == 1
    assert api.merge(tmp_path / "open", tmp_path / "other") == 1
