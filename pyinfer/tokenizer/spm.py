"""SentencePiece's BPE by scores (`llama`): of all adjacent pairs, the one with the greatest score is joined first.

The vocabulary writes a space as U+2581. A character without a piece becomes its UTF-8 bytes.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from pyinfer._bpe import ScoredPieces
from pyinfer.errors import TokenizerError
from pyinfer.tokenizer.base import Tokenizer
from pyinfer.tokenizer.vocabulary import KEY, read_byte_values, read_flag, read_numbers, read_vocabulary

DEFAULT_IDS = {"bos": 1, "eos": 2, "unknown": 0}  # as in Llama's own vocabulary


class SPMTokenizer(Tokenizer):
    """SentencePiece BPE from a GGUF file's metadata."""

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        vocabulary = read_vocabulary(metadata, DEFAULT_IDS)
        adds_space = read_flag(metadata, "add_space_prefix")
        super().__init__(vocabulary, add_bos=True, adds_space=adds_space is not False)
        texts, n = vocabulary.texts, self.n_vocab
        scores = read_numbers(metadata, KEY + "scores", n, 0.0, np.float32)
        if np.isnan(scores).any():
            raise TokenizerError(f"{KEY}scores[{int(np.isnan(scores).argmax())}] is not a number")
        byte_values = read_byte_values(metadata, vocabulary)
        self._pieces = ScoredPieces(
            texts.buffer, texts.offsets, texts.lengths, vocabulary.file_types, byte_values, scores
        )
        self._unknown = -1 if vocabulary.unknown_id is None else vocabulary.unknown_id

    def _encode_plain(self, text: bytes, after_special: bool) -> list[int]:
        escaped = text.replace("\u2581".encode(), b" ")
        if after_special and self.adds_space:
            escaped = b" " + escaped
        ids, bad = self._pieces.encode(escaped, self._unknown)
        if bad >= 0:
            raise TokenizerError(f"the vocabulary has no token for {escaped[bad:].decode()[:1]!r} and no bytes for it")
        return ids

    def _token_bytes(self, token: int) -> bytes:
        return self._pieces.token_bytes(token)
