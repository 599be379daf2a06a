"""Which tool finds planted near-duplicates among 20,000 real pictures, and in how many CPU seconds?

    python benchmarks/duplicates.py --photos photos.parquet --cifar cifar10.parquet --work DIR --peers DIR
        [--only NAME ...] [--reuse] [--repeats 3] [--save]

benchmarks/planting.py builds the folder and the truth; each tool of benchmarks/peers/ runs alone, from the folder to
its pairs, on one core, in an environment of its own PEERS/NAME (byrote: `pip install -e '.[fast]'`). A tool's
threshold is the one of the best F1 on half A; figures are those of half B, where both ends of a pair lie. A pair
counts as true only where it was planted. Intervals are 95 % by a bootstrap over originals, with the same draws for
every tool. `upright` is the same without mirrors and turns, for tools that do not look for them, with a threshold of
its own.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from planting import EDITS, plant

SCRIPTS = Path(__file__).parent / "peers"
ORIGINS = ("photo", "tile", "cifar")
TURNED = ("mirror", "turn")
DRAWS = 1000
QUICK = 60  # CPU seconds
OURS = {"byrote", "byrote quick"}
COMMAND = "benchmarks/duplicates.py --photos photos.parquet --cifar cifar10.parquet --work DIR --peers DIR --save"
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


@dataclass(frozen=True)
class Tool:
    """A script of benchmarks/peers, the environment it runs in and its own arguments."""

    name: str
    environment: str
    script: str
    arguments: tuple[str, ...] = ()


TOOLS = (
    Tool("byrote", "byrote", "byrote_cli"),
    Tool("byrote quick", "byrote", "byrote_cli", ("quick",)),
    Tool("PDQ + faiss", "pdqhash", "pdq_faiss"),
    Tool("PDQ dihedral + faiss", "pdqhash", "pdq_faiss", ("dihedral",)),
    Tool("imagehash phash", "imagehash", "imagehash_search", ("phash",)),
    Tool("imagehash dhash", "imagehash", "imagehash_search", ("dhash",)),
    Tool("imagededup PHash", "imagededup", "imagededup_hashes", ("PHash",)),
    Tool("imagededup DHash", "imagededup", "imagededup_hashes", ("DHash",)),
    Tool("imagededup WHash", "imagededup", "imagededup_hashes", ("WHash",)),
    Tool("imagededup AHash", "imagededup", "imagededup_hashes", ("AHash",)),
    Tool("cleanvision", "cleanvision", "cleanvision_sets"),
    Tool("fastdup", "fastdup", "fastdup_pairs"),
)


@dataclass(frozen=True)
class Truth:
    """A row a file: half, origin, original (int [n]), and the kind of the planted pairs, keyed by i * n + j."""

    half: np.ndarray
    origin: np.ndarray
    original: np.ndarray
    kinds: dict[int, str]

    @classmethod
    def of(cls, told: dict[str, Any]) -> "Truth":
        """Read what `plant` told."""
        files, n = told["files"], len(told["files"])
        kinds = {i * n + j: files[i]["edit"] or files[j]["edit"] for i, j in told["pairs"]}
        half, origin, original = (np.array([row[key] for row in files]) for key in ("half", "origin", "original"))
        return cls(half, origin, original, kinds)

    def without(self, kinds: Iterable[str]) -> "Truth":
        """Leave out the pairs of some kinds."""
        left = {key: kind for key, kind in self.kinds.items() if kind not in set(kinds)}
        return Truth(self.half, self.origin, self.original, left)

    def keys(self, pairs: np.ndarray) -> np.ndarray:
        """Return the key of each pair i < j: int [n]."""
        return pairs[:, 0] * len(self.half) + pairs[:, 1]

    def planted(self, half: str, kinds: Iterable[str] = tuple(EDITS)) -> np.ndarray:
        """Return the planted pairs of a half: int [n, 2]."""
        keys = np.array([key for key, kind in self.kinds.items() if kind in set(kinds)], np.int64)
        pairs = np.stack(np.divmod(keys, len(self.half)), 1)
        return pairs[self.half[pairs[:, 0]] == half]


def measured(tool: Tool, folder: Path, found: Path, peers: Path, reuse: bool) -> dict[str, Any]:
    """Run a tool, or take its last run; return what it told of itself, or its error in one line."""
    out = found / f"{tool.name.replace(' ', '-')}.npz"
    told = out.with_suffix(".json")
    if not (reuse and told.exists()):
        found.mkdir(parents=True, exist_ok=True)
        error = ran(tool, folder, out, peers)
        if error:
            return {"error": error}
    about: dict[str, Any] = json.loads(told.read_text()) | {"file": str(out)}
    return {"runs": [about["cpu_seconds"]]} | about


def ran(tool: Tool, folder: Path, out: Path, peers: Path) -> str | None:
    """Run a tool alone on one core; return the last line of its complaint where it fails."""
    python = str(peers / tool.environment / "bin" / "python")
    if not Path(python).exists():
        return f"no environment {tool.environment}"
    pinned = ["taskset", "-c", "0"] if shutil.which("taskset") else []
    command = [*pinned, python, str(SCRIPTS / f"{tool.script}.py"), str(folder), str(out), *tool.arguments]
    done = subprocess.run(command, env=os.environ | ONE_THREAD, capture_output=True, text=True, check=False)
    if not done.returncode:
        return None
    return (done.stderr.strip() or f"ended with {done.returncode}").splitlines()[-1]


def timed_again(told: dict[str, dict[str, Any]], repeats: int, folder: Path, found: Path, peers: Path) -> None:
    """Run the tools of less than a minute more often, in turn, and put the median of their CPU seconds in."""
    quick = [tool for tool in TOOLS if told.get(tool.name, {}).get("cpu_seconds", QUICK) < QUICK]
    for _ in range(repeats - 1):
        for tool in quick:
            again = measured(tool, folder, found, peers, reuse=False)
            told[tool.name]["runs"].append(again["cpu_seconds"])
            told[tool.name]["cpu_seconds"] = round(statistics.median(told[tool.name]["runs"]), 2)
    for tool in quick:
        path = found / f"{tool.name.replace(' ', '-')}.json"
        kept = {key: value for key, value in told[tool.name].items() if key != "file"}
        path.write_text(json.dumps(kept, indent=1) + "\n")


def best_threshold(truth: Truth, pairs: np.ndarray, scores: np.ndarray, half: str) -> float:
    """Return the score at which all pairs up to it have the best F1 in a half; -inf where none is any good."""
    inside = (truth.half[pairs] == half).all(1)
    order = np.argsort(scores[inside], kind="stable")
    sorted_scores = scores[inside][order]
    right = np.isin(truth.keys(pairs[inside][order]), list(truth.kinds)).cumsum()
    f1 = 2 * right / (np.arange(1, len(right) + 1) + len(truth.planted(half)))
    last = np.append(sorted_scores[1:] != sorted_scores[:-1], True) if len(f1) else np.zeros(0, bool)
    if not (last & (f1 > 0)).any():
        return float("-inf")
    return float(sorted_scores[np.where(last, f1, -1).argmax()])


def figures(truth: Truth, pairs: np.ndarray, half: str) -> dict[str, Any]:
    """Return precision, recall and F1 of the pairs a tool gives in a half, and recall by kind and by origin."""
    mine = pairs[(truth.half[pairs] == half).all(1)]
    right = np.isin(truth.keys(mine), list(truth.kinds))
    whole = truth.planted(half)
    told = counted(int(right.sum()), len(mine), len(whole))
    hit = np.isin(truth.keys(whole), truth.keys(mine))
    kind = np.array([truth.kinds[int(key)] for key in truth.keys(whole)])
    told["recall by kind"] = {k: share(hit[kind == k]) for k in EDITS if (kind == k).any()}
    origin, ends = truth.origin[whole[:, 0]], truth.origin[mine]
    told["by origin"] = {
        k: counted(int((right & (ends == k).all(1)).sum()), int((ends == k).all(1).sum()), int((origin == k).sum()))
        for k in ORIGINS
    }
    return told


def counted(right: int, given: int, planted: int) -> dict[str, Any]:
    """Return precision, recall and F1 beside the counts they come from; null where there is nothing to divide by."""
    return {
        "f1": round(2 * right / (given + planted), 4) if given + planted else None,
        "precision": round(right / given, 4) if given else None,
        "recall": round(right / planted, 4) if planted else None,
        "right": right,
        "given": given,
        "planted": planted,
    }


def share(hit: np.ndarray) -> dict[str, Any]:
    """Return how many of how many were hit, and their share."""
    return {"recall": round(float(hit.mean()), 4), "right": int(hit.sum()), "planted": len(hit)}


def resampled(truth: Truth, pairs: np.ndarray, half: str, draws: int = DRAWS) -> np.ndarray:
    """Return F1 over draws of the half's originals: float [draws]. A pair of two originals counts as often as both."""
    mine = pairs[(truth.half[pairs] == half).all(1)]
    right = np.isin(truth.keys(mine), list(truth.kinds))
    originals, place = np.unique(truth.original[truth.half == half], return_inverse=True)
    at = np.zeros(len(truth.half), np.int64)
    at[truth.half == half] = place
    dice = np.random.default_rng(11)
    found = np.empty(draws)
    for k in range(draws):
        weight = np.bincount(dice.integers(len(originals), size=len(originals)), minlength=len(originals))
        good = weight[at[mine[right, 0]]].sum()
        bad = (weight[at[mine[~right, 0]]] * weight[at[mine[~right, 1]]]).sum()
        found[k] = 2 * good / max(1, good + bad + weight[at[truth.planted(half)[:, 0]]].sum())
    return found


def between(values: np.ndarray) -> list[float]:
    """Return the 95 % interval of resampled values."""
    return [round(float(v), 4) for v in np.quantile(values, (0.025, 0.975))]


def judged(truth: Truth, pairs: np.ndarray, scores: np.ndarray) -> tuple[dict[str, Any], np.ndarray]:
    """Pick the threshold on half A; return the figures of half B, and its resampled F1."""
    threshold = best_threshold(truth, pairs, scores, "A")
    given = pairs[scores <= threshold]
    draws = resampled(truth, given, "B")
    about = {"threshold": threshold if np.isfinite(threshold) else None}
    about |= {"farthest given": float(scores.max()) if len(scores) else None}
    return about | figures(truth, given, "B") | {"f1 interval": between(draws)}, draws


def upright(truth: Truth, pairs: np.ndarray, scores: np.ndarray) -> dict[str, Any]:
    """Judge as if no mirror and no turn had been planted: pairs of those count neither way."""
    turned = [key for key, kind in truth.kinds.items() if kind in TURNED]
    keep = ~np.isin(truth.keys(pairs), turned)
    told, _ = judged(truth.without(TURNED), pairs[keep], scores[keep])
    return {key: told[key] for key in ("threshold", "f1", "f1 interval", "precision", "recall")}


def judge(told: dict[str, dict[str, Any]], truth: Truth) -> None:
    """Put each tool's figures beside what it told, and byrote's lead over each peer where byrote ran."""
    draws: dict[str, np.ndarray] = {}
    for name, about in told.items():
        if "error" not in about:
            with np.load(about.pop("file")) as kept:
                pairs, scores = kept["pairs"].reshape(-1, 2), kept["scores"]
            about["half B"], draws[name] = judged(truth, pairs, scores)
            about["upright"] = upright(truth, pairs, scores)
    for ours in OURS & set(draws):
        for name in set(draws) - OURS:
            lead = told[ours]["half B"]["f1"] - told[name]["half B"]["f1"]
            told[name][f"{ours} leads by"] = [round(lead, 4), *between(draws[ours] - draws[name])]
            told[name][f"{ours} is faster by"] = round(told[name]["cpu_seconds"] / told[ours]["cpu_seconds"], 2)


def table(told: dict[str, dict[str, Any]]) -> list[str]:
    """Return the lines that are printed."""
    heads = ("CPU s", "F1", "interval", "prec", "recall", *EDITS, "photo", "tile", "cifar", "upright")
    lines = [f"{'':22}" + "".join(f"{head[:7]:>8}" if head != "interval" else f"{head:>14}" for head in heads)]
    for name, about in told.items():
        if "error" in about:
            lines.append(f"{name:22}  {about['error']}")
            continue
        half = about["half B"]
        low, high = half["f1 interval"]
        numbers = [half["recall by kind"].get(kind, {}).get("recall") for kind in EDITS]
        numbers += [half["by origin"][origin]["f1"] for origin in ORIGINS] + [about["upright"]["f1"]]
        numbers = [half["precision"], half["recall"], *numbers]
        line = f"{name:22}{about['cpu_seconds']:8.1f}{half['f1']:8.3f}   {low:.3f}-{high:.3f}"
        lines.append(line + "".join(f"{'-':>8}" if v is None else f"{v:8.3f}" for v in numbers))
    return [*lines, "kinds: recall; photo, tile, cifar, upright: F1"]


def summary(planted: dict[str, Any]) -> dict[str, Any]:
    """Return what was planted, in counts."""
    counts = {"files": len(planted["files"]), "pairs": len(planted["pairs"])}
    first = Counter(row["origin"] for row in planted["files"] if row["edit"] is None)
    copied = Counter(row["origin"] for row in planted["files"] if row["edit"] is not None)
    halves = Counter(row["half"] for row in planted["files"] if row["edit"] is not None)
    counts |= {"originals": dict(first), "copies": dict(copied), "copies by half": dict(halves)}
    return {key: value for key, value in planted.items() if key not in {"files", "pairs"}} | counts


def main() -> None:
    """Plant where it is not done, run the tools one at a time, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--cifar", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--peers", type=Path, required=True, help="a folder with one environment a peer")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", choices=[tool.name for tool in TOOLS])
    parser.add_argument("--reuse", action="store_true", help="keep the pairs and times of tools that have run")
    parser.add_argument("--repeats", type=int, default=1, help="runs of each tool that takes less than a minute")
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    if not (options.work / "truth.json").exists():
        plant(options.photos, options.cifar, options.work, options.seed)
    planted = json.loads((options.work / "truth.json").read_text())
    told: dict[str, dict[str, Any]] = {}
    places = (options.work / "pictures", options.work / "found", options.peers)
    for tool in TOOLS:
        if not options.only or tool.name in options.only:
            told[tool.name] = measured(tool, *places, options.reuse)
            print(f"{tool.name}: {told[tool.name].get('error') or told[tool.name]['cpu_seconds']}", flush=True)
    timed_again(told, options.repeats, *places)
    judge(told, Truth.of(planted))
    print("\n".join(table(told)))
    if options.save:
        about = {
            "command": COMMAND,
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, each tool on one",
            "date": f"{datetime.now(UTC):%Y-%m-%d}",
            "planted": summary(planted),
            "tools": told,
        }
        Path("benchmarks/results/duplicates.json").write_text(json.dumps(about, indent=1) + "\n")


if __name__ == "__main__":
    main()
