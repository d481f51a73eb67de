"""Writes the plans of a schema as rules of llguidance's dialect of Lark.

Each value's string or number is one lexeme; a property's name is one with its quotes, the colon and the white space
around it, as are a bracket or a comma with the white space beside them. JSON is made so that no lexeme that may follow
another one begins with a character that the other one could go on with.
"""

from __future__ import annotations

import re

from pyinfer.errors import ParameterError
from pyinfer.guides.schema.graph import Graph
from pyinfer.guides.schema.layout import Layout
from pyinfer.guides.schema.places import Key
from pyinfer.guides.schema.plans import Array, Member, Object, Plan, Rule, Terminal, Values
from pyinfer.guides.schema.shapes import INFINITE
from pyinfer.guides.schema.values import escaped_regex, string_text, value_regex

MAX_GRAMMAR = 1 << 23  # characters
MAX_ORDERED = 256  # optional properties of an object that come in their order
MAX_CHAIN = (
    1500  # rules that refer each to the next: llguidance calls itself for each, and has a stack of some megabytes
)
NAMES = re.compile(r"\b[a-z0-9_]+\b")


class Writer:
    """Writes the rules of one schema; `prefix` begins the names of them all."""

    def __init__(self, graph: Graph, layout: Layout, prefix: str = "") -> None:
        self._graph = graph
        self._layout = layout
        self._prefix = prefix
        self._lines: list[str] = []
        self._n_characters = 0
        self._rules: dict[str, str] = {}  # names by their bodies
        self._terminals: dict[str, str] = {}
        self._names: dict[Key, str] = {}
        self._member_names: dict[str, str] = {}  # terminals of properties' names
        self._todo: list[Key] = []
        self.start = self._value(graph.root)
        while self._todo:
            key = self._todo.pop()
            alternatives = [self._written(plan) for plan in graph.plans(key)]
            self._add(f"{self._names[key]}: {_either(alternatives)}")

        self._check_chain()

    def _check_chain(self) -> None:
        """Refuse rules of which a long chain is visited before any is done, in the order in which they are read."""
        found = (line.partition(": ") for line in self._lines if not line.startswith(self._prefix.upper() + "T"))
        bodies = {name: body for name, _, body in found}
        seen = {self.start}
        chain = [iter(NAMES.findall(bodies.get(self.start, "")))]
        while chain:
            name = next((name for name in chain[-1] if name in bodies and name not in seen), None)
            if name is None:
                chain.pop()
                continue
            seen.add(name)
            chain.append(iter(NAMES.findall(bodies[name])))
            if len(chain) > MAX_CHAIN:
                raise ParameterError(f"the JSON schema needs a chain of more than {MAX_CHAIN} rules")

    def lines(self) -> list[str]:
        """The rules and terminals; none of them is named `start`."""
        return self._lines

    def _add(self, line: str) -> None:
        self._lines.append(line)
        self._n_characters += len(line)
        if self._n_characters > MAX_GRAMMAR:
            raise ParameterError(f"the JSON schema needs a grammar of more than {MAX_GRAMMAR} characters")

    def _value(self, key: Key) -> str:
        """The name of what writes a key."""
        key = self._graph.resolve(key)
        if key not in self._names:
            plans = list(self._graph.plans(key))
            if len(plans) == 1 and isinstance(plans[0], (Terminal, Values)):
                self._names[key] = self._written(plans[0])
            else:
                self._names[key] = f"{self._prefix}v{len(self._names)}"
                self._todo.append(key)
        return self._names[key]

    def _rule(self, body: str) -> str:
        """The name of a rule."""
        if body not in self._rules:
            self._rules[body] = f"{self._prefix}r{len(self._rules)}"
            self._add(f"{self._rules[body]}: {body}")
        return self._rules[body]

    def _terminal(self, expression: str) -> str:
        if expression not in self._terminals:
            self._terminals[expression] = f"{self._prefix.upper()}T{len(self._terminals)}"
            self._add(f"{self._terminals[expression]}: {expression}")
        return self._terminals[expression]

    def _sign(self, text: str) -> str:
        return self._terminal(f"/{self._layout.sign(text)}/")

    def _written(self, plan: Plan) -> str:
        match plan:
            case Terminal():
                return self._terminal(plan.expression)
            case Rule():
                return self._rule(plan.expression)
            case Values():
                texts = [value_regex(value, self._layout.sign) for _, value in plan.literals.values]
                return self._terminal(f"/{'|'.join(texts)}/")
            case Array():
                return self._rule(self._array(plan))
        return self._rule(self._object(plan))

    # arrays

    def _array(self, plan: Array) -> str:
        comma, opening, closing = self._sign(","), self._sign("["), self._sign("]")
        empty = self._sign("[]") if plan.low == 0 and plan.hits is None else None
        n = next((i for i in range(len(plan.prefix) + 1) if not self._graph.ends(plan.item(i))), INFINITE)
        high = min(plan.high, n)
        if high < 1:
            return empty or self._sign("[]")
        if plan.hits is not None and high >= plan.low:
            filled = _either(self._with_hits(plan, high, comma))
        else:
            filled = self._items(plan, high, comma)
        return f"{opening} {filled} {closing}" + (f" | {empty}" if empty else "")

    def _items(self, plan: Array, high: float, comma: str) -> str:
        first = int(min(len(plan.prefix), high))
        parts = [self._value(key) for key in plan.prefix[:first]]
        rest = ""
        if high > first:
            item = self._value(plan.items)
            if not parts:  # at least one is written
                return f"{item} {_repeated(f'{comma} {item}', max(plan.low, 1) - 1, high - 1)}".rstrip()
            rest = _repeated(f"{comma} {item}", max(plan.low - first, 0), high - first)
        text = rest
        least = max(plan.low, 1)
        for i in range(first - 1, 0, -1):
            text = f"{comma} {parts[i]} {text}".rstrip()
            if i >= least:
                text = f"({text})?" if len(text) < 2000 else f"{self._rule(text)}?"
        return f"{parts[0]} {text}".rstrip()

    def _with_hits(self, plan: Array, high: float, comma: str) -> list[str]:
        """States by the number of items and of hits; each is a rule of what has been written so far."""
        assert plan.hits is not None
        n_hits, last = plan.hits[1], plan.n_positions
        states: dict[tuple[int, int], str] = {}
        found: list[str] = []
        for n in range(1, last + 1):
            for k in range(min(n, n_hits) + 1):
                ways = self._ways_to(plan, n, k, states, comma)
                if n == last and high == INFINITE:  # from here on all items are alike: the state refers to itself
                    name = f"{self._prefix}h{len(self._lines)}"
                    ways += self._loops(plan, n, k, name, states, comma)
                    if not ways or all(way.startswith(f"{name} ") for way in ways):
                        continue
                    self._add(f"{name}: {_either(ways)}")
                    states[n, k] = name
                elif ways:
                    states[n, k] = self._rule(_either(ways))
                if (n, k) in states and k == n_hits and plan.low <= n <= high:
                    found.append(states[n, k])
        return found

    def _ways_to(self, plan: Array, n: int, k: int, states: dict[tuple[int, int], str], comma: str) -> list[str]:
        assert plan.hits is not None
        ways = []
        steps = [(k, plan.item(n - 1))]
        if k > 0:
            steps.append((k - 1, plan.hit(n - 1)))
        for before, key in steps:
            if not self._graph.ends(key):
                continue
            if n == 1 and before == 0:
                ways.append(self._value(key))
            elif (n - 1, before) in states:
                ways.append(f"{states[n - 1, before]} {comma} {self._value(key)}")
        return ways

    def _loops(
        self, plan: Array, n: int, k: int, name: str, states: dict[tuple[int, int], str], comma: str
    ) -> list[str]:
        ways = []
        if self._graph.ends(plan.item(n)):
            ways.append(f"{name} {comma} {self._value(plan.item(n))}")
        if (n, k - 1) in states and self._graph.ends(plan.hit(n)):
            ways.append(f"{states[n, k - 1]} {comma} {self._value(plan.hit(n))}")
        return ways

    # objects

    def _object(self, plan: Object) -> str:
        members = [member for member in plan.members if self._graph.ends(member.key)]
        others = [self._pair(name, key) for name, key in plan.others if self._graph.ends(key)]
        other = self._rule(_either(others)) if len(others) > 1 else (others[0] if others else "")
        may_be_empty = plan.low == 0 and not any(member.required for member in members)
        filled = self._members(members, other, plan.low, plan.high)
        empty = self._sign("{}")
        if not filled:
            return empty
        body = f"{self._sign('{')} {_either(filled)} {self._sign('}')}"
        return f"{body} | {empty}" if may_be_empty else body

    def _pair(self, name: str, key: Key) -> str:
        """A name, as an expression of a terminal, and its value."""
        terminal = self._terminal(f"({name}) /{self._layout.sign(':')}/")
        return f"{terminal} {self._value(key)}"

    def _members(self, members: list[Member], other: str, low: int, high: float) -> list[str]:
        """Alternatives for what stands between the braces, where that is not empty.

        State k is that k properties have been written, or at least as many as matter; it has a rule of the texts that
        lead there.
        """
        if high < 1:
            return []
        comma = self._sign(",")
        n_states = int(max(1, low, high if high < INFINITE else 0))
        ways: list[list[str]] = [[] for _ in range(n_states + 1)]  # by state; that of the state 0 is the empty text
        started = False  # a required property has been written
        optional = [member for member in members if not member.required]
        if len(optional) > MAX_ORDERED and n_states == 1:
            # a rule for each would refer to the one before; instead they come in any order, after what is required
            members = [member for member in members if member.required]
            pairs = [f"{self._name(member.name)} {self._value(member.key)}" for member in optional]
            other = self._rule(_either([*pairs, other] if other else pairs))
        for member in members:
            pair = f"{self._name(member.name)} {self._value(member.key)}"
            ways = self._after(ways, pair, comma, high, is_first=not started, optional=not member.required)
            started = started or member.required
        if other:
            ways = self._after_others(ways, other, comma, high, is_first=not started)
        return [way for found in ways[max(1, low) :] for way in found]

    def _after(
        self, ways: list[list[str]], pair: str, comma: str, high: float, *, is_first: bool, optional: bool
    ) -> list[list[str]]:
        names = [[self._state(found)] if optional and found else found for found in ways]
        new: list[list[str]] = [list(found) if optional else [] for found in names]
        last = len(ways) - 1
        if is_first:
            new[1].append(pair)
        for k, found in enumerate(names):
            if k == last and high < INFINITE:
                continue  # no more may come
            if len(found) > 1:
                found = [self._state(found)]
            new[min(k + 1, last)] += (f"{way} {comma} {pair}" for way in found)
        return new

    def _after_others(
        self, ways: list[list[str]], other: str, comma: str, high: float, *, is_first: bool
    ) -> list[list[str]]:
        last = len(ways) - 1
        new: list[list[str]] = [[]]
        for k in range(1, last + 1):
            found = [*ways[k]]
            if k == 1 and is_first:
                found.append(other)
            if k > 1 and new[k - 1]:
                found += (f"{way} {comma} {other}" for way in [self._state(new[k - 1])])
            if k == last and high == INFINITE and found:
                found = [f"{_group(found)} ({comma} {other})*"]
            new.append(found)
        return new

    def _state(self, ways: list[str]) -> str:
        return ways[0] if len(ways) == 1 and " " not in ways[0] else self._rule(_either(ways))

    def _name(self, name: str) -> str:
        if name not in self._member_names:
            expression = f"/{escaped_regex(string_text(name))}{self._layout.sign(':')}/"
            self._member_names[name] = self._terminal(expression)
        return self._member_names[name]


def _either(alternatives: list[str]) -> str:
    return alternatives[0] if len(alternatives) == 1 else f"({' | '.join(alternatives)})"


def _group(alternatives: list[str]) -> str:
    return _either(alternatives) if len(alternatives) > 1 else alternatives[0]


def _repeated(text: str, low: float, high: float) -> str:
    if high < 1:
        return ""
    if high == INFINITE:
        return f"({text})*" if low == 0 else f"({text}){{{int(low)},}}"
    return f"({text}){{{int(low)},{int(high)}}}"
