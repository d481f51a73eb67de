"""WordPiece (`bert`; Wu et al. 2016, Devlin et al. 2018): words, each cut into the longest pieces from its left.

Words are what lies between spaces and punctuation in the normalized text: without accents, in lower case, with each
Chinese character a word of its own. In a file a piece that begins a word has U+2581 in front of it, and one that
continues it nothing (where BERT's own vocabulary has "##"). What differs between implementations is as in Hugging
Face's `tokenizers`, with which such models are trained.
"""

import unicodedata
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from pyinfer.errors import TokenizerError
from pyinfer.tokenizer.base import Tokenizer
from pyinfer.tokenizer.vocabulary import CONTROL, KEY, UNKNOWN, read_id, read_vocabulary

DEFAULT_IDS = {"unknown": 100, "bos": 101, "eos": 102}  # [UNK], [CLS], [SEP] in BERT's own vocabulary
WORD_START = "\u2581"
MAX_WORD = 100  # characters; longer words are unknown
CACHED_WORDS = 1 << 16

CJK = (  # ideographs, not all that CJK languages are written with
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B920, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)
ASCII_SYMBOLS = frozenset("$+<=>^`|~")  # punctuation for BERT, symbols for Unicode


class CharacterMap(dict[int, str]):
    """A table for `str.translate` that is filled as characters come."""

    def __init__(self, function: Callable[[str], str]) -> None:
        super().__init__()
        self._function = function

    def __missing__(self, code_point: int) -> str:
        text = self[code_point] = self._function(chr(code_point))
        return text


def _clean(c: str) -> str:
    """White space as a space, control characters as nothing, ideographs between spaces."""
    category = unicodedata.category(c)
    if c in "\t\n\r" or category[0] == "Z":
        return " "
    if c == "\ufffd" or category in ("Cc", "Cf", "Co"):
        return ""
    return f" {c} " if any(first <= ord(c) <= last for first, last in CJK) else c


def _simplify(c: str) -> str:
    """Lower case without accents, of a character in normal form D; punctuation between spaces."""
    category = unicodedata.category(c)
    if category == "Mn":
        return ""
    return f" {c} " if category[0] == "P" or c in ASCII_SYMBOLS else c.lower()


CLEAN, SIMPLE = CharacterMap(_clean), CharacterMap(_simplify)


def split_words(text: str) -> list[str]:
    """The words of a text, normalized."""
    return unicodedata.normalize("NFD", text.translate(CLEAN)).translate(SIMPLE).split()


class WordPieceTokenizer(Tokenizer):
    """WordPiece from a GGUF file's metadata; a text gets [CLS] in front and [SEP] behind."""

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        vocabulary = read_vocabulary(metadata, DEFAULT_IDS)
        n = len(vocabulary.texts)
        vocabulary.bos_id = read_id(metadata, "cls", n, vocabulary.bos_id)
        vocabulary.eos_id = read_id(metadata, "seperator", n, vocabulary.eos_id)  # so spelled in the format
        vocabulary.add_bos = vocabulary.add_eos = True
        super().__init__(vocabulary, add_bos=True, adds_space=True)
        if vocabulary.unknown_id is None:
            raise TokenizerError(f"{KEY}unknown_token_id is missing, and the vocabulary has {n} tokens only")
        self._unknown = vocabulary.unknown_id
        self._texts = vocabulary.texts
        self._first: dict[str, int] = {}
        self._next: dict[str, int] = {}
        for i in range(n):
            text = vocabulary.texts[i].decode("utf-8", "surrogateescape")
            if text.startswith(WORD_START):
                self._first.setdefault(text[1:], i)
            else:
                self._next.setdefault(text, i)
        self._longest = max(map(len, (*self._first, *self._next)))
        self._pieces = lru_cache(CACHED_WORDS)(self._split_word)

    def _encode_plain(self, text: bytes, after_special: bool) -> list[int]:
        return [token for word in split_words(text.decode()) for token in self._pieces(word)]

    def _split_word(self, word: str) -> tuple[int, ...]:
        """The longest piece that the word begins with, then again of the rest; the unknown token if that fails."""
        tokens: list[int] = []
        start, pieces = 0, self._first
        while start < len(word) <= MAX_WORD:
            ends = range(min(len(word), start + self._longest), start, -1)
            end = next((end for end in ends if word[start:end] in pieces), None)
            if end is None:
                break
            tokens.append(pieces[word[start:end]])
            start, pieces = end, self._next
        return tuple(tokens) if start == len(word) else (self._unknown,)

    def _token_bytes(self, token: int) -> bytes:
        text = self._texts[token]
        start = WORD_START.encode()
        if text.startswith(start) and self._types[token] not in (CONTROL, UNKNOWN):
            return b" " + text.removeprefix(start)
        return text
