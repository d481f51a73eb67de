"""Grammars in which no tool call is malformed: what they accept, and that all of it is read as calls."""

import json
import random

import pytest
from chats import TOOLS, source_of, tokenizer_of, user
from tiny_vocabularies import CONTROL
from tool_calls import BOTH, CONTROLS, FORMATS, NAMED_NOW, ONE_BY_ONE, WEATHER, opened, parsed

from pyinfer.chat import prepare_chat
from pyinfer.chat.tool_grammar import tool_grammar
from pyinfer.chat.tool_writer import written_calls
from pyinfer.errors import ParameterError


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
        calls[:-1]
        if calls[-1] in "}]"
        else calls.removesuffix(FORMATS[name].group_end).removesuffix(FORMATS[name].end),
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
    assert matcher("qwen3-coder", tools=tools).accepts(one_by_one.format("red"))
    assert not matcher("qwen3-coder", tools=tools).accepts(one_by_one.format('"blue"'))


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
            text = f"{form.group_start}{text}{form.group_end}"
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
        text = f"{form.group_start}{form.start}set{form.between}{before}value{form.json_middle or middle}"
        text += f'{json.dumps(value, ensure_ascii=False)}{after}{before}note{middle}["{after}{form.end}{form.group_end}'
        for step in (1, 3, 10**9):
            assert parsed(name, f"{text} So.", step, tools) == [("set", {"value": value, "note": '["'}), " So."]
        assert grammar.accepts(text)


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


NESTED = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "enum": ["Rome", "Oslo"]},
        "days": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "stops": {"type": "array", "items": {"$ref": "#/$defs/stop"}},
        "more": {},
    },
    "required": ["city"],
    "$defs": {"stop": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}},
}
GOOD = [
    {"city": "Rome"},
    {"city": "Oslo", "days": 2, "stops": [{"name": "a, b"}, {"name": ""}]},
    {"city": "Rome", "days": None, "more": {"x": [1, "y"]}},
    {"city": "Rome", "stops": []},
]
BAD = [
    {"city": "Bonn"},
    {"days": 2},
    {"city": "Rome", "days": "two"},
    {"city": "Rome", "stops": [{}]},
    {"town": "Rome"},
]


@pytest.mark.parametrize("name", [form.name for form in FORMATS.values() if form.layout != "parameters"])
def test_arguments_in_arguments_follow_their_schemas_in_every_notation(name):
    tools = [{"type": "function", "function": {"name": "travel", "parameters": NESTED}}]
    grammar = matcher(name, "required", tools)
    for arguments in (*GOOD, *BAD):
        text = written_calls(FORMATS[name], [("travel", arguments)]).replace("None", "null").removeprefix(opened(name))
        if FORMATS[name].layout == "python":
            text = text.replace("'", '"')
        assert grammar.accepts(text) == (arguments in GOOD), text
        if arguments in GOOD:
            assert parsed(name, text, tools=tools) == [("travel", arguments)]


@pytest.mark.parametrize("name", ["hermes", "qwen3-coder", "function-gemma", "lfm-2", "json"])
@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#/$defs/a", "$defs": {"a": {"type": "object", "properties": {"n": {"type": "integer"}}}}},
        {"anyOf": [{"properties": {"n": {"type": "integer"}}, "required": ["n"]}, {"$ref": "#/$defs/b"}],
         "$defs": {"b": {"type": "object", "properties": {"m": {"type": "integer"}}, "required": ["m"]}}},
        {"oneOf": [{"type": "null"}, {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}]},
        {"allOf": [{"properties": {"n": {"type": "integer"}}}, {"required": ["n"]}], "type": "object"},
    ],
)  # fmt: skip
def test_a_schema_may_say_at_its_root_what_it_is_elsewhere(name, schema):
    tools = [{"type": "function", "function": {"name": "set", "parameters": schema}}]
    grammar = matcher(name, "required", tools)
    for arguments, good in (
        ({"n": 1}, True),
        ({"m": 1}, "$defs/b" in str(schema)),
        ({"k": 1}, False),
        ({"n": []}, False),
    ):
        assert grammar.accepts(written_calls(FORMATS[name], [("set", arguments)])) == good
