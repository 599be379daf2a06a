"""What `byrote verify` says of an audit that nobody touched, and of one where one thing was changed."""

import hashlib
import json
import shutil
import subprocess
import sys
from base64 import b64decode, b64encode
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow.parquet as pq
import pytest

from byrote import images
from byrote.cli import main
from byrote.errors import PlanError
from byrote.seals.envelope import new_key, read_public
from byrote.seals.verify import verify

from . import sealed
from .sealed import append_digest, change, edit_json, edit_ledger, forge_digest, name, sql


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return sealed.make(tmp_path_factory.mktemp("sealed"))


@pytest.fixture
def folder(made, tmp_path):
    return made.copy(tmp_path)


def problems(folder, *, signed=True, samples=0):
    key = read_public(folder.public) if signed else None
    return list(verify(folder.audit, key=key, samples=samples).problems)


def unsigned(folder):
    """Take the attestation away: what is still noticed?"""
    folder.attestation.unlink()
    return problems(folder, signed=False)


def test_an_untouched_audit_verifies_with_and_without_the_key(made, capsys):
    audit, key = str(made.audit), str(made.public)
    assert main(["verify", audit, "--key", key]) == 0
    assert "nothing wrong" in capsys.readouterr().out
    assert main(["verify", audit, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["problems"] == []
    assert told["unchecked"] == ["attestation.json: its signature, for no --key was given"]
    assert told["checked"] > 500


def test_all_samples_can_be_made_again(made):
    assert problems(made, samples=10_000) == []


def test_the_private_key_verifies_too(made):
    assert main(["verify", str(made.audit), "--key", str(made.root / "key")]) == 0


def test_verifying_leaves_the_folder_as_it_was(folder):
    before = {path: path.read_bytes() for path in folder.root.rglob("*") if path.is_file()}
    assert problems(folder, samples=2) == []
    assert {path: path.read_bytes() for path in folder.root.rglob("*") if path.is_file()} == before


def test_an_audit_that_was_moved_verifies_as_before(folder, tmp_path):
    shutil.move(folder.root, tmp_path / "elsewhere")
    assert problems(sealed.Folder(tmp_path / "elsewhere"), samples=2) == []


def test_what_grows_after_the_attestation_is_no_problem(folder):
    """But for the report, which counts fewer verdicts than there are."""
    sealed.judge(folder.studio, "bob", "no", 3)
    pages = ("report/report.json: review", "report/report.html", "report/redacted.json: review", "report/redacted.html")
    assert all(problem.startswith(pages) for problem in problems(folder))
    assert main(["report", str(folder.audit), "--redact"]) == 0
    assert main(["attest", str(folder.audit), "--key", str(folder.root / "key")]) == 0
    assert problems(folder) == []


def test_tampering_makes_exit_code_1_and_the_message_names_the_file(folder, capsys):
    part = folder.one("samples")
    part.write_bytes(part.read_bytes()[:-1])
    assert main(["verify", str(folder.audit)]) == 1
    out = capsys.readouterr().out
    assert f"WRONG {name(part)}" in out
    assert "problems" in out.splitlines()[-1]


def darkened(image):
    pixels = images.decode(image).copy()
    pixels[:8] //= 2
    return pixels


def repaint(row, *, digest):
    pixels = darkened(row["image"])
    row["image"] = images.encode_png(pixels)
    if digest:
        row["digest"] = images.digest(pixels)


def repainted(folder):
    part = folder.one("samples")
    change(part, lambda rows: repaint(rows[7], digest=False))
    return name(part), "prompt 1, sample 1"


def repainted_with_its_digest(folder):
    part = folder.one("samples")
    change(part, lambda rows: repaint(rows[7], digest=True))
    return name(part), "prompt 1, sample 1"


def array(table, file):
    def tampered(folder):
        path = folder.one(table, file)
        values = np.load(path)
        values.flat[7] += 1
        np.save(path, values)
        return (name(path),)

    return tampered


def row(table, column, value, **options):
    def tampered(folder):
        path = folder.one(table, **options)
        change(path, lambda rows: rows[0].update({column: value(rows[0][column])}))
        return (name(path),)

    return tampered


def gone(pattern):
    def tampered(folder):
        path = next(iter(sorted(folder.root.glob(pattern))))
        path.unlink()
        return ("/".join(path.relative_to(folder.root).parts[1:]),)

    return tampered


def verdict_changed(folder):
    sql(folder.audit / "verdicts.sqlite", "UPDATE events SET verdict = 'no' WHERE number = 2")
    return "verdicts.sqlite", "event 2 (alice)"


def verdict_in_the_middle_deleted(folder):
    sql(folder.audit / "verdicts.sqlite", "DELETE FROM events WHERE number = 2")
    return "verdicts.sqlite", "event 3"


def verdict_of_another_type(folder):
    sql(folder.audit / "verdicts.sqlite", "UPDATE events SET note = x'00ff' WHERE number = 2")
    return "verdicts.sqlite", "event 2"


def verdicts_that_are_no_database(folder):
    (folder.audit / "verdicts.sqlite").write_bytes(b"no database at all, but long enough to be read as one" * 9)
    return ("verdicts.sqlite",)


def report(edit, *named):
    def tampered(folder):
        edit_json(folder.report, edit)
        return ("report/report.json", *named)

    return tampered


def text(path, old, new):
    def tampered(folder):
        file = folder.audit / path
        assert old in file.read_text()
        file.write_text(file.read_text().replace(old, new, 1))
        return (path,)

    return tampered


def saved_plan(folder):
    (path,) = folder.audit.glob("plan-*.json")
    edit_json(path, lambda told: told["certify"].update(fdr=0.2))
    return (path.name,)


def saved_plan_renamed(folder):
    (path,) = folder.audit.glob("plan-*.json")
    edit_json(path, lambda told: told["certify"].update(fdr=0.2))
    path.rename(path.with_name(f"plan-{hashlib.sha256(path.read_bytes()).hexdigest()[:12]}.json"))
    return (path.name,)


def sealed_line(edit):
    def tampered(folder):
        def edited(lines):
            for line in lines:
                if line["event"] == "seal":
                    edit(line)
            return lines

        edit_ledger(folder.ledger, edited)
        return ("ledger.jsonl: seal of",)

    return tampered


def no_seal(folder):
    edit_ledger(folder.ledger, lambda lines: [line for line in lines if line["event"] != "seal"])
    return "ledger.jsonl", "no seal"


def digest_in_the_ledger(folder):
    part = folder.one("matches")

    def edited(lines):
        for line in lines:
            if line.get("recipe") == part.parent.name and line["event"] == "done":
                line["files"]["00000.parquet"] = "0" * 64
        return lines

    edit_ledger(folder.ledger, edited)
    return (name(part),)


def table_out_of_the_ledger(folder):
    part = folder.one("matches")
    edit_ledger(folder.ledger, lambda lines: [x for x in lines if x.get("recipe") != part.parent.name])
    return name(part), "knows nothing of this table"


def part_out_of_the_ledger(folder):
    part = folder.one("samples", "00001.parquet")
    about = (part.parent.name, "00001")
    edit_ledger(folder.ledger, lambda lines: [x for x in lines if (x.get("recipe"), x.get("part")) != about])
    return f"{name(part)}: the ledger knows nothing of it", ""


def key_of_the_review(folder):
    edit_json(folder.audit / "review" / "key.json", lambda told: told["pairs"][0].update(statistic=0.5))
    return ("review/key.json",)


def picture_of_the_corpus(folder):
    path = folder.one("pictures")
    change(path, lambda rows: rows[0].update(captions=["another caption"]))
    return name(path), "corpus: not as sealed"


def group_of_the_corpus(folder):
    path = folder.one("groups")
    change(path, lambda rows: rows[0].update(copies=64))
    return (f"corpus/{name(path)}",)


def claim_after_the_fact(folder):
    picture = json.loads(folder.report.read_text())["findings"][0]["picture"]["digest"]
    line = {"event": "claim", "at": "2026-01-01T00:00:00+00:00", "digest": picture}
    with folder.ledger.open("a") as file:
        file.write(json.dumps(line) + "\n")
    return ("report/report.json: claims",)


def claim_put_before_the_seal(folder):
    picture = json.loads(folder.report.read_text())["findings"][0]["picture"]["digest"]
    line = {"event": "claim", "at": "2026-01-01T00:00:00+00:00", "digest": picture}
    edit_ledger(folder.ledger, lambda lines: [line, *lines])
    return ("claims: not as sealed",)


def file_added(file):
    def tampered(folder):
        path = folder.one("matches")
        shutil.copy(path, path.with_name(file))
        return (f"{name(path.with_name(file))}",)

    return tampered


def table_added(folder):
    path = folder.one("matches")
    other = path.parents[1] / ("0" * 16)
    shutil.copytree(path.parent, other)
    return (f"matches/{'0' * 16}/00000.parquet",)


def picture_of_the_parrot(folder):
    path = folder.root / "known-0.png"
    path.write_bytes(images.encode_png(darkened(path.read_bytes())))
    return ("model: not as sealed",)


def another_line_of_the_ledger(folder):
    with folder.ledger.open("a") as file:
        file.write('{"event": "done", "table": "../..", "recipe": "etc", "part": "passwd"}\n')
    return ("ledger.jsonl", "names no part of a table")


def a_line_of_no_event(folder):
    with folder.ledger.open("a") as file:
        file.write('{"seal": 1}\n')
    return ("ledger.jsonl: a line of no event",)


TAMPERED = {
    "a sample's pixels": repainted,
    "a sample's pixels and digest": repainted_with_its_digest,
    "a sample's seed": row("samples", "seed", lambda seed: seed + 1),
    "a sample that is no image": row("samples", "image", lambda image: image[:40]),
    "the pixels beside the samples": array("samples", "00000.pixels.npy"),
    "the means beside the samples": array("samples", "00000.means.npy"),
    "a part that is no parquet": lambda folder: (
        folder.one("samples").write_bytes(b"x"),
        (name(folder.one("samples")),),
    )[1],
    "a match's distance": row("matches", "tiled", lambda tiled: tiled / 2),
    "a candidate's distance": row("candidates", "rms", lambda rms: rms / 2),
    "a clique": row("cliques", "found", lambda found: not found),
    "a prompt": row("prompts", "text", lambda _: "another prompt"),
    "a covariate": row("covariates", "values", lambda values: [each + 1 for each in values]),
    "a finding's certified": row("certified", "certified", lambda certified: not certified),
    "a verdict": verdict_changed,
    "a verdict in the middle, deleted": verdict_in_the_middle_deleted,
    "a verdict of another type": verdict_of_another_type,
    "no database": verdicts_that_are_no_database,
    "the report: a number": report(lambda told: told["controls"].update(certified=7), "controls: certified"),
    "the report: a finding deleted": report(lambda told: told["findings"].pop(0), "findings: expected 4 entries"),
    "the report: certified": report(
        lambda told: told["findings"][0].update(certified=False), "findings: 1: certified: expected true, found false"
    ),
    "the report: 1 for true": report(lambda told: told["findings"][0].update(certified=1), "certified"),
    "the report: a key more": report(lambda told: told.update(blessed="by nobody"), "blessed"),
    "the report: its cost": report(lambda told: told["cost"].update(samples=1), "cost: samples"),
    "the report: a list": lambda folder: (folder.report.write_text("[]"), ("report/report.json: damaged",))[1],
    "the report: no JSON": lambda folder: (folder.report.write_text("{"), ("report.json: damaged",))[1],
    "the report: too deep": lambda folder: (folder.report.write_text("[" * 10**5), ("report.json: damaged",))[1],
    "the page": text("report/report.html", "certified", "acquitted"),
    "the redacted report": text("report/redacted.json", '"certified": true', '"certified": false'),
    "the redacted page": text("report/redacted.html", "certified", "acquitted"),
    "the plan's tau": lambda folder: (
        folder.studio.write_plan(generate={"seeds": sealed.SEEDS}, certify={"closest": 0.3}),
        ("audit.toml: not as sealed: certify: closest",),
    )[1],
    "the saved plan": saved_plan,
    "the saved plan, with its name": saved_plan_renamed,
    "the saved plan deleted": gone("audit/plan-*.json"),
    "the seal's digest": sealed_line(lambda line: line.update(digest="sha256:" + "0" * 64)),
    "the seal's content": sealed_line(lambda line: line["content"]["plan"]["certify"].update(fdr=0.5)),
    "the seal's time of sampling": sealed_line(lambda line: line.update(before_sampling=False)),
    "the seal deleted": no_seal,
    "a digest in the ledger": digest_in_the_ledger,
    "a table out of the ledger": table_out_of_the_ledger,
    "a part out of the ledger": part_out_of_the_ledger,
    "a path in the ledger": another_line_of_the_ledger,
    "a line of the ledger that is none": a_line_of_no_event,
    "the key of the review": key_of_the_review,
    "the key of the review deleted": gone("audit/review/key.json"),
    "a picture of the corpus": picture_of_the_corpus,
    "a group of the corpus": group_of_the_corpus,
    "the vectors of the corpus": array("pictures", "00000.thumbnail.npy"),
    "a part deleted": gone("audit/samples/*/00001.parquet"),
    "an array deleted": gone("audit/samples/*/00001.means.npy"),
    "a part of the corpus deleted": gone("corpus/groups/*/00000.parquet"),
    "a recipe": lambda folder: (
        folder.one("cliques", "recipe.json").write_text("{}\n"),
        (name(folder.one("cliques", "recipe.json")),),
    )[1],
    "a recipe deleted": gone("audit/cliques/*/recipe.json"),
    "a claim after the fact": claim_after_the_fact,
    "a claim put before the seal": claim_put_before_the_seal,
    "a part added": file_added("00002.parquet"),
    "a file of a strange name added": file_added("more.parquet"),
    "an array added": file_added("00000.more.npy"),
    "a table added": table_added,
    "the parrot's picture": picture_of_the_parrot,
    "the corpus's ledger": lambda folder: (
        (folder.corpus / "ledger.jsonl").unlink(),
        (str(folder.corpus),),
    )[1],
}


@pytest.mark.parametrize("tamper", TAMPERED.values(), ids=TAMPERED)
def test_one_thing_that_was_changed_is_named_with_an_attestation_and_without(folder, tamper):
    named = tamper(folder)
    for found in (problems(folder), unsigned(folder)):
        for each in named:
            assert any(each in problem for problem in found), found
        assert not any("\n" in problem for problem in found)


def last_verdict(folder):
    sql(folder.audit / "verdicts.sqlite", "DELETE FROM events WHERE number = (SELECT MAX(number) FROM events)")
    return "verdicts.sqlite"


def all_verdicts(folder):
    (folder.audit / "verdicts.sqlite").unlink()
    return "verdicts.sqlite"


def verdicts_with_a_new_chain(folder):
    """Take other verdicts from the start: a chain without a key can be forged as a whole."""
    all_verdicts(folder)
    sealed.judge(folder.studio, "alice", "no", 4)
    return "verdicts.sqlite"


def edited_line(folder):
    def edited(lines):
        lines[0]["at"] = "2020-01-01T00:00:00.000+00:00"
        return lines

    edit_ledger(folder.ledger, edited)
    return "ledger.jsonl"


def removed_line(folder):
    edit_ledger(folder.ledger, lambda lines: lines[:3] + lines[4:])
    return "ledger.jsonl"


def cut_tail(folder):
    edit_ledger(folder.ledger, lambda lines: lines[:-1])
    return "ledger.jsonl"


def cut_tail_in_a_line(folder):
    folder.ledger.write_bytes(folder.ledger.read_bytes()[:-20])
    return "ledger.jsonl"


def corpus_ledger(folder):
    def edited(lines):
        lines[0]["at"] = "2020-01-01T00:00:00.000+00:00"
        return lines

    edit_ledger(folder.corpus / "ledger.jsonl", edited)
    return "corpus/ledger.jsonl"


def comment_in_the_plan(folder):
    with (folder.audit / "audit.toml").open("a") as file:
        file.write("# nobody read this\n")
    return "audit.toml"


def other_versions(folder):
    edit_json(folder.report, lambda told: told["byrote"].update(byrote="9.9"))
    return "report/report.json"


SIGNED_ONLY = [
    *(all_verdicts, verdicts_with_a_new_chain, edited_line, removed_line, cut_tail, cut_tail_in_a_line),
    *(corpus_ledger, comment_in_the_plan, other_versions),
]


@pytest.mark.parametrize("tamper", [last_verdict, *SIGNED_ONLY])
def test_what_leaves_no_trace_of_itself_is_noticed_with_an_attestation(folder, tamper):
    named = tamper(folder)
    assert any(problem.startswith(f"{named}: as it was signed") for problem in problems(folder))


def test_the_last_verdict_deleted_is_noticed_without_one_where_a_report_had_counted_it(folder):
    last_verdict(folder)
    assert any("report/report.json: review" in problem for problem in unsigned(folder))


def test_an_edited_time_in_the_ledger_is_not_noticed_without_an_attestation(folder):
    """The ledger is a record, no chain: docs must say so."""
    edited_line(folder)
    assert unsigned(folder) == []


def forge_a_match(folder):
    part = folder.one("matches")
    change(part, lambda rows: [each.update(tiled=0.5, rms=0.5) for each in rows if each["side"] == "picture"])
    return part


def forge_a_sample(folder):
    """Put a dream in the place of a copy, in all that depends on the image."""
    part = folder.one("samples")
    pixels = np.load(part.with_name("00000.pixels.npy"))
    rows = pq.read_table(part).to_pylist()
    at = next(k for k, each in enumerate(rows) if each["digest"] in folder.certified_samples)
    pixels[at] = pixels[-1]
    np.save(part.with_name("00000.pixels.npy"), pixels)
    image = {"image": images.encode_png(pixels[at]), "digest": images.digest(pixels[at])}
    change(part, lambda rows: rows[at].update(image))
    return part


def forge_a_group(folder):
    part = folder.one("groups")
    change(part, lambda rows: rows[0].update(copies=2))
    return part


@pytest.mark.parametrize("forge", [forge_a_match, forge_a_sample, forge_a_group])
@pytest.mark.parametrize("cover", [forge_digest, append_digest])
def test_a_forger_who_forges_the_digest_in_the_ledger_too_is_caught_by_the_attestation(folder, forge, cover):
    part = forge(folder)
    cover(part)
    found = problems(folder)
    if cover is forge_digest:
        ledger = "corpus/ledger.jsonl" if forge is forge_a_group else "ledger.jsonl"
        assert any(problem.startswith(f"{ledger}: as it was signed") for problem in found)
        assert not any(problem.startswith(f"{name(part)}: digest") for problem in found)
    else:
        assert any(f"{name(part)}: digest" in problem for problem in found)
        assert any("made more than once, with different files" in problem for problem in found)


def test_without_an_attestation_a_forged_match_is_measured_again(folder):
    part = forge_a_match(folder)
    forge_digest(part)
    assert any(f"matches/{part.parent.name}: prompt" in p and "tiled" in p for p in unsigned(folder))


def test_without_an_attestation_a_forged_sample_no_longer_fits_its_match_and_cannot_be_made_again(folder):
    part = forge_a_sample(folder)
    forge_digest(part)
    assert any(f"matches/{folder.one('matches').parent.name}" in problem for problem in unsigned(folder))
    found = problems(folder, signed=False, samples=10_000)
    assert any(name(part) in problem and "made again: within 0 levels" in problem for problem in found)


def test_without_an_attestation_findings_that_do_not_follow_from_the_matches_are_named(folder):
    part = folder.one("certified")
    change(part, lambda rows: [each.update(certified=False) for each in rows])
    forge_digest(part)
    found = unsigned(folder)
    assert sum(f"{name(part)}: picture group" in problem and "certified" in problem for problem in found) == 2


def test_a_forger_who_takes_seeds_that_show_no_copy_is_named(folder):
    part = folder.one("samples")
    change(part, lambda rows: rows[0].update(seed=12345))
    forge_digest(part)
    assert any(f"{name(part)}: prompt, index and seed: 1: 3" in problem for problem in unsigned(folder))


def test_a_seal_that_was_written_after_sampling_and_says_otherwise_is_named(folder):
    """The plan is changed, and a seal of it put at the end of the ledger that says it came before."""
    folder.studio.write_plan(generate={"seeds": sealed.SEEDS}, certify={"closest": 0.14})
    folder.studio.run()

    def lie(lines):
        seals = [line for line in lines if line["event"] == "seal"]
        assert seals[-1]["before_sampling"] is False
        seals[-1]["before_sampling"] = True
        return lines

    edit_ledger(folder.ledger, lie)
    folder.studio.run()
    assert any("before sampling: expected false, found true" in problem for problem in unsigned(folder))


def test_a_part_that_a_crash_kept_out_of_the_ledger_is_not_checked_and_says_so(folder):
    part = folder.one("cliques")
    edit_ledger(
        folder.ledger,
        lambda lines: [x for x in lines if (x["event"], x.get("recipe")) != ("done", part.parent.name)],
    )
    folder.attestation.unlink()
    told = verify(folder.audit, key=None, samples=0)
    assert any(f"cliques/{part.parent.name}/00000: the ledger has no digest" in each for each in told.unchecked)


def test_tables_of_a_plan_that_is_no_longer_wanted_may_be_deleted(folder):
    old = folder.one("cliques").parent
    folder.studio.write_plan(generate={"seeds": sealed.SEEDS}, cliques={"within": 0.14}, prompts={"seed": 5})
    folder.studio.run()
    shutil.rmtree(old)
    folder.attestation.unlink()
    told = verify(folder.audit, key=None, samples=0)
    assert told.problems == ()
    assert any(f"cliques/{old.name}: gone" in each and "another plan" in each for each in told.unchecked)


def test_the_changed_picture_of_a_parrot_is_noticed_by_a_process_that_had_opened_it(folder):
    assert problems(folder) == []
    picture_of_the_parrot(folder)
    assert any("model: not as sealed" in problem for problem in problems(folder))


def test_a_model_that_is_gone_is_told_and_the_digests_are_checked_all_the_same(folder):
    (folder.root / "parrot.toml").unlink()
    part = folder.one("matches")
    part.write_bytes(part.read_bytes() + b"0")
    found = problems(folder)
    assert any("parrot.toml is not there" in problem for problem in found)
    assert any(f"{name(part)}: digest" in problem for problem in found)


def test_a_report_of_other_versions_is_read_but_its_page_is_not_drawn_again(folder):
    edit_json(folder.report, lambda told: told["byrote"].update(pillow="1.0"))
    folder.attestation.unlink()
    told = verify(folder.audit, key=None, samples=0)
    assert told.problems == ()
    assert any("report.html: it was written with other versions" in each for each in told.unchecked)


def test_no_audit_is_a_mistake_of_the_user(tmp_path, capsys):
    with pytest.raises(PlanError):
        verify(tmp_path, key=None, samples=0)
    assert main(["verify", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("byrote: ")


@pytest.mark.parametrize("samples", ["-1", "x", "²", "9" * 5000])
def test_a_number_of_samples_that_is_none_is_a_mistake_of_the_user(made, samples, capsys):
    assert main(["verify", str(made.audit), "--samples", samples]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_an_audit_without_a_report_says_so(folder):
    shutil.rmtree(folder.audit / "report")
    assert any("report.json: no report" in problem for problem in problems(folder, signed=False))


def test_a_key_asks_for_an_attestation(folder):
    folder.attestation.unlink()
    assert any("attestation.json: there is none" in problem for problem in problems(folder))
    assert problems(folder, signed=False) == []


def payload(folder, edit):
    """Edit what is inside the envelope and leave the signature."""

    def edited(envelope):
        statement = json.loads(b64decode(envelope["payload"]))
        edit(statement)
        envelope["payload"] = b64encode(json.dumps(statement, sort_keys=True).encode()).decode()

    edit_json(folder.attestation, edited)


def test_a_payload_that_was_changed_does_not_fit_its_signature_and_is_noticed_without_a_key_too(folder):
    payload(folder, lambda told: told["predicate"].update(certified=0))
    assert any("attestation.json: signature" in problem for problem in problems(folder))
    found = problems(folder, signed=False)
    assert any("attestation.json: predicate: certified: expected 2, found 0" in problem for problem in found)


def test_a_signature_that_was_changed_is_named(folder):
    edit_json(folder.attestation, lambda told: told["signatures"][0].update(sig=b64encode(b"x" * 64).decode()))
    assert any("attestation.json: signature" in problem for problem in problems(folder))


def test_another_key_is_named(folder, tmp_path):
    new_key(tmp_path / "other")
    found = verify(folder.audit, key=read_public(tmp_path / "other.pub"), samples=0).problems
    assert len(found) == 1
    assert "attestation.json: signature" in found[0]


def test_a_forger_who_signs_again_has_another_key(folder, tmp_path):
    part = forge_a_match(folder)
    forge_digest(part)
    assert main(["attest", str(folder.audit), "--key", str(tmp_path / "mine"), "--new-key"]) == 0
    assert any("attestation.json: signature" in problem for problem in problems(folder))


def test_an_attestation_that_is_silent_of_the_report_is_named(folder):
    payload(folder, lambda told: told["subject"].clear())
    found = problems(folder, signed=False)
    for silent in ("audit.toml", "report/report.json", "report/report.html", "ledger.jsonl", "corpus/ledger.jsonl"):
        assert f"attestation.json: it says nothing of {silent}" in found


def test_files_that_came_after_the_attestation_are_told(folder):
    payload(folder, lambda told: told.update(subject=[x for x in told["subject"] if "key.json" not in x["name"]]))
    told = verify(folder.audit, key=None, samples=0)
    assert told.problems == ()
    assert "review/key.json: it came after the attestation" in told.unchecked


HOSTILE = {
    "not JSON": b"{",
    "no object": b"[]",
    "null": b"null",
    "bytes": bytes(range(256)),
    "empty": b"",
    "deep": b"[" * 100_000,
    "huge": b'"' + b"a" * (16 * 2**20) + b'"',
    "missing keys": b'{"payload": "e30="}',
    "wrong types": b'{"payload": 3, "payloadType": [], "signatures": {}}',
    "no base64": b'{"payload": "???", "payloadType": "application/vnd.in-toto+json", "signatures": []}',
    "signatures are texts": b'{"payload": "e30=", "payloadType": "application/vnd.in-toto+json", "signatures": ["x"]}',
    "no signatures": b'{"payload": "e30=", "payloadType": "application/vnd.in-toto+json", "signatures": []}',
    "another payload": b'{"payload": "e30=", "payloadType": "text/plain", "signatures": [{"sig": ""}]}',
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("signed", [True, False])
def test_a_hostile_envelope_is_one_line(folder, data, signed, capsys):
    folder.attestation.write_bytes(data)
    found = problems(folder, signed=signed)
    assert len(found) == 1
    assert found[0].startswith("attestation.json: ")
    assert len(found[0]) < 300
    assert main(["verify", str(folder.audit)]) == 1
    assert capsys.readouterr().err == ""


SUBJECTS = [
    {},
    3,
    [3],
    [{"name": "audit.toml"}],
    [{"name": 3, "digest": {"sha256": "0"}}],
    [{"name": [], "digest": {"sha256": "0"}}],
    [{"name": "audit.toml", "digest": {"sha256": 3}}],
    [{"name": "../../../etc/passwd", "digest": {"sha256": "0"}}],
    [{"name": "\ud800\x1b[2J\n", "digest": {"sha256": "0"}}],
    [{"name": "ledger.jsonl#²", "digest": {"sha256": "0"}}],
    [{"name": "ledger.jsonl#" + "9" * 5000, "digest": {"sha256": "0"}}],
    [{"name": "a" * 10**6, "digest": {"sha256": "0"}}],
]


@pytest.mark.parametrize("subject", SUBJECTS, ids=range(len(SUBJECTS)))
def test_a_hostile_statement_is_told_in_printable_lines(folder, subject, capsys):
    payload(folder, lambda told: told.update(subject=subject))
    assert main(["verify", str(folder.audit)]) == 1
    out, err = capsys.readouterr()
    assert err == ""
    assert "WRONG attestation.json" in out or "WRONG audit.toml" in out
    assert all(line.isprintable() and len(line) < 300 for line in out.splitlines())


@pytest.mark.parametrize("predicate", [None, [], {"certified": "\x1b"}, 7])
def test_a_hostile_predicate_is_told(folder, predicate):
    payload(folder, lambda told: told.update(predicate=predicate))
    assert any("attestation.json: predicate" in problem for problem in problems(folder, signed=False))


def test_a_statement_of_another_kind_by_the_same_key_is_none_of_an_audit(folder):
    payload(folder, lambda told: told.update(predicateType="https://slsa.dev/provenance/v1"))
    assert any("no statement of an audit" in problem for problem in problems(folder))


def test_a_ledger_of_lines_that_are_none_is_told(folder):
    folder.attestation.unlink()
    with folder.ledger.open("ab") as file:
        file.write(b'\xff\xfe\n{"event": "done"\n[]\n' + b"[" * 100_000 + b"\n")
    told = verify(folder.audit, key=None, samples=0)
    assert any("ledger.jsonl: 4 lines that cannot be read" in each for each in told.unchecked)


@pytest.mark.parametrize("line", ['{"event": "seal"}', '{"event": "claim"}', '{"event": "review"}'])
def test_lines_of_the_ledger_without_their_keys_are_a_problem_and_no_traceback(folder, line, capsys):
    folder.attestation.unlink()
    with folder.ledger.open("a") as file:
        file.write(line + "\n")
    assert main(["verify", str(folder.audit)]) == 1
    out, err = capsys.readouterr()
    assert err == ""
    assert "broken: KeyError" in out


NOBODY = """
import os, sys
from pathlib import Path
from byrote.seals.envelope import read_public
from byrote.seals.verify import verify
def told():
    return verify(Path(sys.argv[1]), key=read_public(Path(sys.argv[2])), samples=1)
if os.geteuid() == 0:
    told()  # imports all that it takes, which nobody may read
    os.setgid(65534)
    os.setuid(65534)  # root writes everywhere
print(told())
"""


def test_a_folder_that_cannot_be_written_can_be_verified(made):
    """In a folder that others may enter, as pytest's are not."""
    with TemporaryDirectory() as place:
        folder = made.copy(Path(place))
        places = [Path(place), *Path(place).rglob("*")]
        for path in places:
            path.chmod(0o555 if path.is_dir() else 0o444)
        try:
            command = [sys.executable, "-c", NOBODY, str(folder.audit), str(folder.public)]
            told = subprocess.run(command, capture_output=True, text=True, check=False)
        finally:
            for path in places:
                path.chmod(0o700)
    assert "verdicts" not in told.stdout + told.stderr
    assert "checked=" in told.stdout
