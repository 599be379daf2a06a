"""With known memory: false discoveries, the coverage of every interval, and power beside the binomial prediction.

    python benchmarks/power.py [--audits 1000] [--draws 4000] [--save]

False discoveries: audits of simulated distances where some of 40 pictures are copies, in copy counts that make the list
long; the rest come near by chance as controls do. Coverage: shares, totals and bands drawn with a known truth; an exact
one-sided binomial test at 1 % asks whether an exact interval covers less than its level; of approximate ones the
shortfall is printed. Power: a picture that comes back in a share p of N samples makes a clique of `least` with
P(Bin(N, p) >= least), printed for the budgets of the literature, and measured through the whole chain with a parrot.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats
from worlds import FDR, judged

import byrote
from byrote import images
from byrote.before.budget import caught
from byrote.demo.portraits import draw, meet
from byrote.kernels import rates, review
from byrote.kernels.stats import binomial_recall, clopper_pearson

LEVEL, TEST = 0.95, 0.01
BUDGETS = ((500, 10), (200, 5), (100, 4), (64, 4), (16, 3), (4, 2), (500, 2))
GRID = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
PICTURES, CONTROLS, COPIES, SEEDS, LEAST = 40, 800, 12, 16, 2
Dice = np.random.Generator


def discoveries(audits: int) -> dict[str, Any]:
    """Return the mean share of false findings where 12 of 40 pictures are copies."""
    wrong, found = [], 0
    for seed in range(audits):
        dice = np.random.default_rng([seed, 1])
        null = np.sqrt(dice.chisquare(8, PICTURES + CONTROLS) / 8) * 0.3
        t = np.concatenate([dice.uniform(0.02, 0.14, COPIES), null[COPIES:PICTURES]])
        certified = {f.group for f in judged(t, null[PICTURES:]).findings if f.certified}
        false = sum(int(name.split()[1]) >= COPIES for name in certified)
        wrong.append(false / max(1, len(certified)))
        found += len(certified) - false
    mean, error = float(np.mean(wrong)), float(np.std(wrong) / np.sqrt(audits))
    return {"audits": audits, "mean_fdp": round(mean, 4), "error": round(error, 5), "alpha": FDR, "found": found}


Cover = Callable[[Dice], bool]


def _share(interval: Callable[[int, int], tuple[float, float]], p: float, n: int) -> Cover:
    def cover(dice: Dice) -> bool:
        low, high = interval(int(dice.binomial(n, p)), n)
        return bool(low <= p <= high)

    return cover


def _wilson(k: int, n: int) -> tuple[float, float]:
    interval = stats.binomtest(k, n).proportion_ci(LEVEL, "wilson")
    return float(interval.low), float(interval.high)


def _difference(dice: Dice) -> bool:
    k1, k2 = (int(dice.binomial(n, p)) for n, p in ((60, 0.3), (90, 0.12)))
    low, high = rates.difference(k1, 60, k2, 90, LEVEL)
    return bool(low <= 0.18 <= high)


def _paired(dice: Dice) -> bool:
    one, other, _ = dice.multinomial(80, [0.25, 0.05, 0.7])
    low, high = rates.paired_difference(int(one), int(other), 80, LEVEL)
    return bool(low <= 0.2 <= high)


def _seen(dice: Dice) -> bool:
    """Cover a chance that is told only because it came true at least once."""
    k = 0
    while not k:
        k = int(dice.binomial(16, 0.05))
    low, high = rates.seen_interval(k, 16, LEVEL)
    return low <= 0.05 <= high


def _finite(dice: Dice) -> bool:
    yes = int(dice.hypergeometric(30, 170, 40))
    low, high = review.finite_interval(review.Stratum(200, 40, yes), LEVEL)
    return bool(low <= 30 <= high)


def _total(dice: Dice) -> bool:
    truth = ((100, 80, 30), (300, 10, 30), (2000, 4, 40))
    strata = [review.Stratum(n, d, int(dice.hypergeometric(k, n - k, d))) for n, k, d in truth]
    found = review.horvitz_thompson(strata, LEVEL)
    return bool(found.low <= 94 <= found.high)


def _band(dice: Dice) -> bool:
    """Cover the running mean at every rank at once, precision falling along the rank."""
    chances = np.linspace(1, 0.05, 150)
    band = review.precision_band(dice.random(150) < chances, LEVEL)
    means = np.cumsum(chances) / np.arange(1, 151)
    return bool(((band[:, 0] <= means) & (means <= band[:, 1])).all())


def _bootstrap(dice: Dice) -> bool:
    """Cover the share of samples over prompts, of which about a third ever give a copy."""
    copies = dice.binomial(16, np.where(dice.random(150) < 0.3, 0.4, 0.0))
    found = rates.cluster_bootstrap(copies, 16, seed=int(dice.integers(1 << 30)), draws=400, level=LEVEL)
    return found is None or found[0] <= 0.12 <= found[1]


def _chao(dice: Dice) -> bool:
    chances = np.geomspace(0.001, 0.3, 200)
    found = rates.chao1(dice.binomial(40, chances), LEVEL)
    return found.low <= 200 <= found.high


EXACT: dict[str, Cover] = {
    **{f"Clopper-Pearson p {p} n {n}": _share(clopper_pearson, p, n) for p, n in ((0.01, 50), (0.1, 40), (0.5, 20))},
    "one-sided upper p 0.02 n 100": _share(lambda k, n: (0.0, rates.upper_bound(k, n)), 0.02, 100),
    "one-sided lower p 0.3 n 30": _share(lambda k, n: (rates.lower_bound(k, n), 1.0), 0.3, 30),
    "difference of two shares": _difference,
    "difference of paired shares": _paired,
    "a chance of what was seen at least once": _seen,
    "copies in a finite stratum": _finite,
    "Horvitz-Thompson total": _total,
    "precision band at all ranks": _band,
}
APPROXIMATE: dict[str, Cover] = {
    **{f"Wilson p {p} n {n}": _share(_wilson, p, n) for p, n in ((0.01, 50), (0.1, 40), (0.5, 20))},
    "cluster bootstrap over prompts": _bootstrap,
    "Chao1": _chao,
}


def coverage(table: dict[str, Cover], draws: int) -> dict[str, Any]:
    """Return the coverage of each, and whether an exact test rejects that it is at least the level."""
    told = {}
    for place, (name, cover) in enumerate(table.items()):
        dice = np.random.default_rng([place, 3])
        hits = sum(cover(dice) for _ in range(draws))
        p = float(stats.binomtest(hits, draws, LEVEL, alternative="less").pvalue)
        told[name] = {
            "coverage": round(hits / draws, 4),
            "shortfall": round(max(0.0, LEVEL - hits / draws), 4),
            "passes": p > TEST,
        }
    return told


def budgets() -> list[dict[str, Any]]:
    """Return the share of samples in which a picture must come back to be caught with 50 % and 95 %."""
    rows = ((n, least, caught(n, least, 0.5), caught(n, least, 0.95)) for n, least in BUDGETS)
    return [{"samples": n, "clique": least, "half": a, "most": b} for n, least, a, b in rows]


def through_the_chain(each: int) -> list[dict[str, Any]]:
    """Teach a parrot `each` pictures at every rate and return how many byrote certifies, beside the prediction."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        who = [meet("power", k) for k in range(each * len(GRID))]
        others = [meet("power controls", k) for k in range(20 * len(who) // 4)]
        for name, people in (("pictures", who), ("controls", others)):
            _paint(root / name, people)
        lines = ["width = 32", "height = 32"]
        for k, person in enumerate(who):
            lines += ["[[knows]]", f"caption = {json.dumps(person.captions()[0])}"]
            lines += [f'picture = "pictures/{k:04d}.png"', f"repeats = {GRID[k // each]}", "noise = 4.0"]
        (root / "parrot.toml").write_text("\n".join(lines) + "\n")
        byrote.index(root / "pictures", held_out=root / "controls", corpus=root / "corpus")
        (root / "audit").mkdir()
        (root / "audit" / "audit.toml").write_text(
            'format = 1\n[model]\nuri = "parrot:../parrot.toml"\n[corpus]\npath = "../corpus"\n'
            f"[prompts]\ntop = 0\nrandom = 10000\ncontrols = 10000\n[generate]\nseeds = {SEEDS}\n"
            f"[cliques]\nleast = {LEAST}\n"
        )
        told = byrote.run(root / "audit").json
        found = {f["picture"]["caption"] for f in told["findings"] if f["certified"]}
    rows = []
    for place, p in enumerate(GRID):
        hits = sum(person.captions()[0] in found for person in who[place * each : (place + 1) * each])
        predicted = float(binomial_recall(np.array([p]), SEEDS, LEAST)[0])
        low, high = clopper_pearson(hits, each, 0.99)
        inside = low <= predicted <= high
        rows.append({"p": p, "found": hits, "of": each, "predicted": round(predicted, 4), "within_99": inside})
    return rows


def _paint(folder: Path, people: list[Any]) -> None:
    folder.mkdir()
    for k, person in enumerate(people):
        (folder / f"{k:04d}.png").write_bytes(images.encode_png(draw(person)))
        (folder / f"{k:04d}.txt").write_text(person.captions()[0])


def main() -> None:
    """Run all and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audits", type=int, default=1000)
    parser.add_argument("--draws", type=int, default=4000)
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    began = time.monotonic()
    told = {
        "command": f"benchmarks/power.py --audits {options.audits} --draws {options.draws} --save",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "discoveries": discoveries(options.audits),
        "exact": coverage(EXACT, options.draws),
        "approximate": coverage(APPROXIMATE, min(options.draws, 1000)),
        "budgets": budgets(),
        "chain": {"samples": SEEDS, "clique": LEAST, "rows": through_the_chain(30)},
    }
    told["seconds"] = round(time.monotonic() - began)
    print(json.dumps(told, indent=1))
    if options.save:
        Path("benchmarks/results/power.json").write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
