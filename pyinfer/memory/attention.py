"""Keys and values of a group of attention layers: their pages, and each slot's page table.

Layers without a window form one group, whose sequences keep all pages. Layers of the same window form another group,
whose sequences keep the pages that the window still reaches. A page has a part for each layer of the group. Only the
one sequence that references a page writes to it, and only after the items that it is published for; any other write
goes to a copy.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from pyinfer import _kernels
from pyinfer.gguf import TensorType
from pyinfer.memory.pages import PagePool
from pyinfer.memory.prefix_index import NO_PAGE, Node, PrefixIndex
from pyinfer.memory.spec import PAGE, AttentionSpec, LatentSpec, n_pages_for
from pyinfer.system import allocate

KV_TYPES = {"f32": TensorType.F32, "f16": TensorType.F16, "bf16": TensorType.BF16, "q8_0": TensorType.Q8_0}


def layer_bytes(kv_type: str, spec: AttentionSpec | LatentSpec) -> int:
    """Return the bytes of a layer's part of a page."""
    return _kernels.Cache.page_bytes(KV_TYPES[kv_type], *_heads(spec))


def make_cache(
    kv_type: str, spec: AttentionSpec | LatentSpec, region: NDArray[np.uint8], offset: int, stride: int, table: int
) -> _kernels.Cache:
    """Return a layer's part of a group's pages, for the operations of a plan."""
    return _kernels.Cache(KV_TYPES[kv_type], *_heads(spec), region, offset, stride, table)


def _heads(spec: AttentionSpec | LatentSpec) -> tuple[int, int, int]:
    """Return the number of KV heads, and the dimensions of a head's key and value."""
    return (1, spec.dim, spec.v_dim) if isinstance(spec, LatentSpec) else (spec.n_kv_heads, spec.k_dim, spec.v_dim)


class Reach:
    """Which pages of a sequence a group needs.

    `window` is AttentionSpec's. `n_keep`: positions at the beginning that a group with a window keeps, too, since a
    context shift can move the window back to them.
    """

    def __init__(self, window: int, n_keep: int = 0) -> None:
        self.window = window
        self.n_first = n_pages_for(n_keep) if window else 0  # pages at the beginning that are kept

    def first(self, n: int) -> int:
        """Return the page of the first position that position n attends to."""
        return max(0, n - self.window + 1) // PAGE if self.window else 0

    def pages(self, n: int) -> Iterable[int]:
        """Return the pages that a sequence needs to go on after n positions, in ascending order."""
        first, end = self.first(n), n_pages_for(n)
        n_first = min(self.n_first, first, end)
        return [*range(n_first), *range(first, end)] if n_first else range(first, end)

    def n_pages(self, n: int) -> int:
        """Return how many pages these are."""
        first, end = self.first(n), n_pages_for(n)
        return min(self.n_first, first, end) + end - first

    def most_pages(self, n_ctx: int, n_batch: int) -> int:
        """Return how many pages a sequence of n_ctx positions has at once, with passes of at most n_batch positions."""
        if not self.window:
            return n_pages_for(n_ctx)
        return min(n_pages_for(n_ctx), n_pages_for(self.window + n_batch) + 2 + self.n_first)


class AttentionGroup:
    """The pages of a group of layers. `number` is the index of its table among the model's tables.

    `shared_layer` (False): all layers use the same memory, since no later forward pass reads it.
    """

    def __init__(
        self, number: int, reach: Reach, specs: Sequence[AttentionSpec | LatentSpec], kv_type: str, n_pages: int,
        n_slots: int, n_ctx: int, shared_layer: bool = False,
    ) -> None:  # fmt: skip
        sizes = [layer_bytes(kv_type, spec) for spec in specs]
        self.number = number
        self.reach = reach
        self.page_bytes = group_page_bytes(kv_type, specs, shared_layer)
        region = allocate(self.page_bytes * n_pages)
        offsets = [0] * len(sizes) if shared_layer else np.cumsum([0, *sizes]).tolist()
        self.layers = [
            make_cache(kv_type, spec, region, offset, self.page_bytes, number)
            for spec, offset in zip(specs, offsets, strict=False)
        ]
        self.pages: NDArray[np.uint8] = region.reshape(n_pages, self.page_bytes)
        self.pool = PagePool(n_pages)
        self.table: NDArray[np.int32] = np.zeros((n_slots, n_pages_for(n_ctx)), np.int32)
        self.held: list[list[int]] = [[] for _ in range(n_slots)]  # a slot's pages by position, or NO_PAGE
        self._first = [0] * n_slots  # the first page that has not left the window
        self.index: PrefixIndex | None = None  # where pages are evicted from

    @property
    def n_positions(self) -> int:
        """Positions that a sequence may have if it is the only one."""
        pool, reach = self.pool, self.reach
        if reach.window and pool.n_pages > n_pages_for(reach.window - 1) + reach.n_first:
            return int(self.table.shape[1]) * PAGE  # pages that leave the window are used again
        return pool.n_pages * PAGE

    def has(self, path: Sequence[Node], n: int) -> bool:
        """Whether the nodes of a path have the pages that are needed after n positions."""
        return not self.reach.window or all(path[i].pages[self.number] != NO_PAGE for i in self.reach.pages(n))

    def page(self, slot: int, i: int) -> int:
        """Return a slot's page i, or NO_PAGE."""
        held = self.held[slot]
        return held[i] if i < len(held) else NO_PAGE

    def node(self, page: int) -> Node | None:
        assert self.index is not None
        return self.index.node(self.number, page)

    def is_private(self, slot: int, i: int) -> bool:
        """Whether no other sequence references a slot's page i, nor can find it."""
        page = self.held[slot][i]
        return self.pool.ref_counts[page] == 1 and self.node(page) is None

    def hold(self, slot: int, i: int, page: int) -> None:
        """Reference a page as a slot's page i, which it does not have yet."""
        self.pool.acquire(page)
        self._put(slot, i, page)

    def extend(self, slot: int, i: int) -> bool:
        """Reference a new page as a slot's page i, which it does not have yet; False if there is none."""
        page = self._allocate()
        if page is not None:
            self._put(slot, i, page)
        return page is not None

    def replace(self, slot: int, i: int, page: int) -> None:
        """Reference another page in place of a slot's page i."""
        before = self.held[slot][i]
        self.pool.acquire(page)
        self._put(slot, i, page)
        self.pool.release(before)

    def copy(self, slot: int, i: int) -> bool:
        """Replace a slot's page i by a copy; False if there is no page for it."""
        copy, before = self._allocate(), self.held[slot][i]
        if copy is None:
            return False
        self.pages[copy] = self.pages[before]
        self._put(slot, i, copy)
        self.pool.release(before)
        return True

    def truncate(self, slot: int, n_pages: int) -> None:
        """Release a slot's pages from n_pages on, the last first."""
        held = self.held[slot]
        while len(held) > n_pages:
            page = held.pop()
            if page != NO_PAGE:
                self.pool.release(page)
        self._first[slot] = min(self._first[slot], n_pages)

    def leave(self, slot: int, n: int) -> None:
        """Release the pages that no position from n on attends to."""
        first = min(self.reach.first(n), len(self.held[slot]))
        for i in range(max(self._first[slot], self.reach.n_first), first):
            page = self.held[slot][i]
            if page != NO_PAGE:
                self.pool.release(page)
                self._put(slot, i, NO_PAGE)
        self._first[slot] = max(self._first[slot], first)

    def cut_out(self, slot: int, first: int, n: int) -> list[int]:
        """Release n of a slot's pages, from `first` on. Return the later pages, which take their places."""
        held = self.held[slot]
        for page in reversed(held[first : first + n]):
            if page != NO_PAGE:
                self.pool.release(page)
        del held[first : first + n]
        self.table[slot, : len(held)] = held
        self._first[slot] = 0  # `leave` finds it again
        return [page for page in held[first:] if page != NO_PAGE]

    def _put(self, slot: int, i: int, page: int) -> None:
        held = self.held[slot]
        while len(held) <= i:
            held.append(NO_PAGE)
            self.table[slot, len(held) - 1] = NO_PAGE
        held[i] = page
        self.table[slot, i] = page
        self._first[slot] = min(self._first[slot], i)

    def _allocate(self) -> int | None:
        """Return a new page with one reference, evicted if need be; None if there is none."""
        page = self.pool.allocate()
        if page is None and self.index is not None and self.index.evict(self.number):
            page = self.pool.allocate()
        return page


def group_page_bytes(kv_type: str, specs: Sequence[AttentionSpec | LatentSpec], shared_layer: bool) -> int:
    """Bytes of a page of a group of these layers."""
    sizes = [layer_bytes(kv_type, spec) for spec in specs]
    return max(sizes) if shared_layer else sum(sizes)
