"""What kind of source a path or a URL is, told by its content: the first bytes of a file, the names in a folder."""

import posixpath
import re
from collections.abc import Mapping
from pathlib import Path

from byrote.errors import CorpusError
from byrote.sources import Source, files, huggingface, kinds, open
from byrote.sources.folder import Folder
from byrote.sources.tree import METADATA, SUFFIXES, suffix

_HEAD = 512
_SUBFOLDERS = 256  # that are looked into for what a folder without files holds
_LISTS = (".txt", ".csv", ".jsonl")
_CIFAR = re.compile(r"(data_batch_\d+|test_batch|train|test)\.bin")
_PICTURE = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"II*\0", b"MM\0*", b"BM")
_PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_LOST = {
    **{magic: f"is packed with {name}: unpack it first" for magic, name in _PACKED.items()},
    **dict.fromkeys(_PICTURE, "is one picture: name the folder that holds it"),
    b"ARROW1": "is an Arrow file: name the folder that save_to_disk wrote, or save it as parquet",
    b"\x80": "may be a pickle, which could run code: for CIFAR get the binary version, else save an .npz",
}


def opened(text: str) -> Source:
    """Open the source that a path, a URL or a pattern names. Raises CorpusError."""
    found = kind(text)
    if found == "folder" and not files.is_remote(text):
        return Folder(Path(text))
    return open(f"{found}:{text}")


def kind(text: str) -> str:
    """Return the kind of what a path, a URL or a pattern names. Raises CorpusError."""
    place = files.canonical(text)
    try:
        if files.is_folder(place):
            return _folder(place)
        return _file(place) if files.exists(place) else _pattern(text, place)
    except OSError as error:
        raise CorpusError(f"source {files.shown(text)!r} cannot be read: {error}") from error


def _pattern(text: str, place: str) -> str:
    """Tell the kind of a pattern by its suffix."""
    if re.search(r"[{*?\[]", place):
        ends = {".tar": "tar", ".parquet": "parquet"}
        found = ends.get(suffix(place.rstrip("}")))
        if found:
            return found
    known = ", ".join(kinds())
    raise CorpusError(
        f"source {files.shown(text)!r} is not there: name a path, a URL, or KIND:PLACE with KIND of {known}"
    )


def _file(place: str) -> str:
    with files.opened(place) as stream:
        head = stream.read(_HEAD)
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "npz" if suffix(place) == ".npz" else "zip"
    if head.startswith(b"\x93NUMPY"):
        return "npz"
    if head[257:262] == b"ustar" or suffix(place) == ".tar":
        return "tar"
    if suffix(place) in _LISTS:
        return "list"
    if _CIFAR.fullmatch(files.split(place)[1]):
        return "cifar"
    lost = next((told for magic, told in _LOST.items() if head.startswith(magic)), None)
    known = ", ".join(kinds())
    raise CorpusError(
        f"{place!r} {lost or f'is of no known kind: if you know it, write KIND:PLACE with KIND of {known}'}"
    )


def _folder(place: str) -> str:
    """Tell the kind of a folder by the names in it, or else by those in its subfolders."""
    if huggingface.is_saved(place):
        return "hf"
    there = files.names(place)
    found = _named(place, there)
    for name in sorted(name for name, is_inner in there.items() if is_inner and found is None)[:_SUBFOLDERS]:
        found = found or _named(place, _below(place, name))
    return found or "folder"


def _named(place: str, names: Mapping[str, bool]) -> str | None:
    held = [name for name, is_inner in names.items() if not is_inner]
    ends = {suffix(name) for name in held}
    pictures = bool(ends & SUFFIXES) or any(name in METADATA for name in held)
    found = {"folder": pictures, "tar": ".tar" in ends, "parquet": ".parquet" in ends and ".tar" not in ends}
    there = [kind for kind, is_there in found.items() if is_there]
    if len(there) > 1:
        ways = " or ".join(f"{kind}:{posixpath.basename(place)}" for kind in there)
        raise CorpusError(f"folder {place!r} holds sources of {len(there)} kinds: write {ways}, whole, to choose one")
    return there[0] if there else "cifar" if any(map(_CIFAR.fullmatch, held)) else None


def _below(place: str, name: str) -> Mapping[str, bool]:
    """Return the names in a subfolder; none where it cannot be looked into, of which the listing will tell."""
    try:
        return files.names(files.under(place, name))
    except OSError:
        return {}
