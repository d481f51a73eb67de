"""Nodes of grammars and of regular expressions, which all notations that pyinfer reads share."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

SURROGATES = (0xD800, 0xDFFF)  # first and last code point that UTF-8 does not have
SIGNS: dict[str, tuple[int, int | None]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}  # least and most repetitions


@dataclass(eq=False)
class Chars:
    """One character of several ranges (first, last), which ascend and do not touch."""

    ranges: tuple[tuple[int, int], ...]


@dataclass(eq=False)
class Token:
    """One token of the vocabulary. text: its name in llguidance's Lark."""

    text: str


@dataclass(eq=False)
class Ref:
    """A text that a rule derives. name: of that rule."""

    name: str


@dataclass(eq=False)
class Seq:
    """Its items, one after the other; without items, the empty text."""

    items: list[Node] = field(default_factory=list)


@dataclass(eq=False)
class Alt:
    """One of its items."""

    items: list[Node]


@dataclass(eq=False)
class Repeat:
    """An item, repeated `min_count` to `max_count` times (None: without a bound)."""

    item: Node
    min_count: int
    max_count: int | None


@dataclass(eq=False)
class And:
    """A text that each of its items matches. Only in terminals: GBNF has none."""

    items: list[Node]


@dataclass(eq=False)
class Not:
    """A text that its item does not match. Only in terminals: GBNF has none."""

    item: Node


@dataclass(eq=False)
class Edge:
    """A place: "start" or "end" of a text, "word" edge, "not word", or a "reference". Only while a pattern is read."""

    kind: str


@dataclass(eq=False)
class Look:
    """A place after which (`ahead`), or before which, the item matches, or if `negative`, does not. As Edge."""

    item: Node
    ahead: bool
    negative: bool


Node: TypeAlias = Chars | Token | Ref | Seq | Alt | Repeat | And | Not | Edge | Look


def children(node: Node) -> Sequence[Node]:
    """The parts of a node."""
    if isinstance(node, (Seq, Alt, And)):
        return node.items
    return (node.item,) if isinstance(node, (Repeat, Not, Look)) else ()


def walk(node: Node) -> list[Node]:
    """A node and all nodes below it, in the order of the text."""
    found, todo = [], [node]
    while todo:
        found.append(todo.pop())
        todo += reversed(children(found[-1]))
    return found


def references(body: Node) -> list[str]:
    """The rules that a body uses, each once."""
    return list(dict.fromkeys(node.name for node in walk(body) if isinstance(node, Ref)))


def normal_ranges(ranges: Sequence[tuple[int, int]], negated: bool = False) -> tuple[tuple[int, int], ...]:
    """Ranges in ascending order, joined where they touch; negated: the gaps between them. Surrogates are in neither."""
    joined: list[list[int]] = []
    for low, high in sorted([*ranges, SURROGATES] if negated else ranges):
        if joined and low <= joined[-1][1] + 1:
            joined[-1][1] = max(joined[-1][1], high)
        else:
            joined.append([low, high])
    if negated:
        edges = [-1, *(edge for pair in joined for edge in pair), sys.maxunicode + 1]
        gaps = [(a + 1, b - 1) for a, b in zip(edges[::2], edges[1::2], strict=True)]
        return tuple((low, high) for low, high in gaps if low <= high)
    first, last = SURROGATES
    parts = [part for low, high in joined for part in ((low, min(high, first - 1)), (max(low, last + 1), high))]
    return tuple((low, high) for low, high in parts if low <= high)


def any_character() -> Chars:
    """Any character at all."""
    return Chars(normal_ranges([], negated=True))


def any_text() -> Repeat:
    """Any text, the empty one included."""
    return Repeat(any_character(), 0, None)


def literal(text: str) -> Seq:
    """Exactly this text."""
    return Seq([Chars(((ord(char), ord(char)),)) for char in text])
