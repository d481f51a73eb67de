"""What the JSON schemas of tools say about arguments, wherever a schema says it: beside `$ref`, in `anyOf`, …"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from pyinfer.guides.schema.source import Schema, pointed_item

ALL_TYPES = frozenset({"string", "number", "integer", "boolean", "null", "object", "array"})
COMBINED = ("$ref", "allOf", "anyOf", "oneOf")  # keywords by which other schemas say what a value is
DEFINITIONS = ("#/$defs/", "#/definitions/")
MAX_DEPTH = 8  # of references and combinations that are followed
MAX_FORMS = 32  # of the objects that one schema describes


def types_of(schema: Schema, root: Schema, depth: int = MAX_DEPTH) -> frozenset[str]:
    """Return the JSON types that a schema's values may have; all of them in case of doubt.

    `root`: the whole schema, in which references are looked up.
    """
    if not isinstance(schema, Mapping) or depth == 0:
        return ALL_TYPES
    kinds = schema.get("type")
    types = ALL_TYPES if kinds is None else frozenset([kinds] if isinstance(kinds, str) else kinds)
    if "number" in types:
        types |= {"integer"}
    if "const" in schema:
        types &= _types_of_value(schema["const"])
    if isinstance(schema.get("enum"), list):
        types &= frozenset().union(*map(_types_of_value, schema["enum"]))
    if "$ref" in schema:
        types &= types_of(referred(schema["$ref"], root), root, depth - 1)
    for part in _listed(schema, "allOf"):
        types &= types_of(part, root, depth - 1)
    for key in ("anyOf", "oneOf"):
        if parts := _listed(schema, key):
            types &= frozenset().union(*(types_of(part, root, depth - 1) for part in parts))
    return types & ALL_TYPES


def is_text(schema: Schema, root: Schema) -> bool:
    """Whether a schema says that its values are texts, which formats of the layout "parameters" write as they are."""
    return all(form.get("type") in ("string", ["string"]) for form in flat_forms(schema, root))


def referred(reference: Any, root: Schema) -> Schema:
    """Return what a local reference such as "#/$defs/City" points to; True, which says nothing, if there is nothing."""
    if not isinstance(reference, str) or not reference.startswith("#"):
        return True
    node = root
    for part in unquote(reference[1:]).split("/")[1:]:
        try:
            node = pointed_item(node, part)
        except LookupError:
            return True
    return node


def flat_forms(schema: Schema, root: Schema, depth: int = MAX_DEPTH) -> list[dict[str, Any]]:
    """Return schemas without `$ref`, `allOf`, `anyOf` and `oneOf` at their root, of which a value meets one."""
    if not isinstance(schema, Mapping) or depth == 0:
        return [{}]
    forms = [{key: value for key, value in schema.items() if key not in COMBINED}]
    parts = [[referred(schema["$ref"], root)]] if "$ref" in schema else []
    parts += [[part] for part in _listed(schema, "allOf")]
    parts += [choices for key in ("anyOf", "oneOf") if (choices := _listed(schema, key))]
    for choices in parts:
        others = [form for choice in choices for form in flat_forms(choice, root, depth - 1)]
        forms = [_both(form, other) for form in forms for other in others][:MAX_FORMS]
    return forms


def object_forms(schema: Schema, root: Schema) -> list[dict[str, Any]]:
    """Return the objects that a schema describes, each with "properties" and "required".

    There are several where the schema, or one that it refers to, has `anyOf` or `oneOf`.
    """
    forms = [form for form in flat_forms(schema, root) if "object" in types_of(form, root)]
    return [
        {
            **form,
            "properties": form["properties"] if isinstance(form.get("properties"), Mapping) else {},
            "required": form["required"] if isinstance(form.get("required"), list) else [],
        }
        for form in forms
    ]


def arguments_schema(parameters: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the JSON schema of a tool's arguments: an object, whose properties are those that the tool names.

    Where the tool's schema says nothing of further properties, there are none: models would invent some.
    """
    schema = dict(parameters or {})
    if not any(key in schema for key in COMBINED):
        return {"type": "object", "properties": {}, "additionalProperties": False, **schema}
    if all(reference.startswith(DEFINITIONS) for reference in _references(schema)):
        forms = [{"type": "object", "additionalProperties": False, **form} for form in object_forms(schema, schema)]
        definitions: dict[str, Any] = {key: schema[key] for key in ("$defs", "definitions") if key in schema}
        return {"anyOf": [{k: v for k, v in form.items() if k not in definitions} for form in forms], **definitions}
    return schema if types_of(schema, schema) == {"object"} else {"type": "object", **schema}


def argument_types(parameters: Schema) -> dict[str, tuple[bool, frozenset[str]]]:
    """Return of each argument whether it is a text, and its types, in all objects that a tool's schema describes."""
    found: dict[str, tuple[bool, frozenset[str]]] = {}
    for form in object_forms(parameters, parameters):
        for name, schema in form["properties"].items():
            as_text, types = found.get(name, (True, frozenset()))
            found[name] = as_text and is_text(schema, parameters), types | types_of(schema, parameters)
    return found


def _both(form: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Return a schema that says what two schemas say, as far as it can be said in one."""
    both = {**form, **other}
    if isinstance(form.get("properties"), Mapping) and isinstance(other.get("properties"), Mapping):
        both["properties"] = dict(form["properties"])
        for name, schema in other["properties"].items():
            known = both["properties"].get(name, schema)
            both["properties"][name] = schema if known == schema else {"allOf": [known, schema]}
    if isinstance(form.get("required"), list) and isinstance(other.get("required"), list):
        both["required"] = list(dict.fromkeys([*form["required"], *other["required"]]))
    return both


def _references(node: Any) -> Iterator[str]:
    """Yield the references of a schema, at any depth."""
    todo = [node]
    while todo:
        part = todo.pop()
        if isinstance(part, Mapping):
            if isinstance(part.get("$ref"), str):
                yield part["$ref"]
            todo += part.values()
        elif isinstance(part, (list, tuple)):
            todo += part


def _listed(schema: Mapping[str, Any], key: str) -> list[Schema]:
    parts = schema.get(key)
    return parts if isinstance(parts, list) else []


def _types_of_value(value: Any) -> frozenset[str]:
    if isinstance(value, bool):
        return frozenset({"boolean"})
    if isinstance(value, (int, float)):
        return frozenset({"number", "integer"} if float(value).is_integer() else {"number"})
    names = {str: "string", type(None): "null", dict: "object", list: "array"}
    return frozenset({names[type(value)]}) if type(value) in names else ALL_TYPES


def fits(value: Any, types: frozenset[str]) -> bool:
    """Whether a value's type is among the types."""
    return not types.isdisjoint(_types_of_value(value))
