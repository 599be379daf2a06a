"""A redacted report says every number and names nothing: all texts that people give are marked."""

import csv
import getpass
import hashlib
import hmac
import json
import re
import shutil
import socket
from dataclasses import replace
from pathlib import Path

import pytest

import byrote
from byrote import canaries
from byrote.api import silent
from byrote.audit import Audit
from byrote.before.claim import claim
from byrote.before.tau import measure
from byrote.chain import rewrite_report
from byrote.cli import main
from byrote.domain import Sample
from byrote.errors import StoreError
from byrote.evidence import gather
from byrote.reviewing import draw_pairs, take_verdicts
from byrote.stages.report.data import Skipped
from byrote.stages.report.redact import HIDDEN, KEY, key_of, pseudonym, redacted

from .studio import File, Studio, portraits

MARK = "ZQ"
PICTURES, CONTROLS, TAUGHT = 8, 20, 4
PLACES = re.compile(r"(?<![<\w/])/(?:tmp|home|root|usr|work|var|etc|opt|mnt|srv|Users|private)/")


def marked(files, what):
    return [File(f"ZQ{what}-{k}.png", f.data, f"ZQ{what} {f.caption}") for k, f in enumerate(files)]


def shoot(root):
    """Lay out a corpus whose every name is marked, with all that a listing passes over."""
    faces, held_out = (
        marked(portraits("train", PICTURES), "picture"),
        marked(portraits("held-out", CONTROLS), "control"),
    )
    made = Studio(root).shoot(faces, held_out)
    folder = root / "pictures"
    with (folder / "metadata.jsonl").open("a") as told:
        told.write(json.dumps({"file_name": faces[0].name, "text": "ZQsecond caption"}) + "\n")
        told.write(json.dumps({"file_name": "ZQmissing.png", "text": "ZQcaption of nothing"}) + "\n")
    (folder / "ZQbroken.png").write_bytes(faces[0].data[:60] + b"ZQchunk" + faces[0].data[60:])
    (folder / "ZQempty.png").write_bytes(b"")
    (folder / "ZQsilent.png").write_bytes(portraits("silent", 1)[0].data)
    (folder / "ZQsilent.txt").write_bytes(b"\xff\xfeZQ")
    (folder / "ZQlink").symlink_to(root / "held-out")
    made.teach({f.caption: f.data for f in faces[:TAUGHT]})
    (root / "parrot.toml").rename(root / "ZQparrot.toml")
    (root / "ZQtwin.toml").write_text("width = 32\nheight = 32\n# ZQtwin\n")
    (root / "ZQusers.txt").write_text("ZQuser's first prompt\nZQuser's second prompt\n")
    return made, faces


def texts(root, audit):
    """Write rewordings of every caption that is asked, none of them in the files that the plan had before."""
    asked = [prompt.text for prompt in Audit(audit).prompts if prompt.rung == "caption"]
    with (root / "ZQtexts.csv").open("w", newline="") as sink:
        csv.writer(sink).writerows([["caption", "rung", "text"], *([c, "paraphrase", f"ZQother {c}"] for c in asked)])


def judge(audit):
    """Let two marked reviewers judge some pairs, with marked notes."""
    draw_pairs(audit, audit / "review" / "sheets", count=10, seed=0)
    table = audit / "review" / "sheets" / "verdicts.csv"
    rows = list(csv.DictReader(table.open(encoding="utf-8-sig")))
    for reviewer, verdict in (("ZQanna", "copy"), ("ZQbert", "no")):
        with (audit.parent / f"{reviewer}.csv").open("w", newline="") as sink:
            writer = csv.DictWriter(sink, rows[0].keys())
            writer.writeheader()
            writer.writerows(row | {"verdict": verdict, "note": "ZQnote"} for row in rows)
        take_verdicts(audit, audit.parent / f"{reviewer}.csv", reviewer)


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    """Run an audit with all that there is, named and judged, and write its redacted report."""
    root = tmp_path_factory.mktemp("ZQroot")
    made, faces = shoot(root)
    canaries.make(root / "ZQcanaries", canaries.Draw(size=32, tiers=(1, 2), each=2, seed=3))
    publish, keep = (root / "ZQcanaries" / name for name in ("publish", "keep"))
    made = Studio(root)
    byrote.index(root / "pictures", publish, corpus=root / "ZQ:corpus", held_out=[root / "held-out", keep])
    plan = {
        "model": {"uri": "parrot:../ZQparrot.toml"},
        "corpus": {"path": "../ZQ:corpus"},
        "twin": {"uri": "parrot:../ZQtwin.toml"},
        "canaries": {"file": "../ZQcanaries/canaries.json"},
        "prompts": {"top": 2, "random": 3, "controls": CONTROLS},
        "generate": {"seeds": 4, "batch": 16, "sampler": "ZQ my sampler"},
    }
    made.write_plan(**plan)
    made.run(until="prompts")
    claim(made.audit, [root / "pictures" / faces[1].name], silent)
    made.run(until="prompts")
    texts(root, made.audit)
    (root / "ZQsecond").mkdir()
    for file in portraits("second", 20):
        (root / "ZQsecond" / file.name).write_bytes(file.data)
    rungs = ["none", "users", "truncated", "paraphrase", "caption"]
    ladder = {"rungs": rungs, "users": "../ZQusers.txt", "texts": "../ZQtexts.csv"}
    made.write_plan(**plan, ladder=ladder)
    tau = measure(made.audit, str(root / "ZQsecond"), share=0.1, progress=silent).closest
    made.write_plan(**plan, ladder=ladder, certify={"closest": max(tau, 0.1)})
    made.run()
    claim(made.audit, [root / "pictures" / faces[2].name], silent)
    judge(made.audit)
    assert main(["report", str(made.audit), "--redact"]) == 0
    return made


def page(made, name="redacted.html"):
    return (made.audit / "report" / name).read_text(encoding="utf-8")


def both(made):
    return page(made) + page(made, "redacted.json")


def told(made, name="redacted.json"):
    return json.loads(page(made, name))


def test_the_audit_has_everything_that_a_report_can_name(everything):
    full = told(everything, "report.json")
    assert all(full[key] for key in ("findings", "claims", "skipped", "twin", "canaries", "review", "discovery"))
    assert full["tau"]["source"] == "a second held-out draw" or full["tau"]["closest"] == 0.1
    assert {rate["name"].split(": ")[-1] for rate in full["rates"]} >= {"truncated", "paraphrase", "caption"}
    assert [row["named"] for row in full["claims"]] == [True, False]
    assert any(found["distances"]["tiled"] <= full["tau"]["closest"] for found in full["findings"])
    assert {row["what"] for row in full["skipped"]} >= {
        *("unreadable files", "pictures without a caption", "captions or folders that were passed over"),
    }
    assert page(everything, "report.json").count(MARK) > 20


def test_no_marker_comes_out_anywhere(everything):
    for name in ("redacted.html", "redacted.json"):
        found = re.findall(r".{0,60}ZQ.{0,60}", page(everything, name), re.IGNORECASE)
        assert found == [], name


def test_the_page_that_is_always_shown_names_no_picture_caption_or_prompt_either(everything):
    html = page(everything, "report.html")
    for name in (
        "picture-",
        "picture ",
        "control-",
        "control ",
        "second",
        "missing",
        "broken",
        "silent",
        "link",
        "user's",
    ):
        assert MARK + name not in html


def test_there_is_no_image_and_not_even_a_blurred_one(everything):
    assert "data:image" not in both(everything)
    assert "<img" not in both(everything)


def test_no_digest_of_a_picture_a_group_a_sample_or_a_canary_comes_out(everything):
    audit = Audit(everything.audit)
    names = {row.digest for row in audit.corpus.pictures} | {row.group for row in audit.groups}
    for made in (audit.recipes.own, audit.recipes.twin):
        names |= {row.digest for row in audit.store.read_all(Sample, made.samples)}
    said = both(everything)
    found = {name for name in names if name.removeprefix("sha256:")[:10] in said}
    assert found == set()
    known = {told(everything)[key]["digest"] for key in ("model", "corpus", "twin", "sealed")}
    known |= {seal["digest"] for seal in told(everything)["audits"]}
    assert set(re.findall(r"sha256:[0-9a-f]{64}", said)) == known


def test_no_seed_of_a_sample_comes_out_for_it_would_confirm_a_guessed_picture_and_caption(everything):
    audit = Audit(everything.audit)
    seeds = {str(row.seed) for row in audit.store.read_all(Sample, audit.recipes.samples)}
    assert seeds & set(re.findall(r"\d{15,}", page(everything, "report.json")))
    assert not seeds & set(re.findall(r"\d{15,}", both(everything)))
    assert {sample["seed"] for found in told(everything)["findings"] for sample in found["samples"]} == {None}
    assert "seed hidden" in page(everything)


def test_no_user_no_host_and_no_place_of_this_machine_comes_out(everything):
    said = re.sub(r"<style>.*?</style>", "", both(everything), flags=re.S)
    for name in (getpass.getuser(), socket.gethostname()):
        assert not re.search(rf"\b{re.escape(name)}\b", said), name
    assert str(everything.root) not in said
    assert str(Path.home()) + "/" not in said
    assert PLACES.findall(said) == []
    assert told(everything)["byrote"]["machine"] == HIDDEN


def numbers(tree, at=""):
    """List every number and truth of a tree with its place."""
    if isinstance(tree, dict):
        return {place: value for key, inner in tree.items() for place, value in numbers(inner, f"{at}.{key}").items()}
    if isinstance(tree, list):
        return {place: value for k, inner in enumerate(tree) for place, value in numbers(inner, f"{at}[{k}]").items()}
    return {} if isinstance(tree, str) else {at: tree}


def test_every_number_is_that_of_the_full_report(everything):
    full, hidden = (numbers(told(everything, name)) for name in ("report.json", "redacted.json"))
    differ = {at for at in full.keys() | hidden.keys() if full.get(at) != hidden.get(at)}
    assert {re.sub(r"\[\d+\]", "", at) for at in differ} == {".findings.samples.seed", ".redacted"}
    assert told(everything)["tests"] == told(everything, "report.json")["tests"]
    assert told(everything)["rates"] == told(everything, "report.json")["rates"]
    assert told(everything)["sentences"] == told(everything, "report.json")["sentences"]
    assert told(everything)["annex"] == told(everything, "report.json")["annex"]


def test_the_plan_keeps_its_numbers_and_the_kind_of_the_model(everything):
    plan = told(everything)["plan"]
    assert plan["model"]["uri"] == plan["twin"]["uri"] == f"parrot:{HIDDEN}"
    assert plan["corpus"]["path"] == HIDDEN
    assert (plan["ladder"]["users"], plan["ladder"]["texts"], plan["canaries"]["file"]) == (HIDDEN,) * 3
    assert plan["generate"]["sampler"] == HIDDEN
    assert plan["model"]["dtype"] == "float32"
    assert plan["ladder"]["rungs"] == told(everything, "report.json")["plan"]["ladder"]["rungs"]


def test_reviewers_are_numbered_and_what_they_said_stays(everything):
    full, hidden = told(everything, "report.json")["review"], told(everything)["review"]
    assert [each["name"] for each in full["reviewers"]] == ["ZQanna", "ZQbert"]
    assert [each["name"] for each in hidden["reviewers"]] == ["reviewer 1", "reviewer 2"]
    assert {name for each in hidden["agreement"] for name in each["reviewers"]} <= {"reviewer 1", "reviewer 2"}


def test_pseudonyms_are_those_of_the_key_so_that_its_holder_can_tell_which_is_which(everything):
    key = key_of(everything.audit)
    full, hidden = told(everything, "report.json"), told(everything)
    for mine, shown in zip(full["findings"], hidden["findings"], strict=True):
        assert shown["picture"]["digest"] == pseudonym(key, mine["picture"]["digest"])
        assert shown["picture"]["digest"].removeprefix("pseudonym:")[:12] in page(everything)
        assert (shown["picture"]["where"], shown["prompt"] in (None, HIDDEN)) == ([], True)
    assert [c["digest"] for c in hidden["claims"]] == [pseudonym(key, c["digest"]) for c in full["claims"]]
    assert (everything.audit / KEY).stat().st_mode & 0o777 == 0o600


def test_no_pseudonym_can_be_made_without_the_key(everything):
    said, digests = both(everything), [f["picture"]["digest"] for f in told(everything, "report.json")["findings"]]
    for digest in digests:
        guesses = [hashlib.sha256(digest.encode()).hexdigest()]
        guesses += [
            hmac.new(k, digest.encode(), hashlib.sha256).hexdigest() for k in (b"", b"\0" * 32, digest.encode())
        ]
        assert not any(guess[:12] in said for guess in guesses)


def test_pseudonyms_stay_in_one_folder_and_share_nothing_with_another(everything):
    before = both(everything)
    rewrite_report(everything.audit, reveal=False, redact=True)
    assert both(everything) == before
    other = Studio(everything.root)
    copy = everything.root / "other"
    shutil.copytree(everything.audit, copy, ignore=shutil.ignore_patterns(KEY, "report"))
    rewrite_report(copy, reveal=False, redact=True)
    made = (copy / "report" / "redacted.json").read_text()
    names = [set(re.findall(r"pseudonym:[0-9a-f]{16}", text)) for text in (page(other, "redacted.json"), made)]
    assert len(names[0]) == len(names[1]) > PICTURES
    assert not names[0] & names[1]


def test_a_report_without_the_wish_leaves_no_older_redacted_one_beside_it(everything, tmp_path):
    copy = everything.root / "again"
    shutil.copytree(everything.audit, copy)
    rewrite_report(copy, reveal=True, redact=True)
    assert sorted(path.name for path in (copy / "report").iterdir()) == [
        *("redacted.html", "redacted.json", "report.html", "report.json", "revealed.html"),
    ]
    rewrite_report(copy, reveal=False)
    assert sorted(path.name for path in (copy / "report").iterdir()) == ["report.html", "report.json"]


@pytest.mark.parametrize("data", [b"", b"short", b"x" * 33])
def test_a_broken_key_is_refused_rather_than_guessable(tmp_path, data):
    (tmp_path / KEY).write_bytes(data)
    with pytest.raises(StoreError, match="pseudonyms could be guessed"):
        key_of(tmp_path)


def test_whatever_a_library_or_a_disk_says_is_cut_before_it_can_name_anything(everything):
    evidence = gather(Audit(everything.audit))
    foreign = [
        "broken: cannot read chunk ZQ b'ZQ'",
        "a caption that cannot be read: ZQ",
        "a second caption for 'ZQ.png' is left out",
        'no such file "ZQ one.png"',
        "at /home/ZQ/one.png or C:\\ZQ\\one.png",
    ]
    skipped = [Skipped("unreadable files", text, 1) for text in foreign]
    spoilt = replace(evidence, skipped=skipped, warnings=foreign[2:])
    hidden = redacted(spoilt, b"k" * 32)
    assert MARK not in " ".join([*(s.reason for s in hidden.skipped), *hidden.warnings])
    assert [s.n for s in hidden.skipped] == [1] * len(foreign)
    odd = replace(spoilt, model=replace(spoilt.model, uri="ZQ:path", name="/home/ZQ model"))
    assert (redacted(odd, b"k" * 32).model.uri, redacted(odd, b"k" * 32).model.name) == (HIDDEN, HIDDEN)


def test_the_pixels_of_the_audit_are_not_even_reachable_from_what_is_redacted(everything):
    hidden = redacted(gather(Audit(everything.audit)), b"k" * 32)
    for shown in [*hidden.findings, *hidden.nearest_controls]:
        assert hidden.picture_image(shown.finding.digest) is None
        assert hidden.sample_image(shown.finding.sample or "") is None
