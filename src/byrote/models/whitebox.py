"""The denoiser of a diffusers pipeline, whichever it is, from the inside.

A pipeline is started as for a sample and stopped where it first calls its network: what it gave the network besides
state and timestep (text embeddings, pooled ones, sizes, labels) is the condition of that prompt, whatever the
architecture. Then the network is called directly. When it is opened, what the pipeline hands to its sampler is compared
with what this file makes of it, so that a pipeline that does more with its network is refused rather than misread.
"""

import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from byrote.domain import RGB
from byrote.errors import ModelError
from byrote.kernels import predictions
from byrote.kernels.shapes import alike
from byrote.models import Options, Request
from byrote.models.calls import Call, Condition, apart, by_name, first_call, first_step, joined, row_of
from byrote.models.denoiser import Floats, Gradients, Level, Prediction, Prompts, Pull
from byrote.models.latents import ROWS, Coder, numbers

if TYPE_CHECKING:
    from torch import Tensor

NETWORKS = ("unet", "transformer")
TEXT = "encoder_hidden_states"
KINDS: Mapping[str, predictions.Kind] = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}
FLOWS = "flow_prediction"
# Relative RMS errors, ours: tests hold the first; half precision is a wide guess.
TOLERANCES = {"float32": 1e-4, "float16": 0.02, "bfloat16": 0.1}
CONDITIONS = 64
LEAST = 1e-3  # relative RMS by which what a sampler gets may differ from what is made of it here
SAID = "0"  # a text as good as any other, and the number of a class
Draw = Callable[[Sequence[Request], Options], object]


class DiffusersDenoiser:
    """The network of a pipeline as a `byrote.models.denoiser.Denoiser`.

    `draw` makes samples with the pipeline as `generate` does, with other options; `blank` is a prompt that it takes
    without an opinion. Raises ModelError where the pipeline cannot be looked into.
    """

    def __init__(self, uri: str, pipeline: Any, options: Options, draw: Draw, blank: str | None = None) -> None:
        self._uri, self._pipeline, self._options, self._draw, self._blank = uri, pipeline, options, draw, blank
        if options.compile:  # hooks do not reach into it
            raise self._refusal("it is compiled: leave compile out")
        self._network = _network(uri, pipeline).requires_grad_(False)
        self._conditions = lru_cache(CONDITIONS)(self._conditioned)
        self.tolerance = TOLERANCES[options.dtype]
        self._kind = self._told_kind()
        first = self._first([Request(self._blank, 0)], options)
        self.takes_text = TEXT in first.condition or "class_labels" in first.condition
        self._dtype, self._packed = first.dtype, first.state.ndim == 3
        self._divisor = self._divided(first.timestep)
        self._guides = len(first.state) == 2 or self._can_guide()
        self.guidance = self._scale() if len(first.state) == 2 else 1.0
        self.shape = self._shaped(first.state)
        self._coder = Coder(pipeline, self.shape[0])
        self.size = (self.shape[1] * self._coder.shrinks, self.shape[2] * self._coder.shrinks)
        self._check()

    def levels(self, steps: int | None = None) -> list[Level]:
        """Return the levels at which the sampler asks, most noise first; what it asks anew near one is left out."""
        self._first([Request(self._blank, 0)], replace(self._options, steps=steps or self._options.steps))
        scheduler = self._pipeline.scheduler
        times = [float(t) for t in scheduler.timesteps]
        ratios = getattr(scheduler, "sigmas", None)
        if ratios is None or len(ratios) - len(times) not in (0, 1):
            return _falling(self.level(t) for t in times)
        pairs = zip(times, ratios, strict=False)
        return _falling(Level(t, *self._alpha_sigma(float(ratio))) for t, ratio in pairs)

    def level(self, timestep: float) -> Level:
        """Return the level of a training timestep; for samplers of Karras et al. that is log(sigma) / 4."""
        scheduler = self._pipeline.scheduler
        if self._kind == "edm":
            return Level(timestep, *self._alpha_sigma(math.exp(4 * timestep)))
        if self._kind != "flow":
            return Level(timestep, *predictions.at(timestep, self._kept))
        last = scheduler.config.num_train_timesteps
        if not 0 < timestep <= last:
            raise ValueError(f"timestep {timestep} is not above 0 and at most {last}")
        return Level(timestep, *self._alpha_sigma(timestep / last))

    def start(self, seeds: Sequence[int]) -> Floats:
        """Return the states that samples of these seeds start from, as the network sees them."""
        found = [self._first([Request(self._blank, seed)], self._options).state[:1] for seed in seeds]
        return np.concatenate([self._none(), *map(self._floats, found)])

    def encode(self, images: Sequence[RGB]) -> Floats:
        """Return images as clean states. Raises ModelError for an image of another size than the samples'."""
        for image in images:
            if image.shape != (*self.size, 3):
                found = "{1} x {0}".format(*image.shape)
                raise ModelError(f"model {self._uri!r} looks into images of {self._sized}, not {found}: resize it")
        return self._coder.encode(images) if images else self._none()

    def decode(self, clean: Floats) -> list[RGB]:
        """Return clean states as images, as the pipeline itself does."""
        return self._coder.decode(clean)

    def text(self, prompts: Prompts) -> Floats | None:
        """Return the text embeddings. Raises ModelError for prompts whose embeddings differ in length."""
        found = [self._conditions(prompt).get(TEXT) for prompt in prompts]
        texts = [numbers(text)[0] for text in found if text is not None]
        if not texts:
            return None
        if len({text.shape for text in texts}) > 1:
            raise ModelError(f"model {self._uri!r}: these prompts have texts of several lengths: ask for one at a time")
        return np.stack(texts)

    def predict(self, x: Floats, level: Level, prompts: Prompts, *, text: Floats | None = None) -> Prediction:
        """Return the prediction for each state with its prompt, `ROWS` at a time."""
        conditions = self._asked(x, prompts, text)
        said = np.empty_like(x)
        for rows in self._batches(x, conditions):
            with _torch().no_grad():
                out = self._said(self._tensor(x[rows]), level, joined([conditions[row] for row in rows]))
            said[rows] = self._floats(out)
        return self._prediction(x, said, level)

    def pullback(
        self, x: Floats, level: Level, prompts: Prompts, *, text: Floats | None = None
    ) -> tuple[Prediction, Pull]:
        """Return the prediction and its vector-Jacobian product. In half precision gradients may vanish."""
        torch = _torch()
        condition = joined(self._asked(x, prompts, text))
        inputs = [self._tensor(x).requires_grad_()]
        if (words := condition.get(TEXT)) is not None:
            condition[TEXT] = words.detach().clone().requires_grad_()
            inputs.append(condition[TEXT])
        with torch.enable_grad():
            out = self._said(inputs[0], level, condition)
        of_eps, of_x0 = self._shares(level)

        def pull(*, eps: Floats | None = None, x0: Floats | None = None) -> Gradients:
            none = np.zeros_like(x)
            eps, x0 = (none if eps is None else eps), (none if x0 is None else x0)
            weight = self._tensor(np.float32(of_eps.said) * eps + np.float32(of_x0.said) * x0).to(out.dtype)
            found = torch.autograd.grad(out, inputs, weight, retain_graph=True, materialize_grads=True)
            own = np.float32(of_eps.state) * eps + np.float32(of_x0.state) * x0
            return Gradients(own + self._floats(found[0]), numbers(found[1]) if len(found) > 1 else None)

        return self._prediction(x, self._floats(out.detach()), level), pull

    def attention(self, x: Floats, level: Level, prompts: Prompts) -> dict[str, Floats]:
        """Return by layer what each place attends to in the text, a mean of heads; all rows are one batch."""
        maps: dict[str, Floats] = {}
        condition = joined(self._asked(x, prompts, None))
        with _torch().no_grad(), _attending(self._network, maps):
            self._said(self._tensor(x), level, condition)
        return maps

    def _first(self, requests: Sequence[Request], options: Options) -> Call:
        """Return the first call of the network for samples."""
        call = first_call(self._network, lambda: self._draw(requests, options))
        if call is None:
            raise self._refusal("samples are drawn without it")
        return call

    def _fed(self, request: Request) -> "Tensor":
        """Return what the pipeline hands to its sampler at the first step of a sample."""
        fed = first_step(self._pipeline.scheduler, lambda: self._draw([request], self._options))
        if fed is None:
            raise self._refusal("its sampler is never asked")
        return self._channels(fed[:1]).float()

    def _check(self) -> None:
        """Refuse a pipeline that hands its sampler something else than the guided output of its network."""
        request = Request(SAID if self.takes_text else None, 0)
        state = self._first([request], self._options).state[:1]
        level = Level(float(self._pipeline.scheduler.timesteps[0]), 1, 0)
        conditions = [self._drawn(request.prompt)]
        if self.guidance != 1:
            conditions.append(self._conditions(None))
        with _torch().no_grad():
            out = [self._said(state, level, condition).float() for condition in conditions]
        if out[0].shape != state.shape:
            raise self._refusal(f"it turns {list(state[0].shape)} into {list(out[0][0].shape)}")
        fed = self._fed(request)
        own = out[-1] + self.guidance * (out[0] - out[-1])
        apart = float((own - fed).norm() / fed.norm())
        if not apart <= max(self.tolerance, LEAST):
            raise self._refusal(f"its sampler gets something else than the network's output ({apart:.2g} apart)")

    def _drawn(self, prompt: str | None) -> Condition:
        """Return the condition under which samples of a prompt are drawn, but for guidance."""
        options = replace(self._options, guidance=1.0) if self._guides else self._options
        return self._first([Request(prompt, 0)], options).condition

    def _conditioned(self, prompt: str | None) -> Condition:
        """Return the condition of a prompt; of None that which guidance starts from."""
        drawn = self._drawn(self._blank if prompt is None else prompt)
        if prompt is not None or not self._guides:
            return drawn
        both = self._first([Request(self._blank, 0)], replace(self._options, guidance=2.0)).condition
        return max((row_of(both, 0), row_of(both, 1)), key=lambda half: apart(half, drawn))

    def _can_guide(self) -> bool:
        """Say whether the pipeline asks twice a step if told to; one that learnt its guidance never does."""
        if "guidance_scale" not in self._parameters:
            return False
        return len(self._first([Request(self._blank, 0)], replace(self._options, guidance=2.0)).state) == 2

    def _scale(self) -> float:
        default = self._parameters["guidance_scale"].default
        return float(default if self._options.guidance is None else self._options.guidance)

    @property
    def _parameters(self) -> Mapping[str, inspect.Parameter]:
        return inspect.signature(type(self._pipeline).__call__).parameters

    def _told_kind(self) -> predictions.Kind:
        scheduler = self._pipeline.scheduler
        name, says = type(scheduler).__name__, scheduler.config.get("prediction_type", "epsilon")
        if name.startswith("FlowMatch") or says == FLOWS or scheduler.config.get("use_flow_sigmas"):
            return "flow"
        if hasattr(scheduler, "precondition_inputs") and says == "epsilon":
            return "edm"
        if not hasattr(scheduler, "alphas_cumprod") or says not in KINDS:
            raise self._refusal(f"byrote does not know what it predicts ({name}, {says})")
        return KINDS[says]

    def _divided(self, seen: float) -> float:
        """Return by what the pipeline divides timesteps before its network sees them: 1, or 1000 in Flux."""
        told = float(self._pipeline.scheduler.timesteps[0])
        found = [by for by in (1.0, 1000.0) if math.isclose(seen * by, told, rel_tol=0.01, abs_tol=1e-6)]
        if not found:
            raise self._refusal(f"its network is told {seen:.6g} at timestep {told:.6g}")
        return found[0]

    def _shaped(self, state: "Tensor") -> tuple[int, int, int]:
        if not self._packed:
            channels, height, width = state.shape[1:]
            return channels, height, width
        tokens, values = state.shape[1:]
        options = self._options
        ratio = (options.height or 1) / (options.width or 1)
        height = round(math.sqrt(tokens * ratio))
        return values // 4, 2 * height, 2 * (tokens // height)

    @cached_property
    def _kept(self) -> list[float]:
        kept: list[float] = self._pipeline.scheduler.alphas_cumprod.double().tolist()
        return kept

    def _alpha_sigma(self, ratio: float) -> tuple[float, float]:
        """Return alpha and sigma of a level from what schedulers call sigma."""
        if self._kind == "flow":
            return 1 - ratio, ratio
        return predictions.preserving(ratio, data=self._data if self._kind == "edm" else 1.0)

    @property
    def _data(self) -> float:
        return float(self._pipeline.scheduler.config.get("sigma_data", 1.0))

    def _shares(self, level: Level) -> tuple[predictions.Shares, predictions.Shares]:
        said = predictions.mixture(self._kind, level.alpha, level.sigma, data=self._data)
        return predictions.shares(said, level.alpha, level.sigma)

    def _prediction(self, x: Floats, said: Floats, level: Level) -> Prediction:
        return Prediction(*(predictions.shared(x, said, of) for of in self._shares(level)))

    def _said(self, state: "Tensor", level: Level, condition: Condition) -> "Tensor":
        """Call the network."""
        times = _torch().full((len(state),), level.timestep, dtype=self._dtype, device=state.device)
        times = times if self._divisor == 1 else times / self._divisor
        named = {_state_name(self._network): state, "timestep": times, "return_dict": False}
        return self._channels(self._network(**condition, **named)[0])

    def _channels(self, said: "Tensor") -> "Tensor":
        """Leave the learnt variance out, where there is one: as many channels again."""
        return said if self._packed else said[:, : self.shape[0]]

    def _asked(self, x: Floats, prompts: Prompts, text: Floats | None) -> list[Condition]:
        """Return the condition of each row."""
        if x.shape != (len(prompts), *self.shape):
            raise ValueError(f"{len(prompts)} prompts want states {[len(prompts), *self.shape]}, not {list(x.shape)}")
        if not self.takes_text and any(prompt is not None for prompt in prompts):
            raise ModelError(f"model {self._uri!r} takes no prompt: ask it with None")
        conditions = [self._conditions(prompt) for prompt in prompts]
        if text is None:
            return conditions
        return [self._replaced(condition, text[row]) for row, condition in enumerate(conditions)]

    def _replaced(self, condition: Condition, text: Floats) -> Condition:
        own = condition.get(TEXT)
        if own is None or tuple(own.shape[1:]) != text.shape:
            wanted = "none" if own is None else list(own.shape[1:])
            raise ValueError(f"text embeddings must be {wanted}, not {list(text.shape)}")
        return condition | {TEXT: _torch().from_numpy(text)[None].to(own)}

    def _batches(self, x: Floats, conditions: Sequence[Condition]) -> Iterator[list[int]]:
        texts = [condition.get(TEXT) for condition in conditions]
        return alike([row if text is None else text for row, text in zip(x, texts, strict=True)], ROWS)

    def _tensor(self, x: Floats) -> "Tensor":
        rows = predictions.packed(x) if self._packed else x
        found: Tensor = _torch().from_numpy(np.ascontiguousarray(rows))
        return found.to(self._pipeline._execution_device, self._network.dtype)

    def _floats(self, rows: "Tensor") -> Floats:
        found = numbers(rows)
        return predictions.unpacked(found, *self.shape[1:]) if self._packed else found

    def _none(self) -> Floats:
        return np.empty((0, *self.shape), np.float32)

    @property
    def _sized(self) -> str:
        return f"{self.size[1]} x {self.size[0]}"

    def _refusal(self, why: str) -> ModelError:
        kind = type(self._pipeline).__name__
        return ModelError(f"model {self._uri!r}: the denoiser of a {kind} cannot be called from outside: {why}")


def denoising(pipeline: Any) -> bool:
    """Say whether a pipeline has a network of noise levels: a consistency model, which jumps to x0, is none."""
    jumps = type(pipeline).__name__.startswith("Consistency")
    return not jumps and any(getattr(pipeline, name, None) is not None for name in NETWORKS)


def _network(uri: str, pipeline: Any) -> Any:
    found = [part for part in (getattr(pipeline, name, None) for name in NETWORKS) if part is not None]
    if not found:
        raise ModelError(f"model {uri!r}: a {type(pipeline).__name__} has no denoiser to call")
    return found[0]


def _falling(levels: Iterable[Level]) -> list[Level]:
    """Keep the levels that have less noise than all before, by a thousandth of it at least."""
    kept: list[Level] = []
    for level in levels:
        if not kept or level.alpha * kept[-1].sigma > 1.001 * kept[-1].alpha * level.sigma:
            kept.append(level)
    return kept


def _state_name(network: Any) -> str:
    """Return what the network calls its state: sample or hidden_states, its first argument."""
    return list(inspect.signature(type(network).forward).parameters)[1]


@contextmanager
def _attending(network: Any, maps: dict[str, Floats]) -> Iterator[None]:
    """Keep what the layers of cross-attention attend to while the network is called."""
    hooks = []
    for name, layer in network.named_modules():
        if getattr(layer, "is_cross_attention", False) and getattr(layer, "added_kv_proj_dim", None) is None:

            def look(layer: Any, args: Any, named: Condition, _: Any, name: str = name) -> None:
                given = by_name(type(layer).forward, layer, args, named)
                maps[name] = numbers(_attended(layer, given))

            hooks.append(layer.register_forward_hook(look, with_kwargs=True))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _attended(layer: Any, given: Condition) -> "Tensor":
    """Return the mean over heads of a layer's attention, [rows, places, tokens]."""
    places, text, mask = given["hidden_states"], given[TEXT], given.get("attention_mask")
    text = layer.norm_encoder_hidden_states(text) if layer.norm_cross else text
    mask = layer.prepare_attention_mask(mask, text.shape[1], len(places)) if mask is not None else None
    queries, keys = (layer.head_to_batch_dim(rows) for rows in (layer.to_q(places), layer.to_k(text)))
    weights: Tensor = layer.get_attention_scores(queries, keys, mask)
    return weights.view(len(places), layer.heads, *weights.shape[1:]).mean(1)


def _torch() -> Any:
    import torch

    return torch
