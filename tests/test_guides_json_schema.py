"""JSON schemas prepared for llguidance: references without end, formats that are remarks, numbers of remainders."""

import pytest

from pyinfer.errors import ParameterError
from pyinfer.guides.grammar.json_schema import parse_schema, prepare_schema, without_unique_items

ENDLESS = {"type": "object", "properties": {"next": {"$ref": "#/$defs/endless"}}, "required": ["next"]}


def with_endless(schema):
    return {"$defs": {"endless": ENDLESS}, **schema}


def test_a_reference_without_end_becomes_false():
    schema = with_endless(
        {
            "type": "object",
            "properties": {
                "a": {"$ref": "#/$defs/endless"},
                "b": {"type": "array", "items": {"$ref": "#/$defs/endless"}},
            },
            "anyOf": [{"$ref": "#/$defs/endless"}, {"type": "object"}],
        }
    )

    prepared = prepare_schema(schema)

    assert prepared["properties"] == {"a": False, "b": {"type": "array", "items": False}}
    assert prepared["anyOf"] == [False, {"type": "object"}]


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        with_endless({"$ref": "#/$defs/endless"}),
        with_endless({"allOf": [{"type": "object"}, {"$ref": "#/$defs/endless"}]}),
        with_endless({"anyOf": [{"$ref": "#/$defs/endless"}]}),
        with_endless({"type": "array", "items": {"$ref": "#/$defs/endless"}, "minItems": 1}),
        with_endless({"type": "array", "prefixItems": [True, {"$ref": "#/$defs/endless"}], "minItems": 2}),
        with_endless({"type": "object", "required": ["x"], "additionalProperties": {"$ref": "#/$defs/endless"}}),
        {
            "definitions": {
                "a/b": {"type": "object", "properties": {"b": {"$ref": "#/definitions/c%20d"}}, "required": ["b"]},
                "c d": {"type": "array", "items": {"$ref": "#/definitions/a~1b"}, "minItems": 1},
            },
            "$ref": "#/definitions/a~1b",
        },
    ],
)
def test_a_schema_that_only_endless_values_would_meet_is_refused(schema):
    with pytest.raises(ParameterError, match="contains itself without end"):
        prepare_schema(schema)


@pytest.mark.parametrize(
    "schema",
    [
        {
            "type": "object",
            "properties": {"children": {"type": "array", "items": {"$ref": "#"}}},
            "required": ["children"],
        },
        {"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}, "required": ["next"]},
        {"type": ["object", "null"], "properties": {"next": {"$ref": "#"}}, "required": ["next"]},
        {"properties": {"next": {"$ref": "#"}}, "required": ["next"]},  # a number has no properties
        with_endless({"type": "array", "prefixItems": [True, {"$ref": "#/$defs/endless"}], "minItems": 1}),
        {"$ref": "#/$defs/missing"},
        {"$ref": "#named"},
        {"$ref": "https://example.org/schema"},
        {"const": {"$ref": "#"}},
        True,
        {},
    ],
)
def test_schemas_that_finite_values_meet_or_that_llguidance_judges_pass(schema):
    prepare_schema(schema)


def test_formats_that_are_not_defined_are_dropped():
    schema = {"properties": {"format": {"format": "path"}, "b": {"format": "uuid"}, "c": {"format": "regex"}}}

    prepared = prepare_schema(schema)

    assert prepared == {"properties": {"format": {}, "b": {"format": "uuid"}, "c": {"format": "regex"}}}


@pytest.mark.parametrize("multiple", [1, 7, 0.25, 1e-9, 10**12, 99_991, 3.7919, 0, -2, "7", True])
def test_multiples_that_need_few_remainders_pass(multiple):
    prepare_schema({"multipleOf": multiple})


@pytest.mark.parametrize(
    "schema",
    [
        {"multipleOf": 100_000_007},
        {"multipleOf": 0.123456789},
        {"allOf": [{"multipleOf": 991}, {"multipleOf": 997}]},
    ],
)
def test_multiples_that_need_many_remainders_are_refused(schema):
    with pytest.raises(ParameterError, match=r"multipleOf has \d+ different remainders .* at most 100000"):
        prepare_schema(schema)


def test_deep_nesting_is_refused():
    deep = {}
    for _ in range(121):
        deep = {"items": deep}

    with pytest.raises(ParameterError, match="more than 120 deep"):
        prepare_schema(deep)


@pytest.mark.parametrize(
    ("source", "says"),
    [("", "is no JSON"), ("[]", "expected an object"), ("null", "expected an object"), ("[" * 100_000, "nested|JSON")],
)
def test_what_is_no_schema_is_refused(source, says):
    with pytest.raises(ParameterError, match=says):
        parse_schema(source)


def test_unique_items_are_taken_out_everywhere():
    schema = {"properties": {"uniqueItems": {"type": "array", "uniqueItems": True}}, "uniqueItems": False}

    assert without_unique_items(schema) == {"properties": {"uniqueItems": {"type": "array"}}}
