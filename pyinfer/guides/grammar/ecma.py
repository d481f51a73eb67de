r"""Regular expressions of ECMA-262, as JSON schemas use them, read into nodes.

Unicode mode (`\u{1F600}`, `\p{Lu}`), and beside it what browsers read without that mode (Annex B): escapes that mean
the character itself, `{` and `]` as characters, octal escapes. A class has no operators: `[a&&b]` is a set of "a",
"b" and "&". Lazy repetitions match the same texts as greedy ones. Not regular, and refused: back-references.

A pattern that is not anchored is found anywhere in a text; `assertions.py` resolves anchors and look-around.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from functools import lru_cache

from pyinfer.errors import ParameterError
from pyinfer.guides.grammar.assertions import WORD, resolve
from pyinfer.guides.grammar.derivatives import Language
from pyinfer.guides.grammar.nodes import SIGNS, Alt, Chars, Edge, Look, Node, Repeat, Seq, any_text, normal_ranges
from pyinfer.guides.grammar.outcomes import TooComplex, Unsupported
from pyinfer.guides.grammar.properties import property_ranges

Ranges = tuple[tuple[int, int], ...]

MAX_NESTING = 50  # open parentheses: functions call themselves for each
MAX_NODES = 20_000  # characters, classes and groups of a pattern
MAX_COUNT = 100_000  # of a repetition
QUOTED = 60  # characters of a pattern in errors

DIGIT: Ranges = ((0x30, 0x39),)
SPACE = normal_ranges(
    [
        *((9, 13), (0x20, 0x20), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A), (0x2028, 0x2029), (0x202F, 0x202F)),
        *((0x205F, 0x205F), (0x3000, 0x3000), (0xFEFF, 0xFEFF)),
    ]
)
LINE_ENDS: Ranges = ((0x0A, 0x0A), (0x0D, 0x0D), (0x2028, 0x2029))
CLASSES: dict[str, Ranges] = {"d": DIGIT, "w": WORD, "s": SPACE}
CONTROLS = {"t": 9, "n": 10, "v": 11, "f": 12, "r": 13}
COUNTS = re.compile(r"\{([0-9]+)(?:(,)([0-9]*))?\}")
GROUP = re.compile(r"\?(?:(:)|(=|!|<=|<!)|P?<([^>]*)>|([a-z]*(?:-[a-z]*)?)([:)])|)")
UNICODE = re.compile(r"\{([0-9A-Fa-f]+)\}|([0-9A-Fa-f]{4})")
PROPERTY = re.compile(r"\{(\^?)([A-Za-z0-9_ ]+)(?:[=:]([A-Za-z0-9_ ]+))?\}|([A-Z])")


@dataclass(frozen=True)
class Pattern:
    """A regular expression. node: all texts that it is found in, as whole texts."""

    source: str
    node: Node = field(compare=False, repr=False)


@lru_cache(maxsize=256)
def parse_ecma(source: str, loose: bool = False) -> Pattern:
    """Read a regular expression of ECMA-262.

    - `loose` (False): leave out what can't be had, such as back-references, so that more texts match.

    Raises ParameterError for what is no regular expression, Unsupported and TooComplex for what can't be had.
    """
    tree = _Parser(source).pattern()
    try:
        return Pattern(source, resolve(Seq([any_text(), tree, any_text()]), loose))
    except RecursionError:
        raise TooComplex("the pattern is nested too deeply") from None


def matches(pattern: Pattern, text: str) -> bool:
    """Whether a pattern is found in a text. Raises TooComplex for what would take very long."""
    return _language(pattern).matches(text)


@lru_cache(maxsize=64)
def _language(pattern: Pattern) -> Language:
    return Language(pattern.node)


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0
        self._n_nodes = 0
        skeleton = re.sub(r"\\.|\[(?:\\.|[^\]\\])*\]", "", text, flags=re.DOTALL)
        self._n_groups = len(re.findall(r"\((?!\?)|\(\?P?<(?![=!])", skeleton))
        self._has_names = "(?<" in skeleton.replace("(?<=", "").replace("(?<!", "")

    def pattern(self) -> Node:
        tree = self._alternatives()
        if self._at < len(self._text):
            raise self._error("a parenthesis is closed that is not open")
        return tree

    def _alternatives(self) -> Node:
        items = [self._sequence()]
        while self._next_is("|"):
            items.append(self._sequence())
        return items[0] if len(items) == 1 else Alt(items)

    def _sequence(self) -> Node:
        items: list[Node] = []
        while self._at < len(self._text) and self._text[self._at] not in "|)":
            self._n_nodes += 1
            if self._n_nodes > MAX_NODES:
                raise TooComplex(f"the pattern has more than {MAX_NODES} parts")
            items.append(self._repeated(self._atom()))
        return items[0] if len(items) == 1 else Seq(items)

    def _repeated(self, item: Node) -> Node:
        char = self._text[self._at : self._at + 1]
        if char in SIGNS:
            self._at += 1
            least, most = SIGNS[char]
        elif match := COUNTS.match(self._text, self._at):
            self._at = match.end()
            if max(len(match[1]), len(match[3] or "")) > 9:
                raise TooComplex(f"{match.group()} are too many repetitions")
            least = int(match[1])
            most = least if not match[2] else int(match[3]) if match[3] else None
            if most is not None and most < least:
                raise self._error(f"{match.group()} repeats at least {least} and at most {most} times")
            if max(least, most or 0) > MAX_COUNT:
                raise TooComplex(f"{match.group()} are more than {MAX_COUNT} repetitions")
        else:
            return item
        if self._next_is("+"):
            raise self._error("possessive repetitions are no part of ECMA-262")
        self._next_is("?")
        if self._text[self._at : self._at + 1] in SIGNS or COUNTS.match(self._text, self._at):
            raise self._error("there is nothing to repeat")
        if isinstance(item, Look) or (
            isinstance(item, Edge) and item.kind != "reference"
        ):  # a position that is repeated is the same position
            return item if least else Seq()
        return Repeat(item, least, most)

    def _atom(self) -> Node:
        char = self._text[self._at]
        self._at += 1
        if char == "(":
            return self._group()
        if char == "[":
            return Chars(self._class())
        if char == "\\":
            return self._escape()
        if char in SIGNS:
            raise self._error("there is nothing to repeat")
        if char == "{" and COUNTS.match(self._text, self._at - 1):
            raise self._error("there is nothing to repeat")
        if char in "^$":
            return Edge("start" if char == "^" else "end")
        return Chars(normal_ranges(LINE_ENDS, negated=True) if char == "." else normal_ranges([(ord(char), ord(char))]))

    def _group(self) -> Node:
        self._depth += 1
        if self._depth > MAX_NESTING:
            raise TooComplex(f"more than {MAX_NESTING} parentheses are open in the pattern")
        look = ""
        if self._text.startswith("?", self._at):
            match = GROUP.match(self._text, self._at)
            assert match is not None
            self._at = match.end()
            look = match[2] or ""
            if match[5]:
                raise Unsupported(f"the flags (?{match[4]}{match[5]} of a pattern")
            if match.end() - match.start() == 1:
                raise self._error("this kind of group is no part of ECMA-262")
        tree = self._alternatives()
        if not self._next_is(")"):
            raise self._error("a parenthesis is not closed")
        self._depth -= 1
        return Look(tree, ahead="<" not in look, negative="!" in look) if look else tree

    def _escape(self) -> Node:
        """What follows a backslash outside of a class."""
        char = self._text[self._at : self._at + 1]
        if char in ("b", "B"):
            self._at += 1
            return Edge("word" if char == "b" else "not word")
        if char == "k" and self._has_names:
            return self._reference()
        if (match := re.compile("[1-9][0-9]*").match(self._text, self._at)) and int(match[0][:4]) <= self._n_groups:
            self._at = match.end()
            return self._reference()
        return Chars(normal_ranges(self._escaped(in_class=False)))

    def _reference(self) -> Node:
        if match := re.compile("k<[^>]*>").match(self._text, self._at):
            self._at = match.end()
        return Edge("reference")

    def _class(self) -> Ranges:
        negated = self._next_is("^")
        ranges: list[tuple[int, int]] = []
        while not self._next_is("]"):
            self._n_nodes += 1
            if self._n_nodes > MAX_NODES:
                raise TooComplex(f"the pattern has more than {MAX_NODES} parts")
            first = self._class_item()
            if not self._text.startswith("-", self._at) or self._text.startswith("-]", self._at):
                ranges += first
                continue
            self._at += 1
            last = self._class_item()
            if not (_is_one(first) and _is_one(last)):  # a class is no end of a range: "-" is a character
                ranges += [*first, (0x2D, 0x2D), *last]
                continue
            low, high = first[0][0], last[0][0]
            if low > high:
                raise self._error(f"the range from U+{low:04X} to U+{high:04X} runs backwards")
            ranges.append((low, high))
        return normal_ranges(ranges, negated)

    def _class_item(self) -> Ranges:
        if self._at >= len(self._text):
            raise self._error("a class is not closed")
        char = self._text[self._at]
        self._at += 1
        return self._escaped(in_class=True) if char == "\\" else ((ord(char), ord(char)),)

    def _escaped(self, in_class: bool) -> Ranges:
        """The characters that an escape means; the backslash is read already."""
        if self._at >= len(self._text):
            raise self._error("a backslash at the end")
        char = self._text[self._at]
        self._at += 1
        if char.lower() in CLASSES:
            return normal_ranges(CLASSES[char.lower()], negated=char.isupper())
        if char in "pP" and (match := PROPERTY.match(self._text, self._at)):
            self._at = match.end()
            name, value = (match[4], None) if match[4] else (match[2], match[3])
            return normal_ranges(property_ranges(name, value), negated=(char == "P") != (match[1] == "^"))
        code = CONTROLS.get(char, ord(char))
        if char == "b" and in_class:
            code = 8
        elif char == "c":
            code = self._control(in_class)
        elif char == "x" and (match := re.compile("[0-9A-Fa-f]{2}").match(self._text, self._at)):
            self._at = match.end()
            code = int(match[0], 16)
        elif char == "u" and (match := UNICODE.match(self._text, self._at)):
            self._at = match.end()
            code = self._code_point(match)
        elif char in "01234567":  # octal, where there is no group of that number
            digits = re.compile("[0-3][0-7]{0,2}|[4-7][0-7]?").match(self._text, self._at - 1)
            assert digits is not None
            self._at = digits.end()
            code = int(digits[0], 8)
        return ((code, code),)

    def _control(self, in_class: bool) -> int:
        letter = self._text[self._at : self._at + 1]
        if letter.isascii() and (letter.isalpha() or (in_class and letter and letter in "0123456789_")):
            self._at += 1
            return ord(letter) % 32
        self._at -= 1  # the backslash itself, and then a "c"
        return 0x5C

    def _code_point(self, match: re.Match[str]) -> int:
        code = int((match[1] or match[2])[-7:], 16)
        if code > sys.maxunicode:
            raise self._error("a code point above U+10FFFF")
        if match[2] and 0xD800 <= code < 0xDC00:  # UTF-16: two escapes are one character
            low = re.compile(r"\\u([0-9A-Fa-f]{4})").match(self._text, self._at)
            if low and 0xDC00 <= int(low[1], 16) < 0xE000:
                self._at = low.end()
                return 0x10000 + (code - 0xD800) * 0x400 + int(low[1], 16) - 0xDC00
        return code

    def _next_is(self, sign: str) -> bool:
        found = self._text.startswith(sign, self._at)
        self._at += len(sign) if found else 0
        return found

    def _error(self, what: str) -> ParameterError:
        return ParameterError(f"{self._text[:QUOTED]!r} is no regular expression, at {self._at}: {what}")


def _is_one(ranges: Ranges) -> bool:
    return len(ranges) == 1 and ranges[0][0] == ranges[0][1]
