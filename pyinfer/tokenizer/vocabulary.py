"""A model's vocabulary as its metadata gives it, checked once: token texts, types, special ids and flags.

After `read_vocabulary` every text lies in its buffer, parallel arrays are equally long and special ids are in range.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyinfer.errors import TokenizerError
from pyinfer.tokenizer.well_known import END_TEXTS, FILL_END_TEXTS, FILL_TEXTS, SHOWN_TEXTS

KEY = "tokenizer.ggml."
MAX_TOKENS = 1 << 27  # token ids are int32, and merges add symbols of their own

NAMED_IDS = ("bos", "eos", "eot", "eom", "unknown", "padding")

# Types of `tokenizer.ggml.token_type`; csrc/joining.hpp has the same.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6


@dataclass(frozen=True)
class Strings:
    """A list of byte strings without an object for each."""

    buffer: NDArray[np.uint8]
    offsets: NDArray[np.int64]
    lengths: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets)

    def __getitem__(self, i: int) -> bytes:
        start = int(self.offsets[i])
        return self.buffer[start : start + int(self.lengths[i])].tobytes()


@dataclass
class Vocabulary:
    """Token texts and what the metadata says about them."""

    pre: str
    texts: Strings
    file_types: NDArray[np.int32]  # as the file has them: whether joining may give the token
    types: NDArray[np.int32]  # with well-known texts set right: whether it is parsed and shown
    bos_id: int | None = None
    eos_id: int | None = None
    unknown_id: int | None = None
    padding_id: int | None = None
    eog_ids: frozenset[int] = frozenset()
    add_bos: bool | None = None  # None: the file leaves it to the tokenizer
    add_eos: bool | None = None
    chat_template: str | None = None
    chat_templates: Mapping[str, str] = field(default_factory=dict)  # further ones by name
    name: str = ""  # general.name, lower case

    def ids_of_types(self, *types: int) -> list[int]:
        ids: list[int] = np.flatnonzero(np.isin(self.types, types)).tolist()
        return ids


def read_strings(metadata: Mapping[str, Any], key: str) -> Strings:
    """An array of strings; one that keeps its buffer, offsets and lengths is not copied."""
    value = metadata.get(key)
    if value is None:
        raise TokenizerError(f"{key} is missing")
    if not all(hasattr(value, name) for name in ("buffer", "offsets", "lengths")):
        if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
            raise TokenizerError(f"{key} is a {type(value).__name__}; expected an array of strings")
        value = _pack(value, key)
    buffer = np.frombuffer(value.buffer, np.uint8)
    offsets, lengths = (np.ascontiguousarray(a, np.int64) for a in (value.offsets, value.lengths))
    inside = (offsets >= 0) & (offsets <= buffer.size) & (lengths >= 0) & (lengths <= buffer.size - offsets)
    if offsets.shape != lengths.shape or not inside.all():
        raise TokenizerError(f"{key}: a string lies outside the array's {buffer.size} bytes")
    return Strings(buffer, offsets, lengths)


def _pack(texts: Sequence[Any], key: str) -> Strings:
    parts = []
    for i, text in enumerate(texts):
        if not isinstance(text, (str, bytes)):
            raise TokenizerError(f"{key}[{i}] is a {type(text).__name__}; expected a string")
        parts.append(text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text)
    lengths = np.array([len(p) for p in parts], np.int64)
    return Strings(np.frombuffer(b"".join(parts), np.uint8), np.cumsum(lengths) - lengths, lengths)


def read_numbers(metadata: Mapping[str, Any], key: str, n: int, default: float, dtype: Any) -> NDArray[Any]:
    """The first n numbers of an array, or n times the default."""
    value = metadata.get(key)
    if value is None:
        return np.full(n, default, dtype)
    array = np.asarray(value)
    if array.ndim != 1 or array.dtype.kind not in "iuf":
        raise TokenizerError(f"{key} is not an array of numbers")
    if len(array) < n:
        raise TokenizerError(f"{key} has {len(array)} values for {n} tokens")
    return array[:n].astype(dtype)


def read_id(metadata: Mapping[str, Any], name: str, n: int, default: int | None) -> int | None:
    """The id under a key; one out of range is ignored, as llama.cpp does."""
    value = metadata.get(f"{KEY}{name}_token_id")
    if isinstance(value, (int, np.integer)) and 0 <= value < n:
        return int(value)
    return default if default is not None and default < n else None


def read_flag(metadata: Mapping[str, Any], key: str) -> bool | None:
    value = metadata.get(KEY + key)
    if value is None:
        return None
    if not isinstance(value, (bool, np.bool_)):
        raise TokenizerError(f"{KEY}{key} is {value!r:.60}; expected true or false")
    return bool(value)


def read_text(metadata: Mapping[str, Any], key: str) -> str | None:
    value = metadata.get(key)
    if value is not None and not isinstance(value, str):
        raise TokenizerError(f"{key} is a {type(value).__name__}; expected a string")
    return value


def read_named_texts(metadata: Mapping[str, Any], prefix: str) -> dict[str, str]:
    """The texts under keys that begin alike, by the rest of their keys."""
    keys = [key for key in metadata if key.startswith(prefix)]
    return {key.removeprefix(prefix): text for key in keys if (text := read_text(metadata, key)) is not None}


def read_vocabulary(metadata: Mapping[str, Any], defaults: Mapping[str, int]) -> Vocabulary:
    """Reads `tokenizer.*`; `defaults`: ids of bos, eos and unknown where the file names none.

    Raises TokenizerError where arrays are missing, of a wrong type or too short.
    """
    texts = read_strings(metadata, KEY + "tokens")
    n = len(texts)
    if not 0 < n <= MAX_TOKENS:
        raise TokenizerError(f"{KEY}tokens has {n} tokens; expected 1 to {MAX_TOKENS}")
    types = read_numbers(metadata, KEY + "token_type", n, NORMAL, np.int32)
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
        chat_template=read_text(metadata, "tokenizer.chat_template"),
        chat_templates=read_named_texts(metadata, "tokenizer.chat_template."),
        name=(metadata["general.name"] if isinstance(metadata.get("general.name"), str) else "").lower(),
    )
    named = {i for name in ("eos", "eot", "eom") if (i := ids[name]) is not None}
    _mark_well_known(vocabulary, named)
    return vocabulary


def _mark_well_known(vocabulary: Vocabulary, end_ids: set[int]) -> None:
    """Sets the types and the end-of-generation ids that follow from the texts of tokens."""
    found = find_texts(vocabulary.texts, END_TEXTS | FILL_END_TEXTS | FILL_TEXTS | SHOWN_TEXTS)
    for text, i in found.items():
        if text in SHOWN_TEXTS:
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


def find_texts(texts: Strings, wanted: frozenset[str]) -> dict[str, int]:
    """The ids of those texts that are in the vocabulary; the first of equals."""
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
