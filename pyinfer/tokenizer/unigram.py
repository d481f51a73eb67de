"""SentencePiece's unigram model (`t5`; Kudo 2018, arXiv:1804.10959): of all ways to cut a text, the likeliest pieces.

A text is normalized first: a map in the file replaces characters, and U+2581 stands for a space. A character without a
piece is the unknown token, once for a run of them; a vocabulary with tokens for bytes gives these instead, as
SentencePiece does.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyinfer._bpe import UnigramPieces
from pyinfer.errors import TokenizerError
from pyinfer.tokenizer.base import MAX_TEXT, Tokenizer
from pyinfer.tokenizer.vocabulary import KEY, read_byte_values, read_flag, read_numbers, read_vocabulary

DEFAULT_IDS = {"eos": 1, "unknown": 2, "padding": 0}  # as in T5's own vocabulary
MAX_PIECE = 1024  # bytes; SentencePiece makes 16 characters at most, if it is not told otherwise
MAX_PIECES_BYTES = 1 << 30  # of all together; the compiled part numbers them with 32 bits
MAX_REPLACEMENT = 256  # bytes; the longest of Unicode's compatibility mappings has 33


class UnigramTokenizer(Tokenizer):
    """SentencePiece unigram from a GGUF file's metadata."""

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        vocabulary = read_vocabulary(metadata, DEFAULT_IDS)
        if vocabulary.add_eos is None:
            vocabulary.add_eos = True
        self._prefix = read_flag(metadata, "add_space_prefix") is True
        self._merge = read_flag(metadata, "remove_extra_whitespaces") is True
        super().__init__(vocabulary, add_bos=False, adds_space=self._prefix)
        texts = vocabulary.texts
        scores = read_numbers(metadata, KEY + "scores", self.n_vocab, 0.0, np.float32)
        if not np.isfinite(scores).all():
            bad = int((~np.isfinite(scores)).argmax())
            raise TokenizerError(f"{KEY}scores[{bad}] is {scores[bad]}; expected a finite number")
        if texts.lengths.max() > MAX_PIECE or texts.lengths.sum() > MAX_PIECES_BYTES:
            longest = int(texts.lengths.argmax())
            raise TokenizerError(
                f"{KEY}tokens[{longest}] has {texts.lengths[longest]} bytes, all have {texts.lengths.sum()}; "
                f"expected at most {MAX_PIECE} and {MAX_PIECES_BYTES}"
            )
        byte_values = read_byte_values(metadata, vocabulary)
        self._pieces = UnigramPieces(
            texts.buffer, texts.offsets, texts.lengths, vocabulary.file_types, byte_values, scores
        )
        charsmap = read_charsmap(metadata)
        if charsmap is not None:
            self._pieces.set_charsmap(*charsmap)
        self._unknown = -1 if vocabulary.unknown_id is None else vocabulary.unknown_id

    def _encode_plain(self, text: bytes, after_special: bool) -> list[int]:
        normal = self._pieces.normalize(text, self._prefix, self._merge, not after_special, MAX_TEXT)
        if normal is None:
            raise TokenizerError(
                f"{KEY}precompiled_charsmap is damaged, or makes more than {MAX_TEXT} bytes of {len(text)}"
            )
        ids, bad = self._pieces.encode(normal, self._unknown)
        if bad >= 0:
            raise TokenizerError(f"the vocabulary has no token for {normal[bad:].decode(errors='replace')[:1]!r}")
        return ids

    def _token_bytes(self, token: int) -> bytes:
        return self._pieces.token_bytes(token)


def read_charsmap(metadata: Mapping[str, Any]) -> tuple[NDArray[np.uint32], NDArray[np.uint8]] | None:
    """Read the map of characters: the nodes of its double array, and its replacements; None where there is no map.

    It has the number of bytes of the nodes (uint32), the nodes, and the replacements with a zero after each.
    """
    key = KEY + "precompiled_charsmap"
    value = metadata.get(key)
    if value is None or (hasattr(value, "__len__") and len(value) == 0):
        return None
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "iu" or value.dtype.itemsize != 1:
        raise TokenizerError(f"{key} is no array of bytes")
    raw = np.ascontiguousarray(value).view(np.uint8)
    n_bytes = int.from_bytes(raw[:4].tobytes(), "little")
    if n_bytes % 4 or not 4 <= n_bytes < len(raw) - 4:
        raise TokenizerError(f"{key} has {len(raw)} bytes, of which {n_bytes} are said to be its nodes")
    replacements = raw[4 + n_bytes :]
    ends = np.flatnonzero(replacements == 0)
    if replacements[-1] != 0 or np.diff(ends, prepend=-1).max() > MAX_REPLACEMENT + 1:
        raise TokenizerError(f"{key}: a replacement has no end within {MAX_REPLACEMENT} bytes")
    return raw[4 : 4 + n_bytes].copy().view("<u4").astype(np.uint32), replacements.copy()
