"""Which pages a slot shares: those that it starts with, those that it publishes, and copies of those that it writes.

Invariant: a slot's page i in the full group is that of its published node i, as far as there are such.
"""

from __future__ import annotations

from collections.abc import Sequence

from pyinfer.memory.attention import AttentionGroup
from pyinfer.memory.matching import Match
from pyinfer.memory.prefix_index import NO_PAGE, Node, PrefixIndex
from pyinfer.memory.spec import PAGE


class Sharing:
    """The published nodes of each slot's first pages, and what is done to pages that others may see."""

    def __init__(self, groups: Sequence[AttentionGroup], index: PrefixIndex, n_slots: int) -> None:
        self._groups = groups
        self._index = index
        self.nodes: list[list[Node]] = [[] for _ in range(n_slots)]  # a slot's

    def n_published(self, slot: int) -> int:
        """Positions of a slot that later sequences can find."""
        nodes = self.nodes[slot]
        return (len(nodes) - 1) * PAGE + nodes[-1].n if nodes else 0

    def start(self, slot: int, match: Match) -> bool:
        """Reference a match's pages in an empty slot; False if there is no page to copy the last one to."""
        n_path = len(match.path)
        for group in self._groups:
            for i in group.reach.pages(match.n):
                if i < n_path:
                    group.hold(slot, i, match.path[i].pages[group.number])
        for node in match.path:
            self._append(slot, node)
        return match.end is None or self._go_on_in(slot, match.end, match.n - n_path * PAGE)

    def _go_on_in(self, slot: int, node: Node, n: int) -> bool:
        """Begin a slot's next page with the first n items of a node: in its pages, if nothing else references them, or
        in copies. A node that another slot goes on with stays that one's, also where it has no pages."""
        i = len(self.nodes[slot])
        idle = [group.pool.ref_counts[node.pages[group.number]] == 0 for group in self._groups]
        for group in self._groups:
            group.hold(slot, i, node.pages[group.number])
        if all(idle) and not node.n_slots and n == node.n < PAGE:
            self._append(slot, node)
            return True
        for group, was_idle in zip(self._groups, idle, strict=True):
            if group.is_private(slot, i) or group.copy(slot, i):
                continue
            if not was_idle:
                return False
            self._index.drop_page(node, group.number)  # it is the only page that is left
        return True

    def make_writable(self, slot: int, i: int, offset: int) -> bool:
        """See that a slot's page i may be written from an offset on; False if there is no page to copy it to."""
        for group in self._groups:
            page = group.page(slot, i)
            if page != NO_PAGE:
                node = group.node(page)
                if group.pool.ref_counts[page] > 1 or (node is not None and node.n > offset):
                    return self._make_private(slot, i, copies=True)
        return True

    def make_movable(self, slot: int, i: int) -> bool:
        """As make_writable, of all of a page; one that nothing else references is not published any more."""
        return self._make_private(slot, i, copies=False)

    def _make_private(self, slot: int, i: int, copies: bool) -> bool:
        """See that a slot alone has its page i: by copies of what others reference or, if `copies`, may find."""
        changed = False
        try:
            for group in self._groups:
                if group.page(slot, i) == NO_PAGE or group.is_private(slot, i):
                    continue
                page = group.page(slot, i)
                shared = group.pool.ref_counts[page] > 1
                if not ((copies or shared) and group.copy(slot, i)):
                    node = group.node(page)
                    if shared or node is None:
                        return False
                    self._index.drop_page(node, group.number)
                changed = True
        finally:
            if changed:
                self.cut(slot, i)
        return True

    def publish_page(self, slot: int, i: int, items: bytes, parent: Node) -> bool:
        """Publish a slot's page i as one that holds these items; False if another sequence ends just so, or the page is
        of other items."""
        nodes = self.nodes[slot]
        own = nodes[i] if i < len(nodes) else None
        node = parent.children.get(items)
        pages = [group.page(slot, i) for group in self._groups]
        if node is not None and node is own:
            return True
        if any(
            page != NO_PAGE and group.node(page) is not own for group, page in zip(self._groups, pages, strict=True)
        ):
            return False
        if node is None:
            if own is None:
                self._append(slot, self._index.add(parent, items, pages))
            else:
                self._index.grow(own, items)
            return True
        if node.n < PAGE:  # that sequence may go on differently
            return False
        if own is not None:
            self._index.remove(own)
            self.cut(slot, i)
        for group, page in zip(self._groups, pages, strict=True):
            if page == NO_PAGE:
                continue
            if node.pages[group.number] == NO_PAGE:
                self._index.set_page(node, group.number, page)
            else:
                group.replace(slot, i, node.pages[group.number])
        self._append(slot, node)
        return True

    def cut(self, slot: int, n_pages: int) -> None:
        """A slot's pages from n_pages on are not those of its published nodes any more."""
        nodes = self.nodes[slot]
        while len(nodes) > n_pages:
            node = nodes.pop()
            node.n_slots -= 1
            self._index.prune(node)

    def _append(self, slot: int, node: Node) -> None:
        self.nodes[slot].append(node)
        node.n_slots += 1
