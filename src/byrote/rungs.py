"""How a model is asked, from the least contrived way to the most."""

from typing import Literal, get_args

Rung = Literal["none", "users", "truncated", "paraphrase", "caption", "adversarial"]
RUNGS: tuple[Rung, ...] = get_args(Rung)
