"""The script that holds an audit against Webster's labels counts what was certified under each label."""

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from end_to_end.studio import Studio, portraits

EXAMPLE = Path(__file__).parents[2] / "examples" / "webster.py"


def test_each_label_is_counted_by_what_was_certified(tmp_path):
    people, controls = portraits("train", 8), portraits("held-out", 40)
    studio = Studio(tmp_path, {"prompts": {"top": 8, "random": 0, "controls": 40}, "generate": {"seeds": 4}})
    studio.shoot(people, controls)
    studio.teach({person.caption: person.data for person in people[:6]}, repeats=1.0)
    studio.write_plan()
    studio.index()
    studio.run()
    labelled = ["MV", "MV", "MV", "MV", "TV", "RV", "N"]
    rows = [{"caption": p.caption, "overfit_type": kind} for p, kind in zip(people, labelled, strict=False)]
    rows += [{"caption": people[0].caption, "overfit_type": "N"}, {"caption": "never asked", "overfit_type": "MV"}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "labels.parquet")
    command = [sys.executable, str(EXAMPLE), str(studio.audit), str(tmp_path / "labels.parquet")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    lines = {line.split(" ")[0]: line.split(": ")[1] for line in done.stdout.splitlines()}
    assert lines["MV"].startswith("4 of 4 asked were certified = 1.00 (95 % interval 0.40 to 1.00)")
    assert lines["TV"].startswith("1 of 1")
    assert lines["RV"].startswith("1 of 1")
    assert lines["N"].startswith("0 of 1")
