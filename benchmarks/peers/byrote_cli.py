"""byrote, as a person runs it: python byrote_cli.py FOLDER OUT.npz [quick].

One command indexes the folder and writes every pair with evidence of -4 or more. The score is the evidence turned
round; pairs within the distance at which byrote groups pictures as they stand come first.
"""

import sys
import tempfile
from pathlib import Path

import measure
import numpy as np
import pyarrow.parquet as pq

from byrote.cli import main

NEAR = 0.01
FIRST = -50.0


def find(folder: Path) -> measure.Found:
    """Index the folder, and ask for its near-duplicate pairs."""
    quick = ["--quick"] if "quick" in sys.argv else []
    names = {name: place for place, name in enumerate(measure.files(folder))}
    with tempfile.TemporaryDirectory() as scratch:
        table = Path(scratch) / "pairs.parquet"
        command = ["duplicates", str(folder), "--corpus", f"{scratch}/corpus", "--alike", "-4", "--pairs", str(table)]
        if main([*command, *quick]):
            raise SystemExit(f"byrote {' '.join(command)} failed")
        rows = pq.read_table(table).to_pylist()
    pairs = np.array([(names[row["where_a"]], names[row["where_b"]]) for row in rows], np.int64).reshape(-1, 2)
    return measure.smallest(pairs, np.array([score(row["rms"], row["evidence"]) for row in rows]))


def score(rms: float | None, evidence: float | None) -> float:
    """Return what orders a pair; smaller is nearer."""
    if rms is not None and rms <= NEAR:
        return FIRST + rms
    return 50.0 if evidence is None else -evidence


if __name__ == "__main__":
    measure.run(find, ("byrote", "numpy", "pillow", "scipy"))
