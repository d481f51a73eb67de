"""GBNF, llama.cpp's notation for grammars, read into a tree.

    root ::= greeting ", " name "!"
    greeting ::= "Hello" | "Good " ("morning" | "evening")
    name ::= [A-Z] [a-z]{1,20}   # comments run to the end of the line

A rule continues in the next line inside parentheses, after "|", and if the next line begins with "|". Besides
characters there are tokens: `<name>` and `<[id]>` match one token, `!<[id]>` any other token.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from pyinfer.errors import ParameterError

MAX_NESTING = 100  # open parentheses: functions call themselves for each, and Python allows some 1000 calls
MAX_NODES = 50_000  # parts of a grammar, which then takes at most seconds to translate
SURROGATES = (0xD800, 0xDFFF)  # first and last code point that UTF-8 does not have
ESCAPES = {"t": "\t", "r": "\r", "n": "\n", "\\": "\\", '"': '"', "[": "[", "]": "]", "-": "-", "^": "^", "/": "/"}
SIGNS: dict[str, tuple[int, int | None]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}
HEX_DIGITS = {"x": 2, "u": 4, "U": 8}
NAME = re.compile(r"[A-Za-z0-9_-]+")
COUNTS = re.compile(r"\{\s*([0-9]{1,9})\s*(?:(,)\s*([0-9]{1,9})?\s*)?\}")
TOKEN = re.compile(r"!?<\[[0-9]{1,9}\]>|<[^\s<>]+>")
SPACE = re.compile(r"(?:[ \t]|#[^\r\n]*)*")
SPACE_AND_LINES = re.compile(r"(?:\s|#[^\r\n]*)*")
NEXT_ALTERNATIVE = re.compile(r"(?:\s|#[^\r\n]*)*\|")


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


Node: TypeAlias = Chars | Token | Ref | Seq | Alt | Repeat


def children(node: Node) -> Sequence[Node]:
    """The parts of a node."""
    if isinstance(node, (Seq, Alt)):
        return node.items
    return (node.item,) if isinstance(node, Repeat) else ()


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


def parse_gbnf(text: str) -> dict[str, Node]:
    """Read a grammar's rules, by name, in their order. Raises ParameterError with the line of what can't be read."""
    return _Parser(text).rules()


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0
        self._n_nodes = 0

    def rules(self) -> dict[str, Node]:
        rules: dict[str, Node] = {}
        self._skip(SPACE_AND_LINES)
        while self._at < len(self._text):
            start = self._at
            name = self._take(NAME, "the name of a rule").group()
            self._skip(SPACE)
            self._expect("::=")
            if name in rules:
                self._at = start
                raise self._error(f"the rule {name!r} is there already")
            self._skip(SPACE_AND_LINES)
            rules[name] = self._alternatives(nested=False)
            self._skip(SPACE)
            if self._at < len(self._text) and self._text[self._at] not in "\r\n":
                raise self._error("expected a new line")
            self._skip(SPACE_AND_LINES)
        return rules

    def _alternatives(self, nested: bool) -> Node:
        items = [self._sequence(nested)]
        while match := NEXT_ALTERNATIVE.match(self._text, self._at):
            self._at = match.end()
            self._skip(SPACE_AND_LINES)
            items.append(self._sequence(nested))
        return items[0] if len(items) == 1 else Alt(items)

    def _sequence(self, nested: bool) -> Node:
        items: list[Node] = []
        while self._at < len(self._text) and (item := self._item()) is not None:
            self._n_nodes += 1
            if self._n_nodes > MAX_NODES:
                raise self._error(f"the grammar has more than {MAX_NODES} parts")
            self._skip(SPACE_AND_LINES if nested else SPACE)
            items.append(self._repeated(item))
            self._skip(SPACE_AND_LINES if nested else SPACE)
        return items[0] if len(items) == 1 else Seq(items)

    def _item(self) -> Node | None:
        char = self._text[self._at]
        if char == '"':
            return self._literal()
        if char == "[":
            return self._class()
        if char == "(":
            return self._group()
        if char == ".":
            self._at += 1
            return Chars(normal_ranges([], negated=True))
        if char in "<!":
            return Token(self._take(TOKEN, "<name>, <[id]> or !<[id]>").group().replace("!<[", "<[^"))
        if match := NAME.match(self._text, self._at):
            self._at = match.end()
            return Ref(match.group())
        return None

    def _literal(self) -> Node:
        self._at += 1
        items: list[Node] = []
        while not self._next_is('"'):
            code = self._char()
            items.append(Chars(normal_ranges([(code, code)])))
        self._n_nodes += len(items)
        return items[0] if len(items) == 1 else Seq(items)

    def _class(self) -> Node:
        self._at += 1
        negated = self._next_is("^")
        ranges = []
        while not self._next_is("]"):
            low = high = self._char()
            if self._text.startswith("-", self._at) and not self._text.startswith("-]", self._at):
                self._at += 1
                high = self._char()
            if low > high:
                raise self._error(f"the range from U+{low:04X} to U+{high:04X} runs backwards")
            ranges.append((low, high))
        return Chars(normal_ranges(ranges, negated))

    def _group(self) -> Node:
        self._at += 1
        self._depth += 1
        if self._depth > MAX_NESTING:
            raise self._error(f"more than {MAX_NESTING} parentheses are open")
        self._skip(SPACE_AND_LINES)
        node = self._alternatives(nested=True)
        self._skip(SPACE_AND_LINES)
        self._expect(")")
        self._depth -= 1
        return node

    def _repeated(self, item: Node) -> Node:
        if self._text[self._at : self._at + 1] in SIGNS:
            self._at += 1
            item = Repeat(item, *SIGNS[self._text[self._at - 1]])
        elif self._text.startswith("{", self._at):
            match = self._take(COUNTS, "{n}, {n,} or {n,m} of at most nine digits")
            first = int(match[1])
            last = first if not match[2] else int(match[3]) if match[3] else None
            if last is not None and last < first:
                raise self._error(f"{match.group()} repeats at least {first} and at most {last} times")
            item = Repeat(item, first, last)
        return item

    def _char(self) -> int:
        """The code point of the next character, which may be escaped."""
        if self._at >= len(self._text):
            raise self._error("a text or set of characters has no end")
        char = self._text[self._at]
        self._at += 1
        if char != "\\":
            return ord(char)
        escape = self._text[self._at : self._at + 1]
        self._at += 1
        if escape in HEX_DIGITS:
            digits = self._text[self._at : self._at + HEX_DIGITS[escape]]
            self._at += len(digits)
            if re.fullmatch(f"[0-9A-Fa-f]{{{HEX_DIGITS[escape]}}}", digits) and int(digits, 16) <= sys.maxunicode:
                return int(digits, 16)
        elif escape in ESCAPES:
            return ord(ESCAPES[escape])
        raise self._error(f"\\{escape} is no escape that is known here")

    def _next_is(self, sign: str) -> bool:
        found = self._text.startswith(sign, self._at)
        self._at += len(sign) if found else 0
        return found

    def _expect(self, sign: str) -> None:
        if not self._next_is(sign):
            raise self._error(f"expected {sign!r}")

    def _take(self, pattern: re.Pattern[str], expected: str) -> re.Match[str]:
        match = pattern.match(self._text, self._at)
        if match is None:
            raise self._error(f"expected {expected}")
        self._at = match.end()
        return match

    def _skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self._text, self._at)
        self._at = match.end() if match else self._at

    def _error(self, what: str) -> ParameterError:
        line = self._text.count("\n", 0, self._at) + 1
        return ParameterError(f"GBNF, line {line}: {what}; found {self._text[self._at : self._at + 20]!r}")
