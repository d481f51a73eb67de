"""The normal form of a schema: alternatives, each a *shape*, which is a type of JSON and constraints on its values.

Schemas within a shape are keys (`places.py`): they are brought to their normal form when somebody needs them, so that
recursive schemas have one. A value meets a schema if it meets one of the alternatives. `meet` is the intersection of
two shapes; whoever has to know whether two schemas have common values asks it, too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from typing import Any, TypeAlias

from pyinfer.guides.schema.places import ANYTHING, NOTHING, Key

Number: TypeAlias = "int | Decimal"
INFINITE = math.inf  # of a count: no limit


def conjunction(*keys: Key) -> Key:
    """What meets all of the keys."""
    numbers = {number for key in keys for number in key}
    return NOTHING if 0 in numbers else tuple(sorted(numbers))


@dataclass(frozen=True)
class Null:
    """null."""


@dataclass(frozen=True)
class Booleans:
    """true, false, or both."""

    values: tuple[bool, ...] = (True, False)


@dataclass(frozen=True)
class Numbers:
    """Numbers between bounds (None: no bound), which are multiples of all of some numbers."""

    integer: bool = False
    low: Number | None = None
    high: Number | None = None
    above: bool = False  # the lower bound itself is not met
    below: bool = False  # the upper bound itself is not met
    multiples: tuple[Fraction, ...] = ()

    def bounded(self) -> Numbers | None:
        """The same in one spelling: inclusive whole bounds of integers; None if nothing is between the bounds."""
        low, high = self.low, self.high
        if self.integer:
            if low is not None:
                low = math.floor(low) + 1 if self.above else math.ceil(low)
            if high is not None:
                high = math.ceil(high) - 1 if self.below else math.floor(high)
            own = replace(self, low=low, high=high, above=False, below=False)
        else:
            own = self
        if low is not None and high is not None and (low > high or (low == high and (own.above or own.below))):
            return None
        return own


@dataclass(frozen=True)
class Strings:
    """Strings. patterns: each is found in the string; without: the string is none of these."""

    low: int = 0
    high: float = INFINITE
    patterns: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    without_patterns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Contains:
    """So many items meet the key."""

    key: Key
    low: int
    high: float = INFINITE


@dataclass(frozen=True)
class Arrays:
    """Arrays. prefix: of the first items; items: of all others."""

    prefix: tuple[Key, ...] = ()
    items: Key = ANYTHING
    low: int = 0
    high: float = INFINITE
    contains: tuple[Contains, ...] = ()
    closed: bool = False  # `items` was given: `unevaluatedItems` has nothing left

    def item(self, i: int) -> Key:
        """The key of an item."""
        return self.prefix[i] if i < len(self.prefix) else self.items


@dataclass(frozen=True)
class Layer:
    """What one schema says of properties: by name, by pattern, and of all others."""

    properties: tuple[tuple[str, Key], ...] = ()
    patterns: tuple[tuple[str, Key], ...] = ()
    additional: Key = ANYTHING
    evaluates: bool = True  # for `unevaluatedProperties`; what follows from a schema that is not met does not


@dataclass(frozen=True)
class Objects:
    """Objects. Each layer holds; names: the keys that each name meets."""

    layers: tuple[Layer, ...] = ()
    required: tuple[str, ...] = ()
    low: int = 0
    high: float = INFINITE
    names: tuple[Key, ...] = ()
    closed: bool = False  # other properties were spoken of: `unevaluatedProperties` has nothing left

    @property
    def listed(self) -> tuple[str, ...]:
        """The names that any layer lists, in the order of the layers; then those that are required only."""
        names = dict.fromkeys(name for layer in self.layers for name, _ in layer.properties)
        return tuple(names | dict.fromkeys(self.required))


@dataclass(frozen=True)
class Literals:
    """Values, each as it was given, as pairs (what equal values share, value)."""

    values: tuple[tuple[Any, Any], ...]


Shape: TypeAlias = Null | Booleans | Numbers | Strings | Arrays | Objects | Literals
EVERY_TYPE: tuple[Shape, ...] = (Null(), Booleans(), Numbers(), Strings(), Arrays(), Objects())


@dataclass(frozen=True)
class Normal:
    """Alternatives. exact: no value meets them that the schema refuses."""

    shapes: tuple[Shape, ...]
    exact: bool = True


ANY = Normal(EVERY_TYPE)
NONE = Normal(())


def unique(items: Iterable[Any]) -> tuple[Any, ...]:
    """The items in their order, each once."""
    return tuple(dict.fromkeys(items))


def meet(a: Shape, b: Shape) -> Shape | None:
    """What meets both shapes of one type, none of them Literals; None: nothing does."""
    match a, b:
        case Null(), Null():
            return a
        case Booleans(), Booleans():
            values = tuple(value for value in a.values if value in b.values)
            return Booleans(values) if values else None
        case Numbers(), Numbers():
            return _meet_numbers(a, b)
        case Strings(), Strings():
            both = Strings(
                max(a.low, b.low),
                min(a.high, b.high),
                unique(a.patterns + b.patterns),
                unique(a.formats + b.formats),
                unique(a.without + b.without),
                unique(a.without_patterns + b.without_patterns),
            )
            return both if both.low <= both.high and not set(both.patterns) & set(both.without_patterns) else None
        case Arrays(), Arrays():
            return _meet_arrays(a, b)
        case Objects(), Objects():
            joined = Objects(
                unique(a.layers + b.layers),
                unique(a.required + b.required),
                max(a.low, b.low),
                min(a.high, b.high),
                unique(a.names + b.names),
                a.closed or b.closed,
            )
            return joined if max(joined.low, len(joined.required)) <= joined.high else None
    return None


def _meet_numbers(a: Numbers, b: Numbers) -> Numbers | None:
    low, above, high, below = a.low, a.above, a.high, a.below
    if b.low is not None and (low is None or b.low > low):
        low, above = b.low, b.above
    elif b.low is not None and b.low == low:
        above = above or b.above
    if b.high is not None and (high is None or b.high < high):
        high, below = b.high, b.below
    elif b.high is not None and b.high == high:
        below = below or b.below
    return Numbers(a.integer or b.integer, low, high, above, below, unique(a.multiples + b.multiples)).bounded()


def _meet_arrays(a: Arrays, b: Arrays) -> Arrays | None:
    n = max(len(a.prefix), len(b.prefix))
    both = Arrays(
        tuple(conjunction(a.item(i), b.item(i)) for i in range(n)),
        conjunction(a.items, b.items),
        max(a.low, b.low),
        min(a.high, b.high),
        unique(a.contains + b.contains),
        a.closed or b.closed,
    )
    return both if both.low <= both.high else None
