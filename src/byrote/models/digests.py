"""Digests of what a model is made of. A file is read again only where its size or its time of change is another."""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

Stamp = tuple[str, Path, int, int]


def of_files(files: Iterable[tuple[str, Path]], about: str = "") -> str:
    """Digest `about`, and of each file its name, size and content, in this order: "sha256:..."."""
    stats = [(name, path, path.stat()) for name, path in files]
    return _digest(about, tuple((name, path, stat.st_size, stat.st_mtime_ns) for name, path, stat in stats))


def together(digests: Mapping[str, str]) -> str:
    """Return one digest for what has several, each with its name."""
    lines = "".join(f"{name}={value}\n" for name, value in sorted(digests.items()))
    return f"sha256:{sha256(lines.encode()).hexdigest()}"


@lru_cache
def _digest(about: str, stamps: tuple[Stamp, ...]) -> str:
    """Hash the files; their sizes and times stand in the key, so that a changed file is read again."""
    whole, gap = sha256(about.encode()), "\n" if about else ""
    for name, path, size, _ in stamps:
        whole.update(f"{gap}{name}\n{size}\n".encode())
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                whole.update(block)
    return f"sha256:{whole.hexdigest()}"
