"""Class labels as prompts: by the name that the model's index gives a class, or by its number."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from byrote.errors import ModelError, did_you_mean
from byrote.models.folders import Folder, read_json


class Labels(NamedTuple):
    """The classes of a model. `none` is the class that stands for no label, where it learnt one."""

    names: dict[str, int]
    classes: int
    none: int | None

    def number(self, prompt: str | None, seed: int) -> int:
        """Return the class that a prompt names; without one that of no label, else one drawn by the seed.

        Raises ModelError for a name that no class has.
        """
        if not prompt:
            return int(np.random.default_rng(seed).integers(self.classes)) if self.none is None else self.none
        name = (prompt or "").strip()
        if name in self.names:
            return self.names[name]
        if name.isdecimal() and int(name) < self.classes:
            return int(name)
        hint = did_you_mean(name, self.names)
        raise ModelError(
            f"unknown class label {name!r}{hint}: write a name of the model's id2label or 0 to {self.classes - 1}"
        )


def labels_of(folder: Folder) -> Labels | None:
    """Return the classes that a folder's denoiser was trained with, None where it has none."""
    if (folder.path / "transformer").is_dir():
        count = _count(folder, "transformer", "num_embeds_ada_norm")
        return count and Labels(_names(folder, count), count, count)
    count = _count(folder, "unet", "num_class_embeds")
    return count and Labels(_names(folder, count), count, None)


def _count(folder: Folder, part: str, key: str) -> Any:
    count = read_json(folder.path, Path(part) / "config.json").get(key)
    if count is not None and (type(count) is not int or count < 1):
        raise ModelError(f"model {folder.path}: {part}/config.json says {key} {count!r}: copy it again")
    return count


def _names(folder: Folder, count: int) -> dict[str, int]:
    """Read id2label, where a class may have several names with commas between: each of them, and all as one."""
    written = read_json(folder.path, Path("model_index.json")).get("id2label") or {}
    try:
        pairs = [(int(number), str(names)) for number, names in written.items()]
    except (AttributeError, ValueError) as error:
        raise ModelError(
            f"model {folder.path}: model_index.json has an id2label that is no table: copy it again"
        ) from error
    known = [(number, names) for number, names in pairs if 0 <= number < count]
    single = {name.strip(): number for number, names in reversed(known) for name in names.split(",")}
    return single | {names: number for number, names in known}
