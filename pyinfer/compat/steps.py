"""Texts token by token: passing, drawing, going back, saved states."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyinfer.arguments import checked_ids
from pyinfer.compat.context import LlamaState, token_list
from pyinfer.compat.sampling import (
    RANDOM_SEEDS,
    Criteria,
    Grammar,
    Processors,
    checked_seed,
    one_criterion,
    sampling_params,
)
from pyinfer.compat.vocabulary import Vocabulary
from pyinfer.errors import ParameterError
from pyinfer.guides.guide import Guide
from pyinfer.sampling.sampler import Sampler, derived_seed


class Steps(Vocabulary):
    """`Llama`'s methods for programs that have a loop of their own around `eval` and `sample`."""

    @property
    def n_tokens(self) -> int:
        """Tokens that eval, or the last text, has gone through."""
        return self._context.n_tokens

    @n_tokens.setter
    def n_tokens(self, n: int) -> None:
        self._context.truncate(n)

    @property
    def input_ids(self) -> NDArray[np.intc]:
        """The tokens, and room for those to come: int32 [n_ctx]."""
        return self._context.input_ids

    @property
    def scores(self) -> NDArray[np.float32]:
        """Logits of eval: float32 [n_ctx, n_vocab] with logits_all, else [1, n_vocab] of the last token."""
        return self._context.scores

    # private there, which other programs read all the same

    @property
    def _input_ids(self) -> NDArray[np.intc]:
        return self.input_ids[: self.n_tokens]

    @property
    def _scores(self) -> NDArray[np.float32]:
        return self.scores[: self.n_tokens]

    @property
    def eval_tokens(self) -> deque[int]:
        return deque(self._context.tokens, maxlen=self.n_ctx())

    @property
    def eval_logits(self) -> deque[list[float]]:
        rows = self.scores[: self.n_tokens].tolist()
        return deque(rows, maxlen=self.n_ctx() if self._logits_all else 1)

    def reset(self) -> None:
        """Begin an empty sequence."""
        self._context.truncate(0)

    def eval(self, tokens: Sequence[int]) -> None:
        """Pass tokens behind those so far; `scores` then has their logits. Raises ContextError if they do not fit."""
        self._context.eval(tokens)

    def sample(
        self,
        top_k: int = 40,
        top_p: float = 0.95,
        min_p: float = 0.05,
        typical_p: float = 1.0,
        temp: float = 0.80,
        repeat_penalty: float = 1.0,
        frequency_penalty: float = 0.0,
        presence_penalty: float = 0.0,
        tfs_z: float = 1.0,
        mirostat_mode: int = 0,
        mirostat_eta: float = 0.1,
        mirostat_tau: float = 5.0,
        penalize_nl: bool = True,
        logits_processor: Processors = None,
        grammar: Grammar = None,
        idx: int | None = None,
    ) -> int:
        """A token to follow those so far, or those up to position idx. penalize_nl has no effect."""
        sampler, guide = self._sampler(locals())
        mask = None if guide is None else guide.matcher(self._tokenizer).mask()
        return sampler.sample(self._context.logits(idx), mask).token

    def generate(
        self,
        tokens: Sequence[int],
        top_k: int = 40,
        top_p: float = 0.95,
        min_p: float = 0.05,
        typical_p: float = 1.0,
        temp: float = 0.80,
        repeat_penalty: float = 1.0,
        reset: bool = True,
        frequency_penalty: float = 0.0,
        presence_penalty: float = 0.0,
        tfs_z: float = 1.0,
        mirostat_mode: int = 0,
        mirostat_tau: float = 5.0,
        mirostat_eta: float = 0.1,
        penalize_nl: bool = True,
        logits_processor: Processors = None,
        stopping_criteria: Criteria = None,
        grammar: Grammar = None,
    ) -> Generator[int, Sequence[int] | None, None]:
        """Tokens without end, end tokens included: whoever iterates says when it is enough.

        reset: the tokens are all there is; otherwise they go on from those so far. `send` passes further tokens before
        the next one. Raises ContextError when the context is full.
        """
        given = locals()
        waiting = self.llm.token_ids(token_list(tokens))
        if reset:
            n_same = self.longest_token_prefix(self._context.tokens, waiting[:-1])
            self._context.truncate(n_same)
            waiting = waiting[n_same:]
        sampler, guide = self._sampler(given, waiting)
        matcher = None if guide is None else guide.matcher(self._tokenizer)
        while True:
            self.eval(waiting)
            logits = self._context.logits()
            if stopping_criteria is not None:
                seen = np.array(self._context.tokens, np.int64)
                if one_criterion(stopping_criteria)(seen, logits):
                    return
            ended = matcher is not None and matcher.finished
            if ended and not self._tokenizer.eog_ids:
                return
            mask = None if matcher is None or ended else matcher.mask()
            if ended:
                token = self.token_eos() if self.token_eos() >= 0 else min(self._tokenizer.eog_ids)
            else:
                token = sampler.sample(logits, mask).token
                if matcher is not None:
                    matcher.accept(token)
            sent = yield token
            more = [] if sent is None else checked_ids(token_list(sent), self.n_vocab(), "tokens")
            for extra in more:
                sampler.accept(extra)
            waiting = [token, *more]

    def _sampler(self, given: dict[str, Any], more: Sequence[int] = ()) -> tuple[Sampler, Guide | None]:
        """For the tokens so far and `more`; given: the arguments of `sample` or `generate`."""
        seed = None if self._seed in RANDOM_SEEDS else derived_seed(int(self._seed or 0), self.n_tokens)
        arguments = {**given, "temperature": given["temp"], "seed": seed}
        params = sampling_params(arguments, repetition_window=self.last_n_tokens_size)
        return Sampler(params, [*self._context.tokens, *more], self._tokenizer), params.guide

    def save_state(self) -> LlamaState:
        """The tokens so far with their keys and values, for `load_state`; can be pickled."""
        return self._context.save(self._seed)

    def load_state(self, state: LlamaState) -> None:
        """Go on where a state was saved. Raises StateError for one of another model, ContextError if it is too long,
        ParameterError for what is none."""
        if not isinstance(state, LlamaState):
            raise ParameterError(f"state is a {type(state).__name__}; expected a LlamaState, as save_state returns it")
        seed = checked_seed(state.seed)
        self._context.load(state)
        self._seed = seed

    @staticmethod
    def logits_to_logprobs(logits: Any, axis: int = -1) -> NDArray[np.float32]:
        """log(softmax(logits)) along an axis, float32."""
        values = np.asarray(logits, np.float32)
        shifted = values - values.max(axis=axis, keepdims=True)
        result: NDArray[np.float32] = shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))
        return result

    @staticmethod
    def longest_token_prefix(a: Sequence[int], b: Sequence[int]) -> int:
        """How many tokens two sequences begin alike with."""
        return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
