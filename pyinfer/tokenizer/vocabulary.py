"""A model's vocabulary as its metadata has it, checked once: token texts, types, special ids and flags.

`read_vocabulary` makes sure that every text lies in its buffer, that parallel arrays have equal lengths, and that
special ids are in range.
"""

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyinfer.errors import TokenizerError
from pyinfer.gguf.strings import ByteStrings
from pyinfer.tokenizer.well_known import END_TEXTS, FILL_END_TEXTS, FILL_TEXTS, VISIBLE_TEXTS

KEY = "tokenizer.ggml."
MAX_TOKENS = 1 << 27  # ids are int32, and merges add symbols of their own, which need ids too

BYTE_TEXT = re.compile(rb"<0x([0-9A-Fa-f]{2})>")
NAMED_IDS = ("bos", "eos", "eot", "eom", "unknown", "padding")

# Types of `tokenizer.ggml.token_type`; csrc/joining.hpp has the same.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6


@dataclass
class Vocabulary:
    """Token texts and what the metadata says about them."""

    pre: str
    texts: ByteStrings
    file_types: NDArray[np.int32]  # as the file has them; they decide whether merges may give a token
    types: NDArray[np.int32]  # corrected for well-known texts; they decide whether a token is parsed and visible
    bos_id: int | None = None
    eos_id: int | None = None
    unknown_id: int | None = None
    padding_id: int | None = None
    eog_ids: frozenset[int] = frozenset()
    add_bos: bool | None = None  # None: the file leaves it to the tokenizer
    add_eos: bool | None = None
    chat_template: str | None = None
    chat_templates: Mapping[str, str] = field(default_factory=dict)  # all but the main one, by name
    name: str = ""  # general.name, in lower case

    def ids_of_types(self, *types: int) -> list[int]:
        ids: list[int] = np.flatnonzero(np.isin(self.types, types)).tolist()
        return ids


def read_strings(metadata: Mapping[str, Any], key: str) -> ByteStrings:
    """Read an array of strings; a StringArray, which has buffer, offsets and lengths, is not copied."""
    value = metadata.get(key)
    if value is None:
        raise TokenizerError(f"{key} is missing")
    if not all(hasattr(value, name) for name in ("buffer", "offsets", "lengths")):
        if isinstance(value, np.ndarray) and value.size == 0:
            value = ()  # an empty array may be of any type
        if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
            raise TokenizerError(f"{key} is a {type(value).__name__}; expected an array of strings")
        value = _pack(value, key)
    buffer = np.frombuffer(value.buffer, np.uint8)
    offsets, lengths = (np.ascontiguousarray(a, np.int64) for a in (value.offsets, value.lengths))
    inside = (offsets >= 0) & (offsets <= buffer.size) & (lengths >= 0) & (lengths <= buffer.size - offsets)
    if offsets.shape != lengths.shape or not inside.all():
        raise TokenizerError(f"{key}: a string lies outside the array's {buffer.size} bytes")
    return ByteStrings(buffer, offsets, lengths)


def _pack(texts: Sequence[Any], key: str) -> ByteStrings:
    parts = []
    for i, text in enumerate(texts):
        if not isinstance(text, (str, bytes)):
            raise TokenizerError(f"{key}[{i}] is a {type(text).__name__}; expected a string")
        parts.append(text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text)
    lengths = np.array([len(p) for p in parts], np.int64)
    return ByteStrings(np.frombuffer(b"".join(parts), np.uint8), np.cumsum(lengths) - lengths, lengths)


def read_numbers(metadata: Mapping[str, Any], key: str, n: int, default: float, dtype: Any) -> NDArray[Any]:
    """Read the first n numbers of an array; n times the default where the key is missing."""
    value = metadata.get(key)
    if value is None:
        return np.full(n, default, dtype)
    array = np.asarray(value)
    if array.ndim != 1 or array.dtype.kind not in "iuf":
        raise TokenizerError(f"{key} is not an array of numbers")
    if len(array) < n:
        raise TokenizerError(f"{key} has {len(array)} values for {n} tokens")
    return array[:n].astype(dtype or array.dtype)


def read_types(metadata: Mapping[str, Any], n: int) -> NDArray[np.int32]:
    """Read the types of n tokens; one that is not known is that of normal tokens."""
    types = read_numbers(metadata, KEY + "token_type", n, NORMAL, None)
    return np.where((types >= NORMAL) & (types <= BYTE), types, NORMAL).astype(np.int32)


def read_byte_values(metadata: Mapping[str, Any], vocabulary: Vocabulary) -> NDArray[np.int16]:
    """Which byte each token stands for, int16 [n]; -1: none. Such tokens have texts like <0x0A>."""
    texts, values = vocabulary.texts, np.full(len(vocabulary.texts), -1, np.int16)
    typed = KEY + "token_type" in metadata
    for i in vocabulary.ids_of_types(BYTE) if typed else np.flatnonzero(texts.lengths == len("<0x00>")).tolist():
        if match := BYTE_TEXT.fullmatch(texts[i]):
            values[i] = int(match[1], 16)
    return values


def read_id(metadata: Mapping[str, Any], name: str, n: int, default: int | None) -> int | None:
    """Read a special id; one that is out of range is ignored, as llama.cpp does."""
    key = f"{KEY}{name}_token_id"
    value = metadata.get(key)
    if value is not None and (isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer))):
        raise TokenizerError(f"{key} is {value!r:.60}; expected the id of a token")
    if value is not None and 0 <= value < n:
        return int(value)
    return default if default is not None and default < n else None


def read_flag(metadata: Mapping[str, Any], key: str) -> bool | None:
    """Read a truth value; None where the key is missing."""
    value = metadata.get(KEY + key)
    if value is None:
        return None
    if not isinstance(value, (bool, np.bool_)):
        raise TokenizerError(f"{KEY}{key} is {value!r:.60}; expected true or false")
    return bool(value)


def read_text(metadata: Mapping[str, Any], key: str) -> str | None:
    """Read a string; None where the key is missing."""
    value = metadata.get(key)
    if isinstance(value, bytes):
        raise TokenizerError(f"{key} is text that is not UTF-8")
    if value is not None and not isinstance(value, str):
        raise TokenizerError(f"{key} is a {type(value).__name__}; expected a string")
    return value


def read_template(metadata: Mapping[str, Any], key: str) -> str | None:
    """Read a chat template; warn of one that is no text, without which a model can run."""
    try:
        return read_text(metadata, key)
    except TokenizerError as error:
        warnings.warn(f"the chat template is ignored: {error}", stacklevel=2)
        return None


def read_named_templates(metadata: Mapping[str, Any], prefix: str) -> dict[str, str]:
    """Read the chat templates whose keys have a prefix, by the rest of the key."""
    keys = [key for key in metadata if key.startswith(prefix)]
    return {key.removeprefix(prefix): text for key in keys if (text := read_template(metadata, key)) is not None}


def read_vocabulary(metadata: Mapping[str, Any], defaults: Mapping[str, int]) -> Vocabulary:
    """Read the keys `tokenizer.*`. defaults: ids of bos, eos and unknown for files that name none.

    Raises TokenizerError for arrays that are missing, of a wrong type or too short.
    """
    texts = read_strings(metadata, KEY + "tokens")
    n = len(texts)
    if not 0 < n <= MAX_TOKENS:
        raise TokenizerError(f"{KEY}tokens has {n} tokens; expected 1 to {MAX_TOKENS}")
    types = read_types(metadata, n)
    ids = {name: read_id(metadata, name, n, defaults.get(name)) for name in NAMED_IDS}
    vocabulary = Vocabulary(
        pre=read_text(metadata, KEY + "pre") or "default",
        texts=texts,
        file_types=types,
        types=types.copy(),
        bos_id=ids["bos"],
        eos_id=ids["eos"],
        unknown_id=ids["unknown"],
        padding_id=ids["padding"],
        add_bos=read_flag(metadata, "add_bos_token"),
        add_eos=read_flag(metadata, "add_eos_token"),
        chat_template=read_template(metadata, "tokenizer.chat_template"),
        chat_templates=read_named_templates(metadata, "tokenizer.chat_template."),
        name=_name(metadata.get("general.name")),
    )
    named = {i for name in ("eos", "eot", "eom") if (i := ids[name]) is not None}
    _mark_well_known(vocabulary, named)
    return vocabulary


def _name(value: object) -> str:
    """A model's name in lower case; "" where it has none."""
    if isinstance(value, bytes):
        return value.decode(errors="replace").lower()
    return value.lower() if isinstance(value, str) else ""


def _mark_well_known(vocabulary: Vocabulary, end_ids: set[int]) -> None:
    """Set the types and end-of-generation ids that follow from tokens' texts. end_ids: those that the file names."""
    found = find_texts(vocabulary.texts, END_TEXTS | FILL_END_TEXTS | FILL_TEXTS | VISIBLE_TEXTS)
    for text, i in found.items():
        if text in VISIBLE_TEXTS:
            vocabulary.types[i] = USER_DEFINED
            continue
        vocabulary.types[i] = CONTROL
        if text not in FILL_TEXTS:
            end_ids.add(i)
    # In gpt-oss and Solar "<|end|>" ends a message, not the answer; Gemma 4 has "</s>" as a tag of HTML.
    if "<|end|>" in found and (
        {"<|return|>", "<|call|>"} <= found.keys() or {"<|calls|>", "<|flush|>"} <= found.keys()
    ):
        end_ids.discard(found["<|end|>"])
        vocabulary.types[found["<|end|>"]] = USER_DEFINED
    if "</s>" in found and "<|tool_response>" in found:
        end_ids.discard(found["</s>"])
        vocabulary.types[found["</s>"]] = NORMAL
    vocabulary.eog_ids = frozenset(end_ids)


def find_texts(texts: ByteStrings, wanted: frozenset[str]) -> dict[str, int]:
    """The ids of those texts that are in the vocabulary; of equal texts, the first id."""
    keys = {text.encode(): text for text in wanted}
    first = np.zeros(len(texts), np.uint8)
    filled = texts.lengths > 0
    first[filled] = texts.buffer[texts.offsets[filled]]
    candidates = np.isin(first, [key[0] for key in keys]) & np.isin(texts.lengths, [len(key) for key in keys])
    found: dict[str, int] = {}
    for i in np.flatnonzero(candidates).tolist():
        text = keys.get(texts[i])
        if text is not None:
            found.setdefault(text, i)
    return found
