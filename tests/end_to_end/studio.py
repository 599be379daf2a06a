"""Sets up what an audit needs: drawn portraits in two folders, a parrot that knows some of them, and a plan."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import byrote
from byrote import images
from byrote.demo.portraits import draw, meet

PLAN = {
    "prompts": {"top": 20, "random": 20, "controls": 200, "seed": 0},
    "generate": {"seeds": 10, "batch": 16},  # at 0.8 a memory has no clique of two with probability 4e-6
}


@dataclass(frozen=True)
class File:
    """One file of a folder of pictures."""

    name: str
    data: bytes
    caption: str | None


@cache
def portrait(draw_name, index):
    """Draw a person who does not exist, once for all tests."""
    person = meet(draw_name, index)
    return File(f"{index:04d}.png", images.encode_png(draw(person)), person.captions()[0])


def portraits(draw_name, count):
    return [portrait(draw_name, index) for index in range(count)]


@dataclass
class Studio:
    """A folder with pictures, controls, a parrot, a corpus and an audit."""

    root: Path
    plan: dict = field(default_factory=dict)

    @property
    def audit(self):
        return self.root / "audit"

    @property
    def corpus(self):
        return self.root / "corpus"

    def shoot(self, pictures: Iterable[File], controls: Iterable[File] = ()):
        for name, files in (("pictures", pictures), ("held-out", controls)):
            folder = self.root / name
            folder.mkdir(parents=True, exist_ok=True)
            rows = []
            for file in files:
                (folder / file.name).write_bytes(file.data)
                rows.append({"file_name": file.name, "text": file.caption})
            if rows:
                (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return self

    def teach(self, knows: Mapping[str, bytes], *, repeats=0.8, noise=4.0, sleep=0.0, side=32):
        """Write a parrot that knows a picture by each caption."""
        lines = [f"width = {side}", f"height = {side}", f"sleep = {sleep}"]
        for number, (caption, data) in enumerate(knows.items()):
            (self.root / f"known-{number}.png").write_bytes(data)
            lines += ["[[knows]]", f"caption = {json.dumps(caption)}", f'picture = "known-{number}.png"']
            lines += [f"repeats = {repeats}", f"noise = {noise}"]
        self.root.mkdir(parents=True, exist_ok=True)
        (self.root / "parrot.toml").write_text("\n".join(lines) + "\n")
        return self

    def write_plan(self, **sections):
        """Write audit.toml: `PLAN` with some sections' keys replaced."""
        plan = {"model": {"uri": "parrot:../parrot.toml"}, "corpus": {"path": "../corpus"}} | PLAN
        plan = {name: plan.get(name, {}) | sections.get(name, {}) for name in [*plan, *sections]}
        lines = ["format = 1"]
        for name, knobs in plan.items():
            lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in knobs.items())]
        self.audit.mkdir(exist_ok=True)
        (self.audit / "audit.toml").write_text("\n".join(lines) + "\n")
        return self

    def index(self):
        held_out = [self.root / "held-out"] if any((self.root / "held-out").iterdir()) else []
        return byrote.index(self.root / "pictures", corpus=self.corpus, held_out=held_out)

    def run(self, **options):
        return byrote.run(self.audit, **options)
