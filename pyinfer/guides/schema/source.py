"""The text of a JSON schema: read without rounding a number, and checked for its depth."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from pyinfer.errors import ParameterError

Schema = Any  # a dict or a bool

MAX_DEPTH = 120  # nested values: functions call themselves for each


def parse_schema(source: str) -> Schema:
    """Read a schema; numbers with a fraction become Decimals.

    Raises ParameterError if the text is no JSON, nested too deeply, or neither an object nor true or false.
    """
    try:
        schema = json.loads(source, parse_float=Decimal, parse_constant=_refuse)
    except RecursionError:
        raise ParameterError("the JSON schema is nested too deeply") from None
    except (ValueError, ArithmeticError) as error:
        raise ParameterError(f"the JSON schema is no JSON: {error}") from None
    if not isinstance(schema, (dict, bool)):
        raise ParameterError(f"the JSON schema is {source!r:.60}; expected an object, or true or false")
    check_depth(schema)
    return schema


def check_depth(schema: Schema) -> None:
    """Raise ParameterError for a schema that is nested more than MAX_DEPTH deep."""
    level, depth = [schema], 0
    while level:
        level = [
            child
            for node in level
            for child in (node.values() if isinstance(node, dict) else node if isinstance(node, list) else ())
            if isinstance(child, (dict, list))
        ]
        depth += 1
        if depth > MAX_DEPTH:
            raise ParameterError(f"the JSON schema is nested more than {MAX_DEPTH} deep")


def pointed_item(node: Any, part: str) -> Any:
    """Return what a part of a JSON pointer means in an object or a list (RFC 6901). Raises LookupError for nothing."""
    name = part.replace("~1", "/").replace("~0", "~")
    if isinstance(node, Mapping) and name in node:
        return node[name]
    if isinstance(node, list) and name.isdecimal() and int(name) < len(node):
        return node[int(name)]
    raise LookupError(name)


def without_unique_items(schema: Schema) -> Schema:
    """Copy a schema without `uniqueItems`, at any depth; a property may have that name."""
    if isinstance(schema, list):
        return [without_unique_items(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: {name: without_unique_items(item) for name, item in value.items()}
        if key in ("properties", "$defs", "patternProperties") and isinstance(value, dict)
        else value
        if key in ("const", "enum", "default", "examples")
        else without_unique_items(value)
        for key, value in schema.items()
        if key != "uniqueItems"
    }


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")
