"""The samplers that a plan may name instead of a diffusers model's own, for models of noise and of flows.

Nothing of a model is changed by them but the way down its noise: its schedule of noise is kept.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from byrote.errors import ModelError, did_you_mean
from byrote.models.pipelines import library


class Sampler(NamedTuple):
    """A scheduler of diffusers with the settings that make it what its name says."""

    kind: str
    settings: Mapping[str, object] = {}


MULTISTEP = "DPMSolverMultistepScheduler"
SAMPLERS: dict[str, Sampler] = {
    "ddim": Sampler("DDIMScheduler"),
    "ddpm": Sampler("DDPMScheduler"),
    "pndm": Sampler("PNDMScheduler", {"skip_prk_steps": True}),
    "dpm++2m": Sampler(MULTISTEP, {"algorithm_type": "dpmsolver++", "solver_order": 2}),
    "dpm++2m-karras": Sampler(
        MULTISTEP, {"algorithm_type": "dpmsolver++", "solver_order": 2, "use_karras_sigmas": True}
    ),
    "dpm++2m-sde": Sampler(MULTISTEP, {"algorithm_type": "sde-dpmsolver++", "solver_order": 2}),
    "dpm2": Sampler("KDPM2DiscreteScheduler"),
    "dpm2-a": Sampler("KDPM2AncestralDiscreteScheduler"),
    "deis": Sampler("DEISMultistepScheduler"),
    "euler": Sampler("EulerDiscreteScheduler"),
    "euler-a": Sampler("EulerAncestralDiscreteScheduler"),
    "heun": Sampler("HeunDiscreteScheduler"),
    "unipc": Sampler("UniPCMultistepScheduler"),
    "lms": Sampler("LMSDiscreteScheduler"),
    "lcm": Sampler("LCMScheduler"),
    "tcd": Sampler("TCDScheduler"),
}
FLOW: dict[str, object] = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}
FLOW_SAMPLERS: dict[str, Sampler] = {
    "euler": Sampler("FlowMatchEulerDiscreteScheduler"),
    "heun": Sampler("FlowMatchHeunDiscreteScheduler"),
    "lcm": Sampler("FlowMatchLCMScheduler"),
    "dpm++2m": Sampler(MULTISTEP, FLOW | {"algorithm_type": "dpmsolver++", "solver_order": 2}),
    "unipc": Sampler("UniPCMultistepScheduler", FLOW),
}
DYNAMIC = ("FlowMatchEulerDiscreteScheduler", "FlowMatchLCMScheduler", "UniPCMultistepScheduler")
"""Schedulers that can follow a shift which depends on the image's size."""


def scheduler(own: str, config: dict[str, Any], wanted: str | None, foreign: Mapping[str, object]) -> Any:
    """Return the scheduler `wanted`, else the model's own, with the schedule of noise in `config`.

    `foreign` is what a scheduler of another kind than `own` must be told. Raises ModelError where it does not fit.
    """
    kind, settings = fitting(own, config, wanted)
    told = config | dict(settings) | ({} if kind == own else dict(foreign))
    return getattr(library(), kind).from_config(told)


def steps_of(made: Any, steps: int) -> int:
    """Count how often a scheduler asks its denoiser in so many steps.

    Where the shift depends on the image's size so do the timesteps, but not their number: any will do.
    """
    if made.config.get("use_dynamic_shifting"):
        made.set_timesteps(steps, mu=1.0)
    else:
        made.set_timesteps(steps)
    return len(made.timesteps)


def fitting(own: str, config: dict[str, Any], wanted: str | None) -> Sampler:
    """Return the sampler `wanted`, else the model's own. Raises ModelError where it does not fit the model."""
    if wanted is None:
        return Sampler(own)
    if not _of_flows(own, config):
        return SAMPLERS[wanted]
    if wanted not in FLOW_SAMPLERS:
        hint = did_you_mean(wanted, FLOW_SAMPLERS)
        raise ModelError(
            f"sampler {wanted!r} is for models of noise, and this one matches flows{hint}: one of "
            f"{', '.join(FLOW_SAMPLERS)}, or leave it out"
        )
    kind, settings = FLOW_SAMPLERS[wanted]
    if config.get("use_dynamic_shifting") and kind not in DYNAMIC:
        raise ModelError(
            f"sampler {wanted!r} cannot shift with the image's size as this model does: use euler, lcm or unipc"
        )
    shift = config.get("shift", config.get("flow_shift", 1.0))
    return Sampler(kind, settings if kind.startswith("FlowMatch") else dict(settings) | {"flow_shift": shift})


def _of_flows(own: str, config: dict[str, Any]) -> bool:
    return own.startswith("FlowMatch") or config.get("prediction_type") == FLOW["prediction_type"]
