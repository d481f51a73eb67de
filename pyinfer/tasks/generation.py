"""Generation: samples tokens from logits, one after the other, and turns them into text until an end.

Text is held back while it may be the beginning of a stop text, and while a character is not complete.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from pyinfer.guides.ending import Closing
from pyinfer.guides.masks import allows_only
from pyinfer.guides.matcher import GuideMatcher
from pyinfer.sampling.logprobs import Choice, choice_of
from pyinfer.sampling.params import SamplingParams
from pyinfer.sampling.sampler import Sampler
from pyinfer.scheduling.task import Drawing, Next, Task
from pyinfer.tasks.results import Completion, FinishReason, Piece
from pyinfer.tasks.stop import StopText
from pyinfer.tokenizer import Tokenizer

MAX_DRAFT = 63  # draft tokens: a forward pass has room for their logits beside the last token's
MAX_AHEAD = 64  # pieces that wait for their reader; then the text is paused


class Generation(Task):
    """A task that generates the text after a prompt.

    - `prompt`, `params`, `tokenizer`: token ids, how to sample, and how to make text of tokens.
    - `n_ctx`: positions that prompt and text may have; None: no limit.
    - `pieces` (None): a queue that the pieces of the text are appended to; while it has MAX_AHEAD of them, the task is
      paused.
    - `index` (0): the index that the pieces have.
    - `visible_tokens` (none): control tokens that become text; others do not.
    """

    def __init__(
        self,
        prompt: Sequence[int],
        params: SamplingParams,
        tokenizer: Tokenizer,
        n_ctx: int | None,
        pieces: deque[Piece] | None = None,
        index: int = 0,
        visible_tokens: Collection[int] = (),
    ) -> None:
        every_row = params.prompt_logprobs is not None
        super().__init__(prompt, 0 if every_row else len(prompt) - 1)
        self.params = params
        self.completion: Completion | None = None
        self._prompt = tuple(prompt)
        self._pieces = pieces
        self._index = index
        self._n_drafted = self._n_accepted = 0
        self._limit = min(
            np.inf if params.max_tokens is None else params.max_tokens, np.inf if n_ctx is None else n_ctx - len(prompt)
        )
        self._sampler = Sampler(params, prompt, tokenizer)
        self._matcher: GuideMatcher | None = None if params.guide is None else params.guide.matcher(tokenizer)
        bound_otherwise = params.banned_tokens or params.allowed_tokens or params.logits_processors
        self._closing = None if self._matcher is None or bound_otherwise else Closing(self._matcher)
        self._decoder = tokenizer.stream_decoder(skip_special=True, continues=True, visible_tokens=visible_tokens)
        self._stop = StopText(params.stop)
        self._ends = tokenizer.eog_ids | frozenset(params.stop_token_ids)
        self._generated: list[int] = []
        self._done = False
        self._texts: list[str] = []
        self._logprobs: list[Choice] = []
        self._n_reported = 0  # how many of the logprobs are in pieces
        self._prompt_logprobs: list[Choice | None] = [None]
        self._n_cached = 0
        self._began_at = self._first_sampled_at = 0.0

    @property
    def paused(self) -> bool:
        return self._pieces is not None and len(self._pieces) >= MAX_AHEAD

    @property
    def drawing(self) -> Drawing:
        return Drawing(self._sampler, self._matcher)

    @property
    def max_draft(self) -> int:
        return int(max(0, min(MAX_DRAFT, self._limit - len(self._generated) - 1)))

    def begin(self, n_cached: int) -> None:
        self._n_cached = n_cached
        self._began_at = time.perf_counter()

    def process(self, rows: NDArray[np.float32], draft: Sequence[int]) -> Next:
        first = 0
        if self.params.prompt_logprobs is not None and not self._generated:
            first = self._note_prompt(rows)
        n_before = len(self._generated)
        n_new = 0
        for k, row in enumerate(rows[first:]):  # row k says what follows the first k draft tokens
            if k != n_new:
                continue  # an earlier row was followed by tokens that the guide forced
            self._sample(row)
            new = self._generated[n_before:]
            n_new = len(new)
            if self._done or new != list(draft[:n_new]):
                break  # a draft token was not accepted: the rows after it do not count
        new = self._generated[n_before:]
        self._n_drafted += len(draft)
        for token, drafted in zip(new, draft, strict=False):
            if token != drafted:
                break
            self._n_accepted += 1
        return Next(new, self._done)

    def _note_prompt(self, rows: NDArray[np.float32]) -> int:
        """Note the log-probabilities of the prompt's tokens that follow these rows. Return how many rows these are."""
        known = self._prompt[len(self._prompt_logprobs) :][: len(rows)]
        self._prompt_logprobs += [
            choice_of(row, token, self.params.prompt_logprobs) for row, token in zip(rows, known, strict=False)
        ]
        return len(known)

    def _sample(self, row: NDArray[np.float32]) -> None:
        if not self._generated:
            self._first_sampled_at = time.perf_counter()
        not_yet = self._ends if len(self._generated) < self.params.min_tokens else ()
        mask = None if self._matcher is None else self._matcher.mask()
        n_left = self._limit - len(self._generated)
        if mask is not None and self._closing is not None:
            mask = self._closing.bound(mask, n_left)
        if mask is not None and not_yet and allows_only(mask, not_yet):
            not_yet = ()  # the guide allows only an end, which min_tokens can't forbid
        choice = self._sampler.sample(row, mask, not_yet)
        if choice.token in self._ends:
            self._complete("stop")
            return
        if mask is not None and self._closing is not None and not self._closing.allows(choice.token, n_left - 1):
            self._sampler.take_back()
            if self._closing.complete:
                self._complete("length")
                return
            choice = self._sampler.sample(row, self._closing.lead(mask))
        token = choice.token
        if self.params.logprobs is not None:
            self._logprobs.append(choice)
        self._add(token)
        if self._matcher is not None and not self._done:
            self._follow(token, self._matcher)

    def _follow(self, token: int, matcher: GuideMatcher) -> None:
        """Have the guide accept a token, then add the tokens that it forces: all are computed in one forward pass."""
        matcher.accept(token)
        if self.params.logprobs is None and not matcher.finished:
            for forced in matcher.forced():
                self._sampler.accept(forced)
                matcher.accept(forced)
                self._add(forced)
                if self._done:
                    return
        if self._closing is not None and self._closing.leads and (self._closing.complete or matcher.finished):
            self._complete("length")
        elif matcher.finished:
            self._complete("stop")

    def _add(self, token: int) -> None:
        self._generated.append(token)
        if self._closing is not None:
            self._closing.note(token)
        text = self._decoder.push(token)
        if len(self._generated) >= self.params.min_tokens:  # text before that is no part of a stop text
            text = self._stop.push(text)
        self._emit(text, token)
        if self._stop.stopped:
            self._complete("stop")
        elif len(self._generated) >= self._limit:
            self._complete("length")

    def _emit(self, text: str, token: int | None) -> None:
        if not text:
            return
        self._texts.append(text)
        if self._pieces is not None:
            self._pieces.append(Piece(text, token, tuple(self._logprobs[self._n_reported :]), self._index))
            self._n_reported = len(self._logprobs)

    def _complete(self, reason: FinishReason) -> None:
        """Note that the text is complete. `finish` makes the completion, when all tokens are counted."""
        self._done = True
        self._reason = reason
        self._ended_at = time.perf_counter()
        if not self._stop.stopped:
            self._emit(self._stop.push(self._decoder.finish()) + self._stop.finish(), None)

    def finish(self, error: BaseException | None) -> None:
        if error is None:
            wants = self.params.logprobs is not None, self.params.prompt_logprobs is not None
            self.completion = Completion(
                text="".join(self._texts),
                tokens=tuple(self._generated),
                finish_reason=self._reason,
                prompt=self._prompt,
                cached_tokens=self._n_cached,
                prompt_seconds=self._first_sampled_at - self._began_at,
                generation_seconds=self._ended_at - self._first_sampled_at,
                logprobs=tuple(self._logprobs) if wants[0] else None,
                prompt_logprobs=tuple(self._prompt_logprobs) if wants[1] else None,
                drafted_tokens=self._n_drafted,
                accepted_tokens=self._n_accepted,
            )
        super().finish(error)
