"""Every error that byrote raises on purpose.

    ByroteError                 a person's mistake or a broken thing: one line, exit 2
    ├── PlanError               audit.toml: an unknown key, a bad value
    ├── CorpusError             a source or a corpus that cannot be read, or is not there
    ├── ModelError              a model URI that cannot be opened, or a part of it missing
    │   └── OutOfMemory         a batch that is too large for the memory at hand: the stages halve it
    ├── DescriptorError         a descriptor or a list of hashes that cannot be opened, or weights that are missing
    ├── StoreError              a folder that cannot be written, a full disk, a part that is damaged
    ├── Busy                    another run holds the folder
    └── Incomplete              parts that are missing or failed after retries: exit 3
        └── Weak                an audit too weak, uncalibrated or incomplete for `--gate`

The message names the thing, the value and the way out. A programmer's mistake is ValueError or TypeError.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class ByroteError(Exception):
    """A mistake of the user or a broken thing, told in one line."""

    exit_code = 2


class PlanError(ByroteError):
    """An unknown key or a bad value in audit.toml."""


class CorpusError(ByroteError):
    """A source or a corpus that is not there or cannot be read."""


class ModelError(ByroteError):
    """A model that cannot be opened."""


class OutOfMemory(ModelError):
    """A batch that is too large for the memory of a device or of the machine."""


class DescriptorError(ByroteError):
    """A descriptor or a list of hashes that cannot be opened, or whose weights are missing or broken."""


class StoreError(ByroteError):
    """A folder that cannot be written, a full disk, or a damaged part."""


class Busy(ByroteError):
    """Another run is at work in the same folder."""


class Incomplete(ByroteError):
    """Parts that are missing, or that failed after all retries."""

    exit_code = 3


class Weak(Incomplete):
    """An audit that does not carry the claim that `--gate` would make."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return " (did you mean X?)" for the nearest of `known`, or nothing."""
    near = get_close_matches(word, list(known), 1, 0.6)
    return f" (did you mean {near[0]!r}?)" if near else ""
