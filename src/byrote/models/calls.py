"""The calls of a network by its pipeline: what it is given, and how that is taken apart and laid together again."""

import inspect
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import wraps
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

Condition = dict[str, Any]


class Call(NamedTuple):
    """What a pipeline gives its network at the first step."""

    state: "Tensor"
    timestep: float
    dtype: Any
    condition: Condition


class Enough(Exception):  # stops a pipeline; nobody else sees it
    pass


def first_call(network: Any, draw: Callable[[], object]) -> Call | None:
    """Start a pipeline as for samples and stop it where it first calls its network; None where it never does."""
    given: list[Condition] = []

    def look(_: Any, args: tuple[Any, ...], named: Condition) -> None:
        given.append(by_name(type(network).forward, network, args, named))
        raise Enough

    hook = network.register_forward_pre_hook(look, with_kwargs=True)
    try:
        with suppress(Enough):
            draw()
    finally:
        hook.remove()
    return _call(given[0]) if given else None


def first_step(scheduler: Any, draw: Callable[[], object]) -> "Tensor | None":
    """Start a pipeline as for samples and stop it where it first asks its sampler; return what that would get."""
    step, found = scheduler.step, []

    @wraps(step)
    def stop(*args: Any, **named: Any) -> None:
        found.append(by_name(type(scheduler).step, scheduler, args, named)["model_output"])
        raise Enough

    scheduler.step = stop
    try:
        with suppress(Enough):
            draw()
    finally:
        vars(scheduler).pop("step", None)  # drawing may have taken it away already
    return found[0].clone() if found else None


def by_name(function: Any, owner: Any, args: tuple[Any, ...], named: Condition) -> Condition:
    """Return the arguments of a method's call by their names."""
    return dict(inspect.signature(function).bind(owner, *args, **named).arguments)


def mapped(tree: Any, change: Callable[["Tensor"], "Tensor"]) -> Any:
    """Return a condition with each of its tensors changed."""
    if isinstance(tree, dict):
        return {key: mapped(value, change) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(mapped(value, change) for value in tree)
    return change(tree) if isinstance(tree, import_module("torch").Tensor) else tree


def row_of(condition: Condition, row: int) -> Condition:
    """Return one row of a condition of two; what has not two rows is shared by both."""
    kept: Condition = mapped(condition, lambda t: t[row : row + 1] if t.ndim and len(t) == 2 else t)
    return kept


def joined(conditions: Sequence[Condition]) -> Condition:
    """Lay conditions of one row each above each other; what has not one row is shared by all."""

    def join(parts: Sequence[Any]) -> Any:
        first = parts[0]
        if isinstance(first, dict):
            return {key: join([part[key] for part in parts]) for key in first}
        if isinstance(first, list | tuple):
            return type(first)(join(column) for column in zip(*parts, strict=True))
        one = isinstance(first, import_module("torch").Tensor) and first.ndim and len(first) == 1
        return import_module("torch").cat(list(parts)) if one else first

    whole: Condition = join(conditions)
    return whole


def apart(a: Condition, b: Condition) -> float:
    """Return the largest difference of any number in two conditions of one shape."""
    tensors: tuple[list[Tensor], list[Tensor]] = ([], [])
    for tree, found in zip((a, b), tensors, strict=True):
        mapped(tree, lambda tensor, found=found: found.append(tensor) or tensor)  # type: ignore[misc]
    return max((_difference(one, other) for one, other in zip(*tensors, strict=True)), default=0.0)


def _difference(a: "Tensor", b: "Tensor") -> float:
    return float((a.double() - b.double()).abs().max()) if a.shape == b.shape else math.inf


def _call(given: Condition) -> Call:
    """Part the arguments of a network: its first is the state, and one is called timestep."""
    torch = import_module("torch")
    for name in ("self", "return_dict"):
        given.pop(name, None)
    state, timestep = given.pop(next(iter(given))), torch.as_tensor(given.pop("timestep"))
    dtype = timestep.dtype if timestep.dtype in (torch.float16, torch.bfloat16) else torch.float32
    return Call(state.clone(), float(timestep.flatten()[0]), dtype, mapped(given, lambda tensor: tensor.clone()))
