"""Commands that change a corpus are killed at moments that a die picks, and end as if they had been left alone."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import byrote
from byrote import api
from byrote.corpora import summary
from byrote.corpus import Corpus
from byrote.domain import Group
from byrote.plan import CorpusPlan
from byrote.stages import dedupe, ingest

from .folders import described, rows, sound, traces, vectors
from .shots import captions_of, digest, field, fields, fill, mirrored

pytestmark = pytest.mark.skipif(
    not hasattr(os, "fork") or not Path("/proc/self/fd").exists(), reason="moments are counted by what Linux tells"
)
KILLED = Path(__file__).with_name("killed.py")
KILLS, FOLDERS = 3, 3
GONE = [2, 9]
"""Seeds of the pictures that are removed; each lies in another part."""


@pytest.fixture(scope="module")
def nursery():
    """Start the process that runs commands in processes of their own."""
    started = subprocess.Popen([sys.executable, str(KILLED)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    yield started
    started.stdin.close()
    assert started.wait(30) == 0
    started.stdout.close()


@dataclass
class Command:
    """What is run in copies of the folder `begun`: the words of the command line."""

    nursery: subprocess.Popen
    begun: Path
    words: list[str]

    def run(self, folder, moment=-1):
        """Run it on a corpus, and kill it before its change number `moment`; return the exit code and the count."""
        words = [word.replace("CORPUS", str(folder)) for word in self.words]
        self.nursery.stdin.write(json.dumps({"moment": moment, "folder": str(folder), "words": words}) + "\n")
        self.nursery.stdin.flush()
        told = json.loads(self.nursery.stdout.readline())
        assert told["code"] in (0, -signal.SIGKILL), told["said"]
        return told["code"], told["changes"]

    def alone(self, folder):
        """Run it to its end in a copy, and return how many changes it made."""
        shutil.copytree(self.begun, folder)
        code, changes = self.run(folder)
        assert code == 0
        return changes

    def interrupted(self, folder, moments):
        """Run it again and again in another copy, killed at each of the moments, then to its end; count the kills."""
        shutil.copytree(self.begun, folder)
        kills = sum(self.run(folder, moment)[0] == -signal.SIGKILL for moment in moments)
        assert self.run(folder)[0] == 0
        return kills


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Lay out two sources, a corpus of the first with all that can be made of it, and a corpus of both."""
    root = tmp_path_factory.mktemp("kills")
    first = fields(range(12)) | {"copy.png": mirrored(field(9)), "broken.png": b"broken"}
    fill(root / "first", first, captions_of(first))
    fill(root / "second", fields(range(30, 38)), captions_of(fields(range(30, 38))))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ingest, "PART", 4)
        byrote.index(root / "first", corpus=root / "one")
        byrote.index(root / "first", root / "second", corpus=root / "both")
    for name in ("one", "both"):
        api.describe(root / name, "pdq")
    shutil.copytree(root / "one", root / "bare")
    api.duplicates(root / "one")
    corpus, told = api.summary(root / "one")
    summary.page(corpus, told, root / "one" / "page" / "corpus.html", reveal=True)
    return root


def told(folder):
    """Return all that a corpus says, wherever its rows lie, and how many rows there are in all."""
    corpus = Corpus(folder)
    arrays = corpus.vectors(corpus.distinct).tobytes(), corpus.vectors(corpus.distinct, "whole").tobytes()
    of_pdq = described(folder) if vectors(folder) else None
    return corpus.digest, rows(folder), arrays, of_pdq, set(corpus.named()), sound(folder)


def groups(folder):
    corpus = Corpus(folder)
    return corpus.store.read_all(Group, dedupe.recipe(corpus, CorpusPlan()))


def compare(command, folder, seed):
    """Kill a command at moments that a die picks, one after another in one folder; do so in several folders."""
    changes, dice = command.alone(folder / "alone"), random.Random(seed)
    for number in range(FOLDERS):
        killed = folder / f"killed-{number}"
        moments = [dice.randrange(changes) for _ in range(KILLS)]
        assert command.interrupted(killed, moments) >= 1
        assert told(killed) == told(folder / "alone"), moments
        yield killed


def test_a_removal_that_is_killed_and_asked_for_again_leaves_nothing(nursery, root, tmp_path):
    command = Command(nursery, root / "one", ["remove", *(digest(field(k)) for k in GONE), "--corpus", "CORPUS"])
    for killed in compare(command, tmp_path, 1):
        gone = [mark for k in GONE for mark in (digest(field(k)), f"field-{k:03d}.png", f"a caption of field-{k:03d}")]
        assert traces(killed, *gone) == []
        assert not any((killed / name).exists() for name in ("likely", "pairs", "groups", "page"))


def test_the_removal_of_a_source_that_is_killed_and_asked_for_again_leaves_nothing(nursery, root, tmp_path):
    command = Command(nursery, root / "both", ["remove", "--source", str(root / "second"), "--corpus", "CORPUS"])
    for killed in compare(command, tmp_path, 2):
        assert traces(killed, str(root / "second"), "field-030.png", digest(field(37))) == []
        assert len(Corpus(killed).pictures) == 13


def test_a_removal_that_was_killed_is_brought_to_its_end_by_the_next_index(nursery, root, tmp_path):
    command = Command(nursery, root / "one", ["remove", *(digest(field(k)) for k in GONE), "--corpus", "CORPUS"])
    changes = command.alone(tmp_path / "alone")
    for moment in range(changes // 3, changes, changes // 3):
        shutil.copytree(root / "one", tmp_path / f"{moment}")
        assert command.run(tmp_path / f"{moment}", moment)[0] == -signal.SIGKILL
        assert not set(Corpus(tmp_path / f"{moment}").distinct) & {digest(field(k)) for k in GONE}
        byrote.index(corpus=tmp_path / f"{moment}")
        assert told(tmp_path / f"{moment}") == told(tmp_path / "alone")
        assert traces(tmp_path / f"{moment}", *(digest(field(k)) for k in GONE)) == []


def test_a_merge_that_is_killed_and_asked_for_again_brings_everything_once(nursery, root, tmp_path):
    command = Command(nursery, root / "bare", ["merge", str(root / "both"), "--corpus", "CORPUS"])
    for killed in compare(command, tmp_path, 3):
        assert Corpus(killed).digest == Corpus(root / "both").digest
        assert sound(killed) == 12 + 2 + 8


def test_an_index_that_is_killed_and_asked_for_again_holds_everything_once(nursery, root, tmp_path):
    command = Command(nursery, root / "bare", ["index", str(root / "second"), "--corpus", "CORPUS"])
    for killed in compare(command, tmp_path, 4):
        assert Corpus(killed).digest == Corpus(root / "both").digest


def test_a_search_for_duplicates_that_is_killed_and_asked_for_again_finds_the_same(nursery, root, tmp_path):
    command = Command(nursery, root / "bare", ["duplicates", "--corpus", "CORPUS"])
    for killed in compare(command, tmp_path, 5):
        assert groups(killed) == groups(tmp_path / "alone") == groups(root / "one")
        tables = [
            {
                path.relative_to(folder): path.read_bytes()
                for name in ("likely", "pairs", "groups")
                for path in (folder / name).rglob("*.*")
            }
            for folder in (killed, tmp_path / "alone")
        ]
        assert tables[0] == tables[1]
        assert len(tables[0]) > 5
