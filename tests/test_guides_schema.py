"""JSON schemas as grammars: which texts a guide allows, what it warns of, and what it refuses."""

import json
import warnings

import pytest
from guided_texts import tiny_tokenizer
from schema_suite import accepts

from pyinfer.errors import GuideWarning, ParameterError
from pyinfer.guides.guide import Guide
from pyinfer.guides.schema.source import parse_schema, without_unique_items

pytest.importorskip("llguidance", reason="llguidance is not installed")
ENDLESS = {"type": "object", "properties": {"next": {"$ref": "#/$defs/endless"}}, "required": ["next"]}
KIND = {"properties": {"kind": {"enum": ["cat", "dog"]}, "lives": {"type": "integer"}, "name": {"type": "string"}}}


@pytest.fixture(scope="module")
def tiny():
    return tiny_tokenizer()


def with_endless(schema):
    return {"$defs": {"endless": ENDLESS}, **schema}


def guide_of(schema):
    """A guide that is held exactly."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return Guide.json(schema)


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        pytest.param(schema, good, bad, id=json.dumps(schema)[:70])
        for schema, good, bad in [
            # integers of any size
            ({"const": 1234567890123456789}, ["1234567890123456789"], ["1234567890123456768", "12345678901234567890"]),
            ({"const": -(2**63)}, ["-9223372036854775808"], ["-9223372036854775807"]),
            ({"enum": [-(2**80), 0]}, [str(-(2**80)), "0"], ["1"]),
            (
                {"type": "integer", "minimum": 2**53 + 1, "maximum": 2**53 + 1},
                ["9007199254740993"],
                ["9007199254740992"],
            ),
            (
                {"type": "integer", "minimum": 0, "maximum": 2**64 - 1},
                ["7", "18446744073709551615"],
                ["-1", "18446744073709551616"],
            ),
            ('{"type": "number", "exclusiveMinimum": 0.1}', ["0.11"], ["0.1", "0.10"]),
            ({"type": "integer", "minimum": 2, "exclusiveMinimum": True}, ["3"], ["2"]),  # draft 4
            (
                {"allOf": [{"multipleOf": 4}, {"multipleOf": 6}], "type": "integer", "minimum": 1, "maximum": 40},
                ["12", "24", "36"],
                ["6", "18", "0"],
            ),
            # what constrains nothing
            ({"type": "array", "items": {"type": "integer"}, "uniqueItems": False}, ["[1, 1]"], ["[true]"]),
            ({"type": "object", "dependentRequired": {}, "maxProperties": 1}, ['{"a": 1}'], ['{"a": 1, "b": 2}']),
            (
                {"type": "object", "propertyNames": {"type": "string"}, "additionalProperties": {"type": "null"}},
                ['{"a": null}'],
                ['{"a": 1}'],
            ),
            (
                {"properties": {"a": {"not": {}}, "b": {"type": "integer"}}, "required": ["b"], "type": "object"},
                ['{"b": 1}'],
                ['{"a": 1, "b": 1}'],
            ),
            ({"$schema": "https://spec.openapis.org/oas/3.1/dialect/base", "type": "integer"}, ["3"], ["null"]),
            ({"type": "string", "maxLength": 5.0}, ['"abcde"'], ['"abcdef"']),
            ({"type": "string", "title": 5, "x-colour": "red"}, ['"a"'], ["1"]),
            # names in references
            ({"$defs": {"List[int]": {"type": "null"}}, "$ref": "#/$defs/List[int]"}, ["null"], ["1"]),
            (
                {"definitions": {"Partial<Größe>": {"type": "null"}}, "$ref": "#/definitions/Partial<Größe>"},
                ["null"],
                ["1"],
            ),
            (
                {
                    "definitions": {"a/b": {"type": "null"}, "100%": {"type": "boolean"}},
                    "anyOf": [{"$ref": "#/definitions/a~1b"}, {"$ref": "#/definitions/100%25"}],
                },
                ["null", "true"],
                ["1"],
            ),
            (
                {"properties": {"a": {"type": "null"}, "b": {"$ref": "#/properties/a"}}, "type": "object"},
                ['{"b": null}'],
                ['{"b": 1}'],
            ),
            (
                {
                    "$id": "https://a.org/x",
                    "$defs": {"n": {"$id": "n", "type": "null"}, "m": {"$anchor": "m", "const": 1}},
                    "anyOf": [{"$ref": "n"}, {"$ref": "#m"}],
                },
                ["null", "1"],
                ["2"],
            ),
            (
                {
                    "$defs": {
                        "N": {
                            "type": "object",
                            "properties": {"v": {"type": "integer"}, "c": {"type": "object", "$ref": "#/$defs/N"}},
                            "required": ["v"],
                            "additionalProperties": False,
                        }
                    },
                    "$ref": "#/$defs/N",
                },
                ['{"v": 1, "c": {"v": 2}}'],
                ['{"v": 1, "c": {}}', '{"v": 1, "c": null}'],
            ),
            # objects
            (
                {
                    "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
                    "type": "object",
                    "minProperties": 1,
                },
                ['{"a": 1}', '{"b": 1}', '{"x": 1}'],
                ["{}"],
            ),
            (
                {
                    "properties": {"a": {}, "b": {}, "c": {}},
                    "additionalProperties": False,
                    "minProperties": 2,
                    "type": "object",
                },
                ['{"a": 1, "c": 1}', '{"b": 1, "c": 1}'],
                ["{}", '{"b": 1}'],
            ),
            (
                {
                    "properties": {"a": {}, "b": {}, "c": {}},
                    "required": ["b"],
                    "additionalProperties": False,
                    "maxProperties": 2,
                    "type": "object",
                },
                ['{"b": 1}', '{"a": 1, "b": 2}', '{"b": 1, "c": 2}'],
                ['{"a": 1, "b": 1, "c": 1}', '{"a": 1, "c": 1}'],
            ),
            (
                {
                    "properties": {"a": {"type": "integer"}},
                    "required": ["a"],
                    "unevaluatedProperties": False,
                    "type": "object",
                },
                ['{"a": 1}'],
                ['{"a": 1, "b": 1}'],
            ),
            (
                {
                    "allOf": [{"properties": {"a": True}}],
                    "properties": {"b": True},
                    "unevaluatedProperties": False,
                    "type": "object",
                },
                ['{"a": 1, "b": 1}'],
                ['{"c": 1}'],
            ),
            (
                {
                    "patternProperties": {"^x": {"type": "integer"}, "y$": {"minimum": 5}},
                    "additionalProperties": False,
                    "type": "object",
                },
                ['{"x": 1}', '{"xy": 5}', '{"y": null}'],
                ['{"xy": 1}', '{"xy": null}', '{"z": 1}'],
            ),
            (
                {
                    "properties": {"a1": {"type": "integer"}},
                    "patternProperties": {"^a": {"maximum": 3}},
                    "additionalProperties": False,
                    "type": "object",
                },
                ['{"a1": 3}', '{"ab": null}'],
                ['{"a1": 4}', '{"a1": null}', '{"b": 1}'],
            ),
            (
                {
                    "propertyNames": {"pattern": "^[a-z]+$"},
                    "additionalProperties": {"type": "integer"},
                    "type": "object",
                },
                ['{"a": 1}'],
                ['{"A": 1}'],
            ),
            (
                {"propertyNames": {"enum": ["a", "b"]}, "type": "object", "additionalProperties": {"type": "null"}},
                ['{"b": null}', "{}"],
                ['{"c": null}', '{"a": 1}'],
            ),
            (
                {"type": "object", "dependentRequired": {"a": ["b"]}, "properties": {"a": True, "b": True}},
                ['{"b": 1}', '{"a": 1, "b": 1}'],
                ['{"a": 1}'],
            ),
            # arrays
            ({"type": "array", "maxItems": 1000000, "items": {"type": "null"}}, ["[]", "[null, null]"], ["[1]"]),
            (
                {
                    "type": "array",
                    "prefixItems": [{"type": "null"}, {"type": "boolean"}],
                    "items": False,
                    "minItems": 1,
                },
                ["[null]", "[null, true]"],
                ["[]", "[null, true, 1]"],
            ),
            (
                {"type": "array", "contains": {"const": 5}, "items": {"type": "integer"}},
                ["[5]", "[1, 5, 2]", "[55, 5]"],
                ["[]", "[1]", "[55]"],
            ),
            (
                {"type": "array", "contains": {"const": 5}, "minContains": 2, "maxItems": 3},
                ["[5, 1, 5]"],
                ["[5, 1]", "[5, 5, 1, 1]"],
            ),
            # combinations
            (
                {
                    "oneOf": [{"required": ["a"]}, {"required": ["b"]}],
                    "properties": {"a": True, "b": True},
                    "type": "object",
                },
                ['{"a": 1}', '{"b": 1}'],
                ["{}", '{"a": 1, "b": 1}'],
            ),
            ({"not": {"type": ["string", "array"]}}, ["1", "{}"], ['"a"', "[]"]),
            ({"type": "string", "not": {"enum": ["a", "b"]}}, ['"c"', '"aa"'], ['"a"', '"b"']),
            (
                {"type": "object", "not": {"required": ["a"]}, "properties": {"a": True}},
                ['{"b": 1}', "{}"],
                ['{"a": 1}'],
            ),
            (
                {
                    "type": "object",
                    **KIND,
                    "if": {"properties": {"kind": {"const": "cat"}}, "required": ["kind"]},
                    "then": {"required": ["lives"]},
                    "else": {"required": ["name"]},
                    "additionalProperties": False,
                },
                ['{"kind": "cat", "lives": 9}', '{"kind": "dog", "name": "x"}', '{"name": "x"}'],
                ['{"kind": "cat", "name": "x"}', '{"kind": "dog", "lives": 1}'],
            ),
            (
                {"enum": [1, "ab", None, {"a": [1]}], "type": ["string", "object"]},
                ['"ab"', '{"a": [1]}'],
                ["1", "null"],
            ),
            ({"enum": ["a", "bc", 3], "pattern": "^b"}, ['"bc"', "3"], ['"a"']),
            # OpenAPI's nullable
            ({"type": "string", "nullable": True}, ['"a"', "null"], ["1"]),
            (
                {
                    "$defs": {"A": {"type": "object"}},
                    "properties": {"a": {"allOf": [{"$ref": "#/$defs/A"}], "nullable": True}},
                    "type": "object",
                },
                ['{"a": null}', '{"a": {}}'],
                ['{"a": 1}'],
            ),
            ({"type": "string", "nullable": False}, ['"a"'], ["null"]),
        ]
    ],
)
def test_texts_that_meet_a_schema_and_no_others_can_be_written(tiny, schema, good, bad):
    guide = guide_of(schema)

    assert [text for text in good if not accepts(guide, tiny, text)] == []
    assert [text for text in bad if accepts(guide, tiny, text)] == []


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        ({"properties": {"to": {"type": "string", "pattern": "^(a|b\\1)*$"}}}, "#/properties/to"),
        (
            {"type": "array", "items": {"type": "array", "uniqueItems": True}},
            "#/items/uniqueItems: an item may come twice",
        ),
        (
            {"oneOf": [{"type": "integer"}, {"type": "number", "minimum": 3}]},
            "#/oneOf: branches 0 and 1 may both be met",
        ),
        ({"type": "string", "format": "colour"}, "#/format: 'colour' is no known format"),
        ({"not": {"multipleOf": 3}}, "#/not: its opposite has no effect"),
        (
            {"properties": {"a/b": {"$ref": "https://example.org/x"}}},
            "#/properties/a~1b/\\$ref: .* is not in the schema",
        ),
        ({"type": "object", "minProperties": 3}, "#/minProperties: a name that comes twice counts twice"),
        ({"type": "array", "contains": {"type": "null"}, "maxContains": 1}, "#/maxContains: more items"),
    ],
)
def test_what_can_not_be_held_is_warned_of_with_its_place_or_refused_where_that_is_asked_for(tiny, schema, place):
    with pytest.warns(GuideWarning, match=place):
        Guide.json(schema).matcher(tiny)
    with pytest.raises(ParameterError, match=place):
        Guide.json(schema, strict=True)


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
    with pytest.raises(ParameterError, match="can't be met"):
        Guide.json(schema)


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        (with_endless({"type": "object", "properties": {"a": {"$ref": "#/$defs/endless"}}}), "{}", '{"a": {"next"'),
        (with_endless({"type": "array", "items": {"$ref": "#/$defs/endless"}}), "[]", "[{"),
        (with_endless({"anyOf": [{"$ref": "#/$defs/endless"}, {"type": "null"}]}), "null", "{"),
        (
            {"type": ["object", "null"], "properties": {"n": {"$ref": "#"}}, "required": ["n"]},
            '{"n": {"n": null}}',
            "{}",
        ),
        ({"anyOf": [{"$ref": "#"}, {"type": "null"}]}, "null", "1"),
    ],
)
def test_what_has_no_end_can_not_be_begun(tiny, schema, good, bad):
    guide = Guide.json(schema)

    assert accepts(guide, tiny, good)
    matcher = guide.matcher(tiny)
    with pytest.raises(ParameterError, match="can't follow"):
        for token in tiny.encode(bad, add_special=False, continues=True):
            matcher.accept(token)
        matcher.accept(tiny.encode("}")[0])


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"type": "strnig"}, "#/type of the JSON schema is 'strnig'"),
        ({"properties": {"a": {"minLength": "5"}}}, "#/properties/a/minLength .* expected a count"),
        ({"properties": []}, "#/properties .* expected an object"),
        ({"required": ["a", 1]}, "#/required .* expected a list of names"),
        ({"items": 5}, "#/items .* expected a schema"),
        ({"$ref": "#/$defs/missing"}, "'#/\\$defs/missing', which is not there"),
        ({"pattern": "[a"}, "#"),
        ({"type": "array", "minItems": 3, "maxItems": 2}, "nothing meets it"),
        ({"allOf": [{"type": "integer"}, {"type": "string"}]}, "nothing meets it"),
        (False, "nothing meets it"),
    ],
)
def test_what_is_no_schema_or_can_not_be_met_is_refused_when_the_guide_is_made(schema, says):
    with pytest.raises(ParameterError, match=says):
        Guide.json(schema)


@pytest.mark.parametrize(
    ("source", "says"),
    [("", "is no JSON"), ("[]", "expected an object"), ("null", "expected an object"), ("[" * 100_000, "nested|JSON")],
)
def test_what_is_no_json_is_refused(source, says):
    with pytest.raises(ParameterError, match=says):
        parse_schema(source)


def test_deep_nesting_is_refused():
    deep = {}
    for _ in range(121):
        deep = {"items": deep}

    with pytest.raises(ParameterError, match="more than 120 deep"):
        Guide.json(deep)


@pytest.mark.parametrize(
    "schema",
    [
        {"allOf": [{"anyOf": [{"required": [f"a{i}"]}, {"required": [f"b{i}"]}]} for i in range(30)]},
        {"type": "integer", "multipleOf": 2**30},
        {"type": "string", "maxLength": 10**9},
        '{"type": "number", "minimum": 1e999999999}',
        {"type": "array", "minItems": 10**5, "maxItems": 10**9},
        {"type": "object", "properties": {f"p{i}": {} for i in range(1000)}, "minProperties": 500},
        {"$defs": {f"d{i}": {"$ref": f"#/$defs/d{i + 1}"} for i in range(5000)} | {"d5000": {}}, "$ref": "#/$defs/d0"},
    ],
    ids=["alternatives", "multiple", "length", "exponent", "items", "properties", "chain"],
)
def test_large_schemas_take_bounded_time(tiny, schema):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Guide.json(schema).matcher(tiny)


def test_schemas_within_lark_are_those_of_guides(tiny):
    guide = Guide.lark(
        'start: "%json {" a /%json x/ b // %json {\n'
        'a: %json {"const": 1234567890123456789}\nb: %json {"enum": [-9223372036854775808]} "!"'
    )

    assert accepts(guide, tiny, "%json {1234567890123456789%json x-9223372036854775808!")
    with pytest.warns(GuideWarning, match="#/uniqueItems"):
        Guide.lark('start: %json {"type": "array", "uniqueItems": true}')
    with pytest.raises(ParameterError, match="expected rules in Lark"):
        Guide.lark('{"grammars": [{"json_schema": {}}]}')


def test_unique_items_are_taken_out_everywhere():
    schema = {"properties": {"uniqueItems": {"type": "array", "uniqueItems": True}}, "uniqueItems": False}

    assert without_unique_items(schema) == {"properties": {"uniqueItems": {"type": "array"}}}
