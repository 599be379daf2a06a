"""All benchmarks that keep a result, one after the other; each may be run alone, and prints its own command.

`make bench` takes hours: benchmarks/truth.py alone asks 230,000 samples of the demo's model.
"""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
WORK = HERE / "work"
COMMANDS = (
    ["cliques.py", "--save"],
    ["null.py", "--save"],
    ["power.py", "--save"],
    ["twins.py", "--work", str(WORK / "twins"), "--save"],
    ["overhead.py", "--save"],
    ["parrot.py", "--save"],
    ["kill.py", "--save"],
    ["kill.py", "--demo", "--save"],
    ["truth.py", "--work", str(WORK), "--save"],
    ["within.py", "--work", str(WORK), "--save"],
)


def main() -> None:
    """Run them; stop at the first that fails."""
    for script, *arguments in COMMANDS:
        print(f"== {script}", flush=True)
        subprocess.run([sys.executable, str(HERE / script), *arguments], check=True, cwd=HERE.parent)


if __name__ == "__main__":
    main()
