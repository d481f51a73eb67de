"""llama-cpp-python's sampling arguments as `SamplingParams`, and its lists of processors and stopping criteria."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyinfer.arguments import as_list_or_none, is_number, quoted
from pyinfer.compat.grammar import LlamaGrammar
from pyinfer.errors import ParameterError
from pyinfer.guides.guide import Guide
from pyinfer.sampling.filters import all_candidates
from pyinfer.sampling.params import SAMPLERS, SamplingParams
from pyinfer.sampling.params import LogitsProcessor as LogitsProcessor
from pyinfer.sampling.penalties import penalize

RANDOM_SEEDS = (None, -1, 0xFFFFFFFF)
NUMBERS = ("temperature", "top_k", "top_p", "min_p", "typical_p")  # arguments with special values
StoppingCriteria = Callable[[NDArray[np.int64], NDArray[np.float32]], bool]
Processors = Sequence[LogitsProcessor] | LogitsProcessor | None
Criteria = Sequence[StoppingCriteria] | StoppingCriteria | None
Grammar = LlamaGrammar | Guide | None


class MinTokensLogitsProcessor:
    """Forbid the end token until `min_tokens` tokens have followed those of the first call."""

    def __init__(self, min_tokens: int, token_eos: int) -> None:
        self.min_tokens, self.token_eos = min_tokens, token_eos
        self.prompt_tokens: int | None = None

    def __call__(self, input_ids: NDArray[np.int64], scores: NDArray[np.float32]) -> NDArray[np.float32]:
        if self.prompt_tokens is None:
            self.prompt_tokens = len(input_ids)
        if len(input_ids) - self.prompt_tokens < self.min_tokens:
            scores[self.token_eos] = -np.inf
        return scores


class LogitsProcessorList(list[LogitsProcessor]):
    """Functions of (tokens int64 [n], logits float32 [n_vocab]) that return logits; they are called in order."""

    def __call__(self, input_ids: NDArray[np.int64], scores: NDArray[np.float32]) -> NDArray[np.float32]:
        for processor in self:
            scores = processor(input_ids, scores)
        return scores


class StoppingCriteriaList(list[StoppingCriteria]):
    """Functions of (tokens int64 [n], logits float32 [n_vocab]); the text ends when one of them returns True."""

    def __call__(self, input_ids: NDArray[np.int64], logits: NDArray[np.float32]) -> bool:
        return any(criterion(input_ids, logits) for criterion in self)


def one_criterion(criteria: StoppingCriteria | Sequence[StoppingCriteria]) -> StoppingCriteria:
    """Return one function for a function or a list of them. Raises ParameterError for anything else."""
    if callable(criteria) and not isinstance(criteria, list):
        return criteria
    several = as_list_or_none(criteria)
    if several is None or not all(callable(criterion) for criterion in several):
        raise ParameterError(
            f"stopping_criteria is {quoted(criteria)}; expected a function of (tokens int64 [n], logits float32 "
            "[n_vocab]) that returns True or False, or a list of such functions"
        )
    return StoppingCriteriaList(several)


def checked_seed(seed: Any) -> int | None:
    """Return a seed as Python's int, or None. Raises ParameterError for what is neither None nor a whole number."""
    if seed is None:
        return None
    if not is_number(seed, int | np.integer):
        raise ParameterError(f"seed is {quoted(seed)}; expected None or a whole number (-1: a new one each time)")
    return int(seed)


def ending_processor(
    criteria: StoppingCriteria | Sequence[StoppingCriteria], eog_ids: frozenset[int]
) -> LogitsProcessor:
    """Return a processor that allows nothing but an end token once the criteria are met.

    Raises ParameterError if the vocabulary has no end token.
    """
    if not eog_ids:
        raise ParameterError("stopping_criteria are given; the vocabulary has no token that ends a text")
    met, end = one_criterion(criteria), min(eog_ids)

    def process(tokens: NDArray[np.int64], logits: NDArray[np.float32]) -> NDArray[np.float32]:
        if not met(tokens, logits):
            return logits
        ended = np.full_like(logits, -np.inf)
        ended[end] = 0
        return ended

    return process


def with_float32(process: LogitsProcessor) -> LogitsProcessor:
    """Convert a processor's result to float32. llama-cpp-python takes float64, lists and so on, too."""

    def converted(tokens: NDArray[np.int64], logits: NDArray[np.float32]) -> NDArray[np.float32]:
        found = process(tokens, logits)
        return found if found is None else np.asarray(found, np.float32)

    converted.__qualname__ = getattr(process, "__qualname__", type(process).__qualname__)  # for error messages
    return converted


def penalizing_processor(window: int, repetition: float, frequency: float, presence: float) -> LogitsProcessor:
    """Return a processor that applies the penalties.

    It serves mirostat: llama.cpp applies no penalties beside it, but llama-cpp-python does.
    """

    def process(tokens: NDArray[np.int64], logits: NDArray[np.float32]) -> NDArray[np.float32]:
        recent = tokens if window < 0 else tokens[max(0, len(tokens) - window) :]
        return penalize(all_candidates(logits), recent, repetition, frequency, presence).logits

    return process


def guide_of(grammar: Grammar) -> Guide | None:
    if grammar is None or isinstance(grammar, Guide):
        return grammar
    if isinstance(grammar, LlamaGrammar):
        return grammar.guide
    raise ParameterError(f"grammar is a {type(grammar).__name__}; expected a LlamaGrammar or a Guide")


def processors_of(logits_processor: Processors) -> tuple[LogitsProcessor, ...]:
    if logits_processor is None:
        return ()
    several = logits_processor if isinstance(logits_processor, Sequence) else (logits_processor,)
    return tuple(with_float32(process) if callable(process) else process for process in several)


def stops_of(stop: Any) -> Any:
    """Leave out empty texts, which llama-cpp-python accepts. SamplingParams refuses what is no list."""
    if stop is None:
        return ()
    texts = [stop] if isinstance(stop, str) else stop
    return [text for text in texts if text != ""] if isinstance(texts, Sequence) else stop


def bias_of(logit_bias: Any) -> Any:
    """Convert ids that are texts, as in JSON, to numbers. SamplingParams refuses other values."""
    if not isinstance(logit_bias, Mapping):
        return {} if logit_bias is None else logit_bias
    return {int(t) if isinstance(t, str) and t.isdecimal() else t: bias for t, bias in logit_bias.items()}


def sampling_params(given: Mapping[str, Any], **others: Any) -> SamplingParams:
    """Return the SamplingParams for llama-cpp-python's arguments, whose special values it translates.

    - `given`: the arguments of one of `Llama`'s methods; those that are not for sampling are ignored. All methods have
      the samplers' arguments, `logits_processor` and `grammar`; some have `logit_bias`, `seed`, `stop`, `max_tokens`.
    - `others`: fields of SamplingParams, as they are.

    Raises ParameterError as SamplingParams does.
    """
    for name in NUMBERS:
        if not is_number(given[name], int | float | np.integer | np.floating):
            raise ParameterError(f"{name} is {quoted(given[name])}; expected a number")
    temperature, mirostat_mode = given["temperature"], given["mirostat_mode"]
    seed, max_tokens = given.get("seed"), given.get("max_tokens")
    if max_tokens is not None and not is_number(max_tokens, int | np.integer):
        raise ParameterError(f"max_tokens is {quoted(max_tokens)}; expected None or a whole number")
    if not is_number(mirostat_mode, int | np.integer) or mirostat_mode not in (0, 1, 2):
        raise ParameterError(f"mirostat_mode is {quoted(mirostat_mode)}; expected 0 (off), 1 or 2")
    if not is_number(given["tfs_z"], int | float | np.number) or given["tfs_z"] != 1.0:
        warnings.warn("ignored, as llama.cpp does: tfs_z", stacklevel=4)
    if mirostat_mode == 1:
        warnings.warn("mirostat_mode is 1; mirostat 2 is used", stacklevel=4)
    mirostat = mirostat_mode > 0 and temperature != 0
    raw = temperature < 0
    # at temperature 0 llama-cpp-python takes the likeliest penalized token; below 0 it samples from penalized logits
    samplers = SAMPLERS if temperature > 0 else ("penalties",) if raw else ("penalties", "temperature")
    penalties = given["repeat_penalty"], given["frequency_penalty"], given["presence_penalty"]
    processors = processors_of(given["logits_processor"])
    if mirostat and not raw and penalties != (1, 0, 0):
        processors += (penalizing_processor(others["repetition_window"], *penalties),)
    return SamplingParams(
        temperature=1.0 if raw or mirostat else temperature,
        top_k=max(0, given["top_k"]),
        top_p=min(1.0, given["top_p"]),
        min_p=max(0.0, given["min_p"]),
        typical_p=min(1.0, given["typical_p"]),
        repetition_penalty=penalties[0],
        frequency_penalty=penalties[1],
        presence_penalty=penalties[2],
        samplers=samplers,
        mirostat=mirostat and not raw,
        mirostat_tau=given["mirostat_tau"],
        mirostat_eta=given["mirostat_eta"],
        logits_processors=processors,
        guide=guide_of(given["grammar"]),
        logit_bias=bias_of(given.get("logit_bias")),
        seed=None if seed in RANDOM_SEEDS else seed,
        stop=stops_of(given.get("stop")),
        max_tokens=None if max_tokens is None or max_tokens <= 0 else max_tokens,
        **others,
    )
