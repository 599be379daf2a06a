"""What web UIs write into the images that they make: prompt, seed and settings, in PNG text chunks or in EXIF.

AUTOMATIC1111 and its kin write `parameters` (in JPEG and WebP the EXIF user comment), ComfyUI `prompt` and `workflow`
(in WebP the EXIF tags Make and Model), InvokeAI `invokeai_metadata`, NovelAI `Description` and `Comment`; Fooocus and
SwarmUI JSON in `parameters`. All of it is untrusted: sizes, counts and depths have limits, and what is not understood
is not told. What could be meant in two ways (two samplers with two prompts) is not told either.
"""

import json
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal

from byrote.sources.texts import plain

MAX_CHUNK = 2**20  # bytes of one text, packed or not
MAX_CHUNKS = 10_000  # of any kind in one file; a PNG has one of pixels for every 8 KiB, as Pillow writes it
MAX_TEXTS = 64
MAX_LINE = 2**16  # characters of the line of settings
MAX_NODES = 10_000  # of a ComfyUI graph
_PNG = b"\x89PNG\r\n\x1a\n"
_SEED = 20  # digits
_SETTING = re.compile(r'\s*(\w[\w /-]{0,60}): ("(?:[^"\\]|\\.){0,1024}"|[^,]{0,1024})(?:,|$)')
_COMPARED = ("steps", "sampler", "scheduler", "guidance", "size", "model", "denoise", "negative")
_ALIKE = {
    "cfg scale": "guidance", "cfg": "guidance", "cfg_scale": "guidance", "scale": "guidance",
    "guidance_scale": "guidance", "sampler_name": "sampler", "schedule type": "scheduler",
    "model hash": "model", "ckpt_name": "model",
    "unet_name": "model", "denoising strength": "denoise", "negative_prompt": "negative", "negative prompt": "negative",
    "uc": "negative",
}  # fmt: skip
_PROMPTS = ("prompt", "positive_prompt", "caption", "text")
_SEEDS = ("seed", "noise_seed")
_INNER = ("sui_image_params", "metadata", "meta")
Order = Literal["little", "big"]
_COMMENT, _EXIF, _MAKE, _MODEL, _DESCRIPTION = 0x9286, 0x8769, 0x010F, 0x0110, 0x010E


@dataclass(frozen=True, slots=True)
class Told:
    """What is told of a sample, None for what is not. `settings` are how it was asked besides, in fixed words."""

    prompt: str | None = None
    seed: int | None = None
    settings: tuple[tuple[str, str], ...] = ()

    def then(self, other: "Told") -> "Told":
        """Fill what is not told from elsewhere."""
        prompt = other.prompt if self.prompt is None else self.prompt
        seed = other.seed if self.seed is None else self.seed
        return Told(prompt, seed, self.settings or other.settings)


NOTHING = Told()


def told(stream: BinaryIO) -> Told:
    """Return what an image file tells of itself. Raises OSError where the stream does."""
    texts = read(stream)
    ways = [of_parameters(texts[key]) for key in ("parameters", "UserComment") if key in texts]
    ways += [of_graph(value) for key in ("prompt", "workflow") for value in [_json(texts.get(key, ""))] if value]
    ways += [
        of_fields(value) for key in ("invokeai_metadata", "Comment") for value in [_json(texts.get(key, ""))] if value
    ]
    if "Comment" in texts:
        ways.append(Told(_prompt(texts.get("Description"))))
    if "prompt" in texts and not _json(texts["prompt"]):
        ways.append(Told(_prompt(texts["prompt"]), seed_of(texts.get("seed"))))
    found = NOTHING
    for way in ways:
        found = found.then(way)
    return found


def read(stream: BinaryIO) -> dict[str, str]:
    """Return the texts in a PNG, JPEG or WebP file by their keywords; of several of one keyword the first."""
    stream.seek(0)
    head = stream.read(12)
    found: dict[str, str] = {}
    pairs = _png(stream) if head.startswith(_PNG) else _exif_texts(_exif(stream, head))
    for key, text in pairs:
        found.setdefault(key, text)
        if len(found) >= MAX_TEXTS:
            break
    return found


def of_parameters(text: str) -> Told:
    """Read the "parameters" of AUTOMATIC1111: prompt, `Negative prompt:` and a last line `Steps: 20, Seed: 1, …`."""
    fields = _json(text)
    if fields is not None:
        return of_fields(fields)
    *said, last = text.strip().split("\n")
    settings = {key.lower(): value.strip(' "') for key, value in _SETTING.findall(last[:MAX_LINE])}
    if "steps" not in settings or len(settings) < 3:
        said, settings = [*said, last], {}
    at = next((k for k, line in enumerate(said) if line.startswith("Negative prompt:")), len(said))
    negative = "\n".join(said[at:]).removeprefix("Negative prompt:").strip()
    more = {"negative": negative} if negative else {}
    return Told(_prompt("\n".join(said[:at])), seed_of(settings.get("seed")), _compared(settings | more))


def of_fields(fields: Mapping[str, Any]) -> Told:
    """Read an object that names its fields: a sidecar, a row of a table, what InvokeAI or NovelAI write."""
    if _is_graph(fields):
        return of_graph(fields)
    inner: Mapping[str, Any] = next((fields[key] for key in _INNER if isinstance(fields.get(key), dict)), {})
    small = {str(key).lower(): value for key, value in [*inner.items(), *fields.items()]}
    prompt = next((said for key in _PROMPTS if (said := _prompt(small.get(key))) is not None), None)
    seed = next((seed for key in _SEEDS if (seed := seed_of(small.get(key))) is not None), None)
    return Told(prompt, seed, _compared(small))


def of_graph(graph: Mapping[str, Any]) -> Told:
    """Read a ComfyUI graph: the text that leads to its sampler, and the sampler's seed; two samplers must agree."""
    nodes = _nodes(graph)
    samplers = [key for key, inputs in nodes.items() if "positive" in inputs or "guider" in inputs]
    samplers = [key for key in samplers if any(name in nodes[key] for name in (*_SEEDS, "noise"))]
    first = [key for key in samplers if not _fed(nodes, key, set(samplers) - {key})]
    found = [_sampled(nodes, key) for key in first[:MAX_TEXTS]]
    if not found:
        return NOTHING
    one = found[0]
    prompt = one.prompt if all(each.prompt == one.prompt for each in found) else None
    seed = one.seed if all(each.seed == one.seed for each in found) else None
    return Told(prompt, seed, one.settings)


def seed_of(value: object) -> int | None:
    """Read a seed: a whole number from 0, in 63 bits (of longer ones the lowest), else None."""
    if isinstance(value, float) and value.is_integer():
        value = int(value) if abs(value) < 2**53 else None
    if isinstance(value, int) and not isinstance(value, bool):
        return value % 2**63 if 0 <= value < 2**64 else None
    if isinstance(value, str) and re.fullmatch(rf"[0-9]{{1,{_SEED}}}", value.strip()):
        return int(value) % 2**63
    return None


def _prompt(value: object) -> str | None:
    """Return a text that says something, without the white space around it."""
    return (plain(value[:MAX_CHUNK]) or None) if isinstance(value, str) else None


def _compared(settings: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return the settings that samples of one recording must share, under one word for each."""
    found: dict[str, str] = {}
    for key, value in settings.items():
        word = _ALIKE.get(key, key)
        if word in _COMPARED and isinstance(value, str | int | float) and value != "":
            found.setdefault(word, str(value)[:4096])
    return tuple(sorted(found.items()))


def _json(text: str) -> dict[str, Any] | None:
    if not text.lstrip().startswith("{"):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _is_graph(fields: Mapping[str, Any]) -> bool:
    return any(isinstance(node, dict) and "class_type" in node for node in list(fields.values())[:MAX_NODES])


def _nodes(graph: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the inputs of every node, of a prompt as ComfyUI runs it or of a workflow as its page saves it."""
    if isinstance(graph.get("nodes"), list):
        return _of_page(graph)
    listed = list(graph.items())[:MAX_NODES]
    return {
        key: node["inputs"] for key, node in listed if isinstance(node, dict) and isinstance(node.get("inputs"), dict)
    }


_WIDGETS = {
    "KSampler": ("seed", "", "steps", "cfg", "sampler_name", "scheduler", "denoise"),
    "KSamplerAdvanced": ("", "noise_seed", "", "steps", "cfg", "sampler_name", "scheduler"),
    "RandomNoise": ("noise_seed",),
    "CLIPTextEncode": ("text",),
    "CheckpointLoaderSimple": ("ckpt_name",),
}
"""What the values of a saved node are, in their order."""


def _of_page(graph: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    links = {}
    for link in list(graph["links"] if isinstance(graph.get("links"), list) else ())[: 10 * MAX_NODES]:
        if isinstance(link, list) and len(link) >= 3 and isinstance(link[0], int):
            links[link[0]] = [str(link[1]), link[2]]
    found: dict[str, Mapping[str, Any]] = {}
    for node in graph["nodes"][:MAX_NODES]:
        if isinstance(node, dict) and node.get("mode", 0) == 0:
            found[str(node.get("id"))] = _saved(node, links)
    return found


def _saved(node: Mapping[str, Any], links: Mapping[int, list[Any]]) -> Mapping[str, Any]:
    values, names = node.get("widgets_values"), _WIDGETS.get(str(node.get("type")), ())
    inputs: dict[str, Any] = dict(zip(names, values, strict=False)) if isinstance(values, list) else {}
    for one in node["inputs"] if isinstance(node.get("inputs"), list) else ():
        if isinstance(one, dict) and isinstance(one.get("link"), int) and one["link"] in links:
            inputs[str(one.get("name"))] = links[one["link"]]
    return inputs


def _sampled(nodes: Mapping[str, Mapping[str, Any]], sampler: str) -> Told:
    inputs = nodes[sampler]
    noise = nodes.get(_link(inputs.get("noise")) or "", {})
    seeds = [seed_of(each.get(key)) for each in (inputs, noise) for key in _SEEDS if key in each]
    name = "positive" if "positive" in inputs else "guider"
    negative = _text(nodes, inputs.get("negative")) or ""
    plain_ones = {key: value for key, value in inputs.items() if isinstance(value, str | int | float)}
    more = {"negative": negative} if negative else {}
    return Told(_text(nodes, inputs.get(name)), next(iter(seeds), None), _compared(plain_ones | _loaded(nodes) | more))


def _loaded(nodes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the checkpoints that are loaded, in one text."""
    names = {str(each[key]) for each in nodes.values() for key in ("ckpt_name", "unet_name") if key in each}
    return {"ckpt_name": ", ".join(sorted(names))} if names else {}


_SAID = ("text", "text_g", "t5xxl", "prompt", "string", "value")


def _text(nodes: Mapping[str, Mapping[str, Any]], start: object) -> str | None:
    """Follow a link to the one text that it comes from; None where there are several, or none."""
    found: list[str] = []
    waiting, seen = [_link(start)], set[str]()
    while waiting:
        key = waiting.pop()
        if key is None or key in seen or key not in nodes:
            continue
        seen.add(key)
        inputs = nodes[key]
        said = next((inputs[name] for name in _SAID if name in inputs), None)
        if isinstance(said, str):
            found.append(said)
        else:
            waiting += [_link(said)] if said is not None else _conditions(inputs)
    return _prompt(found[0]) if len(set(found)) == 1 else None


def _conditions(inputs: Mapping[str, Any]) -> list[str | None]:
    """Return what a node passes on of what was said: never the negative prompt, a model or an encoder."""
    named = [
        value for name, value in inputs.items() if name == "positive" or name.startswith(("conditioning", "guider"))
    ]
    return [_link(value) for value in named]


def _fed(nodes: Mapping[str, Mapping[str, Any]], key: str, samplers: set[str]) -> bool:
    """Tell whether a sampler goes on from what another made."""
    waiting, seen = [_link(nodes[key].get("latent_image"))], set[str]()
    while waiting:
        at = waiting.pop()
        if at in samplers:
            return True
        if at is not None and at not in seen and at in nodes:
            seen.add(at)
            waiting += [_link(value) for value in nodes[at].values()]
    return False


def _link(value: object) -> str | None:
    """Return the node that a link comes from: a link is [NODE, OUTPUT]."""
    return value[0] if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) else None


def _png(stream: BinaryIO) -> Iterator[tuple[str, str]]:
    stream.seek(len(_PNG))
    for _ in range(MAX_CHUNKS):
        head = stream.read(8)
        size, kind = int.from_bytes(head[:4]), head[4:]
        if len(head) < 8 or kind == b"IEND" or size >= 2**31:
            return
        if kind in (b"tEXt", b"zTXt", b"iTXt", b"eXIf") and size <= MAX_CHUNK:
            data = stream.read(size)
            yield from _exif_texts(data) if kind == b"eXIf" else _chunk(kind, data)
            stream.seek(4, 1)
        else:
            stream.seek(size + 4, 1)


def _chunk(kind: bytes, data: bytes) -> Iterator[tuple[str, str]]:
    """Read a text chunk (PNG specification, third edition, 11.3.3)."""
    name, zero, rest = data.partition(b"\0")
    if not zero or not 0 < len(name) < 80:
        return
    key = name.decode("latin-1")
    if kind == b"tEXt":
        yield key, _decoded(rest)
    elif kind == b"zTXt":
        yield key, _decoded(_unpacked(rest[1:]))
    else:
        packed, (_, _, text) = rest[:1] == b"\1", (*rest[2:].split(b"\0", 2), b"", b"", b"")[:3]
        yield key, (_unpacked(text) if packed else text).decode("utf-8", "replace")


def _decoded(data: bytes) -> str:
    """Take a text for UTF-8 where it is that: some write so what should be Latin-1."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _unpacked(data: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, MAX_CHUNK)
    except zlib.error:
        return b""


def _exif(stream: BinaryIO, head: bytes) -> bytes:
    """Return the EXIF block of a JPEG or WebP file, or nothing."""
    if head.startswith(b"\xff\xd8"):
        return _of_jpeg(stream)
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return _of_webp(stream)
    return b""


def _of_jpeg(stream: BinaryIO) -> bytes:
    stream.seek(2)
    for _ in range(MAX_CHUNKS):
        head = stream.read(4)
        size = int.from_bytes(head[2:])
        if len(head) < 4 or head[0] != 0xFF or head[1] == 0xDA or size < 2:
            return b""
        if head[1] == 0xE1:
            data = stream.read(size - 2)
            if data.startswith(b"Exif\0\0"):
                return data[6:]
        else:
            stream.seek(size - 2, 1)
    return b""


def _of_webp(stream: BinaryIO) -> bytes:
    stream.seek(12)
    for _ in range(MAX_CHUNKS):
        head = stream.read(8)
        size = int.from_bytes(head[4:], "little")
        if len(head) < 8:
            return b""
        if head[:4] == b"EXIF":
            return stream.read(min(size, MAX_CHUNK)).removeprefix(b"Exif\0\0")
        stream.seek(size + size % 2, 1)
    return b""


def _exif_texts(data: bytes) -> Iterator[tuple[str, str]]:
    """Yield the user comment, and what ComfyUI puts as KEY:JSON into plain tags."""
    orders: dict[bytes, Order] = {b"II": "little", b"MM": "big"}
    order = orders.get(data[:2])
    if order is None:
        return
    main = dict(_directory(data, order, _number(data, 4, 4, order)))
    inner = dict(_directory(data, order, int.from_bytes(main.get(_EXIF, b"")[:4], order)))
    if _COMMENT in inner:
        yield "UserComment", _comment(inner[_COMMENT])
    for tag in (_DESCRIPTION, _MAKE, _MODEL):
        key, _, text = _decoded(main.get(tag, b"")).rstrip("\0").partition(":")
        if key.lower() in ("prompt", "workflow", "parameters"):
            yield key.lower(), text


def _directory(data: bytes, order: Order, at: int) -> Iterator[tuple[int, bytes]]:
    """Yield the tags of a directory with their bytes; numbers are taken in the file's order by whoever reads them."""
    if not 8 <= at < len(data):
        return
    for k in range(min(_number(data, at, 2, order), 512)):
        entry = at + 2 + 12 * k
        tag, kind, count = (_number(data, entry + start, size, order) for start, size in ((0, 2), (2, 2), (4, 4)))
        size = {1: 1, 2: 1, 3: 2, 4: 4, 7: 1}.get(kind, 0) * count
        start = entry + 8 if size <= 4 else _number(data, entry + 8, 4, order)
        if size <= MAX_CHUNK:
            yield tag, data[start : start + size]


def _number(data: bytes, at: int, size: int, order: Order) -> int:
    return int.from_bytes(data[at : at + size], order)


def _comment(data: bytes) -> str:
    """Decode a user comment (EXIF 2.32, table 9): UTF-16 in either order after "UNICODE"."""
    code, text = data[:8], data[8:]
    if code != b"UNICODE\0":
        return _decoded(text if code in (b"ASCII\0\0\0", b"\0" * 8) else data).strip("\0")
    big = text[0::2].count(0) >= text[1::2].count(0)
    return text.decode("utf-16-be" if big else "utf-16-le", "replace").strip("\0")


def same(settings: Sequence[tuple[tuple[str, str], ...]]) -> tuple[str, str] | None:
    """Return one setting of which there are two values, in words, or None where all agree."""
    seen: dict[str, str] = {}
    for each in settings:
        for key, value in each:
            if seen.setdefault(key, value) != value:
                return f"{key} {seen[key][:60]!r}", f"{value[:60]!r}"
    return None
