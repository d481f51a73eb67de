"""Checks of arguments: numbers, token ids, lists of them or of texts; and how errors quote a value."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Set
from typing import Any

import numpy as np

from pyinfer.errors import ParameterError

Bytes = bytes | bytearray | memoryview  # they iterate as whole numbers, but a caller who gives them means a text

MAX_QUOTED = 80  # characters of a value in an error, so that a message stays a line or two
MAX_SHORT = 60  # characters of a text in a repr, so that it stays a line or two in a notebook


def quoted(value: Any) -> str:
    """A value as errors show it: its repr, cut after 80 characters."""
    try:
        text = repr(value)
    except ValueError:  # Python does not write whole numbers of thousands of digits
        text = object.__repr__(value)
    return text if len(text) <= MAX_QUOTED else f"{text[: MAX_QUOTED - 3]}..."


def shortened(text: str) -> str:
    """A text as reprs show it: its own repr, cut after 60 characters."""
    return repr(text if len(text) <= MAX_SHORT else f"{text[: MAX_SHORT - 1]}…")


def is_number(value: Any, kinds: Any) -> bool:
    """Whether a value is of the types `kinds`; True and False are no numbers."""
    return isinstance(value, kinds) and not isinstance(value, bool)


def finite_float(value: Any) -> float:
    """A number as a float; NaN for what is no number, infinite or too large.

    NumPy's smaller types become float as well: compared with a large bound, they would overflow.
    """
    if not is_number(value, int | float | np.integer | np.floating):
        return math.nan
    try:
        number = float(value)
    except OverflowError:
        return math.nan
    return math.nan if math.isinf(number) else number


def check_float(name: str, value: Any, low: float, high: float, allowed: str) -> None:
    """Raise ParameterError unless value is a finite number from low to high. allowed: the range in words."""
    if not low <= finite_float(value) <= high:
        raise ParameterError(f"{name} is {quoted(value)}; expected {allowed}")


def check_integer(name: str, value: Any, first: int, last: int | None, allowed: str) -> None:
    """Raise ParameterError unless value is a whole number from first to last (None: without a bound).

    allowed: the range in words.
    """
    if not is_number(value, int | np.integer) or value < first or (last is not None and value > last):
        raise ParameterError(f"{name} is {quoted(value)}; expected {allowed}")


def check_positive(name: str, value: int | None, default: int, maximum: int | None = None) -> int:
    """A whole number from 1 to `maximum`, or the default for None. Raises ParameterError for other values."""
    if value is None:
        return default
    allowed = "a whole number " + ("of at least 1" if maximum is None else f"from 1 to {maximum}")
    check_integer(name, value, 1, maximum, allowed)
    return int(value)


def as_list_or_none(values: Any) -> list[Any] | None:
    """The items of a list, array, set or other iterable; None for text, bytes, mappings, and what is not iterable."""
    if isinstance(values, str | Bytes | Mapping):
        return None
    try:
        iterator = iter(values)
    except TypeError:
        return None
    return list(iterator)


def items_in_order(values: Any) -> list[Any] | None:
    """The items of a list, tuple, array, column (of pandas, Polars, PyArrow, …), tensor or generator.

    None for text, bytes, mappings, sets, tables of texts, single values, and what is not iterable.
    """
    if isinstance(values, str | Bytes | Mapping | Set):
        return None
    if hasattr(values, "__array__"):  # also so that a table gives rows, and not the names of its columns
        values = np.asarray(values)
        if values.ndim > 1 and values.dtype.kind not in "iu":
            return None
    return as_list_or_none(values)


def checked_ids(tokens: Any, n_vocab: int, what: str = "the prompt") -> list[int]:
    """The token ids of a list, array or other ordered iterable, each from 0 to n_vocab - 1; an empty one gives no ids.

    what: how errors name the argument. Raises ParameterError where tokens is no list of whole numbers, and where one
    of them is out of range.
    """
    items = items_in_order(tokens)
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
