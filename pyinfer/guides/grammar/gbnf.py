"""GBNF, llama.cpp's notation for grammars, read into a tree.

    root ::= greeting ", " name "!"
    greeting ::= "Hello" | "Good " ("morning" | "evening")
    name ::= [A-Z] [a-z]{1,20}   # comments run to the end of the line

A rule continues in the next line inside parentheses, after "|", and if the next line begins with "|". Of rules with
the same name the last one counts, and a repetition may be repeated (`a{2}*`), both as llama.cpp reads them. Besides
characters there are tokens: `<name>` and `<[id]>` match one token, `!<[id]>` any other token.
"""

from __future__ import annotations

import re
import sys

from pyinfer.errors import ParameterError
from pyinfer.guides.grammar.nodes import SIGNS, Alt, Chars, Node, Ref, Repeat, Seq, Token, any_character, normal_ranges

MAX_NESTING = 100  # open parentheses: functions call themselves for each, and Python allows some 1000 calls
MAX_NODES = 50_000  # parts of a grammar, which then takes at most seconds to translate
ESCAPES = {"t": "\t", "r": "\r", "n": "\n", "\\": "\\", '"': '"', "[": "[", "]": "]", "-": "-", "^": "^", "/": "/"}
HEX_DIGITS = {"x": 2, "u": 4, "U": 8}
NAME = re.compile(r"[A-Za-z0-9_-]+")
COUNTS = re.compile(r"\{\s*([0-9]{1,9})\s*(?:(,)\s*([0-9]{1,9})?\s*)?\}")
TOKEN = re.compile(r"!?<\[[0-9]{1,9}\]>|<[^\s<>]+>")
SPACE = re.compile(r"(?:[ \t]|#[^\r\n]*)*")
SPACE_AND_LINES = re.compile(r"(?:\s|#[^\r\n]*)*")
NEXT_ALTERNATIVE = re.compile(r"(?:\s|#[^\r\n]*)*\|")


def parse_gbnf(text: str) -> dict[str, Node]:
    """Read a grammar's rules, by name, in their order. Raises ParameterError with the line of what can't be read."""
    return _Parser(text).rules()


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0
        self._n_nodes = 0
        self._n_stacked = 0

    def rules(self) -> dict[str, Node]:
        rules: dict[str, Node] = {}
        self._skip(SPACE_AND_LINES)
        while self._at < len(self._text):
            name = self._take(NAME, "the name of a rule").group()
            self._skip(SPACE)
            self._expect("::=")
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
            space = SPACE_AND_LINES if nested else SPACE
            self._skip(space)
            items.append(self._repeated(item, space))
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
            return any_character()
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
        if not ranges:  # no character, and not a character that is in no set
            return Seq()
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

    def _repeated(self, item: Node, space: re.Pattern[str]) -> Node:
        """An item with the repetitions after it, each of which repeats what is there before it."""
        while (found := self._text[self._at : self._at + 1]) in SIGNS or found == "{":
            if found in SIGNS:
                self._at += 1
                least, most = SIGNS[found]
            else:
                match = self._take(COUNTS, "{n}, {n,} or {n,m} of at most nine digits")
                least = int(match[1])
                most = least if not match[2] else int(match[3]) if match[3] else None
                if most is not None and most < least:
                    raise self._error(f"{match.group()} repeats at least {least} and at most {most} times")
            self._skip(space)
            if not isinstance(item, Repeat):
                item = Repeat(item, least, most)
            elif (item.min_count, item.max_count) in SIGNS.values() and (least, most) in SIGNS.values():
                unbounded = None in (item.max_count, most)
                item = Repeat(item.item, min(item.min_count, least), None if unbounded else 1)
            else:
                self._n_stacked += 1
                if self._n_stacked > MAX_NESTING:
                    raise self._error(f"more than {MAX_NESTING} repetitions of repetitions")
                item = Repeat(item, least, most)
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
