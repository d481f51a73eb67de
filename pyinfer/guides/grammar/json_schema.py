"""JSON schemas, prepared for llguidance: what it refuses without need, and what it does not notice.

- References without an end (each node must have a next node) become `false`, so that nothing that needs them can be
  chosen. A schema that then can't be met is refused; llguidance would write its text for ever.
- Formats that JSON Schema does not define are dropped: they are remarks.
- `multipleOf` needs a state for each remainder, so the number of remainders is bounded.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from typing import Any
from urllib.parse import unquote

from pyinfer.errors import ParameterError

Schema = Any  # a dict or a bool

# Keywords that hold schemas: by name, in a list, or one alone. `items` may be a list or one.
MAPS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
LISTS = ("allOf", "anyOf", "oneOf", "prefixItems", "items")
SINGLE = (
    *("items", "additionalProperties", "additionalItems", "unevaluatedItems", "unevaluatedProperties"),
    *("not", "if", "then", "else", "contains", "propertyNames"),
)
FORMATS = frozenset(  # that JSON Schema defines
    (
        *("date-time", "date", "time", "duration", "email", "idn-email", "hostname", "idn-hostname", "ipv4", "ipv6"),
        *("uri", "uri-reference", "iri", "iri-reference", "uuid", "uri-template", "json-pointer"),
        *("relative-json-pointer", "regex"),
    )
)
MAX_REMAINDERS = 100_000  # which take a tenth of a second and 50 MB to compile
MAX_DEPTH = 120  # nested values; llguidance's JSON reader allows 128, and pyinfer adds a few around the schema
# llguidance's options for white space as json.dumps and chat templates write it: most tokens between values are then
# certain
FIXED_SPACE = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


def parse_schema(source: str) -> Schema:
    """Read a schema. Raises ParameterError if the text is no JSON, or neither an object nor true or false."""
    try:
        schema = json.loads(source)
    except ValueError as error:
        raise ParameterError(f"the JSON schema is no JSON: {error}") from None
    except RecursionError:
        raise ParameterError("the JSON schema is nested too deeply") from None
    if not isinstance(schema, (dict, bool)):
        raise ParameterError(f"the JSON schema is {source!r:.60}; expected an object, or true or false")
    return schema


def prepare_schema(schema: Schema) -> Schema:
    """Make the schema that llguidance compiles. Raises ParameterError if only endless texts would meet it."""
    if isinstance(schema, bool):
        return schema
    _check_depth(schema)
    _check_multiples(schema)
    endless = _endless_references(schema)

    def prepare(node: Schema) -> Schema:
        if not isinstance(node, dict):
            return node
        if node.get("$ref") in endless:
            return False
        kept = {k: v for k, v in node.items() if k != "format" or not isinstance(v, str) or v in FORMATS}
        return _map_subschemas(kept, prepare)

    return prepare(schema)


def without_unique_items(schema: Schema) -> Schema:
    """Copy a schema without `uniqueItems`, at any depth."""
    if not isinstance(schema, dict):
        return schema
    return _map_subschemas({k: v for k, v in schema.items() if k != "uniqueItems"}, without_unique_items)


def _subschemas(node: Mapping[str, Any]) -> Iterator[Schema]:
    for key, value in node.items():
        if key in MAPS and isinstance(value, dict):
            yield from value.values()
        elif key in LISTS and isinstance(value, list):
            yield from value
        elif key in SINGLE:
            yield value


def _map_subschemas(node: Mapping[str, Any], change: Callable[[Schema], Schema]) -> dict[str, Any]:
    changed = dict(node)
    for key, value in node.items():
        if key in MAPS and isinstance(value, dict):
            changed[key] = {name: change(item) for name, item in value.items()}
        elif key in LISTS and isinstance(value, list):
            changed[key] = [change(item) for item in value]
        elif key in SINGLE:
            changed[key] = change(value)
    return changed


def _all_nodes(schema: Schema) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        yield schema
        for item in _subschemas(schema):
            yield from _all_nodes(item)


def _check_depth(schema: Schema) -> None:
    level, depth = [schema], 0
    while level:
        level = [
            child
            for node in level
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, (dict, list))
        ]
        depth += 1
        if depth > MAX_DEPTH:
            raise ParameterError(f"the JSON schema is nested more than {MAX_DEPTH} deep")


def _check_multiples(schema: Schema) -> None:
    """Refuse `multipleOf` where its remainders would take llguidance minutes and gigabytes."""
    nodes = list(_all_nodes(schema))
    counts = {_remainders(node["multipleOf"]) for node in nodes if _is_number(node.get("multipleOf"))}
    # where schemas are merged, a number may have to be a multiple of several numbers at once
    merged = any("allOf" in node or "$ref" in node for node in nodes)
    n = math.lcm(*counts) if merged else max(counts, default=1)
    if n > MAX_REMAINDERS:
        raise ParameterError(f"multipleOf has {n} different remainders in the JSON schema; at most {MAX_REMAINDERS}")


def _remainders(multiple: float) -> int:
    """The remainders that a reader of digits must tell apart; the last digits alone show factors of two and five."""
    n = abs(Fraction(str(multiple)).numerator)
    for factor in (2, 5):
        while n and n % factor == 0:
            n //= factor
    return max(n, 1)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _endless_references(schema: Schema) -> set[str]:
    """Local references that no finite value meets: all, but for those that turn out to end, one after the other."""
    targets = {}
    for node in _all_nodes(schema):
        reference = node.get("$ref")
        if isinstance(reference, str) and reference.startswith("#"):
            targets[reference] = _resolve(schema, reference)
    endless = {reference for reference, target in targets.items() if target is not None}
    while ending := {reference for reference in endless if _can_end(targets[reference], endless)}:
        endless -= ending
    if _can_end(schema, set()) and not _can_end(schema, endless):
        raise ParameterError("the JSON schema can't be met: it requires something that contains itself without end")
    return endless


def _resolve(schema: Schema, reference: str) -> Schema | None:
    """The schema that a JSON pointer points to (RFC 6901); None if there is none, or the reference is a name."""
    node = schema
    pointer = unquote(reference[1:])
    if pointer and not pointer.startswith("/"):
        return None
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(node, dict) and key in node:
            node = node[key]
        elif isinstance(node, list) and key.isdecimal() and int(key) < len(node):
            node = node[int(key)]
        else:
            return None
    return node if isinstance(node, (dict, bool)) else None


def _can_end(node: Schema, endless: set[str]) -> bool:
    """Whether a finite value may meet the schema, where none meets the endless references. True in case of doubt."""
    if not isinstance(node, dict):
        return node is not False
    if "const" in node or "enum" in node:
        return True
    if node.get("$ref") in endless:
        return False
    for key, enough in (("allOf", all), ("anyOf", any), ("oneOf", any)):
        items = node.get(key)
        if isinstance(items, list) and items and not enough(_can_end(item, endless) for item in items):
            return False
    types = node.get("type")
    if not isinstance(types, (str, list)):
        return True
    return any(_type_can_end(node, kind, endless) for kind in ([types] if isinstance(types, str) else types))


def _type_can_end(node: Mapping[str, Any], kind: Any, endless: set[str]) -> bool:
    if kind == "object":
        properties, required = node.get("properties", {}), node.get("required", [])
        if not isinstance(properties, dict) or not isinstance(required, list):
            return True
        others = True if "patternProperties" in node else node.get("additionalProperties", True)
        names = [name for name in required if isinstance(name, str)]
        return all(_can_end(properties.get(name, others), endless) for name in names)
    if kind == "array":
        first, least = node.get("prefixItems", []), node.get("minItems", 0)
        if not isinstance(first, list) or not _is_number(least):
            return True
        needed = [*first[: int(least)], *([node.get("items", True)] if least > len(first) else [])]
        return all(_can_end(item, endless) for item in needed)
    return True
