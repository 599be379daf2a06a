"""How long a reviewer waits for pairs among 100,000 matches, in a real Chromium.

    python benchmarks/review.py --work FOLDER [--matches 100000] [--side 512] [--verdicts 200] [--save]

A draw of that many pairs, their samples in the parts of a real store (512 x 512 PNG, drawn portraits), their pictures
in files (JPEG). The server runs in a process of its own, as `byrote review serve` does it. Measured in the page, from
the key to the frame after both images are drawn: the first pair from the call of the address on, the next pair after a
verdict, a pair that nothing was fetched of before. Pictures and samples are those of a pool of 64, so that the
disk's cache helps as it does not with as many different ones.
"""

import argparse
import json
import platform
import random
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from playwright.sync_api import Page, sync_playwright

from byrote import images
from byrote.demo.portraits import draw as portrait
from byrote.demo.portraits import meet
from byrote.domain import Sample
from byrote.review import draw
from byrote.review.app import Given, application
from byrote.review.desk import Desk
from byrote.review.draw import Key, Pair
from byrote.review.looks import Looks
from byrote.review.pairs import of_key
from byrote.review.planted import size_of
from byrote.review.serve import hosts, listening, serve
from byrote.review.tokens import tokens
from byrote.reviewing.albums import Samples
from byrote.store import Recipe, Store

RESULTS = Path(__file__).parent / "results"
POOL, PART = 64, 2048
MADE = Recipe.of("samples", {"benchmark": "review"})
SHOWN = (
    "last => { const now = document.getElementById('stage').dataset.shown; return now !== undefined && now !== last }"
)


def prepare(work: Path, matches: int, side: int) -> None:
    """Write pictures, samples and a draw, unless they are there."""
    if (work / "review" / "key.json").exists():
        return
    (work / "pictures").mkdir(parents=True, exist_ok=True)
    pool = [images.resize(portrait(meet("train", k)), side, side) for k in range(POOL)]
    for k, image in enumerate(pool):
        (work / "pictures" / f"{k}.jpg").write_bytes(images.encode_jpeg(image, 90))
    shots = [images.encode_png(image) for image in pool]  # without noise, or there would be 50 GB of them
    store = Store(work)
    for start in range(0, matches, PART):
        rows = [
            Sample(k, 0, k, f"sha256:s{k}", side, side, shots[k % POOL])
            for k in range(start, min(start + PART, matches))
        ]
        store.write(MADE, f"{start // PART:05d}", rows, Sample)
    pairs = [
        Pair(f"p{k:06d}", "candidate", "within tau", f"{k}", "picture", f"sha256:s{k}", 0.1) for k in range(matches)
    ]
    random.Random(0).shuffle(pairs)
    draw.write(work / "review", Key(0, 0.15, dict.fromkeys(draw.STRATA, matches), tuple(pairs)))


def run_server(work: Path) -> None:
    """Serve the draw, and tell how long the start took."""
    began = time.perf_counter()
    pairs = of_key(draw.read(work / "review"))
    found = Samples(Store(work), MADE)
    found.places  # noqa: B018 - read now, as the first pair would
    desk = Desk("measure", pairs, ["ann"], work / "verdicts.sqlite")

    def picture(digest: str) -> images.RGB:
        return images.decode((work / "pictures" / f"{int(digest) % POOL}.jpg").read_bytes())

    looks = Looks(picture, found.pixels, size_of((pair.sample for pair in pairs), found.pixels))
    took, listens = time.perf_counter() - began, listening("127.0.0.1", 0)
    known, port = tokens(work / "review", ["ann"]), listens.getsockname()[1]
    print(json.dumps({"start": took, "address": f"http://127.0.0.1:{port}/{known['ann']}/"}), flush=True)
    serve(application(Given(desk, looks, dict), known, hosts("127.0.0.1", port)), listens)


def shown(page: Page, last: str | None) -> str:
    """Wait for another pair than `last`."""
    page.wait_for_function(SHOWN, arg=last)
    return str(page.evaluate("document.getElementById('stage').dataset.shown"))


def took(page: Page) -> float:
    """Return how long the pair on the stage took, in ms."""
    return float(page.evaluate("Number(document.getElementById('stage').dataset.took)"))


def first_pairs(page: Page, address: str, times: int) -> list[float]:
    """Return how long the first pair takes from the call of the address on, in ms; the first time nothing is warm."""
    found = []
    for _ in range(times):
        page.goto("about:blank")
        page.goto(address)
        shown(page, None)
        found.append(float(page.evaluate("performance.now()")))
    return found


def next_pairs(page: Page, count: int, pause: float) -> list[float]:
    """Judge pairs, a pause before each verdict; return how long the next one takes, in ms."""
    found, last = [], None
    for k in range(count):
        last = shown(page, last)
        if k:
            found.append(took(page))
        page.wait_for_timeout(pause)
        page.keyboard.press("n")
    return found


def far_pairs(page: Page, address: str, count: int, matches: int) -> list[float]:
    """Return how long pairs take that were not fetched before, sample and picture together, in ms."""
    dice, found = random.Random(1), []
    script = """async ([from]) => { const began = performance.now();
      const told = await (await fetch(`api/turns?from=${from}&count=1`)).json();
      await Promise.all(['sample', 'picture'].map(async which =>
        createImageBitmap(await (await fetch(`images/${told.turns[0].id}/${which}`)).blob())));
      return performance.now() - began }"""
    page.goto(address)
    shown(page, None)
    for _ in range(count):
        found.append(float(page.evaluate(script, [dice.randrange(matches)])))
    return found


def spread(values: list[float]) -> dict[str, float]:
    """Return what a reader wants of many times."""
    low, high = np.percentile(values, [50, 95])
    return {"n": len(values), "p50": round(low, 1), "p95": round(high, 1), "max": round(max(values), 1)}


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--matches", type=int, default=100_000)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--verdicts", type=int, default=200)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    if options.serve:
        return run_server(options.work)
    prepare(options.work, options.matches, options.side)
    for old in options.work.glob("verdicts.sqlite*"):
        old.unlink()
    command = [sys.executable, __file__, "--work", str(options.work), "--serve"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server, sync_playwright() as playwright:
        assert server.stdout is not None
        told = json.loads(server.stdout.readline())
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page()
        first = first_pairs(page, told["address"], 10)
        page.keyboard.press("r")
        hurried = next_pairs(page, options.verdicts, 0)
        page.reload()
        calm = next_pairs(page, options.verdicts // 2, 500)
        far = far_pairs(page, told["address"], 50, options.matches)
        browser.close()
        server.terminate()
    result = {
        "command": f"python benchmarks/review.py --work FOLDER --matches {options.matches} --side {options.side}",
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {platform.system()}",
        "matches": options.matches,
        "side": options.side,
        "start_s": round(told["start"], 2),
        "first_pair_cold_ms": round(first[0], 1),
        "first_pair_ms": spread(first[1:]),
        "next_pair_as_fast_as_keys_go_ms": spread(hurried),
        "next_pair_half_a_second_each_ms": spread(calm),
        "pair_not_fetched_before_ms": spread(far),
    }
    print(json.dumps(result, indent=1))
    if options.save:
        (RESULTS / "review.json").write_text(json.dumps(result, indent=1) + "\n")
    return None


if __name__ == "__main__":
    main()
