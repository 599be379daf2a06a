"""fastdup's similarity.csv: python fastdup_pairs.py FOLDER OUT.npz.

`fastdup.run` on one thread, with the model it brings, the five nearest of each picture down to a cosine of .7; the
score is 1 - cosine. It skips pictures below 10 x 10, of which there are none.
"""

import csv
import os
import tempfile
from pathlib import Path

os.environ.setdefault("SENTRY_OPT_OUT", "1")

import fastdup
import measure

LEAST, NEIGHBOURS = 0.7, 5


def find(folder: Path) -> measure.Found:
    """Run it in a folder of its own, and read what it wrote."""
    at = {name: k for k, name in enumerate(measure.files(folder))}
    with tempfile.TemporaryDirectory() as work:
        status = fastdup.run(
            input_dir=str(folder), work_dir=work, num_threads=1, threshold=LEAST, nearest_neighbors_k=NEIGHBOURS
        )
        if status:
            raise SystemExit(f"fastdup.run ended with {status}")
        names = [row["filename"] for row in rows(work, "atrain_features.dat.csv")]
        pairs = [(row["from"], row["to"], float(row["distance"])) for row in rows(work, "similarity.csv")]
    numbers = [at[Path(name).name] for name in names]
    where = lambda key: numbers[int(key)] if key.isdigit() else at[Path(key).name]  # noqa: E731
    return measure.collected((where(a), where(b), 1 - cosine) for a, b, cosine in pairs)


def rows(work: str, name: str) -> list[dict[str, str]]:
    """Read one of its tables."""
    with (Path(work) / name).open(newline="") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    measure.run(find, ("fastdup", "numpy", "pillow"))
