"""Log-probabilities of tokens, in the forms that OpenAI's completions and chats have."""

from __future__ import annotations

from collections.abc import Sequence

from pyinfer.compat.types import ChatCompletionLogprobs, ChatCompletionTopLogprobToken, CompletionLogprobs
from pyinfer.sampling.logprobs import Choice
from pyinfer.tokenizer import Tokenizer


def token_text(tokenizer: Tokenizer, token: int) -> str:
    """Return a token's text, without incomplete characters."""
    return tokenizer.token_bytes(token).decode("utf-8", errors="ignore")


class LogprobsWriter:
    """Writes log-probabilities of a text while it is generated. `offset`: the index of its first character."""

    def __init__(self, tokenizer: Tokenizer, offset: int) -> None:
        self._tokenizer = tokenizer
        self._offset = offset
        self._decoder = tokenizer.stream_decoder(skip_special=True, continues=True)

    def write(self, tokens: Sequence[int], choices: Sequence[Choice | None]) -> CompletionLogprobs:
        """Write those of the next tokens. A choice is None for a token that has none."""
        written = CompletionLogprobs(tokens=[], text_offset=[], token_logprobs=[], top_logprobs=[])
        for token, choice in zip(tokens, choices, strict=True):
            text = token_text(self._tokenizer, token)
            written["tokens"].append(text)
            written["text_offset"].append(self._offset)
            written["token_logprobs"].append(None if choice is None else choice.logprob)
            top = None
            if choice is not None:
                top = {token_text(self._tokenizer, other): logprob for other, logprob in choice.top}
                if choice.logprob is not None:
                    top[text] = choice.logprob
            written["top_logprobs"].append(top)
            self._offset += len(self._decoder.push(token))
        return written


def chat_logprobs(tokenizer: Tokenizer, choices: Sequence[Choice]) -> ChatCompletionLogprobs:
    def entry(token: int, logprob: float | None) -> ChatCompletionTopLogprobToken:
        data = tokenizer.token_bytes(token)
        return {"token": token_text(tokenizer, token), "logprob": logprob or 0.0, "bytes": list(data)}

    return {
        "content": [
            {**entry(choice.token, choice.logprob), "top_logprobs": [entry(*other) for other in choice.top]}
            for choice in choices
        ],
        "refusal": None,
    }
