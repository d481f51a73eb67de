"""Small vocabularies as GGUF metadata, for tests that need no file."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from pyinfer.tokenizer.bpe import byte_of_code_point

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)


def gpt2_alphabet() -> list[str]:
    """The character that stands for each byte."""
    code_points = byte_of_code_point().tolist()
    return [chr(code_points.index(byte)) for byte in range(256)]


def bpe_metadata(
    merges: list[str] = (), special: dict[str, int] | None = None, pre: str = "gpt-2", **keys: Any
) -> dict[str, Any]:
    """Byte-level BPE with all 256 bytes, the results of merges and special texts with their types."""
    special = special or {}
    tokens = list(dict.fromkeys([*gpt2_alphabet(), *(m.replace(" ", "", 1) for m in merges)]))
    types = [NORMAL] * len(tokens) + list(special.values())
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": [*tokens, *special],
        "tokenizer.ggml.token_type": np.array(types, np.int32),
        "tokenizer.ggml.merges": list(merges),
        **{f"tokenizer.ggml.{name}": value for name, value in keys.items()},
    }


def spm_metadata(
    pieces: dict[str, float], special: dict[str, int] | None = None, byte_tokens: bool = True, **keys: Any
) -> dict[str, Any]:
    """SentencePiece with <unk>, <s>, </s>, the bytes, pieces with their scores and special texts with their types."""
    special = special or {}
    bytes_ = [f"<0x{b:02X}>" for b in range(256)] if byte_tokens else []
    tokens = ["<unk>", "<s>", "</s>", *bytes_, *pieces, *special]
    types = [UNKNOWN, CONTROL, CONTROL, *[BYTE] * len(bytes_), *[NORMAL] * len(pieces), *special.values()]
    scores = [0.0] * (3 + len(bytes_)) + list(pieces.values()) + [0.0] * len(special)
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": np.array(scores, np.float32),
        "tokenizer.ggml.token_type": np.array(types, np.int32),
        **{f"tokenizer.ggml.{name}": value for name, value in keys.items()},
    }


def unigram_metadata(pieces: dict[str, float], special: dict[str, int] | None = None, **keys: Any) -> dict[str, Any]:
    """Unigram with <s>, <pad>, </s>, <unk>, pieces with their scores and special texts with their types."""
    special = special or {}
    ids = {"bos": 0, "padding": 1, "eos": 2, "unknown": 3}
    return {
        "tokenizer.ggml.model": "t5",
        "tokenizer.ggml.tokens": ["<s>", "<pad>", "</s>", "<unk>", *pieces, *special],
        "tokenizer.ggml.scores": np.array([0.0] * 4 + list(pieces.values()) + [0.0] * len(special), np.float32),
        "tokenizer.ggml.token_type": np.array(
            [CONTROL] * 3 + [UNKNOWN] + [NORMAL] * len(pieces) + list(special.values()), np.int32
        ),
        **{f"tokenizer.ggml.{name}_token_id": i for name, i in ids.items()},
        **{f"tokenizer.ggml.{name}": value for name, value in keys.items()},
    }


class ListedTokens:
    """A vocabulary of given texts, as samplers ask for it; text becomes the longest tokens from left to right."""

    def __init__(self, texts: Sequence[str], eog_ids: Iterable[int] = ()) -> None:
        self._texts = [text.encode() for text in texts]
        self.n_vocab = len(texts)
        self.eog_ids = frozenset(eog_ids)

    def token_bytes(self, token: int) -> bytes:
        return self._texts[token]

    def encode(self, text: str, add_special: bool = True, parse_special: bool = False) -> list[int]:
        rest, ids = text.encode(), []
        while rest:
            longest = max((t for t in self._texts if t and rest.startswith(t)), key=len)
            ids.append(self._texts.index(longest))
            rest = rest[len(longest) :]
        return ids


def wordpiece_metadata(pieces: list[str], **keys: Any) -> dict[str, Any]:
    """WordPiece with [PAD], [UNK], [CLS], [SEP], [MASK] and pieces as BERT writes them, "##" before those inside."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokens = [*special, *(p.removeprefix("##") if p.startswith("##") else "\u2581" + p for p in pieces)]
    ids = {"padding": 0, "unknown": 1, "cls": 2, "seperator": 3, "mask": 4}
    return {
        "tokenizer.ggml.model": "bert",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": np.array([CONTROL] * len(special) + [NORMAL] * len(pieces), np.int32),
        **{f"tokenizer.ggml.{name}_token_id": i for name, i in ids.items()},
        **{f"tokenizer.ggml.{name}": value for name, value in keys.items()},
    }
