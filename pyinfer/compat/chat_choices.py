"""What the arguments of `create_chat_completion` ask for: a format, tools, a form of the answer, messages."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from pyinfer.arguments import quoted
from pyinfer.chat import builtin_templates
from pyinfer.chat.tools import ToolChoice, check_tools, tool_names
from pyinfer.compat.formats import FORMATS
from pyinfer.compat.handlers import OWN_HANDLERS
from pyinfer.errors import ParameterError
from pyinfer.guides.guide import Guide
from pyinfer.tokenizer import Tokenizer

# Where tools are given, these are pyinfer's own templates, which have a place for them
WITH_TOOLS = {"chatml": "chatml", "qwen": "chatml", "mistral-instruct": "mistral"}
ALIASES = {"chatml-function-calling": "chatml"}
WITHOUT_TEMPLATE = "llama-2"  # what llama-cpp-python takes for files without a template
# The SHA-256 of the templates that llama-cpp-python has a name for, and that name
NAMED_TEMPLATES = {
    "153280e3ff55d19da1398bdb3914ee2a51b80429bfaedde11d7d216c39db80f3": "chatml",
    "7e995b379ec01747807246483647cd99030abf331653f1119e16d7ac041a3495": "mistral-instruct",  # Mistral 7B v0.1
    "26a59556925c987317ce5291811ba3b7f32ec4c647c400c6cc7e3a9993007ba7": "mistral-instruct",  # Mixtral 8x7B v0.1
    "ba03a121d097859c7b5b9cd03af99aafe95275210d2876f642ad9929a150f122": "llama-3",
}


def format_name(template: str | None) -> str:
    """Return llama-cpp-python's name of the format of chats where no chat_format is given.

    `template`: the source of the file's template.
    """
    if template is None:
        return WITHOUT_TEMPLATE
    digest = hashlib.sha256(template.encode("utf-8", errors="replace")).hexdigest()
    return NAMED_TEMPLATES.get(digest, "chat_template.default")


def template_of(
    chat_format: str | None, tokenizer: Tokenizer, with_tools: bool = False
) -> tuple[str | None, tuple[str, ...]]:
    """Return the template for `prepare_turn`, and texts that end the answer.

    Functionary's formats are the template of the file, which writes tools as the model was trained on them. Raises
    ParameterError for a format that does not exist here.
    """
    name: Any = chat_format
    if chat_format is None or (isinstance(chat_format, str) and chat_format.startswith("functionary")):
        if tokenizer.chat_template is not None:
            return None, ()
        name = WITHOUT_TEMPLATE if chat_format is None else "chatml-function-calling"
    if isinstance(name, str):
        name = ALIASES.get(name, name)
        own = (WITH_TOOLS.get(name, name) if with_tools else name).removeprefix("chat_template.")
        if name in FORMATS and not (with_tools and name in WITH_TOOLS):
            return FORMATS[name].template(), FORMATS[name].stop
        if own in (*builtin_templates(), *tokenizer.chat_templates, "default") or "{" in own:
            return own, ()
    known = sorted({*FORMATS, *OWN_HANDLERS, *builtin_templates(), *tokenizer.chat_templates})
    raise ParameterError(
        f"chat_format is {quoted(chat_format)}; expected None (the file's), one of {', '.join(known)}, or a template "
        "in Jinja"
    )


def tools_of(
    functions: Sequence[Mapping[str, Any]] | None,
    function_call: str | Mapping[str, Any] | None,
    tools: Sequence[Mapping[str, Any]] | None,
    tool_choice: str | Mapping[str, Any] | None,
) -> tuple[list[dict[str, Any]], ToolChoice]:
    """Return the tools and the choice among them. `functions` and `function_call` are an older form of the same.

    Raises ParameterError for tools or a choice of another form.
    """
    if functions:
        if isinstance(functions, str | Mapping) or not isinstance(functions, Sequence):
            raise ParameterError(f"functions is {quoted(functions)}; expected a list")
        tools, tool_choice = [{"type": "function", "function": function} for function in functions], function_call
    given = check_tools(tools or None)
    names = tool_names(given)
    if isinstance(tool_choice, Mapping):
        function = tool_choice.get("function", tool_choice)
        name = function.get("name") if isinstance(function, Mapping) else None
    elif tool_choice in ("auto", "none", "required", None):
        return given, "auto" if tool_choice is None or not given else tool_choice  # type: ignore[return-value]
    else:
        name = tool_choice
    if name not in names:
        raise ParameterError(
            f"tool_choice is {quoted(tool_choice)}; expected 'auto', 'none', 'required' or one of {names}"
        )
    return given, {"type": "function", "function": {"name": name}}


def call_guide(tools: Sequence[Mapping[str, Any]], choice: ToolChoice) -> tuple[Guide, list[str]] | None:
    """Return a guide for a call as JSON, and the names of the tools; None where none must be called.

    It serves prompts that have no place for tools, as llama-cpp-python does: a single tool's arguments are the text.
    """
    if choice in ("auto", "none"):
        return None
    chosen = choice["function"]["name"] if isinstance(choice, Mapping) else None
    schemas = {
        tool["function"]["name"]: tool["function"].get("parameters") or {"type": "object"}
        for tool in tools
        if chosen in (None, tool["function"]["name"])
    }
    if len(schemas) == 1:
        return Guide.json(next(iter(schemas.values()))), list(schemas)
    calls = [
        {
            "type": "object",
            "properties": {"name": {"const": name}, "arguments": schema},
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
        for name, schema in schemas.items()
    ]
    return Guide.json({"anyOf": calls}), list(schemas)


def messages_of(messages: Any) -> Any:
    """Return messages with function calls, the older form, as tool calls, and functions' results as tools'."""
    if isinstance(messages, str | Mapping) or not isinstance(messages, Sequence):
        return messages
    last: dict[str, str] = {}  # for each name the id of its latest call
    return [
        _message(message, i, last) if isinstance(message, Mapping) else message for i, message in enumerate(messages)
    ]


def _message(message: Mapping[str, Any], i: int, last: dict[str, str]) -> dict[str, Any]:
    given = dict(message)
    call = given.pop("function_call", None)
    if given.get("tool_calls") is None:
        given.pop("tool_calls", None)
        if isinstance(call, Mapping):
            given["tool_calls"] = [{"id": f"call_{i}", "type": "function", "function": dict(call)}]
    for one in given.get("tool_calls") or ():
        if isinstance(one, Mapping) and isinstance(one.get("function"), Mapping):
            last[str(one["function"].get("name"))] = str(one.get("id", ""))
    if given.get("role") == "function":
        given["role"] = "tool"
        given.setdefault("tool_call_id", last.get(str(given.get("name")), ""))
    return given


def response_guide(response_format: Mapping[str, Any] | None) -> Guide | None:
    """Return the guide that a response_format asks for. Raises ParameterError for an unknown one."""
    if response_format is None:
        return None
    kind = response_format.get("type") if isinstance(response_format, Mapping) else None
    if kind == "text":
        return None
    if kind == "json_object":
        return Guide.json(response_format.get("schema") or {"type": "object"})
    if kind == "json_schema" and isinstance(response_format.get("json_schema"), Mapping):
        return Guide.json(response_format["json_schema"].get("schema", {}))
    raise ParameterError(
        f"response_format is {quoted(response_format)}; expected {{'type': 'text'}} or "
        "{'type': 'json_object', 'schema': …}"
    )
