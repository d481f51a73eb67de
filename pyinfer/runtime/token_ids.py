"""Token ids as callers give them, and lists of them or of texts, checked."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pyinfer.errors import ParameterError

Bytes = bytes | bytearray | memoryview  # they iterate as whole numbers, but who gives them means a text


def items_of(values: Any) -> list[Any] | None:
    """What a list, array, set or other iterable holds; None for texts, bytes, mappings, and what holds nothing."""
    if isinstance(values, str | Bytes | Mapping):
        return None
    try:
        iterator = iter(values)
    except TypeError:
        return None
    return list(iterator)


def checked_ids(tokens: Any, n_vocab: int, what: str = "the prompt") -> list[int]:
    """The ids of a list or array, each from 0 to n_vocab - 1; none for an empty one.

    Raises ParameterError for what is no list of whole numbers, or has one out of range; it calls them `what`.
    """
    items = items_of(tokens) if isinstance(tokens, Sequence | np.ndarray) else None
    if items is None:
        decoded = " (decode it)" if isinstance(tokens, Bytes) else ""
        raise ParameterError(f"{what} is a {type(tokens).__name__}; expected text{decoded} or token ids")
    ids = []
    for i, token in enumerate(items):
        try:
            ids.append(operator.index(token))
        except TypeError:
            ids.append(-1)
        if not 0 <= ids[-1] < n_vocab or isinstance(token, bool):
            raise ParameterError(f"{what}: token {i} is {_found(token)}; expected an id from 0 to {n_vocab - 1}")
    return ids


def _found(token: Any) -> str:
    is_id = isinstance(token, int | np.integer) and not isinstance(token, bool) and abs(int(token)) < 1 << 64
    return str(token) if is_id else f"a {type(token).__name__}"
