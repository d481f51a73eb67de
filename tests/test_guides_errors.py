"""Guides that are no description, that nothing can meet, or that are made to take for ever: errors that say why."""

import sys

import pytest
from guided_texts import tiny_tokenizer, write

from pyinfer.errors import ParameterError
from pyinfer.guides.guide import Guide
from pyinfer.tokenizer import tokenizer_from_metadata

pytest.importorskip("llguidance", reason="llguidance is not installed (pip install pyinfer[guided])")


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


IMPOSSIBLE = {
    "false": (Guide.json(False), "nothing meets it"),
    "no values": (Guide.json({"enum": []}), "anyOf is empty"),
    "no types": (Guide.json({"type": []}), "anyOf is empty"),
    "two types": (Guide.json({"allOf": [{"type": "string"}, {"type": "number"}]}), "incompatible types"),
    "too few items": (Guide.json({"type": "array", "minItems": 3, "maxItems": 2}), r"minItems \(3\) is greater"),
    "too short": (Guide.json({"type": "string", "minLength": 5, "maxLength": 2}), r"minLength \(5\) is greater"),
    "too small": (Guide.json({"type": "integer", "minimum": 5, "maximum": 1}), r"minimum \(5\) is greater"),
    "no multiple": (Guide.json({"type": "integer", "multipleOf": 7, "minimum": 1, "maximum": 6}), "multiple of 7"),
    "pattern": (Guide.json({"type": "string", "pattern": "^a$", "minLength": 3}), "Regex is empty"),
    "property": (Guide.json({"type": "object", "properties": {"a": False}, "required": ["a"]}), "'a' is unsatisfiable"),
    "no room": (Guide.json({"type": "object", "required": ["a"], "additionalProperties": False}), "unsatisfiable"),
    "itself": (Guide.json({"$ref": "#"}), "without end"),
    "missing": (Guide.json({"$ref": "#/$defs/a"}), "does not exist"),
    "type": (Guide.json({"type": "text"}), "Invalid type: text"),
    "keyword": (Guide.json({"type": "array", "uniqueItems": True}), "uniqueItems"),
    "regex": (Guide.regex("("), "unclosed group"),
    "look-around": (Guide.regex("a(?=b)"), r"'a\(\?=b\)': look-around, including look-ahead .* is not supported$"),
    "word border": (Guide.regex(r"\bword"), r"'\\\\bword': lookarounds not supported yet"),
    "look-around inside": (Guide.json({"type": "string", "pattern": "a(?=b)"}), r"a\(\?=b\) error: look-around"),
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

    assert str(guide) in str(error.value) or guide.kind == "json"
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


@pytest.mark.parametrize(
    "guide",
    [
        Guide.regex("((a{1000}){1000}){1000}"),
        Guide.regex("(" * 5000 + "a" + ")" * 5000),
        Guide.regex("(.*a.{20}|.*b.{20})*c{100000}"),
        Guide.json({"type": "string", "minLength": 10**6}),
        Guide.json({"type": "array", "items": {"type": "array"}, "minItems": 10**9}),
        Guide.json({"type": "integer", "multipleOf": 10**8 + 7}),
        Guide.json({"type": "integer", "allOf": [{"multipleOf": 99_991}, {"multipleOf": 99_989}]}),
        Guide.json('{"items": ' * 200 + "{}" + "}" * 200),
        Guide.json({"properties": {f"property{i}": {"type": "string"} for i in range(20_000)}}),
        Guide.lark("start: " + "(" * 5000 + '"a"' + ")" * 5000),
        Guide.lark("start: R0\n" + "\n".join(f"R{i}: R{i + 1} R{i + 1}" for i in range(60)) + '\nR60: "a"'),
        Guide.lark('start: start start | "a" | ""'),
    ],
    ids=lambda guide: f"{guide.kind} {guide.source[:20]}",
)
def test_hostile_descriptions_are_refused_or_followed_in_time(tiny, guide):
    try:
        write(guide, tiny, lambda ids: int(ids[len(ids) // 2]), max_tokens=20)
    except ParameterError as error:
        assert len(str(error)) < 500


def test_ids_without_a_vocabulary_can_not_be_guided():
    tokenizer = tokenizer_from_metadata(
        {"tokenizer.ggml.model": "none", "general.architecture": "llama", "llama.vocab_size": 8}
    )

    with pytest.raises(ParameterError, match="needs a vocabulary"):
        Guide.regex("a").matcher(tokenizer)


def test_without_llguidance_an_error_says_what_to_install(tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, "llguidance", None)

    with pytest.raises(ParameterError, match=r"pip install pyinfer\[guided\]"):
        Guide.regex("a").matcher(tiny)
