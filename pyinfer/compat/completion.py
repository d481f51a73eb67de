"""Texts as the dictionaries of llama-cpp-python's `create_completion`."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator

from pyinfer.compat.logprobs import LogprobsWriter
from pyinfer.compat.types import (
    CompletionLogprobs,
    CompletionUsage,
    CreateCompletionResponse,
    CreateCompletionStreamResponse,
    FinishReason,
)
from pyinfer.runtime.generation import Completion
from pyinfer.runtime.stream import Stream
from pyinfer.tokenizer import Tokenizer


def new_completion_id() -> str:
    return f"cmpl-{uuid.uuid4()}"


def usage_of(done: Completion) -> CompletionUsage:
    n_prompt, n_text = done.prompt_tokens, done.completion_tokens
    return {"prompt_tokens": n_prompt, "completion_tokens": n_text, "total_tokens": n_prompt + n_text}


class CompletionWriter:
    """The dictionaries of one call. prompt: its text, for offsets and for echo."""

    def __init__(self, tokenizer: Tokenizer, model: str, prompt: str, echo: bool) -> None:
        self._tokenizer = tokenizer
        self._prompt = prompt
        self._echo = echo
        self._id = new_completion_id()
        self._created = int(time.time())
        self._model = model

    def whole(self, done: Completion) -> CreateCompletionResponse:
        text = self._prompt + done.text if self._echo else done.text
        chunk = self._chunk(text, self._logprobs(done), done.finish_reason)
        return {**chunk, "usage": usage_of(done)}

    def chunks(self, stream: Stream) -> Iterator[CreateCompletionStreamResponse]:
        """A dictionary for each piece, and a last one with the reason why the text ends there."""
        writer = LogprobsWriter(self._tokenizer, len(self._prompt))
        with stream:
            for piece in stream:
                logprobs = writer.write([c.token for c in piece.logprobs], piece.logprobs) if piece.logprobs else None
                yield self._chunk(piece.text, logprobs, None)
        if stream.completion is not None:
            yield self._chunk("", None, stream.completion.finish_reason)

    def _logprobs(self, done: Completion) -> CompletionLogprobs | None:
        if done.logprobs is None:
            return None
        if not self._echo or done.prompt_logprobs is None:
            return LogprobsWriter(self._tokenizer, len(self._prompt)).write(done.tokens, done.logprobs)
        begin = int(done.prompt[0] == self._tokenizer.bos_id)
        choices = [*done.prompt_logprobs[begin:], *done.logprobs]
        choices[0] = None  # as OpenAI's API has it, also where a begin token stood before
        return LogprobsWriter(self._tokenizer, 0).write([*done.prompt[begin:], *done.tokens], choices)

    def _chunk(
        self, text: str, logprobs: CompletionLogprobs | None, finish_reason: FinishReason | None
    ) -> CreateCompletionStreamResponse:
        return {
            "id": self._id,
            "object": "text_completion",
            "created": self._created,
            "model": self._model,
            "choices": [{"text": text, "index": 0, "logprobs": logprobs, "finish_reason": finish_reason}],
        }
