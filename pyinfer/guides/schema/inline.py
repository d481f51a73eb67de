"""Schemas within a grammar in Lark, as `%json {…}`: each becomes rules of the grammar."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache

from pyinfer.errors import ParameterError
from pyinfer.guides.schema.compile import schema_rules
from pyinfer.guides.schema.layout import FREE_LAYOUT, layout_of
from pyinfer.guides.schema.source import check_depth

# what may hold "%json" as a text: strings, regular expressions and comments; and the keyword itself
PIECES = re.compile(r'"(?:[^"\\\n]|\\.)*"|/(?!/)(?:[^/\\\n]|\\.)+/|(?://|\#)[^\n]*|%json\b\s*')
MAX_SCHEMAS = 1000  # of a grammar
MAX_KEPT = 64  # grammars


@dataclass(frozen=True)
class Expanded:
    """A grammar whose schemas became rules; warnings: what these do not hold."""

    lark: str
    warnings: tuple[str, ...]


@lru_cache(maxsize=MAX_KEPT)
def expand_schemas(source: str) -> Expanded:
    """Replace the schemas of a grammar. Raises ParameterError for what is no schema, or can't be met."""
    if source.lstrip().startswith("{"):  # llguidance would read a list of grammars in its JSON
        raise ParameterError(f"the grammar begins with {source.lstrip()!r:.40}; expected rules in Lark")
    decoder = json.JSONDecoder(parse_float=Decimal)
    parts: list[str] = []
    lines: list[str] = []
    warnings: dict[str, None] = {}
    at = n = 0
    while (match := PIECES.search(source, at)) is not None:
        parts.append(source[at : match.start()])
        at = match.end()
        if not match[0].startswith("%json"):
            parts.append(match[0])
            continue
        n += 1
        if n > MAX_SCHEMAS:
            raise ParameterError(f"the grammar has more than {MAX_SCHEMAS} JSON schemas")
        try:
            schema, at = decoder.raw_decode(source, at)
        except (ValueError, RecursionError) as error:
            raise ParameterError(f"%json at character {match.start()} of the grammar: {error}") from None
        if not isinstance(schema, (dict, bool)):
            raise ParameterError(f"%json at character {match.start()} of the grammar: expected a schema")
        check_depth(schema)
        options = schema.get("x-guidance") if isinstance(schema, dict) else None
        layout = FREE_LAYOUT if options is None else layout_of(options)
        rules = schema_rules(schema, layout, prefix=_free_prefix(source, n))
        parts.append(f" {rules.start} ")
        lines += rules.lines
        warnings |= dict.fromkeys(rules.warnings)
    if not n:
        return Expanded(source, ())
    return Expanded("".join(parts) + source[at:] + "\n" + "\n".join(lines) + "\n", tuple(warnings))


def _free_prefix(source: str, n: int) -> str:
    """The beginning of names that the grammar does not have."""
    prefix = f"json{n}_"
    while prefix in source.lower():
        prefix = f"x{prefix}"
    return prefix
