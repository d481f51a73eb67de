"""`SamplingParams`: how a request's tokens are chosen, when its text ends, and what is reported. Checked when made."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyinfer.arguments import as_list_or_none, check_float, check_integer, finite_float, is_number, quoted
from pyinfer.errors import ParameterError

LogitsProcessor = Callable[[NDArray[np.int64], NDArray[np.float32]], NDArray[np.float32]]

SAMPLERS = (
    "penalties",
    "dry",
    "top_n_sigma",
    "top_k",
    "typ_p",
    "top_p",
    "min_p",
    "xtc",
    "temperature",
    "adaptive_p",
)
MAX_BIAS = 1e9  # added to a logit, so that sums stay far from float32's limit
MAX_SAMPLES = 1024  # texts of one prompt: each is a request, and all are made before the first one runs

# The range of each number: first, last (None: no bound), its words in errors. None is allowed where it is the default.
FLOATS = {
    "temperature": (0.0, math.inf, "a number of at least 0 (0: the likeliest token)"),
    "dynatemp_range": (0.0, math.inf, "a number of at least 0 (0: off)"),
    "dynatemp_exponent": (0.0, math.inf, "a number of at least 0"),
    "top_p": (0.0, 1.0, "a number from 0 to 1 (1: off)"),
    "min_p": (0.0, 1.0, "a number from 0 to 1 (0: off)"),
    "typical_p": (0.0, 1.0, "a number from 0 to 1 (1: off)"),
    "top_n_sigma": (-1.0, math.inf, "a number above 0, or -1 (off)"),
    "xtc_probability": (0.0, 1.0, "a number from 0 to 1 (0: off)"),
    "xtc_threshold": (0.0, 1.0, "a number from 0 to 1 (above 0.5: off)"),
    "dry_multiplier": (0.0, math.inf, "a number of at least 0 (0: off)"),
    "dry_base": (1.0, math.inf, "a number of at least 1"),
    "repetition_penalty": (1e-6, math.inf, "a number above 0 (1: off)"),
    "frequency_penalty": (-MAX_BIAS, MAX_BIAS, "a number from -1e9 to 1e9 (0: off)"),
    "presence_penalty": (-MAX_BIAS, MAX_BIAS, "a number from -1e9 to 1e9 (0: off)"),
    "mirostat_tau": (0.0, math.inf, "a number of at least 0 (bits of surprise)"),
    "mirostat_eta": (0.0, math.inf, "a number of at least 0"),
    "adaptive_target": (-1.0, 1.0, "a number from 0 to 1, or -1 (off)"),
    "adaptive_decay": (0.0, 0.99, "a number from 0 to 0.99"),
}
INTEGERS = {
    "top_k": (0, None, "a whole number of at least 0 (0: off)"),
    "dry_allowed_length": (0, None, "a whole number of at least 0"),
    "dry_window": (-1, None, "a whole number of at least 0 (0: off), or -1 (all tokens)"),
    "repetition_window": (-1, None, "a whole number of at least 0 (0: off), or -1 (all tokens)"),
    "seed": (0, 2**64 - 1, "None or a whole number from 0 to 2**64 - 1"),
    "min_tokens": (0, None, "a whole number of at least 0"),
    "max_tokens": (1, None, "None or a whole number of at least 1"),
    "n": (1, MAX_SAMPLES, f"a whole number from 1 to {MAX_SAMPLES}"),
    "best_of": (1, MAX_SAMPLES, f"None or a whole number from 1 to {MAX_SAMPLES}"),
    "logprobs": (0, None, "None or a whole number of at least 0"),
    "prompt_logprobs": (0, None, "None or a whole number of at least 0"),
}
TEXTS = {  # the largest number of texts, and of characters in each
    "stop": (256, 1024),
    "dry_sequence_breakers": (64, 40),
}


@dataclass(frozen=True)
class SamplingParams:
    """Say how tokens are chosen, when a text ends, and what is reported.

    Names and defaults are llama.cpp's. In brackets: the default, then the range. docs/sampling.md has the order in
    which samplers act.

    Temperature:

    - `temperature` (0.8; at least 0): divides the logits; 0 leaves the likeliest token only.
    - `dynatemp_range` (0.0; at least 0): the temperature moves within temperature ± range, up with the candidates'
      entropy; 0: off.
    - `dynatemp_exponent` (1.0; at least 0): the power of the entropy's share of its maximum, by which it moves.

    Filters, which leave a part of the tokens:

    - `top_k` (40; at least 0): the k likeliest; 0: off.
    - `top_p` (0.95; 0 to 1): the fewest likeliest whose probabilities add up to p; 1: off.
    - `min_p` (0.05; 0 to 1): those at least p times as probable as the likeliest; 0: off.
    - `typical_p` (1.0; 0 to 1): the fewest whose probabilities add up to more than p, those first whose surprise is
      nearest to the entropy; 1: off.
    - `top_n_sigma` (-1.0; above 0, or -1): those whose logit is at most n standard deviations below the largest;
      -1: off.
    - `xtc_probability` (0.0; 0 to 1): how often XTC acts; 0: off.
    - `xtc_threshold` (0.1; 0 to 1): of the tokens with at least this probability, XTC leaves the least likely one;
      above 0.5: off.

    Penalties on earlier tokens:

    - `repetition_penalty` (1.0; above 0): divides the logits of recent tokens where they are above 0, and multiplies
      them elsewhere; 1: off.
    - `frequency_penalty` (0.0; -1e9 to 1e9): subtracted from the logit once for each recent occurrence; 0: off.
    - `presence_penalty` (0.0; -1e9 to 1e9): subtracted once from the logit of a recent token; 0: off.
    - `repetition_window` (64; at least 0, or -1): how many tokens are recent, the prompt included; 0: none, -1: all.
    - `dry_multiplier` (0.0; at least 0): DRY lowers the logit of a token that would extend a repetition of n tokens by
      multiplier * base ** (n - allowed length); 0: off.
    - `dry_base` (1.75; at least 1): the base of that power.
    - `dry_allowed_length` (2; at least 0): tokens of the shortest repetition that is penalized.
    - `dry_window` (-1; at least 0, or -1): how many tokens DRY looks back; 0: off, -1: all.
    - `dry_sequence_breakers` (newline, `:`, `"` and `*`; at most 64 texts of at most 40 characters): texts that a
      repetition does not extend across.

    Samplers that steer by the tokens chosen before:

    - `mirostat` (False): use mirostat 2; then only the temperature acts beside it.
    - `mirostat_tau` (5.0; at least 0): the mean surprise that it aims at, in bits.
    - `mirostat_eta` (0.1; at least 0): how fast it corrects the bound of surprise.
    - `adaptive_target` (-1.0; 0 to 1, or -1): the mean probability of chosen tokens that adaptive-p aims at; -1: off.
    - `adaptive_decay` (0.9; 0 to 0.99): the decay of that mean a token.

    Tokens by id:

    - `logit_bias` (none): what is added to the logits, as {id: number from -1e9 to 1e9} or pairs; -inf bans the token.
    - `banned_tokens` (none): ids that are never chosen.
    - `allowed_tokens` (None; at least one id): the only ids that may be chosen; None: all.

    The chain and the draw:

    - `samplers` (all of `SAMPLERS`): the names of the samplers that act, in their order.
    - `seed` (None; 0 to 2**64 - 1): the same seed and logits give the same tokens, on every machine; None: random.

    The end of the text:

    - `stop` (none; at most 256 texts of at most 1024 characters): texts that end it; they are no part of it.
    - `stop_token_ids` (none): ids that end it; they are no part of it.
    - `ignore_eos` (False): never choose the model's end tokens.
    - `min_tokens` (0; at least 0): before so many tokens, no end token, stop text or stop token ends it.
    - `max_tokens` (None; at least 1): after so many tokens it ends; None: at the end of the context.

    Several texts, reports and hooks:

    - `n` (1; 1 to 1024): texts of one prompt.
    - `best_of` (None; n to 1024): make so many texts and return the n likeliest.
    - `logprobs` (None; at least 0): report each token's log-probability and so many likeliest tokens; None: nothing.
    - `prompt_logprobs` (None; at least 0): the same of the prompt's tokens.
    - `logits_processors` (none): functions of (all tokens so far int64 [n], logits float32 [n_vocab]) that return
      logits.
    - `guide` (None): a `Guide`, which the text follows.

    Raises ParameterError, which says what a parameter is and what is allowed. Token ids are checked against the
    vocabulary when a request is submitted. Lists become tuples, so that parameters can be compared, hashed and shared.

        SamplingParams(temperature=0.7, top_p=0.9, stop="\\n\\n", max_tokens=200, seed=1)
    """

    temperature: float = 0.8
    dynatemp_range: float = 0.0
    dynatemp_exponent: float = 1.0
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    typical_p: float = 1.0
    top_n_sigma: float = -1.0
    xtc_probability: float = 0.0
    xtc_threshold: float = 0.1
    dry_multiplier: float = 0.0
    dry_base: float = 1.75
    dry_allowed_length: int = 2
    dry_window: int = -1
    dry_sequence_breakers: str | Sequence[str] = ("\n", ":", '"', "*")
    repetition_penalty: float = 1.0
    repetition_window: int = 64
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    mirostat: bool = False
    mirostat_tau: float = 5.0
    mirostat_eta: float = 0.1
    adaptive_target: float = -1.0
    adaptive_decay: float = 0.9
    logit_bias: Mapping[int, float] | Iterable[tuple[int, float]] = ()
    banned_tokens: Iterable[int] = ()
    allowed_tokens: Iterable[int] | None = None
    samplers: Sequence[str] = SAMPLERS
    seed: int | None = None
    stop: str | Sequence[str] = ()
    stop_token_ids: Iterable[int] = ()
    ignore_eos: bool = False
    min_tokens: int = 0
    max_tokens: int | None = None
    n: int = 1
    best_of: int | None = None
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    logits_processors: Sequence[LogitsProcessor] = ()
    guide: Any = None

    def __post_init__(self) -> None:
        for name, (low, high, allowed) in FLOATS.items():
            check_float(name, getattr(self, name), low, high, allowed)
        for name, (first, last, allowed) in INTEGERS.items():
            value = getattr(self, name)
            if value is not None or getattr(type(self), name) is not None:
                check_integer(name, value, first, last, allowed)
        for name in ("mirostat", "ignore_eos"):
            if not isinstance(getattr(self, name), bool | np.bool_):
                raise ParameterError(f"{name} is {quoted(getattr(self, name))}; expected True or False")
        for name, (max_texts, max_characters) in TEXTS.items():
            self._set(name, check_texts(name, getattr(self, name), max_texts, max_characters))
        for name in ("banned_tokens", "stop_token_ids"):
            self._set(name, check_ids(name, getattr(self, name)))
        if self.allowed_tokens is not None:
            allowed_tokens = check_ids("allowed_tokens", self.allowed_tokens)
            if not set(allowed_tokens) - set(self.banned_tokens):
                raise ParameterError(
                    f"allowed_tokens is {quoted(self.allowed_tokens)}; expected None or at least one id that "
                    "banned_tokens does not have"
                )
            self._set("allowed_tokens", allowed_tokens)
        self._set("logit_bias", check_bias(self.logit_bias))
        self._set("samplers", check_samplers(self.samplers))
        self._set("logits_processors", check_processors(self.logits_processors))
        if self.guide is not None and not callable(getattr(self.guide, "matcher", None)):
            raise ParameterError(f"guide is {quoted(self.guide)}; expected None or a Guide")
        self._check_together()

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def _check_together(self) -> None:
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            raise ParameterError(f"min_tokens is {self.min_tokens}; expected at most max_tokens, {self.max_tokens}")
        if self.best_of is not None and self.best_of < self.n:
            raise ParameterError(f"best_of is {self.best_of}; expected None or at least n, {self.n}")


def check_texts(name: str, value: Any, max_texts: int, max_characters: int) -> tuple[str, ...]:
    """One text or several, as a tuple. Raises ParameterError, as the checks below do."""
    texts = (value,) if isinstance(value, str) else value
    if not isinstance(texts, Sequence) or not all(isinstance(text, str) and text for text in texts):
        raise ParameterError(f"{name} is {quoted(value)}; expected a text or a list of texts, none of them empty")
    if any("\ud800" <= character <= "\udfff" for text in texts for character in text):
        raise ParameterError(f"{name} is {quoted(value)}; expected Unicode texts, without lone surrogates")
    if len(texts) > max_texts:
        raise ParameterError(f"{name} has {len(texts)} texts; expected at most {max_texts}")
    if too_long := next((text for text in texts if len(text) > max_characters), None):
        raise ParameterError(
            f"{name} has a text of {len(too_long)} characters, {quoted(too_long)}; "
            f"expected at most {max_characters} characters"
        )
    return tuple(texts)


def check_ids(name: str, value: Any) -> tuple[int, ...]:
    """Token ids in ascending order, each once."""
    ids = as_list_or_none(value)
    if ids is None or not all(is_number(i, int | np.integer) and i >= 0 for i in ids):
        raise ParameterError(f"{name} is {quoted(value)}; expected token ids, whole numbers of at least 0")
    return tuple(sorted({int(i) for i in ids}))


def check_bias(value: Any) -> tuple[tuple[int, float], ...]:
    """Pairs of a token id and the number that is added to its logit, in the order of ids."""
    allowed = "token ids with numbers from -1e9 to 1e9, or -inf, such as {42: -1.5}"
    try:
        bias = dict(value)
    except (TypeError, ValueError):
        raise ParameterError(f"logit_bias is {quoted(value)}; expected {allowed}") from None
    for token, amount in bias.items():
        is_ban = is_number(amount, float | np.floating) and amount == -math.inf
        if not (is_ban or abs(finite_float(amount)) <= MAX_BIAS) or not is_number(token, int | np.integer) or token < 0:
            raise ParameterError(f"logit_bias has {quoted(token)}: {quoted(amount)}; expected {allowed}")
    return tuple(sorted((int(token), float(amount)) for token, amount in bias.items()))


def check_samplers(value: Any) -> tuple[str, ...]:
    """Names of samplers, each once, in the order in which they act."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise ParameterError(f"samplers is {quoted(value)}; expected a list of names of {', '.join(SAMPLERS)}")
    for name in value:
        if not isinstance(name, str) or name not in SAMPLERS:
            raise ParameterError(f"samplers has {quoted(name)}; expected names of {', '.join(SAMPLERS)}")
        if list(value).count(name) > 1:
            raise ParameterError(f"samplers has {name!r} more than once; expected each name once at most")
    return tuple(value)


def check_processors(value: Any) -> tuple[LogitsProcessor, ...]:
    """Functions that change logits."""
    if not isinstance(value, Sequence) or isinstance(value, str) or not all(callable(f) for f in value):
        raise ParameterError(
            f"logits_processors is {quoted(value)}; expected a list of functions of (tokens int64 [n], logits float32 "
            "[n_vocab]) that return logits"
        )
    return tuple(value)
