"""Tool calls: checks of OpenAI's `tools`, and the formats in which models write their calls.

`TOOL_FORMATS` declares the formats. `tool_parser.py` reads calls by these declarations, and `tool_grammar.py` makes
grammars of them.
"""

from __future__ import annotations

import re
import secrets
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pyinfer.errors import ParameterError

NAME = r"[A-Za-z0-9_.-]{1,64}"  # OpenAI's names, and dots

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


@dataclass(frozen=True)
class ToolFormat:
    """How a model writes its tool calls.

    - `layout`: "named": each call is `start`, name, `between`, arguments as JSON, `end`. "object": `start`, a JSON
      object with name and arguments, `end`. "list": one `start` and one `end` around a list of such objects.
      "parameters": as "named", but each argument is written by itself, as `parameter` says.
    - `separator`: the text between calls.
    - `key`: the key of the arguments in a JSON object.
    - `parameter`: the texts before an argument's name, before its value and after its value. Texts are written as they
      are, other values as JSON; a string in JSON may contain marks, which end nothing there.
    - `signs`, `against`: a template has this format if it contains all `signs` and none of `against`.
    """

    name: str
    signs: tuple[str, ...]
    start: str
    layout: Literal["named", "object", "list", "parameters"] = "named"
    between: str = ""
    end: str = ""
    separator: str = ""
    key: str = "arguments"
    parameter: tuple[str, str, str] = ("", "", "")
    against: tuple[str, ...] = ()
    group_start: str = ""  # before the first call
    group_end: str = ""  # after the last
    id_mark: str = ""  # between the name and an id, where models give one
    also: str = ""  # what models sometimes write in place of `start`
    text_name: str = ""  # the name that stands in a call's place before plain text

    @property
    def marks(self) -> list[str]:
        """All texts that mark a call or a part of it."""
        around = [self.group_start, self.start, self.also, self.between, self.id_mark, self.end, self.group_end]
        return [*around, *self.parameter]


# A template has the first of these formats whose signs fit.
TOOL_FORMATS = (
    ToolFormat("functionary-v3.2", (">>>all",), ">>>", between="\n", text_name="all"),
    ToolFormat(
        "functionary-v3.1", ("<function=", "</function>"), "<function=", between=">", end="</function>",
        against=("<tool_call>", "<parameter="),
    ),
    ToolFormat("mistral-args", ("[TOOL_CALLS]", "[ARGS]"), "[TOOL_CALLS]", between="[ARGS]", id_mark="[CALL_ID]"),
    ToolFormat("mistral", ("[TOOL_CALLS]",), "[TOOL_CALLS]", layout="list"),
    ToolFormat(
        "deepseek-v3", ("<｜tool▁calls▁begin｜>", "```json"), "<｜tool▁call▁begin｜>function<｜tool▁sep｜>",
        between="\n```json\n", end="\n```<｜tool▁call▁end｜>", separator="\n",
        group_start="<｜tool▁calls▁begin｜>", group_end="<｜tool▁calls▁end｜>",
    ),
    ToolFormat(
        "deepseek-v3.1", ("<｜tool▁calls▁begin｜>",), "<｜tool▁call▁begin｜>",
        between="<｜tool▁sep｜>", end="<｜tool▁call▁end｜>",
        group_start="<｜tool▁calls▁begin｜>", group_end="<｜tool▁calls▁end｜>",
    ),
    ToolFormat("phi-4", ("<|tool_call|>", "<|/tool_call|>"), "<|tool_call|>", layout="list", end="<|/tool_call|>"),
    ToolFormat("granite-3", ("<|tool_call|>",), "<|tool_call|>", layout="list", also="<tool_call>"),
    ToolFormat(
        "seed-oss", ("<seed:tool_call>",), "<seed:tool_call>\n<function=", layout="parameters", between=">\n",
        end="</function>\n</seed:tool_call>", separator="\n", parameter=("<parameter=", ">", "</parameter>\n"),
    ),
    ToolFormat(
        "qwen3-coder", ("<tool_call>", "<function=", "<parameter="), "<tool_call>\n<function=", layout="parameters",
        between=">\n", end="</function>\n</tool_call>", separator="\n",
        parameter=("<parameter=", ">\n", "\n</parameter>\n"),
    ),
    ToolFormat(
        "glm-4.5", ("<tool_call>", "<arg_key>"), "<tool_call>", layout="parameters", between="\n",
        end="</tool_call>", separator="\n",
        parameter=("<arg_key>", "</arg_key>\n<arg_value>", "</arg_value>\n"),
    ),
    ToolFormat(
        "hermes", ("<tool_call>",), "<tool_call>\n", layout="object", end="\n</tool_call>", separator="\n"
    ),
    ToolFormat(
        "llama-3", ("<|start_header_id|>", '"parameters"'), "", layout="object", key="parameters", separator="; ",
        also="<|python_tag|>",
    ),
)  # fmt: skip


def tool_format(template: str) -> ToolFormat | None:
    """Return the format of calls in a chat template's source; None if it has no known one."""
    for form in TOOL_FORMATS:
        if all(sign in template for sign in form.signs) and not any(sign in template for sign in form.against):
            return form
    return None


def is_text(schema: Any) -> bool:
    """Whether a JSON schema's values are texts, so that formats of the layout "parameters" write them as they are."""
    return isinstance(schema, Mapping) and schema.get("type") == "string"


def check_tools(tools: Sequence[Mapping[str, Any]] | None) -> list[dict[str, Any]]:
    """Check tools and return copies of them.

    They have the form of OpenAI's API: [{"type": "function", "function": {"name": …, "parameters": JSON schema}}, …].
    Raises ParameterError for any other form, and for two tools of the same name.
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
        if not isinstance(name, str) or not re.fullmatch(NAME, name):
            raise ParameterError(f"tools[{i}]: name is {name!r:.80}; expected 1 to 64 letters, digits and _.-")
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
