"""The complement of a normal form: what all values meet that do not meet it, where that has an exact normal form.

`not`, `if` and `oneOf` need it. A complement has an alternative for each constraint that a value can fail to meet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal

from pyinfer.guides.schema.keywords import forbidden
from pyinfer.guides.schema.places import ANYTHING, NOTHING, Key
from pyinfer.guides.schema.shapes import (
    EVERY_TYPE,
    INFINITE,
    Arrays,
    Booleans,
    Contains,
    Layer,
    Literals,
    Null,
    Numbers,
    Objects,
    Shape,
    Strings,
)

Negate = Callable[[Key], Key]


class Inexact(Exception):
    """The complement has no exact normal form; the text says of what."""


def complement_of(shape: Shape, negate: Negate) -> tuple[Shape, ...]:
    """The alternatives of a shape's complement. negate: gives the key that all else meets. Raises Inexact."""
    if isinstance(shape, Literals):
        return tuple(_unlike(shape))
    others = tuple(other for other in EVERY_TYPE if type(other) is not type(shape))
    return (*others, *COMPLEMENTS[type(shape)](shape, negate))


def _booleans(shape: Booleans, negate: Negate) -> Iterator[Shape]:
    rest = tuple(value for value in (True, False) if value not in shape.values)
    if rest:
        yield Booleans(rest)


def _numbers(shape: Numbers, negate: Negate) -> Iterator[Shape]:
    if shape.integer or shape.multiples:
        raise Inexact("numbers that are no integers, or no multiples")
    if shape.low is not None:
        yield Numbers(high=shape.low, below=not shape.above)
    if shape.high is not None:
        yield Numbers(low=shape.high, above=not shape.below)


def _strings(shape: Strings, negate: Negate) -> Iterator[Shape]:
    if shape.formats:
        raise Inexact("strings that have not the format")
    if shape.low > 0:
        yield Strings(high=shape.low - 1)
    if shape.high < INFINITE:
        yield Strings(low=int(shape.high) + 1)
    for pattern in shape.patterns:
        yield Strings(without_patterns=(pattern,))
    for pattern in shape.without_patterns:
        yield Strings(patterns=(pattern,))
    if shape.without:
        yield Literals(tuple((("string", text), text) for text in shape.without))


def _arrays(shape: Arrays, negate: Negate) -> Iterator[Shape]:
    if any(key != ANYTHING for key in shape.prefix):
        raise Inexact("arrays whose items do not meet prefixItems")
    if shape.prefix and shape.items != ANYTHING:
        raise Inexact("arrays whose items do not meet items")
    if shape.low > 0:
        yield Arrays(high=shape.low - 1)
    if shape.high < INFINITE:
        yield Arrays(low=int(shape.high) + 1)
    if shape.items != ANYTHING:
        yield Arrays(low=1, contains=(Contains(negate(shape.items), 1),))
    for contains in shape.contains:
        if contains.low != 1 or contains.high != INFINITE:
            raise Inexact("arrays that contain another number of items")
        yield Arrays(items=negate(contains.key))


def _objects(shape: Objects, negate: Negate) -> Iterator[Shape]:
    if shape.names:
        raise Inexact("objects with other names")
    if any(layer.patterns or layer.additional != ANYTHING for layer in shape.layers):
        raise Inexact("objects with other properties")
    if shape.low > 0:
        yield Objects(high=shape.low - 1)
    if shape.high < INFINITE:
        yield Objects(low=int(shape.high) + 1)
    yield from (forbidden(name) for name in shape.required)
    for layer in shape.layers:
        for name, key in layer.properties:
            if (other := negate(key)) != NOTHING:
                yield Objects((Layer(((name, other),), evaluates=False),), (name,))


def _unlike(shape: Literals) -> Iterator[Shape]:
    """What equals none of the values, which are texts, numbers, true, false and null."""
    given = [value for _, value in shape.values]
    if any(isinstance(value, (list, dict)) for value in given):
        raise Inexact("other arrays and objects than those in a list")
    if None not in given:
        yield Null()
    truths = tuple(truth for truth in (True, False) if not any(value is truth for value in given))
    if truths:
        yield Booleans(truths)
    numbers = sorted({value for value in given if isinstance(value, (int, Decimal)) and not isinstance(value, bool)})
    for low, high in zip([None, *numbers], [*numbers, None], strict=True):
        yield Numbers(False, low, high, True, True)
    yield Strings(without=tuple(value for value in given if isinstance(value, str)))
    yield Arrays()
    yield Objects()


COMPLEMENTS: dict[type, Callable[..., Iterator[Shape]]] = {
    Null: lambda shape, negate: iter(()),
    Booleans: _booleans,
    Numbers: _numbers,
    Strings: _strings,
    Arrays: _arrays,
    Objects: _objects,
}
