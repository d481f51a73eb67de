"""Reads tool calls from a text while it is generated.

Nothing is lost: what looks like a call but is none is returned as text. A call is returned when it is complete, since
only then it is certain to be one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import regex

from pyinfer.chat.argument_list import ArgumentList, ArgumentsEnd
from pyinfer.chat.notation import PYTHON, ValueEnd, read_value
from pyinfer.chat.tool_formats import ToolFormat
from pyinfer.chat.tools import NAME, ToolCall

Parsed = str | ToolCall
NAME_KEYS = ("name", "tool_name", "function")  # of the name in a call that is an object, as models vary it
ARGUMENT_KEYS = ("arguments", "parameters")
OTHER_KEYS = frozenset({"type", "id", "tool_call_id", "index"})  # beside them, where there may be no arguments at all
FENCE = regex.compile(r"```(?:json|python|tool_code)?\s*")  # around calls, as models put it around code
MAX_FENCE = 16  # characters of a fence with white space
LIST_START = {"object": "{", "list": "[", "python": "["}  # of calls in a format whose calls begin without a mark


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
        self._patterns = _patterns(form)
        self._tools = {tool["function"]["name"]: tool["function"].get("parameters") or {} for tool in tools}
        self._arguments: dict[str, ArgumentList] = {}
        self._text = opened  # of which it is not yet certain what it is
        self._n_prompt = len(opened)  # characters at the front that are the prompt's
        self._end: ValueEnd | ArgumentsEnd | None = None  # of the call that is being read
        self._at_start = True  # only white space and calls came so far; here a call may begin without a mark
        self._after_call = False
        self._unclosed = False  # a call has come, but not the mark after it: another one may follow

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
            name = head.groupdict().get("name")
            if self._form.text_name and name == self._form.text_name:
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
        form = self._form
        if (self._at_start and not form.start) or self._unclosed:
            between = regex.escape(form.separator.strip() + "," * self._unclosed) if self._after_call else ""
            match = regex.match(rf"[\s{between}]*(?=\{LIST_START[form.layout]})", self._text)
            if match is not None:
                return 0, match
            if not final and regex.fullmatch(rf"[\s{between}]*", self._text):
                return 0, None
            self._unclosed = False
        if self._patterns.head is None:
            return len(self._text), None
        match = self._patterns.head.search(self._text, partial=not final)
        if match is None:
            return len(self._text), None
        return match.start(), None if match.partial else match

    def _read_call(self, head: Any, after: int, final: bool, parts: list[Parsed]) -> bool:
        """Read a call whose arguments begin at `after`, or after white space there. Return False if text is missing."""
        text, form = self._text, self._form
        while after < len(text) and text[after].isspace():
            after += 1
        if form.layout in ("object", "list", "python") and text.startswith("`", after):
            if not final and len(text) - after < MAX_FENCE and not any(sign in text[after:] for sign in "{[("):
                return False
            fence = FENCE.match(text, after)
            after = after if fence is None else fence.end()
        if after == len(text) and not final:
            return False
        end = self._end_of_call(head, after, final)
        if end is None and not final:
            return False
        calls = [] if end is None or end < 0 else self._calls_of(text[after:end], head)
        if end is None or not calls:  # it is no call but text; a call may begin right after it
            self._end, self._unclosed = None, False
            self._release_text(end if end and end > 0 else max(after, 1), parts)
            return True
        tail = self._patterns.tail.match(text, end, partial=True)
        if tail is not None and not final:
            rest = text[tail.end() :].lstrip()  # may become the end of the group, which is optional
            if tail.partial or (form.group_end and rest != form.group_end and form.group_end.strip().startswith(rest)):
                return False
        self._end = None
        self._unclosed = form.layout == "object" and bool(form.end.strip()) and (tail is None or tail.partial)
        self._drop(end if tail is None else tail.end())
        parts += calls
        self._after_call = True
        return True

    def _end_of_call(self, head: Any, after: int, final: bool) -> int | None:
        """Return where the arguments that begin at `after` end; `after` if there are none; None: not known yet."""
        text, form = self._text, self._form
        if form.layout == "parameters":
            if self._end is None:
                self._end = self._list_of(head["name"]).end(self._patterns.tail)
            return self._end.find(text, after, final)
        first = text[after : after + 1]
        if form.layout == "python" and first != "[":  # calls in lines, up to the mark
            if not form.end:
                return after
            if self._end is None:
                self._end = ValueEnd(PYTHON, until=form.end.strip())
            end = self._end.find(text, after, final)
            return len(text) if end is None and final else end
        if form.layout == "named" and first not in ("{", '"'):
            return self._without_arguments(after, final)
        if first not in ("{", "[", '"'):
            return after
        if self._end is None:
            self._end = ValueEnd(PYTHON if form.layout == "python" else form.notation)
        return self._end.find(text, after, final)

    def _without_arguments(self, after: int, final: bool) -> int | None:
        """Return where a call ends that has "null" or nothing in the place of its arguments; -1 if it is no call."""
        text = self._text
        rest = text[after : after + len("null")]
        if rest == "null":
            return after + len(rest)
        if rest and not final and "null".startswith(rest):
            return None
        follows = self._patterns.tail if self._form.end.strip() else self._patterns.next
        match = follows.match(text, after, partial=not final)
        if match is not None and match.partial:
            return None
        return after if match is not None or (after == len(text) and not self._form.end.strip()) else -1

    def _calls_of(self, text: str, head: Any) -> list[ToolCall]:
        """Return the calls that a text between the marks holds; none if a part of it is no call."""
        form, given = self._form, head.groupdict()
        name, call_id = given.get("name"), given.get("id")
        if form.layout == "parameters":
            if name not in self._tools:
                return []
            values: Any = [{"name": name, "arguments": self._list_of(name).read(text)}]
            if values[0]["arguments"] is None:
                return []
        else:
            try:
                values = _values(text, form)
            except ValueError:
                return []
        if form.layout == "named":
            own_id = form.id_form.format(name=name, id=call_id) if call_id else None
            values = [{"name": name, "arguments": values, "id": own_id}]
        values = values if isinstance(values, list) else [values]
        calls = [call for value in values if (call := self._call_of(value)) is not None]
        return calls if len(calls) == len(values) else []

    def _call_of(self, value: Any) -> ToolCall | None:
        if not isinstance(value, dict):
            return None
        if not self._form.name_key and len(value) == 1 and next(iter(value)) in self._tools:
            ((name, arguments),) = value.items()
            value = {"name": name, "arguments": arguments}
        call_id = value.get("id") or value.get("tool_call_id")
        value = value["function"] if isinstance(value.get("function"), dict) else value
        named = [value[key] for key in NAME_KEYS if isinstance(value.get(key), str) and value[key] in self._tools]
        if not named:
            return None
        if not any(key in value for key in ARGUMENT_KEYS) and not value.keys() <= {*NAME_KEYS, *OTHER_KEYS}:
            return None  # an object with something else in it, which would be lost
        arguments = next((value[key] for key in ARGUMENT_KEYS if value.get(key) is not None), None)
        if isinstance(arguments, str):  # JSON within JSON
            try:
                arguments = read_value(arguments) if arguments.strip() else None
            except ValueError:
                return None
        if arguments is not None and not isinstance(arguments, dict):
            return None
        text = json.dumps(arguments or {}, ensure_ascii=False)
        return ToolCall(named[0], text, call_id) if isinstance(call_id, str) and call_id else ToolCall(named[0], text)

    def _list_of(self, name: str) -> ArgumentList:
        """Return the reader of a tool's arguments that are written one by one."""
        if name not in self._arguments:
            patterns = (self._patterns.argument, self._patterns.argument_head)
            mark = self._form.parameter[2].strip()
            self._arguments[name] = ArgumentList(self._tools.get(name, {}), patterns, mark)
        return self._arguments[name]

    def _drop(self, n: int) -> None:
        self._text = self._text[n:]
        self._n_prompt = max(self._n_prompt - n, 0)

    def _release_text(self, n: int, parts: list[Parsed]) -> None:
        if given := self._text[self._n_prompt : n]:
            parts.append(given)
            self._after_call = False
            self._at_start = self._at_start and given.isspace()
        self._drop(n)


def _values(text: str, form: ToolFormat) -> Any:
    """Read what stands between a call's marks. Raises ValueError for a text that is no value."""
    if form.layout != "python":
        return read_value(text, form.notation) if text.strip() else {}
    values = read_value(text.strip().removesuffix("```"), PYTHON)
    return values[0] if len(values) == 1 and isinstance(values[0], list) else values


def _joined(parts: list[Parsed]) -> list[Parsed]:
    joined: list[Parsed] = []
    for part in parts:
        if isinstance(part, str) and joined and isinstance(joined[-1], str):
            joined[-1] += part
        else:
            joined.append(part)
    return joined


@dataclass(frozen=True)
class Patterns:
    """Patterns of a format, which allow for other white space.

    - `head`: the start of a call up to its arguments; None for a format whose calls have no mark.
    - `tail`: the end of a call. `next`: the mark of the next call, or of the group's end.
    - `argument`: an argument that is written by itself. `argument_head`: such an argument up to its value.
    """

    head: Any
    tail: Any
    next: Any
    argument: Any
    argument_head: Any


@cache
def _patterns(form: ToolFormat) -> Patterns:
    starts = [_lenient(start) for start in (form.start, form.also) if start]
    group = rf"(?:{_lenient(form.group_start)})?" if form.group_start else ""
    head = f"{group}(?:{'|'.join(starts)})"
    if form.layout in ("named", "parameters"):
        call_id = rf"(?:{_lenient(form.id_mark)}(?P<id>\w{{1,64}}))?" if form.id_mark else ""
        # without a mark between, the arguments follow the name at once; in "parameters" there may be none of them
        follows = rf"(?=\s*(?:{regex.escape(form.end)}|\{{))" if form.layout == "named" else r"(?=[\s<])\s*"
        between = (
            _lenient(form.between) if form.between and (form.between.strip() or form.layout == "named") else follows
        )
        head += rf"\s*(?P<name>{NAME}?){call_id}{between}"
    tail = _lenient(form.end) if form.end.strip() else ""
    if form.in_list or form.layout == "object":
        tail = rf"(?:\s*```)?{tail}" if tail else ""
    if form.group_end:
        tail += rf"(?:{_lenient(form.group_end)})?"
    following = [*starts, *([_lenient(form.group_end)] if form.group_end.strip() else [])]
    before, middle, after = form.parameter
    middles = "|".join(_value_edge(text) for text in (middle, form.json_middle) if text)
    argument_head = rf"{regex.escape(before)}(?P<key>[^<>\n]+?)(?:{middles})"
    argument = rf"{argument_head}(?P<value>(?:.|\n)*?){_value_edge(after)}"
    patterns = (head, tail, "|".join(following) or "(?!)", argument, rf"{argument_head}\s*")
    compiled = [regex.compile(pattern) for pattern in patterns]
    return Patterns(compiled[0] if starts else None, *compiled[1:])


def _lenient(text: str) -> str:
    parts = [regex.escape(part) for part in text.split()]
    return r"\s*" + r"\s*".join(parts) if parts else r"[^\S\n]*\n"


def _value_edge(text: str) -> str:
    """Return a pattern of a mark beside a value. Its line breaks are optional; other white space is the value's."""
    return regex.escape(text).replace("\n", "\n?").replace("\\\n", "\n")
