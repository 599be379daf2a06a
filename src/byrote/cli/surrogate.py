"""The command `surrogate`: a condition for a model that takes none, made of its own samples."""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from byrote.cli.options import Add, at_least_one, json_option, tell
from byrote.errors import ByroteError


def add(command: Add) -> None:
    """Add it."""
    made = command("surrogate", _make, "Make a condition for a model that takes no prompt, of its own samples (SIDE).")
    made.add_argument("model", metavar="URI", help="a model that takes no prompt and can be looked into")
    made.add_argument("--out", type=Path, required=True, metavar="FILE", help="a new file, .safetensors")
    made.add_argument("--samples", type=at_least_one, default=2_000, metavar="N", help="to cluster (default: 2000)")
    made.add_argument("--clusters", type=at_least_one, default=100, metavar="N", help="(default: 100)")
    made.add_argument(
        "--cohesion",
        type=float,
        default=0.5,
        metavar="C",
        help="least mean cosine to a centre (default: .5, for sscd:FILE; of thumbnails .95 keeps what is copied)",
    )
    made.add_argument("--descriptor", default="thumbnail:16", metavar="URI", help="(default: thumbnail:16)")
    made.add_argument("--trained", type=at_least_one, default=2_000, metavar="N", help="steps (default: 2000)")
    made.add_argument("--steps", type=at_least_one, metavar="N", help="of the sampler (default: the model's)")
    made.add_argument("--seed", type=int, default=0, metavar="N", help="of samples and training (default: 0)")
    made.add_argument("--device", default="cpu", metavar="NAME", help="cpu, cuda, mps (default: cpu)")
    json_option(made)


def _make(options: argparse.Namespace) -> int:
    from byrote.models import Options

    try:
        from byrote.models.teaching import Teaching, teach
    except ModuleNotFoundError as error:
        raise ByroteError(f"byrote surrogate needs {error.name}: pip install 'byrote[diffusers]'") from error
    how = Teaching(
        samples=options.samples,
        clusters=options.clusters,
        cohesion=options.cohesion,
        descriptor=options.descriptor,
        trained=options.trained,
        seed=options.seed,
    )
    told = teach(
        options.model,
        options.out,
        how,
        Options(steps=options.steps, device=options.device),
        tell=lambda line: print(line, file=sys.stderr, flush=True),
    )
    words = (
        f"{told.file}: {told.kept} clusters; the classifier is right on {told.accuracy:.0%} of new samples. "
        f'[model] uri = "surrogate:{told.file}?model=..." audits what it brings'
    )
    tell(options.json, asdict(told), words)
    return 0
