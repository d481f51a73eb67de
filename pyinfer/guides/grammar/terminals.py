"""Writes regular parts of a grammar as llguidance's Lark has them: expressions in Rust's syntax, joined by & and ~.

Rust's regular expressions know no intersection and no complement; Lark's terminals do, so a part that has neither
becomes one `/regex/`, and others become an expression of several.
"""

from __future__ import annotations

from collections.abc import Mapping

from pyinfer.guides.grammar.nodes import SIGNS, Alt, And, Chars, Node, Not, Ref, Repeat, Seq, any_text, walk

SIGN_OF = {counts: sign for sign, counts in SIGNS.items()}
NOTHING = r"[^\x{0}-\x{10ffff}]"  # no character is in it


def terminal_of(node: Node) -> str:
    """The right side of a terminal that matches what a node does. It has no Ref and no Token."""
    if not _is_boolean(node):
        return f"/{regex_of(node)}/" if not _is_empty(node) else '""'
    if isinstance(node, And):
        # the other items are UTF-8
        others = all(isinstance(item, Not) for item in node.items)
        parts = [
            f"~({terminal_of(item.item)})" if isinstance(item, Not) and not others else terminal_of(item)
            for item in node.items
        ]
        return f"({' & '.join(parts)})"
    if isinstance(node, Not):
        # a complement has texts that are no UTF-8
        return f"({terminal_of(any_text())} & ~({terminal_of(node.item)}))"
    if isinstance(node, Alt):
        return f"({' | '.join(terminal_of(item) for item in node.items)})"
    if isinstance(node, Repeat):
        return f"({terminal_of(node.item)}){counts_of(node)}"
    assert isinstance(node, Seq)
    row: list[Node] = []
    for item in node.items:  # neighbours without operators become one expression
        if row and not _is_boolean(item) and not _is_boolean(row[-1]):
            row[-1] = Seq([row[-1], item])
        else:
            row.append(item)
    return f"({' '.join(terminal_of(part) for part in row)})"


def regex_of(node: Node, rules: Mapping[str, Node] | None = None) -> str:
    """A regular expression in Rust's syntax, without characters that have a meaning in Lark. rules: those of Ref."""
    if isinstance(node, Ref):
        assert rules is not None
        return regex_of(rules[node.name], rules)
    if isinstance(node, Seq):
        return "".join(regex_of(item, rules) for item in node.items)
    if isinstance(node, Alt):
        return f"(?:{'|'.join(regex_of(item, rules) for item in node.items)})" if node.items else NOTHING
    if isinstance(node, Repeat):
        item = regex_of(node.item, rules)
        return (item if isinstance(node.item, (Alt, Chars)) else f"(?:{item})") + counts_of(node)
    assert isinstance(node, Chars)
    if not node.ranges:
        return NOTHING
    (low, high), *others = node.ranges
    if low == high and not others:
        return _character(low)
    spans = [_character(low) + (f"-{_character(high)}" if high > low else "") for low, high in node.ranges]
    return f"[{''.join(spans)}]"


def counts_of(node: Repeat) -> str:
    """How a repetition is written: a sign, or counts in braces."""
    if (node.min_count, node.max_count) in SIGN_OF:
        return SIGN_OF[node.min_count, node.max_count]
    return f"{{{node.min_count},{'' if node.max_count is None else node.max_count}}}"


def _character(code: int) -> str:
    return chr(code) if chr(code).isascii() and chr(code).isalnum() else f"\\x{{{code:x}}}"


def _is_boolean(node: Node) -> bool:
    return any(isinstance(part, (And, Not)) for part in walk(node))


def _is_empty(node: Node) -> bool:
    return isinstance(node, Seq) and all(_is_empty(item) for item in node.items)
