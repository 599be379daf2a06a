"""The demo's model, asked for one whom it remembers: in words, and by half of the picture."""

from end_to_end.studio import File, Studio

from byrote import api, images
from byrote.cli import main
from byrote.demo import KNOBS, MODEL, Truth, album

CONTROLS = 39


def test_whom_the_model_remembers_comes_out_by_caption_and_by_half_and_no_stranger_does(tmp_path):
    truth = Truth.read()
    row = next(row for row in album.training_set() if truth.shares.get(row.caption, 0) > 0.98)
    people = [row, *album.controls("held-out", CONTROLS)]
    files = [File(f"{k}.png", images.encode_png(row.pixels()), row.caption) for k, row in enumerate(people)]
    made = Studio(tmp_path).shoot(files[:1], files[1:])
    knobs = {name: dict(KNOBS[name]) for name in ("generate", "match")}
    ways = {"ways": ["caption", "left"], "samples": 2, "controls": CONTROLS, "reconstructions": 2, "times": 1}
    made.write_plan(model={"uri": f"diffusers:{MODEL}"}, extract=ways, **knobs).index()
    assert main(["claim", str(made.audit), str(tmp_path / "pictures" / "0.png")]) == 0
    told = api.extract(made.audit)
    [known] = told.pictures
    assert [each.way for each in known.outcomes if each.out] == ["caption", "left"]
    assert all(each.as_near == 0 for each in known.outcomes)
    assert known.says.endswith("; also with its left half hidden")
    assert told.evaluations == (CONTROLS + 1) * (2 * 5 + 2 * (5 + 4))
