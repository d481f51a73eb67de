"""What a regular part matches, asked in Python: whether a text, and whether any text at all (Brzozowski's derivatives).

The derivative of a part by a character is what may follow that character. Expressions are numbered, and equal ones have
the same number, so that the derivatives of a part are states of an automaton, of which only those that are needed are
made.
"""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections.abc import Iterable

from pyinfer.guides.grammar.nodes import Alt, And, Chars, Node, Not, Repeat, Seq, walk
from pyinfer.guides.grammar.outcomes import TooComplex

MAX_STEPS = 200_000  # derivatives of parts, some 0.2 s
NEVER, EMPTY = 0, 1  # the numbers of two expressions: no text, and the empty text

Key = tuple[str | int | frozenset[int] | None, ...]


class Language:
    """The texts of a regular part (without Ref and Token). Raises TooComplex where its automaton gets too large."""

    def __init__(self, *nodes: Node, max_steps: int = MAX_STEPS) -> None:
        """nodes: all of them have to match."""
        self._keys: list[Key] = [("never",), ("empty",)]
        self._numbers: dict[Key, int] = {key: i for i, key in enumerate(self._keys)}
        self._nullable = [False, True]
        self._derived: dict[tuple[int, int], int] = {}
        self._steps, self._max_steps = 0, max_steps
        edges = {0, sys.maxunicode + 1}
        for node in nodes:
            for leaf in walk(node):
                if isinstance(leaf, Chars):
                    edges.update(edge for low, high in leaf.ranges for edge in (low, high + 1))
        self._starts = sorted(edges)[:-1]  # of the sets of characters that all parts treat alike
        self._start = self._all(self._built(node) for node in nodes)

    def matches(self, text: str) -> bool:
        """Whether the whole text belongs to the language."""
        state = self._start
        for char in text:
            state = self._step(state, bisect_right(self._starts, ord(char)) - 1)
            if state == NEVER:
                return False
        return self._nullable[state]

    def is_empty(self, min_length: int = 0, max_length: int | None = None) -> bool:
        """Whether no text of so many characters belongs to the language."""
        states, length = frozenset((self._start,)), 0
        seen: set[frozenset[int]] = set()
        passed: set[int] = set()  # from the least length on: states that need not be seen again
        while states and (max_length is None or length <= max_length):
            if length >= min_length:
                if any(self._nullable[state] for state in states):
                    return False
                passed |= states
            elif states in seen:  # lengths repeat themselves; in case of doubt there is a text
                return False
            seen.add(states)
            self._pay(len(states) * len(self._starts))
            after = {self._step(state, i) for state in states for i in range(len(self._starts))}
            states = frozenset(after - {NEVER} - passed)
            length += 1
        return True

    def _step(self, state: int, char: int) -> int:
        try:
            return self._after(state, char)
        except RecursionError:
            raise TooComplex("the pattern is nested too deeply") from None

    def _pay(self, steps: int) -> None:
        self._steps += steps
        if self._steps > self._max_steps:
            raise TooComplex("the pattern takes very long to check")

    # building expressions

    def _number(self, nullable: bool, *key: str | int | frozenset[int] | None) -> int:
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self._keys)
            self._keys.append(key)
            self._nullable.append(nullable)
        return number

    def _built(self, node: Node) -> int:
        if isinstance(node, Chars):
            bits = 0
            for low, high in node.ranges:
                bits |= (1 << bisect_right(self._starts, high)) - (1 << bisect_right(self._starts, low) - 1)
            return self._number(False, "chars", bits) if bits else NEVER
        if isinstance(node, Seq):
            number = EMPTY
            for item in reversed(node.items):
                number = self._sequence(self._built(item), number)
            return number
        if isinstance(node, Alt):
            return self._any(self._built(item) for item in node.items)
        if isinstance(node, And):
            return self._all(self._built(item) for item in node.items)
        if isinstance(node, Not):
            return self._complement(self._built(node.item))
        assert isinstance(node, Repeat)
        return self._repeated(self._built(node.item), node.min_count, node.max_count)

    def _sequence(self, first: int, rest: int) -> int:
        if NEVER in (first, rest):
            return NEVER
        if first == EMPTY or rest == EMPTY:
            return rest if first == EMPTY else first
        key = self._keys[first]
        if key[0] == "sequence":  # to the right, so that equal ones have the same number
            assert isinstance(key[1], int) and isinstance(key[2], int)
            return self._sequence(key[1], self._sequence(key[2], rest))
        return self._number(self._nullable[first] and self._nullable[rest], "sequence", first, rest)

    def _any(self, parts: Iterable[int]) -> int:
        found = self._flat("any", parts) - {NEVER}
        everything = self._numbers.get(("not", NEVER))
        if everything in found and everything is not None:
            return everything
        if len(found) <= 1:
            return next(iter(found), NEVER)
        return self._number(any(self._nullable[part] for part in found), "any", frozenset(found))

    def _all(self, parts: Iterable[int]) -> int:
        found = self._flat("all", parts)
        found.discard(self._complement(NEVER))
        if NEVER in found:
            return NEVER
        if EMPTY in found:
            return EMPTY if all(self._nullable[part] for part in found) else NEVER
        if not found:
            return self._complement(NEVER)
        if len(found) == 1:
            return next(iter(found))
        return self._number(all(self._nullable[part] for part in found), "all", frozenset(found))

    def _flat(self, kind: str, parts: Iterable[int]) -> set[int]:
        found: set[int] = set()
        for part in parts:
            key = self._keys[part]
            if key[0] == kind and isinstance(key[1], frozenset):
                found |= key[1]
            else:
                found.add(part)
        return found

    def _complement(self, part: int) -> int:
        key = self._keys[part]
        if key[0] == "not" and isinstance(key[1], int):
            return key[1]
        return self._number(not self._nullable[part], "not", part)

    def _repeated(self, item: int, least: int, most: int | None) -> int:
        if most == 0 or item == EMPTY:
            return EMPTY
        if item == NEVER:
            return NEVER if least else EMPTY
        if (least, most) == (1, 1):
            return item
        least = 0 if self._nullable[item] else least
        return self._number(least == 0, "repeat", item, least, most)

    # derivatives

    def _after(self, part: int, char: int) -> int:
        """What may follow a character of the set `char`."""
        if part <= EMPTY:
            return NEVER
        found = self._derived.get((part, char))
        if found is not None:
            return found
        self._pay(1)
        kind, *rest = self._keys[part]
        first = rest[0]
        if kind == "chars":
            assert isinstance(first, int)
            result = EMPTY if first >> char & 1 else NEVER
        elif isinstance(first, frozenset):
            parts = [self._after(item, char) for item in sorted(first)]
            result = self._any(parts) if kind == "any" else self._all(parts)
        elif kind == "not":
            assert isinstance(first, int)
            result = self._complement(self._after(first, char))
        elif kind == "sequence":
            second = rest[1]
            assert isinstance(first, int) and isinstance(second, int)
            result = self._sequence(self._after(first, char), second)
            if self._nullable[first]:
                result = self._any((result, self._after(second, char)))
        else:
            least, most = rest[1], rest[2]
            assert isinstance(first, int) and isinstance(least, int) and (most is None or isinstance(most, int))
            tail = self._repeated(first, max(0, least - 1), None if most is None else most - 1)
            result = self._sequence(self._after(first, char), tail)
        self._derived[part, char] = result
        return result
