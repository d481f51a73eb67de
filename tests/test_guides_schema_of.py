"""Types become JSON schemas: those that Pydantic writes, also of typing's TypedDict before Python 3.12."""

import collections
import dataclasses
import enum
import json
import sys
import typing
from typing import Annotated, Any, Literal, NamedTuple

import pytest

from pyinfer.errors import ParameterError
from pyinfer.guides.guide import Guide
from pyinfer.guides.schema_of import schema_of

pydantic = pytest.importorskip("pydantic")
extensions = pytest.importorskip("typing_extensions")


class Model(pydantic.BaseModel):
    name: str
    tags: set[str] = pydantic.Field(default_factory=set)


@dataclasses.dataclass
class Point:
    x: int
    y: float = 0.0


class Person(typing.TypedDict):
    """A person."""

    name: str
    age: int


class PartlyPerson(Person, total=False):
    email: str


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Pair(NamedTuple):
    left: int
    right: str


@dataclasses.dataclass
class Tree:
    value: int
    children: list["Tree"] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Team:
    members: list[Person]
    lead: Person | None = None


class Nested(typing.TypedDict):
    person: Person
    point: Point


Age = typing.NewType("Age", int)


def accepts(described, value):
    """Whether the schema of a type allows a value, by a validator that is not ours."""
    validator = pytest.importorskip("jsonschema").Draft202012Validator(schema_of(described))
    return validator.is_valid(value)


@pytest.mark.parametrize("adapted", [list[Model], Model | None, dict[str, Model], Point, Colour, Pair, Literal["a", 1]])
def test_the_schema_is_pydantics(adapted):
    expected = json.loads(json.dumps(pydantic.TypeAdapter(adapted).json_schema()).replace(', "uniqueItems": true', ""))
    assert schema_of(adapted) == schema_of(pydantic.TypeAdapter(adapted)) == expected


def test_a_models_schema_is_its_own():
    assert schema_of(Model)["title"] == "Model" and "uniqueItems" not in json.dumps(schema_of(Model))


@pytest.mark.parametrize(
    "described, good, bad",
    [
        (Person, {"name": "Ada", "age": 36}, {"name": "Ada"}),
        (PartlyPerson, {"name": "Ada", "age": 36}, {"email": "a@b.c", "age": 36}),
        (list[Person], [{"name": "Ada", "age": 36}], [{"name": 1, "age": 36}]),
        (Person | None, None, {"name": "Ada"}),
        (typing.Optional[Person], None, {"name": "Ada"}),  # noqa: UP045
        (Person | int, 5, {"name": "Ada"}),
        (dict[str, Person], {"a": {"name": "Ada", "age": 1}}, {"a": {"name": "Ada"}}),
        (tuple[Person, int], [{"name": "Ada", "age": 1}, 2], [{"name": "Ada"}, 2]),
        (Annotated[list[Person], pydantic.Field(min_length=1)], [{"name": "Ada", "age": 1}], []),
        (Nested, {"person": {"name": "A", "age": 1}, "point": {"x": 1}}, {"person": {}, "point": {"x": 1}}),
        (Team, {"members": [{"name": "A", "age": 1}]}, {"members": [{"name": "A"}]}),
        (Tree, {"value": 1, "children": [{"value": 2}]}, {"value": 1, "children": [{}]}),
        (collections.abc.Sequence[Person], [{"name": "A", "age": 1}], [{}]),
        (Age, 3, "three"),
        (list[int], [1, 2], ["a"]),
        (Any, {"what": "ever"}, None),
    ],
)
def test_a_type_allows_its_values_and_no_others(described, good, bad):
    assert accepts(described, good)
    assert bad is None or not accepts(described, bad)


def test_typings_typed_dict_is_described_as_typing_extensions_is():
    same = extensions.TypedDict("PartlyPerson", {"name": str, "age": int, "email": extensions.NotRequired[str]})
    ours, theirs = schema_of(PartlyPerson), pydantic.TypeAdapter(same).json_schema()
    assert ours["properties"] == theirs["properties"] and ours["required"] == theirs["required"] == ["name", "age"]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="typing has NotRequired since Python 3.11")
def test_fields_that_say_for_themselves_whether_they_are_required():
    said = typing.TypedDict("Said", {"a": int, "b": typing.NotRequired[int]})  # noqa: UP013
    assert schema_of(said)["required"] == ["a"]


@pytest.mark.parametrize("schema", [{"type": "integer"}, '{"type": "integer"}', True])
def test_a_schema_is_returned_as_it_is(schema):
    assert schema_of(schema) is schema


def test_guides_are_made_of_types():
    assert (
        Guide.json(list[Model]) == Guide.json(pydantic.TypeAdapter(list[Model])) == Guide.json(schema_of(list[Model]))
    )
    assert Guide.json(Point, whitespace=False).whitespace is False


@pytest.mark.parametrize("described", [type("Other", (), {}), typing.Callable[[int], int]])
def test_what_has_no_schema_is_refused_by_name(described):
    with pytest.raises(ParameterError, match=r"has no JSON schema: .*; expected a JSON schema .* a TypedDict"):
        schema_of(described)


@pytest.mark.parametrize("value", [5, 1.5, object(), ["a"], None])
def test_a_value_is_no_type(value):
    with pytest.raises(ParameterError):
        Guide.json(value)


def test_without_pydantic_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydantic", None)
    with pytest.raises(ParameterError, match=r"Point.* needs Pydantic: pip install 'pydantic>=2'; or give a dict"):
        Guide.json(Point)
    Guide.json({"type": "integer"})
