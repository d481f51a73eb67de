"""What a schema's own keywords say of each type: checked, and as shapes. Schemas within it become keys.

Keywords that only annotate (`title`, `default`, `examples`, …) and unknown ones have no effect, as JSON Schema has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any

from pyinfer.errors import ParameterError
from pyinfer.guides.grammar.formats import FORMATS
from pyinfer.guides.schema.places import ANYTHING, NOTHING, Key, Place, Places
from pyinfer.guides.schema.report import Report, escaped
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
    conjunction,
)
from pyinfer.guides.schema.values import identity

TYPES: dict[str, type[Shape]] = {
    "null": Null,
    "boolean": Booleans,
    "number": Numbers,
    "integer": Numbers,
    "string": Strings,
    "array": Arrays,
    "object": Objects,
}
MAX_EXPONENT = 400  # digits of a bound; larger ones say nothing of numbers that anyone writes


class Keywords:
    """Reads one schema after the other."""

    def __init__(self, places: Places, report: Report) -> None:
        self._places = places
        self._report = report

    def shapes(self, place: Place) -> tuple[Shape, ...]:
        """What a schema's keywords say, but for `enum`, `const` and those that hold for all types (`allOf`, …)."""
        schema = place.schema
        types = self._types(place)
        if types is None and not _CONSTRAINTS.intersection(schema):
            return EVERY_TYPE
        found: list[Shape | None] = []
        if types is None or "null" in types:
            found.append(Null())
        if types is None or "boolean" in types:
            found.append(Booleans())
        if types is None or types & {"number", "integer"}:
            found.append(self._numbers(place, integer=types is not None and "number" not in types))
        if types is None or "string" in types:
            found.append(self._strings(place))
        if types is None or "array" in types:
            found.append(self._arrays(place))
        if types is None or "object" in types:
            found.append(self._objects(place))
        return tuple(shape for shape in found if shape is not None)

    def literals(self, place: Place) -> list[Literals]:
        """The values of `enum` and of `const`."""
        schema, found = place.schema, []
        if "const" in schema:
            found.append([schema["const"]])
        if "enum" in schema:
            if not isinstance(schema["enum"], list):
                raise wrong(place, "enum", "a list")
            found.append(schema["enum"])
            if not schema["enum"]:
                self._report.impossible(f"{place.pointer}/enum", "is empty")
        return [Literals(tuple({identity(value): value for value in values}.items())) for values in found]

    def _types(self, place: Place) -> set[str] | None:
        types = place.schema.get("type")
        if types is None:
            if "type" in place.schema:
                raise wrong(place, "type", "a type's name")
            return None
        names = types if isinstance(types, list) else [types]
        if not names:
            self._report.impossible(f"{place.pointer}/type", "is empty")
        found: set[str] = set()
        for name in names:
            if name == "any":  # of draft 3
                return None
            if isinstance(name, dict) and isinstance(types, list):  # likewise
                self._report.degrade(f"{place.pointer}/type", "a schema in a list of types; any value is accepted")
                return None
            if not isinstance(name, str) or name not in TYPES:
                raise wrong(place, "type", f"one or a list of {', '.join(TYPES)}")
            found.add(name)
        return found

    def _numbers(self, place: Place, *, integer: bool) -> Numbers | None:
        schema = place.schema
        low, high = self._number(place, "minimum"), self._number(place, "maximum")
        above, below = schema.get("exclusiveMinimum") is True, schema.get("exclusiveMaximum") is True  # draft 4
        if not isinstance(schema.get("exclusiveMinimum"), bool):
            exclusive = self._number(place, "exclusiveMinimum")
            if exclusive is not None and (low is None or exclusive >= low):
                low, above = exclusive, True
        if not isinstance(schema.get("exclusiveMaximum"), bool):
            exclusive = self._number(place, "exclusiveMaximum")
            if exclusive is not None and (high is None or exclusive <= high):
                high, below = exclusive, True
        multiple = self._number(place, "multipleOf")
        if multiple is not None and multiple <= 0:
            raise wrong(place, "multipleOf", "a number above 0")
        multiples = () if multiple is None else (Fraction(multiple),)
        shape = Numbers(integer, low, high, above, below, multiples).bounded()
        if shape is None:
            self._report.impossible(place.pointer, f"minimum ({low}) is greater than maximum ({high})")
        return shape

    def _number(self, place: Place, keyword: str) -> int | Decimal | None:
        value = place.schema.get(keyword)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, Decimal)):
            raise wrong(place, keyword, "a number")
        if value == 0:
            return 0
        if isinstance(value, Decimal):
            if abs(value.adjusted()) > MAX_EXPONENT:
                self._report.degrade(f"{place.pointer}/{keyword}", "the number has too many digits; it has no effect")
                return None
            return int(value) if value == value.to_integral_value() else value
        return value

    def _count(self, place: Place, keyword: str, default: float = 0) -> Any:
        """A length. One that is no whole number is met by the same values as the next one."""
        value = place.schema.get(keyword)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, (int, Decimal)) or value < 0:
            raise wrong(place, keyword, "a count")
        if isinstance(value, Decimal):
            if value.adjusted() > MAX_EXPONENT:
                self._report.degrade(f"{place.pointer}/{keyword}", "the number has too many digits; it has no effect")
                return default
            if value != value.to_integral_value():
                raise wrong(place, keyword, "a count")
        return int(value)

    def _strings(self, place: Place) -> Strings | None:
        schema = place.schema
        low, high = self._count(place, "minLength"), self._count(place, "maxLength", INFINITE)
        patterns = () if schema.get("pattern") is None else (self._text(place, "pattern"),)
        formats: tuple[str, ...] = ()
        if isinstance(name := schema.get("format"), str):
            if name in FORMATS:
                formats = (name,)
            else:
                self._report.degrade(f"{place.pointer}/format", f"{name!r:.60} is no known format; it has no effect")
        return Strings(low, high, patterns, formats) if self._is_range(place, "Length", low, high) else None

    def _arrays(self, place: Place) -> Arrays | None:
        schema = place.schema
        first = schema.get("prefixItems")
        items, at = schema.get("items"), "items"
        if isinstance(items, list):  # up to draft 2019-09
            first, items, at = (items if first is None else first), schema.get("additionalItems"), "additionalItems"
        prefix = self._list(place, "prefixItems" if "prefixItems" in schema else "items", first)
        rest = ANYTHING if items is None else self._places.key(items, f"{place.pointer}/{at}", place)
        low, high = self._count(place, "minItems"), self._count(place, "maxItems", INFINITE)
        contains: tuple[Contains, ...] = ()
        if "contains" in schema:
            key = self._places.key(schema["contains"], f"{place.pointer}/contains", place)
            old = place.old
            least = 1 if old else self._count(place, "minContains", 1)
            most = INFINITE if old else self._count(place, "maxContains", INFINITE)
            if least > 0 or most < INFINITE:
                contains = (Contains(key, least, most),)
                low = max(low, least)
        if schema.get("uniqueItems") is True and high > 1:
            self._report.degrade(f"{place.pointer}/uniqueItems", "an item may come twice")
        if not self._is_range(place, "Items", low, high):
            return None
        return Arrays(prefix, rest, low, high, contains, items is not None)

    def _objects(self, place: Place) -> Objects | None:
        schema = place.schema
        properties = self._map(place, "properties")
        patterns = self._map(place, "patternProperties")
        additional = ANYTHING
        closed = "additionalProperties" in schema
        if closed:
            at = f"{place.pointer}/additionalProperties"
            additional = self._places.key(schema["additionalProperties"], at, place)
        required = schema.get("required", [])
        if isinstance(required, bool):  # draft 3 has it in the property
            if required:
                self._report.degrade(f"{place.pointer}/required", "is true; expected a list of names; has no effect")
            required = []
        if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
            raise wrong(place, "required", "a list of names")
        names: tuple[Key, ...] = ()
        if "propertyNames" in schema:
            key = self._places.key(schema["propertyNames"], f"{place.pointer}/propertyNames", place)
            names = (key,) if key != ANYTHING else ()
        low, high = self._count(place, "minProperties"), self._count(place, "maxProperties", INFINITE)
        layers = (Layer(properties, patterns, additional),) if properties or patterns or additional != ANYTHING else ()
        required = tuple(dict.fromkeys(required))
        if not self._is_range(place, "Properties", max(low, len(required)), high):
            return None
        return Objects(layers, required, low, high, names, closed)

    def _is_range(self, place: Place, what: str, low: float, high: float) -> bool:
        if low > high:
            self._report.impossible(place.pointer, f"min{what} ({low}) is greater than max{what} ({high})")
        return low <= high

    def _map(self, place: Place, keyword: str) -> tuple[tuple[str, Key], ...]:
        value = place.schema.get(keyword)
        if value is None:
            return ()
        if not isinstance(value, dict):
            raise wrong(place, keyword, "an object")
        at = f"{place.pointer}/{keyword}"
        return tuple((name, self._places.key(item, f"{at}/{escaped(name)}", place)) for name, item in value.items())

    def _list(self, place: Place, keyword: str, value: Any) -> tuple[Key, ...]:
        if value is None:
            return ()
        if not isinstance(value, list):
            raise wrong(place, keyword, "a list of schemas")
        at = f"{place.pointer}/{keyword}"
        return tuple(self._places.key(item, f"{at}/{i}", place) for i, item in enumerate(value))

    def keys(self, place: Place, keyword: str) -> tuple[Key, ...]:
        """The schemas of a keyword that has a list of them."""
        return self._list(place, keyword, place.schema[keyword])

    def key(self, place: Place, keyword: str) -> Key:
        """The schema of a keyword that has one."""
        return self._places.key(place.schema[keyword], f"{place.pointer}/{keyword}", place)

    def dependencies(self, place: Place) -> list[tuple[str, tuple[str, ...], Key, str]]:
        """(name, names that an object with it has, too, what such an object meets, the place of this)."""
        found = []
        for keyword in ("dependentRequired", "dependentSchemas", "dependencies"):
            value = place.schema.get(keyword)
            if value is None:
                continue
            if not isinstance(value, Mapping):
                raise wrong(place, keyword, "an object")
            for name, item in value.items():
                at = f"{place.pointer}/{keyword}/{escaped(name)}"
                if isinstance(item, str) and keyword == "dependencies":  # draft 3
                    item = [item]
                if isinstance(item, list):
                    if not all(isinstance(other, str) for other in item):
                        raise ParameterError(f"{at} of the JSON schema is {item!r:.60}; expected a list of names")
                    if item:
                        found.append((name, tuple(item), ANYTHING, at))
                elif (key := self._places.key(item, at, place)) != ANYTHING:
                    found.append((name, (), key, at))
        return found

    def _text(self, place: Place, keyword: str) -> str:
        value = place.schema[keyword]
        if not isinstance(value, str):
            raise wrong(place, keyword, "a text")
        return value


_CONSTRAINTS = frozenset(
    (
        *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength"),
        *("pattern", "format", "items", "prefixItems", "additionalItems", "minItems", "maxItems", "uniqueItems"),
        *("contains", "properties", "patternProperties", "additionalProperties", "required", "propertyNames"),
        *("minProperties", "maxProperties"),
    )
)


def forbidden(name: str) -> Objects:
    """Objects that do not have a property."""
    return Objects((Layer(((name, NOTHING),), evaluates=False),))


def unevaluated_items(shape: Arrays, key: Key) -> Arrays:
    """Arrays whose items that no keyword spoke of meet a key."""
    return shape if shape.closed else _replaced(shape, key)


def _replaced(shape: Arrays, key: Key) -> Arrays:
    return Arrays(shape.prefix, conjunction(shape.items, key), shape.low, shape.high, shape.contains, True)


def unevaluated_properties(shape: Objects, key: Key) -> Objects:
    """Objects whose properties that no keyword spoke of meet a key."""
    if shape.closed:
        return shape
    layers = [layer for layer in shape.layers if layer.evaluates]
    properties = tuple((name, ANYTHING) for layer in layers for name, _ in layer.properties)
    patterns = tuple((pattern, ANYTHING) for layer in layers for pattern, _ in layer.patterns)
    layer = Layer(tuple(dict.fromkeys(properties)), tuple(dict.fromkeys(patterns)), key)
    return Objects((*shape.layers, layer), shape.required, shape.low, shape.high, shape.names, True)


def wrong(place: Place, keyword: str, expected: str) -> ParameterError:
    """The error about a keyword whose value is of a wrong kind."""
    found = place.schema[keyword]
    return ParameterError(f"{place.pointer}/{keyword} of the JSON schema is {found!r:.60}; expected {expected}")
