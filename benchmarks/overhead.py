"""What byrote adds to a bare diffusers loop: the same prompts, seeds, steps and batch, side by side in one run.

    python benchmarks/overhead.py [--rounds 9] [--save]
    python benchmarks/overhead.py --model CompVis/stable-diffusion-v1-4 --device cuda --dtype float16 --batch 16
        --steps 50 --guidance 7.5 --prompts 8 --seeds 16 --rounds 3 --save

byrote's side is the whole generate stage of a part: asking, PNG, block means, Parquet, fsync, ledger. On the CPU the
CPU seconds of this process on one thread are taken, on a GPU those of the clock with the device waited for. The two
take turns, and the ratio is the median of the ratios of the turns. Images a second are byrote's and the bare loop's.
"""

import argparse
import json
import os
import platform
import re
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import torch
from diffusers import DiffusionPipeline

from byrote.demo import KNOBS, MODEL, album
from byrote.domain import Prompt
from byrote.engine import Part
from byrote.plan import load, template
from byrote.stages import Logged
from byrote.stages.generate import Generate, model_of, seed_of
from byrote.store import Recipe

RESULTS = Path(__file__).parent / "results"


def seconds(work: Callable[[], object], device: str) -> float:
    """Return the seconds that something takes: CPU seconds, or on a GPU those of the clock until it is done."""
    if device == "cpu":
        began = time.process_time()
        work()
        return time.process_time() - began
    torch.cuda.synchronize()
    began = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - began


def bare_loop(options: argparse.Namespace, asked: list[tuple[str, int]]) -> Callable[[], None]:
    """Return the loop that a person would write."""
    pipeline = DiffusionPipeline.from_pretrained(options.model, dtype=getattr(torch, options.dtype)).to(options.device)
    pipeline.set_progress_bar_config(disable=True)
    if getattr(pipeline, "safety_checker", None) is not None:
        pipeline.safety_checker = None  # byrote's is off too

    def loop() -> None:
        for k in range(0, len(asked), options.batch):
            batch = asked[k : k + options.batch]
            with torch.inference_mode():
                pipeline(
                    [text for text, _ in batch],
                    generator=[torch.Generator().manual_seed(seed) for _, seed in batch],
                    num_inference_steps=options.steps,
                    guidance_scale=options.guidance,
                    output_type="np",
                )

    return loop


def stage(options: argparse.Namespace, folder: Path, prompts: list[Prompt]) -> Callable[[], None]:
    """Return byrote's generate stage of one part, another part at each call."""
    text = template(f"diffusers:{options.model}", "../corpus")
    knobs = {"device": options.device, "dtype": options.dtype, "seeds": options.seeds, "steps": options.steps}
    knobs |= {"guidance": options.guidance, "batch": options.batch}
    for name, value in knobs.items():
        text = re.sub(rf"^(# )?{name} = .*$", f"{name} = {json.dumps(value)}", text, flags=re.M)
    (folder / "audit.toml").write_text(text)
    audit_plan, made = load(folder / "audit.toml"), Recipe.of("samples", {})
    task = Logged(folder, made, Generate(folder, made, audit_plan))
    model_of(audit_plan).generate([])
    payload, number = [(p, [seed_of(p, k, 0) for k in range(options.seeds)]) for p in prompts], iter(range(1000))

    def ours() -> None:
        task(Part(f"{next(number):05d}", payload, len(prompts) * options.seeds))

    return ours


def parsed() -> argparse.Namespace:
    """Read the command line; the demo's model at the demo's settings is the default."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(MODEL), help="a diffusers folder or a name on the hub")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--prompts", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=KNOBS["generate"]["seeds"])
    parser.add_argument("--batch", type=int, default=KNOBS["generate"]["batch"])
    parser.add_argument("--steps", type=int, default=KNOBS["generate"]["steps"])
    parser.add_argument("--guidance", type=float, default=KNOBS["generate"]["guidance"])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--save", action="store_true")
    return parser.parse_args()


def main() -> None:
    """Take turns and print."""
    options = parsed()
    torch.set_num_threads(1)
    people = album.controls("second held-out", options.prompts)
    prompts = [Prompt(k, "", f"{k}", "control", "control", 1, "caption", row.caption) for k, row in enumerate(people)]
    asked = [(p.text or "", seed_of(p, k, 0)) for p in prompts for k in range(options.seeds)]
    loop = bare_loop(options, asked)
    with tempfile.TemporaryDirectory() as folder:
        ours = stage(options, Path(folder), prompts)
        ours(), loop()
        times = [(seconds(loop, options.device), seconds(ours, options.device)) for _ in range(options.rounds)]
    theirs, mine = (median(column) for column in zip(*times, strict=True))
    ratios = sorted(b / a for a, b in times)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, one thread"
    if options.device != "cpu":
        machine = f"{torch.cuda.get_device_name(options.device)}, {options.dtype}"
    told = {"command": "benchmarks/overhead.py", "machine": machine, "date": f"{datetime.now(UTC):%Y-%m-%d}"}
    told |= {"model": "the demo's" if options.model == str(MODEL) else options.model, "steps": options.steps}
    told |= {"samples": len(asked), "batch": options.batch, "rounds": options.rounds}
    told |= {"bare_seconds": round(theirs, 3), "byrote_seconds": round(mine, 3)}
    told |= {
        "bare_images_a_second": round(len(asked) / theirs, 2),
        "byrote_images_a_second": round(len(asked) / mine, 2),
    }
    told |= {"ratio": round(median(ratios), 4), "ratios": [round(ratio, 4) for ratio in ratios]}
    print(json.dumps(told, indent=1))
    if options.save:
        name = "overhead" if options.device == "cpu" else "overhead-gpu"
        (RESULTS / f"{name}.json").write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
