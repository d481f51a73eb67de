"""Tool calls: what tools may be, and calls in the formats of models."""

import json
import time
from pathlib import Path

import hypothesis.strategies as st
import pytest
from chats import NOW, PUBLISHED, TOOLS, conversations, source_of, tokenizer_of, user
from hypothesis import given, settings
from tool_calls import BOTH, CITY, FORMATS, NAMED_NOW, ONE_BY_ONE, UNMARKED, WEATHER, parsed

from pyinfer.chat import AnswerParser, prepare_chat, tool_format
from pyinfer.chat.templates import builtin_templates, choose_template, template_quirks, template_variables
from pyinfer.chat.tool_parser import ToolCallParser
from pyinfer.chat.tool_writer import written_calls
from pyinfer.chat.tools import TOOL_FORMATS, check_tools, chosen_tools
from pyinfer.errors import ParameterError

CALLS = [("get_weather", {"city": "Rome"}), ("now", {})]


@pytest.mark.parametrize("step", [1, 2, 7, 10**9])
@pytest.mark.parametrize("name", FORMATS)
def test_calls_are_read_in_every_format_however_the_text_is_cut(name, step):
    before = [] if name in UNMARKED else ["Well."]
    assert parsed(name, BOTH[name], step) == [*before, *CALLS]


# granite-3.3 tells its model how to write calls, and does not write them itself
SHOWING = [name for name in PUBLISHED if tool_format(source_of(name)) and name != "granite-3.3-2b"]


@pytest.mark.parametrize("name", SHOWING)
def test_what_a_template_shows_of_calls_is_read_back(name):
    template = source_of(name)
    messages, keys = conversations(template_quirks(template).text_arguments)["a tool's result"]
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


NOTED = [*TOOLS, {"type": "function", "function": {"name": "note", "parameters": {"properties": {"text": {}}}}}]
NOTE = ("note", {"text": "if x:\n\tgo()"})


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("hermes", '<tool_call>{"name": "now"}</tool_call>', [CALLS[1]]),
        ("hermes", '<tool_call>{"name": "now", "arguments": null}</tool_call>', [CALLS[1]]),
        ("hermes", '<tool_call>{"name": "now", "arguments": ""}</tool_call>', [CALLS[1]]),
        ("hermes", '<tool_call>{"name": "now", "arguments": " null "}</tool_call>', [CALLS[1]]),
        ("hermes", '<tool_call>{"id": "call12345", "type": "function", "function": {"name": "now"}}</tool_call>',
         [CALLS[1]]),
        ("hermes", '<tool_call>{"name": "note", "arguments": {"text": "if x:\n\tgo()"}}</tool_call>', [NOTE]),
        ("hermes", '<tool_call>{"name": "note", "arguments": "{\\"text\\": \\"if x:\\\\n\\\\tgo()\\"}"}</tool_call>',
         [NOTE]),
        ("hermes", '<tool_call>{"name": "now", "arguments": {},}</tool_call>', [CALLS[1]]),
        ("hermes", '<tool_call>{"name": "note", "arguments": {"text": [1, 2, ], }}</tool_call>',
         [("note", {"text": [1, 2]})]),
        ("hermes", "<tool_call>{'name': 'note', 'arguments': {'text': 'it\\'s {\"'}}</tool_call>",
         [("note", {"text": "it's {\""})]),
        ("hermes", "<tool_call>{'name': 'note', 'arguments': {'text': [True, None]}}</tool_call>",
         [("note", {"text": [True, None]})]),
        ("hermes", f"<tool_call>\n```json\n{WEATHER}\n```\n</tool_call> So.", [CALLS[0], " So."]),
        ("hermes", f'<tool_call>\n{WEATHER}\n{{"name": "now"}}\n</tool_call> So.', [*CALLS, " So."]),
        ("hermes", f'<tool_call>\n[{WEATHER}, {{"name": "now"}}]\n</tool_call> So.', [*CALLS, " So."]),
        ("hermes", f'<tool_call>\n{WEATHER}\n{{"name": "later"}} So.', [CALLS[0], '\n{"name": "later"} So.']),
        ("llama-3", '{"name": "now"}', [CALLS[1]]),
        ("llama-3", '{"name": "note", "parameters": {"text": "if x:\n\tgo()"}}', [NOTE]),
        ("mistral", '[TOOL_CALLS][{"name": "now"}]', [CALLS[1]]),
        ("mistral-args", "[TOOL_CALLS]now[ARGS]", [CALLS[1]]),
        ("mistral-args", "[TOOL_CALLS]now[ARGS]null", [CALLS[1]]),
        ("mistral-args", f"[TOOL_CALLS]now[ARGS][TOOL_CALLS]get_weather[ARGS]{CITY}", [CALLS[1], CALLS[0]]),
        ("functionary-v3.1", "<function=now></function> So.", [CALLS[1], " So."]),
        ("deepseek-v3.1", "<｜tool▁call▁begin｜>now<｜tool▁sep｜><｜tool▁call▁end｜>", [CALLS[1]]),
        ("functionary-v3.2", "now\n", [CALLS[1]]),
        ("minicpm-5", '<function name="note"><param name="text"><![CDATA[</param> & <b>]]></param></function> So.',
         [("note", {"text": "</param> & <b>"}), " So."]),
        ("function-gemma", "<start_function_call>call:note{text:[{a:<escape>}\"<escape>,b:-1.5},true]}"
         "<end_function_call>", [("note", {"text": [{"a": '}"', "b": -1.5}, True]})]),
        ("function-gemma", "<start_function_call>call:now<end_function_call>", [CALLS[1]]),
        ("lfm-2", "<|tool_call_start|>[note(text={'a': \"it's\", 'b': (1, None)}), now()]<|tool_call_end|> So.",
         [("note", {"text": {"a": "it's", "b": [1, None]}}), CALLS[1], " So."]),
        ("olmo-3", '<function_calls>\nnote(text="""if x:\n\tgo()""")\nnow()\n</function_calls> So.',
         [NOTE, CALLS[1], " So."]),
        ("python", 'now()', ["now()"]),
        ("python", '[now(1)]', ["[now(1)]"]),
        ("deepseek-v3.2", '<｜DSML｜function_calls>\n<｜DSML｜invoke name="note">\n'
         '<｜DSML｜parameter name="text" string="false">[1]</｜DSML｜parameter>\n'
         "</｜DSML｜invoke>\n</｜DSML｜function_calls>",
         [("note", {"text": [1]})]),
    ],
)  # fmt: skip
def test_what_a_reader_takes_for_a_call_is_one(name, text, expected):
    for step in (1, 3, 10**9):
        assert parsed(name, text, step, NOTED) == expected


@pytest.mark.parametrize(
    ("schema", "value", "expected"),
    [
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "12", "12"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "null", None),
        ({"type": ["integer", "null"]}, "12", 12),
        ({"$ref": "#/$defs/word"}, "12", "12"),
        ({"type": "boolean"}, "True", True),
        ({"type": "object"}, "{'a': None}", {"a": None}),
        ({}, "12", 12),
        ({}, "twelve", "twelve"),
    ],
)
def test_arguments_without_quotes_have_the_type_that_the_schema_says(schema, value, expected):
    parameters = {"$ref": "#/$defs/all", "$defs": {"word": {"type": "string"}, "all": {"properties": {"a": schema}}}}
    tools = [{"type": "function", "function": {"name": "set", "parameters": parameters}}]
    text = f"<tool_call>\n<function=set>\n<parameter=a>\n{value}\n</parameter>\n</function>\n</tool_call>"
    assert parsed("qwen3-coder", text, tools=tools) == [("set", {"a": expected})]


@pytest.mark.parametrize("name", ["mcp__server__" + "a" * 60, "查询天气", "prüfe_größe", "github/search:v2", "x" * 256])
def test_unusual_names_give_a_warning_and_are_read_in_every_format(name):
    with pytest.warns(UserWarning, match="models were trained on"):
        tools = check_tools([{"type": "function", "function": {"name": name, "parameters": None}}])
    for form in TOOL_FORMATS:
        text = written_calls(form, [(name, {})])
        if form.layout != "python" or name.isidentifier():
            assert parsed(form.name, text, tools=tools) == [(name, {})], form.name


@pytest.mark.parametrize("name", ["hermes", "lfm-2", "function-gemma"])
def test_a_string_full_of_escapes_takes_a_time_that_is_linear_in_its_length(name):
    seconds = []
    for n in (2000, 16000):
        text, fastest = BOTH[name].replace("Rome", "\\n" * n), float("inf")
        for _ in range(3):
            started = time.thread_time()
            parts = parsed(name, text, 8)
            fastest = min(fastest, time.thread_time() - started)
        assert isinstance(parts[1], tuple)
        seconds.append(fastest)
    assert seconds[1] < 20 * seconds[0]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("hermes", "<tool_call>"),
        ("hermes", "<tool_call>\n{"),
        ("hermes", '<tool_call>{"name": "now", "arguments": {}</tool_call> So.'),
        ("hermes", '<tool_call>{"name": "now", "arguments": []}</tool_call>'),
        ("hermes", '<tool_call>{"name": "now", "zone": "UTC"}</tool_call>'),
        ("hermes", '<tool_call>{"name": "now", "arguments": "later"}</tool_call>'),
        ("hermes", '<tool_call>{"name": "now", "arguments": {"a": b}}</tool_call>'),
        ("hermes", '<tool_call>{"name": "later", "arguments": {}}</tool_call>'),
        ("hermes", "<tool_call> is how calls begin, <tool"),
        ("hermes", "<tool_call>" + "[" * 5000 + "]" * 5000),
        ("hermes", " \n"),
        ("llama-3", '{"name": "Bob", "age": 3} is JSON'),
        ("llama-3", 'Like {"name": "now", "parameters": {}}'),
        ("llama-3", "<|python_tag|>print(1)"),
        ("llama-3", '{"name": "now", "zone": "UTC"}'),
        ("llama-3", '{"name": "later"}'),
        ("mistral", '[TOOL_CALLS][{"name": "now", "arguments": {}}, {"name": "later"}]'),
        ("mistral-args", "[TOOL_CALLS]now{}"),
        ("mistral-args", "[TOOL_CALLS]now[ARGS]nothing"),
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

    decoder = tokenizer.stream_decoder(
        skip_special=True, continues=True, visible_tokens=prompt.visible_tokens(tokenizer)
    )

    assert "".join(map(decoder.push, ids)) + decoder.finish() == "[TOOL_CALLS]now[ARGS]{}"


@pytest.mark.parametrize(
    ("tools", "says"),
    [
        ({"type": "function"}, "expected a list"),
        (["now"], r"tools\[0\] is 'now'"),
        ([NOW], r"tools\[0\] is"),
        ([{"type": "retrieval", "function": NOW}], "expected {'type': 'function'"),
        ([{"type": "function", "function": {"name": "a b"}}], "name is 'a b'"),
        ([{"type": "function", "function": {"name": "x" * 257}}], "1 to 256"),
        ([{"type": "function", "function": {"name": ""}}], "1 to 256"),
        ([{"type": "function", "function": {"name": "a</tool_call>"}}], "1 to 256"),
        ([{"type": "function", "function": {"name": "a\u0000"}}], "1 to 256"),
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


def test_the_formats_are_documented():
    text = (Path(__file__).parent.parent / "docs" / "chat.md").read_text("utf-8")
    assert all(f"`{name}`" in text for name in (*FORMATS, *builtin_templates()))


ANYTHING = {"type": "object", "properties": {"value": {}, "note": {"type": "string"}}}


def long_call(name, kind, n):
    """A call whose argument has n times 8 characters."""
    form = FORMATS[name]
    if form.layout != "parameters":
        return BOTH[name].replace("Rome", "R" * 8 * n)
    before, middle, after = form.parameter
    ending = f"{after}{form.end}".replace("\n", "")
    key, value = ("value", json.dumps([ending] * (8 * n // len(ending)))) if kind == "JSON" else ("note", "R" * 8 * n)
    return f"{form.start}set{form.between}{before}{key}{middle}{value}{after}{form.end}"


@pytest.mark.parametrize("kind", ["text", "JSON"])
@pytest.mark.parametrize("name", [*ONE_BY_ONE, "hermes", "mistral-args", "lfm-2", "olmo-3", "gemma-4"])
def test_a_long_argument_takes_a_time_that_is_linear_in_its_length(name, kind):
    tools = [*TOOLS, {"type": "function", "function": {"name": "set", "parameters": ANYTHING}}]
    seconds = []
    for n in (1000, 8000):
        text, fastest = long_call(name, kind, n), float("inf")
        for _ in range(3):
            started = time.thread_time()
            parts = parsed(name, text, 8, tools)
            fastest = min(fastest, time.thread_time() - started)
        assert isinstance(parts[-1] if isinstance(parts[0], str) else parts[0], tuple)
        seconds.append(fastest)
    assert seconds[1] < 20 * seconds[0]  # 8 times as long; where all is read again with each part, it is 64 times
