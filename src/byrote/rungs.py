"""How a model is asked, from the least contrived way to the most."""

from typing import Literal, get_args

Rung = Literal["none", "users", "truncated", "paraphrase", "caption", "adversarial"]
RUNGS: tuple[Rung, ...] = get_args(Rung)
Half = Literal["left", "right", "top", "bottom"]
HALVES: tuple[Half, ...] = get_args(Half)
"""What of a picture is hidden, for the model to fill."""
Way = Literal["none", "truncated", "paraphrase", "caption", "adversarial", "left", "right", "top", "bottom"]
WAYS: tuple[Way, ...] = get_args(Way)
"""How one picture is tried to be brought out: the rungs that are about it, and its halves."""
