"""Translates GBNF to llguidance's Lark: the same texts, in lexemes that are as large as possible.

First, alternatives that no finite text matches are removed. Then tail recursion becomes repetition, and regular
stretches are grouped. `find_lexemes` chooses which parts become lexemes. At last the rules are written.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from itertools import groupby

from pyinfer.errors import ParameterError
from pyinfer.guides.grammar.gbnf import parse_gbnf
from pyinfer.guides.grammar.lexemes import Grammar, Regularity, find_lexemes
from pyinfer.guides.grammar.nodes import Alt, Chars, Node, Ref, Repeat, Seq, Token, normal_ranges, references
from pyinfer.guides.grammar.terminals import counts_of, regex_of

ROOT = "root"
MAX_CHAIN = 32  # parts of a stretch from which the last can be split off; longer ones are halved, to keep trees low


def gbnf_to_lark(text: str) -> str:
    """Translate a grammar in GBNF to one in Lark that accepts the same texts.

    Raises ParameterError with the line of what can't be read, and for rules that are missing or match no finite text.
    """
    rules = parse_gbnf(text)
    if ROOT not in rules:
        raise ParameterError(f"GBNF: there is no rule {ROOT!r}")
    for name, body in rules.items():
        missing = [ref for ref in references(body) if ref not in rules]
        if missing:
            raise ParameterError(f"GBNF: the rule {name!r} refers to {missing[0]!r}, which is not there")
    rules = _without_endless(rules)
    rules = {name: _joined(_without_tail_recursion(name, body)) for name, body in rules.items()}
    reached, todo = {ROOT}, [ROOT]
    while todo:
        new = [ref for ref in references(rules[todo.pop()]) if ref not in reached]
        reached.update(new)
        todo += new
    rules = {name: body for name, body in rules.items() if name in reached}
    regular = Regularity(rules)
    rules = {name: _grouped(body, regular) for name, body in rules.items()}
    return _Writer(Grammar(rules, ROOT)).lark()


def _without_endless(rules: Mapping[str, Node]) -> dict[str, Node]:
    """Rules without those alternatives that have no end, or need a character of an empty set."""
    ending: set[str] = set()

    def ends(node: Node) -> bool:
        if isinstance(node, Chars):
            return bool(node.ranges)
        if isinstance(node, Ref):
            return node.name in ending
        if isinstance(node, Repeat):
            return node.min_count == 0 or ends(node.item)
        if isinstance(node, Token):
            return True
        assert isinstance(node, (Seq, Alt))
        return (all if isinstance(node, Seq) else any)(ends(item) for item in node.items)

    # a rule is checked again only after one that it uses turned out to end
    users: dict[str, list[str]] = {name: [] for name in rules}
    for name, body in rules.items():
        for ref in references(body):
            users[ref].append(name)
    todo = list(rules)
    while todo:
        name = todo.pop()
        if name not in ending and ends(rules[name]):
            ending.add(name)
            todo += users[name]
    if ROOT not in ending:
        raise ParameterError(f"GBNF: no text that ends matches {ROOT!r}")

    def pruned(node: Node) -> Node:
        if isinstance(node, Repeat):
            return Repeat(pruned(node.item), node.min_count, node.max_count) if ends(node.item) else Seq()
        if isinstance(node, Alt):
            return Alt([pruned(item) for item in node.items if ends(item)])
        return Seq([pruned(item) for item in node.items]) if isinstance(node, Seq) else node

    return {name: pruned(body) for name, body in rules.items() if name in ending}


def _without_tail_recursion(name: str, body: Node) -> Node:
    """R = a R | b becomes a* b (Arden's rule), even if R occurs in a."""

    def split(node: Node) -> tuple[list[Node], list[Node]]:
        """The a's and the b's of a part that stands at the end of the rule."""
        if isinstance(node, Ref) and node.name == name:
            return [Seq()], []
        loops: list[Node] = []
        rest: list[Node] = []
        if isinstance(node, Alt):
            for item in node.items:
                item_loops, item_rest = split(item)
                loops += item_loops
                rest += item_rest
        elif isinstance(node, Repeat) and (node.min_count, node.max_count) == (0, 1):
            loops, rest = split(node.item)
            rest.append(Seq())
        elif isinstance(node, Seq) and node.items:
            for part, ends in zip((loops, rest), split(node.items[-1]), strict=True):
                if ends:
                    part.append(Seq([*node.items[:-1], Alt(ends)]))
        return (loops, rest) if loops else ([], [node])

    loops, rest = split(body)
    return Seq([Repeat(Alt(loops), 0, None), Alt(rest)]) if loops else body


def _joined(node: Node) -> Node:
    """Join sequences of sequences, alternatives of alternatives, and sets of characters that are alternatives."""
    if isinstance(node, Repeat):
        item = _joined(node.item)
        return item if (node.min_count, node.max_count) == (1, 1) else Repeat(item, node.min_count, node.max_count)
    if isinstance(node, Seq):
        items = [_joined(item) for item in node.items]
        items = [part for item in items for part in (item.items if isinstance(item, Seq) else [item])]
        return items[0] if len(items) == 1 else Seq(items)
    if isinstance(node, Alt):
        items = [_joined(item) for item in node.items]
        items = [part for item in items for part in (item.items if isinstance(item, Alt) else [item])]
        ranges = [pair for item in items if isinstance(item, Chars) for pair in item.ranges]
        items = [item for item in items if not isinstance(item, Chars)]
        if ranges:
            items.append(Chars(normal_ranges(ranges)))
        return items[0] if len(items) == 1 else Alt(items)
    return node


def _grouped(node: Node, regular: Regularity) -> Node:
    """Make trees of pairs of regular stretches and of regular alternatives: a conflict then splits a pair."""
    if isinstance(node, Repeat):
        return Repeat(_grouped(node.item, regular), node.min_count, node.max_count)
    items: list[Node] = []
    if isinstance(node, Alt):
        together: list[Node] = []
        for item in node.items:
            (together if regular.is_regular(item) else items).append(_grouped(item, regular))
        if together:
            items.insert(0, _halved(together, Alt))
        return items[0] if len(items) == 1 else Alt(items)
    if not isinstance(node, Seq) or not node.items:
        return node
    for is_regular, stretch in groupby(node.items, regular.is_regular):
        parts = [_grouped(item, regular) for item in stretch]
        if is_regular:
            parts = [_stretch(parts)]
        items += parts
    return items[0] if len(items) == 1 else Seq(items)


def _stretch(items: list[Node]) -> Node:
    """A regular stretch. A conflict splits off its last part first, which often is the cause, such as white space."""
    parts: list[Node] = []
    for is_leaf, group in groupby(items, lambda item: isinstance(item, Chars)):
        stretch = list(group)
        parts += [_halved(stretch)] if is_leaf else stretch
    if len(parts) > MAX_CHAIN:
        return _halved(parts)
    return reduce(lambda before, last: Seq([before, last]), parts)


def _halved(items: list[Node], kind: type[Seq] | type[Alt] = Seq) -> Node:
    """A balanced tree of pairs."""
    middle = len(items) // 2
    return items[0] if len(items) == 1 else kind([_halved(items[:middle], kind), _halved(items[middle:], kind)])


class _Writer:
    """Writes the rules and lexemes that the root needs, each once."""

    def __init__(self, grammar: Grammar) -> None:
        self._grammar = grammar
        self._lexemes = find_lexemes(grammar)
        self._names = {grammar.root: "start"}
        self._todo = [grammar.root]
        self._terminals: dict[str, str] = {}

    def lark(self) -> str:
        lines = []
        while self._todo:
            name = self._todo.pop()
            lines.append(f"{self._names[name]}: {self._expression(self._grammar.rules[name])}")
        return "\n".join([*lines, *(f"{name}: /{regex}/" for regex, name in self._terminals.items())]) + "\n"

    def _expression(self, node: Node) -> str:
        if id(node) in self._lexemes:
            return self._terminals.setdefault(regex_of(node, self._grammar.rules), f"L{len(self._terminals)}")
        if isinstance(node, Ref) and not self._grammar.is_empty(node):
            if node.name not in self._names:
                self._names[node.name] = f"r{len(self._names)}"
                self._todo.append(node.name)
            return self._names[node.name]
        if isinstance(node, Token):
            return node.text
        if isinstance(node, Seq):
            return " ".join(self._expression(item) for item in node.items) or '""'
        if isinstance(node, Alt):
            return f"({' | '.join(self._expression(item) for item in node.items)})"
        if isinstance(node, Repeat) and node.max_count != 0:
            return f"({self._expression(node.item)}){counts_of(node)}"
        return '""'
