"""Which page of the cache holds the keys and values of which tokens: a tree of pages over token ids.

A node is a page; its path from the root spells the tokens before it, so that what hangs below a node was computed
behind exactly those tokens. Nodes of PAGE tokens may have children; a shorter one is the end of some sequence. A node
whose page no sequence holds is idle: it stays, least recently used first, until its page is needed.

Invariant: who holds a page holds the pages on the way to it, and lets go of them after it. So an idle node has only
idle nodes below it, and they come before it in the order of eviction.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from pyinfer import _kernels

PAGE: int = _kernels.PAGE
ID_BYTES = 4


def id_bytes(tokens: Sequence[int]) -> bytes:
    """Token ids as the index compares them: int32, one after the other."""
    return np.array(tokens, np.int32).tobytes()


def common_tokens(one: bytes, other: bytes) -> int:
    """How many ids two texts, as `id_bytes`, have in common from the beginning on."""
    n = min(len(one), len(other))
    if one[:n] == other[:n]:
        return n // ID_BYTES
    differ = np.frombuffer(one[:n], np.int32) != np.frombuffer(other[:n], np.int32)
    return int(differ.argmax())


@dataclass(eq=False)
class Node:
    """A page, the tokens (as id_bytes) whose keys and values it begins with, and what follows them."""

    page: int
    tokens: bytes
    parent: Node | None
    children: dict[bytes, Node] = field(default_factory=dict)

    @property
    def n_tokens(self) -> int:
        return len(self.tokens) // ID_BYTES


class PrefixIndex:
    """The tree, and its idle nodes in the order of eviction."""

    def __init__(self) -> None:
        self._root = Node(-1, b"", None)
        self._of_page: dict[int, Node] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()  # pages

    @property
    def n_idle(self) -> int:
        return len(self._idle)

    def node(self, page: int) -> Node | None:
        """The node of a page, if it has one."""
        return self._of_page.get(page)

    def find(self, tokens: bytes) -> tuple[list[Node], Node | None, int]:
        """The whole pages that a text begins with; then the node that shares most of the rest, and how many tokens."""
        whole: list[Node] = []
        node, size = self._root, PAGE * ID_BYTES
        while child := node.children.get(tokens[len(whole) * size : (len(whole) + 1) * size]):
            if child.n_tokens < PAGE:
                break
            whole.append(child)
            node = child
        rest = tokens[len(whole) * size :]
        best, n_best = None, 0
        for child in node.children.values():
            end = (n_best + 1) * ID_BYTES
            if len(rest) >= end and child.tokens[:end] == rest[:end]:  # shares more than the best so far
                best, n_best = child, common_tokens(child.tokens, rest)
        return whole, best, n_best

    def add(self, parent: Node | None, tokens: bytes, page: int) -> Node:
        """The node of these tokens after a parent: the one that is there, or `page`'s, which may have been shorter."""
        above = parent or self._root
        if (known := above.children.get(tokens)) is not None:
            return known
        node = self._of_page.get(page)
        if node is None:
            node = self._of_page[page] = Node(page, tokens, parent)
        else:
            del above.children[node.tokens]
            node.tokens = tokens
        above.children[tokens] = node
        return node

    def remove(self, node: Node) -> list[int]:
        """Forget a node and all below it; the pages of those below, which were idle, are free then."""
        freed = []
        for below in self._below(node):
            del self._of_page[below.page]
            if below is not node:
                del self._idle[below.page]
                freed.append(below.page)
        self._idle.pop(node.page, None)
        del (node.parent or self._root).children[node.tokens]
        return freed

    def set_idle(self, page: int) -> None:
        """Nobody holds a node's page any more; it is the last to be evicted."""
        self._idle[page] = None

    def set_held(self, page: int) -> None:
        """A sequence holds a node's page."""
        self._idle.pop(page, None)

    def evict(self) -> int:
        """Forget the idle node that was not used for longest; its page is free then. IndexError if none is idle."""
        if not self._idle:
            raise IndexError("no page is idle")
        page = next(iter(self._idle))
        self.remove(self._of_page[page])
        return page

    def _below(self, node: Node) -> Iterator[Node]:
        yield node
        for child in node.children.values():
            yield from self._below(child)
