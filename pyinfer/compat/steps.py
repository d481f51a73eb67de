"""Generation token by token: evaluate tokens, sample one, go back, save and load the state."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyinfer.arguments import checked_ids
from pyinfer.compat.cache import common_prefix
from pyinfer.compat.context import token_list
from pyinfer.compat.handles import ContextHandle
from pyinfer.compat.sampling import (
    RANDOM_SEEDS,
    Criteria,
    Grammar,
    Processors,
    one_criterion,
    sampling_params,
)
from pyinfer.compat.vocabulary import Vocabulary
from pyinfer.guides.guide import Guide
from pyinfer.sampling.sampler import Sampler, derived_seed


class Steps(Vocabulary):
    """`Llama`'s methods for programs that call `eval` and `sample` in a loop of their own."""

    @property
    def n_tokens(self) -> int:
        """The number of tokens of the sequence: those of `eval`, or of the last prompt and its text."""
        return self._context.n_tokens

    @n_tokens.setter
    def n_tokens(self, n: int) -> None:
        self._context.set_length(n)

    @property
    def input_ids(self) -> NDArray[np.intc]:
        """The tokens of the sequence, then unused room: int32 [n_ctx]."""
        return self._context.input_ids

    @input_ids.setter
    def input_ids(self, tokens: Any) -> None:
        self._context.set_input_ids(tokens)

    @property
    def scores(self) -> NDArray[np.float32]:
        """Logits of eval: float32 [n_ctx, n_vocab] with logits_all, else [1, n_vocab] of the last token."""
        return self._context.scores

    @scores.setter
    def scores(self, scores: Any) -> None:
        self._context.set_scores(scores)

    # private in llama-cpp-python, but other programs read them

    @cached_property
    def _ctx(self) -> ContextHandle:
        return ContextHandle(self)

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
        """Append tokens to the sequence and compute their logits, which `scores` has.

        - `tokens`: a list of token ids.

        Raises ContextError, with nothing changed, if the context has no room for them.
        """
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
        """Sample a token to follow the sequence, or to follow its position `idx`. penalize_nl has no effect."""
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
        """Generate tokens without end; the caller stops when it has enough. End tokens are given like others.

        - `tokens`: token ids to evaluate first.
        - `reset` (True): begin a new sequence with them; False: append them to the present one.

        Yields token ids. `send` appends further tokens before the next one is sampled. Raises ContextError when the
        context is full.
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
        """Return a sampler for the sequence and the tokens `more`. `given`: arguments of `sample` or `generate`."""
        seed = None if self._seed in RANDOM_SEEDS else derived_seed(int(self._seed or 0), self.n_tokens)
        arguments = {**given, "temperature": given["temp"], "seed": seed}
        params = sampling_params(arguments, repetition_window=self.last_n_tokens_size)
        return Sampler(params, [*self._context.tokens, *more], self._tokenizer), params.guide

    @staticmethod
    def logits_to_logprobs(logits: Any, axis: int = -1) -> NDArray[np.float32]:
        """Return log(softmax(logits)) along an axis, as float32."""
        values = np.asarray(logits, np.float32)
        shifted = values - values.max(axis=axis, keepdims=True)
        result: NDArray[np.float32] = shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))
        return result

    @staticmethod
    def longest_token_prefix(a: Sequence[int], b: Sequence[int]) -> int:
        """Return the length of the prefix that two sequences share, in tokens."""
        return common_prefix(a, b)
