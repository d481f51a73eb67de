"""Text from token ids one at a time, without ever giving half a character."""

import codecs
from collections.abc import Collection
from typing import Protocol


class TokenTexts(Protocol):
    """What the decoder asks of a Tokenizer."""

    bos_id: int | None
    adds_space: bool

    def token_bytes(self, token: int) -> bytes: ...
    def is_special(self, token: int) -> bool: ...
    def is_user_defined(self, token: int) -> bool: ...


class StreamDecoder:
    """Decodes ids as they come; the texts that it gives, joined, are what `Tokenizer.decode` gives of all ids.

    skip_special: leave control tokens out, but those of visible_tokens. continues: the ids continue a text, so that a
    space before the first word is kept.
    """

    def __init__(
        self,
        tokenizer: TokenTexts,
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
        """Add a token; returns the text that is complete with it. Raises TokenizerError for an id out of range."""
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
        """End the text; returns what is left: U+FFFD if the last character is incomplete."""
        return self._decoder.decode(b"", final=True)
