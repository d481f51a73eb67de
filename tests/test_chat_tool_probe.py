"""The format of calls is found by what a template renders."""

import json

import pytest
from chats import source_of
from tool_calls import FORMATS

from pyinfer.chat import tool_format
from pyinfer.chat.tool_parser import ToolCallParser
from pyinfer.chat.tool_writer import written_calls
from pyinfer.chat.tools import check_tools

CALLS = [("get_weather", {"city": "Rome", "days": 2, "when": {"hours": [1, 2], "note": "soon"}}), ("now", {})]
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}
TOOLS = check_tools(
    [{"type": "function", "function": {"name": name, "parameters": PARAMETERS}} for name in ("get_weather", "now")]
)
PROSE = "Write <tool_call>, [TOOL_CALLS] and <function=x> for a call; <tool_call>{}</tool_call>."


def template(call, example=""):
    """A template that writes a call so, and shows an example in its list of tools."""
    return (
        "{# <tool_call> #}{% if tools %}" + example + "{% for t in tools %}{{ t | tojson }}{% endfor %}{% endif %}"
        "{% for m in messages %}<|{{ m.role }}|>{{ m.content or '' }}"
        "{% for c in m.tool_calls or [] %}" + call + "{% endfor %}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )


OBJECT = "{{ {'name': c.function.name, 'arguments': c.function.arguments} | tojson }}"
NAME, ARGUMENTS = "{{ c.function.name }}", "{{ c.function.arguments | tojson }}"
EACH = "{% for k, v in c.function.arguments.items() %}BEFORE{{ k }}MIDDLE{{ v }}AFTER{% endfor %}"


def each(before, middle, after):
    return EACH.replace("BEFORE", before).replace("MIDDLE", middle).replace("AFTER", after)


@pytest.mark.parametrize("prose", ["", PROSE])
@pytest.mark.parametrize(
    ("call", "name"),
    [
        (f"<tool_call>\n{OBJECT}\n</tool_call>", "hermes"),
        (f"<tool_calls>[{OBJECT}]</tool_calls>", "tool-calls"),
        (f"<TOOLCALL>[{OBJECT}]</TOOLCALL>", "nemotron"),
        (f"[TOOL_CALLS][{OBJECT}]", "mistral"),
        (f"[TOOL_CALLS]{NAME}[ARGS]{ARGUMENTS}", "mistral-args"),
        (f"<function={NAME}>{ARGUMENTS}</function>", "functionary-v3.1"),
        ('<function name="' + NAME + '">' + each('<param name="', '">', "</param>") + "</function>", "minicpm-5"),
        (f"<tool_call>\n<function={NAME}>\n" + each("<parameter=", ">\n", "\n</parameter>\n")
         + "</function>\n</tool_call>", "qwen3-coder"),
        (f"<start_function_call>call:{NAME}{{{{ '{{' }}}}" + each("", ":<escape>", "<escape>")
         + "{{ '}' }}<end_function_call>", "function-gemma"),
        (f"<|tool_call_start|>[{NAME}(" + each("", "=\"", "\"") + ")]<|tool_call_end|>", "lfm-2"),
        ("<|tools_prefix|>[{{ {c.function.name: c.function.arguments} | tojson }}]<|tools_suffix|>", "apertus"),
        (f"<|action_start|><|plugin|>\n{OBJECT}<|action_end|>", "internlm-2"),
        (f"<made-up>{OBJECT}</made-up>", "as-shown"),
        (f"[CALLS][{OBJECT}][/CALLS]", "as-shown"),
    ],
)  # fmt: skip
def test_a_call_shows_its_format_whatever_the_prose_says(call, name, prose):
    form = tool_format(template(call, prose))
    assert form.name == name
    text = call.replace(OBJECT, '{"name": "now", "arguments": {}}')
    if name == "as-shown":
        parser = ToolCallParser(form, TOOLS)
        parts = [*parser.push(f"Well.{text}So."), *parser.finish()]
        assert parts[0] == "Well." and parts[1].name == "now" and parts[2] == "So."


@pytest.mark.parametrize(
    ("example", "name"),
    [
        ('{"name": "now"} <function name="n"><param name="p">v</param></function>', "minicpm-5"),
        ("in <TOOLCALL>[{call}, …]</TOOLCALL>, never <tool_call>", "nemotron"),
        ('so: <tool_call>\n{"name": …, "arguments": …}\n</tool_call>', "hermes"),
        ("<tool_call> and </tool_call>", None),
    ],
)
def test_an_example_shows_the_format_where_calls_do_not(example, name):
    shown = "{% raw %}" + example + "{% endraw %}"
    for call in ("", f"BEFORE{OBJECT}AFTER"):
        form = tool_format(template(call, shown))
        assert (form and form.name) == name


def test_a_mark_that_the_source_has_and_the_prompt_has_not_shows_nothing():
    assert tool_format("{# <tool_call>{} #}{{ '<tool_call>{}' if never else '' }}" + template("")) is None
    assert tool_format("{{ nothing.at.all }}") is None
    assert tool_format(source_of("granite-3.3-2b")).name == "granite-3"  # it tells its model in words


@pytest.mark.parametrize("name", FORMATS)
def test_calls_that_are_written_are_read_back(name):
    form = FORMATS[name]
    text = written_calls(form, CALLS)
    parser = ToolCallParser(form, TOOLS)
    parts = [*parser.push(text), *parser.finish()]
    assert [(part.name, json.loads(part.arguments)) for part in parts] == CALLS
