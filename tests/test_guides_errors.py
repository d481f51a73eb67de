"""Guides that are no description, that nothing can meet, or that are made to take for ever: errors that say why."""

import pytest
from guided_texts import tiny_tokenizer, write

from pyinfer.errors import ParameterError
from pyinfer.guides.guide import Guide
from pyinfer.tokenizer import tokenizer_from_metadata


@pytest.fixture(scope="module")
def tiny():
    return tiny_tokenizer()


NOT_DESCRIPTIONS = {
    "no JSON": (lambda: Guide.json("{"), "JSON schema is no JSON"),
    "nesting": (lambda: Guide.json('{"items": ' * 50_000 + "{}" + "}" * 50_000), "nested too deeply"),
    "a number": (lambda: Guide.json("3"), "expected an object, or true or false"),
    "None": (lambda: Guide.json(None), "expected an object, or true or false"),
    "not a number": (lambda: Guide.json({"minimum": float("nan")}), "can't be written as JSON"),
    "an object": (lambda: Guide.json({"enum": [object()]}), "can't be written as JSON"),
    "no choices": (lambda: Guide.choice([]), r"choices is \[\]; expected at least one text"),
    "an empty choice": (lambda: Guide.choice(["a", ""]), "none empty"),
    "a number as choice": (lambda: Guide.choice(["a", 1]), "none empty"),
    "a text as choices": (lambda: Guide.choice("abc"), "choices is a str; expected a list of texts"),
    "bytes": (lambda: Guide.regex(b"a"), "the regex guide is a bytes; expected a str"),
    "a kind": (lambda: Guide("xml", "a"), "kind is 'xml'; expected one of json, regex"),
    "too long": (lambda: Guide.regex("a" * 2**20 + "a"), "1048577 characters; at most 1048576"),
    "no rules": (lambda: Guide.gbnf(""), "no rule 'root'"),
}


@pytest.mark.parametrize("name", NOT_DESCRIPTIONS)
def test_what_is_no_description_is_refused_at_once(name):
    make, says = NOT_DESCRIPTIONS[name]

    with pytest.raises(ParameterError, match=says):
        make()


SCHEMAS_WITHOUT_VALUES = {
    "false": (False, "nothing meets it"),
    "no values": ({"enum": []}, "enum: is empty"),
    "no types": ({"type": []}, "type: is empty"),
    "two types": ({"allOf": [{"type": "string"}, {"type": "number"}]}, "#/allOf: no value meets all parts"),
    "too few items": ({"type": "array", "minItems": 3, "maxItems": 2}, r"minItems \(3\) is greater"),
    "too short": ({"type": "string", "minLength": 5, "maxLength": 2}, r"minLength \(5\) is greater"),
    "too small": ({"type": "integer", "minimum": 5, "maximum": 1}, r"minimum \(5\) is greater"),
    "no multiple": ({"type": "integer", "multipleOf": 7, "minimum": 1, "maximum": 6}, "multiple"),
    "pattern": ({"type": "string", "pattern": "^a$", "minLength": 3}, "no string meets"),
    "property": ({"type": "object", "properties": {"a": False}, "required": ["a"]}, "'a' is required"),
    "no room": ({"type": "object", "required": ["a"], "additionalProperties": False}, "'a' is required"),
    "itself": ({"$ref": "#"}, "can't be met"),
    "missing": ({"$ref": "#/$defs/a"}, "is not there"),
    "type": ({"type": "text"}, "#/type of the JSON schema is 'text'"),
}


@pytest.mark.parametrize("name", SCHEMAS_WITHOUT_VALUES)
def test_schemas_that_nothing_meets_are_refused_at_once(name):
    schema, says = SCHEMAS_WITHOUT_VALUES[name]

    with pytest.raises(ParameterError, match=says) as error:
        Guide.json(schema)

    assert "\n" not in str(error.value) and len(str(error.value)) < 500


IMPOSSIBLE = {
    "regex": (Guide.regex("("), "unclosed group"),
    "look-around": (Guide.regex("a(?=b)"), r"'a\(\?=b\)': look-around, including look-ahead .* is not supported$"),
    "word border": (Guide.regex(r"\bword"), r"'\\\\bword': lookarounds not supported yet"),
    "no character": (Guide.regex(r"[^\s\S]"), "no token can follow$"),
    "no end": (Guide.lark('start: "a" start'), "Too many items"),
    "left recursion": (Guide.lark('start: start "a"'), "no token can follow"),
    "rule": (Guide.lark("start: other"), "unknown name"),
    "terminal": (Guide.lark('start: A\nA: A "b"'), "circular reference"),
    "no grammar": (Guide.lark(""), "Empty grammar"),
    "token": (Guide.lark("start: <|nothing|>"), "unknown special token"),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_what_can_not_be_met_or_compiled_is_refused_at_submission(tiny, name):
    guide, says = IMPOSSIBLE[name]

    with pytest.raises(ParameterError, match=says) as error:
        guide.matcher(tiny)

    assert str(guide) in str(error.value)
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


@pytest.mark.parametrize(
    ("make", "description"),
    [
        (Guide.regex, "((a{1000}){1000}){1000}"),
        (Guide.regex, "(" * 5000 + "a" + ")" * 5000),
        (Guide.regex, "(.*a.{20}|.*b.{20})*c{100000}"),
        (Guide.json, {"type": "string", "minLength": 10**6}),
        (Guide.json, {"type": "array", "items": {"type": "array"}, "minItems": 10**9}),
        (Guide.json, {"type": "integer", "multipleOf": 10**8 + 7}),
        (Guide.json, {"type": "integer", "allOf": [{"multipleOf": 99_991}, {"multipleOf": 99_989}]}),
        (Guide.json, '{"items": ' * 200 + "{}" + "}" * 200),
        (Guide.json, {"properties": {f"property{i}": {"type": "string"} for i in range(20_000)}}),
        (Guide.lark, "start: " + "(" * 5000 + '"a"' + ")" * 5000),
        (Guide.lark, "start: R0\n" + "\n".join(f"R{i}: R{i + 1} R{i + 1}" for i in range(60)) + '\nR60: "a"'),
        (Guide.lark, 'start: start start | "a" | ""'),
    ],
    ids=lambda value: str(value)[:20] if not callable(value) else value.__name__,
)
@pytest.mark.filterwarnings("ignore::pyinfer.errors.GuideWarning")
def test_hostile_descriptions_are_refused_or_followed_in_time(tiny, make, description):
    try:
        write(make(description), tiny, lambda ids: int(ids[len(ids) // 2]), max_tokens=20)
    except ParameterError as error:
        assert len(str(error)) < 500


def test_ids_without_a_vocabulary_can_not_be_guided():
    tokenizer = tokenizer_from_metadata(
        {"tokenizer.ggml.model": "none", "general.architecture": "llama", "llama.vocab_size": 8}
    )

    with pytest.raises(ParameterError, match="needs a vocabulary"):
        Guide.regex("a").matcher(tokenizer)
