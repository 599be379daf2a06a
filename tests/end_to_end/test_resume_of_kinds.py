"""A part that a kill took away is made again, in another process, as it was: for every kind of model."""

import json
from contextlib import nullcontext

import pytest
import torch
from models import generators, tiny
from models.servers import Images, WebUi, serving

from byrote import images
from byrote.audit import Audit
from byrote.domain import Sample
from byrote.stages.generate import open_model

from .studio import Studio, portraits

PEOPLE = portraits("train", 6), portraits("held-out", 6)
FUNCTION = """
import numpy as np


def paint(prompt, seeds):
    return [np.random.default_rng([len(prompt), seed]).integers(0, 256, (16, 16, 3), np.uint8) for seed in seeds]
"""


def diffusers(root):
    return f"diffusers:{tiny.stable_diffusion(root / 'pipeline')}", {}


def torchscript(root):
    generators.scripted(generators.Generator(), root / "G.pt")
    return f"torchscript:{root / 'G.pt'}?z=8", {"trust": True}


def onnx(root):
    generators.exported(generators.Generator(), root / "G.onnx")
    return f"onnx:{root / 'G.onnx'}", {}


def function(root):
    (root / "audit").mkdir(exist_ok=True)
    (root / "audit" / "painter_of_resume.py").write_text(FUNCTION)
    return "function:painter_of_resume:paint", {}


def recorded(root):
    (root / "recording").mkdir()
    rows = []
    for k, file in enumerate([*PEOPLE[0], *PEOPLE[1]]):
        for seed in range(4):
            name = f"{k:03d}-{seed}.png"
            pixels = torch.randint(0, 256, (16, 16, 3), generator=torch.Generator().manual_seed(100 * k + seed))
            (root / "recording" / name).write_bytes(images.encode_png(pixels.to(torch.uint8).numpy()))
            rows.append({"file_name": name, "prompt": file.caption, "seed": seed})
    (root / "recording" / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return "recorded:../recording", {}


def parrot(root):
    return "parrot:../parrot.toml", {}


def openai(root, url):
    return f"openai:{url}/v1?model=m&size=16x16&answers={root / 'answers'}&timeout=10&tries=3&wait=0.005", {}


def a1111(root, url):
    return f"a1111:{url}?answers={root / 'answers'}&timeout=10&tries=3&wait=0.005", {}


KINDS = {
    kind.__name__: (kind, server)
    for kind, server in (
        (diffusers, None),
        (torchscript, None),
        (onnx, None),
        (function, None),
        (recorded, None),
        (parrot, None),
        (openai, Images),
        (a1111, WebUi),
    )
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_made_again_after_a_kill_is_what_was_lost(kind, tmp_path):
    build, server = KINDS[kind]
    with serving(server) if server else nullcontext(("", None)) as (url, state):
        uri, model = build(tmp_path, url) if server else build(tmp_path)
        studio = Studio(tmp_path).shoot(*PEOPLE).teach({PEOPLE[0][0].caption: PEOPLE[0][0].data}, side=16)
        sampled = {"seeds": 4, "batch": 5} | ({"steps": 2} if kind == "diffusers" else {})
        sections = {
            "model": {"uri": uri} | model,
            "prompts": {"top": 6, "random": 0, "controls": 6},
            "generate": sampled,
        }
        studio.write_plan(**sections)
        studio.index()
        studio.run(until="generate")
        audit = Audit(studio.audit)
        before, posts = rows(audit), len(state.posts) if state else 0
        for path in audit.store.folder(audit.recipes.samples).glob("00000.*"):
            path.unlink()
        open_model.cache_clear()
        studio.run(until="generate", jobs=2)
        assert rows(audit) == before
        assert len({row.image for row in before}) > 1
        assert state is None or len(state.posts) == posts, "nothing is asked twice"


def rows(audit):
    return audit.store.read_all(Sample, audit.recipes.samples)
