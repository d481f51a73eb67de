"""The prefix index: a tree that finds the pages that were computed for given items.

Each adapter and salt has a root. The path from the root to a node has all items before the node's own, so that the
node's pages were computed after exactly those items. A node of PAGE items may have children; a shorter one is the end
of a sequence. A node has a page in all groups of attention layers or in some of them, and recurrent states at some of
its positions ("checkpoints", by the number of the node's items before them).

Invariant: a slot that references a node's page in the full group (of the layers that attend to all positions) also
references there the pages of all nodes above it, and releases them later. So an idle node has only idle nodes below it,
which are evicted before it. Where there is a full group, a node without a page in it is of no use, and is removed with
all nodes below it.
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
    """Items (as a page of a PrefixKey; for a root, the key's root), where their memory is, and the nodes after them."""

    items: bytes
    parent: Node | None
    pages: list[int]  # for each group of attention layers a page, or NO_PAGE
    children: dict[bytes, Node] = field(default_factory=dict)
    checkpoints: dict[int, int] = field(default_factory=dict)  # number of items before it -> row of the state
    n_slots: int = 0  # slots that have it among their published nodes
    n: int = 0  # number of items

    def __post_init__(self) -> None:
        self.n = n_items(self.items)


class PrefixIndex:
    """The tree. `pools`: of the attention groups. `rows`: of checkpoints. `full`: pools[0] is the full group's."""

    def __init__(self, pools: Sequence[PagePool], rows: PagePool, full: bool) -> None:
        self._pools = pools
        self._rows = rows
        self._full = full
        self._roots: dict[bytes, Node] = {}
        self._of_page: list[dict[int, Node]] = [{} for _ in pools]
        self._of_row: dict[int, tuple[Node, int]] = {}

    def node(self, group: int, page: int) -> Node | None:
        """Return the node of a group's page; None if the page is not published."""
        return self._of_page[group].get(page)

    def root(self, key: PrefixKey) -> Node:
        """Return the root of a key's adapter and salt. If it is new, the caller has to add a child or prune it."""
        node = self._roots.get(key.root)
        if node is None:
            node = self._roots[key.root] = Node(key.root, None, [])
        return node

    def walk(self, key: PrefixKey, n: int) -> list[Node]:
        """Return the path of nodes whose whole pages are a prefix of the first n items."""
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
        """Return the node after a path from which most of the next items can be used, and how many.

        `accept(node, n_shared)` returns how many of the n_shared items that a node shares can be used.
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
                continue  # the usual case, for which one comparison suffices
            n_shared = n_common(child.items, rest)
            if n_shared > n_best and (n := accept(child, n_shared)) > n_best:
                best, n_best = child, n
        return best, n_best

    def add(self, parent: Node, items: bytes, pages: list[int]) -> Node:
        """Add a node with the pages of a sequence, which references them."""
        node = parent.children[items] = Node(items, parent, [NO_PAGE] * len(self._pools))
        for group, page in enumerate(pages):
            if page != NO_PAGE:
                self.set_page(node, group, page)
        return node

    def grow(self, node: Node, items: bytes) -> None:
        """Give a node more items, which were computed in its pages."""
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
        """Unpublish a node's page in a group, which is needed for something else."""
        if group == 0 and self._full:
            self.remove(node)
        else:
            self._unpublish(node, group)
            self.prune(node)

    def add_checkpoint(self, node: Node, n: int, row: int) -> None:
        """Add a row, which has the state after the first n items of a node. The caller releases the row afterwards."""
        node.checkpoints[n] = row
        self._of_row[row] = node, n
        self._rows.publish(row)

    def evict(self, group: int) -> bool:
        """Evict the least recently used idle page of a group. Return False if none is idle."""
        page = self._pools[group].least_recent
        if page is None:
            return False
        self.drop_page(self._of_page[group][page], group)
        return True

    def evict_checkpoint(self) -> bool:
        """Evict the least recently used idle checkpoint. Return False if none is idle."""
        row = self._rows.least_recent
        if row is None:
            return False
        node, n = self._of_row[row]
        self._drop_checkpoint(node, n)
        self.prune(node)
        return True

    def remove(self, node: Node) -> None:
        """Remove a node and all nodes below it. Those of their pages that have no references become free."""
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
        """Remove a node, and then the nodes above it, if they have neither children nor memory nor slots."""
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
