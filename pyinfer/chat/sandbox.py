"""A Jinja environment for templates of any origin: they reach no Python objects, change nothing, and end soon.

Jinja's immutable sandbox does the first two. A meter does the third: loops, calls, filters and tests look at the clock,
and each operation whose result can be larger than its arguments first computes a bound of the result's size.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

MAX_SECONDS = 1.0  # of this thread's processor time; published templates need milliseconds
MAX_SIZE = 1 << 20  # characters and elements of one value: a single step of Python can read all of them
MAX_TOTAL = 1 << 27  # characters and elements of all values that are made
# All three limits grow with the messages: each of their characters adds so many microseconds, characters or elements.
PER_INPUT = 16
TOTAL_PER_INPUT = 256  # a text that grows message by message is made again for each
MAX_BITS = 1 << 16  # of an integer

# Chats don't need these, and a few characters of a template make them slow or their results large.
REMOVED_FILTERS = ("pprint", "striptags", "urlize", "wordwrap", "xmlattr")
REMOVED_METHODS = ("expandtabs", "format_map", "maketrans", "striptags", "to_bytes", "translate")

# A width in a format string that comes from an argument or has five digits.
WIDE = re.compile(r"%[^a-zA-Z%]*(\*|\d{5})|\{[^{}]*(\d{5}|\{)")


class Meter:
    """Counts the time and memory that a rendering uses; raises TemplateError when that is too much."""

    def __init__(self, input_size: int = 0, max_seconds: float | None = None) -> None:
        self._seconds = (MAX_SECONDS if max_seconds is None else max_seconds) + 1e-6 * PER_INPUT * input_size
        self._end = time.thread_time() + self._seconds
        self.max_size = MAX_SIZE + input_size * PER_INPUT
        self._left = MAX_TOTAL + input_size * TOTAL_PER_INPUT
        self._known: dict[int, tuple[Any, int]] = {}  # containers by id, kept so that no other gets the same id

    def tick(self) -> bool:
        """Check the time. Returns True, so that `and` can join it to a condition."""
        if time.thread_time() > self._end:
            raise TemplateError(f"the template takes longer than {self._seconds:.3g} s")
        return True

    def check(self, size: int) -> None:
        """Raise TemplateError if a value may not have so many characters or elements."""
        if size > self.max_size:
            raise TemplateError(f"the template makes a text or list of {size} parts; at most {self.max_size} may be")

    def made(self, value: Any) -> Any:
        """Count a new value, and return it."""
        if isinstance(value, (str, bytes, list, tuple, dict)):
            self.check(self.weight(value))
            self._left -= len(value)
            if self._left < 0:
                raise TemplateError("the template makes more characters and list elements in all than it may")
        elif isinstance(value, int) and value.bit_length() > MAX_BITS:
            raise TemplateError(f"the template makes an integer of {value.bit_length()} bits")
        return value

    def weight(self, value: Any) -> int:
        """Return how many characters and elements a value has, with those of its elements, each time they occur."""
        if isinstance(value, (str, bytes)):
            return len(value)
        if isinstance(value, Namespace):
            return self._sum(object.__getattribute__(value, "_Namespace__attrs").values())
        if not isinstance(value, (list, tuple, dict)):
            return 1
        if id(value) not in self._known:
            parts = [*value, *value.values()] if isinstance(value, dict) else value
            self._known[id(value)] = (value, self._sum(parts))
        return self._known[id(value)][1]

    def _sum(self, parts: Iterable[Any]) -> int:
        total = 1
        for part in parts:
            total += 1 + self.weight(part)
        return total


def _replaced(meter: Meter, text: Any, *args: Any) -> int:
    if len(args) < 2:
        return 0  # the call fails
    whole = str(text)
    return len(whole) + whole.count(str(args[0])) * len(str(args[1]))


def _joined(meter: Meter, *args: Any) -> int:
    lists = [a for a in args if isinstance(a, (list, tuple, dict))]
    longest = max([len(a) for a in args if isinstance(a, (str, bytes))], default=0)
    if lists:
        return sum(meter.weight(a) + len(a) * longest for a in lists)
    return sum(map(meter.weight, args)) * (1 + longest)


def _formatted(meter: Meter, text: Any, *args: Any) -> int:
    if not isinstance(text, (str, bytes)):
        return 0
    form = text.decode("latin-1") if isinstance(text, bytes) else str(text)
    if WIDE.search(form):
        raise TemplateError(f"format {form!r:.60} has a width that is too large or not in the text")
    return len(form) + (form.count("%") + form.count("{")) * max([meter.weight(a) for a in args], default=0)


def _padded(meter: Meter, value: Any, *args: Any) -> int:
    size = 1
    for a in args:
        size *= 1 + (abs(a) if isinstance(a, int) else meter.weight(a))
    return meter.weight(value) + size


def _indented(meter: Meter, value: Any, *args: Any) -> int:
    lines = 1 + value.count("\n") if isinstance(value, str) else meter.weight(value) * _depth(value, {})
    widest = max([abs(a) if isinstance(a, int) else meter.weight(a) for a in args], default=0)
    return meter.weight(value) + lines * widest


def _depth(value: Any, known: dict[int, int]) -> int:
    if not isinstance(value, (list, tuple, dict)):
        return 0
    if id(value) not in known:
        parts = value.values() if isinstance(value, dict) else value
        known[id(value)] = 1 + max([_depth(part, known) for part in parts], default=0)
    return known[id(value)]


def _summed(meter: Meter, values: Any, *args: Any) -> int:
    lists = [a for a in args if isinstance(a, (list, tuple))]
    return meter.weight(values) * (1 + len(lists) * len(values))


def _rounded(meter: Meter, value: Any, *args: Any) -> int:
    return sum(abs(a) ** 2 for a in args if isinstance(a, int))  # digits; the powers of ten take longer than they


# Functions that bound the size of the result of a filter or a method, by its name.
SIZES: Mapping[str, Callable[..., int]] = {
    "replace": _replaced,
    "join": _joined,
    "format": _formatted,
    "sum": _summed,
    "round": _rounded,
    **dict.fromkeys(("indent", "tojson"), _indented),
    **dict.fromkeys(("batch", "center", "ljust", "rjust", "slice", "zfill"), _padded),
}
LAZY = frozenset({"batch", "join", "slice", "sum"})  # filters that take generators; as a list, these have a size


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """The sandbox of one rendering.

    - `input_size` (0): characters of the messages; the limits grow with it.
    - `max_seconds` (None): of processor time; None: MAX_SECONDS.
    """

    intercepted_binops = frozenset({"+", "*", "%", "**"})

    def __init__(self, input_size: int = 0, max_seconds: float | None = None) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", Generation])
        self.meter = Meter(input_size, max_seconds)
        self.concat = self._concat  # type: ignore[method-assign]
        for name in REMOVED_FILTERS:
            self.filters.pop(name, None)
        self.filters = {name: self._metered(name, function) for name, function in self.filters.items()}
        self.tests = {name: self._metered("", function) for name, function in self.tests.items()}
        self.globals.update(dict=_dict, namespace=PlainNamespace)
        del self.globals["lipsum"]

    def add_filter(self, name: str, function: Callable[..., Any]) -> None:
        """Add a filter, which is metered like Jinja's own."""
        self.filters[name] = self._metered(name, function)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Refuse, beside what Jinja refuses, methods whose results can be much larger than their arguments."""
        return attr not in REMOVED_METHODS and super().is_safe_attribute(obj, attr, value)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Call a method, macro or global for a template."""
        meter = __self.meter
        meter.tick()
        method = getattr(__obj, "__wrapped__", __obj)  # str.format comes wrapped
        owner = getattr(method, "__self__", None)
        if isinstance(owner, (str, bytes)):
            size = SIZES.get(method.__name__)
            if size is not None:
                args = tuple(a if isinstance(a, (str, bytes, int)) else _listed(a) for a in args)
                meter.check(size(meter, owner, *args, *(v for k, v in kwargs.items() if not k.startswith("_"))))
        return meter.made(super().call(__context, __obj, *args, **kwargs))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Compute +, *, % or ** for a template."""
        meter = self.meter
        if operator == "+":
            if isinstance(left, (str, bytes, list, tuple)) and isinstance(right, (str, bytes, list, tuple)):
                meter.check(meter.weight(left) + meter.weight(right))
        elif operator == "%":
            meter.check(_formatted(meter, left, *(right if isinstance(right, tuple) else (right,))))
        elif isinstance(left, int) and isinstance(right, int):
            bits = left.bit_length() * right if operator == "**" else left.bit_length() + right.bit_length()
            if bits > MAX_BITS:
                raise TemplateError(f"the template makes an integer of {bits} bits")
        elif isinstance(left, int) or isinstance(right, int):  # a sequence so many times
            number, value = (left, right) if isinstance(left, int) else (right, left)
            meter.check(number * meter.weight(value))
        return meter.made(super().call_binop(context, operator, left, right))

    def join_texts(self, *parts: Any) -> str:
        """Compute a ~ b ~ c for a template."""
        return self._concat([str(part) for part in parts])

    def _concat(self, pieces: Iterable[str]) -> str:
        pieces = list(pieces)
        self.meter.check(sum(map(len, pieces)))
        text: str = self.meter.made("".join(pieces))
        return text

    def _metered(self, name: str, function: Any) -> Callable[..., Any]:
        size = SIZES.get(name)
        skipped = 1 if hasattr(function, "jinja_pass_arg") else 0  # the environment or context in front

        def metered(*args: Any, **kwargs: Any) -> Any:
            meter = self.meter
            meter.tick()
            if size is not None:
                if name in LAZY and len(args) > skipped:
                    args = (*args[:skipped], _listed(args[skipped]), *args[skipped + 1 :])
                meter.check(size(meter, *args[skipped:], *kwargs.values()))
            return meter.made(function(*args, **kwargs))

        metered.__dict__.update(getattr(function, "__dict__", {}))  # how Jinja calls it
        return metered

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        """Parse a template, and add calls of the meter where the language itself loops, joins and builds values."""
        tree = Parser(self, source, name, filename).parse()
        for loop in tree.find_all(nodes.For):
            loop.body.insert(0, nodes.ExprStmt(_hook("meter.tick", []), lineno=loop.lineno))
            if loop.test is not None:
                loop.test = nodes.And(_hook("meter.tick", []), loop.test, lineno=loop.lineno)
        _replace_children(tree)
        tree.set_environment(self)
        return tree


def _hook(name: str, args: list[nodes.Expr]) -> nodes.Call:
    first, *rest = name.split(".")
    function: nodes.Expr = nodes.EnvironmentAttribute(first)
    for part in rest:
        function = nodes.Getattr(function, part, "load")
    return nodes.Call(function, args, [], None, None)


def _replace_children(node: nodes.Node) -> None:
    """Replace slices, concatenations and container literals, at any depth, by calls that the meter counts."""
    for field, value in node.iter_fields():
        if isinstance(value, nodes.Node):
            _replace_children(value)
            setattr(node, field, _hooked(value))
        elif isinstance(value, list):
            for i, item in enumerate(value):
                if isinstance(item, nodes.Node):
                    _replace_children(item)
                    value[i] = _hooked(item)


def _hooked(node: nodes.Node) -> nodes.Node:
    if isinstance(node, nodes.Concat):
        call = _hook("join_texts", node.nodes)
    elif (
        isinstance(node, (nodes.List, nodes.Dict))
        or (isinstance(node, nodes.Tuple) and node.ctx == "load")
        or (isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice) and node.ctx == "load")
    ):
        call = _hook("meter.made", [node])
    else:
        return node
    return call.set_lineno(node.lineno)


def _listed(value: Any) -> Any:
    if isinstance(value, (str, bytes, list, tuple, dict)) or not hasattr(value, "__iter__"):
        return value
    return list(value)


def _dict(*args: Any, **kwargs: Any) -> dict[Any, Any]:
    """Jinja's `dict` as a function, without the type's methods."""
    return dict(*args, **kwargs)


class PlainNamespace(Namespace):
    """Jinja's `namespace`, which refuses names that begin with an underscore."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        self, *values = args
        names = dict(*values, **kwargs)
        for name in names:
            _check_name(name)
        Namespace.__init__(self, names)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


def _check_name(name: Any) -> None:
    if not isinstance(name, str) or name.startswith("_"):
        raise TemplateError(f"namespace: {name!r:.60} is not a name that a template may set")


class Generation(Extension):
    """{% generation %} … {% endgeneration %}, which marks a model's text for training and does not change it."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> nodes.Node:
        """Return the body, in a scope of its own."""
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)
