"""Which parts of a GBNF grammar become lexemes of llguidance: large ones, which are fast, where that stays exact.

GBNF has characters only. llguidance reads lexemes, each a regular expression, and takes the longest text that one
matches; so "[a-z]+ "b"", read as two lexemes, never comes to its "b". Lexemes of a single character are always right,
but slow: masks of a vocabulary then take milliseconds. This file chooses the largest parts of a grammar that have no
such conflict:

    A and B conflict if a text of A is also the beginning of a text of B, and goes on in B with a character that may
    follow A in the grammar.

All pairs are assumed to begin at the same place, and the counts of repetitions are ignored: both find some conflicts
that do not exist, and miss none. Where there is a conflict, B is divided into its parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pyinfer.guides.grammar.nodes import Alt, Chars, Node, Ref, Repeat, Seq, Token, children, references, walk

MAX_LEAVES = 400  # character sets of a lexeme: a check of two lexemes visits pairs of their sets
MAX_LEXEME_DEPTH = 60  # nested parts, references included: functions call themselves for each
MAX_STEPS = 300_000  # pairs of sets visited for two lexemes; above, they count as in conflict
MAX_ALL_STEPS = 1_500_000  # of a grammar, with the links of its automata, some 0.5 s; then, all count as in conflict
STEPS_OF_PAIR = 4  # as long as a pair of lexemes takes at least
MAX_PAIRS = 400_000  # pairs of lexemes; above, all lexemes are divided


class Alphabet:
    """Sets of characters as bits of an int. A bit is a range of characters that no set of the grammar divides."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        leaves = [node for node in nodes if isinstance(node, Chars)]
        starts = sorted({edge for leaf in leaves for low, high in leaf.ranges for edge in (low, high + 1)})
        bit_of = {start: i for i, start in enumerate(starts)}
        self._sets: dict[tuple[tuple[int, int], ...], int] = {}
        for leaf in leaves:
            if leaf.ranges not in self._sets:
                spans = [(1 << bit_of[high + 1]) - (1 << bit_of[low]) for low, high in leaf.ranges]
                self._sets[leaf.ranges] = sum(spans)

    def bits(self, node: Node) -> int:
        """The characters of a leaf; 0 for a token."""
        return self._sets[node.ranges] if isinstance(node, Chars) else 0


@dataclass(frozen=True)
class Automaton:
    """Glushkov's automaton: a state for each leaf, which is entered when one of its characters is read."""

    nullable: bool
    sets: list[int]  # the characters of each state
    first: frozenset[int]
    last: frozenset[int]
    next: list[frozenset[int]]  # the states that may be entered from each
    onward: list[int]  # all characters of those states


class Regularity:
    """Which parts of a grammar could be lexemes: those without recursion and tokens that are small enough."""

    def __init__(self, rules: Mapping[str, Node]) -> None:
        self.order, recursive = _order_of_rules(rules)
        self._sizes: dict[int, tuple[int, int] | None] = {}
        self._rule_sizes: dict[str, tuple[int, int] | None] = dict.fromkeys(recursive)
        for name in self.order:
            if name not in recursive:
                self._rule_sizes[name] = self._size(rules[name])

    def is_regular(self, node: Node) -> bool:
        """Whether a part could be a lexeme."""
        size = self._size(node)
        return size is not None and size[0] <= MAX_LEAVES and size[1] <= MAX_LEXEME_DEPTH

    def n_leaves(self, node: Node) -> int | None:
        """Character sets of a part, its references included; None: it is recursive, has tokens, or is too deep."""
        size = self._size(node)
        return size[0] if size is not None and size[1] <= MAX_LEXEME_DEPTH else None

    def _size(self, node: Node) -> tuple[int, int] | None:
        """Leaves and depth of a part, its references included; None: it is recursive, or has tokens."""
        if isinstance(node, Ref):
            size = self._rule_sizes[node.name]
            return None if size is None else (size[0], size[1] + 1)
        if isinstance(node, (Chars, Token)):
            return (1, 1) if isinstance(node, Chars) else None
        if id(node) not in self._sizes:
            sizes = [self._size(child) for child in children(node)]
            known = [size for size in sizes if size is not None]
            leaves, depths = sum(size[0] for size in known), max((size[1] for size in known), default=0)
            # the number of leaves may double with each rule: once it is too large, it stops growing
            self._sizes[id(node)] = (min(leaves, MAX_LEAVES + 1), depths + 1) if len(known) == len(sizes) else None
        return self._sizes[id(node)]


class Grammar:
    """Rules, the characters that each of their parts may begin with or be followed by, and conflicts between parts."""

    def __init__(self, rules: Mapping[str, Node], root: str) -> None:
        self.rules = rules
        self.root = root
        nodes = [node for body in rules.values() for node in walk(body)]
        self.alphabet = Alphabet(nodes)
        self._regularity = Regularity(rules)
        self._begin: dict[str, tuple[bool, int]] = dict.fromkeys(rules, (False, 0))
        while sum(self._grow(name) for name in self._regularity.order):
            pass
        self.follow: dict[int, int] = {id(node): 0 for node in nodes}
        self._find_follow()
        self._automata: dict[int, Automaton] = {}
        self._steps = 0

    def is_regular(self, node: Node) -> bool:
        """Whether a part could be a lexeme."""
        return (node is self.rules[self.root] and self._regularity.n_leaves(node) is not None) or (
            self._regularity.is_regular(node)
        )

    @property
    def exhausted(self) -> bool:
        """Whether looking for conflicts has taken so long that no more are looked for."""
        return self._steps > MAX_ALL_STEPS

    def is_empty(self, node: Node) -> bool:
        """Whether a part is the empty text."""
        return self._regularity.n_leaves(node) == 0

    def begin(self, node: Node) -> tuple[bool, int]:
        """Whether a part's text may be empty, and the characters that it may begin with."""
        if isinstance(node, Ref):
            return self._begin[node.name]
        if isinstance(node, Seq):
            first = 0
            for item in node.items:
                nullable, chars = self.begin(item)
                first |= chars
                if not nullable:
                    return False, first
            return True, first
        if isinstance(node, Alt):
            parts = [self.begin(item) for item in node.items]
            return any(part[0] for part in parts), _union(part[1] for part in parts)
        if isinstance(node, Repeat):
            nullable, first = self.begin(node.item)
            return nullable or node.min_count == 0, first if node.max_count != 0 else 0
        return False, self.alphabet.bits(node)

    def automaton(self, node: Node) -> Automaton:
        """The automaton of a regular part."""
        found = self._automata.get(id(node))
        if found is None:
            found = self._automata[id(node)] = _glushkov(node, self.rules, self.alphabet)
            self._steps += sum(map(len, found.next))
        return found

    def conflict(self, one: Node, other: Node) -> bool:
        """Whether a text of `one` begins one of `other`, which goes on with a character that may follow `one`."""
        follow = self.follow[id(one)]
        if not follow:
            return False
        if self._steps > MAX_ALL_STEPS:
            return True
        self._steps += STEPS_OF_PAIR
        a, b = self.automaton(one), self.automaton(other)
        if not any(follow & chars for chars in b.onward):
            return False
        todo = [(p, q) for p in a.first for q in b.first if a.sets[p] & b.sets[q]]
        seen, steps = set(todo), len(a.first) * len(b.first)
        while todo:
            p, q = todo.pop()
            if p in a.last and follow & b.onward[q]:
                break
            steps += len(a.next[p]) * len(b.next[q])
            if steps > MAX_STEPS:
                break
            found = {(r, s) for r in a.next[p] for s in b.next[q] if a.sets[r] & b.sets[s]} - seen
            seen |= found
            todo += found
        else:
            self._steps += steps
            return False
        self._steps += steps
        return True

    def _grow(self, name: str) -> bool:
        before, after = self._begin[name], self.begin(self.rules[name])
        self._begin[name] = after
        return before != after

    def _find_follow(self) -> None:
        rule_follow = dict.fromkeys(self.rules, 0)
        todo = dict.fromkeys(reversed(self._regularity.order))  # an ordered set: rules before those that they use

        def visit(node: Node, chars: int) -> None:
            self.follow[id(node)] |= chars
            if isinstance(node, Ref):
                if chars & ~rule_follow[node.name]:
                    rule_follow[node.name] |= chars
                    todo[node.name] = None
            elif isinstance(node, Seq):
                for item in reversed(node.items):
                    visit(item, chars)
                    nullable, first = self.begin(item)
                    chars = first | (chars if nullable else 0)
            elif isinstance(node, Alt):
                for item in node.items:
                    visit(item, chars)
            elif isinstance(node, Repeat):
                again = self.begin(node.item)[1] if node.max_count is None or node.max_count > 1 else 0
                visit(node.item, chars | again)

        while todo:
            name = next(iter(todo))
            del todo[name]
            visit(self.rules[name], rule_follow[name])


def find_lexemes(grammar: Grammar) -> set[int]:
    """The Python ids of the largest parts that are lexemes; outside of them, there are only references and tokens.

    In a sequence that is no lexeme, regular stretches should be parts of their own.
    """
    divided: set[int] = set()
    free: set[tuple[int, int]] = set()  # pairs without a conflict
    while True:
        lexemes = _largest(grammar, divided)
        others = [lexeme for lexeme in lexemes if not isinstance(lexeme, Chars)]
        too_many = len(lexemes) * len(others) > MAX_PAIRS
        bad = {id(b) for b in others if too_many or any(_conflict(grammar, a, b, free) for a in lexemes)}
        if grammar.exhausted:  # single characters have no conflicts
            return {id(node) for body in grammar.rules.values() for node in walk(body) if isinstance(node, Chars)}
        if not bad:
            return {id(lexeme) for lexeme in lexemes}
        divided |= bad


def _conflict(grammar: Grammar, one: Node, other: Node, free: set[tuple[int, int]]) -> bool:
    pair = (id(one), id(other))
    if pair in free:
        return False
    if grammar.conflict(one, other):
        return True
    free.add(pair)
    return False


def _largest(grammar: Grammar, divided: set[int]) -> list[Node]:
    """The largest regular parts that are not divided."""
    lexemes: list[Node] = []
    rules, seen = [grammar.root], {grammar.root}
    while rules:
        todo = [grammar.rules[rules.pop()]]
        while todo:
            node = todo.pop()
            if grammar.is_regular(node) and id(node) not in divided:
                if not grammar.is_empty(node):
                    lexemes.append(node)
            elif isinstance(node, Ref):
                if node.name not in seen:
                    seen.add(node.name)
                    rules.append(node.name)
            else:
                todo += children(node)
    return lexemes


def _glushkov(node: Node, rules: Mapping[str, Node], alphabet: Alphabet) -> Automaton:
    """The automaton of a regular part."""
    sets: list[int] = []
    links: list[set[int]] = []

    def build(node: Node) -> tuple[bool, frozenset[int], frozenset[int]]:
        """Add a part's states; returns whether it may be empty, and the states that it may begin and end with."""
        if isinstance(node, Ref):
            return build(rules[node.name])
        if isinstance(node, (Seq, Alt)):
            nullable, first, last = isinstance(node, Seq), frozenset[int](), frozenset[int]()
            for item in node.items:
                item_nullable, item_first, item_last = build(item)
                if isinstance(node, Alt):
                    nullable, first, last = nullable or item_nullable, first | item_first, last | item_last
                    continue
                for state in last:
                    links[state] |= item_first
                first = first | item_first if nullable else first
                last = last | item_last if item_nullable else item_last
                nullable = nullable and item_nullable
            return nullable, first, last
        if isinstance(node, Repeat):
            if node.max_count == 0:
                return True, frozenset(), frozenset()
            nullable, first, last = build(node.item)
            if node.max_count is None or node.max_count > 1:
                for state in last:
                    links[state] |= first
            return nullable or node.min_count == 0, first, last
        sets.append(alphabet.bits(node))
        links.append(set())
        only = frozenset((len(sets) - 1,))
        return False, only, only

    nullable, first, last = build(node)
    onward = [_union(sets[state] for state in states) for states in links]
    return Automaton(nullable, sets, first, last, [frozenset(states) for states in links], onward)


def _order_of_rules(rules: Mapping[str, Node]) -> tuple[list[str], set[str]]:
    """Rules, each after those that it uses (Tarjan's strongly connected components), and the recursive ones."""
    uses = {name: references(body) for name, body in rules.items()}
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    order: list[str] = []
    recursive = {name for name, used in uses.items() if name in used}
    component: list[str] = []
    open_rules: set[str] = set()
    for root in rules:
        path = [] if root in index else [(root, iter(uses[root]))]
        while path:
            name, rest = path[-1]
            if name not in index:
                index[name] = low[name] = len(index)
                component.append(name)
                open_rules.add(name)
            used = next(rest, None)
            if used is None:
                path.pop()
                if path:
                    low[path[-1][0]] = min(low[path[-1][0]], low[name])
                if low[name] == index[name]:
                    at = component.index(name)
                    if len(component) - at > 1:
                        recursive |= set(component[at:])
                    open_rules -= set(component[at:])
                    order += reversed(component[at:])
                    del component[at:]
            elif used not in index:
                path.append((used, iter(uses[used])))
            elif used in open_rules:
                low[name] = min(low[name], index[used])
    return order, recursive


def _union(sets: Iterable[int]) -> int:
    union = 0
    for chars in sets:
        union |= chars
    return union
