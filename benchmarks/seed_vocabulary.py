"""A made-up byte-level BPE vocabulary of any size, as GGUF metadata: bytes, results of merges, control tokens, padding.

Tokens are groups of two to four letters, with and without a space before them; those of frequent letters come first.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from pyinfer.tokenizer.bpe import byte_of_code_point

NORMAL, CONTROL, UNUSED = 1, 3, 5
LETTERS = "etaoinshrdlcumwfgypbvkjxqz"  # most frequent first
SPACE = "Ġ"  # a space in GPT-2's alphabet
CONTROL_TEXTS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def vocabulary(n_vocab: int, n_words: int) -> dict[str, Any]:
    """Metadata `tokenizer.ggml.*`.

    n_words: the number of bytes and results of merges, which come first. Control tokens follow, then unused ones, up to
    n_vocab tokens in all.
    """
    pairs = merges(n_words - 256)
    code_points = byte_of_code_point().tolist()
    tokens = [chr(code_points.index(byte)) for byte in range(256)] + [one + two for one, two in pairs]
    tokens += CONTROL_TEXTS
    types = [NORMAL] * n_words + [CONTROL] * len(CONTROL_TEXTS) + [UNUSED] * (n_vocab - len(tokens))
    tokens += [f"[PAD{i}]" for i in range(len(tokens), n_vocab)]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": np.array(types, np.int32),
        "tokenizer.ggml.merges": [f"{one} {two}" for one, two in pairs],
        "tokenizer.ggml.bos_token_id": n_words,
        "tokenizer.ggml.padding_token_id": n_words,
        "tokenizer.ggml.eos_token_id": n_words + 2,
        "tokenizer.ggml.add_bos_token": False,
    }


def merges(n: int) -> list[tuple[str, str]]:
    """n merges in the order in which they are applied; both parts of each are bytes or results of others."""
    twos = by_frequency(LETTERS, LETTERS)
    pairs = [one + two for one, two in twos]
    threes = by_frequency(pairs, LETTERS)
    words = [*pairs, *(one + two for one, two in threes)]
    spaced = [(SPACE, word) for word in words]
    n_fours = max(0, n - len(twos) - len(threes) - len(spaced))
    fours = by_frequency(pairs, pairs)[:n_fours]
    chosen = [*twos, *threes, *fours, *spaced][:n]
    if len(chosen) < n:
        raise ValueError(f"there are {len(chosen)} merges of up to four letters, not {n}")
    return chosen


def by_frequency(first: str | list[str], second: str | list[str]) -> list[tuple[str, str]]:
    """All combinations, those of frequent parts first. first, second: parts in descending order of frequency."""
    ranks = sorted(product(range(len(first)), range(len(second))), key=sum)
    return [(first[i], second[j]) for i, j in ranks]
