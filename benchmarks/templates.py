"""The whole chain against copies that whole-image distances miss: with what looks for them, and without.

    python benchmarks/templates.py [--save]

Drawn portraits, eight of each kind, and 200 controls. A parrot of 64 x 64 knows them as templates (a part that changes,
one of them mirrored), moved, cropped at random places, or mirrored. Prints how many of each kind are certified, and how
many controls are, with `[cliques] template` and `[match] anywhere` off and on. Two parrots know none of the pictures:
one dreams, the other gives strangers of every kind, asked by the captions of pictures and of controls alike; what comes
within tau of them comes by chance.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import crops
import numpy as np
from parrot import paint as painted

import byrote
from byrote import images

EACH, CONTROLS, SIDE, SEEDS = 8, 200, 64, 8
TOP, LEFT, CORNER = "[0.0, 0.0, 1.0, 0.4]", "[0.0, 0.0, 0.4, 1.0]", "[0.5, 0.5, 1.0, 1.0]"
ON = "[cliques]\ntemplate = 0.3\n[match]\nanywhere = true\nshift = 8\ncrop = 0.7\n"
Kind = tuple[Callable[[np.ndarray, np.random.Generator], np.ndarray], str]


def kept(picture: np.ndarray, dice: np.random.Generator) -> np.ndarray:
    """Return the picture."""
    return picture


def mirrored(picture: np.ndarray, dice: np.random.Generator) -> np.ndarray:
    """Return it mirrored."""
    return picture[:, ::-1]


KINDS: dict[str, Kind] = {
    "as it is": (kept, ""),
    "mirrored": (mirrored, ""),
    "shift 4": (lambda picture, dice: crops.shifted(picture, 4, dice), ""),
    "shift 8": (lambda picture, dice: crops.shifted(picture, 8, dice), ""),
    "crop 0.9": (lambda picture, dice: crops.cropped(picture, 0.9, dice), ""),
    "crop 0.8": (lambda picture, dice: crops.cropped(picture, 0.8, dice), ""),
    "crop 0.7": (lambda picture, dice: crops.cropped(picture, 0.7, dice), ""),
    "template, top": (kept, TOP),
    "template, left": (kept, LEFT),
    "template, corner": (kept, CORNER),
    "template, mirrored": (mirrored, TOP),
}
"""What a parrot makes of a picture before it learns it, and what it changes in every sample."""


def paint(folder: Path, draw_name: str, count: int) -> list[tuple[str, np.ndarray]]:
    """Draw a folder of portraits with captions and return caption and pixels of each."""
    rows = painted(folder, draw_name, count)
    return [(caption, images.fit(images.decode(path.read_bytes()), SIDE, SIDE)) for caption, path in rows]


def taught(root: Path, file: str, rows: list[tuple[str, np.ndarray]]) -> dict[str, str]:
    """Write a parrot and return the kind of each caption."""
    dice, lines, kinds = np.random.default_rng(0), [f"width = {SIDE}", f"height = {SIDE}"], {}
    for k, (caption, picture) in enumerate(rows):
        name = list(KINDS)[k // EACH % len(KINDS)]
        make, changes = KINDS[name]
        (root / f"{file}-{k}.png").write_bytes(images.encode_png(np.ascontiguousarray(make(picture, dice))))
        lines += ["[[knows]]", f"caption = {json.dumps(caption)}", f'picture = "{file}-{k}.png"', "repeats = 0.8"]
        lines += ["noise = 4.0", *([f"changes = {changes}"] if changes else [])]
        kinds[caption] = name
    (root / f"{file}.toml").write_text("\n".join(lines) + "\n")
    return kinds


def audit(root: Path, name: str, parrot: str, knobs: str, pictures: int) -> tuple[list[str], dict[str, Any]]:
    """Audit a parrot; return the captions of what is certified, and what there is to tell."""
    folder, begun = root / name, time.process_time()
    folder.mkdir()
    prompts = f"[prompts]\ntop = 0\nrandom = {pictures}\ncontrols = {CONTROLS}\n"
    model = f'[model]\nuri = "parrot:../{parrot}.toml"\n[corpus]\npath = "../corpus"\n'
    (folder / "audit.toml").write_text(f"format = 1\n{model}{prompts}[generate]\nseeds = {SEEDS}\n{knobs}")
    told = byrote.run(folder, jobs=1).json
    found = [finding["picture"]["caption"] for finding in told["findings"] if finding["certified"]]
    all_told = told["at_all"]
    near = {f"{side}_within_tau": all_told[f"{side}_within"] for side in ("pictures", "controls")}
    seconds = {"cpu_seconds": round(time.process_time() - begun, 1)}
    return found, {"certified": len(found), "controls_certified": told["controls"]["certified"]} | near | seconds


def main() -> None:
    """Run the audits and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    told = {"command": "benchmarks/templates.py", "machine": f"{platform.machine()}, {os.cpu_count()} cores"}
    told |= {"date": f"{datetime.now(UTC):%Y-%m-%d}", "of_each": EACH, "controls": CONTROLS, "audits": {}}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        rows = paint(root / "pictures", "templates", EACH * len(KINDS))
        controls = paint(root / "held-out", "templates held out", CONTROLS)
        byrote.index(root / "pictures", held_out=root / "held-out", corpus=root / "corpus")
        kinds = taught(root, "taught", rows)
        taught(root, "untaught", [])
        strangers = [face for _, face in paint(root / "strangers", "strangers", len(rows) + CONTROLS)]
        asked = [caption for caption, _ in rows + controls]
        taught(root, "strangers", list(zip(asked, strangers, strict=True)))
        for parrot, knobs in (("taught", ""), ("taught", ON), ("untaught", ON), ("strangers", ON)):
            name = f"{parrot}, {'on' if knobs else 'off'}"
            found, facts = audit(root, name, parrot, knobs, len(rows))
            certified = Counter(kinds[caption] for caption in found)
            told["audits"][name] = facts | {"kinds": {kind: certified[kind] for kind in KINDS}}
            print(name, told["audits"][name], flush=True)
    if options.save:
        Path("benchmarks/results/templates.json").write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
