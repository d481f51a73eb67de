"""Whether a value meets a shape: for the values of `enum` and `const`, and for the names of properties."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Any

from pyinfer.guides.grammar.ecma import Pattern, matches, parse_ecma
from pyinfer.guides.grammar.formats import format_matches
from pyinfer.guides.grammar.outcomes import NotExact, Unsatisfiable
from pyinfer.guides.schema.places import ANYTHING, Key
from pyinfer.guides.schema.shapes import (
    Arrays,
    Booleans,
    Literals,
    Normal,
    Null,
    Numbers,
    Objects,
    Shape,
    Strings,
    conjunction,
)
from pyinfer.guides.schema.values import identity

FormOf = Callable[[Key], Normal]
MAX_PATTERNS = 4096  # kept; a schema has a few


@lru_cache(maxsize=MAX_PATTERNS)
def read_pattern(pattern: str) -> Pattern | NotExact:
    """A pattern, or why it can't be held. Raises ParameterError for what is no regular expression."""
    try:
        return parse_ecma(pattern)
    except NotExact as error:
        return error


def is_found(pattern: str, text: str) -> bool | None:
    """Whether a pattern is found in a text; None: it is not known."""
    try:
        known = read_pattern(pattern)
        return None if isinstance(known, NotExact) else matches(known, text)
    except NotExact:
        return None
    except Unsatisfiable:
        return False


def meets(value: Any, shape: Shape, form_of: FormOf) -> bool:
    """Whether a value meets a shape; True where that is not known. form_of: gives a key's normal form."""
    if isinstance(shape, Literals):
        return any(same == identity(value) for same, _ in shape.values)
    if value is None:
        return isinstance(shape, Null)
    if isinstance(value, bool):
        return isinstance(shape, Booleans) and value in shape.values
    if isinstance(value, (int, Decimal)):
        return isinstance(shape, Numbers) and _number_meets(value, shape)
    if isinstance(value, str):
        return isinstance(shape, Strings) and _string_meets(value, shape)
    if isinstance(value, list):
        return isinstance(shape, Arrays) and _array_meets(value, shape, form_of)
    return isinstance(shape, Objects) and _object_meets(value, shape, form_of)


def meets_key(value: Any, key: Key, form_of: FormOf) -> bool:
    """Whether a value meets a key."""
    return key == ANYTHING or any(meets(value, shape, form_of) for shape in form_of(key).shapes)


def property_keys(shape: Objects, names: Iterable[str]) -> dict[str, Key]:
    """The keys that the values of properties meet. A pattern that can't be held is found in no name."""
    parts: dict[str, list[Key]] = {name: [] for name in names}
    for layer in shape.layers:
        if not layer.patterns and layer.additional == ANYTHING:
            for name, key in layer.properties:
                if name in parts:
                    parts[name].append(key)
            continue
        own = dict(layer.properties)
        for name, found in parts.items():
            keys = [own[name]] if name in own else []
            keys += [key for pattern, key in layer.patterns if is_found(pattern, name)]
            found += keys or [layer.additional]
    return {name: conjunction(*keys) for name, keys in parts.items()}


def _number_meets(value: int | Decimal, shape: Numbers) -> bool:
    if isinstance(value, Decimal) and abs(value.adjusted()) > 1000 and value:  # no fraction of that size is computed
        return not shape.integer and not shape.multiples and shape.low is None and shape.high is None
    exact = Fraction(value)
    if (shape.integer and exact.denominator != 1) or any(exact % multiple for multiple in shape.multiples):
        return False
    if shape.low is not None and not (value > shape.low or (value == shape.low and not shape.above)):
        return False
    return shape.high is None or value < shape.high or (value == shape.high and not shape.below)


def _string_meets(value: str, shape: Strings) -> bool:
    if not shape.low <= len(value) <= shape.high or value in shape.without:
        return False
    if any(is_found(pattern, value) is False for pattern in shape.patterns):
        return False
    if any(is_found(pattern, value) for pattern in shape.without_patterns):
        return False
    return all(format_matches(name, value) for name in shape.formats)


def _array_meets(value: list[Any], shape: Arrays, form_of: FormOf) -> bool:
    if not shape.low <= len(value) <= shape.high:
        return False
    if not all(meets_key(item, shape.item(i), form_of) for i, item in enumerate(value)):
        return False
    counts = (sum(meets_key(item, one.key, form_of) for item in value) for one in shape.contains)
    return all(one.low <= n <= one.high for n, one in zip(counts, shape.contains, strict=True))


def _object_meets(value: dict[str, Any], shape: Objects, form_of: FormOf) -> bool:
    if not shape.low <= len(value) <= shape.high or any(name not in value for name in shape.required):
        return False
    if not all(meets_key(name, key, form_of) for name in value for key in shape.names):
        return False
    return all(meets_key(value[name], key, form_of) for name, key in property_keys(shape, value).items())
