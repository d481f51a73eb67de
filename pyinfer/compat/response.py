"""What the dictionaries of completions and of chats have in common."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from typing import Generic, TypeVar

from pyinfer.api.stream import Stream
from pyinfer.compat.types import CompletionUsage
from pyinfer.tasks.results import Completion
from pyinfer.tokenizer import Tokenizer

Whole = TypeVar("Whole")
Chunk = TypeVar("Chunk")


class ResponseWriter(Generic[Whole, Chunk]):
    """Writes the response of one call: a dictionary of the whole text, or one for each chunk of a stream.

    `prefix`: what the call's id begins with.
    """

    def __init__(self, tokenizer: Tokenizer, model: str, prefix: str) -> None:
        self._tokenizer = tokenizer
        self._model = model
        self._id = f"{prefix}-{uuid.uuid4()}"
        self._created = int(time.time())

    def whole(self, done: Completion) -> Whole:
        """Return the dictionary of a finished text."""
        raise NotImplementedError

    def chunks(self, stream: Stream) -> Iterator[Chunk]:
        """Yield a dictionary for each chunk, and a last one with the reason why the text ends."""
        raise NotImplementedError


def usage_of(done: Completion) -> CompletionUsage:
    """Return the counts of tokens as OpenAI's API has them."""
    n_prompt, n_text = done.prompt_tokens, done.completion_tokens
    return {"prompt_tokens": n_prompt, "completion_tokens": n_text, "total_tokens": n_prompt + n_text}
