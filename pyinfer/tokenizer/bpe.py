"""Byte-level BPE (`gpt2`): a pre-tokenizer cuts a text into words, then merges join the bytes of each word.

Gemma 4's vocabulary (`gemma4`) has characters instead: U+2581 for a space, and tokens for the bytes of those that it
lacks.
"""

import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyinfer._bpe import BytePairs
from pyinfer.errors import TokenizerError
from pyinfer.tokenizer.base import Tokenizer
from pyinfer.tokenizer.pretokenizers import PRE_TOKENIZERS
from pyinfer.tokenizer.vocabulary import KEY, read_byte_values, read_strings, read_vocabulary

USUAL = "llama-bpe"  # whose words most models have, but for their digits
UNSUPPORTED = ("sarvam-moe", "whitespace")  # of characters, too, but with other rules


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
        if metadata.get(KEY + "model") == "gemma4":
            vocabulary.pre = "gemma4"
        pre = PRE_TOKENIZERS.get(vocabulary.pre)
        if vocabulary.pre in UNSUPPORTED:
            raise TokenizerError(f"{KEY}pre is {vocabulary.pre!r}, which is not supported")
        if pre is None:
            warnings.warn(
                f"{KEY}pre is {vocabulary.pre!r:.60}, which is not known; words are cut as for {USUAL!r}, so some "
                "token ids may be wrong",
                stacklevel=2,
            )
            pre = replace(PRE_TOKENIZERS[USUAL], whole_words=False, add_bos=False)
        if pre.characters:
            vocabulary.add_bos = True  # whatever the file says, as llama.cpp has it
        super().__init__(vocabulary, pre.add_bos)
        self._characters = pre.characters
        self._splitter = pre.compile()
        self._whole_words = pre.whole_words
        texts = vocabulary.texts
        byte_values = read_byte_values(metadata, vocabulary) if pre.characters else None
        self._pairs = BytePairs(
            byte_of_code_point(), texts.buffer, texts.offsets, texts.lengths, vocabulary.file_types, byte_values
        )
        merges = read_strings(metadata, KEY + "merges")
        bad = self._pairs.add_merges(merges.buffer, merges.offsets, merges.lengths)
        if bad >= 0:
            raise TokenizerError(f"{KEY}merges[{bad}] is {merges[bad][:60]!r}; expected two texts with a space between")

    def _encode_plain(self, text: bytes, after_special: bool) -> list[int]:
        plain = text.decode()
        if self._characters:
            plain = plain.replace("\u2581", " ")
        return self._pairs.encode(self._splitter.split(plain), self._whole_words)

    def _token_bytes(self, token: int) -> bytes:
        return self._pairs.token_bytes(token)
