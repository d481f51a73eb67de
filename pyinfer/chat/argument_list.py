"""Reads the arguments of a call that are written one by one, each between marks of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from pyinfer.chat.notation import ValueEnd, read_value
from pyinfer.chat.tool_schemas import ALL_TYPES, argument_types, fits

MASK_CHAR = "x"  # replaces each character of a JSON argument, so that nothing in it looks like a mark
DECODER = json.JSONDecoder(strict=False)
ANYTHING = (False, ALL_TYPES)  # what an argument may be that the schema does not name
CDATA = ("<![CDATA[", "]]>")  # what XML writes around a text that may contain marks


class JsonArgument(ValueEnd):
    """Finds the end of an argument that may be JSON."""

    def find_valid(self, text: str, start: int, final: bool) -> int | None:
        """Find the end as `find` does, but return `start` if the value is no JSON. `final`: no more text comes."""
        end = self.find(text, start)
        if end is None:
            return start if final or self.broken else None
        try:
            return DECODER.raw_decode(text, start)[1]
        except (ValueError, RecursionError):
            return start


class ArgumentsEnd:
    """Finds where arguments that are written one by one end, in a text that comes in parts.

    Inside an argument that is JSON, marks mean nothing. No character is read twice, so that the time is linear in the
    length of an argument.

    - `is_json`: a function of an argument's name that says whether its value may be JSON.
    - `head`: a pattern of what begins an argument.
    - `mark`: the text that ends its value.
    - `tail`: a pattern of what ends all arguments.
    """

    def __init__(self, is_json: Callable[[str], bool], head: Any, mark: str, tail: Any) -> None:
        self._is_json = is_json
        self._head, self._mark, self._tail = head, mark, tail
        self._at: int | None = None  # where the arguments begin; None before the first call of `find`
        self._tail_at = 0  # the tail does not begin before this index
        self._head_at = 0  # the next argument does not begin before this index
        self._value_at: int | None = None  # in an argument: the end of its value is searched from this index on
        self._json: tuple[int, JsonArgument] | None = None  # in an argument that is JSON: where its value begins

    def find(self, text: str, start: int, final: bool) -> int | None:
        """Return the index of the tail after the arguments that begin at `start`; None: it has not come yet.

        `text` may only grow between calls.
        """
        if self._at is None:
            self._at = self._tail_at = self._head_at = start
        while True:
            if self._json is not None:
                begin, scanner = self._json
                end = scanner.find_valid(text, begin, final)
                if end is None:
                    return None
                self._json = None
                self._tail_at, self._value_at = max(self._tail_at, end), end
            limit = self._next_json(text)
            tail = self._tail.search(text, self._tail_at, partial=not final)
            if tail is not None and not tail.partial and (limit is None or tail.start() < limit):
                return int(tail.start())
            if limit is None:
                self._tail_at = len(text) if tail is None else tail.start()
                return None
            self._json = limit, JsonArgument(mark=self._mark)

    def _next_json(self, text: str) -> int | None:
        """Return where the value of the next argument that may be JSON begins. Skips arguments that are texts."""
        while True:
            if self._value_at is not None:
                end = text.find(self._mark, self._value_at)
                if end < 0:
                    self._value_at = max(self._value_at, len(text) - len(self._mark) + 1)
                    return None
                self._value_at, self._head_at = None, end + len(self._mark)
            head = self._head.search(text, self._head_at, partial=True)
            if head is None or head.partial or head.end() == len(text):
                self._head_at = len(text) if head is None else head.start()
                return None
            rest = text[head.end() : head.end() + len(CDATA[0])]
            if CDATA[0].startswith(rest):  # an end mark in it ends nothing
                end = text.find(CDATA[1], max(head.end(), self._head_at))
                if rest != CDATA[0] or end < 0:
                    self._head_at = head.start() if rest != CDATA[0] else self._head_at
                    return None
                self._tail_at = max(self._tail_at, end)
                self._value_at = end
                continue
            self._value_at = head.end()
            if text[head.end()] in '{["' and self._is_json(head["key"]):
                return int(head.end())


class ArgumentList:
    """The arguments of one tool, as its schema types them.

    - `parameters`: the tool's JSON schema.
    - `patterns`: of an argument, and of an argument up to its value.
    - `mark`: the text that ends a value.
    """

    def __init__(self, parameters: Mapping[str, Any], patterns: tuple[Any, Any], mark: str) -> None:
        self._types = argument_types(parameters)
        self._argument, self._head = patterns
        self._mark = mark

    def may_be_json(self, key: str) -> bool:
        """Whether an argument may be JSON, which it may unless the schema says text."""
        return not self._types.get(key, ANYTHING)[0]

    def end(self, tail: Any) -> ArgumentsEnd:
        """Return what finds the end of all arguments. `tail`: a pattern of it."""
        return ArgumentsEnd(self.may_be_json, self._head, self._mark, tail)

    def read(self, text: str) -> dict[str, Any] | None:
        """Return the arguments in a text; None if there is other text between them."""
        arguments: dict[str, Any] = {}
        at = 0
        for match in self._argument.finditer(self._without_json(text)):
            key, value = match["key"], text[slice(*match.span("value"))]
            if text[at : match.start()].strip() or key in arguments:
                return None
            arguments[key] = self._value(key, value)
            at = match.end()
        return None if text[at:].strip() else arguments

    def _value(self, key: str, text: str) -> Any:
        if text.startswith(CDATA[0]) and text.endswith(CDATA[1]):
            text = text[len(CDATA[0]) : -len(CDATA[1])]
        is_text, types = self._types.get(key, ANYTHING)
        if is_text:
            return text
        try:
            value = json.loads(text, strict=False)
        except (ValueError, RecursionError):
            return self._python_value(text, types)
        return value if fits(value, types) or "string" not in types else text

    def _python_value(self, text: str, types: frozenset[str]) -> Any:
        """Read True, None or {'a': 1}, which templates write, where the schema tells them from texts."""
        try:
            value = text if types == ALL_TYPES else read_value(text)
        except ValueError:
            return text
        return value if fits(value, types) else text

    def _without_json(self, text: str) -> str:
        """Return a text of the same length in which arguments that are JSON are masked, with the marks in them."""
        parts: list[str] = []
        done = start = 0  # the end of what is in `parts`, and where the next argument is searched
        while (head := self._head.search(text, start)) is not None:
            start = head.end()
            end = None
            if text.startswith(CDATA[0], start):
                end = text.find(CDATA[1], start) + len(CDATA[1])
            elif text[start : start + 1] in tuple('{["') and self.may_be_json(head["key"]):
                end = JsonArgument().find_valid(text, start, final=True)
            if end is not None and end > start:
                parts += [text[done:start], MASK_CHAR * (end - start)]
                done = start = end
            end_of_argument = text.find(self._mark, start)
            if end_of_argument < 0:
                break
            start = end_of_argument + len(self._mark)
        return "".join([*parts, text[done:]])
