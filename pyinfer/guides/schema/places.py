"""Where schemas stand in a document, and what references point to.

`Places` gives each schema of a document a number. Its base URI comes from the `$id` of the schemas around it. A
reference may name any place of the document: by a JSON pointer (RFC 6901), an anchor, or the `$id` of a schema in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin

from pyinfer.errors import ParameterError
from pyinfer.guides.schema.report import Report, escaped
from pyinfer.guides.schema.source import Schema, pointed_item

# Keywords that hold schemas: by name, in a list, or one alone. `items` may be a list or one.
MAPS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies")
LISTS = ("allOf", "anyOf", "oneOf", "prefixItems", "items")
SINGLE = (
    *("items", "additionalProperties", "additionalItems", "unevaluatedItems", "unevaluatedProperties"),
    *("not", "if", "then", "else", "contains", "propertyNames"),
)
ANCHORS = ("$anchor", "$dynamicAnchor")
OLD_DRAFTS = ("draft-03", "draft-04", "draft-06", "draft-07")  # where an $id beside a $ref has no meaning
ROOT_URI = "schema:/"  # base of a document that has no absolute $id; urljoin needs one that has a path

Key = tuple[int, ...]  # numbers of places: all of these schemas hold together. None: anything meets it
ANYTHING: Key = ()
NOTHING: Key = (0,)


@dataclass(frozen=True, eq=False)
class Place:
    """A schema that is a dict. pointer: of the place in the document. base: the URI against which references count."""

    number: int
    schema: Mapping[str, Any]
    pointer: str
    base: str
    old: bool  # of a draft up to 7


@dataclass(frozen=True, eq=False)
class Complement:
    """A schema that all values meet that do not meet another one."""

    of: Key


class Places:
    """The schemas of a document."""

    def __init__(self, root: Schema, report: Report) -> None:
        self._report = report
        self._nodes: list[Place | Complement | None] = [None]  # number 0 is what nothing meets
        self._by_id: dict[int, Place] = {}
        self._complements: dict[Key, int] = {}
        self._resources: dict[str, Place] = {}
        self._anchors: dict[str, Place] = {}
        self._dynamic: dict[str, list[Place]] = {}
        self.root: Key = ANYTHING if root is True else NOTHING
        if isinstance(root, dict):
            declared = root.get("$schema")
            old = isinstance(declared, str) and any(draft in declared for draft in OLD_DRAFTS)
            self.root = (self._add(root, "#", ROOT_URI, old).number,)
            self._resources.setdefault(ROOT_URI, self._by_id[id(root)])

    def __getitem__(self, number: int) -> Place | Complement | None:
        return self._nodes[number]

    def key(self, schema: Schema, pointer: str, parent: Place) -> Key:
        """The key of a schema that stands at a place. Raises ParameterError for what is no schema."""
        if isinstance(schema, bool):
            return ANYTHING if schema else NOTHING
        if not isinstance(schema, dict):
            raise ParameterError(f"{pointer} of the JSON schema is {schema!r:.60}; expected a schema")
        if not schema:
            return ANYTHING
        place = self._by_id.get(id(schema)) or self._add(schema, pointer, parent.base, parent.old)
        return (place.number,)

    def complement(self, key: Key) -> Key:
        """What all values meet that do not meet a key."""
        if key in (ANYTHING, NOTHING):
            return NOTHING if key == ANYTHING else ANYTHING
        if key not in self._complements:
            self._complements[key] = len(self._nodes)
            self._nodes.append(Complement(key))
        return (self._complements[key],)

    def pointer(self, key: Key) -> str:
        """The place of a key's first schema, for messages."""
        node = self._nodes[key[0]] if key else None
        if isinstance(node, Complement):
            return self.pointer(node.of)
        return node.pointer if isinstance(node, Place) else "#"

    def _add(self, schema: Mapping[str, Any], pointer: str, base: str, old: bool) -> Place:
        """Number a schema and all that it holds."""
        todo = [(schema, pointer, base)]
        while todo:
            node, at, uri = todo.pop()
            if id(node) in self._by_id:
                continue
            uri, fragment = self._identified(node, uri, old)
            place = Place(len(self._nodes), node, at, uri, old)
            self._nodes.append(place)
            self._by_id[id(node)] = place
            self._name(place, uri, fragment)
            # backwards, so that numbers follow the document's order
            todo += reversed([(child, f"{at}/{name}", uri) for child, name in _subschemas(node)])
        return self._by_id[id(schema)]

    def _identified(self, node: Mapping[str, Any], base: str, old: bool) -> tuple[str, str]:
        """The base URI within a schema, and the name that draft 7 and older may give it in `$id`."""
        identifier = node.get("$id", node.get("id") if old else None)
        if not isinstance(identifier, str) or (old and "$ref" in node):
            return base, ""
        try:
            uri, fragment = urldefrag(urljoin(base, identifier))
        except ValueError:
            return base, ""
        return uri or base, fragment

    def _name(self, place: Place, uri: str, fragment: str) -> None:
        node = place.schema
        if fragment:
            self._anchors.setdefault(f"{uri}#{fragment}", place)
        identifier = node.get("$id", node.get("id") if place.old else None)
        if place.pointer == "#" or (isinstance(identifier, str) and not identifier.startswith("#") and not fragment):
            self._resources.setdefault(uri, place)
        for keyword in ANCHORS:
            if isinstance(name := node.get(keyword), str):
                self._anchors.setdefault(f"{uri}#{name}", place)
        if isinstance(name := node.get("$dynamicAnchor"), str):
            self._dynamic.setdefault(name, []).append(place)
        if node.get("$recursiveAnchor") is True:
            self._dynamic.setdefault("", []).append(place)

    def target(self, reference: Any, pointer: str, place: Place) -> Key:
        """What a reference points to; anything, with a warning, for what is not in the document.

        Raises ParameterError for a reference that is no text, and for a place that the document does not have.
        """
        if not isinstance(reference, str):
            raise ParameterError(f"{pointer} of the JSON schema is {reference!r:.60}; expected a reference")
        try:
            uri, fragment = urldefrag(urljoin(place.base, reference)) if reference[:1] != "#" else (place.base, "")
        except ValueError as error:
            raise ParameterError(f"{pointer} of the JSON schema is {reference!r:.60}: {error}") from None
        fragment = reference.partition("#")[2] if "#" in reference else fragment
        resource = self._resources.get(uri) or (self._resources[ROOT_URI] if reference[:1] == "#" else None)
        if resource is None:
            self._report.degrade(pointer, f"{reference!r} is not in the schema; any value is accepted there")
            return ANYTHING
        found = self._within(resource, fragment)
        if found is None:
            raise ParameterError(f"{pointer} of the JSON schema is {reference!r}, which is not there")
        return found

    def dynamic_target(self, reference: Any, pointer: str, place: Place) -> Key:
        """What `$dynamicRef` or `$recursiveRef` points to where only one schema has that name."""
        name = str(reference).partition("#")[2]
        target = self.target(reference, pointer, place)
        node = self._nodes[target[0]] if target else None
        named = self._dynamic.get(name, [])
        is_dynamic = isinstance(node, Place) and (
            node.schema.get("$dynamicAnchor") == name if name else node.schema.get("$recursiveAnchor") is True
        )
        if is_dynamic and len(named) > 1:
            self._report.degrade(pointer, "several schemas have that name; any value is accepted there")
            return ANYTHING
        return target

    def _within(self, resource: Place, fragment: str) -> Key | None:
        if not fragment:
            return (resource.number,)
        if not fragment.startswith("/"):
            named = self._anchors.get(f"{resource.base}#{fragment}") or self._anchors.get(
                f"{resource.base}#{unquote(fragment)}"
            )
            return (named.number,) if named else None
        # names may hold a "%" that encodes nothing: the text as it is goes first
        found = self._walk(resource, fragment)
        return self._walk(resource, unquote(fragment)) if found is None else found

    def _walk(self, resource: Place, fragment: str) -> Key | None:
        node: Any = resource.schema
        pointer, owner = resource.pointer, resource
        for part in fragment.split("/")[1:]:
            try:
                node = pointed_item(node, part)
            except LookupError:
                return None
            pointer = f"{pointer}/{part}"
            owner = self._by_id.get(id(node), owner)
        return self.key(node, pointer, owner) if isinstance(node, (dict, bool)) else None


def _subschemas(node: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], str]]:
    """(schema, its part of the pointer) of those that a schema holds."""
    for key, value in node.items():
        if key in MAPS and isinstance(value, dict):
            yield from ((item, f"{key}/{escaped(name)}") for name, item in value.items() if isinstance(item, dict))
        elif key in LISTS and isinstance(value, list):
            yield from ((item, f"{key}/{i}") for i, item in enumerate(value) if isinstance(item, dict))
        elif key in SINGLE and isinstance(value, dict):
            yield value, key
