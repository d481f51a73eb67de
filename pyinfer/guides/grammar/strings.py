r"""JSON's strings as terminals of llguidance's Lark: patterns, lengths and formats, of the text before it is quoted.

Quoting replaces each character by the forms that it may have: itself, `\n` and its kin, or `\u000a` for control
characters; quotation marks and backslashes have one form. No two characters share a form, so that intersections and
complements of quoted texts are those of the texts.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import lru_cache

from pyinfer.guides.grammar.assertions import max_length as longest_of
from pyinfer.guides.grammar.assertions import min_length as shortest_of
from pyinfer.guides.grammar.derivatives import Language
from pyinfer.guides.grammar.ecma import Pattern
from pyinfer.guides.grammar.formats import format_pattern
from pyinfer.guides.grammar.nodes import (
    Alt,
    And,
    Chars,
    Node,
    Not,
    Repeat,
    Seq,
    any_character,
    literal,
    normal_ranges,
    walk,
)
from pyinfer.guides.grammar.outcomes import TooComplex, Unsatisfiable
from pyinfer.guides.grammar.terminals import terminal_of

Ranges = tuple[tuple[int, int], ...]

SHORT = {0x22: '"', 0x5C: "\\", 8: "b", 0xC: "f", 0xA: "n", 0xD: "r", 9: "t"}
QUOTED: Ranges = ((0, 0x1F), (0x22, 0x22), (0x5C, 0x5C), (0x7F, 0x7F))  # characters that do not stand for themselves

MAX_STEPS = 5000  # of the search for a string that meets all, some 10 ms


def string_terminal(
    *,
    patterns: Sequence[Pattern] = (),
    formats: Sequence[str] = (),
    min_length: int = 0,
    max_length: int | None = None,
    without: Collection[str] = (),
    without_patterns: Sequence[Pattern] = (),
    without_formats: Sequence[str] = (),
) -> str:
    """The right side of a terminal that matches a string of JSON, with its quotes.

    - `patterns`, `formats`: all of them match the text.
    - `min_length`, `max_length`: in characters.
    - `without`, `without_patterns`, `without_formats`: the text is none of these, and none of them matches it.

    Raises Unsatisfiable where no string meets all of that, as far as a short search shows, and TooComplex.
    """
    if max_length is not None and min_length > max_length:
        raise Unsatisfiable(f"minLength ({min_length}) is greater than maxLength ({max_length})")
    held = [pattern.node for pattern in (*patterns, *map(format_pattern, formats))]
    others = [pattern.node for pattern in (*without_patterns, *map(format_pattern, without_formats))]
    if without:
        others.append(Alt([literal(text) for text in sorted(without)]))
    if _is_empty((*held, *map(Not, others)), min_length, max_length):
        raise Unsatisfiable("no string meets its patterns, formats and lengths")
    if not any(_has_length(node, min_length, max_length) for node in held):
        held.insert(0, Repeat(any_character(), min_length, max_length))
    parts = [quoted(node) for node in held] + [Not(quoted(node)) for node in others]
    text = parts[0] if len(parts) == 1 else And(parts)
    return terminal_of(Seq([literal('"'), text, literal('"')]))


def _is_empty(nodes: tuple[Node, ...], min_length: int, max_length: int | None) -> bool:
    """Whether no text of such lengths matches all nodes; False in case of doubt."""
    alone = len(nodes) <= 1 and min_length == 0 and max_length is None
    if alone and not any(isinstance(part, (And, Not)) or _is_never(part) for node in nodes for part in walk(node)):
        return False
    try:
        return Language(*nodes, max_steps=MAX_STEPS).is_empty(min_length, max_length)
    except TooComplex:
        return False


def _has_length(node: Node, least: int, most: int | None) -> bool:
    """Whether every text of a part has from `least` to `most` characters."""
    if shortest_of(node) < least:
        return False
    longest = longest_of(node)
    return most is None or (longest is not None and longest <= most)


def _is_never(node: Node) -> bool:
    return (isinstance(node, Chars) and not node.ranges) or (isinstance(node, Alt) and not node.items)


def quoted(node: Node) -> Node:
    """A part of a text, as it is written between the quotes of a JSON string."""
    if isinstance(node, Chars):
        return _quoted_character(node.ranges)
    if isinstance(node, (Seq, Alt, And)):
        return type(node)([quoted(item) for item in node.items])
    if isinstance(node, Repeat):
        return Repeat(quoted(node.item), node.min_count, node.max_count)
    assert isinstance(node, Not)
    return Not(quoted(node.item))


@lru_cache(maxsize=1024)
def _quoted_character(ranges: Ranges) -> Node:
    special = _common(ranges, QUOTED)
    if not special:
        return Chars(ranges)
    plain = _common(ranges, normal_ranges(QUOTED, negated=True))
    codes = [code for low, high in special for code in range(low, high + 1)]
    escapes: list[Node] = []
    if short := [ord(SHORT[code]) for code in codes if code in SHORT]:
        escapes.append(Chars(normal_ranges([(code, code) for code in short])))
    by_first: dict[str, list[str]] = {}
    for code in codes:
        if code not in (0x22, 0x5C):
            by_first.setdefault(f"{code:02x}"[0], []).append(f"{code:02x}"[1])
    same: dict[str, str] = {}  # the second digits, and all first ones before them
    for first, seconds in by_first.items():
        same["".join(seconds)] = same.get("".join(seconds), "") + first
    escapes += [Seq([*literal("u00").items, _set(firsts), _set(seconds)]) for seconds, firsts in same.items()]
    escape = Seq([*literal("\\").items, escapes[0] if len(escapes) == 1 else Alt(escapes)])
    return Alt([Chars(plain), escape]) if plain else escape


def _set(digits: str) -> Chars:
    """Hexadecimal digits in both cases."""
    return Chars(normal_ranges([(ord(char), ord(char)) for char in digits + digits.upper()]))


def _common(one: Ranges, other: Ranges) -> Ranges:
    pairs = [(max(a, c), min(b, d)) for a, b in one for c, d in other]
    return tuple(sorted((low, high) for low, high in pairs if low <= high))
