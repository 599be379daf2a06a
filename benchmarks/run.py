"""All benchmarks that keep a result, one after the other; each may be run alone, and prints its own command.

`make bench` takes hours: benchmarks/truth.py alone asks 230,000 samples of the demo's model. Those that want pictures
which do not ship are left out unless BYROTE_PHOTOS and BYROTE_CIFAR name two parquet files of pictures, and, for
benchmarks/duplicates.py, BYROTE_PEERS the folder of the other tools' environments.
"""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

HERE = Path(__file__).parent
WORK = HERE / "work"
COMMANDS = (
    ["cliques.py", "--save"],
    ["null.py", "--save"],
    ["power.py", "--save"],
    ["twins.py", "--work", str(WORK / "twins"), "--save"],
    ["lora.py", "--work", str(WORK / "lora"), "--save"],
    ["overhead.py", "--save"],
    ["parrot.py", "--save"],
    ["digits.py", "table", "--work", str(WORK / "digits"), "--save"],
    ["kill.py", "--save"],
    ["kill.py", "--demo", "--save"],
    ["truth.py", "--work", str(WORK), "--save"],
    ["within.py", "--work", str(WORK), "--save"],
    *(["screens.py", name, "--work", str(WORK / "screens"), "--save"] for name in ("demo", "emoji")),
    ["copies.py", "--work", str(WORK / "budget" / "emoji"), "--save"],
    *(["budget.py", name, "--work", str(WORK / "budget"), "--save"] for name in ("demo", "emoji")),
    ["confirm.py", "--work", str(WORK / "budget"), "--save"],
    ["templates.py", "--save"],
    *(["steered.py", what, "--work", str(WORK / "steered"), "--save"] for what in ("finextract", "side")),
    ["probes.py", "--work", str(WORK / "probes"), "--save"],
    ["inpainting.py", "--save"],
    ["review.py", "--work", str(WORK / "review"), "--save"],
    ["fuzz.py", "--save"],
)
PHOTOS, CIFAR, PEERS = "BYROTE_PHOTOS", "BYROTE_CIFAR", "BYROTE_PEERS"
WANTS = {
    "nearest.py": (PHOTOS, CIFAR),
    "approximate.py": (PHOTOS, CIFAR),
    "fitting.py": (PHOTOS, CIFAR),
    "duplicates.py": (PHOTOS, CIFAR, PEERS),
    "million.py": (PHOTOS,),
    "crops.py": (PHOTOS,),
}
"""What of the environment each of those names that want pictures, by the option that takes it."""
OPTIONS = {PHOTOS: "--photos", CIFAR: "--cifar", PEERS: "--peers"}
UNSAVED = ("fitting.py",)  # it prints weights, and keeps nothing
UNWORKED = ("crops.py",)  # it makes nothing on the way


def with_pictures(environment: Mapping[str, str]) -> Iterator[list[str]]:
    """Yield the commands that want pictures, where the environment names them all; say which are left out."""
    for script, wanted in WANTS.items():
        missing = [name for name in wanted if not environment.get(name)]
        if missing:
            print(f"== {script} left out: {', '.join(missing)} not set", flush=True)
            continue
        paths = [word for name in wanted for word in (OPTIONS[name], environment[name])]
        work = [] if script in UNWORKED else ["--work", str(WORK / Path(script).stem)]
        yield [script, *paths, *work, *([] if script in UNSAVED else ["--save"])]


def main() -> None:
    """Run them; stop at the first that fails."""
    for script, *arguments in (*COMMANDS, *with_pictures(os.environ)):
        print(f"== {script}", flush=True)
        if "--work" in arguments:
            Path(arguments[arguments.index("--work") + 1]).mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, str(HERE / script), *arguments], check=True, cwd=HERE.parent)


if __name__ == "__main__":
    main()
