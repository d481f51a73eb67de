"""Brings schemas to their normal form: `allOf`, `$ref`, `anyOf`, `oneOf`, `not`, `if` and dependencies are worked in.

A schema is the intersection of what its own keywords say and of each of these. Products of alternatives are bounded: a
keyword that would make too many is left out, with a warning.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import takewhile
from typing import Any

from pyinfer.errors import ParameterError
from pyinfer.guides.schema.complement import Inexact, complement_of
from pyinfer.guides.schema.examine import meets
from pyinfer.guides.schema.keywords import Keywords, forbidden, unevaluated_items, unevaluated_properties
from pyinfer.guides.schema.places import ANYTHING, NOTHING, Complement, Key, Place, Places
from pyinfer.guides.schema.report import Report
from pyinfer.guides.schema.shapes import (
    ANY,
    EVERY_TYPE,
    NONE,
    Arrays,
    Literals,
    Normal,
    Null,
    Numbers,
    Objects,
    Shape,
    conjunction,
    meet,
)

MAX_ALTERNATIVES = 128  # of a product of two normal forms
MAX_SUBTRACTED = 8  # alternatives of the complement that is taken away from a branch of oneOf
MAX_PAIRS = 50_000  # of alternatives looked at for a schema, which takes about a second
MAX_FORMS = 200_000  # computed for a schema; those that wait for themselves are computed again
MAX_NESTED = 60  # schemas that wait for each other's normal form
ANNOTATED = frozenset(("$ref", "title", "description", "$comment", "default", "examples", "deprecated"))
APPLICATORS = ("$ref", "$dynamicRef", "$recursiveRef", "allOf", "anyOf", "oneOf", "not", "if")


class Normalizer:
    """The normal forms of the schemas of a document, each computed once."""

    def __init__(self, root: Any, report: Report) -> None:
        self.places = Places(root, report)
        self._report = report
        self._keywords = Keywords(self.places, report)
        self._forms: dict[Key, Normal] = {ANYTHING: ANY, NOTHING: NONE}
        self._waiting: dict[Key, int] = {}  # keys whose form is being computed, and how many waited before
        self._cut = MAX_NESTED  # of those that a form under way turned out to need, the one that waited first
        self._n_pairs = 0
        self._n_forms = 0

    def normal(self, key: Key) -> Normal:
        """The normal form of a key. A schema that in the same place refers to itself is met by nothing."""
        if (known := self._forms.get(key)) is not None:
            return known
        if key in self._waiting:
            self._cut = min(self._cut, self._waiting[key])
            return Normal((), exact=False)
        depth = len(self._waiting)
        if depth >= MAX_NESTED:
            raise ParameterError(
                f"{self.places.pointer(key)} of the JSON schema: references are nested more than {MAX_NESTED} deep"
            )
        self._n_forms += 1
        if self._n_forms > MAX_FORMS:
            raise ParameterError("the JSON schema refers to itself in too many ways")
        self._waiting[key] = depth
        outer, self._cut = self._cut, MAX_NESTED
        try:
            form = self._product([self._node(number) for number in key], self.places.pointer(key))
        finally:
            del self._waiting[key]
            cut, self._cut = self._cut, min(outer, self._cut)
        if cut >= depth:  # nothing that still waits was left out
            self._forms[key] = form
            if cut == depth:
                self._cut = outer
        return form

    def is_empty(self, key: Key) -> bool:
        """Whether nothing meets a key, as far as its alternatives show; False while it is computed."""
        if key in self._waiting:
            return False
        outer, self._cut = self._cut, MAX_NESTED
        form = self.normal(key)
        known, self._cut = self._cut == MAX_NESTED, outer
        return known and not form.shapes

    def _node(self, number: int) -> Normal:
        node = self.places[number]
        if isinstance(node, Complement):
            return self._complement(node.of)
        assert isinstance(node, Place)
        return self._place(self._followed(node))

    def _followed(self, place: Place) -> Place:
        """The end of a chain of schemas that only refer to the next."""
        seen = set()
        while "$ref" in place.schema and ANNOTATED.issuperset(place.schema) and place.number not in seen:
            seen.add(place.number)
            target = self.places.target(place.schema["$ref"], f"{place.pointer}/$ref", place)
            node = self.places[target[0]] if target else None
            if not isinstance(node, Place):
                break
            place = node
        return place

    def _place(self, place: Place) -> Normal:
        schema = place.schema
        factors = [self._applied(place, keyword) for keyword in schema if keyword in APPLICATORS]
        # properties come in the order of the text
        n_before = sum(1 for keyword in takewhile(lambda word: word != "properties", schema) if keyword in APPLICATORS)
        factors.insert(n_before if "properties" in schema else 0, self._own(place))
        factors += [self._dependency(*dependency) for dependency in self._keywords.dependencies(place)]
        form = self._product(factors, place.pointer)
        if schema.get("nullable") is True and "enum" not in schema and "const" not in schema:  # OpenAPI 3.0
            form = Normal(_unique([*form.shapes, Null()]), form.exact)
        for keyword, kind in (("unevaluatedItems", Arrays), ("unevaluatedProperties", Objects)):
            if keyword in schema:
                key = self._keywords.key(place, keyword)
                form = Normal(_unique(_unevaluated(shape, kind, key) for shape in form.shapes), form.exact)
        return form

    def _own(self, place: Place) -> Normal:
        n_degraded = self._report.n_degraded
        shapes = self._keywords.shapes(place)
        form = ANY if shapes == EVERY_TYPE else Normal(shapes)
        for literals in self._keywords.literals(place):
            form = self._meet(form, Normal((literals,) if literals.values else ()), place.pointer)
        return replace(form, exact=False) if self._report.n_degraded > n_degraded else form

    def _applied(self, place: Place, keyword: str) -> Normal:
        at = f"{place.pointer}/{keyword}"
        schema = place.schema
        if keyword == "$ref":
            return self.normal(self.places.target(schema[keyword], at, place))
        if keyword in ("$dynamicRef", "$recursiveRef"):
            return self.normal(self.places.dynamic_target(schema[keyword], at, place))
        if keyword == "not":
            return self._complement(self._keywords.key(place, keyword))
        if keyword == "if":
            return self._condition(place)
        keys = self._keywords.keys(place, keyword)
        if not keys:
            return ANY
        if keyword == "allOf":
            return self._product([self.normal(key) for key in keys], at)
        if keyword == "anyOf":
            return _union(self.normal(key) for key in keys)
        return self._one_of(keys, at)

    def _condition(self, place: Place) -> Normal:
        test = self._keywords.key(place, "if")
        yes, no = (self._keywords.key(place, word) if word in place.schema else ANYTHING for word in ("then", "else"))
        if yes == no == ANYTHING:
            return ANY
        at = f"{place.pointer}/if"
        met = self._meet(self.normal(test), self.normal(yes), at)
        return _union([met, self._meet(self._complement(test), self.normal(no), at)])

    def _dependency(self, name: str, names: tuple[str, ...], key: Key, at: str) -> Normal:
        others = tuple(shape for shape in EVERY_TYPE if not isinstance(shape, Objects))
        having = self._meet(Normal((Objects(required=(name, *names)),)), self.normal(key), at)
        return _union([Normal((*others, forbidden(name))), having])

    def _complement(self, key: Key) -> Normal:
        if key in (ANYTHING, NOTHING):
            return NONE if key == ANYTHING else ANY
        form = self.normal(key)
        at = self.places.pointer(key)
        problem = "what it refuses is not known exactly"
        if form.exact:
            try:
                factors = [Normal(complement_of(shape, self.places.complement)) for shape in form.shapes]
                return self._product(factors, at)
            except Inexact as error:
                problem = f"{error} can't be described"
        self._report.degrade(at, f"its opposite has no effect: {problem}")
        return Normal(EVERY_TYPE, exact=False)

    def _one_of(self, keys: tuple[Key, ...], at: str) -> Normal:
        """Each branch without what another one meets, too; or, with a warning, any of them."""
        forms = [self.normal(key) for key in keys]
        alone = list(forms)
        for i in range(len(forms)):
            for j, other in enumerate(forms):
                if i == j or not self._overlap(alone[i], other):
                    continue
                rest = self._without(alone[i], other)
                if rest is None:
                    self._report.degrade(at, f"branches {min(i, j)} and {max(i, j)} may both be met; held as anyOf")
                    union = _union(forms)
                    return Normal(union.shapes, exact=False)
                alone[i] = rest
        union = _union(alone)
        if not union.shapes and any(form.shapes for form in forms):
            self._report.degrade(at, "nothing meets exactly one branch; held as anyOf")
            return Normal(_union(forms).shapes, exact=False)
        return union

    def _overlap(self, a: Normal, b: Normal) -> bool:
        return not (a.exact and b.exact) or any(
            self._meet_shapes(one, other) is not None for one in a.shapes for other in b.shapes
        )

    def _without(self, form: Normal, other: Normal) -> Normal | None:
        """What meets a form and not the other; None if that is not known exactly, or large."""
        if not (form.exact and other.exact):
            return None
        rest = form.shapes
        for shape in other.shapes:
            try:
                opposite = complement_of(shape, self.places.complement)
            except Inexact:
                return None
            rest = tuple(
                part
                for one in rest
                for part in self._parts(one, opposite if self._meet_shapes(one, shape) is not None else (one,))
            )
            if len(rest) > MAX_SUBTRACTED + len(form.shapes):
                return None
        return Normal(_unique(rest))

    def _parts(self, shape: Shape, others: Iterable[Shape]) -> Iterator[Shape]:
        found = (shape if other is shape else self._meet_shapes(shape, other) for other in others)
        return (part for part in found if part is not None)

    def _product(self, factors: list[Normal], at: str) -> Normal:
        form = ANY
        for factor in factors:
            form = self._meet(form, factor, at)
        return form

    def _meet(self, a: Normal, b: Normal, at: str) -> Normal:
        if a is ANY or b is ANY:
            return b if a is ANY else a
        exact = a.exact and b.exact
        if not (a.shapes and b.shapes):
            return Normal((), exact)
        self._n_pairs += len(a.shapes) * len(b.shapes)
        if self._n_pairs > MAX_PAIRS:
            self._report.degrade(at, "the schema combines too many alternatives; some of them are not held")
            return Normal(a.shapes if len(a.shapes) >= len(b.shapes) else b.shapes, exact=False)
        found = (self._meet_shapes(one, other) for one in a.shapes for other in b.shapes)
        shapes = _unique(shape for shape in found if shape is not None)
        if not shapes:
            self._report.impossible(at, "no value meets all parts of it")
        if len(shapes) > MAX_ALTERNATIVES and len(shapes) > max(len(a.shapes), len(b.shapes)):
            self._report.degrade(at, f"{len(shapes)} combinations of alternatives; some of them are not held")
            return Normal(a.shapes if len(a.shapes) >= len(b.shapes) else b.shapes, exact=False)
        return Normal(shapes, exact)

    def _meet_shapes(self, a: Shape, b: Shape) -> Shape | None:
        if isinstance(a, Literals) or isinstance(b, Literals):
            if not isinstance(a, Literals):
                a, b = b, a
            assert isinstance(a, Literals)
            if isinstance(b, Literals):
                known = {same for same, _ in b.values}
                kept = tuple(pair for pair in a.values if pair[0] in known)
            else:
                kept = tuple(pair for pair in a.values if meets(pair[1], b, self.normal))
            return Literals(kept) if kept else None
        both = meet(a, b)
        if isinstance(both, Objects) and both is not a:
            return self._without_dead_ends(both)
        return both

    def _without_dead_ends(self, shape: Objects) -> Objects | None:
        """None for objects that require a property whose schemas exclude each other."""
        if shape.required and shape.layers:
            keys: dict[str, list[Key]] = {}
            for layer in shape.layers:
                for name, key in layer.properties:
                    keys.setdefault(name, []).append(key)
            for name in shape.required:
                found = keys.get(name, [])
                if NOTHING in found or (len(found) > 1 and self.is_empty(conjunction(*found))):
                    return None
        return shape


def _union(forms: Iterable[Normal]) -> Normal:
    forms = list(forms)
    if any(form is ANY for form in forms):
        return ANY
    return Normal(_unique(shape for form in forms for shape in form.shapes), all(form.exact for form in forms))


def _unevaluated(shape: Shape, kind: type[Shape], key: Key) -> Shape:
    if not isinstance(shape, kind):
        return shape
    if isinstance(shape, Arrays):
        return unevaluated_items(shape, key)
    return unevaluated_properties(shape, key) if isinstance(shape, Objects) else shape


def _unique(shapes: Iterable[Shape]) -> tuple[Shape, ...]:
    """Each alternative once; values that are listed are one alternative."""
    literals: dict[Any, Any] = {}
    found: dict[Shape, None] = {}
    for shape in shapes:
        if isinstance(shape, Literals):
            literals |= dict(shape.values)
        elif not (isinstance(shape, Numbers) and shape.integer and replace(shape, integer=False) in found):
            found[shape] = None
    return (*found, Literals(tuple(literals.items()))) if literals else tuple(found)
