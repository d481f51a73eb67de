"""How a shape is written: a *plan* is a terminal, an array or an object, whose parts are keys.

Here it shows which constraints of strings, numbers and names can be held; those that can't be are left out, with a
warning that names the schema in which they stand.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from itertools import product
from typing import Any, TypeAlias

from pyinfer.errors import ParameterError
from pyinfer.guides.grammar.ecma import Pattern, parse_ecma
from pyinfer.guides.grammar.formats import INEXACT
from pyinfer.guides.grammar.numbers import integer_terminal, multiple_rule, number_terminal
from pyinfer.guides.grammar.outcomes import NotExact, Unsatisfiable
from pyinfer.guides.grammar.strings import string_terminal
from pyinfer.guides.schema.examine import is_found, meets_key, property_keys, read_pattern
from pyinfer.guides.schema.normal import Normalizer
from pyinfer.guides.schema.places import ANYTHING, NOTHING, Key
from pyinfer.guides.schema.report import Report
from pyinfer.guides.schema.shapes import (
    INFINITE,
    Arrays,
    Booleans,
    Contains,
    Literals,
    Null,
    Numbers,
    Objects,
    Shape,
    Strings,
    conjunction,
)
from pyinfer.guides.schema.values import escaped_regex, string_text

MAX_PATTERN_SETS = 3  # patterns of names of which each combination is written
MAX_STATES = 3000  # rules for the counts of an object's properties, or of an array's items
MAX_COUNT = 1_000_000  # of items; a longer text is never written


@dataclass(frozen=True)
class Terminal:
    """A lexeme: an expression of terminals in Lark."""

    expression: str


@dataclass(frozen=True)
class Rule:
    """An expression of rules in Lark."""

    expression: str


@dataclass(frozen=True)
class Values:
    """Given values."""

    literals: Literals


@dataclass(frozen=True)
class Array:
    """Items; hits: so many meet a further key."""

    prefix: tuple[Key, ...]
    items: Key
    low: int
    high: float
    hits: tuple[Key, int] | None = None

    def item(self, i: int) -> Key:
        """The key of an item."""
        return self.prefix[i] if i < len(self.prefix) else self.items

    def hit(self, i: int) -> Key:
        """The key of an item that counts as a hit."""
        assert self.hits is not None
        return conjunction(self.item(i), self.hits[0])

    @property
    def n_positions(self) -> int:
        """Items after which all others are alike."""
        return max(len(self.prefix), self.low, int(self.high) if self.high < INFINITE else 0, 1)


@dataclass(frozen=True)
class Member:
    """A listed property."""

    name: str
    key: Key
    required: bool


@dataclass(frozen=True)
class Object:
    """Members in their order; then others, each as (terminal of the name, key of the value)."""

    members: tuple[Member, ...]
    others: tuple[tuple[str, Key], ...]
    low: int
    high: float


Plan: TypeAlias = Terminal | Rule | Values | Array | Object


class Planner:
    """Makes plans of the shapes of one document."""

    def __init__(self, normalizer: Normalizer, report: Report) -> None:
        self._normalizer = normalizer
        self._report = report
        self._strings: dict[Strings, str] = {}

    def plans(self, key: Key) -> list[Plan]:
        """The plans of a key's alternatives that a value may meet."""
        pointer = self._normalizer.places.pointer(key)
        found = []
        for shape in self._normalizer.normal(key).shapes:
            try:
                found.append(self._plan(shape, pointer))
            except Unsatisfiable as error:
                self._report.impossible(pointer, str(error))
            except ParameterError as error:
                raise ParameterError(f"{pointer} of the JSON schema: {error}") from None
        return found

    def _plan(self, shape: Shape, pointer: str) -> Plan:
        match shape:
            case Null():
                return Terminal('"null"')
            case Booleans():
                return Terminal(" | ".join(f'"{str(value).lower()}"' for value in shape.values))
            case Literals():
                return Values(shape)
            case Numbers():
                return self._number(shape, pointer)
            case Strings():
                return Terminal(self._string(shape, pointer))
            case Arrays():
                return self._array(shape, pointer)
        return self._object(shape, pointer)

    def _number(self, shape: Numbers, pointer: str) -> Plan:
        try:
            return Terminal(_number_terminal(shape))
        except NotExact as error:
            if not shape.multiples:
                self._report.degrade(pointer, f"the bounds have no effect: {error}")
                return Terminal(_number_terminal(Numbers(shape.integer)))
            with contextlib.suppress(NotExact):
                return Rule(_number_rule(shape))
            self._report.degrade(f"{pointer}/multipleOf", f"has no effect: {error}")
            return self._number(replace(shape, multiples=()), pointer)

    def _string(self, shape: Strings, pointer: str, keyword: str = "pattern") -> str:
        if shape.without and not shape.patterns and not shape.formats and shape.high > 0:
            # so many strings are left that these can be taken away without a look at the others
            others = "|".join(escaped_regex(string_text(text)) for text in sorted(shape.without))
            return f"{self._string(replace(shape, without=()), pointer, keyword)} & ~/{others}/"
        if shape not in self._strings:
            self._strings[shape] = self._new_string(shape, pointer, keyword)
        return self._strings[shape]

    def _new_string(self, shape: Strings, pointer: str, keyword: str) -> str:
        for name in shape.formats:
            if name in INEXACT:
                self._report.degrade(f"{pointer}/format", f"{name!r} is not held exactly: {INEXACT[name]}")
        patterns = self._patterns(shape.patterns, f"{pointer}/{keyword}")
        others = [read_pattern(pattern) for pattern in shape.without_patterns]
        without_patterns = [pattern for pattern in others if isinstance(pattern, Pattern)]
        if len(without_patterns) < len(others):
            self._report.degrade(f"{pointer}/{keyword}", "what must not be found has no effect")
        most = None if shape.high == INFINITE else int(shape.high)
        lengths = {"min_length": shape.low, "max_length": most}
        trials: tuple[dict[str, Any], ...] = (
            {
                **lengths,
                "patterns": patterns,
                "formats": shape.formats,
                "without": shape.without,
                "without_patterns": without_patterns,
            },
            # what can be had without the others, in the order of what it says
            {"patterns": patterns, "without": shape.without},
            {"patterns": patterns[:1]},
            {"formats": shape.formats[:1]},
            lengths,
        )
        for trial in trials:
            try:
                return string_terminal(**trial)
            except NotExact as error:
                self._report.degrade(pointer, f"not all constraints of the string are held: {error}")
        return string_terminal()

    def _patterns(self, patterns: tuple[str, ...], pointer: str) -> list[Pattern]:
        found = []
        for source in patterns:
            pattern = read_pattern(source)
            if isinstance(pattern, NotExact):
                self._report.degrade(pointer, f"{source!r:.100} is not held exactly: {pattern}")
                try:
                    found.append(parse_ecma(source, loose=True))
                except NotExact:
                    continue
            else:
                found.append(pattern)
        return found

    def _array(self, shape: Arrays, pointer: str) -> Array:
        low, high = shape.low, shape.high
        if low > MAX_COUNT:
            raise Unsatisfiable(f"more than {MAX_COUNT} items")
        high = high if high <= MAX_COUNT else INFINITE
        prefix, items = shape.prefix, shape.items
        hits = None
        for contains in shape.contains:
            hits = self._hits(shape, contains, hits, pointer)
        return Array(prefix[: None if high == INFINITE else int(high)], items, low, high, hits)

    def _hits(
        self, shape: Arrays, contains: Contains, known: tuple[Key, int] | None, pointer: str
    ) -> tuple[Key, int] | None:
        if contains.key == ANYTHING and contains.high == INFINITE and contains.low <= shape.low:
            return known
        if contains.high < INFINITE:
            self._report.degrade(f"{pointer}/maxContains", "more items may meet contains")
        if contains.low == 0:
            return known
        plan = Array(shape.prefix, shape.items, shape.low, shape.high)
        if known is not None or contains.low * plan.n_positions > MAX_STATES:
            self._report.degrade(f"{pointer}/contains", "has no effect: too many things to count")
            return known
        return contains.key, contains.low

    def _object(self, shape: Objects, pointer: str) -> Object:
        form_of = self._normalizer.normal
        required = set(shape.required)
        listed = list(shape.listed)
        given = self._given_names(shape)
        if given is not None:
            listed = list(dict.fromkeys([*listed, *given]))
        members = []
        for name, key in property_keys(shape, listed).items():
            if key != NOTHING and all(meets_key(name, names, form_of) for names in shape.names):
                members.append(Member(name, key, name in required))
            elif name in required:
                raise Unsatisfiable(f"the property {name!r:.60} is required, and nothing meets it")
        others = () if given is not None else tuple(self._others(shape, listed, pointer))
        low, high = shape.low, shape.high
        n_required = sum(member.required for member in members)
        if not others:
            if low > len(members):
                raise Unsatisfiable(f"fewer than {low} properties")
            high = INFINITE if high >= len(members) else high
        elif low > n_required + 1:
            self._report.degrade(f"{pointer}/minProperties", "a name that comes twice counts twice")
        low = 0 if low <= n_required else low
        if max(low, high if high < INFINITE else 0) * (len(members) + 1) > MAX_STATES:
            self._report.degrade(pointer, "minProperties and maxProperties have no effect: too many to count")
            low, high = 0, INFINITE
        return Object(tuple(members), others if high > n_required else (), low, high)

    def _given_names(self, shape: Objects) -> list[str] | None:
        """The names that may come, where `propertyNames` lists them."""
        for key in shape.names:
            form = self._normalizer.normal(key)
            names = [one for one in form.shapes if isinstance(one, (Literals, Strings))]
            if not any(isinstance(one, Strings) for one in names):
                return [v for one in names if isinstance(one, Literals) for _, v in one.values if isinstance(v, str)]
        return None

    def _others(self, shape: Objects, listed: list[str], pointer: str) -> Iterator[tuple[str, Key]]:
        """(terminal, key of the value) of the names that are not listed, by the patterns that are found in them."""
        sources = list(dict.fromkeys(pattern for layer in shape.layers for pattern, _ in layer.patterns))
        for source in [source for source in sources if isinstance(read_pattern(source), NotExact)]:
            sources.remove(source)
            reason = f"{source!r:.100} has no effect: {read_pattern(source)}"
            self._report.degrade(f"{pointer}/patternProperties", reason)
        many = len(sources) > MAX_PATTERN_SETS
        if many:
            reason = f"a name with several of {len(sources)} patterns meets one of them only"
            self._report.degrade(f"{pointer}/patternProperties", reason)
        keys: dict[tuple[bool, ...], Key] = {}
        for found in self._combinations(len(sources)):
            among = {source for source, is_in in zip(sources, found, strict=True) if is_in}
            parts = []
            for layer in shape.layers:
                parts += [key for pattern, key in layer.patterns if pattern in among] or [layer.additional]
            keys[found] = conjunction(*parts)
        if len(set(keys.values())) == 1 and len(keys) == 2 ** len(sources):  # the patterns make no difference
            keys = {(): next(iter(keys.values()))}
            sources = []
        for names in self._name_shapes(shape):
            for found, key in keys.items():
                if key == NOTHING:
                    continue
                within = tuple(source for source, is_in in zip(sources, found, strict=True) if is_in)
                outside = tuple(source for source in sources if source not in within)
                if many and within:
                    outside = ()
                known = tuple(name for name in listed if all(is_found(source, name) is not False for source in within))
                strings = replace(
                    names,
                    patterns=(*names.patterns, *within),
                    without=(*names.without, *known),
                    without_patterns=(*names.without_patterns, *outside),
                )
                try:
                    yield self._string(strings, pointer, "patternProperties"), key
                except Unsatisfiable:
                    continue

    def _combinations(self, n: int) -> list[tuple[bool, ...]]:
        if n <= MAX_PATTERN_SETS:
            return list(product((True, False), repeat=n))
        return [tuple(i == j for j in range(n)) for i in range(n + 1)]

    def _name_shapes(self, shape: Objects) -> list[Strings]:
        """What `propertyNames` says of names: alternatives."""
        if not shape.names:
            return [Strings()]
        form = self._normalizer.normal(conjunction(*shape.names))
        return [one for one in form.shapes if isinstance(one, Strings)]


def _common_multiple(multiples: tuple[Fraction, ...]) -> Fraction | None:
    if not multiples:
        return None
    whole = math.lcm(*(multiple.numerator for multiple in multiples))
    return Fraction(whole, math.gcd(*(multiple.denominator for multiple in multiples)))


def _decimal(fraction: Fraction) -> Decimal:
    """A fraction whose denominator has the factors two and five only; division would round it."""
    places = next(n for n in range(fraction.denominator.bit_length() + 1) if 10**n % fraction.denominator == 0)
    digits = str(fraction.numerator * 10**places // fraction.denominator)
    return Decimal((0, tuple(int(digit) for digit in digits), -places))


def _number_terminal(shape: Numbers) -> str:
    multiple = _common_multiple(shape.multiples)
    if shape.integer:
        # a multiple of a fraction that is whole is a multiple of its numerator
        whole = None if multiple is None or multiple.numerator == 1 else multiple.numerator
        return integer_terminal(shape.low, shape.high, multiple=whole)
    step = None if multiple is None else _decimal(multiple)
    return number_terminal(shape.low, shape.high, shape.above, shape.below, step)


def _number_rule(shape: Numbers) -> str:
    """Multiples that no terminal has."""
    multiple = _common_multiple(shape.multiples)
    assert multiple is not None
    kind, step = ("integer", Decimal(multiple.numerator)) if shape.integer else ("number", _decimal(multiple))
    return multiple_rule(kind, step, shape.low, shape.high, shape.above, shape.below)
