"""From logits to text: one token after the other, until an end.

Text is held back while it may be the beginning of a stop string, and while a character is not complete.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from pyinfer.guides.ending import Closing
from pyinfer.guides.masks import allows_only
from pyinfer.sampling.logprobs import Choice, choice_of
from pyinfer.sampling.params import SamplingParams
from pyinfer.sampling.sampler import Sampler
from pyinfer.scheduling.request import Request
from pyinfer.speculation.policy import Speculation
from pyinfer.tokenizer import Tokenizer

if TYPE_CHECKING:
    from pyinfer.guides.matcher import GuideMatcher

FinishReason = Literal["stop", "length"]
MAX_GUESSES = 63  # at once: rows of logits that a pass has room for beside the last token's
MAX_AHEAD = 64  # pieces that a consumer may be behind before its text is paused


@dataclass(frozen=True)
class Piece:
    """Text that has become certain, and the token that made it so (None: what was held back to the end).

    logprobs: of the tokens since the last piece, where the parameters ask for them. index: which of the prompt's texts
    this is of, where n is above 1.
    """

    text: str
    token: int | None
    logprobs: tuple[Choice, ...] = ()
    index: int = 0


@dataclass(frozen=True)
class Completion:
    """A generated text. finish_reason: "stop" for an end token, a stop string or the end of a guide's text; "length"
    for max_tokens or a full context, before which a guide's text is brought to an end, if a few tokens do that.

    tokens: without the end token; prompt: ids. cached_tokens: of the prompt, found in the cache. logprobs: of each
    token, where asked for; prompt_logprobs: of each of the prompt's, None for the first. choices: all texts of this
    prompt where n was above 1, this one first. Seconds: of the prompt until its last logits, and of all after them.
    drafted_tokens: guesses that were passed, of which accepted_tokens came true.
    """

    text: str
    tokens: tuple[int, ...]
    finish_reason: FinishReason
    prompt: tuple[int, ...]
    cached_tokens: int
    prompt_seconds: float
    generation_seconds: float
    logprobs: tuple[Choice, ...] | None = None
    prompt_logprobs: tuple[Choice | None, ...] | None = None
    choices: tuple[Completion, ...] = ()
    drafted_tokens: int = 0
    accepted_tokens: int = 0

    @property
    def prompt_tokens(self) -> int:
        return len(self.prompt)

    @property
    def completion_tokens(self) -> int:
        return len(self.tokens)

    @property
    def prompt_tokens_per_second(self) -> float:
        """Of those that were not cached."""
        return (self.prompt_tokens - self.cached_tokens) / self.prompt_seconds if self.prompt_seconds else 0.0

    @property
    def tokens_per_second(self) -> float:
        """Of the tokens after the first, which the prompt's pass gave."""
        steps = len(self.tokens) - 1
        return steps / self.generation_seconds if steps > 0 and self.generation_seconds else 0.0


class StopText:
    """Passes text on up to a stop string, and keeps back what may become one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.stopped = False

    def push(self, text: str) -> str:
        """The text that can't be part of a stop string any more; sets `stopped` when one is complete."""
        if not self._stops:
            return text
        self._held += text
        found = [at for at in (self._held.find(stop) for stop in self._stops) if at >= 0]
        if found:
            self.stopped = True
            kept, self._held = self._held[: min(found)], ""
            return kept
        keep = max((overlap(self._held, stop) for stop in self._stops), default=0)
        kept, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return kept

    def finish(self) -> str:
        """What was held back, once no more text comes."""
        held, self._held = self._held, ""
        return held


def overlap(text: str, stop: str) -> int:
    """The length of the longest end of text that is a beginning, not the whole, of stop."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)


class Generation(Request):
    """A prompt, and the text that follows it.

    n_ctx: positions that it may have; None: as many as it takes. pieces: where its text goes piece by piece, if someone
    takes it so, each with this index; while too many lie there it pauses. visible_tokens: control tokens that are
    text, as others are not. speculation: where draft tokens come from; they stand at the end of `tokens` until the
    logits before them say what is really there.
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
        speculation: Speculation | None = None,
    ) -> None:
        every_row = params.prompt_logprobs is not None
        super().__init__(list(prompt), 0 if every_row else len(prompt) - 1)
        self.params = params
        self.completion: Completion | None = None
        self._prompt = tuple(prompt)
        self._pieces = pieces
        self._index = index
        self._speculation = speculation
        self._n_guesses = self._n_drafted = self._n_accepted = 0
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
        self._texts: list[str] = []
        self._logprobs: list[Choice] = []
        self._n_told = 0  # of the logprobs, in pieces
        self._prompt_logprobs: list[Choice | None] = [None]
        self._first_sampled_at = 0.0

    @property
    def paused(self) -> bool:
        return self._pieces is not None and len(self._pieces) >= MAX_AHEAD

    def take(self, rows: NDArray[np.float32]) -> None:
        n_passed = self.n_passed
        for row in rows:
            self.first_wanted += 1
            if self.first_wanted == self._n_certain:
                self._sample(row)
                if self.finished:
                    return
                if self.n_passed < n_passed:
                    break  # what follows is behind a wrong guess
            elif not self._generated:
                known = self.tokens[self.first_wanted]
                self._prompt_logprobs.append(choice_of(row, known, self.params.prompt_logprobs))
        if self._generated:
            self.first_wanted = max(self.first_wanted, self._n_certain - 1)
            if self._speculation is not None and not self._n_guesses:
                self._guess(self._speculation, len(rows))

    @property
    def _n_certain(self) -> int:
        """Tokens that are not guesses."""
        return len(self.tokens) - self._n_guesses

    def _guess(self, speculation: Speculation, n_own: int) -> None:
        """Add guesses, of which none is behind what the text may have."""
        most = min(MAX_GUESSES, self._limit - len(self._generated) - 1)
        guesses = speculation.guesses(int(most), n_own, self._sampler, self._matcher)
        self.tokens += guesses
        self._n_guesses = len(guesses)
        self._n_drafted += len(guesses)

    def _drop_guesses(self) -> None:
        del self.tokens[self._n_certain :]
        self._n_guesses = 0
        self.n_passed = min(self.n_passed, len(self.tokens))

    def _sample(self, row: NDArray[np.float32]) -> None:
        if not self._generated:
            self._first_sampled_at = time.perf_counter()
        not_yet = self._ends if len(self._generated) < self.params.min_tokens else ()
        mask = None if self._matcher is None else self._matcher.mask()
        n_left = self._limit - len(self._generated)
        if mask is not None and self._closing is not None:
            mask = self._closing.bound(mask, n_left)
        if mask is not None and not_yet and allows_only(mask, not_yet):
            not_yet = ()  # where a guide can only end, the text does
        choice = self._sampler.sample(row, mask, not_yet)
        if choice.token in self._ends:
            self._finish("stop")
            return
        if mask is not None and self._closing is not None and not self._closing.allows(choice.token, n_left - 1):
            self._sampler.take_back()
            if self._closing.complete:
                self._finish("length")
                return
            choice = self._sampler.sample(row, self._closing.lead(mask))
        token = choice.token
        if self.params.logprobs is not None:
            self._logprobs.append(choice)
        self._add(token)
        if self._matcher is not None and not self.finished:
            self._follow(token, self._matcher)

    def _follow(self, token: int, matcher: GuideMatcher) -> None:
        """Tell the guide of a token, and add those that can only follow: they are passed with it, not one by one."""
        matcher.accept(token)
        if self.params.logprobs is None and not matcher.finished:
            for forced in matcher.forced():
                self._sampler.accept(forced)
                matcher.accept(forced)
                self._add(forced)
                if self.finished:
                    return
        if self._closing is not None and self._closing.leads and (self._closing.complete or matcher.finished):
            self._finish("length")
        elif matcher.finished:
            self._finish("stop")

    def _add(self, token: int) -> None:
        if self._n_guesses and self.tokens[-self._n_guesses] == token:
            self._n_guesses -= 1
            self._n_accepted += 1
        else:
            self._drop_guesses()
            self.tokens.append(token)
        self._generated.append(token)
        if self._closing is not None:
            self._closing.note(token)
        if self._speculation is not None:
            self._speculation.add(token)
        text = self._decoder.push(token)
        if len(self._generated) >= self.params.min_tokens:  # what was given before is no part of a stop string
            text = self._stop.push(text)
        self._give(text, token)
        if self._stop.stopped:
            self._finish("stop")
        elif len(self._generated) >= self._limit:
            self._finish("length")

    def _give(self, text: str, token: int | None) -> None:
        if not text:
            return
        self._texts.append(text)
        if self._pieces is not None:
            self._pieces.append(Piece(text, token, tuple(self._logprobs[self._n_told :]), self._index))
            self._n_told = len(self._logprobs)

    def fail(self, error: BaseException) -> None:
        super().fail(error)
        if self._speculation is not None:
            self._speculation.close()

    def _finish(self, reason: FinishReason) -> None:
        self._drop_guesses()
        if self._speculation is not None:
            self._speculation.close()
        if not self._stop.stopped:
            self._give(self._stop.push(self._decoder.finish()) + self._stop.finish(), None)
        now = time.perf_counter()
        wants = self.params.logprobs is not None, self.params.prompt_logprobs is not None
        self.completion = Completion(
            text="".join(self._texts),
            tokens=tuple(self._generated),
            finish_reason=reason,
            prompt=self._prompt,
            cached_tokens=self.n_cached or 0,
            prompt_seconds=self._first_sampled_at - self.began_at,
            generation_seconds=now - self._first_sampled_at,
            logprobs=tuple(self._logprobs) if wants[0] else None,
            prompt_logprobs=tuple(self._prompt_logprobs) if wants[1] else None,
            drafted_tokens=self._n_drafted,
            accepted_tokens=self._n_accepted,
        )
        self.finished = True
