"""Mistakes and broken things: one clear line, a fitting exit code, and nothing that was there is lost."""

import json
import os
import resource
import signal
import subprocess
import sys

import broken
import pytest

from byrote.cli import main
from byrote.store import Store

from .studio import File, Studio, portraits

CLI = [sys.executable, "-c", "from byrote.cli import main; raise SystemExit(main())"]


@pytest.fixture
def studio(tmp_path):
    studio = Studio(tmp_path)
    faces = portraits("train", 4)
    studio.shoot(faces, portraits("held-out", 80)).teach({faces[1].caption: faces[1].data})
    studio.write_plan(generate={"seeds": 4}).index()
    return studio


def refused(capsys, *arguments, code=2):
    """Run a command that must fail, and return the one line that it says."""
    assert main([str(each) for each in arguments]) == code
    out, err = capsys.readouterr()
    assert out == ""
    lines = [line for line in err.splitlines() if line.startswith("byrote")]
    assert len(lines) == 1
    assert "Traceback" not in err
    return lines[0]


def files(root):
    return {path: path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file() and path.name != ".lock"}


def test_an_unknown_key_is_told_with_the_one_that_was_meant(studio, capsys):
    studio.write_plan(generate={"seed": 4})
    line = refused(capsys, "run", studio.audit)
    assert "[generate] seed" in line
    assert "did you mean 'seeds'?" in line


@pytest.mark.parametrize(
    ("section", "key", "value", "said"),
    [
        ("generate", "seeds", "many", "[generate] seeds is 'many'; it takes a whole number"),
        ("generate", "seeds", 0, "[generate] seeds is 0; it takes 1 or more"),
        ("generate", "seeds", 2.5, "[generate] seeds is 2.5"),
        ("match", "flip", 1, "[match] flip is 1; it takes true or false"),
        ("certify", "fdr", 5.0, "[certify] fdr is 5.0; it takes 0"),
        ("cliques", "within", True, "[cliques] within is True"),
        ("model", "uri", 7, "[model] uri is 7; it takes a text"),
    ],
)
def test_a_value_of_the_wrong_type_or_size_is_told(studio, capsys, section, key, value, said):
    studio.write_plan(**{section: {key: value}})
    assert said in refused(capsys, "run", studio.audit)


@pytest.mark.parametrize(
    "text", ["format = 2\n", "format = 1\nmodel = 3\n", "format =", "\0", 'format = 1\n[modell]\nuri=""']
)
def test_a_plan_that_is_none_is_told_with_its_path(studio, capsys, text):
    (studio.audit / "audit.toml").write_text(text)
    assert "audit.toml" in refused(capsys, "run", studio.audit)


def test_a_folder_without_a_plan_says_how_to_make_one(tmp_path, capsys):
    assert "byrote init" in refused(capsys, "run", tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_a_missing_corpus_says_how_to_make_one(studio, capsys):
    studio.write_plan(corpus={"path": "../corpsu"})
    line = refused(capsys, "run", studio.audit)
    assert "corpsu" in line
    assert "byrote index" in line
    assert not (studio.root / "corpsu").exists()


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("diffusers:../no-such-model", "no-such-model"),
        ("parrot:../no-such.toml", "no-such.toml"),
        ("parot:../parrot.toml", "did you mean 'parrot'"),
        ("parrot", "parrot"),
    ],
)
def test_a_missing_model_is_told_before_anything_is_made(studio, capsys, uri, said):
    studio.write_plan(model={"uri": uri})
    assert said in refused(capsys, "run", studio.audit)
    assert not (studio.audit / "samples").exists()


def test_a_model_of_pickles_is_refused(studio, capsys):
    folder = studio.root / "pickled"
    (folder / "unet").mkdir(parents=True)
    (folder / "scheduler").mkdir()
    index = {"_class_name": "DDPMPipeline", "unet": ["diffusers", "UNet2DModel"]}
    index["scheduler"] = ["diffusers", "DDPMScheduler"]
    (folder / "model_index.json").write_text(json.dumps(index))
    (folder / "scheduler" / "scheduler_config.json").write_text('{"_class_name": "DDPMScheduler"}')
    (folder / "unet" / "config.json").write_text('{"_class_name": "UNet2DModel", "sample_size": 32}')
    (folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"\x80\x04.")
    studio.write_plan(model={"uri": "diffusers:../pickled"})
    line = refused(capsys, "run", studio.audit)
    assert "pickle" in line
    assert "safetensors" in line


def test_a_folder_that_cannot_be_written_is_told(studio, capsys):
    """Permissions do not hold for root, so the folder lies below a regular file."""
    (studio.root / "file").write_text("I am no folder")
    pictures = studio.root / "pictures"
    assert "file" in refused(capsys, "index", pictures, "--corpus", studio.root / "file" / "corpus")
    assert "file" in refused(capsys, "init", studio.root / "file" / "audit")
    assert "file" in refused(capsys, "run", studio.root / "file" / "audit")
    (studio.audit / "samples").write_text("nor am I")
    assert "samples" in refused(capsys, "run", studio.audit)
    (studio.audit / "samples").unlink()
    assert main(["run", str(studio.audit)]) == 0


def test_a_report_folder_that_cannot_be_written_is_told(studio, capsys):
    (studio.audit / "report").write_text("I am no folder")
    assert "report" in refused(capsys, "run", studio.audit)
    (studio.audit / "report").unlink()
    assert main(["run", str(studio.audit)]) == 0


@pytest.mark.parametrize("jobs", ["1", "2"])
@pytest.mark.parametrize("limit", [300, 30_000])
def test_a_disk_that_is_full_is_told_in_a_line_and_the_run_goes_on_once_there_is_room(studio, jobs, limit):
    """A limit on the size of a file fails in `write` as a full disk does, without a disk to fill."""
    before = files(studio.corpus)

    def full():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    command = [*CLI, "run", str(studio.audit), "--jobs", jobs]
    failed = subprocess.run(command, preexec_fn=full, capture_output=True, text=True, check=False)
    lines = [line for line in failed.stderr.splitlines() if line.startswith("byrote")]
    assert failed.returncode == 2, failed.stderr
    assert len(lines) == 1, failed.stderr
    assert "Traceback" not in failed.stderr
    assert "annot" in lines[0]
    assert not list(studio.audit.rglob("*.tmp"))
    assert files(studio.corpus).items() >= before.items() - {
        (k, v) for k, v in before.items() if k.name == "ledger.jsonl"
    }
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    report = json.loads((studio.audit / "report" / "report.json").read_text())
    assert sum(found["certified"] for found in report["findings"]) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting takes root")
def test_a_disk_that_is_really_full_is_told_in_a_line(studio, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "none", disk], capture_output=True, check=False
    ).returncode:
        pytest.skip("no privilege to mount")
    try:
        (disk / "audit.toml").write_text((studio.audit / "audit.toml").read_text().replace("../", f"{studio.root}/"))
        failed = subprocess.run([*CLI, "run", str(disk)], capture_output=True, text=True, check=False)
    finally:
        subprocess.run(["umount", disk], check=True)
    assert failed.returncode == 2, failed.stderr
    assert "No space left on device" in failed.stderr.splitlines()[-1]
    assert "Traceback" not in failed.stderr


def test_a_second_run_at_once_is_told_to_wait(studio, capsys):
    with Store(studio.audit).locked():
        assert "another byrote is at work" in refused(capsys, "run", studio.audit)
    with Store(studio.corpus).locked():
        assert "another byrote is at work" in refused(capsys, "run", studio.audit)
        line = refused(capsys, "index", studio.root / "pictures", "--corpus", studio.corpus)
        assert "another byrote is at work" in line
    assert main(["run", str(studio.audit)]) == 0


def test_a_damaged_part_is_told_with_its_path_and_what_to_do(studio, capsys):
    assert main(["run", str(studio.audit)]) == 0
    (part, *_) = sorted((studio.audit / "samples").rglob("*.parquet"))
    part.write_bytes(part.read_bytes()[:1000])
    for table in ("cliques", "candidates", "matches", "certified"):
        for path in (studio.audit / table).rglob("*.parquet"):
            path.unlink()
    capsys.readouterr()
    line = refused(capsys, "run", studio.audit)
    assert str(part) in line
    assert "delete it" in line
    part.unlink()
    assert main(["run", str(studio.audit)]) == 0


def test_broken_pictures_are_rows_with_a_reason_and_never_change_the_exit(tmp_path, capsys):
    studio = Studio(tmp_path)
    faces = portraits("train", 4)
    bad = [File(name, data, f"caption of {name}") for name, data in broken.hopeless().items()]
    odd = [File(name, data, f"caption of {name}") for name, data in broken.odd().items()]
    studio.shoot([*faces, *bad, *odd], portraits("held-out", 30)).teach({}).write_plan(generate={"seeds": 2})
    source = studio.root / "pictures"
    assert (
        main(
            [
                "index",
                str(source),
                "--corpus",
                str(studio.corpus),
                "--held-out",
                str(studio.root / "held-out"),
                "--json",
            ]
        )
        == 0
    )
    told = json.loads(capsys.readouterr().out)
    assert (told["pictures"], told["controls"], told["unreadable"]) == (4 + len(odd), 30, len(bad))
    assert main(["run", str(studio.audit)]) == 0
    report = json.loads((studio.audit / "report" / "report.json").read_text())
    assert report["corpus"]["unreadable"] == len(bad)
    reasons = [row for row in report["skipped"] if row["what"] == "unreadable files"]
    assert sum(row["n"] for row in reasons) == len(bad)
    assert all(row["reason"] for row in reasons)


CAPTIONS = [
    "emoji \U0001f469\u200d\U0001f680 and \U0001f1eb\U0001f1f7",
    "right to left שלום \u202eoverride",
    "control \x07\x1b[31m characters \x00 inside",
    "<script>alert(1)</script> & \"quotes\" 'too' {{ braces }} {% block %}",
    "lone \ud83d surrogate",
    "line\nbreak\ttab   separator",
    "Zalgo " + "a" + "\u0300" * 200,
    "Ω" * 5_000,
]


def test_captions_of_any_unicode_pass_through_to_the_report_and_its_page(tmp_path, capsys):
    studio = Studio(tmp_path)
    faces = portraits("train", len(CAPTIONS))
    named = [File(face.name, face.data, caption) for face, caption in zip(faces, CAPTIONS, strict=True)]
    whole = [caption.replace("\ud83d", "\ufffd") for caption in CAPTIONS]
    studio.shoot(named, portraits("held-out", 40)).teach({}).write_plan(generate={"seeds": 3})
    known = "\n".join(
        f'[[knows]]\ncaption = {json.dumps(caption, ensure_ascii=True)}\npicture = "pictures/{face.name}"\nrepeats = 1'
        for face, caption in zip(faces, whole, strict=True)
        if not {"\U0001f469", "\U0001f680"} & set(caption)
    )
    (studio.root / "parrot.toml").write_text(f"width = 32\nheight = 32\n{known}\n")
    studio.index()
    assert main(["run", str(studio.audit), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    captions = {found["picture"]["caption"] for found in told["findings"]}
    assert captions == set(whole)
    certified = {found["prompt"] for found in told["findings"] if found["certified"]}
    assert certified == set(whole[1:])
    assert main(["report", str(studio.audit), "--reveal"]) == 0
    page = (studio.audit / "report" / "revealed.html").read_bytes().decode("utf-8")
    assert "<script>alert(1)" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "שלום" in page
    assert not {"\x1b", "\x07", "\x00", "\u202e"} & set(page)


def test_a_mistake_on_the_command_line_is_one_line_and_exit_2(studio, capsys):
    assert "--jobs" in refused(capsys, "run", studio.audit, "--jobs", "0")
    assert "--until" in refused(capsys, "run", studio.audit, "--until", "nowhere")
    assert "--gate" in refused(capsys, "run", studio.audit, "--gate", "--until", "match")
    assert "nothing to index" in refused(capsys, "index", "--corpus", studio.corpus)
    assert "not there" in refused(capsys, "index", studio.root / "nowhere", "--corpus", studio.corpus)


def test_a_source_that_went_away_is_told_and_the_corpus_is_kept(studio, capsys):
    before = files(studio.corpus)
    (studio.root / "pictures").rename(studio.root / "moved")
    assert "pictures" in refused(capsys, "run", studio.audit)
    assert files(studio.corpus) == before
    (studio.root / "moved").rename(studio.root / "pictures")
    assert main(["run", str(studio.audit)]) == 0


def test_a_report_before_its_audit_exits_3(studio, capsys):
    assert "byrote run" in refused(capsys, "report", studio.audit, code=3)


def test_init_never_writes_over_a_plan(studio, capsys):
    before = (studio.audit / "audit.toml").read_bytes()
    assert "is there already" in refused(capsys, "init", studio.audit)
    assert (studio.audit / "audit.toml").read_bytes() == before
