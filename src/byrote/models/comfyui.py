"""A workflow on a ComfyUI server: `comfyui:http://127.0.0.1:8188?workflow=FILE`.

The workflow is a JSON file in API format. What is asked goes where it says `%prompt%`, `%negative%`, `%seed%`,
`%width%`, `%height%`, `%steps%`, `%guidance%` or `%sampler%`; a word that stands nowhere is found by the class of
nodes, see `PLACES`. POST /prompt, then GET /history/ID until it is done, then GET /view.
"""

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from byrote.domain import RGB
from byrote.errors import ModelError
from byrote.models import How, Options, Request, encodable, http, remote, settings
from byrote.models.http import Again, Answer
from byrote.models.journal import Entry
from byrote.models.remote import Address, Remote

SETTINGS = {
    "workflow": "JSON file in API format",
    "output": "number of the node whose image counts, where several give one",
} | remote.SETTINGS
PLACES: dict[str, dict[str, str]] = {
    "seed": {
        "KSampler": "seed",
        "KSamplerAdvanced": "noise_seed",
        "SamplerCustom": "noise_seed",
        "RandomNoise": "noise_seed",
    },
    "steps": {"KSampler": "steps", "KSamplerAdvanced": "steps", "BasicScheduler": "steps"},
    "guidance": {"KSampler": "cfg", "KSamplerAdvanced": "cfg", "SamplerCustom": "cfg", "CFGGuider": "cfg"},
    "sampler": {"KSampler": "sampler_name", "KSamplerAdvanced": "sampler_name", "KSamplerSelect": "sampler_name"},
    "width": {"EmptyLatentImage": "width", "EmptySD3LatentImage": "width"},
    "height": {"EmptyLatentImage": "height", "EmptySD3LatentImage": "height"},
    "batch": {"EmptyLatentImage": "batch_size", "EmptySD3LatentImage": "batch_size"},
}
"""The inputs by class of node that a word goes to. Prompts go to the encoders that these lead to:"""
SAMPLERS = ("KSampler", "KSamplerAdvanced", "SamplerCustom", "CFGGuider", "BasicGuider")
ENCODERS: dict[str, tuple[str, ...]] = {
    "CLIPTextEncode": ("text",),
    "CLIPTextEncodeSDXL": ("text_g", "text_l"),
    "CLIPTextEncodeSD3": ("clip_l", "clip_g", "t5xxl"),
    "CLIPTextEncodeFlux": ("clip_l", "t5xxl"),
}
LARGEST_WORKFLOW = 16 * 2**20
LOOK_AGAIN = 0.05
LONGEST_LOOK = 1.0

Node = dict[str, Any]
Place = tuple[str, str]  # a node and its input


class ComfyUI:
    """A workflow that another process runs. Checkpoints are known by their names in the workflow only.

    `reproducible` holds as far as the server draws alike twice. Opening asks the server for its version. Raises
    ModelError.
    """

    how = How(
        "a workflow on a ComfyUI server",
        "comfyui:http://127.0.0.1:8188?workflow=workflow.json",
        SETTINGS,
        "http",
        ("urllib3",),
    )
    tolerance = 0
    takes_text = True
    reproducible = True

    def __init__(self, path: str, options: Options, relative_to: Path) -> None:
        remote.check(options, "comfyui")
        http.library()
        place, given = settings(path, SETTINGS)
        server = http.place("comfyui", place)
        if not given.get("workflow"):
            raise ModelError(f"model comfyui:{server} names no workflow: add ?workflow=FILE, saved in API format")
        file = relative_to / Path(given["workflow"]).expanduser()
        self._workflow = Workflow(file, _nodes(file), options)
        self._output = given.get("output")
        address = Address("comfyui", server, file.stem)
        self._remote = Remote(address, given, remote.key_for(server), 1, relative_to)
        about = {"workflow": self._workflow.nodes, "output": self._output, "version": self._version()}
        self.name = f"ComfyUI: {file.stem}"
        self.evaluations_per_sample = self._workflow.evaluations
        self.digest = self._remote.digest = remote.digest_of(address, about)

    def generate(self, requests: Sequence[Request]) -> list[RGB]:
        """Return an image for each request; what is in the journal is not asked for again."""
        return self._remote.generate(requests, self._ask, None, 1)

    def round_trip(self, images: Sequence[RGB]) -> None:
        """Return None: a workflow makes images from prompts."""

    def refused(self, requests: Sequence[Request]) -> list[bool]:
        """Tell of each request whether the server refused it: this API knows no such answer."""
        return self._remote.refused(requests)

    def forget(self, requests: Sequence[Request]) -> None:
        """Remove answers from the journal."""
        self._remote.forget(requests)

    def _version(self) -> str:
        told = self._remote.opening("/system_stats", self._json)
        system = told.get("system") if isinstance(told, dict) else None
        if not isinstance(system, dict):
            raise ModelError(f"model server {self._remote.client.server}: /system_stats answers as no ComfyUI does")
        return str(system.get("comfyui_version", "unknown"))

    def _ask(self, requests: Sequence[Request], bill: Entry) -> Sequence[RGB]:
        client = self._remote.client
        prompt = encodable(requests[0].prompt or "")
        body = {"prompt": self._workflow.asking(prompt, requests[0].seed), "client_id": "byrote"}
        number = client.ask("POST", "/prompt", self._queued, body=body, bill=bill)
        where = self._image(self._outputs(number))
        return [client.ask("GET", f"/view?{urlencode(where)}", self._viewed)]

    def _queued(self, answer: Answer) -> str:
        told = self._json(answer)
        number = told.get("prompt_id") if isinstance(told, dict) else None
        if not isinstance(number, str) or not number:
            raise Again("the answer has no prompt_id", made=True)
        return number

    def _outputs(self, number: str) -> Mapping[str, Any]:
        """Wait until a prompt is done, and return what its nodes gave. Raises ModelError where it failed."""
        client, look = self._remote.client, LOOK_AGAIN
        until = time.monotonic() + client.terms.timeout
        while time.monotonic() < until:
            client.pause(look)
            told = client.ask("GET", f"/history/{quote(number, safe='')}", self._json)
            entry = told.get(number) if isinstance(told, dict) else None
            if isinstance(entry, dict):
                return self._done(entry)
            look = min(LONGEST_LOOK, look * 1.5)
        raise ModelError(f"model server {client.server}: no image within {client.terms.timeout:g} s: raise timeout")

    def _done(self, entry: Mapping[str, Any]) -> Mapping[str, Any]:
        status, outputs = entry.get("status"), entry.get("outputs")
        if isinstance(status, dict) and status.get("status_str") == "error":
            raise ModelError(f"{self.name} failed on {self._remote.client.server}: {_failure(status)}")
        return outputs if isinstance(outputs, dict) else {}

    def _image(self, outputs: Mapping[str, Any]) -> dict[str, str]:
        """Return where the only image of a prompt lies. Raises ModelError."""
        given = {node: out["images"] for node, out in outputs.items() if isinstance(out, dict) and out.get("images")}
        if self._output is not None:
            given = {node: found for node, found in given.items() if node == self._output}
        if len(given) != 1:
            raise ModelError(f"{self.name}: {len(given)} nodes give images: add &output=NODE with the number of one")
        (found,) = given.values()
        if not isinstance(found, list) or len(found) != 1 or not isinstance(found[0], dict):
            raise ModelError(f"{self.name}: the output gives more than one image: set its batch size to 1")
        return {name: str(found[0].get(name, "")) for name in ("filename", "subfolder", "type")}

    def _viewed(self, answer: Answer) -> RGB:
        client = self._remote.client
        if answer.status != 200:
            raise ModelError(f"model server {client.server}: HTTP {answer.status} for an image that it made")
        return remote.decoded(answer.data)

    def _json(self, answer: Answer) -> Any:
        client = self._remote.client
        if answer.status != 200:
            raise ModelError(f"model server {client.server}: HTTP {answer.status}: {client.told(answer)}")
        return answer.json()


class Workflow:
    """The nodes of a workflow with the plan's knobs set, and where prompt and seed go. Raises ModelError."""

    def __init__(self, file: Path, nodes: dict[str, Node], options: Options) -> None:
        self._file = file
        self.nodes = nodes
        knobs: dict[str, object] = {"steps": options.steps, "guidance": options.guidance, "sampler": options.sampler}
        knobs |= {"width": options.width, "height": options.height}
        for word, value in knobs.items():
            self._set(word, value)
        self._set_batch()
        self._set_negative(options.negative)
        self._seeds = self._places("seed")
        self._prompts = self._marked("prompt") or self._encoders("positive")
        if not self._seeds or not self._prompts:
            word = "prompt" if self._seeds else "seed"
            raise ModelError(f"workflow {file}: where does the {word} go? Write %{word}% there")

    def asking(self, prompt: str, seed: int) -> dict[str, Node]:
        """Return the nodes with a prompt and a seed; images are saved under a name of their own.

        Without that a server that made this image before would give nothing: it does only what changed.
        """
        nodes: dict[str, Node] = json.loads(json.dumps(self.nodes))
        for place in self._seeds:
            _put(nodes, place, "seed", seed)
        for place in self._prompts:
            _put(nodes, place, "prompt", prompt)
        for node in nodes.values():
            if node["class_type"] == "SaveImage":
                node["inputs"]["filename_prefix"] = f"byrote-{os.urandom(8).hex()}"
        return nodes

    @property
    def evaluations(self) -> int:
        """Count the steps of all samplers, twice where they guide; 1 where the workflow does not say."""
        total = 0
        for node in self.nodes.values():
            steps, cfg = node["inputs"].get("steps"), node["inputs"].get("cfg", 1)
            if isinstance(steps, int) and node["class_type"] in PLACES["steps"]:
                total += steps * (2 if isinstance(cfg, int | float) and cfg > 1 else 1)
        return max(1, total)

    def _set(self, word: str, value: object) -> None:
        marked = self._marked(word)
        if value is None:
            if marked:
                raise ModelError(f"workflow {self._file} has %{word}%: set {word} in [generate]")
            return
        places = marked or self._places(word)
        if not places:
            raise ModelError(f"workflow {self._file}: where does {word} go? Write %{word}% there")
        for place in places:
            _put(self.nodes, place, word, value)

    def _set_batch(self) -> None:
        for place in self._by_class("batch"):
            _put(self.nodes, place, "batch", 1)

    def _set_negative(self, negative: str) -> None:
        places = self._marked("negative") or (self._encoders("negative") if negative else [])
        if negative and not places:
            raise ModelError(f"workflow {self._file}: where does the negative prompt go? Write %negative% there")
        for place in places:
            _put(self.nodes, place, "negative", negative)

    def _places(self, word: str) -> list[Place]:
        return self._marked(word) or list(self._by_class(word))

    def _marked(self, word: str) -> list[Place]:
        """Return the inputs that hold `%word%`."""
        mark = f"%{word}%"
        return [place for place, value in self._inputs() if isinstance(value, str) and mark in value]

    def _by_class(self, word: str) -> Iterator[Place]:
        for number, node in self.nodes.items():
            name = PLACES[word].get(node["class_type"])
            if name is None or name not in node["inputs"]:
                continue
            if isinstance(node["inputs"][name], list):
                raise ModelError(
                    f"workflow {self._file}: node {number} takes {name} from another node: write %{word}% there"
                )
            yield number, name

    def _encoders(self, side: str) -> list[Place]:
        """Return the texts that the samplers take as `side`, positive or negative."""
        found: dict[Place, None] = {}
        for node in self.nodes.values():
            if node["class_type"] in SAMPLERS:
                link = node["inputs"].get(side, node["inputs"].get("conditioning") if side == "positive" else None)
                found |= dict.fromkeys(self._texts(link, frozenset(), side))
        return list(found)

    def _texts(self, link: object, seen: frozenset[str], side: str) -> Iterator[Place]:
        """Follow a link back to the encoders that it comes from, through nodes that change conditionings."""
        number = link[0] if isinstance(link, list) and link and isinstance(link[0], str) else None
        if number is None or number in seen or number not in self.nodes:
            return
        node = self.nodes[number]
        names = ENCODERS.get(node["class_type"])
        if names is not None:
            yield from ((number, name) for name in names if isinstance(node["inputs"].get(name), str))
            return
        for name, value in node["inputs"].items():
            if name.startswith("conditioning") or name == side:
                yield from self._texts(value, seen | {number}, side)

    def _inputs(self) -> Iterator[tuple[Place, object]]:
        for number, node in self.nodes.items():
            for name, value in node["inputs"].items():
                yield (number, name), value


def _put(nodes: Mapping[str, Node], place: Place, word: str, value: object) -> None:
    """Put a value at a place: for its mark within a text, else for all that was there."""
    node, name = place
    inputs, mark = nodes[node]["inputs"], f"%{word}%"
    before = inputs[name]
    within = isinstance(before, str) and mark in before and before != mark
    inputs[name] = before.replace(mark, str(value)) if within else value


def _nodes(file: Path) -> dict[str, Node]:
    """Read a workflow file. Raises ModelError."""
    try:
        if file.stat().st_size > LARGEST_WORKFLOW:
            raise ModelError(f"workflow {file} is larger than {LARGEST_WORKFLOW:,} bytes: that is none")
        read = json.loads(file.read_bytes())
    except OSError as error:
        raise ModelError(f"workflow {file} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"workflow {file} is no JSON: save it in API format") from error
    if isinstance(read, dict) and isinstance(read.get("nodes"), list):
        raise ModelError(f"workflow {file} is saved for the web page: save it in API format (Workflow > Export (API))")
    if not isinstance(read, dict) or not read or not all(map(_is_node, read.values())):
        raise ModelError(f"workflow {file} is no ComfyUI workflow: save it in API format (Workflow > Export (API))")
    return read


def _is_node(node: object) -> bool:
    return isinstance(node, dict) and isinstance(node.get("class_type"), str) and isinstance(node.get("inputs"), dict)


def _failure(status: Mapping[str, Any]) -> str:
    """Find the words of a failed prompt among its messages: [["execution_error", {"exception_message": …}], …]."""
    messages = status.get("messages")
    for message in messages if isinstance(messages, list) else []:
        about = message[1] if isinstance(message, list) and len(message) == 2 else None
        if isinstance(about, dict) and isinstance(about.get("exception_message"), str):
            return http.line(about["exception_message"])
    return "it does not say why"
