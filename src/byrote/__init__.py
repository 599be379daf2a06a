"""Find out what an image generator has memorised, and prove it.

import byrote
byrote.index("pictures/", held_out="unpublished/", corpus="corpus")
audit = byrote.run("audit")     # a folder with an audit.toml, see `byrote init`
print(audit.findings[0], audit.report)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from byrote.api import Result, index, run
    from byrote.errors import ByroteError

__all__ = ["ByroteError", "Result", "index", "run"]
_HOMES = {"ByroteError": "byrote.errors", "Result": "byrote.api", "index": "byrote.api", "run": "byrote.api"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'byrote' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
