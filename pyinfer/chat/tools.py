"""Tools and their calls in the form of OpenAI's API, and what is checked of them."""

from __future__ import annotations

import re
import secrets
import string
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import regex

from pyinfer.chat.tool_formats import TOOL_FORMATS, ToolFormat
from pyinfer.errors import ParameterError

__all__ = ["NAME", "TOOL_FORMATS", "ToolCall", "ToolChoice", "ToolFormat", "check_tools", "chosen_tools", "tool_names"]

USUAL_NAME = r"[A-Za-z0-9_.-]{1,64}"  # OpenAI's names, and dots
# What servers of tools use: other letters, "/" and ":", and more characters; but nothing that marks of calls have.
NAME = r"[^\s<>{}()\[\]\"'`=|｜,;\\\p{C}]{1,256}"
NAME_IN_WORDS = "1 to 256 characters without white space, brackets, quotes and any of <>=|,;\\"

ToolChoice = Literal["auto", "none", "required"] | Mapping[str, Any]


def new_call_id() -> str:
    """Return nine letters or digits, the only form of ids that Mistral's templates accept."""
    return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(9))


@dataclass(frozen=True)
class ToolCall:
    """A function call that a model wrote.

    - `name`: the function's name.
    - `arguments`: a JSON object, as text.
    - `id`: what the message with the result refers to; new where the model gave none.
    """

    name: str
    arguments: str
    id: str = field(default_factory=new_call_id)

    def as_dict(self) -> dict[str, Any]:
        """Return the call in the form of OpenAI's API, as a message's "tool_calls" have it."""
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": self.arguments}}


def check_tools(tools: Sequence[Mapping[str, Any]] | None) -> list[dict[str, Any]]:
    """Check tools and return copies of them.

    They have the form of OpenAI's API: [{"type": "function", "function": {"name": …, "parameters": JSON schema}}, …].
    `parameters` may be missing or None, and other names than OpenAI's give a warning. Raises ParameterError for any
    other form, for a name that marks of calls could not be told from, and for two tools of the same name.
    """
    if tools is None:
        return []
    if isinstance(tools, (str, Mapping)) or not isinstance(tools, Sequence):
        raise ParameterError(f"tools is {tools!r:.60}; expected a list")
    checked: list[dict[str, Any]] = []
    for i, tool in enumerate(tools):
        function = tool.get("function") if isinstance(tool, Mapping) and tool.get("type") == "function" else None
        if not isinstance(function, Mapping):
            raise ParameterError(f"tools[{i}] is {tool!r:.60}; expected {{'type': 'function', 'function': …}}")
        name = function.get("name")
        if not isinstance(name, str) or not regex.fullmatch(NAME, name):
            raise ParameterError(f"tools[{i}]: name is {name!r:.80}; expected {NAME_IN_WORDS}")
        if not re.fullmatch(USUAL_NAME, name):
            warnings.warn(
                f"tools[{i}]: name is {name!r:.80}; models were trained on 1 to 64 letters, digits and _.-",
                stacklevel=2,
            )
        if function.get("parameters", {}) is None:
            function = {**function, "parameters": {"type": "object", "properties": {}}}
        if not isinstance(function.get("parameters", {}), Mapping):
            raise ParameterError(f"tools[{i}]: parameters is {function['parameters']!r:.60}; expected a JSON schema")
        if name in tool_names(checked):
            raise ParameterError(f"tools[{i}]: name is {name!r}, which an earlier one has")
        checked.append({**tool, "function": dict(function)})
    return checked


def chosen_tools(tools: Sequence[Mapping[str, Any]] | None, tool_choice: ToolChoice = "auto") -> list[dict[str, Any]]:
    """Return the tools that may be called: none, all, or the one of {"type": "function", "function": {"name": …}}.

    Raises ParameterError for a choice of another form, for a name that no tool has, and for "required" without tools.
    """
    checked = check_tools(tools)
    if isinstance(tool_choice, Mapping):
        function = tool_choice.get("function")
        name = function.get("name") if isinstance(function, Mapping) else None
        named = [tool for tool in checked if tool["function"]["name"] == name]
        if not named:
            known = ", ".join(tool_names(checked)) or "none"
            raise ParameterError(
                f"tool_choice is {dict(tool_choice)!r:.80}; expected a function of tools, which are {known}"
            )
        return named
    if not isinstance(tool_choice, str) or tool_choice not in ("auto", "none", "required"):
        raise ParameterError(f"tool_choice is {tool_choice!r:.60}; expected 'auto', 'none', 'required' or a function")
    if tool_choice == "required" and not checked:
        raise ParameterError("tool_choice is 'required', but there are no tools")
    return [] if tool_choice == "none" else checked


def tool_names(tools: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names of checked tools, in order."""
    return [tool["function"]["name"] for tool in tools]
