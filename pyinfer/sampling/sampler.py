"""From logits to the next token: what a request forbids, its samplers in their order, and the draw.

docs/sampling.md has the order and the parameters. The samplers are functions (samplers.py, penalties.py) and small
objects (adaptive.py); the Sampler here holds what they need of a text: its tokens and the state of random numbers.
"""

from __future__ import annotations

import copy
import hashlib
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pyinfer import _sampling
from pyinfer.arguments import quoted
from pyinfer.errors import ModelError, ParameterError
from pyinfer.guides.masks import has_ids, with_bits
from pyinfer.sampling.filters import (
    LEAST_TEMPERATURE,
    Candidates,
    all_candidates,
    draw,
    dynamic_temperature,
    exclude_top_choices,
    keep_min_p,
    keep_top_k,
    keep_top_n_sigma,
    keep_top_p,
    keep_typical,
    scale,
)
from pyinfer.sampling.logprobs import Choice, choice_of
from pyinfer.sampling.mirostat import AdaptiveP, Mirostat
from pyinfer.sampling.params import LogitsProcessor, SamplingParams
from pyinfer.sampling.penalties import Breakers, Vocabulary, find_breakers, penalize, penalize_repeats

FIRST_ROOM = 256  # tokens; doubled when they are used up


class SamplerVocabulary(Vocabulary, Protocol):
    """What a sampler asks of a Tokenizer."""

    eog_ids: frozenset[int]


@dataclass(frozen=True)
class Step:
    """A sampler in the chain: when it does anything, what it does, and whether the likeliest candidate always stays."""

    is_on: Callable[[SamplingParams], bool]
    apply: Callable[[Sampler, Candidates], Candidates]
    keeps_likeliest: bool = False


def penalties_on(p: SamplingParams) -> bool:
    changes = p.repetition_penalty != 1 or p.frequency_penalty != 0 or p.presence_penalty != 0
    return changes and p.repetition_window != 0


STEPS = {
    "penalties": Step(penalties_on, lambda s, c: s.penalize(c)),
    "dry": Step(lambda p: p.dry_multiplier > 0 and p.dry_window != 0, lambda s, c: s.penalize_repeats(c)),
    "top_n_sigma": Step(lambda p: p.top_n_sigma > 0, lambda s, c: keep_top_n_sigma(c, s.params.top_n_sigma), True),
    "top_k": Step(lambda p: p.top_k > 0, lambda s, c: keep_top_k(c, s.params.top_k), True),
    "typ_p": Step(lambda p: p.typical_p < 1, lambda s, c: keep_typical(c, s.params.typical_p)),
    "top_p": Step(lambda p: p.top_p < 1, lambda s, c: keep_top_p(c, s.params.top_p), True),
    "min_p": Step(lambda p: p.min_p > 0, lambda s, c: keep_min_p(c, s.params.min_p), True),
    "xtc": Step(lambda p: p.xtc_probability > 0 and p.xtc_threshold <= 0.5, lambda s, c: s.exclude_top_choices(c)),
    "temperature": Step(lambda p: p.temperature != 1 or p.dynatemp_range > 0, lambda s, c: s.scale(c)),
}
SCALE = STEPS["temperature"]


def chain_of(params: SamplingParams) -> list[Step]:
    """The samplers that do anything, in their order; without those that can't change the choice."""
    if params.mirostat:
        return [SCALE]
    steps = [STEPS[name] for name in params.samplers if name in STEPS and STEPS[name].is_on(params)]
    if SCALE in steps and is_greedy(params):
        del steps[steps.index(SCALE) + 1 :]
        while len(steps) > 1 and steps[-2].keeps_likeliest:
            del steps[-2]
    return steps


def is_greedy(params: SamplingParams) -> bool:
    return params.temperature < LEAST_TEMPERATURE and params.dynatemp_range == 0


def is_fixed(params: SamplingParams) -> bool:
    return params.temperature >= LEAST_TEMPERATURE and params.dynatemp_range == 0


class Sampler:
    """Chooses the tokens of one text, one after the other.

    prompt: the tokens before, which penalties and processors see. Raises ParameterError where params has a token id
    that the tokenizer does not have.

        sampler = Sampler(SamplingParams(seed=1), prompt, tokenizer)
        choice = sampler.sample(logits)
    """

    params: SamplingParams

    def __init__(self, params: SamplingParams, prompt: Sequence[int], tokenizer: SamplerVocabulary) -> None:
        self.params = params
        self._chain = chain_of(params)
        self._adaptive = adaptive_of(params)
        self._temperature = 1.0  # of the draw
        if self._chain and self._chain[-1] is SCALE and self._adaptive is None and is_fixed(params):
            self._temperature = params.temperature  # dividing all logits would be a pass of its own
            del self._chain[-1]
        # Python's generator, as its numbers for a seed stay the same from version to version
        self._random = random.Random(None if params.seed is None else int(params.seed))
        self._n_tokens = len(prompt)
        self._tokens = np.empty(len(prompt) + FIRST_ROOM, np.int64)
        self._tokens[: len(prompt)] = prompt
        n_vocab = tokenizer.n_vocab
        bias = dict(params.logit_bias)
        for name, ids in (
            ("logit_bias", bias),
            ("banned_tokens", params.banned_tokens),
            ("allowed_tokens", params.allowed_tokens or ()),
            ("stop_token_ids", params.stop_token_ids),
        ):
            check_in_vocabulary(name, ids, n_vocab)
        self._bias_ids = np.array(list(bias), np.int64)
        self._bias = np.array(list(bias.values()), np.float32)
        never = set(params.banned_tokens) | (tokenizer.eog_ids if params.ignore_eos else set())
        self._banned = np.array(sorted(never), np.int64)
        self._allowed = None if params.allowed_tokens is None else np.array(list(params.allowed_tokens), np.int32)
        self._breakers = Breakers.none(0)
        if STEPS["dry"] in self._chain:
            self._breakers = find_breakers(tokenizer, tuple(params.dry_sequence_breakers))

    @property
    def tokens(self) -> NDArray[np.int64]:
        """The prompt and all tokens since, read-only."""
        tokens = self._tokens[: self._n_tokens]
        tokens.flags.writeable = False
        return tokens

    def accept(self, token: int) -> None:
        """Note a token that was not drawn."""
        if self._n_tokens == len(self._tokens):
            self._tokens = np.concatenate([self._tokens, np.empty_like(self._tokens)])
        self._tokens[self._n_tokens] = token
        self._n_tokens += 1

    def take_back(self) -> None:
        """Forget the last token, which was drawn for nothing."""
        self._n_tokens -= 1

    def fork(self) -> Sampler:
        """A copy that goes on by itself, with the numbers that this one would draw."""
        other = copy.copy(self)
        other._tokens = self._tokens.copy()
        other._adaptive, other._random = copy.copy(self._adaptive), copy.copy(self._random)
        return other

    def sample(
        self, logits: NDArray[np.float32], mask: NDArray[np.uint32] | None = None, banned: Iterable[int] = ()
    ) -> Choice:
        """The next token, drawn and noted.

        logits: float32 [n_vocab], which stay as they are. mask: uint32 [ceil(n_vocab / 32)], bits of the tokens that a
        guide allows, the least significant first. banned: ids that must not come now, such as ends of the text.
        Raises ModelError for logits that are no numbers; ParameterError where a logits processor fails, and where no
        token is left.
        """
        raw = np.ascontiguousarray(logits, np.float32)
        largest = raw[np.argmax(raw)]  # the first NaN, if there is one
        if not np.isfinite(largest):
            raise ModelError(f"the model computed a logit of {largest}: its weights are damaged or overflow float32")
        candidates = self._candidates(raw, mask, banned)
        for step in self._chain:
            candidates = step.apply(self, candidates)
        token = self._choose(candidates)
        self.accept(token)
        return choice_of(raw, token, self.params.logprobs)

    def _candidates(
        self, raw: NDArray[np.float32], mask: NDArray[np.uint32] | None, banned: Iterable[int]
    ) -> Candidates:
        """The tokens that may come at all, with the logits that processors and bias give them."""
        now = np.fromiter(banned, np.int64)
        logits = raw
        for i, process in enumerate(self.params.logits_processors):
            logits = processed(f"logits_processors[{i}]", process, self.tokens, logits.copy())
        if len(self._bias_ids) or len(self._banned) or len(now):
            logits = logits.copy() if logits is raw else logits
            logits[self._bias_ids] += self._bias
            logits[self._banned] = -np.inf
            logits[now] = -np.inf
        candidates = all_candidates(logits)
        if self._allowed is not None:
            bits = None if mask is None else has_ids(mask, self._allowed)
            allowed = self._allowed if bits is None else self._allowed[bits]
            candidates = Candidates(allowed, logits[allowed])
        elif mask is not None:
            candidates = Candidates(*_sampling.keep_bits(with_bits(mask, len(logits)), *candidates))
        if candidates.logits is not raw and not candidates.logits.max(initial=-np.inf) > -np.inf:
            raise ParameterError(
                "no token is left to choose from: each one is ruled out by allowed_tokens, banned_tokens, logit_bias, "
                "logits_processors, min_tokens, ignore_eos or the guide"
            )
        return candidates

    def _choose(self, candidates: Candidates) -> int:
        if self._adaptive is not None:
            return self._adaptive.choose(candidates, self._random.random())
        if len(candidates.ids) == 1:
            return int(candidates.ids[0])
        return int(candidates.ids[draw(candidates, self._random.random(), self._temperature)])

    def _recent(self, window: int) -> NDArray[np.int64]:
        first = 0 if window < 0 else max(0, self._n_tokens - window)
        return self._tokens[first : self._n_tokens]

    def penalize(self, candidates: Candidates) -> Candidates:
        p = self.params
        recent = self._recent(p.repetition_window)
        return penalize(candidates, recent, p.repetition_penalty, p.frequency_penalty, p.presence_penalty)

    def penalize_repeats(self, candidates: Candidates) -> Candidates:
        p = self.params
        recent = self._recent(p.dry_window)
        return penalize_repeats(candidates, recent, self._breakers, p.dry_multiplier, p.dry_base, p.dry_allowed_length)

    def exclude_top_choices(self, candidates: Candidates) -> Candidates:
        if self._random.random() > self.params.xtc_probability:
            return candidates
        return exclude_top_choices(candidates, self.params.xtc_threshold)

    def scale(self, candidates: Candidates) -> Candidates:
        p = self.params
        if p.dynatemp_range == 0 or p.mirostat:
            return scale(candidates, p.temperature)
        return scale(candidates, dynamic_temperature(candidates, p.temperature, p.dynatemp_range, p.dynatemp_exponent))


def adaptive_of(params: SamplingParams) -> Mirostat | AdaptiveP | None:
    """What draws the token itself, if anything does."""
    if params.mirostat:
        return Mirostat(params.mirostat_tau, params.mirostat_eta)
    if params.adaptive_target >= 0 and "adaptive_p" in params.samplers:
        return AdaptiveP(params.adaptive_target, params.adaptive_decay)
    return None


def derived_seed(seed: int, index: int) -> int:
    """A seed that depends on both, the same on every machine."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{index}".encode()).digest()[:8], "little")


def check_in_vocabulary(name: str, ids: Iterable[int], n_vocab: int) -> None:
    for token in ids:
        if token >= n_vocab:
            raise ParameterError(f"{name} has the token id {token}; the vocabulary has 0 to {n_vocab - 1}")


def processed(
    name: str, process: LogitsProcessor, tokens: NDArray[np.int64], logits: NDArray[np.float32]
) -> NDArray[np.float32]:
    """What a user's function makes of logits, checked."""
    name = f"{name} ({getattr(process, '__qualname__', type(process).__qualname__)})"
    shape = logits.shape
    try:
        result = process(tokens, logits)
    except Exception as error:
        raise ParameterError(f"{name} raised {type(error).__name__}: {error}") from error
    if not isinstance(result, np.ndarray) or result.shape != shape or result.dtype != np.float32:
        found = f"{result.dtype} {list(result.shape)}" if isinstance(result, np.ndarray) else quoted(result)
        raise ParameterError(f"{name} returned {found}; expected float32 {list(shape)}")
    largest = result.max()
    if not largest < np.inf:
        raise ParameterError(f"{name} returned a logit of {largest}; expected numbers or -inf")
    return np.ascontiguousarray(result)
