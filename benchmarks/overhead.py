"""What byrote adds to a bare diffusers loop: the same prompts, seeds, steps and batch, side by side in one run.

    python benchmarks/overhead.py [--rounds 9] [--save]

byrote's side is the whole generate stage of a part: asking, PNG, block means, Parquet, fsync, ledger. CPU seconds of
this process on one thread; the two take turns, and the ratio is the median of the ratios of the turns.
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
from statistics import median

import torch
from diffusers import StableDiffusionPipeline

from byrote.demo import KNOBS, MODEL, album, plan
from byrote.domain import Prompt
from byrote.engine import Part
from byrote.plan import load
from byrote.stages import Logged
from byrote.stages.generate import Generate, model_of, seed_of
from byrote.store import Recipe

PROMPTS = 20


def seconds(work: Callable[[], object]) -> float:
    """Return the CPU seconds that something takes."""
    began = time.process_time()
    work()
    return time.process_time() - began


def main() -> None:
    """Take turns and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    knobs, seeds = KNOBS["generate"], KNOBS["generate"]["seeds"]
    people = list(album.controls("second held-out", PROMPTS))
    prompts = tuple(Prompt(k, "", f"{k}", "control", "control", 1, row.caption) for k, row in enumerate(people))
    payload = [(p, [seed_of(p, k, 0) for k in range(seeds)]) for p in prompts]
    asked = [(p.text, seed) for p, own in payload for seed in own]
    bare = StableDiffusionPipeline.from_pretrained(MODEL, dtype=torch.float32)
    bare.set_progress_bar_config(disable=True)

    def loop() -> None:
        for k in range(0, len(asked), knobs["batch"]):
            batch = asked[k : k + knobs["batch"]]
            generators = [torch.Generator().manual_seed(seed) for _, seed in batch]
            texts = [text for text, _ in batch]
            with torch.inference_mode():
                bare(
                    texts,
                    generator=generators,
                    num_inference_steps=knobs["steps"],
                    guidance_scale=knobs["guidance"],
                    output_type="np",
                )

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "audit.toml").write_text(plan())
        audit_plan = load(Path(folder) / "audit.toml")
        made = Recipe.of("samples", {})
        task = Logged(Path(folder), made, Generate(Path(folder), made, audit_plan))
        model_of(audit_plan).generate([])
        number = iter(range(100))

        def ours() -> None:
            task(Part(f"{next(number):05d}", payload, len(asked)))

        ours(), loop()
        times = [(seconds(loop), seconds(ours)) for _ in range(options.rounds)]
    theirs, mine = (median(column) for column in zip(*times, strict=True))
    machine = f"{platform.machine()}, {os.cpu_count()} cores, one thread"
    told = {"command": "benchmarks/overhead.py", "machine": machine, "date": f"{datetime.now(UTC):%Y-%m-%d}"}
    told |= {"samples": len(asked), "batch": knobs["batch"], "rounds": options.rounds}
    told |= {"bare_cpu_seconds": round(theirs, 3), "byrote_cpu_seconds": round(mine, 3)}
    ratios = sorted(b / a for a, b in times)
    told |= {"ratio": round(median(ratios), 4), "ratios": [round(ratio, 4) for ratio in ratios]}
    print(json.dumps(told, indent=1))
    if options.save:
        Path("benchmarks/results/overhead.json").write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
