"""How likely a model finds given texts: continuations of a prompt, and long texts as a whole (perplexity).

Log-probabilities are natural logarithms of the softmax of a model's own logits, before any sampler.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pyinfer.errors import ContextError, ModelError, ParameterError
from pyinfer.runtime.engine import Engine
from pyinfer.tokenizer import Tokenizer

ROWS = 64  # of logits in a pass: they stay resident once they were used


@dataclass(frozen=True)
class Score:
    """Log-probabilities of the tokens of a continuation, each given all before it.

    greedy: whether each of them is the likeliest one, so that greedy generation writes the continuation.
    """

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    greedy: bool

    @property
    def logprob(self) -> float:
        """Of the whole continuation."""
        return math.fsum(self.logprobs)


@dataclass(frozen=True)
class Perplexity:
    """e to the mean of -log p(token), over the scored tokens of a text; error: its standard error."""

    value: float
    error: float
    n_scored: int
    n_chunks: int


class Scoring:
    """Tokens from position `first` on, scored as the logits of the positions before them come in."""

    def __init__(self, tokens: Sequence[int], first: int) -> None:
        self.tokens = list(tokens[:-1])  # to be passed
        self.first_wanted = first - 1
        self.scored = tuple(tokens[first:])
        self._logprobs: list[float] = []
        self._greedy = True

    def take(self, rows: NDArray[np.float32]) -> None:
        """The logits float32 [n, n_vocab] of the next n positions. ModelError if they are not numbers."""
        for row in rows:
            target = self.scored[len(self._logprobs)]
            likeliest = int(row.argmax())
            largest = row[likeliest]
            if not np.isfinite(largest):
                raise ModelError(
                    f"the model computed a logit of {largest}: its weights are damaged or overflow float32"
                )
            total = float(np.exp(row - largest).sum(dtype=np.float64))
            self._logprobs.append(float(row[target]) - float(largest) - math.log(total))
            self._greedy = self._greedy and likeliest == target

    @property
    def score(self) -> Score:
        return Score(self.scored, tuple(self._logprobs), self._greedy)


def score(
    engine: Engine, tokenizer: Tokenizer, prompt: str | Sequence[int], continuations: Iterable[str | Sequence[int]]
) -> list[Score]:
    """Scores of texts that may follow a prompt, in their order. Texts or token ids.

    A continuation in text is encoded by itself, as one that goes on from another: " Paris" after "The capital of
    France is". What neighbours begin alike with is passed once. Sequence 0 of the engine is empty afterwards.
    Raises ParameterError for what is empty and for ids out of range, ContextError for what does not fit.
    """
    if isinstance(continuations, str):
        raise ParameterError("continuations is a str; expected a list of texts")
    before = tokenizer.encode(prompt) if isinstance(prompt, str) else list(prompt)
    jobs = []
    for i, text in enumerate(continuations):
        after = tokenizer.encode(text, add_special=False, continues=True) if isinstance(text, str) else list(text)
        if not after:
            raise ParameterError(f"continuation {i} has no tokens; expected at least one")
        jobs.append(([*before, *after], len(before)))
    return score_tokens(engine, jobs)


def score_tokens(engine: Engine, texts: Iterable[tuple[Sequence[int], int]]) -> list[Score]:
    """Scores of texts (their tokens, the position from which on they are scored: at least 1)."""
    scorings = [Scoring(*text) for text in texts]
    for scoring in scorings:
        _check(engine, scoring)
    passed: list[int] = []
    try:
        for scoring in scorings:
            n = min(_n_alike(passed, scoring.tokens), scoring.first_wanted)
            engine.truncate(0, n)
            for rows in _rows(engine, scoring.tokens, n, scoring.first_wanted):
                scoring.take(rows)
            passed = scoring.tokens
    finally:
        engine.truncate(0, 0)
    return [scoring.score for scoring in scorings]


def perplexity(
    engine: Engine,
    tokenizer: Tokenizer,
    text: str | Sequence[int],
    n_ctx: int = 512,
    stride: int | None = None,
    n_chunks: int | None = None,
    progress: Callable[[Perplexity, int], None] | None = None,
) -> Perplexity:
    """Of a text, by llama-perplexity's method, so that figures can be compared.

    The tokens are cut into chunks of n_ctx; the first of each becomes the beginning-of-text token, if the model has it
    added; the second half is scored. With stride, chunks begin so many tokens apart and the last so many of each are
    scored. n_chunks: only the first ones. progress(so far, chunks in all) is called after each.
    Raises ParameterError for a text of less than one chunk, and for arguments out of range.
    """
    tokens = tokenizer.encode(text) if isinstance(text, str) else list(text)
    if n_ctx < 4:
        raise ParameterError(f"n_ctx is {n_ctx}; expected at least 4")
    if stride is not None and not 1 <= stride < n_ctx:
        raise ParameterError(f"stride is {stride}; expected 1 to n_ctx - 1 = {n_ctx - 1}")
    if n_chunks is not None and n_chunks < 1:
        raise ParameterError(f"n_chunks is {n_chunks}; expected at least 1")
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
        logprobs += score_tokens(engine, [(chunk, first)])[0].logprobs
        so_far = _perplexity(logprobs, done)
        if progress is not None:
            progress(so_far, len(starts))
    return so_far


def _perplexity(logprobs: Sequence[float], n_chunks: int) -> Perplexity:
    losses = -np.array(logprobs)
    value = math.exp(losses.mean())
    error = value * math.sqrt(losses.var() / (len(losses) - 1)) if len(losses) > 1 else 0.0
    return Perplexity(value, error, len(losses), n_chunks)


def _rows(engine: Engine, tokens: Sequence[int], start: int, first_wanted: int) -> Iterator[NDArray[np.float32]]:
    """Pass tokens from position `start` on; the logits from first_wanted on, some rows at a time."""
    while start < len(tokens):
        # up to the first wanted row in full passes, and then as many as there are rows
        n = min(first_wanted - start, engine.n_batch) if start < first_wanted else min(ROWS, engine.n_batch)
        part = tokens[start : start + n]
        n = len(part)
        rows = engine.forward(part, np.arange(start, start + n), [0] * n, range(n if start >= first_wanted else 0))
        if start >= first_wanted:
            yield rows
        start += n


def _n_alike(a: Sequence[int], b: Sequence[int]) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _check(engine: Engine, scoring: Scoring) -> None:
    if scoring.first_wanted < 0:
        raise ParameterError("the prompt has no tokens; expected at least one")
    if len(scoring.tokens) > engine.n_ctx:
        raise ContextError(
            f"a text to score has {len(scoring.tokens) + 1} tokens; the context of {engine.n_ctx} has room for "
            f"{engine.n_ctx + 1} (n_ctx)"
        )
    for token in (*scoring.tokens, *scoring.scored):
        if not 0 <= token < engine.n_vocab:
            raise ParameterError(f"token id {token} is out of range; the vocabulary has 0 to {engine.n_vocab - 1}")
