"""Tokenizers that programs give to `Llama(tokenizer=…)`, in place of the file's."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any

from pyinfer.errors import ParameterError


class BaseLlamaTokenizer(abc.ABC):
    """What `Llama(tokenizer=…)` takes: an object that has these two methods. Ids must be those of the model's file."""

    @abc.abstractmethod
    def tokenize(self, text: bytes, add_bos: bool = True, special: bool = True) -> list[int]:
        """Return the token ids of bytes of UTF-8."""

    @abc.abstractmethod
    def detokenize(
        self, tokens: Sequence[int], prev_tokens: Sequence[int] | None = None, special: bool = False
    ) -> bytes:
        """Return the bytes of token ids."""


class LlamaHFTokenizer(BaseLlamaTokenizer):
    """A tokenizer of Hugging Face's transformers. `hf_tokenizer`: the tokenizer.

    Llama("model.gguf", tokenizer=LlamaHFTokenizer.from_pretrained("ORG/REPO"))
    """

    def __init__(self, hf_tokenizer: Any) -> None:
        self.hf_tokenizer = hf_tokenizer

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str) -> LlamaHFTokenizer:
        """Load a tokenizer of the hub or of a folder. Raises ImportError without `pip install transformers`."""
        from transformers import AutoTokenizer

        return cls(AutoTokenizer.from_pretrained(pretrained_model_name_or_path))

    def tokenize(self, text: bytes, add_bos: bool = True, special: bool = True) -> list[int]:
        """Tokenize; `special` adds the tokens that the tokenizer puts around texts, and `add_bos` has no effect."""
        ids: list[int] = self.hf_tokenizer.encode(text.decode("utf-8", errors="ignore"), add_special_tokens=special)
        return ids

    def detokenize(
        self, tokens: Sequence[int], prev_tokens: Sequence[int] | None = None, special: bool = False
    ) -> bytes:
        """Detokenize; with `prev_tokens`, the bytes that follow those of these tokens."""
        before = list(prev_tokens or ())
        text = self._bytes([*before, *tokens], special)
        return text[len(self._bytes(before, special)) :] if before else text

    def _bytes(self, tokens: list[int], special: bool) -> bytes:
        text: str = self.hf_tokenizer.decode(tokens, skip_special_tokens=not special)
        return text.encode("utf-8", errors="ignore")


def checked_tokenizer(tokenizer: Any) -> Any:
    """Return a tokenizer, or None. Raises ParameterError for an object without `tokenize` and `detokenize`."""
    missing = [name for name in ("tokenize", "detokenize") if not callable(getattr(tokenizer, name, None))]
    if tokenizer is not None and missing:
        raise ParameterError(
            f"tokenizer is a {type(tokenizer).__name__}; expected a LlamaHFTokenizer or another object with the "
            "methods tokenize and detokenize"
        )
    return tokenizer
