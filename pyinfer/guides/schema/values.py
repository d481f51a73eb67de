"""Values of JSON: which of them are equal, and how they are written in a grammar.

`const` and `enum` compare values as JSON Schema does: 1 equals 1.0, true does not equal 1, and the order of an object's
properties does not matter.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from pyinfer.guides.grammar.numbers import number_text

PLAIN = r"0-9A-Za-z _:;,<>=@%!'\u00a0-\ud7ff\ue000-\ufdcf\ufe00-\ufffd"  # stand for themselves in an expression
SPECIAL = re.compile(f"[^{PLAIN}]")


def identity(value: Any) -> Any:
    """What equal values share, hashable."""
    if isinstance(value, bool) or value is None:
        return ("constant", value)
    if isinstance(value, (int, Decimal)):
        return ("number", value)  # equal numbers of both types have the same hash
    if isinstance(value, str):
        return ("string", value)
    if isinstance(value, list):
        return ("array", tuple(identity(item) for item in value))
    return ("object", frozenset((name, identity(item)) for name, item in value.items()))


def escaped_regex(text: str) -> str:
    """A regular expression in llguidance's syntax that matches exactly this text."""
    return SPECIAL.sub(lambda match: f"\\x{{{ord(match[0]):x}}}", text)


def string_text(text: str) -> str:
    """A string as JSON, with as few escapes as there can be; halves of surrogate pairs stay escaped."""
    written = json.dumps(text, ensure_ascii=False)
    return re.sub(r"[\x7f\ud800-\udfff]", lambda match: f"\\u{ord(match[0]):04x}", written)


def value_regex(value: Any, wrap: Callable[[str], str]) -> str:
    """A regular expression for a value as JSON. wrap: gives that of a sign with the white space around it."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, (int, Decimal)):
        return escaped_regex(number_text(value))
    if isinstance(value, str):
        return escaped_regex(string_text(value))
    if isinstance(value, list):
        if not value:
            return wrap("[]")
        return wrap("[") + wrap(",").join(value_regex(item, wrap) for item in value) + wrap("]")
    if not value:
        return wrap("{}")
    members = (escaped_regex(string_text(k)) + wrap(":") + value_regex(v, wrap) for k, v in value.items())
    return wrap("{") + wrap(",").join(members) + wrap("}")
