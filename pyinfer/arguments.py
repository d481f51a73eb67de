"""Checks of what callers give: numbers, token ids, lists of them or of texts; and how errors quote a value."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pyinfer.errors import ParameterError

Bytes = bytes | bytearray | memoryview  # they iterate as whole numbers, but who gives them means a text


def quoted(value: Any) -> str:
    """A value as errors show it: long ones cut short."""
    try:
        text = repr(value)
    except ValueError:  # Python does not write whole numbers of thousands of digits
        text = object.__repr__(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def is_number(value: Any, kinds: Any) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)


def finite_float(value: Any) -> float:
    """A number as a float, which NumPy's smaller types compare as without overflow; NaN for all that is none."""
    if not is_number(value, int | float | np.integer | np.floating):
        return math.nan
    try:
        number = float(value)
    except OverflowError:
        return math.nan
    return math.nan if math.isinf(number) else number


def check_float(name: str, value: Any, low: float, high: float, allowed: str) -> None:
    """Raises ParameterError unless value is a finite number from low to high."""
    if not low <= finite_float(value) <= high:
        raise ParameterError(f"{name} is {quoted(value)}; expected {allowed}")


def check_integer(name: str, value: Any, first: int, last: int | None, allowed: str) -> None:
    """Raises ParameterError unless value is a whole number from first to last."""
    if not is_number(value, int | np.integer) or value < first or (last is not None and value > last):
        raise ParameterError(f"{name} is {quoted(value)}; expected {allowed}")


def check_positive(name: str, value: int | None, default: int, most: int | None = None) -> int:
    """A whole number from 1 to `most`, or the default for None; ParameterError for others."""
    if value is None:
        return default
    check_integer(name, value, 1, most, "a whole number " + ("of at least 1" if most is None else f"from 1 to {most}"))
    return int(value)


def as_list_or_none(values: Any) -> list[Any] | None:
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
    items = as_list_or_none(tokens) if isinstance(tokens, Sequence | np.ndarray) else None
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
