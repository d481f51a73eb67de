"""Calls of tools as models write them, for tests of what reads them and of what constrains them."""

import json

from chats import TOOLS

from pyinfer.chat import ToolCall
from pyinfer.chat.tool_parser import ToolCallParser
from pyinfer.chat.tools import TOOL_FORMATS

FORMATS = {form.name: form for form in TOOL_FORMATS}
NAMED_NOW = {"type": "function", "function": {"name": "now"}}
WEATHER = '{"name": "get_weather", "arguments": {"city": "Rome"}}'
CITY = '{"city": "Rome"}'

# A text in each format with both calls, as its models write it, after a text.
BOTH = {
    "hermes": f"Well.\n<tool_call>\n{WEATHER}\n</tool_call>\n"
    '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>',
    "llama-3": f'{WEATHER.replace("arguments", "parameters")}; {{"name": "now", "parameters": {{}}}}',
    "mistral": f'Well.[TOOL_CALLS][{WEATHER}, {{"name": "now", "arguments": {{}}}}]',
    "mistral-args": f"Well.[TOOL_CALLS]get_weather[ARGS]{CITY}[TOOL_CALLS]now[ARGS]{{}}",
    "functionary-v3.1": f"Well.<function=get_weather>{CITY}</function><function=now>{{}}</function>",
    "functionary-v3.2": f"all\nWell.>>>get_weather\n{CITY}>>>now\n{{}}",
    "deepseek-v3": "Well.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n"
    f"{CITY}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>now\n```json\n{{}}\n```<｜tool▁call▁end｜>"
    "<｜tool▁calls▁end｜>",
    "deepseek-v3.1": "Well.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>"
    f"get_weather<｜tool▁sep｜>{CITY}<｜tool▁call▁end｜>"
    "<｜tool▁call▁begin｜>now<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
    "phi-4": f'Well.<|tool_call|>[{WEATHER}, {{"name": "now", "arguments": {{}}}}]<|/tool_call|>',
    "granite-3": f'Well.<|tool_call|>[{WEATHER}, {{"name": "now", "arguments": {{}}}}]',
    "qwen3-coder": "Well.\n<tool_call>\n<function=get_weather>\n<parameter=city>\nRome\n</parameter>\n</function>\n"
    "</tool_call>\n<tool_call>\n<function=now>\n</function>\n</tool_call>",
    "seed-oss": "Well.<seed:tool_call>\n<function=get_weather>\n<parameter=city>Rome</parameter>\n</function>\n"
    "</seed:tool_call>\n<seed:tool_call>\n<function=now>\n</function>\n</seed:tool_call>",
    "glm-4.5": "Well.\n<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Rome</arg_value>\n</tool_call>\n"
    "<tool_call>now\n</tool_call>",
    "deepseek-v3.2": 'Well.<｜DSML｜function_calls>\n<｜DSML｜invoke name="get_weather">\n'
    '<｜DSML｜parameter name="city" string="true">Rome</｜DSML｜parameter>\n</｜DSML｜invoke>\n'
    '<｜DSML｜invoke name="now">\n</｜DSML｜invoke>\n</｜DSML｜function_calls>',
    "minimax-m2": 'Well.<minimax:tool_call>\n<invoke name="get_weather">\n<parameter name="city">Rome</parameter>\n'
    '</invoke>\n<invoke name="now">\n</invoke>\n</minimax:tool_call>',
    "minicpm-5": 'Well.<function name="get_weather"><param name="city">Rome</param></function>'
    '<function name="now"></function>',
    "function-gemma": "Well.<start_function_call>call:get_weather{city:<escape>Rome<escape>}<end_function_call>"
    "<start_function_call>call:now{}<end_function_call>",
    "gemma-4": 'Well.<|tool_call>call:get_weather{city:<|"|>Rome<|"|>}<tool_call|><|tool_call>call:now{}<tool_call|>',
    "kimi-k2": "Well.<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0"
    f"<|tool_call_argument_begin|>{CITY}<|tool_call_end|><|tool_call_begin|>functions.now:1"
    "<|tool_call_argument_begin|>{}<|tool_call_end|><|tool_calls_section_end|>",
    "command-r7b": f'Well.<|START_ACTION|>[{{"tool_name": "get_weather", "parameters": {CITY}}}, '
    '{"tool_name": "now", "parameters": {}}]<|END_ACTION|>',
    "command-r": f'Well.Action: ```json\n[{{"tool_name": "get_weather", "parameters": {CITY}}}, '
    '{"tool_name": "now", "parameters": {}}]\n```',
    "apertus": f'Well.<|tools_prefix|>[{{"get_weather": {CITY}}}, {{"now": {{}}}}]<|tools_suffix|>',
    "lfm-2": 'Well.<|tool_call_start|>[get_weather(city="Rome"), now()]<|tool_call_end|>',
    "olmo-3": 'Well.<function_calls>\nget_weather(city="Rome")\nnow()\n</function_calls>',
    "nemotron": f'Well.<TOOLCALL>[{WEATHER}, {{"name": "now", "arguments": {{}}}}]</TOOLCALL>',
    "tool-calls": f'Well.<tool_calls>[{WEATHER}, {{"name": "now", "arguments": {{}}}}]</tool_calls>',
    "internlm-2": f"Well.<|action_start|><|plugin|>\n{WEATHER.replace('arguments', 'parameters')}<|action_end|>"
    '<|action_start|><|plugin|>\n{"name": "now", "parameters": {}}<|action_end|>',
    "functools": f'Well.functools[{WEATHER}, {{"name": "now", "arguments": {{}}}}]',
    "function-call": f"Well.<function_call>{WEATHER}</function_call>\n"
    '<function_call>{"name": "now", "arguments": {}}</function_call>',
    "json": f'{WEATHER}\n{{"name": "now", "arguments": {{}}}}',
    "json-list": f'[{WEATHER}, {{"name": "now", "arguments": {{}}}}]',
    "python": '[get_weather(city="Rome"), now()]',
}
UNMARKED = [form.name for form in TOOL_FORMATS if not form.start]  # an answer begins with their calls
ONE_BY_ONE = [form.name for form in TOOL_FORMATS if form.layout == "parameters"]
CONTROLS = ["[TOOL_CALLS]", "[ARGS]", "[CALL_ID]", "<|tool_call|>", "<|/tool_call|>", "<|python_tag|>"]
CONTROLS += ["<escape>", "<start_function_call>", "<|tool_call_begin|>", "<|START_ACTION|>", "<|tool_call_start|>"]
CONTROLS += [f"<｜tool▁{part}｜>" for part in ("calls▁begin", "calls▁end", "call▁begin", "call▁end", "sep")]


def opened(name):
    return ">>>" if name == "functionary-v3.2" else ""


def parsed(name, text, step=10**9, tools=TOOLS):
    """Texts and (name, arguments) in order, of a text that comes in parts."""
    parser = ToolCallParser(FORMATS[name], tools, opened(name))
    parts = []
    for start in range(0, len(text), step):
        parts += parser.push(text[start : start + step])
    joined = []
    for part in parts + parser.finish():
        if isinstance(part, ToolCall):
            joined.append((part.name, json.loads(part.arguments)))
        elif joined and isinstance(joined[-1], str):
            joined[-1] += part
        else:
            joined.append(part)
    return joined
