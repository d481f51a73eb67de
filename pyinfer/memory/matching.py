"""Finds the longest prefix of a sequence that all groups of a model can start from.

Attention layers without a window need all pages of the prefix; layers with a window need the pages that the window
reaches from the prefix's end; recurrent layers need a checkpoint exactly there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pyinfer.memory.attention import AttentionGroup
from pyinfer.memory.prefix_index import Node, PrefixIndex
from pyinfer.memory.prefix_key import PrefixKey
from pyinfer.memory.spec import PAGE


class Match(NamedTuple):
    """A published prefix of n items: all items of the nodes in `path`, then the first items of the node `end`."""

    n: int
    path: list[Node]
    end: Node | None

    @property
    def nodes(self) -> list[Node]:
        return self.path if self.end is None else [*self.path, self.end]

    @property
    def checkpoint(self) -> int | None:
        """The row of the state at position n."""
        return self.nodes[-1].checkpoints.get(self.n - (len(self.nodes) - 1) * PAGE) if self.nodes else None


def longest_match(
    index: PrefixIndex, groups: Sequence[AttentionGroup], states: bool, key: PrefixKey, n: int, whole: bool = False
) -> Match:
    """Find the longest match of a key's first n items. `states`: a checkpoint is needed. `whole`: whole pages only."""
    path = index.walk(key, n)

    def gives(end: Node, n_shared: int) -> int:
        """Return how many of the items that a node after the path shares a sequence can start with."""
        offsets = [offset for offset in end.checkpoints if offset <= n_shared] if states else [n_shared]
        offsets = [i for i in offsets if all(group.has([*path, end], len(path) * PAGE + i) for group in groups)]
        return max(offsets, default=0)

    if not whole:
        end, n_more = index.best_end(key, path, n, gives)
        if end is not None:
            return Match(len(path) * PAGE + n_more, path, end)
    for i in range(len(path) - 1, -1, -1):
        for offset in sorted(path[i].checkpoints, reverse=True) if states else [PAGE]:
            n_here = i * PAGE + offset
            if (whole and offset < PAGE) or not all(group.has(path, n_here) for group in groups):
                continue
            return Match(n_here, path[: i + 1], None) if offset == PAGE else Match(n_here, path[:i], path[i])
    return Match(0, [], None)
