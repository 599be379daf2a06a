"""Fit the weights of `byrote.kernels.register` on planted copies, another draw of edits than
benchmarks/duplicates.py's.

    python benchmarks/fitting.py --photos photos.parquet --cifar cifar10.parquet --work DIR [--seed 99]

Pairs that nobody planted and that two rounds call copies without doubt (log-odds above 3) are left out: they are
pictures that the sources hold twice. Fitted on half A; what half B says is printed. Logistic regression, L2 with C =
.3 on features of unit variance; the features are those of `register.features`.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from planting import plant
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

import byrote
from byrote.corpus import WHOLE, Corpus
from byrote.descriptors.whole import SIDE
from byrote.engine.local import engine
from byrote.kernels.register import features
from byrote.kernels.waves import corners, turn_each, windows
from byrote.plan import CorpusPlan
from byrote.stages import Desk, near

ROUNDS, SURE, STRENGTH = 3, 3.0, 0.3


def candidates(folder: Path, work: Path) -> tuple[Corpus, np.ndarray]:
    """Index a folder and return what its search looks at."""
    corpus = byrote.index(folder, corpus=work / "corpus", jobs=2)
    look = near.Look.of(corpus, CorpusPlan())
    near.gather(corpus, look)
    workers = engine(1)
    parts = near.searches(len(corpus.distinct), windows(look.least))
    Desk(corpus.store, workers, lambda *_: None).fill(look.likely, near.Likely(look), parts, "comparisons")
    return corpus, np.concatenate([part.payload[0] for part in near.measures(corpus.store, look, len(corpus.distinct))])


def described(corpus: Corpus, hits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the features of the hits that agree when coarse, and which these are."""
    names = np.array(corpus.distinct)
    seen = [corpus.vectors(names[hits[end]].tolist(), WHOLE).reshape(-1, SIDE, SIDE, 3) for end in ("holder", "shown")]
    found, _, rows = features(seen[0], turn_each(seen[1], hits["turn"]), corners(windows())[hits["window"]])
    return found, rows


def fitted(found: np.ndarray, truth: np.ndarray, own: np.ndarray) -> tuple[np.ndarray, float]:
    """Return weights and constant, fitted on the rows `own`."""
    left_out = np.zeros(len(found), bool)
    weights, constant = np.zeros(found.shape[1]), 0.0
    for _ in range(ROUNDS):
        rows = own & ~left_out
        scale = StandardScaler().fit(found[rows])
        model = LogisticRegression(C=STRENGTH, max_iter=2000).fit(scale.transform(found[rows]), truth[rows])
        weights = model.coef_[0] / scale.scale_
        constant = float(model.intercept_[0] - (scale.mean_ * weights).sum())
        left_out |= ~truth & (found @ weights + constant > SURE)
    return weights, constant


def main() -> None:
    """Plant, search, fit, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--cifar", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=99)
    options = parser.parse_args()
    if not (options.work / "truth.json").exists():
        plant(options.photos, options.cifar, options.work, options.seed)
    told = json.loads((options.work / "truth.json").read_text())
    corpus, hits = candidates(options.work / "pictures", options.work)
    found, rows = described(corpus, hits)
    place = {file["file"]: k for k, file in enumerate(told["files"])}
    ids = np.array([place[corpus.places[digest]] for digest in corpus.distinct])
    pairs = np.sort(np.stack([ids[hits["holder"][rows]], ids[hits["shown"][rows]]], 1), axis=1)
    planted = {tuple(sorted(pair)) for pair in told["pairs"]}
    truth = np.array([tuple(pair) in planted for pair in pairs.tolist()])
    half = np.array([file["half"] for file in told["files"]])
    weights, constant = fitted(found, truth, (half[pairs] == "A").all(1))
    print("weights ", ", ".join(f"{weight:.3f}" for weight in weights), " constant", f"{constant:.3f}")
    other = (half[pairs] == "B").all(1)
    called = found @ weights + constant >= 0
    wanted = sum(half[pair[0]] == "B" for pair in told["pairs"])
    hit = int((called & truth & other).sum())
    print(f"half B at 0: {hit} of {wanted} found, {int((called & ~truth & other).sum())} others")


if __name__ == "__main__":
    main()
