"""Reads tool calls from a text while it is generated.

Nothing is lost: what looks like a call but is none is returned as text. A call is returned when it is complete, since
only then it is certain to be one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import regex

from pyinfer.chat.tools import NAME, ToolCall, ToolFormat, is_text

Parsed = str | ToolCall
MASK_CHAR = "x"  # replaces each character of a JSON argument, so that nothing in it looks like a mark
DECODER = json.JSONDecoder()


class JsonEnd:
    """Finds where a JSON object, list or string ends in a text that comes in parts. Each character is read once."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = self._escaped = False
        self._at = 0
        self._end: int | None = None
        self.broken = False  # it can't be JSON: it has "<" outside of strings, or a line break in a string

    def find(self, text: str, start: int) -> int | None:
        """Return the index after the value that begins at `start`; None: its end has not come yet.

        `text` may only grow between calls.
        """
        for i in range(max(self._at, start), len(text) if self._end is None else 0):
            c = text[i]
            if self._in_string:
                self.broken = self.broken or c == "\n"
                if self._escaped:
                    self._escaped = False
                elif c == "\\":
                    self._escaped = True
                elif c == '"':
                    self._in_string = False
                    if self._depth == 0:
                        self._end = i + 1
                        break
            elif c == '"':
                self._in_string = True
            elif c in "{[":
                self._depth += 1
            elif c in "}]":
                self._depth -= 1
                if self._depth == 0:
                    self._end = i + 1
                    break
            elif c == "<":
                self.broken = True
        self._at = len(text)
        return self._end

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
        self._json: tuple[int, JsonEnd] | None = None  # in an argument that is JSON: where its value begins

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
            self._json = limit, JsonEnd()

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
            self._value_at = head.end()
            if text[head.end()] in '{["' and self._is_json(head["key"]):
                return int(head.end())


class ToolCallParser:
    """Splits a generated text into texts and tool calls.

    - `form`: how the model writes calls.
    - `tools`: as `check_tools` returns them; a call of any other function is text.
    - `opened` (""): the part of the format's start that the prompt ends with.

        parser = ToolCallParser(tool_format(template), check_tools(tools))
        parts = parser.push('<tool_call>{"name": "get_weather", "arguments": {}}') + parser.finish()
    """

    def __init__(self, form: ToolFormat, tools: Sequence[Mapping[str, Any]], opened: str = "") -> None:
        self._form = form
        self._schemas = {tool["function"]["name"]: tool["function"].get("parameters") or {} for tool in tools}
        self._head, self._tail, self._parameter, self._parameter_head = _patterns(form)
        self._text = opened  # of which it is not yet certain what it is
        self._n_prompt = len(opened)  # characters at the front that are the prompt's
        self._end = JsonEnd()
        self._arguments_end: ArgumentsEnd | None = None
        self._at_start = True  # only white space and calls came so far; here a call may begin without a mark
        self._after_call = False

    def push(self, text: str) -> list[Parsed]:
        """Append a part of the text; return the texts and calls that become certain, in order."""
        # Python appends in place to a string that only a local variable refers to; an attribute's would be copied
        whole, self._text = self._text, ""
        whole += text
        self._text = whole
        del whole
        return self._parse(final=False)

    def finish(self) -> list[Parsed]:
        """End the text; return the texts and calls that were not certain until now."""
        return self._parse(final=True)

    def _parse(self, final: bool) -> list[Parsed]:
        parts: list[Parsed] = []
        while self._text:
            start, head = self._find_head(final)
            if final and head is None and self._after_call and self._text.isspace():
                self._drop(start)
            self._release_text(start, parts)
            if head is None:
                break
            if self._form.text_name and head["name"] == self._form.text_name:
                self._drop(head.end() - start)
                self._at_start = False
            elif not self._read_call(head, head.end() - start, final, parts):
                break
        return _joined(parts)

    def _find_head(self, final: bool) -> tuple[int, Any]:
        """Find the start of a call.

        Returns (the number of characters before it, its match). Without a match, the text after these characters may
        still become the start of a call.
        """
        if self._at_start and not self._form.start:
            separators = ";" if self._after_call else ""
            match = regex.match(rf"[\s{separators}]*(?=\{{)", self._text)
            if match is not None:
                return 0, match
            if not final and not self._text.strip(separators + " \t\r\n"):
                return 0, None
        match = self._head.search(self._text, partial=not final)
        if match is None:
            return len(self._text), None
        return match.start(), None if match.partial else match

    def _read_call(self, head: Any, after: int, final: bool, parts: list[Parsed]) -> bool:
        """Read a call whose arguments begin at `after`, or after white space there. Return False if text is missing."""
        text, form = self._text, self._form
        while after < len(text) and text[after].isspace():
            after += 1
        if after == len(text) and not final:
            return False
        end = self._end_of_call(head, after, final)
        if end is None and not final:
            return False
        calls = [] if end is None else self._calls_of(text[after:end], head)
        if end is None or not calls:  # it is no call but text; a call may begin right after it
            self._end, self._arguments_end = JsonEnd(), None
            self._release_text(end or max(after, 1), parts)
            return True
        tail = self._tail.match(text, end, partial=True)
        if tail is not None and not final:
            rest = text[tail.end() :].lstrip()  # may become the end of the group, which is optional
            if tail.partial or (form.group_end and rest != form.group_end and form.group_end.startswith(rest)):
                return False
        self._end, self._arguments_end = JsonEnd(), None
        self._drop(end if tail is None else tail.end())
        parts += calls
        self._after_call = True
        return True

    def _end_of_call(self, head: Any, after: int, final: bool) -> int | None:
        """Return where the arguments that begin at `after` end; `after` if there are none; None: not known yet."""
        if self._form.layout == "parameters":
            if self._arguments_end is None:
                mark = self._form.parameter[2].strip()
                is_json = self._may_be_json(head["name"])
                self._arguments_end = ArgumentsEnd(is_json, self._parameter_head, mark, self._tail)
            return self._arguments_end.find(self._text, after, final)
        return self._end.find(self._text, after) if self._text[after : after + 1] in ("{", "[") else after

    def _calls_of(self, text: str, head: Any) -> list[ToolCall]:
        if self._form.layout == "parameters":
            call = self._call_of({"name": head["name"], "arguments": self._arguments_of(text, head["name"])})
            return [] if call is None else [call]
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return []
        if self._form.layout == "named":
            values = [{"arguments": value, **head.groupdict()}]
        else:
            values = value if isinstance(value, list) else [value]
        calls = [call for value in values if (call := self._call_of(value)) is not None]
        return calls if len(calls) == len(values) else []

    def _call_of(self, value: Any) -> ToolCall | None:
        if not isinstance(value, dict):
            return None
        value = value["function"] if isinstance(value.get("function"), dict) else value
        name, call_id = value.get("name"), value.get("id")
        arguments = next((value[key] for key in ("arguments", "parameters") if key in value), None)
        if isinstance(arguments, str):  # JSON within JSON
            try:
                arguments = json.loads(arguments)
            except (ValueError, RecursionError):
                return None
        if not isinstance(name, str) or name not in self._schemas or not isinstance(arguments, dict):
            return None
        text = json.dumps(arguments, ensure_ascii=False)
        return ToolCall(name, text, call_id) if isinstance(call_id, str) and call_id else ToolCall(name, text)

    def _may_be_json(self, name: str) -> Callable[[str], bool]:
        """Return a function that says whether an argument may be JSON, which it may unless the schema says text."""
        properties = self._schemas.get(name, {}).get("properties", {})
        return lambda key: not is_text(properties.get(key))

    def _without_json(self, text: str, name: str) -> str:
        """Return a text of the same length in which arguments that are JSON are masked, with the marks in them."""
        may_be_json = self._may_be_json(name)
        mark = self._form.parameter[2].strip()
        parts: list[str] = []
        done = start = 0  # the end of what is in `parts`, and where the next argument is searched
        while (head := self._parameter_head.search(text, start)) is not None:
            start = head.end()
            if text[start : start + 1] in tuple('{["') and may_be_json(head["key"]):
                end = JsonEnd().find_valid(text, start, final=True)
                assert end is not None
                parts += [text[done:start], MASK_CHAR * (end - start)]
                done = start = end
            end_of_argument = text.find(mark, start)
            if end_of_argument < 0:
                break
            start = end_of_argument + len(mark)
        return "".join([*parts, text[done:]])

    def _arguments_of(self, text: str, name: str) -> dict[str, Any] | None:
        """Return arguments that are written one by one; None if there is other text between them."""
        properties = self._schemas.get(name, {}).get("properties", {})
        arguments: dict[str, Any] = {}
        at = 0
        for match in self._parameter.finditer(self._without_json(text, name)):
            key, value = match["key"], text[slice(*match.span("value"))]
            if text[at : match.start()].strip() or key in arguments:
                return None
            arguments[key] = value if is_text(properties.get(key)) else _json_or_text(value)
            at = match.end()
        return None if text[at:].strip() else arguments

    def _drop(self, n: int) -> None:
        self._text = self._text[n:]
        self._n_prompt = max(self._n_prompt - n, 0)

    def _release_text(self, n: int, parts: list[Parsed]) -> None:
        if given := self._text[self._n_prompt : n]:
            parts.append(given)
            self._after_call = False
            self._at_start = self._at_start and given.isspace()
        self._drop(n)


def _joined(parts: list[Parsed]) -> list[Parsed]:
    joined: list[Parsed] = []
    for part in parts:
        if isinstance(part, str) and joined and isinstance(joined[-1], str):
            joined[-1] += part
        else:
            joined.append(part)
    return joined


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


@cache
def _patterns(form: ToolFormat) -> tuple[Any, Any, Any, Any]:
    """Return patterns of a format, which allow for other white space.

    They match the start of a call up to its arguments, the end of a call, an argument that is written by itself, and
    such an argument up to its value.
    """
    starts = [_lenient(start) for start in (form.start, form.also) if start]
    head = rf"(?:{_lenient(form.group_start)})?" if form.group_start else ""
    head += f"(?:{'|'.join(starts)})"
    if form.layout in ("named", "parameters"):
        call_id = rf"(?:{_lenient(form.id_mark)}(?P<id>\w{{1,64}}))?" if form.id_mark else ""
        between = _lenient(form.between) if form.between.strip() or form.layout == "named" else r"(?=[^\w.-])\s*"
        head += rf"\s*(?P<name>{NAME}){call_id}{between}"
    tail = _lenient(form.end) if form.end.strip() else ""
    if form.group_end:
        tail += rf"(?:{_lenient(form.group_end)})?"
    before, middle, after = form.parameter
    parameter_head = rf"{regex.escape(before)}(?P<key>[^<>\n]+?){_value_edge(middle)}"
    parameter = rf"{parameter_head}(?P<value>(?:.|\n)*?){_value_edge(after)}"
    return regex.compile(head), regex.compile(tail), regex.compile(parameter), regex.compile(rf"{parameter_head}\s*")


def _lenient(text: str) -> str:
    parts = [regex.escape(part) for part in text.split()]
    return r"\s*" + r"\s*".join(parts) if parts else r"[^\S\n]*\n"


def _value_edge(text: str) -> str:
    """Return a pattern of a mark beside a value. Its line breaks are optional; other white space is the value's."""
    return regex.escape(text).replace("\n", "\n?").replace("\\\n", "\n")
