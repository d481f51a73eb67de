"""Tool calls read out of a text as it is generated.

Nothing is lost: what looks like a call and is none comes back as text. A call is given when it is complete, since only
then it is sure to be one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import regex

from pyinfer.chat.tools import NAME, ToolCall, ToolFormat, is_text

Parsed = str | ToolCall
MASK_CHAR = "x"  # stands for a character in which no mark may be seen
DECODER = json.JSONDecoder()


class JsonEnd:
    """Finds where a JSON object, list or string ends in a text that comes in parts. Each character is read once."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = self._escaped = False
        self._at = 0
        self._end: int | None = None
        self.broken = False  # it begins as no JSON does: "<" outside of strings, or a line break in one

    def find(self, text: str, start: int) -> int | None:
        """The index after the value that begins at `start`; None: not yet. `text` may only grow between calls."""
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
        """As find, but `start` if it is no JSON; final: no more text comes."""
        end = self.find(text, start)
        if end is None:
            return start if final or self.broken else None
        try:
            return DECODER.raw_decode(text, start)[1]
        except (ValueError, RecursionError):
            return start


class ArgumentsEnd:
    """Finds where arguments that are written one by one end, in a text that comes in parts.

    What ends them may also stand in arguments that are JSON, where it means nothing. Whatever was read once is not read
    again, so that a long argument takes a time that is linear in its length.

    is_json(key): whether the argument may be JSON; head: what begins an argument; mark: what ends its value; tail: what
    ends all of them.
    """

    def __init__(self, is_json: Callable[[str], bool], head: Any, mark: str, tail: Any) -> None:
        self._is_json = is_json
        self._head, self._mark, self._tail = head, mark, tail
        self._at: int | None = None  # up to which arguments are known, from where the next one is looked for
        self._tail_at = 0  # before which nothing ends them
        self._head_at = 0  # before which no argument begins
        self._value_at: int | None = None  # of an argument that has begun: where the end of its value is looked for
        self._json: tuple[int, JsonEnd] | None = None  # of one that is JSON: where it begins

    def find(self, text: str, start: int, final: bool) -> int | None:
        """The index of what ends the arguments that begin at `start`; None: not yet. `text` may only grow."""
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
        """Where the next argument that may be JSON begins, past those that are none."""
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
        self._arguments_end: ArgumentsEnd | None = None
        self._at_start = True  # nothing but white space and calls so far, where calls may begin without a mark
        self._after_call = False

    def push(self, text: str) -> list[Parsed]:
        """The texts and calls that are certain with this part of the text, in order."""
        # a local variable that alone has the text is lengthened in place, an attribute is copied
        whole, self._text = self._text, ""
        whole += text
        self._text = whole
        del whole
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
            self._end, self._arguments_end = JsonEnd(), None
            self._give(end or max(after, 1), parts)
            return True
        tail = self._tail.match(text, end, partial=True)
        if tail is not None and not final:
            rest = text[tail.end() :].lstrip()  # may become the end of the group, which can follow or not
            if tail.partial or (form.group_end and rest != form.group_end and form.group_end.startswith(rest)):
                return False
        self._end, self._arguments_end = JsonEnd(), None
        self._drop(end if tail is None else tail.end())
        parts += calls
        self._after_call = True
        return True

    def _end_of_call(self, head: Any, after: int, final: bool) -> int | None:
        """Where the arguments that begin at `after` end, `after` if there are none; None: that can't be seen yet."""
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
        """Whether an argument of a function may be JSON, as it is no text by the schema."""
        properties = self._schemas.get(name, {}).get("properties", {})
        return lambda key: not is_text(properties.get(key))

    def _without_json(self, text: str, name: str) -> str:
        """A text of the same length in which arguments that are JSON are masked, as marks in their strings are none."""
        may_be_json = self._may_be_json(name)
        mark = self._form.parameter[2].strip()
        parts: list[str] = []
        done = start = 0  # up to where the parts go, and from where arguments are looked for
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
        """Arguments that are written one by one; None if there is something else between them."""
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
