"""Scores how likely given texts are for a model: continuations of a prompt, and long texts (perplexity).

Log-probabilities are natural logarithms of the softmax of the logits, before any sampler.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pyinfer.arguments import check_integer, checked_ids, items_in_order
from pyinfer.errors import ContextError, ModelError, ParameterError
from pyinfer.scheduling.scheduler import Scheduler
from pyinfer.scheduling.task import Next, Task
from pyinfer.tasks.prompt import Prompt, prompt_ids
from pyinfer.tokenizer import Tokenizer


@dataclass(frozen=True)
class Score:
    """Hold how likely a continuation is.

    - `tokens`: its ids; `logprobs`: the log-probability of each, given all tokens before it.
    - `greedy`: whether each token is the likeliest one, so that greedy generation writes this continuation.
    - `logprob`: the log-probability of the whole continuation.
    """

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    greedy: bool

    @property
    def logprob(self) -> float:
        """The log-probability of the whole continuation."""
        return math.fsum(self.logprobs)


@dataclass(frozen=True)
class Perplexity:
    """Hold the perplexity of a text.

    - `value`: e to the mean of -log p(token) over the scored tokens; `error`: its standard error.
    - `n_scored`: how many tokens were scored; `n_chunks`: in how many chunks.
    """

    value: float
    error: float
    n_scored: int
    n_chunks: int


class Scoring(Task):
    """A task that scores a sequence's tokens from position `first` on, which is at least 1."""

    def __init__(self, tokens: Sequence[int], first: int) -> None:
        super().__init__(tokens[:-1], first - 1)
        self._scored = tuple(tokens[first:])
        self._logprobs: list[float] = []
        self._greedy = True

    def process(self, rows: NDArray[np.float32], draft: Sequence[int]) -> Next:
        for row in rows:
            target = self._scored[len(self._logprobs)]
            likeliest = int(row.argmax())
            largest = row[likeliest]
            if not np.isfinite(largest):
                raise ModelError(f"the model computed a logit of {largest}: weights are damaged or overflow float32")
            total = float(np.exp(row - largest).sum(dtype=np.float64))
            self._logprobs.append(float(row[target]) - float(largest) - math.log(total))
            self._greedy = self._greedy and likeliest == target
        return Next(done=len(self._logprobs) == len(self._scored))

    @property
    def score(self) -> Score:
        return Score(self._scored, tuple(self._logprobs), self._greedy)


def score(scheduler: Scheduler, tokenizer: Tokenizer, prompt: Prompt, continuations: Iterable[Prompt]) -> list[Score]:
    """Score several continuations of a prompt.

    - `prompt`: a text or token ids.
    - `continuations`: texts or lists of token ids. A text is encoded by itself, as one that follows another text:
      " Paris" after "The capital of France is".

    Returns the scores in the order of the continuations, which run together; their shared prefix is computed once.
    Raises ParameterError for an empty text and for ids out of range, ContextError for a text that is too long.
    """
    items = items_in_order(continuations)
    if items is None:
        raise ParameterError(f"continuations is a {type(continuations).__name__}; expected a list of texts")
    n_vocab = scheduler.engine.n_vocab
    before = prompt_ids(prompt, tokenizer, n_vocab)
    texts = []
    for i, text in enumerate(items):
        if isinstance(text, str):
            after = tokenizer.encode(text, add_special=False, continues=True)
        else:
            after = checked_ids(text, n_vocab, f"continuation {i}")
        if not after:
            raise ParameterError(f"continuation {i} has no tokens; expected at least one")
        texts.append(([*before, *after], len(before)))
    return score_tokens(scheduler, texts)


def score_tokens(scheduler: Scheduler, texts: Iterable[tuple[Sequence[int], int]]) -> list[Score]:
    """Score sequences of token ids, each from a position on that is at least 1. Raises the errors of `score`."""
    scheduler.engine.check_decoder()
    tasks = []
    for tokens, first in texts:
        ids = checked_ids(tokens, scheduler.engine.n_vocab)
        if not 1 <= first < len(ids):
            raise ParameterError(f"the text is scored from position {first} on; expected 1 to {len(ids) - 1}")
        if len(ids) > scheduler.n_ctx + 1:
            raise ContextError(
                f"the text to score has {len(ids)} tokens; the context of {scheduler.n_ctx} has room for "
                f"{scheduler.n_ctx + 1} (n_ctx, kv_cache_memory)"
            )
        tasks.append(Scoring(ids, first))
    scheduler.run(tasks)
    return [task.score for task in tasks]


def perplexity(
    scheduler: Scheduler,
    tokenizer: Tokenizer,
    text: Prompt,
    n_ctx: int = 512,
    stride: int | None = None,
    n_chunks: int | None = None,
    progress: Callable[[Perplexity, int], None] | None = None,
) -> Perplexity:
    """Compute the perplexity of a text by the method of llama-perplexity, so that figures can be compared.

    The tokens are cut into chunks. The first token of each chunk becomes the beginning-of-text token, if the model asks
    for one, and the second half of the chunk is scored.

    - `text`: a text or token ids, at least one chunk.
    - `n_ctx` (512; at least 4): tokens of a chunk.
    - `stride` (None; 1 to `n_ctx` - 1): chunks begin so many tokens apart, and the last so many of each are scored;
      None: chunks do not overlap.
    - `n_chunks` (None; at least 1): score at most so many chunks; None: all.
    - `progress` (None): a function that is called after each chunk with (the perplexity so far, the number of chunks).

    Returns a Perplexity. Raises ParameterError for a text shorter than one chunk, and for arguments out of range.
    """
    tokens = prompt_ids(text, tokenizer, scheduler.engine.n_vocab)
    check_integer("n_ctx", n_ctx, 4, None, "a whole number of at least 4")
    if stride is not None:
        check_integer("stride", stride, 1, n_ctx - 1, f"a whole number from 1 to n_ctx - 1 = {n_ctx - 1}")
    if n_chunks is not None:
        check_integer("n_chunks", n_chunks, 1, None, "a whole number of at least 1")
    if len(tokens) < n_ctx:
        raise ParameterError(f"the text has {len(tokens)} tokens; a chunk needs {n_ctx} (n_ctx)")
    step = stride or n_ctx
    starts = range(0, len(tokens) - n_ctx + 1, step)[:n_chunks]
    first = n_ctx - stride if stride else n_ctx // 2 + 1
    logprobs: list[float] = []
    for done, start in enumerate(starts, 1):
        chunk = tokens[start : start + n_ctx]
        if tokenizer.add_bos and tokenizer.bos_id is not None:
            chunk[0] = tokenizer.bos_id
        logprobs += score_tokens(scheduler, [(chunk, first)])[0].logprobs
        so_far = _perplexity(logprobs, done)
        if progress is not None:
            progress(so_far, len(starts))
    return so_far


def _perplexity(logprobs: Sequence[float], n_chunks: int) -> Perplexity:
    losses = -np.array(logprobs)
    value = math.exp(losses.mean())
    error = value * math.sqrt(losses.var() / (len(losses) - 1)) if len(losses) > 1 else 0.0
    return Perplexity(value, error, len(losses), n_chunks)
