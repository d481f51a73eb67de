"""What all tokenizers share: special tokens, beginning and end of a text, and the way back from ids to text."""

import operator
from abc import ABC, abstractmethod
from collections.abc import Collection, Container, Iterable, Sequence
from itertools import groupby
from typing import Any

from pyinfer._bpe import SpecialTokens
from pyinfer.errors import TokenizerError
from pyinfer.tokenizer.stream import StreamDecoder
from pyinfer.tokenizer.vocabulary import CONTROL, UNKNOWN, USER_DEFINED, Vocabulary

NO_UTF8 = 0xFF  # a byte that no text has
MAX_TEXT = 1 << 30  # bytes; positions are 32 bits in the compiled part

# White space beside these tokens belongs to them: (part of the model's name or pre-tokenizer) -> side and exceptions.
# Files do not say so; llama.cpp goes by the names too.
STRIPPED_RIGHT = {"phi-3": (b"<unk>", b"<s>", b"<|endoftext|>"), "phi3": (b"<unk>", b"<s>", b"<|endoftext|>")}
STRIPPED_LEFT = {"jina-v2-": b"<mask>"}


class Tokenizer(ABC):
    """Text to token ids and back.

    `n_vocab`: how many ids there are. `bos_id`, `eos_id`, `unknown_id`, `padding_id`: what the file calls so, None
    where it names none; `eog_ids`: all tokens that end an answer. `add_bos`, `add_eos`: whether `encode` puts them
    around a text. `special_texts`: of control, unknown and user-defined tokens, by id. `chat_template`: the source of
    the file's main one, `chat_templates` of its others by name. `adds_space`: a space is put in front of a text, and
    taken away again when ids become text.
    """

    def __init__(self, vocabulary: Vocabulary, add_bos: bool, adds_space: bool = False) -> None:
        self._types = vocabulary.types.tolist()
        self.special_texts = {
            i: vocabulary.texts[i].decode(errors="replace")
            for i in vocabulary.ids_of_types(CONTROL, UNKNOWN, USER_DEFINED)
        }
        self._special = _special_tokens(vocabulary)
        self.n_vocab = len(vocabulary.texts)
        self.bos_id = vocabulary.bos_id
        self.eos_id = vocabulary.eos_id
        self.unknown_id = vocabulary.unknown_id
        self.padding_id = vocabulary.padding_id
        self.eog_ids = vocabulary.eog_ids
        self.add_bos = (add_bos if vocabulary.add_bos is None else vocabulary.add_bos) and self.bos_id is not None
        self.add_eos = bool(vocabulary.add_eos) and self.eos_id is not None
        self.adds_space = adds_space
        self.chat_template = vocabulary.chat_template
        self.chat_templates = vocabulary.chat_templates

    @abstractmethod
    def _encode_plain(self, text: bytes, after_special: bool) -> list[int]:
        """Ids of UTF-8 without special tokens; `after_special`: at the start or after a special token."""

    @abstractmethod
    def _token_bytes(self, token: int) -> bytes:
        """Bytes of a token in range."""

    def encode(
        self, text: str, add_special: bool = True, parse_special: bool = False, continues: bool = False
    ) -> list[int]:
        """Token ids of a text.

        `add_special`: with the begin and end tokens that the model asks for. `parse_special`: control tokens such as
        "<|im_end|>" in the text become their ids; otherwise they are plain text, and only tokens that the vocabulary
        calls user-defined are recognised. `continues`: the text goes on from another, so no space is put in front.

        Raises TokenizerError if the text is not Unicode (lone surrogates) or has characters without a token.

            tokenizer.encode("Hello world")
        """
        data = _utf8(text)
        ids = [self.bos_id] if add_special and self.add_bos and self.bos_id is not None else []
        ids += self._encode_fragments(data, self._special.split(data, parse_special), not continues)
        if add_special and self.add_eos and self.eos_id is not None:
            ids.append(self.eos_id)
        return ids

    def encode_shielded(self, text: str, shielded: Sequence[int], literal: Container[int] = ()) -> list[int]:
        """Token ids of a text whose control tokens are parsed, but for those that would take a shielded character.

        `shielded`: indices of characters, in order. `literal`: user-defined tokens that are not recognised there
        either. No begin or end token is added. Raises TokenizerError as `encode` does.

            tokenizer.encode_shielded("<|im_start|><|im_end|>", shielded=[12])  # the second is text
        """
        data = _utf8(text)
        masked = bytearray(data)
        at = offset = 0
        for i in shielded:
            offset += len(text[at:i].encode())
            at = i
            masked[offset] = NO_UTF8
        fragments = []
        for start, end, token in self._special.split(bytes(masked), True):
            if token >= 0:
                fragments.append((start, end, token))
                continue
            for a, b, found in self._special.split(data[start:end], False):
                plain = found >= 0 and found in literal and NO_UTF8 in masked[start + a : start + b]
                fragments.append((start + a, start + b, -1 if plain else found))
        return self._encode_fragments(data, fragments)

    def _encode_fragments(
        self, data: bytes, fragments: Iterable[tuple[int, int, int]], after_special: bool = True
    ) -> list[int]:
        """Ids of (start, end, special token or -1) in order; neighbouring pieces of plain text are one text."""
        ids: list[int] = []
        for plain, group in groupby(fragments, lambda fragment: fragment[2] < 0):
            parts = list(group)
            if plain:
                ids += self._encode_plain(data[parts[0][0] : parts[-1][1]], after_special)
            else:
                ids += [token for _, _, token in parts]
            after_special = not plain
        return ids

    def find_special(self, text: str) -> list[tuple[int, int, int]]:
        """(start, end, id) of the special tokens in a text, control tokens included; start and end count characters.

        Raises TokenizerError as `encode` does.
        """
        data = _utf8(text)
        found: list[tuple[int, int, int]] = []
        at = 0
        for start, end, token in self._special.split(data, True):
            n = len(data[start:end].decode())
            if token >= 0:
                found.append((at, at + n, token))
            at += n
        return found

    def decode(self, ids: Iterable[int], skip_special: bool = False) -> str:
        """The text of token ids; bytes that are not UTF-8 become U+FFFD. `skip_special`: without control tokens.

        Raises TokenizerError for an id out of range, and for what holds no ids.
        """
        decoder = self.stream_decoder(skip_special)
        return "".join([decoder.push(token) for token in _iterable(ids)]) + decoder.finish()

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of all tokens, one after the other. Raises TokenizerError as decode() does."""
        return b"".join([self.token_bytes(token) for token in _iterable(ids)])

    def token_bytes(self, token: int) -> bytes:
        """The bytes that a token stands for: often not whole characters. Raises TokenizerError if out of range."""
        return self._token_bytes(self._checked(token))

    def stream_decoder(
        self, skip_special: bool = False, continues: bool = False, visible_tokens: Collection[int] = ()
    ) -> StreamDecoder:
        """A decoder that is given ids one by one.

        `continues`: they continue a text, so a leading space is kept. `visible_tokens`: control tokens that are text
        even with skip_special, such as those that mark a tool call.
        """
        return StreamDecoder(self, skip_special, continues, visible_tokens)

    def is_special(self, token: int) -> bool:
        """Whether a token is no text: a control token or the unknown token."""
        return self._types[self._checked(token)] in (CONTROL, UNKNOWN)

    def is_user_defined(self, token: int) -> bool:
        """Whether a token is text that is always kept whole."""
        return bool(self._types[self._checked(token)] == USER_DEFINED)

    def ids_of_types(self, *types: int) -> list[int]:
        """The ids of all tokens of these types (see pyinfer.tokenizer.vocabulary)."""
        return [token for token, kind in enumerate(self._types) if kind in types]

    def _checked(self, token: Any) -> int:
        try:
            i = operator.index(token)
        except TypeError:
            raise TokenizerError(f"token id {token!r:.60} is a {type(token).__name__}; expected an int") from None
        if not 0 <= i < self.n_vocab:
            raise TokenizerError(f"token id {i} is out of range; the vocabulary has ids 0 to {self.n_vocab - 1}")
        return i


def _iterable(ids: Iterable[int]) -> Iterable[int]:
    if isinstance(ids, str) or not isinstance(ids, Iterable):
        raise TokenizerError(f"token ids are a {type(ids).__name__}; expected a list of ints")
    return ids


def _utf8(text: str) -> bytes:
    if not isinstance(text, str):
        raise TokenizerError(f"text is a {type(text).__name__}; expected str")
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        found = ord(text[error.start])
        raise TokenizerError(
            f"text has the lone surrogate U+{found:04X} at position {error.start}; expected Unicode text"
        ) from None
    if len(data) > MAX_TEXT:
        raise TokenizerError(f"text has {len(data)} bytes; at most {MAX_TEXT} can be tokenized at once")
    return data


def _special_tokens(vocabulary: Vocabulary) -> SpecialTokens:
    kept = next((kept for part, kept in STRIPPED_RIGHT.items() if part in vocabulary.name), None)
    left = next((text for part, text in STRIPPED_LEFT.items() if part in vocabulary.pre), None)
    special = SpecialTokens()
    for i in vocabulary.ids_of_types(CONTROL, UNKNOWN, USER_DEFINED):
        text = vocabulary.texts[i]
        control = vocabulary.types[i] != USER_DEFINED
        special.add(text, i, control, text == left, kept is not None and text not in kept)
    return special
