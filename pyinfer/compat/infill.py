"""Infill prompts: the text before and after a gap, for models that were trained to fill gaps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyinfer.errors import ParameterError
from pyinfer.tokenizer import Tokenizer

KEYS = (("fim_pre", "fim_suf", "fim_mid"), ("prefix", "suffix", "middle"))
MARKS = (
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
    ("<fim-prefix>", "<fim-suffix>", "<fim-middle>"),
    ("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),
    ("<|code_prefix|>", "<|code_suffix|>", "<|code_middle|>"),
    ("<|prefix|>", "<|suffix|>", "<|middle|>"),
    ("<PRE>", "<SUF>", "<MID>"),
)


def infill_tokens(tokenizer: Tokenizer, metadata: Mapping[str, Any]) -> tuple[int, int, int] | None:
    """Return the tokens that stand before the prefix, the suffix and the middle; None if the model has none."""
    for pre, suf, mid in KEYS:
        ids = [metadata.get(f"tokenizer.ggml.{name}_token_id") for name in (pre, suf, mid)]
        if all(isinstance(i, int) and 0 <= i < tokenizer.n_vocab for i in ids):
            return int(ids[0]), int(ids[1]), int(ids[2])  # type: ignore[arg-type]
    for marks in MARKS:
        found = [tokenizer.find_special(mark) for mark in marks]
        if all(len(one) == 1 and one[0][:2] == (0, len(mark)) for one, mark in zip(found, marks, strict=True)):
            return found[0][0][2], found[1][0][2], found[2][0][2]
    return None


def infill_prompt(
    tokenizer: Tokenizer, metadata: Mapping[str, Any], prefix: str, suffix: str, suffix_first: bool
) -> list[int]:
    """Return the token ids of a prompt for the text between prefix and suffix.

    Raises ParameterError for a model that has no tokens for it.
    """
    marks = infill_tokens(tokenizer, metadata)
    if marks is None:
        raise ParameterError("suffix is given; the vocabulary has no tokens for prefix, suffix and middle")
    pre, suf, mid = marks
    before = [pre, *tokenizer.encode(prefix, add_special=False, continues=True)]
    after = [suf, *tokenizer.encode(suffix, add_special=False, continues=True)]
    begin = [tokenizer.bos_id] if tokenizer.add_bos and tokenizer.bos_id is not None else []
    return [*begin, *(after + before if suffix_first else before + after), mid]
