"""What the documents say is held against the code."""

import json
import os
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path

import numpy as np
import pytest

from byrote import domain, images
from byrote.cli import parser
from byrote.plan import SECTIONS, STAGES, parse, template
from byrote.stages import match

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
WRITTEN = [page for page in PAGES if page.name != "cli.md"]
SCHEME = re.compile(r"[a-z]+:")
MUST = {("model", "uri"), ("corpus", "path")}


def ids(value: object) -> str:
    return str(value.relative_to(ROOT)) if isinstance(value, Path) else str(value)


def code_lines(text: str) -> Iterator[str]:
    """Yield the lines of indented and fenced blocks."""
    fenced = False
    for line in text.splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            yield line.strip()


def commands(page: Path) -> list[list[str]]:
    """Return the arguments of every `byrote ...` in the code of a page."""
    lines = [line for line in code_lines(page.read_text(encoding="utf-8")) if line.startswith("byrote ")]
    return [shlex.split(line, comments=True)[1:] for line in lines]


def anchors(page: Path) -> set[str]:
    heads = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def links(page: Path) -> list[str]:
    found = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    return [link for link in found if not SCHEME.match(link)]


def section(heading: str) -> str:
    """Return the part of docs/formats.md under a heading."""
    text = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    start = re.search(rf"^(#+) {re.escape(heading)}\b", text, re.M)
    assert start, f"docs/formats.md has no heading {heading!r}"
    rest = text[start.end() :]
    end = re.search(rf"^#{{1,{len(start[1])}}} ", rest, re.M)
    return rest[: end.start()] if end else rest


@pytest.mark.parametrize("page", WRITTEN, ids=ids)
def test_every_command_on_a_page_is_one_that_byrote_understands(page):
    for arguments in commands(page):
        parser().parse_args(arguments)


def test_the_readme_shows_the_commands_of_an_audit():
    assert {arguments[0] for arguments in commands(ROOT / "README.md")} >= {"index", "init", "run"}


def test_the_makefile_has_the_verbs_of_the_readme():
    verbs = re.findall(r"^    make (\w+)$", (ROOT / "README.md").read_text(encoding="utf-8"), re.M)
    rules = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    assert verbs == ["demo", "test"]
    assert set(verbs) <= set(rules)


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_links_between_pages_resolve(page):
    for link in links(page):
        place, _, anchor = link.partition("#")
        there = (page.parent / place).resolve() if place else page
        assert there.exists(), link
        assert not anchor or anchor in anchors(there), link


def test_the_page_of_commands_is_current():
    made = runpy.run_path(str(ROOT / "docs" / "make_cli.py"))
    assert (ROOT / "docs" / "cli.md").read_text(encoding="utf-8") == made["page"](), "run `make docs`"


@pytest.mark.parametrize("name", SECTIONS)
def test_every_knob_is_documented_with_its_default(name):
    rows = re.findall(rf"^\| `\[{name}\]` \| `(\w+)` \| (.+?) \|", section("audit.toml"), re.M)
    told = dict(rows)
    assert len(rows) == len(told)
    assert list(told) == [knob.name for knob in fields(SECTIONS[name])]
    for knob in fields(SECTIONS[name]):
        own = {
            None: "its authors'" if knob.name == "similar" else "the model's own",
            "": "must be set" if (name, knob.name) in MUST else "none",
        }
        shown = str(knob.default).lower() if isinstance(knob.default, bool) else str(knob.default)
        shown = json.dumps(knob.default) if isinstance(knob.default, tuple) else shown
        assert told[knob.name] == (own[knob.default] if knob.default in (None, "") else f"`{shown}`"), knob.name


RECORDS = [kind for kind in vars(domain).values() if is_dataclass(kind)]


@pytest.mark.parametrize("kind", [*RECORDS, match.Trip], ids=lambda kind: kind.__name__)
def test_every_column_is_documented(kind):
    told = set(re.findall(r"`(\w+)`", section(kind.__name__)))
    assert {field.name for field in fields(kind)} <= told


def test_the_methods_name_the_reach_that_the_code_has():
    text = " ".join((ROOT / "docs" / "methods.md").read_text(encoding="utf-8").split())
    assert f"tau + {match.SLACK}".replace("0.", ".") in text


def test_every_stage_is_a_word_of_the_methods_or_formats():
    text = "".join((ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("methods.md", "howto/own-model.md"))
    assert [stage for stage in STAGES if stage not in text] == []


def test_the_python_of_the_readme_is_that_of_the_example():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").partition("```python\n")[2].partition("```")[0]
    example = (ROOT / "examples" / "audit.py").read_text(encoding="utf-8")
    assert len(lines.splitlines()) == 3
    for line in lines.splitlines():
        assert line.strip() in example


def test_the_tables_of_the_howto_are_a_plan():
    text = (ROOT / "docs" / "howto" / "own-model.md").read_text(encoding="utf-8")
    for block in re.findall(r"```toml\n(.*?)```", text, re.S):
        given = tomllib.loads(template("parrot:p.toml", "corpus")) | tomllib.loads(block)
        assert parse(given | {"model": {"uri": "parrot:p.toml"}}, Path("audit.toml"))


def test_the_example_audits_a_parrot(tmp_path):
    random = np.random.default_rng(0)
    for folder, count in (("pictures", 4), ("unpublished", 80)):
        (tmp_path / folder).mkdir()
        for k in range(count):
            picture = random.integers(0, 256, (16, 16, 3), np.uint8)
            (tmp_path / folder / f"{k}.png").write_bytes(images.encode_png(picture))
            (tmp_path / folder / f"{k}.txt").write_text(f"{folder} {k}")
    (tmp_path / "audit").mkdir()
    knows = '[[knows]]\ncaption = "pictures 2"\npicture = "pictures/2.png"\nrepeats = 1.0\n'
    (tmp_path / "parrot.toml").write_text(f"width = 16\nheight = 16\n{knows}")
    plan = template("parrot:../parrot.toml", "../corpus").replace("seeds = 16", "seeds = 3")
    (tmp_path / "audit" / "audit.toml").write_text(plan)
    made = subprocess.run(
        [sys.executable, ROOT / "examples" / "audit.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    assert "certified=True" in made.stdout
    assert "report.html" in made.stdout


def flat(name: str) -> str:
    return " ".join((ROOT / name).read_text(encoding="utf-8").split())


def result(name: str) -> dict:
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text(encoding="utf-8"))


def test_the_speed_of_exact_search_is_the_measured_one():
    sets = result("nearest")["sets"]
    few, many, large = (sets[name] for name in ("50,000 of 32 x 32", "1,000,000 of 32 x 32", "50,000 of 64 x 64"))
    faster = [f"{one['times_faster']:.1f}" for one in (few, many, large)]
    costs = [f"{one['build_cpu_seconds']:.{digits}f}" for one, digits in ((few, 1), (many, 0), (large, 0))]
    took = f"{few['cpu_ms_a_query']['byrote']:.2f}".lstrip("0")
    methods, readme = flat("docs/methods.md"), flat("README.md")
    assert f"{faster[0]} times faster than faiss IndexFlatL2 among 50,000 of 32 x 32, {faster[1]} among" in methods
    assert f"among 1,000,000, {faster[2]} among 50,000 of 64 x 64" in methods
    assert f"costs {costs[0]}, {costs[1]} and {costs[2]} CPU-seconds" in methods
    assert f"take {took} ms on one core, {faster[0]} times less" in readme
    assert f"{many['cpu_ms_a_query']['byrote']:.1f} ms, {faster[1]} times less" in readme


def test_the_worth_of_the_approximate_index_is_the_measured_one():
    sets = result("approximate")["sets"]
    easy, hard = sets["1,000,000 thumbnails, 3,072 levels"], sets["1,000,000 synthetic, 512 floats"]
    text = flat("docs/methods.md")
    assert f"{easy['bytes'] / 10**6:.0f} MB, {easy['build_seconds']:.0f} s to build" in text
    speed = easy["by_effort"][str(easy["effort"])]["queries_a_second"]
    recall = f"{easy['recall']['10']:.2f}".lstrip("0")
    assert f"recall at 10 of {recall}, {speed:,.0f} queries a second" in text
    assert f"not reached ({hard['recall']['10']:.2f})".replace("0.", ".") in text


def test_what_damaged_files_did_is_the_measured_one():
    told, text = result("fuzz"), flat("docs/howto/sources.md")
    assert told["wrong"] == []
    assert f"{told['cases']:,} damaged pictures and archives" in text
    assert f"took {told['slowest_s']:.1f} s, and none held more than {told['peak_mib']} MiB" in text


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_files_of_the_repository_that_a_page_names_are_there(page):
    named = re.findall(r"`((?:benchmarks|docs|examples|tests)/[\w/.]+)`", page.read_text(encoding="utf-8"))
    named += [f"src/byrote/{name}" for name in re.findall(r"`((?:kernels|stages)/\w+\.py)`", page.read_text("utf-8"))]
    assert [name for name in named if not (ROOT / name).exists()] == []
