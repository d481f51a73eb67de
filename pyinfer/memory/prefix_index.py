"""Which pages hold what was computed for which items: a tree of pages over prefix keys.

There is a root for each adapter and salt. A node's path from its root spells the items before it, so that what is in
its pages was computed after exactly those items. Nodes of PAGE items may have children; a shorter one is the end of a
sequence. A node has a page in each group of attention layers or in some of them, and recurrent states of some of its
positions ("checkpoints", by the number of the node's items that they have seen).

Invariant: a slot that references a node's page in the full group (of the layers that see all positions) references
there the pages on the way to it, and releases them after it. So an idle node has only idle nodes below it, which come
before it in the order of eviction. Where there is a full group, a node without its page there is of no use, and is
removed with all below it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pyinfer.memory.pages import PagePool
from pyinfer.memory.prefix_key import ID_BYTES, PrefixKey, n_common, n_items
from pyinfer.memory.spec import PAGE

NO_PAGE = -1


@dataclass(eq=False)
class Node:
    """Items (as a page of a PrefixKey; of a root, its key's root), where their memory is, and what follows them."""

    items: bytes
    parent: Node | None
    pages: list[int]  # one a group of attention layers, or NO_PAGE
    children: dict[bytes, Node] = field(default_factory=dict)
    checkpoints: dict[int, int] = field(default_factory=dict)  # items that were seen -> row of the state
    n_slots: int = 0  # sequences that have it as published
    n: int = 0  # items

    def __post_init__(self) -> None:
        self.n = n_items(self.items)


class PrefixIndex:
    """The tree. pools: those of the attention groups; rows: that of checkpoints; full: whether pools[0] is the full
    group's."""

    def __init__(self, pools: Sequence[PagePool], rows: PagePool, full: bool) -> None:
        self._pools = pools
        self._rows = rows
        self._full = full
        self._roots: dict[bytes, Node] = {}
        self._of_page: list[dict[int, Node]] = [{} for _ in pools]
        self._of_row: dict[int, tuple[Node, int]] = {}

    def node(self, group: int, page: int) -> Node | None:
        """The node of a group's page, if it is published."""
        return self._of_page[group].get(page)

    def root(self, key: PrefixKey) -> Node:
        """The root of a key's adapter and salt; where it is new, a child must follow."""
        node = self._roots.get(key.root)
        if node is None:
            node = self._roots[key.root] = Node(key.root, None, [])
        return node

    def walk(self, key: PrefixKey, n: int) -> list[Node]:
        """The nodes of the whole pages that the first n items begin with."""
        path: list[Node] = []
        node = self._roots.get(key.root)
        while node is not None and (len(path) + 1) * PAGE <= n:
            node = node.children.get(key.page(len(path), n))
            if node is not None:
                path.append(node)
        return path

    def find(self, key: PrefixKey, n: int) -> Node | None:
        """The node that ends with the n-th item, if the items before it are published just so."""
        path = self.walk(key, n)
        if len(path) * PAGE == n:
            return path[-1] if path else None
        node = path[-1] if path else self._roots.get(key.root)
        return None if node is None else node.children.get(key.page(len(path), n))

    def best_end(
        self, key: PrefixKey, path: list[Node], n: int, accept: Callable[[Node, int], int]
    ) -> tuple[Node | None, int]:
        """The node after a path that gives most of the items which follow it, and how many.

        accept(node, n_shared): how many of those that a node shares can be had of it.
        """
        node = path[-1] if path else self._roots.get(key.root)
        rest = key.page(len(path), n)
        best, n_best = None, 0
        if node is None or not rest:
            return best, n_best
        narrow = len(rest) % ID_BYTES == 0
        for child in node.children.values():
            end = (n_best + 1) * ID_BYTES
            if narrow and len(child.items) % ID_BYTES == 0 and child.items[:end] != rest[:end]:
                continue  # the usual case, told by one comparison
            n_shared = n_common(child.items, rest)
            if n_shared > n_best and (n := accept(child, n_shared)) > n_best:
                best, n_best = child, n
        return best, n_best

    def add(self, parent: Node, items: bytes, pages: list[int]) -> Node:
        """A new node with the pages of a sequence that references them."""
        node = parent.children[items] = Node(items, parent, [NO_PAGE] * len(self._pools))
        for group, page in enumerate(pages):
            if page != NO_PAGE:
                self.set_page(node, group, page)
        return node

    def grow(self, node: Node, items: bytes) -> None:
        """More items are computed in a node's pages."""
        assert node.parent is not None
        del node.parent.children[node.items]
        node.items, node.n = items, n_items(items)
        node.parent.children[items] = node

    def set_page(self, node: Node, group: int, page: int) -> None:
        """Publish a page as a node's."""
        node.pages[group] = page
        self._of_page[group][page] = node
        self._pools[group].publish(page)

    def drop_page(self, node: Node, group: int) -> None:
        """A node's page in a group is needed for something else."""
        if group == 0 and self._full:
            self.remove(node)
        else:
            self._unpublish(node, group)
            self.prune(node)

    def add_checkpoint(self, node: Node, n: int, row: int) -> None:
        """A row, which its caller releases then, holds the state after the first n items of a node."""
        node.checkpoints[n] = row
        self._of_row[row] = node, n
        self._rows.publish(row)

    def evict(self, group: int) -> bool:
        """Take the idle page that was not used for longest from a group's nodes; False if none is idle."""
        page = self._pools[group].least_recent
        if page is None:
            return False
        self.drop_page(self._of_page[group][page], group)
        return True

    def evict_checkpoint(self) -> bool:
        """As evict, of the rows of checkpoints."""
        row = self._rows.least_recent
        if row is None:
            return False
        node, n = self._of_row[row]
        self._drop_checkpoint(node, n)
        self.prune(node)
        return True

    def remove(self, node: Node) -> None:
        """Forget a node and all below it; of their pages, those that nothing references are free then."""
        below = [node]
        while below:
            one = below.pop()
            below += one.children.values()
            for group, page in enumerate(one.pages):
                if page != NO_PAGE:
                    self._unpublish(one, group)
            for n in list(one.checkpoints):
                self._drop_checkpoint(one, n)
        if node.parent is not None:
            parent, node.parent = node.parent, None
            del parent.children[node.items]
            self.prune(parent)

    def prune(self, node: Node) -> None:
        """Forget a node, and those above it, as far as nothing is left of them."""
        while not (node.children or node.checkpoints or node.n_slots) and all(page == NO_PAGE for page in node.pages):
            if node.parent is None:
                if self._roots.get(node.items) is node:
                    del self._roots[node.items]
                return
            parent, node.parent = node.parent, None
            del parent.children[node.items]
            node = parent

    def _unpublish(self, node: Node, group: int) -> None:
        page, node.pages[group] = node.pages[group], NO_PAGE
        del self._of_page[group][page]
        self._pools[group].unpublish(page)

    def _drop_checkpoint(self, node: Node, n: int) -> None:
        row = node.checkpoints.pop(n)
        del self._of_row[row]
        self._rows.unpublish(row)
