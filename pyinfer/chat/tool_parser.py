"""Tool calls read out of a text as it is generated.

Nothing is lost: what looks like a call and is none comes back as text. A call is given when it is complete, since only
then it is sure to be one.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from functools import cache
from typing import Any

import regex

from pyinfer.chat.tools import NAME, ToolCall, ToolFormat

Parsed = str | ToolCall


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

    `names`: the functions that may be called; a call of another one is text. `opened`: what of the format's start the
    prompt has already written.

        parser = ToolCallParser(tool_format(template), ["get_weather"])
        parts = parser.push('<tool_call>{"name": "get_weather", "arguments": {}}') + parser.finish()
    """

    def __init__(self, form: ToolFormat, names: Collection[str], opened: str = "") -> None:
        self._form = form
        self._names = frozenset(names)
        self._head, self._tail = _patterns(form)
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
        is_json = text[after : after + 1] in ("{", "[")
        end = self._end.find(text, after) if is_json else None
        if is_json and end is None and not final:
            return False
        calls = [] if end is None else self._calls_of(text[after:end], head)
        if end is None or not calls:  # text up to here, and a call may begin right after
            self._end = JsonEnd()
            self._give(end or max(after, 1), parts)
            return True
        tail = self._tail.match(text, end, partial=not final)
        if tail is not None and not final:
            rest = text[tail.end() :].lstrip()  # may become the end of the group, which can follow or not
            if tail.partial or (form.group_end and rest != form.group_end and form.group_end.startswith(rest)):
                return False
        self._end = JsonEnd()
        self._drop(end if tail is None else tail.end())
        parts += calls
        self._after_call = True
        return True

    def _calls_of(self, text: str, head: Any) -> list[ToolCall]:
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
        if not isinstance(name, str) or name not in self._names or not isinstance(arguments, dict):
            return None
        text = json.dumps(arguments, ensure_ascii=False)
        return ToolCall(name, text, call_id) if isinstance(call_id, str) and call_id else ToolCall(name, text)

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


@cache
def _patterns(form: ToolFormat) -> tuple[Any, Any]:
    """What begins a call, up to its JSON, and what ends it, with white space as models vary it."""
    starts = [_lenient(start) for start in (form.start, form.also) if start]
    head = rf"(?:{_lenient(form.group_start)})?" if form.group_start else ""
    head += f"(?:{'|'.join(starts)})"
    if form.layout == "named":
        call_id = rf"(?:{_lenient(form.id_mark)}(?P<id>\w{{1,64}}))?" if form.id_mark else ""
        head += rf"\s*(?P<name>{NAME}){call_id}{_lenient(form.between)}"
    tail = _lenient(form.end) if form.end.strip() else ""
    if form.group_end:
        tail += rf"(?:{_lenient(form.group_end)})?"
    return regex.compile(head), regex.compile(tail)


def _lenient(text: str) -> str:
    parts = [regex.escape(part) for part in text.split()]
    return r"\s*" + r"\s*".join(parts) if parts else r"[^\S\n]*\n"
