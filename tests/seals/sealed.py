"""An audit with verdicts, a redacted report and an attestation, made once and copied, and hands that tamper with it."""

import hashlib
import json
import shutil
import sqlite3
from functools import cached_property

import pyarrow as pa
import pyarrow.parquet as pq
from end_to_end.studio import Studio, portraits

from byrote.cli import main

PICTURES, CONTROLS, SEEDS = 4, 40, 6  # 44 prompts of 6 samples: two parts


def make(root):
    """Run an audit that finds two memories, have some pairs judged, and sign it with a key of its own."""
    faces = portraits("train", PICTURES)
    studio = Studio(root / "studio")
    studio.root.mkdir(parents=True)
    studio.shoot(faces, portraits("held-out", CONTROLS)).teach({faces[k].caption: faces[k].data for k in (1, 2)})
    studio.write_plan(generate={"seeds": SEEDS}).index()
    studio.run()
    audit = str(studio.audit)
    assert main(["review", "draw", audit, "--out", str(studio.root / "sheets")]) == 0
    judge(studio, "alice", "copy", 4)
    assert main(["report", audit, "--redact"]) == 0
    assert main(["attest", audit, "--key", str(studio.root / "key"), "--new-key"]) == 0
    return Folder(studio.root)


def judge(studio, reviewer, verdict, count):
    """Say the same of the first pairs."""
    pairs = json.loads((studio.audit / "review" / "key.json").read_text())["pairs"]
    lines = ["id,verdict,note", *(f"{pair['id']},{verdict}," for pair in pairs[:count])]
    (studio.root / "said.csv").write_text("\n".join(lines) + "\n")
    said = str(studio.root / "said.csv")
    assert main(["review", "import", str(studio.audit), said, "--reviewer", reviewer]) == 0


class Folder:
    """A copy of the studio, to be tampered with."""

    def __init__(self, root):
        self.root = root
        self.studio = Studio(root)
        self.audit = root / "audit"
        self.corpus = root / "corpus"
        self.ledger = self.audit / "ledger.jsonl"
        self.attestation = self.audit / "report" / "attestation.json"
        self.report = self.audit / "report" / "report.json"
        self.public = root / "key.pub"

    def copy(self, to):
        """Copy all but the pictures: the corpus knows where they lie."""

        def sources(folder, names):
            return {"pictures", "held-out", "sheets"} & set(names) if folder == str(self.root) else ()

        return Folder(shutil.copytree(self.root, to / "copy", ignore=sources))

    def one(self, table, name="00000.parquet"):
        """Return the only file of a table by this name."""
        (path,) = self.root.glob(f"*/{table}/*/{name}")
        return path

    @cached_property
    def certified_samples(self):
        """Return the digests of the samples that show a copy."""
        rows = pq.read_table(self.one("matches")).to_pylist()
        return [row["sample"] for row in rows if row["side"] == "picture" and row["tiled"] < 0.15]


def name(path):
    """Return what a message calls a part of a table: TABLE/RECIPE/FILE."""
    return "/".join(path.parts[-3:])


def change(path, edit):
    """Rewrite the rows of a Parquet file."""
    table = pq.read_table(path)
    rows = table.to_pylist()
    edit(rows)
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)


def edit_json(path, edit):
    told = json.loads(path.read_text())
    edit(told)
    path.write_text(json.dumps(told, indent=1) + "\n")


def edit_ledger(path, edit):
    """Rewrite the lines of a ledger; `edit` takes and returns a list of objects."""
    lines = edit([json.loads(line) for line in path.read_text().splitlines()])
    path.write_text("".join(json.dumps(line, sort_keys=True) + "\n" for line in lines))


def forge_digest(part):
    """Let the ledger know a part as it is now, as a forger would who knows how it works."""
    ledger = part.parents[2] / "ledger.jsonl"

    def forged(lines):
        for line in lines:
            if line["event"] == "done" and line["recipe"] == part.parent.name and line["part"] == part.stem:
                line["files"] = digests(part)
        return lines

    edit_ledger(ledger, forged)


def append_digest(part):
    """Add a line to the ledger that knows the part as it is now, and leave the older lines alone."""
    ledger = part.parents[2] / "ledger.jsonl"
    lines = [json.loads(line) for line in ledger.read_text().splitlines()]
    (done,) = [x for x in lines if x["event"] == "done" and (x["recipe"], x["part"]) == (part.parent.name, part.stem)]
    with ledger.open("a") as file:
        file.write(json.dumps(done | {"files": digests(part)}, sort_keys=True) + "\n")


def digests(part):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in part.parent.glob(f"{part.stem}.*")}


def sql(path, *statements):
    store = sqlite3.connect(path)
    with store:
        for statement in statements:
            store.execute(statement)
    store.close()
