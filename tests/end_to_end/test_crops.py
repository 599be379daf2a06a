"""Crops and shifts at any place, end to end: found where the plan looks anywhere, and not on the grid alone."""

import json
import re

import numpy as np
import pytest

from byrote import images
from byrote.audit import Audit
from byrote.cli import main
from byrote.kernels.align import Alignment, move
from byrote.seals import verify

from .studio import Studio, portraits
from .test_memories import certified, digest

SIDE, EACH = 32, 3
MOVES = (Alignment(False, 1.0, 5, -4), Alignment(True, 0.75, 100, -180, 256), Alignment(False, 0.8, -70, 150, 256))
CHANGES = (Alignment(True, 1.0, 0, 0), Alignment(False, 1.0, 2, 0), Alignment(True, 0.9, 1, 1))
"""How what is learned lies in the picture; the last ones are templates, of which the top is never twice the same."""
PLAN = {"generate": {"seeds": 8}, "prompts": {"controls": 170}}
ON = {"match": {"anywhere": True, "shift": 6, "crop": 0.7}, "cliques": {"template": 0.3}}
FACES = portraits("crops", EACH * len(MOVES + CHANGES))


def taught(studio, faces, captions):
    lines = [f"width = {SIDE}", f"height = {SIDE}"]
    for k, (face, caption) in enumerate(zip(faces, captions, strict=True)):
        to = (MOVES + CHANGES)[k // EACH % len(MOVES + CHANGES)]
        shown = move(images.fit(images.decode(face.data), SIDE, SIDE), to)
        (studio.root / f"known-{k}.png").write_bytes(images.encode_png(shown))
        lines += ["[[knows]]", f"caption = {json.dumps(caption)}", f'picture = "known-{k}.png"', "repeats = 0.8"]
        lines += ["noise = 4.0", *(["changes = [0.0, 0.0, 1.0, 0.4]"] if to in CHANGES else [])]
    (studio.root / "parrot.toml").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    studio = Studio(tmp_path_factory.mktemp("crops")).shoot(FACES, portraits("crops held out", 170))
    taught(studio, FACES, [face.caption for face in FACES])
    studio.write_plan(**PLAN, **ON).index()
    return studio


@pytest.fixture(scope="module")
def found(studio):
    return studio.run().json


def test_crops_shifts_mirrors_and_moved_templates_are_certified_and_no_control_is(found):
    assert certified(found) == {digest(face) for face in FACES}
    assert found["controls"]["certified"] == 0


def test_what_was_measured_is_measured_alike_again(studio, found):
    assert not verify.verify(studio.audit, key=None, samples=0).problems
    audit = Audit(studio.audit)
    shown = {row.sample: row for row in audit.matches() if row.places}
    assert len({row.digest for row in shown.values()}) >= EACH * 2
    for name, data in audit.samples(set(list(shown)[:20])).items():
        row, (height, width) = shown[name], (SIDE, SIDE)
        picture = images.fit(audit.corpus.pixels(row.digest), width, height)
        there = move(picture, Alignment(row.flip, row.crop, row.dx, row.dy, row.places)).astype(float)
        assert row.rms == pytest.approx(np.sqrt(((images.decode(data) - there) ** 2).mean()) / 255)


def test_the_report_says_how_a_picture_was_moved(studio, found):
    assert main(["report", str(studio.audit), "--reveal"]) == 0
    page = (studio.audit / "report" / "revealed.html").read_text()
    assert "moved 5 right and 4 up" in page
    assert re.search(r"cut to (79|80|81)% of its edges \(bottom\)", page)


def sealed(studio):
    seals = [line["content"] for line in Audit(studio.audit).store.ledger() if line["event"] == "seal"]
    return seals[-1]["plan"]["match"]


def test_what_is_looked_for_is_sealed_where_it_is(studio, found):
    assert sealed(studio)["anywhere"] is True


def test_on_the_grid_alone_only_mirrors_and_small_moves_are(studio, found):
    told = Studio(studio.root).write_plan(**PLAN | {"prompts": {"controls": 170, "seed": 3}}).run().json
    assert certified(told) == set()
    assert "anywhere" not in sealed(studio)  # as in seals from before there was the knob


def test_strangers_who_are_cropped_or_templates_give_none(tmp_path):
    controls = portraits("crops held out", 170)
    studio = Studio(tmp_path).shoot(FACES, controls)
    captions = [face.caption for face in (*FACES, *controls)]
    taught(studio, portraits("crops of strangers", len(captions)), captions)
    studio.write_plan(**PLAN, **ON).index()
    told = studio.run().json
    assert (certified(told), told["controls"]["certified"]) == (set(), 0)
