"""Chooses the next token by logits: what a request forbids, its samplers in their order, and the draw.

docs/sampling.md has the order and the parameters. The samplers are functions (filters.py, penalties.py) and two small
classes (mirostat.py, adaptive_p.py). The Sampler here has the state that they need of a text: its tokens and its random
numbers.
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
from pyinfer.sampling.adaptive_p import AdaptiveP
from pyinfer.sampling.filters import (
    MIN_TEMPERATURE,
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
from pyinfer.sampling.mirostat import Mirostat
from pyinfer.sampling.params import LogitsProcessor, SamplingParams
from pyinfer.sampling.penalties import Breakers, Vocabulary, find_breakers, penalize, penalize_repeats

FIRST_CAPACITY = 256  # tokens beyond the prompt; doubled when they are used up


class SamplerVocabulary(Vocabulary, Protocol):
    """What a sampler asks of a Tokenizer."""

    eog_ids: frozenset[int]


@dataclass(frozen=True)
class Step:
    """A sampler of the chain: when it is on, what it does, and whether the likeliest candidate always stays."""

    is_on: Callable[[SamplingParams], bool]
    apply: Callable[[Sampler, Candidates], Candidates]
    keeps_likeliest: bool = False


def penalties_on(p: SamplingParams) -> bool:
    """Whether the penalties change any logit."""
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


def make_chain(params: SamplingParams) -> list[Step]:
    """The samplers that are on, in their order, without those that can't change the choice."""
    if params.mirostat:
        return [SCALE]
    steps = [STEPS[name] for name in params.samplers if name in STEPS and STEPS[name].is_on(params)]
    if SCALE in steps and is_greedy(params):
        del steps[steps.index(SCALE) + 1 :]
        while len(steps) > 1 and steps[-2].keeps_likeliest:
            del steps[-2]
    return steps


def is_greedy(params: SamplingParams) -> bool:
    """Whether the temperature leaves the likeliest token only."""
    return params.temperature < MIN_TEMPERATURE and params.dynatemp_range == 0


def is_fixed(params: SamplingParams) -> bool:
    """Whether the temperature is the same for all candidates and leaves more than the likeliest token."""
    return params.temperature >= MIN_TEMPERATURE and params.dynatemp_range == 0


class Sampler:
    """Choose the tokens of one text, one after the other.

    - `params`: the request's parameters.
    - `prompt`: the tokens before, which penalties and logits processors see as well.
    - `tokenizer`: its vocabulary gives the range of ids, end tokens, and the breakers of DRY.

    Raises ParameterError where params has a token id that the tokenizer does not have.

        sampler = Sampler(SamplingParams(seed=1), prompt, tokenizer)
        choice = sampler.sample(logits)
    """

    params: SamplingParams

    def __init__(self, params: SamplingParams, prompt: Sequence[int], tokenizer: SamplerVocabulary) -> None:
        self.params = params
        self._chain = make_chain(params)
        self._chooser = make_chooser(params)
        self._temperature = 1.0  # that the draw itself applies
        if self._chain and self._chain[-1] is SCALE and self._chooser is None and is_fixed(params):
            self._temperature = params.temperature  # so that no loop of its own divides the logits
            del self._chain[-1]
        # Python's generator: for a seed it gives the same numbers in every version
        self._random = random.Random(None if params.seed is None else int(params.seed))
        self._n_tokens = len(prompt)
        self._tokens = np.empty(len(prompt) + FIRST_CAPACITY, np.int64)
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
        """The tokens of the prompt and all later ones: int64 [n], read-only."""
        tokens = self._tokens[: self._n_tokens]
        tokens.flags.writeable = False
        return tokens

    def accept(self, token: int) -> None:
        """Add a token to the text that was not drawn here."""
        if self._n_tokens == len(self._tokens):
            self._tokens = np.concatenate([self._tokens, np.empty_like(self._tokens)])
        self._tokens[self._n_tokens] = token
        self._n_tokens += 1

    def take_back(self) -> None:
        """Remove the last token from the text: the caller does not use it."""
        self._n_tokens -= 1

    def fork(self) -> Sampler:
        """Copy the sampler; the copy continues on its own, and draws the random numbers that this one would draw."""
        other = copy.copy(self)
        other._tokens = self._tokens.copy()
        other._chooser, other._random = copy.copy(self._chooser), copy.copy(self._random)
        return other

    def sample(
        self, logits: NDArray[np.float32], mask: NDArray[np.uint32] | None = None, banned: Iterable[int] = ()
    ) -> Choice:
        """Choose the next token and add it to the text.

        - `logits`: float32 [n_vocab]; they stay as they are.
        - `mask` (None: all): uint32 [ceil(n_vocab / 32)], the tokens that a guide allows, the least significant bit
          first.
        - `banned` (none): ids that may not come now, such as end tokens.

        Returns the token, with log-probabilities where the parameters ask for them. Raises ModelError for logits that
        are no numbers; ParameterError where a logits processor fails, and where no token is left.
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
        """The tokens that may come, with their logits after processors and bias."""
        banned_now = np.fromiter(banned, np.int64)
        logits = raw
        for i, process in enumerate(self.params.logits_processors):
            logits = run_processor(f"logits_processors[{i}]", process, self.tokens, logits.copy())
        if len(self._bias_ids) or len(self._banned) or len(banned_now):
            logits = logits.copy() if logits is raw else logits
            logits[self._bias_ids] += self._bias
            logits[self._banned] = -np.inf
            logits[banned_now] = -np.inf
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
        if self._chooser is not None:
            return self._chooser.choose(candidates, self._random.random())
        if len(candidates.ids) == 1:
            return int(candidates.ids[0])
        return int(candidates.ids[draw(candidates, self._random.random(), self._temperature)])

    def _recent(self, window: int) -> NDArray[np.int64]:
        """The last `window` tokens; all for a negative window."""
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


def make_chooser(params: SamplingParams) -> Mirostat | AdaptiveP | None:
    """The sampler with state that draws the token itself, if there is one."""
    if params.mirostat:
        return Mirostat(params.mirostat_tau, params.mirostat_eta)
    if params.adaptive_target >= 0 and "adaptive_p" in params.samplers:
        return AdaptiveP(params.adaptive_target, params.adaptive_decay)
    return None


def derived_seed(seed: int, index: int) -> int:
    """A seed that depends on both numbers, and is the same on every machine."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{index}".encode()).digest()[:8], "little")


def check_in_vocabulary(name: str, ids: Iterable[int], n_vocab: int) -> None:
    """Raise ParameterError for a token id that the vocabulary does not have."""
    for token in ids:
        if token >= n_vocab:
            raise ParameterError(f"{name} has the token id {token}; the vocabulary has 0 to {n_vocab - 1}")


def run_processor(
    name: str, process: LogitsProcessor, tokens: NDArray[np.int64], logits: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Call a user's function and check the logits that it returns. Raises ParameterError, which names the function."""
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
