"""Writes calls as a model of a format writes them, for histories whose template writes no calls."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from pyinfer.chat.notation import Notation
from pyinfer.chat.tool_formats import ToolFormat

Call = tuple[str, Mapping[str, Any]]  # a name and its arguments


def written_calls(form: ToolFormat, calls: Iterable[Call]) -> str:
    """Return the text of calls, each a (name, arguments)."""
    calls = list(calls)
    if form.layout == "python":
        parts = [f"{name}({', '.join(f'{k}={v!r}' for k, v in arguments.items())})" for name, arguments in calls]
    elif form.layout == "list":
        parts = [_object(form, *call) for call in calls]
    else:
        parts = [f"{form.start}{_call(form, i, *call)}{form.end}" for i, call in enumerate(calls)]
        return form.group_start + form.separator.join(parts) + form.group_end
    before, after = form.brackets
    return form.start + before + (form.separator or ", ").join(parts) + after + form.end


def _call(form: ToolFormat, i: int, name: str, arguments: Mapping[str, Any]) -> str:
    if form.layout == "object":
        return _object(form, name, arguments)
    number = f"{form.id_mark}{i}" if form.numbered else ""
    head = f"{name}{number}{form.between}"
    if form.layout == "named":
        return head + _value(arguments, form.notation)
    before, middle, after = form.parameter
    parts = [
        before + key + (middle if isinstance(value, str) or not form.json_middle else form.json_middle)
        + (value if isinstance(value, str) else _json(value)) + after
        for key, value in arguments.items()
    ]  # fmt: skip
    return head + "".join(parts)


def _object(form: ToolFormat, name: str, arguments: Mapping[str, Any]) -> str:
    return _json({form.name_key: name, form.key: arguments} if form.name_key else {name: arguments})


def _value(value: Any, notation: Notation) -> str:
    """Write a value as JSON, or with the quotes of a notation whose keys have none."""
    if not notation.bare_keys:
        return _json(value)
    if isinstance(value, str):
        return notation.quotes[0] + value + notation.quotes[0]
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{key}:{_value(item, notation)}' for key, item in value.items())}}}"
    if isinstance(value, (list, tuple)):
        return f"[{','.join(_value(item, notation) for item in value)}]"
    return _json(value)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
