"""The formats in which models write their calls of tools: a declaration of a few lines for each.

`tool_parser.py` reads calls by these declarations, `tool_grammar.py` makes grammars of them, and `tool_probe.py` finds
the one that a template shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pyinfer.chat.notation import FUNCTION_GEMMA, GEMMA_4, NEARLY_JSON, Notation


@dataclass(frozen=True)
class ToolFormat:
    """How a model writes its tool calls.

    - `layout`: "named": each call is `start`, name, `between`, arguments, `end`. "object": `start`, a JSON object with
      name and arguments, `end`. "list": one `start` and one `end` around a list of such objects. "parameters": as
      "named", but each argument is written by itself, as `parameter` says. "python": one `start` and one `end` around
      calls as Python writes them, name(key=value, …), in a list or in lines.
    - `notation` (JSON): how arguments are written in the layout "named".
    - `separator`: the text between calls.
    - `name_key`, `key`: the keys of the name and of the arguments in a JSON object. Without a `name_key`, the object
      has one key, which is the name.
    - `parameter`: the texts before an argument's name, before its value and after its value. Texts are written as they
      are, other values as JSON; a string in JSON may contain marks, which end nothing there. `json_middle`: the text
      before a value that is JSON, where it is another one.
    - `group_start`, `group_end`: what stands before the first call and after the last.
    - `id_mark`: what stands between the name and an id, where models give one; `id_form`: that id in messages.
    - `also`: what models sometimes write in place of `start`.
    - `text_name`: the name that stands in a call's place before plain text.
    - `told`: what shows the format in a prompt where the template writes no calls and shows no example.
    """

    name: str
    start: str = ""
    layout: Literal["named", "object", "list", "parameters", "python"] = "named"
    between: str = ""
    end: str = ""
    separator: str = ""
    name_key: str = "name"
    key: str = "arguments"
    parameter: tuple[str, str, str] = ("", "", "")
    json_middle: str = ""
    notation: Notation = NEARLY_JSON
    group_start: str = ""
    group_end: str = ""
    id_mark: str = ""
    id_form: str = "{id}"
    also: str = ""
    text_name: str = ""
    told: str = ""

    @property
    def marks(self) -> list[str]:
        """All texts that mark a call or a part of it."""
        around = [self.group_start, self.start, self.also, self.between, self.id_mark, self.end, self.group_end]
        return [*around, *self.parameter, *(self.notation.quotes if self.notation.bare_keys else ())]

    @property
    def brackets(self) -> tuple[str, str]:
        """What stands around a list of calls; nothing around calls in lines."""
        return ("[", "]") if self.in_list and not (self.layout == "python" and self.separator) else ("", "")

    @property
    def numbered(self) -> bool:
        """Whether a number follows each name."""
        return self.id_form != "{id}"

    @property
    def in_list(self) -> bool:
        """Whether the calls stand between one start and one end."""
        return self.layout in ("list", "python")


DSML = "｜DSML｜"
TOOL_FORMATS = (
    ToolFormat("functionary-v3.2", ">>>", between="\n", text_name="all"),
    ToolFormat("functionary-v3.1", "<function=", between=">", end="</function>"),
    ToolFormat("mistral-args", "[TOOL_CALLS]", between="[ARGS]", id_mark="[CALL_ID]"),
    ToolFormat("mistral", "[TOOL_CALLS]", layout="list"),
    ToolFormat(
        "deepseek-v3", "<｜tool▁call▁begin｜>function<｜tool▁sep｜>", between="\n```json\n",
        end="\n```<｜tool▁call▁end｜>", separator="\n",
        group_start="<｜tool▁calls▁begin｜>", group_end="<｜tool▁calls▁end｜>",
    ),
    ToolFormat(
        "deepseek-v3.1", "<｜tool▁call▁begin｜>", between="<｜tool▁sep｜>", end="<｜tool▁call▁end｜>",
        group_start="<｜tool▁calls▁begin｜>", group_end="<｜tool▁calls▁end｜>",
    ),
    ToolFormat(
        "deepseek-v3.2", f'<{DSML}invoke name="', layout="parameters", between='">\n', end=f"</{DSML}invoke>",
        separator="\n",
        parameter=(f'<{DSML}parameter name="', '" string="true">', f"</{DSML}parameter>\n"),
        json_middle='" string="false">',
        group_start=f"<{DSML}function_calls>\n", group_end=f"\n</{DSML}function_calls>",
    ),
    ToolFormat("phi-4", "<|tool_call|>", layout="list", end="<|/tool_call|>"),
    ToolFormat("granite-3", "<|tool_call|>", layout="list", also="<tool_call>", told="<|tool_call|>"),
    ToolFormat(
        "seed-oss", "<seed:tool_call>\n<function=", layout="parameters", between=">\n",
        end="</function>\n</seed:tool_call>", separator="\n", parameter=("<parameter=", ">", "</parameter>\n"),
    ),
    ToolFormat(
        "qwen3-coder", "<tool_call>\n<function=", layout="parameters", between=">\n", end="</function>\n</tool_call>",
        separator="\n", parameter=("<parameter=", ">\n", "\n</parameter>\n"),
    ),
    ToolFormat(
        "minimax-m2", '<invoke name="', layout="parameters", between='">\n', end="</invoke>", separator="\n",
        parameter=('<parameter name="', '">', "</parameter>\n"),
        group_start="<minimax:tool_call>\n", group_end="\n</minimax:tool_call>",
    ),
    ToolFormat(
        "minicpm-5", '<function name="', layout="parameters", between='">', end="</function>",
        parameter=('<param name="', '">', "</param>"),
    ),
    ToolFormat(
        "glm-4.5", "<tool_call>", layout="parameters", between="\n", end="</tool_call>", separator="\n",
        parameter=("<arg_key>", "</arg_key>\n<arg_value>", "</arg_value>\n"),
    ),
    ToolFormat("function-gemma", "<start_function_call>call:", end="<end_function_call>", notation=FUNCTION_GEMMA),
    ToolFormat("gemma-4", "<|tool_call>call:", end="<tool_call|>", notation=GEMMA_4),
    ToolFormat(
        "kimi-k2", "<|tool_call_begin|>functions.", between="<|tool_call_argument_begin|>", end="<|tool_call_end|>",
        id_mark=":", id_form="functions.{name}:{id}",
        group_start="<|tool_calls_section_begin|>", group_end="<|tool_calls_section_end|>",
    ),
    ToolFormat(
        "command-r7b", "<|START_ACTION|>", layout="list", end="<|END_ACTION|>", name_key="tool_name", key="parameters"
    ),
    ToolFormat("command-r", "Action: ```json\n", layout="list", end="\n```", name_key="tool_name", key="parameters"),
    ToolFormat("apertus", "<|tools_prefix|>", layout="list", end="<|tools_suffix|>", name_key=""),
    ToolFormat(
        "lfm-2", "<|tool_call_start|>", layout="python", end="<|tool_call_end|>", told="<|tool_list_start|>"
    ),
    ToolFormat("olmo-3", "<function_calls>\n", layout="python", end="\n</function_calls>", separator="\n"),
    ToolFormat("nemotron", "<TOOLCALL>", layout="list", end="</TOOLCALL>"),
    ToolFormat("tool-calls", "<tool_calls>", layout="list", end="</tool_calls>"),
    ToolFormat("internlm-2", "<|action_start|><|plugin|>\n", layout="object", end="<|action_end|>", key="parameters"),
    ToolFormat("functools", "functools", layout="list"),
    ToolFormat("function-call", "<function_call>", layout="object", end="</function_call>", separator="\n"),
    ToolFormat("hermes", "<tool_call>\n", layout="object", end="\n</tool_call>", separator="\n"),
    ToolFormat("llama-3", layout="object", key="parameters", separator="; ", also="<|python_tag|>"),
    ToolFormat("json", layout="object", separator="\n"),
    ToolFormat("json-list", layout="list"),
    ToolFormat("python", layout="python"),
)  # fmt: skip
DEFAULT_FORMAT = next(form for form in TOOL_FORMATS if form.name == "json")  # of models that were taught none
