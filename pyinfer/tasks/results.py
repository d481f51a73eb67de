"""The results of generation: pieces of text while it runs, and a completion at its end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pyinfer.arguments import shortened
from pyinfer.sampling.logprobs import Choice

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class Piece:
    """Hold a part of a text that has become certain.

    - `text`: the part.
    - `token`: the id of the token that made it certain; None for text that was held back until the end.
    - `logprobs`: of the tokens since the last piece, where the parameters ask for them; otherwise empty.
    - `index` (0): which of the prompt's texts this is a part of, where `n` is above 1.

        for piece in llm.stream("Once upon a time"):
            print(piece.index, piece.text)
    """

    text: str
    token: int | None
    logprobs: tuple[Choice, ...] = ()
    index: int = 0


@dataclass(frozen=True)
class Completion:
    """Hold a generated text, and how it was generated.

    - `text`: the text, and `tokens`: its ids, without the end token.
    - `finish_reason`: "stop" for an end token, a stop text or the end of a guide's text; "length" for `max_tokens` or a
      full context. Before a "length", a guide's text is completed, if a few tokens suffice.
    - `prompt`: the prompt's ids; `cached_tokens`: how many of them were found in the cache.
    - `prompt_seconds`: until the prompt's last logits; `generation_seconds`: the time after that.
    - `logprobs`: of each token; `prompt_logprobs`: of each token of the prompt, None for its first one. Both are None
      where the parameters do not ask for them.
    - `choices`: all texts of the prompt, this one first, where `n` was above 1; otherwise empty.
    - `drafted_tokens`: draft tokens that were computed; `accepted_tokens`: those of them that were accepted.

        done = llm.generate("The capital of France is")
        print(done.text, done.finish_reason, done.tokens_per_second)
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

    def __repr__(self) -> str:
        """Show the beginning of the text and counts, and not thousands of token ids."""
        choices = f", choices={len(self.choices)}" if self.choices else ""
        return (
            f"Completion(text={shortened(self.text)}, finish_reason={self.finish_reason!r}, "
            f"prompt_tokens={self.prompt_tokens}, completion_tokens={self.completion_tokens}{choices})"
        )

    @property
    def prompt_tokens(self) -> int:
        """How many tokens the prompt has."""
        return len(self.prompt)

    @property
    def completion_tokens(self) -> int:
        """How many tokens the text has."""
        return len(self.tokens)

    @property
    def prompt_tokens_per_second(self) -> float:
        """The speed of the prompt's tokens that were not cached."""
        return (self.prompt_tokens - self.cached_tokens) / self.prompt_seconds if self.prompt_seconds else 0.0

    @property
    def tokens_per_second(self) -> float:
        """The speed of the tokens after the first one, which comes from the prompt's forward pass."""
        steps = len(self.tokens) - 1
        return steps / self.generation_seconds if steps > 0 and self.generation_seconds else 0.0
