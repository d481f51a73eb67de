"""What the scheduler passes through the model, and what is made of the logits: the seam between the two.

A request is a list of tokens. The scheduler passes those that are not in the cache yet, some in each step, and hands
over the logits of every position from `first_wanted` on. `take` does with them what the request is for, and appends
the tokens that shall be passed next: none (then it must finish), a sampled one, several that are certain (forced ones),
or several that are guesses, whose logits it will want to see (`first_wanted` before them) to cut `tokens` and
`n_passed` back behind the last right one. So a kind of request is a class, and the scheduler knows none of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pyinfer.memory.prefix_key import PrefixKey


class Caller:
    """Who waits for requests, and how many of them are done."""

    def __init__(self) -> None:
        self.n_finished = self.n_failed = 0

    def has(self, n_finished: int) -> bool:
        """Whether so many of its requests are finished, or one has failed."""
        return self.n_finished >= n_finished or self.n_failed > 0


class Request(ABC):
    """Tokens to pass, and what becomes of their logits. Attributes marked * are the scheduler's to write.

    tokens: what shall be in the cache, in order. first_wanted: the position from which on logits are wanted; at most
    the tokens before it come out of the prefix cache.
    """

    def __init__(self, tokens: list[int], first_wanted: int) -> None:
        self.tokens = tokens
        self.first_wanted = first_wanted
        self.n_passed = 0  # * tokens whose keys and values are in the cache
        self.n_prefill = len(tokens)  # * tokens up to which this is a prompt, which goes after the running texts
        self.n_cached: int | None = None  # * tokens that came out of the prefix cache when it first began
        self.began_at = 0.0  # * seconds of perf_counter, when it first began
        self.order = 0  # * of arrival
        self.slot: int | None = None  # * its place in the cache while it runs
        self.shifted = False  # * whether older tokens were dropped, so that its pages say nothing about `tokens`
        self.caller: Caller | None = None  # *
        self.prefix = PrefixKey(
            []
        )  # * while it waits or is passed: the tokens before first_wanted, as the cache compares them
        self.on_news: Callable[[], None] | None = None  # called by the thread that runs steps, when there is more of it
        self.cancelled = False  # set by anyone: it ends before the next step
        self.finished = False
        self.error: BaseException | None = None

    @abstractmethod
    def take(self, rows: NDArray[np.float32]) -> None:
        """Use the logits, float32 [n, n_vocab], of the n positions from first_wanted on that were just passed.

        They are valid during this call. What it raises ends this request only, and reaches its caller.
        """

    @property
    def paused(self) -> bool:
        """Whether it should not go on now, as nobody took what it made so far."""
        return False

    def shift(self, n_keep: int, n_drop: int) -> None:
        """n_drop tokens after the first n_keep leave the context."""
        del self.tokens[n_keep : n_keep + n_drop]
        self.n_passed -= n_drop
        self.first_wanted -= n_drop
        self.n_prefill = 0

    def fail(self, error: BaseException) -> None:
        """End with an error, which its caller will raise; the first one stays."""
        self.error = self.error or error
        self.finished = True


class AllLogits(Request):
    """Logits of all tokens: `out`, float32 [n_tokens, n_vocab], filled from the first row on."""

    def __init__(self, tokens: list[int], n_vocab: int) -> None:
        super().__init__(tokens, 0)
        self.out = np.empty((len(tokens), n_vocab), np.float32)

    def take(self, rows: NDArray[np.float32]) -> None:
        self.out[self.first_wanted : self.first_wanted + len(rows)] = rows
        self.first_wanted += len(rows)
        self.finished = self.first_wanted == len(self.tokens)
