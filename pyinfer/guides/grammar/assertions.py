r"""Anchors, word edges and look-around of patterns, turned into intersections and complements of plain parts.

A pattern with assertions becomes alternatives, each a row of plain parts with assertions between them. In a row

- `^` is met where what stands before it can be empty, `$` where what follows can be;
- a word edge is one of two pairs of look-behind and look-ahead;
- a look-ahead that is not longer than the plain parts behind it is an intersection of those parts; any other one of all
  that follows in the text, and look-behind of what stands before.

The last needs the whole rest of the text, so that it can't be had in a loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from pyinfer.guides.grammar.nodes import Alt, And, Chars, Edge, Look, Node, Not, Repeat, Seq, any_text, walk
from pyinfer.guides.grammar.outcomes import TooComplex, Unsupported

WORD = ((0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A))
MAX_ROWS = 64  # of a pattern: each alternative with assertions, and each word edge, doubles them

Row = list[Node]


def resolve(tree: Node, loose: bool = False) -> Node:
    """A pattern, with all text that may stand before and after it, without assertions.

    loose: what can't be had is left out, so that more texts match. Raises Unsupported and TooComplex.
    """
    rows = [_resolved(row, loose) for row in _rows(_without_references(tree, loose), loose)]
    found: list[Node] = [Seq(row) for row in rows if row is not None]
    return found[0] if len(found) == 1 else Alt(found)


def _without_references(node: Node, loose: bool) -> Node:
    """A part without back-references; those in negative looks are left, where any text would not match more."""
    if isinstance(node, Edge) and node.kind == "reference":
        if not loose:
            raise Unsupported("back-references in a pattern")
        return any_text()
    if isinstance(node, (Seq, Alt)):
        return type(node)([_without_references(item, loose) for item in node.items])
    if isinstance(node, Repeat):
        return Repeat(_without_references(node.item, loose), node.min_count, node.max_count)
    if isinstance(node, Look) and not node.negative:
        return Look(_without_references(node.item, loose), node.ahead, node.negative)
    return node


def _rows(node: Node, loose: bool) -> list[Row]:
    """Alternatives, in each of which only the row itself has assertions."""
    if isinstance(node, Edge) and "word" in node.kind:
        word = Chars(WORD)
        same = node.kind == "not word"
        return [
            [Look(word, ahead=False, negative=not before), Look(word, ahead=True, negative=before != same)]
            for before in (True, False)
        ]
    if isinstance(node, Seq):
        choices = [_rows(item, loose) for item in node.items]
        n = 1
        for choice in choices:
            n *= len(choice)
            if n > MAX_ROWS:
                raise TooComplex("the pattern has too many alternatives with look-around")
        return [[item for part in parts for item in part] for parts in product(*choices)]
    if isinstance(node, Alt) and not _is_plain(node):
        plain = [item for item in node.items if _is_plain(item)]
        rows: list[Row] = [[Alt(plain)]] if plain else []
        rows += [row for item in node.items if not _is_plain(item) for row in _rows(item, loose)]
        if len(rows) > MAX_ROWS:
            raise TooComplex("the pattern has too many alternatives with look-around")
        return rows
    if isinstance(node, Repeat) and not _is_plain(node):
        return _rows_of_loop(node, loose)
    return [[node]]


def _rows_of_loop(node: Repeat, loose: bool) -> list[Row]:
    rows = _rows(node.item, loose)
    local = [_local(row) for row in rows]
    if all(_is_plain(Seq(row)) for row in local):
        return [[Repeat(Alt([Seq(row) for row in local]), node.min_count, node.max_count)]]
    if node.max_count == 0:
        return [[]]
    if node.max_count == 1:
        return rows if node.min_count else [[], *rows]
    if not loose:
        raise Unsupported("anchors or look-around in a repetition, which depend on the text outside of it")
    plain: list[Node] = [Seq([item for item in row if not isinstance(item, (Edge, Look))]) for row in local]
    return [[Repeat(Alt(plain), node.min_count, node.max_count)]]


def _resolved(row: Row, loose: bool, inside: Look | None = None) -> Row | None:
    """A row without assertions; None if nothing matches it. inside: the look whose row it is."""
    anchored = _anchored(row)
    if anchored is None:
        return None
    row = _local(anchored)
    while True:
        looks = [i for i, item in enumerate(row) if isinstance(item, Look)]
        if not looks:
            return row
        first, last = row[looks[0]], row[looks[-1]]
        assert isinstance(first, Look) and isinstance(last, Look)
        try:
            if last.ahead and (inside is None or inside.ahead):
                row = [*row[: looks[-1]], _held(Seq(row[looks[-1] + 1 :]), _seen(last, loose), last.negative)]
            elif not first.ahead and (inside is None or not inside.ahead):
                row = [_held(Seq(row[: looks[0]]), _seen(first, loose), first.negative), *row[looks[0] + 1 :]]
            else:
                raise Unsupported("look-around that sees what another look-around sees")
        except Unsupported:
            if not loose:
                raise
            del row[looks[-1] if last.ahead else looks[0]]


def _anchored(row: Row) -> Row | None:
    """A row without `^` and `$`: what stands before the one, and after the other, is empty."""
    starts = [i for i, item in enumerate(row) if isinstance(item, Edge) and item.kind == "start"]
    ends = [i for i, item in enumerate(row) if isinstance(item, Edge) and item.kind == "end"]
    start, end = max(starts, default=-1), min(ends, default=len(row))
    before, middle, after = row, [], []
    if start < end:
        before, middle, after = row[: start + 1], row[start + 1 : end], row[end:]
    if not all(map(_may_be_empty, [*before, *after])):
        return None
    looks = [[item for item in part if isinstance(item, Look)] for part in (before, after)]
    return [*looks[0], *middle, *looks[1]]


def _local(row: Row) -> Row:
    """A row with those looks resolved that see no further than the plain parts beside them."""
    row = list(row)
    at = 0
    while at < len(row):
        look = row[at]
        part = _beside(row, at, look) if isinstance(look, Look) and _is_plain(look.item) else None
        if part is None or not isinstance(look, Look):
            at += 1
            continue
        begin, end = part
        whole = Seq([look.item, any_text()]) if look.ahead else Seq([any_text(), look.item])
        held = _held(Seq(row[begin:end]), whole, look.negative)
        row = [*row[:at], held, *row[end:]] if look.ahead else [*row[:begin], held, *row[at + 1 :]]
        at = 0
    return row


def _beside(row: Row, at: int, look: Look) -> tuple[int, int] | None:
    """The plain parts, from one place of a row to another, beside a look that are at least as long as what it sees."""
    longest = max_length(look.item)
    if longest is None:
        return None
    begin = end = at + 1 if look.ahead else at
    length = 0
    while length < longest:
        i = end if look.ahead else begin - 1
        if not 0 <= i < len(row) or isinstance(row[i], (Look, Edge)):
            return None
        length += min_length(row[i])
        begin, end = min(begin, i), max(end, i + 1)
    return begin, end


def _held(part: Node, seen: Node, negative: bool) -> Node:
    return And([part, Not(seen) if negative else seen])


def _seen(look: Look, loose: bool) -> Node:
    """The texts, from a look to the end or the beginning of the whole text, in which it finds its item."""
    if _is_plain(look.item):
        return Seq([look.item, any_text()] if look.ahead else [any_text(), look.item])
    outside = ("reference", "start" if look.ahead else "end")
    if any(isinstance(node, Edge) and node.kind in outside for node in walk(look.item)):
        raise Unsupported("back-references, or anchors of the other side, in look-around")
    loose = loose and not look.negative
    rows = []
    for row in _rows(look.item, loose):
        resolved = _resolved([*row, any_text()] if look.ahead else [any_text(), *row], loose, look)
        if resolved is not None:
            rows.append(Seq(resolved))
    return Alt(list(rows))


def _is_plain(node: Node) -> bool:
    return not any(isinstance(part, (Edge, Look)) for part in walk(node))


def _may_be_empty(node: Node) -> bool:
    return isinstance(node, (Edge, Look)) or is_nullable(node)


def is_nullable(node: Node) -> bool:
    """Whether a part matches the empty text."""
    if isinstance(node, (Seq, And)):
        return all(map(is_nullable, node.items))
    if isinstance(node, Alt):
        return any(map(is_nullable, node.items))
    if isinstance(node, Not):
        return not is_nullable(node.item)
    return isinstance(node, Repeat) and (node.min_count == 0 or is_nullable(node.item))


def min_length(node: Node) -> int:
    """Characters that a text of a part has at least."""
    if isinstance(node, Chars):
        return 1
    lengths: Sequence[int] = [min_length(item) for item in getattr(node, "items", ())]
    if isinstance(node, Seq):
        return sum(lengths)
    if isinstance(node, And):
        return max(lengths, default=0)
    if isinstance(node, Alt):
        return min(lengths, default=0)
    return node.min_count * min_length(node.item) if isinstance(node, Repeat) else 0


def max_length(node: Node) -> int | None:
    """Characters that a text of a part has at most; None: there is no bound, or none is known."""
    if isinstance(node, Chars):
        return 1
    if isinstance(node, Repeat):
        longest = max_length(node.item)
        return 0 if longest == 0 else None if longest is None or node.max_count is None else longest * node.max_count
    if not isinstance(node, (Seq, Alt, And)):
        return None
    lengths = [max_length(item) for item in node.items]
    known = [length for length in lengths if length is not None]
    if isinstance(node, And):
        return min(known, default=None)
    if len(known) < len(lengths):
        return None
    return sum(known) if isinstance(node, Seq) else max(known, default=0)
