"""How values stand in calls: as JSON, or in the notation of Python or of Gemma's models.

`ValueEnd` finds where a value ends in a text that comes in parts; `read_value` reads one.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

OPENING, CLOSING = "{[(", "}])"
CONSTANTS = {"true": "true", "True": "true", "false": "false", "False": "false"}
CONSTANTS |= dict.fromkeys(("null", "None", "nil"), "null")
PYTHON_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|[\s\S])|\"")
JSON_ESCAPES = frozenset('"\\/bfnrtu')


@dataclass(frozen=True)
class Notation:
    """How strings and pairs are written.

    - `quotes`: the marks around strings, long ones first.
    - `escapes` (True): in a string, a backslash takes the next character's meaning as a mark away.
    - `calls` (False): functions are called as name(key=value, …), and parentheses are brackets.
    - `bare_keys` (False): keys of objects have no quotes.
    """

    quotes: tuple[str, ...]
    escapes: bool = True
    calls: bool = False
    bare_keys: bool = False

    @cached_property
    def outside(self) -> re.Pattern[str]:
        """What matters outside of strings: a quote or a bracket."""
        brackets = r"[{}\[\]()<]" if self.calls else r"[{}\[\]<]"
        return re.compile("|".join([*map(re.escape, self.quotes), brackets]))

    @cached_property
    def token(self) -> re.Pattern[str]:
        """A token of a whole value."""
        key = r"(?P<key>[^\s:,{}\[\]<>\"']+)(?=\s*:)|" if self.bare_keys else ""
        if self.calls:
            key = r"(?P<call>[^\W\d][\w.:/-]*)\s*\(|(?P<key>[^\W\d]\w*)\s*=(?!=)|"
        strings = [rf"{re.escape(q)}(?:{self._character(q)})*?{re.escape(q)}" for q in self.quotes]
        word, number = r"(?P<word>[^\W\d]\w*)", r"(?P<number>[-+]?\d[\w.+-]*)"
        parts = [
            rf"(?P<string>{'|'.join(strings)})",
            rf"{key}{word}",
            number,
            r"(?P<mark>[{}\[\](),:])",
            r"(?P<space>\s+)",
        ]
        return re.compile("|".join([*parts, r"(?P<other>[\s\S])"]))

    def _character(self, quote: str) -> str:
        if not self.escapes:
            return r"[\s\S]"
        return rf"[^\\{quote[0]}]|\\[\s\S]" if len(quote) == 1 else r"[^\\]|\\[\s\S]"


JSON = Notation(('"',))
NEARLY_JSON = Notation(('"', "'"))  # in JSON, there is no apostrophe outside of strings
PYTHON = Notation(('"""', "'''", '"', "'"), calls=True)
FUNCTION_GEMMA = Notation(("<escape>",), escapes=False, bare_keys=True)
GEMMA_4 = Notation(('<|"|>',), escapes=False, bare_keys=True)


class ValueEnd:
    """Finds where a value ends in a text that comes in parts. Each character is read once.

    - `notation` (JSON): how the value is written.
    - `until` (None): a text that ends the value where no bracket is open, and that is no part of it; None: the value is
      one object, list or string, and ends with it.
    - `mark` (None): a text that shows, after a line break in a string, that the string has no end.

    `broken`: it can't be a value, as "<" outside of strings shows, or `mark`.
    """

    def __init__(self, notation: Notation = JSON, until: str | None = None, mark: str | None = None) -> None:
        self._notation, self._until, self._mark = notation, until, mark
        self._depth = 0
        self._quote: str | None = None  # of the string that is open
        self._has_break = False  # in that string
        self._at = 0
        self._end: int | None = None
        self.broken = False

    def find(self, text: str, start: int, final: bool = False) -> int | None:
        """Return the index after the value that begins at `start`; None: its end has not come yet.

        `text` may only grow between calls. `final`: no more text comes.
        """
        self._at = max(self._at, start)
        while self._end is None and (self._in_string(text) if self._quote else self._outside(text, final)):
            pass
        return self._end

    def _in_string(self, text: str) -> bool:
        """Read on in a string. Return False if more text is needed."""
        quote, mark = self._quote or "", self._mark
        match = _inside(quote, self._notation.escapes, mark).search(text, self._at)
        to = max(self._at, len(text) - max(len(quote), len(mark or "")) + 1) if match is None else match.start()
        self._has_break = self._has_break or (mark is not None and text.find("\n", self._at, to) >= 0)
        self._at = to
        if match is None:
            return False
        if match[0] == quote:
            self._at, self._quote = match.end(), None
            if self._depth == 0 and self._until is None:
                self._end = self._at
        elif match[0] == "\\":
            if match.end() == len(text):
                return False
            self._at = match.end() + 1
        else:
            self.broken = self.broken or self._has_break
            self._at = to + 1
        return True

    def _outside(self, text: str, final: bool) -> bool:
        """Read on outside of strings. Return False if more text is needed."""
        match = self._notation.outside.search(text, self._at)
        end = -1
        if self._until is not None and self._depth <= 0:
            end = text.find(self._until, self._at, len(text) if match is None else match.end() + len(self._until))
        if end >= 0 and (match is None or end <= match.start()):
            self._end = end
            return True
        if match is None:
            held = max(*map(len, self._notation.quotes), len(self._until or "")) - 1
            self._at = max(self._at, len(text) - held)
            return False
        found, rest = match[0], text[match.start() : match.start() + 32]
        marks = [*self._notation.quotes, *([self._until] if self._until else [])]
        if not final and any(mark.startswith(rest) and mark != found for mark in marks):  # it may become another mark
            self._at = match.start()
            return False
        self._at = match.end()
        if found in self._notation.quotes:
            self._quote, self._has_break = found, False
        elif found == "<":
            self.broken = True
        else:
            self._depth += 1 if found in OPENING else -1
            if self._depth == 0 and found in CLOSING and self._until is None:
                self._end = self._at
        return True


@lru_cache(maxsize=64)
def _inside(quote: str, escapes: bool, mark: str | None) -> re.Pattern[str]:
    """What matters in a string: its end, a backslash, and the mark."""
    return re.compile("|".join([re.escape(quote), *[r"\\"] * escapes, *map(re.escape, [mark] if mark else [])]))


def read_value(text: str, notation: Notation = NEARLY_JSON) -> Any:
    """Read a value. Raises ValueError for a text that is none.

    JSON may have raw line breaks and tabs in strings, a comma before a closing bracket, and Python's quotes and
    constants. With `notation.calls`, the value is a list of calls, each {"name": …, "arguments": {…}}.
    """
    try:
        if notation in (JSON, NEARLY_JSON):
            try:
                return json.loads(text, strict=False)
            except ValueError:
                pass
        return json.loads(_as_json(text, notation), strict=False)
    except RecursionError:
        raise ValueError("the value is nested too deep") from None


def _as_json(text: str, notation: Notation) -> str:
    """Write a value as JSON. Raises ValueError where a text is clearly no value; other errors are json's to find."""
    parts: list[str] = ["["] if notation.calls else []
    closers: list[str] = []
    last = ""  # the last part but for white space
    for match in notation.token.finditer(text):
        kind, token = match.lastgroup, match[0]
        if kind == "space":
            continue
        part = token
        if kind == "string":
            part = _json_string(token, notation)
        elif kind == "call":
            part = f'{"," * (not closers and last == "}}")}{{"name": {json.dumps(match["call"])}, "arguments": {{'
            closers.append("}}")
        elif kind == "key":
            part = json.dumps(match["key"]) + ":" * notation.calls
        elif kind == "word":
            if token not in CONSTANTS:
                raise ValueError(f"{token!r:.40} is no value")
            part = CONSTANTS[token]
        elif token in OPENING:
            part = "[" if token == "(" else token
            closers.append(CLOSING[OPENING.index(part)])
        elif token in CLOSING:
            if not closers:
                raise ValueError("a bracket is closed that was not opened")
            if last == ",":
                parts.pop()
            part = closers.pop()
        elif kind == "other":
            raise ValueError(f"{token!r:.40} is no part of a value")
        parts.append(part)
        last = part
    return "".join([*parts, "]"] if notation.calls else parts)


def _json_string(token: str, notation: Notation) -> str:
    quote = next(quote for quote in notation.quotes if token.startswith(quote))
    body = token[len(quote) : len(token) - len(quote)]
    if not notation.escapes:
        return json.dumps(body, ensure_ascii=False)
    return f'"{PYTHON_ESCAPE.sub(_json_escape, body)}"'


def _json_escape(match: re.Match[str]) -> str:
    escape = match[1]
    if escape is None:
        return '\\"'
    if escape[0] == "x" and len(escape) == 3:
        return f"\\u00{escape[1:]}"
    if escape == "\n":  # Python joins the lines
        return ""
    if escape == "'":
        return "'"
    return match[0] if escape[0] in JSON_ESCAPES and (escape[0] != "u" or len(escape) == 5) else f"\\\\{escape}"
