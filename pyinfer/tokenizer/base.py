"""What all tokenizers share: special tokens, the tokens around a text, and decoding of ids."""

import operator
from abc import ABC, abstractmethod
from collections.abc import Collection, Container, Iterable, Sequence
from itertools import groupby
from typing import Any

from pyinfer._bpe import SpecialTokens
from pyinfer.errors import TokenizerError
from pyinfer.tokenizer.stream import StreamDecoder
from pyinfer.tokenizer.vocabulary import CONTROL, UNKNOWN, USER_DEFINED, Vocabulary

NO_UTF8 = 0xFF  # a byte that UTF-8 never has
MAX_TEXT = 1 << 30  # bytes; the compiled part has positions of 32 bits

# Special tokens that white space beside them is part of. The keys are parts of a model's name (right side; the values
# are the exceptions) or of its pre-tokenizer's name (left side). Files do not say so; llama.cpp goes by names, too.
STRIPPED_RIGHT = {"phi-3": (b"<unk>", b"<s>", b"<|endoftext|>"), "phi3": (b"<unk>", b"<s>", b"<|endoftext|>")}
STRIPPED_LEFT = {"jina-v2-": b"<mask>"}


class Tokenizer(ABC):
    """Convert text to token ids and back; `load_tokenizer` makes one.

    - `n_vocab`: the number of ids.
    - `bos_id`, `eos_id`, `unknown_id`, `padding_id`: special ids as the file names them; None where it names none.
    - `eog_ids`: all tokens that end an answer (end of generation).
    - `add_bos`, `add_eos`: whether `encode` puts these tokens before and after a text.
    - `special_texts`: the texts of control, unknown and user-defined tokens, by id.
    - `chat_template`: the source of the file's main chat template, if it has one; `chat_templates`: of the others, by
      name.
    - `adds_space`: whether `encode` puts a space before a text, which `decode` takes away again.
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
        """Ids of UTF-8 text without special tokens. after_special: it stands at the start or after a special token."""

    @abstractmethod
    def _token_bytes(self, token: int) -> bytes:
        """Bytes of a token, whose id is in range."""

    def encode(
        self, text: str, add_special: bool = True, parse_special: bool = False, continues: bool = False
    ) -> list[int]:
        """Convert a text to token ids.

        - `text`: at most 1 GiB of UTF-8.
        - `add_special` (True): put the begin and end tokens around it that the model asks for.
        - `parse_special` (False): control tokens such as "<|im_end|>" in the text become their ids. Otherwise they are
          plain text, and only tokens that the vocabulary calls user-defined are recognised.
        - `continues` (False): the text continues another one, so no space is put before it.

        Returns the ids. Raises TokenizerError if the text is no Unicode (lone surrogates), is too long, or has
        characters without a token.

            tokenizer.encode("Hello world")
        """
        data = _utf8(text)
        ids = [self.bos_id] if add_special and self.add_bos and self.bos_id is not None else []
        ids += self._encode_fragments(data, self._special.split(data, parse_special), not continues)
        if add_special and self.add_eos and self.eos_id is not None:
            ids.append(self.eos_id)
        return ids

    def encode_shielded(self, text: str, shielded: Sequence[int], literal: Container[int] = ()) -> list[int]:
        """Convert a text to token ids; control tokens are parsed, but none that has a shielded character.

        - `text`: as `encode` takes it.
        - `shielded`: indices of characters in the text, ascending.
        - `literal` (none): user-defined tokens that are not recognised where they have a shielded character.

        Returns the ids, without begin and end tokens. Raises TokenizerError as `encode` does.

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
        """Ids of fragments (start, end, special token or -1) in order; adjacent plain ones are encoded as one text."""
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
        """Find the special tokens in a text, control tokens included.

        Returns (start, end, id) of each, in order; start and end count characters. Raises TokenizerError as `encode`
        does.
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
        """Convert token ids to text.

        - `ids`: token ids from 0 to n_vocab - 1.
        - `skip_special` (False): leave control tokens out.

        Returns the text; bytes that are no UTF-8 become U+FFFD. Raises TokenizerError for an id out of range, and for
        what is no list of ids.
        """
        decoder = self.stream_decoder(skip_special)
        return "".join([decoder.push(token) for token in _iterable(ids)]) + decoder.finish()

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Join the bytes of token ids. Raises TokenizerError as `decode` does."""
        return b"".join([self.token_bytes(token) for token in _iterable(ids)])

    def token_bytes(self, token: int) -> bytes:
        """Look up the bytes of a token, often not whole characters. Raises TokenizerError for an id out of range."""
        return self._token_bytes(self._checked(token))

    def stream_decoder(
        self, skip_special: bool = False, continues: bool = False, visible_tokens: Collection[int] = ()
    ) -> StreamDecoder:
        """Make a decoder that takes ids one by one.

        - `skip_special` (False): leave control tokens out.
        - `continues` (False): the ids continue a text, so a leading space is kept.
        - `visible_tokens` (none): control tokens that are text even with skip_special, such as those around a tool
          call.
        """
        return StreamDecoder(self, skip_special, continues, visible_tokens)

    def is_special(self, token: int) -> bool:
        """Tell whether a token is no text: a control token or the unknown token."""
        return self._types[self._checked(token)] in (CONTROL, UNKNOWN)

    def is_user_defined(self, token: int) -> bool:
        """Tell whether a token is text that is never divided."""
        return bool(self._types[self._checked(token)] == USER_DEFINED)

    def ids_of_types(self, *types: int) -> list[int]:
        """List the ids of all tokens of these types (numbers of `tokenizer.ggml.token_type`)."""
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
