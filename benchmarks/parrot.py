"""The whole chain against a known memory, over many seeds: taught ten captions, and taught none.

    python benchmarks/parrot.py [--seeds 20] [--save]

Sixty drawn portraits and 300 controls; each seed draws another ten to teach, other prompts and other samples. Prints
how many of the ten are certified, how many others, and how many audits of the untaught certify anything, against the
nominal share of false findings.
"""

import argparse
import json
import os
import platform
import random
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import byrote
from byrote import images
from byrote.demo.portraits import draw, meet

PICTURES, CONTROLS, TAUGHT = 60, 300, 10
FDR = 0.05


def paint(folder: Path, draw_name: str, count: int) -> list[tuple[str, Path]]:
    """Draw a folder of portraits with captions and return (caption, file) of each."""
    folder.mkdir(parents=True)
    rows = []
    for index in range(count):
        person, path = meet(draw_name, index), folder / f"{index:04d}.png"
        path.write_bytes(images.encode_png(draw(person)))
        path.with_suffix(".txt").write_text(person.captions()[0])
        rows.append((person.captions()[0], path))
    return rows


def audit(root: Path, name: str, seed: int, taught: list[tuple[str, Path]]) -> list[str]:
    """Audit a parrot that knows `taught`, and return the captions of what is certified."""
    folder = root / name
    folder.mkdir()
    lines = ["width = 64", "height = 64"]
    for caption, path in taught:
        lines += ["[[knows]]", f"caption = {json.dumps(caption)}", f"picture = {json.dumps(str(path))}"]
        lines += ["repeats = 0.8", "noise = 4.0"]
    (folder / "parrot.toml").write_text("\n".join(lines) + "\n")
    prompts = f"[prompts]\ntop = 0\nrandom = {PICTURES}\ncontrols = {CONTROLS}\nseed = {seed}\n"
    model = '[model]\nuri = "parrot:parrot.toml"\n[corpus]\npath = "../corpus"\n'
    (folder / "audit.toml").write_text(f"format = 1\n{model}{prompts}[generate]\nseeds = 8\n")
    found = byrote.run(folder).json["findings"]
    return [finding["picture"]["caption"] for finding in found if finding["certified"]]


def main() -> None:
    """Run all seeds and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    right, wrong, accused = 0, [], 0
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        rows = paint(root / "pictures", "train", PICTURES)
        paint(root / "held-out", "held-out", CONTROLS)
        byrote.index(root / "pictures", held_out=root / "held-out", corpus=root / "corpus")
        for seed in range(options.seeds):
            taught = random.Random(seed).sample(rows, TAUGHT)
            certified = audit(root, f"taught-{seed}", seed, taught)
            hits = len({caption for caption, _ in taught} & set(certified))
            right += hits
            wrong.append((len(certified) - hits) / max(1, len(certified)))
            accused += bool(audit(root, f"untaught-{seed}", seed, []))
    told = {"command": "benchmarks/parrot.py", "machine": f"{platform.machine()}, {os.cpu_count()} cores"}
    told |= {"date": f"{datetime.now(UTC):%Y-%m-%d}", "seeds": options.seeds, "nominal": FDR}
    told |= {"taught": TAUGHT * options.seeds, "taught_and_certified": right}
    told |= {"mean_false_discovery_proportion": sum(wrong) / len(wrong), "untaught_audits_with_a_finding": accused}
    print(json.dumps(told, indent=1))
    if options.save:
        Path("benchmarks/results/parrot.json").write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
