"""From bytes to token ids and back, and the ids of special tokens."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from pyinfer.arguments import Bytes, checked_ids, quoted
from pyinfer.compat.context import token_list
from pyinfer.compat.handles import ModelHandle
from pyinfer.compat.model import Model
from pyinfer.compat.tokenizers import BaseLlamaTokenizer, LlamaHFTokenizer
from pyinfer.errors import ParameterError
from pyinfer.tokenizer import Tokenizer

__all__ = ["BaseLlamaTokenizer", "LlamaHFTokenizer", "LlamaTokenizer", "Vocabulary"]


class LlamaTokenizer(BaseLlamaTokenizer):
    """llama-cpp-python's tokenizer of a model, `Llama.tokenizer_`. As there, `special` is True by default."""

    def __init__(self, llama: Vocabulary) -> None:
        self._llama = llama

    @classmethod
    def from_ggml_file(cls, path: str) -> LlamaTokenizer:
        """Load the tokenizer of a GGUF file. Raises what Llama raises."""
        return cls(Vocabulary(path, vocab_only=True))

    def tokenize(self, text: bytes, add_bos: bool = True, special: bool = True) -> list[int]:
        """Tokenize as Llama.tokenize does."""
        return self._llama._tokenize(text, add_bos, special)

    def detokenize(
        self, tokens: Sequence[int], prev_tokens: Sequence[int] | None = None, special: bool = False
    ) -> bytes:
        """Detokenize as Llama.detokenize does."""
        return self._llama._detokenize(tokens, prev_tokens, special)

    def encode(self, text: str, add_bos: bool = True, special: bool = True) -> list[int]:
        """Return the token ids of a text."""
        return self.tokenize(text.encode("utf-8", errors="ignore"), add_bos, special)

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of token ids, without bytes that are no UTF-8."""
        return self.detokenize(tokens).decode("utf-8", errors="ignore")


class Vocabulary(Model):
    """`Llama`'s methods on tokens."""

    def tokenize(self, text: bytes, add_bos: bool = True, special: bool = False) -> list[int]:
        """Return the token ids of a text.

        - `text`: bytes of UTF-8.
        - `add_bos` (True): add the begin and end tokens that the model asks for.
        - `special` (False): control tokens in the text become their ids.

        Raises ParameterError for bytes that are no UTF-8.
        """
        if self._own_tokenizer is None:
            return self._tokenize(text, add_bos, special)
        return list(self._own_tokenizer.tokenize(text, add_bos, special))

    def _tokenize(self, text: bytes, add_bos: bool, special: bool) -> list[int]:
        """Tokenize by the model's file."""
        if not isinstance(text, Bytes):
            raise ParameterError(f"text is {quoted(text)}; expected bytes of UTF-8, such as b'Hello'")
        try:
            decoded = bytes(text).decode("utf-8")
        except UnicodeDecodeError as error:
            raise ParameterError(f"text is {text!r:.60}; expected bytes of UTF-8: {error}") from None
        return self._tokenizer.encode(decoded, add_special=add_bos, parse_special=special)

    def detokenize(
        self, tokens: Sequence[int], prev_tokens: Sequence[int] | None = None, special: bool = False
    ) -> bytes:
        """Return the bytes of token ids.

        - `tokens`: a list of token ids.
        - `prev_tokens` (None): the tokens before them; with these, a space at the front is kept.
        - `special` (False): include the texts of control tokens.

        Raises ParameterError for what is no list of ids.
        """
        if self._own_tokenizer is None:
            return self._detokenize(tokens, prev_tokens, special)
        own: bytes = self._own_tokenizer.detokenize(tokens, prev_tokens=prev_tokens, special=special)
        return own

    def _detokenize(self, tokens: Sequence[int], prev_tokens: Sequence[int] | None, special: bool) -> bytes:
        """Detokenize by the model's file."""
        ids = self._checked_ids(tokens)
        if prev_tokens is None:
            return self._bytes_of(ids, special)
        before = self._checked_ids(prev_tokens)
        return self._bytes_of(before + ids, special)[len(self._bytes_of(before, special)) :]

    def _own_tokens(self, text: str) -> list[int]:
        """Return a prompt's tokens by the tokenizer that a program gave, with the begin token once."""
        tokens = self.tokenize(text.encode("utf-8"), add_bos=False, special=True)
        bos = [self.token_bos()] if self._tokenizer.add_bos and self.token_bos() >= 0 else []
        while bos and tokens[:1] == bos:
            tokens = tokens[1:]
        return bos + tokens

    def _checked_ids(self, tokens: Any) -> list[int]:
        return checked_ids(token_list(tokens), self._tokenizer.n_vocab, "tokens")

    def _bytes_of(self, ids: list[int], special: bool) -> bytes:
        tokenizer = self._tokenizer
        text = tokenizer.decode_bytes([token for token in ids if special or not tokenizer.is_special(token)])
        return text.removeprefix(b" ") if ids and ids[0] == tokenizer.bos_id and not special else text

    @property
    def tokenizer_(self) -> BaseLlamaTokenizer:
        return LlamaTokenizer(self) if self._own_tokenizer is None else self._own_tokenizer

    @cached_property
    def _model(self) -> ModelHandle:
        return ModelHandle(self)

    @property
    def _token_eos(self) -> int:
        return self.token_eos()

    @property
    def _token_nl(self) -> int:
        return self.token_nl()

    def tokenizer(self) -> Tokenizer:
        """pyinfer's tokenizer of the model."""
        return self._tokenizer

    def token_bos(self) -> int:
        """The token that begins a text; -1 if there is none."""
        return -1 if self._tokenizer.bos_id is None else self._tokenizer.bos_id

    def token_eos(self) -> int:
        """The token that ends a text; -1 if there is none."""
        return -1 if self._tokenizer.eos_id is None else self._tokenizer.eos_id

    def token_nl(self) -> int:
        """The token of a line break."""
        return self._tokenizer.encode("\n", add_special=False, continues=True)[-1]
