"""Byte-level BPE (`gpt2`): a pre-tokenizer cuts a text into words, then merges join the bytes of each word."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyinfer._bpe import BytePairs
from pyinfer.errors import TokenizerError
from pyinfer.tokenizer.base import Tokenizer
from pyinfer.tokenizer.pretokenizers import PRE_TOKENIZERS
from pyinfer.tokenizer.vocabulary import KEY, read_strings, read_vocabulary


def byte_of_code_point() -> NDArray[np.int16]:
    """GPT-2's printable alphabet: int16 [512], the byte that each code point stands for, or -1.

    Printable Latin-1 characters stand for themselves; the other bytes, in order, are U+0100 and the code points after.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    alphabet = np.full(512, -1, np.int16)
    alphabet[printable] = printable
    alphabet[0x100 : 0x100 + len(others)] = others
    return alphabet


class BPETokenizer(Tokenizer):
    """Byte-level BPE from a GGUF file's metadata."""

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        vocabulary = read_vocabulary(metadata, {})
        pre = PRE_TOKENIZERS.get(vocabulary.pre)
        if pre is None:
            known = ", ".join(sorted(PRE_TOKENIZERS))
            raise TokenizerError(f"{KEY}pre is {vocabulary.pre!r:.60}, which is not known; known are {known}")
        super().__init__(vocabulary, pre.add_bos)
        self._splitter = pre.compile()
        self._whole_words = pre.whole_words
        texts = vocabulary.texts
        self._pairs = BytePairs(byte_of_code_point(), texts.buffer, texts.offsets, texts.lengths, vocabulary.file_types)
        merges = read_strings(metadata, KEY + "merges")
        bad = self._pairs.add_merges(merges.buffer, merges.offsets, merges.lengths)
        if bad >= 0:
            raise TokenizerError(f"{KEY}merges[{bad}] is {merges[bad][:60]!r}; expected two texts with a space between")

    def _encode_plain(self, text: bytes, after_special: bool) -> list[int]:
        return self._pairs.encode(self._splitter.split(text.decode()), self._whole_words)

    def _token_bytes(self, token: int) -> bytes:
        return self._pairs.token_bytes(token)
