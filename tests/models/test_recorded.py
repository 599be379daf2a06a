"""Recordings: where prompts and seeds come from, what is passed over, and what is refused."""

import io
import json
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from byrote import images, models
from byrote.domain import Prompt
from byrote.errors import ModelError
from byrote.models import Options, Request
from byrote.models.recorded import COPIES, GRIDS, NO_PROMPT, UNREADABLE, Recorded
from byrote.models.recording import NAMES, by_name, pattern
from byrote.plan import parse
from byrote.stages.generate import askable, seed_of, seeds_of
from byrote.testing import check_model


def pixels(k, side=8):
    return np.random.default_rng(k).integers(0, 256, (side, side, 3), np.uint8)


def put(folder, name, k, *, side=8, **texts):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    info = PngInfo()
    for key, text in texts.items():
        info.add_text(key, text)
    Image.fromarray(pixels(k, side)).save(path, pnginfo=info)
    return path


def opened(folder, query="", **options):
    return models.open(f"recorded:{folder.name}{query}", Options(**options), relative_to=folder.parent)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def infotext(prompt, seed, more=""):
    return f"{prompt}\nSteps: 20, Sampler: Euler, CFG scale: 7, Seed: {seed}{more}"


def number(model, prompt, seed):
    """Return which image stands for a request."""
    (made,) = model.generate([Request(prompt, seed)])
    return next(k for k in range(99) if np.array_equal(pixels(k, made.shape[0]), made))


def test_a_recording_keeps_the_contract_of_models(folder):
    for k in range(6):
        put(folder, f"{k:05d}-{100 + k}.png", k, parameters=infotext("a red hat" if k % 2 else "a blue hat", 100 + k))
    model = opened(folder)
    check_model(model, ["a red hat", "a blue hat"])
    assert model.held == {"a blue hat": (100, 102, 104), "a red hat": (101, 103, 105)}
    assert (model.tolerance, model.takes_text, model.round_trip([])) == (0, True, None)


def test_metadata_and_sidecars_tell_prompts_and_seeds(folder):
    for k in range(6):
        put(folder, f"{k}.png", k)
    (folder / "metadata.csv").write_text('file_name,prompt,seed\n0.png,"a hat, red",12\n1.png,"a hat, red",\n')
    (folder / "2.json").write_text(json.dumps({"prompt": "a shoe", "seed": 5}))
    (folder / "3.png.json").write_text(json.dumps({"caption": "a shoe", "seed": "6"}))
    (folder / "4.txt").write_text("a bare caption")
    (folder / "5.txt").write_text(infotext("an infotext", 77))
    held = opened(folder).held
    assert held == {"a hat, red": (12, 1), "a shoe": (5, 6), "a bare caption": (0,), "an infotext": (77,)}


def test_metadata_as_jsonl_may_lie_in_any_folder(folder):
    put(folder, "a/0.png", 0)
    (folder / "a" / "metadata.jsonl").write_text('{"file_name": "0.png", "text": "a hat", "seed": 3}\n')
    model = opened(folder)
    assert model.held == {"a hat": (3,)}
    assert number(model, "a hat", 3) == 0


def test_what_stands_beside_a_sample_counts_before_what_is_in_it(folder):
    put(folder, "0.png", 0, parameters=infotext("inside", 1))
    (folder / "0.json").write_text('{"prompt": "beside"}')
    assert opened(folder).held == {"beside": (1,)}
    assert opened(folder, "?name={prompt}").held == {"0": (1,)}


@pytest.mark.parametrize(
    ("name", "prompt", "seed"),
    [
        ("00012-3871235", None, 3871235),
        ("00012-3871235-a red hat", "a red hat", 3871235),
        ("3871235-a red hat", "a red hat", 3871235),
        ("seed7_a_red_hat", "a red hat", 7),
        ("a red hat_00012", "a red hat", None),
        ("a_red_hat_00012_", "a red hat", None),
        ("a red hat-00012", "a red hat", None),
        ("00012", None, None),
        ("a red hat", None, None),
    ],
)
def test_the_usual_names_are_read(name, prompt, seed):
    told = by_name(f"some/where/{name}.png", NAMES)
    assert (told.prompt, told.seed) == (prompt, seed)


@pytest.mark.parametrize(
    ("text", "where", "prompt", "seed"),
    [
        ("{prompt}_{seed}", "a red hat_7.png", "a red hat", 7),
        ("{prompt}__{number}", "a_red_hat__3.jpg", "a red hat", None),
        ("{prompt}/{number}", "a red hat/3.jpg", "a red hat", None),
        ("{any}/{prompt}/{seed}", "run.1/x/a red hat/3.jpg", "x/a red hat", 3),
        (r"(?P<seed>\d+)\.(?P<prompt>[a-z]+)", "7.hat.png", "hat", 7),
        ("{prompt}_{seed}", "a red hat.png", None, None),
        ("s{seed}.x", "s3.x.png", None, 3),
    ],
)
def test_a_pattern_of_names_is_read_from_the_whole_path_or_the_last_name(text, where, prompt, seed):
    told = by_name(where, (pattern(text),))
    assert (told.prompt, told.seed) == (prompt, seed)


def test_names_tell_prompts_only_where_nothing_else_does(folder):
    put(folder, "a hat_00001.png", 0)
    put(folder, "a hat_00002.png", 1)
    assert opened(folder).held == {"a hat": (0, 1)}
    put(folder, "x_00001.png", 2, parameters=infotext("a shoe", 4))
    model = opened(folder)
    assert model.held == {"a shoe": (4,)}
    assert model.skipped == {NO_PROMPT: 2}


def test_samples_without_a_seed_get_running_numbers_that_no_other_has(folder):
    for k, seed in enumerate([None, 1, None, None, 0]):
        put(folder, f"{k}.png", k)
        (folder / f"{k}.json").write_text(json.dumps({"prompt": "a hat"} | ({} if seed is None else {"seed": seed})))
    model = opened(folder)
    (seeds,) = model.held.values()
    assert len(set(seeds)) == 5
    assert (seeds[1], seeds[4]) == (1, 0)
    assert [number(model, "a hat", seed) for seed in seeds] == [0, 1, 2, 3, 4]


def test_a_copy_counts_once_and_a_batch_of_one_seed_as_often_as_it_has_samples(folder):
    put(folder, "0.png", 0, parameters=infotext("a hat", 9))
    put(folder, "log/0.png", 0, parameters=infotext("a hat", 9))
    put(folder, "1.png", 1, parameters=infotext("a hat", 9))
    model = opened(folder)
    (seeds,) = model.held.values()
    assert sorted(number(model, "a hat", seed) for seed in seeds) == [0, 1]
    assert (seeds[0], model.skipped) == (9, {COPIES: 1})


def test_contact_sheets_are_no_samples(folder):
    put(folder, "grid-0001.png", 0, side=16, parameters=infotext("a hat", 9))
    put(folder, "00000-9.png", 1, parameters=infotext("a hat", 9))
    model = opened(folder)
    assert (model.held, model.skipped) == ({"a hat": (9,)}, {GRIDS: 1})
    assert number(model, "a hat", 9) == 1


def test_a_link_out_of_the_folder_is_passed_over(folder, tmp_path):
    put(folder, "0.png", 0, parameters=infotext("a hat", 9))
    (folder / "1.png").symlink_to(put(tmp_path, "out-of-it.png", 1, parameters=infotext("a hat", 10)))
    model = opened(folder)
    assert model.held == {"a hat": (9,)}
    assert model.skipped == {UNREADABLE: 1, NO_PROMPT: 1}


def test_without_text_all_samples_are_of_one_prompt(folder):
    for k in range(4):
        put(folder, f"{k}.png", k)
    model = opened(folder, "?text=false")
    assert (model.takes_text, model.held) == (False, {None: (0, 1, 2, 3)})
    check_model(model, [None])


def test_parquet_rows_are_samples(tmp_path):
    folder = tmp_path / "table"
    folder.mkdir()
    rows = [put(tmp_path, f"{k}.png", k).read_bytes() for k in range(4)]
    pq.write_table(
        pa.table({"prompt": ["a hat", "a hat", "", "a shoe"], "seed": [5, None, 7, 8], "image": rows}),
        folder / "0.parquet",
    )
    structs = [{"bytes": row, "path": None} for row in rows[:2]]
    pq.write_table(pa.table({"caption": ["a shoe", None], "image": structs}), folder / "1.parquet")
    for place in (folder, folder / "0.parquet"):
        model = opened(place)
        assert model.held["a hat"] == (5, 1)
        assert number(model, "a hat", 1) == 1
    whole = opened(folder)
    assert whole.held["a shoe"] == (8, 1)
    assert whole.skipped == {NO_PROMPT: 2}
    assert number(whole, "a shoe", 1) == 0


def test_a_parquet_file_of_paths_reads_nothing_beside_it(tmp_path):
    put(tmp_path, "0.png", 0)
    pq.write_table(pa.table({"prompt": ["a hat"], "file_name": ["0.png"]}), tmp_path / "x.parquet")
    with pytest.raises(ModelError, match="paths are not followed"):
        opened(tmp_path / "x.parquet").generate([Request("a hat", 0)])


def test_a_tar_file_is_read_like_a_folder(folder, tmp_path):
    for k in range(3):
        put(folder, f"a/{k}.png", k, parameters=infotext("a hat", k))
    put(folder, "b.png", 3)
    (folder / "b.json").write_text('{"prompt": "a shoe", "seed": 3}')
    with tarfile.open(tmp_path / "out.tar", "w") as tar:
        tar.add(folder, ".")
        link = tarfile.TarInfo("c.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        tar.addfile(link)
    model = opened(tmp_path / "out.tar")
    assert model.held == {"a hat": (0, 1, 2), "a shoe": (3,)}
    assert model.skipped == {UNREADABLE: 1, NO_PROMPT: 1}
    assert [number(model, "a hat", k) for k in range(3)] == [0, 1, 2]


def test_the_digest_covers_names_bytes_sidecars_and_settings_but_not_the_place(folder, tmp_path):
    put(folder, "0.png", 0)
    (folder / "0.txt").write_text("a hat")
    digests = [opened(folder).digest, opened(folder, "?size=4").digest]
    folder.rename(tmp_path / "moved")
    folder = tmp_path / "moved"
    assert opened(folder).digest == digests[0]
    (folder / "0.txt").write_text("a hut")
    digests.append(opened(folder).digest)
    put(folder, "0.png", 1)
    digests.append(opened(folder).digest)
    (folder / "0.txt").rename(folder / "1.txt")
    (folder / "0.png").rename(folder / "1.png")
    digests.append(opened(folder).digest)
    assert len(set(digests)) == 5


def test_samples_of_two_sizes_are_told_in_one_line_or_brought_to_one(folder):
    put(folder, "0.png", 0, parameters=infotext("a hat", 0))
    put(folder, "1.png", 1, side=16, parameters=infotext("a hat", 1))
    with pytest.raises(ModelError) as caught:
        opened(folder).generate([Request("a hat", 0), Request("a hat", 1)])
    line = str(caught.value)
    assert "\n" not in line
    assert all(word in line for word in ("'0.png' has 8x8", "'1.png' 16x16", "?size=8x8")), line
    model = opened(folder, "?size=4x6")
    made = model.generate([Request("a hat", 0), Request("a hat", 1)])
    assert [image.shape for image in made] == [(6, 4, 3)] * 2
    assert np.array_equal(made[1], images.fit(pixels(1, 16), 4, 6))


def test_samples_of_two_settings_are_refused_unless_the_plan_says_otherwise(folder):
    put(folder, "0.png", 0, parameters=infotext("a hat", 0))
    put(folder, "1.png", 1, parameters=infotext("a shoe", 1).replace("Steps: 20", "Steps: 30"))
    with pytest.raises(ModelError) as caught:
        opened(folder)
    assert "steps '20', others with '30'" in str(caught.value)
    assert set(opened(folder, "?mixed=true").held) == {"a hat", "a shoe"}


def test_a_sample_that_is_broken_is_named(folder):
    put(folder, "0.png", 0, parameters=infotext("a hat", 0))
    path = put(folder, "1.png", 1, parameters=infotext("a hat", 1))
    path.write_bytes(path.read_bytes()[:200])
    model = opened(folder)
    with pytest.raises(ModelError, match=r"'1\.png' cannot be read: truncated; make it again, or remove it"):
        model.generate([Request("a hat", 1)])


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("", ("no prompt is told of any of 1 samples", "metadata.csv", "?text=false")),
        ("?text=no", ("text is 'no'", "true or false")),
        ("?size=0", ("size is '0'", "512x768")),
        ("?size=9000", ("size is '9000'",)),
        ("?name=nothing", ("neither {prompt} nor {seed}",)),
        ("?name=(%3FP<prompt>.*", ("is no pattern",)),
        ("?nmae=x", ("'nmae'", "did you mean 'name'")),
    ],
)
def test_a_mistake_is_told_in_one_line(folder, query, words):
    put(folder, "0.png", 0)
    with pytest.raises(ModelError) as caught:
        opened(folder, query)
    line = str(caught.value)
    assert "\n" not in line
    assert all(word in line for word in words), line


def test_places_that_are_no_recordings_are_told_in_one_line(folder, tmp_path):
    with pytest.raises(ModelError, match="there are no samples"):
        opened(folder)
    with pytest.raises(ModelError, match="is not there"):
        opened(tmp_path / "nowhere")
    (tmp_path / "x.zip").write_bytes(b"PK\x05\x06" + bytes(18))
    with pytest.raises(ModelError, match="kind 'zip'"):
        opened(tmp_path / "x.zip")
    (tmp_path / "x.tar").write_bytes(b"no tar file" * 100)
    with pytest.raises(ModelError, match="cannot be read"):
        opened(tmp_path / "x.tar")
    put(folder, "0.png", 0)
    (folder / "metadata.csv").write_text("file_name,prompt\n0.png,a hat\n1.png,a hat\n")
    with pytest.raises(ModelError, match=r"'1\.png' stands in a metadata file and is not there"):
        opened(folder)


def test_knobs_that_a_recording_cannot_follow_are_refused(folder):
    put(folder, "0.png", 0, parameters=infotext("a hat", 0))
    for knob in ({"steps": 3}, {"width": 64}, {"negative": "blurry"}, {"lora": ("x",)}):
        with pytest.raises(ModelError, match=f"cannot follow {next(iter(knob))}"):
            opened(folder, **knob)


def test_what_is_not_held_is_not_given(folder):
    put(folder, "0.png", 0, parameters=infotext("a hat", 0))
    with pytest.raises(ModelError, match="no sample of prompt 'a hat' with seed 1"):
        opened(folder).generate([Request("a hat", 1)])


class Holds:
    """Something that holds samples."""

    def __init__(self, held):
        self.held, self.skipped = held, {}


def plan_of(tmp_path, seeds):
    told = {"format": 1, "model": {"uri": "recorded:x"}, "corpus": {"path": "x"}, "generate": {"seeds": seeds}}
    return parse(told, tmp_path / "audit.toml")


def asked(number, text):
    return Prompt(number, f"g{number}", f"d{number}", "picture", "random", 1, "caption", text)


def test_prompts_of_one_text_share_its_samples_out_and_begin_anew(tmp_path):
    plan = plan_of(tmp_path, 2)
    prompts = [asked(0, "cat"), asked(1, "dog"), asked(2, "cat"), asked(3, "cat")]
    found = seeds_of(prompts, plan, Holds({"cat": (5, 6, 7, 8, 9), "dog": (1, 2)}))
    assert found == {0: (5, 6), 1: (1, 2), 2: (7, 8), 3: (5, 6)}


def test_seeds_of_other_models_are_what_they_were(tmp_path):
    plan = plan_of(tmp_path, 3)
    found = seeds_of([asked(0, "cat")], plan, object())
    assert found == {0: tuple(seed_of(asked(0, "cat"), k, 0) for k in range(3))}


def test_a_text_can_be_asked_where_every_recording_holds_it(tmp_path):
    plan = plan_of(tmp_path, 2)
    one, other = Holds({"a": (1, 2, 3, 4), "b": (1, 2), "c": (1,)}), Holds({"a": (1, 2, 3), "c": (1, 2)})
    assert askable(plan, [object(), one]) == {"a": 2, "b": 1}
    assert askable(plan, [one, object(), other]) == {"a": 1}
    assert askable(plan, [object()]) is None


def test_a_huge_sidecar_is_named(folder):
    put(folder, "0.png", 0)
    (folder / "0.txt").write_bytes(b"a" * (2**20 + 1))
    with pytest.raises(ModelError, match=r"'0\.txt' cannot be read: larger than"):
        Recorded("out", Options(), folder.parent)


def test_a_truncated_tar_is_no_recording(folder, tmp_path):
    for k in range(3):
        put(folder, f"{k}.png", k, side=64, parameters=infotext("a hat", k))
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        tar.add(folder, ".")
    (tmp_path / "cut.tar").write_bytes(file.getvalue()[:30_000])
    with pytest.raises(ModelError, match="it is truncated"):
        opened(tmp_path / "cut.tar")


def test_a_link_to_a_folder_is_counted(folder, tmp_path):
    put(folder, "0.png", 0, parameters=infotext("a hat", 0))
    put(tmp_path, "elsewhere/1.png", 1, parameters=infotext("a hat", 1))
    (folder / "more").symlink_to(tmp_path / "elsewhere")
    assert opened(folder).skipped == {"a link to a folder is not followed": 1}
