"""WordPiece (`bert`; Wu et al. 2016, Devlin et al. 2018): words, each cut from its left into the longest pieces.

The text is normalized first: without accents and in lower case, unless the file says otherwise. Spaces and punctuation
separate words, and each Chinese character is a word of its own. In a file, U+2581 stands before a piece that begins a
word, and nothing before one that continues it (BERT's own vocabulary has "##" there). Where implementations differ,
this one does what Hugging Face's `tokenizers` does, with which such models are trained.
"""

import unicodedata
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from pyinfer.errors import TokenizerError
from pyinfer.tokenizer.base import Tokenizer
from pyinfer.tokenizer.vocabulary import CONTROL, KEY, UNKNOWN, read_flag, read_id, read_vocabulary

DEFAULT_IDS = {"unknown": 100, "bos": 101, "eos": 102}  # [UNK], [CLS], [SEP] in BERT's own vocabulary
WORD_START = "\u2581"
MAX_WORD = 100  # characters, as BERT has it; longer words are unknown
CACHED_WORDS = 1 << 16  # whose pieces are kept: common words, in some megabytes

CJK = (  # code points of ideographs, first and last; kana and hangul are no words of their own
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
    """A table for `str.translate`, which computes an entry when its character comes for the first time."""

    def __init__(self, function: Callable[[str], str]) -> None:
        super().__init__()
        self._function = function

    def __missing__(self, code_point: int) -> str:
        text = self[code_point] = self._function(chr(code_point))
        return text


def _clean(c: str) -> str:
    """White space becomes a space, a control character nothing; an ideograph gets spaces around it."""
    category = unicodedata.category(c)
    if c in "\t\n\r" or category[0] == "Z":
        return " "
    if c == "\ufffd" or category in ("Cc", "Cf", "Co"):
        return ""
    return f" {c} " if any(first <= ord(c) <= last for first, last in CJK) else c


CLEAN = CharacterMap(_clean)


class WordSplitter:
    """Normalizes a text and cuts it into words.

    - `lowercase`: letters become lower case.
    - `strip_accents`: characters are decomposed, and their accents dropped.
    """

    def __init__(self, lowercase: bool = True, strip_accents: bool = True) -> None:
        self._lowercase = lowercase
        self._strip_accents = strip_accents
        self._simple = CharacterMap(self._simplify)

    def split(self, text: str) -> list[str]:
        """Cut a text into words."""
        clean = text.translate(CLEAN)
        if self._strip_accents:
            clean = unicodedata.normalize("NFD", clean)
        return clean.translate(self._simple).split()

    def _simplify(self, c: str) -> str:
        """Punctuation gets spaces around it; an accent becomes nothing and a letter lower case, where that is asked."""
        category = unicodedata.category(c)
        if category == "Mn" and self._strip_accents:
            return ""
        if category[0] == "P" or c in ASCII_SYMBOLS:
            return f" {c} "
        return c.lower() if self._lowercase else c


class WordPieceTokenizer(Tokenizer):
    """WordPiece from a GGUF file's metadata; [CLS] stands before a text and [SEP] after it."""

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        vocabulary = read_vocabulary(metadata, DEFAULT_IDS)
        n = len(vocabulary.texts)
        vocabulary.bos_id = read_id(metadata, "cls", n, vocabulary.bos_id)
        vocabulary.eos_id = read_id(metadata, "seperator", n, vocabulary.eos_id)  # the format spells it so
        vocabulary.add_bos = vocabulary.add_eos = True
        super().__init__(vocabulary, add_bos=True, adds_space=True)
        if vocabulary.unknown_id is None:
            raise TokenizerError(f"{KEY}unknown_token_id is missing, and the vocabulary has {n} tokens only")
        self._unknown = vocabulary.unknown_id
        self._texts = vocabulary.texts
        lowercase = read_flag(metadata, "normalizer.lowercase") is not False
        strip_accents = read_flag(metadata, "normalizer.strip_accents")
        self._words = WordSplitter(lowercase, lowercase if strip_accents is None else strip_accents)
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
        return [token for word in self._words.split(text.decode()) for token in self._pieces(word)]

    def _split_word(self, word: str) -> tuple[int, ...]:
        """The longest piece that the word begins with, then that of the rest; the unknown token if there is none."""
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
