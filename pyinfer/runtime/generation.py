"""From a prompt to text: prefill, then one token after the other, until an end.

Text is held back while it may be the beginning of a stop string, and while a character is not complete.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pyinfer.errors import ContextError
from pyinfer.runtime.engine import Engine
from pyinfer.runtime.params import SamplingParams
from pyinfer.runtime.sampling import Sampler
from pyinfer.tokenizer import Tokenizer

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class Piece:
    """Text that has become certain, and the token that made it so (None: what was held back to the end)."""

    text: str
    token: int | None


@dataclass(frozen=True)
class Completion:
    """A generated text. finish_reason: "stop" for an end token or a stop string, "length" for max_tokens or n_ctx.

    tokens: without the end token. Seconds: of the prompt until its last logits, and of all that came after.
    """

    text: str
    tokens: tuple[int, ...]
    finish_reason: FinishReason
    prompt_tokens: int
    prompt_seconds: float
    generation_seconds: float

    @property
    def completion_tokens(self) -> int:
        return len(self.tokens)

    @property
    def prompt_tokens_per_second(self) -> float:
        return self.prompt_tokens / self.prompt_seconds if self.prompt_seconds else 0.0

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


def prefill(engine: Engine, tokens: Sequence[int], sequence: int = 0) -> NDArray[np.float32]:
    """Pass a prompt from position 0 on, in chunks of the engine's batch; the last token's logits, float32 [n_vocab]."""
    for start in range(0, len(tokens), engine.n_batch):
        part = tokens[start : start + engine.n_batch]
        n = len(part)
        last = start + n == len(tokens)
        rows = engine.forward(part, np.arange(start, start + n), np.full(n, sequence), [n - 1] if last else [])
    row: NDArray[np.float32] = rows[0]
    return row


class Stream(Iterator[Piece]):
    """The pieces of a text as they are generated; `completion` is there once they have all come."""

    def __init__(self, engine: Engine, tokenizer: Tokenizer, prompt: Sequence[int], params: SamplingParams) -> None:
        if len(prompt) >= engine.n_ctx:
            raise ContextError(
                f"the prompt has {len(prompt)} tokens; the context of {engine.n_ctx} leaves room for "
                f"{engine.n_ctx - 1} and one more (n_ctx)"
            )
        self.completion: Completion | None = None
        self._pieces = self._generate(engine, tokenizer, prompt, params)

    def __next__(self) -> Piece:
        return next(self._pieces)

    def close(self) -> None:
        """End the text where it is."""
        self._pieces.close()

    def _generate(
        self, engine: Engine, tokenizer: Tokenizer, prompt: Sequence[int], params: SamplingParams
    ) -> Generator[Piece, None, None]:
        room = engine.n_ctx - len(prompt)
        limit = room if params.max_tokens is None else min(params.max_tokens, room)
        decoder = tokenizer.stream_decoder(skip_special=True, continues=True)
        stop, sampler = StopText(params.stop), Sampler(params, prompt, tokenizer)
        tokens: list[int] = []
        texts: list[str] = []
        finish_reason: FinishReason = "length"
        started = time.perf_counter()
        engine.truncate(0, 0)
        logits = prefill(engine, prompt)
        prefilled = time.perf_counter()
        while True:
            token = sampler.sample(logits).token
            if token in tokenizer.eog_ids:
                finish_reason = "stop"
                break
            tokens.append(token)
            if text := stop.push(decoder.push(token)):
                texts.append(text)
                yield Piece(text, token)
            if stop.stopped:
                finish_reason = "stop"
                break
            if len(tokens) == limit:
                break
            logits = engine.forward([token], [len(prompt) + len(tokens) - 1], [0], [0])[0]
        if not stop.stopped and (text := stop.push(decoder.finish()) + stop.finish()):
            texts.append(text)
            yield Piece(text, None)
        self.completion = Completion(
            text="".join(texts),
            tokens=tuple(tokens),
            finish_reason=finish_reason,
            prompt_tokens=len(prompt),
            prompt_seconds=prefilled - started,
            generation_seconds=time.perf_counter() - prefilled,
        )
