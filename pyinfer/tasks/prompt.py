"""The types that a prompt may have, how one prompt is told from several, and a prompt's token ids."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from pyinfer.arguments import Bytes, checked_ids, items_in_order, quoted
from pyinfer.errors import ParameterError
from pyinfer.tokenizer import Tokenizer

Prompt = str | Sequence[int] | NDArray[np.integer]


def prompt_ids(prompt: Prompt, tokenizer: Tokenizer, n_vocab: int) -> list[int]:
    """Return a prompt's token ids. Raises ParameterError if there are none, or one is not from 0 to n_vocab - 1."""
    if isinstance(prompt, str):
        ids = tokenizer.encode(prompt)
        if not ids:
            raise ParameterError("the prompt is empty; expected at least one token")
        return ids
    ids = checked_ids(prompt, n_vocab)
    if not ids:
        raise ParameterError("there are no tokens; expected at least one")
    return ids


def one_or_many(prompt: Prompt | Iterable[Prompt]) -> tuple[list[Prompt], bool]:
    """Return the prompts, and whether these are several: a list, tuple, array, column or generator of prompts.

    Whole numbers are the token ids of one prompt. An empty array or column of texts has no prompts. Raises
    ParameterError for an item among prompts that is none, such as a missing value.
    """
    if isinstance(prompt, np.ndarray) and prompt.ndim == 0 and isinstance(text := prompt.item(), str):
        return [text], False
    items = items_in_order(prompt)
    if items is None:
        return [cast(Prompt, prompt)], False
    if not items and hasattr(prompt, "__array__") and np.asarray(prompt).dtype.kind in "OTU":
        return [], True
    # a missing value says nothing about the others
    first = next((item for item in items if is_prompt(item) or isinstance(item, int | np.integer)), None)
    if not is_prompt(first):
        return [items], False
    for i, item in enumerate(items):
        if not is_prompt(item):
            raise ParameterError(f"prompt {i} is {quoted(item)}; expected text or token ids")
    return items, True


def is_prompt(item: Any) -> bool:
    """Whether an item of a list is a prompt, and not a token id of one. Bytes are meant as one, and refused later."""
    return isinstance(item, str | Bytes | Sequence) or (hasattr(item, "__array__") and getattr(item, "ndim", 0) > 0)
