"""Conversations, tools and published templates that the tests of chats share."""

import json
import re
from pathlib import Path
from typing import Any

from tiny_vocabularies import CONTROL, USER_DEFINED, bpe_metadata

from pyinfer.chat.templates import builtin_templates
from pyinfer.tokenizer import Tokenizer, tokenizer_from_metadata

TEMPLATES = Path(__file__).parent / "data" / "templates"
PUBLISHED = sorted(path.stem for path in TEMPLATES.glob("*.jinja"))
BUILTIN = builtin_templates()

WEATHER = {
    "name": "get_weather",
    "description": "Get the <b>weather</b> & 'more' for a café",
    "parameters": {
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": "A city"},
            "days": {"type": "integer", "default": 1},
            "unit": {"type": "string", "enum": ["C", "F"]},
        },
        "required": ["city"],
    },
}
NOW = {"name": "now", "description": "The time", "parameters": {"type": "object", "properties": {}}}
TOOLS = [{"type": "function", "function": WEATHER}, {"type": "function", "function": NOW}]
ZONED = {"type": "object", "properties": {"zone": {"enum": ["a", "b"]}}, "required": ["zone"]}
ZONED_TOOLS = [{"type": "function", "function": {**NOW, "parameters": ZONED}}]

# Texts that are control tokens in one model or another: <|…|>, <｜…｜>, [UPPER], <name>, …
SPECIAL = re.compile(
    r"<[|｜][\w▁]+[|｜]>|\[/?[A-Z_]+\]|</?(?:s|start_of_turn|end_of_turn|seed:\w+|eos)>|\]~b?\]|\[e~\["
)


def source_of(name: str) -> str:
    """A published template."""
    return (TEMPLATES / f"{name}.jinja").read_text("utf-8")


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def assistant(content: Any, **keys: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **keys}


def system(content: Any) -> dict[str, Any]:
    return {"role": "system", "content": content}


def call(name: str, arguments: Any, i: int = 1) -> dict[str, Any]:
    return {"id": f"abcdefgh{i}", "type": "function", "function": {"name": name, "arguments": arguments}}


def tool(content: str, name: str = "get_weather", i: int = 1) -> dict[str, Any]:
    return {"role": "tool", "name": name, "tool_call_id": f"abcdefgh{i}", "content": content}


def conversations(text_arguments: bool = False) -> dict[str, tuple[list[dict[str, Any]], dict[str, Any]]]:
    """Messages and further arguments of a rendering, by name."""

    def given(arguments: dict[str, Any]) -> Any:
        return json.dumps(arguments) if text_arguments else arguments

    turns = [system("Be brief."), user("Hi"), assistant("Hello! <b>x</b>"), user("2+2?")]
    weather = [user("Weather?"), assistant("", tool_calls=[call("get_weather", given({"city": "Orléans", "days": 2}))])]
    both = [call("get_weather", given({"city": "Rome"})), call("now", given({}), 2)]
    return {
        "one turn": ([user("Hello")], {}),
        "no generation prompt": ([user("Hello")], {"add_generation_prompt": False}),
        "white space": ([system("  Be brief. "), user(" Hi <there> & 'you' \n")], {}),
        "turns": ([*turns, assistant("<think>\nhm\n</think>\n\n4"), user("Thanks")], {}),
        "an answer at the end": ([*turns, assistant("4")], {"add_generation_prompt": False}),
        "tools": ([user("Weather?")], {"tools": TOOLS}),
        "a tool's result": ([*weather, tool('{"t": 3}'), assistant("Cold."), user("ok")], {"tools": TOOLS}),
        "two calls": (
            [user("?"), assistant(None, tool_calls=both), tool("3"), tool("4", "now", 2)],
            {"tools": TOOLS},
        ),
        "documents": ([user("Q?")], {"documents": [{"title": "T", "text": "Some text"}, {"title": "U", "text": "x"}]}),
        "thinking": ([user("Q?")], {"enable_thinking": True}),
        "no thinking": ([user("Q?")], {"enable_thinking": False}),
        "reasoning": ([user("Q?"), assistant("A", reasoning_content="why", thinking="why"), user("So?")], {}),
        "parts": ([user([{"type": "text", "text": "Hello"}, {"type": "text", "text": " you"}])], {}),
        "an answer first": ([assistant("Hi"), user("x")], {}),
    }


def tokenizer_of(template: str, special: dict[str, int] | None = None, **keys: Any) -> Tokenizer:
    """Byte tokens, and as control tokens whatever in a template looks like one; <think> and the like user-defined."""
    control = dict.fromkeys(["<s>", "</s>", *SPECIAL.findall(template)], CONTROL)
    defined = dict.fromkeys(re.findall(r"</?(?:think|tool_call|tool_response)>", template), USER_DEFINED)
    tokens = {**control, **defined, **(special or {})}
    first = 256 + list(tokens).index("<s>")
    metadata = bpe_metadata(special=tokens, bos_token_id=first, eos_token_id=first + 1, **keys)
    return tokenizer_from_metadata({**metadata, "tokenizer.chat_template": template})
