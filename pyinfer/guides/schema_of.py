"""The JSON schema of what Python programs describe data with: classes, annotations, Pydantic's models and adapters.

Pydantic writes it, which is no dependency of pyinfer: whoever has such models has it.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
import sys
import types
import typing
from collections.abc import Mapping
from typing import Any

from pyinfer.arguments import quoted
from pyinfer.errors import ParameterError
from pyinfer.guides.schema.source import without_unique_items

EXPECTED = (
    "a JSON schema (a dict, a text, True), or a type: a Pydantic model, a dataclass, a TypedDict, an Enum, "
    "list[…], …, or a pydantic.TypeAdapter"
)


def schema_of(described: Any) -> Any:
    """Return the JSON schema of a type, or of a TypeAdapter. What is a schema already is returned as it is.

    - `described`: a Pydantic model, a dataclass, a TypedDict, a NamedTuple, an Enum, an annotation of these such as
      `list[Model]`, `Model | None` or `Literal["a", "b"]`, or a `pydantic.TypeAdapter`.

    Raises ParameterError for what Pydantic can't describe, and for a type where Pydantic is not installed.
    """
    if isinstance(described, str | bool | Mapping):
        return described
    for name in ("model_json_schema", "json_schema"):  # a model's; an adapter's
        if callable(describe := getattr(described, name, None)):
            return described_by(described, describe)
    if not is_type(described):
        return described
    try:
        from pydantic import TypeAdapter
    except ImportError:
        raise ParameterError(
            f"the JSON schema of {quoted(described)} needs Pydantic: pip install 'pydantic>=2'; or give a dict"
        ) from None
    return described_by(described, lambda: TypeAdapter(modern(described)).json_schema())


def described_by(described: Any, describe: Any) -> Any:
    """Call a function of Pydantic's, whose errors have many classes. Sets need no `uniqueItems`: they drop doubles."""
    try:
        return without_unique_items(describe())
    except Exception as error:
        first = str(error).partition("\n")[0]
        raise ParameterError(f"{quoted(described)} has no JSON schema: {first}; expected {EXPECTED}") from error


def is_type(value: Any) -> bool:
    """Whether this is a class, an annotation made of classes, or a name for one (NewType, `type X = …`)."""
    named = hasattr(value, "__supertype__") or type(value).__name__ == "TypeAliasType"
    return isinstance(value, type) or typing.get_origin(value) is not None or value is Any or named


def modern(annotation: Any, seen: tuple[Any, ...] = ()) -> Any:
    """Return an annotation with typing_extensions' TypedDict in place of typing's, also in fields and arguments.

    Before Python 3.12 Pydantic refuses the latter. `seen`: the classes around this one, which may be recursive.
    """
    if sys.version_info >= (3, 12) or annotation in seen:
        return annotation
    if isinstance(annotation, type) and (typing.is_typeddict(annotation) or dataclasses.is_dataclass(annotation)):
        return modern_class(annotation, (*seen, annotation))
    arguments = typing.get_args(annotation)
    origin = typing.get_origin(annotation)
    if not arguments or origin is typing.Literal:
        return annotation
    replaced = tuple(modern(argument, seen) for argument in arguments)
    if all(new is old for new, old in zip(replaced, arguments, strict=True)):
        return annotation
    return functools.reduce(operator.or_, replaced) if origin is types.UnionType else origin[replaced]


def modern_class(described: Any, seen: tuple[Any, ...]) -> Any:
    """Return a TypedDict or a dataclass, or one like it where something in it has to be replaced."""
    from typing_extensions import NotRequired, Required, TypedDict  # Pydantic depends on it

    name = str(described.__name__)
    try:
        hints = typing.get_type_hints(described, include_extras=True)
    except (NameError, TypeError):  # Pydantic says what is wrong with an annotation
        return described
    replaced = {name: modern(hint, seen) for name, hint in hints.items()}
    if dataclasses.is_dataclass(described):
        if replaced == hints:
            return described
        fields = [
            (one.name, replaced[one.name], dataclasses.field(default=one.default, default_factory=one.default_factory))
            for one in dataclasses.fields(described)
        ]
        return dataclasses.make_dataclass(name, fields, kw_only=True)
    if type(described).__module__ != "typing" and replaced == hints:
        return described
    kinds = (Required, NotRequired, getattr(typing, "Required", None), getattr(typing, "NotRequired", None))
    fields_by_name = {
        field: (Required if field in described.__required_keys__ else NotRequired)[
            typing.get_args(hint)[0] if typing.get_origin(hint) in kinds else hint
        ]
        for field, hint in replaced.items()
    }
    return TypedDict(name, fields_by_name)  # type: ignore[operator]
