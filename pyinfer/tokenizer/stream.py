"""Text from token ids one at a time, without ever giving half a character."""

import codecs
from collections.abc import Collection
from typing import Protocol


class Pieces(Protocol):
    """A tokenizer, as far as decoding needs one."""

    adds_space: bool

    @property
    def bos_id(self) -> int | None: ...
    def token_bytes(self, token: int) -> bytes: ...
    def is_special(self, token: int) -> bool: ...
    def is_user_defined(self, token: int) -> bool: ...


class StreamDecoder:
    """Turns ids into text as they come; all that it gives, joined, is `Tokenizer.decode` of the ids.

    With `continues` the ids continue a text, so that a space in front of the first word is kept. Control tokens of
    `visible_tokens` are given even with `skip_special`.
    """

    def __init__(
        self,
        tokenizer: Pieces,
        skip_special: bool = False,
        continues: bool = False,
        visible_tokens: Collection[int] = (),
    ) -> None:
        self._tokenizer = tokenizer
        self._skip_special = skip_special
        self._visible_tokens = visible_tokens
        self._drop_space = tokenizer.adds_space and not continues
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        """The text that is complete with this token."""
        tokenizer = self._tokenizer
        piece = tokenizer.token_bytes(token)
        special = tokenizer.is_special(token)
        if self._drop_space and not (special and token == tokenizer.bos_id):
            self._drop_space = False
            if not special and not tokenizer.is_user_defined(token):
                piece = piece.removeprefix(b" ")
        skipped = special and self._skip_special and token not in self._visible_tokens
        return "" if skipped else self._decoder.decode(piece)

    def finish(self) -> str:
        """What is left: U+FFFD if the last character is cut short."""
        return self._decoder.decode(b"", final=True)
