"""What generation gives: pieces of text while it runs, and a completion at its end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pyinfer.sampling.logprobs import Choice

FinishReason = Literal["stop", "length"]


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
    drafted_tokens: draft tokens that were computed, of which accepted_tokens were right.
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
