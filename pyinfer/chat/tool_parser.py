"""Tool calls read out of a text as it is generated.

Nothing is lost: what looks like a call and is none comes back as text. A call is given when it is complete, since only
then it is sure to be one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import regex

from pyinfer.chat.tools import NAME, ToolCall, ToolFormat, is_text

Parsed = str | ToolCall
BLOT = "x"  # stands for a character in which no mark may be seen
# How a text begins that no JSON does: "<" outside of strings, a line break in one. It has no way back, so that more
# text changes nothing.
NO_JSON = regex.compile(r'(?:[^"<]|"(?:[^"\\\n]|\\.)*+")*+(?:<|"(?:[^"\\\n]|\\.)*+\\?\n)')


def json_end(text: str, start: int, final: bool) -> int | None:
    """The index after the JSON that begins at `start`, `start` if it is none; None: that can't be seen yet."""
    try:
        return json.JSONDecoder().raw_decode(text, start)[1]
    except (ValueError, RecursionError):
        return start if final or NO_JSON.match(text, start) else None


class JsonEnd:
    """Finds where a JSON object or list ends in a text that comes in parts."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = self._escaped = False
        self._at = 0
        self._end: int | None = None

    def find(self, text: str, start: int) -> int | None:
        """The index after the value that begins at `start`; None: not yet. `text` may only grow between calls."""
        for i in range(max(self._at, start), len(text) if self._end is None else 0):
            c = text[i]
            if self._in_string:
                if self._escaped:
                    self._escaped = False
                elif c == "\\":
                    self._escaped = True
                elif c == '"':
                    self._in_string = False
            elif c == '"':
                self._in_string = True
            elif c in "{[":
                self._depth += 1
            elif c in "}]":
                self._depth -= 1
                if self._depth == 0:
                    self._end = i + 1
                    break
        self._at = len(text)
        return self._end


class ToolCallParser:
    """Splits a generated text into texts and tool calls.

    `tools`: checked ones; a call of another function is text. `opened`: what of the format's start the prompt has
    already written.

        parser = ToolCallParser(tool_format(template), check_tools(tools))
        parts = parser.push('<tool_call>{"name": "get_weather", "arguments": {}}') + parser.finish()
    """

    def __init__(self, form: ToolFormat, tools: Sequence[Mapping[str, Any]], opened: str = "") -> None:
        self._form = form
        self._schemas = {tool["function"]["name"]: tool["function"].get("parameters") or {} for tool in tools}
        self._head, self._tail, self._parameter, self._parameter_head = _patterns(form)
        self._text = opened  # not yet decided
        self._not_ours = len(opened)  # characters at the front that are the prompt's
        self._end = JsonEnd()
        self._at_start = True  # nothing but white space and calls so far, where calls may begin without a mark
        self._after_call = False

    def push(self, text: str) -> list[Parsed]:
        """The texts and calls that are certain with this part of the text, in order."""
        self._text += text
        return self._parse(final=False)

    def finish(self) -> list[Parsed]:
        """What was held back, once no more text comes."""
        return self._parse(final=True)

    def _parse(self, final: bool) -> list[Parsed]:
        parts: list[Parsed] = []
        while self._text:
            start, head = self._find_head(final)
            if final and head is None and self._after_call and self._text.isspace():
                self._drop(start)
            self._give(start, parts)
            if head is None:
                break
            if self._form.text_name and head["name"] == self._form.text_name:
                self._drop(head.end() - start)
                self._at_start = False
            elif not self._read_call(head, head.end() - start, final, parts):
                break
        return _joined(parts)

    def _find_head(self, final: bool) -> tuple[int, Any]:
        """(how much of the text is no call, the match of what begins one); no match: what follows may become one."""
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
        """Reads a call whose JSON begins at `after`, or past white space there; False: more text is needed."""
        text, form = self._text, self._form
        while after < len(text) and text[after].isspace():
            after += 1
        if after == len(text) and not final:
            return False
        end = self._end_of_call(head, after, final)
        if end is None and not final:
            return False
        calls = [] if end is None else self._calls_of(text[after:end], head)
        if end is None or not calls:  # text up to here, and a call may begin right after
            self._end = JsonEnd()
            self._give(end or max(after, 1), parts)
            return True
        tail = self._tail.match(text, end, partial=True)
        if tail is not None and not final:
            rest = text[tail.end() :].lstrip()  # may become the end of the group, which can follow or not
            if tail.partial or (form.group_end and rest != form.group_end and form.group_end.startswith(rest)):
                return False
        self._end = JsonEnd()
        self._drop(end if tail is None else tail.end())
        parts += calls
        self._after_call = True
        return True

    def _end_of_call(self, head: Any, after: int, final: bool) -> int | None:
        """Where the arguments that begin at `after` end, `after` if there are none; None: that can't be seen yet."""
        if self._form.layout == "parameters":
            match = self._tail.search(self._text, after, partial=not final)
            if match is not None and not match.partial:  # it may stand in JSON
                text = self._without_json(self._text, after, head["name"], final)
                match = self._tail.search(text, after, partial=not final)
            return None if match is None or match.partial else match.start()
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

    def _without_json(self, text: str, start: int, name: str, final: bool) -> str:
        """A text of the same length in which arguments that are JSON are blotted out, as marks in their strings are
        none: arguments that are written one by one, from `start` on, and are no texts by the schema of `name`."""
        properties = self._schemas.get(name, {}).get("properties", {})
        mark = self._form.parameter[2].strip()
        while (head := self._parameter_head.search(text, start)) is not None:
            start = head.end()
            if text[start : start + 1] in tuple('{["') and not is_text(properties.get(head["key"])):
                end = json_end(text, start, final)
                blotted = len(text) if end is None else end
                text = text[:start] + BLOT * (blotted - start) + text[blotted:]
                start = blotted
            end_of_argument = text.find(mark, start)
            if end_of_argument < 0:
                break
            start = end_of_argument + len(mark)
        return text

    def _arguments_of(self, text: str, name: str) -> dict[str, Any] | None:
        """Arguments that are written one by one; None if there is something else between them."""
        properties = self._schemas.get(name, {}).get("properties", {})
        arguments: dict[str, Any] = {}
        at = 0
        for match in self._parameter.finditer(self._without_json(text, 0, name, final=True)):
            key, value = match["key"], text[slice(*match.span("value"))]
            if text[at : match.start()].strip() or key in arguments:
                return None
            arguments[key] = value if is_text(properties.get(key)) else _json_or_text(value)
            at = match.end()
        return None if text[at:].strip() else arguments

    def _drop(self, n: int) -> None:
        self._text = self._text[n:]
        self._not_ours = max(self._not_ours - n, 0)

    def _give(self, n: int, parts: list[Parsed]) -> None:
        if given := self._text[self._not_ours : n]:
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
    """What begins a call, up to its arguments; what ends it; one argument by itself, and that up to its value.

    White space may vary.
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
    """A mark beside a value, whose lines may be absent; all other white space belongs to the value."""
    return regex.escape(text).replace("\n", "\n?").replace("\\\n", "\n")
