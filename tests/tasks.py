"""Tasks for worker processes, which import them by name."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from byrote.engine import Part
from byrote.errors import ModelError

BORN = os.environ.get("CUDA_VISIBLE_DEVICES")  # what the environment said when this module was imported


@dataclass(frozen=True)
class Write:
    """Write a file for each part, and a line for each attempt."""

    folder: Path

    def __call__(self, part: Part) -> None:
        with (self.folder / f"{part.name}.attempts").open("a") as attempts:
            attempts.write(f"{os.getpid()}\n")
        self.work(part)
        (self.folder / part.name).write_text(f"{part.payload**2}")

    def work(self, part: Part) -> None:
        """Do nothing more."""


class DieOnce(Write):
    def work(self, part: Part) -> None:
        if part.payload == 2 and (self.folder / f"{part.name}.attempts").read_text().count("\n") == 1:
            os._exit(9)


class AlwaysDie(Write):
    def work(self, part: Part) -> None:
        if part.payload == 2:
            os._exit(9)


class Fail(Write):
    def work(self, part: Part) -> None:
        if part.payload == 2:
            raise ValueError("two is not for me")


class FailOnce(Write):
    def work(self, part: Part) -> None:
        if (self.folder / f"{part.name}.attempts").read_text().count("\n") == 1:
            raise OSError("try again")


class Hang(Write):
    def work(self, part: Part) -> None:
        if part.payload == 2:
            time.sleep(600)


class Mistake(Write):
    def work(self, part: Part) -> None:
        if part.payload == 2:
            raise ModelError("model nowhere is not there")
        time.sleep(0.05)


class Where(Write):
    """Note which worker did a part, and which device it saw when it was born and now; part 2 ends its first worker."""

    def work(self, part: Part) -> None:
        with (self.folder / "seen").open("a") as seen:
            seen.write(f"{part.name} {os.getpid()} {BORN} {os.environ.get('CUDA_VISIBLE_DEVICES')}\n")
        time.sleep(0.3)
        if part.payload == 2 and (self.folder / f"{part.name}.attempts").read_text().count("\n") == 1:
            os._exit(9)
