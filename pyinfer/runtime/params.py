"""How tokens are chosen, and when to stop."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyinfer.errors import ParameterError

FLOAT_RANGES = {  # name: least, greatest, how errors say it
    "temperature": (0.0, math.inf, "a number of at least 0 (0: the likeliest token)"),
    "top_p": (0.0, 1.0, "a number from 0 to 1 (1: off)"),
    "min_p": (0.0, 1.0, "a number from 0 to 1 (0: off)"),
    "repetition_penalty": (1e-6, math.inf, "a number above 0 (1: off)"),
}
INT_RANGES = {
    "top_k": (0, None, "a whole number of at least 0 (0: off)"),
    "repetition_window": (0, None, "a whole number of at least 0"),
    "seed": (0, 2**64 - 1, "None or a whole number from 0 to 2**64 - 1"),
    "max_tokens": (1, None, "None or a whole number of at least 1"),
}
OPTIONAL = ("seed", "max_tokens")


@dataclass(frozen=True)
class SamplingParams:
    """How tokens are chosen, and when to stop. The defaults are llama.cpp's.

    temperature: 0 takes the likeliest token, whatever the other parameters say (but for the penalty).
    top_k: keep the k likeliest tokens (0: all). top_p: keep the fewest likeliest tokens whose probabilities add up to
    p (1: all; at least one stays). min_p: keep tokens at least p times as likely as the likeliest (0: all).
    repetition_penalty: divide positive logits of tokens among the last `repetition_window` (prompt included), multiply
    negative ones (1: off). seed: the same seed gives the same tokens; None: another each time.
    stop: end before the first of these texts. max_tokens: end after so many (None: when the context is full).
    Raises ParameterError with the name, the value and what is allowed.
    """

    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    repetition_penalty: float = 1.0
    repetition_window: int = 64
    seed: int | None = None
    stop: str | Sequence[str] = ()
    max_tokens: int | None = None
    min_tokens: int = 0
    stop_token_ids: Sequence[int] = ()
    ignore_eos: bool = False
    n: int = 1
    best_of: int | None = None
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    logits_processors: Sequence[Callable[[NDArray[np.int64], NDArray[np.float32]], NDArray[np.float32]]] = ()
    guide: Any = None

    def __post_init__(self) -> None:
        for name, (least, greatest, allowed) in FLOAT_RANGES.items():
            value = getattr(self, name)
            fits = _is_number(value, int | float | np.integer | np.floating) and least <= value <= greatest
            if not fits or math.isinf(value):
                raise ParameterError(f"{name} is {value!r}; expected {allowed}")
        for name, (first, last, allowed) in INT_RANGES.items():
            value = getattr(self, name)
            if value is None and name in OPTIONAL:
                continue
            if not _is_number(value, int | np.integer) or value < first or (last is not None and value > last):
                raise ParameterError(f"{name} is {value!r}; expected {allowed}")
        stops = (self.stop,) if isinstance(self.stop, str) else self.stop
        if not isinstance(stops, Sequence) or not all(isinstance(text, str) and text for text in stops):
            raise ParameterError(f"stop is {self.stop!r}; expected a text or a list of texts, none of them empty")
        object.__setattr__(self, "stop", tuple(stops))


def _is_number(value: Any, kinds: Any) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)
