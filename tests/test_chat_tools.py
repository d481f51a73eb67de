"""Tool calls: what tools may be, calls in the formats of models, and grammars in which none is malformed."""

import json
import random
from pathlib import Path

import hypothesis.strategies as st
import pytest
from chats import NOW, PUBLISHED, TOOLS, conversations, source_of, tokenizer_of, user
from hypothesis import given, settings
from tiny_vocabularies import CONTROL

from pyinfer.chat import AnswerParser, ToolCall, prepare_chat, tool_format
from pyinfer.chat.templates import builtin_templates, choose_template, template_habits, template_variables
from pyinfer.chat.tool_grammar import tool_grammar
from pyinfer.chat.tool_parser import ToolCallParser
from pyinfer.chat.tools import TOOL_FORMATS, check_tools, chosen_tools
from pyinfer.errors import ParameterError

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
}
CONTROLS = ["[TOOL_CALLS]", "[ARGS]", "[CALL_ID]", "<|tool_call|>", "<|/tool_call|>", "<|python_tag|>"]
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


CALLS = [("get_weather", {"city": "Rome"}), ("now", {})]


@pytest.mark.parametrize("step", [1, 2, 7, 10**9])
@pytest.mark.parametrize("name", FORMATS)
def test_calls_are_read_in_every_format_however_the_text_is_cut(name, step):
    before = [] if name == "llama-3" else ["Well."]
    assert parsed(name, BOTH[name], step) == [*before, *CALLS]


# granite-3.3 tells its model how to write calls, and does not write them itself
SHOWING = [name for name in PUBLISHED if tool_format(source_of(name)) and name != "granite-3.3-2b"]


@pytest.mark.parametrize("name", SHOWING)
def test_what_a_template_shows_of_calls_is_read_back(name):
    template = source_of(name)
    messages, keys = conversations(template_habits(template).text_arguments)["a tool's result"]
    keys = keys if "tools" in template_variables(template) else {}

    prompt = prepare_chat(tokenizer_of(template), messages[:2], **keys, add_generation_prompt=False)
    shown = prompt.text.rpartition("Weather?")[2]

    assert ("get_weather", {"city": "Orléans", "days": 2}) in parsed(tool_format(template).name, shown)


def test_the_format_of_published_templates_is_found():
    found = {name: form.name for name in PUBLISHED if (form := tool_format(source_of(name)))}

    assert {found[name] for name in ("qwen2.5-7b-instruct", "qwen3-0.6b", "granite-4.0", "mimo-vl")} == {"hermes"}
    assert found["mistral-nemo"] == "mistral" and found["mistral-small-3.2"] == "mistral-args"
    assert found["functionary-v3.1"] == "functionary-v3.1" and found["functionary-v3.2"] == "functionary-v3.2"
    assert found["deepseek-v3"] == "deepseek-v3" and found["deepseek-v3.1"] == "deepseek-v3.1"
    assert found["granite-3.3-2b"] == "granite-3" and found["glm-4.6"] == "glm-4.5"
    assert found["qwen3-coder"] == found["qwen3.5-4b"] == "qwen3-coder" and found["seed-oss"] == "seed-oss"
    assert not {"phi-3-mini", "smollm2-135m", "smolvlm"} & found.keys()
    builtin = {name: choose_template(tokenizer_of(""), name) for name in builtin_templates()}
    forms = {name: tool_format(text) for name, text in builtin.items()}
    assert {name: form.name for name, form in forms.items() if form} == {
        "chatml": "hermes",
        "mistral": "mistral",
        "deepseek": "deepseek-v3",
    }


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("hermes", f"<tool_call>{WEATHER}</tool_call>", [CALLS[0]]),
        ("hermes", f"<tool_call>\n{WEATHER}", [CALLS[0]]),
        ("hermes", f"<tool_call>{WEATHER}</tool_c", [CALLS[0]]),
        ("hermes", f"<tool_call>{WEATHER}</tool_call> So.", [CALLS[0], " So."]),
        ("hermes", '<tool_call>{"name": "now", "arguments": {"a": "}</tool_call>{"}}</tool_call>',
         [("now", {"a": "}</tool_call>{"})]),
        ("hermes", '<tool_call>{"name": "now", "parameters": {}}</tool_call>', [CALLS[1]]),
        ("hermes", '<tool_call>{"name": "now", "arguments": "{}"}</tool_call>', [CALLS[1]]),
        ("llama-3", '<|python_tag|>{"name": "now", "parameters": {}}', [CALLS[1]]),
        ("llama-3", '\n {"type": "function", "function": {"name": "now", "parameters": {}}}', [CALLS[1]]),
        ("mistral", '[TOOL_CALLS] [{"name": "now", "arguments": {}, "id": "abcdefghi"}]', [CALLS[1]]),
        ("mistral-args", "[TOOL_CALLS]now[CALL_ID]abcdefghi[ARGS]{}", [CALLS[1]]),
        ("functionary-v3.2", "now\n{}", [CALLS[1]]),
        ("functionary-v3.2", "all\n>>> 1 + 1\n2", [">>> 1 + 1\n2"]),
        ("qwen3-coder", "<tool_call>\n<function=get_weather>\n<parameter=city>\n a\n\n b \n</parameter>\n"
         "<parameter=days>\n3\n</parameter>\n</function>\n</tool_call>",
         [("get_weather", {"city": " a\n\n b ", "days": 3})]),
        ("glm-4.5", "<tool_call>get_weather<arg_key>city</arg_key><arg_value>12</arg_value></tool_call>",
         [("get_weather", {"city": "12"})]),
    ],
)  # fmt: skip
def test_formats_are_read_as_models_vary_them(name, text, expected):
    for step in (1, 3, 10**9):
        assert parsed(name, text, step) == expected


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("hermes", "<tool_call>"),
        ("hermes", "<tool_call>\n{"),
        ("hermes", '<tool_call>{"name": "now", "arguments": {}</tool_call> So.'),
        ("hermes", '<tool_call>{"name": "now", "arguments": []}</tool_call>'),
        ("hermes", '<tool_call>{"name": "now"}</tool_call>'),
        ("hermes", '<tool_call>{"name": "later", "arguments": {}}</tool_call>'),
        ("hermes", "<tool_call> is how calls begin, <tool"),
        ("hermes", "<tool_call>" + "[" * 5000 + "]" * 5000),
        ("hermes", " \n"),
        ("llama-3", '{"name": "Bob", "age": 3} is JSON'),
        ("llama-3", 'Like {"name": "now", "parameters": {}}'),
        ("llama-3", "<|python_tag|>print(1)"),
        ("mistral", '[TOOL_CALLS][{"name": "now", "arguments": {}}, {"name": "now"}]'),
        ("mistral-args", "[TOOL_CALLS]now{}"),
        ("functionary-v3.1", "<function=now>()</function>"),
        ("functionary-v3.2", "Hello >>> you"),
        ("deepseek-v3", "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function"),
        ("qwen3-coder", "<tool_call>\n<function=now>\nwell</function></tool_call>"),
        ("qwen3-coder", "<tool_call>\n<function=now>\n<parameter=a>\n1"),
    ],
)
def test_what_is_no_call_is_text(name, text):
    for step in (1, 3, 10**9):
        assert parsed(name, text, step) == [text]


marks = [mark for form in TOOL_FORMATS for mark in form.marks if mark]
snippets = [*marks, "{", "}", '"', "now", WEATHER, "[", "]", " ", "\n", "x", '{"name": "now", "arguments": {}}']
snippets += ["<tool_call>\n<function=get_weather>\n<parameter=days>\n{", '\\"']


@settings(max_examples=300, deadline=None)
@given(
    name=st.sampled_from(sorted(FORMATS)),
    text=st.lists(st.sampled_from(snippets), max_size=12).map("".join),
    step=st.integers(1, 9),
)
def test_the_way_a_text_is_cut_changes_nothing_and_nothing_is_lost(name, text, step):
    whole = parsed(name, text)

    assert parsed(name, text, step) == whole
    if all(isinstance(part, str) for part in whole):
        kept = "".join(whole)
        assert kept == text or (name == "functionary-v3.2" and "all\n" in text)


def test_calls_have_the_form_of_openai():
    parser = AnswerParser(form=FORMATS["mistral"], tools=TOOLS)
    deltas = parser.push('Ok [TOOL_CALLS][{"name": "now", "arguments": {}, "id": "call12345"}, ' + WEATHER + "]")
    deltas += parser.finish()

    first, second = parser.answer().tool_calls
    assert [delta.as_dict() for delta in deltas] == [
        {"content": "Ok"},
        {
            "tool_calls": [
                {"index": 0, "id": "call12345", "type": "function", "function": {"name": "now", "arguments": "{}"}}
            ]
        },
        {"tool_calls": [{"index": 1, **second.as_dict()}]},
    ]
    assert parser.answer().as_dict() == {
        "role": "assistant",
        "content": "Ok",
        "tool_calls": [first.as_dict(), second.as_dict()],
    }
    assert len(second.id) == 9 and second.id.isalnum() and second.id != first.id


def test_an_answer_can_be_given_back_as_a_message():
    for template in ("chatml", "mistral", "deepseek", *map(source_of, ("qwen3-0.6b", "mistral-nemo", "glm-4.6"))):
        keys = {} if template == "deepseek" else {"tools": TOOLS}
        prompt = prepare_chat(tokenizer_of(""), [user("Weather?")], template, **keys)
        parser = AnswerParser(form=tool_format(prompt.template), tools=TOOLS)
        parser.push(BOTH[tool_format(prompt.template).name])
        parser.finish()

        again = prepare_chat(tokenizer_of(""), [user("Weather?"), parser.answer().as_dict()], template, **keys)

        assert "Rome" in again.text


def test_only_calls_have_no_content():
    parser = AnswerParser(form=FORMATS["hermes"], tools=TOOLS)
    parser.push(f"\n<tool_call>\n{WEATHER}\n</tool_call>\n")
    parser.finish()

    assert parser.answer().content is None and len(parser.answer().tool_calls) == 1
    assert AnswerParser().answer().content == ""


def test_tool_choice_leaves_tools():
    names = [
        [tool["function"]["name"] for tool in chosen_tools(TOOLS, choice)] for choice in ("auto", "required", "none")
    ]

    assert names == [["get_weather", "now"], ["get_weather", "now"], []]
    assert chosen_tools(TOOLS, NAMED_NOW) == [TOOLS[1]]


def test_without_a_choice_the_prompt_shows_no_tools_and_no_call_is_read():
    tokenizer = tokenizer_of("")

    none = prepare_chat(tokenizer, [user("a")], "chatml", tools=TOOLS, tool_choice="none")
    one = prepare_chat(tokenizer, [user("a")], "chatml", tools=TOOLS, tool_choice=NAMED_NOW)

    assert "get_weather" not in none.text and none.tool_format is None and none.grammar(tokenizer) is None
    assert "get_weather" in one.text
    parser = one.parser()
    assert parser.push(BOTH["hermes"]) + parser.finish() and [c.name for c in parser.answer().tool_calls] == ["now"]


def test_control_tokens_that_mark_calls_are_shown():
    template = source_of("mistral-small-3.2")
    tokenizer = tokenizer_of(template)
    prompt = prepare_chat(tokenizer, [user("a")], tools=TOOLS)
    ids = tokenizer.encode("[TOOL_CALLS]now[ARGS]{}</s>", add_special=False, parse_special=True)

    decoder = tokenizer.stream_decoder(skip_special=True, continues=True, shown=prompt.shown_tokens(tokenizer))

    assert "".join(map(decoder.push, ids)) + decoder.finish() == "[TOOL_CALLS]now[ARGS]{}"


@pytest.mark.parametrize(
    ("tools", "says"),
    [
        ({"type": "function"}, "expected a list"),
        (["now"], r"tools\[0\] is 'now'"),
        ([NOW], r"tools\[0\] is"),
        ([{"type": "retrieval", "function": NOW}], "expected {'type': 'function'"),
        ([{"type": "function", "function": {"name": "a b"}}], "name is 'a b'"),
        ([{"type": "function", "function": {"name": "x" * 65}}], "1 to 64"),
        ([{"type": "function", "function": {"name": "f", "parameters": "x"}}], "parameters is 'x'"),
        ([TOOLS[0], TOOLS[0]], "an earlier one"),
    ],
)
def test_what_is_no_tool_is_refused(tools, says):
    with pytest.raises(ParameterError, match=says):
        check_tools(tools)


@pytest.mark.parametrize(
    ("tools", "choice", "says"),
    [
        (TOOLS, "always", "tool_choice is 'always'"),
        (TOOLS, {"type": "function", "function": {"name": "later"}}, "get_weather, now"),
        (TOOLS, {"name": "now"}, "expected a function of tools"),
        (TOOLS, None, "tool_choice is None"),
        ([], "required", "there are no tools"),
    ],
)
def test_what_is_no_tool_choice_is_refused(tools, choice, says):
    with pytest.raises(ParameterError, match=says):
        chosen_tools(tools, choice)


class Vocabulary:
    """A tokenizer for llguidance: control tokens are special, all others are text."""

    bos_token_id = None

    def __init__(self, tokenizer):
        self.eos_token_id = tokenizer.eos_id
        self.tokens = [tokenizer.token_bytes(i) for i in range(tokenizer.n_vocab)]
        self.special_token_ids = [i for i in range(tokenizer.n_vocab) if tokenizer.is_special(i)]
        self.encode = tokenizer.encode

    def __call__(self, text):
        return self.encode(text.decode() if isinstance(text, bytes) else text, add_special=False)


class Matcher:
    """A grammar on a tokenizer."""

    def __init__(self, tokenizer, grammar):
        llguidance = pytest.importorskip("llguidance")
        self.tokenizer = tokenizer
        wrapper = llguidance.TokenizerWrapper(Vocabulary(tokenizer))
        self.matcher = llguidance.LLMatcher(llguidance.LLTokenizer(wrapper), grammar)
        assert not self.matcher.is_error(), self.matcher.get_error()

    def accepts(self, text):
        self.matcher.reset()
        ids = self.tokenizer.encode(text, add_special=False, parse_special=True)
        return self.matcher.try_consume_tokens(ids) == len(ids) and self.matcher.is_accepting()


def matcher(name, choice="auto", tools=TOOLS, **keys):
    tokenizer = tokenizer_of("", dict.fromkeys(CONTROLS, CONTROL))
    keys = {"opened": opened(name), **keys}
    return Matcher(tokenizer, tool_grammar(tokenizer, FORMATS[name], tools, choice, **keys))


@pytest.mark.parametrize("name", FORMATS)
def test_grammars_accept_calls_and_no_malformed_ones(name):
    auto, required = matcher(name), matcher(name, "required")
    calls = BOTH[name].removeprefix("all\n").removeprefix("Well.").lstrip("\n").removeprefix(opened(name))
    plain = "all\nHello" if opened(name) else "Hello"

    assert auto.accepts(BOTH[name]) and required.accepts(calls)
    assert auto.accepts(plain) and not required.accepts(plain)
    assert not required.accepts("") and not required.accepts(" " + calls)
    for wrong in (
        calls.replace("now", "later"),
        calls.replace("city", "town"),
        calls[:-1] if calls[-1] in "}]" else calls.removesuffix(FORMATS[name].end).removesuffix("<｜tool▁calls▁end｜>"),
    ):
        assert not required.accepts(wrong) and not auto.accepts(wrong)


@pytest.mark.parametrize("name", FORMATS)
def test_grammars_can_allow_one_call_or_one_function(name):
    calls = BOTH[name].removeprefix("all\n").removeprefix("Well.").lstrip("\n").removeprefix(opened(name))

    assert not matcher(name, "required", parallel=False).accepts(calls)
    assert not matcher(name, NAMED_NOW).accepts(calls)


def test_thoughts_may_come_before_calls():
    from pyinfer.chat.reasoning import ReasoningFormat

    think = ReasoningFormat("<think>", "</think>")
    calls = f"<tool_call>\n{WEATHER}\n</tool_call>"

    closed = matcher("hermes", "required", reasoning=think)
    assert closed.accepts(calls) and closed.accepts(f"<think>Hm, <tool_call>?</think>\n\n{calls}")
    begun = matcher("hermes", "required", reasoning=think, reasoning_opened=True)
    assert begun.accepts(f"Hm.</think>\n\n{calls}") and not begun.accepts(calls)
    auto = matcher("hermes", reasoning=think)
    assert auto.accepts("<think>Hm.</think>\n\nHello") and not auto.accepts("<think>Hm.</think><tool_call>x")


def test_the_prompt_gives_the_grammar():
    template = source_of("functionary-v3.2")
    tokenizer = tokenizer_of(template)

    prompt = prepare_chat(tokenizer, [user("a")], tools=TOOLS)
    grammar = Matcher(tokenizer, prompt.grammar(tokenizer))

    assert grammar.accepts("now\n{}") and grammar.accepts("all\nHello") and not grammar.accepts(">>>now\n{}")


def test_schemas_with_definitions_are_kept_whole():
    colour = {"enum": ["red", "green"]}
    paint = {
        "name": "paint",
        "parameters": {
            "type": "object",
            "properties": {"colour": {"$ref": "#/$defs/colour"}, "n": {"type": "integer"}},
            "required": ["colour"],
            "$defs": {"colour": colour},
        },
    }
    tools = [{"type": "function", "function": paint}, TOOLS[1]]

    assert matcher("llama-3", tools=tools).accepts('{"name": "paint", "parameters": {"colour": "red", "n": 1}}')
    assert not matcher("llama-3", tools=tools).accepts('{"name": "paint", "parameters": {"colour": "blue"}}')
    one_by_one = "<tool_call>\n<function=paint>\n<parameter=colour>\n{}\n</parameter>\n</function>\n</tool_call>"
    assert matcher("qwen3-coder", tools=tools).accepts(one_by_one.format('"red"'))
    assert not matcher("qwen3-coder", tools=tools).accepts(one_by_one.format('"blue"'))


ONE_BY_ONE = [form.name for form in TOOL_FORMATS if form.layout == "parameters"]


@pytest.mark.parametrize("control", ["", "</parameter>"])
@pytest.mark.parametrize("name", ONE_BY_ONE)
def test_texts_that_stand_by_themselves_follow_their_schemas_and_have_no_marks(name, control):
    schemas = {
        "any": ({}, ["", "a\nb\n", "</p>", "1"], []),
        "long": ({"minLength": 2, "maxLength": 3}, ["ab", "äöü", "a\n"], ["a", "abcd", ""]),
        "least": ({"minLength": 2}, ["ab", "abcdef"], ["a"]),
        "found": ({"pattern": "b[/|]c|^x"}, ["b/c", "ab|cd", "xyz"], ["bc", "yx", "b"]),
        "whole": ({"pattern": r"^(\d+\$|[$])$"}, ["12$", "$"], ["12", "a12$", "12$ ", ""]),
        "both": ({"pattern": "a", "maxLength": 2}, ["a", "ab"], ["b", "aba"]),
        "fixed": ({"const": "yes"}, ["yes"], ["no", ""]),
        "odd": ({"enum": ["1", 2]}, ["1"], ["2"]),
    }
    form = FORMATS[name]
    before, middle, after = form.parameter
    tokenizer = tokenizer_of("", {control: CONTROL} if control else {})
    for key, (schema, good, bad) in schemas.items():
        parameters = {"type": "object", "properties": {key: {"type": "string", **schema}}, "required": [key]}
        tools = [{"type": "function", "function": {"name": "set", "parameters": parameters}}]
        grammar = Matcher(tokenizer, tool_grammar(tokenizer, form, tools, "required"))
        marks = [] if control else [f"a{after.strip()}b", f"a{form.end.split()[-1]}b"]
        for value in [*good, *bad, *marks]:
            text = f"{form.start}set{form.between}{before}{key}{middle}{value}{after}{form.end}"
            assert grammar.accepts(text) == (value in good), (key, value)
            if value in good:
                assert parsed(name, text, tools=tools) == [("set", {key: value})]


ANYTHING = {"type": "object", "properties": {"value": {}, "note": {"type": "string"}}, "required": ["value"]}


@pytest.mark.parametrize("name", ONE_BY_ONE)
def test_marks_in_the_strings_of_json_end_nothing(name):
    form = FORMATS[name]
    before, middle, after = form.parameter
    end = f"{after}{form.end}".replace("\n", "")
    tools = [{"type": "function", "function": {"name": "set", "parameters": ANYTHING}}]
    grammar = matcher(name, "required", tools)
    for value in ({"a": f'"{end} So.\\'}, [{"b": [end * 2]}, end], end, f"{before}note{middle}", {}):
        text = f"{form.start}set{form.between}{before}value{middle}{json.dumps(value)}{after}"
        text += f'{before}note{middle}["{after}{form.end}'
        for step in (1, 3, 10**9):
            assert parsed(name, f"{text} So.", step, tools) == [("set", {"value": value, "note": '["'}), " So."]
        assert grammar.accepts(text)


@pytest.mark.parametrize("value", ['{"a', '["a", it\'s "so', "{'a': 'it\"s'}", '"Rome', '{"a": 1', '{"a\\'])
@pytest.mark.parametrize("name", ONE_BY_ONE)
def test_what_begins_as_json_and_is_none_is_a_text(name, value):
    form = FORMATS[name]
    before, middle, after = form.parameter
    text = f"{form.start}get_weather{form.between}{before}days{middle}{value}{after}{form.end}"
    for step in (1, 3, 10**9):
        assert parsed(name, f"{text}\nSo.", step) == [("get_weather", {"days": value}), "\nSo."]


def test_a_call_comes_with_its_end_though_json_is_broken():
    parser = ToolCallParser(FORMATS["qwen3-coder"], TOOLS)
    text = '<tool_call>\n<function=get_weather>\n<parameter=days>\n{"a: 1\n</parameter>\n</function>\n</tool_call>'
    assert [call.arguments for call in parser.push(f"{text} So.")[:1]] == ['{"days": "{\\"a: 1"}']


def test_a_pattern_that_is_none_is_refused():
    parameters = {"type": "object", "properties": {"a": {"type": "string", "pattern": 5}}}
    with pytest.raises(ParameterError, match="pattern is 5"):
        matcher("qwen3-coder", tools=[{"type": "function", "function": {"name": "f", "parameters": parameters}}])


@pytest.mark.parametrize("name", FORMATS)
def test_whatever_a_grammar_allows_is_read_as_calls(name):
    properties = {"n": {"type": "integer", "maximum": 99}, "kind": {"enum": ["a", "b"], "type": "string"}}
    parameters = {"type": "object", "properties": {**properties, "on": {"type": "boolean"}}, "required": ["n"]}
    tools = [{"type": "function", "function": {"name": "set", "parameters": parameters}}, TOOLS[1]]
    grammar = matcher(name, "required", tools)
    choose = random.Random(name)
    tokenizer, found = grammar.tokenizer, 0
    for _ in range(6):
        grammar.matcher.reset()
        ids = []
        while len(ids) < 400 and not (grammar.matcher.is_accepting() and choose.random() < 0.5):
            mask = grammar.matcher.compute_bitmask()
            allowed = [i for i in range(tokenizer.n_vocab) if mask[i // 8] >> i % 8 & 1 and i != tokenizer.eos_id]
            if not allowed:
                break
            ids.append(choose.choice(allowed))
            assert grammar.matcher.consume_token(ids[-1])
        if not grammar.matcher.is_accepting():
            continue
        found += 1
        parts = parsed(name, tokenizer.decode(ids), tools=tools)
        assert parts and all(isinstance(part, tuple) for part in parts)
        assert all(isinstance(arguments["n"], int) for called, arguments in parts if called == "set")
    assert found


def test_the_formats_are_documented():
    text = (Path(__file__).parent.parent / "docs" / "chat.md").read_text("utf-8")
    assert all(f"`{name}`" in text for name in (*FORMATS, *builtin_templates()))
