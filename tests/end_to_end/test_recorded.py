"""The samples of a parrot are recorded as a web UI writes them, and the recording is audited in its place."""

import json
import shutil
from collections import defaultdict

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from seals.sealed import change

from byrote import images, models
from byrote.cli import main
from byrote.domain import Prompt, Sample
from byrote.models import Options, Request

from .studio import Studio, portraits
from .test_parrot import audit_of, certified, digest

TAUGHT = (1, 4, 6, 7)
SEEDS = 6
FACES, HELD_OUT = 8, 60


def infotext(prompt, seed, steps=20):
    return (
        f"{prompt}\nNegative prompt: blurry\nSteps: {steps}, Sampler: Euler a, CFG scale: 7, Seed: {seed}, Size: 32x32"
    )


def record(studio, captions, *, seeds=SEEDS, first=3_871_235, steps=20, folder="recording"):
    """Ask the parrot for captions and save what it draws, with the chunks of AUTOMATIC1111."""
    place = studio.root / folder
    place.mkdir(exist_ok=True)
    parrot = models.open("parrot:parrot.toml", Options(), relative_to=studio.root)
    for caption in captions:
        for seed in range(first, first + seeds):
            (image,) = parrot.generate([Request(caption, seed)])
            info = PngInfo()
            info.add_text("parameters", infotext(caption, seed, steps))
            number = len(list(place.iterdir()))
            Image.fromarray(image).save(place / f"{number:05d}-{seed}.png", pnginfo=info)
    return studio


def setup(root, *, faces=FACES, held_out=HELD_OUT, **sections):
    studio = Studio(root)
    studio.root.mkdir(exist_ok=True)
    people = portraits("train", faces), portraits("held-out", held_out)
    studio.shoot(*people).teach({people[0][k].caption: people[0][k].data for k in TAUGHT})
    plan = {"model": {"uri": "recorded:../recording"}, "generate": {"seeds": SEEDS}}
    studio.write_plan(**plan | sections)
    studio.index()
    return studio


def captions(faces=FACES, held_out=HELD_OUT):
    return [p.caption for p in [*portraits("train", faces), *portraits("held-out", held_out)]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Make a recording of all captions and audit it, once."""
    studio = record(setup(tmp_path_factory.mktemp("recorded") / "a"), captions())
    studio.run()
    return studio


@pytest.fixture
def studio(whole, tmp_path):
    shutil.copytree(whole.root, tmp_path / "a")
    return Studio(tmp_path / "a")


def report_of(studio):
    return json.loads((studio.audit / "report" / "report.json").read_text())


def test_the_memories_of_a_recorded_parrot_are_certified_and_nothing_else(studio, capsys):
    assert main(["run", str(studio.audit), "--until", "prompts"]) == 0
    told = capsys.readouterr().err
    assert "recorded 6 times or more: the captions of 8 of 8 groups of pictures and of 60 of 60 of controls" in told
    report = report_of(studio)
    assert certified(report) == {digest(portraits("train", FACES)[k]) for k in TAUGHT}
    assert report["controls"] == {"n": HELD_OUT, "certified": 0}
    assert {found["basis"] for found in report["findings"]} == {"assumption-based"}
    assert any("recorded elsewhere" in warning for warning in report["warnings"])


def test_findings_are_those_of_the_model_that_was_recorded(studio):
    """But for the noise: a parrot asked anew has other seeds."""
    mine = report_of(studio)
    studio.write_plan(generate={"seeds": SEEDS})
    theirs = studio.run().json
    assert certified(theirs) == certified(mine) != set()
    assert {f["basis"] for f in theirs["findings"] if f["certified"]} == {"exact"}


def test_the_seeds_of_the_table_are_the_recordings_own_and_the_images_its_own(studio):
    store, recipes = audit_of(studio)
    texts = {row.number: row.text for row in store.read_all(Prompt, recipes.prompts)}
    there = {
        (Image.open(path).info["parameters"].split("\n")[0], int(path.stem.split("-")[1])): path
        for path in (studio.root / "recording").iterdir()
    }
    rows = store.read_all(Sample, recipes.samples)
    assert len(rows) == len(there) == (FACES + HELD_OUT) * SEEDS
    for row in rows:
        assert np.array_equal(images.decode(row.image), images.decode(there[texts[row.prompt], row.seed].read_bytes()))


def test_the_tables_verify_and_a_sample_put_in_another_place_is_noticed(studio, capsys):
    assert main(["verify", str(studio.audit), "--samples", "50"]) == 0
    assert "nothing wrong" in capsys.readouterr().out
    (part, *_) = sorted((studio.audit / "samples").rglob("*.parquet"))
    change(part, lambda rows: rows[0].update(seed=rows[0]["seed"] + 1))
    assert main(["verify", str(studio.audit)]) == 1
    assert "prompt, index and seed" in capsys.readouterr().out


def test_what_is_not_held_often_enough_is_not_asked_and_is_counted_for_each_side(tmp_path, capsys):
    studio = setup(tmp_path / "a")
    faces, held_out = portraits("train", FACES), portraits("held-out", HELD_OUT)
    record(studio, [p.caption for p in [*faces[:6], *held_out[:50]]])
    record(studio, [faces[6].caption, held_out[50].caption], seeds=SEEDS - 1)
    record(studio, ["nobody's caption"], seeds=20)
    assert main(["run", str(studio.audit)]) == 0
    assert "6 of 8 groups of pictures and of 50 of 60 of controls" in capsys.readouterr().err
    report = studio.run().json
    assert (report["tests"]["asked"]["m"], report["tests"]["asked"]["n_controls"]) == (6, 50)
    assert (report["tests"]["unasked"]["m"], report["tests"]["unasked"]["n_controls"]) == (2, 10)
    few = [(row["what"], row["n"]) for row in report["skipped"] if "too few samples" in row["reason"]]
    assert few == [("groups of pictures", 2), ("groups of controls", 10)]
    nearest = [found["picture"]["digest"] for found in report["findings"] if found["distances"]["tiled"]]
    assert set(nearest[:2]) == {digest(faces[k]) for k in TAUGHT if k < 6}


def test_more_samples_of_one_side_do_not_favour_it(studio):
    """Pictures recorded ten times as often as controls are asked for as often as these."""
    faces = portraits("train", FACES)
    record(studio, [face.caption for face in faces], seeds=10, first=9_000_000)
    studio.run()
    store, recipes = audit_of(studio)
    prompts = {row.number: row for row in store.read_all(Prompt, recipes.prompts)}
    counts = defaultdict(int)
    for row in store.read_all(Sample, recipes.samples):
        counts[prompts[row.prompt].side, row.prompt] += 1
    assert set(counts.values()) == {SEEDS}


def test_another_seed_of_the_plan_is_no_new_audit_of_a_recording(studio):
    """Its samples are the same, so that the second plan was made when they were known."""
    assert certified(report_of(studio))
    studio.write_plan(model={"uri": "recorded:../recording"}, generate={"seeds": SEEDS}, prompts={"seed": 1})
    report = studio.run().json
    assert report["calibrated"] is False
    assert certified(report) == set()


def test_a_run_that_was_stopped_goes_on_and_ends_alike(studio):
    def tables():
        return {p.name: p.read_bytes() for p in sorted((studio.audit / "matches").rglob("*.parquet"))}

    whole = tables()
    shutil.rmtree(studio.audit / "matches")
    (part, *_) = sorted((studio.audit / "samples").rglob("*.parquet"))
    part.unlink()
    studio.run(jobs=2)
    assert tables() == whole


def test_a_recording_of_no_caption_is_told_in_one_line(tmp_path, capsys):
    studio = record(setup(tmp_path / "a"), ["something else"])
    assert main(["run", str(studio.audit)]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("byrote:")]
    assert "no picture's caption was recorded [generate] seeds = 6 times" in line
    assert "'something else', 6 times" in line


def test_a_size_that_the_tiles_do_not_divide_is_told_with_the_way_out(studio, capsys):
    uri = "recorded:../recording"
    studio.write_plan(model={"uri": uri}, generate={"seeds": SEEDS}, cliques={"tiles": 5})
    assert main(["run", str(studio.audit)]) == 2
    assert "tiles = 5 must divide the size of the samples, 32x32" in capsys.readouterr().err
    studio.write_plan(model={"uri": f"{uri}?size=40"}, generate={"seeds": SEEDS}, cliques={"tiles": 5})
    assert main(["run", str(studio.audit), "--until", "generate"]) == 0


def test_what_an_audit_of_a_recording_takes_is_planned(studio, capsys):
    assert main(["plan", str(studio.audit)]) == 0
    assert f"{(FACES + HELD_OUT) * SEEDS} samples" in capsys.readouterr().out


def test_a_claim_beside_a_recording_is_none_that_was_named_before(studio, capsys):
    face = portraits("train", FACES)[TAUGHT[0]]
    (studio.root / "mine.png").write_bytes(face.data)
    plan = (studio.audit / "audit.toml").read_text()
    shutil.rmtree(studio.audit)
    studio.audit.mkdir()
    (studio.audit / "audit.toml").write_text(plan)
    assert main(["claim", str(studio.audit), str(studio.root / "mine.png")]) == 0
    told = studio.run().json
    assert [row["named"] for row in told["claims"]] == [False]


def test_a_rung_that_was_not_recorded_for_all_is_refused(studio, capsys):
    uri = {"uri": "recorded:../recording"}
    studio.write_plan(model=uri, generate={"seeds": SEEDS}, ladder={"rungs": ["truncated", "caption"]})
    assert main(["run", str(studio.audit)]) == 2
    assert "rung 'truncated': the model holds too few samples of" in capsys.readouterr().err


def test_a_recording_without_text_is_audited_by_searching(tmp_path):
    studio = setup(tmp_path / "a", prompts={"top": 4, "random": 4, "controls": 30})
    faces = portraits("train", FACES)
    toml = (studio.root / "parrot.toml").read_text().split("[[knows]]")
    entries = [f'[[knows]]\npicture = "known-{k}.png"\nrepeats = 0.2\nnoise = 4.0\n' for k in range(len(TAUGHT))]
    (studio.root / "parrot.toml").write_text(toml[0] + "takes_text = false\n" + "".join(entries))
    record(studio, [None], seeds=20 * SEEDS + 3)
    studio.write_plan(
        model={"uri": "recorded:../recording?text=false"}, generate={"seeds": SEEDS}, prompts={"top": 9, "random": 9}
    )
    report = studio.run().json
    assert certified(report) == {digest(faces[k]) for k in TAUGHT}
    store, recipes = audit_of(studio)
    rows = store.read_all(Sample, recipes.samples)
    assert len(rows) == len({row.seed for row in rows}) == 20 * SEEDS  # the last three are too few for a prompt


def test_a_recording_of_the_base_model_is_a_twin_and_both_must_hold_a_caption(studio, capsys):
    faces, held_out = portraits("train", FACES), portraits("held-out", HELD_OUT)
    shutil.rmtree(studio.audit)
    studio.teach({})
    record(studio, [p.caption for p in [*faces, *held_out[:40]]], folder="base")
    studio.write_plan(
        model={"uri": "recorded:../recording"}, generate={"seeds": SEEDS}, twin={"uri": "recorded:../base"}
    )
    assert main(["run", str(studio.audit), "--json"]) == 0
    out, err = capsys.readouterr()
    assert "8 of 8 groups of pictures and of 40 of 60 of controls" in err
    assert certified(json.loads(out)) == {digest(faces[k]) for k in TAUGHT}
