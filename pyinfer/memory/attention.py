"""The paged KV cache: which pages of keys and values belong to which sequence.

A page holds PAGE positions of all layers. `page_table[slot, position // PAGE]` is the page of a position of the
sequence in a slot; entries beyond a sequence's length mean nothing. Sequences that begin alike share pages, and pages
of ended sequences stay for those to come (see prefix_index). A page is only written by the one sequence that holds it,
behind the tokens that it is known for; any other write goes to a copy.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pyinfer import _kernels
from pyinfer.errors import ContextError, ParameterError
from pyinfer.gguf import TensorType
from pyinfer.memory.prefix_index import PAGE, Node, PrefixIndex, id_bytes
from pyinfer.memory.spec import AttentionSpec, LayerSpec
from pyinfer.system import allocate, usable_memory

KV_TYPES = {"f32": TensorType.F32, "f16": TensorType.F16, "bf16": TensorType.BF16, "q8_0": TensorType.Q8_0}
SHARE_OF_MEMORY = 4  # one part in so many that a cache takes by default


def n_pages_for(n_positions: int) -> int:
    return -(-n_positions // PAGE)


class KVCache:
    """Pages for n_seqs sequences of up to n_ctx positions; their memory is taken as they are first written.

    memory: bytes of all pages (default: what n_seqs whole sequences need, at most a quarter of the process's memory, at
    least one of them). ParameterError if that is less than a page.
    """

    def __init__(
        self,
        layers: Sequence[LayerSpec],
        n_seqs: int,
        n_ctx: int,
        kv_type: str = "f16",
        memory: int | None = None,
        causal: bool = True,
    ) -> None:
        if not isinstance(kv_type, str) or kv_type not in KV_TYPES:
            raise ParameterError(f"kv_type is {kv_type!r}; expected one of {', '.join(KV_TYPES)}")
        specs = [spec for spec in layers if isinstance(spec, AttentionSpec)]
        for spec in specs:
            if spec.k_dim != spec.v_dim:
                raise ParameterError(f"keys of {spec.k_dim} and values of {spec.v_dim} dimensions differ")
        kind = KV_TYPES[kv_type]
        sizes = [_kernels.Cache.page_bytes(kind, spec.n_kv_heads, spec.k_dim, spec.v_dim) for spec in specs]
        self.kv_type = kv_type
        # without causality no later pass reads what is cached, so all layers can use the same memory
        self.page_bytes = sum(sizes) if causal else max(sizes)
        if memory is None:
            most = usable_memory() // SHARE_OF_MEMORY // self.page_bytes
            self.n_pages = max(n_pages_for(n_ctx), min(n_seqs * n_pages_for(n_ctx), most))
        else:
            self.n_pages = memory // self.page_bytes
        if self.n_pages == 0:
            raise ParameterError(
                f"kv_cache_memory is {memory}; expected at least {self.page_bytes} bytes, a page of {PAGE} positions"
            )
        try:
            region = allocate(self.page_bytes * self.n_pages)
        except MemoryError as error:
            what = f"n_ctx is {n_ctx}" if memory is None else f"kv_cache_memory is {memory}"
            raise ParameterError(f"{what}; expected less: {error}, for keys and values") from None
        offsets = np.cumsum([0, *sizes]).tolist() if causal else [0] * len(sizes)
        self.layers = [
            _kernels.Cache(kind, spec.n_kv_heads, spec.k_dim, spec.v_dim, region, offset, self.page_bytes)
            for spec, offset in zip(specs, offsets, strict=False)
        ]
        self.pages: NDArray[np.uint8] = region.reshape(self.n_pages, self.page_bytes)
        self.n_ctx = min(n_ctx, self.n_pages * PAGE)
        self._spare_slot = n_seqs  # for what comes from elsewhere
        self.page_table: NDArray[np.int32] = np.zeros((n_seqs + 1, n_pages_for(n_ctx)), np.int32)
        self._index = PrefixIndex()
        self._free = list(range(self.n_pages - 1, -1, -1))
        self._holders = [0] * self.n_pages  # slots that hold a page
        self._held: list[list[int]] = [[] for _ in range(n_seqs + 1)]  # a slot's pages, in the order of positions
        self._known: list[list[Node]] = [[] for _ in range(n_seqs + 1)]  # the nodes of the first of them

    @property
    def n_available(self) -> int:
        """Pages that no sequence holds."""
        return len(self._free) + self._index.n_idle

    def begin(self, slot: int, prefix: bytes) -> int:
        """Start a slot's sequence with what is known of these tokens (as id_bytes); how many positions that gives."""
        self.release(slot)
        whole, partial, n_more = self._index.find(prefix)
        for node in whole:
            self._hold(slot, node.page)
        self._known[slot] += whole
        n = len(whole) * PAGE
        return n + n_more if partial is not None and self._continue(slot, partial, n_more) else n

    def n_known(self, prefix: bytes) -> int:
        """How many of these tokens `begin` would find."""
        whole, _, n_more = self._index.find(prefix)
        return len(whole) * PAGE + n_more

    def fits(self, prefix: bytes, n_positions: int) -> bool:
        """Whether there are pages for a sequence of n_positions that begins like this."""
        whole, _, _ = self._index.find(prefix)
        n_held = sum(self._holders[node.page] > 0 for node in whole)
        return n_pages_for(n_positions) - n_held <= self.n_available

    def _continue(self, slot: int, node: Node, n: int) -> bool:
        """Begin a slot's next page with the first n tokens of a node: in its page, if nobody needs it, or in a copy."""
        idle = self._holders[node.page] == 0
        self._hold(slot, node.page)
        if idle and n == node.n_tokens < PAGE:
            self._known[slot].append(node)
            return True
        if self._copy(slot, len(self._held[slot]) - 1):
            return True
        if idle:  # it is the only page that is left
            self._forget(node)
            return True
        self._let_go(slot)
        return False

    def reserve(self, slot: int, start: int, stop: int) -> bool:
        """See that positions start to stop of a slot have pages that may be written; False if there are not enough.

        ContextError beyond n_ctx.
        """
        if stop > self.n_ctx:
            raise ContextError(f"sequence {slot} needs {stop} positions; the context has {self.n_ctx}")
        held = self._held[slot]
        for i in range(start // PAGE, min(len(held), n_pages_for(stop))):
            if not self._writable(slot, i, max(0, start - i * PAGE)):
                return False
        while len(held) * PAGE < stop:
            page = self._take()
            if page is None:
                return False
            self._hold(slot, page)
        return True

    def _writable(self, slot: int, i: int, offset: int) -> bool:
        """See that a slot's page i may be written from an offset on."""
        page = self._held[slot][i]
        node = self._index.node(page)
        if self._holders[page] == 1 and (node is None or node.n_tokens <= offset):
            return True
        if not self._copy(slot, i):
            if self._holders[page] > 1:
                return False
            if node is not None:  # its page is the only one that is left
                self._forget(node)
        del self._known[slot][i:]
        return True

    def drop(self, slot: int, first: int, n: int) -> list[int] | None:
        """Take n pages out of a slot's sequence, from its page `first` on, and move those behind them up.

        Returns the moved pages, whose keys are still those of their old positions and are no one else's; None, with
        nothing moved, if there are not enough pages to copy shared ones.
        """
        held = self._held[slot]
        for i in range(len(held) - 1, first + n - 1, -1):  # a node's children before it
            node = self._index.node(held[i])
            if self._holders[held[i]] > 1:
                if not self._copy(slot, i):
                    return None
            elif node is not None:
                self._forget(node)
            del self._known[slot][i:]
        for page in reversed(held[first : first + n]):
            self._drop(page)
        del held[first : first + n], self._known[slot][first:]
        self.page_table[slot, : len(held)] = held
        return held[first:]

    def publish(self, slot: int, tokens: Sequence[int], n: int) -> None:
        """Make the first n positions of a slot known as those of the first n tokens, to sequences to come."""
        known, held = self._known[slot], self._held[slot]
        first = len(known) - 1 if known and known[-1].n_tokens < PAGE else len(known)
        for i in range(first, n_pages_for(n)):
            stop = min((i + 1) * PAGE, n)
            node = self._index.add(known[i - 1] if i else None, id_bytes(tokens[i * PAGE : stop]), held[i])
            if node.page != held[i]:
                if node.n_tokens < PAGE:  # someone else's end, which may go on differently
                    return
                if (shorter := self._index.node(held[i])) is not None:
                    self._forget(shorter)
                self._replace(slot, i, node.page)
            known[i:] = [node]

    def n_published(self, slot: int) -> int:
        """Positions of a slot that are known to sequences to come."""
        known = self._known[slot]
        return (len(known) - 1) * PAGE + known[-1].n_tokens if known else 0

    def release(self, slot: int) -> None:
        """End a slot's sequence; what is published of it stays until its pages are needed."""
        self.truncate(slot, 0)

    def truncate(self, slot: int, n_keep: int) -> None:
        """Give back the pages of positions from n_keep on."""
        while len(self._held[slot]) > n_pages_for(n_keep):
            self._let_go(slot)
        del self._known[slot][len(self._held[slot]) :]

    def snapshot(self, tokens: Sequence[int]) -> tuple[int, NDArray[np.uint8]]:
        """How many of these tokens are known, and a copy of their pages, uint8 [n_pages, page_bytes]."""
        whole, partial, n_more = self._index.find(id_bytes(tokens))
        nodes = whole if partial is None else [*whole, partial]
        return len(whole) * PAGE + n_more, self.pages[[node.page for node in nodes]]

    def restore(self, tokens: Sequence[int], pages: NDArray[np.uint8]) -> None:
        """Make pages known as those of these tokens. ContextError, with nothing changed, if there is no room."""
        if len(pages) > self.n_available:
            raise ContextError(f"{len(pages)} pages are needed; the cache has {self.n_available} that are not in use")
        self.reserve(self._spare_slot, 0, len(tokens))
        self.pages[self._held[self._spare_slot]] = pages
        self.publish(self._spare_slot, tokens, len(tokens))
        self.release(self._spare_slot)

    def _hold(self, slot: int, page: int) -> None:
        held = self._held[slot]
        self.page_table[slot, len(held)] = page
        held.append(page)
        self._holders[page] += 1
        self._index.set_held(page)

    def _let_go(self, slot: int) -> None:
        """Of a slot's last page."""
        self._drop(self._held[slot].pop())

    def _drop(self, page: int) -> None:
        self._holders[page] -= 1
        if self._holders[page]:
            return
        if self._index.node(page) is None:
            self._free.append(page)
        else:
            self._index.set_idle(page)

    def _replace(self, slot: int, i: int, page: int) -> None:
        """Hold another page in place of a slot's page i."""
        before = self._held[slot][i]
        self._held[slot][i] = page
        self.page_table[slot, i] = page
        self._holders[page] += 1
        self._index.set_held(page)
        self._drop(before)

    def _copy(self, slot: int, i: int) -> bool:
        """Replace a slot's page i by a copy; False if there is no page for it."""
        copy = self._take()
        if copy is None:
            return False
        self.pages[copy] = self.pages[self._held[slot][i]]
        self._replace(slot, i, copy)
        return True

    def _take(self) -> int | None:
        """A page that nobody holds, if there is one."""
        if self._free:
            return self._free.pop()
        return self._index.evict() if self._index.n_idle else None

    def _forget(self, node: Node) -> None:
        self._free += self._index.remove(node)
