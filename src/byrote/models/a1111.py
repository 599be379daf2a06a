"""The API of the AUTOMATIC1111 web UI and of its forks: `a1111:http://127.0.0.1:7860?checkpoint=NAME`.

POST /sdapi/v1/txt2img, one image a call, since the further images of a batch take seeds of the server's own. The server
says which checkpoint it holds, and its hash; every call pins that checkpoint, and every answer is held against it.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from json import loads
from pathlib import Path
from typing import Any

from byrote.domain import RGB
from byrote.errors import ModelError, did_you_mean
from byrote.models import How, Options, Request, encodable, http, remote, settings
from byrote.models.http import Again, Answer
from byrote.models.journal import Entry
from byrote.models.openai import unpacked
from byrote.models.remote import Address, Remote

SETTINGS = {
    "checkpoint": "its name in the web UI; the one that is loaded if left out",
    "scheduler": "name of the noise schedule, where the server knows several",
} | remote.SETTINGS
MATTERS = ("sd_vae", "CLIP_stop_at_last_layers", "eta_noise_seed_delta", "randn_source", "upcast_attn", "s_churn")
"""Options of the server that change images, and that no call of ours sets."""
STEPS = 50
GUIDANCE = 7.0
"""What the API takes where a call says nothing."""
SEEDS = 2**32


class Automatic1111:
    """A checkpoint of a web UI that another process runs.

    Of a seed of 63 bits the server gets the low 32. `reproducible` holds as far as the server draws alike twice.
    Opening asks the server for its checkpoint. Raises ModelError.
    """

    how = How(
        "the API of the AUTOMATIC1111 web UI and its forks",
        "a1111:http://127.0.0.1:7860?checkpoint=v1-5-pruned-emaonly",
        SETTINGS,
        "http",
        ("urllib3",),
    )
    tolerance = 0
    takes_text = True
    reproducible = True

    def __init__(self, path: str, options: Options, relative_to: Path) -> None:
        remote.check(options, "a1111")
        http.library()
        place, given = settings(path, SETTINGS)
        server = http.place("a1111", place)
        self._options = options
        address = Address("a1111", server, given.get("checkpoint", ""))
        self._remote = Remote(address, given, remote.key_for(server), 1, relative_to)
        held = self._get("/sdapi/v1/options")
        self._checkpoint, self._hash = self._found(held, given.get("checkpoint"))
        self._body = self._wanted(given)
        told = {name: held[name] for name in MATTERS if name in held} | {"hash": self._hash}
        self.name = f"AUTOMATIC1111: {self._checkpoint}"
        self.digest = self._remote.digest = remote.digest_of(address, {"body": self._body, "told": told})

    @property
    def evaluations_per_sample(self) -> int:
        """Count the steps, twice where guidance asks twice."""
        guidance = self._options.guidance if self._options.guidance is not None else GUIDANCE
        return (self._options.steps or STEPS) * (2 if guidance > 1 else 1)

    def generate(self, requests: Sequence[Request]) -> list[RGB]:
        """Return an image for each request; what is in the journal is not asked for again."""
        return self._remote.generate(requests, self._ask, None, 1)

    def round_trip(self, images: Sequence[RGB]) -> None:
        """Return None: the API has no way through the autoencoder alone."""

    def refused(self, requests: Sequence[Request]) -> list[bool]:
        """Tell of each request whether the server refused it: this API knows no such answer."""
        return self._remote.refused(requests)

    def forget(self, requests: Sequence[Request]) -> None:
        """Remove answers from the journal."""
        self._remote.forget(requests)

    def _wanted(self, given: Mapping[str, str]) -> dict[str, object]:
        """Return what every call says."""
        o = self._options
        knobs: dict[str, object] = {
            "steps": o.steps,
            "cfg_scale": o.guidance,
            "sampler_name": o.sampler,
            "width": o.width,
        }
        knobs |= {"height": o.height, "negative_prompt": o.negative or None, "scheduler": given.get("scheduler")}
        fixed: dict[str, object] = {"batch_size": 1, "n_iter": 1, "save_images": False, "send_images": True}
        pinned: dict[str, object] = {"override_settings": {"sd_model_checkpoint": self._checkpoint}}
        kept: dict[str, object] = {
            "override_settings_restore_afterwards": False
        }  # else the server loads the other one between calls
        return {name: value for name, value in knobs.items() if value is not None} | fixed | pinned | kept

    def _found(self, held: Mapping[str, Any], wanted: str | None) -> tuple[str, str]:
        """Return the checkpoint's title and hash. Raises ModelError where there is none, or its hash is not known."""
        if wanted is None:
            title, known = held.get("sd_model_checkpoint"), held.get("sd_checkpoint_hash")
        else:
            title, known = self._listed(wanted)
        if not isinstance(title, str) or not title:
            raise ModelError(f"model server {self._remote.client.server} holds no checkpoint: add ?checkpoint=NAME")
        if not isinstance(known, str) or not known:
            raise ModelError(
                f"the server does not know the hash of checkpoint {title!r} yet: load it once in the web UI"
            )
        return title, known

    def _listed(self, wanted: str) -> tuple[object, object]:
        rows = self._get("/sdapi/v1/sd-models")
        found = [row for row in rows if isinstance(row, dict)]
        for row in found:
            if wanted in (row.get("title"), row.get("model_name")):
                return row.get("title"), row.get("sha256") or row.get("hash")
        names = [str(row.get("model_name")) for row in found]
        raise ModelError(
            f"model server {self._remote.client.server} has no checkpoint {wanted!r}{did_you_mean(wanted, names)}"
        )

    def _get(self, path: str) -> Any:
        found, server = self._remote.opening(path, self._json), self._remote.client.server
        if not isinstance(found, list if path.endswith("models") else dict):
            raise ModelError(f"model server {server}: {path} answers as no AUTOMATIC1111 web UI does")
        return found

    def _json(self, answer: Answer) -> Any:
        client = self._remote.client
        if answer.status == 404:
            raise ModelError(f"model server {client.server} has no /sdapi: start the web UI with --api")
        if answer.status != 200:
            raise ModelError(f"model server {client.server}: HTTP {answer.status}: {client.told(answer)}")
        return answer.json()

    def _ask(self, requests: Sequence[Request], bill: Entry) -> Sequence[RGB]:
        seed = requests[0].seed % SEEDS
        body = self._body | {"prompt": encodable(requests[0].prompt or ""), "seed": seed}
        read = partial(self._read, seed=seed)
        return [self._remote.client.ask("POST", "/sdapi/v1/txt2img", read, body=body, bill=bill)]

    def _read(self, answer: Answer, seed: int) -> RGB:
        told = self._json(answer)
        packed = told.get("images") if isinstance(told, dict) else None
        if not isinstance(packed, list) or not packed or not isinstance(packed[0], str):
            raise Again("the answer holds no image", made=True)
        self._check(told.get("info"), seed)
        return remote.decoded(unpacked(packed[0]))

    def _check(self, info: object, seed: int) -> None:
        """Hold what the answer says of itself, if anything, against what was asked. Raises ModelError."""
        try:
            said = loads(info) if isinstance(info, str) else {}
        except (ValueError, RecursionError):
            return
        held = said.get("sd_model_hash") if isinstance(said, dict) else None
        if isinstance(held, str) and held and not (self._hash.startswith(held) or held.startswith(self._hash)):
            raise ModelError(f"{self.name}: the server answered with another checkpoint ({held[:16]!r}): run again")
        if isinstance(said, dict) and said.get("seed", seed) != seed:
            raise ModelError(f"{self.name}: the server answered with another seed than it was asked for")
