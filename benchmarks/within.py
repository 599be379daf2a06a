"""How near unrelated pictures come to each other: the demo's edge threshold, from a second held-out draw.

    python benchmarks/within.py --work DIR [--save]

Takes every picture of a second control draw, which no audit uses, to its nearest picture of the training set or that
picture's round trip (tiled, 4 x 4), and prints what share of them comes how near. The demo's plan takes as `within` the
largest whole hundredth that at most 1 in 1,000 reach: two samples so near show the same picture. tau is not taken from
it: it stays the published .15. The edge threshold need only be loose enough, for controls go through the same filter.
"""

import argparse
import json
import math
import os
import platform
from datetime import UTC, datetime
from pathlib import Path

from truth import references, tiled, tiles

SHARE = 0.001


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="the folder of benchmarks/truth.py, or a new one")
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    training, fresh, _ = references(options.work)
    nearest = sorted(float(d) for d in tiled(tiles(fresh[: len(fresh) // 2]), tiles(training)).min(1))
    allowed = math.floor(SHARE * len(nearest))
    within = math.floor(nearest[allowed] * 100) / 100
    found = {"pictures": len(nearest), "nearest": [round(d, 4) for d in nearest[:5]], "share": SHARE, "within": within}
    print(f"{found}; {sum(d <= within for d in nearest)} of {len(nearest):,} within {within}")
    if options.save:
        about = {"command": "benchmarks/within.py --save", "machine": f"{platform.machine()}, {os.cpu_count()} cores"}
        about |= {"date": f"{datetime.now(UTC):%Y-%m-%d}"} | found
        Path("benchmarks/results/within.json").write_text(json.dumps(about, indent=1) + "\n")


if __name__ == "__main__":
    main()
