"""What sets one kind of diffusers pipeline apart from another, as a table.

A pipeline that is not in it is drawn from text as Stable Diffusion is, where its call takes a prompt and no image.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from byrote.errors import ModelError
from byrote.models import drawing
from byrote.models.drawing import Draw

TEXT, LABEL, NOTHING = "text", "label", "nothing"
OTHERS = re.compile(
    r"Img2Img|Inpaint|Fill|ControlNet|Upscale|SuperResolution|Depth2Img|Pix2Pix|Variation|Combined|Prior|Video|Onnx|Flax"
)


class Join(NamedTuple):
    """A second folder without which, or with which, a pipeline draws: `?role=FOLDER`.

    `keeps` are parts of it that a pipeline is seldom asked for, `without` those that the first folder has.
    """

    role: str
    kind: str
    needed: bool
    keeps: tuple[str, ...] = ()
    without: tuple[str, ...] = ()


class Family(NamedTuple):
    """A way to draw. `foreign` is what a sampler that is not its own must be told.

    `inner` is the prefix of what its index and its call name for a first stage of its own, as "prior"; `whole` is the
    pipeline that it makes with the folder that is joined. `samplers` are the only ones that fit, None for all.
    `alone` has samples drawn one at a time: rounding to the nearest code turns a sum's last digit into another patch.
    `refuses` are knobs that it cannot follow.
    """

    draw: Draw = drawing.from_text
    takes: str = TEXT
    autoencoder: str = "vae"
    decoding: Mapping[str, object] = {}
    foreign: Mapping[str, object] = {}
    join: Join | None = None
    inner: str = ""
    whole: str = ""
    samplers: tuple[str, ...] | None = None
    alone: bool = False
    refuses: tuple[str, ...] = ()


PLAIN = Family()
SHIFTED = ("euler", "lcm", "unipc")
"""Samplers that can be handed a shift, as Flux always does."""
INPAINTING = Family(drawing.over_grey)
PIXELS = Family(drawing.from_noise, NOTHING, autoencoder="", refuses=("guidance",))
UNLEARNT: dict[str, object] = {"variance_type": "fixed_small"}
"""Only its own sampler uses the variance that the denoiser predicts."""
KANDINSKY = Family(autoencoder="movq", decoding={"force_not_quantize": True}, foreign=UNLEARNT, refuses=("negative",))
WHOLE = "KandinskyV22CombinedPipeline"
FAMILIES: dict[str, Family] = {
    "DDPMPipeline": PIXELS,
    "DDIMPipeline": PIXELS,
    "PNDMPipeline": PIXELS,
    "ConsistencyModelPipeline": PIXELS._replace(samplers=()),
    "LDMPipeline": Family(drawing.from_latent_noise, NOTHING, autoencoder="vqvae", alone=True, refuses=("guidance",)),
    "LatentConsistencyModelPipeline": Family(samplers=("lcm",)),
    "FluxPipeline": Family(samplers=SHIFTED),
    "DiTPipeline": Family(drawing.from_label, LABEL),
    "KandinskyV22Pipeline": KANDINSKY._replace(
        join=Join("prior", "KandinskyV22PriorPipeline", needed=True, keeps=("image_encoder",)), whole=WHOLE
    ),
    WHOLE: KANDINSKY._replace(inner="prior"),
    "IFPipeline": Family(
        drawing.in_cascade,
        autoencoder="",
        foreign=UNLEARNT,
        join=Join("upscaler", "IFSuperResolutionPipeline", needed=False, without=("text_encoder", "tokenizer")),
    ),
    "StableDiffusionInpaintPipeline": INPAINTING,
    "StableDiffusionXLInpaintPipeline": INPAINTING,
    "StableDiffusion3InpaintPipeline": INPAINTING,
    "FluxInpaintPipeline": INPAINTING._replace(samplers=SHIFTED),
}
JOINED = {family.join.kind: (kind, family.join.role) for kind, family in FAMILIES.items() if family.join}
FIXED: dict[str, object] = {"clean_caption": False, "use_resolution_binning": False}
"""Arguments of some calls that would change a caption by what happens to be installed, or draw at another size."""


def family_of(place: object, kind: str) -> Family:
    """Return the family of a pipeline. Raises ModelError where it does not draw from a prompt alone."""
    if kind in JOINED:
        first, role = JOINED[kind]
        raise ModelError(f"model {place}: a {kind} is half a model: open the {first} with ?{role}={place}")
    if kind not in FAMILIES and OTHERS.search(kind):
        raise ModelError(
            f"model {place}: a {kind} does not draw from a prompt alone: name the folder's text-to-image pipeline"
        )
    return FAMILIES.get(kind, PLAIN)
