"""Hold an audit of Stable Diffusion against Webster's labels: which prompts that are said to repeat were certified?

    python examples/webster.py AUDIT LABELS.parquet

LABELS has a row a prompt with the columns `caption` and `overfit_type`: MV (the caption's own picture comes back), TV
(a fixed layout with a changing part), RV (another picture comes back), N (none). Webster 2023, arXiv:2305.08694. Only
MV can be certified by the caption's own picture; the others are counted as what they are.
"""

import sys
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq

from byrote import api
from byrote.audit import Audit
from byrote.kernels.stats import clopper_pearson

KINDS = {"MV": "its own picture", "TV": "a template", "RV": "another picture", "N": "none"}


def labels(path: Path) -> dict[str, str]:
    """Return the label of each caption; of a caption with several, the one nearest to a copy."""
    rows = pq.read_table(path, columns=["caption", "overfit_type"]).to_pylist()
    order = list(KINDS)
    told: dict[str, str] = {}
    for row in rows:
        kind, before = row["overfit_type"], told.get(row["caption"])
        if kind in KINDS and (before is None or order.index(kind) < order.index(before)):
            told[row["caption"]] = kind
    return told


def counts(folder: Path, told: dict[str, str]) -> dict[str, tuple[int, int]]:
    """Return for each label how many of its captions were asked, and how many of their pictures were certified."""
    audit = Audit(folder)
    certified = {finding.group for finding in api.Result(folder).findings if finding.certified}
    asked, found = Counter[str](), Counter[str]()
    for prompt in audit.prompts:
        kind = told.get(prompt.text or "")
        if kind and prompt.side == "picture" and prompt.rung == "caption":
            asked[kind] += 1
            found[kind] += prompt.group in certified
    return {kind: (found[kind], asked[kind]) for kind in KINDS}


def main(folder: str, path: str) -> None:
    """Print a line a label."""
    for kind, (found, asked) in counts(Path(folder), labels(Path(path))).items():
        share = ""
        if asked:
            low, high = clopper_pearson(found, asked)
            share = f" = {found / asked:.2f} (95 % interval {low:.2f} to {high:.2f})"
        print(f"{kind} ({KINDS[kind]}): {found} of {asked} asked were certified{share}")


if __name__ == "__main__":
    main(*sys.argv[1:])
